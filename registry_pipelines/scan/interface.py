"""What scanning publishes: components, findings, unknowns and the report. Plain data, strict JSON both ways.

"No finding", "uncovered", "cannot compare", "unreadable", "incomplete" and "undeclared" are different answers: all but
the first are :class:`Unknown` values. A gate passes them only when its limits accept them; what is undeclared is listed
by every gate, and stopped by one that says so.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from fnmatch import fnmatchcase
from typing import Literal

import msgspec

from registry_pipelines.errors import ManifestInvalid
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor, decode_json, encode_json
from registry_pipelines.oci.media_types import CYCLONEDX
from registry_pipelines.oci.platforms import Platform

REPORT_MEDIA_TYPE = "application/vnd.registry-pipelines.vulnerability-report.v1+json"
"""artifactType and layer media type of a vulnerability report."""

SBOM_MEDIA_TYPE = CYCLONEDX
"""artifactType and layer media type of an SBOM."""

MAX_REPORT_BYTES = 64 * 1024 * 1024
"""A report holds a few hundred bytes a component; a distribution image of 5,000 packages stays below 5 MiB."""

MAX_BREACHES_LISTED = 20
"""Findings named one by one for each severity, unknowns for each kind and reason; the count says the rest. A kernel
header package alone has 2,000 findings."""

NO_ECOSYSTEM = "no advisory ecosystem covers it"
"""Reason of an ``uncovered`` unknown for which no advisories can be loaded."""

DISTRIBUTED = ("pkg:deb", "pkg:apk", "pkg:rpm")
"""Types of package URLs that have the distribution behind them."""

MAX_LEFT_OUT_NAMED = 10
"""The SBOM lists all of them."""

MAX_UNDECLARED_NAMED = 5
"""An image has dozens; the report and the SBOM list all of them."""

Severity = Literal["CRITICAL", "HIGH", "MEDIUM", "LOW", "UNKNOWN"]
SEVERITIES: tuple[Severity, ...] = ("CRITICAL", "HIGH", "MEDIUM", "LOW", "UNKNOWN")
"""UNKNOWN is a class of its own, neither below LOW nor a pass: 92 % of the PyPA records carry no score."""

UnknownKind = Literal["uncovered", "undeclared", "cannot-compare", "unreadable", "incomplete"]
"""``uncovered``: a package that some list names, and no advisories are there for its ecosystem. ``undeclared``: a
library or program that only its own file shows, so that nobody says which version of what it is."""

OLD_KIND = "no-data"
"""What the first two kinds were together, in reports and policies of earlier versions."""

OLD_KIND_NOW = (
    "`no-data` is two kinds now: `uncovered` (a package that a list names, without advisories for its ecosystem) and "
    "`undeclared` (only its file shows it: listed, never counted, unless the policy says `undeclared: deny`)"
)

Undeclared = Literal["list", "deny"]


class _Document(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of everything here: immutable, fields by name only, unknown JSON fields refused."""


Evidence = Literal["manifest", "list", "content", "name"]
EVIDENCE: tuple[Evidence, ...] = ("manifest", "list", "content", "name")
"""How a component was found, the best first: a package database or a package's own metadata; an SBOM or a vendor list
that a package carries; a version text in the file; the file's name alone."""


