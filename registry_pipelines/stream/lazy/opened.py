"""An image that is open on this node: its tree, its layers, and what fetches them; what ``fuse`` serves."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from registry_pipelines.evidence.model import Verifier
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.layer.store import LayerStore
from registry_pipelines.progress import Progress
from registry_pipelines.registry.protocol import Place
from registry_pipelines.stream.lazy.blocks import BlockStore, LazyLayer
from registry_pipelines.stream.lazy.filling import PATIENCE_S, Filler
from registry_pipelines.stream.lazy.image import NodeImage, image_for
from registry_pipelines.stream.lazy.notes import MountNote
from registry_pipelines.stream.lazy.serving import now_text
from registry_pipelines.stream.lazy.tables import image_tables
from registry_pipelines.stream.lazy.tree import Inode, Tree


class OpenImage:
    """See the module; made by :func:`open_image`. For many threads. Numbers are those of its tree."""

    def __init__(
        self, image: NodeImage, tree: Tree, layers: Sequence[LazyLayer], filler: Filler, whole: Mapping[Digest, str]
    ) -> None:
        """layers: base first, as the tree counts them. whole: why layers were fetched whole, by digest."""
        self.image = image
        self._tree, self._layers, self._filler, self._whole = tree, layers, filler, whole
        self.nodes, self.any_xattrs, self.content_bytes = tree.nodes, tree.any_xattrs, tree.content_bytes
        self.node, self.lookup, self.children, self.parent = tree.node, tree.lookup, tree.children, tree.parent

    @property
    def config(self) -> Mapping[str, Any] | None:
        """What the image's config says of how it is started."""
        return self.image.config.config

    def view(self, number: int, offset: int, size: int) -> memoryview | None:
        """Content of a file that is here; None: :meth:`read` waits for it."""
        inode = self.node(number)
        layer, position = self._layers[inode.layer], inode.position + offset
        return layer.view(position, size) if layer.holds(position, position + size) else None

    def read(self, number: int, offset: int, size: int) -> bytes:
        """Content of a file, fetched first. Raises the RegistryError family, IndexInvalid, LocalError."""
        inode = self.node(number)
        return self._layers[inode.layer].read(inode.position + offset, size)

    def find(self, path: str) -> int | None:
        """The number of what stands under a path, no link followed; None for nothing."""
        return self._tree.find(b"" if path == "." else os.fsencode(path))

    def kinds(self, path: str) -> tuple[int, int, int] | None:
        """Mode, user and group of what stands under a path of the tree, no link followed; None for nothing."""
        number = self.find(path)
        if number is None:
            return None
        inode: Inode = self._tree.node(number)
        return inode.mode, inode.uid, inode.gid

    def fill_rest(self) -> None:
        """Fetch the rest, too, when nobody waits for anything."""
        self._filler.start_background()

    def note(self, target: str, folder: Path) -> MountNote:
        """What is told of it when it is mounted on a folder."""
        return MountNote(
            image=target,
            digest=self.image.descriptor.digest,
            folder=str(folder.absolute()),
            process=os.getpid(),
            since=now_text(),
            lazy=len(self._whole) < len(self._layers),
            layers_lazy=len(self._layers) - len(self._whole),
            layers_whole=len(self._whole),
            reasons=[f"{digest[:19]} was fetched whole: {why}" for digest, why in self._whole.items()],
            size_bytes=self._filler.total_bytes,
        )

    def count(self, note: MountNote) -> MountNote:
        """The same with its counters as of now."""
        counts = self._filler.counts
        return replace(
            note,
            filled_bytes=self._filler.filled_bytes,
            fetched_bytes=counts.demand.bytes + counts.background.bytes,
            demand_bytes=counts.demand.bytes,
            requests=counts.demand.requests + counts.background.requests,
            stalls=counts.stalls,
            stalled_s=round(counts.stall_s, 3),
        )


@contextmanager
def open_image(
    place: Place,
    selector: str,
    *,
    state: Path,
    verifier: Verifier | None = None,
    log: Callable[[str], object],
    progress: Progress | None = None,
    patience_s: float = PATIENCE_S,
) -> Iterator[OpenImage]:
    """An image of this machine's platform, while the context lasts; nobody may be forked meanwhile.

    selector: tag or digest. state: the folder with what this node keeps (``lazy``, and records of layers). verifier:
    whose indexes are believed; None for nobody's. log: is told in one line what a person must know. patience_s: how
    long a reader waits for a registry that gives nothing.

    Raises what :func:`image_for` and ``tables.image_tables`` do.
    """
    image = image_for(place, selector)
    folder = state / "lazy"
    store = BlockStore(folder / "blocks")
    tables = image_tables(
        place,
        image.descriptor.digest,
        image.layers,
        verifier=verifier,
        records=LayerStore(state / "layers"),
        blocks=store,
        folder=folder,
        progress=progress,
    )
    with Filler(place, store, log=log, patience_s=patience_s) as filler:
        layers = [filler.open(table.digest, table.pieces) for table in tables.layers]
        whole = {table.digest: table.why for table in tables.layers if table.why}
        yield OpenImage(image, tables.tree, layers, filler, whole)
