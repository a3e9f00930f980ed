"""A model's signature as a Sigstore bundle: made with a key of ours, and believed for whoever may sign models."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from registry_pipelines.errors import SignatureInvalid
from registry_pipelines.evidence.bundles import read_bundle, write_bundle
from registry_pipelines.evidence.dsse import sign_envelope
from registry_pipelines.evidence.identity_rules import PREFIX
from registry_pipelines.evidence.model import CERTIFICATE, Signer, Verifier
from registry_pipelines.evidence.predicates import OMS_TYPE
from registry_pipelines.weights.oms.statement import SignedModel, read_oms, write_oms


@dataclass(frozen=True)
class Believed:
    """A signature by a key that is believed for models. key_id: of that key, or the identity, or the certificate.
    certificates: what the bundle brings along, DER, the signer's first."""

    model: SignedModel
    key_id: str
    certificates: tuple[bytes, ...] = ()

    @property
    def certified(self) -> str:
        """Who signed, and until when that certificate is valid, for people; empty where it counts by another way."""
        return certified_by(self.key_id, self.certificates)


def certified_by(key_id: str, certificates: Sequence[bytes]) -> str:
    """See :attr:`Believed.certified`."""
    if not key_id.startswith(CERTIFICATE):
        return ""
    from registry_pipelines.evidence.x509 import load_certificates, name_of

    [leaf] = load_certificates(certificates[:1])
    return f"{name_of(leaf)}, whose certificate is valid until {leaf.not_valid_after_utc:%Y-%m-%dT%H:%M:%SZ}"


def sign_model(
    digests: Mapping[str, str],
    signer: Signer,
    *,
    name: str,
    links: bool = False,
    certificates: Sequence[bytes] = (),
) -> bytes:
    """The bundle of a signature; the arguments are those of :func:`~.statement.write_oms`, which says what is raised,
    beside what a key service raises. certificates: the key's own with its chain, DER; the bundle carries them then.

    The key's hint is the SHA-256 of its PEM in hexadecimal: model-signing compares it, and refuses another.
    """
    envelope = sign_envelope(write_oms(digests, name=name, links=links), signer)
    hint = hashlib.sha256(signer.public_key_pem).hexdigest()
    return write_bundle(envelope, hint=hint, certificates=certificates)


def believe(raw: bytes, verifier: Verifier, *, where: str = "") -> Believed:
    """What a bundle says, by whom. A hint or a key within it is not looked at: who may sign models is our own word.

    An identity counts with an entry of a transparency log alone (specification, section 4.1), a certificate by the
    authorities of an attestor of weights.

    Raises SignatureInvalid: not signed by a key that is believed for models, or not readable.
    """
    bundle = read_bundle(raw, where=where, chains=True)
    try:
        key_ids = verifier.verify_bundle(bundle, chains=True)
    except SignatureInvalid as error:
        raise type(error)(error.what, where=error.where or where, do=error.do) from error
    if not bundle.entries and any(key_id.startswith(PREFIX) for key_id in key_ids):
        raise SignatureInvalid(
            "an identity signed these, and the bundle has no entry of a transparency log", where=where
        )
    model = read_oms(bundle.envelope.payload, where=where)
    return Believed(model, verifier.vouching(key_ids, OMS_TYPE), bundle.certificates)


__all__ = ["Believed", "believe", "certified_by", "sign_model"]
