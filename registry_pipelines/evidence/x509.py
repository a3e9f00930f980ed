"""X.509 certificates that sign: read them, build and check chains, and say what a certificate may be used for.

Source: RFC 5280 section 6.1, cut to what signatures need: no names are constrained and no policies mapped, and a chain
with an authority that asks for either is refused, by a critical extension or not. Who may sign what follows Notation's
certificate requirements (notaryproject/specifications, signature-specification.md) and RFC 3161 section 2.3 for
timestamps; leaves that Fulcio issues fulfil them, too. For models no such requirements are published, so RFC 5280's own
hold. Not checked here: whether an authority took a certificate back.

Imported where a certificate is met: `cryptography.x509` is 16 modules that keys do not need.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from datetime import datetime
from enum import Enum
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID, NameOID, ObjectIdentifier

from registry_pipelines.errors import InputError, SignatureInvalid
from registry_pipelines.pem import read_blocks
from registry_pipelines.progress import count_text

MAX_CERTIFICATES = 20
"""Certificates that unverified input may bring; chains have two to four."""

MAX_CERTIFICATE_BYTES = 64 * 1024
"""One certificate; usual are one to two KiB."""

MAX_CHAIN = 8
"""Certificates from leaf to root."""

MAX_CHECKS = 64
"""Signatures of certificates that are checked while a path is looked for."""

MIN_RSA_BITS = 2048
MAX_RSA_BITS = 8192
"""More only costs time, and whoever may push chooses the key."""

_CURVES = (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)
HASHES = (hashes.SHA256, hashes.SHA384, hashes.SHA512)
"""Over which certificates, and what is said about them, may be signed."""

_UNDERSTOOD = frozenset(
    {
        ExtensionOID.BASIC_CONSTRAINTS,
        ExtensionOID.KEY_USAGE,
        ExtensionOID.EXTENDED_KEY_USAGE,
        ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
        ExtensionOID.CERTIFICATE_POLICIES,  # every policy is accepted, so there is nothing to hold them against
    }
)
_LIMITS = frozenset({ExtensionOID.NAME_CONSTRAINTS, ExtensionOID.POLICY_CONSTRAINTS})
"""By which an authority limits what is issued below it. They are not evaluated here, and RFC 5280 wants them critical
(sections 4.2.1.10 and 4.2.1.11); where they are not, passing over them would believe what the authority forbids."""
_OTHER_USES = (
    ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,
    ExtendedKeyUsageOID.SERVER_AUTH,
    ExtendedKeyUsageOID.CLIENT_AUTH,
    ExtendedKeyUsageOID.EMAIL_PROTECTION,
    ExtendedKeyUsageOID.TIME_STAMPING,
    ExtendedKeyUsageOID.OCSP_SIGNING,
)
_FOREIGN_USAGE = ("key_encipherment", "data_encipherment", "key_agreement", "key_cert_sign", "crl_sign")
_SHORT_NAMES = {
    NameOID.COUNTRY_NAME: "C",
    NameOID.STATE_OR_PROVINCE_NAME: "ST",
    NameOID.LOCALITY_NAME: "L",
    NameOID.ORGANIZATION_NAME: "O",
    NameOID.ORGANIZATIONAL_UNIT_NAME: "OU",
    NameOID.COMMON_NAME: "CN",
    NameOID.STREET_ADDRESS: "STREET",
    NameOID.POSTAL_CODE: "POSTALCODE",
    NameOID.SERIAL_NUMBER: "SERIALNUMBER",
    NameOID.DOMAIN_COMPONENT: "DC",
    NameOID.USER_ID: "UID",
}

Certificate = x509.Certificate

UNREADABLE = (ValueError, UnsupportedAlgorithm, x509.DuplicateExtension, x509.UnsupportedGeneralNameType)
"""What reading the extensions of somebody's certificate raises. The last two are no ValueErrors."""


