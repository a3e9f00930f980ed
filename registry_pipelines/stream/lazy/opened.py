"""An image that is open on this node: its tree, its layers, and what fetches them; what ``fuse`` serves."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec.structs import replace

from registry_pipelines.errors import DigestInvalid, IndexInvalid, RegistryPipelinesError
from registry_pipelines.evidence.model import Verifier
from registry_pipelines.evidence.tagged import cosign_tag
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.media_types import TOC_ANNOTATION
from registry_pipelines.progress import Progress
from registry_pipelines.registry.protocol import Place
from registry_pipelines.stream.lazy.blocks import MAX_BYTES, BlockStore
from registry_pipelines.stream.lazy.filling import PATIENCE_S, Filler
from registry_pipelines.stream.lazy.fuse import READ_AHEAD_BYTES
from registry_pipelines.stream.lazy.image import NodeImage, image_for
from registry_pipelines.stream.lazy.kept_registry import Beside, kept_registry
from registry_pipelines.stream.lazy.lazy_layer import LazyLayer
from registry_pipelines.stream.lazy.notes import MountNote
from registry_pipelines.stream.lazy.pages_ahead import Brought, Came
from registry_pipelines.stream.lazy.serving import now_text
from registry_pipelines.stream.lazy.tree import Inode, Tree
from registry_pipelines.stream.lazy.vouching import UNPROVEN, vouched

if TYPE_CHECKING:  # loaded where it is used: a start from a pack needs no tables, one without needs no pack
    from registry_pipelines.oci.manifests import Descriptor
    from registry_pipelines.stream.hot.using import OpenPack, PackStream
    from registry_pipelines.stream.lazy.erofs import ReadyMetadata
    from registry_pipelines.stream.lazy.pieces import Pieces
    from registry_pipelines.stream.lazy.tables import LateTables


Promised = Callable[[NodeImage, int, str], Callable[[], object]]
"""Is told how many layers of an image are served before they can be, and why not all. What it gives waits until the
pull has asked its questions: before that nothing begins that keeps this process, or the network, busy."""


class OpenImage:
    """See the module; made by :func:`open_image`. For many threads. Numbers are those of its tree."""

    def __init__(
        self,
        image: NodeImage,
        tree: Tree,
        layers: Sequence[LazyLayer],
        filler: Filler,
        whole: Mapping[Digest, str],
        pack: PackStream | None = None,
        left_out: str = "",
    ) -> None:
        """layers: base first, as the tree counts them. whole: why layers were fetched whole, by digest; with a pack it
        grows while they are read. left_out: see ``tables.ImageTables``."""
        self.image, self.left_out = image, left_out
        self._pack = pack
        self.tree, self.layers = tree, layers
        self._filler, self._whole = filler, whole
        self.nodes, self.any_xattrs, self.content_bytes = tree.nodes, tree.any_xattrs, tree.content_bytes
        self.node, self.lookup, self.children, self.parent = tree.node, tree.lookup, tree.children, tree.parent

    @property
    def config(self) -> Mapping[str, Any] | None:
        """What the image's config says of how it is started."""
        return self.image.config.config

    def view(self, number: int, offset: int, size: int) -> memoryview | None:
        """Content of a file that is here; None: :meth:`read` waits for it."""
        inode = self.node(number)
        layer, position = self.layers[inode.layer], inode.position + offset
        return layer.view(position, size) if layer.holds(position, position + size) else None

    def read(self, number: int, offset: int, size: int) -> bytes:
        """Content of a file, fetched first. Raises the RegistryError family, IndexInvalid, LocalError."""
        inode = self.node(number)
        return self.layers[inode.layer].read(inode.position + offset, size)

    def soon(self, number: int, offset: int, size: int) -> None:
        """Content of a file will be read next: what is here of it comes from the disk."""
        inode = self.node(number)
        self.layers[inode.layer].soon(inode.position + offset, size)

    def unpacked(self, number: int) -> int | None:
        """A descriptor of a file that has the content of this one alone; None for none."""
        inode = self.node(number)
        return self.layers[inode.layer].unpacked(inode.position, inode.size)

    def unpack(self, number: int) -> bool:
        """Make such a file where all of the content is here and the store has room. Whether it is there now."""
        inode = self.node(number)
        return self._filler.has_room(inode.size) and self.layers[inode.layer].unpack(inode.position, inode.size)

    def place(self, number: int) -> tuple[int, int, int] | None:
        """See ``pages_ahead.Placed``."""
        inode = self.node(number)
        return (inode.layer, inode.position, inode.size) if stat.S_ISREG(inode.mode) and inode.size else None

    def metadata(self) -> ReadyMetadata | None:
        """See ``carriers.Lazy``."""
        return self._pack.metadata() if self._pack else None

    watched = None
    """See ``carriers.Lazy``."""

    @property
    def read_ahead_bytes(self) -> int:
        """See ``carriers.Lazy``."""
        return self._pack.read_ahead_bytes if self._pack else READ_AHEAD_BYTES

    @property
    def comes_ahead(self) -> bool:
        """See ``carriers.Lazy``."""
        return self._pack is not None

    @property
    def knows_gpus(self) -> bool:
        """Whether there is a hot pack of it that was recorded where a GPU was."""
        return self._pack is not None and self._pack.gpu

    def tell_ahead(self, came: Came, brought: Brought | None = None) -> None:
        """See ``carriers.Lazy``."""
        if self._pack is not None:
            self._pack.tell(came, brought)

    def find(self, path: str) -> int | None:
        """The number of what stands under a path, no link followed; None for nothing."""
        return self.tree.find(b"" if path == "." else os.fsencode(path))

    def kinds(self, path: str) -> tuple[int, int, int] | None:
        """Mode, user and group of what stands under a path of the tree, no link followed; None for nothing."""
        number = self.find(path)
        if number is None:
            return None
        inode: Inode = self.tree.node(number)
        return inode.mode, inode.uid, inode.gid

    def fill_rest(self) -> None:
        """Fetch the rest, too, when nobody waits for anything."""
        self._filler.start_background(self._pack.join if self._pack else None)

    def note(self, target: str, folder: Path) -> MountNote:
        """What is told of it when it is mounted on a folder."""
        return MountNote(
            image=target,
            digest=self.image.descriptor.digest,
            folder=str(folder.absolute()),
            process=os.getpid(),
            since=now_text(),
            size_bytes=self._filler.total_bytes,
            pack=self._pack.digest if self._pack else "",
            **self._how(),
        )

    def _how(self) -> dict[str, Any]:
        """How the layers are read, as of now."""
        whole = dict(self._whole)
        return {
            "lazy": bool(self._pack) or len(whole) < len(self.layers),
            "layers_lazy": len(self.layers) - len(whole),
            "layers_whole": len(whole),
            "reasons": [f"{digest[:19]} was fetched whole: {why}" for digest, why in whole.items()],
        }

    def count(self, note: MountNote) -> MountNote:
        """The same with its counters as of now."""
        counts = self._filler.counts
        return replace(
            note,
            filled_bytes=self._filler.filled_bytes,
            fetched_bytes=counts.pack.bytes + counts.demand.bytes + counts.background.bytes,
            pack_bytes=counts.pack.bytes,
            demand_bytes=counts.demand.bytes,
            background_bytes=counts.background.bytes,
            requests=counts.pack.requests + counts.demand.requests + counts.background.requests,
            stalls=counts.stalls,
            waiting=counts.waiting,
            stalled_s=round(counts.stall_s, 3),
            **self._how(),
        )


