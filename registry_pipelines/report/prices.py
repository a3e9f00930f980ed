"""Prices of clouds: a dated book that is data and may be replaced, never figures in code.

The book that comes with the package is third-party data of March 2026 (``data/prices.json``). A file of one's own has
the same form and replaces it whole; what it does not have is not known, never zero. Each price says how sure it is, of
which region it is, and when it was so: :meth:`PriceBook.doubt` is the one place that judges that.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import date as Day
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Protocol

import msgspec

from registry_pipelines.errors import InputError
from registry_pipelines.oci.decoding import ready

OWN = Path(__file__).parents[1] / "data" / "prices.json"
"""The book that comes with the package."""

MAX_FILE_BYTES = 4 * 1024 * 1024
"""Of a price book."""

GB = 10**9
"""Bytes by which clouds advertise traffic and storage. Google bills by GiB, and its catalogue says so (``GiB``)."""

UNITS = {
    "GB": GB,
    "GB-month": GB,
    "GiB": 1 << 30,
    "GiB-month": 1 << 30,
    "scan": 1,
    "request": 1,
    "hour": 1,
}
"""What a price may be per, and how many bytes (or pieces) that is."""

_WAYS = "internet|regions|same-region|nat|zones|interface-endpoint|s3-gateway|ecr-public/out|ecr/archive-retrieval|out"
_KINDS = (
    ("storage", re.compile(r"(own/.+|(aws|gcp)/[a-z0-9-]+)/(storage|archive)(/.+)?\Z"), ("GB-month", "GiB-month")),
    ("scans", re.compile(r"(aws/inspector|gcp/scan)(/.+)?\Z"), ("scan",)),
    ("requests", re.compile(r"aws/s3/(put|get)(/.+)?\Z"), ("request",)),
    ("what is moved", re.compile(rf"(aws|gcp|other)/({_WAYS})(/.+)?\Z"), ("GB", "GiB")),
)
"""What prices of ids that are known here are of, and the units that such a price may have; the first that fits."""

OLD_AFTER = timedelta(days=180)
"""Age from which a price is old, unless the configuration says another."""

_CURRENCY = re.compile(r"[A-Z]{3}\Z")
_MOST = 1_000_000
"""No price of a GB, a scan or a request is higher."""


class Tier(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the part above an amount costs. above: units of the price in a month."""

    above: float
    usd: float


