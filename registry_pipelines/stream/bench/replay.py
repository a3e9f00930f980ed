"""Touch the pages of a recorded start in its order and with its pauses, on any mount.

Run as ``python -m registry_pipelines.stream.bench.replay PLAN FOLDER`` on files that are there, or ``... PLAN @DIR
COMMAND...``, where the command mounts them on ``@DIR`` and says a line when it has. On stdout ``started`` with the
first page, and with the last one a line of JSON (:class:`Replayed`).
"""

from __future__ import annotations

import json
import mmap
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from registry_pipelines.stream.bench.traces import PlacedTrace

PAGE_BYTES = 4096
STALL_S = 0.001
"""A page that took longer was not there yet."""
PLACE = "@DIR"
_END_S = 15.0
_LAST = '"stalled_s"'
"""In the line that is the answer; the mount goes after it."""


@dataclass
class Replayed:
    """seconds: from the first to the last page, pauses too."""

    seconds: float
    touches: int
    stalls: int
    stalled_s: float
    slow_s: float
    """In touches that were no stalls."""


@dataclass(frozen=True)
class Replay:
    """A :class:`~registry_pipelines.stream.bench.ways.Workload`: a start that was recorded elsewhere. plan: the file
    that :func:`write_plan` wrote."""

    plan: Path
    told: dict[str, Any] = field(default_factory=dict)
    until: str = _LAST

    def lazily(self, ours: Sequence[str], target: str, options: Sequence[str]) -> list[str]:
        """See Workload."""
        return [*_SELF, str(self.plan), PLACE, *ours, "stream", "mount", *options, target, PLACE]

    def locally(self, folder: Path) -> list[str]:
        """See Workload."""
        return [*_SELF, str(self.plan), str(folder)]

    def in_docker(self, image: str) -> list[str] | None:
        """See Workload."""
        return None


_SELF = (sys.executable, "-m", __name__ if __name__ != "__main__" else "registry_pipelines.stream.bench.replay")


def write_plan(path: Path, placed: PlacedTrace, scale: float) -> None:
    """What is touched, and with which pauses: those of the trace, so many times."""
    recording = placed.recording
    touches = [
        (number, page, count, round(gap * scale, 6))
        for (number, page, count), gap in zip(recording.touches, placed.gaps, strict=True)
    ]
    path.write_text(json.dumps({"files": [file.path for file in recording.files], "touches": touches}))


def scale_of(placed: PlacedTrace, warm_s: float, touching_s: float) -> float:
    """How many times the trace's pauses a replay has to pause so that it takes ``warm_s`` from memory, where touching
    alone takes ``touching_s``."""
    pauses = sum(placed.gaps)
    return max(warm_s - touching_s, 0.0) / pauses if pauses else 0.0


def prepare_replay(placed: PlacedTrace, path: Path, folder: Path | None, warm_s: float | None = None) -> Replay:
    """Write the plan of a replay that takes as long as the start did from memory. folder: the image unpacked, on which
    is tried how long touching alone takes; without one it counts as nothing, and ``told`` has no ``from_memory_s``.
    warm_s: seconds from memory; the trace's unless told."""
    wanted = placed.trace.warm_s if warm_s is None else warm_s
    touching, told = 0.0, placed.told
    if folder is not None:
        write_plan(path, placed, 0.0)
        plan = json.loads(path.read_text())
        touching = min(replay(plan, folder).seconds for _ in range(2))  # the first brings the files into memory
    scale = scale_of(placed, wanted, touching)
    write_plan(path, placed, scale)
    told |= {"warm_s": round(wanted, 3), "touching_s": touching, "scale": round(scale, 4)}
    if folder is not None:
        told["from_memory_s"] = replay(json.loads(path.read_text()), folder).seconds
    return Replay(path, told)


def replay(plan: Mapping[str, Any], folder: Path) -> Replayed:
    """Touch the pages. Raises OSError: a file is not there, or reading failed."""
    opened: dict[int, tuple[int, mmap.mmap | None]] = {}
    stalls = touches = 0
    stalled_s = slow_s = 0.0
    begin = time.monotonic()
    for number, page, count, pause_s in plan["touches"]:
        if pause_s:
            time.sleep(pause_s)
        before = time.monotonic()
        if number not in opened:
            opened[number] = _open(folder / plan["files"][number])
        _touch(*opened[number], page, count)
        took = time.monotonic() - before
        touches += 1
        if took > STALL_S:
            stalls, stalled_s = stalls + 1, stalled_s + took
        else:
            slow_s += took
    ended = time.monotonic()
    for descriptor, view in opened.values():
        if view is not None:
            view.close()
        os.close(descriptor)
    return Replayed(round(ended - begin, 3), touches, stalls, round(stalled_s, 3), round(slow_s, 3))


def _open(path: Path) -> tuple[int, mmap.mmap | None]:
    """Libraries are mapped, as the dynamic linker does it; other files are read."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    if ".so" in path.suffixes or path.parent.name == "bin":
        return descriptor, mmap.mmap(descriptor, 0, prot=mmap.PROT_READ, flags=mmap.MAP_PRIVATE)
    return descriptor, None


def _touch(descriptor: int, view: mmap.mmap | None, page: int, count: int) -> None:
    if view is None:
        os.pread(descriptor, count * PAGE_BYTES, page * PAGE_BYTES)
        return
    for each in range(page, page + count):
        view[each * PAGE_BYTES]


@contextmanager
def _mounted(folder: str, command: Sequence[str]) -> Iterator[Path]:
    if folder != PLACE:
        yield Path(folder)
        return
    with tempfile.TemporaryDirectory(prefix="replay-") as name:
        placed = [name if word == PLACE else word for word in command]
        process = subprocess.Popen(placed, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        assert process.stdout  # noqa: S101 - it is piped
        try:
            if not process.stdout.readline():
                sys.exit(process.wait() or 1)
            yield Path(name)
        finally:
            process.terminate()
            process.wait(_END_S)


def main(arguments: Sequence[str]) -> None:
    """See the module."""
    plan = json.loads(Path(arguments[0]).read_text())
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # the mount goes all the same
    with _mounted(arguments[1], arguments[2:]) as folder:
        print("started", flush=True)
        told = json.dumps(asdict(replay(plan, folder)))
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # who has read the answer ends us, and we are about to end
        print(told, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
