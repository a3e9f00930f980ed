"""Rechunked images: packages and their layers, compiled modules, what is kept of documents, what is refused."""

from __future__ import annotations

import importlib.util
import io
import json
import os
import subprocess
import sys
import tarfile
import zlib
from pathlib import Path

import msgspec
import pytest
import zstandard
from click.testing import CliRunner

from registry_pipelines.anatomy.rechunk.engine import read_layouts, rechunk
from registry_pipelines.anatomy.rechunk.layouts import package_of, plan_layout
from registry_pipelines.anatomy.rechunk.model import Layout, LayoutLayer, Rechunked, RechunkOptions
from registry_pipelines.cli import main
from registry_pipelines.errors import DigestMismatch, InputError, LayerInvalid
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor, Index, manifest_bytes
from registry_pipelines.oci.media_types import OCI_LAYER_ZSTD
from registry_pipelines.oci.platforms import Platform
from registry_pipelines.registry.blobs import push_blob, read_blob
from registry_pipelines.registry.layout import LayoutRegistry
from registry_pipelines.registry.protocol import Place
from registry_pipelines.stream.lazy.image import image_for
from registry_pipelines.transfer.closure.discovery import discover
from tests.anatomy.rechunk.images import image_layers, manifest_at, unpacked_by_tar
from tests.answers import answered
from tests.scan.images import (
    DEBIAN,
    Files,
    dist_info,
    keep_elsewhere,
    make_tar,
    push_image,
    push_platforms,
)
from tests.stream.layers import pack
from tests.stream.lazy.stacks import Entry, entry, need_root
from tests.stream.releases import push_index

SITE = "usr/lib/python3/site-packages"
LARGE = bytes(range(256)) * 4 * 1024 * 25


def wheel(name: str, version: str, **files: bytes) -> Files:
    """An installed package, as pip leaves it: its RECORD lists itself."""
    about = dist_info(name, version)
    record = f"{SITE}/{name}-{version}.dist-info/RECORD"
    about[record] = f"{about[record]}{name}-{version}.dist-info/RECORD,,\n"  # type: ignore[str-bytes-safe]
    return {**about, **{f"{SITE}/{name}/{each.replace('_so', '.so')}": content for each, content in files.items()}}


NUMPY, NEWER = (wheel("numpy", version, _native_so=LARGE) for version in ("1.0", "1.1"))
OTHER = wheel("flask", "3.0")
APPLICATION: Files = {"app/main.py": b"print(1)\n", "root/.cache/uv/wheel": b"w" * 8000}


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(LayoutRegistry(tmp_path / "registry"), "team/app")


def made_of(place: Place, image: Descriptor | str, tmp_path: Path, **more: object) -> Rechunked:
    selector = image if isinstance(image, str) else image.digest
    return rechunk(place, selector, place, state=tmp_path / "state", **more)  # type: ignore[arg-type]


def by_name(made: Rechunked) -> dict[str, str]:
    return {each.name: each.digest for each in made.images[0].layers}


def layer_of(made: Rechunked, package: str) -> str:
    return next(each.name for each in made.images[0].layout.layers if package in each.packages)


def test_a_package_stays_in_its_layer_and_only_what_changed_is_made(place: Place, tmp_path: Path) -> None:
    first = made_of(place, push_image(place, [DEBIAN, {**NUMPY, **OTHER}, APPLICATION]), tmp_path)
    layouts = read_layouts(place, first.derived)
    assert layouts == {"linux/amd64": first.images[0].layout}
    bumped = push_image(place, [DEBIAN, {**NEWER, **OTHER}, APPLICATION])
    second = made_of(place, bumped, tmp_path, previous=layouts)
    changed = {name for name, digest in by_name(second).items() if by_name(first).get(name) != digest}
    assert changed == {"python numpy"} and second.images[0].layout == first.images[0].layout
    assert {each.how for each in second.images[0].layers if each.name not in changed} == {"present"}
    # Little of an old layer is wanted: its files are read alone.
    third = made_of(place, push_image(place, [DEBIAN, {**NEWER, **wheel("flask", "3.1")}, APPLICATION]), tmp_path)
    assert {each.name for each in third.images[0].layers if each.how == "uploaded"} == {layer_of(third, "python flask")}
    # Without the last layout, too, by names alone; and where nothing is remembered, the bytes are the same.
    elsewhere = rechunk(place, bumped.digest, Place(place.registry, "other"), state=tmp_path / "other")
    assert by_name(elsewhere) == by_name(second)


