"""A PyTorch image with CUDA, built and pushed: by us, and by ``docker buildx build`` with pip of the same wheels.

    pip download torch==2.11.0 torchvision==0.26.0 torchaudio==2.11.0 -d WHEELS    # 3 GB, for the Python that runs this
    python3.12 benchmarks/docker_build.py --work FOLDER --wheels WHEELS ours    # from nothing, then one line of code
    python3.12 benchmarks/docker_build.py --work FOLDER --wheels WHEELS docker  # the same; five minutes
    python3.12 benchmarks/docker_build.py --work FOLDER --wheels WHEELS bad     # code before packages; five more
    python3.12 benchmarks/docker_build.py --work FOLDER --write                 # the page, of what was measured so far

As root, with Docker 28's programs (``.ci/install-long-peers``) and git. ``--requirement`` takes other wheels than
torch's. FOLDER keeps images, caches and results, some 30 GB: give it a local disk. It starts a Docker daemon of its own
there and stops it.
"""

from __future__ import annotations

import argparse
import compileall
import json
import os
import re
import resource
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks import measure
from benchmarks.measure import Sample, run
from benchmarks.wheel_builds import EmbeddedServerProcess
from registry_pipelines.build.builder import BuildSpec
from registry_pipelines.build.layers import LayersBuilder
from registry_pipelines.oci.manifests import Index, Manifest, select_platform
from registry_pipelines.oci.platforms import Platform
from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.protocol import Place
from registry_pipelines.stream.bench.preparing import OURS
from tests.conftest import find_peer
from tests.doubles.docker_daemon import daemon

COMMAND = "python3.12 benchmarks/docker_build.py --work FOLDER --write"
TORCH = ("torch==2.11.0", "torchvision==0.26.0", "torchaudio==2.11.0")
PACKAGE = Path(__file__).parent.parent / "registry_pipelines"
BASE = "bases/python"
FIGURES = ("wall_s", "cpu_s", "own_cpu_s", "peak_mb", "pushed")
CONFIG = """\
version: 1
state: {state}
registries:
  bench: {{kind: distribution, host: "{address}"}}
images:
  app:
    registry: bench
    repository: ours/app
    build:
      version: {version}
      base: bench/{base}:1
      requirements_file: requirements.txt
      wheels: {wheels}
      application: project/app
      entrypoint: [/usr/local/bin/python3, /app/main.py]
"""
INSTALL = (
    "RUN --mount=type=bind,from=wheels,target=/wheels --network=none "
    '["python3", "-m", "pip", "install", "--no-cache-dir", "--no-index", "--find-links", "/wheels", '
    '"-r", "/requirements.txt"]\n'
)
HEAD, CODE = "ARG BASE\nFROM ${BASE}\nCOPY requirements.txt /requirements.txt\n", "COPY app /app\n"
TAIL = 'WORKDIR /app\nCMD ["python3", "/app/main.py"]\n'
DOCKERFILES = {"good": HEAD + INSTALL + CODE + TAIL, "bad": HEAD + CODE + INSTALL + TAIL}
"""Packages before code, and code before packages: then every change of code installs them again."""


