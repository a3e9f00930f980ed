"""What a change to a registry would cost or save, before it is made: a retention rule, a replica, ECR's archive class.

Nothing is written anywhere. Sizes come from the registry or a stored inventory, pulls from what counts them, and what
a plan would free from the plan itself, which ``collect`` would apply.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from copy import copy
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, TypedDict

import msgspec

from registry_pipelines.chain.prices import price_book, storage_price
from registry_pipelines.chain.result import StageResult
from registry_pipelines.chain.session import Session
from registry_pipelines.errors import InputError, RegistryPipelinesError
from registry_pipelines.progress import count_text
from registry_pipelines.report.arithmetic import doubts
from registry_pipelines.report.prices import FilePrices, Price
from registry_pipelines.report.whatif.model import WhatIf
from registry_pipelines.settings import unknown

if TYPE_CHECKING:
    from registry_pipelines.report.advice import Origin
    from registry_pipelines.report.whatif.retention import Part

Through = Literal["public", "nat", "s3-gateway", "interface-endpoint"]
MOST_ROWS = 500
"""Of each table of an answer."""
_APART = ("ecr", "embedded", "layout")
"""Kinds of registries that keep a layer in each repository that has it; ECR unless blobs are mounted."""
UNPULLED_DAYS = 90
"""For which an image was not pulled that could be archived, unless told."""


class Answer(NamedTuple):
    """A what-if as a result, and its picture as SVG; empty where there is none."""

    result: StageResult
    picture: str


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """Figures that somebody gives in place of those that would be looked for. size: bytes of a pull; held: of all that
    a replica keeps; moved: that releases bring a month; times: pulls a month."""

    size: float | None = None
    held: float | None = None
    moved: float | None = None
    times: float | None = None


class ReplicaOptions(TypedDict, total=False):
    """What :func:`replica` takes beside the registry and the region."""

    through: Through | None
    within: Through | None
    told: Told | None
    days: int
    pulls: Path | None
    inventory: Path | None
    prices: Path | None


class StreamingOptions(TypedDict, total=False):
    """What ``what_if_images.streaming`` takes beside the image."""

    tag: str
    platform: str
    times: float | None
    days: int
    pulls: Path | None
    prices: Path | None


def answer(
    session: Session,
    found: WhatIf,
    book: FilePrices,
    *,
    region: str = "",
    reasons: Sequence[str] = (),
    ok: bool = True,
    exit_code: int = 0,
) -> Answer:
    """A what-if for people and programs. region: which one its prices are used for. reasons: what went wrong beside
    it."""
    unsure = doubts(
        found.lines, book, session.now().date(), old_after=session.config.report.prices_old_after, region=region
    )
    result = StageResult(
        stage=f"what-if:{found.what}",
        subject=found.subject,
        action=found.verdict,
        facts={
            **found.facts,
            "currency": book.currency,
            "prices_of": book.date.isoformat(),
            "sure": not unsure and not found.unknown,
        },
        rows=[each.row() for each in found.cases],
        tables={name: list(rows[:MOST_ROWS]) for name, rows in found.tables.items()},
        reasons=[*reasons, *(f"not known: {each}" for each in found.unknown)],
        notes=[*found.notes, *unsure, f"prices ({book.currency}) of {book.date.isoformat()}: {book.source}"],
        ok=ok,
        exit_code=exit_code,
    )
    return Answer(result, _drawn(found))


def _drawn(found: WhatIf) -> str:
    from registry_pipelines.pictures import straight_lines

    curve = found.curve
    if curve is None:
        return ""
    series = {each.name: (each.at_zero, each.at_zero + each.each * curve.most) for each in curve.series}
    return straight_lines(series, most=curve.most, x=curve.x, y=curve.y, mark=curve.mark)


def storage_of(session: Session, registry: str, book: FilePrices) -> tuple[Price | None, str, str]:
    """What a registry's storage costs, why that is not known, and its region. Raises InputError: no such registry."""
    known = session.config.registries
    if registry not in known:
        raise InputError(unknown(registry, known, "registry"), do="Name a registry of the configuration")
    wanted, price, region = storage_price(session.config, registry, book)
    return price, "" if price else f"the price book has no {wanted}", region


