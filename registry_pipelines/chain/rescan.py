"""New advisories against what is stored: every release's attached SBOM, no layer pulled.

A sweep goes by 256 static buckets, so that a fleet of any size is a fixed number of runs; within one the work is done
by threads here. A report is attached where it says something else than the one before it. Of a release that was
promoted and that new findings speak against somebody is told, until that was taken.
"""

from __future__ import annotations

import gc
import time
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Literal

import msgspec

from registry_pipelines.chain.advisories import advisory_source, age_alerts, remedy, strictest_age
from registry_pipelines.chain.buckets import by_bucket, held
from registry_pipelines.chain.next_steps import typed
from registry_pipelines.chain.releases import LOOKUP_THREADS, releases_of
from registry_pipelines.chain.result import Scalar, StageResult
from registry_pipelines.chain.session import Session
from registry_pipelines.chain.shared_advisories import brought
from registry_pipelines.config import Image
from registry_pipelines.errors import (
    ContentError,
    EvidenceError,
    EvidenceMissing,
    RegistryError,
    RegistryPipelinesError,
    StateLocked,
    Unavailable,
)
from registry_pipelines.evidence.attestations import read_attestations
from registry_pipelines.evidence.model import Attestations
from registry_pipelines.oci.decoding import ready
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.times import read_time
from registry_pipelines.progress import count_text
from registry_pipelines.promote.evidence import signed_about
from registry_pipelines.promote.findings import newly_against
from registry_pipelines.promote.standing import records
from registry_pipelines.promote.vex import attested_vex
from registry_pipelines.registry.protocol import Place
from registry_pipelines.release import Release
from registry_pipelines.scan.cyclonedx import Remembered
from registry_pipelines.scan.other_scanners import carried_over
from registry_pipelines.scan.publish import not_vouched_for, publish_report, read_report, read_sboms
from registry_pipelines.scan.report import Report
from registry_pipelines.threads import Pool

if TYPE_CHECKING:  # brings the comparers of versions along
    from registry_pipelines.chain.ship import Tell
    from registry_pipelines.scan.fingerprints import Fingerprints, Package
    from registry_pipelines.scan.match import Matcher

MOST = 2000
"""Releases that one sweep of a bucket reads: each costs some twenty small requests. Those that waited for longest
come first; the rest is said, and is the next sweep's."""

OBJECTS_BETWEEN_COLLECTIONS = 50_000
"""Those of some ten SBOMs, a few MB."""
READ_AGAIN_DAYS = 15
"""From this age to twice of it a release is read again whatever advisories say, not all in one night: somebody may
have attached another SBOM."""

Found = Literal["newly vulnerable", "changed", "same", "no SBOM", "not read", "untouched"]
_ORDER: tuple[Found, ...] = ("newly vulnerable", "not read", "changed", "no SBOM", "same", "untouched")


class Mark(msgspec.Struct, frozen=True, kw_only=True):
    """What the state folder knows of a release's last sweep. It may be deleted at any time."""

    advisories: str
    """Digest of the advisories that it was matched with."""
    at: str
    """RFC 3339, UTC."""
    untold: tuple[str, ...] = ()
    """Reasons of which nobody could be told."""
    read: str = ""
    """When its SBOM was read, RFC 3339; empty in marks of earlier versions."""
    said: str = ""
    """Fingerprint of what advisories said about its packages then (``scan.fingerprints``)."""


@dataclass(frozen=True)
class _Answer:
    """What became of one release."""

    release: Release
    found: Found
    new: int = 0
    """Findings that the report before had not."""
    reasons: tuple[str, ...] = ()
    """What its new findings add against its policy."""
    promoted: bool = False
    problem: str = ""
    error: RegistryPipelinesError | None = None
    untold: tuple[str, ...] = ()
    bytes_moved: int = 0
    notes: list[str] = field(default_factory=list)
    packages: frozenset[Package] = frozenset()


