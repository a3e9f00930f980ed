"""No image of ours has a layer twice, nor an empty one: GKE would fetch it whole and say nothing."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest
from msgspec import structs

from registry_pipelines.build.bases import open_base
from registry_pipelines.build.builder import BuildResult, BuildSpec, LayerRow
from registry_pipelines.build.cache import BuildCache
from registry_pipelines.build.layers import LayersBuilder
from registry_pipelines.build.repeats import stands_in
from registry_pipelines.oci import media_types
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.layer.repeats import EMPTY_DIFF_IDS
from registry_pipelines.oci.manifests import Manifest, manifest_bytes, read_image_config
from registry_pipelines.oci.platforms import Platform
from registry_pipelines.registry.blobs import push_blob, read_blob
from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.embedded import EmbeddedServer
from registry_pipelines.registry.layout import LayoutRegistry
from registry_pipelines.registry.protocol import Place
from tests.doubles.fault_registry import FaultRegistry
from tests.doubles.faults import CutAnswer

EMPTY = bytes(1024)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(LayoutRegistry(tmp_path / "registry"), "team/app")


def packed(*entries: tuple[str, bytes | None], kind: bytes = tarfile.REGTYPE, mode: int = 0o644) -> bytes:
    """A tar; content None is a folder."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in entries:
            info = tarfile.TarInfo(name)
            info.type, info.mode, info.linkname = (kind if content is not None else tarfile.DIRTYPE), mode, "elsewhere"
            info.size = len(content or b"") if info.isreg() else 0
            tar.addfile(info, io.BytesIO(content or b""))
    return buffer.getvalue()


def push(place: Place, tag: str, tars: Sequence[bytes], *, on: Manifest | None = None) -> str:
    """A base image of these layers, above those of another; how it is named."""
    here = Platform.here()
    below = read_image_config(read_blob(place, on.config, limit=1 << 20)).diff_ids if on else ()
    layers = [push_blob(place, gzip.compress(tar, 1, mtime=0), media_type=media_types.OCI_LAYER_GZIP) for tar in tars]
    diff_ids = [*below, *(Digest.of(tar) for tar in tars)]
    shape = {
        "architecture": here.architecture,
        "os": here.os,
        "config": {"Env": ["PYTHON_VERSION=3.11.9"]},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    }
    manifest = Manifest(
        schema_version=2,
        media_type=media_types.OCI_MANIFEST,
        config=push_blob(place, json.dumps(shape).encode(), media_type=media_types.OCI_CONFIG),
        layers=(*(on.layers if on else ()), *layers),
    )
    place.registry.put_manifest(place.repository, manifest_bytes(manifest), tag=tag)
    return f"registry.example/team/app:{tag}"


class Team:
    """Builds images of one application folder on bases of one repository."""

    def __init__(self, folder: Path, place: Place) -> None:
        self.place = place
        self.application = folder / "application"
        self.application.mkdir()
        (self.application / "app.py").write_text("print('hello')\n")
        (self.application / "data").mkdir()
        (self.application / "data" / "words").write_text("a b c\n")
        self._builder = LayersBuilder(folder / "state", open_place=lambda text: (place, text.rpartition(":")[2]))
        self.system = push(place, "system", [packed(("etc/os-release", b"ID=debian\n"))])

    def build(self, base: str, version: str, **more: object) -> BuildResult:
        spec = BuildSpec(name="app", base=base, application=self.application, version=version, python="3.11")
        return self._builder.build(structs.replace(spec, **more), self.place)

    def manifest(self, result: BuildResult) -> Manifest:
        content = self.place.registry.get_manifest(self.place.repository, result.descriptor.digest).content()
        assert isinstance(content, Manifest)
        return content

    def diff_ids(self, result: BuildResult) -> list[Digest]:
        config = read_image_config(read_blob(self.place, self.manifest(result).config, limit=1 << 20))
        return list(config.diff_ids)

    def files(self, result: BuildResult) -> dict[str, bytes]:
        """What a container sees, by the plain rules of image-spec's layer.md."""
        files: dict[str, bytes] = {}
        for layer in self.manifest(result).layers:
            with tarfile.open(fileobj=io.BytesIO(gzip.decompress(read_blob(self.place, layer, limit=1 << 24)))) as tar:
                for entry in tar:
                    folder, _, base = entry.name.rpartition("/")
                    if base == ".wh..wh..opq":
                        files = {name: files[name] for name in files if not name.startswith(f"{folder}/")}
                    elif base.startswith(".wh."):
                        gone = f"{folder}/{base.removeprefix('.wh.')}".lstrip("/")
                        files = {n: files[n] for n in files if n != gone and not n.startswith(f"{gone}/")}
                    elif not entry.isdir():
                        files = {n: files[n] for n in files if not n.startswith(f"{entry.name}/")}
                        content = tar.extractfile(entry) if entry.isreg() else None
                        files[entry.name] = content.read() if content else entry.linkname.encode()
        return files


