"""SOCI's own programs (`.ci/build-go-peers`) and ours: the same index for the same layers, and a node that starts a
Python from ours."""

from __future__ import annotations

import gzip
import io
import json
import os
import random
import shutil
import signal
import subprocess
import tarfile
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import deflate
import pytest
from isal import igzip
from zlib_ng import gzip_ng

from registry_pipelines.oci import media_types
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.layer.store import LayerStore
from registry_pipelines.oci.manifests import Descriptor, Index, Manifest, ManifestBytes, manifest_bytes
from registry_pipelines.oci.platforms import Platform
from registry_pipelines.registry.blobs import BytesSource, push_blob
from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.embedded import EmbeddedServer
from registry_pipelines.registry.layout import LayoutRegistry
from registry_pipelines.registry.protocol import Place
from registry_pipelines.stream.documents import annotated_manifest
from registry_pipelines.stream.soci import SociIndex, index_layers
from registry_pipelines.stream.soci_index import index_line
from tests.doubles.containerd import containerd
from tests.needs import missing
from tests.patience import patient

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]
HERE = Platform(os="linux", architecture="amd64")
Peer = Callable[[str], str]


def tree(chance: random.Random) -> bytes:
    """A tar of some megabytes: text and noise, long and foreign names, links, devices, PAX or GNU."""
    out = io.BytesIO()
    form = chance.choice([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
    words = [chance.randbytes(chance.randrange(2, 9)).hex().encode() for _ in range(300)]
    with tarfile.open(fileobj=out, mode="w", format=form) as tar:
        for number in range(chance.randrange(20, 120)):
            long = (
                "d" * 90 + "/" if number % 9 == 0 else "é/" if form != tarfile.USTAR_FORMAT and number % 7 == 0 else ""
            )
            info = tarfile.TarInfo(f"usr/{long}f{number}")
            info.mode, info.uid, info.mtime = chance.choice([0o644, 0o4755]), number, chance.randrange(1 << 31)
            if form == tarfile.PAX_FORMAT and number % 5 == 0:
                info.mtime += 0.25
                info.pax_headers = {"SCHILY.xattr.user.note": "x" * number}
            count = chance.choice([0, 10, 5000, 200_000])
            content = b" ".join(chance.choices(words, k=count // 8)) if number % 3 else chance.randbytes(count)
            kind = number % 11
            if kind == 3:
                info.type, info.linkname, content = tarfile.SYMTYPE, "f0" * 40, b""
            elif kind == 6:
                info.type, info.devmajor, info.devminor, content = tarfile.CHRTYPE, 5, number, b""
            elif kind == 9:
                info.type, info.linkname, content = tarfile.LNKTYPE, "usr/f1", b""
            elif kind == 10:
                info.type, content = tarfile.DIRTYPE, b""
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


def piped(command: str) -> Callable[[bytes], bytes]:
    return lambda tar: subprocess.run(command.split(), input=tar, stdout=subprocess.PIPE, check=True).stdout


def flushed(tar: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    parts = [
        packer.compress(tar[at : at + 77_777]) + packer.flush(zlib.Z_SYNC_FLUSH) for at in range(0, len(tar), 77_777)
    ]
    return b"".join(parts) + packer.flush()


COMPRESSORS: list[Callable[[bytes], bytes]] = [
    lambda tar: gzip.compress(tar, 6),
    lambda tar: gzip_ng.compress(tar, 6),
    lambda tar: igzip.compress(tar, 3),
    lambda tar: bytes(deflate.gzip_compress(tar, 6)),
    lambda tar: gzip.compress(tar, 0),
    lambda tar: b"".join(gzip.compress(tar[at : at + 500_000], 1) for at in range(0, len(tar), 500_000)),
    flushed,
    piped("gzip -9"),
    piped("pigz -p 2 -b 128"),
    bytes,
]


def index(place: Place, manifest: Manifest, tars: list[bytes], folder: Path, **more: object) -> SociIndex:
    folder.mkdir()
    diff_ids = [Digest.of(tar) for tar in tars]
    return index_layers(place, manifest, diff_ids, store=LayerStore(folder / "store"), folder=folder, **more)  # type: ignore[arg-type]


def push(place: Place, layers: list[bytes], tars: list[bytes], tag: str) -> tuple[ManifestBytes, Manifest]:
    types = [media_types.OCI_LAYER_GZIP if raw[:2] == b"\x1f\x8b" else media_types.OCI_LAYER for raw in layers]
    config = {
        "architecture": HERE.architecture,
        "os": HERE.os,
        "config": {"Env": ["PATH=/usr/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [Digest.of(tar) for tar in tars]},
    }
    manifest = Manifest(
        schema_version=2,
        media_type=media_types.OCI_MANIFEST,
        config=push_blob(place, json.dumps(config).encode(), media_type=media_types.OCI_CONFIG),
        layers=tuple(push_blob(place, raw, media_type=kind) for raw, kind in zip(layers, types, strict=True)),
    )
    stored = manifest_bytes(manifest)
    place.registry.put_manifest(place.repository, stored, tag=tag)
    return stored, manifest


@pytest.mark.peer("soci")
def test_the_official_converter_makes_the_same_index(peer: Peer, tmp_path: Path) -> None:
    seed = int.from_bytes(os.urandom(4))
    print("seed", seed)
    chance = random.Random(seed)
    tars = [tree(chance) for _ in COMPRESSORS]
    layers = [compress(tar) for compress, tar in zip(COMPRESSORS, tars, strict=True)]
    place = Place(LayoutRegistry(tmp_path), "image")
    stored, manifest = push(place, layers, tars, "v1")
    paths = ("usr/f1", "usr/f2", "usr/f4", "no/such")
    ours = index(place, manifest, tars, tmp_path / "ours", span_bytes=200_000, min_layer_bytes=0, prefetch=paths)
    options = ["--format", "oci-dir", "--min-layer-size", "0", "--span-size", "200000"]
    for path in paths:
        options += ["--prefetch-file", path]
    command = [peer("soci"), "--root", str(tmp_path / "root"), "convert", "--standalone", *options]
    subprocess.run(
        [*command, str(tmp_path / "image"), str(tmp_path / "theirs")],
        check=True,
        env={**os.environ, "TZ": "UTC"},
        timeout=patient(300),
    )
    blobs = {path.name: path.read_bytes() for path in (tmp_path / "theirs" / "blobs" / "sha256").iterdir()}
    assert ours.document and not ours.skipped
    top = json.loads(blobs[json.loads((tmp_path / "theirs" / "index.json").read_bytes())["manifests"][0]["digest"][7:]])
    theirs = next(each for each in top["manifests"] if each.get("artifactType") == media_types.SOCI_V2)
    assert blobs[theirs["digest"][7:]] == ours.document.raw
    for piece in ours.pieces:
        content = piece.content if isinstance(piece.content, bytes) else piece.content.read_bytes()
        assert blobs[piece.descriptor.digest.hex] == content
    image = annotated_manifest(stored.raw, ours.document.digest)
    assert blobs[image.digest.hex] == image.raw
    assert json.loads(wrapped(image, ours.document).raw) == top


def wrapped(image: ManifestBytes, document: ManifestBytes) -> ManifestBytes:
    """The index of an image of one platform with its SOCI index."""
    line = Descriptor(
        media_type=image.media_type,
        digest=image.digest,
        size=len(image.raw),
        annotations=image.content().annotations,
        platform=HERE,
    )
    lines = (line, index_line(document, image.digest, HERE))
    return manifest_bytes(Index(schema_version=2, media_type=media_types.OCI_INDEX, manifests=lines))


def python_tree() -> bytes:
    """The system's Python with its library, as a root file system."""
    program = os.path.realpath("/usr/bin/python3")
    library = Path("/usr/lib") / Path(program).name
    linked = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout.split()
    out = io.BytesIO()

    def wanted(info: tarfile.TarInfo) -> tarfile.TarInfo | None:
        return None if "__pycache__" in info.name or "/test/" in info.name else info

    with tarfile.open(fileobj=out, mode="w", dereference=True) as tar:
        for name in ("lib", "lib64"):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, f"usr/{name}"
            tar.addfile(info)
        for path in filter(lambda word: word.startswith("/"), linked):
            tar.add(path, "usr" + path.removeprefix("/usr"))
        tar.add(program, "usr/bin/python3")
        tar.add(library, str(library)[1:], filter=wanted)
    return out.getvalue()


@contextmanager
def snapshotter(program: str, folder: Path) -> Iterator[Path]:
    """SOCI's snapshotter, which looks for both kinds of index; the file that it tells in what it does."""
    log = folder / "soci.log"
    (folder / "soci.toml").write_text("[background_fetch]\ndisable = true\n[pull_modes.soci_v1]\nenable = true\n")
    command = [program, "--address", str(folder / "soci.sock"), "--root", str(folder / "soci")]
    with log.open("wb") as out:
        process = subprocess.Popen(
            [*command, "--config", str(folder / "soci.toml"), "--log-level", "debug"], stdout=out, stderr=out
        )
    try:
        deadline = time.monotonic() + patient(60)
        while not (folder / "soci.sock").exists():
            assert process.poll() is None, log.read_text()[-2000:]
            assert time.monotonic() < deadline, "the snapshotter did not answer"
            time.sleep(0.1)
        yield log
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(patient(60))
        mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
        for mount in sorted((each for each in mounts if each.startswith(str(folder))), reverse=True):
            subprocess.run(["umount", "-l", mount], check=False)


@pytest.fixture
def short() -> Iterator[Path]:
    """A folder whose path leaves room for the names of sockets."""
    folder = Path(tempfile.mkdtemp(prefix="s", dir="/tmp"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.peer("soci-snapshotter-grpc", "soci-pull", "../containerd2/containerd")
@pytest.mark.parametrize("version", [1, 2])
def test_a_node_starts_a_python_from_our_index(version: int, peer: Peer, tmp_path: Path, short: Path) -> None:
    if os.geteuid() or not Path("/dev/fuse").exists():
        missing("FUSE mounts need root and /dev/fuse")
    tar = python_tree()
    with EmbeddedServer(tmp_path / "registry") as server:
        place = Place(DistributionRegistry(server.address, plain_http=True), "python")
        stored, manifest = push(place, [gzip.compress(tar, 6)], [tar], "v1")
        subject = stored.descriptor if version == 1 else None
        made = index(place, manifest, [tar], tmp_path / "ours", min_layer_bytes=0, subject=subject)
        assert made.document
        for piece in made.pieces:
            content = piece.content if isinstance(piece.content, bytes) else piece.content.read_bytes()
            place.registry.upload_blob("python", piece.descriptor, BytesSource(content))
        place.registry.put_manifest("python", made.document)
        if version == 2:
            image = annotated_manifest(stored.raw, made.document.digest)
            place.registry.put_manifest("python", image)
            place.registry.put_manifest("python", wrapped(image, made.document), tag="v1")
        plugin = f'[proxy_plugins.soci]\ntype = "snapshot"\naddress = "{short}/soci.sock"\n'
        programs = (peer("../containerd2/containerd"), peer("../containerd2/ctr"))
        with (
            snapshotter(peer("soci-snapshotter-grpc"), short) as log,
            containerd(*programs, short, plugins=plugin) as ctr,
        ):
            reference = f"{server.address}/python:v1"
            subprocess.run([peer("soci-pull"), str(short / "grpc.sock"), reference], check=True, timeout=patient(120))
            script = "import json, decimal; print(json.dumps({'sum': str(decimal.Decimal('0.1') * 3)}))"
            said = ctr("run", "--rm", "--snapshotter", "soci", reference, "one", "/usr/bin/python3", "-c", script)
            assert json.loads(said) == {"sum": "0.3"}
            # It unpacks whole layers without a word when it cannot read an index.
            assert '"remote-snapshot-prepared":"true"' in log.read_text()
            assert '"remote-snapshot-prepared":"false"' not in log.read_text()
