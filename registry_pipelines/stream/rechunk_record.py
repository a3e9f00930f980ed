"""Records of re-layering: that an image with its files in other layers has the same files as what it was made of.

The derivation record (``derivation``) says which image was made of which one; this one says why that may be believed:
the tree digests of both roots, what was left out, what was rewritten, and how the layers were laid out. Signed by the
indexer, attached to what was made. Nothing but documents here, for who reads them: anybody can compute both digests
again (``rechunk --verify``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from registry_pipelines.errors import ManifestInvalid
from registry_pipelines.evidence.attestations import Attested, attest_once, read_attestations
from registry_pipelines.evidence.model import Attestations, Rejected, Signer, VerifiedAttestation
from registry_pipelines.evidence.predicates import RECHUNK_TYPE
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor, decode_json, encode_json
from registry_pipelines.registry.protocol import Place


class DroppedFiles(msgspec.Struct, frozen=True, kw_only=True):
    """What was left out for one reason."""

    why: str
    """``caches``."""
    files: int
    bytes: int
    paths: tuple[str, ...] = ()
    """The largest of them, at most ``MAX_PATHS``; the layers tell the rest."""


class LaidLayer(msgspec.Struct, frozen=True, kw_only=True):
    """One layer of what was made."""

    digest: Digest
    size: int
    """Compressed bytes."""
    contents: str
    """Whose files it has: ``python numpy``, ``deb libc6``, ``rest of the application``."""


class RechunkedPlatform(msgspec.Struct, frozen=True, kw_only=True):
    """One platform's image, before and after. Both manifests are equal where it was left as it is."""

    platform: str
    origin: Digest
    rechunked: Digest
    origin_tree: str = ""
    """Tree digest of the origin's root, without times: ``sha256:...``; empty where the image was left as it is."""
    tree: str = ""
    """That of the root of what was made, which is that of the origin's less what was left out."""
    layers: tuple[LaidLayer, ...] = ()
    size_before: int = 0
    """Compressed bytes of the origin's layers."""
    dropped: tuple[DroppedFiles, ...] = ()
    pyc_rewritten: int = 0
    """Files ``.pyc`` that held the time of their source and hold none now; both forms are one to a tree digest."""

    @property
    def same_tree(self) -> bool:
        """Whether the record says that both roots are the same, so that nothing was left out."""
        return self.origin == self.rechunked or "" != self.origin_tree == self.tree

    @property
    def is_covered(self) -> bool:
        """Whether the record vouches for what was made: by a tree digest, or since nothing was done."""
        return self.origin == self.rechunked or bool(self.tree)


class RechunkRecord(msgspec.Struct, frozen=True, kw_only=True):
    """The signed note. JSON of the predicate, field by field; the statement's subject is ``rechunked``."""

    origin: Digest
    """Top digest of what was rechunked, in the same repository."""
    rechunked: Digest
    """Top digest of what was made."""
    times: Literal["fixed", "keep"]
    """``fixed``: every file has one date, and ``.pyc`` hold no time."""
    drop: tuple[str, ...] = ()
    """What was asked to be left out."""
    only: tuple[str, ...] = ()
    """Platforms that were asked for; others stay as they are. Empty: all were."""
    previous: str = ""
    """Digest of the release whose layout was taken; empty for none."""
    platforms: tuple[RechunkedPlatform, ...]
    tool: str
    """Who did it: name and version."""

    def same_rechunk(self, other: RechunkRecord) -> bool:
        """Whether both say the same, whichever version of the tool made them."""
        return msgspec.structs.replace(self, tool="") == msgspec.structs.replace(other, tool="")


def attest_rechunk(place: Place, subject: Descriptor, record: RechunkRecord, signer: Signer) -> Attested:
    """Sign a record and attach it to what was made, unless this key signed the same before. Raises RegistryError."""
    from registry_pipelines.evidence.keys import verifier_of

    known = read_attestations(place, subject.digest, verifier_of(signer), predicate_type=RECHUNK_TYPE)
    for there, attestation in read_rechunks(known, subject.digest)[0]:
        if there.same_rechunk(record):
            return Attested(RECHUNK_TYPE, attestation.descriptor, changed=False)
    return attest_once(place, subject, RECHUNK_TYPE, msgspec.Raw(encode_json(record)), signer, known=known)


def read_rechunks(
    known: Attestations, digest: Digest
) -> tuple[list[tuple[RechunkRecord, VerifiedAttestation]], list[Rejected]]:
    """The believed records about ``digest``, and why others are not. known: what was read and verified about it."""
    records: list[tuple[RechunkRecord, VerifiedAttestation]] = []
    rejected: list[Rejected] = []
    for attestation in known.of_type(RECHUNK_TYPE):
        where = str(attestation.descriptor.digest)
        try:
            record = _decoded(attestation.predicate, where)
        except ManifestInvalid as error:
            rejected.append(Rejected(where, error.what))
            continue
        if record.rechunked == digest:
            records.append((record, attestation))
        else:
            rejected.append(Rejected(where, f"the rechunk record is about {record.rechunked}, not {digest}"))
    return records, rejected


def _decoded(predicate: Mapping[str, Any], where: str) -> RechunkRecord:
    return decode_json(encode_json(predicate), RechunkRecord, where=where, what="rechunk record")