@pytest.fixture
def team(tmp_path: Path, place: Place) -> Team:
    return Team(tmp_path, place)


SAID = f"layer application is in the base for {Platform.here()} already and not put on top again"


def test_a_layer_that_the_base_ends_with_is_not_put_on_top_again(team: Team) -> None:
    first = team.build(team.system, "v1")
    second = team.build("registry.example/team/app:v1", "v2")
    assert team.diff_ids(second) == team.diff_ids(first)
    assert SAID in second.warnings
    assert team.build("registry.example/team/app:v1", "v2").descriptor == second.descriptor


def test_a_layer_deeper_in_the_base_is_left_out_where_nothing_above_touches_it(team: Team) -> None:
    first = team.build(team.system, "v1")
    base = push(
        team.place,
        "more",
        [packed(("opt/tool", b"x"), ("app/data", None), ("app/other", b"y"), mode=0o755)],
        on=team.manifest(first),
    )
    second = team.build(base, "v2")
    assert len(set(team.diff_ids(second))) == len(team.diff_ids(second)) == 3
    assert SAID in second.warnings
    assert team.files(second)["app/data/words"] == b"a b c\n"


def test_where_a_layer_above_changed_it_the_same_files_come_again_as_another_layer(team: Team) -> None:
    first = team.build(team.system, "v1")
    above = packed(("app/app.py", b"print('other')\n"), ("app/data/.wh.words", b""))
    base = push(team.place, "changed", [above], on=team.manifest(first))
    second = team.build(base, "v2")
    diff_ids = team.diff_ids(second)
    assert len(set(diff_ids)) == len(diff_ids) == 4
    assert SAID not in second.warnings
    seen = team.files(second)
    assert (seen["app/app.py"], seen["app/data/words"]) == (b"print('hello')\n", b"a b c\n")
    assert team.build(base, "v2").descriptor == second.descriptor


MINE = packed(("srv/deep/run", b"x"), ("srv/deep/data", None), ("srv/deep/data/words", b"a b c"), mode=0o755)


