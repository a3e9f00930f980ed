"""What is said of an image's libraries."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from registry_pipelines.progress import count_text

MAX_TOLD = 100
"""Findings of one platform that provenance names; their numbers are whole."""

Severity = Literal["certain", "likely", "optional"]
"""``certain``: a program or a Python extension cannot be loaded, or something that one of them links to. ``likely``:
something cannot be loaded that is looked for by its name when the image runs. ``optional``: the same, and there are
others to take instead."""

Kind = Literal["missing", "version", "not-searched", "overwritten", "two-majors", "unread"]
"""``missing``: nobody brings the library. ``version``: who brings it has no such version. ``not-searched``: it is there
where no loader looks. ``overwritten``: two packages own one library with different content. ``two-majors``: two CUDA
majors are in the image. ``unread``: what is there is not known."""

SEVERITIES: tuple[Severity, ...] = ("certain", "likely", "optional")


class LinkFinding(msgspec.Struct, frozen=True, kw_only=True):
    """What does not link, for one and the same reason."""

    severity: Severity
    kind: Kind
    needs: tuple[str, ...]
    """The libraries (``libcudart.so.12``), with the version where that is missing (``libc.so.6 GLIBC_2.34``)."""
    owners: tuple[str, ...]
    """Wheels whose files need it, like ``xformers 0.0.35``; empty: no wheel owns them."""
    files: tuple[str, ...]
    """Some of the files that need it, from / on."""
    count: int
    """How many there are."""
    why: str
    do: str

    def text(self) -> str:
        """For people, on one line."""
        who = ", ".join(self.owners or self.files[:1])
        return f"{self.severity}: {who}{' ' if who else ''}{self.why}; {self.do}"


class Brought(msgspec.Struct, frozen=True, kw_only=True):
    """A library that is needed and that no search of the loader would find, but a package of the image has it: it
    must be loaded by that package before, as torch does with NVIDIA's."""

    library: str
    file: str
    needed_by: int


class LinkReport(msgspec.Struct, frozen=True, kw_only=True):
    """One platform's image."""

    platform: str
    checked: int
    """ELF files that were looked at; those for other machines are not."""
    libraries: int
    """Needed names, each counted once."""
    findings: tuple[LinkFinding, ...]
    """The worst first."""
    from_driver: tuple[str, ...] = ()
    """Libraries that NVIDIA's container toolkit mounts: no image has them."""
    loaded_before: tuple[Brought, ...] = ()

    def of(self, severity: Severity) -> list[LinkFinding]:
        """The findings of one severity."""
        return [each for each in self.findings if each.severity == severity]


def link_notes(reports: Mapping[str, LinkReport]) -> list[str]:
    """For people: what does not link, each once; optional things are counted."""
    texts = [
        f"links: {finding.text()}"
        for report in reports.values()
        for finding in report.findings
        if finding.severity != "optional"
    ]
    optional = max((len(report.of("optional")) for report in reports.values()), default=0)
    more = [f"links: {count_text(optional, 'more thing')} may fail to load without harm"] if optional else []
    return [*dict.fromkeys(texts), *more]


def link_parameters(reports: Mapping[str, LinkReport]) -> dict[str, Any]:
    """What provenance says, by platform: how many files were looked at, findings of each severity, and those that are
    not optional."""
    return {
        platform: {
            "checked": report.checked,
            **{severity: len(report.of(severity)) for severity in SEVERITIES},
            "findings": [
                {
                    "severity": finding.severity,
                    "kind": finding.kind,
                    "needs": list(finding.needs),
                    "owners": list(finding.owners),
                    "files": list(finding.files),
                }
                for finding in report.findings
                if finding.severity != "optional"
            ][:MAX_TOLD],
        }
        for platform, report in reports.items()
    }
