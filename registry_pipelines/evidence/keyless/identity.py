"""Who a certificate is for: the identity that its authority saw proved, and who proved it (sigstore/fulcio,
docs/oid-info.md)."""

from __future__ import annotations

from dataclasses import dataclass

from cryptography import x509

from registry_pipelines.errors import SignatureInvalid
from registry_pipelines.evidence.der import read_der
from registry_pipelines.evidence.identity_rules import PREFIX
from registry_pipelines.evidence.x509 import UNREADABLE, Certificate

_ISSUER = x509.ObjectIdentifier("1.3.6.1.4.1.57264.1.8")
_ISSUER_RAW = x509.ObjectIdentifier("1.3.6.1.4.1.57264.1.1")
_USER_NAME = x509.ObjectIdentifier("1.3.6.1.4.1.57264.1.7")
_UTF8_STRING = 0x0C
MAX_NAME_CHARACTERS = 1000


@dataclass(frozen=True)
class Identity:
    """A subject, as an issuer of identities knows it."""

    issuer: str
    """Address of the OIDC issuer, ``https://token.actions.githubusercontent.com``."""
    subject: str
    """What the issuer calls it: a workflow's address, a mail address, a service's."""

    @property
    def key_id(self) -> str:
        """In the place of a key's id."""
        return f"{PREFIX}{self.issuer} {self.subject}"


def read_identity(certificate: Certificate) -> Identity:
    """The one identity of a certificate. Raises SignatureInvalid where there is none, or more than one."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        subjects = [_subject(name) for name in names]
        issuers = {_issuer(extension) for extension in certificate.extensions if extension.oid in _ISSUERS}
    except (*UNREADABLE, x509.ExtensionNotFound) as error:
        raise SignatureInvalid(f"the certificate names no identity: {error}"[:300]) from error
    if len(subjects) != 1 or len(issuers) != 1:
        raise SignatureInvalid("the certificate names no identity with one issuer, or several")
    identity = Identity(issuers.pop(), subjects[0])
    for text in (identity.issuer, identity.subject):
        if not text.isprintable() or not 0 < len(text) <= MAX_NAME_CHARACTERS or " " in text:
            raise SignatureInvalid("the certificate's identity is empty, too long, or has characters that none has")
    return identity


_ISSUERS = (_ISSUER, _ISSUER_RAW)


def read_claim(certificate: Certificate, number: int) -> str:
    """What the issuer said beside the identity, as Fulcio writes it down (its oid-info.md: 12 is the repository's
    address, 13 its commit, 14 its ref, 18 the workflow's address); empty for nothing. Raises SignatureInvalid."""
    oid = x509.ObjectIdentifier(f"1.3.6.1.4.1.57264.1.{number}")
    try:
        found = certificate.extensions.get_extension_for_oid(oid).value
        return _text(found.value) if isinstance(found, x509.UnrecognizedExtension) else ""
    except x509.ExtensionNotFound:
        return ""
    except UNREADABLE as error:
        raise SignatureInvalid(f"a claim of the certificate cannot be read: {error}"[:300]) from error


def _subject(name: x509.GeneralName) -> str:
    if isinstance(name, x509.UniformResourceIdentifier | x509.RFC822Name):
        return str(name.value)
    if isinstance(name, x509.OtherName) and name.type_id == _USER_NAME:
        return _text(name.value)
    raise ValueError("a name of another kind")


def _issuer(extension: x509.Extension[x509.ExtensionType]) -> str:
    value = extension.value
    raw = value.value if isinstance(value, x509.UnrecognizedExtension) else b""
    return _text(raw) if extension.oid == _ISSUER else raw.decode()


def _text(der: bytes) -> str:
    return read_der(der).of(_UTF8_STRING, "a name").content.decode()
