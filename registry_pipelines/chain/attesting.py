"""Attestations of Binary Authorization, as the configuration wants them: written after an allowing verdict, taken back
after a denying one. A cluster takes one as a pass, so nothing else may write it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from registry_pipelines.chain.result import Scalar
from registry_pipelines.chain.session import Session
from registry_pipelines.config import GarRegistry
from registry_pipelines.release import Release

if TYPE_CHECKING:
    from registry_pipelines.config.signing import BinaryAuthorizationSettings
    from registry_pipelines.evidence.model import Signer
    from registry_pipelines.sign.binary_authorization import BinaryAuthorization


def attest(session: Session, release: Release, policy: str, signer: Signer, *, allow: bool) -> list[str]:
    """Write or take back what clusters read about a release; what was done, one sentence each.

    policy: of the verdict; others than the one that the configuration names write nothing. allow: what it says. Raises
    the RegistryError family, InputError for a key that is none of the attestor's, SignatureInvalid.
    """
    own = session.config.signing.binary_authorization
    if own is None or policy != (own.policy or session.image(release.image).policy):
        return []
    told: list[str] = []
    attestor = _attestor(session, own)
    for reference in references(session, release):
        if allow:
            made = attestor.attest(reference, release.digest, signer)
            told += [f"attested for {reference} by {own.attestor}"] if made.changed else []
        else:
            gone = attestor.withdraw(reference, release.digest)
            told += [f"attestation for {reference} taken back from {own.attestor}"] if gone else []
    return told


def verify_attestations(session: Session, release: Release) -> tuple[list[dict[str, Scalar]], list[str]]:
    """A row for each attestation that holds, and what does not; nothing where the configuration has no attestor. Raises
    EvidenceMissing, SignatureInvalid, RegistryError."""
    own = session.config.signing.binary_authorization
    if own is None:
        return [], []
    attestor = _attestor(session, own)
    rows: list[dict[str, Scalar]] = []
    remarks: list[str] = []
    for reference in references(session, release):
        believed, rejected = attestor.verify(reference, release.digest)
        rows += [
            {"kind": "attestation (Binary Authorization)", "key": own.attestor, "digest": name} for name in believed
        ]
        remarks += [f"not believed: {each}" for each in rejected]
    return rows, remarks


def references(session: Session, release: Release) -> Iterator[str]:
    """``host/path`` of a release wherever Artifact Registry has it, or will have it: its source and its targets."""
    config, image = session.config, session.image(release.image)
    source = config.registries[image.registry]
    if isinstance(source, GarRegistry):
        yield f"{source.host}/{image.repository}"
    for target in (config.targets[name] for name in image.targets):
        settings = config.registries[target.registry]
        if isinstance(settings, GarRegistry):
            yield f"{settings.host}/{config.repository_at(image, target)}"


def _attestor(session: Session, own: BinaryAuthorizationSettings) -> BinaryAuthorization:
    from registry_pipelines.sign.binary_authorization import BinaryAuthorization

    settings = session.config.registries[own.registry]
    assert isinstance(settings, GarRegistry)  # noqa: S101  for mypy; the configuration was checked
    return BinaryAuthorization(session.places.google(settings), own.attestor)