class Bench:
    """The folder with everything: ``wheels`` that the image is made of, ``registry``, ``project`` (a Git repository),
    ``state`` of ours, ``docker``, ``results``. source: where wheels come from."""

    def __init__(self, work: Path, source: Path) -> None:
        self.work, self.source = work, source
        self.wheels = work / "wheels"
        self.project = work / "project"
        self.store = work / "registry"

    def prepare(self, requirements: Sequence[str], address: str) -> None:
        """The project, its pinned requirements and the base: a Linux root with this Python and pip."""
        if not (self.work / "requirements.txt").exists():
            (self.work / "requirements.txt").write_text(pinned(requirements, self.source, self.wheels))
        if not self.project.exists():
            (self.project / "app").mkdir(parents=True)
            self.git("init", "-q")
            shutil.copy(self.work / "requirements.txt", self.project)
            for name, text in DOCKERFILES.items():
                (self.project / f"Dockerfile.{name}").write_text(text)
            self.change()
        if not (self.store / BASE).exists():
            download = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(self.work / "pip"), "pip"]
            subprocess.run(download, check=True)
            spec = BuildSpec(name="base", requirements=("pip",), wheels=self.work / "pip", user="0", version="1")
            place = Place(DistributionRegistry(address), BASE)
            LayersBuilder(self.work / "base").build(spec, place)

    def git(self, *words: str) -> None:
        who = ("-c", "user.name=Bench", "-c", "user.email=bench@example.org")
        subprocess.run(["git", "-C", str(self.project), *who, *words], check=True)

    def change(self) -> str:
        """Change one line of the code and commit it; the next version's tag."""
        count = self.work / "version"
        number = int(count.read_text()) + 1 if count.exists() else 1
        count.write_text(str(number))
        (self.project / "app/main.py").write_text(f"import torch\n\nprint({number}, torch.__version__)\n")
        self.git("add", "-A")
        self.git("commit", "-qm", f"Change {number}")
        return f"v1.0.{number}"

    def measured(self, command: Sequence[str], *, env: Mapping[str, str] | None = None) -> dict[str, Any]:
        """Run to the end: seconds, CPU seconds with those of daemons, containers and registry, the command's own peak
        memory, bytes that the registry has more then."""
        os.sync()
        before, busy = self.stored(), descendants_cpu_s()
        sample: Sample = run(command, env=env, cwd=self.work)
        busy = descendants_cpu_s() - busy
        made = {"wall_s": sample.wall_s, "cpu_s": busy, "own_cpu_s": sample.cpu_s, "peak_mb": sample.peak_mb}
        made["pushed"] = self.stored() - before
        print(
            f"  {sample.wall_s:8.2f} s {busy:8.2f} CPU-s {sample.peak_mb:6.0f} MB {made['pushed']:,} pushed", flush=True
        )
        return made

    def stored(self) -> int:
        return sum(path.stat().st_size for path in self.store.rglob("*") if path.is_file())

    def keep(self, name: str, content: object) -> None:
        (self.work / "results").mkdir(exist_ok=True)
        (self.work / "results" / f"{name}.json").write_text(json.dumps(content, indent=1))

    def read(self, name: str) -> Any:
        path = self.work / "results" / f"{name}.json"
        return json.loads(path.read_text()) if path.exists() else None


def pinned(requirements: Sequence[str], source: Path, wheels: Path) -> str:
    """Every package that they mean, with its version; their wheels and no others are in ``wheels`` then."""
    command = [sys.executable, "-m", "pip", "install", "-q", "--dry-run", "--ignore-installed", "--no-index"]
    report = subprocess.run(
        [*command, "--find-links", str(source), "--report", "-", *requirements], check=True, capture_output=True
    )
    chosen = json.loads(report.stdout)["install"]
    wheels.mkdir(exist_ok=True)
    for item in chosen:
        file = Path(unquote(urlsplit(item["download_info"]["url"]).path))
        try:
            os.link(file, wheels / file.name)
        except OSError:  # another file system
            shutil.copyfile(file, wheels / file.name)
    return "".join(sorted(f"{item['metadata']['name']}=={item['metadata']['version']}\n" for item in chosen))