def rescan(
    session: Session,
    images: Collection[str] = (),
    *,
    bucket: str = "",
    everything: bool = False,
    most: int = MOST,
    tell: Tell | None = None,
) -> StageResult:
    """Match the advisories that are there now with the stored SBOMs of all releases, or those of some images or of one
    bucket. A release that was matched with the same advisories before is passed over, unless ``everything``.

    most: releases of a bucket that are looked at. tell: tells of promoted releases that became vulnerable. ``ok``: none
    did, and every release with an SBOM was read. Raises InputError, AdvisoriesMissing, StateLocked (another process
    sweeps the same bucket), LocalError.
    """
    started, config = time.monotonic(), session.config
    chosen = [session.image(name) for name in images] or list(config.images.values())
    from registry_pipelines.scan.advisories import AdvisoryStore
    from registry_pipelines.scan.match import Matcher

    brought(config)
    store = AdvisoryStore.load(advisory_source(config.state, config.advisories.source), config.state)
    sweep = _Sweep(session, Matcher(store), everything=everything, most=most, tell=tell)
    try:
        for name, images_of in by_bucket(chosen, bucket).items():
            sweep.bucket(name, images_of)
    finally:
        store.close()
    alerts = age_alerts(store.facts, max_age=strictest_age(config), now=session.now(), do=remedy(config))
    subject = f"bucket {bucket}" if bucket else ", ".join(images) or "all images"
    return sweep.result(subject, alerts, started)


class Swept(msgspec.Struct, frozen=True):
    """When a bucket was wholly rescanned, RFC 3339, and with which advisories."""

    at: str
    advisories: str


def rescan_buckets(
    session: Session, buckets: Sequence[str], *, since: datetime | None = None, tell: Tell | None = None
) -> Iterator[tuple[str, StageResult | None]]:
    """Each of some buckets with its result, as it is done; None for one that another process has. What they share is
    read once. since: what was wholly rescanned from then on with the same advisories is passed over (``passed``).
    Raises as :func:`rescan`."""
    from registry_pipelines.scan.advisories import AdvisoryStore
    from registry_pipelines.scan.match import Matcher

    config = session.config
    store = AdvisoryStore.load(advisory_source(config.state, config.advisories.source), config.state)
    alerts = age_alerts(store.facts, max_age=strictest_age(config), now=session.now(), do=remedy(config))
    before: _Sweep | None = None
    matcher = Matcher(store)
    try:
        for name in buckets:
            started = time.monotonic()
            sweep = before = _Sweep(session, matcher, everything=False, most=MOST, tell=tell, after=before)
            try:
                sweep.bucket(name, by_bucket(config.images.values(), name).get(name, []), since)
            except StateLocked:
                yield name, None
            else:
                yield name, sweep.result(f"bucket {name}", alerts, started)
    finally:
        store.close()


