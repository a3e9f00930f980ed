"""Advisory sets over a configuration, or over a state folder alone: update, status, export, import.

What indexes records brings the comparers of versions along, and is loaded by what indexes.
"""

from __future__ import annotations

import re
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from registry_pipelines.chain.advisories import UPDATE, advisory_source, age_alerts, remedy, strictest_age
from registry_pipelines.chain.releases import LOOKUP_THREADS, releases_of
from registry_pipelines.chain.result import Scalar, StageResult
from registry_pipelines.chain.session import Session
from registry_pipelines.chain.shared_advisories import brought, renewed
from registry_pipelines.config import Advisories, Config
from registry_pipelines.errors import (
    AdvisoriesMissing,
    EvidenceMissing,
    InputError,
    RegistryError,
    RegistryPipelinesError,
)
from registry_pipelines.oci.decoding import ready
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.files import local_errors, write_file
from registry_pipelines.oci.times import CLOCK_SKEW, read_time
from registry_pipelines.progress import Progress, age_text, count_text
from registry_pipelines.promote.documents import DEFAULT_POLICY
from registry_pipelines.registry.protocol import Place
from registry_pipelines.scan.advisory_sets import ECOSYSTEM, AdvisorySet, Part, current_set, folder_of, root_of
from registry_pipelines.scan.set_archives import reader, write_set
from registry_pipelines.threads import Pool

if TYPE_CHECKING:
    from registry_pipelines.scan.deriving import Held
    from registry_pipelines.scan.updating import Updated

NO_FEED = "Bring a set from another machine: `registry-pipelines advisories import FILE`"

_ARCHIVE = re.compile(rf"(?P<ecosystem>{ECOSYSTEM.pattern})=(?P<path>.+)")


def updated(session: Session, ecosystems: Collection[str] = ()) -> StageResult:
    """Fetch what is new for the ecosystems that stored SBOMs name, the configuration names and ``ecosystems`` names.

    Raises InputError (the configuration has own advisories, or no feed), and as
    :func:`registry_pipelines.scan.updating.update`.
    """
    config = session.config
    _require_no_own_source(config)
    mirror = config.advisories.debian_security
    if config.advisories.feed is None:
        if mirror is None:
            raise InputError("`advisories.feed` is null: nothing is fetched here", do=NO_FEED)
        return derived(session, mirror)
    held, notes = held_ecosystems(session)
    wanted = {*held, *config.advisories.ecosystems, *ecosystems}
    with renewed(config):
        result = fetched(config.state, wanted, now=session.now(), progress=session.progress, config=config)
    if mirror is not None:
        try:
            both = derived(session, mirror)
        except RegistryPipelinesError as error:  # what was fetched is in use by now, and the old derived part ages
            return replace(result, notes=[*notes, *result.notes, f"nothing was derived for Debian: {error}"])
        rows = {str(row["ecosystem"]): row for row in result.rows}
        result = replace(
            both,
            action=", ".join([result.action, *([both.action] if both.changed else [])]),
            changed=result.changed or both.changed,
            bytes_moved=result.bytes_moved + both.bytes_moved,
            seconds=result.seconds + both.seconds,
            rows=[rows.get(str(row["ecosystem"]), row) for row in both.rows],
            notes=[*result.notes, *both.notes],
        )
    return replace(result, notes=[*notes, *result.notes])


def derived(session: Session, mirror: str) -> StageResult:
    """Derive advisories of Debian's changelogs for what stored SBOMs hold. mirror: of the security archive. Raises as
    :func:`registry_pipelines.scan.deriving.derive`."""
    from registry_pipelines.scan.deriving import derive
    from registry_pipelines.scan.feed import Feed

    started, config = time.monotonic(), session.config
    held, notes = _held_sources(session)
    feed = Feed(mirror)
    try:
        with renewed(config):
            done = derive(feed, held, config.state, now=session.now(), progress=session.progress)
    finally:
        feed.close()
    result = told(done, now=session.now(), config=config, started=started)
    return replace(result, bytes_moved=feed.received_bytes, notes=[*notes, *result.notes])


