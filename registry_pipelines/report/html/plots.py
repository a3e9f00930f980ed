"""Numbers over time as SVG: lines with dashes of their own, gaps where nothing was measured, and words for each.

Drawn here, without a library: a page loads nothing, and Dagster's UI shows what is in the event itself. Colours have
class names, which a page's style gives in light and dark; a picture that stands alone brings them along.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from math import ceil, floor, isfinite, log, log10
from statistics import median
from typing import Literal, NamedTuple

import msgspec

from registry_pipelines.progress import count_text, size_text
from registry_pipelines.report.html.elements import Html, element, join, table, words

Unit = Literal["bytes", "usd", "seconds", "days", "count"]

WIDTH, HEIGHT = 760, 250
_LEFT, _RIGHT, _TOP, _BOTTOM = 80, 16, 12, 28
_LEGEND = 18
"""Pixels of a line of the legend."""

MOST_LINES = 7
"""Lines that are told apart; the greatest at the end stay, and the rest is named in words."""
DASHES = ("", "6 3", "2 3", "8 3 2 3", "12 4", "1 4", "4 2 1 2")
"""So that lines are told apart without their colours."""
GAP = 3.0
"""A pause of so many times the usual one is a gap: nothing was measured, and no line is drawn across it."""
MOST_POINTS = 2000
"""Of a line; of more every second is left out, until so many are left."""

ALONE = """
svg text { fill: #1a1a1a; font: 12px sans-serif; } svg { background: #ffffff; }
.faint { fill: #666666; } .axis { stroke: #d0d0d0; }
.f0 { fill: #4477aa; } .f1 { fill: #c8344a; } .f2 { fill: #228833; } .f3 { fill: #8f7d0c; } .f4 { fill: #1d8fb3; }
.f5 { fill: #aa3377; } .f6 { fill: #666666; }
.l0 { stroke: #4477aa; } .l1 { stroke: #c8344a; } .l2 { stroke: #228833; } .l3 { stroke: #8f7d0c; }
.l4 { stroke: #1d8fb3; } .l5 { stroke: #aa3377; } .l6 { stroke: #666666; }
"""
"""Style of a picture that stands alone: on white, wherever it is shown."""


class Point(NamedTuple):
    """A value that was measured."""

    time: datetime
    value: float


class Plot(msgspec.Struct, frozen=True, kw_only=True):
    """One picture. lines: by name. read_from: what was asked, for people. why: why there is nothing, where there is
    nothing."""

    name: str
    title: str
    unit: Unit
    lines: Mapping[str, Sequence[Point]] = {}
    read_from: str
    why: str = ""

    @property
    def measured(self) -> bool:
        """Whether there is anything to draw."""
        return any(self.lines.values())

    def latest(self) -> dict[str, float]:
        """The last value of each line."""
        return {name: max(points).value for name, points in self.lines.items() if points}

    def told(self) -> str:
        """What it shows, for who does not see it."""
        if not self.measured:
            return f"{self.title}: not measured"
        latest = [f"{name} {written(value, self.unit)}" for name, value in self.latest().items()]
        more = len(latest) - MOST_LINES
        rest = f", and {more} more" if more > 0 else ""
        return f"{self.title}; last: {', '.join(latest[:MOST_LINES])}{rest}"

    def rows(self) -> list[dict[str, str]]:
        """Every point as a table, the newest first: what a picture shows, for who reads."""
        points = [(each.time, name, each.value) for name, line in self.lines.items() for each in line]
        return [
            {"time": f"{time:%Y-%m-%d %H:%M}", "line": name, self.unit: written(value, self.unit)}
            for time, name, value in sorted(points, reverse=True)
        ]


def written(value: float, unit: Unit) -> str:
    """A value for people."""
    match unit:
        case "bytes":
            return size_text(round(value))
        case "usd":
            return f"${value:,.2f}" if value >= 0.1 or not value else f"${value:.2g}"
        case "seconds":
            return _duration(value)
        case "days":
            return count_text(round(value), "day")
        case "count":
            return f"{value:,.0f}" if value == round(value) else f"{value:,.1f}"


def _duration(seconds: float) -> str:
    for size, word in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.3g} {word}"
    return f"{seconds:.3g} s"


def draw(plot: Plot, *, alone: bool = False, most: int = MOST_POINTS) -> Html:
    """The picture as SVG; of a plot without any value a box that says why. alone: with a style of its own, for a file
    or for Markdown. most: points of a line."""
    style = Html(f"<style>{ALONE}</style>") if alone else ""
    shown, left_out = _chosen(plot, most)
    height = HEIGHT + _LEGEND * len(shown) + (_LEGEND if left_out else 0)
    name = f"plot-{plot.name}"
    head = [element("title", plot.title, id=f"{name}-title"), element("desc", plot.told(), id=f"{name}-words")]
    body = _lines(plot, shown, left_out) if shown else [_nothing(plot)]
    return element(
        "svg",
        *head,
        style,
        *body,
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {WIDTH} {height}",
        width=WIDTH,
        height=height,
        role="img",
        aria_labelledby=f"{name}-title {name}-words",
    )


def _nothing(plot: Plot) -> Html:
    lines = ["not measured", plot.why] if plot.why else ["not measured"]
    return join(
        element("text", line[:110], x=WIDTH / 2, y=HEIGHT / 2 + 18 * number, text_anchor="middle", class_="faint")
        for number, line in enumerate(lines)
    )


def _chosen(plot: Plot, most: int) -> tuple[dict[str, list[Point]], int]:
    """The lines that are drawn, each sorted and thinned, and how many are not."""
    finite = {name: sorted(each for each in points if isfinite(each.value)) for name, points in plot.lines.items()}
    lines = {name: _thinned(points, most) for name, points in finite.items() if points}
    greatest = sorted(lines, key=lambda name: (-lines[name][-1].value, name))[:MOST_LINES]
    return {name: lines[name] for name in lines if name in greatest}, len(lines) - len(greatest)


def _thinned(points: list[Point], most: int) -> list[Point]:
    while len(points) > most:
        points = [*points[:-1:2], points[-1]]
    return points


def _lines(plot: Plot, lines: Mapping[str, list[Point]], left_out: int) -> list[Html]:
    times = [each.time.timestamp() for line in lines.values() for each in line]
    values = [each.value for line in lines.values() for each in line]
    begins, ends = min(times), max(times)
    ends = ends if ends > begins else begins + 86_400
    ticks = steps(max(*values, 0.0), plot.unit)
    most = ticks[-1]

    def across(moment: datetime) -> float:
        return _LEFT + (moment.timestamp() - begins) / (ends - begins) * (WIDTH - _LEFT - _RIGHT)

    def down(value: float) -> float:
        return HEIGHT - _BOTTOM - max(value, 0.0) / most * (HEIGHT - _BOTTOM - _TOP)

    drawn = [_tick_value(value, plot.unit, down(value)) for value in ticks]
    drawn += [_tick_time(moment, across(moment)) for moment in _moments(begins, ends)]
    for number, (name, points) in enumerate(lines.items()):
        for part in _parts(points):
            placed = [(across(each.time), down(each.value)) for each in part]
            drawn.append(_line(placed, number))
        drawn.append(_legend(name, points[-1], plot.unit, number))
    if left_out:
        y = HEIGHT + _LEGEND * len(lines) + 12
        more = f"and {count_text(left_out, 'line')} more, which the table has"
        drawn.append(element("text", more, x=_LEFT, y=y, class_="faint"))
    return drawn


def _parts(points: Sequence[Point]) -> list[list[Point]]:
    """A line cut where nothing was measured."""
    pauses = [(after.time - before.time).total_seconds() for before, after in pairwise(points)]
    limit = GAP * median(pauses) if pauses else 0.0
    parts: list[list[Point]] = [[points[0]]]
    for pause, point in zip(pauses, points[1:], strict=True):
        if pause > limit:
            parts.append([])
        parts[-1].append(point)
    return parts


def _line(placed: Sequence[tuple[float, float]], number: int) -> Html:
    if len(placed) == 1:
        return element("circle", cx=f"{placed[0][0]:.1f}", cy=f"{placed[0][1]:.1f}", r=3, class_=f"f{number}")
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in placed)
    dashes = DASHES[number] or None
    return element("polyline", points=points, fill="none", stroke_width=2, stroke_dasharray=dashes, class_=f"l{number}")


def _legend(name: str, last: Point, unit: Unit, number: int) -> Html:
    y = HEIGHT + _LEGEND * number + 8
    sample = element(
        "line", x1=_LEFT, y1=y, x2=_LEFT + 30, y2=y, stroke_width=2, stroke_dasharray=DASHES[number] or None,
        class_=f"l{number}",
    )  # fmt: skip
    words = element("text", f"{name}: {written(last.value, unit)}", x=_LEFT + 38, y=y + 4)
    return join([sample, words])


def _tick_value(value: float, unit: Unit, y: float) -> Html:
    rule = element("line", x1=_LEFT, y1=f"{y:.1f}", x2=WIDTH - _RIGHT, y2=f"{y:.1f}", class_="axis")
    label = element("text", written(value, unit), x=_LEFT - 6, y=f"{y + 4:.1f}", text_anchor="end", class_="faint")
    return join([rule, label])


def _tick_time(moment: datetime, x: float) -> Html:
    anchor = "start" if x < _LEFT + 30 else "end" if x > WIDTH - _RIGHT - 30 else "middle"
    return element(
        "text", f"{moment:%Y-%m-%d}", x=f"{x:.1f}", y=HEIGHT - _BOTTOM + 18, text_anchor=anchor, class_="faint"
    )


def _moments(begins: float, ends: float) -> list[datetime]:
    """Where the axis of time has a date: both ends, and evenly between them, a day at the least."""
    pieces = min(4, max(1, floor((ends - begins) / 86_400)))
    first = datetime.fromtimestamp(begins, UTC)
    return [first + timedelta(seconds=(ends - begins) * number / pieces) for number in range(pieces + 1)]


def steps(most: float, unit: Unit) -> list[float]:
    """Round values from 0 to at least ``most``, four to six of them."""
    if most <= 0:
        return [0.0, 1.0]
    unit_size = {"seconds": _time_unit(most), "bytes": 1024.0 ** floor(log(max(most, 1.0), 1024))}.get(unit, 1.0)
    scaled = most / unit_size
    size = 10.0 ** floor(log10(scaled / 4))
    step = next(size * times for times in (1, 2, 2.5, 5, 10) if scaled / (size * times) <= 5) * unit_size
    if unit in ("count", "days"):
        step = max(step, 1.0)
    return [step * number for number in range(ceil(round(most / step, 9)) + 1)]


def _time_unit(most: float) -> float:
    return next((float(size) for size in (86_400, 3600, 60) if most >= size), 1.0)


def figure(plot: Plot) -> Html:
    """The picture with its heading, what it was read from, and its points as a table that opens; of what was not
    measured its heading and why."""
    heading = element("h3", plot.title)
    if not plot.measured:
        return element(
            "section", heading, element("p", words(f"Not measured: {plot.why or plot.read_from}"), class_="faint")
        )
    rows = plot.rows()
    points = element("details", element("summary", f"The numbers ({len(rows)})"), table(rows[:MOST_POINTS]))
    told = element("p", words(f"From {plot.read_from}."), class_="faint")
    return element("figure", element("figcaption", heading, told), draw(plot), points)


__all__ = ["Plot", "Point", "Unit", "draw", "figure", "steps", "written"]
