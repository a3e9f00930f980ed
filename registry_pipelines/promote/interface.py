"""What promotion works with and publishes: the policy, the verdict, the promotion record. Plain data."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date
from typing import Any, Literal

import msgspec

from registry_pipelines.errors import InputError
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import decode_json
from registry_pipelines.oci.platforms import Platform
from registry_pipelines.registry.warnings import WarningId
from registry_pipelines.scan.interface import OLD_KIND, OLD_KIND_NOW, Limits

VERDICT_TYPE = "https://slsa.dev/verification_summary/v1"
"""predicateType of a verdict: SLSA Verification Summary Attestation."""

PROMOTION_TYPE = "urn:registry-pipelines:promotion:v1"
"""predicateType of a promotion record."""

PROVENANCE_TYPE = "https://slsa.dev/provenance/v1"
CYCLONEDX_TYPE = "https://cyclonedx.org/bom"
VULNERABILITIES_TYPE = "https://cosign.sigstore.dev/attestation/vuln/v1"
DEFAULT_ATTESTATIONS = (PROVENANCE_TYPE, CYCLONEDX_TYPE, VULNERABILITIES_TYPE)

TIME_FORMAT = "%Y-%m-%dT%H:%M:%SZ"
"""Times in verdicts and records: RFC 3339, UTC, whole seconds; as text they sort by time."""

DEFAULT_MAX_ADVISORY_AGE_DAYS = 7
"""Advisory feeds publish daily; older data than this passes only when a policy says so, and the verdict repeats it."""

DEFAULT_LIMITS = Limits(critical=0, high=0, unknown=0)
"""Deny CRITICAL, HIGH, and findings whose severity nobody gave."""

AcceptedKind = Literal["uncovered", "undeclared", "cannot-compare", "unreadable", "incomplete", "advisories-age"]


class PolicyException(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An advisory that may be present, for a reason and until a day."""

    advisory: str
    """Any identifier of the finding: CVE, GHSA, PYSEC, ..."""
    reason: str
    expires: date
    """Last day (UTC) on which it applies. Afterwards it is not applied, and the verdict says so."""
    component: str = "*"
    """purl pattern (``fnmatch``, case matters)."""
    image: str = "*"
    """Pattern of image names of the configuration."""


class AcceptedUnknown(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Something the scanner could not know and the policy accepts by name."""

    kind: AcceptedKind
    reason: str
    subject: str = "*"
    """Pattern (``fnmatch``, case matters) of the unknown's subject, usually a purl. Unused for ``advisories-age``."""
    until_age_days: int = 0
    """``advisories-age`` only: advisories up to so many days old are accepted."""
    expires: date | None = None
    """Last day (UTC) on which it applies; None: for ever."""


class Policy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a release must show before its channel tag moves. Nothing passes by absence.

    The defaults are the shipped default policy.
    """

    name: str = "default"
    limits: Limits = DEFAULT_LIMITS
    """How many findings of each severity pass."""
    fixable_only: bool = False
    """Only findings with a fixed version count; the others are listed in the verdict as accepted."""
    max_advisory_age_days: int = DEFAULT_MAX_ADVISORY_AGE_DAYS
    require_signature: bool = True
    require_attestations: tuple[str, ...] = DEFAULT_ATTESTATIONS
    """predicateTypes; the statement must be signed by a trusted key."""
    require_platforms: tuple[Platform, ...] = ()
    """Platforms the release must have; evidence must cover every platform it has in any case."""
    deny_warnings: tuple[WarningId, ...] = ()
    """Ids of warnings (``registry.warnings.KINDS``) that deny; any other is noted in the verdict."""
    exceptions: tuple[PolicyException, ...] = ()
    accepted_unknowns: tuple[AcceptedUnknown, ...] = ()

    @property
    def digest(self) -> Digest:
        """Digest of the policy's canonical JSON: what a verdict was made by."""
        return Digest.of(msgspec.json.encode(self, order="sorted"))

    @classmethod
    def from_dict(cls, found: dict[str, Any]) -> Policy:
        """Read plain data (YAML, JSON) with the field names above. Raises InputError, which names the field."""
        try:
            return msgspec.convert(found, cls, strict=False)
        except (msgspec.ValidationError, TypeError) as error:
            do = OLD_KIND_NOW if f"'{OLD_KIND}'" in str(error) else "Correct the field"
            raise InputError(f"the policy is not valid: {error}", do=do) from error


DEFAULT_POLICY = Policy()


class EvidenceUsed(msgspec.Struct, frozen=True, kw_only=True):
    """A piece of signed evidence that a verdict rests on."""

    predicate_type: str
    digest: Digest
    """Of the manifest that carries it."""
    key_id: str


class AdvisoriesUsed(msgspec.Struct, frozen=True, kw_only=True):
    """The advisory data the judged report was made with."""

    digest: str = ""
    newest: str = ""
    """RFC 3339; empty when there was no report."""
    source: str = ""


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """Allow or deny, and why."""

    allow: bool
    image: str
    release: Digest
    policy: str
    policy_digest: Digest
    reasons: tuple[str, ...]
    """Every reason to deny, one sentence each; empty exactly when ``allow``."""
    accepted: tuple[str, ...] = ()
    """Every exception and unknown the policy accepted and this release needed, by name and reason."""
    notes: tuple[str, ...] = ()
    """What a reader should know and what did not decide: expired exceptions, evidence that was not believed."""
    platforms: dict[str, str] = {}
    """Digest of each platform manifest below the release, and its platform."""
    advisories: AdvisoriesUsed = AdvisoriesUsed()
    report: str = ""
    """Digest of the judged vulnerability report's JSON; empty when there was none."""
    counts: dict[str, int] = {}
    """Counting findings of each severity, after exceptions."""
    evidence: tuple[EvidenceUsed, ...] = ()
    time: str = ""
    """RFC 3339, UTC, whole seconds."""

    def same_judgement(self, other: Verdict) -> bool:
        """Whether both say the same, for the same reasons, from the same evidence, whenever they were made.

        Notes do not count: whoever may push can add evidence that is not believed.
        """
        mine, others = (msgspec.structs.replace(item, time="", notes=()) for item in (self, other))
        return mine == others


@dataclass(frozen=True)
class PublishedVerdict:
    """A verdict as it lies in the registry, signed by a trusted key."""

    verdict: Verdict
    digest: Digest
    """Of the manifest that carries it."""
    key_id: str
    changed: bool = False
    """Whether publishing wrote it just now."""


class PromotionRecord(msgspec.Struct, frozen=True, kw_only=True):
    """The signed note that a channel was pointed at a release. JSON of the predicate, field by field."""

    image: str
    repository: str
    channel: str
    to_digest: Digest
    from_digest: str
    """What the channel named before; empty when it did not exist."""
    version: str
    """The release's version tag."""
    promoted_by: str
    verdict: Digest
    """Manifest of the verdict that allowed it."""
    policy_digest: Digest
    time: str

    @classmethod
    def decode(cls, raw: bytes, *, where: str = "") -> PromotionRecord:
        """Read the JSON form. Raises ManifestInvalid."""
        return decode_json(raw, cls, where=where, what="promotion record")


@dataclass(frozen=True)
class Promotion:
    """What promoting did."""

    record: PromotionRecord
    digest: Digest
    """Manifest of the record."""
    changed: bool
    """False: the channel named this release already and its record existed; nothing was written."""
    verdict: Verdict = field(repr=False)
