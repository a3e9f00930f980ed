"""``make cluster``: the demonstration on three workers, each as on a machine of its own, with Postgres and Redis.

    make cluster                 all of it, the demo through Dagster's queue, then the UI until Ctrl-C
    make cluster ARGS=--once     without the UI
    make cluster ARGS="--workers 5 --config FILE --keep FOLDER"

The configuration is that of ``make demo``, unchanged. What the machines have of their own is in a temporary folder,
which goes at the end unless --keep names one.
"""

from __future__ import annotations

import argparse
import io
import os
import shlex
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP))  # what is in deploy belongs to the checkout, not to the package

from deploy.cluster.machines import Cluster, NotReady, closed_to_others, until  # noqa: E402
from deploy.cluster.needs import HOST, Missing  # noqa: E402
from deploy.cluster.runs import Run, launch, runs, table  # noqa: E402
from registry_pipelines.chain import Chain  # noqa: E402
from registry_pipelines.cli.demo_bases import push_demo_bases  # noqa: E402
from registry_pipelines.cli.running import ADDRESS  # noqa: E402
from registry_pipelines.config import FILE_NAME, Config, EmbeddedRegistry, load  # noqa: E402
from registry_pipelines.config.machine import SERVED_BY, STATE  # noqa: E402
from registry_pipelines.errors import PortTaken, RegistryPipelinesError  # noqa: E402

