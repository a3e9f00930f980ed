"""What real starts read of their images, written down and sent to an inbox (``stream.hot.inbox``).

A start is recorded from the first read of an image's first container, until nothing new was read for ``QUIET_S``. It
is slower meanwhile, for the kernel asks for each page; so a node does that once for an image, so often an hour, and
only where something is to be learnt: there is no hot pack, or this machine has a GPU and the pack was recorded without.
Nothing of it may fail a start: what cannot be recorded or sent is said, and dropped.
"""

from __future__ import annotations

import fnmatch
import os
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import msgspec

from registry_pipelines.errors import ContentError, InputError, LocalError, RegistryPipelinesError
from registry_pipelines.node.counts import Counts
from registry_pipelines.node.model import RecordStarts
from registry_pipelines.oci.files import local_errors, write_file
from registry_pipelines.oci.manifests import decode_json, encode_json
from registry_pipelines.oci.references import Reference
from registry_pipelines.oci.times import write_time
from registry_pipelines.progress import count_text
from registry_pipelines.registry.protocol import Place
from registry_pipelines.stream.lazy.notes import MountNote
from registry_pipelines.stream.model import QUIET_S

if TYPE_CHECKING:  # loaded where a start is recorded: most nodes record none
    from registry_pipelines.stream.hot.watched import WatchedImage
    from registry_pipelines.stream.lazy.opened import OpenImage

LOOK_EVERY_S = 0.5
HOUR_S = 3600.0
TRIES = 3
"""To send a recording."""
AGAIN_S = 30.0
"""Between them."""
MOST_KEPT = 10_000
"""Images of which it is known that they were recorded."""
FILE = "recorded.json"


class _Kept(msgspec.Struct):
    """What a new process must know, so that limits hold for a node and not for a process."""

    node: str
    """A number made by chance, by which its recordings are told from others'."""
    begun: list[float] = []
    """When the starts of the last hour were begun to be recorded, in seconds since 1970."""
    images: dict[str, float] = {}
    """When what an image's start read was sent, or was too much, by digest of the manifest."""


class _TooMuch(InputError):
    """The next start would read as much, and be slower for as little."""


class Mounting(Protocol):
    """The mount of an image that is recorded: ``serving.Mounted``."""

    @property
    def note(self) -> MountNote: ...
    @property
    def gone(self) -> bool: ...
    def read_ahead(self) -> None: ...