class Purpose(Enum):
    """What a leaf signs."""

    CODE = "code signing"
    TIMESTAMPS = "timestamps"
    MODELS = "signing of models"


_USES = {
    Purpose.CODE: ExtendedKeyUsageOID.CODE_SIGNING,
    Purpose.TIMESTAMPS: ExtendedKeyUsageOID.TIME_STAMPING,
    Purpose.MODELS: ExtendedKeyUsageOID.CODE_SIGNING,
}


def read_certificates(raw: bytes, *, where: str) -> list[Certificate]:
    """Every certificate of a PEM or DER file of the user's own, in its order; at least one.

    Raises InputError for a file that has anything else in it: none is left out unsaid.
    """
    try:
        blocks = read_blocks(raw)
        strange = [block for block in blocks if block.label != "CERTIFICATE"]
        if strange:
            raise InputError(f"the file has {strange[0]}, expected certificates alone", where=where, do="Take it out")
        ders = [block.content for block in blocks] or ([raw] if raw.startswith(b"\x30") else [])
        if not ders:
            raise InputError("the file has no certificate", where=where, do="Give certificates as PEM or DER")
        return [_load(der) for der in ders]
    except (ValueError, UnsupportedAlgorithm) as error:
        raise InputError(f"a certificate cannot be read: {error}", where=where, do="Copy the file again") from error


def load_certificates(ders: Sequence[bytes], *, where: str = "") -> list[Certificate]:
    """Certificates that a signature brings along, in its order; nothing is believed yet. Raises SignatureInvalid."""
    if len(ders) > MAX_CERTIFICATES:
        raise SignatureInvalid(
            f"it brings {count_text(len(ders), 'certificate')}, at most {MAX_CERTIFICATES} are read", where=where
        )
    if any(len(der) > MAX_CERTIFICATE_BYTES for der in ders):
        raise SignatureInvalid(f"a certificate has more than {MAX_CERTIFICATE_BYTES} bytes", where=where)
    try:
        return [_load(der) for der in ders]
    except (ValueError, UnsupportedAlgorithm) as error:
        raise SignatureInvalid(f"a certificate cannot be read: {error}", where=where) from error


def check_chain(chain: Sequence[Certificate], purpose: Purpose, *, where: str = "") -> None:
    """Raise SignatureInvalid unless the certificates are exactly one chain, leaf first, self-signed root last, each as
    its place in the chain demands. A self-signed leaf alone is one, too.

    Not checked here: dates (:func:`check_dates`), and whether anybody trusts the root.
    """
    if not 1 <= len(chain) <= MAX_CHAIN:
        raise SignatureInvalid(
            f"the chain has {count_text(len(chain), 'certificate')}, expected 1 to {MAX_CHAIN}", where=where
        )
    check_leaf(chain[0], purpose, where=where)
    for place, (certificate, issuer) in enumerate(itertools.pairwise(chain)):
        if _is_issued_by(certificate, certificate):
            raise _refused(certificate, "is self-signed and not the last of its chain", where)
        if not _is_issued_by(certificate, issuer):
            raise _refused(certificate, f"is not issued by {name_of(issuer)}, which follows it", where)
        _check_authority(issuer, purpose, below=place, where=where)
    if not _is_issued_by(chain[-1], chain[-1]):
        raise _refused(chain[-1], "ends the chain and is not self-signed", where)


def find_chain(
    leaf: Certificate,
    others: Sequence[Certificate],
    anchors: Sequence[Certificate],
    purpose: Purpose,
    *,
    at: datetime | None = None,
    where: str = "",
) -> tuple[Certificate, ...]:
    """A chain from ``leaf`` over some of ``others`` to one of ``anchors``, which are trusted as they are.

    at: the moment when all of it must be valid; None: dates are not looked at. The anchor may be the leaf itself. For
    signatures whose certificates come in no order (CMS, a Sigstore bundle).
    Raises SignatureInvalid: no path, or the reason of the path that went farthest.
    """
    check_leaf(leaf, purpose, where=where)
    if at is not None:
        check_dates([leaf], at, where=where)
    search = _Search(others, anchors, purpose, at, where)
    found = search.extend((leaf,))
    if found is None:
        raise search.refusal or _refused(leaf, "is issued by nobody who is trusted", where)
    return found


