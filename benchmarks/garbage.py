"""How long pushes wait while garbage is collected: a store of 100,000 blobs, a tenth of them garbage.

    python benchmarks/garbage.py [--blobs 100000] [--repositories 1] [--seconds 10] [--elsewhere]

A process of its own serves the store. Images are pushed to its first repository one after the other (one blob, one
manifest with a tag), first alone, then while the server collects again and again (``--elsewhere``: another process
does). Told are the times of a push: median, 99 of 100, the longest; and what one collection takes.
"""

from __future__ import annotations

import argparse
import http.client
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

sys.path.insert(0, str(Path(__file__).parent.parent))

from registry_pipelines.oci import media_types
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.layout import Layout
from registry_pipelines.oci.manifests import Descriptor, Index, Manifest, encode_json, manifest_bytes

SERVE = """
import json, resource, sys, time
from pathlib import Path
from registry_pipelines.registry.embedded import EmbeddedServer
with EmbeddedServer(Path(sys.argv[1]), garbage_interval_s=None) as server:
    print(server.port, flush=True)
    for line in sys.stdin:
        began, cpu = time.perf_counter(), time.process_time()
        done = server.collect_garbage(grace_s=3600)
        print(json.dumps({"seconds": time.perf_counter() - began, "cpu": time.process_time() - cpu,
            "blobs": done.blobs, "skipped": done.skipped,
            "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}), flush=True)
"""


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--blobs", type=int, default=100_000)
    options.add_argument("--repositories", type=int, default=1)
    options.add_argument("--seconds", type=float, default=10)
    options.add_argument("--elsewhere", action="store_true")
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for number in range(chosen.repositories):
            fill(root / f"repository{number}", chosen.blobs // chosen.repositories)
        with served(root) as server, served(root) as other:
            assert server.stdout and server.stdin and other.stdout and other.stdin
            port = int(server.stdout.readline())
            other.stdout.readline()
            push(port, "warm")
            until = time.perf_counter() + chosen.seconds
            tell("alone", pushes(port, "alone", lambda: time.perf_counter() < until))
            collecting = other if chosen.elsewhere else server
            for round_ in ("first collection", "next collection"):
                with Collecting(collecting) as run:
                    tell(round_, pushes(port, round_.replace(" ", "-"), run.is_alive))
                print(f"  {run.said.strip()}")
            server.stdin.close()
            other.stdin.close()


class Collecting(threading.Thread):
    """One collection of a process; said: what it tells at its end."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        super().__init__()
        self._process, self.said = process, ""

    def run(self) -> None:
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        self.said = self._process.stdout.readline()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.join()


def served(root: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", SERVE, str(root)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def fill(folder: Path, blobs: int) -> None:
    """A layout of images (four blobs each), and a tenth of loose blobs, all two hours old."""
    Layout(folder).create()
    then = time.time() - 7200
    entries = []
    for number in range(blobs * 9 // 40):
        below = [written(folder, f"{folder.name} {number} {part}".encode(), then) for part in range(3)]
        types = (media_types.OCI_CONFIG, media_types.OCI_LAYER, media_types.OCI_LAYER)
        config, *layers = [
            Descriptor(media_type=kind, digest=one, size=20) for kind, one in zip(types, below, strict=True)
        ]
        manifest = manifest_bytes(
            Manifest(schema_version=2, media_type=media_types.OCI_MANIFEST, config=config, layers=tuple(layers))
        )
        written(folder, manifest.raw, then)
        entries.append(manifest.descriptor)
    for number in range(blobs // 10):
        written(folder, f"{folder.name} garbage {number}".encode(), then)
    index = Index(schema_version=2, media_type=media_types.OCI_INDEX, manifests=tuple(entries))
    (folder / "index.json").write_bytes(encode_json(index))


def written(folder: Path, content: bytes, then: float) -> Digest:
    digest = Digest.of(content)
    path = folder / "blobs" / digest.algorithm / digest.hex
    path.write_bytes(content)
    os.utime(path, (then, then))
    return digest


def pushes(port: int, name: str, go_on: Callable[[], bool]) -> list[float]:
    took = []
    while go_on():
        began = time.perf_counter()
        push(port, f"{name}-{len(took)}")
        took.append(time.perf_counter() - began)
    return took


def push(port: int, name: str) -> None:
    content = name.encode()
    digest = Digest.of(content)
    blob = Descriptor(media_type=media_types.OCI_LAYER, digest=digest, size=len(content))
    manifest = manifest_bytes(Manifest(schema_version=2, media_type=media_types.OCI_MANIFEST, config=blob, layers=()))
    connection = http.client.HTTPConnection("127.0.0.1", port)
    base = "/v2/repository0"
    for method, path, body, kind in (
        ("POST", f"{base}/blobs/uploads/?digest={digest}", content, "application/octet-stream"),
        ("PUT", f"{base}/manifests/{name}", manifest.raw, media_types.OCI_MANIFEST),
    ):
        connection.request(method, path, body=body, headers={"Content-Type": kind})
        answer = connection.getresponse()
        answer.read()
        if answer.status != 201:
            raise SystemExit(f"{method} {path}: {answer.status}")
    connection.close()


def tell(what: str, took: list[float]) -> None:
    ordered = sorted(took)
    late = ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)]
    print(
        f"{what}: {len(took)} pushes; median {statistics.median(took) * 1000:.1f} ms, "
        f"99 of 100 within {late * 1000:.1f} ms, the longest {ordered[-1] * 1000:.1f} ms"
    )


if __name__ == "__main__":
    main()
