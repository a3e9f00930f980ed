"""The anatomy of images: classes, owners as dpkg and pip tell them, hidden bytes, advice; nothing is read twice."""

from __future__ import annotations

import gzip
import io
import random
import subprocess
import sys
import sysconfig
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import zstandard
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from isal import igzip

from registry_pipelines.anatomy.advice import FILE_KINDS, layer_advice
from registry_pipelines.anatomy.anatomy import image_anatomy
from registry_pipelines.anatomy.report import Anatomy
from registry_pipelines.cli import main
from registry_pipelines.errors import DigestMismatch, InputError, LayerInvalid
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor, Manifest, manifest_bytes
from registry_pipelines.oci.media_types import OCI_CONFIG, OCI_LAYER, OCI_LAYER_GZIP, OCI_LAYER_ZSTD, OCI_MANIFEST
from registry_pipelines.oci.platforms import Platform
from registry_pipelines.registry.blobs import push_blob
from registry_pipelines.registry.layout import LayoutRegistry
from registry_pipelines.registry.protocol import Place
from registry_pipelines.scan.sbom import scan_image
from tests.answers import answered
from tests.build.roots import debian_root
from tests.chain.conftest import fleet
from tests.chain.fleet import Fleet
from tests.scan.images import DEBIAN, Files, dist_info, make_tar, push_image, push_index
from tests.scan.test_real_images import tar_of

__all__ = ["fleet"]
Peer = Callable[[str], str]
SITE = "usr/lib/python3/site-packages"
WEIGHTS = bytes(range(256)) * 5000
LAYERS: list[Files | bytes] = [
    {**DEBIAN, "usr/lib/x86_64-linux-gnu/libcudart.so.12": b"c" * 9000, "var/lib/apt/lists/x": b"p" * 6000},
    {**dist_info("numpy", "1.0"), f"{SITE}/numpy/__init__.py": "x", f"{SITE}/numpy/tests/test_a.py": b"t" * 7000},
    {"app/main.py": b"m" * 5000, "app/model.safetensors": WEIGHTS, "root/.cache/uv/wheel": b"w" * 8000},
    {"app/.wh.main.py": "", "app/copy.safetensors": WEIGHTS, "root/.cache/uv/wheel": b"w" * 8000},
]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(LayoutRegistry(tmp_path / "registry"), "team/app")


def anatomy(place: Place, image: Descriptor, state: Path) -> Anatomy:
    return image_anatomy(place, image.digest, state=state, all_files=True, platform=Platform.parse("linux/amd64"))


def test_every_file_has_its_class_owner_and_fate(place: Place, tmp_path: Path) -> None:
    found = anatomy(place, push_image(place, LAYERS), tmp_path / "state")
    files = {(each.path, each.layer): each for each in found.files}
    told = {path: (each.class_, each.owner) for (path, _), each in files.items()}
    assert told["usr/lib/x86_64-linux-gnu/libc.so.6"] == ("base OS", "deb libc6")
    assert told["usr/lib/x86_64-linux-gnu/libcudart.so.12"] == ("system libraries", "")
    assert told[f"{SITE}/numpy/__init__.py"] == ("dependencies", "python numpy 1.0")
    assert told["app/model.safetensors"] == ("weights", "")
    assert told["app/main.py"] == ("application", "")
    assert (files["app/main.py", 3].gone, files["app/main.py", 3].gone_by) == ("deleted", 4)
    assert (files["root/.cache/uv/wheel", 3].gone, files["root/.cache/uv/wheel", 4].gone) == ("overwritten", "")
    assert found.gone == 5000 + 8000 and found.seen + found.gone == found.unpacked == sum(x.size for x in found.files)
    [equal] = found.equal
    assert (equal.copies, equal.wasted, equal.layers) == (2, len(WEIGHTS), (3, 4))
    advice = {each.kind: each for each in found.advice}
    assert {"hidden", "baked-weights", "apt-cache", "uv-cache", "test-suites", "equal-files"} <= set(advice)
    assert (advice["hidden"].size, advice["apt-cache"].size, advice["uv-cache"].size) == (13000, 6000, 8000)
    assert (advice["copied-for-metadata"].size, advice["copied-for-metadata"].layers) == (8000, (4,))
    for layer in found.layers:
        inside = sum(each.compressed for each in found.files if each.layer == layer.number)
        assert 0 < inside <= layer.compressed
        assert sum(layer.classes.values()) == sum(each.size for each in found.files if each.layer == layer.number)


