"""What promotion works with and publishes: the policy, the verdict, the promotion record. Plain data."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from typing import Annotated, Literal, get_args

import msgspec

from registry_pipelines.errors import InputError
from registry_pipelines.evidence.predicates import (
    CYCLONEDX_TYPE,
    PROVENANCE_TYPE,
    REPORT_TYPE,
    VULNERABILITIES_TYPE,
)
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import decode_json
from registry_pipelines.oci.platforms import Platform
from registry_pipelines.promote.attestors import ATTESTORS, names_in, read_expression
from registry_pipelines.promote.bases import KnownBase
from registry_pipelines.promote.person import Identity
from registry_pipelines.registry.warning_kinds import WarningId
from registry_pipelines.scan.advice.kinds import AdviceKind
from registry_pipelines.scan.openvex import VexStatement
from registry_pipelines.scan.report import OLD_KIND, OLD_KIND_NOW, FindingLimits, Undeclared
from registry_pipelines.settings import FILE, Duration, EntryName, Instead, Names, Size, Unwritten

Required = Literal[
    "provenance",
    "sbom",
    "vulnerabilities",
    "signature",
    "notation",
    "streaming-index",
    "hot-pack",
    "approved-base",
    "same-tree",
]
REQUIRED: tuple[Required, ...] = ("provenance", "sbom", "vulnerabilities", "signature")
"""What a policy requires unless it says so."""
AT_PROMOTION: tuple[Required, ...] = ("hot-pack",)
"""Required when a channel moves, and not by the verdict, which comes before them."""
ATTESTATIONS: dict[str, str] = {
    "provenance": PROVENANCE_TYPE,
    "sbom": CYCLONEDX_TYPE,
    "vulnerabilities": VULNERABILITIES_TYPE,
}
"""predicateType of what a policy requires by a name of its own."""

TIME_FORMAT = "%Y-%m-%dT%H:%M:%SZ"
"""Times in verdicts and records: RFC 3339, UTC, whole seconds; as text they sort by time."""


def is_time(text: str) -> bool:
    """Whether a text is a time in this one form; those sort by time, others would not."""
    try:
        return datetime.strptime(text, TIME_FORMAT).strftime(TIME_FORMAT) == text
    except ValueError:
        return False


DEFAULT_MAX_ADVISORY_AGE = Duration(days=7)
"""Advisory feeds publish daily; older data than this passes only when a policy says so, and the verdict repeats it."""

AcceptedKind = Literal[
    "uncovered", "undeclared", "cannot-compare", "unreadable", "incomplete", "pending", "advisories-age"
]

UnfixedByDistribution = Literal["list", "deny"]

POLICY_MEANING = 3
"""Part of each policy's digest; one more whenever a default below changes or a rule comes to mean something else."""

StepKind = Literal[
    "advisories",
    "accept",
    "except",
    "image",
    "provenance",
    "index",
    "scan",
    "advice",
    "sign",
    "weights",
    "attest",
    "judge",
    "start",
    "record",
    "measure",
    "approve",
    "deploy",
    "wait",
    "promote",
]
STEP_KINDS: tuple[StepKind, ...] = get_args(StepKind)
"""In the order in which they are to be done."""
AFTER_VERDICT: frozenset[StepKind] = frozenset({"start", "record", "measure", "approve", "deploy", "wait"})
"""Those that are wanted of a release whose verdict is allow, and leave it as it is."""


class PolicyException(msgspec.Struct, frozen=True, kw_only=True):
    """An advisory that may be present, for a reason and for a time."""

    advisory: str
    """Advisory id or alias, for example CVE-2024-12345. A malicious package is excused by its `MAL-` id alone."""
    component: str = "*"
    """Pattern of package URLs it is limited to (`pkg:pypi/pillow@*`)."""
    image: str = "*"
    """Pattern of image names it is limited to."""
    owner: str
    """Who answers for it: a person, a team or an address; it stands in the verdict."""
    reason: str
    """Why; it stands in the verdict."""
    expires: date
    """Last day (UTC) it holds. Afterwards it is not applied, and the verdict says so."""


class AcceptedUnknown(msgspec.Struct, frozen=True, kw_only=True):
    """Something the scanner could not know and the policy accepts by name; the verdict says so."""

    kind: Annotated[AcceptedKind, Instead((OLD_KIND,), OLD_KIND_NOW)]
    """What the scanner reported; `advisories-age` accepts advisories that are older than `max_advisory_age`."""
    subject: str = "*"
    """Pattern of what it is about, for example `pkg:conda/*`."""
    until_age: Duration | None = None
    """`advisories-age` only: accepted up to this age."""
    reason: str
    """Why; it stands in the verdict."""
    expires: date | None = None
    """Last day (UTC) it holds; for ever unless told."""