def test_where_packages_go() -> None:
    assert package_of("python Jinja2 3.1", "", "") == package_of("python jinja2 3.2", "", "") == "python jinja2"
    assert (
        package_of("", "weights", "opt/a/m.bin") == "(weights) opt/a" and package_of("deb libc6", "", "") == "deb libc6"
    )
    large, small = 64 << 20, 1 << 20
    sizes = {"python torch": large, "python a": small, "deb libc6": small, "(application)": large, "(base OS)": small}
    layout = plan_layout(sizes)
    names = [each.name for each in layout.layers]
    assert names[0] == "(base OS)" and names[-1] == "(application)" and "python torch" in names
    assert [name for name in names if name.startswith("small")] and len(names) == len(sizes)
    grown = plan_layout({**sizes, "python torch": small, "python b": large, "python a": large}, layout)
    there = {package: each.name for each in grown.layers for package in each.packages}
    # It stays though it shrank; a new large one has a layer of its own; one that has outgrown a shared layer leaves it.
    assert there["python torch"] == "python torch" and there["python b"] == "python b"
    shared = Layout((LayoutLayer("small language packages 1", ("python a", "python c")),))
    assert plan_layout({"python a": large, "python c": small}, shared).layers[-1].packages == ("python a",)
    many = plan_layout({f"python p{number}": large for number in range(200)} | {"(application)": 1})
    assert len(many.layers) <= 64 and sum(len(each.packages) for each in many.layers) == 201
    # A manifest that somebody wrote as the last release's: what runtimes cannot mount does not come of it.
    packages = [f"deb p{number}" for number in range(300)]
    forged = Layout(tuple(LayoutLayer(each, (each,)) for each in packages))
    made = plan_layout(dict.fromkeys(packages, 1), forged)
    assert len(made.layers) < 100 and sum(len(each.packages) for each in made.layers) == 300


def compiled(tmp_path: Path, source: bytes, *, time: int, flags: int = 0) -> bytes:
    path = tmp_path / "m.py"
    path.write_bytes(source)
    os.utime(path, (time, time))
    code = f"import py_compile; py_compile.compile({str(path)!r}, {str(path) + 'c'!r}, doraise=True)"
    if flags:
        code = code.replace(
            "doraise=True", "doraise=True, invalidation_mode=py_compile.PycInvalidationMode.CHECKED_HASH"
        )
    subprocess.run([sys.executable, "-c", code], check=True)
    return Path(f"{path}c").read_bytes()


def modules(tmp_path: Path, time: int) -> list[Entry]:
    """Up to date, out of date, of an old Python, and one that names a hash already."""
    tag = sys.implementation.cache_tag
    fresh = compiled(tmp_path, b"one = 1\n", time=time)
    old = (3379).to_bytes(2, "little") + fresh[2:4] + time.to_bytes(4, "little") + b"\x08\0\0\0" + fresh[16:]
    return [
        entry("site/a.py", content=b"one = 1\n", mtime=time),
        entry(f"site/__pycache__/a.{tag}.pyc", content=fresh, mtime=time),
        entry("site/b.py", content=b"two = 2\n", mtime=time + 5),
        entry(f"site/__pycache__/b.{tag}.pyc", content=compiled(tmp_path, b"two = 2\n", time=315532800), mtime=time),
        entry("site/c.py", content=b"ccc = 3\n", mtime=time),
        entry("site/__pycache__/c.cpython-36.pyc", content=old, mtime=time),
        entry("site/e.py", content=b"", mtime=time),
        entry(f"site/__pycache__/e.{tag}.pyc", content=compiled(tmp_path, b"", time=time), mtime=time),
        entry("site/d.py", content=b"ddd = 4\n", mtime=time),
        entry(f"site/__pycache__/d.{tag}.pyc", content=compiled(tmp_path, b"ddd = 4\n", time=time, flags=3)),
    ]


def test_compiled_modules_name_no_time_and_python_takes_them(place: Place, tmp_path: Path) -> None:
    need_root()
    made = made_of(place, push_image(place, [pack(modules(tmp_path, 1_700_000_000))]), tmp_path)
    unpacked_by_tar(place, made.derived, tmp_path / "root")
    site, tag = tmp_path / "root" / "site", sys.implementation.cache_tag
    known = {name: (site / "__pycache__" / f"{name}.{tag}.pyc").read_bytes() for name in "abde"}
    assert known["e"][4:16] == b"\x01\0\0\0" + importlib.util.source_hash(b"")
    assert known["a"][4:16] == b"\x01\0\0\0" + importlib.util.source_hash(b"one = 1\n")
    assert known["b"][4:8] == b"\x03\0\0\0" and known["d"][4:8] == b"\x03\0\0\0"
    assert made.images[0].rewritten == 3 and "PEP 552" in " ".join(made.images[0].notes)
    assert int((site / "c.py").stat().st_mtime) == 1_700_000_000 and int((site / "a.py").stat().st_mtime) == 315532800
    script = "import a, b, d, e; print(a.one, b.two, d.ddd)"
    for check in ("default", "always"):
        told = [sys.executable, "-v", "-B", "--check-hash-based-pycs", check, "-c", script]
        ran = subprocess.run(told, cwd=site, capture_output=True, text=True, check=True, timeout=60)
        assert ran.stdout == "1 2 4\n"
        matches = {name for name in "abde" if f"__pycache__/{name}.{tag}.pyc matches" in ran.stderr}
        assert matches == {"a", "d", "e"}


