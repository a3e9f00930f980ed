"""The price book made anew from the price lists of the clouds whose registries the configuration has."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path

import msgspec

from registry_pipelines.chain.prices import price_book, show_prices
from registry_pipelines.chain.result import Scalar, StageResult
from registry_pipelines.chain.session import Session
from registry_pipelines.config.clouds import EcrRegistry, GarRegistry
from registry_pipelines.errors import InputError, RegistryError, ToolMissing, Unavailable
from registry_pipelines.oci.files import local_errors, write_file
from registry_pipelines.progress import count_text
from registry_pipelines.registry.ecr.price_list import aws_list
from registry_pipelines.registry.gar.price_list import SERVICE, google_list, google_services
from registry_pipelines.report import refresh as book_of
from registry_pipelines.report.prices import OWN, Price

AWS_FIELDS = {"AmazonEC2": {"productFamily": "NAT Gateway"}}
"""What else a product must be: EC2 has tens of thousands in a region."""


def refresh(session: Session, *, to: Path | None = None, prices: Path | None = None) -> StageResult:
    """Ask, and write a whole book to ``to``, else to ``report.prices``; from ``--prices``, else that book where it is
    there, else the package's. ``rows``: what was read, with what the book had; ``reasons``: who did not answer. Nothing
    is written when nobody did. Raises InputError, LocalError, DiskFull."""
    target = to or session.config.report.prices
    if target is None:
        raise InputError("no book of your own to write", do="Name one: --to FILE, or `report.prices`")
    if target.resolve() == OWN.resolve():
        raise InputError("the package's own book stays as it is", where=str(target), do="Name a file of your own")
    start = price_book(session.config, prices or (target if target.is_file() else None)).document
    today = session.now().date()
    asked = list(_ask(session, start.currency, today))
    if not asked:
        raise InputError("no registry of kind `ecr` or `gar` is configured, so that no cloud is asked")
    found = {each.id: each for one in asked for each in one.prices}
    reasons = [f"{one.who}: {one.problem}" for one in asked if one.problem]
    if not found:
        raise Unavailable("no price list gave a price; the book stays as it was", do="; ".join(reasons) or _left(asked))
    who = " and ".join(dict.fromkeys(one.name for one in asked if one.prices))
    document, changes = book_of.refreshed(start, found.values(), today, f"{who}; the rest as each price says")
    with local_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        write_file(target, msgspec.json.format(msgspec.json.encode(document), indent=1) + b"\n")
    shown = show_prices(session, target)
    rows: list[dict[str, Scalar]] = [
        {
            "price": each.price.id,
            "amount": each.price.usd,
            "before": each.before.usd if each.before else "",
            "per": each.price.per,
            "region": each.price.region,
            "source": each.price.source,
        }
        for each in changes
    ]
    return replace(
        shown,
        action=f"{count_text(len(changes), 'price')} read, {shown.action}",
        changed=True,
        rows=rows,
        reasons=[*reasons, *shown.reasons],
        notes=[*(f"not refreshed: {each}" for one in asked for each in one.missing), *shown.notes],
        ok=not reasons,
        exit_code=Unavailable.exit_code if reasons else 0,
    )


class _Asked(msgspec.Struct, frozen=True):
    """What one cloud said. name: of its list. who: of which region. missing: prices that are not in it."""

    name: str
    who: str
    prices: list[Price] = []
    missing: list[str] = []
    problem: str = ""


def _left(asked: list[_Asked]) -> str:
    return "; ".join(each for one in asked for each in one.missing)[:500]


def _ask(session: Session, currency: str, today: date) -> Iterator[_Asked]:
    regions: dict[str, EcrRegistry] = {}
    google: GarRegistry | None = None
    for settings in session.config.registries.values():
        if isinstance(settings, EcrRegistry):
            regions.setdefault(settings.region, settings)
        if isinstance(settings, GarRegistry):
            google = google or settings
    for region, settings in regions.items():
        yield _kept("AWS Price List", region, lambda one=settings: _aws(session, one, currency, today))  # type: ignore[misc]
    if google is not None:
        yield _kept("Google Cloud Billing Catalog", "all", lambda: _google(google, currency, today))


def _kept(name: str, who: str, ask: Callable[[], tuple[list[Price], list[str]]]) -> _Asked:
    try:
        prices, missing = ask()
    except (RegistryError, InputError, ToolMissing) as error:
        return _Asked(name, f"{name} ({who})", problem=f"{type(error).__name__}: {error.what}")
    return _Asked(name, f"{name} ({who})", prices, missing)


def _aws(session: Session, settings: EcrRegistry, currency: str, today: date) -> tuple[list[Price], list[str]]:
    calls = session.places.aws(settings)
    prices, missing = [], []
    for service in dict.fromkeys(rule.list for rule in book_of.AWS_RULES):
        fields = {"regionCode": settings.region, **AWS_FIELDS.get(service, {})}
        rules = [rule for rule in book_of.AWS_RULES if rule.list == service]
        found, left = book_of.found_prices(rules, list(aws_list(calls, service, currency, **fields)), today)
        prices += found
        missing += left
    lines = list(aws_list(calls, book_of.TRANSFER.list, currency, fromRegionCode=settings.region))
    found, left = book_of.found_prices([book_of.TRANSFER], lines, today)
    where = f" ({settings.region})"
    return [*prices, *found], [each if where in each else f"{each}{where}" for each in (*missing, *left)]


def _google(settings: GarRegistry, currency: str, today: date) -> tuple[list[Price], list[str]]:
    from registry_pipelines.inventory.usage.google_rest import GoogleRest

    rest = GoogleRest(settings.access(), SERVICE)
    services = google_services(rest, book_of.GOOGLE_SERVICES)
    prices, missing = [], []
    for name, resources in services.items():
        lines = [line for each in resources for line in google_list(rest, each, currency)]
        rules = [rule for rule in book_of.GOOGLE_RULES if rule.list == name]
        found, left = book_of.found_prices(rules, lines, today)
        prices += found
        missing += left
    return prices, missing
