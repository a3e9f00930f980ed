"""Records of re-layering: that an image with its files in other layers has the same files as what it was made of.

The derivation record (``derivation``) says which image was made of which one; this one says why that may be believed:
the tree digests of both roots, what was left out, what was rewritten, and how the layers were laid out. Signed by the
indexer, attached to what was made. Nothing but documents here, for who reads them: anybody can compute both digests
again (``rechunk --verify``).
"""

from __future__ import annotations

from typing import Literal

import msgspec

from registry_pipelines.evidence.attestations import Attested
from registry_pipelines.evidence.model import Attestations, Rejected, Signer, VerifiedAttestation
from registry_pipelines.evidence.predicates import RECHUNK_TYPE
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.registry.protocol import Place
from registry_pipelines.stream.signed_records import RecordKind


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


_KIND = RecordKind(RECHUNK_TYPE, RechunkRecord, "rechunk record", lambda record: record.rechunked)


def attest_rechunk(place: Place, subject: Descriptor, record: RechunkRecord, signer: Signer) -> Attested:
    """Sign a record and attach it to what was made, unless this key signed the same before. Raises RegistryError."""
    return _KIND.attest(place, subject, record, signer)


def read_rechunks(
    known: Attestations, digest: Digest
) -> tuple[list[tuple[RechunkRecord, VerifiedAttestation]], list[Rejected]]:
    """The believed records about ``digest``, and why others are not. known: what was read and verified about it."""
    return _KIND.read(known, digest)
