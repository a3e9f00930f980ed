"""What a scan says in signed statements: SBOMs, and the vulnerability report in two forms."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from registry_pipelines.errors import ManifestInvalid, SignatureInvalid
from registry_pipelines.evidence.attestations import Attested, attest_once
from registry_pipelines.evidence.model import Attestations, Rejected, Signer, VerifiedAttestation
from registry_pipelines.evidence.predicates import CYCLONEDX_TYPE, REPORT_TYPE, VULNERABILITIES_TYPE
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.registry.protocol import Place
from registry_pipelines.scan.report import Report

SCANNER_URI = "urn:registry-pipelines:scanner"

REPORT_TYPES = (REPORT_TYPE, VULNERABILITIES_TYPE)
"""Predicate types that hold a whole report of ours. The second repeats the first where a verdict allowed it; alone it
is of a build before 2026-12, or of somebody who scans elsewhere."""


def attest_sbom(
    place: Place,
    subject: Descriptor,
    document: bytes,
    signer: Signer,
    *,
    known: Attestations | None = None,
    att_tag: bool = False,
    kind: str = CYCLONEDX_TYPE,
) -> Attested:
    """Sign an SBOM byte for byte: one of another tool may say more than any model of it can hold. document: a JSON
    object. kind: its predicate type. The rest as in
    :func:`registry_pipelines.evidence.attestations.attest_once`."""
    return attest_once(place, subject, kind, msgspec.Raw(document), signer, known=known, att_tag=att_tag)


def attest_report(
    place: Place,
    subject: Descriptor,
    report: Report,
    signer: Signer,
    *,
    known: Attestations | None = None,
    att_tag: bool = False,
) -> Attested:
    """Sign a report under our own type, whatever it found. The rest as in
    :func:`registry_pipelines.evidence.attestations.attest_once`."""
    return attest_once(place, subject, REPORT_TYPE, report_predicate(report), signer, known=known, att_tag=att_tag)


def attest_pass(
    place: Place,
    subject: Descriptor,
    report: Report,
    signer: Signer,
    *,
    known: Attestations | None = None,
    att_tag: bool = False,
) -> Attested:
    """Sign a report as cosign's record of a scan, too, which others read as a pass: only of one that a verdict allowed.
    The rest as in :func:`registry_pipelines.evidence.attestations.attest_once`."""
    predicate = vulnerability_predicate(report)
    return attest_once(place, subject, VULNERABILITIES_TYPE, predicate, signer, known=known, att_tag=att_tag)


def report_predicate(report: Report) -> dict[str, Any]:
    """Our own predicate: the report's JSON."""
    predicate: dict[str, Any] = msgspec.json.decode(report.encode())
    return predicate


def vulnerability_predicate(report: Report) -> dict[str, Any]:
    """cosign's vulnerability record, as ``cosign attest --type vuln`` really writes it.

    The specification (sigstore/cosign, specs/COSIGN_VULN_ATTESTATION_SPEC.md) shows a list of scanners, which the tool
    drops. ``scanner.result`` is the whole report, so that a signature covers what was found and not only that a scan
    happened; ``db.version`` is the digest of the advisories. Both times are the report's, so that the same report
    always gives the same predicate.
    """
    return {
        "invocation": {"parameters": None, "uri": "", "event_id": "", "builder.id": ""},
        "scanner": {
            "uri": SCANNER_URI,
            "version": "",
            "db": {"uri": report.advisories.source, "version": str(report.advisories.digest)},
            "result": report_predicate(report),
        },
        "metadata": {"scanStartedOn": report.scanned_at, "scanFinishedOn": report.scanned_at},
    }


def report_of(predicate: Any, *, where: str = "") -> Report:
    """The report inside such a predicate. Raises SignatureInvalid when it is another scanner's, or not ours to read."""
    try:
        scanner = predicate["scanner"]
        uri, result = scanner["uri"], scanner["result"]
    except (KeyError, TypeError) as error:
        raise SignatureInvalid("the vulnerability attestation has no `scanner.result`", where=where) from error
    if uri != SCANNER_URI:
        raise SignatureInvalid(f"the vulnerability attestation is of another scanner, {str(uri)[:100]!r}", where=where)
    return Report.decode(msgspec.json.encode(result), where=where)


def signed_report(attestation: VerifiedAttestation) -> Report:
    """The report that an attestation of one of :data:`REPORT_TYPES` holds. Raises SignatureInvalid, ManifestInvalid."""
    where = str(attestation.descriptor.digest)
    if attestation.predicate_type == VULNERABILITIES_TYPE:
        return report_of(attestation.predicate, where=where)
    return Report.decode(msgspec.json.encode(attestation.predicate), where=where)


def read_reports(documents: Iterable[tuple[Descriptor, bytes]], subject: Digest) -> tuple[list[Report], list[Rejected]]:
    """The reports about ``subject`` among attached documents of their type, and why others are none. Whoever may push
    can attach any: unsigned, a report can only deny."""
    reports: list[Report] = []
    rejected: list[Rejected] = []
    for descriptor, content in documents:
        where = str(descriptor.digest)
        try:
            report = Report.decode(content, where=where)
        except ManifestInvalid as error:
            rejected.append(Rejected(where, error.what))
            continue
        if report.subject == subject:
            reports.append(report)
        else:
            rejected.append(Rejected(where, f"the attached vulnerability report is about {report.subject}"))
    return reports, rejected
