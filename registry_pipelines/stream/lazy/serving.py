"""A mount that this process serves: its threads, and the note that tells of it."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from registry_pipelines.stream.lazy.fuse import READ_AHEAD_BYTES, WHOLE_READ_AHEAD_BYTES, FuseServer, Served
from registry_pipelines.stream.lazy.mounting import end_mount, mount_fuse, set_read_ahead
from registry_pipelines.stream.lazy.notes import MountNote, NoteFile, read_notes

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
        self, served: Served, folder: Path, notes: Path, note: MountNote, count: Callable[[MountNote], MountNote]
    ) -> None:
        """Raises LocalError, ToolMissing: nothing is mounted then."""
        self._folder = folder
        self._count = count
        self._note = note
        self._file = NoteFile(notes)
        list(read_notes(notes))  # before the folder is a mount again: what a killed process told of it is forgotten
        try:
            self._device = mount_fuse(folder, note.image)
        except BaseException:
            self._file.__exit__()
            raise
        self._whole = _is_whole(count(note))
        read_ahead = WHOLE_READ_AHEAD_BYTES if self._whole else READ_AHEAD_BYTES
        self._server = FuseServer(self._device, served, read_ahead_bytes=read_ahead)
        self._gone = threading.Event()
        self._threads = [threading.Thread(target=each, daemon=True) for each in (self._serve, self._tell)]

    def __enter__(self) -> Mounted:
        self._file.write(self.note)
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if not self._gone.is_set():
            end_mount(self._folder)
        self._file.__exit__()
        # Where files are still open the kernel asks on; the descriptor ends with the process then.
        if self._gone.wait(END_S):
            os.close(self._device)

    @property
    def note(self) -> MountNote:
        """The note as of now."""
        counted = self._count(self._note)
        return msgspec.structs.replace(counted, failed_reads=self._server.failed_reads, updated=now_text())

    def wait(self) -> None:
        """Until somebody unmounts it."""
        self._gone.wait()

    def _serve(self) -> None:
        self._server.run()
        self._gone.set()

    def _tell(self) -> None:
        last = self._note
        while not self._gone.wait(NOTE_EVERY_S):
            counted = self._count(self._note)
            if counted != last:
                self._file.write(self.note)
                last = counted
            if not self._whole and _is_whole(counted):
                self._whole = True
                set_read_ahead(self._folder, WHOLE_READ_AHEAD_BYTES)


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
