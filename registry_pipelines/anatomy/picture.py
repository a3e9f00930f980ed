"""The anatomy of an image as a picture: a treemap of packages by class, and a bar for each layer."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from registry_pipelines.anatomy.raster import BLACK, GLYPH_HEIGHT, GLYPH_WIDTH, WHITE, Canvas, Colour
from registry_pipelines.anatomy.report import Anatomy
from registry_pipelines.progress import size_text

WIDTH = 1200
"""Pixels; the height grows with the layers."""
MAP_HEIGHT = 640
_MARGIN, _HEAD, _BAR, _LABEL = 10, 34, 16, 150
_LEGEND = 24
_LONGEST = 600
"""A layer's bar; behind it stands what made it."""
COLOURS: dict[str, Colour] = {
    "base OS": (119, 119, 119),
    "system libraries": (68, 119, 170),
    "runtime": (102, 204, 238),
    "dependencies": (34, 136, 51),
    "application": (204, 187, 68),
    "weights": (170, 51, 119),
}
"""Told apart by most people who do not see all colours (Paul Tol, "bright")."""
HIDDEN: Colour = (238, 102, 119)
"""Bytes that later layers overwrite or delete."""


class Tile(NamedTuple):
    """A rectangle whose area is its weight's share."""

    name: str
    left: float
    top: float
    width: float
    height: float


def draw(found: Anatomy) -> bytes:
    """A PNG. In the map, the area is unpacked bytes: of each package within its class, hidden bytes apart. Below, each
    layer's bar is its stored bytes, coloured by its classes' shares of unpacked bytes, with what made it behind; its
    red edge is hidden."""
    legend_top = _HEAD + MAP_HEIGHT + 8
    bars_top = legend_top + _LEGEND
    canvas = Canvas(WIDTH, bars_top + (_BAR + 4) * len(found.layers) + _MARGIN)
    name = found.image.rpartition("@")[0]
    told = f" ({found.platform}): {size_text(found.compressed)} stored, {size_text(found.unpacked)} of files"
    if found.gone:
        told += f", {size_text(found.gone)} hidden"
    if found.wasted:
        told += f"; {size_text(found.wasted)} stored need not be there"
    # The end of a long name tells more than its beginning.
    letters = (WIDTH - 2 * _MARGIN) // GLYPH_WIDTH - len(told)
    canvas.text(_MARGIN, 12, (name if len(name) <= letters else "..." + name[3 - letters :]) + told)
    _map(canvas, found)
    left = _MARGIN
    sizes = {each.name: each.size - each.gone for each in found.classes} | {"hidden": found.gone}
    for name, colour in {**COLOURS, "hidden": HIDDEN}.items():
        if not sizes.get(name):
            continue
        words = f"{name} {size_text(sizes[name])}"
        canvas.fill(left, legend_top, 12, 12, colour)
        canvas.text(left + 16, legend_top + 3, words)
        left += 16 + (len(words) + 3) * GLYPH_WIDTH
    _bars(canvas, found, bars_top)
    return canvas.png()


def _map(canvas: Canvas, found: Anatomy) -> None:
    groups: dict[str, dict[str, int]] = defaultdict(dict)
    for row in found.packages:
        groups[row.class_][row.owner or "(no package)"] = row.size - row.gone
        groups["hidden"]["hidden"] = groups["hidden"].get("hidden", 0) + row.gone
    whole = (float(_MARGIN), float(_HEAD), float(WIDTH - 2 * _MARGIN), float(MAP_HEIGHT))
    for area in treemap([(name, sum(sizes.values())) for name, sizes in groups.items()], *whole):
        colour = COLOURS.get(area.name, HIDDEN)
        sizes = groups[area.name]
        for tile in treemap(list(sizes.items()), area.left, area.top, area.width, area.height):
            left, top = round(tile.left), round(tile.top)
            width, height = round(tile.left + tile.width) - left, round(tile.top + tile.height) - top
            # A white edge of one pixel, where there is room for one.
            canvas.fill(left, top, max(width - 1, 1), max(height - 1, 1), colour)
            if height > GLYPH_HEIGHT + 4 and width > 4 * GLYPH_WIDTH:
                canvas.text(left + 3, top + 3, tile.name.removeprefix("python "), _ink(colour), room=width - 6)
            if height > 2 * GLYPH_HEIGHT + 6 and width > 9 * GLYPH_WIDTH:
                canvas.text(left + 3, top + 5 + GLYPH_HEIGHT, size_text(sizes[tile.name]), _ink(colour), room=width - 6)


def _ink(ground: Colour) -> Colour:
    """What can be read on a colour (luminance of Rec. 601)."""
    red, green, blue = ground
    return BLACK if 0.299 * red + 0.587 * green + 0.114 * blue > 150 else WHITE


def treemap(weights: Sequence[tuple[str, int]], left: float, top: float, width: float, height: float) -> list[Tile]:
    """Rectangles that fill the given one, the heaviest first: what is left is halved by weight along its longer side.
    What weighs nothing has none."""
    todo = [(sorted(((w, n) for n, w in weights if w > 0), reverse=True), left, top, width, height)]
    tiles = []
    while todo:
        items, left, top, width, height = todo.pop()
        if len(items) < 2:
            tiles += [Tile(name, left, top, width, height) for _, name in items]
            continue
        total, first, count = sum(weight for weight, _ in items), items[0][0], 1
        while count < len(items) - 1 and first + items[count][0] <= total / 2:
            first, count = first + items[count][0], count + 1
        share = first / total
        if width >= height:
            todo.append((items[count:], left + width * share, top, width * (1 - share), height))
            todo.append((items[:count], left, top, width * share, height))
        else:
            todo.append((items[count:], left, top + height * share, width, height * (1 - share)))
            todo.append((items[:count], left, top, width, height * share))
    return tiles


def _bars(canvas: Canvas, found: Anatomy, top: int) -> None:
    most = max((layer.compressed for layer in found.layers), default=0) or 1
    for layer in found.layers:
        canvas.text(_MARGIN, top + 4, f"{layer.number:>3} {size_text(layer.compressed)}", BLACK, room=_LABEL)
        length = _LONGEST * layer.compressed / most
        words = " ".join((layer.problem or layer.made_by.removeprefix("/bin/sh -c ")).split())
        behind = _LABEL + max(round(length), 1) + 8
        canvas.text(behind, top + 4, words, room=WIDTH - _MARGIN - behind)
        total = sum(layer.classes.values())
        left = float(_LABEL)
        if not total:
            canvas.fill(_LABEL, top, max(round(length), 1), _BAR, BLACK)
        for name, size in layer.classes.items():
            width = length * size / total if total else 0.0
            canvas.fill(round(left), top, max(round(left + width) - round(left), 1), _BAR, COLOURS[name])
            left += width
        if layer.gone and total:
            hidden = length * layer.gone / total
            canvas.fill(_LABEL, top + _BAR - 5, max(round(hidden), 1), 5, HIDDEN)
        top += _BAR + 4
