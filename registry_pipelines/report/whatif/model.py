"""The answer to a what-if: cases side by side, each with its arithmetic, and what is not known of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from registry_pipelines.report.arithmetic import Line, all_sure, sum_usd, told

Cell = str | int | float | bool


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """One way that things are, or could be. lines: what it costs a month. once: what it costs one time, to come there.
    unknown: what is missing of it, a sentence each: its cost is then not known, and never 0. why: what is worth
    knowing of it."""

    name: str
    lines: tuple[Line, ...] = ()
    once: tuple[Line, ...] = ()
    unknown: tuple[str, ...] = ()
    why: str = ""

    @property
    def usd(self) -> float | None:
        """A month; None where something of it is not known."""
        return None if self.unknown else sum_usd(self.lines)

    def row(self) -> dict[str, Cell]:
        """For a table; empty is not known."""
        return {
            "case": self.name,
            "usd_per_month": "" if self.usd is None else round(self.usd, 2),
            "usd_once": "" if self.unknown else round(sum_usd(self.once), 2),
            "why": self.why,
            "arithmetic": self._told(self.lines),
            "arithmetic_once": self._told(self.once) if self.once else "",
            "unknown": "; ".join(self.unknown),
            "sure": not self.unknown and all_sure(self.lines) and all_sure(self.once),
        }

    def _told(self, lines: Sequence[Line]) -> str:
        if self.unknown:
            return f"at least {told(lines)}" if lines else ""
        return told(lines, nothing="nothing")


class Straight(msgspec.Struct, frozen=True):
    """A cost that grows with something: at 0 of it, and for each one."""

    name: str
    at_zero: float
    each: float


class Curve(msgspec.Struct, frozen=True, kw_only=True):
    """The picture of a break-even. x: what is counted. most: how far it goes. mark: the break-even; None for none."""

    x: str
    y: str
    most: float
    series: tuple[Straight, ...]
    mark: float | None = None


class WhatIf(msgspec.Struct, frozen=True, kw_only=True):
    """An answer. what: the question's name. verdict: one sentence, which says what is not known where that is so.
    facts: figures under names that stay. tables: further rows by name. curve: a picture, where one says more."""

    what: str
    subject: str
    verdict: str
    cases: tuple[Case, ...]
    facts: Mapping[str, Cell] = {}
    tables: Mapping[str, Sequence[Mapping[str, Cell]]] = {}
    notes: tuple[str, ...] = ()
    curve: Curve | None = None

    @property
    def lines(self) -> tuple[Line, ...]:
        """Every line of every case."""
        return tuple(line for each in self.cases for line in (*each.lines, *each.once))

    @property
    def unknown(self) -> list[str]:
        """What is not known, each once."""
        return list(dict.fromkeys(reason for each in self.cases for reason in each.unknown))


def saving(now: Case, then: Case) -> float | None:
    """What is saved a month by going from one case to the other; None where either is not known."""
    return None if now.usd is None or then.usd is None else now.usd - then.usd


def money(usd: float | None, currency: str) -> str:
    """``12.50 USD``; ``an unknown sum``."""
    return "an unknown sum" if usd is None else f"{usd:.2f} {currency}"


__all__ = ["Case", "Cell", "Curve", "Straight", "WhatIf", "money", "saving"]
