"""Signatures of models by certificate, with no log beside them: held against authorities that a configuration names.

Sources: OpenSSF Model Signing specification 1.0, section 8.2, which asks for a chain to a trusted root, the signature
of the leaf's key, and a leaf within its time; RFC 5280 for the rest of a chain (``x509.Purpose.MODELS``). Ours alone
are: an `extendedKeyUsage` names codeSigning, the leaf issues nothing, no certificate was taken back, and who counts may
be narrowed by subject. Who signed with an identity, and a log, says ``keyless``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec

from registry_pipelines.errors import InputError, SignatureInvalid
from registry_pipelines.evidence.attestors import AttestorCertificates
from registry_pipelines.evidence.bundles import Bundle
from registry_pipelines.evidence.dsse import pae
from registry_pipelines.evidence.key_files import MODEL_CURVES
from registry_pipelines.evidence.keyless.signatures import is_signed
from registry_pipelines.evidence.notation.identities import ANY, SUBJECT, is_named, read_subject
from registry_pipelines.evidence.notation.trust import read_anchors
from registry_pipelines.evidence.revocation import Revocations
from registry_pipelines.evidence.revocation_lists import GivenLists
from registry_pipelines.evidence.timestamps import Timestamp, read_response, verify_token
from registry_pipelines.evidence.x509 import (
    Certificate,
    Purpose,
    check_dates,
    check_leaf,
    find_chain,
    load_certificates,
    name_of,
)
from registry_pipelines.oci.media_types import IN_TOTO

Revocation = Callable[[Sequence[Certificate]], str]
"""Why a chain is not known to be good still; empty when none of its certificates was taken back."""


@dataclass(frozen=True)
class Authorities:
    """Whose certificates sign models. Safe for many threads."""

    anchors: Sequence[Certificate]
    """Of the authorities; trusted as they are."""
    subjects: Sequence[Mapping[str, str]] = ()
    """Attributes that a certificate's subject has, all of one of these; none: whoever they issued one for."""
    timestamps: Sequence[Certificate] = ()
    """Of authorities that are believed when something was signed."""
    revocation: Revocation = lambda _: ""
    lists: GivenLists = field(default_factory=lambda: GivenLists(()))
    """Of revoked certificates, as files: where some are given, one speaks of the signer's certificate."""

    def identify(self, bundle: Bundle, *, now: datetime | None = None) -> ec.EllipticCurvePublicKey:
        """The key that signed the envelope of a bundle, that of its first certificate, where this counts. A chain there
        is only the way from it to an anchor.

        now: UTC, the clock unless told; a certificate that is not valid then counts only with a timestamp of when it
        was. Raises SignatureInvalid, which says what is wrong.
        """
        leaf, *others = load_certificates(bundle.certificates)
        key = _public_key(leaf)
        signature = _signature(bundle, leaf, key)
        check_leaf(leaf, Purpose.MODELS)
        stamp, unstamped = self._stamp(bundle, signature)
        chain = self._chain(leaf, others, stamp, unstamped, now or datetime.now(UTC))
        if self.subjects and not any(is_named(leaf, subject) for subject in self.subjects):
            raise SignatureInvalid(
                f"{name_of(leaf)} is not among those whose certificates count",
                do="Name that subject, or have one that is named sign",
            )
        if problem := self.lists.uncovered(leaf):
            raise SignatureInvalid(problem, do="Bring the list of that authority")
        for each in (chain, stamp.chain if stamp else ()):
            if problem := self.revocation(each):
                raise SignatureInvalid(problem)
        return key

    def _stamp(self, bundle: Bundle, signature: bytes) -> tuple[Timestamp | None, str]:
        """When somebody who is believed saw the signature; else why nobody did."""
        refused = "it has no timestamp"
        if bundle.timestamps and not self.timestamps:
            return None, "nobody is believed for its timestamp"
        for response in dict.fromkeys(bundle.timestamps):
            try:
                token = read_response(response, signature)
                return verify_token(token, signature, anchors=self.timestamps), ""
            except SignatureInvalid as error:
                refused = f"its timestamp does not count: {error.what}"
        return None, refused

    def _chain(
        self, leaf: Certificate, others: Sequence[Certificate], stamp: Timestamp | None, unstamped: str, now: datetime
    ) -> tuple[Certificate, ...]:
        if stamp is not None:
            chain = find_chain(leaf, others, self.anchors, Purpose.MODELS, at=stamp.at)
            check_dates(chain, stamp.earliest, stamp.latest)
            return chain
        try:
            return find_chain(leaf, others, self.anchors, Purpose.MODELS, at=now)
        except SignatureInvalid as error:
            find_chain(leaf, others, self.anchors, Purpose.MODELS)  # raises what is wrong beside the time
            raise SignatureInvalid(
                f"{error.what}, and nothing says that the models were signed while it was valid: {unstamped}",
                do="Have them signed again with a certificate that is valid, or name `timestamps` for one that counts",
            ) from error


def load_authorities(name: str, files: AttestorCertificates) -> Authorities:
    """Read them. name: of who they are, for messages. Raises InputError, which names the file or the identity and what
    is wrong with it."""
    anchors = read_anchors(files.roots, "ca", links=True)
    stamps = read_anchors(files.timestamps, "tsa", links=True)
    subjects = [] if tuple(files.identities) == (ANY,) else [_subject(name, text) for text in files.identities]
    if not anchors or not files.identities:
        raise InputError(f"no certificate is named whose signatures count as {name}")
    lists = GivenLists(files.crls)
    lists.read()
    return Authorities(anchors, tuple(subjects), stamps, Revocations(given=lists), lists)


def _subject(name: str, identity: str) -> Mapping[str, str]:
    kind, _, text = identity.partition(":")
    if kind == SUBJECT:
        try:
            return read_subject(text, needed=())
        except ValueError as error:
            raise InputError(f"the certificates of {name} cannot be trusted: {identity!r}: {error}") from error
    raise InputError(
        f"the certificates of {name} cannot be trusted: {identity!r} is not {SUBJECT}: SUBJECT",
        do=f"Write {SUBJECT}: CN=NAME, with all that must be in the subject, or `{ANY}` alone for every certificate",
    )


def _signature(bundle: Bundle, leaf: Certificate, key: ec.EllipticCurvePublicKey) -> bytes:
    """The one signature, which the leaf's key made. First, because it costs least. Raises SignatureInvalid."""
    envelope = bundle.envelope
    if envelope.payload_type != IN_TOTO:
        raise SignatureInvalid(f"the payload type is {envelope.payload_type[:100]!r}, expected {IN_TOTO}")
    if len(envelope.signatures) != 1:
        raise SignatureInvalid("the bundle's envelope has more than one signature")
    [signature] = envelope.signatures
    if not is_signed(key, signature, pae(envelope.payload_type, envelope.payload)):
        raise SignatureInvalid(
            f"the signature is not that of the bundle's first certificate ({name_of(leaf)}); the signer's comes first"
        )
    return signature


def _public_key(leaf: Certificate) -> ec.EllipticCurvePublicKey:
    try:
        key = leaf.public_key()
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, MODEL_CURVES):
        raise SignatureInvalid(f"the key of {name_of(leaf)} is of none of P-256, P-384 and P-521, which sign models")
    return key


__all__ = ["Authorities", "load_authorities"]
