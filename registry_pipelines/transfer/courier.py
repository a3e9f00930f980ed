"""Gives parts to the courier process (see ``courier_process`` for why there is one) and waits for the answers."""

from __future__ import annotations

import base64
import fcntl
import itertools
import json
import os
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import asdict
from pathlib import Path
from typing import Any

from registry_pipelines.errors import Stalled, Unavailable
from registry_pipelines.oci.manifests import decode_json
from registry_pipelines.registry.interface import Carrier, Parcel
from registry_pipelines.transfer.courier_process import read_frame
from registry_pipelines.transfer.memory import PART_BYTES, Part, PartMemory

SETTLE_S = 150.0
"""How long a successor waits for the courier of a killed process: its stall time-outs (60 s each way) and room."""

MAX_NOTE_BYTES = 64 * 1024


class Courier:
    """One courier process for all transfers of this process, started when first needed. folder: for locks and notes."""

    def __init__(self, folder: Path, memory: PartMemory) -> None:
        self._folder, self._memory = folder, memory
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._waiting: dict[int, Future[dict[str, Any]]] = {}
        self._ids = itertools.count(1)
        self._reader: threading.Thread | None = None

    def carrier(self, part: Part, note: Path, end: int) -> Callable[[memoryview], Carrier] | None:
        """A carrier for pieces at the end of a part; None where the part is not in shared memory. end: the upload's
        offset once it is sent."""
        if part.slot is None or self._memory.file is None:
            return None
        stop = part.slot * PART_BYTES + len(part.view)
        return lambda piece: _Delivery(self, stop - len(piece), len(piece), note, end)

    def deliver(self, order: dict[str, Any]) -> dict[str, Any]:
        """Send one order, wait for its answer. Raises Unavailable when the courier died."""
        answer: Future[dict[str, Any]] = Future()
        with self._lock:
            process = self._running()
            number = next(self._ids)
            self._waiting[number] = answer
            frame = json.dumps({"id": number, **order}).encode()
            try:
                assert process.stdin is not None  # noqa: S101 - a pipe was asked for
                process.stdin.write(struct.pack(">I", len(frame)) + frame)
                process.stdin.flush()
            except OSError as error:
                raise Unavailable("the courier process ended", where="this machine") from error
        return answer.result()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is not None and self._process.poll() is None:
            return self._process
        self._folder.mkdir(parents=True, exist_ok=True)
        assert self._memory.file is not None  # noqa: S101 - carrier() checked it
        script = str(Path(__file__).with_name("courier_process.py"))
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", script, str(self._memory.file), str(lock_file(self._folder, os.getpid()))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=(self._memory.file,),
            start_new_session=True,
        )
        assert self._process.stdout is not None  # noqa: S101 - a pipe was asked for
        read_frame(self._process.stdout)  # type: ignore[arg-type]
        self._reader = threading.Thread(target=self._read, args=(self._process,), name="courier", daemon=True)
        self._reader.start()
        return self._process

    def _read(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None  # noqa: S101 - a pipe was asked for
        while (answer := read_frame(process.stdout)) is not None:  # type: ignore[arg-type]
            self._waiting.pop(answer["id"]).set_result(answer)
        for waiting in list(self._waiting.values()):
            waiting.set_exception(Unavailable("the courier process ended", where="this machine"))
        self._waiting.clear()

    def close(self) -> None:
        """End the process after what it is sending."""
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None and process.stdout is not None  # noqa: S101 - pipes
        process.stdin.close()
        process.wait()
        if self._reader:
            self._reader.join()
        process.stdout.close()
        lock_file(self._folder, os.getpid()).unlink(missing_ok=True)


class _Delivery:
    def __init__(self, courier: Courier, start: int, size: int, note: Path, end: int) -> None:
        self._courier, self._start, self._size, self._note, self._end = courier, start, size, note, end

    def carry(self, parcel: Parcel) -> bytes:
        order = {
            **asdict(parcel),
            "head": base64.b64encode(parcel.head).decode(),
            "start": self._start,
            "size": self._size,
            "note": str(self._note),
            "end": self._end,
        }
        answer = self._courier.deliver(order)
        if "raw" in answer:
            return base64.b64decode(answer["raw"])
        kind = Stalled if answer["stalled"] else Unavailable
        raise kind(f"sending a part failed ({answer['error']})", where=f"{parcel.host}:{parcel.port}")


def lock_file(folder: Path, pid: int) -> Path:
    """Locked while the courier of a process lives."""
    return folder / f"courier-{pid}.lock"


def wait_for_courier(folder: Path, pid: int) -> None:
    """Wait until the courier of a dead process has finished its part."""
    path, deadline = lock_file(folder, pid), time.monotonic() + SETTLE_S
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