@contextmanager
def open_image(
    place: Place,
    selector: str,
    *,
    state: Path,
    verifier: Verifier | None = None,
    use_pack: bool = True,
    log: Callable[[str], object],
    progress: Progress | None = None,
    patience_s: float = PATIENCE_S,
    lowest: int | None = None,
    most_whole_bytes: int | None = None,
    store_bytes: int = MAX_BYTES,
    proven: Callable[[], bool] | None = None,
    ahead: bool = True,
    as_erofs: bool = False,
    promised: Promised | None = None,
    beside: Beside | None = None,
) -> Iterator[OpenImage]:
    """An image of this machine's platform, while the context lasts; nobody may be forked meanwhile.

    selector: tag or digest. state: the folder with what this node keeps (``lazy``, and records of layers). verifier:
    whose indexes and hot packs are believed; None for nobody's. use_pack: with a believed hot pack nothing else is
    fetched before the image is open. log: is told in one line what a person must know. patience_s: how long a reader
    waits for a registry that gives nothing. lowest: of the layers only so many from the base on, without a pack, which
    has all. most_whole_bytes, proven, promised: see :func:`~registry_pipelines.stream.lazy.tables.image_tables`; of an
    image with a pack all layers are promised once it is known who signed that, and it is read then. ahead: what a pack
    has comes at once; else nobody may read of the image. as_erofs: the kernel will read it by itself. store_bytes: of
    all layers on the disk. beside: see :func:`~registry_pipelines.stream.lazy.kept_registry.kept_registry`.

    Raises what :func:`image_for` and ``tables.image_tables`` do.
    """
    folder = state / "lazy"
    store = BlockStore(folder / "blocks", max_bytes=store_bytes)
    kept = Place(kept_registry(place.registry, folder / "manifests", log, beside), place.repository)
    finding = _FindingPack(kept, verifier if use_pack and lowest is None else None, log)
    early = _AskedEarly(kept)
    with suppress(DigestInvalid):  # mostly that of the manifest, so nobody waits for it to ask what refers to it
        digest = Digest.parse(selector)
        finding.begin(digest)
        if promised is not None and verifier is not None:
            early.begin(digest)
    image = image_for(kept, selector, seen=finding.begin)
    wait: Callable[[], object] = _at_once
    if promised is not None and not _has_own_tables(image) and finding.is_vouched():
        wait = promised(image, len(image.layers), "")
        promised = most_whole_bytes = None  # where the pack cannot be used after all, layers are read as without one
    pack = finding.wait(image)
    if pack is not None and proven is not None and any(layer.table for layer in pack.head.layers) and not proven():
        log(f"the hot pack is not used, for a layer is read by its own table: {UNPROVEN}")
        pack = None
    with Filler(place, store, log=log, patience_s=patience_s) as filler:
        if pack is not None and verifier is not None:
            whole: dict[Digest, str] = {}
            tables_at = Place(kept_registry(filler.place.registry, folder / "manifests", log), place.repository)
            late = _Late(tables_at, image, state, store, verifier, whole.__setitem__)
            stream = _with_pack(pack, image, filler, late, store, verifier, log)
            if ahead:
                if as_erofs and stream.frames:
                    stream.ask_metadata()
                wait()
                stream.start()
            try:
                yield OpenImage(image, pack.tree, stream.layers, filler, whole, stream)
            finally:
                stream.close()
            return
        from registry_pipelines.oci.layer.store import LayerStore
        from registry_pipelines.stream.lazy.tables import image_tables

        early.wait()
        wait()
        tables = image_tables(
            kept,
            image.descriptor.digest,
            image.layers[:lowest],
            verifier=verifier,
            records=LayerStore(state / "layers"),
            blocks=store,
            folder=folder,
            progress=progress,
            most_whole_bytes=most_whole_bytes,
            proven=proven,
            promised=(lambda count, why: promised(image, count, why)()) if promised is not None else None,
        )
        layers = [filler.open(table.digest, table.pieces, table=table.voucher) for table in tables.layers]
        whole = {table.digest: table.why for table in tables.layers if table.why}
        yield OpenImage(image, tables.tree, layers, filler, whole, left_out=tables.left_out)


