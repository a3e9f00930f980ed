"""What a node fetched of an image goes from the disk when the image is removed, as what containerd pulls does: kubelet
removes images when the disk is full, and counts on it. What another image needs stays, and what is still read goes when
it is closed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Protocol

from registry_pipelines.errors import RegistryPipelinesError

AGAIN_S = 2.0
"""Between two looks at layers that somebody still has open."""


class Store(Protocol):
    """A :class:`BlockStore` of layers, or a :class:`BackingStore` of the files of images."""

    def drop(self, path: Path) -> bool:
        """Delete what is in a folder now. False where somebody has it open, or it is not there."""
        ...


class Freeing:
    """Deletes what a store has in a thread of its own, which lives while there is any. For many threads."""

    def __init__(self, opened: Callable[[], Store], needed: Callable[[], Iterable[str]]) -> None:
        """opened: makes the store. needed: folders in it that images have which are served."""
        self._opened, self._needed = opened, needed
        self._lock, self._ended = threading.Lock(), threading.Event()
        self._waiting: set[str] = set()

    def free(self, folders: Iterable[str]) -> None:
        """Delete these folders once nobody has them open, unless an image is served by then that needs them."""
        with self._lock:
            begin = not self._waiting
            self._waiting.update(folders)
            begin = begin and bool(self._waiting)
        if begin:
            threading.Thread(target=self._run, name="freeing", daemon=True).start()

    def close(self) -> None:
        """What waits stays on the disk; ``BlockStore`` deletes it when it needs room."""
        self._ended.set()

    def _run(self) -> None:
        store: Store | None = None
        while not self._ended.is_set():
            try:
                store = store or self._opened()
                self._look(store)
            except (RegistryPipelinesError, OSError):  # a full disk, too: it may have room later
                pass
            with self._lock:
                if not self._waiting:
                    return
            self._ended.wait(AGAIN_S)

    def _look(self, store: Store) -> None:
        with self._lock:
            waiting = set(self._waiting)
        needed = set(self._needed())
        done = {each for each in waiting if each in needed or store.drop(Path(each)) or not Path(each).exists()}
        with self._lock:
            self._waiting -= done


__all__ = ["Freeing"]