def test_what_is_known_of_layers_is_not_read_again(place: Place, tmp_path: Path) -> None:
    image = push_image(place, LAYERS)
    scan_image(place, image, state=tmp_path / "recorded", records=True)
    scan_image(place, image, state=tmp_path / "scanned")
    first = anatomy(place, image, tmp_path / "state")
    assert first.read_layers == len(LAYERS)
    manifest = place.registry.get_manifest(place.repository, image.digest).content()
    assert isinstance(manifest, Manifest)
    for layer in manifest.layers:
        place.registry.delete_blob(place.repository, layer.digest)
    for state in ("state", "scanned", "recorded"):
        again = anatomy(place, image, tmp_path / state)
        assert again.read_layers == 0 and again.files == first.files and again.advice == first.advice


def test_a_fresh_anatomy_serves_the_scan(place: Place, tmp_path: Path) -> None:
    image = push_image(place, LAYERS)
    expected = scan_image(place, image, state=tmp_path / "other")
    anatomy(place, image, tmp_path / "state")
    manifest = place.registry.get_manifest(place.repository, image.digest).content()
    assert isinstance(manifest, Manifest)
    for layer in manifest.layers:
        place.registry.delete_blob(place.repository, layer.digest)
    assert scan_image(place, image, state=tmp_path / "state") == expected


@pytest.mark.peer("dpkg-query")
def test_owners_are_those_that_dpkg_tells(peer: Peer, place: Place, tmp_path: Path) -> None:
    """Three packages of this machine, with dpkg's own lists."""
    packages = ("coreutils", "bash", "gzip")
    listed = subprocess.run([peer("dpkg-query"), "-L", *packages], check=True, capture_output=True, text=True)
    paths = {line for line in listed.stdout.splitlines() if Path(line).is_file() and not Path(line).is_symlink()}
    database = ["/var/lib/dpkg/status", *(f"/var/lib/dpkg/info/{name}.list" for name in packages)]
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for folder in ("bin", "lib", "sbin"):
            if Path("/", folder).is_symlink():
                tar.add(f"/{folder}", folder)
        for path in sorted({str(Path(path).resolve()) for path in (*paths, *database)}):
            tar.add(path, path.lstrip("/"))
    found = anatomy(place, push_image(place, [buffer.getvalue()]), tmp_path / "state")
    ours: dict[str, set[str]] = {}
    for each in found.files:
        told = {owner.partition(" ")[2] for owner in (each.owner, *each.more_owners) if owner}
        ours |= dict.fromkeys((each.path, *each.also), told)
    asked = subprocess.run([peer("dpkg-query"), "-S", *sorted(paths)], check=True, capture_output=True, text=True)
    compared = 0
    for line in asked.stdout.splitlines():
        owners, _, path = line.partition(": ")
        if line.startswith("diversion"):
            continue
        name = str(Path(path).resolve()).lstrip("/")
        wanted = {each.partition(":")[0] for each in owners.split(", ")} & set(packages)
        assert ours[name] >= wanted, (name, ours[name], wanted)
        compared += 1
    assert compared > 100
    assert {each.class_ for each in found.files if each.owner} == {"base OS"}


