"""The tables by which a node reads the layers of an image, from whoever is believed.

Of each layer, the first of these: what this node found when it read the whole layer (``LayerStore``); the table of an
eStargz layer, whose digest the image's own manifest names; the ztoc of a SOCI index that an indexer's key vouches for.
A layer with none of them is fetched whole, held against its digest and its diffID, and kept, and so is every layer of a
registry that sends no ranges; ``LayerTable.why`` says why.
"""

from __future__ import annotations

import mmap
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO

from registry_pipelines.errors import (
    ContentError,
    DigestInvalid,
    DigestMismatch,
    DiskFull,
    IndexInvalid,
    LayerInvalid,
    LayerUnlisted,
    NotFound,
    Unavailable,
    Unsupported,
)
from registry_pipelines.evidence.model import Verifier
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.files import local_errors, replaced
from registry_pipelines.oci.layer.decompress import Decompressor, Source
from registry_pipelines.oci.layer.record import LayerRecord
from registry_pipelines.oci.layer.store import LayerStore
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.oci.media_types import TOC_ANNOTATION
from registry_pipelines.progress import Progress, Silent
from registry_pipelines.registry.blobs import BlobStream, Counted
from registry_pipelines.registry.protocol import BUFFER_BYTES, Place, Readable
from registry_pipelines.stream.lazy.blocks import BlockStore
from registry_pipelines.stream.lazy.chunked import chunk_pieces, toc_files
from registry_pipelines.stream.lazy.kept import KeptFiles
from registry_pipelines.stream.lazy.kept_tables import kept_toc
from registry_pipelines.stream.lazy.merging import merge_layers
from registry_pipelines.stream.lazy.pieces import Pieces, SpanPieces, WholeLayer
from registry_pipelines.stream.lazy.tree import Tree
from registry_pipelines.stream.lazy.vouching import UNPROVEN, NotBelieved, vouched
from registry_pipelines.stream.left_out import unreadable
from registry_pipelines.stream.ranges import blob_ranges
from registry_pipelines.stream.signed_index import find_index
from registry_pipelines.stream.table_checks import MAX_TABLE_BYTES
from registry_pipelines.stream.toc import FileMetadata, file_metadata, without_global
from registry_pipelines.stream.ztoc import read_ztoc, record_spans
from registry_pipelines.threads import Pool

MAX_KEPT_BYTES = 2 << 30
"""Of ztocs, and of trees: 1 % of 200 GB of layers."""

TREE_FORMAT = 2
"""Part of a kept tree's name; raised when the same layers merge to something else than before."""

FETCHERS = 4
"""Layers that are fetched whole at the same time."""

NO_KEY = "no key of an indexer is believed (--key, or `signing` in the configuration), so no index is"
NO_INDEX = "the image has no index"
LEFT_OUT = "the image's index leaves it out, as it does with small layers"


@dataclass(frozen=True)
class LayerTable:
    """How one layer is read."""

    layer: Descriptor
    pieces: Pieces
    """What can be fetched and verified by itself; positions of the tree are theirs."""
    why: str = ""
    """Why the layer had to be fetched whole; empty: it is lazy."""
    voucher: Digest | None = None
    """See :func:`vouched`; None where ``pieces.table`` says enough."""

    @property
    def digest(self) -> Digest:
        """Of the layer's blob."""
        return self.layer.digest

    @property
    def tar_size(self) -> int:
        """Bytes of what ``pieces`` make."""
        return self.pieces.tar_size


@dataclass(frozen=True)
class ImageTables:
    """What is needed to serve an image."""

    tree: Tree
    layers: tuple[LayerTable, ...]
    """Base first, as the tree counts them."""
    left_out: str = ""
    """Why the tree lacks the layers above these; empty where there is none."""


@dataclass(frozen=True)
class _Found:
    """A table and the entries it has, to be read once."""

    table: LayerTable
    files: Iterable[FileMetadata]


