"""What layers of a package each would change: what a release moves, and what the last releases take in a registry.

A node, a mirror or a replica that has the release before fetches the layers that are new. Both figures are of the same
releases: as they were pushed, and as they would be, or were, in layers by package.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from registry_pipelines.progress import count_text
from registry_pipelines.report.arithmetic import Line, amount_text
from registry_pipelines.report.prices import Price
from registry_pipelines.report.whatif.model import Case, Cell, WhatIf, saving


class Laid(msgspec.Struct, frozen=True, kw_only=True):
    """One release in both forms. now, then: layers with their bytes, by digest or by the key of what is in them."""

    release: str
    now: dict[str, int]
    then: dict[str, int]


def rechunk(
    image: str,
    releases: Sequence[Laid],
    *,
    measured: bool,
    storage: Price | None,
    no_price: str = "",
    per_month: float | None,
    updates: Sequence[Line] | None = None,
    currency: str,
    rate_unknown: str = "",
    notes: Sequence[str] = (),
) -> WhatIf:
    """releases: the newest first. measured: ``then`` is of releases that were rechunked; else it is a plan, whose sizes
    are estimates by the image's own compression. per_month: releases; None where it is not known. updates: prices of a
    byte that a node fetches, as lines of one byte each, times nodes; None where nothing says how many nodes there are.
    rate_unknown: why ``per_month`` is not known."""
    moves = [(_new(releases, at, "now"), _new(releases, at, "then")) for at in range(len(releases) - 1)]
    lacking = () if len(releases) > 1 else ("there are not two releases to compare",)
    unknown = [
        *(() if storage else (no_price or "nobody bills its storage by the GB",)),
        *((rate_unknown or "how often it is released",) if updates is not None and per_month is None else ()),
        *(lacking if updates is not None else ()),
    ]
    now, then = (
        Case(
            name=name,
            lines=(
                *((Line(_held(releases, form), storage),) if storage else ()),
                *_moved(updates, per_month, [pair[at] for pair in moves]),
            ),
            unknown=tuple(dict.fromkeys(unknown)),
            why=f"the last {count_text(len(releases), 'release')} take {amount_text(_held(releases, form))}",
        )
        for at, (name, form) in enumerate((("as it is", "now"), ("in layers by package", "then")))
    )
    means = [round(sum(pair[at] for pair in moves) / len(moves)) if moves else 0 for at in (0, 1)]
    saved = saving(now, then)
    return WhatIf(
        what="rechunk",
        subject=image,
        verdict=_verdict(means, lacking, measured, saved, currency),
        cases=(now, then),
        facts={
            "releases": len(releases),
            "measured": measured,
            **({"moved_bytes_now": means[0], "moved_bytes_then": means[1]} if moves else {}),
            "held_bytes_now": _held(releases, "now"),
            "held_bytes_then": _held(releases, "then"),
            **({} if per_month is None else {"releases_per_month": round(per_month, 2)}),
        },
        tables={"releases": [_row(releases, at, moves) for at in range(len(releases))]},
        notes=(
            *lacking,
            *(
                ()
                if measured
                else ("sizes of layers by package are estimates: unpacked bytes by the image's own ratio",)
            ),
            *(() if updates is not None else ("what nodes fetch is in no cost: nothing says how many update",)),
            *notes,
        ),
    )


def _blobs(release: Laid, form: str) -> dict[str, int]:
    return release.now if form == "now" else release.then


def _new(releases: Sequence[Laid], at: int, form: str) -> int:
    """Bytes of a release that the one before it does not have."""
    older = _blobs(releases[at + 1], form)
    return sum(size for key, size in _blobs(releases[at], form).items() if key not in older)


def _held(releases: Sequence[Laid], form: str) -> int:
    return sum({key: size for each in releases for key, size in _blobs(each, form).items()}.values())


def _moved(updates: Sequence[Line] | None, per_month: float | None, moves: Sequence[int]) -> list[Line]:
    if not updates or per_month is None or not moves:
        return []
    moved = sum(moves) / len(moves) * per_month
    return [Line(each.amount * moved, each.price) for each in updates]


def _row(releases: Sequence[Laid], at: int, moves: Sequence[tuple[int, int]]) -> dict[str, Cell]:
    release = releases[at]
    now, then = moves[at] if at < len(moves) else ("", "")
    return {
        "release": release.release,
        "moved_bytes_now": now,
        "moved_bytes_then": then,
        "layers_now": len(release.now),
        "layers_then": len(release.then),
    }


def _verdict(means: Sequence[int], lacking: Sequence[str], measured: bool, saved: float | None, currency: str) -> str:
    if lacking:
        return f"what a release moves is not known: {lacking[0]}"
    verb = "moves" if measured else "would move about"
    text = f"a release moved {amount_text(means[0])}, and in layers by package {verb} {amount_text(means[1])}"
    if saved is None or abs(saved) < 0.005:
        return text
    return f"{text}: {abs(saved):.2f} {currency} {'less' if saved > 0 else 'more'} a month"


__all__ = ["Laid", "rechunk"]
