"""A fleet's rescan, sensors and pages: what one release costs, and so how long a hundred thousand take on two cores.

    python benchmarks/sweeps.py [--images 240] [--releases 25] [--live 5000] [--fleet FOLDER] [--prepare] [--write]

prepare: only fill the registries of FOLDER, which takes minutes; measured later, and once, with the same folder.

The registry is our own, served by a process of its own over HTTP. Each release has a signed SBOM of 160 packages (one
of 40 editions of a base, and 50 of its own) and a signed report. A night is swept by two processes that share the
buckets, as two runs of Dagster's job do (`Chain.rescan_buckets`); its time is from their start, modules loaded, to the
end of the last one, with the registry on the same two cores. Processor time is that of both together, and that of the
registry. Pages are the queries that Dagster's own pages send, taken out of the bundle that the webserver serves.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks import measure
from benchmarks.sweeps_fleet import covering, fill, live, new_packages, write_records
from registry_pipelines.chain.serving import ensure_registries
from registry_pipelines.config import load
from tests.ports import free_ports

ROOT = Path(__file__).parent.parent
ABOUT = (__doc__ or "").rpartition("\n\n")[2].strip()
LANE = """
import json, sys, time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from registry_pipelines.chain import Chain
from registry_pipelines.chain.buckets import filled_buckets
from registry_pipelines.config import load
chain = Chain(load(Path(sys.argv[1]), {}))
buckets = filled_buckets(chain.config)
first = len(buckets) // 2 * int(sys.argv[2])
chain.rescan(bucket="none")  # modules are loaded, the advisories are indexed
print("ready", flush=True)
since = datetime.fromisoformat(sys.stdin.readline().strip())
used, began, facts = time.process_time(), time.monotonic(), Counter()
for _, result in chain.rescan_buckets([*buckets[first:], *buckets[:first]], since=since):
    if result is not None:
        facts.update({name: value for name, value in result.facts.items() if isinstance(value, int)})
print(json.dumps({**facts, "used_s": time.process_time() - used, "wall_s": time.monotonic() - began}), flush=True)
"""
"""One of two processes that share the buckets; each begins where the other does not."""

SENSORS = """
import json, sys, time
from pathlib import Path
import dagster as dg
from dagster_project.definitions import build_definitions
from registry_pipelines.chain import Chain
from registry_pipelines.config import load
config = load(Path(sys.argv[1]), {})
defs = build_definitions(config, lambda: Chain(config))
told, cursor = [], None
with dg.DagsterInstance.from_config(sys.argv[2]) as instance:
    for name in ("push_us", "push_us", "push_us, all of it", "promotion", "release_keys"):
        sensor, _, whole = name.partition(",")
        cursor = json.dumps({**json.loads(cursor), "looks": 19}) if whole else cursor if sensor == "push_us" else None
        wall, used = time.perf_counter(), time.process_time()
        resources = {"chain": Chain(config)}
        with dg.build_sensor_context(instance, cursor, definitions=defs, resources=resources) as context:
            cursor = defs.resolve_sensor_def(sensor)(context).cursor
        told.append([name, time.process_time() - used, time.perf_counter() - wall])
