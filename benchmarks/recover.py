"""Backups and restores: the nightly run over a fleet that did not change, against `sync` of the same; a whole restore,
against `copy` of the same bytes. Writes docs/benchmarks/recover.md.

    python benchmarks/recover.py [--images 1000] [--gigabytes 2] [--rounds 3] [--write]

Registries are embedded ones in a process of their own (`registry-pipelines serve`), the store is a folder. Each run is
a process of its own, whose peak memory is told.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks import measure
from registry_pipelines.oci import media_types
from registry_pipelines.oci.manifests import Manifest, manifest_bytes
from registry_pipelines.registry.blobs import push_blob
from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.protocol import Place
from tests.collect.test_retention import note
from tests.ports import free_ports

PROGRAM = str(Path(sys.executable).with_name("registry-pipelines"))
SETTINGS = """\
registries:
  here: {{kind: embedded, port: {0}}}
  there: {{kind: embedded, port: {1}}}
  back: {{kind: embedded, port: {2}}}
  vault: {{kind: store, address: vault}}
targets: {{there: {{registry: there}}}}
syncs: {{all: {{source: here, targets: [there]}}}}
backups: {{nightly: {{registries: [here], to: vault}}}}
signing: {{generate: true}}
"""
LAYER_BYTES = 256 << 20


@contextmanager
def fleet(folder: Path) -> Iterator[tuple[Path, Place]]:
    """A configuration with its registries served, and a repository of the first one."""
    ports = free_ports(3)
    path = folder / "registry-pipelines.yaml"
    path.write_text(SETTINGS.format(*ports))
    serving = subprocess.Popen([PROGRAM, "serve", "--config", str(path), "--quiet"], stdout=subprocess.DEVNULL)
    try:
        registry = DistributionRegistry(f"127.0.0.1:{ports[0]}", plain_http=True)
        for _ in range(200):
            try:
                registry.ping()
                break
            except Exception:  # not listening yet
                time.sleep(0.05)
        yield path, Place(registry, "team/app")
    finally:
        serving.terminate()
        serving.wait()


def push_image(place: Place, tag: str, layers: list[bytes]) -> None:
    """An image of these layers, with one artifact about it."""
    config = {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": []}, "tag": tag}
    made = manifest_bytes(
        Manifest(
            schema_version=2,
            media_type=media_types.OCI_MANIFEST,
            config=push_blob(place, json.dumps(config).encode(), media_type=media_types.OCI_CONFIG),
            layers=tuple(push_blob(place, each, media_type=media_types.OCI_LAYER_GZIP) for each in layers),
        )
    )
    place.registry.put_manifest(place.repository, made, tag=tag)
    note(place, made, f"about {tag}")


def timed(path: Path, *words: str) -> tuple[float, float, float]:
    """Seconds, CPU seconds and peak MB of one command."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-c", RUN, PROGRAM, *words, "--config", str(path), "--quiet", "--json"]
    begin = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - begin
    if done.returncode:
        raise SystemExit(f"{' '.join(words)} ended with {done.returncode}: {done.stdout[-500:]}{done.stderr[-500:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return seconds, cpu, float(done.stderr.rsplit("PEAK ", 1)[1]) / 1024


RUN = """
import resource, subprocess, sys
code = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode
print("PEAK", resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=sys.stderr)
sys.exit(code)
"""


def nightly(folder: Path, images: int, rounds: int) -> str:
    """The run over what did not change."""
    with fleet(folder) as (path, place):
        for number in range(images):
            push_image(Place(place.registry, f"team/app-{number % 20}"), f"v{number}", [os.urandom(64)])
        cold = {"sync": timed(path, "sync", "all"), "backup": timed(path, "recover", "backup")}
        warm: dict[str, list[tuple[float, float, float]]] = {"sync": [], "backup": []}
        for _ in range(rounds):
            warm["sync"].append(timed(path, "sync", "all"))
            warm["backup"].append(timed(path, "recover", "backup"))
    rows = ["| command | cold s | warm s | warm CPU s | peak MB |", "|---|---|---|---|---|"]
    medians = {name: [statistics.median(each) for each in zip(*found, strict=True)] for name, found in warm.items()}
    for name, (seconds, cpu, peak) in medians.items():
        rows.append(f"| {name} | {cold[name][0]:.1f} | {seconds:.2f} | {cpu:.2f} | {peak:.0f} |")
    ratio = medians["backup"][0] / medians["sync"][0]
    return "\n".join([*rows, "", f"Backup over sync, warm: **{ratio:.2f}** ({images} images in 20 repositories)."])


def whole(folder: Path, gigabytes: float, rounds: int) -> str:
    """A restore of large images, against a copy of the same."""
    count = max(1, round(gigabytes * (1 << 30) / LAYER_BYTES))
    found: dict[str, list[tuple[float, float, float]]] = {"copy": [], "restore": []}
    with fleet(folder) as (path, place):
        push_image(place, "v1", [os.urandom(LAYER_BYTES) for _ in range(count)])
        timed(path, "recover", "backup")
        for number in range(rounds):
            found["copy"].append(timed(path, "copy", "here/team/app:v1", f"back/copied/{number}:v1"))
            clear(folder / ".registry-pipelines" / "registries" / "back")
            found["restore"].append(timed(path, "recover", "restore", "--to", "back", "--prefix", f"restored{number}"))
            clear(folder / ".registry-pipelines" / "registries" / "back")
    size = count * LAYER_BYTES / 1e6
    rows = ["| command | s | MB/s | CPU s | peak MB |", "|---|---|---|---|---|"]
    medians = {name: [statistics.median(each) for each in zip(*runs, strict=True)] for name, runs in found.items()}
    for name, (seconds, cpu, peak) in medians.items():
        rows.append(f"| {name} | {seconds:.1f} | {size / seconds:.0f} | {cpu:.1f} | {peak:.0f} |")
    ratio = medians["copy"][0] / medians["restore"][0]
    return "\n".join([*rows, "", f"Restore's rate over copy's: **{ratio:.2f}** ({size:.0f} MB in {count} layers)."])


def clear(registry: Path) -> None:
    """Empty a registry that goes on serving."""
    for each in registry.iterdir():
        shutil.rmtree(each, ignore_errors=True)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--images", type=int, default=1000)
    options.add_argument("--gigabytes", type=float, default=2)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--write", action="store_true", help="write docs/benchmarks/recover.md")
    chosen = options.parse_args()
    parts = []
    for title, work in (
        ("A night without news", lambda folder: nightly(folder, chosen.images, chosen.rounds)),
        ("A whole restore", lambda folder: whole(folder, chosen.gigabytes, chosen.rounds)),
    ):
        with tempfile.TemporaryDirectory() as folder:
            parts.append(f"## {title}\n\n{work(Path(folder))}\n")
        print(parts[-1], flush=True)
    if chosen.write:
        words = "Medians. The store is a folder, the registries are embedded ones; each run is a process of its own."
        measure.write_page("recover", "Backups and restores", "python benchmarks/recover.py --write", words, *parts)


if __name__ == "__main__":
    main()
