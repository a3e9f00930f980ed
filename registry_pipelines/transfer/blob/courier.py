"""Gives parts to the courier process (see ``courier_process`` for why there is one) and waits for the answers."""

from __future__ import annotations

import base64
import contextlib
import errno
import fcntl
import hashlib
import itertools
import json
import queue
import struct
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from registry_pipelines.errors import LocalError, RegistryPipelinesError, Stalled, Unavailable
from registry_pipelines.interrupts import CHILDREN
from registry_pipelines.oci.manifests import decode_json
from registry_pipelines.registry.protocol import Parcel
from registry_pipelines.transfer.blob.courier_process import STILL_S, read_frame
from registry_pipelines.transfer.blob.memory import PART_BYTES, Part, PartMemory

SETTLE_S = 150.0
"""How long a successor waits for the courier of a killed process: its stall time-out (60 s), and time for the answer. A
registry that needs longer gets the parts since the last answer again."""

HURRY_S = STILL_S + 0.2
"""How long an interrupted process waits for its courier: until that has seen that nothing moves."""

MAX_NOTE_BYTES = 64 * 1024

COURIERS = "couriers"
"""Folder of the couriers' locks and notes, below the state folder."""

SEGMENT_BYTES = 16 * PART_BYTES
"""Content of one request. Large, because a registry is idle between two; the journal knows the offset after each."""

PACED_BYTES = 1024 * 1024
"""Content that is sent at once under a bandwidth cap. Whole parts would be bursts: at 1 MB/s one of 8 MiB every eight
seconds, and below that a registry would take the pause between two for a dead sender."""

PIECES_AHEAD = 2
"""Parts handed to the courier and not yet sent: one is on its way, one is ready."""


