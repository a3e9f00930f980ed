"""What brings a mounted image to its readers: FUSE, or the kernel itself, which asks before it reads (``fanotify``).

FUSE is the default: it fails closed whatever is killed. Where neither is to be had, all is fetched first.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

from registry_pipelines.errors import InputError, RegistryPipelinesError
from registry_pipelines.stream.lazy import mounting
from registry_pipelines.stream.lazy.fuse import WHOLE_READ_AHEAD_BYTES, FuseServer
from registry_pipelines.stream.lazy.fuse_memory import ENDED, Memory
from registry_pipelines.stream.lazy.fuse_tree import Served
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
from registry_pipelines.stream.lazy.pages_ahead import PAGE_BYTES, Brought, Came, Placed
from registry_pipelines.stream.lazy.passthrough import Copies

if TYPE_CHECKING:
    # FUSE needs no file of EROFS and no holder: loaded where they are used
    from registry_pipelines.stream.lazy.erofs import ReadyMetadata
    from registry_pipelines.stream.lazy.guard import TakenOver
    from registry_pipelines.stream.lazy.keeping import Keep
    from registry_pipelines.stream.lazy.lazy_layer import LazyLayer
    from registry_pipelines.stream.lazy.tree import Tree

Kind = Literal["fuse", "fanotify", "auto"]

KEPT = "node-holders"
"""Below what a node keeps of lazy images: the sockets of mounts that an agent takes over (``guard.take_all``)."""

READY_S = 10.0
"""How long the kernel may take to ask for the first time: it does at once."""


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
    def read_ahead_bytes(self) -> int:
        """What the kernel is to read beyond what is asked for while not all is here: as much as a hot pack has around
        the pages of the start, for what it lacks comes from the layers."""
        ...

    @property
    def comes_ahead(self) -> bool:
        """Whether bytes come that nobody asked for: those of a hot pack."""
        ...

    def tell_ahead(self, came: Came, brought: Brought | None = None) -> None:
        """Have it told, from any thread, which bytes of a layer are here of those that come ahead: first those that are
        already, then the others as they come. brought: gets what comes, before it is in the layer's file. Where
        :attr:`comes_ahead`."""
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
        let_go(taken, where.folder)
        return FuseCarrier(image, where, whole=whole)
    from registry_pipelines.stream.lazy.erofs_carriers import by_fanotify, complete_first  # FUSE needs none of it

    try:
        return by_fanotify(image, where, log, taken, whole)
    except RegistryPipelinesError as error:
        if kind == "fanotify":
            raise
        why = f"fanotify is not used: {error.what}"
    if mounting.DEVICE.exists() and (os.geteuid() == 0 or shutil.which("fusermount3")):
        return FuseCarrier(image, where, why, whole=whole)
    return complete_first(image, where, f"{why}; and there is no {mounting.DEVICE}", log)


class FuseCarrier:
    """By FUSE."""

    def __init__(self, image: Lazy, where: Where, why: str = "", *, whole: bool = False) -> None:
        """Raises LocalError, ToolMissing: nothing is mounted then."""
        self._why = why
        self._folder = where.folder
        self._keep, kept = where.keep, where.keep.kept if where.keep else None
        self._name = kept.name if kept else ""
        self._left = self._over = False
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
            self._device,
            image,
            copies=image,
            read_ahead_bytes=read_ahead_bytes(image, whole),
            memory=self._memory,
            alone=where.below is not None,
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
        self._over = True
        self._drop()

    def _drop(self) -> None:
        if self._keep is not None and self._name and not self._left:
            self._keep.keeper.drop(self._name)

    def hold(self) -> None:
        """See :class:`Carrier`."""
        if self._keep is not None and not self._name and self._server.ready.wait(READY_S):
            self._name = self._keep.keeper.keep(self._device, self._memory)
            if self._over:  # unmounted meanwhile
                self._drop()

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


def read_ahead_bytes(image: Lazy, whole: bool) -> int:
    """Bytes that the kernel reads beyond what is asked for."""
    if image.watched is not None:
        return PAGE_BYTES
    return WHOLE_READ_AHEAD_BYTES if whole else image.read_ahead_bytes


def let_go(taken: TakenOver | None, folder: Path) -> None:
    """What is mounted there is another image, or comes another way from now on."""
    if taken is not None:
        taken.end(folder)
        check_folder(folder)


__all__ = [
    "KEPT",
    "Carrier",
    "Kind",
    "Lazy",
    "Told",
    "Where",
    "free_folder",
    "let_go",
    "open_carrier",
    "read_ahead_bytes",
]