def check_dates(chain: Sequence[Certificate], at: datetime, until: datetime | None = None, *, where: str = "") -> None:
    """Raise SignatureInvalid unless all certificates are valid at a moment (UTC), or from ``at`` to ``until``."""
    for certificate in chain:
        if (until or at) > certificate.not_valid_after_utc:
            ended = certificate.not_valid_after_utc
            raise _refused(certificate, f"was valid until {ended:%Y-%m-%dT%H:%M:%SZ}", where)
        if at < certificate.not_valid_before_utc:
            begun = certificate.not_valid_before_utc
            raise _refused(certificate, f"is not valid before {begun:%Y-%m-%dT%H:%M:%SZ}", where)


def check_leaf(certificate: Certificate, purpose: Purpose, *, where: str = "") -> None:
    """Raise SignatureInvalid unless a certificate may sign for a purpose: its key, its extensions."""
    extensions = _extensions(certificate, where)
    _check_key(certificate, where)
    if purpose is Purpose.MODELS:
        _check_leaf_of_models(certificate, extensions, where)
        return
    constraints = _value(extensions, ExtensionOID.BASIC_CONSTRAINTS)
    if constraints is not None and constraints.ca:
        raise _refused(certificate, "is an authority's, which signs certificates alone", where)
    usage = _key_usage(certificate, extensions, where)
    # RFC 3161 wants no key usage of its own, only RFC 5280's digitalSignature or nonRepudiation.
    signs = usage.digital_signature or (purpose is Purpose.TIMESTAMPS and usage.content_commitment)
    if not signs or any(getattr(usage, name) for name in _FOREIGN_USAGE):
        raise _refused(certificate, "has a `keyUsage` other than digitalSignature", where)
    _check_extended_usage(certificate, extensions, purpose, where)


def subject_names(certificate: Certificate) -> dict[str, tuple[str, ...]]:
    """The subject's attributes by their short names (RFC 4514; a dotted OID where there is none), in its order."""
    return _names(certificate.subject)


def name_of(certificate: Certificate) -> str:
    """The subject for people; the serial number where it is empty (Fulcio)."""
    try:
        names = [f"{kind}={value}" for kind, values in subject_names(certificate).items() for value in values]
    except ValueError:
        names = []
    return ", ".join(names)[:300] or f"certificate {certificate.serial_number:x}"


def thumbprint(certificate: Certificate) -> str:
    """The hex SHA-256 of the certificate's DER."""
    return certificate.fingerprint(hashes.SHA256()).hex()


def is_authority(certificate: Certificate) -> bool:
    """Whether it says that it issues certificates."""
    try:
        constraints = _value(certificate.extensions, ExtensionOID.BASIC_CONSTRAINTS)
    except UNREADABLE:
        return False
    return constraints is not None and bool(constraints.ca)


def is_self_signed(certificate: Certificate) -> bool:
    """Whether its own key signed it."""
    return _is_issued_by(certificate, certificate)


def der_of(certificate: Certificate) -> bytes:
    """The exact bytes."""
    return certificate.public_bytes(Encoding.DER)


