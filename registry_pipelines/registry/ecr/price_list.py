"""AWS's Price List Query API (GetProducts of ``pricing``): list prices on demand, as JSON texts of ``aws_v1``.

It answers in a few regions alone, for all regions; it needs ``pricing:GetProducts``. Source of the form: AWS Billing
user guide, "Reading an offer": product.attributes, terms.OnDemand.*.priceDimensions.*.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from registry_pipelines.oci.decoding import ready
from registry_pipelines.registry.ecr.calls import AwsCalls
from registry_pipelines.registry.price_lists import Listed, checked_tiers

REGION = "us-east-1"
"""Where the API is asked."""
MAX_PRODUCT_CHARACTERS = 1 << 20
MAX_PRODUCTS = 20_000
"""Of one question; the whole list of ECR has a few hundred."""
_PREFIX = re.compile(r"\A[A-Z]{2,4}\d?[A-Z]?\d?-(?=[A-Z])")
"""``EUW1-TimedStorage-ByteHrs``; us-east-1 has none in older services."""


class _Dimension(msgspec.Struct, frozen=True, rename="camel"):
    unit: str = ""
    description: str = ""
    begin_range: str = "0"
    price_per_unit: Mapping[str, str] = {}


class _Term(msgspec.Struct, frozen=True, rename="camel"):
    effective_date: str = ""
    price_dimensions: Mapping[str, _Dimension] = {}


class _Product(msgspec.Struct, frozen=True, rename="camel"):
    sku: str = ""
    product_family: str = ""
    attributes: Mapping[str, str] = {}


class _Terms(msgspec.Struct, frozen=True):
    on_demand: Mapping[str, _Term] = msgspec.field(name="OnDemand", default_factory=dict)


class _Offer(msgspec.Struct, frozen=True, rename="camel"):
    product: _Product
    service_code: str = ""
    terms: _Terms = _Terms()


def aws_list(calls: AwsCalls, service: str, currency: str, **terms: str) -> Iterator[Listed]:
    """Prices of a service on demand, in one currency. terms: fields that must be so, as ``regionCode="eu-west-1"``. A
    product that is not understood is left out. Raises the RegistryError family, InputError, ToolMissing."""
    filters = [{"Type": "TERM_MATCH", "Field": field, "Value": value} for field, value in terms.items()]
    texts = calls.pages(
        "get_products",
        "PriceList",
        where=f"the price list of {service}",
        service="pricing",
        region=REGION,
        ServiceCode=service,
        Filters=filters,
        FormatVersion="aws_v1",
    )
    for count, text in enumerate(texts):
        if count >= MAX_PRODUCTS:
            return
        if (found := _listed(text, service, currency)) is not None:
            yield found


def _listed(text: Any, service: str, currency: str) -> Listed | None:
    if not isinstance(text, str) or len(text) > MAX_PRODUCT_CHARACTERS:
        return None
    try:
        offer = msgspec.json.decode(text, type=ready(_Offer))
        ((_, term),) = offer.terms.on_demand.items()
        dimensions = list(term.price_dimensions.values())
        (unit,) = {each.unit for each in dimensions}
        tiers = checked_tiers([(float(each.begin_range), float(each.price_per_unit[currency])) for each in dimensions])
    except (msgspec.MsgspecError, ValueError, KeyError, RecursionError):
        return None
    attributes = offer.product.attributes
    region = attributes.get("regionCode") or attributes.get("fromRegionCode") or ""
    words = [offer.product.product_family, *attributes.values(), *(each.description for each in dimensions)]
    if not tiers:
        return None
    return Listed(
        sku=offer.product.sku,
        service=offer.service_code or service,
        kind=_PREFIX.sub("", attributes.get("usagetype", "")),
        text=" ".join(words)[:2000],
        unit=unit,
        regions=(region,) if region else (),
        currency=currency,
        tiers=tiers,
        since=term.effective_date[:10],
        to=attributes.get("toRegionCode", ""),
    )


__all__ = ["aws_list"]
