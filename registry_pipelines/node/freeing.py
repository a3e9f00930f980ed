"""What a node fetched of an image goes from the disk when the image is removed, as what containerd pulls does: kubelet
removes images when the disk is full, and counts on it. What another image needs stays, and what is still read goes when
it is closed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from pathlib import Path

from registry_pipelines.errors import RegistryPipelinesError
from registry_pipelines.stream.lazy.blocks import BlockStore

AGAIN_S = 2.0
"""Between two looks at layers that somebody still has open."""


class Freeing:
    """Deletes layers' files in a thread of its own, which lives while there are any. For many threads."""

    def __init__(self, folder: Path, needed: Callable[[], Iterable[str]]) -> None:
        """folder: of a :class:`BlockStore`. needed: folders of layers that images have which are served."""
        self._folder, self._needed = folder, needed
        self._lock, self._ended = threading.Lock(), threading.Event()
        self._waiting: set[str] = set()

    def free(self, folders: Iterable[str]) -> None:
        """Delete these layers once nobody has them open, unless an image is served by then that needs them."""
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
        store: BlockStore | None = None
        while not self._ended.is_set():
            try:
                store = store or BlockStore(self._folder)
                self._look(store)
            except (RegistryPipelinesError, OSError):  # a full disk, too: it may have room later
                pass
            with self._lock:
                if not self._waiting:
                    return
            self._ended.wait(AGAIN_S)

    def _look(self, store: BlockStore) -> None:
        with self._lock:
            waiting = set(self._waiting)
        needed = set(self._needed())
        done = {each for each in waiting if each in needed or store.drop(Path(each)) or not Path(each).exists()}
        with self._lock:
            self._waiting -= done


__all__ = ["Freeing"]
