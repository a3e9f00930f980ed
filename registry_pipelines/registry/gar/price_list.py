"""Google's Cloud Billing Catalog (cloudbilling.googleapis.com, v1): services, and their SKUs with tiered rates.

Source of the form: its discovery document (ListSkusResponse, Sku, PricingInfo, PricingExpression, TierRate, Money). A
price is ``units`` (a whole number, written as text) and ``nanos`` (10^-9 of it).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import msgspec

from registry_pipelines.oci.decoding import ready
from registry_pipelines.registry.price_lists import Listed, checked_tiers

SERVICE = "cloudbilling.googleapis.com"
NANO = 1e-9
MAX_SKUS = 20_000
_ID = re.compile(r"services/[0-9A-Fa-f-]{4,40}\Z")


class Pages(Protocol):
    """Lists of a REST API, all pages."""

    def pages(self, path: str, listed: str, **query: str) -> Iterator[dict[str, Any]]:
        """All entries of a list. Raises the RegistryError family."""
        ...


class _Money(msgspec.Struct, frozen=True, rename="camel"):
    currency_code: str = ""
    units: str = "0"
    nanos: int = 0


class _Rate(msgspec.Struct, frozen=True, rename="camel"):
    start_usage_amount: float = 0.0
    unit_price: _Money = _Money()


class _Expression(msgspec.Struct, frozen=True, rename="camel"):
    usage_unit: str = ""
    tiered_rates: tuple[_Rate, ...] = ()


class _Pricing(msgspec.Struct, frozen=True, rename="camel"):
    effective_time: str = ""
    pricing_expression: _Expression = _Expression()


class _Category(msgspec.Struct, frozen=True, rename="camel"):
    service_display_name: str = ""
    resource_group: str = ""
    usage_type: str = ""


class _Sku(msgspec.Struct, frozen=True, rename="camel"):
    sku_id: str = ""
    description: str = ""
    category: _Category = _Category()
    service_regions: tuple[str, ...] = ()
    pricing_info: tuple[_Pricing, ...] = ()


def google_services(rest: Pages, names: Mapping[str, re.Pattern[str]]) -> dict[str, list[str]]:
    """Resource names of services whose display name fits, by the names of the patterns. Raises the RegistryError
    family."""
    found: dict[str, list[str]] = {name: [] for name in names}
    for service in rest.pages("/v1/services", "services"):
        shown, resource = service.get("displayName"), service.get("name")
        if isinstance(shown, str) and isinstance(resource, str) and _ID.match(resource):
            for name, pattern in names.items():
                if pattern.search(shown):
                    found[name].append(resource)
    return found


def google_list(rest: Pages, service: str, currency: str) -> Iterator[Listed]:
    """On-demand prices of a service (``services/ID``). A SKU that is not understood is left out. Raises the
    RegistryError family."""
    for count, raw in enumerate(rest.pages(f"/v1/{service}/skus", "skus", currencyCode=currency)):
        if count >= MAX_SKUS:
            return
        if (found := _listed(raw, currency)) is not None:
            yield found


def _listed(raw: Any, currency: str) -> Listed | None:
    try:
        sku = msgspec.convert(raw, ready(_Sku))
        pricing = max(sku.pricing_info, key=lambda each: each.effective_time)
        rates = pricing.pricing_expression.tiered_rates
        if any(each.unit_price.currency_code != currency for each in rates):
            return None
        tiers = checked_tiers([(each.start_usage_amount, _amount(each.unit_price)) for each in rates])
    except (msgspec.ValidationError, ValueError, RecursionError):
        return None
    if not tiers or sku.category.usage_type != "OnDemand":
        return None
    return Listed(
        sku=sku.sku_id,
        service=sku.category.service_display_name,
        kind=sku.category.resource_group,
        text=sku.description[:2000],
        unit=pricing.pricing_expression.usage_unit,
        regions=tuple(each for each in sku.service_regions if each != "global"),
        currency=currency,
        tiers=tiers,
        since=pricing.effective_time[:10],
    )


def _amount(money: _Money) -> float:
    return int(money.units[:20]) + money.nanos * NANO


__all__ = ["SERVICE", "google_list", "google_services"]
