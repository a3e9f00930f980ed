"""Whose keys sign, whose are believed, and who vouches for what."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import msgspec
from msgspec import Meta

from registry_pipelines.evidence.attestors import ATTESTS, AttestorCertificates
from registry_pipelines.evidence.identity_rules import IdentityRule
from registry_pipelines.evidence.predicates import ROLES, Role
from registry_pipelines.settings import (
    ATTESTOR,
    AWS_OWNER,
    FILE,
    FOLDER,
    KMS,
    NAME,
    SIGNING_PROFILE,
    WEBHOOK,
    Duration,
    Names,
    Secret,
)


class RetiredKey(msgspec.Struct, frozen=True, kw_only=True):
    """A key that signs no more, and whose signatures are believed for a time."""

    key: Annotated[Path, FILE]
    """PEM public keys."""
    until: date
    """Last day (UTC) on which they are believed, whenever the signature was made."""


class KeyAtHand(msgspec.Struct, frozen=True, kw_only=True):
    """What a key of one role and the key of all have in common."""

    kms: Annotated[str, KMS] | None = None
    """Key in a key service or hardware module, in place of `key` (docs/signing.md): `awskms:alias/release`,
    `gcpkms:projects/...`, `azurekms://...`, `hv:NAME/VERSION`, `hsm:ID?label=TOKEN`. Extra `kms`."""
    public: Annotated[Path, FILE] | None = None
    """Public half of the `kms` key, PEM or DER; each signature is held against it."""
    password: Secret = Secret("")
    """Password of the key, or PIN of the hardware token, as `${VARIABLE}`; empty for none."""
    retired: tuple[RetiredKey, ...] = ()
    """Public keys that are believed until a day, besides those of `trusted`."""
    keyless: tuple[IdentityRule, ...] = ()
    """Identities that are believed without a key, by `signing.trust_root` (docs/signing.md)."""


class ServiceKey(NamedTuple):
    """A key in a key service: its address, the file of its public half, and the PIN of a hardware token."""

    address: str
    public: Path
    pin: Secret


class RoleKey(KeyAtHand, frozen=True, kw_only=True):
    """A key of one role alone. The keys of `signing` itself are not believed for it."""

    key: Path | None = None
    """PEM private key (P-256); leave it out where nothing is signed in this role."""
    trusted: tuple[Annotated[Path, FILE], ...] = ()
    """PEM public keys that are believed in this role; the key's own (`<key>.pub`, `public`) unless told."""


class Timestamps(msgspec.Struct, frozen=True, kw_only=True):
    """An authority that says when a signature was made (RFC 3161), so that it outlives its certificate."""

    url: Annotated[str, WEBHOOK]
    """Where requests are sent; plain HTTP is usual, for the answers are signed."""
    roots: Annotated[Path, FILE]
    """Certificates that its own must come from, PEM or DER."""


class AwsSigner(msgspec.Struct, frozen=True, kw_only=True):
    """Signatures of the Notary Project that AWS makes (docs/notation.md)."""

    registry: Annotated[str, Names("registries")]
    """Registry of the kind `ecr`: with its access AWS Signer is asked, to sign and whether it took a signature back."""
    profile: Annotated[str, SIGNING_PROFILE] = ""
    """Signing profile that `sign` has AWS Signer sign with."""
    owner: Annotated[str, AWS_OWNER] = ""
    """Account of the profile, where it is another's."""
    managed: bool = False
    """`sign` waits until ECR has signed by itself what was pushed (managed signing), and a rule that failed ends it."""


