"""What moving images from one base to another comes to: bytes that are shared before and after, and what is pushed.

An image that is rebuilt has the new base's layers, which all of them share, and its own anew. Whether its own layers
get the same digests depends on the build: at most all of them are new, at least none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from registry_pipelines.progress import count_text
from registry_pipelines.report.arithmetic import Line, amount_text
from registry_pipelines.report.prices import Price
from registry_pipelines.report.whatif.model import Case, Cell, WhatIf, money, saving

Blobs = Mapping[str, int]
"""Digest to bytes."""


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """One image. name: with its release. repository: where it is, with its registry: a layer is pushed once to each.
    blobs: its layers. on: ``old``, ``new`` or empty for another base."""

    name: str
    repository: str
    blobs: Blobs
    on: str


def move_base(
    old: str,
    new: str,
    standing: Sequence[Standing],
    *,
    old_blobs: Blobs,
    new_blobs: Blobs,
    storage: Price | None,
    no_price: str = "",
    scan: Price | None,
    currency: str,
    notes: Sequence[str] = (),
) -> WhatIf:
    """old, new: names of the bases. standing: images that are looked at. storage: of a GB in a month; None where it is
    not known (``no_price``). scan: of a new image, where it is scanned; None: nobody said that it is."""
    moving = [each for each in standing if each.on == "old"]
    now = _union(each.blobs for each in standing)
    own = {each.name: _without(each.blobs, old_blobs) for each in moving}
    stays = _union(each.blobs for each in standing if each.on != "old")
    built = _union([stays, new_blobs if moving else {}])
    own_bytes = sum(_union(own.values()).values())
    held = {
        "as it is": sum(now.values()),
        "while both are kept": sum(_union([now, built]).values()) + own_bytes,
        "after it": sum(built.values()) + own_bytes,
    }
    why = {
        "as it is": f"{count_text(len(moving), 'image')} on {old}, "
        f"{sum(each.on == 'new' for each in standing)} on {new}",
        "while both are kept": "until retention lets the older releases go; own layers at most all new",
        "after it": f"all of them on {new}",
    }
    unknown = () if storage else (no_price or "nobody bills its storage by the GB",)
    rebuilt = (Line(len(moving), scan),) if scan and moving else ()
    cases = tuple(
        Case(
            name=name,
            lines=(Line(size, storage),) if storage else (),
            once=rebuilt if name == "while both are kept" else (),
            unknown=unknown,
            why=why[name],
        )
        for name, size in held.items()
    )
    pushes = _pushes(moving, own, new_blobs, standing)
    fetched = sum(_without(new_blobs, old_blobs).values()) + own_bytes
    saved = saving(cases[0], cases[2])
    return WhatIf(
        what="base",
        subject=f"{old} -> {new}",
        verdict=_verdict(moving, held, pushes, saved, currency, old),
        cases=cases,
        facts={
            "images": len(standing),
            "moving": len(moving),
            "shared_bytes_before": sum(size for digest, size in old_blobs.items() if digest in now),
            "shared_bytes_after": sum(new_blobs.values()) if moving or stays.keys() & new_blobs.keys() else 0,
            "common_bytes": sum(size for digest, size in new_blobs.items() if digest in old_blobs),
            "held_bytes_before": held["as it is"],
            "held_bytes_meanwhile": held["while both are kept"],
            "held_bytes_after": held["after it"],
            "pushed_bytes_at_most": sum(most for _, most in pushes.values()),
            "pushed_bytes_at_least": sum(least for least, _ in pushes.values()),
            "node_fetches_bytes_at_most": fetched if moving else 0,
        },
        tables={"images": [_row(each, pushes) for each in standing]},
        notes=(
            f"a node that has all of them fetches at most {amount_text(fetched if moving else 0)} once more: what is "
            "new in the base, and their own layers",
            "pushes into a registry are billed by no cloud; they take time",
            *notes,
        ),
    )


def _union(many: Iterable[Blobs]) -> dict[str, int]:
    return {digest: size for each in many for digest, size in each.items()}


def _without(blobs: Blobs, less: Blobs) -> dict[str, int]:
    return {digest: size for digest, size in blobs.items() if digest not in less}


def _pushes(
    moving: Sequence[Standing], own: Mapping[str, Blobs], new_blobs: Blobs, standing: Sequence[Standing]
) -> dict[str, tuple[int, int]]:
    """By image the bytes that its rebuild pushes, at least and at most: the new base's once to each repository that
    lacks them, in the order of the images, and its own layers."""
    there: dict[str, set[str]] = {}
    for each in standing:
        there.setdefault(each.repository, set()).update(each.blobs)
    found: dict[str, tuple[int, int]] = {}
    for each in moving:
        lacking = {digest: size for digest, size in new_blobs.items() if digest not in there[each.repository]}
        there[each.repository].update(lacking)
        base = sum(lacking.values())
        found[each.name] = base, base + sum(own[each.name].values())
    return found


def _row(each: Standing, pushes: Mapping[str, tuple[int, int]]) -> dict[str, Cell]:
    least, most = pushes.get(each.name, (0, 0))
    return {
        "image": each.name,
        "on": each.on or "another",
        "bytes": sum(each.blobs.values()),
        "pushed_bytes_at_least": least,
        "pushed_bytes_at_most": most,
    }


def _verdict(
    moving: Sequence[Standing],
    held: Mapping[str, int],
    pushes: Mapping[str, tuple[int, int]],
    saved: float | None,
    currency: str,
    old: str,
) -> str:
    if not moving:
        return f"no image that is looked at stands on {old}"
    before, after = held["as it is"], held["after it"]
    change = (
        "no byte more or less is held"
        if before == after
        else (f"{amount_text(abs(before - after))} {'less' if after < before else 'more'} are held")
    )
    cost = (
        ""
        if saved is None or before == after
        else (f", {money(abs(saved), currency)} {'less' if saved > 0 else 'more'} a month")
    )
    pushed = amount_text(sum(most for _, most in pushes.values()))
    return f"{count_text(len(moving), 'image')} to rebuild, which push at most {pushed}; then {change}{cost}"


__all__ = ["Blobs", "Standing", "move_base"]
