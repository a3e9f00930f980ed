"""Quantities times prices as lines that can be read: what every answer about money is made of.

A sum is told with its terms, so that who reads it can do it again; a price that is not sure has a ``?`` behind its
name.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from registry_pipelines.report.prices import GB, Price

DAYS = 30.4
"""Of a month, on average."""


class Line(msgspec.Struct, frozen=True):
    """One line of the arithmetic. quantity: a month, in what the price is for (``price.per``)."""

    quantity: float
    price: Price

    @property
    def usd(self) -> float:
        """A month."""
        return self.quantity * self.price.usd


def sum_usd(lines: Iterable[Line]) -> float:
    """A month."""
    return sum(each.usd for each in lines)


def all_sure(lines: Iterable[Line]) -> bool:
    """Whether every price in it is sure."""
    return all(each.price.sure for each in lines)


def told(lines: Iterable[Line], *, nothing: str = "nothing is moved") -> str:
    """``3526.4 GB x 0.12 (gcp/internet?) + 3526.4 GB x 0.045 (aws/nat) = 581.86``. nothing: in place of no line."""
    kept = list(lines)
    terms = [
        f"{each.quantity:.1f} {each.price.per} x {each.price.usd:g} ({each.price.id}{'' if each.price.sure else '?'})"
        for each in kept
    ]
    return f"{' + '.join(terms) or nothing} = {sum_usd(kept):.2f}"


__all__ = ["DAYS", "GB", "Line", "all_sure", "sum_usd", "told"]
