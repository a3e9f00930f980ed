"""Carriers of an image that the kernel mounts as EROFS: watched by ``fanotify`` while it is filled, or complete."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TypedDict

from registry_pipelines.errors import LocalError, RegistryPipelinesError
from registry_pipelines.progress import size_text
from registry_pipelines.stream.lazy.answering import Apart
from registry_pipelines.stream.lazy.backing import BackingFile, BackingStore
from registry_pipelines.stream.lazy.carriers import KEPT, Carrier, Lazy, Told, Where, let_go, read_ahead_bytes
from registry_pipelines.stream.lazy.fanotify import WatchedMount, mount_file
from registry_pipelines.stream.lazy.fanotify_wire import is_read
from registry_pipelines.stream.lazy.fuse import WHOLE_READ_AHEAD_BYTES
from registry_pipelines.stream.lazy.guard import Begun, TakenOver
from registry_pipelines.stream.lazy.mount_ahead import MountAhead
from registry_pipelines.stream.lazy.mounting import absolute, set_read_ahead, unmount
from registry_pipelines.stream.lazy.pages_ahead import Extents
from registry_pipelines.stream.lazy.watch_proof import self_test

LOOK_EVERY_S = 0.5
_NAMES_TOLD = 5


class _Complete:
    """A complete file, which nobody needs to watch."""

    failed_reads = 0

    def __init__(self, file: BackingFile, where: Where, carrier: str, why: str) -> None:
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
        begun: Begun | None = None,
        apart: Apart | None = None,
    ) -> None:
        self._file = file
        real = absolute(where.folder)
        self._image = image
        self._mount = WatchedMount(
            file,
            real,
            log=log,
            below=where.below,
            taken=taken,
            begun=begun,
            apart=apart,
            asked=None if image.watched is None else self._asked,
            **_held_by(where),
        )
        self.run, self.fill_rest, self.end = self._mount.run, self._mount.fill_rest, self._mount.end
        self.leave, self._folder = self._mount.leave, real
        with suppress(FileNotFoundError):  # the name of one that was taken over may be gone
            set_read_ahead(real, read_ahead_bytes(image, whole))
        self._ahead: MountAhead | None = None
        if image.comes_ahead:  # in a thread: what came until now is much, and the start reads other things first
            if image.watched is None:  # what is read ahead would never be seen
                self._ahead = MountAhead(real, image.tree, image, file)
                self._mount.ahead = self._ahead.threads
            told = (self._came, self._brought)
            threading.Thread(target=image.tell_ahead, args=told, name="copy_ahead", daemon=True).start()

    def _asked(self, start: int, size: int) -> None:
        if (watched := self._image.watched) is not None:
            for part in self._file.layout.parts(start, start + size):
                watched(part.layer, part.position, part.size)

    def close(self) -> None:
        """See :class:`Carrier`."""
        if self._ahead is not None:
            self._ahead.close()
        self._mount.close()

    def hold(self) -> None:
        """See :class:`Carrier`. It is held before it is mounted."""

    def detached(self) -> None:
        """See :class:`Carrier`."""
        self._mount.named = False

    def abandon(self) -> None:
        """See :class:`Carrier`."""
        self._mount.end()

    def _brought(self, layer: int, extents: Extents, content: memoryview) -> None:
        with suppress(RegistryPipelinesError, ValueError):  # it is copied when it is read, or that fails; or is closed
            self._file.put_extents(layer, extents, content)
            self._mount.came()

    def _came(self, layer: int, extents: Extents) -> None:
        with suppress(RegistryPipelinesError, ValueError):
            self._file.copy_extents(layer, extents)
            self._mount.came()
        if self._ahead is not None:
            with suppress(ValueError):  # closed meanwhile
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


def by_fanotify(
    image: Lazy, where: Where, log: Callable[[str], object], taken: TakenOver | None, whole: bool
) -> Carrier:
    """See ``carriers.open_carrier``. Raises what that does."""
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
            let_go(taken, where.folder)
        # While the file is made, which waits for the registry.
        real = absolute(where.folder)
        proof, begun = _begin_self_test(where), Begun(real, where.below)
        undo.callback(begun.close)
        apart = Apart(real) if image.comes_ahead and image.watched is None else None
        if apart is not None:
            undo.callback(apart.end)
        file = undo.enter_context(_opened(store, image, log))
        if _is_complete(file):
            begun.close()
            if apart is not None:
                apart.end()
            undo.pop_all()
            return _Complete(file, where, "fanotify", "the file was complete, and nobody is asked")
        proof.result()
        watched = _Watched(file, where, log, None, image, whole, begun, apart)
        undo.pop_all()
        return watched


def _begin_self_test(where: Where) -> Future[None]:
    """The test, while the file is made: it waits for the disk and the kernel, as that does for the registry."""
    alone = ThreadPoolExecutor(1, thread_name_prefix="self_test")
    proof = alone.submit(self_test, where.lazy / "backing")
    alone.shutdown(wait=False)
    return proof


def _store(where: Where) -> BackingStore:
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


def complete_first(image: Lazy, where: Where, why: str, log: Callable[[str], object]) -> Carrier:
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


__all__ = ["by_fanotify", "complete_first"]
