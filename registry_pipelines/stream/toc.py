"""What the header blocks of one tar entry say, as indexes of layers list it (POSIX.1-2017 pax, "ustar Interchange
Format"; GNU tar manual, "Basic Tar Format").

Go's archive/tar is the judge, because the nodes that use an index read the same blocks with it and compare: a record
with an empty value does not override the header, a GNU long name wins over a PAX path, numbers are octal or base-256.
What an index cannot say is refused, with the entry's name: SOCI's own builder refuses the same layers, or writes a
table that its reader refuses.
"""

from __future__ import annotations

import re
import struct
from datetime import datetime, timedelta
from functools import lru_cache
from typing import NamedTuple

from registry_pipelines.errors import LayerUnlisted
from registry_pipelines.oci.layer.tar import BLOCK_BYTES, MAX_PATH_BYTES, prefix_of

KINDS = {
    b"0": b"reg",
    b"\0": b"reg",
    b"1": b"hardlink",
    b"2": b"symlink",
    b"3": b"char",
    b"4": b"block",
    b"5": b"dir",
    b"6": b"fifo",
}
"""Names of tar types in a table of contents, SOCI's and eStargz's alike."""

_REFUSED = {
    b"g": "it is a PAX global header",
    b"7": "it is a contiguous file (type 7)",
    b"S": "it is a sparse file of GNU tar",
}
_HEADER = struct.Struct("100s24s12x12s8xc100s88s155s12s")
"""Name; mode, uid, gid; time; type; link; from magic to device numbers; prefix; rest of the block."""
_OWNER = struct.Struct("8s8s8s8s32s32s8s8s")
"""Mode, uid, gid, magic, user, group, device numbers."""
_PAX_TIME = re.compile(rb"([+-]?)([0-9]{1,18})(?:\.([0-9]*))?")
_PAX_NUMBER = re.compile(rb"[+-]?[0-9]{1,20}")
_TEXTS = (b"path", b"linkpath", b"uname", b"gname")
_TIMES = (b"mtime", b"atime", b"ctime")
_V7, _USTAR, _GNU = range(3)
_EPOCH = datetime(1970, 1, 1)
_YEARS = (-62135596800, 253402300800)
"""Seconds since 1970 in which the years 1 to 9999 begin and end; RFC 3339 has no others."""
_REMEMBERED = 1 << 14
"""Modes with owners, and times, that are read once for a layer."""


class FileMetadata(NamedTuple):
    """One tar entry. Names and values are bytes as they stand in the tar: they need not be UTF-8."""

    name: bytes
    """Whole, with a leading ``./`` and a trailing slash where the tar has them."""
    kind: bytes
    """``reg``, ``dir``, ``hardlink``, ``symlink``, ``char``, ``block`` or ``fifo``."""
    position: int
    """Where the payload begins in the uncompressed tar, also where there is none."""
    size: int
    """Bytes of payload; 0 for everything but ``reg``."""
    link: bytes
    mode: int
    """The tar's number, with its type bits where a writer put some."""
    uid: int
    gid: int
    """Cut to 32 bits."""
    user: bytes
    group: bytes
    modified: bytes
    """RFC 3339 in UTC with up to nine digits of a second."""
    device_major: int
    device_minor: int
    records: tuple[tuple[bytes, bytes], ...]
    """All PAX records by their keys, of equal keys the last."""


class _CannotList(Exception):
    """What is the matter with an entry."""


def file_metadata(position: int, size: int, blocks: bytes, *, where: str = "") -> FileMetadata:
    """Read one entry. position: where its payload begins; size: bytes of payload; blocks: all its header blocks,
    extensions first, each with its data and padding.

    Raises LayerUnlisted, which names the entry: what no index can list (a global header, sparse files, foreign types,
    dates that RFC 3339 has no form for), and malformed headers.
    """
    try:
        return _read(position, size, blocks)
    except _CannotList as error:
        name = blocks[-BLOCK_BYTES:][:100].partition(b"\0")[0].decode("utf-8", "replace")
        raise LayerUnlisted(
            f"the layer cannot be indexed because of {name!r} before byte {position}: {error}",
            where=where,
            do="Nodes fetch this layer whole; build it without such an entry to have it streamed",
        ) from error


def _read(position: int, size: int, blocks: bytes) -> FileMetadata:
    long_name = long_link = b""
    records: dict[bytes, bytes] = {}
    if len(blocks) > BLOCK_BYTES:
        long_name, long_link, records, blocks = _extensions(blocks)
    name, owner, modified, kind_byte, link, rest, prefix, end = _HEADER.unpack(blocks)
    name, link = name.partition(b"\0")[0], link.partition(b"\0")[0]
    mode, uid, gid, user, group, major, minor, form = _owner(owner + rest)
    if prefix[0]:
        if form == _USTAR and end[8:12] == b"tar\0":
            _number(prefix[131:143]), _number(prefix[143:155])  # star's times
        before = prefix_of(blocks)
        name = before + b"/" + name if before else name
    moment = _header_time(modified)
    if records:
        _check(records)
        name, link = records.get(b"path") or name, records.get(b"linkpath") or link
        user, group = records.get(b"uname") or user, records.get(b"gname") or group
        uid, gid = _overridden(records, b"uid", uid), _overridden(records, b"gid", gid)
        moment = _pax_time(records[b"mtime"]) if records.get(b"mtime") else moment
    name, link = long_name or name, long_link or link
    if len(name) > MAX_PATH_BYTES or len(link) > MAX_PATH_BYTES:
        raise _CannotList(f"it, or what it links to, has a name of more than {MAX_PATH_BYTES} bytes")
    kind = KINDS.get(kind_byte)
    if kind is None:
        raise _CannotList(_REFUSED.get(kind_byte) or f"it is of type {kind_byte!r}")
    if kind_byte == b"\0" and name.endswith(b"/"):
        kind = b"dir"
    return FileMetadata(
        *(name, kind, position, size if kind == b"reg" else 0, link, mode, uid & 0xFFFFFFFF, gid & 0xFFFFFFFF),
        *(user, group, _text(moment), major, minor, tuple(sorted(records.items()))),
    )


