"""A model's signature as a Sigstore bundle: made with a key of ours, and believed for whoever may sign models."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from registry_pipelines.errors import SignatureInvalid
from registry_pipelines.evidence.bundles import read_bundle, write_bundle
from registry_pipelines.evidence.dsse import sign_envelope
from registry_pipelines.evidence.identity_rules import PREFIX
from registry_pipelines.evidence.model import Signer, Verifier
from registry_pipelines.evidence.predicates import OMS_TYPE
from registry_pipelines.weights.oms.statement import SignedModel, read_oms, write_oms


@dataclass(frozen=True)
class Believed:
    """A signature by a key that is believed for models. key_id: of that key, or the identity."""

    model: SignedModel
    key_id: str


def sign_model(digests: Mapping[str, str], signer: Signer, *, name: str, links: bool = False) -> bytes:
    """The bundle of a signature; the arguments are those of :func:`~.statement.write_oms`, which says what is raised,
    beside what a key service raises.

    The key's hint is the SHA-256 of its PEM in hexadecimal: model-signing compares it, and refuses another.
    """
    envelope = sign_envelope(write_oms(digests, name=name, links=links), signer)
    return write_bundle(envelope, hint=hashlib.sha256(signer.public_key_pem).hexdigest())


def believe(raw: bytes, verifier: Verifier, *, where: str = "") -> Believed:
    """What a bundle says, by whom. A hint or a key within it is not looked at: who may sign models is our own word.

    An identity counts with an entry of a transparency log alone (specification, section 4.1).

    Raises SignatureInvalid: not signed by a key that is believed for models, or not readable.
    """
    bundle = read_bundle(raw, where=where, chains=True)
    key_ids = verifier.verify_bundle(bundle)
    if not bundle.entries and any(key_id.startswith(PREFIX) for key_id in key_ids):
        raise SignatureInvalid(
            "an identity signed these, and the bundle has no entry of a transparency log", where=where
        )
    model = read_oms(bundle.envelope.payload, where=where)
    return Believed(model, verifier.vouching(key_ids, OMS_TYPE))


__all__ = ["Believed", "believe", "sign_model"]