def _held_sources(session: Session) -> tuple[list[Held], list[str]]:
    """Debian's source packages that stored SBOMs name, each with its lowest version; what could not be looked at."""
    from registry_pipelines.scan.deriving import Held
    from registry_pipelines.scan.publish import read_sboms
    from registry_pipelines.scan.versions import parse_version

    lowest: dict[tuple[str, str], str] = {}
    notes = []

    def packages(place: Place, digest: Digest) -> set[tuple[str, str, str]]:
        try:
            found = [each for _, of_platform in read_sboms(place, digest) for each in of_platform.components]
        except EvidenceMissing:
            return set()
        return {
            (each.ecosystem.partition(":")[2], each.source_name or each.name, each.source_version or each.version)
            for each in found
            if each.ecosystem.startswith("Debian:")
        }

    for image in session.config.images.values():
        place = session.places.source(image)
        try:
            digests = [release.digest for release in releases_of(session, image)]
            with Pool(LOOKUP_THREADS, "sources") as pool:
                found = set().union(*pool.map(lambda digest, place=place: packages(place, digest), digests))
        except RegistryError as error:
            notes.append(f"{image.name} was not asked what it holds: {error.what}")
            continue
        for release, source, version in sorted(found):
            there, mine = lowest.get((release, source)), parse_version("Debian", version)
            if mine is not None and (there is None or mine < parse_version("Debian", there)):
                lowest[release, source] = version
    return [Held(release, source, version) for (release, source), version in sorted(lowest.items())], notes


def fetched(
    state: Path, ecosystems: Collection[str], *, now: datetime, progress: Progress, config: Config | None = None
) -> StageResult:
    """Fetch what is new for these ecosystems into a state folder. Raises as
    :func:`registry_pipelines.scan.updating.update`."""
    from registry_pipelines.scan.feed import Feed
    from registry_pipelines.scan.updating import update

    started = time.monotonic()
    feed = Feed((config.advisories if config else Advisories()).feed or "")
    try:
        done = update(feed, ecosystems, state, now=now, progress=progress)
    finally:
        feed.close()
    result = told(done, now=now, config=config, started=started)
    return replace(result, bytes_moved=feed.received_bytes)


def held_ecosystems(session: Session) -> tuple[set[str], list[str]]:
    """The ecosystems that SBOMs of the configuration's releases name, and what could not be looked at. What a release
    held when it was looked at before is not read again."""
    path = root_of(session.config.state) / "ecosystems.json"
    try:
        known = msgspec.json.decode(path.read_bytes(), type=ready(dict[str, list[str]]))
    except (OSError, msgspec.MsgspecError):
        known = {}
    seen: dict[str, list[str]] = {}
    notes, without = [], 0
    for image in session.config.images.values():
        place = session.places.source(image)
        try:
            digests = [release.digest for release in releases_of(session, image)]
            with Pool(LOOKUP_THREADS, "ecosystems") as pool:
                named = list(pool.map(lambda digest, place=place: known.get(digest) or _named(place, digest), digests))
        except RegistryError as error:
            notes.append(f"{image.name} was not asked what it holds: {error.what}")
            seen |= known
            continue
        seen |= {digest: names for digest, names in zip(digests, named, strict=True) if names is not None}
        without += named.count(None)
    if without:
        notes.append(f"{count_text(without, 'release')} without an SBOM: what is in them is not known")
    with local_errors(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, msgspec.json.encode(seen))
    return {name for names in seen.values() for name in names}, notes


def _named(place: Place, digest: Digest) -> list[str] | None:
    """The ecosystems that a release's SBOMs name; None where it has none."""
    from registry_pipelines.scan.publish import read_sboms

    try:
        packages = [of_platform for _, of_platform in read_sboms(place, digest)]
    except EvidenceMissing:
        return None
    found = {folder_of(component.ecosystem) for each in packages for component in each.components}
    return sorted(found - {""})


