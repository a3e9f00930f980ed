"""What deployments need of a registry, by signed notes: what runs there or ran last, and what a roll-back starts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from registry_pipelines.chain.session import Session
from registry_pipelines.deploying.record import DeploymentRecord, latest, read_deployments
from registry_pipelines.errors import DigestInvalid
from registry_pipelines.evidence.attestations import read_attestations
from registry_pipelines.evidence.predicates import DEPLOYMENT_TYPE
from registry_pipelines.oci.digest import Digest
from registry_pipelines.promote.ways import releases_before
from registry_pipelines.registry.tags import digest_at
from registry_pipelines.release import Release

if TYPE_CHECKING:
    from registry_pipelines.deploying.model import DeploySettings


def deployed_digests(session: Session) -> dict[Digest, str]:
    """What deployments run or ran last, each digest with why, and what ran before it, which a roll-back starts: by the
    signed notes at what their channels named, the latest first. Where a roll-out came to no end, all that was tried
    stays, too. Raises RegistryError: a registry that does not answer; InputError."""
    found: dict[Digest, str] = {}
    for settings in session.config.deploy.values():
        for record in _until_it_ran(session, settings):
            runs = "runs" if record.outcome == "running" else "was rolled out"
            found.setdefault(record.digest, f"{runs} at the deployment {settings.name} ({record.time})")
            before = _digest(record.before_digest)
            if before is not None:
                found.setdefault(before, f"ran at the deployment {settings.name} before ({record.time})")
    return found


def notes_about(session: Session, release: Release, *, of_future: bool = False) -> list[DeploymentRecord]:
    """The believed notes about a release, oldest first. of_future: also those by which it ran in the future. Raises
    RegistryError, InputError."""
    known = read_attestations(
        session.source(release), release.digest, session.verifier(), predicate_type=DEPLOYMENT_TYPE
    )
    return read_deployments(known, release.digest, None if of_future else session.now())


def where_it_ran(session: Session, release: Release) -> dict[str, str]:
    """Of each deployment of its image how a release stands there by its newest note, for people. Raises as
    :func:`notes_about`."""
    names = [name for name, each in session.config.deploy.items() if each.image == release.image]
    notes = notes_about(session, release) if names else []
    return {name: _told(latest(notes, name, release.image)) for name in names}


def _told(record: DeploymentRecord | None) -> str:
    if record is None:
        return "nobody read back that it runs there"
    if record.outcome != "running":
        return f"did not come up ({record.time}): {'; '.join(record.reasons)[:200]}"
    return f"seen running from {record.since} to {record.time}"


def last_rolled_out(session: Session, settings: DeploySettings) -> DeploymentRecord | None:
    """The newest note of a deployment, whichever release it is about; None for none. Raises RegistryError."""
    return max(_notes(session, settings), key=lambda each: each.time, default=None)


def _until_it_ran(session: Session, settings: DeploySettings) -> Iterator[DeploymentRecord]:
    """The newest note about each release, the latest release first, as far as one that ran."""
    for record in _notes(session, settings):
        yield record
        if record.outcome == "running":
            return


def _notes(session: Session, settings: DeploySettings) -> Iterator[DeploymentRecord]:
    """The newest note about each release that the channel named, the latest release first."""
    image = session.image(settings.image)
    place, channel = session.places.source(image), settings.channel or image.order[-1].name
    named, verifier = digest_at(place, channel), session.keys.trusted_if_any()
    if named is None or verifier is None:
        return
    # The version is for people; what was named before is found by digest.
    first = Release(image.name, channel, named)
    for release in [first, *releases_before(place, first, channel, verifier)]:
        known = read_attestations(place, release.digest, verifier, predicate_type=DEPLOYMENT_TYPE)
        record = latest(read_deployments(known, release.digest, session.now()), settings.name, image.name)
        if record is not None:
            yield record


def _digest(text: str) -> Digest | None:
    try:
        return Digest.parse(text) if text else None
    except DigestInvalid:
        return None


__all__ = ["deployed_digests", "last_rolled_out", "notes_about", "where_it_ran"]
