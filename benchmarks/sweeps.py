"""A fleet's rescan, sensors and pages: what one release costs, and so how long a hundred thousand take on two cores.

    python benchmarks/sweeps.py [--images 20] [--releases 25] [--live 5000]

The registry is our own, served by a process of its own over HTTP. Each release has a signed SBOM of 160 packages (one
of 40 editions of a base, and 50 of its own) and a signed report. Times of the rescan are processor time, which other
work on the machine stretches least. Pages are the queries that Dagster's own pages send, taken out of the bundle that
the webserver serves.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

import dagster as dg

from benchmarks import measure
from dagster_project.partitions import add_releases
from registry_pipelines.chain import Chain
from registry_pipelines.chain.serving import ensure_registries
from registry_pipelines.config import load
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor, ManifestBytes
from registry_pipelines.oci.platforms import Platform
from registry_pipelines.registry.blobs import push_blob
from registry_pipelines.release import Release
from registry_pipelines.scan.advisories import AdvisoryStore
from registry_pipelines.scan.match import Matcher
from registry_pipelines.scan.publish import publish_report, publish_sboms
from registry_pipelines.scan.report import Component, PlatformPackages
from tests.chain.fleet import free_ports

ROOT = Path(__file__).parent.parent
ABOUT = (__doc__ or "").rpartition("\n\n")[2].strip()
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
BASE_PACKAGES, OWN_PACKAGES, DEBIAN, PYPI = 110, 50, 400, 3000
BASES = 40
"""Editions of bases that a fleet stands on."""


def settings(ports: list[int], images: int) -> str:
    named = "\n".join(
        f"  app{number}: {{registry: us, repository: fleet/app{number}, targets: [eu]}}" for number in range(images)
    )
    return f"""\
registries:
  us: {{kind: embedded, port: {ports[0]}}}
  eu: {{kind: embedded, port: {ports[1]}}}
