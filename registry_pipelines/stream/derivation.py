"""Records of conversions: which image was made of which other one. Signed by the indexer, attached to what was made.

A conversion changes digests and no file, so what is known of the origin's sources is true of what was made of it. The
record is how the gate gets there: see ``promote.origins``. Nothing but documents here, for who reads them.
"""

from __future__ import annotations

from typing import Any

import msgspec

from registry_pipelines.evidence.attestations import Attested
from registry_pipelines.evidence.model import Attestations, Rejected, Signer, VerifiedAttestation
from registry_pipelines.evidence.predicates import DERIVATION_TYPE
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.registry.protocol import Place
from registry_pipelines.stream.model import DerivedFormat, Regrouped
from registry_pipelines.stream.signed_records import RecordKind


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


_KIND = RecordKind(DERIVATION_TYPE, Derivation, "derivation record", lambda record: record.derived)


def attest_derivation(place: Place, subject: Descriptor, record: Derivation, signer: Signer) -> Attested:
    """Sign a record and attach it to what was made, unless this key signed the same before. Raises RegistryError."""
    return _KIND.attest(place, subject, record, signer)


def read_derivations(
    known: Attestations, digest: Digest
) -> tuple[list[tuple[Derivation, VerifiedAttestation]], list[Rejected]]:
    """The believed records about ``digest``, and why others are not. known: what was read and verified about it."""
    return _KIND.read(known, digest)
