"""From an image with weights baked in to code image and signed weights: bytes and start times, before and after.

    python benchmarks/weights_start.py make --gb 10 --folder FOLDER
    python benchmarks/weights_start.py PART --folder FOLDER     (in this order: before, out, sign, code, after, volume)
    python benchmarks/weights_start.py write --folder FOLDER

The registry is in a network namespace behind a link of ``--gbit`` in each direction (tbf); containerd 2, our commands
and the program are on the other side. Needs root, and three times the weights' size of disk. Each part is a process of
its own, so that a machine can be kept quiet for one at a time. A *start* is a pull, and a program that reads all its
weights; before each part the disk's cache is dropped. The weights do not compress; the layer is gzip.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from isal import igzip, isal_zlib

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks import measure
from benchmarks.weights import OURS, SERVER, serving
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor, Manifest, encode_json, manifest_bytes
from registry_pipelines.oci.media_types import OCI_CONFIG, OCI_LAYER_GZIP, OCI_MANIFEST
from registry_pipelines.registry.blobs import push_blob
from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.protocol import Place
from registry_pipelines.stream.bench.link import ADDRESS, Link
from registry_pipelines.transfer.engine import Engine
from registry_pipelines.transfer.uploads import Uploads
from tests.doubles.containerd import Containerd, containerd
from tests.scan.images import make_tar

ROOT = Path(__file__).parent.parent
PEERS = ROOT / ".peers"
SHARDS = 8
BLOCK = 1 << 20
MODEL = "models/llama"
READ = f"all=0; for each in /{MODEL}/*.safetensors; do all=$((all + $(cat $each | busybox wc -c))); done; echo $all"
"""File by file: busybox as Debian builds it counts modulo 4 GiB."""


class Results:
    """Numbers of all parts, in the work folder."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "results.json"

    def read(self) -> dict[str, float]:
        return dict(json.loads(self._path.read_text())) if self._path.exists() else {}

    def add(self, **numbers: float) -> None:
        self._path.write_text(json.dumps({**self.read(), **numbers}, indent=1))
        print(numbers, flush=True)


def make(folder: Path, gigabytes: float) -> None:
    """An image of two layers: busybox, and one COPY of code and model. Then the same code without the model, twice."""
    folder.mkdir(parents=True)
    with serving([sys.executable, "-c", SERVER, str(folder / "registry"), "127.0.0.1"]) as address:
        registry = DistributionRegistry(address, plain_http=True)
        place, size = Place(registry, "ml/server"), int(gigabytes * 1e9 / SHARDS) // 2 * 2
        base = make_tar(
            {
                "bin/busybox": Path(shutil.which("busybox") or "busybox").read_bytes(),
                "bin/sh": "->busybox",
                "bin/cat": "->busybox",
            },
            executable=["bin/busybox"],
        )
        diff_ids: list[Digest] = []

        def produce(write: Callable[[bytes], object]) -> Descriptor:
            made, diff_id = write_layer(write, size)
            diff_ids.append(diff_id)
            return made

        with Engine(state=folder / "made").opened() as state:
            baked = Uploads(state, place).produce("layer", produce)
        push(place, "v1", [packed(place, base), (baked, diff_ids[-1])])
        for tag in ("v1-built", "v2-built"):
            push(place, tag, [packed(place, base), packed(place, make_tar({"app/main.py": f"version = {tag!r}\n"}))])
        registry.close()
    Results(folder).add(weights=size * SHARDS, image=baked.size, gb=gigabytes)