def _extensions(blocks: bytes) -> tuple[bytes, bytes, dict[bytes, bytes], bytes]:
    """GNU's long name and link, the PAX records, and the header block itself."""
    name = link = b""
    records: dict[bytes, bytes] = {}
    start = 0
    while len(blocks) - start > BLOCK_BYTES:
        kind = blocks[start + 156 : start + 157]
        size = _number(blocks[start + 124 : start + 136])
        data = blocks[start + BLOCK_BYTES : start + BLOCK_BYTES + size]
        if kind == b"x":
            records = _records(data)
        elif kind == b"L":
            name = data.partition(b"\0")[0]
        elif kind == b"K":
            link = data.partition(b"\0")[0]
        else:
            raise _CannotList(_REFUSED.get(kind) or f"it is of type {kind!r}")
        start += BLOCK_BYTES + size + -size % BLOCK_BYTES
    return name, link, records, blocks[start:]


def _records(data: bytes) -> dict[bytes, bytes]:
    records: dict[bytes, bytes] = {}
    position = 0
    while position < len(data):
        digits = data[position : data.find(b" ", position, position + 20)]
        end = position + int(digits) if digits.isdigit() else 0
        key, equals, value = data[position + len(digits) + 1 : end - 1].partition(b"=")
        if not (key and equals and end <= len(data) and data[end - 1] == 10) or b"\0" in key:
            raise _CannotList("a PAX record is malformed")
        records[key] = value
        position = end
    return records


def _check(records: dict[bytes, bytes]) -> None:
    if any(key.startswith(b"GNU.sparse.") for key in records):
        raise _CannotList("it is a sparse file (PAX)")
    if any(b"\0" in records.get(key, b"") for key in _TEXTS):
        raise _CannotList("a PAX record is malformed")
    for key in _TIMES:
        if records.get(key):
            _pax_time(records[key])


def _overridden(records: dict[bytes, bytes], key: bytes, header: int) -> int:
    text = records.get(key)
    if not text:
        return header
    if not _PAX_NUMBER.fullmatch(text) or not -(1 << 63) <= int(text) < 1 << 63:
        raise _CannotList(f"its PAX {key.decode()} is no number")
    return int(text)


@lru_cache(_REMEMBERED)
def _owner(raw: bytes) -> tuple[int, int, int, bytes, bytes, int, int, int]:
    """Mode, uid, gid, user, group, device numbers, form of the header."""
    mode, uid, gid, magic, user, group, major, minor = _OWNER.unpack(raw)
    numbers = (_number(mode), _number(uid), _number(gid))
    form = _GNU if magic == b"ustar  \0" else _USTAR if magic.startswith(b"ustar\0") else _V7
    if form == _V7:
        return *numbers, b"", b"", 0, 0, form
    names = (user.partition(b"\0")[0], group.partition(b"\0")[0])
    return *numbers, *names, _number(major), _number(minor), form


def _number(field: bytes) -> int:
    """Octal, or two's complement behind a set first bit (GNU, star)."""
    if field[0] & 0x80:
        width = 8 * len(field) - 1
        value = int.from_bytes(field, "big") & (1 << width) - 1
        value -= (field[0] >> 6 & 1) << width
        if not -(1 << 63) <= value < 1 << 63:
            raise _CannotList("a number in its header is too large")
        return value
    text = field.strip(b" \0").partition(b"\0")[0]
    if text.strip(b"01234567"):
        raise _CannotList("a number in its header is malformed")
    return int(text or b"0", 8)


@lru_cache(_REMEMBERED)
def _header_time(field: bytes) -> tuple[int, int]:
    return _number(field), 0


def _pax_time(text: bytes) -> tuple[int, int]:
    """Seconds since 1970, rounded down, and nanoseconds; more digits are cut."""
    match = _PAX_TIME.fullmatch(text)
    if match is None:
        raise _CannotList("a PAX time is malformed")
    sign = -1 if match[1] == b"-" else 1
    total = sign * (int(match[2]) * 10**9 + int((match[3] or b"")[:9].ljust(9, b"0")))
    return divmod(total, 10**9)


@lru_cache(_REMEMBERED)
def _text(moment: tuple[int, int]) -> bytes:
    seconds, nanoseconds = moment
    if not _YEARS[0] <= seconds < _YEARS[1]:
        raise _CannotList("its time lies outside the years 1 to 9999")
    fraction = f".{nanoseconds:09d}".rstrip("0") if nanoseconds else ""
    return f"{(_EPOCH + timedelta(seconds=seconds)).isoformat()}{fraction}Z".encode()


def without_global(blocks: bytes) -> bytes:
    """The header blocks of an entry without those that say something of all entries, which containerd passes over."""
    if len(blocks) == BLOCK_BYTES or b"g" not in blocks[156::BLOCK_BYTES]:
        return blocks
    kept, start = [], 0
    while len(blocks) - start > BLOCK_BYTES:
        head = blocks[start : start + BLOCK_BYTES]
        size = int(head[124:136].strip(b" \0") or b"0", 8)
        end = start + BLOCK_BYTES + size + -size % BLOCK_BYTES
        if head[156:157] != b"g":
            kept.append(blocks[start:end])
        start = end
    return b"".join((*kept, blocks[start:]))


__all__ = ["KINDS", "FileMetadata", "file_metadata", "without_global"]