class _Sweep:
    """after: one of the same matcher, whose memory it takes over."""

    def __init__(
        self,
        session: Session,
        matcher: Matcher,
        *,
        everything: bool,
        most: int,
        tell: Tell | None,
        after: _Sweep | None = None,
    ) -> None:
        self._session, self._matcher = session, matcher
        self._everything, self._most, self._tell = everything, most, tell
        self._signer = session.keys.at_hand("scanner")  # a wrong password is told before anything is read
        trusted = session.keys.trusted_if_any()
        self._verifier = trusted.also({"scanner": self._signer}) if trusted and self._signer else trusted
        self._facts = matcher.store.facts
        from registry_pipelines.scan import fingerprints

        believed = self._verifier.key_ids if self._verifier else ()
        self._prints: Fingerprints = after._prints if after else fingerprints.Fingerprints(matcher.store, believed)
        self._remembered: Remembered = after._remembered if after else {}
        self._passed = 0
        self._answers: list[_Answer] = []
        self._notes: list[str] = []
        self._known = self._left = 0
        self._down: list[RegistryPipelinesError] = []

    def bucket(self, name: str, images: Sequence[Image], since: datetime | None = None) -> None:
        """One bucket: list its releases, match those that are due and that advisories say something else of. since: not
        where that was done from then on."""
        from registry_pipelines.scan.fingerprints import Holdings

        with held(self._session, "rescan", name) as kept:
            if since is not None and self._swept_since(kept.read("swept"), since):
                self._passed += 1
                return
            marks, holdings = _read_marks(kept.read("json")), Holdings.decode(kept.read("packages"))
            seen = {Digest(key.rpartition("@")[2]) for key in marks}
            listed = [release for image in images for release in self._listed(image, seen)]
            due = [each for each in listed if self._is_due(marks.get(each.key))]
            self._known += len(listed) - len(due)
            now = self._session.now()
            untouched = [each for each in due if self._is_untouched(marks.get(each.key), holdings.of(each.key), now)]
            for each in untouched:
                marks[each.key] = msgspec.structs.replace(marks[each.key], advisories=str(self._facts.digest))
            self._answers += [_Answer(each, "untouched") for each in untouched]
            read = sorted(set(due).difference(untouched), key=lambda each: (_waits_since(marks, each), each.key))
            self._left += max(0, len(read) - self._most)
            for answer in self._matched_all(read[: self._most], marks, now):
                if answer.found not in ("not read", "no SBOM"):
                    marks[answer.release.key] = self._mark(answer, now)
                    holdings.keep(answer.release.key, answer.packages)
                self._answers.append(answer)
            gone = {key for key in marks if key.partition(":")[0] in {image.name for image in images}}
            for key in gone - {each.key for each in listed} if not self._down else ():
                del marks[key]
            kept.write("packages", holdings.only(marks).encode())
            kept.write("json", msgspec.json.encode(marks))
            if not self._left and not self._down and all(each.error is None for each in self._answers):
                kept.write("swept", msgspec.json.encode(Swept(_text(self._session.now()), str(self._facts.digest))))

    def _swept_since(self, raw: bytes, since: datetime) -> bool:
        try:
            swept = msgspec.json.decode(raw, type=ready(Swept))
        except msgspec.MsgspecError:
            return False
        at = read_time(swept.at)
        return swept.advisories == self._facts.digest and at is not None and at >= since.replace(microsecond=0)

    def _matched_all(self, releases: Sequence[Release], marks: Mapping[str, Mark], now: datetime) -> list[_Answer]:
        with _fewer_collections(), Pool(LOOKUP_THREADS, "rescan") as pool:
            return list(pool.map(lambda each: self._answer(each, marks.get(each.key), now), releases))

    def _mark(self, answer: _Answer, now: datetime) -> Mark:
        at = _text(now)
        said = self._prints.of(answer.packages)
        return Mark(advisories=str(self._facts.digest), at=at, untold=answer.untold, read=at, said=said)

    def _is_untouched(self, mark: Mark | None, packages: list[Package] | None, now: datetime) -> bool:
        """Whether advisories say of a release what they said when it was read, so that its report would be the same."""
        if self._everything or mark is None or mark.untold or packages is None or not mark.said:
            return False
        read = read_time(mark.read)
        days = READ_AGAIN_DAYS + int(mark.said[:8], 16) % READ_AGAIN_DAYS
        if read is None or not timedelta(0) <= now - read <= timedelta(days=days):
            return False
        return self._prints.of(packages) == mark.said

    def _listed(self, image: Image, seen: Collection[Digest]) -> list[Release]:
        """seen: digests of releases that were read before."""
        try:
            return releases_of(self._session, image, images=seen)
        except RegistryPipelinesError as error:
            self._down.append(error)
            self._notes.append(f"the releases of {image.name} cannot be listed: {error}")
            return []

    def _is_due(self, mark: Mark | None) -> bool:
        return self._everything or mark is None or mark.advisories != str(self._facts.digest) or bool(mark.untold)

    def _answer(self, release: Release, mark: Mark | None, now: datetime) -> _Answer:
        """Trouble with one release holds no other up."""
        try:
            return self._matched(release, mark, now)
        except EvidenceMissing:
            return _Answer(release, "no SBOM")
        except RegistryPipelinesError as error:
            return _Answer(release, "not read", problem=str(error), error=error)

    def _matched(self, release: Release, mark: Mark | None, now: datetime) -> _Answer:
        from registry_pipelines.scan.fingerprints import packages_of

        session = self._session.remembering(whole=True)
        place, policy = session.source(release), session.policy(release)
        verifier = self._verifier.under(policy.attestor_names) if self._verifier else None
        known = read_attestations(place, release.digest, verifier) if verifier else Attestations((), ())
        sboms = read_sboms(place, release.digest, known=known, remembered=self._remembered)
        report = self._matcher.report([of_platform for _, of_platform in sboms], now=now)
        vex, _ = attested_vex(known, release.digest)
        before = _before(place, release, known)
        if before is not None:
            report = carried_over(report, before)  # what other scanners found is not lost by asking our advisories
        reasons = tuple(newly_against(report, before, policy, image=release.image, now=now, vex=vex))
        told_before = mark.untold if mark else ()
        promoted = bool(reasons or told_before) and self._was_promoted(place, release, known)
        new = report.new_since(before) if before else tuple(report.counting())
        problems = self._told(release, [*reasons, *told_before]) if promoted else []
        changed = before is None or self._everything or _said(before) != _said(report)
        notes, moved = [f"{release.key}: {problem}" for problem in problems], 0
        if changed:  # one a night that says the same would be a thousand in three years, and no reader takes those
            unsigned = not_vouched_for(sboms) if self._signer else ""
            signer = None if unsigned else self._signer
            read = known if self._verifier else None
            published = publish_report(place, session.subject(release), report, signer=signer, known=read)
            moved = len(published.content) if published.changed else 0
            if unsigned or published.unsigned:
                notes.append(f"{release.key}: the report is not signed: {unsigned or published.unsigned}")
        return _Answer(
            release,
            "newly vulnerable" if reasons and promoted else "changed" if changed else "same",
            new=len(new),
            reasons=reasons,
            promoted=promoted,
            untold=tuple(dict.fromkeys([*reasons, *told_before])) if problems else (),
            bytes_moved=moved,
            notes=notes,
            packages=packages_of([of_platform for _, of_platform in sboms]),
        )

    def _was_promoted(self, place: Place, release: Release, known: Attestations) -> bool:
        """Whether it may be running somewhere. Without trusted keys nobody can say that it is not."""
        if self._verifier is None:
            return True
        promotions = records(place, release.digest, self._verifier, known=known)
        return any(record.image == release.image for record, _ in promotions)

    def _told(self, release: Release, reasons: Sequence[str]) -> list[str]:
        if self._tell is None:
            return []
        unique = list(dict.fromkeys(reasons))
        what = f"new advisories speak against {release.image}:{release.tag}, which was promoted"
        return self._tell("vulnerable", release, stage="rescan", what=what, reasons=unique)

    def result(self, subject: str, alerts: Sequence[str], started: float) -> StageResult:
        """All of it, the worst first."""
        answers = sorted(self._answers, key=lambda each: (_ORDER.index(each.found), each.release.key))
        counts = Counter(each.found for each in answers)
        failed = [*self._down, *(each.error for each in answers if each.error)]
        notes = [*self._notes, *(note for each in answers for note in each.notes)]
        notes += [f"{each.release.key} was not read: {each.problem}" for each in answers if each.problem]
        if counts["no SBOM"]:
            notes.append(f"{count_text(counts['no SBOM'], 'release')} without an SBOM: `scan` makes it")
        if self._left:
            notes.append(f"{count_text(self._left, 'release')} left for the next run: {self._most} a bucket at most")
        vulnerable = [each for each in answers if each.found == "newly vulnerable"]
        facts: dict[str, Scalar] = {
            "releases": len(answers) + self._known + self._left,
            "rescanned": len(answers) - counts["no SBOM"] - counts["not read"] - counts["untouched"],
            "untouched": counts["untouched"],
            "known": self._known,
            "changed": counts["changed"] + counts["newly vulnerable"],
            "newly_vulnerable": len(vulnerable),
            "no_sbom": counts["no SBOM"],
            "not_read": counts["not read"],
            "not_listed": len(self._down),
            "left": self._left,
            "passed": self._passed,
            "advisories_newest": self._facts.newest,
            "advisories_records": self._facts.records,
            "advisories_digest": self._facts.digest,
        }
        return StageResult(
            stage="rescan",
            subject=subject,
            action=_sentence(counts, self._known),
            digest=self._facts.digest,
            changed=bool(counts["changed"] or counts["newly vulnerable"]),
            bytes_moved=sum(each.bytes_moved for each in answers),
            seconds=time.monotonic() - started,
            facts=facts,
            rows=[_row(each) for each in answers if each.found not in ("same", "untouched")],
            alerts=alerts,
            reasons=[
                f"{each.release.image}:{each.release.tag}: {reason}" for each in vulnerable for reason in each.reasons
            ],
            next_steps=[
                typed(self._session.config, "judge", f"{each.release.image}:{each.release.tag}") for each in vulnerable
            ],
            notes=notes,
            ok=not vulnerable and not failed,
            exit_code=_exit_code(bool(vulnerable), failed),
        )