def write_layer(write: Callable[[bytes], object], size: int) -> tuple[Descriptor, Digest]:
    """The layer's descriptor and diffID. size: bytes of one shard."""
    plain, whole = hashlib.sha256(), hashlib.sha256()
    zipped, passed = isal_zlib.compressobj(1, isal_zlib.DEFLATED, 31), 0

    def send(piece: bytes) -> None:
        nonlocal passed
        if piece:
            whole.update(piece)
            passed += len(piece)
            write(piece)

    class Both:
        """What the tar is written to."""

        def write(self, piece: bytes) -> int:
            plain.update(piece)
            send(zipped.compress(piece))
            return len(piece)

    with tarfile.open(fileobj=Both(), mode="w|", bufsize=BLOCK) as tar:  # type: ignore[call-overload]
        for number in range(SHARDS):
            entry = tarfile.TarInfo(f"{MODEL}/model-{number}.safetensors")
            head = {"w": {"dtype": "BF16", "shape": [size // 2], "data_offsets": [0, size]}}
            header = json.dumps(head).encode()
            entry.size = 8 + len(header) + size
            tar.addfile(entry, Shard(len(header).to_bytes(8, "little") + header, size, number))  # type: ignore[arg-type]
        for name, content in ((f"{MODEL}/config.json", b"{}"), ("app/main.py", b"version = 1\n")):
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, Shard(content, 0, 0))  # type: ignore[arg-type]
    send(zipped.flush())
    digest = Digest(f"sha256:{whole.hexdigest()}")
    return Descriptor(media_type=OCI_LAYER_GZIP, digest=digest, size=passed), Digest(f"sha256:{plain.hexdigest()}")


class Shard:
    """A file to be read: a head, then bytes that do not compress and that no two shards share."""

    def __init__(self, head: bytes, size: int, seed: int) -> None:
        self._head, self._left, self._at = head, size, 0
        self._block = random.Random(seed).randbytes(BLOCK)

    def read(self, count: int) -> bytes:
        """At most so many bytes, as tarfile asks for them: none at the end alone."""
        if self._head:
            piece, self._head = self._head[:count], self._head[count:]
            return piece + self.read(count - len(piece)) if len(piece) < count else piece
        piece = b""
        while len(piece) < count and self._left:
            part = self._block[self._at : self._at + min(count - len(piece), self._left)]
            self._at = (self._at + len(part)) % BLOCK
            self._left -= len(part)
            piece += part
        return piece


def packed(place: Place, tar: bytes) -> tuple[Descriptor, Digest]:
    return push_blob(place, igzip.compress(tar, 1), media_type=OCI_LAYER_GZIP), Digest.of(tar)


def push(place: Place, tag: str, layers: list[tuple[Descriptor, Digest]]) -> None:
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Env": ["PATH=/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [diff_id for _, diff_id in layers]},
    }
    made = Manifest(
        schema_version=2,
        media_type=OCI_MANIFEST,
        config=push_blob(place, encode_json(config), media_type=OCI_CONFIG),
        layers=tuple(layer for layer, _ in layers),
    )
    place.registry.put_manifest(place.repository, manifest_bytes(made), tag=tag)


@dataclass
class Rig:
    """The two sides of the link."""

    folder: Path
    address: str
    link: Link

    def ours(self, *words: str) -> float:
        """Seconds of a command of ours on the node's side."""
        began = time.monotonic()
        command = self.link.nodes[0].enter([*OURS[:-1], *words])
        environment = {**os.environ, "XDG_STATE_HOME": str(self.folder / "state")}
        subprocess.run([*command, "--quiet"], check=True, cwd=self.folder, env=environment, stdout=subprocess.DEVNULL)
        return time.monotonic() - began

    def moved(self) -> int:
        """Bytes that the node received, with all headers."""
        return self.link.nodes[0].received_bytes()

    @contextmanager
    def node(self) -> Iterator[Containerd]:
        """An empty containerd on the node's side."""
        with tempfile.TemporaryDirectory(prefix="c-", dir=self.folder) as short:
            wrapped = []
            for name in ("containerd", "ctr"):
                script = Path(short) / name
                words = self.link.nodes[0].enter([str(PEERS / "containerd2" / name)])
                script.write_text(f'#!/bin/sh\nexec {" ".join(words)} "$@"\n')
                script.chmod(0o755)
                wrapped.append(str(script))
            os.environ["PATH"] = f"{PEERS / 'containerd2'}:{PEERS / 'bin'}:{os.environ['PATH']}"
            with containerd(wrapped[0], wrapped[1], Path(short), version=3) as ctr:
                yield ctr

    def start(self, ctr: Containerd, tag: str, *more: str) -> float:
        """Seconds of a pull and a program that reads all its weights."""
        image = f"{self.address}/ml/server:{tag}"
        began = time.monotonic()
        ctr("images", "pull", "--plain-http", image)
        told = ctr("run", "--rm", "--env", "PATH=/bin", *more, image, f"c{time.monotonic_ns()}", "sh", "-c", READ)
        assert int(told) >= Results(self.folder).read()["weights"]
        return time.monotonic() - began


@contextmanager
def rig(folder: Path, gbit: float) -> Iterator[Rig]:
    with ExitStack() as stack:
        subprocess.run(["sync"], check=True)
        Path("/proc/sys/vm/drop_caches").write_text("3")
        link = stack.enter_context(Link(gbit * 1e9))
        server = [sys.executable, "-c", SERVER, str(folder / "registry"), ADDRESS]
        address = stack.enter_context(serving(link.registry.enter(server)))
        places = {"bench": {"kind": "distribution", "host": address, "plain_http": True}}
        state = {"state": str(folder / "state"), "registries": places}
        (folder / "registry-pipelines.yaml").write_text(json.dumps(state))
        yield Rig(folder, address, link)


def before(at: Rig) -> dict[str, float]:
    """The image as it is, on an empty node."""
    with at.node() as ctr:
        seconds = at.start(ctr, "v1")
        return {"before_s": seconds, "before_bytes": at.moved()}


def out(at: Rig) -> dict[str, float]:
    return {"out_s": at.ours("weights", "out", "bench/ml/server:v1", "--to", "bench/models/llama:1")}


