"""The price book of a configuration."""

from __future__ import annotations

from pathlib import Path

from registry_pipelines.config import Config
from registry_pipelines.report.prices import FilePrices


def price_book(config: Config | None, prices: Path | None = None) -> FilePrices:
    """The prices that count: of a file that is given, else of ``report.prices``, else the package's. Raises
    InputError."""
    return FilePrices(prices or (config.report.prices if config else None))


__all__ = ["price_book"]