def retention(
    session: Session,
    registry: str,
    *,
    rules: Path | None = None,
    inventory: Path | None = None,
    prices: Path | None = None,
) -> Answer:
    """What the retention rules of a registry would free and save: by the plan that ``collect plan`` makes, which is
    neither kept nor signed here. rules: a file of rules that count in place of the configuration's. inventory: a stored
    one, in place of the registry. Raises InputError, ConfigInvalid, RegistryError."""
    book = price_book(session.config, prices)
    storage, why, region = storage_of(session, registry, book)
    from registry_pipelines.chain.collect import describe, plan
    from registry_pipelines.chain.inventory_plan import made_plan
    from registry_pipelines.report.whatif.retention import Part
    from registry_pipelines.report.whatif.retention import retention as work_out

    tried = _with_rules(session, rules) if rules else session
    planning = made_plan(tried, registry, inventory) if inventory else nullcontext(plan(tried, registry))
    with planning as made:
        told = describe(made, registry)
        parts = [
            Part(
                of=each.of,
                name=each.name,
                images=each.images,
                going=each.going,
                before=each.before,
                freed=each.freed,
            )
            for each in made.totals
        ]
    notes = [*told.notes]
    if teams := session.config.report.teams:
        parts = [*(each for each in parts if each.of != "team"), *_by_team(parts, teams)]
    if session.config.registries[registry].kind in _APART:
        notes.append("layers that several repositories hold count once; here each has its own, so it is at least this")
    found = work_out(
        registry,
        parts,
        storage=storage,
        no_price=why,
        quarantine_days=session.config.collect.quarantine,
        currency=book.currency,
        notes=notes,
    )
    return answer(session, found, book, region=region, reasons=told.reasons, ok=told.ok, exit_code=told.exit_code)


def _by_team(parts: Sequence[Part], teams: Mapping[str, Sequence[str]]) -> Iterator[Part]:
    """Repositories' parts summed by whose they are. A plan's own teams are the first words of repositories' names."""
    from registry_pipelines.report.allocation import NO_TEAM
    from registry_pipelines.report.teams import teams_of

    own: dict[str, list[Part]] = {}
    for each in parts:
        if each.of == "repository":
            own.setdefault((teams_of(each.name, teams) or [NO_TEAM])[0], []).append(each)
    for name, its in own.items():
        sums = {what: sum(getattr(each, what) for each in its) for what in ("images", "going", "before", "freed")}
        yield msgspec.structs.replace(its[0], of="team", name=name, **sums)


def _with_rules(session: Session, path: Path) -> Session:
    """The same session with other rules, which nothing acts by."""
    from registry_pipelines.config.fragments import load_rules

    rules = load_rules(path)
    for each in rules:
        if each.registry not in session.config.registries:
            said = unknown(each.registry, session.config.registries, "registry")
            raise InputError(said, where=str(path), do="Name a registry of the configuration")
    tried = copy(session)
    tried.config = msgspec.structs.replace(session.config, retention=rules)
    return tried


