"""Sixty images with two tags each on four shared bases, from one registry to others behind a link.

Run by ``transfer.py``. Peers that serve several targets in one run (regsync, ocync) get both, the others one, in their
favour. Each copier runs cold, then warm, as a rerun with what it remembers. Warm the links are gone, and the registries
themselves listen at their addresses, by which copiers know them: a rerun is a thousand small requests, and through the
proxies, which are Python, it was their time that was measured.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import astuple, dataclass
from pathlib import Path

from benchmarks import measure
from benchmarks.builds import BOTH, HERE, Build, Figures
from benchmarks.link_proxy import Link
from registry_pipelines.oci import media_types
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor, Manifest, manifest_bytes
from registry_pipelines.registry.blobs import push_blob
from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.protocol import Place
from tests.conftest import find_peer
from tests.doubles.docker_registry import DockerRegistry


class Noise:
    """Random bytes of a given size without holding them: one block, each time rotated by its number."""

    def __init__(self, size: int, seed: int) -> None:
        self.size, self.seed = size, seed
        self._block = os.urandom(8 << 20)
        self._at = 0

    def readinto(self, buffer: memoryview) -> int:
        count = min(len(buffer), self.size - self._at, len(self._block) - self._at % len(self._block))
        start = self._at % len(self._block)
        buffer[:count] = self._block[start : start + count]
        self._at += count
        return count

    def rewind(self) -> None:
        self._at = 0

    def descriptor(self) -> Descriptor:
        hasher, buffer = Digest.of(b"").hasher(), memoryview(bytearray(1 << 20))
        while count := self.readinto(buffer):
            hasher.update(buffer[:count])
        self.rewind()
        return Descriptor(
            media_type=media_types.OCI_LAYER_GZIP, digest=Digest(f"sha256:{hasher.hexdigest()}"), size=self.size
        )


FLEET_OURS = f"""
import sys
{BOTH}
from pathlib import Path
from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.transfer.sync import Source, sync
try:
    from registry_pipelines.transfer.sync import OpenTarget
except ImportError:  # a build of before December 2026
    from registry_pipelines.transfer.sync import Target as OpenTarget
