"""Google's Cloud Billing Catalog: services and their SKUs. Checked by its discovery document (``described``)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.doubles.google.world import Refusal, World

Json = dict[str, Any]
PAGE = 2
"""Of every list, whatever is asked for, so that pages are followed."""


@dataclass
class Catalog:
    """skus: by a service's id; names: of services by id."""

    names: dict[str, str] = field(default_factory=dict)
    skus: dict[str, list[Json]] = field(default_factory=dict)


def _page(listed: str, found: list[Json], query: Json) -> Json:
    first = int(query.get("pageToken") or 0)
    following = {"nextPageToken": str(first + PAGE)} if first + PAGE < len(found) else {}
    return {listed: found[first : first + PAGE], **following}


def _services(world: World, name: str, body: Json, query: Json) -> Json:
    names = world.state(Catalog).names
    found = [{"name": f"services/{key}", "serviceId": key, "displayName": shown} for key, shown in names.items()]
    return _page("services", found, query)


def _skus(world: World, name: str, body: Json, query: Json) -> Json:
    catalog, service = world.state(Catalog), name.removeprefix("services/")
    if service not in catalog.names:
        raise Refusal("NOT_FOUND", f"{name} is no service")
    if query.get("currencyCode", "USD") != "USD":
        raise Refusal("INVALID_ARGUMENT", "the double knows USD")
    return _page("skus", catalog.skus.get(service, []), query)


def sku(
    description: str,
    unit: str,
    *rates: tuple[float, str, int],
    regions: tuple[str, ...] = ("global",),
    usage: str = "OnDemand",
    service: str = "Artifact Registry",
) -> Json:
    """A SKU. rates: from which amount on, units (as text) and nanos."""
    tiers = [
        {"startUsageAmount": start, "unitPrice": {"currencyCode": "USD", "units": units, "nanos": nanos}}
        for start, units, nanos in rates
    ]
    expression = {
        "usageUnit": unit,
        "displayQuantity": 1,
        "tieredRates": tiers,
        "baseUnit": "By.s",
        "baseUnitDescription": "byte",
        "usageUnitDescription": "gibibyte month",
        "baseUnitConversionFactor": 1,
    }
    return {
        "name": f"services/X/skus/{abs(hash(description)) % 10**9}",
        "skuId": f"{abs(hash(description)) % 10**9}",
        "description": description,
        "category": {
            "serviceDisplayName": service,
            "resourceFamily": "Storage",
            "resourceGroup": "Storage",
            "usageType": usage,
        },
        "serviceRegions": list(regions),
        "pricingInfo": [
            {"summary": "", "effectiveTime": "2026-11-15T00:00:00Z", "currencyConversionRate": 1,
             "pricingExpression": expression}
        ],
        "serviceProviderName": "Google",
    }  # fmt: skip


HANDLERS: dict[str, Callable[[World, str, Json, Json], Json]] = {
    "cloudbilling.services.list": _services,
    "cloudbilling.services.skus.list": _skus,
}

__all__ = ["HANDLERS", "Catalog", "sku"]
