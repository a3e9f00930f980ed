"""Keys in a key service or a hardware module: AWS, Google, Azure, Vault's transit engine, PKCS#11.

Through securesystemslib's signers (extra ``kms``), which all give a DER signature over the SHA-256 of the payload. The
public half is a file here: who only verifies needs no service, and every signature is held against it before it is
used. That is no formality: moto 5.2.5 hashes a digest again, and an alias may point to another key since yesterday.
"""

from __future__ import annotations

import threading
from typing import Any, NoReturn

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from registry_pipelines.errors import (
    Forbidden,
    InputError,
    LocalError,
    RegistryPipelinesError,
    SignatureInvalid,
    ToolMissing,
    Unauthorized,
    Unavailable,
)
from registry_pipelines.evidence.keys import key_id_of, public_pem

SCHEMES = ("awskms", "azurekms", "gcpkms", "hsm", "hv")
"""What a key's address begins with, before the colon; securesystemslib's names."""

_PACKAGES = {
    "awskms": "'registry-pipelines[kms]'",
    "hsm": "'registry-pipelines[kms]'",
    "hv": "'registry-pipelines[kms]'",
    "gcpkms": "'registry-pipelines[google,kms]'",
    "azurekms": "'registry-pipelines[kms]' 'securesystemslib[azurekms]'",
}

_Kind = type[RegistryPipelinesError]
_FAILURES: dict[str, tuple[_Kind, str]] = {
    # boto3: codes of KMS (docs.aws.amazon.com/kms, Sign, "Errors") and of every service; then botocore's own classes
    "AccessDeniedException": (Forbidden, "Let these credentials use the key: kms:Sign"),
    "UnrecognizedClientException": (Unauthorized, "Give credentials of the key's account"),
    "InvalidClientTokenId": (Unauthorized, "Give credentials of the key's account"),
    "ExpiredTokenException": (Unauthorized, "Log in again"),
    "NotFoundException": (InputError, "Check `kms` and the region"),
    "DisabledException": (InputError, "Enable the key, or name another"),
    "KMSInvalidStateException": (InputError, "The key is not usable now; name another"),
    "InvalidKeyUsageException": (InputError, "Use a key that was made to sign, ECC_NIST_P256"),
    "ValidationException": (InputError, "Use a key that was made to sign, ECC_NIST_P256"),
    "ThrottlingException": (Unavailable, "Try again"),
    "KMSInternalException": (Unavailable, "Try again"),
    "KeyUnavailableException": (Unavailable, "Try again"),
    "DependencyTimeoutException": (Unavailable, "Try again"),
    "NoCredentialsError": (Unauthorized, "Give credentials as boto3 finds them: variables, profile or role"),
    "NoRegionError": (InputError, "Set AWS_REGION, or write the key's ARN and AWS_DEFAULT_REGION"),
    "EndpointConnectionError": (Unavailable, "Try again"),
    "ConnectTimeoutError": (Unavailable, "Try again"),
    "ReadTimeoutError": (Unavailable, "Try again"),
    # hvac.exceptions, and requests below it
    "Forbidden": (Forbidden, "Let the token of VAULT_TOKEN update transit/sign/KEY"),
    "Unauthorized": (Unauthorized, "Set VAULT_TOKEN"),
    "InvalidPath": (InputError, "Check `kms`: hv:KEY/VERSION, and the transit engine at `transit/`"),
    "InvalidRequest": (InputError, "Check `kms`: hv:KEY/VERSION of a key of type ecdsa-p256"),
    "VaultDown": (Unavailable, "Try again"),
    "InternalServerError": (Unavailable, "Try again"),
    "BadGateway": (Unavailable, "Try again"),
    "RateLimitExceeded": (Unavailable, "Try again"),
    "ConnectionError": (Unavailable, "Set VAULT_ADDR to a Vault that answers"),
    "ConnectTimeout": (Unavailable, "Try again"),
    "ReadTimeout": (Unavailable, "Try again"),
    # pkcs11.exceptions
    "PinIncorrect": (InputError, "Give the token's PIN as `password`; too many wrong ones lock it"),
    "PinLocked": (LocalError, "Unlock the token with its management PIN"),
    "PinLenRange": (InputError, "Give the token's PIN as `password`"),
    "TokenNotPresent": (LocalError, "Connect the token"),
    "DeviceRemoved": (LocalError, "Connect the token"),
    # google.api_core.exceptions, azure.core.exceptions
    "PermissionDenied": (Forbidden, "Give these credentials the role cloudkms.signer"),
    "Unauthenticated": (Unauthorized, "Give credentials"),
    "DefaultCredentialsError": (Unauthorized, "Give application default credentials"),
    "NotFound": (InputError, "Check `kms`"),
    "FailedPrecondition": (InputError, "Enable the version of the key, or name another"),
    "InvalidArgument": (InputError, "Use a key of the algorithm EC_SIGN_P256_SHA256"),
    "ResourceExhausted": (Unavailable, "Try again"),
    "RefreshError": (Unauthorized, "Log in again: gcloud auth application-default login"),
    "ServiceUnavailable": (Unavailable, "Try again"),
    "DeadlineExceeded": (Unavailable, "Try again"),
    "ClientAuthenticationError": (Unauthorized, "Give credentials"),
    "ResourceNotFoundError": (InputError, "Check `kms`"),
    "ServiceRequestError": (Unavailable, "Try again"),
}
"""What the services' own libraries raise, by code or class name: all five raise classes of their own, which are not
imported to be compared with."""