@dataclass(frozen=True)
class _Unread:
    """A layer that has to be fetched whole, and why."""

    layer: Descriptor
    diff_id: Digest
    why: str
    by_range: bool = True
    """Whether its registry sends parts of it later."""


def image_tables(
    place: Place,
    image: Digest,
    layers: Sequence[tuple[Descriptor, Digest]],
    *,
    verifier: Verifier | None,
    records: LayerStore,
    blocks: BlockStore,
    folder: Path,
    progress: Progress | None = None,
    own_tables_first: bool = False,
    most_whole_bytes: int | None = None,
    proven: Callable[[], bool] | None = None,
    promised: Callable[[int, str], object] | None = None,
) -> ImageTables:
    """Read or fetch the tables of an image's layers, and merge them; layers that have none are fetched whole meanwhile.

    image: the manifest of one platform. layers: each with its diffID, base first. verifier: whose indexes are believed;
    None for nobody's. folder: of this node, for tables and trees; where layers wait until they are verified.
    own_tables_first: layers of eStargz by their own table, as other nodes read them, whatever this one found in them.
    most_whole_bytes: a layer that would have to be fetched whole and has more compressed bytes is left out, with all
    above it, and smaller ones are fetched only for those above them; None fetches any. proven: is asked once whether a
    layer of eStargz may be read by its own table where this node did not read it whole (see ``proving``); any may
    unless told. promised: with most_whole_bytes, is told how many layers from the base on are served, and why not all,
    before their tables are fetched and merged: somebody who is believed vouches for each, or it is here. What fails
    later of a table is fetched whole, or is an error.

    Raises LayerInvalid: a layer cannot be read here, or the image not be unpacked; DigestMismatch: a layer is not what
    the image says; LocalError, DiskFull; the RegistryError family.
    """
    with ExitStack() as open_tables:
        finder = _Finder(place, image, verifier, records, blocks, folder, progress or Silent(), open_tables)
        finder.own_tables_first, finder.proven = own_tables_first, proven
        found, left_out = finder.all(layers, most_whole_bytes, promised)
        tables = tuple(each.table for each in found)
        return ImageTables(_tree([each.files for each in found], tables, folder), tables, left_out)


def _tree(files: Sequence[Iterable[FileMetadata]], tables: Sequence[LayerTable], folder: Path) -> Tree:
    """The merged tree: kept from before, or made and kept."""
    kept = KeptFiles(folder / "trees", max_bytes=MAX_KEPT_BYTES)
    layers = " ".join(f"{table.digest} {table.pieces.table or ''}" for table in tables)
    name = Digest.of(f"{TREE_FORMAT} {layers}".encode()).hex
    if path := kept.find(name):
        with suppress(OSError, IndexInvalid):
            return Tree.load(path.read_bytes())
    tree = merge_layers(files)
    with suppress(DiskFull):
        kept.put(name, tree.dump())
    return tree


class LateTables:
    """How the layers of an image are read whose tree is there already: found layer by layer, when they are asked for.
    For many threads."""

    def __init__(
        self,
        place: Place,
        image: Digest,
        *,
        verifier: Verifier | None,
        records: LayerStore,
        blocks: BlockStore,
        folder: Path,
        told: Callable[[Digest, str], object],
    ) -> None:
        """See :func:`image_tables`. told: that a layer has to be fetched whole, and why."""
        self._finder = _Finder(place, image, verifier, records, blocks, folder, Silent(), ExitStack())
        self._told, self._lock = told, threading.Lock()
        self._unranged: str | None = None

    def pieces(self, layer: Descriptor, diff_id: Digest, table: Digest | None, size: int) -> Pieces:
        """What can be fetched of a layer. table: of eStargz, in whose layout positions are; None for the tar. size: of
        what the pieces make.

        Raises IndexInvalid: there is nothing that makes so many bytes in that layout; LocalError, DiskFull; the
        RegistryError family.
        """
        with self._lock:
            if self._unranged is None:
                self._unranged = self._finder.unranged([(layer, diff_id)])
            if self._unranged:
                found, why = None, self._unranged
            else:
                found, why = self._finder.late(layer, diff_id, table)
        if found is None and table is None:
            self._told(layer.digest, why)
            return WholeLayer(layer, size, where=str(layer.digest))
        if found is None or found.tar_size != size:
            raise IndexInvalid(
                "the layer cannot be read as its hot pack says" + (f": {why}" if why else ""),
                where=str(layer.digest),
                do="Start the image without its pack (--no-pack), and cut the pack again",
            )
        return found


