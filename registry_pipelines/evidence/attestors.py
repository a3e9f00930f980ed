"""Attestors: names for those who may say something about an image, each with keys of its own ("the build system").

A role (``predicates``) is what a key vouches for, of every image alike. A trust policy asks of one image what certain
attestors say of it: while it holds, nobody else is believed for the types of statements that they attest, whatever
their role. Where nobody asks by a policy, attestors of weights are believed for those beside the roles.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import msgspec
from msgspec.structs import replace

from registry_pipelines.evidence.identity_rules import IdentityRule, counts
from registry_pipelines.evidence.model import CERTIFICATE
from registry_pipelines.evidence.predicates import (
    APPROVAL_TYPE,
    CYCLONEDX_TYPE,
    OMS_TYPE,
    PROVENANCE_TYPE,
    REPORT_TYPE,
    SIGNATURE_TYPE,
    VULNERABILITIES_TYPE,
    WEIGHTS_IMAGE_TYPE,
    roles_for,
)
from registry_pipelines.settings import FILE, Pattern

if TYPE_CHECKING:  # the configuration reads names alone
    from cryptography.hazmat.primitives.asymmetric import ec

    from registry_pipelines.evidence.authorities import Authorities
    from registry_pipelines.evidence.notation.trust import Trust

WEIGHTS = "weights"
CERTIFIED = ("signature", WEIGHTS)
"""What certificates sign: images in the Notary Project's form, models in OMS's."""

ATTESTED: Mapping[str, tuple[str, ...]] = {
    "provenance": (PROVENANCE_TYPE,),
    "sbom": (CYCLONEDX_TYPE,),
    "vulnerabilities": (REPORT_TYPE, VULNERABILITIES_TYPE),
    "signature": (SIGNATURE_TYPE,),
    "approval": (APPROVAL_TYPE,),
    WEIGHTS: (OMS_TYPE, WEIGHTS_IMAGE_TYPE),
}
"""Predicate types of what an attestor attests by a name of its own; other types are written as they are."""


ATTESTS = Pattern(
    r"^(provenance|sbom|vulnerabilities|signature|approval|weights|[a-z][a-z0-9+.-]*:[^\s]{1,300})$",
    "what an attestor can attest",
    "write provenance, sbom, vulnerabilities, signature, approval, weights, or a predicate type",
)


def attestable(what: str) -> bool:
    """Whether an attestor may attest this: a name of ``ATTESTED``, or a type that is no role's. What our own stages say
    (verdicts, promotions, indexes) is their roles' alone."""
    return what in ATTESTED or (":" in what and not roles_for(what))


class AttestorCertificates(msgspec.Struct, frozen=True, kw_only=True):
    """Certificates that count as an attestor, in the Notary Project's signatures of an image, and in signatures of
    weights (OMS)."""

    roots: Annotated[tuple[Annotated[Path, FILE], ...], msgspec.Meta(min_length=1)]
    """Certificates of the authorities, PEM or DER."""
    identities: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]
    """Whose certificates: `x509.subject: C=GB, ST=X, O=platform, CN=signer`; `*` alone for all that they issued. C, ST
    and O must be named, but where it attests `weights` alone."""
    timestamps: tuple[Annotated[Path, FILE], ...] = ()
    """Roots that are believed for timestamps, so that signatures outlive the certificate."""
    crls: tuple[Annotated[Path, FILE], ...] = ()
    """Lists of revoked certificates (CRL, PEM or DER), for weights alone: that of a certificate's issuer decides, and
    nobody is asked. One must be of the signer's issuer, and be valid now."""


class AttestorFiles(NamedTuple):
    """An attestor as a configuration names it."""

    attests: Sequence[str]
    keys: Sequence[Path] = ()
    identities: Sequence[IdentityRule] = ()
    certificates: AttestorCertificates | None = None


@dataclass(frozen=True)
class Attestor:
    """One of them."""

    name: str
    attests: tuple[str, ...]
    """What all of it must say about a release: names of ``ATTESTED``, or predicate types."""
    keys: Mapping[str, ec.EllipticCurvePublicKey] = field(default_factory=dict, repr=False)
    """By key id."""
    identities: tuple[IdentityRule, ...] = ()
    """Who counts as this attestor without a key."""
    certificates: Trust | None = field(default=None, repr=False)
    """A Notation trust policy: an image signature that it believes is one of this attestor."""
    authorities: Authorities | None = field(default=None, repr=False)
    """By whose certificates it signs weights."""

    @property
    def ids(self) -> tuple[str, ...]:
        """Ids of its keys, names of its identities, and its own for its certificates, where they sign weights."""
        certified = (f"{CERTIFICATE}{self.name}",) if self.authorities else ()
        return (*self.keys, *(rule.name for rule in self.identities), *certified)

    @property
    def predicate_types(self) -> frozenset[str]:
        """The types of its statements."""
        return frozenset(kind for what in self.attests for kind in ATTESTED.get(what, (what,)))

    def made(self, key_id: str) -> bool:
        """Whether a statement by this key or identity is one of this attestor."""
        return counts(key_id, self.ids)


class Attestors(msgspec.Struct, frozen=True):
    """All that are known, and those whose trust policy holds."""

    known: Mapping[str, Attestor] = msgspec.field(default_factory=dict)
    named: frozenset[str] | None = None
    """None: nobody asks by a trust policy."""

    def under(self, names: Collection[str]) -> Attestors:
        """The same under a trust policy that names these; what is not known attests nothing."""
        return replace(self, named=frozenset(names))

    def of_type(self, predicate_type: str) -> list[Attestor]:
        """Those that are believed for a type, in place of the roles (:meth:`alone`) or beside them. An approval is held
        against the capacity in which it is given, so that all who may approve are believed beside the persons; so are
        those who sign weights, where nobody asks by a policy."""
        everybody = predicate_type == APPROVAL_TYPE or (self.named is None and predicate_type in ATTESTED[WEIGHTS])
        asked = self.known.values() if everybody else self._named()
        return [each for each in asked if predicate_type in each.predicate_types]

    def alone(self, predicate_type: str) -> bool:
        """Whether those of :meth:`of_type` are believed in place of the roles. What layers of weights have is signed by
        whoever made an image of them, which is done here: roles are believed for it all the same."""
        beside = self.named is None or predicate_type in (APPROVAL_TYPE, WEIGHTS_IMAGE_TYPE)
        return not beside and bool(self.of_type(predicate_type))

    def _named(self) -> list[Attestor]:
        return [attestor for name, attestor in self.known.items() if name in (self.named or ())]


NO_ATTESTORS = Attestors()
