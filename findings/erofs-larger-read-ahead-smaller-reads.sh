#!/usr/bin/env bash
# Guess:   whoever watches the file that an EROFS mount lies in (FAN_PRE_ACCESS: fill in what is read, before it is read) is asked for what
#          readers want; and for more at once, so less often, the further the mount reads ahead.
# Happens: in blocks of 512 bytes, which let a tar's content stay where it is, a question is for whole pages of the file below: a small
#          file is read with its neighbours' bytes, and where content does not begin at a page, each question of a large one has the
#          last page of the one before once more. And read-ahead of 8 MiB asks about twice as often as the usual 128 KiB: the
#          first window consists of single pages, of which EROFS reads 16 at a time (64 KiB) from a file; small windows grow
#          into larger pieces of memory. So who fills from a network is asked for less at once when he sets it high.
# Version: Linux 6.18 (watching is there since 6.14), from Python's own library (needs root, and a temporary folder on ext4, XFS or
#          btrfs). Date: 2026-11-29.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
cat >"$folder/try.py" <<'PY'
import ctypes
import os
import stat
import struct
import sys
import threading
from pathlib import Path

libc = ctypes.CDLL(None, use_errno=True)
folder = Path(sys.argv[1])
BLOCK, PAGE = 512, 4096
PRE_CONTENT, UNLIMITED_QUEUE, PRE_ACCESS, RANGE, ALLOW = 0x8, 0x10, 0x100000, 6, 1
SETTINGS = Path("/sys/class/bdi")


def inode(number, mode, size, block):
    return struct.pack("<HHHHQIIIIQII16x", 1, 0, mode, 0, size, block, number, 0, 0, 0, 0, 1)


def image(at, size):
    """An EROFS of one file, whose content begins at a position: super block, two inodes, a directory, and the content."""
    raw = bytearray(os.urandom(-(-(at + size) // PAGE) * PAGE + 2 * PAGE))
    raw[:at] = bytes(at)
    root, file = 3 * BLOCK // 32, 3 * BLOCK // 32 + 2
    entries = ((root, 2, b"."), (root, 2, b".."), (file, 1, b"file"))
    heads, names = b"", b""
    for number, kind, name in entries:
        heads += struct.pack("<QHBx", number, 12 * len(entries) + len(names), kind)
        names += name
    listing = heads + names
    parts = {
        1024: struct.pack("<IIIBBHQQIII", 0xE0F5E1E2, 0, 0, 9, 0, root, 2, 0, 0, len(raw) // BLOCK, 0),
        3 * BLOCK: inode(1, stat.S_IFDIR | 0o755, len(listing), 4) + inode(2, stat.S_IFREG | 0o644, size, at // BLOCK),
        4 * BLOCK: listing,
    }
    for position, part in parts.items():
        raw[position : position + len(part)] = part
    return bytes(raw)


def answers(group, asked):
    """Let every reader go on, and keep what was asked: offset and size."""
    while True:
        events, at = os.read(group, 4096), 0
        while at < len(events):
            length, _, _, info, _, descriptor, _ = struct.unpack_from("=IBBHQii", events, at)
            info, at = at + info, at + length
            while info < at:
                kind, _, info_length = struct.unpack_from("=BBH", events, info)
                if kind == RANGE:
                    asked.append(struct.unpack_from("=4x4xQQ", events, info))
                info += info_length
            os.write(group, struct.pack("=iI", descriptor, ALLOW))
            os.close(descriptor)


def questions(at, size, read_ahead_kb=128):
    """What is asked when the file is read once, from beginning to end."""
    backing, mount, asked = folder / "backing", folder / "mount", []
    raw = image(at, size)
    backing.write_bytes(raw)
    mount.mkdir(exist_ok=True)
    group = libc.fanotify_init(PRE_CONTENT | UNLIMITED_QUEUE, os.O_RDONLY)
    assert group >= 0, os.strerror(ctypes.get_errno())
    marked = libc.fanotify_mark(group, 1, ctypes.c_uint64(PRE_ACCESS), -100, os.fsencode(backing))
    assert marked == 0, os.strerror(ctypes.get_errno())
    threading.Thread(target=answers, args=(group, asked), daemon=True).start()
    before = set(SETTINGS.glob("erofs-*"))
    assert libc.mount(os.fsencode(backing), os.fsencode(mount), b"erofs", 1, None) == 0, os.strerror(ctypes.get_errno())
    try:
        (settings,) = set(SETTINGS.glob("erofs-*")) - before
        (settings / "read_ahead_kb").write_text(str(read_ahead_kb))
        os.listdir(mount)
        asked.clear()
        file = os.open(mount / "file", os.O_RDONLY)
        assert os.pread(file, size, 0) == raw[at : at + size]
        os.close(file)
    finally:
        libc.umount2(os.fsencode(mount), 0)
        backing.unlink()
    return sorted(asked)


def told(name, asked):
    again = sum(max(0, start + size - after) for (start, size), (after, _) in zip(asked, asked[1:]))
    print(f"{name:48} {len(asked):4} questions, the first at {asked[0][0]}, {asked[0][1]} bytes; again {again}")
    return len(asked), again


print("Linux", os.uname().release)
MIB = 1 << 20
small = questions(12800, 3072)
told("3,072 bytes at 12,800", small)
assert small == [(12288, 4096)]
count, again = told("8 MiB at 12,800, a block beyond a page", questions(12800, 8 * MIB))
assert again == (count - 1) * PAGE
usual, again = told("8 MiB at 12,288, a page", questions(12288, 8 * MIB))
assert again == 0
far, _ = told("8 MiB at 12,288, read-ahead of 8 MiB", questions(12288, 8 * MIB, 8192))
assert far > 1.3 * usual, (far, usual)
os._exit(0)  # a thread waits for questions
PY
timeout 60 unshare --mount python3 -u "$folder/try.py" "$folder"