class _Finder:
    """Finds the tables of one image."""

    def __init__(
        self,
        place: Place,
        image: Digest,
        verifier: Verifier | None,
        records: LayerStore,
        blocks: BlockStore,
        folder: Path,
        progress: Progress,
        open_tables: ExitStack,
    ) -> None:
        self._place, self._image, self._verifier = place, image, verifier
        self._records, self._blocks, self._folder, self._progress = records, blocks, folder, progress
        self._open_tables = open_tables
        self._waiting = folder / "tables"
        self._kept = KeptFiles(self._waiting, max_bytes=MAX_KEPT_BYTES)
        self.own_tables_first = False
        self.proven: Callable[[], bool] | None = None
        self._is_proven: bool | None = None
        self._ztocs: dict[str, Descriptor] | None = None
        self._no_index = ""
        self._held: set[Digest] = set()

    def all(
        self,
        layers: Sequence[tuple[Descriptor, Digest]],
        most_whole_bytes: int | None,
        promised: Callable[[int, str], object] | None = None,
    ) -> tuple[list[_Found], str]:
        """In the order of the layers; and why the last ones are not among them."""
        for layer, _ in layers:
            if refused := unreadable(layer):
                raise LayerInvalid(
                    f"the image cannot be mounted, for a layer cannot be read: {refused.detail}", where=self._at(layer)
                )
        here: dict[Digest, _Found] = {}
        left_out, doubts = "", list[str]()
        if promised is not None and most_whole_bytes is not None:
            doubts = [self._doubt(*pair) for pair in layers]
            count, left_out = _how_many([layer.size for layer, _ in layers], doubts, most_whole_bytes)
            if not count:  # a pull waits for this answer, so nothing more is asked
                return [], left_out
            del doubts[count:]
        unranged = self.unranged(layers)
        if promised is not None and doubts and not unranged:
            here = self._promise(layers[: len(doubts)], doubts, partial(promised, len(doubts), left_out))
        found: list[_Found | _Unread] = []
        for pair in layers:
            known = here.pop(pair[0].digest, None)
            one = known or (self._whole_or_known(*pair, unranged) if unranged else self._lazy(*pair))
            found.append(one)
            if isinstance(one, _Unread) and most_whole_bytes is not None and one.layer.size > most_whole_bytes:
                break
        if most_whole_bytes is not None:
            whole = [each.why if isinstance(each, _Unread) else "" for each in found]
            count, left_out = _how_many([layer.size for layer, _ in layers], whole, most_whole_bytes)
            del found[count:]
        return self._all_fetched(found), left_out

    def _all_fetched(self, found: Sequence[_Found | _Unread]) -> list[_Found]:
        with Pool(FETCHERS, "lazy-layer") as pool:
            return list(pool.map(lambda each: self._fetched(each) if isinstance(each, _Unread) else each, found))

    def _promise(
        self, layers: Sequence[tuple[Descriptor, Digest]], doubts: Sequence[str], promised: Callable[[], object]
    ) -> dict[Digest, _Found]:
        """Those that are fetched whole. What nobody vouches for is here before anything is promised: it may not be what
        it claims, and then other images would miss the layers that have its name. doubts: see :meth:`_doubt`."""
        whole = [_Unread(*pair, why) for pair, why in zip(layers, doubts, strict=True) if why]
        here = self._all_fetched([each for each in whole if each.layer.digest not in self._held])
        promised()
        here += self._all_fetched([each for each in whole if each.layer.digest in self._held])
        unread = [layer.digest for layer, diff_id in layers if not self._records.get(diff_id, layer.digest)]
        ztocs = [found for digest in unread if (found := (self._ztocs or {}).get(digest))]
        with Pool(FETCHERS, "lazy-table") as pool:
            list(pool.map(self._come, ztocs))
        return {each.table.digest: each for each in here}

    def _come(self, ztoc: Descriptor) -> None:
        """Fetch it, if need be. What is wrong with it is said where it is used."""
        with suppress(ContentError, NotFound):
            self._mapped(ztoc).close()

    def _doubt(self, layer: Descriptor, diff_id: Digest) -> str:
        """Why a layer has to be fetched whole, as far as that is known before its table is here; empty: it is vouched
        for, or was read here."""
        if self._records.get(diff_id, layer.digest):
            return ""
        why = ""
        if told := (layer.annotations or {}).get(TOC_ANNOTATION):
            with suppress(DigestInvalid):
                Digest.parse(told)
                if self._may_have_own_table():
                    return ""
                why = UNPROVEN
        if self._ztocs is None:
            self._ztocs, self._no_index = self._believed()
        ztoc = self._ztocs.get(layer.digest)
        if ztoc is not None and 0 < ztoc.size <= MAX_TABLE_BYTES:
            return ""
        return why or self._no_index or LEFT_OUT

    def _may_have_own_table(self) -> bool:
        if self._is_proven is None:
            self._is_proven = self.proven is None or self.proven()
        return self._is_proven

    def late(self, layer: Descriptor, diff_id: Digest, table: Digest | None) -> tuple[Pieces | None, str]:
        """The pieces of a layer in the layout of a table of eStargz, or of the tar; or why there are none."""
        try:
            if table is not None:
                found = self._chunked(layer)
                return (found.table.pieces, "") if found and found.table.pieces.table == table else (None, "")
            if record := self._records.get(diff_id, layer.digest):
                return SpanPieces(record_spans(record), table=None, where=self._at(layer)), ""
            found, why = self._indexed(layer)
            return (found.table.pieces, "") if found else (None, why)
        except (ContentError, DigestInvalid) as error:
            return None, error.what
        finally:
            self._open_tables.close()

    def unranged(self, layers: Sequence[tuple[Descriptor, Digest]]) -> str:
        """Why nothing of this registry can be read in parts; empty where it can."""
        largest = max((layer for layer, _ in layers), key=lambda layer: layer.size, default=None)
        if largest is None or not largest.size:
            return ""
        try:
            with blob_ranges(self._place, largest.digest)(0, 1) as reader:
                reader.readinto(memoryview(bytearray(1)))
        except Unsupported as error:
            return error.what
        except Unavailable:  # what this node has can be started; the rest says so when it is read
            pass
        return ""

    def _lazy(self, layer: Descriptor, diff_id: Digest) -> _Found | _Unread:
        """By the first table that is believed; else the layer is to be fetched."""
        record = self._records.get(diff_id, layer.digest)
        if record and not (self.own_tables_first and TOC_ANNOTATION in (layer.annotations or {})):
            return self._recorded(layer, diff_id, record)
        try:
            found = self._chunked(layer)
            why = ""
        except (ContentError, DigestInvalid) as error:
            found, why = None, error.what
        if found is None and record:
            return self._recorded(layer, diff_id, record)
        if found is None:
            found, reason = self._indexed(layer)
            why = why or reason
        return found or _Unread(layer, diff_id, why)

    def _recorded(self, layer: Descriptor, diff_id: Digest, record: LayerRecord) -> _Found | _Unread:
        files = record_files(record)
        try:
            pieces = SpanPieces(record_spans(record), table=None, where=self._at(layer))
        except ContentError as error:
            return self._whole_or_known(layer, diff_id, error.what)
        return _Found(LayerTable(layer, pieces), files)

    def _whole_or_known(self, layer: Descriptor, diff_id: Digest, why: str) -> _Found | _Unread:
        """A layer that cannot be read in parts: from the node where all of it is here."""
        record = self._records.get(diff_id, layer.digest)
        if record is not None:
            with self._blocks.open(layer.digest, record.archive_end) as known:
                if known.complete:
                    return self._whole(layer, record, why)
        return _Unread(layer, diff_id, why, by_range=False)

    def _whole(self, layer: Descriptor, record: LayerRecord, why: str) -> _Found:
        pieces = WholeLayer(layer, record.archive_end, where=self._at(layer))
        return _Found(LayerTable(layer, pieces, why), record_files(record))

    def _chunked(self, layer: Descriptor) -> _Found | None:
        """By its own table; None where its manifest names none. Raises IndexInvalid, also where nobody vouches for it;
        the RegistryError family."""
        told = (layer.annotations or {}).get(TOC_ANNOTATION)
        if not told:
            return None
        if not self._may_have_own_table():
            raise IndexInvalid(UNPROVEN, where=self._at(layer))
        ranges, where = blob_ranges(self._place, layer.digest), self._at(layer)
        expected, kept = Digest.parse(told), self._kept
        toc = kept_toc(ranges, layer.digest, layer.size, expected, kept=kept, folder=self._waiting, where=where)
        self._open_tables.callback(toc.close)
        return _Found(LayerTable(layer, chunk_pieces(toc)), toc_files(toc))

    def _indexed(self, layer: Descriptor) -> tuple[_Found | None, str]:
        """By its ztoc of an index that is believed; or why not."""
        if self._ztocs is None:
            self._ztocs, self._no_index = self._believed()
        descriptor = self._ztocs.get(layer.digest)
        if descriptor is None:
            return None, self._no_index or LEFT_OUT
        where = self._at(layer)
        try:
            ztoc = read_ztoc(self._mapped(descriptor), where=where)
            if ztoc.spans.size != layer.size:
                raise IndexInvalid(f"the ztoc is of a layer of {ztoc.spans.size} bytes, not {layer.size}", where=where)
            pieces = SpanPieces(ztoc.spans, table=descriptor.digest, where=where)
        except (ContentError, NotFound) as error:
            return None, f"its part of the image's index cannot be used: {error.what}"
        assert self._verifier is not None  # noqa: S101 - nothing is believed without
        return _Found(LayerTable(layer, pieces, voucher=vouched(self._verifier)), ztoc), ""

    def _believed(self) -> tuple[dict[str, Descriptor], str]:
        """The ztocs of signed indexes by layer; and if there is none, why."""
        if self._verifier is None:
            return {}, NO_KEY
        indexes = find_index(self._place, self._image, self._verifier)
        ztocs: dict[str, Descriptor] = {}
        for index in reversed(indexes.signed):
            ztocs |= index.ztocs
            self._held |= set(index.note.held)
        if indexes.signed:
            return ztocs, ""
        refused = "; ".join(f"index {each}" for each in indexes.not_served)
        return {}, NotBelieved(f"no index of the image is believed: {refused}") if refused else NO_INDEX

    def _mapped(self, descriptor: Descriptor) -> mmap.mmap:
        """A ztoc in a file of this node, held against its digest each time."""
        where = f"{self._place}@{descriptor.digest}"
        if not 0 < descriptor.size <= MAX_TABLE_BYTES:
            raise IndexInvalid(f"a ztoc has {descriptor.size} bytes", where=where)
        name = descriptor.digest.hex
        if path := self._kept.find(name):
            with suppress(OSError, ValueError, DigestMismatch):
                return _checked(path, descriptor, where)
        path = self._kept.path(name)
        with replaced(path) as temporary, temporary.open("wb") as file, BlobStream(self._place, descriptor) as stream:
            _copy(stream, file, descriptor.size)
        self._kept.make_room(path)
        with local_errors(path):
            return _checked(path, descriptor, where)

    def _fetched(self, unread: _Unread) -> _Found:
        """Fetch a layer whole; its tar is in the store afterwards, and its record."""
        layer, diff_id, why = unread.layer, unread.diff_id, unread.why
        where, task = self._at(layer), f"fetch {layer.digest.short}"
        self._progress.begin(task, total_bytes=layer.size)
        with local_errors(self._folder), tempfile.TemporaryFile(dir=self._waiting) as file:
            with BlobStream(self._place, layer) as stream:
                counted = Counted(stream, self._progress, task)
                record = self._records.read(_Copying(counted, file), layer, diff_id, where=where)
            file.seek(0)
            self._keep(layer, record, file)
        self._progress.end(task)
        if unread.by_range:
            with suppress(ContentError):
                pieces = SpanPieces(record_spans(record), table=None, where=where)
                return _Found(LayerTable(layer, pieces, why), record_files(record))
        return self._whole(layer, record, why)

    def _keep(self, layer: Descriptor, record: LayerRecord, file: Readable) -> None:
        """Put the tar of a verified layer into the store. What a full disk does not take is fetched when it is read."""
        decompressor = Decompressor(Source(file, None), where=self._at(layer))
        buffer = memoryview(bytearray(BUFFER_BYTES))
        position, end = 0, record.archive_end
        with suppress(DiskFull), self._blocks.open(layer.digest, end) as lazy:
            while position < end and (count := decompressor.readinto(buffer)):
                content = buffer[: min(count, end - position)]
                lazy.put(position, content)
                lazy.mark(position, position + len(content))
                position += len(content)

    def _at(self, layer: Descriptor) -> str:
        return f"{self._place}@{layer.digest}"


