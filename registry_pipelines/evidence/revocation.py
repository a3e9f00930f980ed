"""Whether authorities took certificates back: OCSP (RFC 6960), else lists of revoked certificates (RFC 5280 section 5).

Lists that somebody brought (``revocation_lists``) come first: what is of a certificate's issuer decides, and nobody is
asked. Else asked are the addresses that a certificate names. One that names none cannot be taken back, which is how
private authorities mostly issue; an answer that is missing, too old or not signed by the issuer is "unknown", never
"good".
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID, ExtensionOID

from registry_pipelines.errors import RegistryError, SignatureInvalid
from registry_pipelines.evidence.revocation_lists import MAX_CRL_BYTES, GivenLists, RevocationList
from registry_pipelines.evidence.web import ask
from registry_pipelines.evidence.x509 import HASHES, UNREADABLE, Certificate, check_dates, name_of
from registry_pipelines.oci.times import CLOCKS_DIFFER

MAX_OCSP_BYTES = 64 * 1024
TIMEOUT_S = 10.0
MAX_AGE = timedelta(hours=1)
"""An answer is kept no longer, whatever it says itself."""
MAX_ADDRESSES = 3
"""That are asked for one certificate, of each kind."""

_UNREADABLE = (*UNREADABLE, TypeError, InvalidSignature, x509.ExtensionNotFound)


class Revocations:
    """Asks, and keeps answers while they hold. Safe for many threads. Called with a chain, leaf to root, it gives why
    the chain is not known to be good still; empty when it is."""

    def __init__(
        self, clock: Callable[[], datetime] = lambda: datetime.now(UTC), given: GivenLists | None = None
    ) -> None:
        """given: lists that decide about what their issuers issued."""
        self._clock, self._given = clock, given or GivenLists(())
        self._lists: dict[str, tuple[RevocationList, datetime]] = {}
        self._good: dict[bytes, datetime] = {}
        self._lock = threading.Lock()

    def __call__(self, chain: Sequence[Certificate]) -> str:
        """See the class."""
        for certificate, issuer in itertools.pairwise(chain):
            if problem := self._problem(certificate, issuer):
                return f"the certificate of {name_of(certificate)} {problem}"
        return ""

    def _problem(self, certificate: Certificate, issuer: Certificate) -> str:
        if self._given.by(issuer.subject):
            return self._by_given(certificate, issuer)
        responders, lists = _responders(certificate), _lists(certificate)
        if not responders and not lists:
            return ""
        key, now = certificate.fingerprint(hashes.SHA256()), self._clock()
        with self._lock:
            if key in self._good and now < self._good[key]:
                return ""
        unknown = []
        ways = [(self._by_responder, url) for url in responders[:MAX_ADDRESSES]]
        ways += [(self._by_list, url) for url in lists[:MAX_ADDRESSES]]
        for way, url in ways:
            try:
                revoked, until = way(url, certificate, issuer)
            except (RegistryError, SignatureInvalid, *_UNREADABLE) as error:
                unknown.append(str(error)[:200] or type(error).__name__)
                continue
            if revoked is not None:
                return _taken_back(revoked)
            with self._lock:
                self._good[key] = min(until, now + MAX_AGE)
            return ""
        return f"may have been taken back; nobody could say ({'; '.join(unknown)})"

    def _by_given(self, certificate: Certificate, issuer: Certificate) -> str:
        """As :meth:`_problem`, by lists that were given. Of two authorities with one name each has its own."""
        told = [each for each in self._given.by(issuer.subject) if _is_of(each.content, issuer)]
        if not told:
            [first, *_] = self._given.by(issuer.subject)
            return (
                f"may have been taken back: {first.path}: the list of revoked certificates is not by the issuer's key"
            )
        for each in told:
            try:
                self._check_list(each.content, issuer)
            except _UNREADABLE as error:
                return f"may have been taken back: {each.path}: {error}"
            if entry := each.content.get_revoked_certificate_by_serial_number(certificate.serial_number):
                return _taken_back(entry.revocation_date_utc)
        return ""

    def _by_responder(
        self, url: str, certificate: Certificate, issuer: Certificate
    ) -> tuple[datetime | None, datetime]:
        request = _request(certificate, issuer, hashes.SHA1())  # noqa: S303  the hash that every responder knows
        raw = ask(
            url,
            where=f"OCSP responder {urlsplit(url).hostname}",
            limit=MAX_OCSP_BYTES,
            timeout_s=TIMEOUT_S,
            body=request.public_bytes(Encoding.DER),
            content_type="application/ocsp-request",
        )
        answer = ocsp.load_der_ocsp_response(raw)
        if answer.response_status is not ocsp.OCSPResponseStatus.SUCCESSFUL:
            raise ValueError(f"the OCSP responder answered {answer.response_status.name}")
        self._check_signer(answer, issuer)
        single = _single(answer, certificate, issuer)
        if single.certificate_status is ocsp.OCSPCertStatus.REVOKED:
            return single.revocation_time_utc or self._clock(), self._clock()
        if single.certificate_status is not ocsp.OCSPCertStatus.GOOD:
            raise ValueError("the OCSP responder does not know the certificate")
        if single.next_update_utc is None or not self._is_now(single.this_update_utc, single.next_update_utc):
            raise ValueError("the OCSP responder's answer is not of now")
        return None, single.next_update_utc

    def _check_signer(self, answer: ocsp.OCSPResponse, issuer: Certificate) -> None:
        """By the issuer, or by whom it made a responder. Raises ValueError, InvalidSignature."""
        signers = [issuer]
        for one in answer.certificates[:MAX_ADDRESSES]:
            if ExtendedKeyUsageOID.OCSP_SIGNING in _extension(one, ExtensionOID.EXTENDED_KEY_USAGE):
                one.verify_directly_issued_by(issuer)
                check_dates([one], self._clock())
                signers.append(one)
        hashed = answer.signature_hash_algorithm
        if not isinstance(hashed, HASHES):
            raise ValueError("the OCSP responder signs in a way that is not accepted")
        for signer in signers:
            if _signed(signer, answer.signature, answer.tbs_response_bytes, hashed):
                return
        raise ValueError("the OCSP responder's answer is not signed by the issuer")

    def _by_list(self, url: str, certificate: Certificate, issuer: Certificate) -> tuple[datetime | None, datetime]:
        with self._lock:
            known, until = self._lists.get(url, (None, self._clock()))
        if known is None or until <= self._clock():
            where, until = f"list of revoked certificates at {urlsplit(url).hostname}", self._clock() + MAX_AGE
            known = x509.load_der_x509_crl(ask(url, where=where, limit=MAX_CRL_BYTES, timeout_s=TIMEOUT_S))
        self._check_list(known, issuer)
        with self._lock:
            self._lists[url] = known, until
        entry = known.get_revoked_certificate_by_serial_number(certificate.serial_number)
        if entry is not None:
            return entry.revocation_date_utc, self._clock()
        assert known.next_update_utc is not None  # noqa: S101  checked above
        return None, known.next_update_utc

    def _is_now(self, begins: datetime, ends: datetime) -> bool:
        """An authority's clock may be ahead of ours. Nothing is believed any longer for that."""
        return begins - CLOCKS_DIFFER <= self._clock() < ends

    def _check_list(self, found: RevocationList, issuer: Certificate) -> None:
        """Raises ValueError unless it is the issuer's whole list, and of now."""
        if found.issuer != issuer.subject or not _is_of(found, issuer):
            raise ValueError("the list of revoked certificates is not signed by the issuer")
        if not isinstance(found.signature_hash_algorithm, HASHES):
            raise ValueError("the list of revoked certificates is signed in a way that is not accepted")
        if found.next_update_utc is None or not self._is_now(found.last_update_utc, found.next_update_utc):
            until = found.next_update_utc
            when = f": it was valid until {until:%Y-%m-%dT%H:%M:%SZ}" if until and until <= self._clock() else ""
            raise ValueError(f"the list of revoked certificates is not of now{when}")
        usage = _extension(issuer, ExtensionOID.KEY_USAGE)
        if usage and not usage.crl_sign:
            raise ValueError("the list of revoked certificates is by an issuer that may sign none (keyUsage)")
        for extension in found.extensions:
            if extension.critical:  # parts of a list, deltas, lists for others
                raise ValueError("the list of revoked certificates is none for all of them")