def test_a_module_with_several_names_is_changed_only_where_all_agree(place: Place, tmp_path: Path) -> None:
    """Hard links have one head: of a module that is up to date under one name and out of date under another, and of one
    that is data under another name, not a byte changes, and each source keeps its time."""
    need_root()
    time, tag = 1_700_000_000, sys.implementation.cache_tag
    fresh = compiled(tmp_path, b"one = 1\n", time=time)
    link = {"kind": tarfile.LNKTYPE, "mtime": time}
    files = [
        entry("site/a.py", content=b"one = 1\n", mtime=time),
        entry(f"site/__pycache__/a.{tag}.pyc", content=fresh, mtime=time),
        entry(f"site/__pycache__/a.{tag}.opt-1.pyc", linkname=f"site/__pycache__/a.{tag}.pyc", **link),
        entry("both/b.py", content=b"one = 1\n", mtime=time),
        entry(f"both/__pycache__/b.{tag}.pyc", content=fresh + b"b", mtime=time),
        entry("both/c.py", content=b"one = 2\n", mtime=time + 5),
        entry(f"both/__pycache__/c.{tag}.pyc", linkname=f"both/__pycache__/b.{tag}.pyc", **link),
        entry("data/d.py", content=b"one = 1\n", mtime=time),
        entry("data/d.bin", content=fresh + b"d", mtime=time),
        entry(f"data/__pycache__/d.{tag}.pyc", linkname="data/d.bin", **link),
        entry("last/__pycache__/x.pyc", content=fresh + b"x", mtime=time),
        entry("last/x.bin", linkname="last/__pycache__/x.pyc", **link),
        entry("last/x.py", content=b"one = 1\n", mtime=time),
        entry("link/e.py", tarfile.SYMTYPE, linkname="../site/a.py"),
        entry(f"link/__pycache__/e.{tag}.pyc", content=fresh + b"e", mtime=time),
    ]
    made = made_of(place, push_image(place, [pack(files)]), tmp_path)
    unpacked_by_tar(place, made.derived, tmp_path / "root")
    root = tmp_path / "root"
    assert made.images[0].rewritten == 2
    for name in (f"site/__pycache__/a.{tag}.opt-1.pyc", f"link/__pycache__/e.{tag}.pyc"):
        assert (root / name).read_bytes()[4:16] == b"\x01\0\0\0" + importlib.util.source_hash(b"one = 1\n")
    assert (root / f"both/__pycache__/c.{tag}.pyc").read_bytes() == fresh + b"b"
    assert (root / "data/d.bin").read_bytes() == fresh + b"d" and (root / "last/x.bin").read_bytes() == fresh + b"x"
    sources = ("both/b.py", "both/c.py", "data/d.py", "last/x.py")
    assert [int((root / each).stat().st_mtime) - time for each in sources] == [0, 5, 0, 0]


def test_attributes_of_any_bytes_and_odd_names_stay(place: Place, tmp_path: Path) -> None:
    need_root()
    capability = bytes.fromhex("0100000200200000000000000000000000000000")  # cap_net_raw+ep
    files = [
        entry("usr/bin/ping", content=b"\x7fELF", mode=0o755),
        entry("opt/na\udcffme\nwith = signs%", content=b"1"),
        entry("opt/" + "d" * 200 + "/" + "f" * 120, content=b"2", uid=3_000_000),
    ]
    files[0][0].pax_headers["SCHILY.xattr.security.capability"] = capability.decode("utf-8", "surrogateescape")
    made = made_of(place, push_image(place, [pack(files)]), tmp_path)
    after = unpacked_by_tar(place, made.derived, tmp_path / "root")
    assert after["usr/bin/ping"][-1] == {b"security.capability": capability}
    assert {each[0].name for each in files} <= after.keys() and after[files[2][0].name][1] == 3_000_000


