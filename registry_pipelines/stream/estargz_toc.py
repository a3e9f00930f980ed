"""An eStargz layer's table of contents (stargz-snapshotter, docs/estargz.md; formats as of 0.18.2).

The table is read entry by entry from a file without a name, so that one of millions of entries needs no memory. Nodes
read it with Go's ``encoding/json``: what that would take for another table than we do is refused.
"""

from __future__ import annotations

import codecs
import hashlib
import json
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Literal, cast

import msgspec

from registry_pipelines.errors import IndexInvalid, LayerInvalid
from registry_pipelines.oci.decoding import ready
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.files import local_errors
from registry_pipelines.oci.layer.decompress import Readable
from registry_pipelines.oci.layer.estargz_footer import FOOTER_BYTES, Footer, read_footer
from registry_pipelines.oci.layer.tar import BLOCK_BYTES, read_header
from registry_pipelines.oci.media_types import TOC_ANNOTATION
from registry_pipelines.stream.estargz_stream import MemberStream
from registry_pipelines.stream.ranges import Ranges

SIZE_ANNOTATION = "io.containers.estargz.uncompressed-size"
"""Of the layer's descriptor; without TOC_ANNOTATION beside it a node fetches the layer whole."""
TOC_NAME = "stargz.index.json"
"""The last entry of the tar."""
PREFETCH_LANDMARK = ".prefetch.landmark"
"""Stands behind the files that a node fetches before the container starts."""
NO_PREFETCH_LANDMARK = ".no.prefetch.landmark"
"""Stands first: nothing is to be fetched before."""
LANDMARK_CONTENT = b"\x0f"
RESERVED = frozenset({TOC_NAME, PREFETCH_LANDMARK, NO_PREFETCH_LANDMARK})
"""Names that belong to the format, at the root of the tar."""

_ZSTD_FOOTERS = (b"GnUlInUx", b"GNUlInUx")
"""zstd:chunked, as stargz-snapshotter and as containers/storage end it."""

LayerForm = Literal["plain", "gzip", "zstd", "estargz", "stargz", "estargz without its table", "zstd:chunked"]
"""What a layer's bytes are. ``stargz`` is eStargz's forerunner, without digests. A table may be in another image."""


MAX_TOC_BYTES = 4 * 1024**3
"""Ten million entries have 3.5 GB."""
MAX_TOC_RATIO = 200
TOC_RATIO_GRACE_BYTES = 64 * 1024**2
"""The table's bytes to those it is compressed to, and from which size on; real ones have 3 to 20."""
MAX_ROW_CHARACTERS = 16 * 1024**2
"""One entry: a megabyte of attributes is what tar readers take, in base64."""
IN_MEMORY_BYTES = 16 * 1024**2
"""A longer table is kept in a file."""
_PIECE_BYTES = 256 * 1024


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


def toc_annotations(toc_digest: Digest, uncompressed_size: int) -> dict[str, str]:
    """What the descriptor of an eStargz layer tells."""
    return {TOC_ANNOTATION: str(toc_digest), SIZE_ANNOTATION: str(uncompressed_size)}


def layer_form(size: int, ranges: Ranges) -> LayerForm:
    """What a layer is by its first and last bytes, two ranges of at most 51. Raises what ``ranges`` raises.

    Its media type says less: eStargz has that of any gzipped layer.
    """
    head, tail = _bytes_of(ranges, 0, min(size, 4)), _bytes_of(ranges, max(0, size - FOOTER_BYTES), size)
    if head[:2] == b"\x1f\x8b":
        found = read_footer(tail)
        return found.form if found else "gzip"
    if head == b"\x28\xb5\x2f\xfd" or (head[1:] == b"\x2a\x4d\x18" and head[0] >> 4 == 5):
        return "zstd:chunked" if tail[-8:] in _ZSTD_FOOTERS else "zstd"
    return "plain"


def _bytes_of(ranges: Ranges, start: int, stop: int) -> bytes:
    content = bytearray(stop - start)
    have = 0
    with ranges(start, stop) as stream, memoryview(content) as view:
        while have < len(content) and (count := stream.readinto(view[have:])):
            have += count
    return bytes(content[:have])


