"""What registries cost, over a configuration: their inventories, the price book, teams, budgets, and kept runs."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from registry_pipelines.chain.prices import price_book, storage_price
from registry_pipelines.chain.result import Scalar, StageResult
from registry_pipelines.chain.session import Session
from registry_pipelines.errors import InputError, Unavailable
from registry_pipelines.inventory.needed import need_tables
from registry_pipelines.progress import count_text, size_text
from registry_pipelines.report.prices import FilePrices
from registry_pipelines.settings import unknown
from registry_pipelines.shared.documents import Documents

if TYPE_CHECKING:
    from registry_pipelines.config import Config
    from registry_pipelines.inventory.from_ecr import Manifests
    from registry_pipelines.inventory.value import Inventory
    from registry_pipelines.report.cost import CostReport, CostRow, ScanTariff, Tariff
    from registry_pipelines.report.history import Month
    from registry_pipelines.report.holdings import Billing, Once
    from registry_pipelines.report.prices import Price
    from registry_pipelines.report.settings import PaidScans

MAX_ROWS = 200
"""Of a table for people; sums and kept runs have all."""


def folder_of(session: Session) -> Documents:
    """Where runs are kept, a Parquet file a day (``report.history``)."""
    return session.documents.under("report/cost")


def report_cost(
    session: Session,
    registries: Sequence[str] = (),
    *,
    stored: Path | None = None,
    by: str = "",
    months: int = 6,
    prices: Path | None = None,
    manifests: str = "",
) -> StageResult:
    """What registries cost a month, all of the configuration unless named; a run over all of them is kept for the
    trend.

    stored: an inventory's file in place of the registries. by: the level of ``rows``; teams where there are some, else
    repositories. manifests: ``auto`` or ``all``, as ``report.manifests`` unless told. Not ``ok`` where something could
    not be read. Raises InputError, ToolMissing, LocalError."""
    need_tables()
    started = time.monotonic()
    config = session.config
    inventories = _stored(stored, registries) if stored else _read(session, registries, manifests)
    from registry_pipelines.report.history import months as months_of
    from registry_pipelines.report.history import read_runs, write_run

    report = cost_of(session, inventories, prices=prices)
    every = stored is None and set(registries or config.registries) == set(config.registries)
    if every:
        write_run(folder_of(session), report)
    runs, left = read_runs(
        folder_of(session), session.now(), levels=("total", *(["team"] if config.report.teams else []))
    )
    result = result_of(config, report, by or ("team" if config.report.teams else "repository"), inventories)
    kept = [] if every else ["this run is not kept: only one over all registries, read now, is part of the trend"]
    return replace(
        result,
        seconds=time.monotonic() - started,
        tables={**result.tables, "months": [_month_row(each) for each in months_of(runs, months)]},
        notes=[*result.notes, *kept, *left],
    )


def _read(session: Session, registries: Sequence[str], manifests: str) -> list[Inventory]:
    from registry_pipelines.chain.inventory import read

    names = list(dict.fromkeys(registries)) or list(session.config.registries)
    for name in names:  # before anything is read
        if name not in session.config.registries:
            raise InputError(unknown(name, session.config.registries, "registry"))
    config = session.config
    return [read(session, [name], manifests=manifests_of(config, name, manifests), set_aside=True) for name in names]


def manifests_of(config: Config, name: str, told: str) -> Manifests:
    """Which are read of one registry. Reading one counts as a pull of its image at ECR, which moves what retention and
    usage go by: so not all, where nobody says that our role is excluded."""
    from registry_pipelines.infra.ecr.model import EcrInfra

    declared = config.infra.get(name)
    excluded = isinstance(declared, EcrInfra) and bool(declared.pull_time_exclusions)
    clouds = config.registries[name].kind in ("ecr", "gar")
    return "all" if not clouds or excluded or (told or config.report.manifests) == "all" else "indexes"


def _stored(path: Path, registries: Sequence[str]) -> list[Inventory]:
    from registry_pipelines.inventory.value import read_whole

    if registries:
        raise InputError("a stored inventory says itself which registries it is of", do="Leave their names away")
    return [read_whole(path)]


def cost_of(session: Session, inventories: Sequence[Inventory], *, prices: Path | None = None) -> CostReport:
    """What inventories hold and cost. Raises InputError: a price book that is none, a damaged inventory, or one of a
    registry that the configuration does not have."""
    from registry_pipelines.report.cost import Classes, cost_report
    from registry_pipelines.report.holdings import hold

    config = session.config
    named = [source.registry for each in inventories for source in each.sources]
    rows = [str(name) for each in inventories for name in each.frame["registry"].unique()]  # a file may say otherwise
    names = list(dict.fromkeys([*named, *rows]))
    for name in names:
        if name not in config.registries:
            raise InputError(f"the inventory is of {name}, which is no registry of the configuration")
    book = price_book(config, prices)
    tariffs = _Tariffs(session, book)
    billings = {name: tariffs.billing(name) for name in names}
    held = hold(inventories, billings, config.report.teams)
    return cost_report(
        held,
        tariffs.found,
        {name: scans for name in names if (scans := tariffs.scans(name))},
        Classes(_classes(session)),
        time=session.now(),
        currency=book.currency,
        prices_of=f"{book.date.isoformat()}: {book.source}",
        whole=all(each.complete for each in inventories),
        notes=_notes(config, names, book, held.at_most, held.no_size),
    )


class _Tariffs:
    """Prices by the numbers that holdings have. What is stored comes before what is archived: a blob that both need is
    billed as stored."""

    def __init__(self, session: Session, book: FilePrices) -> None:
        self._config, self._book, self._today = session.config, book, session.now().date()
        self.found: list[Tariff] = []
        names = list(self._config.registries)
        self._stored = {name: self._number(*storage_price(self._config, name, book)) for name in names}
        self._archived = {
            name: self._number("aws/ecr/archive", book.find("aws/ecr/archive", region), region)
            for name in names
            if (region := self._region(name))
        }

    def billing(self, registry: str) -> Billing:
        from registry_pipelines.report.holdings import Billing

        stored = self._stored[registry]
        kind = self._config.registries[registry].kind
        return Billing(_once(self._config, registry), stored, self._archived.get(registry, stored), kind == "gar")

    def _region(self, registry: str) -> str:
        from registry_pipelines.config.clouds import EcrRegistry

        settings = self._config.registries[registry]
        return settings.region if isinstance(settings, EcrRegistry) else ""

    def _number(self, wanted: str, price: Price | None, region: str) -> int:
        tariff = self._tariff(wanted, price, region)
        if tariff in self.found:
            return self.found.index(tariff)
        before = (each.price for each in self.found if each.wanted == wanted)
        if price and any(each is not None and each.free for each in before):  # of a billing account, not of each region
            tariff = tariff._replace(price=msgspec.structs.replace(price, free=0.0))
        if tariff not in self.found:
            self.found.append(tariff)
        return self.found.index(tariff)

    def _tariff(self, wanted: str, price: Price | None, region: str) -> Tariff:
        from registry_pipelines.report.cost import Tariff

        old_after = self._config.report.prices_old_after
        doubt = self._book.doubt(price, self._today, old_after=old_after, region=region) if price else ""
        return Tariff(wanted, price, doubt)

    def scans(self, registry: str) -> ScanTariff | None:
        """What scans of a registry cost; None where nobody says that they are billed."""
        from registry_pipelines.report.cost import ScanTariff

        paid = _paid_scans(self._config, registry)
        if paid is None:
            return None
        if self._config.registries[registry].kind == "gar":
            first = self._tariff("gcp/scan", self._book.find("gcp/scan"), "")
            return ScanTariff(first, None, None, paid.repositories)
        region = self._region(registry)
        first, again = (
            self._tariff(name, self._book.find(name, region), region)
            for name in ("aws/inspector/scan-first", "aws/inspector/rescan")
        )
        return ScanTariff(first, again, paid.rescans, paid.repositories)


def _paid_scans(config: Config, registry: str) -> PaidScans | None:
    """What ``report.scans`` says, else what ``infra`` declares of ECR's enhanced scanning."""
    from registry_pipelines.infra.ecr.model import EcrInfra
    from registry_pipelines.report.settings import PaidScans

    declared = config.infra.get(registry)
    if registry in config.report.scans:
        return config.report.scans[registry]
    if not isinstance(declared, EcrInfra) or not declared.scanning or declared.scanning.type != "ENHANCED":
        return None
    again = declared.scanning.continuous or ()
    return PaidScans(repositories=(*(declared.scanning.on_push or ()), *again) or ("*",), rescans=None if again else 0)


