"""Layers: a streaming, bounded and safe walk over the tar of an image layer (image-spec 1.1, layer.md).

Nothing is written to disk and memory does not grow with the layer (about 35 MiB): content that nobody reads is hashed
and passed over. Both digests come out on the way, so that a caller who verifies them needs no second pass.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from registry_pipelines.errors import DigestMismatch, LayerInvalid
from registry_pipelines.oci import media_types
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.layer.decompress import Readable
from registry_pipelines.oci.layer.record import MAX_BLOCKS_BYTES, RecordWriter
from registry_pipelines.oci.layer.tar import (
    BLOCK_BYTES,
    MAX_EXTENSION_BYTES,
    MAX_PATH_BYTES,
    ZERO_BLOCK,
    Header,
    pax_size,
    read_header,
    read_pax,
    sparse_name,
)
from registry_pipelines.oci.layer.tar_bytes import DEFAULT_LIMITS, LayerLimits, TarBytes
from registry_pipelines.oci.manifests import Descriptor

if TYPE_CHECKING:
    from registry_pipelines.oci.layer.pushed import PushedTar

WHITEOUT_PREFIX = ".wh."
OPAQUE_WHITEOUT = ".wh..wh..opq"
"""image-spec 1.1, layer.md, "Whiteouts" and "Opaque Whiteout"."""


@dataclass(frozen=True)
class LayerFacts:
    """What a layer is: known after its last byte."""

    digest: Digest | None
    """Of the bytes as stored (compressed); None, as the diffID, of a tar that who makes it hashes."""
    size: int
    diff_id: Digest | None
    """Of the uncompressed tar."""
    uncompressed_size: int
    entries: int
    compression: str
    """``plain``, ``gzip`` or ``zstd``, as its first bytes say."""
    terminated: bool
    """Whether the end-of-archive mark was there; runtimes do without, but then a cut between entries is not seen."""
    link_escapes: tuple[str, ...]
    """Symbolic links whose target climbs above the root (harmless inside a container, a trap for unpackers)."""


class Entry:
    """One tar entry. ``read`` and ``head`` work until the walk goes on."""

    __slots__ = ("_walk", "blocks", "kind", "link", "mode", "name", "size", "sparse")

    def __init__(
        self, walk: LayerWalk, name: str, kind: str, size: int, mode: int, link: str, sparse: bool, blocks: bytes
    ) -> None:
        self._walk = walk
        self.name = name
        """Path below the root: no leading ``./``, no trailing slash; empty for the root itself. Bytes that are not
        UTF-8 are surrogate escapes."""
        self.kind = kind
        """``file``, ``directory``, ``symlink``, ``hardlink``, ``device``, ``fifo`` or ``other``."""
        self.size = size
        """Bytes of content stored in this layer; 0 for links."""
        self.mode = mode
        self.link = link
        """Target: as written for symbolic links, a path like ``name`` for hard links."""
        self.sparse = sparse
        self.blocks = blocks
        """All its header blocks, as ``RawEntry`` has them."""

    @property
    def position(self) -> int:
        """Where its next byte of content stands in the uncompressed tar."""
        return self._walk.offset

    @property
    def base(self) -> str:
        """The last part of the name."""
        return self.name[self.name.rfind("/") + 1 :]

    @property
    def removed(self) -> str:
        """The path that this whiteout removes from lower layers; empty when it is not one (or an opaque one)."""
        base = self.base
        if not base.startswith(WHITEOUT_PREFIX) or base == OPAQUE_WHITEOUT:
            return ""
        return self.name[: len(self.name) - len(base)] + base[len(WHITEOUT_PREFIX) :]

    @property
    def opaque(self) -> str | None:
        """The directory whose lower content this entry hides; None when it is not an opaque whiteout."""
        return self.name[: -len(OPAQUE_WHITEOUT)].rstrip("/") if self.base == OPAQUE_WHITEOUT else None

    def read(self, limit: int) -> bytes:
        """All content. Raises LayerInvalid when there are more than ``limit`` bytes, or the file is sparse."""
        if self.size > limit:
            raise LayerInvalid(f"{self.name}: has {self.size} bytes, at most {limit} are read", where=self._walk.where)
        if self.sparse:
            raise LayerInvalid(f"{self.name}: is stored sparse, which is not read", where=self._walk.where)
        return self._walk.read_content(self.size)

    def head(self, count: int) -> bytes:
        """The next ``count`` bytes, fewer at the end; may be called again for the following ones."""
        return self._walk.read_content(count)

    def readinto(self, buffer: memoryview) -> None:
        """The next bytes of content, as many as the buffer takes. Raises LayerInvalid: fewer are left."""
        self._walk.read_content_into(buffer)

    def pieces(self) -> Iterator[memoryview]:
        """The rest of its content without a copy, each piece until the next is asked for. Raises LayerInvalid: the tar
        ends before."""
        return self._walk.content_pieces()


class LayerWalk:
    """Iterate once over the entries, then ask :meth:`finish` for the digests. Made by :func:`open_layer`."""

    def __init__(
        self,
        tar: TarBytes,
        *,
        where: str,
        limits: LayerLimits = DEFAULT_LIMITS,
        expected: Descriptor | None = None,
        diff_id: Digest | None = None,
        any_names: bool = False,
    ) -> None:
        self.where = where
        self._tar = tar
        self._limits = limits
        self._expected = expected
        self._expected_diff_id = diff_id
        self._any_names = any_names
        self.unsafe: LayerInvalid | None = None
        """What was wrong with the first unsafe name, where ``any_names`` lets them pass; its entry has it as it is."""
        self._blocks: list[bytes] = []
        self._blocks_bytes = 0
        self._content = 0
        self._padding = 0
        self._entries = 0
        self._terminated = False
        self._escapes: list[str] = []
        self._facts: LayerFacts | None = None
        self._iterator = self._walk()

    def __iter__(self) -> Iterator[Entry]:
        """The entries in stored order. Raises LayerInvalid."""
        return self._iterator

    def finish(self) -> LayerFacts:
        """Read to the last byte, check what was expected, and write the record. Raises LayerInvalid, DigestMismatch."""
        if self._facts:
            return self._facts
        for _ in self._iterator:
            pass
        tar = self._tar
        facts = LayerFacts(
            digest=tar.digest,
            size=tar.byte_count,
            diff_id=tar.diff_id,
            uncompressed_size=tar.total,
            entries=self._entries,
            compression=tar.compression,
            terminated=self._terminated,
            link_escapes=tuple(self._escapes),
        )
        self._check("layer", self._expected.digest if self._expected else None, facts.digest)
        self._check("uncompressed layer", self._expected_diff_id, facts.diff_id)
        tar.write()
        self._facts = facts
        return facts

    def _check(self, what: str, expected: Digest | None, actual: Digest | None) -> None:
        if expected and expected != actual:
            raise DigestMismatch(
                f"the {what} hashes to {actual}, expected {expected}",
                where=self.where,
                do="The copy at this place is damaged or was replaced; fetch it from another place",
            )

    def read_content(self, count: int) -> bytes:
        """Up to ``count`` bytes of the current entry's content; used by Entry."""
        count = min(count, self._content)
        self._content -= count
        return self._tar.take(count)

    def read_content_into(self, buffer: memoryview) -> None:
        """The same into a buffer; used by Entry."""
        if len(buffer) > self._content:
            raise self._tar.truncated()
        self._content -= len(buffer)
        self._tar.take_into(buffer)

    def content_pieces(self) -> Iterator[memoryview]:
        """All that is left of it, as it lies in memory; used by Entry."""
        count, self._content = self._content, 0
        return self._tar.pieces(count)

    @property
    def offset(self) -> int:
        """Where in the uncompressed tar the next byte stands."""
        return self._tar.offset

    def _header_block(self) -> bytes:
        """The next block of headers."""
        block = self._tar.take(BLOCK_BYTES)
        self._keep(block)
        return block

    def _keep(self, blocks: bytes) -> None:
        self._blocks.append(blocks)
        self._blocks_bytes += len(blocks)
        if self._blocks_bytes > MAX_BLOCKS_BYTES:
            raise LayerInvalid(f"one entry has more than {MAX_BLOCKS_BYTES} bytes of headers", where=self.where)

    def _next_header(self) -> Header | None:
        """The next header; None at the end of the archive (two zero blocks, or the end of the input between
        entries, which runtimes accept)."""
        tar = self._tar
        tar.skip(self._content + self._padding)
        self._content = self._padding = 0
        if not tar.more():
            return None
        offset = tar.offset
        block = self._header_block()
        if block != ZERO_BLOCK:
            header = read_header(block, where=self.where, offset=offset)
            self._content = header.stored_bytes
            self._padding = -self._content % BLOCK_BYTES
            return header
        if tar.more():
            if tar.take(BLOCK_BYTES) != ZERO_BLOCK:
                raise LayerInvalid(f"a single zero block at byte {offset} in the middle of the tar", where=self.where)
            tar.archive_ended()
        self._terminated = True
        return None

    def _walk(self) -> Iterator[Entry]:
        pax: dict[str, bytes] = {}
        long_name = long_link = None
        while (header := self._next_header()) is not None:
            if header.type in b"xgLK":
                raw = self._extension(header)
                if header.type == 103:
                    # An entry of its own to Go: what was said before it is not about the next one.
                    pax, long_name, long_link = {}, None, None
                elif header.type == 120:
                    pax = read_pax(raw, where=self.where, offset=self._tar.offset)
                elif header.type == 76:
                    long_name = raw.partition(b"\0")[0]
                elif header.type == 75:
                    long_link = raw.partition(b"\0")[0]
                continue
            yield self._entry(header, pax, long_name, long_link)
            pax, long_name, long_link = {}, None, None
        if pax or long_name is not None or long_link is not None:
            raise self._tar.truncated()
        self._tar.finish()
        if self._expected and self._tar.byte_count != self._expected.size:
            raise LayerInvalid(
                f"the layer has {self._tar.byte_count} bytes, its descriptor says {self._expected.size}",
                where=self.where,
            )

    def _extension(self, header: Header) -> bytes:
        if header.size > MAX_EXTENSION_BYTES:
            raise LayerInvalid(
                f"an extended tar header has {header.size} bytes, at most {MAX_EXTENSION_BYTES} are read",
                where=self.where,
            )
        content = self._tar.take(header.size + self._padding)
        self._content = self._padding = 0
        self._keep(content)
        return content[: header.size]

    def _entry(self, header: Header, pax: dict[str, bytes], long_name: bytes | None, long_link: bytes | None) -> Entry:
        self._entries += 1
        if self._entries > self._limits.max_entries:
            raise LayerInvalid(f"the layer has more than {self._limits.max_entries} entries", where=self.where)
        raw_name, raw_link, sparse = header.name, header.link, header.type == 83
        if pax:
            raw_name = pax.get("path") or raw_name
            raw_link = pax.get("linkpath", raw_link) or raw_link
            sparse = sparse or any(key.startswith("GNU.sparse.") for key in pax)
            size = pax_size(pax, where=self.where, offset=self._tar.offset)
            if size is not None:
                header = header._replace(size=size)
        raw_name, raw_link = sparse_name(pax) or long_name or raw_name, long_link or raw_link
        if pax or header.type == 0:
            header = header._replace(name=raw_name)
            self._content = header.stored_bytes
            self._padding = -self._content % BLOCK_BYTES
        kind = header.kind
        if header.extended_sparse:
            while self._header_block()[504]:
                pass
        blocks = self._blocks[0] if len(self._blocks) == 1 else b"".join(self._blocks)
        self._blocks, self._blocks_bytes = [], 0
        self._tar.note(self._content, blocks)
        try:
            if len(raw_name) > MAX_PATH_BYTES or len(raw_link) > MAX_PATH_BYTES:
                raise LayerInvalid(
                    f"unsafe name {raw_name[:100].decode('utf-8', 'replace')!r}: it or its link has more than "
                    f"{MAX_PATH_BYTES} bytes, which no node can unpack",
                    where=self.where,
                )
            name, link = self._clean(raw_name), ""
            if raw_link and kind in ("symlink", "hardlink"):
                link = self._link(name, kind, raw_link)
        except LayerInvalid as error:
            if not self._any_names:
                raise
            self.unsafe = self.unsafe or error
            name, link = raw_name.decode("utf-8", "surrogateescape"), ""
        return Entry(self, name, kind, self._content, header.mode, link, sparse, blocks)

    def _clean(self, raw: bytes) -> str:
        """A safe path below the root. Raises LayerInvalid for names that leave it."""
        name = raw.decode("utf-8", "surrogateescape")
        if name.startswith("./"):
            name = name[2:]
        if name.endswith("/") and not name.startswith("/"):
            name = name.rstrip("/")
        if (
            ".." not in name
            and "//" not in name
            and "/./" not in name
            and name[-2:] != "/."
            and name[:1] not in ("/", ".")
            and "\0" not in name
        ):
            if not raw:
                raise LayerInvalid(f"the entry before byte {self._tar.offset} has no name", where=self.where)
            return name
        if "\0" in name:
            raise LayerInvalid(f"unsafe name {name[:200]!r}: it holds a NUL byte", where=self.where)
        if name.startswith("/"):
            raise LayerInvalid(f"unsafe name {name[:200]!r}: it is absolute", where=self.where)
        parts = [part for part in name.split("/") if part not in ("", ".")]
        if ".." in parts:
            raise LayerInvalid(f"unsafe name {name[:200]!r}: it climbs with `..`", where=self.where)
        return "/".join(parts)

    def _link(self, name: str, kind: str, raw: bytes) -> str:
        if kind == "hardlink":
            # Hard links name another entry: runtimes take a leading slash as the root.
            return self._clean(raw.lstrip(b"/") or b".")
        target = raw.decode("utf-8", "surrogateescape")
        depth = 0 if target.startswith("/") else name.count("/")
        for part in target.split("/"):
            depth += -1 if part == ".." else part not in ("", ".")
            if depth < 0:
                if len(self._escapes) < self._limits.max_names_reported:
                    self._escapes.append(name)
                break
        return target