def standing(state: Path, *, now: datetime, config: Config | None = None) -> StageResult:
    """Which advisories are used, how old they are, and of which digest; not ``ok`` when they are older than the
    strictest policy permits. Asks no registry and no feed. Raises AdvisoriesMissing."""
    from registry_pipelines.scan.advisories import AdvisoryStore

    started = time.monotonic()
    own = config.advisories.source if config else None
    if config is not None:
        brought(config)
    chosen = None if own else current_set(state)
    store = AdvisoryStore.load(chosen.folder if chosen else advisory_source(state, own), state)
    store.close()
    facts, max_age = store.facts, _max_age(config)
    alerts = age_alerts(facts, max_age=max_age, now=now, do=remedy(config))
    rows: Sequence[Mapping[str, Scalar]] = (
        [set_row(part, now) for part in chosen.description.parts]
        if chosen
        else [
            {"ecosystem": name, "records": each.records, "newest": each.newest, "age": _age(each.newest, now)}
            for name, each in store.ecosystems.items()
        ]
    )
    return StageResult(
        stage="advisories",
        subject=facts.source,
        action=f"{count_text(facts.records, 'record')}, as of {facts.newest}, {_how_old(facts.newest, now)}",
        digest=facts.digest,
        seconds=time.monotonic() - started,
        facts={
            "source": facts.source,
            "kind": "set" if chosen else "own" if own else "snapshot",
            "newest": facts.newest,
            "age_days": _age_days(facts.newest, now),
            "records": facts.records,
            "unreadable": facts.unreadable,
            "digest": facts.digest,
        },
        rows=rows,
        alerts=alerts,
        notes=_missing(chosen) if chosen else [],
        ok=not alerts,
    )


def exported(state: Path, target: Path, *, now: datetime, config: Config | None = None) -> StageResult:
    """Write the set in use to one file; ``digest`` is the file's sha256. Raises AdvisoriesMissing (there is none),
    DiskFull, LocalError."""
    started = time.monotonic()
    if config is not None:
        brought(config)
    chosen = current_set(state)
    if chosen is None:
        raise AdvisoriesMissing("no advisory set was fetched or imported here", do=UPDATE.partition(",")[0])
    digest = write_set(chosen, target)
    return StageResult(
        stage="advisories:export",
        subject=str(target),
        action=f"written; on the other side: registry-pipelines advisories import {target.name} --digest {digest}",
        digest=digest,
        changed=True,
        seconds=time.monotonic() - started,
        facts={"file": str(target), "sha256": digest, "size_bytes": target.stat().st_size, **set_facts(chosen, now)},
        rows=[set_row(part, now) for part in chosen.description.parts],
    )


def imported(
    state: Path, files: Sequence[str], *, now: datetime, digest: Digest | None = None, config: Config | None = None
) -> StageResult:
    """Use one exported set (``FILE``), or take archives that were fetched by hand (``ECOSYSTEM=FILE``). digest: the
    sha256 of the set's file.

    Raises InputError, DigestMismatch, AdvisoriesMissing: nothing is changed then.
    """
    started = time.monotonic()
    if config is not None:
        _require_no_own_source(config)
    matches = [_ARCHIVE.fullmatch(text) for text in files]
    archives = {match["ecosystem"]: Path(match["path"]) for match in matches if match}
    for path in archives.values() if archives else map(Path, files):
        if not path.is_file():
            raise InputError("there is no such file", where=str(path))
    from registry_pipelines.scan.importing import import_archives, take

    if archives and len(archives) == len(files) and digest is None:
        with renewed(config):
            done = import_archives(archives, state, now=now)
    elif not archives and len(files) == 1:
        with renewed(config):
            done = take(state, reader(Path(files[0]), now=now, digest=digest), now=now)
    else:
        raise InputError(
            "either one exported set is imported, or archives, each with its ecosystem",
            do="Write `advisories import FILE [--digest sha256:...]`, or `advisories import PyPI=FILE Debian=FILE`",
        )
    return told(done, now=now, config=config, started=started)


