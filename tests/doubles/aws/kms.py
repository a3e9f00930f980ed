"""KMS, where keys sign: moto makes the keys and gives their public halves, and what it signs is made here.

moto 5.2.5 hashes a DIGEST once more, and says false where AWS raises KMSInvalidSignatureException. Rules: AWS KMS API
reference, Sign and Verify (a DIGEST has the length of the algorithm's hash); its model bounds a message.
"""

from __future__ import annotations

from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

from tests.doubles.aws.front import Area, Call
from tests.doubles.aws.model import ApiError, Values

_HASHES: dict[str, hashes.HashAlgorithm] = {
    "ECDSA_SHA_256": hashes.SHA256(),
    "ECDSA_SHA_384": hashes.SHA384(),
    "ECDSA_SHA_512": hashes.SHA512(),
}


class Kms(Area):
    """Signatures of keys on NIST's curves."""

    service = "kms"

    def _key(self, call: Call) -> Any:
        self.world.behind.begin()
        from moto.kms.models import kms_backends

        backend = kms_backends[call.account][call.region]
        name = call.values["KeyId"]
        alias = "alias/" + name.partition("alias/")[2] if "alias/" in name else ""
        key_id = backend.get_key_id_from_alias(alias) if alias else name
        key = backend.keys.get(str(key_id).rpartition("/")[2])
        if key is None:
            raise ApiError("NotFoundException", f"Key '{name}' does not exist")
        if not key.enabled:
            raise ApiError("DisabledException", f"{key.arn} is disabled.")
        if key.key_state != "Enabled":
            raise ApiError("KMSInvalidStateException", f"{key.arn} is {key.key_state}.")
        if key.key_usage != "SIGN_VERIFY":
            raise ApiError("InvalidKeyUsageException", f"{key.arn} key usage is {key.key_usage}.")
        if call.values["SigningAlgorithm"] not in key.signing_algorithms:
            allowed = ", ".join(key.signing_algorithms)
            raise ApiError("InvalidKeyUsageException", f"Algorithm is incompatible with key spec; it allows {allowed}")
        return key

    def _form(self, call: Call) -> tuple[bytes, ec.ECDSA]:
        message, algorithm = call.values["Message"], _HASHES[call.values["SigningAlgorithm"]]
        if call.values.get("MessageType", "RAW") == "DIGEST":
            if len(message) != algorithm.digest_size:
                raise ApiError("ValidationException", "Digest is invalid length for algorithm.")
            return message, ec.ECDSA(Prehashed(algorithm))
        return message, ec.ECDSA(algorithm)

    def do_Sign(self, call: Call) -> Values:
        key = self._key(call)
        message, form = self._form(call)
        made = key.private_key.private_key.sign(message, form)
        return {"KeyId": key.arn, "Signature": made, "SigningAlgorithm": call.values["SigningAlgorithm"]}

    def do_Verify(self, call: Call) -> Values:
        key = self._key(call)
        message, form = self._form(call)
        try:
            key.private_key.private_key.public_key().verify(call.values["Signature"], message, form)
        except InvalidSignature:
            raise ApiError("KMSInvalidSignatureException", "") from None
        return {"KeyId": key.arn, "SignatureValid": True, "SigningAlgorithm": call.values["SigningAlgorithm"]}