def _with_pack(
    pack: OpenPack,
    image: NodeImage,
    filler: Filler,
    late: _Late,
    store: BlockStore,
    verifier: Verifier,
    log: Callable[[str], object],
) -> PackStream:
    """Open the layers, and what brings the frames that the node lacks."""
    from registry_pipelines.stream.hot.using import PackStream

    layers = [
        filler.open_late(
            told.digest,
            told.size,
            partial(late.pieces, layer, diff_id, told.table, told.size),
            table=vouched(verifier, told.table),
        )
        for told, (layer, diff_id) in zip(pack.head.layers, image.layers, strict=True)
    ]
    stream = PackStream(filler.place, pack, layers, store, count=filler.counts.pack, log=log)
    for number in range(len(layers)):
        if ahead := stream.of_layer(number):
            filler.expect(number, ahead)
    return stream


class _Late(msgspec.Struct):
    """How layers are read, found when something is read that a pack lacks."""

    place: Place
    image: NodeImage
    state: Path
    store: BlockStore
    verifier: Verifier
    told: Callable[[Digest, str], object]
    _lock: threading.Lock = msgspec.field(default_factory=threading.Lock)
    _tables: LateTables | None = None

    def pieces(self, layer: Descriptor, diff_id: Digest, table: Digest | None, size: int) -> Pieces:
        """See ``LateTables.pieces``."""
        with self._lock:
            if self._tables is None:
                self._tables = self._open()
        return self._tables.pieces(layer, diff_id, table, size)

    def _open(self) -> LateTables:
        from registry_pipelines.oci.layer.store import LayerStore
        from registry_pipelines.stream.lazy.tables import LateTables

        return LateTables(
            self.place,
            self.image.descriptor.digest,
            verifier=self.verifier,
            records=LayerStore(self.state / "layers"),
            blocks=self.store,
            folder=self.state / "lazy",
            told=self.told,
        )


