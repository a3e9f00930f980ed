"""An entry of the tar as the table of contents lists it, and tar headers that an eStargz blob has and its source had
not: of the format's own files, and of entries that stand under another name."""

from __future__ import annotations

import tarfile
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from registry_pipelines.oci.digest import Digest
from registry_pipelines.stream.estargz_toc import TocEntry
from registry_pipelines.stream.toc import FileMetadata

NOTHING = str(Digest.of(b""))
"""The digest of an empty file."""

_XATTR = b"SCHILY.xattr."
_NO_TIMES = ("1970-01-01T00:00:00", "0001-01-01T00:00:00")
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


def toc_row(entry: FileMetadata) -> TocEntry:
    """An entry as the table lists it, without its owner's names, and what is known once its content is written.
    Raises UnicodeDecodeError: JSON has no form for its name, link, or the name of an attribute."""
    is_device = entry.kind in (b"char", b"block")
    return TocEntry(
        name=entry.name.decode(),
        type=entry.kind.decode(),
        size=entry.size,
        modtime=_modtime(entry.modified),
        link=entry.link.decode() if entry.kind in (b"hardlink", b"symlink") else "",
        mode=entry.mode,
        uid=entry.uid,
        gid=entry.gid,
        device_major=entry.device_major if is_device else 0,
        device_minor=entry.device_minor if is_device else 0,
        xattrs={key[len(_XATTR) :].decode(): value for key, value in entry.records if key.startswith(_XATTR)},
        digest=NOTHING if entry.kind == b"reg" and not entry.size else "",
    )


@lru_cache(1 << 14)
def _modtime(modified: bytes) -> str:
    """Whole seconds, a half rounded up; nothing for the epoch and for Go's zero time."""
    text, _, fraction = modified.decode().rstrip("Z").partition(".")
    if text in _NO_TIMES:
        return ""
    if fraction >= "5":
        with suppress(OverflowError):  # the last second of the year 9999
            text = (datetime.fromisoformat(text) + timedelta(seconds=1)).isoformat()
    return f"{text}Z"
