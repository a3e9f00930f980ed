"""Which VEX statements the gate believes, and which of several counts. Only `findings` and who gathers evidence use it.

Two sources are believed: files that a policy names, and OpenVEX documents that a key of the role ``person`` signed
about this very release. What anybody else attached says nothing. Documents that were written here from a report repeat
what was known: they count for nothing, so that no statement outlives the file it was taken from.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from registry_pipelines.errors import ManifestInvalid
from registry_pipelines.evidence.model import Attestations, Rejected, VerifiedAttestation
from registry_pipelines.evidence.predicates import OPENVEX_TYPES
from registry_pipelines.oci.digest import Digest
from registry_pipelines.scan.openvex import CAUTIOUS, VexStatement, read_openvex
from registry_pipelines.scan.report import MALICIOUS_ID, Finding, Report


def attested_vex(known: Attestations, digest: Digest) -> tuple[tuple[VexStatement, ...], list[Rejected]]:
    """The statements of the documents about ``digest`` that a trusted person signed, and what is no document. known:
    what was read and verified about this digest."""
    statements: list[VexStatement] = []
    rejected: list[Rejected] = []
    for attestation in (each for kind in OPENVEX_TYPES for each in known.of_type(kind)):
        where = str(attestation.descriptor.digest)
        try:
            found = read_openvex(msgspec.json.encode(attestation.predicate), where=where, subject=digest)
        except ManifestInvalid as error:
            rejected.append(Rejected(error.where or where, error.what))
            continue
        signed = f"signed by {attestation.key_id[:19]}"
        statements += [
            msgspec.structs.replace(each, author=f"{each.author}, {signed}") for each in found if not each.derived
        ]
    return tuple(statements), rejected


def states_something(attestation: VerifiedAttestation, digest: Digest) -> bool:
    """Whether a signed document has a statement that counts, and is part of what a verdict rests on."""
    return bool(attested_vex(Attestations((attestation,), ()), digest)[0])


def decisive(finding: Finding, statements: Iterable[VexStatement], report: Report) -> VexStatement | None:
    """The statement that counts for a finding: the latest, and of those of one moment the most cautious; None: nobody
    said anything. A malicious package is no fault that could matter or not: only a statement about its own record is
    one about it."""
    concerned = [each for each in statements if each.concerns(finding, report.subject, report.covers)]
    if finding.severity == "MALICIOUS":
        concerned = [each for each in concerned if each.names[0].startswith(MALICIOUS_ID)]
    if not concerned:
        return None
    latest = max(each.time for each in concerned)
    return min((each for each in concerned if each.time == latest), key=_caution)


def excuses(statement: VexStatement) -> bool:
    """Whether it says that the finding does not matter: the product is not affected, or has the fix already."""
    return statement.status in ("not_affected", "fixed")


def of_policy(raws: Sequence[tuple[str, bytes]]) -> tuple[VexStatement, ...]:
    """The statements of a policy's own files. raws: name and content of each. Raises ManifestInvalid."""
    return tuple(
        msgspec.structs.replace(statement, author=f"{statement.author}, {name}")
        for name, raw in raws
        for statement in read_openvex(raw, where=name)
    )


def _caution(statement: VexStatement) -> tuple[int, str, str]:
    return CAUTIOUS.index(statement.status), statement.author, statement.why
