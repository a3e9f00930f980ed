"""Image signatures of the Notary Project, as ``notation`` finds, verifies and writes them.

A signature is a manifest that refers to the image, with the envelope as its one layer and no artifact type but its
config's (notaryproject/specifications, signature-specification.md, "Storage"). What it says and whom it is believed
from is ``evidence.notation``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from registry_pipelines.errors import EvidenceMissing, SignatureInvalid
from registry_pipelines.evidence.model import CERTIFICATE, Certified, Rejected
from registry_pipelines.evidence.notation.aws_signer import ManagedRevocation
from registry_pipelines.evidence.notation.envelope import (
    COSE_TYPE,
    JWS_TYPE,
    MAX_ENVELOPE_BYTES,
    X509_SCHEME,
    Envelope,
    Target,
    check_integrity,
    check_target,
    read_payload,
)
from registry_pipelines.evidence.notation.identities import write_subject
from registry_pipelines.evidence.notation.signers import CertifiedSigner, Form, Timestamper
from registry_pipelines.evidence.notation.trust import Statement, Trust
from registry_pipelines.evidence.notation.verify import (
    Revocation,
    VerifiedEnvelope,
    read_envelope,
    verify_envelope,
)
from registry_pipelines.evidence.referrers import Referrer, open_referrers, read_layer
from registry_pipelines.evidence.x509 import thumbprint
from registry_pipelines.oci import media_types
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import EMPTY, Descriptor, Manifest, manifest_bytes
from registry_pipelines.oci.media_types import NOTATION_SIGNATURE
from registry_pipelines.registry.blobs import push_blob
from registry_pipelines.registry.protocol import Place

THUMBPRINTS = "io.cncf.notary.x509chain.thumbprint#S256"
_FORMS: Mapping[Form, str] = {"jws": JWS_TYPE, "cose": COSE_TYPE}


@dataclass(frozen=True)
class NotationSigned:
    """A Notation signature that is there now."""

    descriptor: Descriptor
    changed: bool
    """False: one by the same certificate that says the same was there; nothing was written."""


@dataclass(frozen=True)
class NotationSignature:
    """A signature that a statement of the trust policy believes."""

    descriptor: Descriptor
    """The manifest that carries it."""
    form: str
    """``jws`` or ``cose``."""
    subject: str
    """Of the certificate that signed."""
    thumbprint: str
    """The hex SHA-256 of that certificate."""
    verified: VerifiedEnvelope


@dataclass(frozen=True)
class NotationVerification:
    """What the trust policy says about an image."""

    digest: Digest
    statement: Statement
    """The one for this repository."""
    signatures: tuple[NotationSignature, ...]
    """Believed; at least one, unless the statement skips verification: then nothing was looked at."""
    rejected: tuple[Rejected, ...]

    @property
    def authentic(self) -> tuple[NotationSignature, ...]:
        """Those of somebody who is trusted; the level ``audit`` takes others, too."""
        return tuple(each for each in self.signatures if each.verified.authentic)

    def certified(self) -> Certified:
        """Who is believed to have signed, for a verdict."""
        return Certified(tuple((each.descriptor.digest, f"{CERTIFICATE}{each.thumbprint}") for each in self.authentic))

    def rows(self) -> list[dict[str, Any]]:
        """Its signatures, as tables of signatures show them."""
        return [
            {"kind": f"signature (notation {each.form})", "key": each.subject, "digest": each.descriptor.digest}
            for each in self.signatures
        ]

    def remarks(self) -> list[str]:
        """What the statement's level passes over, and what was not believed, one sentence each."""
        name = self.statement.name
        if self.statement.skips:
            return [f"the Notation trust policy verifies nothing here: statement {name!r} has the level `skip`"]
        logged = [(each.subject, problem) for each in self.signatures for problem in each.verified.logged]
        return [
            *(f"only logged, as statement {name!r} wants it: {subject}: {problem}" for subject, problem in logged),
            *(f"not believed: {each}" for each in self.rejected),
        ]


def sign_notation(
    place: Place,
    subject: Descriptor,
    signer: CertifiedSigner,
    *,
    form: Form = "jws",
    annotations: Mapping[str, str] | None = None,
    lasts: timedelta | None = None,
    timestamper: Timestamper | None = None,
    now: datetime | None = None,
) -> NotationSigned:
    """Sign a manifest, unless this certificate signed the same before in this form. Signatures of others stay.

    annotations: what the signature says beside the digest. lasts: nobody believes it after that; a signature that has
    less than half of it left is made anew. timestamper: asked for a timestamp, so that the signature outlives the
    certificate; one without is made anew. now: UTC, the clock unless told. Raises RegistryError, and what the
    timestamper raises.
    """
    now = now or datetime.now(UTC)
    target = Target(subject.media_type, str(subject.digest), subject.size, dict(annotations or {}))
    needed = now + lasts / 2 if lasts else None
    for referrer in signatures_of(place, subject.digest):
        if isinstance(referrer, Referrer):
            envelope = read_signature(place, referrer)
            if isinstance(envelope, Envelope) and _says(
                envelope, target, signer, form, needed, stamped=bool(timestamper)
            ):
                return NotationSigned(referrer.descriptor, changed=False)
    expiry = now + lasts if lasts else None
    media_type, raw = signer.sign(target, form=form, at=now, expiry=expiry, timestamper=timestamper)
    thumbprints = json.dumps([thumbprint(one) for one in signer.chain], separators=(",", ":"))
    about = {THUMBPRINTS: thumbprints, "org.opencontainers.image.created": now.strftime("%Y-%m-%dT%H:%M:%SZ")}
    return NotationSigned(attach_envelope(place, subject, media_type, raw, about), changed=True)


