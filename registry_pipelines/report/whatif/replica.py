"""From how many pulls on a replica in the nodes' region is worth it.

A replica costs its storage, whether anybody pulls or not, and each release crosses to it once. What it saves is the
crossing of each pull. So the break-even in pulls a month is

    (bytes kept there x storage + bytes released a month x crossing) / (bytes of a pull x (crossing - way within))

The textbook's "above 2,500 pulls of 5 GB a month at 0.02 a GB" is this with 500 images of 5 GB without shared layers:
2,500 GB at 0.10 are 250 a month, and a pull saves 5 GB x 0.02 = 0.10. It leaves the replication's own bytes out: each
release a month of the same size adds one pull to it, and layers that images share take as much away as they save.
"""

from __future__ import annotations

import msgspec

from registry_pipelines.report.arithmetic import Line, amount_text
from registry_pipelines.report.prices import Price
from registry_pipelines.report.whatif.model import Case, Curve, Straight, WhatIf, money, saving


class Way(msgspec.Struct, frozen=True):
    """The prices of a pulled byte, one for each border that it crosses."""

    prices: tuple[Price, ...]

    def lines(self, amount: float) -> tuple[Line, ...]:
        """What so many bytes cost on it."""
        return tuple(Line(amount, price) for price in self.prices)

    def each(self, amount: float) -> float:
        """The same of a pull among many: what the last GB costs, without free parts and tiers."""
        return sum(price.units(amount) * price.usd for price in self.prices)


def replica(
    registry: str,
    region: str,
    *,
    straight: Way,
    within: Way,
    crossing: Price,
    storage: Price,
    pull_bytes: float | None,
    held_bytes: float | None,
    moved_bytes: float | None,
    pulls: float | None,
    currency: str,
    why: dict[str, str] | None = None,
    notes: tuple[str, ...] = (),
) -> WhatIf:
    """straight, within: the ways of a pull without and with the replica. crossing: of a released byte to it.
    pull_bytes: of one pull by a node that has nothing yet; held_bytes: what the replica keeps, each blob once;
    moved_bytes: what releases bring there in a month; pulls: a month, by nodes of the region. None: not known, and
    ``why`` says so by the same names."""
    reasons = why or {}
    lacking = [
        reasons.get(name) or f"{text} is not known"
        for name, text, value in (
            ("held_bytes", "what it would keep", held_bytes),
            ("moved_bytes", "what releases bring there", moved_bytes),
            ("pull_bytes", "how large a pull is", pull_bytes),
        )
        if value is None
    ]
    unpulled = [] if pulls is not None else [reasons.get("pulls") or "how often nodes there pull is not known"]
    fixed = (
        *((Line(moved_bytes, crossing),) if moved_bytes is not None else ()),
        *((Line(held_bytes, storage),) if held_bytes is not None else ()),
    )
    pulled = None if pulls is None or pull_bytes is None else pulls * pull_bytes
    without = Case(
        name="without it",
        lines=straight.lines(pulled) if pulled is not None else (),
        unknown=(*unpulled, *(each for each in lacking if pull_bytes is None and "pull" in each)),
        why="each pull crosses",
    )
    with_it = Case(
        name=f"with a replica in {region}",
        lines=(*fixed, *(within.lines(pulled) if pulled is not None else ())),
        unknown=(*lacking, *unpulled),
        why="each release crosses once, and all of it is kept twice",
    )
    standing = None if held_bytes is None or moved_bytes is None else sum(each.usd for each in fixed)
    gain = None if pull_bytes is None else straight.each(pull_bytes) - within.each(pull_bytes)
    even = break_even(standing, gain)
    return WhatIf(
        what="replica",
        subject=f"{registry} in {region}",
        verdict=_verdict(even, gain, pulls, lacking, saving(without, with_it), currency, pull_bytes),
        cases=(without, with_it),
        facts={
            **_known("break_even_pulls_per_month", even, 1),
            **_known("pulls_per_month", pulls, 1),
            **_known("standing_usd_per_month", standing, 4),
            **_known("saved_usd_per_pull", gain, 6),
            **_known("pull_bytes", pull_bytes, 0),
            **_known("held_bytes", held_bytes, 0),
            **_known("moved_bytes_per_month", moved_bytes, 0),
        },
        notes=notes,
        curve=_curve(even, standing, gain, pulls, straight, within, pull_bytes, currency, region),
    )


def break_even(standing: float | None, gain: float | None) -> float | None:
    """Pulls a month from which on it is worth it. standing: what it costs a month whoever pulls; gain: what a pull
    saves. None where either is not known, or where a pull saves nothing: then it never is."""
    return None if standing is None or gain is None or gain <= 0 else standing / gain


def _known(name: str, value: float | None, digits: int) -> dict[str, float | int]:
    """A fact, where it is known."""
    return {} if value is None else {name: round(value, digits) if digits else round(value)}


def _verdict(
    even: float | None,
    gain: float | None,
    pulls: float | None,
    lacking: list[str],
    saved: float | None,
    currency: str,
    pull_bytes: float | None,
) -> str:
    if gain is not None and gain <= 0:
        return "it is never worth it: a pull costs no less with it"
    if even is None or pull_bytes is None:
        return f"the break-even is not known: {lacking[0] if lacking else 'too little is'}"
    text = f"it is worth it above {even:,.0f} pulls of {amount_text(pull_bytes)} a month"
    if pulls is None:
        return f"{text}; how many there are is not known"
    if saved is not None and saved > 0:
        return f"{text}, and there are {pulls:,.0f}: {money(saved, currency)} less a month"
    more = "" if saved is None else f": {money(-saved, currency)} more a month"
    return f"{text}, and there are only {pulls:,.0f}{more}"


def _curve(
    even: float | None,
    standing: float | None,
    gain: float | None,
    pulls: float | None,
    straight: Way,
    within: Way,
    pull_bytes: float | None,
    currency: str,
    region: str,
) -> Curve | None:
    if standing is None or gain is None or pull_bytes is None:
        return None
    most = 2 * max(even or 0.0, (pulls or 0.0) / 1.8) or 1000.0
    return Curve(
        x="pulls a month",
        y=f"{currency} a month",
        most=most,
        series=(
            Straight("without it", 0.0, straight.each(pull_bytes)),
            Straight(f"with a replica in {region}", standing, within.each(pull_bytes)),
        ),
        mark=even,
    )


__all__ = ["Way", "break_even", "replica"]
