"""Prices of clouds: a dated book that is data and may be replaced, never figures in code.

The book that comes with the package is third-party data of March 2026 (``data/prices.json``). A file of one's own has
the same form; what it does not have is an error that names the price, never zero.
"""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Protocol

import msgspec

from registry_pipelines.errors import InputError
from registry_pipelines.oci.decoding import ready

_OWN = Path(__file__).parents[1] / "data" / "prices.json"

MAX_FILE_BYTES = 4 * 1024 * 1024
"""Of a price book."""


class Price(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One price. id: ``cloud/what``, for a pair of regions ``aws/regions/FROM/TO``. per: ``GB`` (10^9 bytes) or
    ``GB-month``. sure: False where sources differ, or only recollection has it."""

    id: str
    usd: float
    per: str
    what: str
    sure: bool = True


class PriceBook(Protocol):
    """Where prices come from. ``currency`` is the book's; the field is called usd by custom of the trade."""

    currency: str
    date: date
    source: str

    def price(self, name: str) -> Price:
        """A price by its id. Raises InputError when the book has none."""
        ...

    def between(self, cloud: str, region: str, other: str) -> Price:
        """From one region of a cloud to another: the pair's own price where the book has one, the general one else."""
        ...


class _Document(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    currency: str
    date: date
    source: str
    prices: tuple[Price, ...]


class FilePrices:
    """A price book of a file. path: the package's own unless told. Raises InputError for a file that is none."""

    def __init__(self, path: Path | None = None) -> None:
        self._where = str(path or _OWN)
        document = _read(path or _OWN)
        self.currency, self.date, self.source = document.currency, document.date, document.source
        self._prices = {each.id: each for each in document.prices}
        wrong = [
            each.id for each in document.prices if not 0 <= each.usd < 10_000 or each.per not in ("GB", "GB-month")
        ]
        twice = len(document.prices) - len(self._prices)
        if wrong or twice:
            problem = f"prices that cannot be: {', '.join(wrong)}" if wrong else "a price is written twice"
            raise InputError(problem, where=self._where, do="Write each once, 0 or more, per GB or GB-month")

    def price(self, name: str) -> Price:
        """See PriceBook."""
        found = self._prices.get(name)
        if found is None:
            raise InputError(
                f"the price book has no {name}",
                where=self._where,
                do=f"Add it; it has: {', '.join(sorted(self._prices))}",
            )
        return found

    def between(self, cloud: str, region: str, other: str) -> Price:
        """See PriceBook."""
        return self._prices.get(f"{cloud}/regions/{region}/{other}") or self.price(f"{cloud}/regions")


def _read(path: Path) -> _Document:
    try:
        with path.open("rb") as file:
            return msgspec.json.decode(file.read(MAX_FILE_BYTES), type=ready(_Document))
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror or error}", where=str(path)) from error
    except (msgspec.DecodeError, RecursionError) as error:
        raise InputError(
            f"is no price book: {str(error)[:200]}", where=str(path), do="See registry_pipelines/data/prices.json"
        ) from error