def descendants_cpu_s() -> float:
    """Seconds that processors worked for whatever was started here, directly or not: what has ended and what still runs
    (registry, daemons), each with those of its children that it waited for."""
    rows: dict[int, tuple[int, int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        rows[int(path.parent.name)] = (int(fields[1]), sum(map(int, fields[11:15])))
    ours, more = {os.getpid()}, True
    while more:
        found = {pid for pid, (parent, _) in rows.items() if parent in ours} - ours
        ours, more = ours | found, bool(found)
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    running = sum(rows[pid][1] for pid in ours if pid != os.getpid() and pid in rows)
    return ended.ru_utime + ended.ru_stime + running / os.sysconf("SC_CLK_TCK")


def above_base(address: str, repository: str, tag: str) -> dict[str, int]:
    """Compressed bytes and number of an image's layers above the base."""
    registry = DistributionRegistry(address)
    below = {layer.digest for layer in layers_of(registry, BASE, "1")}
    own = [layer.size for layer in layers_of(registry, repository, tag) if layer.digest not in below]
    return {"bytes": sum(own), "layers": len(own)}


def layers_of(registry: DistributionRegistry, repository: str, tag: str) -> Sequence[Any]:
    content = registry.get_manifest(repository, tag).content()
    if isinstance(content, Index):
        child = select_platform(content, Platform.here(), where=repository)
        content = registry.get_manifest(repository, child.digest).content()
    assert isinstance(content, Manifest)
    return content.layers


def ours(bench: Bench, address: str, changes: int) -> None:
    """From nothing, then changes of one line, then the same once more."""
    for old in (bench.work / "state", bench.store / "ours"):
        shutil.rmtree(old, ignore_errors=True)

    def build(version: str) -> dict[str, Any]:
        text = CONFIG.format(
            state=bench.work / "state", address=address, version=version, base=BASE, wheels=bench.wheels
        )
        (bench.work / "ours.yaml").write_text(text)
        command = [*OURS, "build", "app", "--config", str(bench.work / "ours.yaml")]
        return bench.measured(command, env={"PYTHONDONTWRITEBYTECODE": ""})

    compileall.compile_dir(str(PACKAGE), quiet=2)  # as an installed package is
    version = bench.change()
    read_ahead(bench.wheels)
    made: dict[str, Any] = {"cold": build(version), "image": above_base(address, "ours/app", version)}
    made["code"] = [build(bench.change()) for _ in range(changes)]
    made["wheel_bytes"] = sum(path.stat().st_size for path in bench.wheels.iterdir())
    bench.keep("ours", {**made, "machine": str(measure.machine())})


def read_ahead(folder: Path) -> None:
    """Wheels are in memory for both."""
    for path in folder.glob("*.whl"):
        with path.open("rb", buffering=0) as file:
            while file.read(1 << 22):
                pass


@contextmanager
def docker(bench: Bench, address: str, *, forget: bool = False) -> Iterator[Callable[[str, str], dict[str, Any]]]:
    """A daemon that has the base; a function that builds and pushes a Dockerfile under a version. forget: it keeps no
    image and no step of earlier builds, only the folders that they were sent."""
    dockerd, client, buildx = (
        find_peer(name) for name in ("../docker28/dockerd", "../docker28/docker", "docker-buildx")
    )
    if not (dockerd and client and buildx):
        raise SystemExit("Docker 28 or its buildx is not in .peers: .ci/install-long-peers, .ci/install-peers")
    os.environ["PATH"] = f"{Path(dockerd).resolve().parent}:{os.environ['PATH']}"  # its containerd is found there
    folder = bench.work / "docker"
    folder.mkdir(exist_ok=True)
    with daemon(dockerd, client, folder, ("--feature", "containerd-snapshotter=true")) as running:
        base = f"{address}/{BASE}:1"
        if forget:
            running("image", "prune", "-af")
            prune = [buildx, "prune", "-af", "--filter", "type=regular"]
            subprocess.run(prune, env=running.environment, check=True, capture_output=True)
        running("pull", "-q", base)

        def build(order: str, version: str) -> dict[str, Any]:
            command = [
                *(buildx, "build", "--progress=plain", "--push", "-t", f"{address}/docker/app:{version}"),
                *("--build-context", f"wheels={bench.wheels}", "--build-arg", f"BASE={base}"),
                *("-f", str(bench.project / f"Dockerfile.{order}"), str(bench.project)),
            ]
            log = bench.work / "log"
            command = ["sh", "-c", 'log=$1; shift; exec "$@" 2>"$log"', "sh", str(log), *command]
            made = bench.measured(command, env=running.environment)
            return {**made, "steps": steps(log.read_text())}

        yield build


def steps(log: str) -> dict[str, float]:
    """Seconds of each step that BuildKit tells."""
    titles: dict[str, str] = {}
    took: dict[str, float] = {}
    for line in log.splitlines():
        if (found := re.match(r"#(\d+) (.*)", line)) is None:
            continue
        number, text = found.groups()
        titles.setdefault(number, text)
        if (done := re.fullmatch(r"DONE ([\d.]+)s", text)) is not None:
            took[titles[number]] = float(done[1])
        elif (done := re.fullmatch(r"(.*\S) ([\d.]+)s done", text)) is not None:
            took[f"{titles[number]}: {done[1]}"] = float(done[2])
        elif text == "CACHED":
            took[titles[number]] = 0.0
    return took


def docker_good(bench: Bench, address: str, changes: int) -> None:
    """From nothing, then changes of one line."""
    shutil.rmtree(bench.work / "docker", ignore_errors=True)
    shutil.rmtree(bench.store / "docker", ignore_errors=True)
    with docker(bench, address) as build:
        version = bench.change()
        read_ahead(bench.wheels)
        made: dict[str, Any] = {"cold": build("good", version), "image": above_base(address, "docker/app", version)}
        made["code"] = [build("good", bench.change()) for _ in range(changes)]
        bench.keep("docker", {**made, "machine": str(measure.machine())})


def docker_bad(bench: Bench, address: str) -> None:
    """A change of one line where code stands before packages; the daemon has the wheels already. The other images are
    removed, for their disk."""
    for old in ("ours", "docker"):
        shutil.rmtree(bench.store / old, ignore_errors=True)
    with docker(bench, address, forget=True) as build:
        bench.keep("bad", build("bad", bench.change()))


ROWS = (
    ("From nothing", "cold", "docker"),
    ("One line of code, packages before code", "code", "docker"),
    ("One line of code, code before packages", "code", "bad"),
)


def page(bench: Bench) -> list[str]:
    """Whatever was measured."""
    mine = bench.read("ours")
    if mine is None:
        raise SystemExit("nothing was measured of ours")
    lines = [
        "| | ours s | Docker s | ratio | ours CPU s | Docker CPU s | ours pushed | Docker pushed |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for title, kind, name in ROWS:
        theirs = bench.read(name)
        theirs = theirs if name == "bad" or theirs is None else theirs.get(kind)
        if theirs is None:
            lines.append(f"| {title} | {middle(mine[kind])['wall_s']:.2f} | not measured | | | | | |")
            continue
        us, them = middle(mine[kind]), middle(theirs)
        lines.append(
            f"| {title} | **{us['wall_s']:.2f}** | {them['wall_s']:.2f} | {them['wall_s'] / us['wall_s']:.1f} "
            f"| {us['cpu_s']:.1f} | {them['cpu_s']:.1f} | {us['pushed']:,} | {them['pushed']:,} |"
        )
    peak = max(each["peak_mb"] for each in (mine["cold"], *mine["code"]))
    sections = [
        measured_text(bench, mine),
        "\n".join(lines),
        f"Peak memory of our process: {peak:.0f} MB from nothing, {middle(mine['code'])['peak_mb']:.0f} MB after a "
        f"change. This machine at that moment: {mine['machine']}.",
    ]
    if theirs := bench.read("docker"):
        sections += [f"Docker's was measured with: {theirs['machine']}.", "## The image", sizes(mine, theirs)]
        sections += ["## Where Docker's time goes", step_table(theirs["cold"])]
    return sections


def middle(made: dict[str, Any] | list[dict[str, Any]]) -> dict[str, Any]:
    """The median of each figure by itself; one run stands for itself."""
    if isinstance(made, dict):
        return made
    return {name: statistics.median(each[name] for each in made) for name in FIGURES}


def measured_text(bench: Bench, mine: dict[str, Any]) -> str:
    wheels = (bench.work / "requirements.txt").read_text().split()
    torch = next((each for each in wheels if each.startswith("torch==")), wheels[0])
    return (
        f"{len(wheels)} wheels ({torch} and what it needs), {mine['wheel_bytes']:,} bytes, in one folder for both; a "
        "base with this Python and pip that both have; one registry of ours, in a process of its own, on loopback. "
        "Ours is `registry-pipelines build`, with provenance, records for scans and lazy starts, and byte code. "
        "Docker's is `docker buildx build --push` with BuildKit of Docker 28.5, the wheels bound into the step "
        "(`RUN --mount=type=bind`), `pip install --no-index --no-cache-dir`. Each is a command from start to end. CPU "
        "seconds are with those of daemon, containers and registry. Code is a Git repository, one "
        f"commit a change; medians of {len(mine['code'])} changes. For the last row ours is the same as in the second: "
        "packages have no order."
    )


def sizes(mine: dict[str, Any], theirs: dict[str, Any]) -> str:
    lines = ["| | compressed bytes above the base | layers |", "|---|---|---|"]
    for name, made in (("**ours**", mine), ("Docker", theirs)):
        lines.append(f"| {name} | {made['image']['bytes']:,} | {made['image']['layers']} |")
    return "\n".join(lines)


def step_table(cold: dict[str, Any]) -> str:
    """Steps of a second and more."""
    lines = ["| step | s |", "|---|---|"]
    rows = sorted(cold["steps"].items(), key=lambda row: -row[1])
    return "\n".join([*lines, *(f"| `{name[:100]}` | {took:.1f} |" for name, took in rows if took >= 1)])


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", nargs="?", choices=("ours", "docker", "bad"))
    parser.add_argument("--work", type=Path, help="the folder of images, caches and results")
    parser.add_argument("--wheels", type=Path, help="a folder of wheels")
    parser.add_argument("--requirement", action="append", help="instead of torch, torchvision and torchaudio")
    parser.add_argument("--changes", type=int, default=5, help="of one line of code (default %(default)s)")
    parser.add_argument("--write", action="store_true", help="write docs/benchmarks/docker-build.md")
    options = parser.parse_args(arguments)
    if options.work is None:
        print(
            "It needs a folder, root and Docker 28, and takes a quarter of an hour: see --help. Nothing was measured."
        )
        return
    bench = Bench(options.work.absolute(), options.wheels.absolute() if options.wheels else Path())
    if options.part:
        bench.work.mkdir(parents=True, exist_ok=True)
        with EmbeddedServerProcess(bench.store) as address:
            bench.prepare(options.requirement or TORCH, address)
            started = time.monotonic()
            if options.part == "ours":
                ours(bench, address, options.changes)
            elif options.part == "docker":
                docker_good(bench, address, options.changes)
            else:
                docker_bad(bench, address)
            print(f"{time.monotonic() - started:.0f} s in all")
    if options.write:
        measure.write_page("docker-build", "A PyTorch image, against `docker build`", COMMAND, *page(bench))


if __name__ == "__main__":
    main()
