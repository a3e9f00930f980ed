"""Releases through a whole cluster: three workers against one, and what Dagster and Celery add to a run.

    python benchmarks/cluster.py [--releases 200] [--far 0.05] [--again 20] [--write]

Postgres, Redis, webserver, daemon, code server and workers of two slots are processes of this machine, as
`make cluster` starts them. Releases are images of two small layers, one of which all have; each goes through scan,
signature, verdict, promotion and two replicas. far: seconds that a registry's connection rests after each answer, as
one in another region is waited for; so work waits, and more workers wait for more of it. The time is from the start of
the first run to the end of the last.

The engine's own share is measured with registries that are near: a release that is finished runs again and again, and
the same calls of the library are made in this process; the difference of the medians is the engine's. CPU seconds are
those of the worker's processes.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks import measure
from deploy.cluster.machines import Cluster, Process, until
from deploy.cluster.runs import Run, launch, runs
from registry_pipelines.chain import Chain
from registry_pipelines.config import Config
from registry_pipelines.release import Release
from tests.cluster.fleet import Fleet, looked, over

LONGEST_S = 7200
TAGS = 2
TICK_S = os.sysconf("SC_CLK_TCK")


@contextmanager
def started(workers: int, images: int, far_s: float) -> Iterator[tuple[Cluster, Fleet]]:
    """A cluster with nothing in its registries."""
    with tempfile.TemporaryDirectory(prefix="cluster-bench-") as made:
        Path(made).chmod(0o711)
        fleet = Fleet(Path(made), [f"app-{place:03}" for place in range(images)], far_s=far_s)
        with fleet.cluster(workers=workers, patience=10) as cluster:
            until("the registry was looked at once", lambda: looked(cluster), seconds=300)
            yield cluster, fleet


def throughput(workers: int, count: int, far_s: float) -> float:
    """Seconds for all releases."""
    with started(workers, count // TAGS, far_s) as (cluster, fleet):
        for tag in range(TAGS):
            for image in fleet.images:
                fleet.push(image, f"v1.{tag}.0")
        found = until("all are everywhere", lambda: over(cluster, fleet), seconds=LONGEST_S)
        took = max(run.ended or 0 for run in found) - min(run.started or run.created for run in found)
        print(f"  {workers} workers: {count} releases in {took:.1f} s, {took / count:.2f} s each", flush=True)
        return took


def engine_share(again: int) -> list[tuple[str, float, float]]:
    """Name, wall and CPU seconds of a run, of the library's calls alone, and of the difference; medians."""
    with started(1, 1, 0) as (cluster, fleet):
        fleet.push("app-000", "v1.0.0")
        [first] = [run for run in until("it is everywhere", lambda: over(cluster, fleet), seconds=600) if run.about]
        key, tags = first.about, {name: value for name, value in first.tags.items() if name.startswith("registry-pip")}
        tags.pop("registry-pipelines/worker", None), tags.pop("registry-pipelines/outcome", None)
        dagster, cpu = [], []
        for _ in range(again + 2):  # two warm both slots up
            before = cpu_s(cluster.workers[0])
            done = _once(cluster, launch(cluster, "release", **{"dagster/partition": key, **tags}))
            dagster.append((done.ended or 0) - (done.started or 0))
            cpu.append(cpu_s(cluster.workers[0]) - before)
        release = Release("app-000", "v1.0.0", fleet.released["app-000", "v1.0.0"])
        config = fleet.config(keys=True)
        alone = [library(config, release) for _ in range(again + 1)][1:]
    whole = statistics.median(dagster[2:]), statistics.median(cpu[2:])
    ours = statistics.median(each[0] for each in alone), statistics.median(each[1] for each in alone)
    rest = whole[0] - ours[0], whole[1] - ours[1]
    return [("a run", *whole), ("the library's calls alone", *ours), ("the engine's share", *rest)]


def _once(cluster: Cluster, asked: str) -> Run:
    def ended() -> Run | None:
        return next((run for run in runs(cluster) if run.id == asked and run.is_over), None)

    return until("it has run again", ended, seconds=300)


def library(config: Config, release: Release) -> tuple[float, float]:
    """Wall and CPU seconds of what the steps of a run call."""
    started, before = time.perf_counter(), time.process_time()
    chain = Chain(config)
    chain.provenance(release), chain.sbom(release), chain.pictured_advice(release), chain.vulnerabilities(release)
    chain.sign(release), chain.verify(release), chain.judge(release), chain.promote_automatically(release)
    targets = list(chain.targets_of(release))
    chain.replicate_to(release, targets)
    for target in targets:
        chain.compare_replica(release, target)
    chain.page(release)
    return time.perf_counter() - started, time.process_time() - before


def cpu_s(worker: Process) -> float:
    """CPU seconds of a worker's processes so far."""
    assert worker.running
    total = 0
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:  # it has just ended
            continue
        if int(fields[2]) == worker.running.pid:  # its process group
            total += sum(map(int, fields[11:13]))
            if worker.running.pid != int(path.parent.name):
                total += sum(map(int, fields[13:15]))  # of children that it has waited for
    return total / TICK_S


def main(arguments: Sequence[str]) -> None:
    """See the module."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--releases", type=int, default=200)
    parser.add_argument("--far", type=float, default=0.05)
    parser.add_argument("--again", type=int, default=20)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args(arguments)
    load = os.getloadavg()
    share = engine_share(options.again)
    for name, wall, cpu in share:
        print(f"  {name}: {wall:.2f} s, {cpu:.2f} CPU s", flush=True)
    seconds = {workers: throughput(workers, options.releases, options.far) for workers in (1, 3)}
    ratio = seconds[1] / seconds[3]
    print(f"  three workers against one: {ratio:.2f} times as fast; load before {load[0]:.1f}")
    if options.write:
        rows = [f"| {each} | {took:.1f} | {took / options.releases:.2f} |" for each, took in seconds.items()]
        table = ["| workers | s | s a release |", "|---|---|---|", *rows]
        parts = [
            "| | s | CPU s |",
            "|---|---|---|",
            *(f"| {name} | {wall:.2f} | {cpu:.2f} |" for name, wall, cpu in share),
        ]
        command = (
            f"python benchmarks/cluster.py --releases {options.releases} --far {options.far} --again {options.again}"
        )
        measure.write_page(
            "cluster", "Many workers", f"{command} --write", "\n\n".join((__doc__ or "").split("\n\n")[2:]),
            "\n".join(table), f"Three workers are {ratio:.2f} times as fast as one.", "\n".join(parts),
            f"Load of the machine before: {load[0]:.1f}.",
        )  # fmt: skip


if __name__ == "__main__":
    main(sys.argv[1:])