class StartRecorder:
    """See the module. For many threads. Close it with the process: what was not sent is dropped."""

    def __init__(
        self,
        settings: RecordStarts,
        inbox: Callable[[], Place],
        *,
        state: Path,
        log: Callable[[str], object],
        counts: Counts | None = None,
        is_over: Callable[[float], bool] = lambda quiet_s: quiet_s >= QUIET_S,
        has_gpu: bool | None = None,
    ) -> None:
        """inbox: where recordings are sent, with this machine's credentials. state: the folder with what this node
        keeps. log: is told in one line what a person must know. is_over: whether a start is, that has read nothing new
        for so many seconds. has_gpu: this machine's unless told."""
        self._settings, self._inbox, self._log = settings, inbox, log
        self._counts = counts or Counts()
        self._is_over, self._has_gpu = is_over, has_gpu
        self._path = state / "lazy" / FILE
        self._lock, self._closed = threading.Lock(), threading.Event()
        self._told_full = 0.0

    def close(self) -> None:
        """Record no more."""
        self._closed.set()

    def watch(self, image: OpenImage, reference: str) -> WatchedImage | None:
        """What is to be mounted in place of an image whose start is recorded; None where it is not. Behind this
        :meth:`begin`, or what was watched counts as begun."""
        try:
            if self._closed.is_set() or not self._is_wanted(image, reference):
                return None
            if not self._may_begin(str(image.image.descriptor.digest), reference):
                return None
        except RegistryPipelinesError as error:
            self._log(f"the start of {reference} is not recorded: {error}")
            return None
        from registry_pipelines.stream.hot.watched import WatchedImage

        return WatchedImage(image)

    def begin(self, watched: WatchedImage, mounted: Mounting, reference: str, then: Callable[[], object]) -> None:
        """It is mounted now. then: is called when the start is over, or is not recorded after all."""
        watched.begin()
        thread = threading.Thread(
            target=self._record, args=(watched, mounted, reference, then), name="record_start", daemon=True
        )
        thread.start()

    def _is_wanted(self, image: OpenImage, reference: str) -> bool:
        name = Reference.parse(reference)
        named = f"{name.registry}/{name.repository}"
        if not any(fnmatch.fnmatchcase(named, pattern) for pattern in self._settings.images):
            return False
        return not image.comes_ahead or (self.has_gpu and not image.knows_gpus)

    @property
    def has_gpu(self) -> bool:
        """Whether programs on this machine may use one."""
        if self._has_gpu is None:
            from registry_pipelines.stream.lazy.program_root import gpu_devices

            self._has_gpu = bool(gpu_devices())
        return self._has_gpu

    def _may_begin(self, image: str, reference: str) -> bool:
        """Within the limits; then it is counted. Raises LocalError."""
        with self._lock:
            kept, now = self._read(), time.time()
            kept.begun = [each for each in kept.begun if now - HOUR_S < each <= now]
            if image in kept.images:
                return False
            if len(kept.begun) >= self._settings.per_hour:
                if now - self._told_full > HOUR_S:
                    self._told_full = now
                    self._log(
                        f"the start of {reference} is not recorded, nor are others for now: "
                        f"{count_text(len(kept.begun), 'start')} were in this hour"
                    )
                return False
            kept.begun.append(now)
            self._write(kept)
            return True

    def _record(self, watched: WatchedImage, mounted: Mounting, reference: str, then: Callable[[], object]) -> None:
        """In a thread."""
        begun, problem = 0.0, None
        try:
            begun = self._wait(watched, mounted)
        except Exception as error:  # what waits for the end of the start goes on in any case
            problem = error
        watched.finish()
        if self._closed.is_set():
            return
        with suppress(OSError):
            mounted.read_ahead()
        then()
        try:
            if problem is not None:
                raise problem
            self._send(watched, mounted, reference, begun)
        except Exception as error:  # a matter of speed alone
            if isinstance(error, _TooMuch):
                with suppress(LocalError):
                    self._remember(watched)
            why = error if isinstance(error, RegistryPipelinesError) else f"{type(error).__name__}: {error}"
            self._log(f"the start of {reference} was recorded for nothing: {why}")
            self._counts.count("recordings", result="dropped")

    def _wait(self, watched: WatchedImage, mounted: Mounting) -> float:
        """Until the start is over. When it began, in monotonic seconds. Raises InputError: it is none."""
        from registry_pipelines.stream.hot.recording import PAGE_BYTES

        most = int(self._settings.max_bytes) // PAGE_BYTES
        begun = time.monotonic()
        while not watched.touched:  # a pull may mount it long before a container starts
            if mounted.gone or self._closed.wait(LOOK_EVERY_S):
                raise InputError("it was unmounted before anything was read")
            if (note := mounted.note).carrier != "fuse" and note.carrier_why:
                raise InputError(f"on carrier {note.carrier} nobody is asked: {note.carrier_why}")
            begun = time.monotonic()
        until = begun + self._settings.timeout.total_seconds()
        while (now := time.monotonic()) < until and not self._is_over(now - watched.newest_s):
            if watched.touched > most:
                raise _TooMuch(f"it read more than {self._settings.max_bytes}")
            if mounted.gone or self._closed.wait(LOOK_EVERY_S):
                raise InputError("it was unmounted while it started")
        if mounted.note.failed_reads:
            raise InputError("reads of the image failed, so the program may have taken another way")
        return begun

    def _send(self, watched: WatchedImage, mounted: Mounting, reference: str, begun: float) -> None:
        """Raises RegistryPipelinesError."""
        from registry_pipelines.stream.hot.inbox import NodeNote, send
        from registry_pipelines.stream.hot.recorder import TOOL
        from registry_pipelines.stream.hot.recording import Recording

        files, touches = watched.found()
        if not touches:
            raise InputError("it read nothing of the image")
        image = watched.opened.image.descriptor.digest
        recording = Recording(
            image=image,
            files=files,
            touches=touches,
            until="quiet",
            gpu=self.has_gpu,
            seconds=round(max(0.0, watched.newest_s - begun), 3),
            tool=TOOL,
        )
        if recording.page_bytes > self._settings.max_bytes:
            raise _TooMuch(f"it read more than {self._settings.max_bytes}")
        note = NodeNote(
            image=image,
            recording=image,
            node=self._read().node,
            at=write_time(datetime.now(UTC)),
            carrier=mounted.note.carrier,
            kernel=os.uname().release,
        )
        for tries in range(1, TRIES + 1):
            try:
                send(self._inbox(), recording, note)
                break
            except RegistryPipelinesError:
                if tries == TRIES or self._closed.wait(AGAIN_S * tries):
                    raise
        self._remember(watched)
        self._log(
            f"the start of {reference} was recorded: {count_text(recording.pages, 'page')} of "
            f"{count_text(len(files), 'file')} in {recording.seconds:.1f} s; sent to {self._settings.inbox}"
        )
        self._counts.count("recordings", result="sent")

    def _remember(self, watched: WatchedImage) -> None:
        """That the image needs no more starts recorded here. Raises LocalError."""
        with self._lock:
            kept = self._read()
            kept.images[str(watched.opened.image.descriptor.digest)] = time.time()
            for old in sorted(kept.images, key=kept.images.__getitem__)[:-MOST_KEPT]:
                del kept.images[old]
            self._write(kept)

    def _read(self) -> _Kept:
        with suppress(OSError, ContentError):
            return decode_json(self._path.read_bytes(), _Kept, what="what was recorded")
        kept = _Kept(uuid.uuid4().hex)
        with suppress(LocalError):
            self._write(kept)
        return kept

    def _write(self, kept: _Kept) -> None:
        """Raises LocalError."""
        with local_errors(self._path.parent):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_file(self._path, encode_json(kept), mode=0o600)


__all__ = ["StartRecorder"]