def _once(config: Config, registry: str) -> Once:
    """Where a blob is stored once. ECR keeps each layer in its repository unless it was mounted from another one
    (docs.aws.amazon.com/AmazonECR, "Blob mounting"); Artifact Registry bills ``sizeBytes`` of a repository (its API:
    Repository). Ours keeps a folder for each repository, and links only what was mounted. Registries that keep blobs in
    one place for all repositories: distribution's, and object stores."""
    kind = config.registries[registry].kind
    if kind == "gar":
        return "project"
    if kind == "ecr":
        return "registry" if _mounts(config, registry) else "repository"
    return "repository" if kind in ("ecr-public", "embedded", "layout") else "registry"


def _mounts(config: Config, registry: str) -> bool:
    from registry_pipelines.infra.ecr.model import EcrInfra

    declared = config.infra.get(registry)
    return isinstance(declared, EcrInfra) and bool(declared.account.blob_mounting)


def _classes(session: Session) -> Mapping[int, Mapping[str, float]]:
    from registry_pipelines.anatomy.kept import kept_classes
    from registry_pipelines.inventory.parts import number

    return {number(digest): parts for digest, parts in kept_classes(session.config.state)}


def _notes(config: Config, names: Iterable[str], book: FilePrices, at_most: int, no_size: int) -> list[str]:
    notes = [f"prices ({book.currency}) of {book.date}, {book.source}"]
    for name in names:
        if _mounts(config, name):
            notes.append(f"{name}: layers count once in the registry, as those do that were mounted; at least this")
        if config.registries[name].kind == "embedded":
            notes.append(f"{name}: layers count once in each repository, those that were mounted, too; at most this")
        if storage_price(config, name, book)[1] is None:
            notes.append(f"{name}: no price is known of what it stores (own/{name}/storage in a book of your own)")
    if sum(config.registries[name].kind == "gar" for name in names) > 1:
        notes.append("what is free at Artifact Registry is counted once, for one billing account")
    if at_most:
        told = f"blobs of {count_text(at_most, 'manifest')} are not known: each counts whole, as if nothing was shared"
        notes.append(f"{told}; at most this (`--manifests all` reads them)")
    if no_size:
        notes.append(f"{count_text(no_size, 'manifest')} without a size are counted as nothing")
    return notes