def verify_notation(
    place: Place,
    subject: Descriptor,
    trust: Trust,
    *,
    revocation: Revocation,
    repository: str = "",
    now: datetime | None = None,
    referrers: Iterable[Referrer | Rejected] | None = None,
    managed: ManagedRevocation | None = None,
) -> NotationVerification:
    """Find a signature over exactly this manifest that the trust policy believes.

    repository: whose statement counts (``host/path``), the place's unless told. revocation: see ``verify_envelope``.
    now: UTC, the clock unless told. referrers: those of the subject, for who looks at others among them too. managed:
    asks AWS Signer about what it signed; without it nothing of that is believed.
    Raises EvidenceMissing (there is no signature), SignatureInvalid (there are, none is believed, and every reason is
    given; or no statement is for this repository), RegistryError.
    """
    where = f"{place}@{subject.digest}"
    statement = trust.statement_for(repository or str(place))
    if statement.skips:
        return NotationVerification(subject.digest, statement, (), ())
    now = now or datetime.now(UTC)
    believed: list[NotationSignature] = []
    rejected: list[Rejected] = []
    for referrer in signatures_of(place, subject.digest, referrers):
        if isinstance(referrer, Rejected):
            rejected.append(referrer)
            continue
        try:
            believed.append(
                _believe(place, subject, referrer, trust, statement, now=now, revocation=revocation, managed=managed)
            )
        except SignatureInvalid as error:
            rejected.append(Rejected(str(referrer.descriptor.digest), error.what))
    if believed:
        return NotationVerification(subject.digest, statement, tuple(believed), tuple(rejected))
    if not rejected:
        raise EvidenceMissing("the image has no Notation signature", where=where, do="Sign it: notation sign")
    reasons = "; ".join(str(refusal) for refusal in rejected[:10])
    raise SignatureInvalid(
        f"no Notation signature is believed: {reasons}",
        where=where,
        do=f"Change the statement {statement.name!r} of the trust policy or its trust stores, or sign again",
    )


def _believe(
    place: Place,
    subject: Descriptor,
    referrer: Referrer,
    trust: Trust,
    statement: Statement,
    *,
    now: datetime,
    revocation: Revocation,
    managed: ManagedRevocation | None,
) -> NotationSignature:
    envelope = read_signature(place, referrer)
    if isinstance(envelope, Rejected):
        raise SignatureInvalid(envelope.reason)
    verified = verify_envelope(envelope, trust, statement, now=now, revocation=revocation, managed=managed)
    check_target(verified.target, subject.digest, media_type=subject.media_type, size=subject.size)
    leaf = verified.chain[0]
    form = next(form for form, media_type in _FORMS.items() if media_type == envelope.media_type)
    return NotationSignature(referrer.descriptor, form, write_subject(leaf), thumbprint(leaf), verified)


def signatures_of(
    place: Place, digest: Digest, referrers: Iterable[Referrer | Rejected] | None = None
) -> Iterator[Referrer | Rejected]:
    """Those of the manifests that refer to a digest that carry a Notation signature, and what is damaged; what says
    something else is passed over."""
    for referrer in open_referrers(place, digest) if referrers is None else referrers:
        if isinstance(referrer, Rejected) or referrer.manifest.kind == NOTATION_SIGNATURE:
            yield referrer


def read_signature(place: Place, referrer: Referrer) -> Envelope | Rejected:
    """The envelope that a manifest carries; nothing is verified."""
    where, layers = str(referrer.descriptor.digest), referrer.manifest.layers
    if len(layers) != 1:
        return Rejected(where, "a Notation signature has exactly one layer")
    raw = read_layer(place, layers[0], limit=MAX_ENVELOPE_BYTES)
    if isinstance(raw, Rejected):
        return raw
    try:
        return read_envelope(raw, layers[0].media_type)
    except SignatureInvalid as error:
        return Rejected(where, error.what)


def _says(
    envelope: Envelope,
    target: Target,
    signer: CertifiedSigner,
    form: Form,
    needed: datetime | None,
    *,
    stamped: bool,
) -> bool:
    """Whether an envelope is one that this signer would make again."""
    try:
        same = check_integrity(envelope) == signer.chain and read_payload(envelope.payload) == target
    except SignatureInvalid:
        return False
    expiry = envelope.signed.expiry
    lasts = expiry is None if needed is None else expiry is not None and expiry > needed
    usual = envelope.media_type == _FORMS[form] and envelope.signed.scheme == X509_SCHEME
    return same and lasts and usual and (bool(envelope.timestamp) or not stamped)


def attach_envelope(
    place: Place, subject: Descriptor, media_type: str, raw: bytes, annotations: Mapping[str, str]
) -> Descriptor:
    """Attach an envelope to a manifest, as ``notation`` finds it. annotations: of the manifest that carries it. Raises
    RegistryError."""
    push_blob(place, b"{}", media_type=NOTATION_SIGNATURE)
    manifest = manifest_bytes(
        Manifest(
            schema_version=2,
            media_type=media_types.OCI_MANIFEST,
            config=msgspec.structs.replace(EMPTY, media_type=NOTATION_SIGNATURE),
            layers=(push_blob(place, raw, media_type=media_type),),
            subject=Descriptor(media_type=subject.media_type, digest=subject.digest, size=subject.size),
            annotations=dict(annotations),
        )
    )
    place.registry.put_manifest(place.repository, manifest)
    return manifest.descriptor