def _is_of(found: RevocationList, issuer: Certificate) -> bool:
    """Whether the issuer's key signed a list."""
    return found.is_signature_valid(issuer.public_key())  # type: ignore[arg-type]


def _taken_back(at: datetime) -> str:
    return f"was taken back by its issuer at {at:%Y-%m-%dT%H:%M:%SZ}"


def _request(certificate: Certificate, issuer: Certificate, hashed: hashes.HashAlgorithm) -> ocsp.OCSPRequest:
    return ocsp.OCSPRequestBuilder().add_certificate(certificate, issuer, hashed).build()


def _single(answer: ocsp.OCSPResponse, certificate: Certificate, issuer: Certificate) -> Any:
    """What a response says about one certificate. Raises ValueError where it says nothing."""
    for single in answer.responses:
        wanted = _request(certificate, issuer, single.hash_algorithm)
        if (single.serial_number, single.issuer_key_hash, single.issuer_name_hash) == (
            wanted.serial_number,
            wanted.issuer_key_hash,
            wanted.issuer_name_hash,
        ):
            return single
    raise ValueError("the OCSP responder answered about another certificate")


def _signed(signer: Certificate, signature: bytes, content: bytes, hashed: hashes.HashAlgorithm) -> bool:
    key = signer.public_key()
    try:
        if isinstance(key, rsa.RSAPublicKey):
            key.verify(signature, content, padding.PKCS1v15(), hashed)
        elif isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(signature, content, ec.ECDSA(hashed))
        else:
            return False
    except InvalidSignature:
        return False
    return True


def _responders(certificate: Certificate) -> list[str]:
    return [
        _address(each.access_location)
        for each in _extension(certificate, ExtensionOID.AUTHORITY_INFORMATION_ACCESS)
        if each.access_method == AuthorityInformationAccessOID.OCSP
    ]


def _lists(certificate: Certificate) -> list[str]:
    """One for each place that is named, so that a place that cannot be asked is not taken for none."""
    points = _extension(certificate, ExtensionOID.CRL_DISTRIBUTION_POINTS)
    return [address for point in points for address in map(_address, point.full_name or (None,))]


def _address(name: x509.GeneralName | None) -> str:
    return name.value if isinstance(name, x509.UniformResourceIdentifier) else ""


def _extension(certificate: Certificate, kind: x509.ObjectIdentifier) -> Any:
    try:
        return certificate.extensions.get_extension_for_oid(kind).value
    except x509.ExtensionNotFound:
        return ()