def test_installations_at_two_times_make_one_layer(place: Place, tmp_path: Path) -> None:
    made = [
        made_of(place, push_image(place, [pack(modules(tmp_path, time)[:2])]), tmp_path / str(time))
        for time in (1_700_000_000, 1_750_000_000)
    ]
    assert made[0].origin != made[1].origin and made[0].derived == made[1].derived
    kept = made_of(place, made[1].origin, tmp_path / "kept", options=RechunkOptions(times="keep"))
    assert kept.derived != made[1].derived and kept.images[0].tree == made[1].images[0].tree


def test_caches_go_on_request_and_the_digest_tells_both(place: Place, tmp_path: Path) -> None:
    image = push_image(place, [DEBIAN, APPLICATION])
    made = made_of(place, image, tmp_path, options=RechunkOptions(drop=("caches",)))
    [told] = made.images[0].dropped
    assert (told.kind, told.files, told.size, told.examples) == ("uv-cache", 1, 8000, ("root/.cache/uv/wheel",))
    linked: Files = {"root/.cache/uv/a": b"a" * 5000, "app/a": "=>root/.cache/uv/a", "root/.cache/uv/b": b"b" * 6000}
    [one] = made_of(
        place, push_image(place, [linked]), tmp_path / "linked", options=RechunkOptions(drop=("caches",))
    ).images
    assert [(each.files, each.size) for each in one.dropped] == [(2, 6000)], "what is used by another name stays"
    assert made.images[0].origin_tree == made_of(place, image, tmp_path).images[0].tree != made.images[0].tree


def test_the_config_keeps_all_but_its_layers_and_every_platform_is_made(place: Place, tmp_path: Path) -> None:
    top, images = push_platforms(place, "amd64", "arm64", tag="v1")
    made = made_of(place, top, tmp_path)
    content = place.registry.get_manifest(place.repository, made.derived).content()
    assert isinstance(content, Index) and [each.platform for each in made.images] == ["linux/amd64", "linux/arm64"]
    assert [line.digest for line in content.manifests] == [each.derived for each in made.images]
    before = read_blob(place, manifest_at(place, images[0].digest).config, limit=1 << 20)
    after = json.loads(read_blob(place, manifest_at(place, made.images[0].derived).config, limit=1 << 20))
    old = json.loads(before)
    assert {**after, "rootfs": 0, "history": 0} == {**old, "rootfs": 0, "history": 0}
    shown = [each for each in after["history"] if not each.get("empty_layer")]
    assert len(shown) == len(after["rootfs"]["diff_ids"]) == len(image_layers(place, made.images[0].derived))
    assert image_for(place, made.derived).config.diff_ids


def test_zstd_layers_are_read_and_damaged_ones_end_it(place: Place, tmp_path: Path) -> None:
    image = push_image(place, [NUMPY])
    manifest = manifest_at(place, image.digest)

    def with_layer(raw: bytes) -> Descriptor:
        layer = push_blob(place, raw, media_type=OCI_LAYER_ZSTD)
        document = manifest_bytes(msgspec.structs.replace(manifest, layers=(layer,)))
        place.registry.put_manifest(place.repository, document)
        return document.descriptor

    good = zstandard.compress(make_tar(NUMPY))
    assert by_name(made_of(place, with_layer(good), tmp_path)) == by_name(made_of(place, image, tmp_path))
    for bad, error in ((good[:-9], LayerInvalid), (zstandard.compress(make_tar(OTHER)), DigestMismatch)):
        with pytest.raises(error):
            made_of(place, with_layer(bad), tmp_path)
    with pytest.raises(LayerInvalid):
        made_of(place, push_image(place, [make_tar(NUMPY)[:700]]), tmp_path)


def test_an_image_whose_config_names_no_platform_is_rechunked_too(place: Place, tmp_path: Path) -> None:
    image = push_image(place, [{"app/main.py": b"x = 1\n", **NUMPY}], architecture="")
    made = made_of(place, image, tmp_path)
    assert [each.platform for each in made.images] == ["unnamed"]
    assert made_of(place, image, tmp_path, previous=read_layouts(place, made.derived)).derived == made.derived
    with pytest.raises(InputError, match="no image for linux/amd64") as refused:
        made_of(place, image, tmp_path, options=RechunkOptions(platforms=(Platform.parse("linux/amd64"),)))
    assert refused.value.do == "It has unnamed"


