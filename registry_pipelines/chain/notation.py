"""Signatures of the Notary Project, as the configuration wants them (``signing.notation``)."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from registry_pipelines.chain.result import Scalar
from registry_pipelines.chain.session import Session
from registry_pipelines.config import EcrRegistry
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.registry.protocol import Place

if TYPE_CHECKING:  # certificates bring 80 modules along, and most configurations have none
    from registry_pipelines.config import Config
    from registry_pipelines.config.signing import AwsSigner, Notation
    from registry_pipelines.evidence.model import Certified, Signer
    from registry_pipelines.evidence.notation.aws_signer import ManagedRevocation
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
    if own is None:
        return lambda place, subject: []
    by_aws = _signing_by_aws(session, own.aws) if own.aws else None
    by_us = _signing_by_us(session, own) if own.certificates else None
    ways = [each for each in (by_us, by_aws) if each]
    return lambda place, subject: [row for way in ways for row in way(place, subject)]


def _signing_by_us(session: Session, own: Notation) -> Callable[[Place, Descriptor], list[dict[str, Scalar]]]:
    from registry_pipelines.evidence.timestamp_authority import load_timestamp_authority
    from registry_pipelines.sign.notation import sign_notation

    form, lasts, told = own.form, own.lasts, own.timestamps
    signer = certified_signer(own, None if own.key else session.keys.signer("person"))
    stamps = load_timestamp_authority(told.url, told.roots) if told else None

    def sign(place: Place, subject: Descriptor) -> list[dict[str, Scalar]]:
        made = sign_notation(place, subject, signer, form=form, lasts=lasts, timestamper=stamps)
        return [{"kind": f"signature (notation {form})", "digest": made.descriptor.digest, "new": made.changed}]

    return sign


def _registry_of(config: Config, aws: AwsSigner) -> EcrRegistry:
    settings = config.registries[aws.registry]
    assert isinstance(settings, EcrRegistry)  # noqa: S101  for mypy; the configuration was checked
    return settings


def _signing_by_aws(session: Session, aws: AwsSigner) -> Callable[[Place, Descriptor], list[dict[str, Scalar]]]:
    """By AWS Signer with the profile, by ECR itself, or both. What ECR signs is waited for where the manifest is in a
    registry of the kind ``ecr``; elsewhere it signs nothing."""
    from registry_pipelines.sign.aws_signer import sign_with_profile, wait_until_signed

    calls = session.places.aws(_registry_of(session.config, aws))
    accounts = {
        session.places.registry(name).name: each.account
        for name, each in session.config.registries.items()
        if isinstance(each, EcrRegistry)
    }

    def sign(place: Place, subject: Descriptor) -> list[dict[str, Scalar]]:
        rows: list[dict[str, Scalar]] = []
        if aws.profile:
            made = sign_with_profile(place, subject, calls, profile=aws.profile, owner=aws.owner)
            kind = f"signature (AWS Signer, {aws.profile})"
            rows.append({"kind": kind, "digest": made.descriptor.digest, "new": made.changed})
        account = accounts.get(place.registry.name) if aws.managed else None
        if account is not None:
            for each in wait_until_signed(calls, account, place.repository, subject.digest):
                name = each.profile.rpartition("/")[2]
                rows.append({"kind": f"signature (ECR, {name})", "digest": subject.digest, "new": False})
        return rows

    return sign


def managed_revocations(config: Config) -> ManagedRevocation | None:
    """What asks AWS Signer about its signatures; None where no account is named that may."""
    own = config.signing.notation
    if own is None or own.aws is None:
        return None
    from registry_pipelines.registry.ecr.calls import AwsCalls
    from registry_pipelines.sign.aws_signer import SignerRevocations

    return SignerRevocations(AwsCalls(_registry_of(config, own.aws).access()))


class CertificateQuestion:
    """Asks a Notation trust policy for the gate; see ``evidence.model.Verifier.certified``. The policy is read at the
    first question. Safe for many threads."""

    def __init__(self, folder: Path, managed: ManagedRevocation | None = None) -> None:
        self._folder, self._managed = folder, managed

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
            found = verify_notation(place, subject, trust, revocation=revocations, managed=self._managed)
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

    managed = managed_revocations(session.config)
    found = verify_notation(place, subject, read_trust(own.trust), revocation=Revocations(), managed=managed)
    return found.rows(), found.remarks()
