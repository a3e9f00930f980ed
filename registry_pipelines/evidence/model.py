"""The signing protocols, and what reading and verifying of evidence returns."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor

if TYPE_CHECKING:
    from registry_pipelines.evidence.attestors import Attestor
    from registry_pipelines.evidence.bundles import Bundle
    from registry_pipelines.registry.protocol import Place


CERTIFICATE = "certificate:"
"""How the id of who signed by certificate begins, before its SHA-256 in hex; behind that, of a model's signature, stand
the names of all as whom the certificate counts, each after a space."""


def key_name(key_id: str) -> str:
    """A key's id for people: enough of it to find the key. An identity (``keyless:...``) is named whole."""
    if key_id.startswith(CERTIFICATE):
        certificate, space, names = key_id.partition(" ")
        return f"{certificate[: len(CERTIFICATE) + 12]}{space}{names}"
    return key_id[:19] if key_id.startswith("sha256:") else key_id


class Signer(Protocol):
    """Holds, or reaches, one private key. Safe to use from many threads."""

    @property
    def key_id(self) -> str:
        """``sha256:<hex>`` of the public key's DER SubjectPublicKeyInfo."""
        ...

    @property
    def public_key_pem(self) -> bytes:
        """The public key as PEM SubjectPublicKeyInfo, what ``cosign verify --key`` takes."""
        ...

    def sign(self, payload: bytes) -> bytes:
        """ECDSA over the SHA-256 of ``payload``; DER, as cosign and DSSE bundles carry it."""
        ...


class Verifier(Protocol):
    """Knows the public keys that are believed. Safe to use from many threads."""

    def verify(self, payload: bytes, signature: bytes) -> str:
        """Return the key id that made ``signature`` (DER) over exactly ``payload``.

        Raises SignatureInvalid when no believed key did. Asked next is :meth:`vouching`: being believed for something
        is not being believed for this.
        """
        ...

    def verify_bundle(self, bundle: Bundle, *, chains: bool = False) -> tuple[str, ...]:
        """Who signed the envelope of a bundle: the ids of believed keys, or the one identity of its certificate.

        chains: a certificate of the authorities of an attestor counts, too, as signatures of models have them. Raises
        SignatureInvalid. Asked next is :meth:`vouching`, as after :meth:`verify`.
        """
        ...

    def vouching(self, key_ids: Sequence[str], predicate_type: str) -> str:
        """The first of these keys, which :meth:`verify` gave, that is believed for statements of this type.

        Raises SignatureInvalid, which names the role that is wanted.
        """
        ...

    def against(self, key_id: str) -> str:
        """Why a key is not believed any more, whatever it is for: it is revoked, or retired and its day is over. Empty
        when neither is said of it."""
        ...

    def believed(self, predicate_type: str) -> tuple[str, ...]:
        """Ids of all keys that are believed for statements of this type, sorted."""
        ...

    def counts_as(self, key_id: str, attestor: str, predicate_type: str) -> bool:
        """Whether a statement of this type by this key is one of ``attestor``, a name for those who may say it: of the
        keys of that name where there is one, else of whoever is believed for the type."""
        ...

    def certified(self, place: Place, subject: Descriptor) -> Certified:
        """The signatures of a manifest by certificate (Notation) that are believed. Raises RegistryError, InputError
        for a trust policy that cannot be read."""
        ...

    def attestor(self, name: str) -> Attestor | None:
        """An attestor by name; None for one that is not known."""
        ...

    def under(self, attestors: Collection[str]) -> Verifier:
        """The same while a trust policy holds that names these attestors: for the types that they attest nobody else is
        believed. Who reads evidence by a policy asks for it first; asked twice it is the same."""
        ...


class Certified(msgspec.Struct, frozen=True):
    """What the Notary Project's signatures of an image say."""

    signatures: tuple[tuple[Digest, str], ...] = ()
    """Manifest of each that is believed, and the SHA-256 of the certificate (``certificate:<hex>``)."""
    problem: str = ""
    """Why there is none, a sentence; empty when there is one."""


class Rejected(msgspec.Struct, frozen=True):
    """Something that looked like evidence and was not believed. Unsigned, so it is only ever a reason, never a fact."""

    where: str
    """Digest or tag of what was read."""
    reason: str
    """One sentence without full stop."""
    damaged: bool = False
    """Its bytes cannot be read, so nobody knows what it would have said; else it is known to say something else."""

    def __str__(self) -> str:
        return f"{self.where}: {self.reason}"


class VerifiedAttestation(msgspec.Struct, frozen=True):
    """A signed in-toto statement about a digest, believed because of ``key_id``."""

    predicate_type: str
    predicate: Mapping[str, Any]
    subjects: tuple[Digest, ...]
    """Every digest the signed statement names; the one asked for is among them."""
    key_id: str
    descriptor: Descriptor
    """The manifest that carries it (the bundle referrer, or the ``.att`` manifest)."""


class Attestations(msgspec.Struct, frozen=True):
    """What is attached and believed, and what is attached and not believed."""

    verified: tuple[VerifiedAttestation, ...]
    rejected: tuple[Rejected, ...]

    def of_type(self, predicate_type: str) -> list[VerifiedAttestation]:
        """The verified ones of one predicate type."""
        return [attestation for attestation in self.verified if attestation.predicate_type == predicate_type]