@contextmanager
def _fewer_collections() -> Iterator[None]:
    """Python looks for circles among its objects after each 700 new ones; an SBOM is thousands, next to none of them in
    a circle, and looking took a tenth of the time."""
    before = gc.get_threshold()
    if before[0]:
        gc.set_threshold(max(before[0], OBJECTS_BETWEEN_COLLECTIONS), *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


def _before(place: Place, release: Release, known: Attestations) -> Report | None:
    """The last report that the scanner's key signed; where no key is believed here, or it signed none, the last
    attached one. An unsigned report beside signed ones must not make news look old."""
    signed = signed_about(known, release.digest)
    if signed is not None:
        return signed[0]
    try:
        return read_report(place, release.digest)[1]
    except EvidenceMissing:
        return None


def _exit_code(vulnerable: bool, failed: Sequence[RegistryPipelinesError]) -> int:
    """Of several the first of 3, 7, 6."""
    if vulnerable:
        return EvidenceError.exit_code
    if any(isinstance(error, RegistryError) for error in failed):
        return Unavailable.exit_code
    return ContentError.exit_code if failed else 0


def _sentence(counts: Counter[Found], known: int) -> str:
    parts = [f"{number} {found}" for found in _ORDER if (number := counts[found])]
    parts += [f"{known} matched with these advisories before"] if known else []
    return ", ".join(parts) or "no releases"


def _row(answer: _Answer) -> dict[str, Scalar]:
    release = answer.release
    return {
        "image": release.image,
        "tag": release.tag,
        "found": answer.found,
        "new_findings": answer.new,
        "promoted": answer.promoted,
        "why": answer.problem or (answer.reasons[0] if answer.reasons else ""),
        "digest": release.digest,
    }


def _said(report: Report) -> Report:
    """What a report says about its release, without when it was made and with which advisories."""
    plain = msgspec.structs.replace(report.advisories, digest=report.subject, newest="", records=0, source="")
    coverage = tuple(msgspec.structs.replace(each, records=0, newest="") for each in report.coverage)
    return msgspec.structs.replace(report, scanned_at="", advisories=plain, coverage=coverage)


def _text(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _waits_since(marks: Mapping[str, Mark], release: Release) -> str:
    return marks[release.key].at if release.key in marks else ""


def _read_marks(raw: bytes) -> dict[str, Mark]:
    try:
        return dict(msgspec.json.decode(raw, type=ready(dict[str, Mark])))
    except msgspec.MsgspecError:
        return {}


__all__ = ["rescan", "rescan_buckets"]
