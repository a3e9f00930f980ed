"""One page about a release: whether it ships and why, where it is, and what changed since the one before it.

Everything is read from the registries now, and nothing is written: the page of a release whose run ended in the middle
says as much as that of any other.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from registry_pipelines.chain.advisories import advisory_source
from registry_pipelines.chain.channels import next_channel
from registry_pipelines.chain.deployed import where_it_ran
from registry_pipelines.chain.differences import Difference, compare
from registry_pipelines.chain.next_steps import lets_go, next_steps, typed
from registry_pipelines.chain.places import Located
from registry_pipelines.chain.promote import promotion_steps, standings
from registry_pipelines.chain.result import WAITS, Scalar, StageResult, held_text
from registry_pipelines.chain.session import Session
from registry_pipelines.chain.shared_advisories import brought
from registry_pipelines.chain.status import Presence, Status, release_statuses
from registry_pipelines.errors import EvidenceMissing, RegistryPipelinesError
from registry_pipelines.evidence.attestations import read_attestations
from registry_pipelines.oci.digest import Digest
from registry_pipelines.progress import count_text
from registry_pipelines.promote.documents import Verdict
from registry_pipelines.promote.standing import latest_record
from registry_pipelines.promote.verdicts import read as read_verdicts
from registry_pipelines.registry.tags import digest_at
from registry_pipelines.release import Release
from registry_pipelines.scan.publish import read_sboms
from registry_pipelines.scan.report import SEVERITIES

PRESENT: Mapping[Presence, str] = {
    "same": "here",
    "other": "another digest has this tag",
    "missing": "not there",
    "unreachable": "did not answer",
}


def page(session: Session, release: Release) -> StageResult:
    """What stands in the registries about a release. ``ok``: it is allowed, was promoted, and is everywhere it must be;
    one that waits for a person is not. Tables: ``places``, ``findings_by_severity`` (of this release and the one
    before, by their signed verdicts), ``packages`` and ``findings`` that changed, ``layers``.

    The one before is what the channel named when this release was promoted, or else names now. Raises InputError,
    NotFound (no such digest), RegistryError where the source does not answer; other places that do not are said to.
    """
    started, session = time.monotonic(), session.remembering()
    session.subject(release)
    [status] = release_statuses(session, [release])
    verdict = _verdict(session, release, release.digest)
    before = _before(session, release)
    difference, notes = _difference(session, before, release) if before else (None, [NOTHING_BEFORE])
    everywhere = set(status.places.values()) <= {"same"}
    return StageResult(
        stage="page",
        subject=release.key,
        action=_sentence(status),
        digest=release.digest,
        seconds=time.monotonic() - started,
        facts=_facts(status, release, before, verdict, difference),
        tables=_tables(session, status, release, before, verdict, difference),
        alerts=status.alerts,
        reasons=list(status.reasons) or ([WAITS] if _waits(session, status) else []),
        next_steps=_next_steps(session, release, status, verdict),
        notes=[*status.problems, *notes],
        ok=status.ruling == "allow" and status.promoted is not None and everywhere,
    )


NOTHING_BEFORE = "no release was on the channel before: nothing to compare with"


def _waits(session: Session, status: Status) -> bool:
    manual = session.config.images[status.image].order[0].promote == "manual"
    return manual and status.ruling == "allow" and not status.held and status.promoted is None


def _next_steps(session: Session, release: Release, status: Status, verdict: Verdict | None) -> list[str]:
    """What leads to a pass; of one that waits, what lets it go."""
    if status.ruling == "revoked":
        name = f"{release.image}:{release.tag}"
        ends = typed(session.config, "revoke", name, "--close")
        lifted = typed(session.config, "revoke", name, "--lift")
        return [f"{ends}  # when all is done: it stays denied", f"{lifted}  # only where it was a mistake"]
    if verdict and not verdict.allow:
        return next_steps(session, release, verdict.steps)
    if status.held or status.ruling == "deny":  # the verdict is allow, and a promotion asks of the start
        return promotion_steps(session, release, _coming(session, release))
    return lets_go(session, release, _coming(session, release)) if _waits(session, status) else []


def _coming(session: Session, release: Release) -> str:
    return (next_channel(session, release) or session.image(release.image).order[-1]).name


def _sentence(status: Status) -> str:
    """The state of a release in a few words."""
    there = [name for name, presence in status.places.items() if presence == "same"]
    where = f", at {len(there)} of {count_text(len(status.places), 'place')}" if status.places else ""
    match status.ruling:
        case "deny":
            return "denied"
        case "none":
            return "not judged"
        case "unknown":
            return "could not be read"
        case "revoked":
            return f"REVOKED{where}"
        case "break-glass":
            return f"BREAK-GLASS: the gate says no, and a person let it go{where}"
        case "outdated":
            return f"was allowed, and may not be copied now{where}"
    if status.promoted is None:
        return f"allowed, {held_text(status.held)}" if status.held else "allowed, not promoted"
    return f"{status.channel} names it{where}" if status.channel else f"promoted before, not on its channel now{where}"


def _verdict(session: Session, release: Release, digest: Digest) -> Verdict | None:
    """The signed verdict that counts for a digest of the release's image."""
    verifier = session.keys.trusted_if_any()
    if verifier is None:
        return None
    latest = read_verdicts(session.source(release), digest, verifier).latest(
        release.image, session.policy(release).name
    )
    return latest.verdict if latest else None


