"""The demonstration's way as a picture, with the sizes that it measured."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence

WIDTH, HEIGHT = 900, 330
NEAR, DISK, FAR = 20, 350, 620
INK, LINE, FILL = "#222222", "#4477aa", "#eef3f8"


def picture(sizes: Mapping[str, int]) -> str:
    """SVG. sizes: bytes of ``bundle 1``, ``bundle 2``, ``registry before`` and ``registry after``."""
    figures = {what: f"{size / 1e6:.1f} MB" for what, size in sizes.items()}
    near = ("build, scan, sign, judge", "advisories, wheels: signed", "DMZ registry")
    disk = (f"bundle 1: {figures['bundle 1']}", f"bundle 2: {figures['bundle 2']}", "receipt")
    far = ("private registry", "containerd by the old names", "builds of wheels that came")
    told = (
        "After a change of one line the near side writes what the receipt does not confirm:",
        f"{figures['bundle 2']} instead of {figures['bundle 1']}.",
        "collect plan, apply, undo: the old image is set aside and comes back. For good: "
        f"{figures['registry before']} on disk become {figures['registry after']}.",
    )
    rows = [
        *_box(NEAR, 40, 260, "near side: internet", near),
        *_box(DISK, 40, 200, "a disk", disk),
        *_box(FAR, 40, 260, "far side: no route", far),
        *_arrow(NEAR + 260, 85, DISK, "bundle create"),
        *_arrow(DISK + 200, 85, FAR, "verify, load"),
        *_arrow(FAR, 150, DISK + 200, ""),
        *_arrow(DISK, 150, NEAR + 260, ""),
        *_text(NEAR + 2, 205, told, bold=False),
    ]
    body = "\n".join(rows)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT - 50}" font-family="sans-serif" '
        f'font-size="13" fill="{INK}">\n<rect width="{WIDTH}" height="{HEIGHT - 50}" fill="#ffffff"/>\n{body}\n</svg>\n'
    )


def _box(left: int, top: int, width: int, title: str, lines: Sequence[str]) -> list[str]:
    return [
        f'<rect x="{left}" y="{top}" width="{width}" height="130" rx="6" fill="{FILL}" stroke="{LINE}"/>',
        *_text(left + 12, top + 24, (title,), bold=True),
        *_text(left + 12, top + 52, lines, bold=False),
    ]


def _text(left: int, top: int, lines: Sequence[str], *, bold: bool) -> list[str]:
    weight = ' font-weight="bold"' if bold else ""
    return [
        f'<text x="{left}" y="{top + 22 * row}"{weight}>{html.escape(line)}</text>' for row, line in enumerate(lines)
    ]


def _arrow(start: int, top: int, stop: int, label: str) -> list[str]:
    back = 8 if stop > start else -8
    points = f"{stop},{top} {stop - back},{top - 5} {stop - back},{top + 5}"
    middle = (start + stop) // 2
    return [
        f'<line x1="{start}" y1="{top}" x2="{stop - back}" y2="{top}" stroke="{LINE}" stroke-width="2"/>',
        f'<polygon points="{points}" fill="{LINE}"/>',
        f'<text x="{middle}" y="{top - 8}" text-anchor="middle" font-size="10">{html.escape(label)}</text>',
    ]
