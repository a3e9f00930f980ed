"""Ways take turns, so that what the machine does meanwhile hits all alike; or many nodes start at once."""

from __future__ import annotations

import math
import shutil
import statistics
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from registry_pipelines.errors import RegistryPipelinesError
from registry_pipelines.progress import size_text
from registry_pipelines.stream.bench.machine import disk_mb_per_s
from registry_pipelines.stream.bench.ways import LOCAL, Node, Sample, Setting, Way, cool, measure


@dataclass
class Row:
    """What came out for one way. why: why there is nothing, or why it ended early."""

    key: str
    title: str
    samples: list[Sample] = field(default_factory=list)
    why: str = ""

    def median(self, what: Callable[[Sample], float]) -> float:
        """Of all its starts; NaN where there is none."""
        return statistics.median(map(what, self.samples)) if self.samples else math.nan

    @property
    def started_s(self) -> float:
        """Median seconds to the first output."""
        return self.median(lambda each: each.clocks.started_s)

    @property
    def result_s(self) -> float:
        """Median seconds to the answer."""
        return self.median(lambda each: each.clocks.result_s)

    def typical(self) -> Sample:
        """The start whose answer came nearest to the median."""
        return min(self.samples, key=lambda each: abs(each.clocks.result_s - self.result_s))


@dataclass
class Measured:
    """What came out of a benchmark. disk_mb_per_s: of the machine, once before each round."""

    rows: list[Row]
    rounds: int
    disk_mb_per_s: list[float] = field(default_factory=list)

    def row(self, key: str) -> Row | None:
        """That of a way with a result."""
        return next((row for row in self.rows if row.key == key and row.samples), None)


def take_turns(ways: Sequence[Way], setting: Setting, rounds: int, say: Callable[[str], object]) -> Measured:
    """Each way once a round: A B C, B C A, ... A way that fails is left out from then on, with the reason. say: is told
    each result."""
    measured = Measured([Row(way.key, way.title, why=way.missing(setting)) for way in ways], rounds)
    by_key = {way.key: way for way in ways}
    for number in range(rounds):
        measured.disk_mb_per_s.append(disk_mb_per_s(setting.image.work))
        at = number % len(ways)
        for row in (*measured.rows[at:], *measured.rows[:at]):
            if row.why:
                continue
            try:
                sample = measure(by_key[row.key], setting)
            except RegistryPipelinesError as error:
                row.why = " ".join(str(error).split())
                say(f"{row.title}: {row.why}")
                continue
            row.samples.append(sample)
            clocks = sample.clocks
            say(f"{row.title}: STARTED {clocks.started_s:.2f} s  RESULT {clocks.result_s:.2f} s  {clocks.said}")
    return measured


@dataclass
class Crowd:
    """Many nodes that started at once, in one way."""

    key: str
    title: str
    samples: list[Sample]
    bytes: int = 0
    """That the registry gave to all."""
    requests: int = 0
    refused: int = 0
    """Answers 429 or 503."""
    why: str = ""
    """Why nothing was measured, or what went wrong with some."""

    def percentile(self, share: float, what: Callable[[Sample], float]) -> float:
        """The smallest value that so many of the nodes did not exceed; NaN without any."""
        values = sorted(map(what, self.samples))
        return values[min(len(values) - 1, math.ceil(share * len(values)) - 1)] if values else math.nan


def start_crowd(way: Way, setting: Setting, nodes: int) -> Crowd:
    """So many cold nodes at once, from one registry over one link. Each is prepared first; then all start together."""
    why = "what is local already comes over no link" if way.key == LOCAL else way.missing(setting)
    why = why or no_room(nodes, way.disk_bytes(setting), free=shutil.disk_usage(setting.image.work).free)
    crowd = Crowd(way.key, way.title, [], why=why)
    if why:
        return crowd
    cool(way, setting, Node(setting.image.work / "cooling", None))
    setting.registry.take()
    gate = threading.Barrier(nodes)
    failures: list[str] = []

    def start(number: int) -> None:
        try:
            crowd.samples.append(measure(way, setting, number, before=gate.wait))
        except (RegistryPipelinesError, OSError, threading.BrokenBarrierError) as error:
            gate.abort()
            failures.append(" ".join(str(error).split()))

    threads = [threading.Thread(target=start, args=(number,)) for number in range(nodes)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    asked = setting.registry.take()
    crowd.bytes, crowd.requests, crowd.refused = asked.bytes, asked.requests, asked.refused
    if failures:
        crowd.why = f"{len(failures)} of {nodes} nodes gave no answer: {failures[0]}"
    return crowd


def no_room(nodes: int, each_bytes: int, *, free: int) -> str:
    """Why so many nodes cannot be cold at once here; empty where they can."""
    wanted = nodes * each_bytes
    if wanted <= free:
        return ""
    return f"{nodes} nodes with the whole image would fill {size_text(wanted)}, and the disk has {size_text(free)}"
