"""The layer that ``stream.py`` measures on, and the others that read or convert it.

Peers: GNU gzip, the official SOCI builder (``.ci/build-go-peers``), ctr-remote with a containerd of its own.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import subprocess
import sysconfig
import tarfile
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from benchmarks import measure
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor, Manifest, manifest_bytes
from registry_pipelines.oci.media_types import OCI_CONFIG, OCI_LAYER_GZIP, OCI_MANIFEST
from registry_pipelines.registry.blobs import push_blob
from registry_pipelines.registry.layout import LayoutRegistry
from registry_pipelines.registry.protocol import Place
from tests.conftest import find_peer
from tests.doubles.containerd import containerd

LIBRARIES = Path("/usr/lib")


@dataclass(frozen=True)
class Layer:
    """One layer as a file, and what came out of it."""

    path: Path
    tar: Path
    entries: int

    def digests(self) -> tuple[Digest, Digest]:
        """Of the layer and of its tar."""
        found = []
        for path in (self.path, self.tar):
            with path.open("rb") as file:
                found.append(Digest(f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"))
        return found[0], found[1]

    @property
    def size(self) -> int:
        """Of the compressed layer, in bytes."""
        return self.path.stat().st_size

    @property
    def tar_size(self) -> int:
        return self.tar.stat().st_size

    def __str__(self) -> str:
        return f"{self.tar_size:,} bytes of tar, {self.entries:,} entries, {self.size:,} bytes by `gzip -6`"


def make_layer(folder: Path, size: int) -> Layer:
    """A layer of about ``size`` bytes of tar, compressed by GNU gzip, level 6: two thirds of the
    bytes shared libraries, a sixth Python packages, a sixth the standard library; each as often as it takes, under new
    names."""
    tar = folder / "layer.tar"
    trees = [_tree(*tree) for tree in _trees()]
    taken = [0] * len(trees)
    entries = 0
    with tarfile.open(tar, "w", format=tarfile.GNU_FORMAT, dereference=True) as archive:
        while archive.offset < size:
            least = taken.index(min(taken))
            path, name = next(trees[least])
            info = archive.gettarinfo(path, name)
            info.mtime, archive.members = int(info.mtime), []
            with path.open("rb") as stream:
                archive.addfile(info, stream)
            taken[least] += (1024 + info.size) // (1 if least else 4)
            entries += 1
    packed = folder / "layer.tar.gz"
    with packed.open("wb") as target:
        subprocess.run(["gzip", "-6", "-n", "-c", tar], stdout=target, check=True)
    return Layer(packed, tar, entries)


def _trees() -> tuple[tuple[Path, str, str, int], ...]:
    """Folder, its name in the layer, which files, and how large they may be: one program must not be all of it."""
    packages, standard = Path(sysconfig.get_path("purelib")), Path(sysconfig.get_path("stdlib"))
    return (
        (LIBRARIES, "usr/lib", "*.so*", 64 << 20),
        (packages, "lib/python3/site-packages", "*", 1 << 20),
        (standard, "lib/python3", "*", 1 << 20),
    )


def _tree(root: Path, name: str, which: str, limit: int) -> Iterator[tuple[Path, str]]:
    """Its files, again and again; what stands in another's folder is left to that one, so that no name comes twice."""
    paths = [
        path
        for path in sorted(root.rglob(which))
        if path.is_file() and not path.is_symlink() and path.stat().st_size <= limit and os.access(path, os.R_OK)
        if "site-packages" not in path.relative_to(root).parts
    ]
    for turn in itertools.count():
        for path in paths:
            yield path, f"opt/{turn}/{name}/{path.relative_to(root)}"


def gzip_dc(layer: Path) -> measure.Sample:
    """Decompressed and thrown away: what the disk's speed means here."""
    return measure.run(["sh", "-c", 'exec gzip -dc "$1" >/dev/null', "sh", str(layer)])


def official_ztoc(layer: Path, target: Path) -> measure.Sample:
    """The official builder's ztoc."""
    program = find_peer("soci-ztoc")
    assert program, "run .ci/build-go-peers"
    return measure.run([program, str(layer), str(target)], env={"TZ": "UTC"})


def ctr_remote_estargz(layer: Layer) -> tuple[measure.Sample, int]:
    """Converted by ctr-remote at its default level; and how large the layer is then, in bytes."""
    program, daemon, client = (find_peer(name) for name in ("ctr-remote", "containerd", "ctr"))
    assert program and daemon and client
    with tempfile.TemporaryDirectory(prefix="ctr") as name, containerd(daemon, client, Path(name)) as ctr:
        folder = Path(name)
        push_layers(Place(LayoutRegistry(folder / "layout"), "bench"), [layer])
        archive = folder / "layout.tar"
        subprocess.run(["tar", "-C", str(folder / "layout" / "bench"), "-cf", str(archive), "."], check=True)
        ctr("images", "import", "--no-unpack", "--base-name", "example.com/a", str(archive))
        source, target = "example.com/a:v1", "example.com/a:esgz"
        command = [program, "--address", str(folder / "grpc.sock"), "images", "convert", "--estargz", "--oci"]
        sample = measure.run([*command, source, target])
        export = folder / "converted.tar"
        ctr("images", "export", str(export), target)
        with tarfile.open(export) as tar:

            def read(member: str) -> dict[str, list[dict[str, object]]]:
                stream = tar.extractfile(member)
                assert stream
                document: dict[str, list[dict[str, object]]] = json.load(stream)
                return document

            digest = str(read("index.json")["manifests"][0]["digest"])
            (converted,) = read(f"blobs/{digest.replace(':', '/')}")["layers"]
        return sample, int(str(converted["size"]))


def push_layers(place: Place, layers: Sequence[Layer]) -> None:
    """An image of these layers, tagged v1."""
    found, diff_ids = [], []
    for layer in layers:
        digest, diff_id = layer.digests()
        found.append(Descriptor(media_type=OCI_LAYER_GZIP, digest=digest, size=layer.size))
        diff_ids.append(str(diff_id))
        with layer.path.open("rb", buffering=0) as stream:
            place.registry.upload_blob(place.repository, found[-1], stream)  # type: ignore[arg-type]
    document = {"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": diff_ids}}
    config = push_blob(place, msgspec.json.encode(document), media_type=OCI_CONFIG)
    manifest = Manifest(schema_version=2, media_type=OCI_MANIFEST, config=config, layers=tuple(found))
    place.registry.put_manifest(place.repository, manifest_bytes(manifest), tag="v1")


def anonymous_peak_mb(command: Sequence[str]) -> float:
    """Run it and watch its anonymous memory (RssAnon of /proc): what is mapped from files the kernel may drop."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    status, peak_kib = Path(f"/proc/{process.pid}/status"), 0
    while process.poll() is None:
        _, found, rest = status.read_text().partition("RssAnon:")
        peak_kib = max(peak_kib, int(rest.split()[0]) if found else 0)
        time.sleep(0.01)
    if process.returncode:
        raise RuntimeError(f"{command} exited {process.returncode}")
    return peak_kib / 1024
