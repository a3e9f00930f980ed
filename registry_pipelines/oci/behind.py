"""What stands behind the caches of a state folder: where other machines that share the state keep theirs.

Caches are found by the state folder they are in, so what is shared is, too: who opens a chain over a shared state says
so once for its folder (``attach``), and every cache below it asks there for what it has not (``behind``). Without one
nothing is asked and nothing is sent. What it is there is ``shared.caches``.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Protocol, TypeVar

from registry_pipelines.chance import CHANCE

_T = TypeVar("_T")

Pieces = Callable[[], Iterable[bytes]]
"""An entry's content, read when it is sent. Raises OSError when it is gone by then, and nothing is sent."""


class Behind(Protocol):
    """Entries by kind and name, which this machine and others keep. kind: of which cache and of which format of it, so
    that builds which read something else never meet. Nothing here raises: what cannot be had is not there, and what
    cannot be kept is made again elsewhere. Safe for threads."""

    def fetch(self, kind: str, name: str, to: Path) -> bool:
        """Have an entry as a file, whole or not at all; False when there is none."""
        ...

    def keep(self, kind: str, name: str, content: Pieces) -> None:
        """Send an entry, in the background."""
        ...

    def drop(self, kind: str, name: str) -> None:
        """Forget an entry that was found to be of no use, so that the next one makes it again."""
        ...

    def value(self, kind: str, name: str) -> bytes | None:
        """A small entry; None when there is none."""
        ...

    def keep_value(self, kind: str, name: str, content: bytes) -> None:
        """Send a small entry, in the background."""
        ...

    def values(self, kind: str) -> Iterator[tuple[str, bytes]]:
        """All small entries of a kind, by name."""
        ...

    def turn(self, name: str) -> AbstractContextManager[object]:
        """Be the only one of all machines that works on something: wait for who does now, and end when what was kept
        meanwhile can be found. Whoever had to wait asks again before it begins."""
        ...


class _Nothing:
    """Behind a folder that is one machine's."""

    def fetch(self, kind: str, name: str, to: Path) -> bool:
        return False

    def keep(self, kind: str, name: str, content: Pieces) -> None:
        return

    def drop(self, kind: str, name: str) -> None:
        return

    def value(self, kind: str, name: str) -> bytes | None:
        return None

    def keep_value(self, kind: str, name: str, content: bytes) -> None:
        return

    def values(self, kind: str) -> Iterator[tuple[str, bytes]]:
        return iter(())

    def turn(self, name: str) -> AbstractContextManager[object]:
        return nullcontext()


NOTHING: Behind = _Nothing()

_attached: dict[Path, Behind] = {}
_lock = threading.Lock()


def attach(state: Path, caches: Behind) -> None:
    """Have ``caches`` behind all caches of a state folder from now on, in place of what was there."""
    with _lock:
        _attached[state.absolute()] = caches


def detach(caches: Behind) -> None:
    """Have them behind nothing any more."""
    with _lock:
        for folder in [folder for folder, each in _attached.items() if each is caches]:
            del _attached[folder]


def behind(folder: Path) -> Behind:
    """What stands behind a state folder, or a folder in it."""
    if not _attached:
        return NOTHING
    path = folder.absolute()
    with _lock:
        return next((_attached[each] for each in (path, *path.parents) if each in _attached), NOTHING)


def in_turns(folder: Path, work: Sequence[_T]) -> list[_T]:
    """In which order to work on what each has a turn: of a shared state by chance, so that machines which begin with
    the same image at once do not wait for each other at every layer."""
    return list(work) if behind(folder) is NOTHING else CHANCE.sample(work, len(work))


def file_pieces(path: Path) -> Pieces:
    """A file's content."""

    def read() -> Iterator[bytes]:
        with path.open("rb") as file:
            while piece := file.read(_PIECE_BYTES):
                yield piece

    return read


_PIECE_BYTES = 1 << 20

__all__ = ["NOTHING", "Behind", "Pieces", "attach", "behind", "detach", "file_pieces", "in_turns"]
