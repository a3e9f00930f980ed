"""Pictures of how a thing goes, for the documentation: boxes beside and below each other, with arrows and words.

tests/pages.py writes ``docs/images/NAME.svg`` for each of ``PICTURES``.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

WIDTH, HEIGHT, GAP_X, GAP_Y, EDGE = 190, 64, 60, 54, 12


@dataclass(frozen=True)
class Box:
    """A box: column and row, its first line in bold, further lines, and its colour."""

    column: int
    row: int
    lines: tuple[str, ...]
    colour: str = "#4477aa"


@dataclass(frozen=True)
class Arrow:
    """From one box to another, with words beside it."""

    start: str
    end: str
    words: str = ""


Picture = tuple[Mapping[str, Box], Sequence[Arrow]]

COLLECT: Picture = (
    {
        "plan": Box(0, 0, ("collect plan", "rules, use, channels:", "what goes, what stays, why")),
        "read": Box(1, 0, ("a person reads it", "signed, kept by its digest,", "good for a day"), "#777777"),
        "apply": Box(2, 0, ("collect apply DIGEST", "world, rules, signature", "as in the plan? else no")),
        "aside": Box(2, 1, ("rp-quarantine/...", "signed record, manifests,", "blobs by mounts"), "#ccbb44"),
        "there": Box(1, 1, ("team/app", "byte for byte:", "evidence, lists, tags last"), "#228833"),
        "gone": Box(2, 2, ("collect purge", "manifests, record last"), "#ee6677"),
        "bytes": Box(1, 2, ("collect garbage", "blobs nobody needs;", "bytes on disk are free"), "#ee6677"),
    },
    (
        Arrow("plan", "read"),
        Arrow("read", "apply"),
        Arrow("apply", "aside", "set aside, deleted"),
        Arrow("aside", "there", "undo"),
        Arrow("aside", "gone", "after 14 days"),
        Arrow("gone", "bytes"),
    ),
)

BUNDLES: Picture = (
    {
        "upstreams": Box(0, 0, ("upstreams, releases", "pinned, judged,", "with all evidence")),
        "dmz": Box(0, 1, ("DMZ registry", "near side, on the internet"), "#777777"),
        "create": Box(1, 1, ("bundle create", "what receipts confirm", "stays at home")),
        "media": Box(1, 2, ("media", "parts cut inside blobs,", "one signed document"), "#ccbb44"),
        "load": Box(2, 2, ("bundle verify, load", "all is read first,", "tags come last")),
        "private": Box(2, 1, ("private registry", "far side, no wire"), "#228833"),
        "receipt": Box(2, 0, ("bundle receipt", "what is there now,", "read back and signed")),
    },
    (
        Arrow("upstreams", "dmz", "mirror"),
        Arrow("dmz", "create"),
        Arrow("create", "media"),
        Arrow("media", "load"),
        Arrow("load", "private"),
        Arrow("private", "receipt"),
        Arrow("receipt", "create", "back"),
    ),
)

PICTURES: Mapping[str, Picture] = {"collect": COLLECT, "bundles": BUNDLES}


def drawn(picture: Picture) -> str:
    """The picture as SVG."""
    boxes, arrows = picture
    columns, rows = (max(getattr(box, name) for box in boxes.values()) + 1 for name in ("column", "row"))
    width = EDGE * 2 + columns * WIDTH + (columns - 1) * GAP_X
    height = EDGE * 2 + rows * HEIGHT + (rows - 1) * GAP_Y
    head = '<marker id="a" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif" '
        'font-size="12">',
        f'<defs>{head}<path d="M0,0 L8,4 L0,8 z" fill="#555555"/></marker></defs>',
        *(line for arrow in arrows for line in _arrow(boxes[arrow.start], boxes[arrow.end], arrow.words)),
        *(line for box in boxes.values() for line in _box(box)),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _corner(box: Box) -> tuple[int, int]:
    return EDGE + box.column * (WIDTH + GAP_X), EDGE + box.row * (HEIGHT + GAP_Y)


def _box(box: Box) -> list[str]:
    x, y = _corner(box)
    shape = f'<rect x="{x}" y="{y}" width="{WIDTH}" height="{HEIGHT}" rx="6" fill="{box.colour}" fill-opacity="0.15"'
    lines = [f'{shape} stroke="{box.colour}"/>']
    for number, text in enumerate(box.lines):
        weight = "" if number else ' font-weight="bold"'
        place = f'x="{x + WIDTH // 2}" y="{y + 20 + 17 * number}" text-anchor="middle"'
        lines.append(f"<text {place}{weight}>{html.escape(text)}</text>")
    return lines


def _arrow(start: Box, end: Box, words: str) -> list[str]:
    (x1, y1), (x2, y2) = _corner(start), _corner(end)
    if start.row == end.row:
        right = x2 > x1
        line = (x1 + WIDTH if right else x1, y1 + HEIGHT // 2, x2 if right else x2 + WIDTH, y2 + HEIGHT // 2)
        word = ((line[0] + line[2]) // 2, line[1] - 6, "middle")
    else:
        down = y2 > y1
        line = (x1 + WIDTH // 2, y1 + HEIGHT if down else y1, x2 + WIDTH // 2, y2 if down else y2 + HEIGHT)
        word = (line[0] + 8, (line[1] + line[3]) // 2 + 4, "start")
    ends = " ".join(f'{name}="{value}"' for name, value in zip(("x1", "y1", "x2", "y2"), line, strict=True))
    drawn = [f'<line {ends} stroke="#555555" marker-end="url(#a)"/>']
    if words:
        drawn.append(f'<text x="{word[0]}" y="{word[1]}" text-anchor="{word[2]}">{html.escape(words)}</text>')
    return drawn


def page(name: str) -> Callable[[str], str]:
    """How tests/pages.py writes one of them."""
    return lambda _: drawn(PICTURES[name])