@pytest.mark.long
@pytest.mark.peer("debootstrap", "dpkg-query")
def test_a_whole_debian_system_is_what_dpkg_and_du_tell(peer: Peer, place: Place, tmp_path: Path) -> None:
    """Every file: the same owners as dpkg has, and the same bytes as the file system."""
    root = debian_root(tmp_path / "root", "bookworm", peer("debootstrap"))
    found = anatomy(place, push_image(place, [tar_of(root)]), tmp_path / "state")
    there = {
        path.stat().st_ino: path.stat().st_size
        for path in root.rglob("*")
        if path.is_file() and not path.is_symlink() and path.relative_to(root).parts[0] not in ("dev", "proc", "sys")
    }
    assert (len(found.files), found.seen) == (len(there), sum(there.values()))
    listed: dict[str, set[str]] = {}
    for path in (root / "var/lib/dpkg/info").glob("*.list"):
        for line in path.read_text().removeprefix("/.\n").splitlines():
            real = (root / line.lstrip("/")).parent.resolve() / Path(line).name
            listed.setdefault(str(real.relative_to(root)), set()).add(path.name.removesuffix(".list").partition(":")[0])
    wrong = {
        each.path: (each.owner, each.more_owners)
        for each in found.files
        # Bytecode that a package's script made is of the package here, and of nobody to dpkg.
        if "/__pycache__/" not in each.path
        and {owner.removeprefix("deb ") for owner in (each.owner, *each.more_owners) if owner}
        != listed.get(each.path, set())
    }
    assert not wrong and sum(bool(each.owner) for each in found.files) > 3000


def test_owners_are_those_that_pip_tells(place: Place, tmp_path: Path) -> None:
    """Packages of this environment in a layer: each of their files is theirs, and no other file is."""
    library = Path(sysconfig.get_path("purelib"))
    shown = subprocess.run(
        [sys.executable, "-m", "pip", "show", "-f", "click", "packaging", "--disable-pip-version-check"],
        check=True,
        capture_output=True,
        text=True,
    )
    expected: dict[str, str] = {}
    owner, listing = "", False
    for line in shown.stdout.splitlines():
        if line.startswith("Name: "):
            owner, listing = line[6:], False
        elif line.startswith("Version: "):
            owner += line[8:]
        elif line == "Files:":
            listing = True
        elif listing and line.startswith("  ") and not line.strip().startswith(".."):
            expected[f"opt/site-packages/{line.strip()}"] = f"python {owner}"
    folders = sorted({path.split("/")[2] for path in expected})
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for folder in (*folders, "pluggy"):
            tar.add(library / folder, f"opt/site-packages/{folder}")
    found = anatomy(place, push_image(place, [buffer.getvalue()]), tmp_path / "state")
    owned = {each.path: each.owner for each in found.files if each.owner}
    there = {
        path: owner for path, owner in expected.items() if (library / path.removeprefix("opt/site-packages/")).exists()
    }
    assert {path: owned.get(path) for path in there} == there and len(there) > 40
    assert all(path in expected or "/__pycache__/" in path for path in owned)
    assert any("pluggy" in each.path and not each.owner for each in found.files)


def push_layers(place: Place, layers: list[tuple[str, bytes, bytes]], urls: str = "") -> Descriptor:
    """Layers as media type, bytes as stored, tar."""
    pushed = [push_blob(place, stored, media_type=kind) for kind, stored, _ in layers]
    if urls:
        pushed[-1] = msgspec.structs.replace(pushed[-1], urls=(urls,))
    rootfs = {"type": "layers", "diff_ids": [Digest.of(tar) for _, _, tar in layers]}
    config = msgspec.json.encode({"architecture": "amd64", "os": "linux", "rootfs": rootfs}, enc_hook=str)
    manifest = manifest_bytes(
        Manifest(
            schema_version=2,
            media_type=OCI_MANIFEST,
            config=push_blob(place, config, media_type=OCI_CONFIG),
            layers=tuple(pushed),
        )
    )
    place.registry.put_manifest(place.repository, manifest)
    return manifest.descriptor


