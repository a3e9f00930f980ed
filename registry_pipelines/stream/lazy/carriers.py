"""What brings a mounted image to its readers: FUSE, or the kernel itself, which asks before it reads (``fanotify``).

FUSE is the default: it fails closed whatever is killed. Where neither is to be had, all is fetched first.
"""

from __future__ import annotations

import os
import shutil
import threading
import uuid
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol, TypedDict

from registry_pipelines.errors import InputError, LocalError, RegistryPipelinesError
from registry_pipelines.progress import size_text
from registry_pipelines.stream.lazy import mounting
from registry_pipelines.stream.lazy.fuse import READ_AHEAD_BYTES, WHOLE_READ_AHEAD_BYTES, FuseServer, Served
from registry_pipelines.stream.lazy.fuse_memory import ENDED, Memory
from registry_pipelines.stream.lazy.mounting import (
    EROFS_KIND,
    absolute,
    check_folder,
    end_mount,
    mount_fuse,
    set_read_ahead,
    unmount,
)
from registry_pipelines.stream.lazy.notes import read_notes
from registry_pipelines.stream.lazy.pages_ahead import PAGE_BYTES, Extents, Placed
from registry_pipelines.stream.lazy.passthrough import Copies

if TYPE_CHECKING:
    from concurrent.futures import Future

    # FUSE needs no file of EROFS and no holder: loaded where they are used
    from registry_pipelines.stream.lazy.backing import BackingFile, BackingStore
    from registry_pipelines.stream.lazy.blocks import LazyLayer
    from registry_pipelines.stream.lazy.erofs import ReadyMetadata
    from registry_pipelines.stream.lazy.guard import TakenOver
    from registry_pipelines.stream.lazy.keeping import Keep
    from registry_pipelines.stream.lazy.mount_ahead import MountAhead
    from registry_pipelines.stream.lazy.tree import Tree

Kind = Literal["fuse", "fanotify", "auto"]

KEPT = "node-holders"
"""Below what a node keeps of lazy images: the sockets of mounts that an agent takes over (``guard.take_all``)."""

LOOK_EVERY_S = 0.5
READY_S = 10.0
"""How long the kernel may take to ask for the first time: it does at once."""
_NAMES_TOLD = 5


class Lazy(Served, Copies, Placed, Protocol):
    """An image that any carrier can serve."""

    @property
    def tree(self) -> Tree: ...  # noqa: D102
    @property
    def layers(self) -> Sequence[LazyLayer]:
        """Base first, as the tree counts them."""
        ...

    def fill_rest(self) -> None:
        """Fetch the rest, too, when nobody waits for anything."""
        ...

    def metadata(self) -> ReadyMetadata | None:
        """The tree as EROFS, where somebody believed made it; None: it is to be made."""
        ...

    @property
    def watched(self) -> Callable[[int, int, int], object] | None:
        """Who wants to know which layer, position and size the kernel asks for, for now: then it asks for single pages.
        A FUSE mount asks by ``view``, and tells this nothing. None: nobody."""
        ...

    @property
    def comes_ahead(self) -> bool:
        """Whether bytes come that nobody asked for: those of a hot pack."""
        ...

    def tell_ahead(self, came: Callable[[int, Extents], object]) -> None:
        """Have it told, from any thread, which bytes of a layer are here of those that come ahead: first those that are
        already, then the others as they come. Where :attr:`comes_ahead`."""
        ...


class Where(NamedTuple):
    """Where an image is mounted."""

    folder: Path
    name: str
    """What `df` shows of a FUSE mount."""
    lazy: Path
    """The folder with what this node keeps of lazy images."""
    below: Path | None = None
    """A folder that is gone with the mount, and whose mounts only this process and its program see."""
    keep: Keep | None = None
    """How the mount of an agent outlives it, and where another one left it by FUSE; None: it ends with this process, or
    who mounts on its folder takes it over."""


class Told(NamedTuple):
    """What is told of a carrier."""

    carrier: str
    why: str = ""
    copied_bytes: int = 0