class _Search:
    """Paths from a leaf to an anchor, depth first; bounded, because whoever may push chooses the certificates."""

    def __init__(
        self,
        others: Sequence[Certificate],
        anchors: Sequence[Certificate],
        purpose: Purpose,
        at: datetime | None,
        where: str,
    ) -> None:
        self._anchors, self._purpose, self._at, self._where = anchors, purpose, at, where
        self._known = [*anchors, *(one for one in others[:MAX_CERTIFICATES] if one not in anchors)]
        self._checks = 0
        self.refusal: SignatureInvalid | None = None

    def extend(self, path: tuple[Certificate, ...]) -> tuple[Certificate, ...] | None:
        if path[-1] in self._anchors:
            return path
        for issuer in self._issuers(path):
            try:
                _check_authority(issuer, self._purpose, below=len(path) - 1, where=self._where)
                if self._at is not None:
                    check_dates([issuer], self._at, where=self._where)
            except SignatureInvalid as error:
                self.refusal = error
                continue
            found = self.extend((*path, issuer))
            if found is not None:
                return found
        return None

    def _issuers(self, path: tuple[Certificate, ...]) -> Iterator[Certificate]:
        if len(path) >= MAX_CHAIN:
            return
        for candidate in self._known:
            if candidate in path or candidate.subject != path[-1].issuer:
                continue
            self._checks += 1
            if self._checks > MAX_CHECKS:
                return
            if _is_issued_by(path[-1], candidate):
                yield candidate


def _check_authority(certificate: Certificate, purpose: Purpose, *, below: int, where: str) -> None:
    """below: how many authorities stand between it and the leaf."""
    extensions = _extensions(certificate, where)
    _check_key(certificate, where)
    models = purpose is Purpose.MODELS
    constraints = _value(extensions, ExtensionOID.BASIC_CONSTRAINTS, critical=not models)
    if constraints is None or not constraints.ca:
        kind = "" if models else "critical "
        raise _refused(certificate, f"issues certificates, and no {kind}`basicConstraints` says that it may", where)
    if constraints.path_length is not None and constraints.path_length < below:
        allowed = count_text(constraints.path_length, "authority", "authorities")
        raise _refused(certificate, f"allows {allowed} below it, and there are {below}", where)
    usage = _value(extensions, ExtensionOID.KEY_USAGE) if models else _key_usage(certificate, extensions, where)
    if usage is not None and not usage.key_cert_sign:
        raise _refused(certificate, "issues certificates, and its `keyUsage` has no keyCertSign", where)
    if any(extension.oid in _LIMITS for extension in extensions):
        raise _refused(certificate, "limits the names or policies of what it issues, which nobody looks at here", where)
    uses = _value(extensions, ExtensionOID.EXTENDED_KEY_USAGE)
    if uses is not None and not {_USES[purpose], ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE} & set(uses):
        raise _refused(certificate, f"issues no certificates for {purpose.value} by its `extendedKeyUsage`", where)


def _check_leaf_of_models(certificate: Certificate, extensions: x509.Extensions, where: str) -> None:
    """Usage as RFC 5280 has it: what is not said limits nothing, critical or not. The leaf of the specification's test
    vector says that it is an authority, and by its `keyUsage` can issue nothing."""
    usage = _value(extensions, ExtensionOID.KEY_USAGE)
    uses = _value(extensions, ExtensionOID.EXTENDED_KEY_USAGE)
    constraints = _value(extensions, ExtensionOID.BASIC_CONSTRAINTS)
    if (usage is None and constraints is not None and constraints.ca) or (usage is not None and usage.key_cert_sign):
        raise _refused(certificate, "is an authority's, which signs certificates alone", where)
    if usage is not None and not usage.digital_signature:
        raise _refused(certificate, "has a `keyUsage` without digitalSignature", where)
    if uses is not None and ExtendedKeyUsageOID.CODE_SIGNING not in uses:
        raise _refused(certificate, "has an `extendedKeyUsage` without codeSigning", where)
    if usage is None and uses is None:
        raise _refused(
            certificate, "has neither a `keyUsage` nor an `extendedKeyUsage`, so nothing says it signs", where
        )