class Courier:
    """One courier process for all transfers of a state, started when first needed. folder: for locks and notes. name:
    of the owner of the uploads, by which a successor finds it. shared: what it needs to tell workers elsewhere of them
    (``orphan_process``); it goes through a pipe, for the database's address is a secret.

    refusing: registries that do not take content of unknown length; parts are sent to them from this process.
    """

    def __init__(self, folder: Path, memory: PartMemory, name: str, shared: Mapping[str, object] | None = None) -> None:
        self._shared = shared
        self._folder, self._memory = folder, memory
        self._lock_file = _lock_path(folder, name)
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._shipments: dict[int, Shipment] = {}
        self._ids = itertools.count(1)
        self._reader: threading.Thread | None = None
        self._broken = self._closed = False
        self.refusing: set[str] = set()

    @property
    def usable(self) -> bool:
        """Whether this system has shared memory files, and the process could be started."""
        return self._memory.file is not None and not self._broken

    def start(self) -> None:
        """Start the process before it is needed; where that fails, whoever needs it is told."""
        with contextlib.suppress(RegistryPipelinesError), self._lock:
            if self.usable:
                self._start()

    def open(self, order: dict[str, Any], shipment: Shipment) -> int:
        """Begin a request; its number. Its events go to the shipment. Raises Unavailable when the courier died or does
        not start, LocalError after :meth:`close`."""
        with self._lock:
            self._start()
            number = next(self._ids)
            self._shipments[number] = shipment
        self.tell({"id": number, **order})
        return number

    def tell(self, frame: dict[str, Any]) -> None:
        """Send a frame. Raises Unavailable when the courier died."""
        with self._lock:
            try:
                _write(self._process, frame)
            except OSError as error:
                raise Unavailable("the courier process ended", where="this machine") from error

    def forget(self, number: int) -> None:
        """The request is over."""
        with self._lock:
            self._shipments.pop(number, None)

    def _start(self) -> None:
        if self._closed:  # by an interrupt, and transfers that it left behind would start another
            raise LocalError("the transfer was stopped", where="this machine", do="Run it again; it goes on from there")
        if self._process is not None:
            if self._process.poll() is None:
                return
            self._bury(self._process)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._lock_file.touch()  # here, where a folder that cannot be written is no traceback of a process
            self._launch()
        except OSError as error:
            self._broken = True
            with contextlib.suppress(OSError):
                self._lock_file.unlink(missing_ok=True)
            raise Unavailable(f"the courier process does not start: {error.strerror}", where="this machine") from error

    def _launch(self) -> None:
        memory = self._memory.file
        assert memory is not None  # noqa: S101 - usable was asked
        script = str(Path(__file__).with_name("courier_process.py"))
        process = self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", script, str(memory), str(self._lock_file)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=(memory,),
            start_new_session=True,
        )
        CHILDREN.add(process, process.terminate)
        assert process.stdout is not None  # noqa: S101 - a pipe was asked for
        if read_frame(process.stdout) is None:  # type: ignore[arg-type]
            self._bury(process)
            raise ChildProcessError(errno.ECHILD, f"it ended with {process.returncode}")
        if self._shared is not None:
            _write(process, {"shared": self._shared})
        self._reader = threading.Thread(target=self._read, args=(process,), name="courier", daemon=True)
        self._reader.start()

    def _read(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None  # noqa: S101 - a pipe was asked for
        while (frame := read_frame(process.stdout)) is not None:  # type: ignore[arg-type]
            shipment = self._shipments.get(frame["id"])
            if shipment:
                shipment.receive(frame)
        for shipment in list(self._shipments.values()):
            shipment.receive({"error": "the courier process ended", "stalled": False})

    def close(self, *, hurry: bool = False) -> None:
        """End the process after what it is sending. hurry: it takes little time for that, and is waited for less; what
        it still sends then is in its note."""
        with self._lock:  # an interrupt may come while another thread starts it
            process, self._process = self._process, None
            self._closed = True
        if process is None:
            return
        try:
            self._bury(process, HURRY_S if hurry else None)
        except subprocess.TimeoutExpired:  # its lock tells a successor that it is there
            return
        self._lock_file.unlink(missing_ok=True)

    def _bury(self, process: subprocess.Popen[bytes], hurry_s: float | None = None) -> None:
        """Wait for the end of a process, free what it had. Raises TimeoutExpired when it hurries and needs longer."""
        assert process.stdin is not None and process.stdout is not None  # noqa: S101 - pipes
        if hurry_s is not None:
            process.terminate()
        with contextlib.suppress(OSError):  # what a dead one did not read
            process.stdin.close()
        process.wait(hurry_s)
        CHILDREN.discard(process)
        if self._reader:
            self._reader.join()
        process.stdout.close()


def _write(process: subprocess.Popen[bytes] | None, frame: Mapping[str, object]) -> None:
    """Raises OSError."""
    if process is None or process.stdin is None:
        raise BrokenPipeError
    content = json.dumps(frame).encode()
    process.stdin.write(struct.pack(">I", len(content)) + content)
    process.stdin.flush()


class Shipment:
    """A carrier: one request whose body are the next parts of an inbox, up to a segment. See protocol.Carrier.

    parts: gives the next part, None at the end. sent: called with (offset behind the bytes, bytes) of each piece sent.
    pace: waits until so many bytes are covered by a cap; None without one.
    """

    def __init__(
        self,
        courier: Courier,
        parts: Callable[[], Part | None],
        sent: Callable[[int, int], None],
        *,
        offset: int,
        note: Path,
        pace: Callable[[int], None] | None = None,
    ) -> None:
        self._courier, self._parts, self._on_sent, self._offset, self._note = courier, parts, sent, offset, note
        self._pace = pace
        self._ahead: deque[tuple[Part, int, int]] = deque()
        self._room = threading.Semaphore(PIECES_AHEAD)
        self._answer: queue.SimpleQueue[dict[str, Any] | BaseException] = queue.SimpleQueue()
        self._over = False
        self._used = False
        self.sent_bytes = 0
        self.complete = False
        """Whether the parts came to their good end."""
        self.stopped: RegistryPipelinesError | None = None
        """What ended them badly; what was sent until then is stored all the same."""

    def carry(self, parcel: Parcel) -> bytes:
        """See Carrier."""
        if self._used:
            raise Unavailable("the registry asked for other credentials while content was sent", where=parcel.host)
        self._used = True
        head = base64.b64encode(parcel.head).decode()
        order = {**msgspec.structs.asdict(parcel), "head": head, "note": str(self._note), "offset": self._offset}
        number = self._courier.open(order, self)
        try:
            self._feed(number)
            return self._read_answer(parcel)
        finally:
            self._courier.forget(number)
            while self._ahead:
                self._ahead.popleft()[0].release()

    def receive(self, event: dict[str, Any]) -> None:
        """An event of the courier, in its reader's thread. Parts that were sent are let go of here and at once: whoever
        feeds may be waiting for the memory that they hold."""
        if "sent" not in event:
            self._over = True
            self._answer.put(event)
        else:
            part, stop, size = self._ahead.popleft()
            self.sent_bytes += size
            try:
                self._on_sent(stop, size)
            except BaseException as error:  # of whoever shows progress; told by carry()
                self._over = True
                self._answer.put(error)
            part.release()
        self._room.release()

    def _feed(self, number: int) -> None:
        """Hand parts to the courier until the segment, the blob or the request is over."""
        given, at = 0, self._offset
        while given < SEGMENT_BYTES and not self._over:
            try:
                part = self._parts()
            except RegistryPipelinesError as error:
                self.stopped = error
                break
            if part is None:
                self.complete = True
                break
            if part.stop <= at:
                part.release()
                continue
            self._hand_over(number, part, at)
            given, at = given + part.stop - at, part.stop
        self._courier.tell({"id": number, "end": True})

    def _hand_over(self, number: int, part: Part, at: int) -> None:
        """Give the part's bytes from ``at`` on to the courier; under a cap in small pieces, each once it is covered."""
        assert part.slot is not None  # noqa: S101 - parts of large blobs have one
        step = PACED_BYTES if self._pace else PART_BYTES
        pieces = deque((start, min(start + step, part.stop)) for start in range(at, part.stop, step))
        part.share(len(pieces) - 1)
        try:
            while pieces and not self._over:
                start, stop = pieces[0]
                if self._pace:
                    self._pace(stop - start)
                self._room.acquire()
                self._ahead.append((part, stop, stop - start))
                pieces.popleft()
                place = part.slot * PART_BYTES + start - part.offset
                self._courier.tell({"id": number, "start": place, "size": stop - start})
        finally:
            for _ in pieces:
                part.release()

    def _read_answer(self, parcel: Parcel) -> bytes:
        event = self._answer.get()
        if isinstance(event, BaseException):
            raise event
        if "raw" in event:
            return base64.b64decode(event["raw"])
        kind = Stalled if event["stalled"] else Unavailable
        raise kind(f"sending content failed ({event['error']})", where=f"{parcel.host}:{parcel.port}")


def wait_for_courier(folder: Path, name: str) -> None:
    """Wait until the courier of a dead process has finished what it has."""
    deadline, path = time.monotonic() + SETTLE_S, _lock_path(folder, name)
    while path.exists() and time.monotonic() < deadline:
        with path.open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                time.sleep(0.02)
                continue
        path.unlink(missing_ok=True)


def _lock_path(folder: Path, name: str) -> Path:
    """Hashed, because a name comes from a database that others write to."""
    return folder / f"courier-{hashlib.sha256(name.encode()).hexdigest()[:32]}.lock"


def read_note(path: Path) -> tuple[str, int] | None:
    """Location and offset after the last part that the registry took; None without a note."""
    try:
        with path.open("rb") as file:
            note = decode_json(file.read(MAX_NOTE_BYTES), dict[str, str | int], where=str(path), what="courier's note")
    except FileNotFoundError:
        return None
    return str(note["location"]), int(note["offset"])