def _at_once() -> None:
    """Nobody is waited for."""


def _has_own_tables(image: NodeImage) -> bool:
    """Whether a layer may be read by a table of its own (eStargz): a pack cut by such ones proves nothing of it."""
    return any(TOC_ANNOTATION in (layer.annotations or {}) for layer in image.manifest.layers)


class _AskedEarly:
    """Asks for the tag where attestations of an index may be, too, while other things are asked that a pull waits for:
    what the registry says is known when it is looked at (``kept_registry``)."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._thread: threading.Thread | None = None

    def begin(self, image: Digest) -> None:
        """In a thread."""
        self._thread = threading.Thread(target=self._ask, args=(cosign_tag(image, "att"),), name="early", daemon=True)
        self._thread.start()

    def _ask(self, tag: str) -> None:
        with suppress(RegistryPipelinesError):  # it is said by who needs it, and asks again
            self._place.registry.get_manifest(self._place.repository, tag)

    def wait(self) -> None:
        """Until that is known."""
        if self._thread is not None:
            self._thread.join()


class _FindingPack:
    """Looks for a pack while the image's config is read."""

    def __init__(self, place: Place, verifier: Verifier | None, log: Callable[[str], object]) -> None:
        self._place, self._verifier, self._log = place, verifier, log
        self._thread: threading.Thread | None = None
        self._image: Digest | None = None
        self._said: list[str] = []
        self._found: OpenPack | None = None
        self._vouched, self._is_vouched = threading.Event(), False

    def begin(self, image: Digest) -> None:
        """In a thread; again where it turns out to be another one."""
        if self._verifier is not None and image != self._image:
            if self._thread is not None:
                self._thread.join()
            self._image, self._found, self._said = image, None, []
            self._vouched.clear()
            self._is_vouched = False
            self._thread = threading.Thread(target=self._find, args=(image,), name="pack", daemon=True)
            self._thread.start()

    def _find(self, image: Digest) -> None:
        from registry_pipelines.stream.hot.using import open_pack

        try:
            log = self._said.append
            self._found = open_pack(self._place, image, self._verifier, log=log, vouched=self._believe)
        finally:
            self._vouched.set()

    def _believe(self) -> None:
        self._is_vouched = True
        self._vouched.set()

    def is_vouched(self) -> bool:
        """Whether there is a pack of the image that an indexer signed, whatever comes of reading it."""
        if self._thread is not None:
            self._vouched.wait()
        return self._is_vouched

    def wait(self, image: NodeImage) -> OpenPack | None:
        """What was found, and fits the image; what went wrong is said now, for an image that can be read."""
        if self._thread is None:
            return None
        self._thread.join()
        for line in self._said:
            self._log(line)
        if self._found is None:
            return None
        try:
            self._found.check_fits(image.manifest)
        except IndexInvalid as error:
            self._log(f"the hot pack is not used: {error}")
            return None
        return self._found