def replica(
    session: Session,
    registry: str,
    region: str,
    *,
    through: Through | None = None,
    within: Through | None = None,
    told: Told | None = None,
    days: int = 30,
    pulls: Path | None = None,
    inventory: Path | None = None,
    prices: Path | None = None,
) -> Answer:
    """From how many pulls on a replica of a registry in a region is worth it to the nodes there. through: the way of
    their layers now, within: with the replica; those of the region's edges (``report.edges``) unless given. told:
    figures that are not looked for. Raises InputError, RegistryError."""
    from registry_pipelines.chain.advise import origin_of
    from registry_pipelines.report.advice import Origin, at_home, cloud_of, way_out
    from registry_pipelines.report.whatif.replica import replica as work_out

    given = told or Told()
    book = price_book(session.config, prices)
    storage_of(session, registry, book)
    origin = origin_of(session.config, registry)
    there = Origin(name=f"a replica in {region}", cloud=cloud_of(region), region=region)
    if at_home(there, origin):
        raise InputError(f"{registry} is in {region} itself", do="Name another region")
    product = "ecr" if there.cloud == "aws" else "gar"
    storage = book.find(f"{there.cloud}/{product}/storage", region)
    if storage is None:
        raise InputError(f"the price book has no {there.cloud}/{product}/storage", where=book.where)
    edges = [
        each for each in session.config.report.edges.values() if each.registry == registry and each.region == region
    ]
    chosen = through or (edges[0].through if edges else "public")
    why: dict[str, str] = {}
    counted = _counted(session, registry, [each.name for each in edges], given, days, pulls, prices, why)
    size, notes = _pull_bytes(session, registry, given, counted, why)
    found = work_out(
        registry,
        region,
        straight=_way(chosen, origin, region, book),
        within=_way(within or chosen, there, region, book),
        crossing=way_out(origin, book, to=there),
        storage=storage,
        pull_bytes=size,
        held_bytes=_held(session, registry, given, inventory, why, by_repository=there.cloud == "aws"),
        moved_bytes=_moved(session, registry, given, why),
        pulls=counted[0],
        currency=book.currency,
        why=why,
        notes=tuple(notes),
    )
    return answer(session, found, book, region=region)


def _way(through: Through, origin: Origin, region: str, book: FilePrices) -> Way:
    from registry_pipelines.report.edges import PullEdge
    from registry_pipelines.report.transfer import way_lines
    from registry_pipelines.report.whatif.replica import Way

    edge = PullEdge(name="", registry=origin.name, region=region, through=through)
    try:
        return Way(tuple(each.price for each in way_lines(edge, origin, 1.0, book)))
    except InputError as error:
        raise InputError(error.what, where="--through", do=error.do) from error


def _counted(
    session: Session,
    registry: str,
    edges: Sequence[str],
    given: Told,
    days: int,
    pulls: Path | None,
    prices: Path | None,
    why: dict[str, str],
) -> tuple[float | None, float | None]:
    """Pulls a month over some edges, and their bytes; each None where it is not known (``why``)."""
    if given.times is not None:
        return given.times, None
    if not edges:
        why["pulls"] = "no edge of `report.edges` is of that region, and --times was not given"
        return None, None
    from registry_pipelines.chain.transfer import measured
    from registry_pipelines.report.transfer import NOBODY

    found, counts, _ = measured(session, [registry], days=days, pulls=pulls, prices=prices, copies=False)
    mine = [each for each in found.moved if each.edge in edges]
    perhaps = [each for each in found.moved if each.edge in (*edges, NOBODY) and each.unknown]
    if counts.failed or perhaps or not mine:
        reasons = [*counts.failed, *(f"{each.repository}: {each.unknown}" for each in perhaps[:3])]
        why["pulls"] = "; ".join(reasons) or "nothing was counted over its edges"
        return None, None
    return sum(each.times or 0.0 for each in mine), sum(each.moved or 0.0 for each in mine)


def _pull_bytes(
    session: Session, registry: str, given: Told, counted: tuple[float | None, float | None], why: dict[str, str]
) -> tuple[float | None, list[str]]:
    """Bytes of one pull: told, of what was pulled, else of the newest release of each image here."""
    if given.size is not None:
        return given.size, []
    times, moved = counted
    if times and moved is not None:
        return moved / times, []
    sizes, notes = [], []
    for name, last in _recents(session, registry).items():
        if isinstance(last, str) or not last.releases:
            notes.append(f"{name} is in no size: {last if isinstance(last, str) else 'it has no release'}")
        else:
            sizes.append(last.releases[0].largest)
    if not sizes:
        why["pull_bytes"] = "how large a pull is: no image of the configuration has a release there; give --size"
        return None, notes
    return sum(sizes) / len(sizes), [
        *notes,
        f"a pull is taken to be a newest release, of {count_text(len(sizes), 'image')} on average",
    ]


