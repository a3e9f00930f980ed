"""AWS Signer signs: SignPayload's envelope as the service makes it, and what it took back.

The envelope is made by hand here, by the forms of notaryproject/specifications and AWS's guide, and not by our code:
scheme ``notary.x509.signingAuthority``, ES384 by a certificate of AWS's own authority, critical attributes that name
the plugin, the profile's version and the job.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from tests.doubles.authorities import Issued, make_root
from tests.doubles.aws.front import Area, AwsDouble, Call
from tests.doubles.aws.model import ApiError, Values
from tests.doubles.aws.signer import SignerProfiles

PAYLOAD_FORMAT = "application/vnd.cncf.notary.payload.v1+json"
MAX_PAYLOAD = 4096


def _url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


class SignerSigning(Area):
    """root: of AWS's authority, for trust stores. revoked: ARNs and pairs of certificate hashes that it took back."""

    service = "signer"

    def __init__(self, world: AwsDouble) -> None:
        super().__init__(world)
        self.root: Issued = make_root("AWS Signer Code Signing Root CA")
        self._leaf = self.root.issue("AWS Signer", key=ec.generate_private_key(ec.SECP384R1()))
        self.revoked: set[str] = set()
        self.asked: list[Values] = []
        self.jobs: list[str] = []

    def do_SignPayload(self, call: Call) -> Values:
        owner = call.values.get("profileOwner", call.account)
        profile = self.world.area(SignerProfiles).profiles.get((owner, call.region, call.values["profileName"]))
        if profile is None or profile["status"] != "Active":
            raise ApiError("ResourceNotFoundException", "there is no such profile", status=404)
        payload = bytes(call.values["payload"])
        if call.values["payloadFormat"] != PAYLOAD_FORMAT or len(payload) > MAX_PAYLOAD:
            raise ApiError("ValidationException", "payload")
        if set(json.loads(payload)) != {"targetArtifact"}:
            raise ApiError("ValidationException", "payload is not Notation's")
        raw = self.envelope(payload, profile["profileVersionArn"], call.region, call.account)
        thumbprints = [hashlib.sha256(_der(one)).hexdigest() for one in self._leaf.chain]
        return {
            "jobId": self.jobs[-1].rpartition("/")[2],
            "jobOwner": call.account,
            "metadata": {"io.cncf.notary.x509chain.thumbprint#S256": json.dumps(thumbprints, separators=(",", ":"))},
            "signature": raw,
        }

    def envelope(self, payload: bytes, version_arn: str, region: str, account: str, **changes: Any) -> bytes:
        """The signature. changes: of the protected header, None to leave one out."""
        job = f"arn:aws:signer:{region}:{account}:/signing-jobs/{secrets.token_hex(16)}"
        self.jobs.append(job)
        now = datetime.now(UTC).replace(microsecond=0)
        names = {
            "io.cncf.notary.signingScheme": "notary.x509.signingAuthority",
            "io.cncf.notary.authenticSigningTime": now.isoformat().replace("+00:00", "Z"),
            "io.cncf.notary.expiry": (now + timedelta(days=135 * 30)).isoformat().replace("+00:00", "Z"),
            "io.cncf.notary.verificationPlugin": "com.amazonaws.signer.notation.plugin",
            "io.cncf.notary.verificationPluginMinVersion": "1.0.0",
            "com.amazonaws.signer.signingProfileVersion": version_arn,
            "com.amazonaws.signer.signingJob": job,
        }
        names = {name: value for name, value in {**names, **changes}.items() if value is not None}
        header = {"alg": "ES384", "cty": PAYLOAD_FORMAT, "crit": list(names), **names}
        protected, body = _url(json.dumps(header).encode()), _url(payload)
        r, s = decode_dss_signature(self._leaf.key.sign(f"{protected}.{body}".encode(), ec.ECDSA(hashes.SHA384())))
        unprotected = {
            "x5c": [base64.b64encode(_der(one)).decode() for one in self._leaf.chain],
            "io.cncf.notary.signingAgent": "com.amazonaws.signer/1.0",
        }
        signature = _url(r.to_bytes(48) + s.to_bytes(48))
        return json.dumps(
            {"payload": body, "protected": protected, "header": unprotected, "signature": signature}
        ).encode()

    def do_GetRevocationStatus(self, call: Call) -> Values:
        self.asked.append(call.values)
        hashes_told = call.values["certificateHashes"]
        if any(len(each) != 192 for each in hashes_told):
            raise ApiError("ValidationException", "certificateHashes")
        named = [call.values["profileVersionArn"], call.values["jobArn"], *hashes_told]
        return {"revokedEntities": [each for each in named if each in self.revoked]}


def _der(certificate: Any) -> bytes:
    return bytes(certificate.public_bytes(serialization.Encoding.DER))


__all__ = ["SignerSigning"]
