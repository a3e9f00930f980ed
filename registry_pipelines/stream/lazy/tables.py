"""The tables by which a node reads the layers of an image, from whoever is believed.

Of each layer, the first of these: what this node found when it read the whole layer (``LayerStore``); the table of an
eStargz layer, whose digest the image's own manifest names; the ztoc of a SOCI index that an indexer's key vouches for.
A layer with none of them is fetched whole, held against its digest and its diffID, and kept, and so is every layer of a
registry that sends no ranges; ``LayerTable.why`` says why.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from registry_pipelines.errors import (
    ContentError,
    DigestInvalid,
    DiskFull,
    IndexInvalid,
    LayerInvalid,
    Unavailable,
    Unsupported,
)
from registry_pipelines.evidence.model import Verifier
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.layer.record import LayerRecord
from registry_pipelines.oci.layer.store import LayerStore
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.oci.media_types import TOC_ANNOTATION
from registry_pipelines.progress import Progress, Silent
from registry_pipelines.registry.protocol import Place
from registry_pipelines.stream.lazy.blocks import BlockStore
from registry_pipelines.stream.lazy.chunked import chunk_pieces, toc_files
from registry_pipelines.stream.lazy.kept import KeptFiles
from registry_pipelines.stream.lazy.kept_tables import kept_toc
from registry_pipelines.stream.lazy.layer_table import FoundTable, LayerTable, Unread, record_files
from registry_pipelines.stream.lazy.merging import merge_layers
from registry_pipelines.stream.lazy.pieces import Pieces, SpanPieces, WholeLayer
from registry_pipelines.stream.lazy.signed_ztocs import SignedZtocs
from registry_pipelines.stream.lazy.tree import Tree
from registry_pipelines.stream.lazy.vouching import UNPROVEN
from registry_pipelines.stream.lazy.whole_layers import WholeLayers
from registry_pipelines.stream.left_out import unreadable
from registry_pipelines.stream.ranges import blob_ranges
from registry_pipelines.stream.toc import FileMetadata
from registry_pipelines.stream.ztoc import record_spans

MAX_KEPT_BYTES = 2 << 30
"""Of ztocs, and of trees: 1 % of 200 GB of layers."""

TREE_FORMAT = 2
"""Part of a kept tree's name; raised when the same layers merge to something else than before."""


@dataclass(frozen=True)
class ImageTables:
    """What is needed to serve an image."""

    tree: Tree
    layers: tuple[LayerTable, ...]
    """Base first, as the tree counts them."""
    left_out: str = ""
    """Why the tree lacks the layers above these; empty where there is none."""


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
        self._place, self._records, self._open_tables = place, records, open_tables
        self._waiting = folder / "tables"
        self._kept = KeptFiles(self._waiting, max_bytes=MAX_KEPT_BYTES)
        self._ztocs = SignedZtocs(place, image, verifier, self._kept)
        self._whole = WholeLayers(place, records, blocks, self._waiting, progress)
        self.own_tables_first = False
        self.proven: Callable[[], bool] | None = None
        self._is_proven: bool | None = None

    def all(
        self,
        layers: Sequence[tuple[Descriptor, Digest]],
        most_whole_bytes: int | None,
        promised: Callable[[int, str], object] | None = None,
    ) -> tuple[list[FoundTable], str]:
        """In the order of the layers; and why the last ones are not among them."""
        for layer, _ in layers:
            if refused := unreadable(layer):
                raise LayerInvalid(
                    f"the image cannot be mounted, for a layer cannot be read: {refused.detail}", where=self._at(layer)
                )
        here: dict[Digest, FoundTable] = {}
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
        found: list[FoundTable | Unread] = []
        for pair in layers:
            known = here.pop(pair[0].digest, None)
            one = known or (self._whole.known(*pair, unranged) if unranged else self._lazy(*pair))
            found.append(one)
            if isinstance(one, Unread) and most_whole_bytes is not None and one.layer.size > most_whole_bytes:
                break
        if most_whole_bytes is not None:
            whole = [each.why if isinstance(each, Unread) else "" for each in found]
            count, left_out = _how_many([layer.size for layer, _ in layers], whole, most_whole_bytes)
            del found[count:]
        return self._whole.fetch(found), left_out

    def _promise(
        self, layers: Sequence[tuple[Descriptor, Digest]], doubts: Sequence[str], promised: Callable[[], object]
    ) -> dict[Digest, FoundTable]:
        """Those that are fetched whole. What nobody vouches for is here before anything is promised: it may not be what
        it claims, and then other images would miss the layers that have its name. doubts: see :meth:`_doubt`."""
        whole = [Unread(*pair, why) for pair, why in zip(layers, doubts, strict=True) if why]
        here = self._whole.fetch([each for each in whole if each.layer.digest not in self._ztocs.held])
        promised()
        here += self._whole.fetch([each for each in whole if each.layer.digest in self._ztocs.held])
        self._ztocs.come(layer.digest for layer, diff_id in layers if not self._records.get(diff_id, layer.digest))
        return {each.table.digest: each for each in here}

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
        lacks = self._ztocs.lacks(layer.digest)
        return lacks and (why or lacks)

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
            found, why = self._ztocs.table(layer, where=self._at(layer))
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

    def _lazy(self, layer: Descriptor, diff_id: Digest) -> FoundTable | Unread:
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
            found, reason = self._ztocs.table(layer, where=self._at(layer))
            why = why or reason
        return found or Unread(layer, diff_id, why)

    def _recorded(self, layer: Descriptor, diff_id: Digest, record: LayerRecord) -> FoundTable | Unread:
        files = record_files(record)
        try:
            pieces = SpanPieces(record_spans(record), table=None, where=self._at(layer))
        except ContentError as error:
            return self._whole.known(layer, diff_id, error.what)
        return FoundTable(LayerTable(layer, pieces), files)

    def _chunked(self, layer: Descriptor) -> FoundTable | None:
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
        return FoundTable(LayerTable(layer, chunk_pieces(toc)), toc_files(toc))

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


__all__ = ["ImageTables", "LateTables", "image_tables"]
