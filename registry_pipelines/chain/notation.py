"""Signatures of the Notary Project, as the configuration wants them (``signing.notation``)."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from registry_pipelines.chain.result import Scalar
from registry_pipelines.chain.session import Session
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.registry.protocol import Place

if TYPE_CHECKING:  # certificates bring 80 modules along, and most configurations have none
    from registry_pipelines.config.model import Notation
    from registry_pipelines.evidence.model import Certified, Signer
    from registry_pipelines.evidence.notation.signers import CertifiedSigner
    from registry_pipelines.evidence.notation.trust import Trust
    from registry_pipelines.evidence.revocation import Revocations


def certified_signer(own: Notation, person: Signer | None) -> CertifiedSigner:
    """The key that signs, with its chain. person: the key that signs images otherwise, for where there is no other;
    None where it is not at hand. Raises InputError."""
    from registry_pipelines.errors import InputError
    from registry_pipelines.evidence.notation.signers import certify, load_certified_signer

    if own.certificates is None or (own.key is None and person is None):
        raise InputError("nothing is here to sign with", where="signing.notation", do="Name `certificates` and `key`")
    if own.key is not None:
        return load_certified_signer(own.key, own.certificates, own.password.reveal())
    assert person is not None  # noqa: S101  for mypy; see above
    return certify(person, own.certificates)


def signing_by_certificate(session: Session) -> Callable[[Place, Descriptor], list[dict[str, Scalar]]]:
    """What signs a manifest where the configuration has certificates, and gives a row for the signature that is there
    then. Keys and certificates are read now, before anything is signed otherwise.

    Raises InputError for a key or certificates that sign nothing; what is given raises RegistryError, and Unavailable
    where the timestamp authority does not answer.
    """
    own = session.config.signing.notation
    if own is None or own.certificates is None:
        return lambda place, subject: []
    from registry_pipelines.evidence.timestamp_authority import load_timestamp_authority
    from registry_pipelines.sign.notation import sign_notation

    form, lasts, told = own.form, own.lasts, own.timestamps
    signer = certified_signer(own, None if own.key else session.keys.signer("person"))
    stamps = load_timestamp_authority(told.url, told.roots) if told else None

    def sign(place: Place, subject: Descriptor) -> list[dict[str, Scalar]]:
        made = sign_notation(place, subject, signer, form=form, lasts=lasts, timestamper=stamps)
        return [{"kind": f"signature (notation {form})", "digest": made.descriptor.digest, "new": made.changed}]

    return sign


class CertificateQuestion:
    """Asks a Notation trust policy for the gate; see ``evidence.model.Verifier.certified``. The policy is read at the
    first question. Safe for many threads."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @cached_property
    def _asked(self) -> tuple[Trust, Revocations]:
        from registry_pipelines.evidence.notation.trust import read_trust
        from registry_pipelines.evidence.revocation import Revocations

        return read_trust(self._folder), Revocations()

    def __call__(self, place: Place, subject: Descriptor) -> Certified:
        """The signatures of a manifest that are believed. What a level only logs about who signed is no belief."""
        from registry_pipelines.errors import EvidenceError
        from registry_pipelines.evidence.model import Certified
        from registry_pipelines.sign.notation import verify_notation

        trust, revocations = self._asked
        try:
            found = verify_notation(place, subject, trust, revocation=revocations)
        except EvidenceError as error:
            return Certified(problem=error.what)
        return found.certified() if found.authentic else Certified(problem="; ".join(found.remarks()[:10]))


def verify_by_certificate(
    session: Session, place: Place, subject: Descriptor
) -> tuple[list[dict[str, Scalar]], list[str]]:
    """Ask the configuration's Notation trust policy, where it has one: a row for each signature that it believes, and
    what it only logs, or that it verifies nothing.

    Raises InputError (the policy or a store cannot be read), EvidenceMissing, SignatureInvalid, RegistryError.
    """
    own = session.config.signing.notation
    if own is None or own.trust is None:
        return [], []
    from registry_pipelines.evidence.notation.trust import read_trust
    from registry_pipelines.evidence.revocation import Revocations
    from registry_pipelines.sign.notation import verify_notation

    found = verify_notation(place, subject, read_trust(own.trust), revocation=Revocations())
    return found.rows(), found.remarks()