def result_of(config: Config, report: CostReport, by: str, inventories: Sequence[Inventory]) -> StageResult:
    """A report for people and for Dagster. ``rows``: of one level; ``tables``: all others that have rows."""
    unread = [
        f"{source.registry}: {each.what}: {each.problem}"
        for inventory in inventories
        for source in inventory.sources
        for each in source.unread
    ]
    told = [f"{source.registry}: {note}" for each in inventories for source in each.sources for note in source.notes]
    total = report.total
    levels = ("registry", "team", "repository", "image", "class")
    plurals = dict(zip(levels, ("registries", "teams", "repositories", "images", "classes"), strict=True))
    tables = {
        plurals[level]: [_row(row) for row in report.by(level)[:MAX_ROWS]]
        for level in levels
        if level != by and not (level == "team" and not config.report.teams)
    }
    cut = [
        f"{plurals[level]}: the {MAX_ROWS} dearest of {len(report.by(level))} that are kept"
        for level in levels
        if len(report.by(level)) > MAX_ROWS
    ]
    part = total.month_usd is None or total.unpriced_bytes or not report.whole
    money = _money(report.currency, total.month_usd if total.month_usd is not None else total.usd)
    money = f"at least {money}" if part and total.usd is not None else money
    return StageResult(
        stage="cost",
        subject=", ".join(row.name for row in report.registries) or "nothing",
        action=f"{size_text(total.fair_bytes)} in {count_text(total.images, 'image')}, {money}"
        + ("" if report.whole else "; not all could be read"),
        facts={
            "currency": report.currency,
            "images": total.images,
            "bytes": total.fair_bytes,
            "unpriced_bytes": total.unpriced_bytes,
            **_known("storage_usd_per_month", total.usd),
            **_known("scan_usd_per_month", total.scan_usd),
            **_known("usd_per_month", total.month_usd),
            "sure": not total.doubt,
            **{
                f"usd_per_month of {row.name}": round(row.month_usd, 4)
                for row in report.teams
                if config.report.teams and row.month_usd is not None and not row.unpriced_bytes
            },
        },
        rows=[_row(row) for row in report.by(by)[:MAX_ROWS]],
        tables={name: rows for name, rows in tables.items() if rows},
        alerts=[f"not sure: {total.doubt}"] if total.doubt else [],
        reasons=unread,
        notes=[*report.notes, *told, *cut, *_twice(config, report)],
        ok=report.whole,
        exit_code=0 if report.whole else Unavailable.exit_code,
    )