class Price(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One price. id: ``cloud/what``; of one region ``cloud/what/REGION``, for a pair of regions
    ``aws/regions/FROM/TO``; of a registry of one's own ``own/REGISTRY/storage``. per: one of ``UNITS``. sure: False
    where sources differ, or only recollection has it. free: units a month that cost nothing. tiers: where more of it
    gets cheaper, by amount. region: whose figure it is, where it differs by region. date, source: where they are not
    the book's."""

    id: str
    usd: float
    per: str
    what: str
    sure: bool = True
    free: float = 0.0
    tiers: tuple[Tier, ...] = ()
    region: str = ""
    date: Day | None = None
    source: str = ""

    def units(self, amount: float) -> float:
        """An amount of bytes, or of pieces, in units of the price."""
        return amount / UNITS[self.per]

    def cost(self, amount: float) -> float:
        """What an amount costs: bytes (for ``-month`` kept a month), or pieces. Free units and tiers count."""
        left, total = self.units(amount), 0.0
        for tier in (*reversed(self.tiers), Tier(above=self.free, usd=self.usd)):
            if left > tier.above:
                total += (left - tier.above) * tier.usd
                left = tier.above
        return total


class PriceBook(Protocol):
    """Where prices come from. ``currency`` is the book's; the field is called usd by custom of the trade."""

    currency: str
    date: Day
    source: str

    def price(self, name: str, region: str = "") -> Price:
        """A price by its id, of a region as :meth:`find`. Raises InputError when the book has none."""
        ...

    def find(self, name: str, region: str = "") -> Price | None:
        """A price by its id, of a region where it is told: the region's own where the book has one. None where the book
        has none: say that, and show the amount without a cost."""
        ...

    def between(self, cloud: str, region: str, other: str) -> Price:
        """From one region of a cloud to another: the pair's own price where the book has one, the general one else."""
        ...

    def doubt(self, price: Price, today: Day, *, old_after: timedelta = OLD_AFTER, region: str = "") -> str:
        """Why a figure that rests on a price is not sure: "" or a few words ("of 2026-03-01", "sources differ", "of
        us-east-1"). region: which one it is used for."""
        ...

    def all(self) -> Sequence[Price]:
        """All prices, by id."""
        ...


class Document(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A book's file."""

    currency: str
    date: Day
    source: str
    prices: tuple[Price, ...]


class FilePrices:
    """A price book of a file. path: the package's own unless told. Raises InputError for a file that is none."""

    def __init__(self, path: Path | None = None) -> None:
        self.where = str(path or OWN)
        self.document = document = _read(path or OWN)
        self.currency, self.date, self.source = document.currency, document.date, document.source
        self._prices = {each.id: each for each in document.prices}
        wrong = [each.id for each in document.prices if not _can_be(each)]
        twice = len(document.prices) - len(self._prices)
        if wrong or twice:
            problem = f"prices that cannot be: {', '.join(wrong[:20])}" if wrong else "a price is written twice"
            raise InputError(problem, where=self.where, do=f"Write each once, 0 or more, per {', '.join(UNITS)}")
        if mixed := [each for each in map(_mixed_up, document.prices) if each]:
            raise InputError("; ".join(mixed[:20]), where=self.where, do="Write what it costs by that unit")
        if not _CURRENCY.match(self.currency):
            raise InputError("its prices have no currency", where=self.where, do="Write three letters, as USD")

    def price(self, name: str, region: str = "") -> Price:
        """See PriceBook."""
        found = self.find(name, region)
        if found is None:
            raise InputError(
                f"the price book has no {name}",
                where=self.where,
                do=f"Add it; it has: {', '.join(sorted(self._prices))}",
            )
        return found

    def find(self, name: str, region: str = "") -> Price | None:
        """See PriceBook."""
        own = self._prices.get(f"{name}/{region}") if region else None
        return own or self._prices.get(name)

    def between(self, cloud: str, region: str, other: str) -> Price:
        """See PriceBook."""
        return self._prices.get(f"{cloud}/regions/{region}/{other}") or self.price(f"{cloud}/regions")

    def doubt(self, price: Price, today: Day, *, old_after: timedelta = OLD_AFTER, region: str = "") -> str:
        """See PriceBook."""
        of = price.date or self.date
        reasons = [
            f"of {of.isoformat()}" if today - of > old_after else "",
            "of a day that is still to come" if of > today else "",
            "" if price.sure else "sources differ",
            f"of {price.region}" if region and price.region and region != price.region else "",
        ]
        return ", ".join(each for each in reasons if each)

    def all(self) -> Sequence[Price]:
        """See PriceBook."""
        return [self._prices[name] for name in sorted(self._prices)]


def _can_be(price: Price) -> bool:
    amounts = [price.usd, price.free, *(each.usd for each in price.tiers)]
    steps = [price.free, *(each.above for each in price.tiers)]
    rising = all(low < high for low, high in pairwise(steps))
    return price.per in UNITS and rising and all(0 <= each < _MOST for each in amounts)


def _mixed_up(price: Price) -> str:
    """Why a price has the unit of another kind of thing; empty where not, or where nothing here uses it."""
    for of, fits, units in _KINDS:
        if fits.match(price.id):
            return "" if price.per in units else f"{price.id} is of {of}, per {' or '.join(units)} and not {price.per}"
    return ""


def _read(path: Path) -> Document:
    try:
        with path.open("rb") as file:
            return msgspec.json.decode(file.read(MAX_FILE_BYTES), type=ready(Document))
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror or error}", where=str(path)) from error
    except (msgspec.DecodeError, RecursionError) as error:
        raise InputError(
            f"is no price book: {str(error)[:200]}", where=str(path), do="See registry_pipelines/data/prices.json"
        ) from error
