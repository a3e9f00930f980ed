"""The findings of a release in the forms that other programs read: SARIF and OpenVEX."""

from __future__ import annotations

import time
from collections.abc import Sequence

import msgspec

from registry_pipelines.chain.result import StageResult
from registry_pipelines.chain.session import Session
from registry_pipelines.evidence.attestations import attest_once, read_attestations
from registry_pipelines.evidence.model import Attestations
from registry_pipelines.evidence.predicates import OPENVEX_TYPE
from registry_pipelines.oci.times import read_time
from registry_pipelines.promote.evidence import signed_about
from registry_pipelines.promote.findings import passes_by
from registry_pipelines.promote.person import account
from registry_pipelines.promote.vex import attested_vex, decisive, excuses
from registry_pipelines.release import Release
from registry_pipelines.scan.openvex import VexProduct, VexStatement, stated_affected, write_openvex
from registry_pipelines.scan.publish import read_report
from registry_pipelines.scan.report import Finding, Report


def sarif(session: Session, release: Release) -> bytes:
    """The report that counts as SARIF 2.1.0; what passes by exception or VEX is suppressed, with its reason. Raises
    EvidenceMissing when there is no report."""
    from registry_pipelines.scan.sarif import write_sarif

    report, known = _report(session, release)
    policy, now, vex = session.policy(release), session.now(), _attested(release, known)

    def excused(finding: Finding) -> str:
        return passes_by(finding, report, policy, image=release.image, now=now, vex=vex)

    return write_sarif(report, name=release.key, excused=excused)


def openvex(session: Session, release: Release, *, author: str = "") -> bytes:
    """What is known about each finding of the release as OpenVEX: statements that count are repeated about this
    digest, all others are ``affected`` with what is to be done. An exception takes a risk, and says not that there is
    none: it is ``affected`` until its day. Findings that the distribution's package stands for are left out.

    author: a person or an organization; the account of this process unless told. The same report gives the same bytes.
    Raises EvidenceMissing when there is no report.
    """
    report, known = _report(session, release)
    policy, now = session.policy(release), session.now()
    statements = (*policy.vex_statements, *_attested(release, known))
    author = author or account().name
    written: list[VexStatement] = []
    for finding in report.counting():
        statement = decisive(finding, statements, report)
        if statement is not None and excuses(statement):
            product = VexProduct(digests=(report.subject,), parts=(finding.component,), of_parts=True)
            written.append(msgspec.structs.replace(statement, products=(product,)))
            continue
        passes = passes_by(finding, report, policy, image=release.image, now=now, vex=())
        written.append(stated_affected(report, finding, author=author, action=_action(finding, passes)))
    scanned = read_time(report.scanned_at)
    return write_openvex(written, author=author, now=scanned or now)


def attest_openvex(session: Session, release: Release, document: bytes) -> StageResult:
    """Sign a document of :func:`openvex` as the person, and attach it. Raises InputError."""
    started = time.monotonic()
    place, subject = session.source(release), session.subject(release)
    made = attest_once(place, subject, OPENVEX_TYPE, msgspec.Raw(document), session.keys.signer("person"))
    statements = len(msgspec.json.decode(document)["statements"])
    return StageResult(
        stage="findings",
        subject=release.key,
        action="OpenVEX document attached" if made.changed else "unchanged",
        digest=made.descriptor.digest,
        changed=made.changed,
        bytes_moved=len(document) if made.changed else 0,
        seconds=time.monotonic() - started,
        facts={"release": release.key, "statements": statements},
    )


def _report(session: Session, release: Release) -> tuple[Report, Attestations | None]:
    """The report that a verdict would be about: the latest that a trusted key signed, else the latest."""
    place, verifier = session.source(release), session.keys.trusted_if_any()
    if verifier is not None:
        verifier = verifier.under(session.policy(release).attestor_names)
    known = read_attestations(place, release.digest, verifier) if verifier else None
    signed = signed_about(known, release.digest) if known else None
    return (signed[0] if signed else read_report(place, release.digest)[1]), known


def _attested(release: Release, known: Attestations | None) -> Sequence[VexStatement]:
    return attested_vex(known, release.digest)[0] if known else ()


def _action(finding: Finding, passes: str) -> str:
    """Required of what is affected: what is to be done."""
    if finding.fixed_versions:
        return f"Update to {', '.join(finding.fixed_versions)}."
    return f"No fix is known. {passes}".strip()