LinksDenied = Literal["certain", "likely"]


class AdviceLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What may be inside an image, by its signed advice. Without any of these nothing is asked; with one, a release
    without signed advice about each of its images is denied."""

    deny: tuple[AdviceKind, ...] = ()
    """Kinds of findings that deny a release, for example `secrets` or `pip-cache`; `lint` lists them."""
    max_wasted: Size | None = None
    """Most stored bytes of an image that need not be there (caches, hidden files, compilers and so on), each file
    once; any unless told."""
    max_size: Size | None = None
    """Most stored bytes of an image's layers; any unless told."""

    @property
    def asks(self) -> bool:
        """Whether a release has to show advice."""
        return bool(self.deny) or self.max_wasted is not None or self.max_size is not None


DeniedWeights = Literal["pickle", "unknown", "code"]


class WeightRules(msgspec.Struct, frozen=True, kw_only=True):
    """What the weights must be that are attached to a release (`weights attach`). Without any of these nothing is
    asked."""

    required: bool = False
    """A release without weights is denied."""
    signed: bool = False
    """Each set is signed as OpenSSF's model signatures are (`weights sign`), every file of it, by a key that is
    believed as `person` or `builder`, or by the attestors of `weights` that the policy names."""
    deny: tuple[DeniedWeights, ...] = ()
    """Formats that deny a release, by content. `pickle`: whoever loads it may run what it holds; every zip counts, in
    which one may lie. `unknown`: nothing says what it is. `code`: programs. An archive is denied with any of them."""

    @property
    def asks(self) -> bool:
        """Whether anything is asked about weights."""
        return self.required or self.signed or bool(self.deny)


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """What a release must show before its channel tag moves. Nothing passes by absence."""

    name: EntryName = "default"
    limits: FindingLimits = FindingLimits()
    """The most findings by severity."""
    fixable_only: bool = False
    """Count only findings with a fixed version; the verdict lists the others as accepted."""
    max_advisory_age: Duration = DEFAULT_MAX_ADVISORY_AGE
    """How old the newest advisory may be when the report is judged; whole days."""
    max_image_age: Duration | None = None
    """How long ago an image may have been made, by `created` of its config, when it is judged; any time unless told. An
    image without a date, or with the constant of a reproducible build (1970, 1980), is denied then."""
    required: tuple[Required, ...] = REQUIRED
    """Evidence that must be there, signed by a trusted key, and cover every platform. `streaming-index`, which is not
    required unless it is written: an index by which nodes start the image before it is fetched whole, signed by the
    indexer, or layers that the indexer converted to eStargz; either must cover each layer of 10 MiB or more.
    `hot-pack`, which is not required unless it is written either: a pack of what a start reads, signed by the indexer.
    It is asked for when the channel moves, for a recording runs the image, and no image is run before it is allowed:
    a release that lacks nothing else is held, not denied.
    `notation`, not required unless written: a signature by certificate that `signing.notation.trust` believes.
    `approved-base`, not required unless written: each image stands on one of `bases`, by its layers.
    `same-tree`, not required unless written: an image that was rechunked has every file of what it was made of, by the
    tree digests that the indexer signed; one that was not rechunked has nothing to show."""
    bases: tuple[Annotated[str, Names("bases")], ...] = ()
    """With `approved-base`: the bases that it takes; all of `bases` unless told."""
    known_bases: Annotated[tuple[KnownBase, ...], Unwritten()] = ()
    """What is known of them; read when the policy is applied."""
    max_pack_size: Size | None = None
    """Most bytes of a platform's hot pack, which a node fetches while the image starts; any unless told. A release with
    a larger one is denied when the channel moves; one without any passes, unless `hot-pack` is required."""
    max_start_time: Duration | None = None
    """Longest start of a platform by its newest signed measurement: until the program ends, or is ready as
    `stream.record` says. Any unless told. It is asked when the channel moves: a release that nobody measured is held
    until somebody does."""
    attestors: Annotated[str, ATTESTORS] = ""
    """Attestors of `trust` that must vouch for a release: their names with `and`, `or` and parentheses, for example
    `build-system and vulnerability-scanner and (qa or security)`. For what they attest nobody else is believed."""
    attested: Annotated[tuple[tuple[str, tuple[str, ...]], ...], Unwritten()] = ()
    """What each of those attests; read from `trust` when the policy is applied."""
    attestations: tuple[str, ...] = ()
    """Predicate types of further attestations that must be there, signed by a trusted key, for example
    `https://in-toto.io/attestation/test-result/v0.1`."""
    platforms: tuple[Platform, ...] = ()
    """Platforms a release must have."""
    unfixed_by_distribution: UnfixedByDistribution = "list"
    """Findings in packages of the distribution (deb, apk, rpm) that it has published no fix for. `list`: one line in
    the verdict, since nobody can build the image without them. `deny`: they count like all others."""
    undeclared: Undeclared = "list"
    """Libraries and programs that only their own file shows, without name and version in any list. `list`: one line in
    the verdict. `deny`: they deny a release."""
    deny_warnings: tuple[WarningId, ...] = ()
    """Warnings of `inspect` that deny a release; the verdict lists the others."""
    image_advice: AdviceLimits = AdviceLimits()
    """What may be inside an image: kinds of findings, bytes that need not be there, size."""
    weights: WeightRules = WeightRules()
    """What the weights must be that are attached to a release: one verdict is about image and weights."""
    links: LinksDenied | None = None
    """Libraries that a release needs and nothing brings, by its signed provenance. `certain`: those without which a
    program or a Python extension cannot be loaded deny; `likely`: those of libraries that are loaded by name, too. A
    release whose provenance does not say is denied. Nothing is asked unless told."""
    exceptions: tuple[PolicyException, ...] = ()
    """Advisories that may be present for a time."""
    vex: tuple[Annotated[Path, FILE], ...] = ()
    """OpenVEX documents (JSON). Findings that they call `not_affected` or `fixed` in this image, or in this package, do
    not count, and the verdict says so. Documents that a trusted person signed and attached count without being named.
    """
    vex_statements: Annotated[tuple[VexStatement, ...], Unwritten()] = ()
    """What those files say; read whenever the policy is applied."""
    accept_unknowns: tuple[AcceptedUnknown, ...] = ()
    """Unknowns that are accepted by name."""
    consumers: tuple[EntryName, ...] = ()
    """Targets and mirrors where other programs verify releases, and compare the repository that is signed with the one
    they pull from: the verdict and the image's signature are written once more for the image's repository at each."""

    @property
    def predicate_types(self) -> tuple[str, ...]:
        """The attestations that must be there, by their predicateType."""
        return (*(kind for name, kind in ATTESTATIONS.items() if name in self.required), *self.attestations)

    @property
    def attestor_names(self) -> tuple[str, ...]:
        """Every attestor that it names. Raises InputError for an expression that cannot be read."""
        try:
            return names_in(read_expression(self.attestors)) if self.attestors else ()
        except ValueError as error:
            raise InputError(f"the attestors of policy {self.name} cannot be read: {error}") from error

    @property
    def asks_about_start(self) -> bool:
        """Whether a channel moves only to what starts as the policy says."""
        return "hot-pack" in self.required or self.max_pack_size is not None or self.max_start_time is not None

    @property
    def digest(self) -> Digest:
        """What a verdict was made by: the digest of the policy's canonical JSON. Fields with their default are left
        out, so that it stays when a later version knows another rule; see ``POLICY_MEANING``. So is every ``reason``
        and ``owner``: how one is worded decides nothing, and must not have each release judged again; nor is who the
        verdict is written for. Of VEX files what they say counts, and not where they are. What is asked when a channel
        moves no verdict says, and is left out, too."""
        ordered = msgspec.structs.replace(
            self,
            required=tuple(each for each in get_args(Required) if each in self.required and each not in AT_PROMOTION),
            max_pack_size=None,
            max_start_time=None,
            consumers=(),
            vex=(),
            known_bases=(),
        )
        return Digest.of(
            msgspec.json.encode([POLICY_MEANING, _without_defaults(ordered)], order="sorted", enc_hook=str)
        )


