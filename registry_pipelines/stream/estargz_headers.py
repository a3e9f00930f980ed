"""Tar headers that an eStargz blob has and its source had not: those of the format's own files, and those of entries
that stand under another name."""

from __future__ import annotations

import tarfile
from datetime import UTC, datetime

from registry_pipelines.stream.toc import FileMetadata

_SAID_BY_FIELDS = frozenset({"path", "linkpath", "size", "uid", "gid", "uname", "gname"})
_TYPES = {
    b"reg": tarfile.REGTYPE,
    b"hardlink": tarfile.LNKTYPE,
    b"symlink": tarfile.SYMTYPE,
    b"char": tarfile.CHRTYPE,
    b"block": tarfile.BLKTYPE,
    b"fifo": tarfile.FIFOTYPE,
}


def own_header(name: str, size: int) -> bytes:
    """The header of a file that belongs to the format: mode 0, owned by root, of 1970."""
    info = tarfile.TarInfo(name)
    info.mode, info.size = 0, size
    return info.tobuf(tarfile.USTAR_FORMAT)


def other_header(entry: FileMetadata, *, name: bytes = b"", link: bytes = b"") -> bytes:
    """Header blocks of the same entry under another name, or linked to another one."""
    info = tarfile.TarInfo(_text(name or entry.name))
    info.type, info.linkname = _TYPES[entry.kind], _text(link or entry.link)
    info.size, info.mode, info.uid, info.gid = entry.size, entry.mode, entry.uid, entry.gid
    info.uname, info.gname = _text(entry.user), _text(entry.group)
    info.devmajor, info.devminor = entry.device_major, entry.device_minor
    info.mtime = int(datetime.fromisoformat(entry.modified[:19].decode()).replace(tzinfo=UTC).timestamp())
    records = ((_text(key), _text(value)) for key, value in entry.records)
    info.pax_headers = {key: value for key, value in records if key not in _SAID_BY_FIELDS}
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


def _text(value: bytes) -> str:
    return value.decode("utf-8", "surrogateescape")
