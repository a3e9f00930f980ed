"""What signed statements say (predicate types), and whose key is believed for it.

A role is what a key vouches for. One key may fill all roles; where they are split, the promoter's key says nothing
about an SBOM, and the scanner's nothing about what may ship.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

Role = Literal["builder", "indexer", "scanner", "person", "promoter"]
"""``builder``: what went into an image. ``indexer``: where in its layers files begin, what a start reads of them
and how long it takes, and which image was made of which other one. ``scanner``: what is in it, and what is known
against that. ``person``: that it is ours, approvals, a promotion by hand, and that a finding does not matter (VEX).
``promoter``: verdicts, promotions, receipts of copies, retention plans, backups, roll-outs, what sweeps of a fleet
found; bundles that cross an air gap, and what came of them."""
ROLES: tuple[Role, ...] = get_args(Role)

PROVENANCE_TYPE = "https://slsa.dev/provenance/v1"
CYCLONEDX_TYPE = "https://cyclonedx.org/bom"
SPDX_TYPE = "https://spdx.dev/Document"

STREAMING_INDEX_TYPE = "urn:registry-pipelines:streaming-index:v1"
"""That an index of an image's layers is right, so that nodes may believe the digests in it."""

START_TYPE = "urn:registry-pipelines:start:v1"
"""How fast an image of one platform started on a machine with nothing of it."""
HOT_PACK_TYPE = "urn:registry-pipelines:hot-pack:v1"
"""That a hot pack was cut from the layers of an image, each held against its diffID."""

RECORDING_TYPE = "urn:registry-pipelines:recording:v1"
"""Which pages of an image its start reads."""

DERIVATION_TYPE = "urn:registry-pipelines:derivation:v1"
"""Which image was made of which other one by conversion: the same files in another form."""

RECHUNK_TYPE = "urn:registry-pipelines:rechunk:v1"
"""That an image with its files in other layers has the same files as the one that it was made of."""

REPORT_TYPE = "urn:registry-pipelines:vulnerability-report:v1"
"""Our vulnerability report, whatever it found: signed when it is written."""

IMAGE_ADVICE_TYPE = "urn:registry-pipelines:image-advice:v1"
"""What is in an image byte by byte that need not be there, and what is dangerous in it."""

VULNERABILITIES_TYPE = "https://cosign.sigstore.dev/attestation/vuln/v1"
"""cosign's record of a scan. Others read it as a pass, so it is written only about a report whose findings pass."""

SIGNATURE_TYPE = "https://sigstore.dev/cosign/sign/v1"
"""An image signature in a bundle; every other type in a bundle is *not* an image signature."""

OMS_TYPE = "https://model_signing/signature/v1.0"
"""That the files of a model are ours: OpenSSF Model Signing 1.0. Its subject is no manifest, but all files together."""

WEIGHTS_IMAGE_TYPE = "urn:registry-pipelines:weights-image:v1"
"""That the layers of weights which are a plain image have the files that its config lists."""

OPENVEX_TYPE = "https://openvex.dev/ns/v0.2.0"
"""That a vulnerability matters in an image, or does not (OpenVEX). Whoever says so lets a finding pass."""
OPENVEX_TYPES = (OPENVEX_TYPE, "https://openvex.dev/ns")
"""The second is what ``cosign attest --type openvex`` writes."""

VERDICT_TYPE = "https://slsa.dev/verification_summary/v1"
"""A verdict: SLSA Verification Summary Attestation."""

PROMOTION_TYPE = "urn:registry-pipelines:promotion:v1"
"""A promotion record."""

APPROVAL_TYPE = "urn:registry-pipelines:approval:v1"
"""That a person looked at a release, and lets it go; or takes that back."""
BREAK_GLASS_TYPE = "urn:registry-pipelines:break-glass:v1"
"""That a person lets a release go against its policy, until when and why."""

REVOCATION_TYPE = "urn:registry-pipelines:revocation:v1"
"""That a release turned out bad, whatever its verdicts say."""

CLOSING_TYPE = "urn:registry-pipelines:closing:v1"
"""That a break-glass holds no longer, or that all is done about a revocation, which goes on holding."""

LIFTING_TYPE = "urn:registry-pipelines:lifting:v1"
"""That a revocation was a mistake."""