class Toc:
    """The table of contents of one layer: an iterable of its entries, any number of times. Close it."""

    def __init__(self, footer: Footer, *, where: str, folder: Path | None) -> None:
        """Made by :func:`read_toc`."""
        self.offset = footer.toc_offset
        """Where the table's member begins: the end of the last content."""
        self.footer = footer
        self.where = where
        self.size = 0
        """Bytes of JSON."""
        self._folder = str(folder or tempfile.gettempdir())
        self._hash = hashlib.sha256()
        self._file = cast(IO[bytes], tempfile.SpooledTemporaryFile(max_size=IN_MEMORY_BYTES, dir=self._folder))  # noqa: SIM115

    @property
    def digest(self) -> Digest:
        """Of the JSON: what the layer's descriptor must name, and what nodes trust."""
        return Digest(f"sha256:{self._hash.hexdigest()}")

    def __enter__(self) -> Toc:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Free its memory or file."""
        self._file.close()

    def keep(self, piece: memoryview) -> None:
        """More of the JSON, while it is read."""
        self._hash.update(piece)
        self.size += len(piece)
        with local_errors(self._folder):
            self._file.write(piece)

    def __iter__(self) -> Iterator[TocEntry]:
        """The entries, in their order. Raises IndexInvalid: no table of version 1, or one that Go reads otherwise."""
        return _rows(self._pieces(), self.where)

    def _pieces(self) -> Iterator[bytes]:
        position = 0
        while True:
            with local_errors(self._folder):
                self._file.seek(position)
                piece = self._file.read(_PIECE_BYTES)
            if not piece:
                return
            position += len(piece)
            yield piece


def read_toc(
    ranges: Ranges, size: int, *, expected: Digest | None = None, where: str = "", folder: Path | None = None
) -> Toc:
    """Fetch the table of contents of a blob of ``size`` bytes: its footer, and the range of the table.

    expected: what the layer's annotation says of it. folder: for a table that is too long for memory. Raises
    IndexInvalid: no eStargz layer, a damaged or absurdly large table, another one than expected; LocalError, DiskFull;
    what ``ranges`` raises. Its entries are not looked at here.
    """
    footer = read_footer(_bytes_of(ranges, max(0, size - FOOTER_BYTES), size))
    if footer is None or footer.form == "estargz without its table":
        raise _invalid("it ends without the footer that says where the table is", where)
    end = size - footer.size
    if not 0 <= footer.toc_offset < end:
        raise _invalid(f"its footer names byte {footer.toc_offset} of {size}", where)
    toc = Toc(footer, where=where, folder=folder)
    try:
        with ranges(footer.toc_offset, end) as stream:
            _read_member(stream, end - footer.toc_offset, toc)
        if expected is not None and toc.digest != expected:
            raise _invalid(f"its table hashes to {toc.digest}, expected {expected}", where)
    except BaseException:
        toc.close()
        raise
    return toc


def _invalid(what: str, where: str) -> IndexInvalid:
    return IndexInvalid(f"no valid eStargz layer: {what}", where=where, do="Convert the image again")


def _read_member(stream: Readable, size: int, toc: Toc) -> None:
    """The tar of one entry, which is the table, and the end of the archive."""
    members = MemberStream(stream, toc.offset, where=toc.where)
    try:
        header = read_header(members.exactly(BLOCK_BYTES), where=toc.where, offset=0)
    except LayerInvalid as error:
        raise _invalid("where its table should be is no tar header", toc.where) from error
    if header.name != TOC_NAME.encode() or header.kind != "file":
        raise _invalid(f"where its table should be is {header.name[:100]!r}", toc.where)
    if header.size > min(MAX_TOC_BYTES, max(TOC_RATIO_GRACE_BYTES, MAX_TOC_RATIO * size)):
        raise _invalid(f"its table has {header.size} bytes, compressed to {size}", toc.where)
    buffer = memoryview(bytearray(_PIECE_BYTES))
    left = header.size
    while left:
        view = buffer[: min(left, len(buffer))]
        members.fill(view)
        toc.keep(view)
        left -= len(view)
    end = members.readinto(buffer)
    if any(buffer[:end]) or end > 4 * BLOCK_BYTES or members.readinto(buffer):
        raise _invalid("something stands behind its table", toc.where)


_BEGIN = re.compile(r'\s*\{\s*"version"\s*:\s*1\s*,\s*"entries"\s*:\s*\[')
_SPACE = re.compile(r"[ \t\r\n]*")
_END = re.compile(r"\]\s*\}\s*\Z")
_BEGIN_CHARACTERS = 1024
_MEMBERS = {field.encode_name for field in msgspec.structs.fields(TocEntry)}
_FOLDED = {name.casefold() for name in _MEMBERS}


def _no_number(text: str) -> None:
    raise ValueError(f"{text} is no number")


def _object(members: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(members)
    if len(found) < len(members):
        raise ValueError("a member stands there twice")
    return found


_JSON = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_no_number)


class _Text:
    """The JSON from ``position`` on, as far as it was read."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self.text, self.position = "", 0

    def more(self, count: int = 1) -> bool:
        """Read at least so many characters more; whether there were any."""
        parts = [self.text[self.position :]]
        added = 0
        while added < count and (piece := next(self._pieces, b"")):
            parts.append(self._decoder.decode(piece))
            added += len(parts[-1])
        self.text, self.position = "".join(parts), 0
        return added > 0

    def next(self) -> str:
        """The next character that is no space, which stays; empty at the end."""
        while True:
            found = _SPACE.match(self.text, self.position)
            self.position = found.end() if found else self.position
            if self.position < len(self.text):
                return self.text[self.position]
            if not self.more():
                return ""

    def value(self) -> Any:
        """The next JSON value."""
        while True:
            have = len(self.text) - self.position
            try:
                value, self.position = _JSON.raw_decode(self.text, self.position)
                return value
            except json.JSONDecodeError:
                # Twice as much each time, so that a long one is not read from its beginning for each piece.
                if have > MAX_ROW_CHARACTERS or not self.more(have):
                    raise


def _rows(pieces: Iterator[bytes], where: str) -> Iterator[TocEntry]:
    try:
        yield from _read_rows(_Text(pieces))
    except (ValueError, RecursionError, msgspec.ValidationError) as error:
        raise _invalid(f"its table cannot be read: {error}", where) from error


def _read_rows(text: _Text) -> Iterator[TocEntry]:
    while not (begin := _BEGIN.match(text.text)):
        if len(text.text) > _BEGIN_CHARACTERS or not text.more():
            raise ValueError("it does not begin as a table of version 1 does")
    text.position = begin.end()
    expected = "{]"
    while found := text.next():
        if found not in expected:
            raise ValueError(f"{found!r} where {' or '.join(expected)} should be")
        if found == "]":
            break
        if found == ",":
            text.position += 1
            expected = "{"
            continue
        members = text.value()
        if not members.keys() <= _MEMBERS and any(name.casefold() in _FOLDED for name in members.keys() - _MEMBERS):
            raise ValueError("a member is written in other letters")
        yield msgspec.convert(members, ready(TocEntry))
        expected = ",]"
    while text.more():
        if len(text.text) > _BEGIN_CHARACTERS:
            break
    if not _END.match(text.text, text.position):
        raise ValueError("it does not end where its entries do")
