"""An image that this node serves before it is fetched: one tree, one mount and one page cache, however many containers
and layers ask for it."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, suppress
from pathlib import Path
from typing import NamedTuple

import msgspec

from registry_pipelines.errors import ContentError, NotFound, RegistryPipelinesError, Unavailable
from registry_pipelines.node.recording import StartRecorder
from registry_pipelines.oci.decoding import ready
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import encode_json
from registry_pipelines.progress import count_text
from registry_pipelines.stream.lazy.carriers import Kind
from registry_pipelines.stream.lazy.fanotify_wire import is_read
from registry_pipelines.stream.lazy.fuse_memory import ENDED
from registry_pipelines.stream.lazy.guard import TakenOver
from registry_pipelines.stream.lazy.image import NodeImage
from registry_pipelines.stream.lazy.keeping import Keep, Keeping, Kept, is_over
from registry_pipelines.stream.lazy.mounting import EROFS_KIND, absolute, check_folder, end_mount, mounts
from registry_pipelines.stream.lazy.opened import OpenImage, Promised
from registry_pipelines.stream.lazy.serving import Mounted

Open = Callable[[int | None, Promised | None], AbstractContextManager[OpenImage]]
"""Opens the image with so many layers from the base on, whatever has to be fetched whole for it; None: with those that
can be read by pieces, of which somebody may be told before (``opened.Promised``)."""

QUIET_S, PULL_S = 0.1, 2.0
"""Tables of layers are fetched and merged, and frames of a hot pack fetched, once the pull of a promised image asked
for nothing for so long, and so long after the promise at most: meanwhile it asks for layer after layer, Python does one
thing at a time, and a busy machine answers late."""

OPEN_S = 100.0
"""How long a container waits for the tree of an image that was promised; kubelet asks for two minutes."""


class Left(msgspec.Struct, frozen=True):
    """What a next agent must know of a mount, to serve it on."""

    reference: str
    digest: str
    layers: int
    """How many are in its tree."""
    folder: str
    tree: str
    """Digest of the tree: the kernel knows its files by their numbers."""


class Found(NamedTuple):
    """A mount that a former agent left: by FUSE (kept), or watched by fanotify (taken)."""

    left: Left | None
    """None: this program does not understand what was told of it."""
    ended: bool
    """Its name was taken away, and containers use it still."""
    kept: Kept | None = None
    taken: TakenOver | None = None

    @property
    def is_over(self) -> bool:
        """Whether nobody has the mount any more, named or not."""
        if self.kept is not None:
            return is_over(self.kept.device)
        return self.taken is not None and not is_read(self.taken.held.data)

    def drop(self, keeping: Keeping) -> None:
        """Let go of one that is over."""
        if self.kept is not None:
            keeping.drop(self.kept.name)
            os.close(self.kept.device)
            self.kept.memory.close()
        if self.taken is not None:
            self.taken.end(None)


def left_by_fuse(kept: Kept) -> Found:
    """See :class:`Found`."""
    return Found(_left(kept.memory.told), bool(kept.memory.flags & ENDED), kept)


def left_by_fanotify(taken: TakenOver) -> Found:
    """Likewise."""
    left, data = _left(taken.told.encode()), os.fstat(taken.held.data)
    named = False
    for each in mounts():
        if left is not None and each.kind == EROFS_KIND and each.folder == absolute(Path(left.folder)):
            with suppress(OSError):
                named = os.path.samestat(Path(each.source).stat(), data)
    return Found(left, not named, taken=taken)


def _left(told: bytes) -> Left | None:
    try:
        return msgspec.json.decode(told, type=ready(Left))
    except msgspec.MsgspecError:
        return None


def _file_of(folder: Path) -> str:
    real = absolute(folder)
    sources = (each.source for each in mounts() if each.kind == EROFS_KIND and each.folder == real)
    return next((str(Path(each).parent) for each in sources), "")


class Around(NamedTuple):
    """What all images of an agent share. mounted: all that is. carrier: of what is mounted from now on."""

    notes: Path
    log: Callable[[str], object]
    keeping: Keeping
    mounted: set[Mounted]
    carrier: Kind = "fuse"


class _Tree:
    """The tree of some layers, open, and mounted once it is asked for."""

    def __init__(self, opened: AbstractContextManager[OpenImage]) -> None:
        self._stack = ExitStack()
        self.image = self._stack.enter_context(opened)
        self._mounted: Mounted | None = None
        self._folder: Path | None = None
        self.file = ""
        """Folder of the file that the kernel mounted, as ``BackingStore`` names it; empty for none."""
        self._filling = False

    @property
    def lost(self) -> bool:
        """Whether it was mounted, and somebody else unmounted it."""
        return self._mounted is not None and self._mounted.gone

    def mount(
        self,
        reference: str,
        folder: Path,
        around: Around,
        *,
        fill: bool,
        recorder: StartRecorder | None = None,
        found: Found | None = None,
    ) -> Path:
        """Where it is mounted, from now on. recorder: of its first start, before anything fills it. found: it is
        mounted already. Raises LocalError, InputError, ToolMissing."""
        if self._mounted is None:
            carrier: Kind = around.carrier
            if found is None:
                check_folder(folder)
            else:
                carrier = "fanotify" if found.taken else "fuse"
            note = self.image.note(reference, folder)
            left = Left(reference, note.digest, len(self.image.layers), str(folder), self.image.tree.digest)
            keep = Keep(around.keeping, encode_json(left), found.kept if found else None)
            watched = recorder.watch(self.image, reference) if recorder else None
            shown = watched or self.image
            mounted = self._mounted = self._stack.enter_context(
                Mounted(
                    shown,
                    folder,
                    around.notes,
                    note,
                    self.image.count,
                    carrier=carrier,
                    log=around.log,
                    taken=found.taken if found else None,
                    keep=keep,
                )
            )
            if found is not None and found.ended:
                mounted.detached()
            if carrier != "fuse" and mounted.note.carrier == "fuse":
                around.log(f"{reference} is mounted by FUSE: {mounted.note.carrier_why}")
            around.mounted.add(mounted)
            self._stack.callback(around.mounted.discard, mounted)
            self._folder = folder
            if mounted.note.carrier != "fuse":
                self.file = _file_of(folder)
            if found is not None and not found.ended:  # whoever had it may have recorded its start
                mounted.read_ahead()
            if recorder and watched:
                recorder.begin(watched, mounted, reference, self.fill if fill else lambda: None)
            elif fill:
                self.fill()
        return folder

    def fill(self) -> None:
        """Fetch the rest of it, too, from now on, where it is mounted."""
        if self._mounted is not None and not self._filling:
            self._filling = True
            self._mounted.fill_rest()

    def end(self) -> None:
        """Take the mount away; who has files of it open is served on until it closes them."""
        if self._mounted is None or self._folder is None:
            self._stack.close()
            return
        self._mounted.detached()  # first: who takes it over must not take it for one that has a name
        end_mount(self._folder)
        with suppress(OSError):
            self._folder.rmdir()
        self.close_later()

    def close_later(self) -> None:
        """Its name is gone: once nobody uses it any more."""
        threading.Thread(target=self._close_later, args=(self._mounted,), name="tree_end", daemon=True).start()

    def _close_later(self, mounted: Mounted) -> None:
        mounted.wait()
        self._stack.close()

    def leave(self) -> None:
        """At the end of the process: let go of the image."""
        self._stack.close()

    def close(self) -> None:
        """At the end of the process: who still reads gets an error."""
        self._stack.close()
        if self._folder is not None:
            with suppress(OSError):
                self._folder.rmdir()


class ServedImage:
    """See the module, and ``lazy_images.LazyImage``. It serves nothing before :meth:`open`. For many threads."""

    def __init__(
        self,
        reference: str,
        digest: Digest,
        open_layers: Open,
        *,
        folder: Path,
        around: Around,
        fill: bool,
        ended: Callable[[ServedImage], object],
        unfit: Callable[[ServedImage, ContentError], object],
        recorder: StartRecorder | None = None,
        before: int = 0,
    ) -> None:
        """reference: as the runtime pulled it. digest: of its manifest. folder: for the folders that it is mounted on.
        fill: also fetch what nobody reads, from the first mount on. ended: is told of :meth:`release`. unfit: is told
        where it was promised and cannot be mounted by what it is. recorder: of the first start of the whole image.
        before: so many layers were served before; snapshots may stand on them, so they are served again.
        """
        self.digest = digest
        self.reference, self._open, self._folder, self._around = reference, open_layers, folder, around
        self._fill, self._ended, self._unfit, self._lock = fill, ended, unfit, threading.Lock()
        self._recorder, self._served = recorder, before
        self._chain: tuple[Digest, ...] = ()
        self.folders: tuple[str, ...] = ()
        """Where what is fetched of the layers goes, as ``BlockStore`` names it; nothing while it is only promised."""
        self.files: set[str] = set()
        """Folders of files that were made of them for the kernel, likewise (``_Tree.file``)."""
        self._trees: dict[int, _Tree] = {}
        self.left_out = ""
        self._is_open, self._over = threading.Event(), False
        self._hurry, self._asked_at = threading.Event(), 0.0
        """Set where nobody is to wait for the end of a pull; and when the pull asked last, in monotonic seconds."""

    def open(self, promised: Callable[[], object] | None = None, opened: Callable[[], object] = lambda: None) -> None:
        """Read what it is. promised: is told once it is known which layers are served, where that is before they can
        be: then :meth:`mount` waits. opened: is told at the end, unless it was released meanwhile.

        Raises what ``opened.open_image`` does; of one that was promised :meth:`mount` tries again.
        """
        told = False

        def promise(image: NodeImage, count: int, left_out: str) -> Callable[[], object]:
            nonlocal told
            self._tell(image, count, left_out)
            if promised is not None:
                told = True
                self.asked()
                promised()
            return self._let_pull_go_on

        try:
            first = _Tree(self._open(None, promise if promised is not None else None))
            with self._lock:
                if self._over:
                    first.close()
                    return
                if not told:
                    self._tell(first.image.image, len(first.image.layers), first.image.left_out)
                self.folders = tuple(str(layer.folder) for layer in first.image.layers)
                self._trees[len(first.image.layers)] = first
                opened()
        except RegistryPipelinesError as error:
            if self._over:  # it was removed, and nobody wants it any more
                return
            if told and isinstance(error, ContentError):
                self._unfit(self, error)
            raise
        finally:
            self._is_open.set()

    def asked(self, chain_id: str = "") -> None:
        """A pull asked for one of its layers; behind the topmost one it asks for no more."""
        self._asked_at = time.monotonic()
        if self._chain and chain_id == self._chain[-1]:
            self._hurry.set()

    def _let_pull_go_on(self) -> None:
        end = time.monotonic() + PULL_S
        while (left_s := min(self._asked_at + QUIET_S, end) - time.monotonic()) > 0 and not self._hurry.wait(left_s):
            pass
        if self._over:
            raise Unavailable("the image is not served any more", where=self.name)

    def _tell(self, image: NodeImage, count: int, left_out: str) -> None:
        self._chain, self.left_out = image.config.chain_ids, left_out
        self._served = min(max(self._served, count), len(self._chain))

    @property
    def name(self) -> str:
        """See LazyImage."""
        return f"{self.reference}@{self.digest}"

    @property
    def layers(self) -> tuple[Digest, ...]:
        """See LazyImage."""
        return self._chain[: self._served]

    @property
    def told(self) -> str:
        """What is served, for a person."""
        if self._served == len(self._chain):
            return f"{self.name} is served before it is fetched"
        return f"{self._served} of {count_text(len(self._chain), 'layer')} of {self.name} are served: {self.left_out}"

    def mount(self, chain_id: str) -> Path:
        """See LazyImage."""
        if chain_id not in self.layers:
            raise NotFound(f"the image serves no layer {chain_id}", where=self.name)
        count = self.layers.index(Digest(chain_id)) + 1
        self._hurry.set()
        if not self._is_open.wait(OPEN_S):
            raise Unavailable(
                "what says how its layers are read is still on its way", where=self.name, do="Start the container again"
            )
        with self._lock:
            if self._over:
                raise Unavailable("the image is not served any more", where=self.name, do="Pull it again")
            tree = self._trees.get(count)
            if tree is not None and tree.lost:
                del self._trees[count]
                tree.close()
                tree = None
            if tree is None:
                tree = self._trees[count] = self._opened(count)
            where = self._folder / f"{self.digest.hex}-{count}"
            try:
                recorder = self._recorder if count == len(self._chain) else None
                found = tree.mount(self.reference, where, self._around, fill=self._fill, recorder=recorder)
                self.files |= {tree.file} - {""}
                return found
            except RegistryPipelinesError:
                del self._trees[count]
                tree.close()
                raise

    def _opened(self, count: int) -> _Tree:
        try:
            return _Tree(self._open(count, None))
        except ContentError as error:
            self._unfit(self, error)
            raise

    def fill(self) -> None:
        """Fetch what nobody reads, too, of what is mounted now."""
        with self._lock:
            for tree in self._trees.values():
                tree.fill()

    def release(self) -> None:
        """See LazyImage."""
        with self._lock:
            for tree in self._end():
                tree.end()
            self._ended(self)

    def resume(self, found: Found, left: Left) -> bool:
        """Serve on what a former agent left mounted. False: the tree is another one now, which the kernel would take
        for the same. Raises what ``opened.open_image`` does, LocalError."""
        ended = found.ended
        with self._lock:
            tree = self._fitting(left, ended=ended)
            if tree is None:
                return False
            tree.mount(left.reference, Path(left.folder), self._around, fill=self._fill and not ended, found=found)
            self.files |= {tree.file} - {""}
            if ended:
                tree.close_later()
            else:
                self._trees[left.layers] = tree
        return True

    def _fitting(self, left: Left, *, ended: bool) -> _Tree | None:
        first = self._trees.get(left.layers)
        if not ended and first is not None and first.image.tree.digest == left.tree:
            return first
        for count in (None, left.layers):  # by a pack, or without
            tree = _Tree(self._open(count, None))
            if len(tree.image.layers) == left.layers and tree.image.tree.digest == left.tree:
                return tree
            tree.close()
        return None

    def let_go(self) -> None:
        """Nothing is made of it, and what it serves of a former agent ends by itself."""
        self.close()

    def leave(self) -> None:
        """At the end of the process: what is mounted stays, and the next process serves it. It was left already
        (``Mounted.leave``)."""
        with self._lock:
            for tree in self._end():
                tree.leave()

    def close(self) -> None:
        """At the end of the process: what is mounted is unmounted."""
        with self._lock:
            for tree in self._end():
                tree.close()

    def _end(self) -> list[_Tree]:
        """Nothing more is made of it. Hold the lock."""
        self._over = True
        self._hurry.set()
        self._is_open.set()
        trees, self._trees = list(self._trees.values()), {}
        return trees
