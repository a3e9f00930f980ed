"""Hold a Notation signature against a trust policy: five checks, each enforced, logged or skipped by its level.

Source: notaryproject/specifications, trust-store-trust-policy.md, "Signature Verification details".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from registry_pipelines.errors import SignatureInvalid
from registry_pipelines.evidence.notation.aws_signer import PROFILE_VERSION, ManagedRevocation
from registry_pipelines.evidence.notation.cose import read_cose
from registry_pipelines.evidence.notation.envelope import (
    COSE_TYPE,
    JWS_TYPE,
    MAX_ENVELOPE_BYTES,
    X509_SCHEME,
    Envelope,
    Signed,
    Target,
    check_integrity,
    read_payload,
)
from registry_pipelines.evidence.notation.jws import read_jws
from registry_pipelines.evidence.notation.trust import Check, Statement, Trust
from registry_pipelines.evidence.timestamps import Timestamp, verify_token
from registry_pipelines.evidence.x509 import Certificate, check_dates, name_of

Revocation = Callable[[Sequence[Certificate]], str]
"""Why a chain is not known to be good still; empty when none of its certificates was taken back."""

_READERS = {JWS_TYPE: read_jws, COSE_TYPE: read_cose}


@dataclass(frozen=True)
class VerifiedEnvelope:
    """A signature that its statement believes."""

    target: Target
    """What is signed."""
    chain: tuple[Certificate, ...]
    algorithm: str
    scheme: str
    signed_at: datetime | None
    """As the signer says."""
    expiry: datetime | None
    timestamp: Timestamp | None
    """As an authority says; None where no check of it was needed."""
    logged: tuple[str, ...]
    """Checks that failed and are only logged by the statement's level; empty: nothing failed."""

    @property
    def authentic(self) -> bool:
        """Whether somebody signed who is trusted, or only somebody, as the level ``audit`` takes it."""
        return not any(problem.startswith("authenticity") for problem in self.logged)


def read_envelope(raw: bytes, media_type: str, *, where: str = "") -> Envelope:
    """Parse either form; nothing is verified. Raises SignatureInvalid."""
    reader = _READERS.get(media_type)
    if reader is None:
        raise SignatureInvalid(f"{media_type[:100]} is no form of a Notation signature", where=where)
    if len(raw) > MAX_ENVELOPE_BYTES:
        raise SignatureInvalid(f"it has {len(raw)} bytes, at most {MAX_ENVELOPE_BYTES} are read", where=where)
    return reader(raw, where=where)


def verify_envelope(
    envelope: Envelope,
    trust: Trust,
    statement: Statement,
    *,
    now: datetime,
    revocation: Revocation,
    managed: ManagedRevocation | None = None,
    where: str = "",
) -> VerifiedEnvelope:
    """Believe a signature, or raise SignatureInvalid with the check that failed.

    statement: of ``trust``, for the repository in question; one that skips verification is the caller's to see. now:
    UTC. revocation: asked about the chain, and about that of the timestamp; not about certificates of nobody who is
    trusted, which name addresses that a stranger chose. managed: asked in its place about what AWS Signer signed.
    Not checked here: what the payload is about (``envelope.check_target``).
    """
    chain = check_integrity(envelope, where=where)
    held = _Held(statement, where)
    held.check("authenticity", lambda: _check_authenticity(chain, envelope.signed, trust, statement))
    strange = bool(held.logged)
    held.check("expiry", lambda: _check_expiry(envelope.signed.expiry, now))
    stamp = held.check(
        "authenticTimestamp", lambda: _check_time(envelope, chain, trust, statement, now=now, revocation=revocation)
    )
    if not strange:
        held.check("revocation", lambda: _check_taken_back(envelope.signed, chain, revocation, managed))
    return VerifiedEnvelope(
        target=read_payload(envelope.payload, where=where),
        chain=chain,
        algorithm=envelope.algorithm,
        scheme=envelope.signed.scheme,
        signed_at=envelope.signed.time,
        expiry=envelope.signed.expiry,
        timestamp=stamp,
        logged=tuple(held.logged),
    )


class _Held:
    """A signature against a statement."""

    def __init__(self, statement: Statement, where: str) -> None:
        self._verification, self._where = statement.signature_verification, where
        self.logged: list[str] = []

    def check(self, check: Check, ask: Callable[[], Timestamp | None]) -> Timestamp | None:
        action = self._verification.action(check)
        if action == "skip":
            return None
        try:
            return ask()
        except SignatureInvalid as error:
            if action == "enforce":
                raise SignatureInvalid(f"{check}: {error.what}", where=self._where, do=error.do) from error
            self.logged.append(f"{check}: {error.what}")
            return None


def _check_authenticity(chain: Sequence[Certificate], signed: Signed, trust: Trust, statement: Statement) -> None:
    scheme = signed.scheme
    anchors = trust.anchors(statement, scheme)
    if not any(one in anchors for one in chain):
        stores = "" if anchors else f", and it has no store for the scheme {scheme}"
        raise SignatureInvalid(
            f"no certificate of the chain of {name_of(chain[0])} is in a trust store of {statement.name!r}{stores}"
        )
    if signed.plugin:
        if not statement.trusts_profile(signed.plugin):
            profile = signed.plugin.get(PROFILE_VERSION, "")[:200]
            raise SignatureInvalid(
                f"the signing profile {profile} of AWS Signer is not among the trusted identities of "
                f"{statement.name!r}, where it stands by its ARN"
            )
        return
    if not statement.trusts(chain[0]):
        raise SignatureInvalid(f"{name_of(chain[0])} is not among the trusted identities of {statement.name!r}")


def _check_expiry(expiry: datetime | None, now: datetime) -> None:
    if expiry is not None and now >= expiry:
        raise SignatureInvalid(f"the signature has expired at {expiry:%Y-%m-%dT%H:%M:%SZ}")


def _check_time(
    envelope: Envelope,
    chain: Sequence[Certificate],
    trust: Trust,
    statement: Statement,
    *,
    now: datetime,
    revocation: Revocation,
) -> Timestamp | None:
    """The chain was valid when it signed: by a trusted word of when that was, or because it is valid now."""
    if envelope.signed.scheme != X509_SCHEME:
        check_dates(chain, envelope.signed.time or datetime.max.replace(tzinfo=UTC))
        return None
    expired = any(now > one.not_valid_after_utc for one in chain)
    always = statement.signature_verification.verify_timestamp == "always"
    if not statement.stores("tsa") or not (always or expired):
        check_dates(chain, now)
        return None
    if not envelope.timestamp:
        raise SignatureInvalid("the signature has no timestamp, and the policy has authorities for them")
    stamp = verify_token(envelope.timestamp, envelope.signature, anchors=trust.timestamp_anchors(statement))
    check_dates(chain, stamp.earliest, stamp.latest)
    _check_revocation(stamp.chain, revocation)
    return stamp


def _check_taken_back(
    signed: Signed, chain: Sequence[Certificate], revocation: Revocation, managed: ManagedRevocation | None
) -> None:
    """AWS Signer's certificates name no list: it is asked itself, also about the profile and the job."""
    if not signed.plugin:
        _check_revocation(chain, revocation)
        return
    if managed is None or signed.time is None:
        raise SignatureInvalid(
            "AWS Signer is not asked whether it took the signature back",
            do="Name the account that asks: signing.notation.aws.registry",
        )
    if problem := managed(signed.plugin, signed.time.timestamp(), chain):
        raise SignatureInvalid(problem)


def _check_revocation(chain: Sequence[Certificate], revocation: Revocation) -> None:
    if problem := revocation(chain):
        raise SignatureInvalid(problem)
