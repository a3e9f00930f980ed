"""A whole image, fetched and unpacked: ours, Docker, containerd, and the wire alone.

    python benchmarks/pull.py [--mib 1500] [--files 20000] [--gbit 1] [--runs 3] [--write]

The registry is in a network namespace of its own behind a link of ``--gbit`` (tbf); needs root. The image has three
layers of made files: libraries whose bytes compress to about a half, as those of CUDA do, and many small ones. *wire*
is a plain GET of the same layers, three at once, thrown away: nothing that pulls can be faster. Docker is an engine of
the benchmark's own. Files are forgotten before each run, and all that was pulled is deleted after it.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import json
import random
import resource
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import IO

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks import measure
from registry_pipelines.oci import media_types
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor, ManifestBytes
from registry_pipelines.registry.blobs import push_blob
from registry_pipelines.registry.layout import LayoutRegistry
from registry_pipelines.registry.protocol import Place
from registry_pipelines.stream.bench.docker import DockerDaemon
from registry_pipelines.stream.bench.link import ADDRESS, Link
from registry_pipelines.stream.bench.machine import drop_caches
from registry_pipelines.stream.bench.preparing import OURS
from registry_pipelines.stream.bench.serving import CountingRegistry

LARGE = 24 << 20
SHARES = (0.6, 0.3, 0.1)
"""Of the bytes, by layer; of the files the other way round."""

WIRE = """
import sys, threading, http.client
def get(host, path):
    connection = http.client.HTTPConnection(host)
    connection.request("GET", path)
    answer, buffer = connection.getresponse(), bytearray(1 << 20)
    while answer.readinto(buffer):
        pass