def _how_many(sizes: Sequence[int], whole: Sequence[str], most_whole_bytes: int) -> tuple[int, str]:
    """How many layers are served, and why those above are not. whole: by layer why it has to be fetched whole, empty
    for one that need not; those that are fetched whole are there for those above them alone."""
    count, left_out = len(whole), ""
    for number, (size, why) in enumerate(zip(sizes, whole, strict=False)):
        if why and size > most_whole_bytes:
            count, left_out = number, why
            break
    if left_out or all(whole[:count]):
        while count and whole[count - 1]:
            count -= 1
            left_out = left_out or whole[count]
    return count, left_out


def _checked(path: Path, descriptor: Descriptor, where: str) -> mmap.mmap:
    """A file of the node as memory that the kernel may take back. Raises OSError, ValueError, DigestMismatch."""
    with path.open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    with memoryview(mapped) as view:
        descriptor.digest.check(view, where=where)
    return mapped


def _copy(stream: Readable, file: IO[bytes], size: int) -> None:
    """At most ``size`` bytes."""
    buffer = memoryview(bytearray(BUFFER_BYTES))
    while size and (count := stream.readinto(buffer[:size])):
        file.write(buffer[:count])
        size -= count


class _Copying:
    """What is read goes into a file, too."""

    def __init__(self, stream: Readable, file: IO[bytes]) -> None:
        self._stream, self._file = stream, file

    def readinto(self, buffer: memoryview, /) -> int:
        """See Readable."""
        count = self._stream.readinto(buffer)
        self._file.write(buffer[:count])
        return count


def record_files(record: LayerRecord) -> Iterator[FileMetadata]:
    """The entries of a layer that was read. Global PAX headers are passed over, as containerd does. Raises
    LayerInvalid: one cannot be served, as sparse files of GNU tar."""
    try:
        for each in record.entries():
            yield file_metadata(each.position, each.size, without_global(each.blocks), where=record.digest)
    except LayerUnlisted as error:
        raise LayerInvalid(
            error.what.replace("cannot be indexed", "cannot be mounted"),
            where=error.where,
            do="Start the image with a container runtime, or build the layer again without such an entry",
        ) from error


__all__ = ["ImageTables", "LateTables", "LayerTable", "image_tables", "record_files", "vouched"]