class CarriedSbom(_Document, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An SBOM that lies in the image, in its package. Its bytes are not repeated anywhere."""

    path: str
    digest: Digest


class LeftOut(_Document, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Something that is in the image and was not listed, and why."""

    subject: str
    """A path in the image."""
    reason: str


class Component(_Document, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One installed thing."""

    purl: str
    """Package URL, canonical."""
    name: str
    version: str
    type: str
    """The purl type: ``pypi``, ``deb``, ``apk``, ``npm``, ``conda``, ``generic``."""
    ecosystem: str = ""
    """OSV ecosystem (``PyPI``, ``Debian:12``, ``Alpine:v3.20``, ``npm``); empty when OSV has none for it."""
    locations: tuple[str, ...] = ()
    """Paths in the image, sorted, without leading slash."""
    os_owned: str = ""
    """The operating-system package (``deb python3-jinja2``) that installed this; empty for all others."""
    source_name: str = ""
    """What advisories call it, when not ``name``: Debian's source package, Alpine's origin."""
    source_version: str = ""
    """Version of ``source_name``, when not ``version``."""
    evidence: Evidence = "manifest"
    inside: str = ""
    """purl of the package that brings this along, for example in its ``.libs`` folder; empty: it stands by itself."""
    sboms: tuple[CarriedSbom, ...] = ()
    """SBOMs that this package carries, by path."""

    @property
    def declared(self) -> bool:
        """Whether a list names it, and not its own file alone."""
        return self.evidence in ("manifest", "list")


class Unknown(_Document, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Something that could not be judged, and why."""

    kind: UnknownKind
    subject: str
    """A purl, a path in the image, or an advisory record."""
    reason: str

    @property
    def key(self) -> str:
        """``kind:subject``: what acceptance patterns are compared with."""
        return f"{self.kind}:{self.subject}"


class PlatformPackages(_Document, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one platform's image holds."""

    subject: Digest
    """The top digest that was asked for: the index, or the manifest itself."""
    manifest: Descriptor
    """The platform's image manifest."""
    platform: Platform
    components: tuple[Component, ...]
    unknowns: tuple[Unknown, ...] = ()
    created: str = ""
    """``created`` of the image config, as written there."""
    left_out: tuple[LeftOut, ...] = ()


class Finding(_Document, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One vulnerability of one component; all advisory records that mean the same vulnerability in one finding."""

    component: str
    """The component's purl."""
    ids: tuple[str, ...]
    """Every identifier, sorted: record ids and their aliases."""
    severity: Severity
    score: float | None = None
    """The highest CVSS base score, 0.0 to 10.0; None when no record has a vector."""
    rated_by: str = ""
    """What the severity comes from, and of which record: ``CVSS 4.0 of GHSA-...``; empty for UNKNOWN."""
    matched: str = ""
    """The version that the records speak of, where it is not the installed one: ``2.6.0 (public part of
    2.6.0+cu124)``."""
    fixed_versions: tuple[str, ...] = ()
    """Versions that fix it, above the installed one, ascending; empty: no fix is known."""
    summary: str = ""
    suppressed: str = ""
    """Why this finding does not count; empty: it counts."""
    locations: tuple[str, ...] = ()


class AdvisoryFacts(_Document, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which advisory data a report was made with."""

    digest: Digest
    """Digest of the source's content."""
    newest: str
    """``modified`` of the newest record, RFC 3339, UTC."""
    records: int
    source: str
    """File or folder name, without its path."""
    unreadable: int = 0


class Coverage(_Document, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How much the advisories say about one ecosystem that is in the release. Few records, or old ones, mean that "no
    finding" says little."""

    ecosystem: str
    components: int
    """Components of the release that were compared."""
    records: int
    """Advisory records about this ecosystem, under every name that it has in them."""
    newest: str = ""
    """``modified`` of the newest of them, RFC 3339, UTC."""


class Limits(_Document, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How much a gate lets pass. A number: so many findings of that severity at most; None: any number."""

    critical: int | None = 0
    high: int | None = 0
    medium: int | None = None
    low: int | None = None
    unknown: int | None = 0
    """Findings whose severity nobody gave."""
    unknowns: int | None = 0
    """Unknowns that no pattern accepts, of every kind but ``undeclared``."""
    undeclared: Undeclared = "list"
    """What becomes of the undeclared: ``list`` names them and lets them pass; ``deny`` stops at the first."""
    accepted_unknowns: tuple[str, ...] = ()
    """Patterns (``fnmatch``, case matters) over ``kind:subject``, e.g. ``uncovered:pkg:conda/*``."""

    def accepts(self, unknown: Unknown) -> bool:
        """Whether a pattern names this unknown."""
        return any(fnmatchcase(unknown.key, pattern) for pattern in self.accepted_unknowns)


class Report(_Document, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The vulnerability report of a release."""

    subject: Digest
    covers: tuple[Digest, ...]
    """Platform manifests that were looked at, in the index's order."""
    advisories: AdvisoryFacts
    findings: tuple[Finding, ...]
    unknowns: tuple[Unknown, ...]
    components: int
    """How many different components the platforms have together."""
    scanned_at: str
    """RFC 3339, UTC, whole seconds."""
    coverage: tuple[Coverage, ...] = ()
    """The ecosystems of ``components`` that advisories cover, sorted by name."""

    def counting(self, *, excepted: Collection[str] = ()) -> list[Finding]:
        """Findings that count: not suppressed, and none of their ids excepted."""
        return [found for found in self.findings if not found.suppressed and not set(found.ids) & set(excepted)]

    def counts(self, *, excepted: Collection[str] = ()) -> dict[str, int]:
        """How many findings count, for each severity (all five keys)."""
        totals = dict.fromkeys(SEVERITIES, 0)
        for found in self.counting(excepted=excepted):
            totals[found.severity] += 1
        return {str(severity): count for severity, count in totals.items()}

    def accepted(self, limits: Limits) -> list[Unknown]:
        """Unknowns that pass because a pattern names them: a verdict lists these."""
        return [unknown for unknown in self.unknowns if limits.accepts(unknown)]

    @property
    def undeclared(self) -> tuple[str, ...]:
        """Package URLs of what only its file shows, sorted."""
        return tuple(sorted({item.subject for item in self.unknowns if item.kind == "undeclared"}))

    def uncertain(self, limits: Limits) -> list[Unknown]:
        """Unknowns that count against ``limits.unknowns``: all but the ``undeclared``, and those accepted by name."""
        return [item for item in self.unknowns if item.kind != "undeclared" and not limits.accepts(item)]

    def breaches(self, limits: Limits, *, excepted: Collection[str] = ()) -> list[str]:
        """Every reason why the limits are not kept, one sentence each; empty means the gate passes.

        excepted: advisory ids that a policy excuses; one id of a finding is enough. Not judged here: the age of the
        advisories, and whether ``covers`` names every platform of the release.
        """
        reasons: list[str] = []
        counting = self.counting(excepted=excepted)
        for severity in SEVERITIES:
            limit: int | None = getattr(limits, severity.lower())
            found = [finding for finding in counting if finding.severity == severity]
            if limit is not None and len(found) > limit:
                reasons.extend(_explain(severity, found, limit))
        uncertain = self.uncertain(limits)
        if limits.unknowns is not None and len(uncertain) > limits.unknowns:
            reasons.extend(_explain_unknowns(uncertain, limits.unknowns))
        if limits.undeclared == "deny":
            denied = [item for item in self.unknowns if item.kind == "undeclared" and not limits.accepts(item)]
            reasons.extend(undeclared_lines(item.subject for item in denied))
        return reasons

    def encode(self) -> bytes:
        """Deterministic JSON."""
        return encode_json(self)

    @classmethod
    def decode(cls, raw: bytes, *, where: str = "") -> Report:
        """Read :meth:`encode`'s form; strict. Raises ManifestInvalid, which names the field."""
        if len(raw) > MAX_REPORT_BYTES:
            raise ManifestInvalid(f"the report has {len(raw)} bytes, at most {MAX_REPORT_BYTES} are read", where=where)
        try:
            return decode_json(raw, cls, where=where, what="vulnerability report")
        except ManifestInvalid as error:
            if f'"kind":"{OLD_KIND}"'.encode() in raw:
                raise ManifestInvalid(
                    "the vulnerability report is of an earlier version, which told uncovered and undeclared not apart",
                    where=where,
                    do="Scan the release again",
                ) from error
            raise


def own_first(components: Iterable[Component]) -> list[Component]:
    """What stands by itself before what others bring along: a table's first rows name the packages that were asked
    for, not the hundreds of crates inside one of them."""
    return sorted(components, key=lambda each: bool(each.inside))


def left_out_lines(left_out: Iterable[LeftOut]) -> list[str]:
    """A line for each thing left out, the first few; then how many more there are."""
    found = sorted(set(left_out), key=lambda item: (item.subject, item.reason))
    lines = [f"left out: {item.subject}: {item.reason}" for item in found[:MAX_LEFT_OUT_NAMED]]
    more = len(found) - len(lines)
    return [*lines, f"left out: {more} more, which the SBOM lists"] if more else lines


def undeclared_lines(purls: Iterable[str]) -> list[str]:
    """One line about all that only its file shows, for tables, reasons and verdicts; none when there is nothing."""
    names = sorted({purl.removeprefix("pkg:generic/") for purl in purls})
    if not names:
        return []
    named = ", ".join(names) if len(names) <= MAX_UNDECLARED_NAMED else f"from {names[0]} to {names[-1]}"
    what = "library or program" if len(names) == 1 else "libraries and programs"
    return [f"undeclared: {len(names)} {what} that no list names: {named}"]


def _explain_unknowns(unknowns: list[Unknown], limit: int) -> Iterable[str]:
    permitted = f" ({limit} permitted)" if limit else ""
    alike: dict[tuple[str, str, str], list[Unknown]] = {}
    for item in unknowns:
        pattern = _pattern(item.subject) if item.kind == "uncovered" else ""
        alike.setdefault((item.kind, item.reason, pattern), []).append(item)
    for (kind, reason, pattern), items in alike.items():
        if pattern:
            yield f"{_uncovered(items, reason, pattern)}{permitted}"
            continue
        for item in items[:MAX_BREACHES_LISTED]:
            yield f"{kind}: {item.subject}: {reason}{permitted}"
        if len(items) > MAX_BREACHES_LISTED:
            yield f"{kind}: {len(items) - MAX_BREACHES_LISTED} more: {reason}{permitted}"


def _pattern(purl: str) -> str:
    """Names the packages of the same type, and distribution where it has one: the unit that advisories cover."""
    kind, _, rest = purl.partition("/")
    distribution = rest.partition("/")[0] if kind in DISTRIBUTED and "/" in rest.partition("@")[0] else ""
    return f"{kind}/{distribution}/*" if distribution else f"{kind}/*"


def _uncovered(items: list[Unknown], reason: str, pattern: str) -> str:
    """One line about packages without advisories, and what lets a release with them pass. One wheel may list 500."""
    names = sorted(item.subject for item in items)
    first, last = (name.partition("?")[0] for name in (names[0], names[-1]))
    named = names[0] if len(names) == 1 else f"{len(names)} packages, from {first} to {last}"
    load = "" if reason == NO_ECOSYSTEM else "load them (`advisories.source`) and scan again, or "
    return f"uncovered: {named}: {reason}; {load}accept {pattern} by name (`accept_unknowns`)"


def _explain(severity: str, found: list[Finding], limit: int) -> Iterable[str]:
    permitted = f"{limit} permitted"
    for finding in sorted(found, key=lambda item: (item.component, item.ids))[:MAX_BREACHES_LISTED]:
        score = "" if finding.score is None else f" {finding.score:.1f}"
        fixed = f"fixed in {', '.join(finding.fixed_versions)}" if finding.fixed_versions else "no fix known"
        matched = f"; affected is {finding.matched}" if finding.matched else ""
        yield f"{severity}{score}: {finding.component}: {' '.join(finding.ids)}; {fixed}{matched} ({permitted})"
    if len(found) > MAX_BREACHES_LISTED:
        yield f"{severity}: {len(found) - MAX_BREACHES_LISTED} more findings ({permitted})"
