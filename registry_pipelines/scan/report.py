"""What scanning publishes: components, findings, unknowns and the report. Plain data, strict JSON both ways.

"No finding", "uncovered", "cannot compare", "unreadable", "incomplete" and "undeclared" are different answers: all but
the first are :class:`Unknown` values. They are counted and listed here; what of them is accepted is the gate's to say.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Annotated, Literal

import msgspec

from registry_pipelines.errors import ManifestInvalid
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor, decode_json, encode_json
from registry_pipelines.oci.media_types import CYCLONEDX
from registry_pipelines.oci.platforms import Platform
from registry_pipelines.oci.times import read_time
from registry_pipelines.progress import count_text, size_text

REPORT_MEDIA_TYPE = "application/vnd.registry-pipelines.vulnerability-report.v1+json"
"""artifactType and layer media type of a vulnerability report."""

SBOM_MEDIA_TYPE = CYCLONEDX
"""artifactType and layer media type of an SBOM."""

CLOCK_SKEW = timedelta(minutes=10)
"""A report may be this far in the future: it was made on another machine."""

MAX_REPORT_BYTES = 64 * 1024 * 1024
"""A report holds a few hundred bytes a component; a distribution image of 5,000 packages stays below 5 MiB."""

HOLD_NOTHING = "the advisories hold nothing for "
"""Begins the reason of an ``uncovered`` unknown; behind it stands the ecosystem whose advisories are to be loaded."""

ONLY_DERIVED = "only advisories derived from changelogs speak of "
"""Begins the reason of an ``uncovered`` unknown whose package was compared with those; behind it its ecosystem."""

NO_ECOSYSTEM = "no advisory ecosystem covers it"
"""Reason of an ``uncovered`` unknown for which no advisories can be loaded."""

MAX_LEFT_OUT_NAMED = 10
"""The SBOM lists all of them."""

MAX_UNDECLARED_NAMED = 5
"""An image has dozens; the report and the SBOM list all of them."""

MAX_FOLDERS_NAMED = 10
"""Folders with files that nobody owns."""

Severity = Literal["MALICIOUS", "CRITICAL", "HIGH", "MEDIUM", "LOW", "UNKNOWN"]
SEVERITIES: tuple[Severity, ...] = ("MALICIOUS", "CRITICAL", "HIGH", "MEDIUM", "LOW", "UNKNOWN")
"""MALICIOUS is no severity of a fault: the package itself does harm, and no limit is about it. UNKNOWN is a class of
its own, neither below LOW nor a pass: 92 % of the PyPA records carry no score."""

MALICIOUS_ID = "MAL-"
"""How records about malicious packages are named (github.com/ossf/malicious-packages, exported by OSV)."""

_NOTICE = re.compile(
    r"(?:DSA|DLA|DTSA|USN|LSN|AL[SBE]A|ALAS|ELSA|MGASA|OESA|RLSA|RXSA|RH[SBE]A|SUSE-[SRF]U|openSUSE-[SR]U)-"
)
"""Notices about an update. Some exports put the CVEs that it mends into ``aliases``, though they are different ones."""

UnknownKind = Literal["uncovered", "undeclared", "cannot-compare", "unreadable", "incomplete", "pending"]
"""``uncovered``: a package that some list names, and no advisories are there for its ecosystem. ``undeclared``: a
library or program that only its own file shows, so that nobody says which version of what it is.
``pending``: another scanner was asked and has not answered yet."""

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
    """The purl type: ``pypi``, ``deb``, ``apk``, ``rpm``, ``npm``, ``conda``, ``golang``, ``maven``, ``generic``."""
    ecosystem: str = ""
    """OSV ecosystem (``PyPI``, ``Debian:12``, ``Alpine:v3.20``, ``npm``); empty when OSV has none for it."""
    locations: tuple[str, ...] = ()
    """Paths in the image, sorted, without leading slash; what lies in an archive stands behind ``!/``."""
    layers: tuple[Digest, ...] = ()
    """The layers that brought it, the lowest first; of an operating-system package the one that installed it in this
    version. Empty: not known."""
    licenses: tuple[str, ...] = ()
    """As its maker states them: SPDX expressions, names, or what a distribution calls them."""
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


class FolderCount(_Document, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Files in one folder and below it."""

    folder: str
    files: int
    size_bytes: int