def _moved(session: Session, registry: str, given: Told, why: dict[str, str]) -> float | None:
    """Bytes that releases bring a month."""
    if given.moved is not None:
        return given.moved
    total, lacking = 0.0, []
    found = _recents(session, registry)
    for name, last in found.items():
        if isinstance(last, str) or last.per_month is None or last.moved is None:
            lacking.append(f"{name}: {last if isinstance(last, str) else last.why}")
        else:
            total += last.per_month * last.moved
    if lacking or not found:
        reason = "; ".join(lacking) or "no image of the configuration is released there"
        why["moved_bytes"] = f"what releases bring there ({reason}); give --moved"
        return None
    return total


def _recents(session: Session, registry: str) -> Mapping[str, Recent | str]:
    """By image of the configuration in a registry its last releases, or why they cannot be read."""
    from registry_pipelines.chain.recent import recent

    found: dict[str, Recent | str] = {}
    for image in session.config.images.values():
        if image.registry == registry:
            try:
                found[image.name] = recent(session, image)
            except RegistryPipelinesError as error:
                found[image.name] = str(error)
    return found


def _held(
    session: Session,
    registry: str,
    given: Told,
    inventory: Path | None,
    why: dict[str, str],
    *,
    by_repository: bool,
) -> float | None:
    if given.held is not None:
        return given.held
    from registry_pipelines.chain.stored_blobs import distinct_bytes, taken

    try:
        return float(distinct_bytes(taken(session, registry, inventory), by_repository=by_repository))
    except RegistryPipelinesError as error:
        why["held_bytes"] = f"what it would keep: {error}"
        return None


def archive(
    session: Session,
    registry: str,
    *,
    unpulled_days: int = UNPULLED_DAYS,
    retrieved: float | None = None,
    inventory: Path | None = None,
    prices: Path | None = None,
) -> Answer:
    """What ECR's archive class would save for what nobody pulled for so many days. retrieved: bytes a month that would
    be brought back. inventory: a stored one with its second file, in place of the registry. Raises InputError (a
    registry of another kind, too), RegistryError."""
    from registry_pipelines.chain.stored_blobs import archivable, taken
    from registry_pipelines.report.whatif.archive import LEAST_DAYS
    from registry_pipelines.report.whatif.archive import archive as work_out

    book = price_book(session.config, prices)
    standard, why, region = storage_of(session, registry, book)
    if session.config.registries[registry].kind != "ecr":
        raise InputError(f"{registry} is not of kind ecr, and only ECR has an archive class")
    named = [book.find(name, region) for name in ("aws/ecr/archive", "aws/ecr/archive-retrieval")]
    if standard is None or named[0] is None or named[1] is None:
        raise InputError(why or "the price book has no aws/ecr/archive and aws/ecr/archive-retrieval", where=book.where)
    since = session.now() - timedelta(days=unpulled_days)
    found, lacking, notes = archivable(taken(session, registry, inventory), since)
    worked = work_out(
        registry,
        msgspec.structs.replace(found, retrieved=retrieved),
        standard=standard,
        archived=named[0],
        retrieval=named[1],
        currency=book.currency,
        unknown=lacking,
        notes=(
            f"images that nobody pulled for {count_text(unpulled_days, 'day')}, or pushed since; what runs may be "
            "among them: a node that has an image does not pull it, and cannot start it anew once it is archived",
            f"rules of ECR that archive for less than {LEAST_DAYS} days are refused",
            *notes,
        ),
    )
    return answer(session, worked, book, region=region)


if TYPE_CHECKING:
    from registry_pipelines.chain.recent import Recent
    from registry_pipelines.report.whatif.replica import Way

__all__ = [
    "Answer",
    "ReplicaOptions",
    "StreamingOptions",
    "Through",
    "Told",
    "answer",
    "archive",
    "replica",
    "retention",
    "storage_of",
]