def sign(at: Rig) -> dict[str, float]:
    key = at.folder / "models.key"
    if not key.exists():
        at.ours("sign", "--generate-key", "--key", str(key))
    return {"sign_s": at.ours("weights", "sign", "bench/models/llama:1", "--key", str(key))}


def code(at: Rig) -> dict[str, float]:
    words = ("rechunk", "bench/ml/server:v1", "--drop", "weights", "--to", "bench/ml/server:v1-code")
    return {"code_s": at.ours(*words, "--key", str(at.folder / "models.key"))}


def after(at: Rig) -> dict[str, float]:
    """Code image and weights on an empty node; then the next release, which has another line of code."""
    model = at.folder / "node"
    mount = ("--mount", f"type=bind,src={model},dst=/{MODEL},options=rbind:ro")
    with at.node() as ctr:
        pulled = at.ours("weights", "pull", "bench/models/llama:1", "--to", str(model))
        first = pulled + at.start(ctr, "v1-code", *mount)
        bytes_first = at.moved()
        ctr("images", "pull", "--plain-http", f"{at.address}/ml/server:v1-built")
        came = at.moved()
        following = at.start(ctr, "v2-built", *mount)
        result = {
            "after_s": first,
            "pull_s": pulled,
            "after_bytes": bytes_first,
            "next_s": following,
            "next_bytes": at.moved() - came,
        }
    shutil.rmtree(model)
    return result


def volume(at: Rig) -> dict[str, float]:
    """The weights as a plain image, mounted by containerd as a volume; on an empty node."""
    made = at.ours("weights", "sync", "bench/models/llama:1", "bench/models/llama:volume", "--form", "image")
    mounted, name = at.folder / "mounted", f"{at.address}/models/llama:volume"
    mounted.mkdir()
    came = at.moved()
    with at.node() as ctr:
        began = time.monotonic()
        ctr("images", "pull", "--plain-http", name)
        ctr("images", "mount", name, str(mounted))
        try:
            mount = ("--mount", f"type=bind,src={mounted},dst=/{MODEL},options=rbind:ro")
            at.start(ctr, "v1-code", *mount)
            seconds = time.monotonic() - began
        finally:
            subprocess.run(["umount", str(mounted)], check=True)
    mounted.rmdir()
    return {"volume_made_s": made, "volume_s": seconds, "volume_bytes": at.moved() - came}


PARTS: dict[str, Callable[[Rig], dict[str, float]]] = {
    each.__name__: each for each in (before, out, sign, code, after, volume)
}


def page(found: dict[str, float], gbit: float) -> str:
    def gb(name: str) -> str:
        return f"{found[name] / 1e9:.2f} GB" if found[name] > 1e8 else f"{found[name] / 1e3:.0f} kB"

    first = f"{found['after_s']:.0f} s, {found['pull_s']:.0f} s of it `weights pull`"
    rows = [
        "| | weights in the image | code image, weights pulled | code image, weights as an image volume |",
        "|---|---|---|---|",
        f"| first start on an empty node | {found['before_s']:.0f} s | {first} | {found['volume_s']:.0f} s |",
        f"| bytes on the wire | {gb('before_bytes')} | {gb('after_bytes')} | {gb('volume_bytes')} |",
        f"| start of the next release, one line of code changed | as the first | {found['next_s']:.0f} s | as pulled |",
        f"| bytes on the wire | as the first | {gb('next_bytes')} | {gb('next_bytes')} |",
    ]
    commands = [
        "| command | s |",
        "|---|---|",
        f"| `weights out` | {found['out_s']:.0f} |",
        f"| `weights sign` | {found['sign_s']:.1f} |",
        f"| `rechunk --drop weights` | {found['code_s']:.0f} |",
        f"| `weights sync --form image` | {found['volume_made_s']:.0f} |",
    ]
    head = (
        f"{found['weights'] / 1e9:.1f} GB of weights in {SHARDS} shards, code and model in one COPY; the layer is gzip,"
        f" {found['image'] / 1e9:.2f} GB. {gbit:g} Gbit/s each way, containerd 2.1, one run of each. A start is a pull "
        "and a program that reads all its weights."
    )
    return "\n\n".join([head, "\n".join(rows), "The commands, through the same link:", "\n".join(commands)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=["make", *PARTS, "write"])
    parser.add_argument("--gb", type=float, default=10.0)
    parser.add_argument("--gbit", type=float, default=1.0)
    parser.add_argument("--folder", type=Path, required=True)
    wanted = parser.parse_args()
    results = Results(wanted.folder)
    if wanted.part == "make":
        make(wanted.folder, wanted.gb)
    elif wanted.part == "write":
        text = page(results.read(), wanted.gbit)
        command = "python benchmarks/weights_start.py"
        measure.write_page("weights-start", "Weights out of the image: bytes and start times", command, text)
        print(text)
    else:
        with rig(wanted.folder, wanted.gbit) as at:
            results.add(**PARTS[wanted.part](at))


if __name__ == "__main__":
    main()