def open_layer(
    stream: Readable,
    media_type: str,
    *,
    where: str = "",
    limits: LayerLimits = DEFAULT_LIMITS,
    expected: Descriptor | None = None,
    diff_id: Digest | None = None,
    writer: RecordWriter | None = None,
    beside: Executor | None = None,
    ahead: Executor | None = None,
    any_names: bool = False,
) -> LayerWalk:
    """Walk a layer from any ``readinto`` object; its first bytes say how it is compressed.

    where: what to call it in errors. expected, diff_id: what :meth:`LayerWalk.finish` must find; they also choose the
    hash algorithms (sha256 without them). writer: gets the layer's record (``LayerStore.writing`` gives one).
    beside: a pool of one thread that hashes while this one inflates. ahead: another one, which inflates while this one
    walks. any_names: unsafe names and links are remembered
    and not refused, for who wants the record. Raises LayerInvalid: not a layer, truncated,
    damaged, unsafe name (``..``, absolute, NUL; for hard links their target too), bomb; ToolMissing: there is a writer,
    and no library stops at deflate blocks. Not checked here: whether links lead to something.
    """
    if media_type not in media_types.LAYERS:
        raise LayerInvalid(f"{media_type[:120]!r} is not a layer that can be read", where=where)
    tar = TarBytes(
        stream,
        where=where,
        limits=limits,
        expected=expected,
        diff_id=diff_id,
        writer=writer,
        beside=beside,
        ahead=ahead,
    )
    if tar.empty and media_type.endswith(("gzip", "zstd")):
        raise LayerInvalid("the layer is empty, not even a compressed stream", where=where)
    return LayerWalk(tar, where=where, limits=limits, expected=expected, diff_id=diff_id, any_names=any_names)


def open_tar(stream: PushedTar) -> LayerWalk:
    """Walk a plain tar that whoever makes it hashes (``PushedTar``): here it is not, and no digest comes out.

    Raises LayerInvalid as ``open_layer``.
    """
    return LayerWalk(TarBytes(stream, where="", made=stream), where="")
