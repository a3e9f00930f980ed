"""What is in a release, and what is known against it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec

from registry_pipelines.chain.advisories import LOAD, advisory_source, alerts_about, remedy
from registry_pipelines.chain.next_steps import next_steps
from registry_pipelines.chain.passed import attest_what_passed
from registry_pipelines.chain.result import Scalar, StageResult
from registry_pipelines.chain.session import Session
from registry_pipelines.chain.shared_advisories import brought
from registry_pipelines.evidence.attestations import read_attestations
from registry_pipelines.evidence.model import Attestations, Signer
from registry_pipelines.evidence.predicates import CYCLONEDX_TYPE, SPDX_TYPE
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.progress import count_text
from registry_pipelines.promote.documents import DEFAULT_POLICY, Step, in_order
from registry_pipelines.promote.findings import Outcome
from registry_pipelines.promote.gate import against_limits
from registry_pipelines.promote.vex import attested_vex
from registry_pipelines.registry.image_warnings import warnings_of
from registry_pipelines.registry.platforms import read_entries
from registry_pipelines.registry.protocol import Place
from registry_pipelines.registry.warning_kinds import summed
from registry_pipelines.release import Release
from registry_pipelines.scan.predicates import attest_sbom
from registry_pipelines.scan.publish import Published, not_vouched_for, publish_report, publish_sboms, read_sboms
from registry_pipelines.scan.report import (
    SEVERITIES,
    Finding,
    PlatformPackages,
    Report,
    Unattributed,
    left_out_lines,
    own_first,
    unattributed_lines,
    unattributed_of,
    undeclared_lines,
)


def sbom(session: Session, release: Release) -> StageResult:
    """Read the packages of every platform from the layer streams and attach one CycloneDX document for each."""
    started = time.monotonic()
    place, subject = session.source(release), session.subject(release)
    signer = session.keys.at_hand("scanner")  # a wrong password is told before layers are read
    from registry_pipelines.scan.sbom import scan_image

    packages = scan_image(
        place,
        subject,
        state=session.config.state,
        records=session.image(release.image).stream is not None,
        progress=session.progress,
    )
    published = publish_sboms(place, subject, packages, signer=signer)
    return _listed(place, subject, release.key, packages, started, published)


def _first(licenses: Sequence[str]) -> str:
    """For a table; the SBOM has all of them."""
    return " and ".join([*licenses[:1], *([f"{len(licenses) - 1} more"] if len(licenses) > 1 else [])])


def attest_spdx(session: Session, release: Release) -> StageResult:
    """Sign the attached SBOMs once more, as SPDX 2.3 documents, with the scanner's key.

    Raises EvidenceMissing (no SBOM, so nothing to say in another form), InputError (too large, no key).
    """
    started = time.monotonic()
    place, subject = session.source(release), session.subject(release)
    signer = session.keys.signer("scanner")
    from registry_pipelines.scan.spdx import write_spdx

    documents = [write_spdx(packages) for _, packages in read_sboms(place, release.digest)]
    made = [attest_sbom(place, subject, document, signer, kind=SPDX_TYPE) for document in documents]
    changed = [document for document, attested in zip(documents, made, strict=True) if attested.changed]
    return StageResult(
        stage="sbom",
        subject=release.key,
        action=f"{count_text(len(changed), 'SPDX document')} attested" if changed else "unchanged",
        digest=made[0].descriptor.digest,
        changed=bool(changed),
        bytes_moved=sum(map(len, changed)),
        seconds=time.monotonic() - started,
        facts={"release": release.key, "documents": len(documents)},
    )


def _listed(
    place: Place,
    subject: Descriptor,
    name: str,
    packages: Sequence[PlatformPackages],
    started: float,
    published: Sequence[Published] = (),
) -> StageResult:
    """What is in an image as a result. published: the documents that were attached; none for an image that is only
    read."""
    warnings = warnings_of(place, read_entries(place, place.registry.get_manifest(place.repository, subject.digest)))
    components = sum(len(each.components) for each in packages)
    undeclared = [component for each in packages for component in each.components if not component.declared]
    left_out = list(dict.fromkeys(omitted for each in packages for omitted in each.left_out))
    unattributed = unattributed_of([each.unattributed for each in packages])
    changed = any(each.changed for each in published)
    return StageResult(
        stage="sbom",
        subject=name,
        action="unchanged" if published and not changed else f"{count_text(components, 'component')} listed",
        digest=published[0].descriptor.digest if published else subject.digest,
        changed=changed,
        bytes_moved=sum(len(each.content) for each in published if each.changed),
        seconds=time.monotonic() - started,
        facts={
            **({"release": name} if published else {}),
            "attached": bool(published),
            "platforms": len(packages),
            "components": components,
            "undeclared": len({component.purl for component in undeclared}),
            "unknowns": sum(len(each.unknowns) for each in packages),
            **_unattributed_facts(unattributed),
            "warnings": len(warnings),
        },
        tables={
            "warnings": [each.row() for each in warnings],
            "left_out": [{"what": omitted.subject, "why": omitted.reason} for omitted in left_out],
        },
        notes=[
            *undeclared_lines(component.purl for component in undeclared),
            *unattributed_lines(unattributed),
            *left_out_lines(left_out),
            *(f"warning {name}: {text}" for name, text in summed(warnings).items()),
            *(f"an SBOM is not signed: {each.unsigned}" for each in published if each.unsigned),
        ],
        rows=[
            {
                "platform": str(each.platform),
                "purl": component.purl,
                "ecosystem": component.ecosystem,
                "inside": component.inside,
                "layer": component.layers[0].short if component.layers else "",
                "licenses": _first(component.licenses),
                "image": each.manifest.digest.short,
            }
            for each in packages
            for component in own_first(each.components)
            if component.declared
        ],
    )


def _unattributed_facts(unattributed: Unattributed | None) -> dict[str, Scalar]:
    """Nothing where they were not counted."""
    if unattributed is None:
        return {}
    return {"unattributed_files": unattributed.files, "unattributed_bytes": unattributed.size_bytes}


def vulnerabilities(session: Session, release: Release) -> StageResult:
    """Match advisories against the attached SBOMs, attach the report; ``ok`` when the policy's limits hold. Where a
    verdict allowed what the report says still, cosign's record of it is signed, too, if that is missing.

    Raises EvidenceMissing (no SBOM), AdvisoriesMissing. The advisories' age is the verdict's to judge.
    """
    started = time.monotonic()
    place, subject = session.source(release), session.subject(release)
    signer = session.keys.at_hand("scanner")
    sboms = read_sboms(place, release.digest, known=_signed_by_scanners(session, release, signer))
    report = _matched_with(session, place, release, sboms)
    outcome = against_policy(session, release, report)
    unsigned = not_vouched_for(sboms) if signer else ""
    published = publish_report(place, subject, report, signer=None if unsigned else signer)
    passed = attest_what_passed(session, release)
    published = replace(
        published, unsigned=published.unsigned or unsigned, changed=published.changed or bool(passed and passed.changed)
    )
    return _held_against_limits(session, release, published, report, outcome, started)


def _signed_by_scanners(session: Session, release: Release, signer: Signer | None) -> Attestations | None:
    """The SBOMs that trusted scanners signed, this one among them; None where nothing is signed here."""
    if signer is None:
        return None
    trusted = session.verifier().under(session.policy(release).attestor_names).also({"scanner": signer})
    return read_attestations(session.source(release), release.digest, trusted, predicate_type=CYCLONEDX_TYPE)


def against_policy(session: Session, release: Release, report: Report) -> Outcome:
    """What speaks against a report, VEX of the policy's files and of trusted people included. What people attached is
    read only where something speaks against it."""
    policy, now = session.policy(release), session.now()
    outcome = against_limits(report, policy, image=release.image, now=now)
    verifier = None if outcome.passes else session.keys.trusted_if_any()
    if verifier is None:
        return outcome
    known = read_attestations(session.source(release), release.digest, verifier)
    vex, _ = attested_vex(known, release.digest)
    return against_limits(report, policy, image=release.image, now=now, vex=vex) if vex else outcome


def _held_against_limits(
    session: Session, release: Release, published: Published, report: Report, outcome: Outcome, started: float
) -> StageResult:
    policy = session.policy(release)
    steps = in_order([*outcome.steps, Step(kind="scan")]) if outcome.reasons else ()
    alerts = alerts_about(report, max_age=policy.max_advisory_age, now=session.now(), do=remedy(session.config))
    return replace(
        _matched(release.key, report, outcome, alerts, policy.name, started, published),
        next_steps=next_steps(session, release, [step for step in steps if step.kind not in ("sign", "judge")]),
    )


def _matched(
    name: str,
    report: Report,
    outcome: Outcome,
    alerts: Sequence[str],
    policy: str,
    started: float,
    published: Published | None = None,
) -> StageResult:
    """What is known against an image as a result. published: the report that was attached; None for an image that is
    only read."""
    changed, unsigned = bool(published and published.changed), published.unsigned if published else ""
    return StageResult(
        stage="vulnerabilities",
        subject=name,
        action=_summary(report) + (" (unchanged)" if published and not changed else ""),
        digest=published.descriptor.digest if published else report.subject,
        changed=changed,
        bytes_moved=len(published.content) if published and changed else 0,
        seconds=time.monotonic() - started,
        facts={
            **({"release": name} if published else {}),
            "attached": published is not None,
            **_report_facts(report, policy),
        },
        rows=[_finding(each) for each in report.findings],
        tables={
            "coverage": [msgspec.structs.asdict(each) for each in report.coverage],
            **({"scanners": _scanners(report)} if report.scanners else {}),
        },
        alerts=alerts,
        reasons=outcome.reasons,
        notes=[*([f"the report is not signed: {unsigned}"] if unsigned else []), *outcome.accepted],
        ok=outcome.passes,
    )


def listed_only(place: Place, subject: Descriptor, packages: Sequence[PlatformPackages]) -> StageResult:
    """:func:`sbom` of any image, which is only read: nothing is attached. packages: by ``scan_image``."""
    return _listed(place, subject, f"{place}@{subject.digest}", packages, time.monotonic())


def matched_only(
    place: Place,
    packages: Sequence[PlatformPackages],
    *,
    state: Path,
    advisories: Path | None = None,
    max_age_days: int | None = None,
) -> StageResult:
    """:func:`vulnerabilities` of any image, which is only read: nothing is attached, and the default policy's limits
    decide. state: a folder for caches. advisories: in place of those of ``advisories update``.

    Raises AdvisoriesMissing, AdvisoriesTooOld (older than ``max_age_days``).
    """
    started, now = time.monotonic(), datetime.now(UTC)
    from registry_pipelines.scan.advisories import AdvisoryStore
    from registry_pipelines.scan.match import match

    store = AdvisoryStore.load(advisory_source(state, advisories), state)
    try:
        report = match(packages, store, now=now)
        if max_age_days is not None:
            store.require_younger(max_age_days, now)
    finally:
        store.close()
    age = DEFAULT_POLICY.max_advisory_age if max_age_days is None else timedelta(days=max_age_days)
    alerts = alerts_about(report, max_age=age, now=now, do=LOAD if advisories else remedy(None))
    outcome = against_limits(report, DEFAULT_POLICY, image="", now=now)
    return _matched(f"{place}@{report.subject}", report, outcome, alerts, DEFAULT_POLICY.name, started)


def current_report(session: Session, place: Place, release: Release) -> Report:
    """What the configured advisories and other scanners say now about all attached SBOMs. Raises EvidenceMissing,
    AdvisoriesMissing."""
    return _matched_with(session, place, release, read_sboms(place, release.digest))


def _matched_with(
    session: Session, place: Place, release: Release, sboms: Sequence[tuple[Published, PlatformPackages]]
) -> Report:
    packages = [of_platform for _, of_platform in sboms]
    config = session.config
    from registry_pipelines.scan.advisories import AdvisoryStore
    from registry_pipelines.scan.match import match

    brought(config)
    store = AdvisoryStore.load(advisory_source(config.state, config.advisories.source), config.state)
    try:
        report = match(packages, store, now=session.now())
    finally:
        store.close()
    if not config.scanners:
        return report
    from registry_pipelines.chain.cloud_scanners import cloud_opinions
    from registry_pipelines.chain.other_scanners import opinions
    from registry_pipelines.scan.other_scanners import with_opinions

    said = opinions(place, release, packages, config)
    return with_opinions(report, packages, [*said, *cloud_opinions(session, place, release, packages)])


def _summary(report: Report) -> str:
    counts = [f"{count} {severity.lower()}" for severity, count in report.counts().items() if count]
    undeclared = f", {len(report.undeclared)} undeclared" if report.undeclared else ""
    return f"{', '.join(counts) or 'no findings'}, {count_text(len(report.uncertain), 'unknown')}{undeclared}"


def _scanners(report: Report) -> list[dict[str, Scalar]]:
    """Other scanners: how old their data is, and how much each found."""
    return [
        {
            "scanner": each.name,
            "version": each.version,
            "database": each.newest or "unknown",
            "images": len(each.covers),
            "findings": sum(each.name in finding.found_by for finding in report.findings),
            "alone": sum(finding.found_by == (each.name,) for finding in report.findings),
        }
        for each in report.scanners
    ]


def _report_facts(report: Report, policy: str) -> dict[str, Scalar]:
    counts = report.counts()
    return {
        "policy": policy,
        "components": report.components,
        "unknowns": len(report.uncertain),
        "undeclared": len(report.undeclared),
        **_unattributed_facts(report.unattributed),
        "advisories_newest": report.advisories.newest,
        "advisories_records": report.advisories.records,
        "advisories_digest": report.advisories.digest,
        **{f"findings_{severity.lower()}": counts[severity] for severity in SEVERITIES},
    }


def _finding(finding: Finding) -> dict[str, Scalar]:
    return {
        "severity": finding.severity,
        "score": finding.score if finding.score is not None else "",
        "component": finding.component,
        "ids": " ".join(finding.ids),
        "fixed": ", ".join(finding.fixed_versions),
        "matched": finding.matched,
        "rated_by": finding.rated_by,
        "found_by": ", ".join(each or "advisories" for each in finding.found_by),
        "suppressed": finding.suppressed,
        "summary": finding.summary,
    }
