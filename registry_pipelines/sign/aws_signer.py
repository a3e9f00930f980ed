"""AWS Signer: signatures of the Notary Project that AWS makes, on request or by itself when an image is pushed to ECR.

``signer:SignPayload`` answers with the whole envelope (JWS), which is held against what was asked for and attached as
``notation`` attaches it; no plugin is needed. Of ECR's managed signing the end is waited for. Sources: the AWS Signer
API reference, SignPayload; the ECR user guide, "Managed signing"; botocore's models.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from registry_pipelines.errors import EvidenceMissing, RegistryError, SignatureInvalid, Unavailable
from registry_pipelines.evidence.notation.aws_signer import (
    PLATFORM,
    PROFILE_VERSION,
    certificate_hashes,
    region_of,
)
from registry_pipelines.evidence.notation.envelope import (
    JWS_TYPE,
    PAYLOAD_TYPE,
    Envelope,
    Target,
    check_integrity,
    check_target,
    read_payload,
    write_payload,
)
from registry_pipelines.evidence.notation.jws import read_jws
from registry_pipelines.evidence.referrers import Referrer
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.registry.protocol import Place
from registry_pipelines.sign.notation import NotationSigned, attach_envelope, read_signature, signatures_of

if TYPE_CHECKING:
    from registry_pipelines.evidence.x509 import Certificate
    from registry_pipelines.registry.ecr.calls import AwsCalls

WAIT_S = 300.0
"""ECR signs within seconds of a push."""
FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 10.0


def sign_with_profile(
    place: Place,
    subject: Descriptor,
    calls: AwsCalls,
    *,
    profile: str,
    owner: str = "",
    now: datetime | None = None,
) -> NotationSigned:
    """Have AWS Signer sign a manifest with a signing profile, unless one by this profile is there that has not expired.

    owner: account of the profile, where it is another's. now: UTC, the clock unless told. Raises the RegistryError
    family, and SignatureInvalid for an answer that is no signature over this manifest.
    """
    now = now or datetime.now(UTC)
    target = Target(subject.media_type, str(subject.digest), subject.size)
    for referrer in signatures_of(place, subject.digest):
        if isinstance(referrer, Referrer):
            envelope = read_signature(place, referrer)
            if isinstance(envelope, Envelope) and _is_by(envelope, profile, owner, target, now):
                return NotationSigned(referrer.descriptor, changed=False)
    where = f"signing profile {profile}"
    more: dict[str, Any] = {"profileOwner": owner} if owner else {}
    answer = calls.call(
        "sign_payload",
        service="signer",
        where=where,
        doing="signing",
        profileName=profile,
        payload=write_payload(target),
        payloadFormat=PAYLOAD_TYPE,
        **more,
    )
    raw, metadata = bytes(answer.get("signature") or b""), answer.get("metadata") or {}
    envelope = read_jws(raw, where=where)
    check_integrity(envelope, where=where)
    check_target(read_payload(envelope.payload), subject.digest, media_type=subject.media_type, size=subject.size)
    about = {str(name): str(value) for name, value in metadata.items()}
    about.setdefault("org.opencontainers.image.created", now.strftime("%Y-%m-%dT%H:%M:%SZ"))
    return NotationSigned(attach_envelope(place, subject, JWS_TYPE, raw, about), changed=True)


def _is_by(envelope: Envelope, profile: str, owner: str, target: Target, now: datetime) -> bool:
    """Whether an envelope says the same by the same profile, and is believed for a while yet."""
    try:
        check_integrity(envelope)
        same = read_payload(envelope.payload) == target
    except SignatureInvalid:
        return False
    arn = envelope.signed.plugin.get(PROFILE_VERSION, "")
    named = f":/signing-profiles/{profile}/" in arn and (not owner or f":{owner}:/" in arn)
    return same and named and (envelope.signed.expiry is None or envelope.signed.expiry > now)


@dataclass(frozen=True)
class ProfileStatus:
    """How one signing rule of ECR stands about one image. failure: code and reason of a rule that failed."""

    profile: str
    status: str
    failure: str = ""


def signing_status(calls: AwsCalls, account: str, repository: str, digest: Digest) -> list[ProfileStatus]:
    """What ECR's managed signing says about an image, by profile; none where no signing rule is about its repository.
    Raises the RegistryError family."""
    answer = calls.call(
        "describe_image_signing_status",
        where=f"{account}/{repository}@{digest}",
        doing="asking for the signing status",
        registryId=account,
        repositoryName=repository,
        imageId={"imageDigest": str(digest)},
    )
    return [
        ProfileStatus(
            str(each.get("signingProfileArn") or ""),
            str(each.get("status") or ""),
            ": ".join(str(each[key]) for key in ("failureCode", "failureReason") if each.get(key))[:300],
        )
        for each in answer.get("signingStatuses") or ()
    ]


def wait_until_signed(
    calls: AwsCalls, account: str, repository: str, digest: Digest, *, wait_s: float = WAIT_S
) -> list[ProfileStatus]:
    """Wait until ECR has signed an image by every rule that is about it.

    Raises EvidenceMissing where no rule is, SignatureInvalid where one failed, Unavailable when the time is over, and
    the RegistryError family.
    """
    where, waited, pause = f"{account}/{repository}@{digest}", 0.0, FIRST_PAUSE_S
    while True:
        statuses = signing_status(calls, account, repository, digest)
        if failed := [each for each in statuses if each.status == "FAILED"]:
            told = "; ".join(f"{each.profile}: {each.failure or 'no reason is given'}" for each in failed)
            raise SignatureInvalid(
                f"ECR could not sign the image: {told}",
                where=where,
                do="It signs as whoever pushed: that needs signer:SignPayload for the profile; then push again",
            )
        if statuses and all(each.status == "COMPLETE" for each in statuses):
            return statuses
        if waited >= wait_s:
            if not statuses:
                raise EvidenceMissing(
                    "no signing rule of ECR is about this repository",
                    where=where,
                    do="Declare one (put-signing-configuration), or take `managed` from signing.notation.aws",
                )
            raise Unavailable(f"ECR has not signed the image within {wait_s:.0f} s", where=where, do="Sign again later")
        calls.retries.sleep(min(pause, wait_s - waited))
        waited, pause = waited + pause, min(pause * 1.5, LONGEST_PAUSE_S)


class SignerRevocations:
    """Asks AWS Signer whether it took back a signature, its job, its profile or a certificate. See ManagedRevocation.

    calls: with credentials that may ask (signer:GetRevocationStatus); the region is the profile's.
    """

    def __init__(self, calls: AwsCalls) -> None:
        self._calls = calls

    def __call__(self, attributes: Mapping[str, str], signed_at: float, chain: Sequence[Certificate]) -> str:
        """See ManagedRevocation. Whatever keeps AWS Signer from answering is a reason, too: fail closed."""
        from registry_pipelines.evidence.notation.aws_signer import JOB

        profile, region = attributes.get(PROFILE_VERSION, ""), region_of(attributes)
        if not region or not attributes.get(JOB):
            return "the signature names no profile and job that AWS Signer could be asked about"
        try:
            answer = self._calls.call(
                "get_revocation_status",
                service="signer",
                region=region,
                where=profile,
                doing="asking AWS Signer for revocations",
                signatureTimestamp=datetime.fromtimestamp(signed_at, UTC),
                platformId=PLATFORM,
                profileVersionArn=profile,
                jobArn=attributes[JOB],
                certificateHashes=certificate_hashes(chain),
            )
        except RegistryError as error:
            return f"AWS Signer cannot be asked whether it was taken back: {error.what}"
        revoked = [str(each)[:200] for each in answer.get("revokedEntities") or ()]
        return f"AWS Signer took it back: {', '.join(revoked)}" if revoked else ""
