"""A mount that this process serves: its threads, and the note that tells of it."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from registry_pipelines.allocator import return_memory
from registry_pipelines.stream.lazy.carriers import Kind, Lazy, Where, open_carrier
from registry_pipelines.stream.lazy.fuse import WHOLE_READ_AHEAD_BYTES
from registry_pipelines.stream.lazy.mounting import set_read_ahead
from registry_pipelines.stream.lazy.notes import MountNote, NoteFile, forget, read_notes

if TYPE_CHECKING:
    from registry_pipelines.stream.lazy.guard import TakenOver
    from registry_pipelines.stream.lazy.keeping import Keep

NOTE_EVERY_S = 1.0
"""How often the note's counters are written while they change."""


END_S = 2.0
"""How long an unmounted tree may take to end before it is taken for one that is in use."""


def now_text() -> str:
    """RFC 3339, UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


class Mounted:
    """A tree that is mounted while the context lasts. count: the counters of a note."""

    def __init__(
        self,
        image: Lazy,
        folder: Path,
        notes: Path,
        note: MountNote,
        count: Callable[[MountNote], MountNote],
        *,
        carrier: Kind = "fuse",
        log: Callable[[str], object],
        taken: TakenOver | None = None,
        below: Path | None = None,
        keep: Keep | None = None,
    ) -> None:
        """notes: the folder of notes, in that of what this node keeps of lazy images. carrier, log, taken, below, keep:
        see ``carriers.open_carrier`` and ``carriers.Where``. Raises what that does: nothing is mounted then."""
        self._count = count
        self._note = note
        self._folder = folder
        self._image = image
        self._file = NoteFile(notes)
        list(read_notes(notes))  # before the folder is a mount again: what a killed process told of it is forgotten
        try:
            where = Where(folder, note.image, notes.parent, below, keep)
            self._whole = _is_whole(count(note))
            self._carrier = open_carrier(carrier, image, where, log=log, taken=taken, whole=self._whole)
        except BaseException:
            self._file.__exit__()
            raise
        for each in read_notes(notes):
            if not each.alive and each.note.folder == note.folder:  # what it told of was taken over
                forget(each.path)
        self._gone, self._left = threading.Event(), False
        self._threads = [threading.Thread(target=each, daemon=True) for each in (self._serve, self._tell)]

    def __enter__(self) -> Mounted:
        self._file.write(self.note)
        for thread in self._threads:
            thread.start()
        self._carrier.hold()
        return self

    def __exit__(self, *_: object) -> None:
        if self._left:
            return
        if not self._gone.is_set():
            self._carrier.end()
        self._file.__exit__()
        # Where files are still open the kernel asks on; what it asks by ends with the process then.
        if self._gone.wait(END_S):
            self._carrier.close()

    def leave(self) -> None:
        """Serve no more, and let the mount be, also at the end of the context: see ``carriers.Carrier.leave``."""
        self._left = True
        self._carrier.leave()

    def detached(self) -> None:
        """Its name was taken away: see ``carriers.Carrier.detached``."""
        self._carrier.detached()

    def abandon(self) -> None:
        """At the end of the process: see ``carriers.Carrier.abandon``."""
        self._carrier.abandon()

    @property
    def note(self) -> MountNote:
        """The note as of now."""
        told = self._carrier.told
        return msgspec.structs.replace(
            self._count(self._note),
            carrier=told.carrier,
            carrier_why=told.why,
            copied_bytes=told.copied_bytes,
            failed_reads=self._carrier.failed_reads,
            updated=now_text(),
        )

    def fill_rest(self) -> None:
        """Fetch the rest, too, when nobody waits for anything."""
        self._image.fill_rest()
        self._carrier.fill_rest()

    def read_ahead(self) -> None:
        """Have the kernel read ahead as usual, once nobody watches the image any more (``carriers.Lazy.watched``)."""
        set_read_ahead(self._folder, WHOLE_READ_AHEAD_BYTES if self._whole else self._image.read_ahead_bytes)

    @property
    def gone(self) -> bool:
        """Whether somebody unmounted it, and nobody uses it any more."""
        return self._gone.is_set()

    def wait(self) -> None:
        """Until somebody unmounts it."""
        self._gone.wait()

    def _serve(self) -> None:
        try:
            self._carrier.run()
        finally:
            self._gone.set()

    def _tell(self) -> None:
        last, has_rested = None, True
        while not self._gone.wait(NOTE_EVERY_S):
            note = self.note
            counted = msgspec.structs.replace(note, updated="")
            if counted != last:
                self._file.write(note)
                last, has_rested = counted, False
            elif not has_rested:  # of frames and pieces that came much was let go of
                has_rested = True
                return_memory()
            if not self._whole and self._image.watched is None and _is_whole(counted):
                self._whole = True
                self._carrier.read_far_ahead()


def _is_whole(note: MountNote) -> bool:
    """Whether all of the image is on this node."""
    return note.filled_bytes >= note.size_bytes


class Clock:
    """Seconds since this process was started."""

    def __init__(self) -> None:
        ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
        up = float(Path("/proc/uptime").read_text().split()[0])
        self._start = time.monotonic() - max(up - ticks / os.sysconf("SC_CLK_TCK"), 0.0)

    def now(self) -> float:
        """Seconds."""
        return time.monotonic() - self._start
