"""AWS's Price List Query API: products with their terms as JSON texts. Source: the API reference ("GetProducts"), the
Billing user guide ("Reading an offer")."""

from __future__ import annotations

import json
from typing import Any

from tests.doubles.aws.front import ApiError, Area, AwsDouble, Call
from tests.doubles.aws.model import Values

PAGE = 2
"""Of every list, whatever is asked for, so that pages are followed."""


class PriceList(Area):
    """products: by service code, each as ``product`` makes it. raw: texts that are told of a service besides."""

    service = "pricing"

    def __init__(self, world: AwsDouble) -> None:
        super().__init__(world)
        self.products: dict[str, list[dict[str, Any]]] = {}
        self.raw: dict[str, list[str]] = {}

    def do_GetProducts(self, call: Call) -> Values:
        service = call.values["ServiceCode"]
        if call.values.get("FormatVersion", "aws_v1") != "aws_v1":
            raise ApiError("InvalidParameterException", "FormatVersion")
        terms = {
            each["Field"]: each["Value"] for each in call.values.get("Filters", ()) if each["Type"] == "TERM_MATCH"
        }
        fitting = [json.dumps(each) for each in self.products.get(service, ()) if _fits(each["product"], terms)]
        fitting += self.raw.get(service, [])
        first = int(call.values.get("NextToken") or 0)
        left = {"NextToken": str(first + PAGE)} if first + PAGE < len(fitting) else {}
        return {"FormatVersion": "aws_v1", "PriceList": fitting[first : first + PAGE], **left}


def _fits(product: dict[str, Any], terms: dict[str, str]) -> bool:
    words = {"productFamily": product["productFamily"], **product["attributes"]}
    return all(words.get(field) == value for field, value in terms.items())


def product(
    service: str,
    usage: str,
    unit: str,
    *tiers: tuple[str, str],
    region: str = "eu-west-1",
    family: str = "",
    about: str = "",
    currency: str = "USD",
    **attributes: str,
) -> dict[str, Any]:
    """A product with its price on demand. tiers: where each begins, and what a unit costs, as AWS writes them."""
    sku = f"SKU{abs(hash((service, usage, tiers))) % 10**9}"
    dimensions = {
        f"{sku}.T.{at}": {
            "unit": unit,
            "beginRange": begin,
            "endRange": tiers[at + 1][0] if at + 1 < len(tiers) else "Inf",
            "description": about,
            "appliesTo": [],
            "rateCode": f"{sku}.T.{at}",
            "pricePerUnit": {currency: usd},
        }
        for at, (begin, usd) in enumerate(tiers)
    }
    term = {"sku": sku, "offerTermCode": "T", "effectiveDate": "2026-11-01T00:00:00Z", "termAttributes": {}}
    return {
        "product": {
            "sku": sku,
            "productFamily": family,
            "attributes": {"servicecode": service, "usagetype": usage, "regionCode": region, **attributes},
        },
        "serviceCode": service,
        "terms": {"OnDemand": {f"{sku}.T": {**term, "priceDimensions": dimensions}}},
        "version": "20261101000000",
        "publicationDate": "2026-11-01T00:00:00Z",
    }


__all__ = ["PriceList", "product"]