def _require_no_own_source(config: Config) -> None:
    if config.advisories.source is not None:
        raise InputError(
            "`advisories.source` names advisories of your own, so a set that is fetched or imported would not be used",
            where=str(config.path),
            do="Take `advisories.source` out of the configuration, or keep that folder up to date yourself",
        )


def told(done: Updated, *, now: datetime, config: Config | None, started: float) -> StageResult:
    """What became of the sets. started: of ``time.monotonic``."""
    from registry_pipelines.scan.advisories import AdvisoryStore

    chosen = done.set
    store = AdvisoryStore.load(chosen.folder, chosen.folder.parents[2])
    store.close()
    parts = [part for part in chosen.description.parts if done.fetched.get(part.ecosystem) not in ("unchanged", "kept")]
    return StageResult(
        stage="advisories",
        subject=chosen.folder.name,
        action=", ".join(f"{part.ecosystem}: {done.fetched.get(part.ecosystem, '')}" for part in parts) or "unchanged",
        digest=chosen.description.digest,
        changed=done.changed,
        seconds=time.monotonic() - started,
        facts={name: value for name, value in set_facts(chosen, now).items() if name != "set_digest"},
        rows=[set_row(part, now, done.fetched.get(part.ecosystem, "kept")) for part in chosen.description.parts],
        alerts=age_alerts(store.facts, max_age=_max_age(config), now=now, do="The export, or the file, is that old"),
        notes=[*done.notes, *(f"not readable: {each.subject}: {each.reason}" for each in store.problems[:10])],
    )


def set_facts(chosen: AdvisorySet, now: datetime) -> dict[str, Scalar]:
    """What a set is, in numbers."""
    parts = chosen.description.parts
    return {
        "set": chosen.folder.name,
        "set_digest": chosen.description.digest,
        "newest": chosen.description.newest,
        "age_days": _age_days(chosen.description.newest, now),
        "records": sum(part.records for part in parts),
        "malicious": sum(part.malicious for part in parts),
    }


def set_row(part: Part, now: datetime, fetched: str = "") -> dict[str, Scalar]:
    """An ecosystem of a set."""
    row: dict[str, Scalar] = {
        "ecosystem": part.ecosystem,
        "records": part.records,
        "malicious": part.malicious,
        "newest": part.newest,
        "complete": part.complete,
        "age": _age(part.complete, now),
        "size_bytes": sum(file.size for file in part.files),
    }
    return row | {"fetched": fetched} if fetched else row


def _missing(chosen: AdvisorySet) -> list[str]:
    return [
        f"{part.ecosystem}: {count_text(len(part.missing), 'record')} listed and not to be had: "
        f"{', '.join(part.missing[:5])}"
        for part in chosen.description.parts
        if part.missing
    ]


def _max_age(config: Config | None) -> timedelta:
    return strictest_age(config) if config else DEFAULT_POLICY.max_advisory_age


def _moment(text: str) -> datetime:
    return read_time(text, zone=UTC) or datetime.min.replace(tzinfo=UTC)


def _age(text: str, now: datetime) -> str:
    moment = _moment(text)
    return "in the future" if moment - now > CLOCK_SKEW else age_text((now - moment).total_seconds())


def _how_old(text: str, now: datetime) -> str:
    age = _age(text, now)
    return f"{age} old" if age[0].isdigit() else age


def _age_days(text: str, now: datetime) -> int:
    """Whole days; below 0 only for what is further in the future than clocks differ."""
    moment = _moment(text)
    return (now - moment).days if moment - now > CLOCK_SKEW else max(0, (now - moment).days)