@pytest.mark.parametrize(
    ("above", "stands"),
    [
        (packed(("srv/deep/run", b"y")), False),
        (packed(("srv/deep/data/.wh.words", b"")), False),
        (packed(("srv/deep/.wh.data", b"")), False),
        (packed((".wh.srv", b"")), False),
        (packed(("srv/deep/data/.wh..wh..opq", b"")), False),
        (packed(("srv/.wh..wh..opq", b"")), False),
        (packed((".wh..wh..opq", b"")), False),
        (packed(("srv", b""), kind=tarfile.SYMTYPE), False),
        (packed(("srv/deep/data", b"now a file")), False),
        (packed(("srv/deep/data", None), mode=0o700), False),
        (b"\x00broken" * 300, False),
        (packed(("srv/deep/data", None), ("srv", None), ("srv/deep/more", b"z"), mode=0o755), True),
        (packed(("srv/deep/data/.wh.other", b""), ("srv/other/.wh..wh..opq", b""), ("srv/deeper", b"")), True),
        (packed(), True),
    ],
)
def test_what_a_layer_above_leaves_as_it_was(place: Place, tmp_path: Path, above: bytes, stands: bool) -> None:
    reference = push(place, "base", [packed(("etc/x", b"")), MINE, above])
    image = open_base(reference, Platform.here(), lambda text: (place, text.rpartition(":")[2]))
    layer = image.manifest.layers[1]
    row = LayerRow(
        platform="", contents="", key="", digest=layer.digest, diff_id=Digest.of(MINE), size=layer.size, how=""
    )
    cache = BuildCache(tmp_path / "cache.sqlite")
    assert [stands_in(image, row, cache), stands_in(image, row, cache)] == [stands, stands]
    other = structs.replace(row, digest=Digest.of(b"1"), diff_id=Digest.of(b"2"))
    assert stands_in(image, other, cache) is None
    cache.close()


def test_a_layer_of_the_base_that_breaks_off_on_the_way_is_read_on(tmp_path: Path) -> None:
    with EmbeddedServer(tmp_path / "registry") as server, FaultRegistry(server.address) as faults:
        place = Place(DistributionRegistry(faults.address, plain_http=True), "team/app")
        reference = push(place, "base", [MINE, packed(("etc/x", b""))])
        image = open_base(reference, Platform.here(), lambda text: (place, text.rpartition(":")[2]))
        mine, above = image.manifest.layers
        faults.play("GET", rf".*/blobs/{above.digest}", CutAnswer(100), times=1)
        row = LayerRow(
            platform="", contents="", key="", digest=mine.digest, diff_id=Digest.of(MINE), size=mine.size, how=""
        )
        with closing(BuildCache(tmp_path / "cache.sqlite")) as cache:
            assert stands_in(image, row, cache) is True


def test_a_layer_that_the_base_has_in_another_compression_counts_when_it_is_what_it_says(team: Team) -> None:
    first = team.build(team.system, "v1")
    own = team.manifest(first).layers[-1]
    tar = gzip.decompress(read_blob(team.place, own, limit=1 << 24))
    honest = team.build(push(team.place, "honest", [tar]), "v2")
    assert len(team.diff_ids(honest)) == 1
    lying = push(team.place, "lying", [packed(("nothing", b"here"))])
    manifest = team.place.registry.get_manifest(team.place.repository, "lying").content()
    assert isinstance(manifest, Manifest)
    shape = json.loads(read_blob(team.place, manifest.config, limit=1 << 20))
    shape["rootfs"]["diff_ids"] = [Digest.of(tar)]
    config = push_blob(team.place, json.dumps(shape).encode(), media_type=media_types.OCI_CONFIG)
    team.place.registry.put_manifest(
        team.place.repository, manifest_bytes(structs.replace(manifest, config=config)), tag="lying"
    )
    assert team.files(team.build(lying, "v3"))["app/app.py"] == b"print('hello')\n"


def test_an_application_with_nothing_to_pack_makes_no_layer_and_that_is_said(team: Team) -> None:
    (team.application / ".imageignore").write_text("*\n")
    result = team.build(team.system, "v1", workdir="/")
    assert EMPTY_DIFF_IDS.isdisjoint(team.diff_ids(result))
    assert len(team.diff_ids(result)) == 1
    assert any("nothing that is packed" in text for text in result.warnings)


def test_a_base_with_layers_twice_or_empty_is_named_by_layer(team: Team) -> None:
    tar = packed(("etc/os-release", b"ID=debian\n"))
    base = push(team.place, "foreign", [tar, EMPTY, packed(("a", b"")), tar])
    said = [text for text in team.build(base, "v1").warnings if "GKE" in text]
    here = Platform.here()
    assert [text.rpartition(", sha256")[0] for text in said] == [
        f"base {base}, {here}: layers 1, 4 are one layer",
        f"base {base}, {here}: layer 2 is empty",
    ]
