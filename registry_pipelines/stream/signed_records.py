"""How records about what was made of an image are signed, attached and read (``derivation``, ``rechunk_record``)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import msgspec

from registry_pipelines.errors import ManifestInvalid
from registry_pipelines.evidence.attestations import Attested, attest_once, read_attestations
from registry_pipelines.evidence.model import Attestations, Rejected, Signer, VerifiedAttestation
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor, decode_json, encode_json
from registry_pipelines.registry.protocol import Place

_R = TypeVar("_R", bound=msgspec.Struct)


@dataclass(frozen=True)
class RecordKind(Generic[_R]):
    """A kind of record; its type has a field ``tool``, which says who made it, and nothing of what was made."""

    predicate_type: str
    record: type[_R]
    what: str
    """For people: ``derivation record``."""
    made: Callable[[_R], Digest]
    """The digest that a record is about."""

    def same(self, one: _R, other: _R) -> bool:
        """Whether both say the same, whichever version of the tool made them."""
        return msgspec.structs.replace(one, tool="") == msgspec.structs.replace(other, tool="")

    def attest(self, place: Place, subject: Descriptor, record: _R, signer: Signer) -> Attested:
        """Sign a record and attach it to what was made, unless this key signed the same before. Raises
        RegistryError."""
        from registry_pipelines.evidence.keys import verifier_of

        known = read_attestations(place, subject.digest, verifier_of(signer), predicate_type=self.predicate_type)
        for there, attestation in self.read(known, subject.digest)[0]:
            if self.same(there, record):
                return Attested(self.predicate_type, attestation.descriptor, changed=False)
        return attest_once(place, subject, self.predicate_type, msgspec.Raw(encode_json(record)), signer, known=known)

    def read(self, known: Attestations, digest: Digest) -> tuple[list[tuple[_R, VerifiedAttestation]], list[Rejected]]:
        """The believed records about ``digest``, and why others are not. known: what was read and verified about it."""
        records: list[tuple[_R, VerifiedAttestation]] = []
        rejected: list[Rejected] = []
        for attestation in known.of_type(self.predicate_type):
            where = str(attestation.descriptor.digest)
            try:
                record = decode_json(encode_json(attestation.predicate), self.record, where=where, what=self.what)
            except ManifestInvalid as error:
                rejected.append(Rejected(where, error.what))
                continue
            if self.made(record) == digest:
                records.append((record, attestation))
            else:
                rejected.append(Rejected(where, f"the {self.what} is about {self.made(record)}, not {digest}"))
        return records, rejected


__all__ = ["RecordKind"]
