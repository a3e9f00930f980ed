"""A cluster that is never quiet: releases come, old copies go, a worker is killed; what became of them, and of memory.

    python benchmarks/soak.py [--minutes 30] [--images 6] [--every 6] [--write]

Postgres, Redis, webserver, daemon, code server, registries and three workers of two slots are processes of this
machine, as `make cluster` starts them. Every so many seconds a new release is pushed, a version of one of the images in
turn, and goes through scan, signature, verdict, promotion and two replicas; where many wait, the next one waits, too.
The job `collect` lets old copies go at one of the two targets. The third worker is killed with SIGKILL, all its
processes, while it has a run, and started again; the others live from the first minute to the last. At the end every
release must be where it belongs, and none was promoted twice.

Memory is that of each process by the kernel: resident, and anonymous, which is what a process itself has written. A
slope is that of a straight line by least squares with its standard error, without the first fifth of the time, in which
caches fill. Memory that a process keeps for each release would show in the slope; speed does not matter to it.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks import measure
from deploy.cluster.machines import Cluster, Process, until
from deploy.cluster.runs import Run, launch, runs
from registry_pipelines.chain import Chain
from registry_pipelines.errors import NotFound
from registry_pipelines.registry.protocol import Place
from registry_pipelines.report.html.plots import Plot, Point, draw
from tests.cluster.fleet import HASTY, Fleet, held, looked

KEPT = 4
"""Copies of an image that stay at the target that is collected."""
MORE = f"""
retention: [{{registry: eu, keep_newest: {KEPT}, keep_days: 0}}]
collect: {{apply: auto, recent: 0h, quarantine: 0}}
"""
MOST_WAITING = 12
"""Releases that are pushed and not done; a machine that is busy with other things must not drown."""
SAMPLES = 360
DOWN_S = 10
"""Seconds until a killed worker is started again."""
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
LONGEST_END_S = 1200
SHOWN = ("worker-1", "worker-2", "daemon", "webserver", "code", "registries", "postgres")
"""Machines in the picture: those that live from the first minute to the last."""


class Memory(NamedTuple):
    """Bytes of one process, or of several."""

    resident: int
    anonymous: int


class Kept(NamedTuple):
    """A process of a machine. number: its id, 0 for all processes of a machine together."""

    machine: str
    number: int


@dataclass
class Course:
    """What was seen. memory: by seconds from the start. done: releases that were done by then."""

    memory: dict[Kept, list[tuple[float, Memory]]] = field(default_factory=lambda: defaultdict(list))
    done: list[tuple[float, int]] = field(default_factory=list)
    first: dict[str, int] = field(default_factory=dict)
    """The process of a machine that started its others."""
    kills: list[float] = field(default_factory=list)
    skipped: int = 0


def children() -> dict[int, list[int]]:
    """Processes of this machine by who started them."""
    found: dict[int, list[int]] = defaultdict(list)
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:  # it has just ended
            continue
        found[int(fields[1])].append(int(path.parent.name))
    return found


def memory_of(number: int) -> Memory | None:
    """Of a process; None for one that has ended."""
    try:
        lines = Path(f"/proc/{number}/status").read_text().splitlines()
    except OSError:
        return None
    said = {name: value for name, _, value in (line.partition(":") for line in lines)}
    if "VmRSS" not in said:
        return None
    return Memory(*(int(said[name].split()[0]) * 1024 for name in ("VmRSS", "RssAnon")))


def look(cluster: Cluster, course: Course, at: float) -> None:
    """One sample of every process of every machine."""
    below = children()
    for machine in cluster.processes:
        if not machine.alive or machine.running is None:
            continue
        todo, whole = [machine.running.pid], Memory(0, 0)
        course.first[machine.name] = machine.running.pid
        while todo:
            number = todo.pop()
            todo += below[number]
            if (told := memory_of(number)) is not None:
                course.memory[Kept(machine.name, number)].append((at, told))
                whole = Memory(*map(sum, zip(whole, told, strict=True)))
        course.memory[Kept(machine.name, 0)].append((at, whole))
    course.done.append((at, done(cluster)))


def done(cluster: Cluster) -> int:
    """Releases of which a run ended well."""
    [[count]] = cluster.query(
        "SELECT COUNT(DISTINCT t.value) FROM runs r JOIN run_tags t ON t.run_id = r.run_id AND "
        "t.key = 'dagster/partition' WHERE r.pipeline_name = 'release' AND r.status = 'SUCCESS'"
    )
    return int(count)


class Fit(NamedTuple):
    """A straight line by least squares. slope, error: per second; error is the slope's standard error."""

    slope: float
    error: float


