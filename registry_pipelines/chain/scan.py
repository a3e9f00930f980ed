"""What is in a release, and what is known against it."""

from __future__ import annotations

import time

import msgspec

from registry_pipelines.chain.advisories import advisory_source, alerts_about
from registry_pipelines.chain.next_steps import next_steps
from registry_pipelines.chain.result import Scalar, StageResult
from registry_pipelines.chain.session import Session
from registry_pipelines.config import Image
from registry_pipelines.progress import count_text
from registry_pipelines.promote.documents import Step, in_order
from registry_pipelines.promote.findings import Outcome
from registry_pipelines.promote.gate import against_limits
from registry_pipelines.registry.image_warnings import warnings_of
from registry_pipelines.registry.platforms import read_entries
from registry_pipelines.registry.protocol import Place
from registry_pipelines.registry.warning_kinds import summed
from registry_pipelines.release import Release
from registry_pipelines.scan.publish import Published, publish_report, publish_sboms, read_sboms
from registry_pipelines.scan.report import SEVERITIES, Finding, Report, left_out_lines, own_first, undeclared_lines


def sbom(session: Session, release: Release) -> StageResult:
    """Read the packages of every platform from the layer streams and attach one CycloneDX document for each."""
    started = time.monotonic()
    place, subject = session.source(release), session.subject(release)
    signer = session.keys.at_hand("scanner")  # a wrong password is told before layers are read
    from registry_pipelines.scan.sbom import scan_image

    packages = scan_image(place, subject, state=session.config.state, progress=session.progress)
    published = publish_sboms(place, subject, packages, signer=signer)
    top = place.registry.get_manifest(place.repository, subject.digest)
    warnings = warnings_of(place, read_entries(place, top))
    components = sum(len(each.components) for each in packages)
    unknowns = sum(len(each.unknowns) for each in packages)
    undeclared = [component for each in packages for component in each.components if not component.declared]
    left_out = list(dict.fromkeys(omitted for each in packages for omitted in each.left_out))
    changed = any(each.changed for each in published)
    return StageResult(
        stage="sbom",
        subject=release.key,
        action=f"{count_text(components, 'component')} listed" if changed else "unchanged",
        digest=published[0].descriptor.digest,
        changed=changed,
        bytes_moved=sum(len(each.content) for each in published if each.changed),
        seconds=time.monotonic() - started,
        facts={
            "release": release.key,
            "platforms": len(packages),
            "components": components,
            "undeclared": len({component.purl for component in undeclared}),
            "unknowns": unknowns,
            "warnings": len(warnings),
        },
        tables={
            "warnings": [each.row() for each in warnings],
            "left_out": [{"what": omitted.subject, "why": omitted.reason} for omitted in left_out],
        },
        notes=[
            *undeclared_lines(component.purl for component in undeclared),
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
                "image": each.manifest.digest.short,
            }
            for each in packages
            for component in own_first(each.components)
            if component.declared
        ],
    )


def vulnerabilities(session: Session, release: Release) -> StageResult:
    """Match advisories against the attached SBOMs, attach the report; ``ok`` when the policy's limits hold.

    Raises EvidenceMissing (no SBOM), AdvisoriesMissing. The advisories' age is the verdict's to judge.
    """
    started = time.monotonic()
    place, subject = session.source(release), session.subject(release)
    signer = session.keys.at_hand("scanner")
    report = current_report(session, place, release)
    outcome = _against_limits(session, release, report)
    published = publish_report(place, subject, report, signer=signer, passes=outcome.passes)
    return _held_against_limits(session, release, published, report, outcome, started)


def _against_limits(session: Session, release: Release, report: Report) -> Outcome:
    return against_limits(report, session.policy(release), image=release.image, now=session.now())


def _held_against_limits(
    session: Session, release: Release, published: Published, report: Report, outcome: Outcome, started: float
) -> StageResult:
    image = session.image(release.image)
    policy = session.policy(release)
    own_source = session.config.advisories.source is not None
    steps = in_order([*outcome.steps, Step(kind="scan")]) if outcome.reasons else ()
    return StageResult(
        stage="vulnerabilities",
        subject=release.key,
        action=_summary(report) + ("" if published.changed else " (unchanged)"),
        digest=published.descriptor.digest,
        changed=published.changed,
        bytes_moved=len(published.content) if published.changed else 0,
        seconds=time.monotonic() - started,
        facts={"release": release.key, **_report_facts(report, image)},
        rows=[_finding(each) for each in report.findings],
        tables={"coverage": [msgspec.structs.asdict(each) for each in report.coverage]},
        alerts=alerts_about(report, max_age=policy.max_advisory_age, now=session.now(), own_source=own_source),
        reasons=outcome.reasons,
        next_steps=next_steps(session, release, [step for step in steps if step.kind not in ("sign", "judge")]),
        notes=[*([f"the report is not signed: {published.unsigned}"] if published.unsigned else []), *outcome.accepted],
        ok=outcome.passes,
    )


def current_report(session: Session, place: Place, release: Release) -> Report:
    """What the configured advisories say now about all attached SBOMs. Raises EvidenceMissing, AdvisoriesMissing."""
    packages = [of_platform for _, of_platform in read_sboms(place, release.digest)]
    config = session.config
    from registry_pipelines.scan.advisories import AdvisoryStore
    from registry_pipelines.scan.match import match

    store = AdvisoryStore.load(advisory_source(config.state, config.advisories.source), config.state)
    try:
        return match(packages, store, now=session.now())
    finally:
        store.close()


def _summary(report: Report) -> str:
    counts = [f"{count} {severity.lower()}" for severity, count in report.counts().items() if count]
    undeclared = f", {len(report.undeclared)} undeclared" if report.undeclared else ""
    return f"{', '.join(counts) or 'no findings'}, {count_text(len(report.uncertain), 'unknown')}{undeclared}"


def _report_facts(report: Report, image: Image) -> dict[str, Scalar]:
    counts = report.counts()
    return {
        "policy": image.policy,
        "components": report.components,
        "unknowns": len(report.uncertain),
        "undeclared": len(report.undeclared),
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
        "suppressed": finding.suppressed,
        "summary": finding.summary,
    }
