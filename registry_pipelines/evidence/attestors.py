"""Attestors: names for those who may say something about an image, each with keys of its own ("the build system").

A role (``predicates``) is what a key vouches for, of every image alike. A trust policy asks of one image what certain
attestors say of it: while it holds, nobody else is believed for the types of statements that they attest, whatever
their role.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import msgspec

from registry_pipelines.evidence.identity_rules import IdentityRule, counts
from registry_pipelines.evidence.predicates import (
    APPROVAL_TYPE,
    CYCLONEDX_TYPE,
    PROVENANCE_TYPE,
    REPORT_TYPE,
    SIGNATURE_TYPE,
    VULNERABILITIES_TYPE,
    roles_for,
)
from registry_pipelines.settings import FILE, Pattern

if TYPE_CHECKING:  # the configuration reads names alone
    from cryptography.hazmat.primitives.asymmetric import ec

    from registry_pipelines.evidence.notation.trust import Trust

ATTESTED: Mapping[str, tuple[str, ...]] = {
    "provenance": (PROVENANCE_TYPE,),
    "sbom": (CYCLONEDX_TYPE,),
    "vulnerabilities": (REPORT_TYPE, VULNERABILITIES_TYPE),
    "signature": (SIGNATURE_TYPE,),
    "approval": (APPROVAL_TYPE,),
}
"""Predicate types of what an attestor attests by a name of its own; other types are written as they are."""


ATTESTS = Pattern(
    r"^(provenance|sbom|vulnerabilities|signature|approval|[a-z][a-z0-9+.-]*:[^\s]{1,300})$",
    "what an attestor can attest",
    "write provenance, sbom, vulnerabilities, signature, approval, or a predicate type",
)


def attestable(what: str) -> bool:
    """Whether an attestor may attest this: a name of ``ATTESTED``, or a type that is no role's. What our own stages say
    (verdicts, promotions, indexes) is their roles' alone."""
    return what in ATTESTED or (":" in what and not roles_for(what))


class AttestorCertificates(msgspec.Struct, frozen=True, kw_only=True):
    """Certificates that count as an attestor, in the Notary Project's signatures of an image."""

    roots: Annotated[tuple[Annotated[Path, FILE], ...], msgspec.Meta(min_length=1)]
    """Certificates of the authorities, PEM or DER."""
    identities: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]
    """Whose certificates: `x509.subject: C=GB, ST=X, O=platform, CN=signer`; `*` alone for all that they issued."""
    timestamps: tuple[Annotated[Path, FILE], ...] = ()
    """Roots that are believed for timestamps, so that signatures outlive the certificate."""


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

    @property
    def ids(self) -> tuple[str, ...]:
        """Ids of its keys, and names of its identities."""
        return (*self.keys, *(rule.name for rule in self.identities))

    @property
    def predicate_types(self) -> frozenset[str]:
        """The types of its statements."""
        return frozenset(kind for what in self.attests for kind in ATTESTED.get(what, (what,)))

    def made(self, key_id: str) -> bool:
        """Whether a statement by this key or identity is one of this attestor."""
        return counts(key_id, self.ids)


@dataclass(frozen=True)
class Attestors:
    """All that are known, and those whose trust policy holds."""

    known: Mapping[str, Attestor] = field(default_factory=dict)
    named: frozenset[str] = frozenset()

    def under(self, names: Collection[str]) -> Attestors:
        """The same under a trust policy that names these; what is not known attests nothing."""
        return replace(self, named=frozenset(names))

    def of_type(self, predicate_type: str) -> list[Attestor]:
        """Those that alone are believed for a type; none: the roles are. An approval is held against the capacity in
        which it is given, so that all who may approve are believed beside the persons."""
        asked = self.known.values() if predicate_type == APPROVAL_TYPE else self._named()
        return [each for each in asked if predicate_type in each.predicate_types]

    def _named(self) -> list[Attestor]:
        return [attestor for name, attestor in self.known.items() if name in self.named]


NO_ATTESTORS = Attestors()