class Carrier(Protocol):
    """A mount, while it lasts."""

    @property
    def failed_reads(self) -> int:
        """Reads that ended with EIO."""
        ...

    @property
    def told(self) -> Told:
        """As of now."""
        ...

    def run(self) -> None:
        """Serve until nobody has the mount any more. Blocks."""
        ...

    def hold(self) -> None:
        """Behind the begin of :meth:`run`: from now on the mount outlives this process, where it is to."""
        ...

    def fill_rest(self) -> None:
        """What is fetched will be complete."""
        ...

    def read_far_ahead(self) -> None:
        """All is on this node from now on."""
        ...

    def end(self) -> None:
        """Unmount it. Safe to call twice."""
        ...

    def detached(self) -> None:
        """Its name was taken away; it lasts as long as anybody uses it."""
        ...

    def abandon(self) -> None:
        """Behind :meth:`detached`, at the end of the process: who still uses it gets errors. By FUSE it is the keeper
        of all mounts that is told so."""
        ...

    def leave(self) -> None:
        """Serve no more, and let the mount be: another process takes it over from whoever keeps it. What is read
        meanwhile waits. Where nobody keeps it, it is as if this process had been killed."""
        ...

    def close(self) -> None:
        """Let it go, behind :meth:`run`."""
        ...


def free_folder(folder: Path, lazy: Path, *, take: bool = True) -> TakenOver | None:
    """That something can be mounted on a folder, which is made. What a killed process of ours left there is taken over
    (``take``), where there is a holder, and else taken away. Raises InputError, LocalError."""
    real = absolute(folder)
    if _is_erofs(real, lazy / "backing"):
        if any(each.alive and absolute(Path(each.note.folder)) == real for each in read_notes(lazy / "mounts")):
            raise InputError(
                "an image is mounted there already", where=str(folder), do=f"Unmount it: `umount {folder}`"
            )
        from registry_pipelines.stream.lazy.guard import find_holder

        taken = find_holder(real, lazy / "holders", take=take)
        if taken is not None or not take:
            return taken
        with suppress(OSError):  # never watched again: readers may have seen what is not there
            unmount(real, detach=True)
    check_folder(folder)
    return None


def _is_erofs(folder: Path, files: Path) -> bool:
    """Whether a file below ``files`` is mounted there."""
    found = [each for each in mounting.mounts() if each.folder == folder]
    return bool(found) and found[-1].kind == EROFS_KIND and Path(found[-1].source).is_relative_to(files.resolve())


def open_carrier(
    kind: Kind,
    image: Lazy,
    where: Where,
    *,
    log: Callable[[str], object],
    taken: TakenOver | None = None,
    whole: bool = False,
) -> Carrier:
    """Mount an image. ``fanotify`` or nothing; ``auto``: that, else FUSE, else all is fetched first. taken: what a
    killed process left on the folder. log: is told in one line what a person must know. whole: all of it is on this
    node.

    Raises LocalError, ToolMissing, with ``fanotify`` LayerInvalid, too: EROFS cannot hold the image. Nothing is mounted
    then, and ``taken`` is gone.
    """
    if kind == "fuse":
        _let_go(taken, where.folder)
        return FuseCarrier(image, where, whole=whole)
    try:
        return _fanotify(image, where, log, taken, whole)
    except RegistryPipelinesError as error:
        if kind == "fanotify":
            raise
        why = f"fanotify is not used: {error.what}"
    if mounting.DEVICE.exists() and (os.geteuid() == 0 or shutil.which("fusermount3")):
        return FuseCarrier(image, where, why, whole=whole)
    return _whole(image, where, f"{why}; and there is no {mounting.DEVICE}", log)


class FuseCarrier:
    """By FUSE."""

    def __init__(self, image: Lazy, where: Where, why: str = "", *, whole: bool = False) -> None:
        """Raises LocalError, ToolMissing: nothing is mounted then."""
        self._why = why
        self._folder = where.folder
        self._keep, kept = where.keep, where.keep.kept if where.keep else None
        self._name = kept.name if kept else ""
        self._left = False
        if kept is not None:
            self._device, self._memory = kept.device, kept.memory
        else:
            self._memory = Memory()
            self._memory.tell(where.keep.told if where.keep else b"")
            self._device = mount_fuse(where.folder, where.name)
        if self._keep is not None and kept is not None:
            self._keep.keeper.serve(self._name)
            self._memory.recover(self._device)
        self._server = FuseServer(
            self._device, image, copies=image, read_ahead_bytes=_read_ahead(image, whole), memory=self._memory
        )
        if image.comes_ahead:
            image.tell_ahead(self._server.pages_ahead(image).came)

    @property
    def told(self) -> Told:
        """See :class:`Carrier`."""
        return Told("fuse", self._why, self._server.copied_bytes)

    @property
    def failed_reads(self) -> int:
        """See :class:`Carrier`."""
        return self._server.failed_reads

    def run(self) -> None:
        """See :class:`Carrier`."""
        self._server.run()
        if self._keep is not None and self._name and not self._left:
            self._keep.keeper.drop(self._name)

    def hold(self) -> None:
        """See :class:`Carrier`."""
        if self._keep is not None and not self._name and self._server.ready.wait(READY_S):
            self._name = self._keep.keeper.keep(self._device, self._memory)

    def detached(self) -> None:
        """See :class:`Carrier`."""
        self._memory.set(ENDED)

    def abandon(self) -> None:
        """See :class:`Carrier`."""

    def fill_rest(self) -> None:
        """It serves from what is fetched."""

    def read_far_ahead(self) -> None:
        """See :class:`Carrier`."""
        set_read_ahead(self._folder, WHOLE_READ_AHEAD_BYTES)

    def end(self) -> None:
        """See :class:`Carrier`."""
        end_mount(self._folder)

    def leave(self) -> None:
        """See :class:`Carrier`."""
        self._left = True
        self._server.leave()

    def close(self) -> None:
        """See :class:`Carrier`."""
        os.close(self._device)
        self._memory.close()


