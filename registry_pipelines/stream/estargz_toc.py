"""An eStargz layer's table of contents and footer: what they look like (stargz-snapshotter, docs/estargz.md)."""

from __future__ import annotations

import msgspec

TOC_NAME = "stargz.index.json"
"""The last entry of the tar."""
PREFETCH_LANDMARK = ".prefetch.landmark"
"""Stands behind the files that a node fetches before the container starts."""
NO_PREFETCH_LANDMARK = ".no.prefetch.landmark"
"""Stands first: nothing is to be fetched before."""
LANDMARK_CONTENT = b"\x0f"
RESERVED = frozenset({TOC_NAME, PREFETCH_LANDMARK, NO_PREFETCH_LANDMARK})
"""Names that belong to the format, at the root of the tar."""

FOOTER_BYTES = 51


class TocEntry(msgspec.Struct, omit_defaults=True, kw_only=True):
    """One entry of the tar, or one further chunk of a file. Go's field order."""

    name: str
    """As in the tar."""
    type: str
    """``reg``, ``dir``, ``symlink``, ``hardlink``, ``char``, ``block``, ``fifo`` or ``chunk``."""
    size: int = 0
    """Bytes of a file."""
    modtime: str = ""
    """RFC 3339 in UTC, whole seconds; empty at the epoch."""
    link: str = msgspec.field(default="", name="linkName")
    mode: int = 0
    uid: int = 0
    gid: int = 0
    user: str = msgspec.field(default="", name="userName")
    """Empty where it is the last one told for this uid."""
    group: str = msgspec.field(default="", name="groupName")
    offset: int = 0
    """Where the gzip member begins in the blob that has the content."""
    inner_offset: int = msgspec.field(default=0, name="innerOffset")
    """Uncompressed bytes of the member before the content; only newer writers pack several into one."""
    device_major: int = msgspec.field(default=0, name="devMajor")
    device_minor: int = msgspec.field(default=0, name="devMinor")
    xattrs: dict[str, bytes] = {}
    digest: str = ""
    """Of the whole file."""
    chunk_offset: int = msgspec.field(default=0, name="chunkOffset")
    """Where the chunk begins in the file."""
    chunk_size: int = msgspec.field(default=0, name="chunkSize")
    """0: to the end of the file."""
    chunk_digest: str = msgspec.field(default="", name="chunkDigest")

    @property
    def has_content(self) -> bool:
        """Whether bytes of the blob are its content."""
        return self.type == "chunk" or (self.type == "reg" and self.size > 0)

    @property
    def complete(self) -> bool:
        """Whether offset and digests are known, while it is written."""
        return not self.has_content or bool(self.chunk_digest and (self.digest or self.type == "chunk"))


def footer(toc_offset: int) -> bytes:
    """The last 51 bytes of a blob: an empty gzip member whose extra field says where the table's member begins."""
    extra = b"SG" + (22).to_bytes(2, "little") + b"%016xSTARGZ" % toc_offset
    head = bytes.fromhex("1f8b08040000000000ff") + len(extra).to_bytes(2, "little")
    return head + extra + bytes.fromhex("010000ffff") + bytes(8)