_WORDING = ("reason", "owner")
"""Fields of exceptions and acceptances that decide nothing."""


def _without_defaults(value: object) -> object:
    """The same without reasons and what has its default; msgspec's own ``omit_defaults`` leaves out the very object
    only, and not ``7d`` that a file says."""
    if isinstance(value, msgspec.Struct):
        values = ((each.name, getattr(value, each.name), each.default) for each in msgspec.structs.fields(value))
        return {
            name: _without_defaults(own) for name, own, default in values if own != default and name not in _WORDING
        }
    return [_without_defaults(each) for each in value] if isinstance(value, tuple) else value


DEFAULT_POLICY = Policy()


SIGNATURE_FORM = "signature:"
"""How an image's signature stands among the evidence, in the place of a predicate type: ``signature:bundle``, ``sig``
or ``notation``."""


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


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """Something that is to be done before a release passes. What it is called where (a command, a button) is not said
    here."""

    kind: StepKind
    """``advisories``: load newer ones, or more; ``accept``, ``except``: say it in the policy; ``image``: make a new
    release without what is wrong with this one; ``provenance``: have the builder attach it; ``index``: have the
    indexer make what nodes stream by; ``advice``: have a scanner say what is
    in its images; ``attest``: have an attestor of the trust policy say it; ``start``: have it start
    faster, or permit more; ``record``, ``measure``: of the start; ``approve``: by a person; ``deploy``: to where it
    must have run, or read back there once more; ``weights``: attach some, sign them, or
    attach others; ``wait``: until it was long enough under the channel before; the others
    are stages."""
    about: tuple[str, ...] = ()
    """``advisories``: ecosystems without any. ``accept``: ``kind:pattern``. ``except``: an advisory, a blank, a
    component. ``attest``: an attestor, a blank, what it must say. ``image``, ``start``: what is wrong, and how it is
    put right. ``record``, ``measure``: platforms. ``approve``: capacities. ``deploy``: a deployment, and from when on
    a look is worth while. ``wait``: how long, and where. ``promote``:
    the channel to begin with, where that is not the one that was asked for. Sorted."""


