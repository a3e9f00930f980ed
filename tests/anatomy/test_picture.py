"""The picture: areas are shares, nothing overlaps, and a PNG that another reader opens has the colours."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry_pipelines.anatomy.anatomy import image_anatomy
from registry_pipelines.anatomy.picture import COLOURS, HIDDEN, draw, treemap
from registry_pipelines.anatomy.raster import Canvas
from registry_pipelines.oci.platforms import Platform
from registry_pipelines.registry.layout import LayoutRegistry
from registry_pipelines.registry.protocol import Place
from tests.anatomy.test_anatomy import LAYERS
from tests.scan.images import push_image


def pixels(png: bytes) -> tuple[int, int, set[tuple[int, int, int]]]:
    """Width, height and all colours, by the format's own description."""
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    chunks, at = {}, 8
    while at < len(png):
        length, kind = struct.unpack(">I4s", png[at : at + 8])
        data = png[at + 8 : at + 8 + length]
        assert zlib.crc32(kind + data) == struct.unpack(">I", png[at + 8 + length : at + 12 + length])[0]
        chunks[kind], at = data, at + 12 + length
    width, height = struct.unpack(">II", chunks[b"IHDR"][:8])
    raw = zlib.decompress(chunks[b"IDAT"])
    assert len(raw) == height * (1 + 3 * width) and list(chunks) == [b"IHDR", b"IDAT", b"IEND"]
    rows = [raw[row * (1 + 3 * width) + 1 : (row + 1) * (1 + 3 * width)] for row in range(height)]
    return width, height, {tuple(row[x : x + 3]) for row in rows for x in range(0, 3 * width, 3)}  # type: ignore[misc]


@given(st.lists(st.integers(0, 10**9), max_size=60))
def test_areas_are_shares_and_stay_inside(weights: list[int]) -> None:
    tiles = treemap([(str(number), weight) for number, weight in enumerate(weights)], 10, 20, 300, 200)
    assert {tile.name for tile in tiles} == {str(number) for number, weight in enumerate(weights) if weight}
    for tile in tiles:
        share = weights[int(tile.name)] / sum(weights)
        assert tile.width * tile.height == pytest.approx(300 * 200 * share, rel=1e-6, abs=1e-6)
        assert tile.left >= 10 - 1e-6 and tile.left + tile.width <= 310 + 1e-6
        assert tile.top >= 20 - 1e-6 and tile.top + tile.height <= 220 + 1e-6


def test_every_class_that_the_image_has_is_drawn(tmp_path: Path) -> None:
    place = Place(LayoutRegistry(tmp_path / "registry"), "team/app")
    image = push_image(place, LAYERS)
    found = image_anatomy(place, image.digest, state=tmp_path / "state", platform=Platform.parse("linux/amd64"))
    width, height, colours = pixels(draw(found))
    assert (width, height > 640) == (1200, True)
    assert {COLOURS[row.name] for row in found.classes} | {HIDDEN} <= colours


def test_what_lies_outside_is_left_out() -> None:
    canvas = Canvas(20, 10)
    canvas.fill(-5, -5, 100, 100, (1, 2, 3))
    canvas.text(-3, 4, "wide words \N{SNOWMAN}", (9, 9, 9))
    width, height, colours = pixels(canvas.png())
    assert (width, height, colours) == (20, 10, {(1, 2, 3), (9, 9, 9)})
