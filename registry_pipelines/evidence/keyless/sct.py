"""That a certificate was published: the signed certificate timestamps inside it (RFC 6962, sections 3.2 and 3.3)."""

from __future__ import annotations

import hashlib
import struct
from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.certificate_transparency import SignedCertificateTimestamp, Version

from registry_pipelines.errors import SignatureInvalid
from registry_pipelines.evidence.keyless.signatures import is_signed
from registry_pipelines.evidence.keyless.trust_root import Log
from registry_pipelines.evidence.x509 import UNREADABLE, Certificate

MAX_SCTS = 16
"""Timestamps in one certificate; Fulcio writes one."""
_PRECERTIFICATE = 1


def check_published(certificate: Certificate, issuer: Certificate, logs: tuple[Log, ...]) -> None:
    """Raise SignatureInvalid unless one of these logs signed that it holds the certificate."""
    try:
        listed = certificate.extensions.get_extension_for_class(x509.PrecertificateSignedCertificateTimestamps).value
        scts, body = list(listed)[:MAX_SCTS], certificate.tbs_precertificate_bytes
    except (*UNREADABLE, x509.ExtensionNotFound) as error:
        raise SignatureInvalid("the certificate brings no proof that it was published") from error
    key = issuer.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    for sct in scts:
        log = next((each for each in logs if each.log_id == sct.log_id), None)
        # The timestamp has milliseconds, and no time zone: it is UTC.
        if log is None or sct.version != Version.v1 or not log.window.holds(sct.timestamp.replace(tzinfo=UTC)):
            continue
        if is_signed(log.key, sct.signature, _signed(sct, hashlib.sha256(key).digest(), body)):
            return
    raise SignatureInvalid("no log that the trust root names says that the certificate was published")


def _signed(sct: SignedCertificateTimestamp, issuer: bytes, body: bytes) -> bytes:
    """The bytes below an SCT: version, kind, time, the certificate without its SCTs, extensions."""
    since = sct.timestamp.replace(tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)
    milliseconds = (since.days * 86_400 + since.seconds) * 1000 + since.microseconds // 1000
    head = struct.pack(">BBQH", 0, 0, milliseconds, _PRECERTIFICATE)
    extensions = sct.extension_bytes
    return head + issuer + len(body).to_bytes(3) + body + struct.pack(">H", len(extensions)) + extensions
