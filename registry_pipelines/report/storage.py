"""What stored images cost a month, by repository: bytes times the price of the cloud that holds them."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from registry_pipelines.report.arithmetic import GB
from registry_pipelines.report.prices import Price, PriceBook

PRICES = {"ecr": "aws/ecr/storage", "gar": "gcp/gar/storage"}
"""By the kind of a registry, as the configuration says it. Others bill nobody by the GB."""


class Stored(msgspec.Struct, frozen=True, kw_only=True):
    """One repository of a cloud. price: for a GB in a month."""

    registry: str
    repository: str
    size_bytes: int
    price: Price

    @property
    def usd(self) -> float:
        """A month."""
        return self.size_bytes / GB * self.price.usd


def stored(sizes: Mapping[tuple[str, str], int], kinds: Mapping[str, str], book: PriceBook) -> list[Stored]:
    """What is billed by the GB, the dearest first. sizes: bytes by registry and repository; kinds: of the registries.
    Raises InputError for a price that the book lacks."""
    found = [
        Stored(
            registry=registry, repository=repository, size_bytes=size, price=book.price(PRICES[kinds.get(registry, "")])
        )
        for (registry, repository), size in sizes.items()
        if kinds.get(registry, "") in PRICES
    ]
    return sorted(found, key=lambda each: (-each.usd, each.registry, each.repository))