def fitted(points: Sequence[tuple[float, float]]) -> Fit:
    """At least three points at different times."""
    count = len(points)
    mean_x, mean_y = (sum(each[part] for each in points) / count for part in (0, 1))
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    slope = sum((x - mean_x) * (y - mean_y) for x, y in points) / spread
    rest = sum((y - mean_y - slope * (x - mean_x)) ** 2 for x, y in points)
    return Fit(slope, (rest / (count - 2) / spread) ** 0.5)


class Every:
    """Something that is due each so many seconds, the first time after one of them."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self._next = seconds, time.monotonic() + seconds

    def due(self) -> bool:
        """Whether it is time; what was missed is not made up for."""
        if time.monotonic() < self._next:
            return False
        self._next = max(self._next + self.seconds, time.monotonic())
        return True


def busy(cluster: Cluster, worker: Process) -> bool:
    """Whether a worker has a run now."""
    return bool(
        cluster.query(
            "SELECT 1 FROM runs r JOIN run_tags t ON t.run_id = r.run_id WHERE r.status = 'STARTED' AND "
            "t.key = 'registry-pipelines/worker' AND t.value LIKE %s LIMIT 1",
            f"{worker.name}@%",
        )
    )


def soak(cluster: Cluster, fleet: Fleet, minutes: float, every_s: float) -> Course:
    """Keep the cluster busy for so long."""
    course, victim, began = Course(), cluster.workers[-1], time.monotonic()
    seconds = minutes * 60
    pushes, samples = Every(every_s), Every(seconds / SAMPLES)
    collects, kills = Every(max(30.0, seconds / 15)), Every(max(40.0, seconds / 10))
    again_at, wanted = 0.0, False
    while (at := time.monotonic() - began) < seconds:
        if pushes.due():
            if len(fleet.released) - done(cluster) < MOST_WAITING:
                number = len(fleet.released)
                fleet.push(fleet.images[number % len(fleet.images)], f"v1.{number // len(fleet.images)}.0")
            else:
                course.skipped += 1
        if collects.due():
            launch(cluster, "collect")
        wanted = wanted or (kills.due() and at < seconds - 2 * DOWN_S)
        if wanted and victim.alive and busy(cluster, victim):
            victim.kill()
            course.kills.append(at)
            again_at, wanted = time.monotonic() + DOWN_S, False
        if again_at and time.monotonic() >= again_at:
            victim.start()
            again_at = 0.0
        if samples.due():
            look(cluster, course, at)
        time.sleep(0.1)
    victim.start()
    return course


def lost(fleet: Fleet, waits: set[str]) -> list[str]:
    """What is not where it belongs. waits: as ``Fleet.missing`` takes them."""
    newest: dict[str, list[str]] = defaultdict(list)
    for image, tag in fleet.released:
        newest[image].append(f"{image}:{tag}")
    old = {f"{each} is not at eu" for tags in newest.values() for each in tags[:-KEPT]}
    return [each for each in fleet.missing(waits) if each not in old]


def over(cluster: Cluster, fleet: Fleet) -> list[Run]:
    """All runs, when every release is where it belongs and nothing is under way."""
    found = runs(cluster)
    releases = [run for run in found if run.job == "release"]
    if any(not run.is_over for run in found):
        return []
    if {run.about.rpartition("@")[0] for run in releases} < {f"{image}:{tag}" for image, tag in fleet.released}:
        return []
    return [] if lost(fleet, held(releases)) else found


def gone(fleet: Fleet) -> int:
    """Old copies that were let go."""
    chain, count = Chain(fleet.config()), 0
    for (image, _), digest in fleet.released.items():
        place = Place(chain.registry("eu"), f"team/{image}")
        try:
            place.registry.resolve(place.repository, digest)
        except NotFound:
            count += 1
    return count


def slopes(course: Course, seconds: float, workers: Sequence[str]) -> list[str]:
    """A row for each machine, and for each process of the workers that lived all the time."""
    rows = [
        "| what | processes | resident, MB | anonymous, MB | slope, KB a minute | standard error | KB a release |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    from_s = seconds / 5
    released = _between(course.done, from_s, seconds)
    for each, points in sorted(course.memory.items()):
        late = [(at, told) for at, told in points if at >= from_s]
        if each.machine not in SHOWN and each.machine != "redis":
            continue
        if len(late) < 10 or late[-1][0] - late[0][0] < 0.9 * (seconds - from_s):
            continue
        if each.number and each.machine not in workers:
            continue
        fit = fitted([(at, told.anonymous / 1000) for at, told in late])
        beside = sum(one.machine == each.machine and one.number > 0 and _lives(course, one) for one in course.memory)
        own = "its own process" if each.number == course.first[each.machine] else f"a slot, process {each.number}"
        name = f"{each.machine}: {own}" if each.number else f"**{each.machine}**"
        first, last = late[0][1], late[-1][1]
        rows.append(
            f"| {name} | {1 if each.number else beside} | {first.resident / 1e6:.0f} to {last.resident / 1e6:.0f} "
            f"| {first.anonymous / 1e6:.1f} to {last.anonymous / 1e6:.1f} | {fit.slope * 60:+.1f} "
            f"| {fit.error * 60:.1f} | {fit.slope * (seconds - from_s) / max(released, 1):+.2f} |"
        )
    return rows


def _between(done_by: Sequence[tuple[float, int]], begin: float, end: float) -> int:
    inside = [count for at, count in done_by if begin <= at <= end]
    return inside[-1] - inside[0] if inside else 0


def _lives(course: Course, each: Kept) -> bool:
    return course.memory[each][-1][0] >= course.done[-1][0]


def picture(course: Course) -> str:
    """Anonymous memory of machines over time."""
    zero = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    lines = {
        name: [
            Point(datetime.fromtimestamp(zero.timestamp() + at, UTC), told.anonymous)
            for at, told in course.memory[Kept(name, 0)]
        ]
        for name in SHOWN
    }
    title = "Anonymous memory of each machine's processes together"
    return str(draw(Plot(name="soak", title=title, unit="bytes", lines=lines, read_from="/proc"), alone=True))


def told(course: Course, fleet: Fleet, found: Sequence[Run], seconds: float) -> str:
    """What became of everything, a table."""
    releases = [run for run in found if run.job == "release"]
    waits = held(releases)
    counts = fleet.promotions()
    twice = [each for each, count in counts.items() if count > 1]
    not_once = [each for each, count in counts.items() if count != int(":".join(each) not in waits)]
    states = Counter((run.job, run.status) for run in found)
    again = sum(run.attempt > 1 for run in releases)
    rows: Mapping[str, object] = {
        "releases that were pushed": f"{len(fleet.released)}, one in {seconds / max(len(fleet.released), 1):.1f} s",
        "lost": len(lost(fleet, waits)),
        "promoted twice": len(twice),
        "held, as a newer one was promoted before": len(waits),
        "neither promoted once nor held": len(not_once),
        "times that a worker was killed": len(course.kills),
        "runs of releases, of these failed": f"{len(releases)}, {states['release', 'FAILURE']}",
        "runs that Dagster began again": again,
        "layers that were sent to a target twice": len(fleet.sent_twice()),
        "collections, of these failed": f"{sum(run.job == 'collect' for run in found)}, {states['collect', 'FAILURE']}",
        "old copies that they let go": gone(fleet),
        "pushes that waited, as others did": course.skipped,
    }
    return "\n".join(["| | |", "|---|--:|", *(f"| {name} | {value} |" for name, value in rows.items())])


def failures(cluster: Cluster, found: Sequence[Run]) -> list[str]:
    """Why runs failed, the first words of each; not those that were on the killed worker."""
    said = []
    for run in found:
        if run.status != "SUCCESS" and run.worker != cluster.workers[-1].name:
            said.append(f"{run.job} {run.about} on {run.worker}: {cluster.why(run.id)[:600]}")
    return said


def main(arguments: Sequence[str]) -> None:
    """See the module."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--images", type=int, default=6)
    parser.add_argument("--every", type=float, default=6, help="seconds between two pushes")
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    seconds, load = options.minutes * 60, os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="soak-") as made:
        Path(made).chmod(0o711)
        fleet = Fleet(Path(made), [f"app-{place}" for place in range(options.images)])
        fleet.path.write_text(fleet.path.read_text() + MORE)
        with fleet.cluster(settings=HASTY, patience=10) as cluster:
            until("the registry was looked at once", lambda: looked(cluster), seconds=300)
            course = soak(cluster, fleet, options.minutes, options.every)
            found = until("all is where it belongs", lambda: over(cluster, fleet), seconds=LONGEST_END_S)
            became = told(course, fleet, found, seconds)
            for each in failures(cluster, found):
                print(f"  {each}", flush=True)
            table = "\n".join(slopes(course, seconds, [each.name for each in cluster.workers[:-1]]))
    loads = f"Load of the machine before: {load:.1f}, at the end: {os.getloadavg()[0]:.1f}."
    print(f"{became}\n\n{table}\n\n{loads}")
    if options.write:
        (measure.DOCS / "soak.svg").write_text(picture(course) + "\n")
        chosen = f"--minutes {options.minutes:g} --images {options.images} --every {options.every:g}"
        measure.write_page(
            "soak", "A soak", f"python benchmarks/soak.py {chosen} --write", *_about(), became,
            "![Anonymous memory of each machine's processes together over the time of the soak](soak.svg)",
            "## Memory", table, loads,
        )  # fmt: skip


def _about() -> list[str]:
    return (__doc__ or "").strip().split("\n\n")[2:]


if __name__ == "__main__":
    main(sys.argv[1:])