def test_zstd_repeated_and_empty_layers(place: Place, tmp_path: Path) -> None:
    tar, nothing = make_tar({"a": b"a" * 9000}), bytes(1024)
    zstd = (OCI_LAYER_ZSTD, zstandard.ZstdCompressor().compress(tar), tar)
    empty = (OCI_LAYER_GZIP, gzip.compress(nothing, mtime=0), nothing)
    found = anatomy(place, push_layers(place, [zstd, empty, zstd]), tmp_path / "state")
    assert [(each.compression, each.inflate_s) for each in found.layers] == [
        ("zstd", None),
        ("gzip", 0.0),
        ("zstd", None),
    ]
    advice = {each.kind: each.layers for each in found.advice}
    assert advice["repeated-layer"] == (1, 3) and advice["empty-layer"] == (2,)
    assert found.gone == 9000


def test_a_layer_that_no_registry_takes() -> None:
    layer = Descriptor(media_type=OCI_LAYER_GZIP, digest=Digest.of(b"large"), size=9_950_000_000)
    [found] = layer_advice([layer], [Digest.of(b"tar")], [])
    assert (found.kind, found.layers, found.compressed) == ("too-large-layer", (1,), layer.size)
    assert "Azure (users' reports) 8GB, Artifact Registry 9900MB" in found.why and "GitHub" not in found.why
    assert not layer_advice([msgspec.structs.replace(layer, size=8_000_000_000)], [Digest.of(b"tar")], [])


@pytest.mark.parametrize("how", ["cut", "tar", "swapped"])
def test_a_broken_layer_is_an_error_that_names_it(place: Place, tmp_path: Path, how: str) -> None:
    tar = make_tar({"a": b"a" * 9000})
    stored = gzip.compress(tar, mtime=0)
    if how == "cut":
        stored = stored[:-20]
    elif how == "tar":
        tar = b"no tar" * 200
        stored = gzip.compress(tar, mtime=0)
    image = push_layers(place, [(OCI_LAYER_GZIP, stored, tar if how != "swapped" else b"other")])
    with pytest.raises((LayerInvalid, DigestMismatch), match=str(Digest.of(stored).hex[:12])):
        anatomy(place, image, tmp_path / "state")


def test_a_platform_that_is_not_there_is_an_error(place: Place, tmp_path: Path) -> None:
    index = push_index(place, [push_image(place, [{"a": "b"}])])
    with pytest.raises(InputError):
        image_anatomy(place, index.digest, state=tmp_path / "state", platform=Platform.parse("linux/s390x"))


def test_inflating_costs_where_deflate_did_more_than_store(place: Place, tmp_path: Path) -> None:
    noise = random.Random(1).randbytes(6_000_000)
    tars = [make_tar({"noise": noise}), make_tar({"hexadecimal": noise.hex().encode()})]
    layers = [(OCI_LAYER_GZIP, igzip.compress(tar, 1, mtime=0), tar) for tar in tars]
    found = anatomy(place, push_layers(place, [*layers, (OCI_LAYER, tars[0], tars[0])]), tmp_path / "state")
    stored, deflated, plain = (each.inflate_s for each in found.layers)
    assert stored is not None and deflated is not None
    # Both have about as many bytes as stored; the rates are 0.3 and 20 ns for each.
    assert 0 < stored < 0.01 and 0.1 < deflated < 0.25 and plain == 0.0
    assert [each.compressed for each in found.files if each.layer == 3] == [512 + 6_000_000 + -6_000_000 % 512]


def test_a_layer_kept_elsewhere_is_named_and_not_read(place: Place, tmp_path: Path) -> None:
    tar = make_tar({"a": b"a" * 9000})
    foreign = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
    layers = [(OCI_LAYER_GZIP, gzip.compress(tar, mtime=0), tar), (foreign, gzip.compress(tar, 1, mtime=0), tar)]
    found = anatomy(place, push_layers(place, layers, "https://example.com/layer"), tmp_path / "state")
    assert [bool(each.problem) for each in found.layers] == [False, True]
    assert [each.layer for each in found.files] == [1]