def _before(session: Session, release: Release) -> Release | None:
    """The release that the channel named before this one; None where there was none."""
    image, place, verifier = session.image(release.image), session.source(release), session.keys.trusted_if_any()
    if verifier is None:
        return None
    known = read_attestations(place, release.digest, verifier)
    for channel in [each.name for each in reversed(image.order)]:
        promoted = latest_record(place, release.digest, verifier, channel=channel, image=image.name, known=known)
        named = promoted[0].from_digest if promoted else digest_at(place, channel)
        if named and named != release.digest:
            digest = Digest.parse(named)
            record = latest_record(place, digest, verifier, channel=channel, image=image.name)
            return Release(image.name, record[0].version if record else channel, digest)
    return None


def _difference(session: Session, before: Release, release: Release) -> tuple[Difference | None, list[str]]:
    """What changed, by the attached SBOMs and reports; else why that is not known. No layer is read for a page."""
    place = session.source(release)
    try:
        for each in (before, release):
            read_sboms(place, each.digest)
        sides = [Located(place, each.tag, each.digest) for each in (before, release)]
        state = session.config.state
        brought(session.config)
        source = advisory_source(state, session.config.advisories.source)
        found = compare(*sides, state=state, advisories=source, progress=session.progress)
    except EvidenceMissing as error:
        return None, [f"not compared with {before.tag}: {error.what}"]
    except RegistryPipelinesError as error:  # the one before may be gone, or its registry down: the page says so
        return None, [f"not compared with {before.tag}: {error}"]
    return found, list(found.notes)


def _facts(
    status: Status, release: Release, before: Release | None, verdict: Verdict | None, difference: Difference | None
) -> dict[str, Scalar]:
    facts: dict[str, Scalar] = {"release": release.key, "verdict": status.ruling}
    facts |= {"channel": status.channel} if status.channel else {}
    facts |= {"before": before.tag} if before else {}
    facts |= {"policy": verdict.policy, "judged": verdict.time} if verdict else {}
    facts |= {"created": f"{status.created:%Y-%m-%dT%H:%M:%SZ}"} if status.created else {}
    facts |= {"promoted": f"{status.promoted:%Y-%m-%dT%H:%M:%SZ}"} if status.promoted else {}
    facts |= {"image_bytes": status.size_bytes} if status.size_bytes is not None else {}
    if status.streams:
        facts["streams"] = status.streams.text
        if status.streams.index_bytes:  # eStargz has its tables in the layers
            facts["index_bytes"] = status.streams.index_bytes
    facts |= {f"findings_{severity}": count for severity, count in _counts(verdict).items()} if verdict else {}
    if difference:
        facts["packages_changed"] = len(difference.packages)
        facts["new_layer_bytes"] = next(row["bytes"] for row in difference.layer_rows() if row["layers"] == "new")
    if difference and difference.findings:
        facts["findings_new"], facts["findings_gone"] = (
            len(each) for each in (difference.findings.new, difference.findings.gone)
        )
    return facts


def _counts(verdict: Verdict | None) -> dict[str, int]:
    """Counting findings by severity, in small letters, the worst first."""
    return {severity.lower(): verdict.counts.get(severity, 0) if verdict else 0 for severity in SEVERITIES}


def _tables(
    session: Session,
    status: Status,
    release: Release,
    before: Release | None,
    verdict: Verdict | None,
    difference: Difference | None,
) -> dict[str, list[dict[str, Scalar]]]:
    image = session.image(release.image)
    places: list[dict[str, Scalar]] = [
        {"place": f"{image.registry} ({image.repository})", "state": "here: its source"},
    ]
    places += [{"place": f"channel {each.name}", "state": each.state} for each in standings(session, release)]
    places += [{"place": name, "state": PRESENT[presence]} for name, presence in status.places.items()]
    places += [{"place": f"deployment {name}", "state": told} for name, told in where_it_ran(session, release).items()]
    judged = [(before.tag, _verdict(session, release, before.digest))] if before else []
    counted: list[dict[str, Scalar]] = [
        {"release": tag, **_counts(each)} for tag, each in [*judged, (release.tag, verdict)] if each
    ]
    tables = {"places": places, "findings_by_severity": counted}
    if difference:
        tables |= {
            "packages": difference.package_rows(),
            "findings": difference.finding_rows(),
            "layers": difference.layer_rows(),
        }
    return tables


__all__ = ["page"]
