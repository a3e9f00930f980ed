"""What ECR's archive class would save: nothing below the amount from which on it is cheaper than the standard class.

Source: the price book, and the ECR user guide, "Archive": an archived image cannot be pulled until it is restored
(within 20 minutes, and paid by the GB), and is billed for 90 days at least.
"""

from __future__ import annotations

import msgspec

from registry_pipelines.progress import count_text
from registry_pipelines.report.arithmetic import DAYS, Line, amount_text
from registry_pipelines.report.prices import Price
from registry_pipelines.report.whatif.model import Case, Curve, Straight, WhatIf, money, saving

LEAST_DAYS = 90
"""For which an archived image is billed, however soon it is deleted or brought back."""


class Archivable(msgspec.Struct, frozen=True, kw_only=True):
    """What could be archived. images: how many. size: bytes that no image needs which stays in the standard class.
    archived: bytes that are archived already. retrieved: a month, brought back; None where that is not known."""

    images: int
    size: float
    archived: float = 0.0
    retrieved: float | None = None


def archive(
    registry: str,
    found: Archivable,
    *,
    standard: Price,
    archived: Price,
    retrieval: Price,
    currency: str,
    unknown: tuple[str, ...] = (),
    notes: tuple[str, ...] = (),
) -> WhatIf:
    """unknown: what is missing of the sizes, which are then at most these, and the cases' costs unknown. Retrievals
    that are not known are not guessed: the case without any is told as such, with what one GB would cost."""
    together = found.archived + found.size
    before = archived.cost(found.archived)
    now = Case(
        name="as it is",
        lines=(Line(found.size, standard), *((Line(found.archived, archived),) if found.archived else ())),
        unknown=unknown,
        why=count_text(found.images, "image") + " in the standard class",
    )
    back = found.retrieved or 0.0
    then = Case(
        name="archived",
        lines=(Line(together, archived), *((Line(back, retrieval),) if back else ())),
        unknown=unknown,
        why="cannot be pulled until it is restored"
        + ("" if found.retrieved is not None else "; nothing brought back, which is not known"),
    )
    least = (archived.cost(together) - before) * LEAST_DAYS / DAYS
    saved, cheaper = saving(now, then), cheaper_above(standard, archived)
    return WhatIf(
        what="archive",
        subject=registry,
        verdict=_verdict(found, saved, cheaper, together, currency),
        cases=(now, then),
        facts={
            "images": found.images,
            "archivable_bytes": round(found.size),
            "archived_bytes": round(found.archived),
            **({} if cheaper is None else {"saves_above_bytes": round(cheaper)}),
            **({} if saved is None else {"saved_usd_per_month": round(saved, 2)}),
            **({} if unknown else {"committed_usd": round(least, 2)}),
            "least_days": LEAST_DAYS,
        },
        notes=(
            f"an archived image is billed for {LEAST_DAYS} days at least: {least:.2f} {currency} for these, even if "
            "they are deleted the day after",
            f"each GB that is brought back costs {retrieval.usd:g} {currency}"
            + _months(standard, archived, retrieval, together, saved),
            *notes,
        ),
        curve=_curve(standard, archived, cheaper, found, currency),
    )


def cheaper_above(standard: Price, archived: Price) -> float | None:
    """Bytes above which an archived GB costs less than a standard one; None where no amount is enough."""
    if archived.usd < standard.usd:
        return 0.0
    first = next((tier.above for tier in archived.tiers if tier.usd < standard.usd), None)
    return None if first is None else first / archived.units(1)


def _verdict(found: Archivable, saved: float | None, cheaper: float | None, together: float, currency: str) -> str:
    if not found.images:
        return "there is nothing to archive"
    if saved is None and (cheaper is None or together > cheaper):
        return "what it saves is not known"
    if saved is not None and saved > 0:
        return f"{amount_text(found.size)} archived cost {money(saved, currency)} less a month"
    if cheaper is None:
        return "it saves nothing: an archived GB costs no less at any amount"
    if saved is None or together <= cheaper:
        return (
            f"it saves nothing: an archived GB costs less only above {amount_text(cheaper)}, and with these "
            f"{amount_text(together)} would be archived"
        )
    return f"it saves nothing: what is brought back costs {money(-saved, currency)} more a month"


def _months(standard: Price, archived: Price, retrieval: Price, together: float, saved: float | None) -> str:
    """How long a GB has to stay before what it saved pays for bringing it back."""
    last = next((tier.usd for tier in reversed(archived.tiers) if archived.units(together) > tier.above), archived.usd)
    if saved is None or last >= standard.usd:
        return ""
    return f", which a GB saves in {retrieval.usd / (standard.usd - last):.1f} months"


def _curve(standard: Price, archived: Price, cheaper: float | None, found: Archivable, currency: str) -> Curve | None:
    """By GB that are archived; the bend is where it gets cheaper."""
    if cheaper is None:
        return None
    bend = standard.units(cheaper)
    tier = next((each for each in archived.tiers if each.usd < standard.usd), None)
    last = tier.usd if tier else archived.usd
    return Curve(
        x=f"{standard.per.removesuffix('-month')} archived",
        y=f"{currency} a month",
        most=2 * max(bend, standard.units(found.size + found.archived)) or 1000.0,
        series=(
            Straight("standard", 0.0, standard.usd),
            Straight("archived, above the amount", bend * (standard.usd - last), last),
        ),
        mark=bend or None,
    )


__all__ = ["LEAST_DAYS", "Archivable", "archive", "cheaper_above"]
