#!/usr/bin/env bash
# Guess:   what a FUSE server answers to a READ is what the program's read gets: one EIO is one read that fails.
# Happens: through the page cache Linux asks for more than the program did (read-ahead), forgets an error of that, and asks again for
#          the page that is wanted. A server that fails once, then answers, is never noticed, also not when the program asked for
#          exactly those bytes; but all pages of the question that failed are then asked for one by one, each while the program
#          waits. Where the server goes on failing, the first read costs it two questions, and each later one costs one.
#          Opened with FOPEN_DIRECT_IO, one answer is one result.
# Version: Linux 6.18, from Python's own library (needs root and /dev/fuse). Date: 2026-11-29.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
cat >"$folder/try.py" <<'PY'
import ctypes
import errno
import os
import stat
import struct
import sys
import threading
from pathlib import Path

libc = ctypes.CDLL(None, use_errno=True)
LOOKUP, FORGET, GETATTR, OPEN, READ, RELEASE, FLUSH, INIT, BATCH_FORGET = 1, 2, 3, 14, 15, 18, 25, 26, 42
PAGE = 4096
DIRECT = 1  # FOPEN_DIRECT_IO
FILE = bytes(range(256)) * 16 * 8  # eight pages
reads = []


def attributes(node):
    folder = node == 1
    mode = stat.S_IFDIR | 0o755 if folder else stat.S_IFREG | 0o444
    return struct.pack("=6Q10I", node, 0 if folder else len(FILE), *[0] * 7, mode, 1, 0, 0, 0, PAGE, 0)


def serve(device, failing, flags):
    """A folder with one file; so many reads of it fail."""
    while True:
        try:
            request = os.read(device, 1 << 17)
        except OSError as error:
            if error.errno == errno.ENODEV:  # unmounted
                return
            continue
        _, operation, unique, node = struct.unpack_from("=IIQQ", request)
        body, failed = b"", 0
        if operation == INIT:
            ahead = struct.unpack_from("=I", request, 48)[0]
            body = struct.pack("=4I2H2I2H8I", 7, 31, ahead, 0, 12, 9, PAGE, 1, 0, 0, *[0] * 8)
        elif operation == LOOKUP:
            body = struct.pack("=4QII", 2, 0, 60, 60, 0, 0) + attributes(2)
        elif operation == GETATTR:
            body = struct.pack("=QII", 60, 0, 0) + attributes(node)
        elif operation == OPEN:
            body = struct.pack("=QII", 0, flags, 0)
        elif operation == READ:
            _, offset, size = struct.unpack_from("=QQI", request, 40)
            reads.append(f"{offset // PAGE}+{size // PAGE}")
            if failing > 0:
                failing, failed = failing - 1, -errno.EIO
            else:
                body = FILE[offset : offset + size]
        elif operation in (FORGET, BATCH_FORGET):
            continue
        elif operation not in (RELEASE, FLUSH):
            failed = -errno.ENOSYS
        try:
            os.write(device, struct.pack("=IiQ", 16 + len(body), failed, unique) + body)
        except OSError:
            continue


def tried(failing, size, flags=0, times=1):
    """What reads of the file's first bytes end with, and what the server was asked for, in pages: first+count."""
    mount = Path(folder, "mount")
    mount.mkdir(exist_ok=True)
    device = os.open("/dev/fuse", os.O_RDWR)
    data = f"fd={device},rootmode=40000,user_id=0,group_id=0".encode()
    assert libc.mount(b"tried", os.fsencode(mount), b"fuse", 1, data) == 0, ctypes.get_errno()  # 1: read-only
    threading.Thread(target=serve, args=(device, failing, flags), daemon=True).start()
    reads.clear()
    results = []
    file = os.open(mount / "file", os.O_RDONLY)
    try:
        for _ in range(times):
            try:
                results.append("right" if os.pread(file, size, 0) == FILE[:size] else "wrong")
            except OSError as error:
                results.append(errno.errorcode[error.errno])
        return results, list(reads)
    finally:
        os.close(file)
        libc.umount2(os.fsencode(mount), 2)
        os.close(device)


folder = sys.argv[1]
print("Linux", os.uname().release)
cases = {
    "fails once, a page is read": (1, PAGE),
    "fails once, all is read": (1, len(FILE)),
    "fails always, read twice": (99, PAGE, 0, 2),
    "fails once, direct": (1, PAGE, DIRECT),
}
seen = {}
for name, case in cases.items():
    seen[name] = tried(*case)
    print(f"{name:27} the program: {', '.join(seen[name][0]):12} the server was asked: {' '.join(seen[name][1])}")
page, whole, always, direct = seen.values()
assert page[0] == whole[0] == ["right"] and always[0] == ["EIO", "EIO"] and direct == (["EIO"], ["0+1"])
assert page[1][0] != "0+1" and page[1][1:] == ["0+1"]
assert whole[1] == ["0+8", *(f"{number}+1" for number in range(8))]
assert always[1][1:] == ["0+1", "0+1"]
PY
unshare --mount python3 "$folder/try.py" "$folder"