DEMO = TOP / "deploy" / "demo" / FILE_NAME
LONGEST_S = 900
"""A run of the demonstration may take so long on a machine that is busy."""
TOOL_MISSING = 12


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(prog="make cluster", description="The demonstration on several workers.")
    parser.add_argument("--config", type=Path, default=DEMO, help="configuration; the demo's unless told")
    parser.add_argument("--workers", type=int, default=3, help="how many (3)")
    parser.add_argument("--slots", type=int, default=2, help="runs at once of each (2)")
    parser.add_argument("--port", type=int, default=3000, help="of the UI (3000)")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="an empty folder for what the machines have")
    parser.add_argument("--once", action="store_true", help="end when the demonstration is done")
    options = parser.parse_args()
    # Told to end, it ends the machines first; killed, a guard does.
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(128 + signal.SIGTERM))
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # each line when it is said, in a pipe, too
    try:
        refuse_taken_ports(options.config, options.port)
    except RegistryPipelinesError as error:
        print(f"make cluster: {error}", file=sys.stderr)
        return error.exit_code
    print("Starting Postgres, Redis, the registries, Dagster and the workers ...")
    try:
        with (
            _folder(options.keep) as folder,
            Cluster(options.config, folder, workers=options.workers, slots=options.slots, port=options.port) as cluster,
        ):
            _introduce(cluster)
            failed = demonstrate(cluster)
            if not options.once:
                _stay(cluster)
            return 1 if failed else 0
    except Missing as error:
        print(f"make cluster: {error}", file=sys.stderr)
        return TOOL_MISSING
    except RegistryPipelinesError as error:
        print(f"make cluster: {error}", file=sys.stderr)
        return error.exit_code
    except NotReady as error:
        print(f"make cluster: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def environment_of_nobody() -> dict[str, str]:
    """This terminal's environment without what it says of a machine: the configuration names variables of it."""
    return {name: value for name, value in os.environ.items() if not name.startswith("REGISTRY_PIPELINES_")}


def refuse_taken_ports(config: Path, ui: int) -> None:
    """A registry of ``make serve`` or ``make dev`` has the ports that ours would have. Raises PortTaken."""
    embedded = {
        f"registry {name}": each.port
        for name, each in load(config, environment_of_nobody()).registries.items()
        if isinstance(each, EmbeddedRegistry)
    }
    for what, port in {**embedded, "the UI": ui}.items():
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError as error:
                raise PortTaken(
                    "another program listens there",
                    where=f"{HOST}:{port} ({what})",
                    do="Stop it (`make serve`, `make dev` or another `make cluster`?), or choose another port",
                ) from error


@contextmanager
def _folder(kept: Path | None) -> Iterator[Path]:
    if kept:
        if kept.exists() and any(kept.iterdir()):
            raise NotReady(f"{kept} is not empty; name another folder")
        yield kept
        return
    # Postgres runs as another user where this is root: TMPDIR is often a folder of one user alone.
    closed = not os.getuid() and closed_to_others(Path(tempfile.gettempdir()).resolve())
    place = "/var/tmp" if closed else None  # noqa: S108  the folder in it has a name of its own, made by mkdtemp
    with tempfile.TemporaryDirectory(prefix="registry-pipelines-cluster-", dir=place) as folder:
        Path(folder).chmod(0o711)
        yield Path(folder)


def _introduce(cluster: Cluster) -> None:
    print(f"Dagster UI: {cluster.url}")
    for process in cluster.processes:
        pid = process.running.pid if process.running else 0
        print(f"  {process.name:10}  process {pid}, in {process.folder}")


def demonstrate(cluster: Cluster) -> list[Run]:
    """Everything that ``make demo`` does, through the queue; the runs that failed without being denials."""
    config = as_client(cluster)
    push_demo_bases(config, Chain(config))
    images = [name for name, image in config.images.items() if image.made_here is not None]
    _run(cluster, [("build", name) for name in images])
    print(f"{len(images)} built; their releases are found by the push sensor ...")
    until("a run of every release has ended", lambda: _released(cluster, images), seconds=LONGEST_S)
    jobs = [name for name, wanted in (("nightly_sync", config.syncs), ("retention", config.retention)) if wanted]
    _run(cluster, [(job, "") for job in jobs])
    found = runs(cluster)
    print(f"\n{table(found)}\n\n{_summary(found)}")
    return [run for run in found if run.status != "SUCCESS" and run.outcome != "denied"]


def as_client(cluster: Cluster) -> Config:
    """The configuration as one more machine has it, which asks and keeps nothing."""
    state = str(cluster.state("client"))
    return load(cluster.config, {**environment_of_nobody(), STATE: state, SERVED_BY: HOST})


def _run(cluster: Cluster, wanted: Sequence[tuple[str, str]]) -> None:
    """Queue jobs, and wait until all have ended."""
    asked = {launch(cluster, job, **({"dagster/partition": about} if about else {})) for job, about in wanted}

    def over() -> bool:
        return asked <= {run.id for run in runs(cluster) if run.is_over}

    until(f"{', '.join(' '.join(each).strip() for each in wanted)} ended", over, seconds=LONGEST_S)


def _released(cluster: Cluster, images: Sequence[str]) -> bool:
    found = [run for run in runs(cluster) if run.job == "release"]
    ended = {run.about.partition(":")[0] for run in found if run.is_over}
    return ended >= set(images) and all(run.is_over for run in found)


def _summary(found: Sequence[Run]) -> str:
    by_worker = {name: [run for run in found if run.worker == name] for name in sorted({run.worker for run in found})}
    parts = [f"{name or 'none'}: {len(theirs)}" for name, theirs in by_worker.items()]
    return f"{len(found)} runs; {', '.join(parts)}"


def write_environment(cluster: Cluster) -> Path | None:
    """What the first worker has in its environment and a terminal has not, as a file for a shell; for its owner's eyes.
    None without a worker."""
    if not cluster.workers:
        return None
    worker = cluster.workers[0]
    own = {name: value for name, value in worker.environment.items() if os.environ.get(name) != value}
    file = worker.folder / "environment"
    file.touch(mode=0o600)
    lines = [f"export {name}={shlex.quote(value)}" for name, value in {**own, ADDRESS: cluster.url}.items()]
    file.write_text("\n".join(lines) + "\n")
    return file


def _stay(cluster: Cluster) -> None:
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda _number, _frame: ended.set())
    file = write_environment(cluster)
    print(f"\nThe UI is at {cluster.url} until Ctrl-C")
    if file:
        print(f"Commands in another terminal, as {file.parent.name}:  . {file}; .venv/bin/registry-pipelines status")
    ended.wait()


if __name__ == "__main__":
    sys.exit(main())
