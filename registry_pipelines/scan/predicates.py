"""Predicates we write ourselves."""

from __future__ import annotations

from typing import Any

import msgspec

from registry_pipelines.errors import SignatureInvalid
from registry_pipelines.scan.interface import Report

VULNERABILITIES_TYPE = "https://cosign.sigstore.dev/attestation/vuln/v1"
CYCLONEDX_TYPE = "https://cyclonedx.org/bom"
SCANNER_URI = "urn:registry-pipelines:scanner"


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
            "result": msgspec.json.decode(report.encode()),
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
