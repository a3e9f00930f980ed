"""The price book of a configuration: which one it is, how old its prices are, and what it lacks."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from registry_pipelines.chain.result import Scalar, StageResult
from registry_pipelines.chain.session import Session
from registry_pipelines.config import Config
from registry_pipelines.progress import age_text, count_text
from registry_pipelines.report.prices import FilePrices, Price


def price_book(config: Config | None, prices: Path | None = None) -> FilePrices:
    """The book of ``--prices``, else of ``report.prices``, else the package's. Raises InputError."""
    return FilePrices(prices or (config.report.prices if config else None))


def storage_price(config: Config, registry: str, book: FilePrices) -> tuple[str, Price | None, str]:
    """What a registry's storage costs: the id that is looked for, the price, and the region it is for. A price
    ``own/REGISTRY/storage`` of the book is taken before its cloud's."""
    own = f"own/{registry}/storage"
    wanted, region = _cloud_storage(config, registry)
    if (found := book.find(own)) is not None:
        return own, found, ""
    return wanted or own, book.find(wanted, region) if wanted else None, region


def _cloud_storage(config: Config, registry: str) -> tuple[str, str]:
    """The id of what the registry's cloud bills, and its region; empty where no cloud does."""
    from registry_pipelines.config.clouds import EcrPublicRegistry, EcrRegistry, GarRegistry
    from registry_pipelines.config.registries import StoreRegistry

    settings = config.registries[registry]
    if isinstance(settings, EcrRegistry):
        return "aws/ecr/storage", settings.region
    if isinstance(settings, EcrPublicRegistry):
        return "aws/ecr-public/storage", ""
    if isinstance(settings, GarRegistry):
        return "gcp/gar/storage", settings.location
    if isinstance(settings, StoreRegistry) and not settings.endpoint:
        return {"s3": "aws/s3/storage", "gs": "gcp/gcs/storage"}.get(
            settings.address.partition("://")[0], ""
        ), settings.region
    return "", ""


def wanted_prices(config: Config) -> Iterable[tuple[str, str]]:
    """Ids that the configuration's registries need, each with a region or nothing."""
    for name, settings in config.registries.items():
        wanted, region = _cloud_storage(config, name)
        if wanted:
            yield wanted, region
        if settings.kind == "ecr":
            yield "aws/ecr/archive", region
            yield "aws/inspector/scan-first", region
            yield "aws/inspector/rescan", region
        if settings.kind == "gar":
            yield "gcp/scan", ""


def show_prices(session: Session, prices: Path | None = None) -> StageResult:
    """The price book as a result: a row for each price with its date and what is in doubt; ``reasons`` name what the
    configuration's registries need and the book lacks, and what is old or unsure. Raises InputError."""
    config, now = session.config, session.now()
    book = price_book(config, prices)
    old_after, today = config.report.prices_old_after, now.date()
    rows: list[dict[str, Scalar]] = [
        {
            "price": each.id,
            "amount": f"{each.usd:.10f}".rstrip("0").rstrip("."),
            "per": each.per,
            "region": each.region,
            "of": (each.date or book.date).isoformat(),
            "doubt": book.doubt(each, today, old_after=old_after),
            "what": _what(each),
        }
        for each in book.all()
    ]
    doubts = sum(bool(row["doubt"]) for row in rows)
    alerts, missing = [], []
    for wanted, region in dict.fromkeys(wanted_prices(config)):
        found = book.find(wanted, region)
        if found is None:
            missing.append(f"no price {wanted}" + (f" (of {region})" if region else ""))
        elif doubt := book.doubt(found, today, old_after=old_after, region=region):
            alerts.append(f"{found.id}: {doubt}")
    age = (today - book.date).days
    return StageResult(
        stage="prices",
        subject=book.where,
        action=f"{count_text(len(rows), 'price')} in {book.currency}, {age_text(max(age, 0) * 86_400)} old, "
        f"{doubts} in doubt, {len(missing)} missing",
        facts={
            "currency": book.currency,
            "date": book.date.isoformat(),
            "source": book.source,
            "age_days": age,
            "prices": len(rows),
            "in_doubt": doubts,
            "missing": len(missing),
        },
        rows=rows,
        alerts=list(dict.fromkeys(alerts)),
        reasons=missing,
        notes=["what registries of your own store has no price unless the book has own/REGISTRY/storage"],
    )


def _what(price: Price) -> str:
    free = f"; the first {price.free:g} {price.per} are free" if price.free else ""
    tiers = "".join(f"; above {each.above:g} {price.per} {each.usd:g}" for each in price.tiers)
    source = f" ({price.source})" if price.source else ""
    return f"{price.what}{free}{tiers}{source}"
