"""Copy images between registries: ours, skopeo, crane and oras, side by side.

    python benchmarks/transfer.py [--scenario single|capped|fleet|link|memory] [--gib 4] [--runs 3] [--write]

Source and target are docker-registry processes of this machine with their content below ``--folder`` (memory, when
there is enough). The target is emptied before every run. CPU seconds and peak memory are the copier's own.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks import measure
from registry_pipelines.oci import media_types
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor, Manifest, manifest_bytes
from registry_pipelines.registry.blobs import push_blob
from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.interface import Place
from tests.conftest import find_peer
from tests.doubles.certificates import Certificates, make_certificates
from tests.doubles.docker_registry import DockerRegistry

OURS = """
import sys
from pathlib import Path
from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.interface import Place
from registry_pipelines.transfer.copy import copy_closure
source, target, ca, state = sys.argv[1:5]
ca_file = Path(ca) if ca else None
a, b = (Place(DistributionRegistry(item.split('/')[0], ca_file=ca_file), item.split('/', 1)[1]) for item in (source, target))
copy_closure(a, 'v1', [b], state=Path(state))
"""


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


def push_image(place: Place, sizes: list[int], tag: str = "v1") -> int:
    layers = []
    for number, size in enumerate(sizes):
        noise = Noise(size, number)
        layers.append(noise.descriptor())
        place.registry.upload_blob(place.repository, layers[-1], noise)
    config = push_blob(
        place,
        b'{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}',
        media_type=media_types.OCI_CONFIG,
    )
    manifest = manifest_bytes(
        Manifest(schema_version=2, media_type=media_types.OCI_MANIFEST, config=config, layers=tuple(layers))
    )
    place.registry.put_manifest(place.repository, manifest, tag=tag)
    return sum(sizes)


class Bench:
    """Source and target registries and the commands that copy between them."""

    def __init__(self, folder: Path, stack: ExitStack, *, tls: bool) -> None:
        self.folder = folder
        self.certificates: Certificates | None = make_certificates(folder / "tls") if tls else None
        program = find_peer("docker-registry") or "docker-registry"
        cert, key = (self.certificates.certificate, self.certificates.key) if self.certificates else (None, None)
        self.source = stack.enter_context(DockerRegistry(program, folder / "source", certificate=cert, key=key))
        self.target = stack.enter_context(DockerRegistry(program, folder / "target", certificate=cert, key=key))
        self.source_address, self.target_address = self.source.address, self.target.address

    def place(self, address: str, repository: str) -> Place:
        ca = self.certificates.ca if self.certificates else None
        return Place(DistributionRegistry(address, ca_file=ca), repository)

    def empty_target(self) -> None:
        shutil.rmtree(self.folder / "target" / "data", ignore_errors=True)
        shutil.rmtree(self.folder / "state", ignore_errors=True)

    def command(self, copier: str) -> list[str]:
        source, target = f"{self.source_address}/bench/image", f"{self.target_address}/bench/image"
        tls = self.certificates is not None
        program = find_peer(copier) or copier
        if copier == "skopeo":
            check = [f"--src-tls-verify={str(False).lower()}", "--dest-tls-verify=false"]
            return [program, "--insecure-policy", "copy", *check, f"docker://{source}:v1", f"docker://{target}:v1"]
        if copier == "crane":
            return [program, "cp", "--insecure", f"{source}:v1", f"{target}:v1"]
        if copier == "oras":
            flags = ["--from-insecure", "--to-insecure"] if tls else ["--from-plain-http", "--to-plain-http"]
            return [program, "cp", "--no-tty", *flags, f"{source}:v1", f"{target}:v1"]
        ca = str(self.certificates.ca) if self.certificates else ""
        return [sys.executable, "-c", OURS, source, target, ca, str(self.folder / "state")]

    def contender(self, copier: str) -> Callable[[], measure.Sample]:
        def run() -> measure.Sample:
            self.empty_target()
            home = self.folder / "home"
            home.mkdir(exist_ok=True)
            return measure.run(self.command(copier), env={"HOME": str(home), "PYTHONPATH": str(Path.cwd())})

        return run


def copiers() -> list[str]:
    return ["ours", *(name for name in ("skopeo", "crane", "oras") if find_peer(name))]


def single(folder: Path, gib: float, runs: int, *, tls: bool) -> str:
    with ExitStack() as stack:
        bench = Bench(folder, stack, tls=tls)
        total = int(gib * (1 << 30))
        push_image(bench.place(bench.source_address, "bench/image"), [total * 3 // 4, *[total // 16] * 4])
        print(f"single image of {gib} GiB, {'TLS' if tls else 'plain HTTP'}")
        samples = measure.interleave({name: bench.contender(name) for name in copiers()}, runs=runs)
        return measure.comparison(samples, ours="ours")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--scenario", default="single")
    parser.add_argument("--gib", type=float, default=4)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--folder", default="/dev/shm")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder, prefix="transfer-bench-") as folder:
        for tls in (False, True):
            path = Path(folder) / str(tls)
            path.mkdir()
            print(single(path, options.gib, options.runs, tls=tls))
            shutil.rmtree(path)
    subprocess.run(["sync"], check=False)


if __name__ == "__main__":
    main()