threads = [threading.Thread(target=get, args=(sys.argv[1], path)) for path in sys.argv[2:]]
[each.start() for each in threads]
[each.join() for each in threads]
"""


class _File(io.RawIOBase):
    """Made content: blocks of noise, every second one text, so that it compresses to about a half."""

    def __init__(self, size: int, seed: int) -> None:
        self._left, self._random = size, random.Random(seed)

    def read(self, count: int = -1) -> bytes:
        count = self._left if count < 0 else min(count, self._left)
        self._left -= count
        half = self._random.randbytes(count // 2)
        return half + b"0123456789abcdef" * ((count - len(half)) // 16) + bytes((count - len(half)) % 16)


def make_layer(target: IO[bytes], size: int, files: int, seed: int) -> str:
    """Write a gzip layer; its diffID."""
    hasher = hashlib.sha256()

    class Hashed(io.RawIOBase):
        def write(self, piece: object) -> int:
            hasher.update(piece)  # type: ignore[arg-type]
            return packed.write(piece)  # type: ignore[arg-type]

    with (
        gzip.GzipFile(fileobj=target, mode="wb", compresslevel=6, mtime=0) as packed,
        tarfile.open(fileobj=Hashed(), mode="w|") as tar,  # type: ignore[call-overload]
    ):
        small = min(size // 3, files * 4000) // max(files, 1)
        sizes = [small] * files + [LARGE] * max(1, (size - small * files) // LARGE)
        for number, length in enumerate(sizes):
            info = tarfile.TarInfo(f"opt/layer{seed}/{number % 97}/{number}")
            info.size, info.mode = length, 0o644
            tar.addfile(info, _File(length, seed << 32 | number))  # type: ignore[arg-type]
    return f"sha256:{hasher.hexdigest()}"


def push_image(place: Place, folder: Path, mib: int, files: int) -> list[Descriptor]:
    """An image of three layers; their descriptors."""
    layers, diff_ids = [], []
    for number, share in enumerate(SHARES):
        path = folder / f"layer{number}"
        with path.open("wb") as file:
            diff_ids.append(make_layer(file, int((mib << 20) * share), int(files * SHARES[-1 - number]), number + 1))
        with path.open("rb", buffering=0) as file:
            digest = Digest(f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}")
            file.seek(0)
            layer = Descriptor(media_type=media_types.OCI_LAYER_GZIP, digest=digest, size=path.stat().st_size)
            place.registry.upload_blob(place.repository, layer, file)  # type: ignore[arg-type]
        path.unlink()
        layers.append(layer)
    config = {"architecture": "amd64", "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": diff_ids}}
    pushed = push_blob(place, json.dumps(config).encode(), media_type=media_types.OCI_CONFIG)
    lines = [{"mediaType": each.media_type, "digest": each.digest, "size": each.size} for each in (pushed, *layers)]
    document = {"schemaVersion": 2, "mediaType": media_types.OCI_MANIFEST, "config": lines[0], "layers": lines[1:]}
    raw = json.dumps(document).encode()
    place.registry.put_manifest(
        place.repository, ManifestBytes(raw, media_types.OCI_MANIFEST, Digest.of(raw)), tag="v1"
    )
    return layers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mib", type=int, default=1500, help="uncompressed")
    parser.add_argument("--files", type=int, default=20_000)
    parser.add_argument("--gbit", type=float, default=1.0)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=Path("/var/tmp"))
    parser.add_argument("--write", action="store_true")
    wanted = parser.parse_args()
    with ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pull-", dir=wanted.folder)))
        place = Place(LayoutRegistry(work / "registry"), "team/app")
        layers = push_image(place, work, wanted.mib, wanted.files)
        link = stack.enter_context(Link(wanted.gbit * 1e9))
        registry = stack.enter_context(CountingRegistry(work / "registry", ADDRESS, link.registry.enter))
        node = link.nodes[0]
        docker = stack.enter_context(DockerDaemon(work, node.enter, registry.address))
        name = f"{registry.address}/team/app:v1"
        paths = [f"/v2/team/app/blobs/{layer.digest}" for layer in layers]

        def timed(act: Callable[[], object], clean: Callable[[], object]) -> measure.Sample:
            for layer in layers:  # the registry's are in memory for all alike
                next((work / "registry").rglob(layer.digest.hex)).read_bytes()
            drop_caches()
            before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
            act()
            wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
            clean()
            cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            return measure.Sample(wall, cpu, after.ru_maxrss / 1024)

        def run(*command: str) -> None:
            subprocess.run(node.enter(command), check=True, stdout=subprocess.DEVNULL)

        ours = (*OURS, "stream", "pull", "bench/team/app:v1")
        config = work / "ours.yaml"
        config.write_text(
            f"version: 1\nstate: {work / 'state'}\nregistries:\n"
            f'  bench: {{kind: distribution, host: "{registry.address}", plain_http: true}}\n'
        )
        ways: dict[str, Callable[[], measure.Sample]] = {
            "the wire alone": lambda: timed(
                lambda: run(sys.executable, "-c", WIRE, registry.address, *paths), lambda: None
            ),
            "stream pull": lambda: timed(
                lambda: run(*ours, "--to", str(work / "out"), "--quiet", "--config", str(config)),
                lambda: shutil.rmtree(work / "out"),
            ),
            "docker pull": lambda: timed(lambda: docker.run("pull", "-q", name), lambda: docker.run("rmi", "-f", name)),
        }
        samples = measure.interleave(ways, runs=wanted.runs, warm_up=False)
    medians = {label: measure.median(runs).wall_s for label, runs in samples.items()}
    wire, own, theirs = medians.values()
    size = sum(layer.size for layer in layers)
    told = (
        f"{wanted.mib} MiB in {wanted.files:,} files, {size / 1e6:,.0f} MB compressed, over {wanted.gbit:g} Gbit/s. "
        f"Ours takes **{own / wire:.2f}** times the wire, Docker {theirs / wire:.2f} times; Docker takes "
        f"**{theirs / own:.2f}** times ours. CPU seconds and memory are those of the program that was started; what "
        "Docker takes, its engine takes, and is not seen."
    )
    table = measure.comparison(samples, ours="stream pull")
    print(told, table, sep="\n\n")
    if wanted.write:
        picture = measure.bars("pull", {"pull and unpack": {label: each / wire for label, each in medians.items()}})
        measure.write_page("pull", "Whole pulls", "python benchmarks/pull.py --write", told, table, picture)


if __name__ == "__main__":
    main()
