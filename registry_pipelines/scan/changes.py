"""What one image has and another has not: packages by ecosystem, and findings. Pure: nothing is read here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from registry_pipelines.scan.report import Finding, PlatformPackages, Report

Change = Literal["added", "removed", "changed"]


@dataclass(frozen=True)
class PackageChange:
    """One package of one ecosystem. before, after: the versions that only this side has, in order. platforms: where it
    is so."""

    ecosystem: str
    """OSV's name without a release (``Debian``, ``PyPI``), so that a new release of a distribution is a new version of
    its packages; the purl type where OSV has none."""
    name: str
    change: Change
    before: tuple[str, ...]
    after: tuple[str, ...]
    platforms: tuple[str, ...]


def package_changes(before: Sequence[PlatformPackages], after: Sequence[PlatformPackages]) -> list[PackageChange]:
    """What changed on the platforms that both have, by ecosystem and name. Images of one platform count together. What
    only its own file shows has no version, and is not compared."""
    old, new = _by_platform(before), _by_platform(after)
    found: dict[tuple[str, str, Change, tuple[str, ...], tuple[str, ...]], list[str]] = {}
    for platform in sorted(old.keys() & new.keys()):
        for ecosystem, name in sorted(old[platform].keys() | new[platform].keys()):
            was, now = (side[platform].get((ecosystem, name), set()) for side in (old, new))
            if was != now:
                change: Change = "changed" if was and now else "removed" if was else "added"
                key = (ecosystem, name, change, tuple(sorted(was - now)), tuple(sorted(now - was)))
                found.setdefault(key, []).append(platform)
    return [PackageChange(*key, tuple(platforms)) for key, platforms in sorted(found.items())]


def _by_platform(packages: Iterable[PlatformPackages]) -> dict[str, dict[tuple[str, str], set[str]]]:
    platforms: dict[str, dict[tuple[str, str], set[str]]] = {}
    for each in packages:
        versions = platforms.setdefault(str(each.platform), {})
        for component in each.components:
            if component.declared:
                ecosystem = component.ecosystem.partition(":")[0] or component.type
                versions.setdefault((ecosystem, component.name), set()).add(component.version)
    return platforms


@dataclass(frozen=True)
class FindingChanges:
    """Findings that count, of two reports by the same advisories. new: only the later image has them. gone: only the
    earlier. same: how many both have, whatever the version."""

    new: tuple[Finding, ...]
    gone: tuple[Finding, ...]
    same: int


def finding_changes(before: Report, after: Report) -> FindingChanges:
    """Hold two reports against each other: one vulnerability of one package is one finding, whatever its version."""
    old, new = ({_subject(finding): finding for finding in report.counting()} for report in (before, after))
    return FindingChanges(new=_only(new, old), gone=_only(old, new), same=len(old.keys() & new.keys()))


def _subject(finding: Finding) -> tuple[tuple[str, ...], str]:
    return finding.ids, finding.component.partition("?")[0].rpartition("@")[0]


def _only(
    these: Mapping[tuple[tuple[str, ...], str], Finding], those: Mapping[tuple[tuple[str, ...], str], Finding]
) -> tuple[Finding, ...]:
    return tuple(finding for key, finding in these.items() if key not in those)


__all__ = ["FindingChanges", "PackageChange", "finding_changes", "package_changes"]
