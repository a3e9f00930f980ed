"""Who signed a bundle with a certificate. The steps are those of Sigstore's client specification, in its order but for
one: the signature itself comes first, because it costs least.

A log entry, and a proof that the certificate was published, are asked of a bundle **where the trust root names logs for
them**. So a public root wants all that Sigstore's own tools want, and a private one may do without a log: never without
somebody who says when it was signed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from registry_pipelines.errors import SignatureInvalid
from registry_pipelines.evidence.bundles import Bundle
from registry_pipelines.evidence.dsse import Envelope, pae
from registry_pipelines.evidence.keyless.entries import Logged, Signed, check_entry
from registry_pipelines.evidence.keyless.identity import Identity, read_identity
from registry_pipelines.evidence.keyless.sct import check_published
from registry_pipelines.evidence.keyless.signatures import is_signed
from registry_pipelines.evidence.keyless.trust_root import Authority, TrustRoot
from registry_pipelines.evidence.timestamps import read_response, verify_token
from registry_pipelines.evidence.x509 import (
    UNREADABLE,
    Certificate,
    Purpose,
    check_dates,
    check_leaf,
    find_chain,
    is_authority,
    is_self_signed,
    load_certificates,
)

_ALGORITHMS = {"SHA2_256": "sha256", "SHA2_384": "sha384", "SHA2_512": "sha512"}


@dataclass(frozen=True)
class KeylessSignature:
    """A signature whose certificate was valid when it was made."""

    identity: Identity
    certificate: Certificate
    at: datetime
    """The earliest moment that a log or a timestamp authority vouches for."""


def verify_keyless(bundle: Bundle, root: TrustRoot, *, content: bytes | None = None) -> KeylessSignature:
    """Who signed the envelope of a bundle, or ``content`` where it holds the signature of a file.

    Not decided here: whether anybody believes that identity. Raises SignatureInvalid, which says what is wrong.
    """
    if not bundle.certificates:
        raise SignatureInvalid("the bundle is signed with a key, and brings no certificate")
    leaf, *others = load_certificates(bundle.certificates)
    check_leaf(leaf, Purpose.CODE)
    if not _signs_code(leaf):
        raise SignatureInvalid("the bundle's certificate has no `extendedKeyUsage` of codeSigning")
    if any(is_self_signed(each) for each in (leaf, *others)):
        raise SignatureInvalid("the bundle brings a root certificate along; those are in the trust root alone")
    signed = _signed(bundle, leaf, content)
    if not is_signed(leaf.public_key(), signed.signature, signed.content):
        raise SignatureInvalid("the signature is not that of the bundle's certificate")
    if root.logs and not bundle.entries:
        raise SignatureInvalid("the bundle has no log entry, and the trust root names logs")
    logged = [check_entry(entry, bundle.version, signed, root) for entry in bundle.entries]
    times = _times(bundle, logged, signed.signature, root)
    issuer = _issuer(leaf, others, times, root)
    if root.certificate_logs:
        check_published(leaf, issuer, root.certificate_logs)
    return KeylessSignature(read_identity(leaf), leaf, min(times))


def _signs_code(leaf: Certificate) -> bool:
    """More than ``find_chain`` asks: authorities of keyless signatures always write it."""
    try:
        uses = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except (*UNREADABLE, x509.ExtensionNotFound):
        return False
    return ExtendedKeyUsageOID.CODE_SIGNING in uses


def _signed(bundle: Bundle, leaf: Certificate, content: bytes | None) -> Signed:
    if isinstance(bundle.content, Envelope):
        envelope = bundle.content
        if len(envelope.signatures) != 1:
            raise SignatureInvalid("the bundle's envelope has more than one signature")
        whole = pae(envelope.payload_type, envelope.payload)
        return Signed(whole, envelope.payload, envelope.signatures[0], leaf)
    if content is None:
        raise SignatureInvalid("the bundle has no `dsseEnvelope`")
    message = bundle.content
    if message.digest and not _is_digest(message.algorithm, message.digest, content):
        raise SignatureInvalid("the bundle names another digest than the file's")
    return Signed(content, None, message.signature, leaf)


def _is_digest(algorithm: str, digest: bytes, content: bytes) -> bool:
    name = _ALGORITHMS.get(algorithm)
    return name is not None and hashlib.new(name, content).digest() == digest


def _times(bundle: Bundle, logged: Sequence[Logged], signature: bytes, root: TrustRoot) -> list[datetime]:
    """Every moment when the signature is known to have been there. Raises SignatureInvalid for none."""
    times = [each.at for each in logged if each.at is not None]
    refused = ""
    for response in dict.fromkeys(bundle.timestamps):
        try:
            times.append(_stamped(response, signature, root))
        except SignatureInvalid as error:
            refused = refused or error.what
    if not times:
        why = f": {refused}" if refused else ""
        raise SignatureInvalid(f"nobody whom the trust root names says when the bundle was signed{why}")
    for log in (each.log for each in logged):
        if not any(log.window.holds(at) for at in times):
            raise SignatureInvalid("the bundle was signed when the trust root did not believe its log")
    return times


def _stamped(response: bytes, signature: bytes, root: TrustRoot) -> datetime:
    refused: SignatureInvalid | None = None
    for authority in root.timestamp_authorities:
        try:
            return _stamped_by(response, signature, authority)
        except SignatureInvalid as error:
            refused = refused or error
    raise refused or SignatureInvalid("the trust root names no timestamp authority")


def _stamped_by(response: bytes, signature: bytes, authority: Authority) -> datetime:
    token = read_response(response, signature)
    stamp = verify_token(token, signature, anchors=authority.chain[-1:], certificates=authority.chain[:-1])
    if not is_authority(authority.chain[0]) and stamp.chain[0] != authority.chain[0]:
        raise SignatureInvalid("the timestamp is signed with another certificate than the trust root's")
    if not authority.window.holds(stamp.at):
        raise SignatureInvalid("the timestamp is of a time when the trust root did not believe its authority")
    return stamp.at


def _issuer(
    leaf: Certificate, others: Sequence[Certificate], times: Sequence[datetime], root: TrustRoot
) -> Certificate:
    """Whose certificate signed the leaf: an authority that was believed, with a chain that was valid, at every time."""
    refused: SignatureInvalid | None = None
    for authority in root.authorities:
        if not all(authority.window.holds(at) for at in times):
            refused = refused or SignatureInvalid("the trust root did not believe the certificate's authority then")
            continue
        try:
            known = [*authority.chain[:-1], *others]
            chain = find_chain(leaf, known, authority.chain[-1:], Purpose.CODE, at=times[0])
            for at in times:
                check_dates(chain, at)
        except SignatureInvalid as error:
            refused = error
            continue
        if len(chain) > 1:
            return chain[1]
    raise refused or SignatureInvalid("the certificate is issued by nobody whom the trust root names")