source, state, *targets = sys.argv[1:]
targets = tuple(OpenTarget(DistributionRegistry(item)) for item in targets)
result = sync([Source(DistributionRegistry(source), targets)], **keeping(Path(state)))
assert result.ok, [str(item.error) for item in result.results if item.error][:3]
print(sum(item.blobs_mounted for item in result.results))
"""


def push_fleet(place: Callable[[str], Place], images: int, scale: float) -> list[str]:
    """Two tags each; bases of 100 MB shared by a quarter of the images, 20 MB of their own per tag."""
    base_bytes, own_bytes = int(25e6 * scale), int(20e6 * scale)
    names = [f"fleet/image{number}" for number in range(images)]
    bases: dict[int, list[tuple[Descriptor, Noise]]] = {}
    for base in range(4):
        made = [Noise(base_bytes + layer, base * 10 + layer) for layer in range(4)]
        bases[base] = [(noise.descriptor(), noise) for noise in made]
    for number, name in enumerate(names):
        here = place(name)
        for tag in ("v1", "v2"):
            own = Noise(own_bytes, number)
            layers = [*bases[number % 4], (own.descriptor(), own)]
            for descriptor, noise in layers:
                if here.registry.blob_size(name, descriptor.digest) is None:
                    noise.rewind()
                    here.registry.upload_blob(name, descriptor, noise)
            config = push_blob(here, json.dumps([name, tag]).encode(), media_type=media_types.OCI_CONFIG)
            manifest = manifest_bytes(
                Manifest(
                    schema_version=2,
                    media_type=media_types.OCI_MANIFEST,
                    config=config,
                    layers=tuple(descriptor for descriptor, _ in layers),
                )
            )
            here.registry.put_manifest(name, manifest, tag=tag)
    return names


IMAGES = 60
SEVERAL_TARGETS = ("ours", "regsync", "ocync")
COPIERS = ("ours", "regsync", "ocync", "crane", "skopeo")
ONCE = ("regsync", "crane", "skopeo")
"""They take minutes, and nothing hangs on their last per cent."""


def fleet(folder: Path, scale: float, images: int = IMAGES, *, runs: int = 3) -> str:
    """Medians of cold and warm runs, in rotating order; those of ``ONCE`` run once. A first, uncounted run gives the
    machine's memory to the content that the others overwrite."""
    rows = [
        "| copier | targets | cold s | cold ratio | CPU s | requests | duplicate blob GETs | warm s | warm ratio |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    with ExitStack() as stack:
        program = find_peer("docker-registry") or "docker-registry"
        source = stack.enter_context(DockerRegistry(program, folder / "fleet-source"))
        registry = DistributionRegistry(source.address)
        names = push_fleet(lambda name: Place(registry, name), images, scale)
        print(f"fleet of {images} x 2, scale {scale}")
        taken: dict[str, list[FleetRun]] = {}
        _fleet_run("ours", folder, source.address, names, program)
        for turn in range(runs):
            for copier in (*COPIERS[turn:], *COPIERS[:turn]):
                if (copier == "ours" or find_peer(copier)) and not (turn and copier in ONCE):
                    taken.setdefault(copier, []).append(_fleet_run(copier, folder, source.address, names, program))
                    print(f"  {copier:10} {taken[copier][-1]}", flush=True)
    ours = _median(taken["ours"])
    for copier, all_runs in taken.items():
        run = _median(all_runs)
        label = f"**{copier}**" if copier == "ours" else copier
        rows.append(
            f"| {label} | {run.targets} | {run.cold_s:.1f} | {run.cold_s / ours.cold_s:.2f} | {run.cpu_s:.1f} "
            f"| {run.requests:,.0f} | {run.twice:,.0f} | {run.warm_s:.1f} | {run.warm_s / ours.warm_s:.2f} |"
        )
    return measure.beside("\n".join(rows))


def fleet_work(folder: Path, stack: ExitStack, scale: float) -> Callable[[Build], Figures]:
    """The fleet for one build of ours: what a cold and a warm run cost."""
    program = find_peer("docker-registry") or "docker-registry"
    source = stack.enter_context(DockerRegistry(program, folder / "fleet-source"))
    registry = DistributionRegistry(source.address)
    names = push_fleet(lambda name: Place(registry, name), IMAGES, scale)

    def work(build: Build) -> Figures:
        run = _fleet_run("ours", folder, source.address, names, program, build)
        return {"cold s": run.cold_s, "cold CPU s": run.cpu_s, "requests": run.requests, "warm s": run.warm_s}

    return work


@dataclass(frozen=True)
class FleetRun:
    """One copier, cold and then warm. twice: blob GETs beyond the first of each blob."""

    targets: int
    cold_s: float
    cpu_s: float
    requests: float
    twice: float
    warm_s: float


def _median(runs: list[FleetRun]) -> FleetRun:
    """The median of each figure by itself."""
    return FleetRun(
        runs[0].targets, *(statistics.median(column) for column in list(zip(*map(astuple, runs), strict=True))[1:])
    )


def _fleet_run(copier: str, folder: Path, source: str, names: list[str], program: str, build: Build = HERE) -> FleetRun:
    count = 2 if copier in SEVERAL_TARGETS else 1
    (folder / "home").mkdir(exist_ok=True)
    env = {"HOME": str(folder / "home")}
    state = folder / "fleet-state"
    shutil.rmtree(state, ignore_errors=True)
    state.mkdir()
    places = [folder / f"fleet-target{number}" for number in range(count)]
    with ExitStack() as stack:
        targets = [stack.enter_context(DockerRegistry(program, place)) for place in places]
        links = [Link(target.address, latency_ms=40, mb_per_s=40) for target in targets]
        before = Link(source)
        with ExitStack() as proxies:
            for link in (*links, before):
                proxies.enter_context(link)
            ends = before.address, [link.address for link in links]

            def copy() -> measure.Sample:
                if copier == "ours":
                    return build.run(FLEET_OURS, [ends[0], str(state), *ends[1]], env)
                return measure.run(_fleet_command(copier, *ends, names, state), env=env)

            cold = copy()
    with ExitStack() as stack:
        for place, address in zip((*places, folder / "fleet-source"), (*ends[1], ends[0]), strict=True):
            stack.enter_context(DockerRegistry(program, place, address=address))
        warm = copy()
    for number in range(count):
        shutil.rmtree(folder / f"fleet-target{number}", ignore_errors=True)
    requests = sum(link.counts["requests"] for link in (*links, before))
    return FleetRun(count, cold.wall_s, cold.cpu_s, requests, before.counts["duplicate_blob_gets"], warm.wall_s)


def _fleet_command(copier: str, source: str, targets: list[str], names: list[str], state: Path) -> list[str]:
    program = find_peer(copier) or copier
    if copier == "regsync":
        return [program, "once", "-c", str(_regsync_config(source, targets, names, state))]
    if copier == "ocync":
        return [program, "sync", "-c", str(_ocync_config(source, targets, names, state))]
    if copier == "crane":
        tags = [(name, tag) for name in names for tag in ("v1", "v2")]
        pairs = "\n".join(f"{source}/{name}:{tag} {targets[0]}/{name}:{tag}" for name, tag in tags)
        return ["sh", "-c", f"printf '%s\\n' '{pairs}' | xargs -P 4 -L 1 {program} cp --insecure 2>/dev/null"]
    steps = " && ".join(
        f"{program} --insecure-policy sync --src docker --dest docker --src-tls-verify=false --dest-tls-verify=false "
        f"{source}/{name} {targets[0]}/fleet >/dev/null"
        for name in names
    )
    return ["sh", "-c", steps]


def _regsync_config(source: str, targets: list[str], names: list[str], state: Path) -> Path:
    """JSON is YAML. Eight at once, twice what crane gets; with referrers, as we always look for them."""
    steps = [
        {"source": f"{source}/{name}", "target": f"{target}/{name}", "type": "repository", "referrers": True}
        for name in names
        for target in targets
    ]
    hosts = [{"registry": host, "tls": "disabled", "reqConcurrent": 16} for host in (source, *targets)]
    path = state / "regsync.yml"
    path.write_text(json.dumps({"version": 1, "creds": hosts, "defaults": {"parallel": 8}, "sync": steps}))
    return path


def _ocync_config(source: str, targets: list[str], names: list[str], state: Path) -> Path:
    """Its defaults, which look for no referrers where nothing changed."""
    places = {f"place{at}": {"url": host, "auth_type": "token", "token": "unused"} for at, host in enumerate(targets)}
    path = state / "ocync.yaml"
    config = {
        "global": {"cache_dir": str(state / "cache")},
        "registries": {"source": {"url": source, "auth_type": "token", "token": "unused"}, **places},
        "defaults": {"source": "source", "targets": list(places)},
        "mappings": [{"from": name, "to": name, "tags": {"glob": ["*"]}} for name in names],
    }
    path.write_text(json.dumps(config))
    return path
