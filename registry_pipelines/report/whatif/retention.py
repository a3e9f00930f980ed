"""What a retention rule would free, and what that saves a month: the plan's own bytes times the price of storage."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from registry_pipelines.progress import count_text
from registry_pipelines.report.arithmetic import Line, amount_text, sum_usd
from registry_pipelines.report.prices import Price
from registry_pipelines.report.whatif.model import Case, Cell, WhatIf, money, saving


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes before a plan, and those it frees. of: ``registry``, ``team``, ``repository`` or ``rule``; name: which.
    images, going: entries. Of a rule ``before`` is not told (0)."""

    of: str
    name: str
    images: int
    going: int
    before: int
    freed: int


def retention(
    registry: str,
    parts: Sequence[Part],
    *,
    storage: Price | None,
    no_price: str = "",
    quarantine_days: int,
    currency: str,
    refused: Sequence[str] = (),
    notes: Sequence[str] = (),
) -> WhatIf:
    """parts: the plan's sums, one of them of the registry. storage: of a GB in a month; None where nobody knows it
    (``no_price``). quarantine_days: for which what goes still takes its bytes. refused: what the plan leaves alone
    because something about it is unclear."""
    whole = next(each for each in parts if each.of == "registry")
    unknown = () if storage else (no_price or "nobody bills its storage by the GB",)
    now, after, aside = (
        Case(name=name, lines=(Line(size, storage),) if storage else (), unknown=unknown, why=why)
        for name, size, why in (
            ("as it is", whole.before, count_text(whole.images, "image")),
            (
                "after it",
                whole.before - whole.freed,
                f"{whole.going} of them gone, with what nothing else needs",
            ),
            (
                "set aside",
                whole.before,
                f"for {count_text(quarantine_days, 'day')} after it nothing is freed (`collect.quarantine`)",
            ),
        )
    )
    saved = saving(now, after)
    verdict = (
        f"{count_text(whole.going, 'image')} would go, which frees {amount_text(whole.freed)} of "
        f"{amount_text(whole.before)}: {money(saved, currency)} less a month"
    )
    return WhatIf(
        what="retention",
        subject=registry,
        verdict=verdict if whole.going else "nothing would go",
        cases=(now, *((aside,) if quarantine_days and whole.going else ()), after),
        facts={
            "images": whole.images,
            "going": whole.going,
            "held_bytes": whole.before,
            "freed_bytes": whole.freed,
            **({} if saved is None else {"saved_usd_per_month": round(saved, 2)}),
            "refused": len(refused),
        },
        tables={
            of: [_row(each, storage) for each in parts if each.of == of]
            for of in ("rule", "team", "repository")
            if any(each.of == of for each in parts)
        },
        notes=(*refused, *notes),
    )


def _row(part: Part, storage: Price | None) -> dict[str, Cell]:
    freed = sum_usd([Line(part.freed, storage)]) if storage else None
    return {
        part.of: part.name,
        "images": part.images,
        "going": part.going,
        "freed_bytes": part.freed,
        "saved_usd_per_month": "" if freed is None else round(freed, 2),
    }


__all__ = ["Part", "retention"]