def test_what_nobody_here_can_read_is_refused_by_name(place: Place, tmp_path: Path) -> None:
    push_image(place, [NUMPY], tag="v1")
    with pytest.raises(InputError, match="its publisher keeps it"):
        made_of(place, keep_elsewhere(place, "v1"), tmp_path)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as tar:
        info = tarfile.TarInfo("odd")
        info.type = b"S"
        tar.addfile(info)
    with pytest.raises(LayerInvalid, match="cannot be rechunked because of 'odd'"):
        made_of(place, push_image(place, [buffer.getvalue()]), tmp_path)


def test_the_command_makes_it_and_says_what(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "home"))
    from registry_pipelines.registry.client import DistributionRegistry
    from registry_pipelines.registry.embedded import EmbeddedServer

    with EmbeddedServer(tmp_path / "served") as server:
        host = server.address.removeprefix("http://")
        place = Place(DistributionRegistry(server.address), "team/app")
        push_image(place, [DEBIAN, {**NUMPY, **OTHER}, APPLICATION], tag="v1")
        push_image(place, [DEBIAN, {**NEWER, **OTHER}, APPLICATION], tag="v2")
        first = answered(CliRunner().invoke(main, ["rechunk", f"{host}/team/app:v1", "--json"]).stdout)
        assert first["changed"] and first["tag"].endswith("/team/app:v1-rechunked")
        again = answered(CliRunner().invoke(main, ["rechunk", f"{host}/team/app:v1", "--json"]).stdout)
        assert not again["changed"] and again["derived"] == first["derived"]
        told = ["--to", f"{host}/team/slim:v2", "--previous", f"{host}/team/app:v1-rechunked", "--drop", "caches"]
        shown = CliRunner().invoke(main, ["rechunk", f"{host}/team/app:v2", *told])
        assert shown.exit_code == 0 and "uv-cache: 1 file" in shown.output and "python numpy" in shown.output
        assert place.registry.resolve("team/slim", "v2")
        refused = CliRunner().invoke(main, ["rechunk", f"{host}/team/app:v2", "--to", f"{host}/team/slim:v2"])
        assert refused.exit_code != 0 and "names" in refused.output


def test_a_tree_digest_is_what_the_page_says(place: Place, tmp_path: Path) -> None:
    """A golden value, and the same by a program that knows ``find`` and ``sha256sum`` alone."""
    files: list[Entry] = [
        entry("a", tarfile.DIRTYPE, mode=0o755),
        entry("a/b", content=b"hello\n", mode=0o644, uid=7),
        entry("a/c", tarfile.LNKTYPE, linkname="a/b", mode=0o644, uid=7),
        entry("l", tarfile.SYMTYPE, linkname="a b"),
    ]
    made = made_of(place, push_image(place, [pack(files)]), tmp_path)
    hashed = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03"
    lines = ["/ d 0755 0 0", "/a d 0755 0 0", f"/a/b f 0644 7 0 6 {hashed}"]
    lines += [f"/a/c f 0644 7 0 6 {hashed} =/a/b", "/l l 0777 0 0 a%20b", ""]
    assert made.images[0].tree == Digest.of("\n".join(lines).encode())
    assert made.images[0].tree == "sha256:055143afae267631ac5c2aa78aaab31e1f01c77e83b13d365657df928544a250"


def test_a_layer_is_one_gzip_member_of_runs_and_small_files(place: Place, tmp_path: Path) -> None:
    large = LARGE[: 9 << 20]
    made = made_of(place, push_image(place, [{"app/large": large, "app/small": b"x" * 70_000}]), tmp_path)
    [layer] = manifest_at(place, made.derived).layers
    raw = read_blob(place, layer, limit=1 << 30)
    ran = subprocess.run(["gzip", "-t"], input=raw, capture_output=True, check=False, timeout=60)
    inflater = zlib.decompressobj(31)
    tar = inflater.decompress(raw)
    assert (ran.returncode, ran.stderr) == (0, b"") and inflater.eof and not inflater.unused_data
    with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
        content = archive.extractfile("app/large")
        assert content is not None and content.read() == large


def test_another_repository_gets_all_that_the_index_names(place: Place, tmp_path: Path) -> None:
    images = {arch: push_image(place, [{"etc/arch": arch}], architecture=arch) for arch in ("amd64", "arm64")}
    top = push_index(place, images, tag="v1", attested=True)
    target = Place(LayoutRegistry(tmp_path / "far"), "team/far")
    made = rechunk(place, top.digest, target, state=tmp_path / "state")
    closure = discover(target, made.derived)
    assert len(made.images) == 2 and closure.absent == ()
    content = target.registry.get_manifest(target.repository, made.derived).content()
    assert isinstance(content, Index)
    about = [(line.annotations or {}).get("vnd.docker.reference.digest") for line in content.manifests]
    assert {each for each in about if each} == {each.derived for each in made.images}
