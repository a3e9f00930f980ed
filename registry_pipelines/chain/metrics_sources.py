"""Where numbers come from: inventories, receipts, records, evidence and logs. Each source by itself; what one of them
cannot tell is told beside the rest, and no number stands for what is not known."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec

from registry_pipelines.chain.session import Session
from registry_pipelines.chain.status import Status, statuses
from registry_pipelines.config import Image
from registry_pipelines.errors import InputError, ManifestInvalid, RegistryPipelinesError
from registry_pipelines.oci.decoding import ready
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.times import read_time
from registry_pipelines.report.metrics.model import SKEW, Sample, largest, sample

DAY = timedelta(days=1)
MOST_RECEIPTS = 20_000
"""Receipts of the last day that are read."""


class Look:
    """One collection. now: the time of all its samples. failed, notes: as ``model.Collected`` has them."""

    def __init__(self, session: Session, now: datetime) -> None:
        self.session, self.now = session, now
        self.failed: dict[str, str] = {}
        self.notes: list[str] = []
        self.statuses: list[Status] | None = None

    def ask(self, source: str, act: Callable[[Look], Iterator[Sample]]) -> list[Sample]:
        """What a source tells; what it told before it failed counts."""
        found: list[Sample] = []
        try:
            found.extend(act(self))
        except RegistryPipelinesError as error:
            self.fail(source, str(error))
        return found

    def fail(self, source: str, why: str) -> None:
        """A source was not read whole; of several reasons the first stands there."""
        self.failed.setdefault(source, why)

    def age(self, source: str, what: str, at: datetime | None) -> float | None:
        """Seconds since a time; None where there is none, or where it is to come: a clock is wrong then, and that is
        said instead of 0."""
        if at is None:
            return None
        passed = self.now - at
        if passed < -SKEW:
            self.fail(source, f"{what} is of {at:%Y-%m-%dT%H:%M:%SZ}, which is to come: a clock is wrong")
            return None
        return max(0.0, passed.total_seconds())


def stored(look: Look, inventory: Path | None) -> Iterator[Sample]:
    """By inventories: the one file, else those that are kept, which are taken again where they are old."""
    from registry_pipelines.inventory.needed import need_tables

    need_tables()
    for name, path in [("", inventory)] if inventory else _kept(look):
        try:
            yield from _numbers(look, path)
        except RegistryPipelinesError as error:
            look.fail(f"inventory {name}".rstrip(), str(error))


def _kept(look: Look) -> Iterator[tuple[str, Path]]:
    """Inventories by registry. One that cannot be taken again counts as it is."""
    from registry_pipelines.chain.inventory import FOLDER, inventoried, keep, kept_inventory

    config = look.session.config
    settings = config.report.metrics
    for name in settings.registries or inventoried(config) or list(config.registries):
        ages = {each.name: each.at for each in look.session.documents.under(FOLDER).entries()}
        if not _young(ages.get(f"{name}.parquet"), look.now, settings.inventory_age):
            try:
                result = keep(look.session, name)
                if not result.ok:
                    look.fail(f"inventory {name}", "; ".join(result.reasons[:3]))
            except RegistryPipelinesError as error:
                look.fail(f"inventory {name}", str(error))
        if path := kept_inventory(look.session, name):
            yield name, path


def _young(at: float | None, now: datetime, most: timedelta) -> bool:
    """Whether a file is there and not older than that; one that is to come is of a clock that was wrong."""
    if at is None:
        return False
    passed = timedelta(seconds=now.timestamp() - at)
    return -SKEW <= passed <= most


def _numbers(look: Look, path: Path) -> Iterator[Sample]:
    from registry_pipelines.inventory.value import read
    from registry_pipelines.report.metrics.stored import numbers, read_parts

    inventory = read(path)
    parts = read_parts(path, len(inventory.frame))
    most = look.session.config.report.metrics.repositories
    found = numbers(inventory, parts, now=look.now, most_repositories=most)
    look.notes += found.notes
    for registry, why in found.failed.items():
        look.fail(f"inventory {registry}", why)
    yield from found.samples


def logs(look: Look) -> Iterator[Sample]:
    """By the events of logs that are kept: pulls, and bytes that were given out."""
    from registry_pipelines.chain.audit import store_of, was_read

    if not was_read(look.session):
        return
    pulls: Counter[tuple[str, str]] = Counter()
    given: dict[str, int] = {}
    columns = ("registry", "repository", "action", "refused", "size")
    for table in store_of(look.session).tables(since=look.now - DAY, until=look.now, columns=columns):
        rows = (table[name].to_pylist() for name in columns)
        for registry, repository, action, refused, size in zip(*rows, strict=True):
            if refused:
                continue
            if action == "pull":
                pulls[registry, repository] += 1
            if size >= 0 and action in ("pull", "layer"):
                given[registry] = given.get(registry, 0) + size
    by_registry: dict[str, dict[str, int]] = defaultdict(dict)
    for (registry, repository), count in pulls.items():
        by_registry[registry][repository] = count
    for registry, counts in by_registry.items():
        named = largest(counts, look.session.config.report.metrics.repositories)
        yield from _with_others("repository_pulls", counts, named, registry, look.now)
    for registry, size in given.items():
        yield sample("egress_bytes", size, look.now, registry=registry)


def _with_others(
    name: str, counts: dict[str, int], named: frozenset[str], registry: str, now: datetime
) -> Iterator[Sample]:
    from registry_pipelines.measures import OTHERS

    rest = sum(count for repository, count in counts.items() if repository not in named)
    told = {repository: counts[repository] for repository in sorted(named)} | ({OTHERS: rest} if rest else {})
    for repository, count in told.items():
        yield sample(name, count, now, registry=registry, repository=repository)


def replication(look: Look) -> Iterator[Sample]:
    """How far targets are behind. A lag that is not known has no number."""
    from registry_pipelines.chain.ways import lags

    for each in lags(look.session):
        labels = {"image": each.edge.image, "channel": each.channel, "target": each.edge.target}
        if each.lag_s is None:
            look.fail("replication", f"{each.edge.name} {each.edge.image}:{each.channel}: {each.why}")
        else:
            yield sample("replication_lag_seconds", max(0.0, each.lag_s), look.now, **labels)
        if each.took_s is not None:
            yield sample("replication_arrival_seconds", each.took_s, look.now, **labels)


def receipts(look: Look) -> Iterator[Sample]:
    """Bytes of images that arrived within a day, by the receipts that there are."""
    moved: Counter[tuple[str, str]] = Counter()
    since = look.now.timestamp() - DAY.total_seconds()
    found = look.session.receipts().written_since(since, MOST_RECEIPTS + 1)
    for count, (name, envelope) in enumerate(found, start=1):
        if count > MOST_RECEIPTS:
            look.notes.append(f"more than {MOST_RECEIPTS} receipts are of the last day; the rest is not counted")
            break
        if (read := _arrival(look, name, envelope)) is not None:
            moved[read[:2]] += read[2]
    for (source, target), size in moved.items():
        yield sample("replicated_bytes", size, look.now, source=source, target=target)


def _arrival(look: Look, name: str, envelope: bytes) -> tuple[str, str, int] | None:
    """Source, target and bytes of a receipt of the last day. A receipt is no secret, and none that is believed here."""
    from registry_pipelines.transfer.delivery.receipts import Receipt

    try:
        document = Receipt.read(envelope).document
        at = read_time(str(document["read_back_at"]))
        ends = tuple(str(document[name]).partition("/")[0] for name in ("source", "target"))
        size = int(document["size_bytes"])
    except (ManifestInvalid, KeyError, TypeError, ValueError, RecursionError) as error:
        look.fail("receipts", f"{name} cannot be read: {type(error).__name__}")
        return None
    if at is None or not look.now - DAY <= at <= look.now + SKEW or size < 0:
        return None
    source, target = (look.session.places.configured(each) or each for each in ends)
    return source, target, size


def mirrors(look: Look) -> Iterator[Sample]:
    """Since when each upstream is there, by signed records."""
    from registry_pipelines.chain.mirror_record import age

    for name, settings in look.session.config.mirrors.items():
        if not settings.upstreams:
            continue
        try:
            found = age(look.session, name)
        except RegistryPipelinesError as error:
            look.fail(f"mirror {name}", str(error))
            continue
        for row in found.rows:
            at = read_time(str(row["last"]), zone=UTC)
            passed = look.age(f"mirror {name}", f"the record of {row['upstream']}", at)
            if passed is None:
                look.fail(f"mirror {name}", next(iter(found.reasons), f"{row['upstream']} has no record"))
            else:
                yield sample("mirror_age_seconds", passed, look.now, mirror=name, upstream=str(row["upstream"]))


def advisories(look: Look) -> Iterator[Sample]:
    """How old the newest advisory in use is."""
    from registry_pipelines.chain.advisory_sets import standing

    config = look.session.config
    if not config.images:
        return
    facts = standing(config.state, now=look.now, config=config).facts
    passed = look.age("advisories", "the newest advisory", read_time(str(facts["newest"]), zone=UTC))
    if passed is not None:
        yield sample("advisories_age_seconds", passed, look.now)


def verdicts(look: Look) -> Iterator[Sample]:
    """How the channels of images stand, by what is signed."""
    counted: Counter[tuple[str, str]] = Counter()
    look.statuses = statuses(look.session)
    for each in look.statuses:
        counted[each.image, each.ruling] += 1
        for problem in each.problems:
            look.fail("verdicts", problem)
        waiting = sum(not newer.rolled_back for newer in each.newer) + each.more_newer
        yield sample("waiting_releases", waiting, look.now, image=each.image, channel=each.channel)
    for (image, outcome), count in counted.items():
        yield sample("verdicts", count, look.now, image=image, outcome=outcome)


def packs(look: Look) -> Iterator[Sample]:
    """How old the hot packs are of what channels name; of several platforms the oldest. After :func:`verdicts`."""
    config = look.session.config
    verifier = look.session.keys.trusted_if_any()
    if verifier is None:
        return
    for each in look.statuses or ():
        image = config.images[each.image]
        recorded = config.node.record is not None or (image.stream is not None and image.stream.record is not None)
        if not each.digest or not recorded:
            continue
        try:
            made = list(_made(look, image, Digest(each.digest)))
        except RegistryPipelinesError as error:
            look.fail("hot packs", f"{each.image}:{each.channel}: {error}")
            continue
        if (passed := look.age("hot packs", f"the pack of {each.image}", min(made, default=None))) is not None:
            yield sample("hot_pack_age_seconds", passed, look.now, image=each.image, channel=each.channel)


def _made(look: Look, image: Image, release: Digest) -> Iterator[datetime]:
    """When the newest pack of each platform was made."""
    from registry_pipelines.registry.platforms import read_images
    from registry_pipelines.stream.hot.packs import find_packs

    place, verifier = look.session.source_of(image), look.session.verifier()
    top = place.registry.get_manifest(place.repository, release)
    for entry in read_images(place, top, configs=False):
        for pack in find_packs(place, entry.digest, verifier, first=True).believed[:1]:
            if (at := read_time(pack.note.made, zone=UTC)) is not None:
                yield at


def backups(look: Look) -> Iterator[Sample]:
    """How old the newest whole moment of each backup is."""
    from registry_pipelines.chain.moments import moments_place, newest_whole, settings_of, tags_of
    from registry_pipelines.recover.moment import moment_tags, read_tag

    for name in look.session.config.backups:
        source = f"backup {name}"
        settings = settings_of(look.session, name)
        try:
            tags = moment_tags(tags_of(moments_place(look.session, settings)))
            whole, against = newest_whole(look.session, settings, tags)
        except RegistryPipelinesError as error:
            look.fail(source, str(error))
            continue
        if not tags:
            look.fail(source, "there is no backup yet")
            continue
        if against:
            look.fail(source, against[0])
        if not whole:
            continue
        passed = look.age(source, "the newest moment", read_tag(whole))
        if passed is not None:
            yield sample("backup_age_seconds", passed, look.now, backup=name)


class _Drilled(msgspec.Struct):
    """What a drill left in the state folder; see ``chain.drill``."""

    time: str
    ok: bool
    rto_s: float = 0.0


def drills(look: Look) -> Iterator[Sample]:
    """How the last drill of each backup went, and when; of one that never ran nothing is told but that."""
    for name in look.session.config.backups:
        source = f"drill {name}"
        kept = look.session.documents.read(f"recover/{name}-drill.json", most=MOST_DRILL_BYTES)
        if kept is None:
            look.fail(source, "there was no drill yet")
            continue
        try:
            drilled = msgspec.json.decode(kept.content, type=ready(_Drilled))
        except msgspec.DecodeError as error:
            raise InputError(f"this cannot be read: {error}", where=source, do="Run a drill again") from error
        passed = look.age(source, "the last drill", read_time(drilled.time, zone=UTC))
        if passed is None:
            look.fail(source, "its time cannot be read")
            continue
        yield sample("drill_age_seconds", passed, look.now, backup=name)
        yield sample("drill_failed", not drilled.ok, look.now, backup=name)
        yield sample("drill_recovery_seconds", drilled.rto_s, look.now, backup=name)


MOST_DRILL_BYTES = 1024 * 1024

SOURCES: dict[str, Callable[[Look], Iterator[Sample]]] = {
    "replication": replication,
    "receipts": receipts,
    "logs": logs,
    "mirrors": mirrors,
    "advisories": advisories,
    "verdicts": verdicts,
    "hot packs": packs,
    "backups": backups,
    "drills": drills,
}
"""Beside inventories, in the order in which they are asked."""

__all__ = ["SOURCES", "Look", "stored"]