class Unattributed(_Document, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Files that no package lists and that are no component by themselves: nothing is known of them."""

    files: int = 0
    size_bytes: int = 0
    folders: tuple[FolderCount, ...] = ()
    """Where they are, the most bytes first; the largest few."""


DISTRIBUTED = ("deb", "apk", "rpm")
"""Types of components that the package manager of a distribution installs."""


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
    unattributed: Unattributed | None = None
    """None: not counted, as by earlier versions."""


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
    found_by: tuple[str, ...] = ()
    """Other scanners that found it; an empty name among them: our own advisories did, too. None: they alone did."""


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


class OtherScanner(_Document, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Another scanner, whose findings are in the report too."""

    name: str
    """``trivy``, ``grype``."""
    version: str = ""
    newest: str = ""
    """When its database was built, RFC 3339, UTC; empty: nobody says, and the report has an unknown about it."""
    covers: tuple[Digest, ...] = ()
    """Platform manifests that it looked at."""


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


Count = Annotated[int, msgspec.Meta(ge=0, le=1_000_000)]


class FindingLimits(_Document, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The most findings of each severity a release may have; `null` is no limit."""

    critical: Count | None = 0
    """Critical findings."""
    high: Count | None = 0
    """High findings."""
    medium: Count | None = None
    """Medium findings."""
    low: Count | None = None
    """Low findings."""
    unknown: Count | None = 0
    """Findings whose advisory names no severity."""
    unknowns: Count | None = 0
    """What could not be judged and no acceptance names: `uncovered`, `cannot-compare`, `unreadable`, `incomplete`."""


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
    unattributed: Unattributed | None = None
    """Files that no package lists, of all platforms together; None: not counted."""
    scanners: tuple[OtherScanner, ...] = ()
    """Others that were asked, by name."""

    @property
    def order(self) -> tuple[str, str, int]:
        """Of several reports the greatest counts: the latest scan, then the newest advisories; of equal ones the
        worse."""
        return self.scanned_at, self.advisories.newest, len(self.findings)

    def is_past(self, now: datetime) -> bool:
        """Whether it was made before ``now``, as far as clocks of two machines agree. One that was not, or has no time,
        is none to sign or to repeat: whoever wrote that, it moves no clock of ours."""
        scanned = read_time(self.scanned_at)
        return scanned is not None and scanned <= now + CLOCK_SKEW

    def counting(self) -> list[Finding]:
        """Findings that the scanner does not suppress."""
        return [finding for finding in self.findings if not finding.suppressed]

    def counts(self) -> dict[str, int]:
        """How many findings count, for each severity (all of them are keys)."""
        return count_severities(self.counting())

    def new_since(self, before: Report) -> tuple[Finding, ...]:
        """Findings that count and that a report of the same release by other advisories has not. One vulnerability is
        the same under any of its ids: advisories learn of aliases."""
        known: dict[str, set[str]] = {}
        for finding in before.counting():
            known.setdefault(finding.component, set()).update(finding.ids)
        return tuple(
            finding for finding in self.counting() if known.get(finding.component, set()).isdisjoint(finding.ids)
        )

    @property
    def undeclared(self) -> tuple[str, ...]:
        """Package URLs of what only its file shows, sorted."""
        return tuple(sorted({unknown.subject for unknown in self.unknowns if unknown.kind == "undeclared"}))

    @property
    def uncertain(self) -> tuple[Unknown, ...]:
        """Unknowns of every kind but ``undeclared``: what keeps "no finding" from being known."""
        return tuple(unknown for unknown in self.unknowns if unknown.kind != "undeclared")

    @property
    def lacking(self) -> dict[str, int]:
        """Ecosystems that the release holds and the advisories say nothing about, and how many packages that are."""
        reasons = (unknown.reason for unknown in self.unknowns if unknown.kind == "uncovered")
        return dict(Counter(reason[len(HOLD_NOTHING) :] for reason in reasons if reason.startswith(HOLD_NOTHING)))

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


def count_severities(findings: Iterable[Finding]) -> dict[str, int]:
    """How many findings there are of each severity (all of them are keys)."""
    totals = {str(severity): 0 for severity in SEVERITIES}
    for finding in findings:
        totals[finding.severity] += 1
    return totals


def is_notice(name: str) -> bool:
    """Whether it names a distribution's notice about an update, which may mend several faults, and not one fault."""
    return bool(_NOTICE.match(name))


def own_first(components: Iterable[Component]) -> list[Component]:
    """What stands by itself before what others bring along: a table's first rows name the packages that were asked
    for, not the hundreds of crates inside one of them."""
    return sorted(components, key=lambda component: bool(component.inside))


def left_out_lines(left_out: Iterable[LeftOut]) -> list[str]:
    """A line for each thing left out, the first few; then how many more there are."""
    ordered = sorted(set(left_out), key=lambda omission: (omission.subject, omission.reason))
    lines = [f"left out: {omission.subject}: {omission.reason}" for omission in ordered[:MAX_LEFT_OUT_NAMED]]
    more = len(ordered) - len(lines)
    return [*lines, f"left out: {more} more, which the SBOM lists"] if more else lines


def unattributed_lines(unattributed: Unattributed | None) -> list[str]:
    """One line about files that nobody owns; none when there is none, or they were not counted."""
    if unattributed is None or not unattributed.files:
        return []
    named = ", ".join(f"{each.folder or '/'} ({size_text(each.size_bytes)})" for each in unattributed.folders[:3])
    files, size = count_text(unattributed.files, "file"), size_text(unattributed.size_bytes)
    return [f"unattributed: {files} of {size} that no package lists, most in {named}"]


def unattributed_of(counts: Sequence[Unattributed | None]) -> Unattributed | None:
    """Of several platforms together; None where one was not counted."""
    known = [each for each in counts if each is not None]
    if len(known) < len(counts):
        return None
    folders: dict[str, list[FolderCount]] = {}
    for each in known:
        for folder in each.folders:
            folders.setdefault(folder.folder, []).append(folder)
    summed = [
        FolderCount(folder=name, files=sum(one.files for one in parts), size_bytes=sum(one.size_bytes for one in parts))
        for name, parts in folders.items()
    ]
    return Unattributed(
        files=sum(each.files for each in known),
        size_bytes=sum(each.size_bytes for each in known),
        folders=largest(summed),
    )


def largest(folders: Iterable[FolderCount]) -> tuple[FolderCount, ...]:
    """The folders to be named."""
    ordered = sorted(folders, key=lambda each: (-each.size_bytes, -each.files, each.folder))
    return tuple(ordered[:MAX_FOLDERS_NAMED])


def undeclared_lines(purls: Iterable[str]) -> list[str]:
    """One line about all that only its file shows, for tables, reasons and verdicts; none when there is nothing."""
    names = sorted({purl.removeprefix("pkg:generic/") for purl in purls})
    if not names:
        return []
    named = ", ".join(names) if len(names) <= MAX_UNDECLARED_NAMED else f"from {names[0]} to {names[-1]}"
    what = "library or program" if len(names) == 1 else "libraries and programs"
    return [f"undeclared: {len(names)} {what} that no package list names: {named}"]
