"""Room on a node's disk: what was fetched of images that nobody uses any more gives way, what was not used for longest
first; never what is mounted, by whichever process (``stream.lazy.blocks``: leases).

It does so before the disk is so full that kubelet begins to delete images (``imageGCHighThresholdPercent``, 85 unless
told): those that kubelet deletes free what is mounted of them and no more, so it would delete one after the other.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from registry_pipelines.errors import RegistryPipelinesError
from registry_pipelines.node.counts import Counts
from registry_pipelines.node.where import KEPT_FREE
from registry_pipelines.progress import size_text
from registry_pipelines.stream.lazy.blocks import MAX_BYTES, BlockStore

EVERY_S = 30.0
"""How often the disk is looked at. A gigabit fills 4 GB meanwhile."""


class Room:
    """Keeps room while the context lasts."""

    def __init__(
        self,
        lazy: Path,
        *,
        counts: Counts,
        log: Callable[[str], object],
        max_bytes: int = MAX_BYTES,
        kept_free: float = KEPT_FREE,
    ) -> None:
        """lazy: the folder of lazy images. max_bytes: of all that was fetched, and of the files that were made of it
        for the kernel. kept_free: per cent of the disk that should be free, as far as what is unused goes. Raises
        LocalError."""
        self._store, self._folder = BlockStore(lazy / "blocks", max_bytes=max_bytes), lazy
        self._files, self._max_bytes = (lazy / "backing").resolve(), max_bytes
        self._kept_free, self._counts, self._log = kept_free, counts, log
        self._told = False
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="node_room", daemon=True)

    def __enter__(self) -> Room:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()

    def make(self) -> int:
        """Delete what is too much now; bytes that were freed. A disk that stays too full is told of once."""
        status = os.statvfs(self._folder)
        missing = int(status.f_blocks * self._kept_free / 100) - status.f_bavail
        wanted = max(0, missing) * status.f_frsize
        freed = 0
        if self._files.is_dir():  # first: they are made again without a registry
            from registry_pipelines.stream.lazy.backing import BackingStore

            freed = BackingStore(self._files, max_bytes=self._max_bytes).make_room(wanted)
        freed += self._store.make_room(max(0, wanted - freed))
        if freed:
            self._counts.count("evicted_bytes", freed)
        is_short = freed < wanted
        if is_short and not self._told:
            self._log(
                f"less than {self._kept_free:g} % of the disk are free, and nothing that was fetched here is unused: "
                f"{size_text(wanted - freed)} are missing at {self._folder}"
            )
        self._told = is_short
        return freed

    def _run(self) -> None:
        while not self._ended.wait(EVERY_S):
            with suppress(RegistryPipelinesError, OSError):
                self.make()


__all__ = ["Room"]
