"""The door of ``sign`` for other stages: protocols, data, and the attestation format that evidence is published in."""

from registry_pipelines.sign.attestations import Attested, attest, attest_once, read_attestations
from registry_pipelines.sign.cosign import verify_image
from registry_pipelines.sign.model import (
    Attestations,
    ImageSignature,
    ImageVerification,
    Rejected,
    Signer,
    VerifiedAttestation,
    Verifier,
)
from registry_pipelines.sign.predicates import report_of
from registry_pipelines.sign.referrers import read_artifacts

__all__ = [
    "Attestations",
    "Attested",
    "ImageSignature",
    "ImageVerification",
    "Rejected",
    "Signer",
    "VerifiedAttestation",
    "Verifier",
    "attest",
    "attest_once",
    "read_artifacts",
    "read_attestations",
    "report_of",
    "verify_image",
]
