"""What an image shares with the others of its registry, and what its releases moved: by hand-counted bytes."""

from __future__ import annotations

import gzip
import hashlib
import json
from pathlib import Path
from unittest.mock import ANY

import pytest
from click.testing import CliRunner

from registry_pipelines.anatomy.anatomy import image_anatomy
from registry_pipelines.anatomy.changes import earlier_tags
from registry_pipelines.anatomy.report import Anatomy
from registry_pipelines.chain import image_changes
from registry_pipelines.chain.places import Located
from registry_pipelines.cli import main
from registry_pipelines.oci.manifests import Descriptor, Manifest, manifest_bytes
from registry_pipelines.oci.media_types import OCI_CONFIG, OCI_LAYER_GZIP, OCI_MANIFEST
from registry_pipelines.oci.platforms import Platform
from registry_pipelines.registry.blobs import push_blob
from registry_pipelines.registry.layout import LayoutRegistry
from registry_pipelines.registry.protocol import Place
from tests.answers import answered
from tests.chain.conftest import fleet
from tests.chain.fleet import Fleet
from tests.scan.images import DEBIAN, Files, dist_info, make_tar, push_image

__all__ = ["fleet"]

AMD64 = Platform.parse("linux/amd64")
NUMPY: Files = {**dist_info("numpy", "1.0"), "usr/lib/python3/site-packages/numpy/core.so": b"n" * 20_000}
CODE: Files = {"app/main.py": b"one" * 4000, "app/table.bin": b"t" * 9000}


@pytest.fixture
def registry(tmp_path: Path) -> LayoutRegistry:
    return LayoutRegistry(tmp_path / "registry")


def pushed(registry: LayoutRegistry, repository: str, tag: str, layers: list[Files | bytes]) -> Descriptor:
    return push_image(Place(registry, repository), layers, tag=tag)


def sizes(registry: LayoutRegistry, repository: str, image: Descriptor) -> list[int]:
    content = registry.get_manifest(repository, image.digest).content()
    assert isinstance(content, Manifest)
    return [layer.size for layer in content.layers]


def anatomy(place: Place, image: Descriptor, state: Path) -> Anatomy:
    return image_anatomy(place, image.digest, state=state, platform=AMD64)


def test_layers_and_files_that_other_images_have_are_told_and_nothing_else(
    registry: LayoutRegistry, tmp_path: Path
) -> None:
    state, place = tmp_path / "state", Place(registry, "team/app")
    image = pushed(registry, "team/app", "v2", [DEBIAN, NUMPY, CODE])
    pushed(registry, "team/app", "v1", [DEBIAN, {"app/main.py": b"zero"}])
    other = pushed(registry, "team/other", "v9", [DEBIAN, NUMPY, {"srv/copy.bin": b"t" * 9000, "srv/x": b"x" * 5000}])
    found = anatomy(place, image, state)
    located = Located(place, "v2", image.digest)
    unread = image_changes.sharing(None, "team/app:v2", located, found, None, state)
    base, numpy, _ = sizes(registry, "team/app", image)
    assert (unread.images, unread.repositories, unread.shared) == (2, 2, base + numpy)
    assert [(each.images, each.elsewhere) for each in unread.layers] == [(2, 1), (1, 1), (0, 0)]
    assert (unread.elsewhere, unread.file_bytes, unread.layers_read) == (base + numpy, 0, 0)
    assert any("2 layers that nobody read" in each for each in unread.not_looked)

    anatomy(Place(registry, "team/other"), other, state)
    known = image_changes.sharing(None, "team/app:v2", located, found, None, state)
    assert (known.file_bytes, known.layers_read, known.layers[2].file_bytes) == (9000, 1, 9000)
    assert known.layers[1].examples == ("team/other:v9",)


def test_a_layer_that_is_compressed_otherwise_is_no_shared_one_and_is_told(
    registry: LayoutRegistry, tmp_path: Path
) -> None:
    image = pushed(registry, "a", "v1", [DEBIAN, CODE])
    place, there = Place(registry, "a"), Place(registry, "b")
    layer = push_blob(there, gzip.compress(make_tar(DEBIAN), 9), media_type=OCI_LAYER_GZIP)
    raw = {"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": [digest_of(DEBIAN)]}}
    config = push_blob(there, json.dumps(raw).encode(), media_type=OCI_CONFIG)
    manifest = Manifest(schema_version=2, media_type=OCI_MANIFEST, config=config, layers=(layer,))
    registry.put_manifest("b", manifest_bytes(manifest), tag="v1")
    found = anatomy(place, image, tmp_path / "state")
    shared = image_changes.sharing(None, "a:v1", Located(place, "v1", image.digest), found, None, tmp_path / "state")
    assert (shared.shared, shared.repacked) == (0, sizes(registry, "a", image)[0])
    assert [each.repacked for each in shared.layers] == [1, 0]


