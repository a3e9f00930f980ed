"""Starts that were recorded elsewhere, as pages over time, and where these pages are in an image here.

A trace is JSON: ``workload``, ``files`` (path, bytes), ``order`` (seconds since the first page, number of the file,
first page of 4 KiB, pages) as pages entered the page cache. Paths below ``site-packages/`` are relative to that folder,
others absolute.
"""

from __future__ import annotations

import itertools
import json
import tarfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from registry_pipelines.errors import InputError
from registry_pipelines.oci.digest import Digest
from registry_pipelines.stream.hot.recording import PAGE_BYTES, RecordedFile, Recording

DISK_GAP_S = 0.001
"""Shorter gaps between pages are the recorder's disk, longer ones the program's work."""
DRIVER = "/usr/local/nvidia/"
"""The machine's own files in these traces; no image has them."""
WARM_OF_WORK = 0.833
"""A start from memory takes so much of its gaps of work, where nobody says how long it takes: as of PyTorch on an H100,
4.2 of 5.04 s."""
WARM_S = {"torch-gpu": 4.2, "torch": 4.2}
"""Seconds of a start from memory, by workload, where it was measured (3.8 to 4.6)."""
_SITE = "site-packages/"


@dataclass(frozen=True)
class Trace:
    """A recorded start."""

    workload: str
    files: tuple[tuple[str, int], ...]
    """Path, bytes."""
    order: tuple[tuple[float, int, int, int], ...]
    """Seconds, number of the file, first page, pages."""

    @property
    def gaps(self) -> list[float]:
        """Seconds from the page before, for each."""
        times = [0.0, *(each[0] for each in self.order)]
        return [max(after - before, 0.0) for before, after in itertools.pairwise(times)]

    @property
    def disk_s(self) -> float:
        """Of its time, what was the recorder's disk."""
        return sum(gap for gap in self.gaps if gap < DISK_GAP_S)

    @property
    def work_s(self) -> float:
        """Of its time, the rest."""
        return sum(gap for gap in self.gaps if gap >= DISK_GAP_S)

    @property
    def warm_s(self) -> float:
        """What it takes from memory, measured or estimated."""
        return WARM_S.get(self.workload, WARM_OF_WORK * self.work_s)


def read_trace(text: str) -> Trace:
    """``FILE`` or ``ARCHIVE:NAME``, where an archive (tar, compressed or not) has ``NAME.json``. Raises InputError."""
    archive, colon, name = text.rpartition(":")
    path = Path(archive if colon else text)
    try:
        if not colon:
            return _trace(json.loads(path.read_bytes()), text)
        with tarfile.open(path) as tar:
            for member in tar:
                if Path(member.name).name == f"{name}.json" and (file := tar.extractfile(member)):
                    return _trace(json.load(file), text)
    except (OSError, ValueError, tarfile.TarError) as error:
        raise InputError(f"the trace cannot be read: {error}", where=text) from error
    raise InputError(f"the archive has no {name}.json", where=text)


def _trace(found: Any, where: str) -> Trace:
    try:
        files = tuple((str(path), int(size)) for path, size in found["files"])
        order = tuple((float(at), int(file), int(first), int(count)) for at, file, first, count in found["order"])
        workload = str(found["workload"])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"that is no trace: {error!r} is missing or of another form", where=where) from error
    if not order or any(not (0 <= file < len(files) and first >= 0 and count > 0) for _, file, first, count in order):
        raise InputError("that is no trace: it has no order, or names files that it has not", where=where)
    return Trace(workload, files, order)


@dataclass(frozen=True)
class PlacedTrace:
    """A trace whose pages were found in an image."""

    trace: Trace
    recording: Recording
    gaps: tuple[float, ...]
    """Seconds before each touch of the recording, those of the disk dropped."""
    pages: int
    """Of the trace, the machine's driver aside."""
    driver_pages: int
    missing: tuple[str, ...]
    """Files that the image has not."""
    resized: int
    """Files of another size: byte code and what a distribution built itself."""

    @property
    def told(self) -> dict[str, Any]:
        """What was left out, as plain values."""
        return {
            "workload": self.trace.workload,
            "pages": self.pages,
            "pages_found": self.recording.pages,
            "driver_pages": self.driver_pages,
            "files_missing": len(self.missing),
            "files_resized": self.resized,
            "disk_s": round(self.trace.disk_s, 3),
            "work_s": round(self.trace.work_s, 3),
        }


def place_trace(trace: Trace, image: Digest, sizes: Callable[[str], int | None], site: str) -> PlacedTrace:
    """Find a trace's pages in an image. sizes: bytes of a regular file by its path from the top; None where there is
    none. site: its folder of packages, as ``usr/local/lib/python3.12/site-packages``."""
    files: list[RecordedFile] = []
    numbers: dict[int, int] = {}
    missing = []
    resized = 0
    for number, (path, size) in enumerate(trace.files):
        if path.startswith(DRIVER):
            continue
        found = next(((each, there) for each in _paths(path, site) if (there := sizes(each)) is not None), None)
        if found is None:
            missing.append(path)
            continue
        numbers[number] = len(files)
        resized += found[1] != size
        files.append(RecordedFile(*found))
    touches, gaps, seen, carried = [], [], set(), 0.0
    for gap, (_, number, first, count) in zip(trace.gaps, trace.order, strict=True):
        carried += gap if gap >= DISK_GAP_S else 0.0
        own = numbers.get(number, -1)
        last = -(-files[own].size // PAGE_BYTES) if own >= 0 else 0
        for page in range(first, min(first + count, last)):
            if (own, page) in seen:
                continue
            seen.add((own, page))
            touches.append((own, page, 1))
            gaps.append(carried)
            carried = 0.0
    driver = {number for number, (path, _) in enumerate(trace.files) if path.startswith(DRIVER)}
    counts = [0, 0]
    for _, number, _, count in trace.order:
        counts[number in driver] += count
    used = sorted({own for own, _, _ in touches})
    again = {own: index for index, own in enumerate(used)}
    recording = Recording(
        image=image,
        files=tuple(files[own] for own in used),
        touches=tuple((again[own], page, count) for own, page, count in touches),
        command=(trace.workload,),
        until="exit",
        gpu=True,
        seconds=trace.order[-1][0],
        tool="trace",
    )
    return PlacedTrace(trace, recording, tuple(gaps), counts[0], counts[1], tuple(missing), resized)


def find_site(paths: Iterable[str]) -> str:
    """The folder of packages with the most files among those of an image; empty where it has none."""
    counts = Counter(
        f"{head}/{_SITE[:-1]}" for path in paths for head, found, _ in [path.partition(f"/{_SITE}")] if found
    )
    return counts.most_common(1)[0][0] if counts else ""


def _paths(path: str, site: str) -> Iterator[str]:
    """Where a file of the trace may stand in an image: interpreters and their libraries lie here or there."""
    if path.startswith(_SITE):
        yield f"{site}/{path.removeprefix(_SITE)}"
        return
    plain = path.lstrip("/")
    yield plain
    yield plain.replace("usr/lib/", "usr/local/lib/", 1)
    yield plain.replace("usr/bin/", "usr/local/bin/", 1)
    yield plain.removeprefix("usr/")
