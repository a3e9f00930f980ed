#!/usr/bin/env bash
# Guess:   an overlay that was mounted with metacopy=off, redirect_dir=off and index=off asks its lower file system for none of its
#          own extended attributes of regular files: they say something only where those are on. A container over FUSE then
#          costs the FUSE server a lookup for each file that is opened, and no more.
# Happens: each regular file that is looked up is asked for `trusted.overlay.metacopy`, each folder for `trusted.overlay.origin`,
#          whatever the options say. The kernel keeps no such answer: ENODATA is asked again for every file, and once more when
#          the names were forgotten. ENOSYS, once, ends it for the whole mount, and the overlay works as before; who reads an
#          attribute there is told EOPNOTSUPP from then on.
# Version: Linux 6.18, overlayfs over FUSE 7.31, from Python's own library (needs root and /dev/fuse). Date: 2026-11-30.
set -euo pipefail
folder=$(mktemp -d -p /var/tmp); trap 'rm -rf "$folder"' EXIT
cat >"$folder/try.py" <<'PY'
import collections
import ctypes
import errno
import os
import stat
import struct
import sys
import threading
from pathlib import Path

libc = ctypes.CDLL(None, use_errno=True)
folder = Path(sys.argv[1])
LOOKUP, FORGET, GETATTR, OPEN, READ, STATFS, RELEASE = 1, 2, 3, 14, 15, 17, 18
GETXATTR, INIT, BATCH_FORGET = 22, 26, 42
FILES, FOREVER = 20, 1 << 30
asked = collections.Counter()


def attributes(number):
    mode = stat.S_IFDIR | 0o755 if number == 1 else stat.S_IFREG | 0o644
    return struct.pack("=6Q10I", number, 4, 1, 0, 0, 0, 0, 0, 0, mode, 2 if number == 1 else 1, 0, 0, 0, 4096, 0)


def answer(operation, node, body, refusal):
    """What a file system of one folder with twenty files of four bytes says; a number for an error."""
    if operation == INIT:
        _, minor, ahead, *_ = struct.unpack_from("=5I", body)
        return struct.pack("=4I2H2I2H8I", 7, 31, ahead, 0, 12, 9, 4096, 1, 0, 0, 0, *[0] * 7)
    if operation == GETATTR:
        return struct.pack("=QII", FOREVER, 0, 0) + attributes(node)
    if operation == LOOKUP:
        name = bytes(body[:-1])
        if not name.startswith(b"file-"):
            return errno.ENOENT
        number = int(name[5:]) + 2
        return struct.pack("=4Q2I", number, 0, FOREVER, FOREVER, 0, 0) + attributes(number)
    if operation == OPEN:
        return struct.pack("=QII", 0, 2, 0)  # what was read is kept
    if operation == READ:
        return b"text"
    if operation == STATFS:
        return struct.pack("=5Q10I", 100, 0, 0, 100, 0, 4096, 255, 4096, *[0] * 7)
    if operation == RELEASE:
        return b""
    if operation == GETXATTR:
        asked[bytes(body[8:-1]).decode()] += 1
        return refusal
    return errno.ENOSYS


def serve(device, refusal):
    while True:
        try:
            request = memoryview(os.read(device, 1 << 17))
        except OSError as error:
            if error.errno == errno.ENODEV:  # unmounted
                return
            continue
        _, operation, unique, node = struct.unpack_from("=IIQQ", request)
        if operation in (FORGET, BATCH_FORGET):
            continue
        said = answer(operation, node, request[40:], refusal)
        failed, body = (-said, b"") if isinstance(said, int) else (0, said)
        try:
            os.write(device, struct.pack("=IiQ", 16 + len(body), failed, unique) + body)
        except OSError:
            continue


def mount(kind, target, options, flags=0):
    target.mkdir()
    if libc.mount(b"tried", os.fsencode(target), kind, flags, options.encode()):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(target))


def tried(refusal):
    base = folder / errno.errorcode[refusal]
    base.mkdir()
    lower, root = base / "lower", base / "root"
    for name in ("upper", "work"):
        (base / name).mkdir()
    device = os.open("/dev/fuse", os.O_RDWR)
    server = threading.Thread(target=serve, args=(device, refusal), daemon=True)
    mount(b"fuse", lower, f"fd={device},rootmode=40000,user_id=0,group_id=0", flags=1)  # 1: read-only
    server.start()
    off = "metacopy=off,redirect_dir=off,index=off"
    mount(b"overlay", root, f"lowerdir={lower},upperdir={base / 'upper'},workdir={base / 'work'},{off}")
    rounds = []
    for _ in range(2):
        asked.clear()
        assert {(root / f"file-{number}").read_bytes() for number in range(FILES)} == {b"text"}
        rounds.append(asked.get("trusted.overlay.metacopy", 0))
        Path("/proc/sys/vm/drop_caches").write_text("2")  # the kernel forgets names that nobody uses
    with (root / "file-0").open("ab") as file:
        file.write(b" and more")
    assert (root / "file-0").read_bytes() == b"text and more"
    try:
        os.getxattr(lower / "file-1", "user.note")
    except OSError as error:
        reads = errno.errorcode[error.errno]
    libc.umount2(os.fsencode(root), 2)
    libc.umount2(os.fsencode(lower), 2)
    os.close(device)
    return rounds, reads


print("Linux", os.uname().release)
seen = {}
for refusal in (errno.ENODATA, errno.ENOSYS):
    seen[refusal] = tried(refusal)
    rounds, reads = seen[refusal]
    print(f"{errno.errorcode[refusal]:8} asked for metacopy of {FILES} files: {rounds[0]}, names forgotten, again: {rounds[1]}; a reader is told {reads}")
first, again = seen[errno.ENODATA][0]
assert first >= FILES and again >= FILES and seen[errno.ENODATA][1] == "ENODATA"
assert max(seen[errno.ENOSYS][0]) <= 1 and seen[errno.ENOSYS][1] == "ENOTSUP"  # EOPNOTSUPP by its other name
PY
unshare --mount python3 "$folder/try.py" "$folder"
