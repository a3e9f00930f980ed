"""New advisories against what is stored: every release's attached SBOM, no layer pulled.

A sweep goes by 256 static buckets, so that a fleet of any size is a fixed number of runs; within one the work is done
by threads here. A report is attached where it says something else than the one before it. Of a release that was
promoted and that new findings speak against somebody is told, until that was taken.
"""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec

from registry_pipelines.chain.advisories import advisory_source, age_alerts, remedy, strictest_age
from registry_pipelines.chain.next_steps import typed
from registry_pipelines.chain.releases import LOOKUP_THREADS, releases_of
from registry_pipelines.chain.result import Scalar, StageResult
from registry_pipelines.chain.session import Session
from registry_pipelines.config import Config, Image
from registry_pipelines.errors import (
    ContentError,
    EvidenceError,
    EvidenceMissing,
    RegistryError,
    RegistryPipelinesError,
    Unavailable,
)
from registry_pipelines.evidence.attestations import read_attestations
from registry_pipelines.evidence.model import Attestations
from registry_pipelines.oci.decoding import ready
from registry_pipelines.oci.files import held_alone, local_errors, write_file
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
    from registry_pipelines.scan.match import Matcher

BUCKETS: tuple[str, ...] = tuple(f"{number:02x}" for number in range(256))
"""Names of the parts of a sweep."""

MOST = 2000
"""Releases that one sweep of a bucket looks at: each costs some twenty small requests. Those that waited for longest
come first; the rest is said, and is the next sweep's."""

Found = Literal["newly vulnerable", "changed", "same", "no SBOM", "not read"]
_ORDER: tuple[Found, ...] = ("newly vulnerable", "not read", "changed", "no SBOM", "same")


class Mark(msgspec.Struct, frozen=True, kw_only=True):
    """What the state folder knows of a release's last sweep. It may be deleted at any time."""

    advisories: str
    """Digest of the advisories that it was matched with."""
    at: str
    """RFC 3339, UTC."""
    untold: tuple[str, ...] = ()
    """Reasons of which nobody could be told."""


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


def bucket_of(image: Image) -> str:
    """The bucket of an image: by the hash of its repository, so that images of one repository share what is read."""
    return hashlib.sha256(f"{image.registry}/{image.repository}".encode()).hexdigest()[:2]


def filled_buckets(config: Config) -> list[str]:
    """Buckets that hold an image, sorted."""
    return sorted({bucket_of(image) for image in config.images.values()})


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
    of_bucket: dict[str, list[Image]] = {}
    for image in chosen:
        if bucket in ("", bucket_of(image)):
            of_bucket.setdefault(bucket_of(image), []).append(image)
    from registry_pipelines.scan.advisories import AdvisoryStore
    from registry_pipelines.scan.match import Matcher

    store = AdvisoryStore.load(advisory_source(config.state, config.advisories.source), config.state)
    sweep = _Sweep(session, Matcher(store), everything=everything, most=most, tell=tell)
    try:
        for name in sorted(of_bucket):
            sweep.bucket(name, of_bucket[name])
    finally:
        store.close()
    alerts = age_alerts(store.facts, max_age=strictest_age(config), now=session.now(), do=remedy(config))
    subject = f"bucket {bucket}" if bucket else ", ".join(images) or "all images"
    return sweep.result(subject, alerts, started)


class _Sweep:
    def __init__(self, session: Session, matcher: Matcher, *, everything: bool, most: int, tell: Tell | None) -> None:
        self._session, self._matcher = session, matcher
        self._everything, self._most, self._tell = everything, most, tell
        self._signer = session.keys.at_hand("scanner")  # a wrong password is told before anything is read
        trusted = session.keys.trusted_if_any()
        self._verifier = trusted.also({"scanner": self._signer}) if trusted and self._signer else trusted
        self._facts = matcher.store.facts
        self._remembered: Remembered = {}
        self._answers: list[_Answer] = []
        self._notes: list[str] = []
        self._known = self._left = 0
        self._down: list[RegistryPipelinesError] = []

    def bucket(self, name: str, images: Sequence[Image]) -> None:
        """One bucket: list its releases, match those that are due."""
        with _held(self._session.config.state, name) as path:
            marks = _read_marks(path)
            listed = [release for image in images for release in self._listed(image)]
            due = [each for each in listed if self._is_due(marks.get(each.key))]
            self._known += len(listed) - len(due)
            due.sort(key=lambda each: (marks[each.key].at if each.key in marks else "", each.key))
            self._left += max(0, len(due) - self._most)
            now = self._session.now()
            with Pool(LOOKUP_THREADS, "rescan") as pool:
                answers = list(pool.map(lambda each: self._answer(each, marks.get(each.key), now), due[: self._most]))
            for answer in answers:
                if answer.found not in ("not read", "no SBOM"):
                    marks[answer.release.key] = Mark(
                        advisories=str(self._facts.digest), at=now.strftime("%Y-%m-%dT%H:%M:%SZ"), untold=answer.untold
                    )
            self._answers += answers
            gone = {key for key in marks if key.partition(":")[0] in {image.name for image in images}}
            for key in gone - {each.key for each in listed} if not self._down else ():
                del marks[key]
            with local_errors(path.parent):
                write_file(path, msgspec.json.encode(marks), lasting=False)

    def _listed(self, image: Image) -> list[Release]:
        try:
            return releases_of(self._session, image)
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
        session = self._session.remembering()
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
            published = publish_report(place, session.subject(release), report, signer=signer)
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
            "rescanned": len(answers) - counts["no SBOM"] - counts["not read"],
            "known": self._known,
            "changed": counts["changed"] + counts["newly vulnerable"],
            "newly_vulnerable": len(vulnerable),
            "no_sbom": counts["no SBOM"],
            "not_read": counts["not read"],
            "not_listed": len(self._down),
            "left": self._left,
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
            rows=[_row(each) for each in answers if each.found != "same"],
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


@contextmanager
def _held(state: Path, bucket: str) -> Iterator[Path]:
    """Hold one bucket for a sweep; the file of its marks."""
    folder = state / "rescan"
    with held_alone(folder / f"{bucket}.lock", f"another process rescans bucket {bucket}"):
        yield folder / f"{bucket}.json"


def _read_marks(path: Path) -> dict[str, Mark]:
    try:
        return dict(msgspec.json.decode(path.read_bytes(), type=ready(dict[str, Mark])))
    except (OSError, msgspec.MsgspecError):
        return {}


__all__ = ["BUCKETS", "bucket_of", "filled_buckets", "rescan"]