Path(sys.argv[3]).write_text(json.dumps(told))
"""

PAGES: dict[str, dict[str, Any]] = {
    "PartitionHealthQuery": {"assetKey": {"path": ["verdict"]}},
    "AssetViewDefinitionQuery": {"assetKey": {"path": ["verdict"]}},
    "AssetGraphLiveQuery": {"assetKeys": [{"path": ["verdict"]}]},
    "LatestAssetPartitionsQuery": {"assetKey": {"path": ["verdict"]}, "limit": 100},
    "AssetCheckPartitionHealthQuery": {"assetKey": {"path": ["vulnerabilities"]}, "checkName": "within_limits"},
    "AssetStaleStatusQuery": {"assetKeys": [{"path": ["verdict"]}]},
    "AssetHealthQuery": {"assetKeys": [{"path": ["verdict"]}]},
    "AssetCatalogTableQuery": {"limit": 500},
}
"""What the page of an asset with partitions asks, and the catalog of assets."""


@contextmanager
def started(command: Sequence[str], ready: str, **env: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process of this environment until the block ends. ready: an address that answers then."""
    process = subprocess.Popen(
        [str(Path(sys.executable).parent / command[0]), *command[1:]],
        cwd=ROOT, env={**os.environ, **env}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        until = time.monotonic() + 300
        while process.poll() is None and time.monotonic() < until:
            try:
                urllib.request.urlopen(ready, timeout=5).close()
                break
            except urllib.error.HTTPError:
                break
            except OSError:
                time.sleep(0.2)
        yield process
    finally:
        process.terminate()
        process.wait()


def used_s(process: subprocess.Popen[bytes]) -> float:
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def night(config: Path) -> dict[str, float]:
    """Two processes sweep all buckets; what they found together, and the seconds of the longer one."""
    command = [sys.executable, "-c", LANE, str(config)]
    lanes = [
        subprocess.Popen([*command, str(number)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for number in range(2)
    ]
    for each in lanes:
        assert each.stdout and each.stdout.readline() == "ready\n"
    since = datetime.now(UTC).isoformat()
    for each in lanes:
        assert each.stdin
        each.stdin.write(f"{since}\n")
        each.stdin.flush()
    told: Counter[str] = Counter()
    wall_s = 0.0
    for each in lanes:
        facts = json.loads(each.communicate()[0])
        wall_s = max(wall_s, facts.pop("wall_s"))
        told.update(facts)
    return {**told, "wall_s": wall_s}


def rescans(config: Path) -> str:
    """Nights of several kinds: what each costs here and at the registry, for each release."""
    folder = config.parent
    rows = [
        "| night | releases | read | changed | s | CPU ms a release | of the registry "
        "| 100,000, registry here | registry elsewhere |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    port = load(config, {}).registries["us"].port  # type: ignore[union-attr]
    nights: dict[str, Sequence[tuple[str, str]]] = {
        "the first: every release is read": [],
        "records about 20 packages": new_packages(20),
        "a record about a package of every release: each gets a new report": [
            ("Debian:12", name) for name in covering()
        ],
        "records about packages that nobody holds": [("PyPI", "nobody-has-it")],
        "every release is read again": [],
    }
    with started(["registry-pipelines", "serve", "--config", str(config)], f"http://127.0.0.1:{port}/v2/") as here:
        for number, (name, packages) in enumerate(nights.items()):
            write_records(folder / "advisories", f"N{number}", packages)
            if name.endswith("again"):
                shutil.rmtree(load(config, {}).state / "rescan")
            before = used_s(here)
            facts = night(config)
            count = int(facts["rescanned"] + facts["untouched"])
            ours_ms, theirs_ms = facts["used_s"] / count * 1000, (used_s(here) - before) / count * 1000
            rows.append(
                f"| {name} | {count:,} | {facts['rescanned']:,} | {facts['changed']:,} | {facts['wall_s']:.1f} "
                f"| {ours_ms:.1f} | {theirs_ms:.1f} | {minutes(facts['wall_s'] / count * 100_000)} "
                f"| {minutes(ours_ms * 50)} |"
            )
            print(rows[-1], flush=True)
    return "\n".join(rows)


def minutes(seconds: float) -> str:
    return f"{seconds / 60:.1f} min"


def sensors(folder: Path) -> str:
    """Ticks of the sensors that look at every release. The registry runs beside them."""
    answer, config, home = folder / "ticks.json", folder / "live.yaml", folder / "home"
    parsed = load(config, {})
    rows = ["| tick | CPU s | seconds |", "|---|--:|--:|"]
    with ensure_registries(parsed):
        measure.run([sys.executable, "-W", "ignore", "-c", SENSORS, str(config), str(home), str(answer)], cwd=ROOT)
    for place, (name, used, wall) in enumerate(json.loads(answer.read_text())):
        rows.append(f"| `{name}`{' (the first look)' if not place else ''} | {used:.2f} | {wall:.2f} |")
    return "\n".join(rows)


def pages(folder: Path) -> str:
    """Queries of Dagster's own pages, the slowest of three each, the first included."""
    port, config, home = free_ports(1)[0], folder / "live.yaml", folder / "home"
    workspace = folder / "workspace.yaml"
    workspace.write_text(
        "load_from: [{python_module: {module_name: dagster_project.definitions, location_name: registry_pipelines, "
        f"working_directory: '{ROOT}'}}}}]\n"
    )
    command = ["dagster-webserver", "-w", str(workspace), "-p", str(port)]
    rows = ["| query | CPU s | seconds | KB |", "|---|--:|--:|--:|"]
    env = {"DAGSTER_HOME": str(home), "REGISTRY_PIPELINES_CONFIG": str(config)}
    bundle = Bundle()
    with started(command, f"http://127.0.0.1:{port}/server_info", **env) as server:
        for name, variables in PAGES.items():
            body = json.dumps({"query": bundle.query(name), "variables": variables}).encode()
            walls: list[tuple[float, float, int]] = []
            for _ in range(3):
                wall, used = time.perf_counter(), used_s(server)
                asked = urllib.request.Request(
                    f"http://127.0.0.1:{port}/graphql", body, {"Content-Type": "application/json"}
                )
                with urllib.request.urlopen(asked, timeout=300) as answer:
                    raw = answer.read()
                if json.loads(raw).get("errors"):
                    raise RuntimeError(f"{name}: {raw[:500]!r}")
                walls.append((time.perf_counter() - wall, used_s(server) - used, len(raw)))
            worst = max(walls)
            rows.append(f"| `{name}` | {worst[1]:.2f} | {worst[0]:.2f} | {worst[2] // 1000} |")
    return "\n".join(rows)


class Bundle:
    """The queries and fragments in the JavaScript that the webserver serves to browsers."""

    def __init__(self) -> None:
        import dagster_webserver

        folder = Path(str(dagster_webserver.__file__)).parent / "webapp" / "build" / "_next" / "static" / "chunks"
        self._text = "\n".join(path.read_text(errors="replace") for path in folder.rglob("*.js"))

    def query(self, name: str) -> str:
        """A query with every fragment that it needs."""
        found, todo = {name: self._part(f"query {name}(")}, [name]
        while todo:
            for needed in re.findall(r"\.\.\.\s*([A-Z]\w+)", found[todo.pop()]):
                if needed not in found:
                    found[needed] = self._part(f"fragment {needed} on ")
                    todo.append(needed)
        return "\n".join(found.values())

    def _part(self, begin: str) -> str:
        at = self._text.index(begin)
        end, depth = self._text.index("{", at), 0
        while True:
            depth += {"{": 1, "}": -1}.get(self._text[end], 0)
            end += 1
            if not depth:
                return self._text[at:end].replace("\\n", "\n")


def main(arguments: Sequence[str]) -> None:
    """See the module."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=240)
    parser.add_argument("--releases", type=int, default=25)
    parser.add_argument("--live", type=int, default=5000)
    parser.add_argument("--fleet", type=Path, help="where the registries are; a temporary folder unless told")
    parser.add_argument("--prepare", action="store_true")
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as temporary:
        folder = (options.fleet or Path(temporary)).resolve()
        fleet, watched = folder / "fleet", folder / "watched"
        if not fleet.exists():
            fill(fleet, options.images, options.releases)
        if not watched.exists():
            live(watched, options.live)
        if options.prepare:
            return
        load_before = os.getloadavg()[0]
        rescanned = measure.beside(rescans(fleet / "registry-pipelines.yaml"))
        ticks = sensors(watched)
        print(ticks, flush=True)
        asked = pages(watched)
        print(asked, flush=True)
    if options.write:
        measure.write_page(
            "sweeps", "A fleet's rescan, sensors and pages",
            f"python benchmarks/sweeps.py --images {options.images} --releases {options.releases} --write",
            ABOUT, "## Rescan", rescanned,
            "`100,000` is the time of so many releases at the same rate: with the registry on the same two cores, or "
            "elsewhere, by the processor time of the two processes alone. The bar is 10 minutes.",
            f"## Sensors at {options.live:,} live releases", ticks, "The bar is 5 s a tick.",
            f"## Pages of an asset with {options.live:,} partitions", asked, "The bar is 2 s a page.",
            f"Load of the machine before: {load_before:.1f}.",
        )  # fmt: skip


if __name__ == "__main__":
    main(sys.argv[1:])
