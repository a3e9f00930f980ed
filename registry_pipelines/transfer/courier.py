"""Gives parts to the courier process (see ``courier_process`` for why there is one) and waits for the answers."""

from __future__ import annotations

import base64
import fcntl
import itertools
import json
import os
import queue
import struct
import subprocess
import sys
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from registry_pipelines.errors import RegistryPipelinesError, Stalled, Unavailable
from registry_pipelines.oci.manifests import decode_json
from registry_pipelines.registry.interface import Parcel
from registry_pipelines.transfer.courier_process import read_frame
from registry_pipelines.transfer.memory import PART_BYTES, Part, PartMemory

SETTLE_S = 150.0
"""How long a successor waits for the courier of a killed process: its stall time-outs (60 s each way) and room."""

MAX_NOTE_BYTES = 64 * 1024


SEGMENT_BYTES = 16 * PART_BYTES
"""Content of one request. Large, because a registry is idle between two; the journal knows the offset after each."""

PIECES_AHEAD = 2
"""Parts handed to the courier and not yet sent: one is on its way, one is ready."""


class Courier:
    """One courier process for all transfers of a state, started when first needed. folder: for locks and notes.

    refusing: registries that do not take content of unknown length; parts are sent to them from this process.
    """

    def __init__(self, folder: Path, memory: PartMemory) -> None:
        self._folder, self._memory = folder, memory
        self._lock_file = folder / f"courier-{os.getpid()}-{uuid.uuid4().hex[:8]}.lock"
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._shipments: dict[int, Shipment] = {}
        self._ids = itertools.count(1)
        self._reader: threading.Thread | None = None
        self.refusing: set[str] = set()

    @property
    def usable(self) -> bool:
        """Whether this system has shared memory files."""
        return self._memory.file is not None

    def open(self, order: dict[str, Any], shipment: Shipment) -> int:
        """Begin a request; its number. Its events go to the shipment. Raises Unavailable when the courier died."""
        with self._lock:
            self._start()
            number = next(self._ids)
            self._shipments[number] = shipment
        self.tell({"id": number, **order})
        return number

    def tell(self, frame: dict[str, Any]) -> None:
        """Send a frame. Raises Unavailable when the courier died."""
        content = json.dumps(frame).encode()
        with self._lock:
            process = self._process
            try:
                if process is None or process.stdin is None:
                    raise BrokenPipeError
                process.stdin.write(struct.pack(">I", len(content)) + content)
                process.stdin.flush()
            except OSError as error:
                raise Unavailable("the courier process ended", where="this machine") from error

    def forget(self, number: int) -> None:
        """The request is over."""
        with self._lock:
            self._shipments.pop(number, None)

    def _start(self) -> None:
        if self._process is not None and self._process.poll() is None:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
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
        assert process.stdout is not None  # noqa: S101 - a pipe was asked for
        read_frame(process.stdout)  # type: ignore[arg-type]
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

    def close(self) -> None:
        """End the process after what it is sending."""
        with self._lock:  # an interrupt may come while another thread starts it
            process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None and process.stdout is not None  # noqa: S101 - pipes
        process.stdin.close()
        process.wait()
        if self._reader:
            self._reader.join()
        process.stdout.close()
        self._lock_file.unlink(missing_ok=True)


class Shipment:
    """A carrier: one request whose body are the next parts of an inbox, up to a segment. See interface.Carrier.

    parts: gives the next part, None at the end. sent: called with each part sent.
    """

    def __init__(
        self,
        courier: Courier,
        parts: Callable[[], Part | None],
        sent: Callable[[Part, int], None],
        *,
        offset: int,
        note: Path,
    ) -> None:
        self._courier, self._parts, self._on_sent, self._offset, self._note = courier, parts, sent, offset, note
        self._ahead: deque[tuple[Part, int]] = deque()
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
        order = {**asdict(parcel), "head": head, "note": str(self._note), "offset": self._offset}
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
            part, size = self._ahead.popleft()
            self.sent_bytes += size
            try:
                self._on_sent(part, size)
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
            self._room.acquire()
            size = part.stop - at
            assert part.slot is not None  # noqa: S101 - parts of large blobs have one
            self._ahead.append((part, size))
            self._courier.tell({"id": number, "start": part.slot * PART_BYTES + at - part.offset, "size": size})
            given, at = given + size, part.stop
        self._courier.tell({"id": number, "end": True})

    def _read_answer(self, parcel: Parcel) -> bytes:
        event = self._answer.get()
        if isinstance(event, BaseException):
            raise event
        if "raw" in event:
            return base64.b64decode(event["raw"])
        kind = Stalled if event["stalled"] else Unavailable
        raise kind(f"sending content failed ({event['error']})", where=f"{parcel.host}:{parcel.port}")


def wait_for_couriers(folder: Path, pid: int) -> None:
    """Wait until the couriers of a dead process have finished what they have."""
    deadline = time.monotonic() + SETTLE_S
    for path in folder.glob(f"courier-{pid}-*.lock"):
        while path.exists() and time.monotonic() < deadline:
            with path.open("a") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    time.sleep(0.02)
                    continue
            path.unlink(missing_ok=True)


def read_note(path: Path) -> tuple[str, int] | None:
    """Location and offset after the last part that the registry took; None without a note."""
    try:
        with path.open("rb") as file:
            found = decode_json(file.read(MAX_NOTE_BYTES), dict[str, str | int], where=str(path), what="courier's note")
    except FileNotFoundError:
        return None
    return str(found["location"]), int(found["offset"])
