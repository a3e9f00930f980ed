"""How good the practice is, image by image and registry by registry: evidence of the latest releases and settings."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta

from registry_pipelines.chain.maturity_settings import Settings, read_settings, retention_rule
from registry_pipelines.chain.releases import releases_of
from registry_pipelines.chain.result import StageResult
from registry_pipelines.chain.session import Session
from registry_pipelines.config import Image
from registry_pipelines.errors import EvidenceError, ManifestInvalid, RegistryPipelinesError
from registry_pipelines.evidence.attestations import read_attestations
from registry_pipelines.evidence.model import Attestations, Verifier
from registry_pipelines.evidence.predicates import IMAGE_ADVICE_TYPE, PROVENANCE_TYPE
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.tags import order_key
from registry_pipelines.oci.times import read_time, write_time
from registry_pipelines.progress import count_text
from registry_pipelines.promote.evidence import signed_about
from registry_pipelines.promote.origins import read_origins
from registry_pipelines.promote.starts import read_start
from registry_pipelines.promote.verdicts import read as read_verdicts
from registry_pipelines.registry.platforms import Entry, images_of, read_entries
from registry_pipelines.registry.protocol import Place
from registry_pipelines.release import Release
from registry_pipelines.report.maturity import (
    CRITERIA,
    MOST_WASTE,
    OF_REGISTRY,
    REPORT_DAYS,
    Answer,
    Criterion,
    Maturity,
    Subject,
    in_order,
    together,
)
from registry_pipelines.scan.advice.document import counting, signed_advice
from registry_pipelines.sign.cosign import verify_image
from registry_pipelines.stream.standing import read_standing
from registry_pipelines.threads import Pool

THREADS = 8
"""Images looked at once: small requests, so latency counts."""

FOLDERS = ("layout", "store")
"""Kinds of registries that nothing pulls from."""

OF_EVIDENCE = tuple(each for each in CRITERIA if each not in OF_REGISTRY)


def maturity(session: Session, images: Sequence[str] = ()) -> Maturity:
    """Every registry and image of the configuration, or some images alone. Nothing is written. What a registry does not
    answer is unknown, with why. Raises InputError: no such image, keys that cannot be read."""
    wanted = [session.image(name) for name in images] or list(session.config.images.values())
    session = session.remembering()
    verifier = session.keys.trusted_if_any()
    named = dict.fromkeys([image.registry for image in wanted])
    if not images:
        named |= dict.fromkeys(name for name, each in session.config.registries.items() if each.kind not in FOLDERS)
    with Pool(THREADS, "maturity") as pool:
        settings = dict(zip(named, pool.map(lambda name: _settings(session, name), named), strict=True))
        found = list(pool.map(lambda image: _image(session, image, settings[image.registry], verifier), wanted))
    notes = [f"{name}: {note}" for name, each in settings.items() for note in each.notes]
    if images:
        return Maturity(made_at=write_time(session.now()), subjects=tuple(found), notes=tuple(notes))
    by_registry = {name: [s for s, i in zip(found, wanted, strict=True) if i.registry == name] for name in named}
    registries = [_registry(session, settings[name], by_registry[name]) for name in named]
    return Maturity(made_at=write_time(session.now()), subjects=(*registries, *found), notes=tuple(notes))


def below(session: Session, found: Maturity) -> list[str]:
    """What is below `report.least_tier`, a sentence each with what is missing."""
    least = session.config.report.least_tier
    return [
        f"{each.kind} {each.name} has tier {each.tier} of {least}: {step.name}: {step.why}"
        for each in found.subjects
        if each.tier < least and (step := each.next_step)
    ]


def told(session: Session) -> StageResult:
    """The same as a result: a number for each subject, which Dagster charts. Not ``ok`` below `report.least_tier`."""
    started = time.monotonic()
    found = maturity(session)
    reasons = below(session, found)
    return StageResult(
        stage="maturity",
        subject="all",
        action=f"{count_text(len(reasons), 'subject')} below the tier that is wanted" if reasons else "looked at",
        seconds=time.monotonic() - started,
        facts={f"tier of {each.kind} {each.name}": each.tier for each in found.subjects},
        rows=[{name: value for name, value in row.items() if name != "practice"} for row in found.rows()],
        tables={"criteria": [{"of": f"{s.kind} {s.name}", **row} for s in found.subjects for row in s.rows()]},
        reasons=reasons,
        notes=list(found.notes),
        ok=not reasons,
    )


def _settings(session: Session, name: str) -> Settings:
    return read_settings(session, name, _repositories(session, name))


def _repositories(session: Session, registry: str) -> list[str]:
    """Of the images whose source a registry is."""
    return list(dict.fromkeys(each.repository for each in session.config.images.values() if each.registry == registry))


def _registry(session: Session, settings: Settings, images: Sequence[Subject]) -> Subject:
    name = settings.registry
    repositories = _repositories(session, name)
    own = _own(session, settings, repositories)
    ours = [together(each, images, name) for each in OF_EVIDENCE]
    return Subject(kind="registry", name=name, criteria=in_order([*own, *ours]))


def _own(session: Session, settings: Settings, repositories: Sequence[str]) -> Iterator[Criterion]:
    """What is asked of settings, for some repositories of a registry."""
    name = settings.registry
    declare = f"declare it below `infra.{name}`, then `registry-pipelines infra apply {name}`"
    where = declare if settings.declarable else f"set it where {name} is run"
    yield settings.all(settings.private, repositories).criterion("private", where)
    yield _lifecycle(session, settings, repositories)
    yield settings.all(settings.immutable, repositories).criterion("immutable", where)
    yield _cached(session, settings)
    yield _monitored(session, name)


def _lifecycle(session: Session, settings: Settings, repositories: Sequence[str]) -> Criterion:
    name = settings.registry
    uncovered = [each for each in repositories if not retention_rule(session, name, each)]
    if repositories and not uncovered:
        rules = dict.fromkeys(retention_rule(session, name, each) for each in repositories)
        return Criterion(
            name="lifecycle", answer="yes", why=f"retention by {', '.join(rules)}", read_from="`retention` of the file"
        )
    do = f"write a rule of `retention` for {name}, then `registry-pipelines collect plan {name}`"
    return settings.all(settings.lifecycle, uncovered or repositories).criterion("lifecycle", do)


def _cached(session: Session, settings: Settings) -> Criterion:
    """Caches of upstreams, or mirrors of them: builds and nodes ask no registry of the internet."""
    name, config = settings.registry, session.config
    found = [f"a cache of {each}" for each in settings.caches]
    found += [f"a cache of {host}" for host, each in config.caches.items() if each.registry == name]
    found += [f"mirror {key}" for key, each in config.mirrors.items() if name in (each.via, each.to) and each.upstreams]
    rules = ", pull-through rules of the cloud" if settings.declarable else ""
    read_from = f"`caches` and `mirrors` of the file{rules}"
    if found:
        return Criterion(name="cached", answer="yes", why=", ".join(found[:5]), read_from=read_from)
    do = f"declare a cache (`caches`, `infra.{name}.pull_through`) or a mirror of the upstreams that builds use"
    return Criterion(
        name="cached", answer="no", why="no cache and no mirror of an upstream", read_from=read_from, do=do
    )


def _monitored(session: Session, name: str) -> Criterion:
    """Somebody is told of what goes wrong, and what the registry tells is read."""
    config = session.config
    told = config.notify.ways
    events = getattr(config.registries[name], "events", None) is not None
    audited = _audited(session, name)
    have = [word for word, there in (("notify", told), ("events", events), ("audit", audited)) if there]
    read_from = f"`notify`, `registries.{name}.events`, `report.audit` of the file"
    if told and (events or audited):
        return Criterion(name="monitored", answer="yes", why=" and ".join(have), read_from=read_from)
    wanted = {"notify": told, f"registries.{name}.events or report.audit": events or audited}
    lacks = [word for word, there in wanted.items() if not there]
    do = f"write {' and '.join(lacks)} into the configuration"
    why = f"not set: {', '.join(lacks)}"
    return Criterion(name="monitored", answer="no", why=why, read_from=read_from, do=do)


def _audited(session: Session, name: str) -> bool:
    """Whether a log of the registry is read for the audit; one that is of no registry by name may be of any."""
    sources = session.config.report.audit.sources.values()
    return any(getattr(each, "registry", name) == name for each in sources)


@dataclass(frozen=True)
class _Look:
    """The latest release of an image, as its evidence is read."""

    release: Release
    place: Place
    verifier: Verifier
    known: Attestations
    images: Sequence[Entry]

    @property
    def name(self) -> str:
        """As commands take it."""
        return f"{self.release.image}:{self.release.tag}"


def _image(session: Session, image: Image, settings: Settings, verifier: Verifier | None) -> Subject:
    own = [_of_image(session, image, each) for each in _own(session, settings, [image.repository])]
    try:
        release = max(releases_of(session, image), key=lambda each: order_key(each.tag), default=None)
    except RegistryPipelinesError as error:
        return Subject(
            kind="image", name=image.name, criteria=in_order([*own, *_unread(f"its registry: {error.what}")])
        )
    if release is None:
        return Subject(kind="image", name=image.name, criteria=in_order([*own, *_unread("it has no release yet")]))
    try:
        evidence = list(_evidence(session, image, release, verifier))
    except RegistryPipelinesError as error:
        evidence = list(_unread(f"its evidence: {error.what}"))
    return Subject(kind="image", name=image.name, release=release.key, criteria=in_order([*own, *evidence]))


def _of_image(session: Session, image: Image, criterion: Criterion) -> Criterion:
    """A replica near the nodes counts as a cache does."""
    if criterion.name != "cached" or not image.targets:
        return criterion
    return Criterion(
        name="cached",
        answer="yes",
        why=f"replicas at {', '.join(image.targets)}",
        read_from=f"images.{image.name}.targets",
    )


def _unread(why: str) -> Iterator[Criterion]:
    for name in OF_EVIDENCE:
        yield Criterion(name=name, answer="unknown", why=why, read_from="evidence of its latest release")


def _evidence(session: Session, image: Image, release: Release, verifier: Verifier | None) -> Iterator[Criterion]:
    if verifier is None:
        yield from _unread("no trusted key is here, so nothing is believed")
        return
    verifier = verifier.under(session.policy_of(image).attestor_names)
    place = session.source_of(image)
    top = place.registry.get_manifest(place.repository, release.digest)
    known = read_attestations(place, release.digest, verifier)
    look = _Look(release, place, verifier, known, images_of(read_entries(place, top)))
    yield _slim(look)
    yield _scanned(look, session)
    yield _judged(look, session)
    yield _signed(look)
    yield _provenance(look)
    yield from _starts(look)


def _answer(name: str, value: bool, why: str, read_from: str, do: str, evidence: str = "") -> Criterion:
    answer: Answer = "yes" if value else "no"
    shown = "" if value else do
    return Criterion(name=name, answer=answer, why=why, read_from=read_from, evidence=evidence, do=shown)


def _slim(look: _Look) -> Criterion:
    do = f"registry-pipelines lint {look.name}"
    read_from = "signed image advice"
    found = []
    for each in look.known.of_type(IMAGE_ADVICE_TYPE):
        try:
            found.append((signed_advice(each), each.descriptor.digest))
        except ManifestInvalid:
            continue
    latest = counting([document for document, _ in found])
    if not latest:
        why = "nobody looked at what need not be in it"
        do = f"registry-pipelines ship {look.name} --until advice"
        return Criterion(name="slim", answer="unknown", why=why, read_from=read_from, do=do)
    evidence = next(digest for document, digest in found if document in latest)
    platforms = [each for document in latest for each in document.platforms]
    share = max((each.wasted / each.compressed for each in platforms if each.compressed), default=0.0)
    why = f"{share:.0%} of its stored bytes need not be there (at most {MOST_WASTE:.0%})"
    return _answer("slim", share <= MOST_WASTE, why, read_from, do, evidence)


def _scanned(look: _Look, session: Session) -> Criterion:
    do = f"registry-pipelines scan {look.name}"
    found = signed_about(look.known, look.release.digest)
    if found is None:
        return _answer("scanned", False, "no believed key signed a report", "signed vulnerability reports", do)
    report, attestation = found
    at = read_time(report.scanned_at)
    age = session.now() - at if at else None
    if age is None:
        why = "the report has no time"
        return Criterion(name="scanned", answer="unknown", why=why, read_from="signed vulnerability reports", do=do)
    fresh = age <= timedelta(days=REPORT_DAYS)
    why = f"scanned {report.scanned_at}, {count_text(age.days, 'day')} ago (at most {REPORT_DAYS})"
    return _answer(
        "scanned", fresh, why, "the latest signed vulnerability report", f"{do}; `registry-pipelines rescan`",
        attestation.descriptor.digest,
    )  # fmt: skip


def _judged(look: _Look, session: Session) -> Criterion:
    policy = session.policy(look.release)
    do = f"registry-pipelines judge {look.name}"
    if policy.limits.critical != 0:
        why = f"policy {policy.name} permits critical findings"
        return _answer("judged", False, why, f"policies.{policy.name}", "set `limits: {critical: 0}` in it")
    latest = read_verdicts(look.place, look.release.digest, look.verifier, known=look.known).latest(look.release.image)
    if latest is None:
        return _answer("judged", False, "nobody judged it", "signed verdicts", do)
    word = "allowed" if latest.verdict.allow else "denied"
    why = f"{word} by policy {latest.verdict.policy} at {latest.verdict.time}"
    return _answer("judged", True, why, "the latest signed verdict", do, latest.digest)


def _signed(look: _Look) -> Criterion:
    do = f"registry-pipelines sign {look.name}"
    try:
        found = verify_image(look.place, look.release.digest, look.verifier, known=look.known)
    except EvidenceError as error:
        return _answer("signed", False, error.what, "signatures of the image", do)
    first = found.signatures[0]
    return _answer("signed", True, "a key that is believed signed it", "signatures", do, first.descriptor.digest)


def _provenance(look: _Look) -> Criterion:
    do = "build it with `registry-pipelines build`, or have its builder attach SLSA provenance, and `sign` it"
    found = list(look.known.of_type(PROVENANCE_TYPE))
    for origin in read_origins(look.place, look.known, look.release.digest, look.images, look.verifier)[0]:
        found += origin.provenance
    if not found:
        return _answer("provenance", False, "no believed key signed provenance", "signed SLSA provenance", do)
    evidence = found[0].descriptor.digest
    return _answer("provenance", True, "its builder says what went in", "signed SLSA provenance", do, evidence)


def _starts(look: _Look) -> Iterator[Criterion]:
    platforms = len(look.images)
    streams = read_standing(look.place, look.release.digest, look.verifier)
    do = f"registry-pipelines stream index {look.name}"
    why = f"{streams.covered} of {count_text(platforms, 'platform')}: {streams.text}"
    yield _answer("streams", 0 < platforms == streams.covered, why, "signed indexes, and the form of its layers", do)
    starts = [read_start(look.place, Digest.parse(each.digest), look.verifier) for each in look.images]
    packs, reports = [each.pack for each in starts if each.pack], [each.report for each in starts if each.report]
    told = f"{len(packs)} of {count_text(platforms, 'platform')} with a pack of what a start reads"
    do = f"registry-pipelines stream record {look.name}"
    evidence = packs[0].descriptor.digest if packs else ""
    yield _answer("packed", 0 < platforms == len(packs), told, "signed hot packs", do, evidence)
    told = f"{len(reports)} of {count_text(platforms, 'platform')} measured"
    if reports:
        told += f": {max(each.result_s for each in reports):.1f} s"
    do = f"registry-pipelines stream measure {look.name}"
    yield _answer("measured", 0 < platforms == len(reports), told, "signed measurements of starts", do)