def test_the_command_prints_tables_and_a_document(fleet: Fleet) -> None:
    place = fleet.chain.place("app")
    push_image(place, LAYERS, tag="v1")
    run = [*("inspect", "us/team/app:v1", "--anatomy", "--platform", "linux/amd64"), "--config", str(fleet.path)]
    shown = CliRunner().invoke(main, run, env={"COLUMNS": "300"})
    assert shown.exit_code == 0, shown.output
    for text in ("python numpy 1.0", "overwritten", "uv-cache", "4 layers had to be read", "system libraries"):
        assert text in shown.stdout
    found = answered(CliRunner().invoke(main, [*run, "--files", "--json"]).stdout)["anatomy"]
    assert found["read_layers"] == 0 and len(found["files"]) == sum(each["files"] for each in found["layers"])
    assert not answered(CliRunner().invoke(main, [*run, "--json"]).stdout)["anatomy"]["files"]
    picture = Path(fleet.path).parent / "anatomy.png"
    assert CliRunner().invoke(main, [*run, "--picture", str(picture)]).exit_code == 0
    assert picture.read_bytes().startswith(b"\x89PNG")
    wrong = CliRunner().invoke(main, ["inspect", "us/team/app:v1", "--files", "--config", str(fleet.path)])
    assert wrong.exit_code == 2 and "--anatomy" in wrong.output


CONDA_META = msgspec.json.encode(
    {"name": "scipy", "version": "1.17.1", "build": "0", "build_number": 0, "files": ["lib/s/a.py", "lib/s/b.py"]}
)


LINKED_FROM_A_CACHE: Files = {
    "opt/conda/conda-meta/scipy-1.17.1-0.json": CONDA_META,
    "opt/conda/pkgs/scipy/lib/s/a.py": b"a" * 5000,
    "opt/conda/lib/s/a.py": "=>opt/conda/pkgs/scipy/lib/s/a.py",
    "opt/conda/pkgs/scipy/lib/s/b.py": b"b" * 5000,
    "opt/conda/lib/s/b.py": "=>opt/conda/pkgs/scipy/lib/s/b.py",
    "opt/conda/pkgs/scipy/info/c": b"c" * 5000,
    "root/.cache/uv/d": b"d" * 5000,
    "opt/tool/d": "=>root/.cache/uv/d",
}
"""As conda and uv leave it: the content stands in the cache first, and the environment's file is a link to it."""


def test_a_cached_file_that_is_used_by_another_name_is_no_cache(place: Place, tmp_path: Path) -> None:
    gone: Files = {"opt/conda/pkgs/scipy/lib/s/.wh.b.py": "", "opt/tool/.wh.d": ""}
    kept = anatomy(place, push_image(place, [LINKED_FROM_A_CACHE]), tmp_path / "state")
    late = anatomy(place, push_image(place, [LINKED_FROM_A_CACHE, gone]), tmp_path / "state")
    caches = [{each.kind: each.examples for each in found.advice if "cache" in each.kind} for found in (kept, late)]
    only = ("opt/conda/pkgs/scipy/info/c",)
    assert caches == [{"conda-cache": only}, {"conda-cache": only, "uv-cache": ("root/.cache/uv/d",)}]
    files = {each.path: each for each in late.files}
    for name, removed in (("a", ()), ("b", ("opt/conda/pkgs/scipy/lib/s/b.py",))):
        part = files[f"opt/conda/lib/s/{name}.py"]
        assert (part.owner, part.class_, part.removed) == ("conda scipy 1.17.1", "dependencies", removed)
        assert part.also == (f"opt/conda/pkgs/scipy/lib/s/{name}.py",) and not part.gone


@pytest.mark.parametrize(
    "kind", [each for each in FILE_KINDS if each.folders or each.endings], ids=lambda kind: str(kind.name)
)
@settings(deadline=None, max_examples=40)
@given(st.data())
def test_whatever_is_of_a_kind_has_one_of_its_marks(kind: Any, data: st.DataObject) -> None:
    path = data.draw(st.from_regex(kind.path))
    folder = path[: path.rfind("/") + 1]
    assert any(mark in folder for mark in kind.folders) or path.endswith(kind.endings)