def in_order(steps: Iterable[Step]) -> tuple[Step, ...]:
    """One step of each kind, in the order in which they are to be done, with those that the others make necessary: new
    advisories and a new release want a scan, a new release wants a signature, and all but what comes after a verdict
    want one."""
    about: dict[StepKind, set[str]] = {}
    for step in steps:
        about.setdefault(step.kind, set()).update(step.about)
    if about.keys() & {"advisories", "image"}:
        about.setdefault("scan", set())
    if about.keys() & {"provenance", "image"}:
        about.setdefault("sign", set())
    if about and not about.keys() & AFTER_VERDICT and not about.get("promote"):
        about.setdefault("judge", set())
    return tuple(Step(kind=kind, about=tuple(sorted(about[kind]))) for kind in STEP_KINDS if kind in about)


_REPORTS = (REPORT_TYPE, VULNERABILITIES_TYPE)


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """Allow or deny, and why."""

    allow: bool
    image: str
    release: Digest
    policy: str
    policy_digest: Digest
    reasons: tuple[str, ...]
    """Every reason to deny, one sentence each, by weight: findings, what else is wrong with the image, missing
    evidence, unknowns. Empty exactly when ``allow``."""
    steps: tuple[Step, ...] = ()
    """What leads to a pass, in the order in which it is to be done."""
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

        Notes do not count: whoever may push can add evidence that is not believed. Of reports the judged one counts by
        what it says (``report``): builds before 2026-12 named cosign's record of it, which now comes after the verdict.
        """
        return self._judgement() == other._judgement()

    def _judgement(self) -> Verdict:
        evidence = tuple(each for each in self.evidence if each.predicate_type not in _REPORTS)
        return msgspec.structs.replace(self, time="", notes=(), evidence=evidence)


class PublishedVerdict(msgspec.Struct, frozen=True):
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
    """The person who asked; the signing key's id where nobody did, and the image is promoted automatically."""
    verdict: Digest
    """Manifest of the verdict that allowed it."""
    policy_digest: Digest
    time: str
    identity: Identity | Literal[""] = ""
    """How the person's name came; empty where there is no person, and in records of builds before 2026-12."""
    break_glass: str = ""
    """Manifest of the break-glass that excused what spoke against it; empty where nothing did."""

    @classmethod
    def decode(cls, raw: bytes, *, where: str = "") -> PromotionRecord:
        """Read the JSON form. Raises ManifestInvalid."""
        return decode_json(raw, cls, where=where, what="promotion record")


@dataclass(frozen=True)
class Promotion:
    """What promoting did: the record, and whether the channel was moved just now."""

    record: PromotionRecord
    digest: Digest
    """Manifest of the record."""
    changed: bool
    """False: the channel named this release already and its record existed; nothing was written."""
    verdict: Verdict = field(repr=False)
    accepted: tuple[str, ...] = ()
    """What a break-glass excused."""