BUNDLE_TYPE = "application/vnd.registry-pipelines.bundle.v1+json"
"""What is in a bundle that crosses an air gap: the payload of an envelope by itself, no statement about an image."""
BUNDLE_RECEIPT_TYPE = "application/vnd.registry-pipelines.bundle-receipt.v1+json"
"""What the far side of an air gap has of a mirror's bundles; as above."""
RETENTION_PLAN_TYPE = "application/vnd.registry-pipelines.retention-plan.v1+json"
"""What a retention plan was made for; the payload type of an envelope, which is no in-toto statement."""
EXPIRY_TYPE = "application/vnd.registry-pipelines.expiry.v1+json"
"""What old moments of a backup let go with them; as above."""
SWEEP_TYPE = "application/vnd.registry-pipelines.sweep.v1+json"
"""What a sweep found in one bucket of a fleet, by the digest of its file; as above."""
MIRRORED_TYPE = "application/vnd.registry-pipelines.mirrored.v1+json"
"""When all of an upstream was last brought; as above."""
QUARANTINE_TYPE = "application/vnd.registry-pipelines.quarantine.v1+json"
"""What was set aside before it was deleted, and until when it can be brought back; as above."""

ADVISORIES_TYPE = "urn:registry-pipelines:advisories:v1"
"""That a set of advisories is what its source gave, and of which day."""

WHEELS_TYPE = "urn:registry-pipelines:wheels:v1"
"""That wheels are what an index gave for some requirements."""

ACKNOWLEDGEMENT_TYPE = "application/vnd.registry-pipelines.audit-acknowledgement.v1+json"
"""That a person looked at an alert of the audit, and why it is no harm; the payload type of an envelope."""

BACKUP_TYPE = "urn:registry-pipelines:backup:v1"
"""That a moment of a backup is what was found, and is kept."""

DEPLOYMENT_TYPE = "urn:registry-pipelines:deployment:v1"
"""That a release was rolled out to where it runs and read back there, or that it did not come up."""

_BELIEVED: Mapping[str, tuple[Role, ...]] = {
    PROVENANCE_TYPE: ("builder",),
    STREAMING_INDEX_TYPE: ("indexer",),
    START_TYPE: ("indexer",),
    HOT_PACK_TYPE: ("indexer",),
    RECORDING_TYPE: ("indexer",),
    DERIVATION_TYPE: ("indexer",),
    RECHUNK_TYPE: ("indexer",),
    CYCLONEDX_TYPE: ("scanner",),
    SPDX_TYPE: ("scanner",),
    REPORT_TYPE: ("scanner",),
    IMAGE_ADVICE_TYPE: ("scanner",),
    VULNERABILITIES_TYPE: ("scanner",),
    ADVISORIES_TYPE: ("scanner",),
    WHEELS_TYPE: ("builder",),
    SIGNATURE_TYPE: ("person",),
    OMS_TYPE: ("person", "builder"),
    WEIGHTS_IMAGE_TYPE: ("person", "builder"),
    **dict.fromkeys(OPENVEX_TYPES, ("person",)),
    VERDICT_TYPE: ("promoter",),
    PROMOTION_TYPE: ("promoter", "person"),
    APPROVAL_TYPE: ("person",),
    BREAK_GLASS_TYPE: ("person",),
    REVOCATION_TYPE: ("person", "promoter"),
    CLOSING_TYPE: ("person", "promoter"),
    LIFTING_TYPE: ("person",),
    BUNDLE_TYPE: ("promoter",),
    BUNDLE_RECEIPT_TYPE: ("promoter",),
    RETENTION_PLAN_TYPE: ("promoter",),
    EXPIRY_TYPE: ("promoter",),
    SWEEP_TYPE: ("promoter", "scanner"),
    MIRRORED_TYPE: ("promoter",),
    QUARANTINE_TYPE: ("promoter",),
    BACKUP_TYPE: ("promoter",),
    DEPLOYMENT_TYPE: ("promoter",),
    ACKNOWLEDGEMENT_TYPE: ("person", "promoter"),
}


def roles_for(predicate_type: str) -> tuple[Role, ...]:
    """The roles whose keys are believed for a type, the usual one first; empty for a type that no stage of ours writes:
    then the keys without a role are."""
    return _BELIEVED.get(predicate_type, ())