class _Complete:
    """A complete file, which nobody needs to watch."""

    failed_reads = 0

    def __init__(self, file: BackingFile, where: Where, carrier: str, why: str) -> None:
        from registry_pipelines.stream.lazy.fanotify import mount_file

        self._file, self._folder, self._carrier, self._why = file, where.folder, carrier, why
        self._ended = threading.Event()
        mount_file(file, where.folder)
        self.read_far_ahead()

    @property
    def told(self) -> Told:
        """See :class:`Carrier`."""
        return Told(self._carrier, self._why, self._file.twice_bytes)

    def run(self) -> None:
        """See :class:`Carrier`."""
        from registry_pipelines.stream.lazy.fanotify_wire import is_read

        while not self._ended.wait(LOOK_EVERY_S) and is_read(self._file.descriptors[0]):
            pass

    def fill_rest(self) -> None:
        """Nothing is missing."""

    def read_far_ahead(self) -> None:
        """See :class:`Carrier`."""
        set_read_ahead(self._folder, WHOLE_READ_AHEAD_BYTES)

    def end(self) -> None:
        """See :class:`Carrier`."""
        with suppress(OSError):
            unmount(self._folder, detach=True)
        self._ended.set()

    def hold(self) -> None:
        """See :class:`Carrier`. The kernel needs nobody for a complete file."""

    def detached(self) -> None:
        """See :class:`Carrier`."""

    def abandon(self) -> None:
        """See :class:`Carrier`."""

    def leave(self) -> None:
        """See :class:`Carrier`."""

    def close(self) -> None:
        """See :class:`Carrier`."""
        self._file.close()


class _Watched:
    """A file that is filled while it is read."""

    def __init__(
        self,
        file: BackingFile,
        where: Where,
        log: Callable[[str], object],
        taken: TakenOver | None,
        image: Lazy,
        whole: bool,
    ) -> None:
        from registry_pipelines.stream.lazy.fanotify import WatchedMount

        self._file = file
        real = absolute(where.folder)
        self._image = image
        self._mount = WatchedMount(
            file,
            real,
            log=log,
            below=where.below,
            taken=taken,
            asked=None if image.watched is None else self._asked,
            **_held_by(where),
        )
        self.run, self.fill_rest, self.end = self._mount.run, self._mount.fill_rest, self._mount.end
        self.close, self.leave, self._folder = self._mount.close, self._mount.leave, real
        with suppress(FileNotFoundError):  # the name of one that was taken over may be gone
            set_read_ahead(real, _read_ahead(image, whole))
        self._ahead: MountAhead | None = None
        if image.comes_ahead:  # in a thread: what came until now is much, and the start reads other things first
            if image.watched is None:  # what is read ahead would never be seen
                from registry_pipelines.stream.lazy.mount_ahead import MountAhead

                self._ahead = MountAhead(real, image.tree, image, file)
                self._mount.ahead = self._ahead.threads
            threading.Thread(target=image.tell_ahead, args=(self._came,), name="copy_ahead", daemon=True).start()

    def _asked(self, start: int, size: int) -> None:
        if (watched := self._image.watched) is not None:
            for part in self._file.layout.parts(start, start + size):
                watched(part.layer, part.position, part.size)

    def hold(self) -> None:
        """See :class:`Carrier`. It is held before it is mounted."""

    def detached(self) -> None:
        """See :class:`Carrier`."""
        self._mount.named = False

    def abandon(self) -> None:
        """See :class:`Carrier`."""
        self._mount.end()

    def _came(self, layer: int, extents: Extents) -> None:
        with suppress(RegistryPipelinesError, ValueError):  # it is copied when it is read, or that fails; or is closed
            self._file.copy_extents(layer, extents)
        if self._ahead is not None:
            self._ahead.came(layer, extents)

    def read_far_ahead(self) -> None:
        """See :class:`Carrier`."""
        set_read_ahead(self._folder, WHOLE_READ_AHEAD_BYTES)

    @property
    def failed_reads(self) -> int:
        """See :class:`Carrier`."""
        return self._mount.failed_reads

    @property
    def told(self) -> Told:
        """See :class:`Carrier`."""
        why = "" if self._mount.watched else "the file is complete, and nobody is asked any more"
        return Told("fanotify", why, self._file.twice_bytes)


