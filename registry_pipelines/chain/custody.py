"""The page of custody of a release or of any image: read from the registries now, and from what this machine keeps.

The registry is the database: all that was signed about a digest lies beside it, and travels with each copy. Where the
source has lost it, its evidence is read at the first place that has a copy, which is said.
"""

from __future__ import annotations

from collections.abc import Mapping

from registry_pipelines.chain.custody_contents import Contents, contents
from registry_pipelines.chain.custody_evidence import (
    NO_KEY,
    Read,
    made_of,
    others,
    people,
    read_all,
    revocations,
    signatures,
    verdicts,
)
from registry_pipelines.chain.custody_places import access, bundles, channels, deployments, places, quarantine
from registry_pipelines.chain.places import Located
from registry_pipelines.chain.releases import find_release
from registry_pipelines.chain.session import Session
from registry_pipelines.chain.status import alert_of
from registry_pipelines.config import Image
from registry_pipelines.errors import DigestInvalid, InputError, NotFound, RegistryPipelinesError
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.times import write_time
from registry_pipelines.progress import count_text
from registry_pipelines.promote.interventions import read_interventions
from registry_pipelines.registry.protocol import Place
from registry_pipelines.registry.set_aside import quarantine_of
from registry_pipelines.registry.tags import digest_at
from registry_pipelines.release import Release
from registry_pipelines.report.custody import Chapter, Custody, Statement, in_order

NOTHING: Mapping[Chapter, str] = {
    "source": "its builder attached no SLSA provenance",
    "builder": "its builder attached no SLSA provenance",
    "bases": "no provenance names a base image",
    "packages": "no SBOM is attached",
    "findings": "no vulnerability report is attached: nobody scanned it",
    "signatures": "nobody whom we believe signed it",
    "people": "no person approved it, and nobody broke the glass for it",
    "verdicts": "nobody judged it",
    "channels": "it was on no channel",
    "places": "no place of the configuration is asked for it",
    "deployments": "no record of a deployment is attached",
    "revocations": "nobody revoked it",
    "other": "nothing else is attached",
}
"""What is said of a chapter that has no statement."""


def find_digest(session: Session, text: str) -> Release:
    """A release as :func:`~registry_pipelines.chain.releases.find_release` reads it, or, with a whole digest, one that
    no source has any more. Raises as that does."""
    try:
        return find_release(session, text)
    except (InputError, NotFound):
        written, _, digest = text.partition("@")
        image, _, tag = written.partition(":")
        try:
            return Release(session.image(image).name, tag, Digest.parse(digest))
        except DigestInvalid:
            pass
        raise


def custody(session: Session, release: Release) -> Custody:
    """The whole life of a release. Nothing is written. Raises InputError, RegistryError where a registry whose answer
    is needed does not give one; other places that do not are said to."""
    session = session.remembering()
    image = session.image(release.image)
    verifier = session.keys.trusted_if_any()
    verifier = verifier.under(session.policy_of(image).attestor_names) if verifier else None
    place, note = _where(session, image, release.digest)
    read = read_all(place, release.digest, verifier) if place else None
    told = contents(read) if read else Contents((), (), ())
    statements = [*_evidence(read), *told.statements]
    alerts, notes = _alerts(session, release, read), [note] if note else []
    reached = [places(session, image, release.digest, read), bundles(session, release.digest, read)]
    if read:
        reached.append(channels(session, image, read))
    for each in reached:
        statements += each.statements
        alerts += each.alerts
        notes += each.notes
    statements += quarantine(session.source_of(image), release.digest, verifier)
    events, none, more = access(session, release.digest, image.repository, release.tag)
    return _page(
        release.key if release.tag else f"{release.image}@{release.digest}",
        release.digest,
        place or session.source_of(image),
        session,
        read,
        told,
        [*statements, *events],
        {**NOTHING, "access": none},
        alerts=alerts,
        notes=[*notes, *more],
    )


def custody_of(session: Session, located: Located) -> Custody:
    """The same of any image: what is attached to it, and what kept events say. Raises NotFound, RegistryError."""
    place, verifier = located.place, session.keys.trusted_if_any()
    digest = place.registry.resolve(place.repository, located.selector).digest
    read = read_all(place, digest, verifier)
    told = contents(read)
    events, none, more = access(session, digest, place.repository, located.tag)
    outside = "the image is none of the configuration, so that its channels and places are not known"
    return _page(
        f"{place}@{digest}",
        digest,
        place,
        session,
        read,
        told,
        [*_evidence(read), *told.statements, *events],
        {**NOTHING, "access": none, "channels": outside, "places": outside},
        notes=more,
    )


def _where(session: Session, image: Image, digest: Digest) -> tuple[Place | None, str]:
    """The first place that has a digest, its source before others; and what is to be said of that. Raises
    RegistryError where the source does not answer."""
    source = session.source_of(image)
    if digest_at(source, digest) is not None:
        return source, ""
    for place in [*session.places_of(image)[1:], quarantine_of(source)]:
        try:
            if digest_at(place, digest) is not None:
                return place, f"its source {source} has it no more: what is attached was read from the copy at {place}"
        except RegistryPipelinesError:
            continue  # `places` says which did not answer
    return None, f"neither its source {source} nor a place that it goes to has it: its evidence went with it"


def _evidence(read: Read | None) -> list[Statement]:
    if read is None:
        return []
    parts = (made_of, signatures, people, verdicts, deployments, revocations)
    return [each for part in parts for each in part(read)]


def _alerts(session: Session, release: Release, read: Read | None) -> list[str]:
    if read is None:
        return []
    listed = read_interventions(read.known, release.digest).listed
    alerts = [alert_of(each, release.image, release.tag, session.now()) for each in listed]
    return alerts if read.verifier else [NO_KEY, *alerts]


def _page(
    name: str,
    digest: Digest,
    place: Place,
    session: Session,
    read: Read | None,
    told: Contents,
    statements: list[Statement],
    nothing: Mapping[Chapter, str],
    *,
    alerts: list[str] | None = None,
    notes: list[str] | None = None,
) -> Custody:
    found = [*statements, *(others(read, statements) if read else ())]
    chapters = {each.chapter for each in found}
    return Custody(
        name=name,
        digest=digest,
        place=str(place),
        made_at=write_time(session.now()),
        sentence=_sentence(found, revoked=bool(read and read_interventions(read.known, read.digest).revoked)),
        statements=in_order(found),
        missing={chapter: why for chapter, why in nothing.items() if chapter not in chapters and why},
        packages=told.packages,
        findings=told.findings,
        ages=told.ages,
        alerts=tuple(alerts or ()),
        notes=tuple(notes or ()),
    )


def _sentence(found: list[Statement], *, revoked: bool) -> str:
    """How it stands, by what is verified or was seen."""
    judged = [each for each in in_order(found) if each.chapter == "verdicts" and each.state == "verified"]
    verdict = judged[-1].says if judged else "not judged"
    naming = [
        each.says.removesuffix(" names it now") for each in found if each.chapter == "channels" and each.state == "seen"
    ]
    at = [each.says for each in found if each.chapter == "places" and each.state == "seen"]
    there = sum(each.startswith("is at") for each in at)
    parts = [
        "REVOKED" if revoked else "",
        verdict,
        f"on {', '.join(naming)}" if naming else "on no channel now" if at else "",
        f"at {there} of {count_text(len(at), 'place')}" if at else "",
    ]
    return "; ".join(filter(None, parts))


__all__ = ["custody", "custody_of", "find_digest"]