def _check_extended_usage(certificate: Certificate, extensions: x509.Extensions, purpose: Purpose, where: str) -> None:
    critical = purpose is Purpose.TIMESTAMPS
    uses = list(_value(extensions, ExtensionOID.EXTENDED_KEY_USAGE, critical=critical) or ())
    if purpose is Purpose.TIMESTAMPS:
        if uses != [ExtendedKeyUsageOID.TIME_STAMPING]:
            raise _refused(certificate, "has no critical `extendedKeyUsage` of timeStamping alone", where)
    elif uses and (ExtendedKeyUsageOID.CODE_SIGNING not in uses or any(use in _OTHER_USES for use in uses)):
        raise _refused(certificate, "has an `extendedKeyUsage` other than codeSigning", where)


def _check_key(certificate: Certificate, where: str) -> None:
    if not _has_good_key(certificate):
        wanted = f"RSA of {MIN_RSA_BITS} to {MAX_RSA_BITS} bits, a NIST curve of 256 to 521, or Ed25519"
        raise _refused(certificate, f"has a key that is none of {wanted}", where)


def _has_good_key(certificate: Certificate) -> bool:
    try:
        key = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm):
        return False
    if isinstance(key, rsa.RSAPublicKey):
        return MIN_RSA_BITS <= key.key_size <= MAX_RSA_BITS
    if isinstance(key, ec.EllipticCurvePublicKey):
        return isinstance(key.curve, _CURVES)
    return isinstance(key, ed25519.Ed25519PublicKey)


def _key_usage(certificate: Certificate, extensions: x509.Extensions, where: str) -> x509.KeyUsage:
    usage = _value(extensions, ExtensionOID.KEY_USAGE, critical=True)
    if usage is None:
        raise _refused(certificate, "has no critical `keyUsage`", where)
    assert isinstance(usage, x509.KeyUsage)  # noqa: S101  what the library gives for this OID
    return usage


def _extensions(certificate: Certificate, where: str) -> x509.Extensions:
    """All extensions; raises SignatureInvalid for a critical one that is not understood."""
    try:
        extensions = certificate.extensions
    except UNREADABLE as error:
        raise _refused(certificate, f"has extensions that cannot be read: {error}", where) from error
    for extension in extensions:
        if extension.critical and extension.oid not in _UNDERSTOOD:
            kind = extension.oid.dotted_string
            raise _refused(certificate, f"has a critical extension that is not understood here ({kind})", where)
    return extensions


def _value(extensions: x509.Extensions, kind: ObjectIdentifier, *, critical: bool = False) -> Any:
    """The extension's value; None where there is none, or none that is critical."""
    for extension in extensions:
        if extension.oid == kind:
            return extension.value if extension.critical or not critical else None
    return None


def _is_issued_by(certificate: Certificate, issuer: Certificate) -> bool:
    """By name and by signature; one over SHA-1 or MD5 is none."""
    try:
        hashed = certificate.signature_hash_algorithm
        if hashed is not None and not isinstance(hashed, HASHES):  # None: Ed25519 hashes for itself
            return False
        if not _has_good_key(issuer):
            return False
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def _load(der: bytes) -> Certificate:
    """Raises ValueError, here for the names and dates, too: the library reads them only when they are asked for."""
    try:
        certificate = x509.load_der_x509_certificate(der)
    except x509.InvalidVersion as error:
        raise ValueError(str(error)) from error
    try:
        _ = certificate.subject, certificate.issuer, certificate.not_valid_before_utc, certificate.not_valid_after_utc
    except TypeError as error:  # a part of a name that is of a kind which it cannot have
        raise ValueError(str(error)) from error
    return certificate


def _names(name: x509.Name) -> dict[str, tuple[str, ...]]:
    names: dict[str, tuple[str, ...]] = {}
    for attribute in name:
        kind = _SHORT_NAMES.get(attribute.oid, attribute.oid.dotted_string)
        value = attribute.value
        names[kind] = (*names.get(kind, ()), value if isinstance(value, str) else value.hex())
    return names


def _refused(certificate: Certificate, why: str, where: str) -> SignatureInvalid:
    return SignatureInvalid(f"the certificate of {name_of(certificate)} {why}", where=where)