class KmsSigner:
    """A private key that never comes here. Implements Signer.

    Nothing is asked before the first signature. Credentials are those that the service's library finds.
    """

    def __init__(self, address: str, public_key: ec.EllipticCurvePublicKey, *, pin: str = "") -> None:
        """address: as :data:`SCHEMES` begin it, for example ``awskms:alias/release``. pin: of a PKCS#11 token."""
        self._address, self._key, self._pin = address, public_key, pin
        self._id, self._pem = key_id_of(public_key), public_pem(public_key)
        self._lock = threading.Lock()
        self._inner: Any = None

    @property
    def key_id(self) -> str:
        """See Signer."""
        return self._id

    @property
    def public_key_pem(self) -> bytes:
        """See Signer."""
        return self._pem

    def sign(self, payload: bytes) -> bytes:
        """See Signer. One signature at a time: PKCS#11 sessions are no threads' business.

        Raises SignatureInvalid for a signature that the public half does not verify, ToolMissing, InputError,
        Forbidden, Unauthorized, Unavailable, LocalError.
        """
        with self._lock:
            try:
                if self._inner is None:
                    self._inner = self._made()
                signature = bytes.fromhex(self._inner.sign(payload).signature)
            except RegistryPipelinesError:
                raise
            except Exception as error:
                self._fail(error)
        try:
            self._key.verify(signature, payload, ec.ECDSA(hashes.SHA256()))
        except InvalidSignature as error:
            raise SignatureInvalid(
                "the key service's signature does not verify with the public half",
                where=self._address,
                do="Write the public half of this very key (and version) to the file that `public` names",
            ) from error
        return signature

    def _made(self) -> Any:
        try:
            from securesystemslib import signer as signers
            from securesystemslib.exceptions import UnsupportedLibraryError
        except ImportError as error:
            raise self._missing() from error
        try:
            public = signers.SSlibKey.from_crypto(self._key)
            return signers.Signer.from_priv_key_uri(self._address, public, lambda _: self._pin)
        except UnsupportedLibraryError as error:
            raise self._missing() from error

    def _missing(self) -> ToolMissing:
        scheme = self._address.partition(":")[0]
        return ToolMissing(
            f"what signs with {scheme} is not installed", where=self._address, do=f"pip install {_PACKAGES[scheme]}"
        )

    def _fail(self, error: Exception) -> NoReturn:
        response = getattr(error, "response", None)
        code = response.get("Error", {}).get("Code", "") if isinstance(response, dict) else ""
        name = code or type(error).__name__
        kind, do = _FAILURES.get(name, (LocalError, ""))
        if isinstance(error, ValueError) and name == "ValueError":
            kind, do = InputError, "Check `kms`"
        text = str(error).replace(self._pin, "***") if self._pin else str(error)
        text = " ".join(text.split())[:300]
        raise kind(f"the key service did not sign: {name}{text and ': '}{text}", where=self._address, do=do) from error

    def __repr__(self) -> str:
        return f"KmsSigner({self._id})"