images:
{named}
targets: {{eu: {{registry: eu}}}}
signing: {{generate: true}}
advisories: {{source: advisories}}
"""


def package(kind: str, name: str, version: str) -> Component:
    if kind == "deb":
        return Component(
            purl=f"pkg:deb/debian/{name}@{version}?arch=amd64&distro=debian-12", name=name, version=version, type="deb",
            ecosystem="Debian:12", locations=("var/lib/dpkg/status",), licenses=("GPL-2.0-or-later",),
        )  # fmt: skip
    return Component(
        purl=f"pkg:pypi/{name}@{version}", name=name, version=version, type="pypi", ecosystem="PyPI",
        locations=(f"usr/lib/python3/site-packages/{name}-{version}.dist-info/METADATA",), licenses=("MIT",),
    )  # fmt: skip


def contents(image: int, number: int) -> list[Component]:
    """What a release holds: one of some editions of a base, and packages of its own, of which a few changed since the
    release before it."""
    base = random.Random((image * 7 + number) % BASES)
    chosen = random.Random(image)
    found = [
        package("deb", f"lib{each}", f"1.{base.randrange(6)}-1") for each in base.sample(range(DEBIAN), BASE_PACKAGES)
    ]
    for each in chosen.sample(range(PYPI), OWN_PACKAGES):
        found.append(package("pypi", f"wheel{each}", f"{chosen.randrange(3)}.{(number + each) // 10}.0"))
    return found


def write_advisories(folder: Path, *, new: int = 0) -> None:
    """Records about a tenth of all packages; new: so many more, as one night brings them."""
    folder.mkdir(exist_ok=True)
    random_ = random.Random(7)
    names = [("Debian:12", f"lib{each}") for each in range(DEBIAN)] + [("PyPI", f"wheel{each}") for each in range(PYPI)]
    random_.shuffle(names)
    chosen = names[: len(names) // 10] if not new else names[-new:]
    if new < 0:
        chosen = [("PyPI", "nobody-has-it")]
    for ecosystem, name in chosen:
        identifier = f"{'NEW' if new else 'OLD'}-{name}"
        fixed = "1.3-1" if ecosystem != "PyPI" else "1.2.0"
        record = {
            "id": identifier,
            "modified": f"2026-11-{10 if not new else 20}T00:00:00Z",
            "summary": f"{name} does what it should not",
            "severity": [{"type": "CVSS_V3", "score": "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:L/I:L/A:N"}],
            "affected": [
                {
                    "package": {"ecosystem": ecosystem, "name": name},
                    "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": fixed}]}],
                }
            ],
        }
        (folder / f"{identifier}.json").write_text(json.dumps(record))


def push_image(chain: Chain, image: int, number: int) -> tuple[Release, Descriptor]:
    """An image of one small layer, with a digest of its own."""
    place = chain.place(f"app{image}")
    layer = b"a layer that all share"
    held = push_blob(place, layer, media_type=LAYER)
    content = {
        "architecture": "amd64",
        "os": "linux",
        "image": image,
        "number": number,
        "rootfs": {"type": "layers", "diff_ids": [str(Digest.of(layer))]},
    }
    config = push_blob(place, json.dumps(content).encode(), media_type=CONFIG)
    parts = [{"mediaType": each.media_type, "digest": str(each.digest), "size": each.size} for each in (config, held)]
    raw = json.dumps({"schemaVersion": 2, "mediaType": MANIFEST, "config": parts[0], "layers": parts[1:]}).encode()
    made = ManifestBytes(raw, MANIFEST, Digest.of(raw))
    place.registry.put_manifest(place.repository, made, tag=f"v1.{number}.0")
    release = Release(f"app{image}", f"v1.{number}.0", made.digest)
    return release, Descriptor(media_type=MANIFEST, digest=made.digest, size=len(raw))


def push_release(chain: Chain, image: int, number: int, matcher: Matcher) -> None:
    """The same with a signed SBOM and a signed report, as a release run leaves it."""
    release, subject = push_image(chain, image, number)
    place, signer = chain.place(release.image), chain._session.keys.at_hand("scanner")
    packages = PlatformPackages(
        subject=subject.digest,
        manifest=subject,
        platform=Platform(os="linux", architecture="amd64"),
        components=tuple(sorted(contents(image, number), key=lambda each: each.purl)),
        created="2026-11-01T00:00:00Z",
    )
    publish_sboms(place, subject, [packages], signer=signer)
    publish_report(place, subject, matcher.report([packages]), signer=signer)


RESCAN = """
import json, sys, time
from pathlib import Path
from registry_pipelines.chain import Chain
from registry_pipelines.config import load
chain = Chain(load(Path(sys.argv[1]), {}))
chain.rescan(bucket="none")  # modules are loaded, the advisories are indexed
used = time.process_time()
facts = chain.rescan().facts
Path(sys.argv[2]).write_text(json.dumps({**facts, "used_s": time.process_time() - used}))
"""

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


def rescans(folder: Path, images: int, releases: int) -> str:
    """Nights of three kinds: what each costs here and at the registry, for each release."""
    config, answer = folder / "registry-pipelines.yaml", folder / "facts.json"
    write_advisories(folder / "advisories")
    ports = free_ports(2)
    config.write_text(settings(ports, images))
    rows = [
        "| night | releases | read | changed | CPU ms a release | of the registry | 100,000 on two cores |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    with started(["registry-pipelines", "serve", "--config", str(config)], f"http://127.0.0.1:{ports[0]}/v2/") as here:
        chain = Chain(load(config, {}))
        store = AdvisoryStore.load(folder / "advisories", chain.config.state)
        matcher = Matcher(store)
        for image in range(images):
            for number in range(releases):
                push_release(chain, image, number, matcher)
        store.close()
        nights = {
            "the first: every release is read": 0,
            "records about 20 packages": 20,
            "records about packages that nobody holds": -1,
            "every release is read again": 0,
        }
        for number, (night, new) in enumerate(nights.items()):
            if new:
                write_advisories(folder / "advisories", new=new)
            if number == 3:
                shutil.rmtree(chain.config.state / "rescan")
            before = used_s(here)
            measure.run([sys.executable, "-c", RESCAN, str(config), str(answer)], cwd=ROOT)
            facts, count = json.loads(answer.read_text()), images * releases
            ours_ms, theirs_ms = facts["used_s"] / count * 1000, (used_s(here) - before) / count * 1000
            rows.append(
                f"| {night} | {count:,} | {facts['rescanned']} | {facts['changed']} | {ours_ms:.1f} | {theirs_ms:.1f} "
                f"| {ours_ms * 50:.0f} s |"
            )
    return "\n".join(rows)


def live(folder: Path, count: int) -> tuple[Path, Path]:
    """A registry with so many small releases in 50 images, and a Dagster home that knows all of them as judged, and of
    ten nine as promoted. Returns the configuration and the home."""
    config, home, images = folder / "live.yaml", folder / "home", 50
    home.mkdir()
    (home / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    config.write_text(settings(free_ports(2), images).replace("fleet/", "live/"))
    parsed = load(config, {})
    with ensure_registries(parsed), dg.DagsterInstance.from_config(str(home)) as instance:
        chain = Chain(parsed)
        made = [push_image(chain, number % images, number // images)[0] for number in range(count)]
        keys = list(add_releases(instance, chain, made).values())
        for asset in ("verdict", "promotion"):
            instance.report_runless_asset_event(dg.AssetMaterialization(asset, partition=keys[0]))
    [path] = home.rglob("index.db")
    with sqlite3.connect(path) as database:  # as 9,499 further events; by Dagster's own calls they take minutes
        for asset in ("verdict", "promotion"):
            columns = "run_id, event, dagster_event_type, timestamp, step_key, asset_key"
            further = [(key,) for place, key in enumerate(keys) if place and (asset == "verdict" or place % 10 < 9)]
            database.executemany(
                f"INSERT INTO event_logs ({columns}, partition) SELECT {columns}, ? FROM event_logs "
                f"WHERE asset_key = '{json.dumps([asset])}' AND partition = '{keys[0]}'",
                further,
            )
    return config, home


def sensors(folder: Path, config: Path, home: Path) -> str:
    """Ticks of the sensors that look at every release. The registry runs beside them."""
    answer = folder / "ticks.json"
    parsed = load(config, {})
    rows = ["| tick | CPU s | seconds |", "|---|--:|--:|"]
    with ensure_registries(parsed):
        measure.run([sys.executable, "-W", "ignore", "-c", SENSORS, str(config), str(home), str(answer)], cwd=ROOT)
    for place, (name, used, wall) in enumerate(json.loads(answer.read_text())):
        rows.append(f"| `{name}`{' (the first look)' if not place else ''} | {used:.2f} | {wall:.2f} |")
    return "\n".join(rows)


def pages(folder: Path, config: Path, home: Path) -> str:
    """Queries of Dagster's own pages, the slowest of three each, the first included."""
    port = free_ports(1)[0]
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


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=20)
    parser.add_argument("--releases", type=int, default=25)
    parser.add_argument("--live", type=int, default=5000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        rescanned = rescans(folder, arguments.images, arguments.releases)
        print(rescanned, flush=True)
        config, home = live(folder, arguments.live)
        ticks = sensors(folder, config, home)
        print(ticks, flush=True)
        asked = pages(folder, config, home)
        print(asked, flush=True)
    text = (
        f"{ABOUT}\n\n## Rescan\n\n{rescanned}\n\n`100,000 on two cores` is two processes that share the buckets, the "
        f"registry elsewhere.\n\n## Sensors at {arguments.live:,} live releases\n\n{ticks}\n\n"
        f"## Pages of an asset with {arguments.live:,} partitions\n\n{asked}\n"
    )
    measure.write_page("sweeps", "A fleet's rescan, sensors and pages", "python benchmarks/sweeps.py", text)


if __name__ == "__main__":
    main()
