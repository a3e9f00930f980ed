"""Pictures of figures as SVG: bars beside each other, bytes over time, and costs that meet at a break-even."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

BLUE = "#4477aa"
COLOURS = (BLUE, "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#777777")
"""Told apart by most people who do not see all colours (Paul Tol, "bright")."""
_BAR = 300
_LABEL = 230


def bars(groups: Mapping[str, Mapping[str, float]], *, most: float | None = 3.0, digits: int = 2) -> str:
    """A bar for each figure, below the title of its group. most: longer bars are cut, with their figure: beside what
    takes ten times as long nothing else could be told apart; None cuts none."""
    rows, height = [], 10
    largest = max((value for group in groups.values() for value in group.values()), default=1.0)
    scale = _BAR / (min(largest, most) if most else largest or 1.0)
    for title, group in groups.items():
        rows.append(f'<text x="10" y="{height + 14}" font-weight="bold">{html.escape(title)}</text>')
        height += 24
        for label, value in group.items():
            width = min(float(_BAR), value * scale)
            rows.append(f'<text x="20" y="{height + 13}">{html.escape(label)}</text>')
            rows.append(f'<rect x="{_LABEL}" y="{height + 2}" width="{width:.0f}" height="14" fill="{BLUE}"/>')
            rows.append(f'<text x="{_LABEL + width + 6:.0f}" y="{height + 13}">{value:.{digits}f}</text>')
            height += 20
        height += 10
    return _picture(620, height, rows)


@dataclass(frozen=True)
class Line:
    """A start over time. points: seconds, bytes; started_s, result_s: its two clocks."""

    label: str
    points: Sequence[tuple[float, int]]
    started_s: float
    result_s: float


def time_line(lines: Sequence[Line]) -> str:
    """Bytes over the wire by time, a row for each start on one scale of seconds: a filled curve, which is full height
    at the most that any start received; a circle at STARTED, a square at RESULT."""
    left, width, row, top = 20, 560, 64, 26
    longest = max((line.result_s for line in lines), default=1.0) or 1.0
    most = max((count for line in lines for _, count in line.points), default=1) or 1
    parts = []
    for number, line in enumerate(lines):
        base = top + number * (row + 22) + row
        colour = COLOURS[number % len(COLOURS)]

        def x(seconds: float) -> float:
            return left + min(seconds / longest, 1.0) * width

        curve = [(x(at), base - count / most * (row - 14)) for at, count in line.points]
        ends = [(left, base), *curve, (curve[-1][0] if curve else left, base)]
        shape = " ".join(f"{across:.1f},{down:.1f}" for across, down in ends)
        received = line.points[-1][1] / 1e6 if line.points else 0.0
        told = f"{line.label}: STARTED {line.started_s:.2f} s, RESULT {line.result_s:.2f} s, {received:,.0f} MB"
        parts += [
            f'<text x="{left}" y="{base - row + 8}">{html.escape(told)}</text>',
            f'<polygon points="{shape}" fill="{colour}" fill-opacity="0.35" stroke="{colour}"/>',
            f'<line x1="{left}" y1="{base}" x2="{left + width}" y2="{base}" stroke="#999999"/>',
            f'<circle cx="{x(line.started_s):.1f}" cy="{base}" r="4" fill="{colour}"/>',
            f'<rect x="{x(line.result_s) - 4:.1f}" y="{base - 4}" width="8" height="8" fill="{colour}"/>',
        ]
    height = top + len(lines) * (row + 22) + 16
    parts.append(f'<text x="{left}" y="{height - 8}">0 s</text>')
    parts.append(f'<text x="{left + width}" y="{height - 8}" text-anchor="end">{longest:.1f} s</text>')
    parts.append('<text x="300" y="14" text-anchor="middle">circle: STARTED, square: RESULT</text>')
    return _picture(600, height, parts)


def straight_lines(
    series: Mapping[str, tuple[float, float]], *, most: float, x: str, y: str, mark: float | None = None
) -> str:
    """Costs that grow with something: by name what each is at 0 and at ``most``. x, y: what the axes count. mark: where
    two of them meet."""
    left, top, width, height = 70, 24, 500, 240
    highest = max((value for pair in series.values() for value in pair), default=1.0) or 1.0
    base = top + height

    def across(value: float) -> float:
        return left + min(value / (most or 1.0), 1.0) * width

    def down(value: float) -> float:
        return base - value / highest * height

    parts = [
        f'<line x1="{left}" y1="{base}" x2="{left + width}" y2="{base}" stroke="#999999"/>',
        f'<line x1="{left}" y1="{top}" x2="{left}" y2="{base}" stroke="#999999"/>',
        f'<text x="10" y="16">{html.escape(y)}</text>',
        f'<text x="{left - 6}" y="{top + 10}" text-anchor="end">{highest:,.0f}</text>',
        f'<text x="{left - 6}" y="{base}" text-anchor="end">0</text>',
        f'<text x="{left + width}" y="{base + 18}" text-anchor="end">{most:,.0f} {html.escape(x)}</text>',
    ]
    for number, (label, (start, end)) in enumerate(series.items()):
        colour, legend = COLOURS[number % len(COLOURS)], base + 40 + 18 * number
        points = f'x1="{left}" y1="{down(start):.1f}" x2="{left + width}" y2="{down(end):.1f}"'
        parts.append(f'<line {points} stroke="{colour}" stroke-width="2"/>')
        parts.append(f'<rect x="{left}" y="{legend - 10}" width="12" height="12" fill="{colour}"/>')
        parts.append(f'<text x="{left + 18}" y="{legend}">{html.escape(label)}</text>')
    if mark is not None and 0 <= mark <= most:
        parts.append(
            f'<line x1="{across(mark):.1f}" y1="{top}" x2="{across(mark):.1f}" y2="{base}" stroke="#333333" '
            'stroke-dasharray="4 3"/>'
        )
        parts.append(f'<text x="{across(mark):.1f}" y="{base + 18}" text-anchor="middle">{mark:,.0f}</text>')
    return _picture(620, base + 50 + 18 * len(series), parts)


def _picture(width: int, height: int, rows: Sequence[str]) -> str:
    size = f'width="{width}" height="{height}" font-family="sans-serif" font-size="12"'
    return "\n".join([f'<svg xmlns="http://www.w3.org/2000/svg" {size}>', *rows, "</svg>"]) + "\n"
