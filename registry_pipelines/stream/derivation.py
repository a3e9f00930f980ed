"""Records of conversions: which image was made of which other one. Signed by the indexer, attached to what was made.

A conversion changes digests and no file, so what is known of the origin's sources is true of what was made of it. The
record is how the gate gets there: see ``promote.origins``. Nothing but documents here, for who reads them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from registry_pipelines.errors import ManifestInvalid
from registry_pipelines.evidence.attestations import Attested, attest_once, read_attestations
from registry_pipelines.evidence.model import Attestations, Rejected, Signer, VerifiedAttestation
from registry_pipelines.evidence.predicates import DERIVATION_TYPE
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor, decode_json, encode_json
from registry_pipelines.registry.protocol import Place
from registry_pipelines.stream.model import DerivedFormat, Regrouped


class DerivedPlatform(msgspec.Struct, frozen=True, kw_only=True):
    """One platform's manifests, before and after. They are equal where nothing of it was to be converted."""

    platform: str
    """``linux/amd64``, for people."""
    origin: Digest
    derived: Digest


class Derivation(msgspec.Struct, frozen=True, kw_only=True):
    """The signed note that an image was made of another one by changing its form. JSON of the predicate, field by
    field; the statement's subject is ``derived``."""

    origin: Digest
    """Top digest of what was converted, in the same repository."""
    derived: Digest
    """Top digest of what was made."""
    format: DerivedFormat | Regrouped
    options: dict[str, Any]
    """What the conversion was told: sizes in bytes, levels, names of files."""
    platforms: tuple[DerivedPlatform, ...]
    tool: str
    """Who converted: name and version."""

    def same_conversion(self, other: Derivation) -> bool:
        """Whether both say the same, whichever version of the tool made them."""
        return msgspec.structs.replace(self, tool="") == msgspec.structs.replace(other, tool="")


def attest_derivation(place: Place, subject: Descriptor, record: Derivation, signer: Signer) -> Attested:
    """Sign a record and attach it to what was made, unless this key signed the same before. Raises RegistryError."""
    from registry_pipelines.evidence.keys import verifier_of

    known = read_attestations(place, subject.digest, verifier_of(signer), predicate_type=DERIVATION_TYPE)
    for there, attestation in read_derivations(known, subject.digest)[0]:
        if there.same_conversion(record):
            return Attested(DERIVATION_TYPE, attestation.descriptor, changed=False)
    return attest_once(place, subject, DERIVATION_TYPE, msgspec.Raw(encode_json(record)), signer, known=known)


def read_derivations(
    known: Attestations, digest: Digest
) -> tuple[list[tuple[Derivation, VerifiedAttestation]], list[Rejected]]:
    """The believed records about ``digest``, and why others are not. known: what was read and verified about it."""
    records: list[tuple[Derivation, VerifiedAttestation]] = []
    rejected: list[Rejected] = []
    for attestation in known.of_type(DERIVATION_TYPE):
        where = str(attestation.descriptor.digest)
        try:
            record = _decoded(attestation.predicate, where)
        except ManifestInvalid as error:
            rejected.append(Rejected(where, error.what))
            continue
        if record.derived == digest:
            records.append((record, attestation))
        else:
            rejected.append(Rejected(where, f"the derivation record is about {record.derived}, not {digest}"))
    return records, rejected


def _decoded(predicate: Mapping[str, Any], where: str) -> Derivation:
    return decode_json(encode_json(predicate), Derivation, where=where, what="derivation record")
