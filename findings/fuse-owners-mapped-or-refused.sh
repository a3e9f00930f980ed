#!/usr/bin/env bash
# Guess:   a read-only FUSE file system that leaves permissions to the kernel can be mounted with other owners (idmapped mounts,
#          mount_setattr(2), which pods with user namespaces need): the kernel has the owners that the server told it. If the server
#          must agree, it says FUSE_ALLOW_IDMAP when the kernel offers it in FUSE_INIT, and a kernel that cannot leaves that out.
# Happens: without the flag mount_setattr answers EINVAL, as for a file system that knows no owners. With the flag *and* the mount option
#          `default_permissions` it works. With the flag alone, which the kernel offers all the same, mount(2) succeeds, and the
#          kernel then takes the server's whole answer for broken: every look into the tree ends with ECONNREFUSED. So a server
#          that agrees to what it is offered loses its mount, in place of a feature; fuse.h does not speak of the option.
# Version: Linux 6.18 (the flag is there since 6.12), from Python's own library (needs root and /dev/fuse). Date: 2026-11-29.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
cat >"$folder/try.py" <<'PY'
import ctypes
import errno
import os
import stat
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

libc = ctypes.CDLL(None, use_errno=True)
folder = sys.argv[1]
LOOKUP, FORGET, GETATTR, INIT, BATCH_FORGET = 1, 2, 3, 26, 42
INIT_EXT, ALLOW_IDMAP_2 = 1 << 30, 1 << 8  # the second: of the second word of flags (bit 40 of all)
OPEN_TREE, MOUNT_SETATTR, IDMAP = 428, 442, 0x100000
offers = set()


def serve(device, flags_2):
    """A file system that is one empty folder."""
    while True:
        try:
            request = os.read(device, 1 << 17)
        except OSError as error:
            if error.errno == errno.ENODEV:  # unmounted
                return
            continue
        _, operation, unique = struct.unpack_from("=IIQ", request)
        body, failed = b"", 0
        if operation == INIT:
            _, minor, ahead, flags, flags_2_offered = struct.unpack_from("=5I", request, 40)
            offers.add((f"7.{minor}", bool(flags & INIT_EXT and flags_2_offered & ALLOW_IDMAP_2)))
            wanted = INIT_EXT if flags_2 else 0
            body = struct.pack("=4I2H2I2H8I", 7, 31, ahead, wanted, 12, 9, 4096, 1, 0, 0, flags_2, *[0] * 7)
        elif operation == GETATTR:
            body = struct.pack("=QII6Q10I", 60, 0, 0, 1, *[0] * 8, stat.S_IFDIR | 0o755, 2, 0, 0, 0, 4096, 0)
        elif operation in (FORGET, BATCH_FORGET):
            continue
        else:
            failed = -errno.ENOSYS
        try:
            os.write(device, struct.pack("=IiQ", 16 + len(body), failed, unique) + body)
        except OSError:
            continue


def mapped(mount, namespace):
    """What an idmapped mount of it answers, and whose the folder is there."""
    tree = libc.syscall(ctypes.c_long(OPEN_TREE), -100, os.fsencode(mount), ctypes.c_uint(1 | os.O_CLOEXEC))
    wanted = struct.pack("=QQQQ", IDMAP, 0, 0, namespace)
    size = ctypes.c_size_t(len(wanted))
    answer = libc.syscall(ctypes.c_long(MOUNT_SETATTR), tree, b"", ctypes.c_uint(0x1000), wanted, size)
    said = errno.errorcode[ctypes.get_errno()] if answer < 0 else f"done, root's folder is {os.stat(tree).st_uid}'s"
    os.close(tree)
    return said


def tried(flags_2, options, namespace):
    mount = Path(folder, "mount")
    mount.mkdir(exist_ok=True)
    device = os.open("/dev/fuse", os.O_RDWR)
    data = f"fd={device},rootmode=40000,user_id=0,group_id=0{options}".encode()
    assert libc.mount(b"tried", os.fsencode(mount), b"fuse", 1, data) == 0, ctypes.get_errno()  # 1: read-only
    server = threading.Thread(target=serve, args=(device, flags_2), daemon=True)
    server.start()
    try:
        os.stat(mount)
        return mapped(mount, namespace)
    except OSError as error:
        return f"stat: {errno.errorcode[error.errno]}"
    finally:
        libc.umount2(os.fsencode(mount), 2)
        os.close(device)


print("Linux", os.uname().release)
holder = subprocess.Popen(["unshare", "--user", "sleep", "60"])
try:
    mine = os.readlink("/proc/self/ns/user")
    while os.readlink(f"/proc/{holder.pid}/ns/user") == mine:
        time.sleep(0.01)
    for name in ("uid_map", "gid_map"):
        Path(f"/proc/{holder.pid}/{name}").write_text("0 100000 65536")
    namespace = os.open(f"/proc/{holder.pid}/ns/user", os.O_RDONLY)
    seen = {}
    for flag, flags_2 in (("no flag", 0), ("FUSE_ALLOW_IDMAP", ALLOW_IDMAP_2)):
        for option in ("", ",default_permissions"):
            seen[flag, option] = tried(flags_2, option, namespace)
            print(f"{flag:17} {option[1:]:20} {seen[flag, option]}")
    print("FUSE protocol, whether the flag is offered:", *offers)
    assert [offered for _, offered in offers] == [True]
    assert list(seen.values()) == ["EINVAL", "EINVAL", "stat: ECONNREFUSED", "done, root's folder is 100000's"], seen
finally:
    holder.kill()
    holder.wait()
PY
unshare --mount python3 "$folder/try.py" "$folder"