def _twice(config: Config, report: CostReport) -> list[str]:
    """Repositories that several teams claim."""
    from registry_pipelines.report.teams import teams_of

    notes = []
    for row in report.repositories if len(config.report.teams) > 1 else ():
        name = row.name.partition("/")[2]
        if len(claims := teams_of(name, config.report.teams)) > 1:
            notes.append(f"{row.name}: patterns of {' and '.join(claims)} match; it is counted to {claims[0]}")
    return notes[:20]


def _row(row: CostRow) -> dict[str, Scalar]:
    """For tables: money that is not known is an empty text."""
    return {
        row.level: row.name,
        "images": row.images,
        "needed_bytes": row.needed_bytes,
        "fair_bytes": row.fair_bytes,
        "freed_bytes": row.freed_bytes,
        "usd_per_month": _amount(row.usd),
        "freed_usd_per_month": _amount(row.freed_usd),
        "scan_usd_per_month": _amount(row.scan_usd),
        "unpriced_bytes": row.unpriced_bytes,
        "doubt": row.doubt,
    }


def _month_row(each: Month) -> dict[str, Scalar]:
    return {
        "month": each.month,
        "of": each.name if each.level == "team" else "all",
        "fair_bytes": each.fair_bytes,
        "usd_per_month": _amount(each.usd),
        "scan_usd_per_month": _amount(each.scan_usd),
        "currency": each.currency,
        "doubt": each.doubt or ("" if each.whole else "not all could be read"),
    }


def _amount(usd: float | None) -> Scalar:
    return "" if usd is None else round(usd, 4)


def _money(currency: str, usd: float | None) -> str:
    return "what it costs is not known" if usd is None else f"{usd:.2f} {currency} a month"


def _known(name: str, usd: float | None) -> dict[str, Scalar]:
    return {} if usd is None else {name: round(usd, 4)}


def with_costs(
    session: Session, result: StageResult, inventory: Inventory, *, prices: Path | None = None
) -> StageResult:
    """The result of an inventory with what its storage costs a month: ``tables["costs"]`` by repository, the dearest
    first, and the fact ``usd_per_month`` where it is known. Raises InputError."""
    report = cost_of(session, [inventory], prices=prices)
    costs = [_row(row) for row in report.repositories if row.usd is not None]
    return replace(
        result,
        facts={**result.facts, **_known("usd_per_month", report.total.usd), "currency": report.currency},
        tables={**result.tables, "costs": costs[:MAX_ROWS]},
        notes=[*result.notes, *([f"not sure: {report.total.doubt}"] if report.total.doubt else []), *report.notes],
    )


def over_budget(config: Config, report: StageResult) -> list[str]:
    """What of ``report.budget`` a month is above, one sentence each; what is not known counts as above."""
    budget = config.report.budget
    limits = [("usd_per_month", "all registries", budget.total)] if budget.total is not None else []
    limits += [(f"usd_per_month of {name}", name, most) for name, most in budget.teams.items()]
    reasons = []
    for fact, name, most in limits:
        cost = report.facts.get(fact)
        if not report.ok or (name == "all registries" and report.facts["unpriced_bytes"]):
            cost = cost if isinstance(cost, int | float) and cost > most else None
        if not isinstance(cost, int | float):
            reasons.append(f"what {name} costs is not known, so that it may be above its budget of {most}")
        elif cost > most:
            reasons.append(f"{name}: {cost:.2f} a month, above its budget of {most}")
    return reasons