class Notation(msgspec.Struct, frozen=True, kw_only=True):
    """Signatures of the Notary Project, made and verified beside the others (docs/notation.md)."""

    certificates: Annotated[Path, FILE] | None = None
    """Certificate of the signing key with its chain up to the root, PEM; `sign` then makes these signatures, too."""
    key: Path | None = None
    """Private key of that certificate: RSA of 2048, 3072 or 4096 bits, P-256, P-384 or P-521; the person's unless
    told."""
    password: Secret = Secret("")
    """Password of `key`, as `${VARIABLE}`; empty for none."""
    form: Literal["jws", "cose"] = "jws"
    """Form of the signature; `notation` reads both."""
    lasts: Duration | None = None
    """How long a signature is believed; for ever unless told. One with less than half of it left is made anew."""
    timestamps: Timestamps | None = None
    """Authority that each signature is stamped by."""
    aws: AwsSigner | None = None
    """AWS Signer, which signs in place of or beside `certificates`, and knows what it took back."""
    trust: Annotated[Path, FOLDER] | None = None
    """Folder with `trustpolicy.json` and `truststore`, like `~/.config/notation`; `verify` then wants a signature that
    this policy believes, too."""


class BinaryAuthorizationSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Attestations by which GKE and Cloud Run let images start (docs/signing.md)."""

    registry: Annotated[str, Names("registries")]
    """Registry of the kind `gar`, with whose access Google is asked."""
    attestor: Annotated[str, ATTESTOR]
    """Attestor, which has the public half of the promoter's key."""
    policy: Annotated[str, Names("policies")] | None = None
    """Policy whose allowing verdict is attested, and whose denying one takes the attestation back; that of an image's
    last channel unless told."""


class Signing(KeyAtHand, frozen=True, kw_only=True):
    """The key that signs, and the keys that are believed; in every role that has none of its own."""

    key: Path | None = None
    """PEM private key (P-256); `<state>/keys/signing.key` unless told."""
    generate: bool = False
    """Make the key at first use when there is none; for demonstrations."""
    trusted: tuple[Annotated[Path, FILE], ...] = ()
    """PEM public keys that are believed; the signing key's own (`<key>.pub`, `public`) unless told."""
    revoked: Annotated[Path, FILE] | None = None
    """List of revoked keys: a line for each, its id and why. They are believed for nothing, whoever trusts them."""
    trust_root: Annotated[Path, FILE] | None = None
    """Sigstore trust root (`trusted_root.json`) that the certificates of `keyless` are checked with, offline."""
    builder: RoleKey | None = None
    """Provenance."""
    indexer: RoleKey | None = None
    """Indexes for streaming, recordings and hot packs, and records of conversions."""
    scanner: RoleKey | None = None
    """SBOMs and vulnerability reports."""
    person: RoleKey | None = None
    """Image signatures, approvals, and promotions by hand."""
    promoter: RoleKey | None = None
    """Verdicts, promotions, receipts of copies."""
    notation: Notation | None = None
    """Signatures of the Notary Project."""
    binary_authorization: BinaryAuthorizationSettings | None = None
    """Attestations for Google's Binary Authorization."""

    def of(self, role: Role) -> RoleKey | None:
        """What is told for one role alone."""
        key: RoleKey | None = getattr(self, role)
        return key

    def told(self) -> tuple[tuple[str, Signing | RoleKey], ...]:
        """This, and what is told for single roles, each with its path in the file."""
        return (("signing", self), *((f"signing.{role}", own) for role in ROLES if (own := self.of(role))))


class AttestorKeys(msgspec.Struct, frozen=True, kw_only=True):
    """An attestor: who may say something about images, by keys of its own."""

    attests: Annotated[tuple[Annotated[str, ATTESTS], ...], Meta(min_length=1)]
    """What it must say, all of it: `provenance`, `sbom`, `vulnerabilities`, `signature`, `approval`, `weights` (signs
    those that are attached), or a predicate type that none of our stages writes."""
    keys: tuple[Annotated[Path, FILE], ...] = ()
    """PEM public keys; each of them counts as this attestor."""
    keyless: tuple[IdentityRule, ...] = ()
    """Identities that count as this attestor without a key, by `signing.trust_root`."""
    certificates: AttestorCertificates | None = None
    """Certificates that count as this attestor, for `signature` and `weights`."""


class TrustPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """Who vouches for images, by name. A policy says of whom it wants a word (`policies.NAME.attestors`)."""

    attestors: dict[Annotated[str, NAME], AttestorKeys] = {}
    """Attestors by name: `build-system`, `vulnerability-scanner`, `qa`."""