def test_releases_say_which_layers_changed_and_what_they_moved(registry: LayoutRegistry, tmp_path: Path) -> None:
    place = Place(registry, "team/app")
    older: Files = {"app/main.py": b"zero" * 4000}
    oldest: Files = {"app/main.py": b"minus one" * 3000}
    pushed(registry, "team/app", "v1.8", [DEBIAN, NUMPY, oldest, {"app/extra": b"e" * 300}])
    second = pushed(registry, "team/app", "v1.9", [DEBIAN, NUMPY, older])
    image = pushed(registry, "team/app", "v1.10", [DEBIAN, NUMPY, CODE])
    pushed(registry, "team/app", "v1.11", [DEBIAN, CODE])
    pushed(registry, "team/app", "v1.9-slim", [DEBIAN])
    found = anatomy(place, image, tmp_path / "state")
    told = image_changes.changes(None, "team/app:v1.10", Located(place, "v1.10", image.digest), found, 10)
    code, before = sizes(registry, "team/app", image)[2], sizes(registry, "team/app", second)[2]
    assert [(each.tag, each.moved) for each in told.releases] == [("v1.10", code), ("v1.9", before), ("v1.8", None)]
    assert [(each.changed, each.moved) for each in told.layers] == [(0, 0), (0, 0), (2, round((code + before) / 2))]
    assert told.moved == round((code + before) / 2) == sum(told.classes.values())
    assert list(told.classes) == ["application"]


@pytest.mark.parametrize(
    ("newest", "expected"),
    [
        ("", ["v1.10", "v1.9", "v1.2"]),
        ("v1.9", ["v1.9", "v1.2"]),
        ("v1.9-slim", ["v1.9-slim", "v1.1-slim"]),
        ("nightly", ["nightly"]),
    ],
)
def test_releases_before_one_have_its_variant_and_lower_versions(newest: str, expected: list[str]) -> None:
    tags = ["v1.2", "v1.10", "v1.9", "v1.9-slim", "latest", "v1.1-slim"]
    assert earlier_tags(tags, newest, 5) == expected


def digest_of(files: Files) -> str:
    return f"sha256:{hashlib.sha256(make_tar(files)).hexdigest()}"


def test_the_command_tells_both_also_by_an_inventory(fleet: Fleet) -> None:
    place = fleet.chain.place("app")
    push_image(place, [DEBIAN, NUMPY], tag="v1")
    push_image(place, [DEBIAN, CODE], tag="v2")
    push_image(Place(place.registry, "team/other"), [DEBIAN], tag="v1")
    push_blob(place, b"no image", media_type="text/plain")
    config = ["--config", str(fleet.path)]
    run = [
        "inspect",
        "us/team/app:v2",
        "--anatomy",
        "--platform",
        "linux/amd64",
        "--shared",
        "--releases",
        "5",
        *config,
    ]
    shown = CliRunner().invoke(main, run, env={"COLUMNS": "300"})
    assert shown.exit_code == 0, shown.output
    for text in ("team/other:v1", "1 of 1", "a release moved", "looked at 2 other images in 2 repositories"):
        assert text in shown.stdout, shown.stdout
    listed = answered(CliRunner().invoke(main, [*run, "--json"]).stdout)["anatomy"]
    assert [each["images"] for each in listed["sharing"]["layers"]] == [2, 0]

    stored = Path(fleet.path).parent / "all.parquet"
    taken = CliRunner().invoke(main, ["inventory", "us", "--manifests", "all", "--output", str(stored), *config])
    assert taken.exit_code == 0, taken.output
    by_file = answered(CliRunner().invoke(main, [*run, "--inventory", str(stored), "--json"]).stdout)["anatomy"]
    assert by_file["sharing"]["layers"] == [{**each, "examples": ANY} for each in listed["sharing"]["layers"]]
    assert by_file["sharing"]["source"] == str(stored) and "no diffIDs" in " ".join(by_file["sharing"]["not_looked"])


@pytest.mark.parametrize("more", [["--shared"], ["--releases", "3"], ["--anatomy", "--inventory", __file__]])
def test_what_goes_with_anatomy_alone_is_refused_without_it(more: list[str]) -> None:
    done = CliRunner().invoke(main, ["inspect", "docker.io/library/none:v2", *more])
    assert done.exit_code == 2 and ("--anatomy" in done.output or "--shared" in done.output)