class _HeldBy(TypedDict, total=False):
    sockets: Path | None
    socket: str
    told: str
    patience_s: float


def _held_by(where: Where) -> _HeldBy:
    """Who can take a mount over: nobody, or who mounts on its folder, or an agent, which knows all of a node."""
    if where.keep is not None:
        told, patience_s = where.keep.told.decode(), where.keep.keeper.patience_s
        return {"sockets": where.lazy / KEPT, "socket": uuid.uuid4().hex, "told": told, "patience_s": patience_s}
    return {"sockets": None if where.below else where.lazy / "holders"}


def _read_ahead(image: Lazy, whole: bool) -> int:
    """Bytes that the kernel reads beyond what is asked for."""
    if image.watched is not None:
        return PAGE_BYTES
    return WHOLE_READ_AHEAD_BYTES if whole else READ_AHEAD_BYTES


def _fanotify(image: Lazy, where: Where, log: Callable[[str], object], taken: TakenOver | None, whole: bool) -> Carrier:
    store = _store(where)
    with ExitStack() as undo:
        if taken is not None:
            file = store.adopt(image.tree, image.layers, taken.held.data, taken.held.filling)
            if file is not None:
                undo.callback(file.close)
                carrier = _Watched(file, where, log, taken, image, whole)
                taken.give()
                undo.pop_all()
                return carrier
            _let_go(taken, where.folder)
        proof = _begin_self_test(where)
        file = undo.enter_context(_opened(store, image, log))
        if _is_complete(file):
            undo.pop_all()
            return _Complete(file, where, "fanotify", "the file was complete, and nobody is asked")
        proof.result()
        watched = _Watched(file, where, log, None, image, whole)
        undo.pop_all()
        return watched


def _begin_self_test(where: Where) -> Future[None]:
    """The test, while the file is made: it waits for the disk and the kernel, as that does for the registry."""
    from concurrent.futures import ThreadPoolExecutor

    from registry_pipelines.stream.lazy.fanotify import self_test

    alone = ThreadPoolExecutor(1, thread_name_prefix="self_test")
    proof = alone.submit(self_test, where.lazy / "backing")
    alone.shutdown(wait=False)
    return proof


def _store(where: Where) -> BackingStore:
    from registry_pipelines.stream.lazy.backing import BackingStore

    return BackingStore((where.lazy / "backing").resolve())


def _opened(store: BackingStore, image: Lazy, log: Callable[[str], object]) -> BackingFile:
    file = store.open(image.tree, image.layers, image.metadata)
    if file.layout.left_out:
        names = ", ".join(file.layout.left_out[:_NAMES_TOLD])
        log(f"extended attributes that the kernel's file systems do not have are left out, as unpacking does: {names}")
    return file


def _is_complete(file: BackingFile) -> bool:
    """Whether nothing is missing, also after a crash of the machine."""
    if not file.complete:
        return False
    with suppress(OSError, LocalError):
        file.sync()
        return file.complete  # a disk that failed takes bytes back
    return False


def _whole(image: Lazy, where: Where, why: str, log: Callable[[str], object]) -> Carrier:
    """Fetch all, and mount it then."""
    with ExitStack() as undo:
        file = undo.enter_context(_opened(_store(where), image, log))
        log(f"{why}; so all is fetched first, {size_text(sum(layer.size for layer in image.layers))} unpacked")
        image.fill_rest()
        file.fill(0, file.layout.size)
        if not _is_complete(file):
            raise LocalError("the disk did not take the image", where=str(file.path))
        carrier = _Complete(file, where, "none", why)
        undo.pop_all()
        return carrier


def _let_go(taken: TakenOver | None, folder: Path) -> None:
    """What is mounted there is another image, or comes another way from now on."""
    if taken is not None:
        taken.end(folder)
        check_folder(folder)


__all__ = ["KEPT", "Carrier", "Kind", "Lazy", "Told", "Where", "free_folder", "open_carrier"]
