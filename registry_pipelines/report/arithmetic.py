"""Quantities times prices as lines that can be read: what every answer about money is made of.

A sum is told with its terms, so that who reads it can do it again; a price that is not sure has a ``?`` behind its
name.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, timedelta

import msgspec

from registry_pipelines.report.prices import GB, UNITS, Price, PriceBook

DAYS = 30.4
"""Of a month, on average."""


class Line(msgspec.Struct, frozen=True):
    """One line of the arithmetic. amount: bytes a month (of ``-month`` prices bytes that are kept), or pieces. region:
    the one that it is in, where the price differs by region."""

    amount: float
    price: Price
    region: str = ""

    @property
    def sure(self) -> bool:
        """Whether the price is, for this region."""
        return self.price.sure and not (self.region and self.price.region and self.region != self.price.region)

    @property
    def quantity(self) -> float:
        """In what the price is for (``price.per``)."""
        return self.price.units(self.amount)

    @property
    def usd(self) -> float:
        """A month; free parts and tiers count."""
        return self.price.cost(self.amount)

    def term(self) -> str:
        """``3526.4 GB x 0.12 (gcp/internet?)``."""
        price = self.price
        each = " ".join(
            [
                f"{price.usd:g}",
                *([f"above {price.free:g} free"] if price.free else ()),
                *(f"and {tier.usd:g} above {tier.above:g}" for tier in price.tiers),
            ]
        )
        return f"{_number(self.quantity)} {price.per} x {each} ({price.id}{'' if self.sure else '?'})"


def sum_usd(lines: Iterable[Line]) -> float:
    """A month."""
    return sum(each.usd for each in lines)


def all_sure(lines: Iterable[Line]) -> bool:
    """Whether every price in it is sure."""
    return all(each.sure for each in lines)


def told(lines: Iterable[Line], *, nothing: str = "nothing is moved") -> str:
    """``3526.4 GB x 0.12 (gcp/internet?) + 3526.4 GB x 0.045 (aws/nat) = 581.86``. nothing: in place of no line."""
    kept = list(lines)
    return f"{' + '.join(each.term() for each in kept) or nothing} = {_money(sum_usd(kept))}"


def doubts(lines: Iterable[Line], book: PriceBook, today: date, *, old_after: timedelta, region: str = "") -> list[str]:
    """A sentence for each price that is not sure, or old. region: which one they are used for."""
    found = {
        each.price.id: book.doubt(each.price, today, old_after=old_after, region=each.region or region)
        for each in sorted(lines, key=lambda line: line.sure, reverse=True)
    }
    return [f"the price {name} is not sure: {why}" for name, why in found.items() if why]


def together(lines: Iterable[Line]) -> tuple[Line, ...]:
    """Lines of one price as one: tiers are of a month's whole amount."""
    sums: dict[str, Line] = {}
    for each in lines:
        before = sums.get(each.price.id)
        region = before.region if before and not before.sure else each.region
        sums[each.price.id] = Line((before.amount if before else 0.0) + each.amount, each.price, region)
    return tuple(sums.values())


def amount_text(amount: float) -> str:
    """``5.0 GB``: bytes in units of a thousand, in which clouds bill."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if abs(amount) < _THOUSAND or unit == "TB":
            break
        amount /= _THOUSAND
    return f"{amount:.0f} B" if unit == "B" else f"{amount:,.1f} {unit}"


_THOUSAND = 1000


def _number(value: float) -> str:
    """One digit; more of what would be 0 so."""
    return f"{value:.1f}" if value >= 0.05 or not value else f"{value:.3g}"


def _money(usd: float) -> str:
    return f"{usd:.2f}" if usd >= 0.005 or not usd else f"{usd:.2g}"


__all__ = ["DAYS", "GB", "UNITS", "Line", "all_sure", "amount_text", "doubts", "sum_usd", "together", "told"]
