"""Random stacks of layers, rechunked: GNU tar unpacks the result to what a plain unpacker makes of the origin."""

from __future__ import annotations

import subprocess
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from registry_pipelines.anatomy.rechunk.engine import rechunk
from registry_pipelines.anatomy.rechunk.model import Rechunked, RechunkOptions, Times
from registry_pipelines.errors import InputError
from registry_pipelines.registry.layout import LayoutRegistry
from registry_pipelines.registry.protocol import Place
from tests.anatomy.rechunk.images import image_layers, unpacked_by_tar
from tests.scan.images import push_image
from tests.stream.layers import pack
from tests.stream.lazy.stacks import Entry, described, entry, layers, need_root, unpack

LINK, DIR, SYM = tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE
OVER_LAYERS = [
    [entry("a", DIR), entry("a/b", content=b"one" * 99), entry("usr/bin/x", content=b"x" * 5000, mode=0o4755)],
    [entry("e", LINK, linkname="a/b"), entry("opt/x", LINK, linkname="usr/bin/x", mode=0o4755)],
    [entry("a/.wh.b"), entry("f", LINK, linkname="e")],
]
OPAQUE = [
    [entry("a", DIR, mode=0o1777, uid=7), entry("a/b", content=b"b"), entry("a/d", DIR)],
    [entry("a", DIR, mode=0o700), entry("a/.wh..wh..opq"), entry("a/c", SYM, linkname="../b")],
]


def rechunked(stack: Sequence[list[Entry]], folder: Path, times: Times) -> tuple[Rechunked, Place]:
    place = Place(LayoutRegistry(folder / "registry"), "team/app")
    image = push_image(place, [pack(entries) for entries in stack])
    target = Place(place.registry, "team/rechunked")
    return rechunk(place, image.digest, target, options=RechunkOptions(times=times), state=folder / "state"), target


def without_times(what: dict[str, tuple[Any, ...]]) -> dict[str, tuple[Any, ...]]:
    return {path: (*each[:3], *each[4:]) for path, each in what.items()}


@settings(max_examples=25, deadline=None)
@given(st.lists(layers(), min_size=1, max_size=4), st.sampled_from(("fixed", "keep")))
@example(OVER_LAYERS, "keep")
@example(OPAQUE, "fixed")
def test_gnu_tar_unpacks_the_result_to_what_the_origin_is(stack: list[list[Entry]], times: Times) -> None:
    need_root()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        before = unpack(stack, folder / "before")
        try:
            made, target = rechunked(stack, folder, times)
        except InputError as error:
            assert not before and "no file is left" in error.what
            return
        after = unpacked_by_tar(target, made.derived, folder / "after")
        if times == "keep":
            assert after == before
        else:
            assert without_times(after) == without_times(before)
            assert {each[3] for each in after.values()} == {315532800 * 10**9}
        [image] = made.images
        assert image.tree == image.origin_tree


def test_layers_share_nothing_but_folders_and_no_whiteout_is_left(tmp_path: Path) -> None:
    need_root()
    made, target = rechunked(OVER_LAYERS, tmp_path, "fixed")
    names: list[str] = []
    for raw in image_layers(target, made.derived):
        with tarfile.open(fileobj=raw) as tar:
            names += [each.name for each in tar.getmembers() if not each.isdir()]
    assert len(names) == len(set(names)) and not any(".wh." in each for each in names)


def test_gnu_tar_compares_the_unpacked_result_with_the_origin(tmp_path: Path) -> None:
    need_root()
    made, target = rechunked(OVER_LAYERS[:2], tmp_path, "fixed")
    unpacked_by_tar(target, made.derived, tmp_path / "after")
    for path in [tmp_path / "after", *(tmp_path / "after").rglob("*")]:
        assert described(path)[3] >= 0
    flat = tmp_path / "flat.tar"
    unpack(OVER_LAYERS[:2], tmp_path / "before")
    subprocess.run(["tar", "-C", tmp_path / "before", "-cf", flat, "."], check=True)
    compared = subprocess.run(
        ["tar", "-C", tmp_path / "after", "--compare", "-f", flat], capture_output=True, text=True, check=False
    )
    differences = [line for line in compared.stdout.splitlines() if "Mod time differs" not in line]
    assert differences == [] and compared.stderr == ""


@pytest.mark.parametrize("times", ["fixed", "keep"])
def test_what_was_made_once_is_found_again_and_nothing_is_read(tmp_path: Path, times: Times) -> None:
    need_root()
    made, target = rechunked(OVER_LAYERS, tmp_path, times)
    assert made.changed and made.bytes_sent
    again, _ = rechunked(OVER_LAYERS, tmp_path, times)
    assert (again.changed, again.bytes_sent, again.images) == (False, 0, made.images)
    elsewhere = Place(target.registry, "team/elsewhere")
    place = Place(target.registry, "team/app")
    moved = rechunk(place, made.origin, elsewhere, options=RechunkOptions(times=times), state=tmp_path / "state")
    assert {each.how for each in moved.images[0].layers} == {"mounted"} and moved.derived == made.derived


def test_a_folder_that_holds_empty_folders_alone_stands_once_in_each_layer(tmp_path: Path) -> None:
    """Docker refuses a layer that has a path twice; containerd and GNU tar take it."""
    stack = [
        [entry("etc", tarfile.DIRTYPE), entry("etc/glvnd", tarfile.DIRTYPE), entry("etc/glvnd/egl", tarfile.DIRTYPE)]
    ]
    made, place = rechunked(stack, tmp_path, "fixed")
    for tar in image_layers(place, made.images[0].derived):
        with tarfile.open(fileobj=tar) as opened:
            names = opened.getnames()
        assert len(names) == len(set(names))
