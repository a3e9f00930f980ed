"""What changed between two images, releases or any others: packages, layers, findings. Nothing is written anywhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from registry_pipelines.chain.places import Located
from registry_pipelines.errors import AdvisoriesError, EvidenceMissing
from registry_pipelines.oci.digest import Digest
from registry_pipelines.progress import Progress, count_text
from registry_pipelines.registry.platforms import read_images
from registry_pipelines.registry.protocol import Place
from registry_pipelines.scan.changes import FindingChanges, PackageChange, finding_changes, package_changes
from registry_pipelines.scan.publish import read_report, read_sboms
from registry_pipelines.scan.report import Finding, PlatformPackages, Report


@dataclass(frozen=True)
class Side:
    """One of the two. layers: each once, digest to bytes, of all its platforms."""

    reference: str
    digest: Digest
    layers: dict[Digest, int]
    packages: tuple[PlatformPackages, ...]
    scanned: bool
    """Whether its layers were read because no SBOM is attached."""
    report: Report | None
    """The newest attached one, where it covers every platform; whoever may push can attach one."""

    @property
    def platforms(self) -> list[str]:
        """In the index's order."""
        return list(dict.fromkeys(str(each.platform) for each in self.packages))


@dataclass(frozen=True)
class Difference:
    """What changed from ``before`` to ``after``."""

    before: Side
    after: Side
    packages: tuple[PackageChange, ...]
    findings: FindingChanges | None
    """None where they could not be compared; ``notes`` say why."""
    report: Report | None
    """Of ``after``, as it was compared."""
    notes: tuple[str, ...]
    """What was not compared or read anew, and why."""

    def layer_rows(self) -> list[dict[str, Any]]:
        """Layers that both have, that only the later has, that only the earlier has: number and bytes."""
        old, new = self.before.layers, self.after.layers
        kinds = (
            ("shared", old.keys() & new.keys()),
            ("new", new.keys() - old.keys()),
            ("gone", old.keys() - new.keys()),
        )
        sizes = {**old, **new}
        return [
            {"layers": kind, "number": len(digests), "bytes": sum(sizes[one] for one in digests)}
            for kind, digests in kinds
        ]

    def package_rows(self) -> list[dict[str, Any]]:
        """One row for each package that changed."""
        return [
            {
                "ecosystem": each.ecosystem,
                "package": each.name,
                "change": each.change,
                "before": ", ".join(each.before),
                "after": ", ".join(each.after),
                "platforms": ", ".join(each.platforms),
            }
            for each in self.packages
        ]

    def finding_rows(self) -> list[dict[str, Any]]:
        """One row for each finding that came or went."""
        found = self.findings
        return [*_rows("new", found.new), *_rows("gone", found.gone)] if found else []

    def plain(self) -> dict[str, Any]:
        """Plain JSON values."""
        sides = {
            name: {
                "reference": side.reference,
                "digest": side.digest,
                "platforms": side.platforms,
                "scanned": side.scanned,
            }
            for name, side in (("before", self.before), ("after", self.after))
        }
        return {
            **sides,
            "packages": self.package_rows(),
            "layers": self.layer_rows(),
            "findings": self.finding_rows() if self.findings else None,
            "findings_in_both": self.findings.same if self.findings else None,
            "advisories_newest": self.report.advisories.newest if self.report else "",
            "notes": list(self.notes),
        }


def _rows(change: str, findings: Sequence[Finding]) -> list[dict[str, Any]]:
    return [
        {
            "finding": change,
            "severity": each.severity,
            "component": each.component,
            "ids": " ".join(each.ids),
            "fixed": ", ".join(each.fixed_versions),
        }
        for each in findings
    ]


def compare(before: Located, after: Located, *, state: Path, advisories: Path, progress: Progress) -> Difference:
    """Hold two images against each other, by the SBOMs and reports that are attached to them, else by their layers.

    Findings are compared where both reports are by the same advisories; else both images are held against those of
    ``advisories`` now, so that what is new is new in the image. state: the folder of caches. Raises RegistryError,
    ContentError (it is no image, or a piece is missing).
    """
    old, new = (_side(each, state, progress) for each in (before, after))
    notes = [*_platform_notes(old, new), *_undeclared_notes(old, new)]
    notes += [f"no SBOM is attached to {side.reference}: its layers were read" for side in (old, new) if side.scanned]
    reports = _reports(old, new, state, advisories, notes)
    return Difference(
        before=old,
        after=new,
        packages=tuple(package_changes(old.packages, new.packages)),
        findings=finding_changes(*reports) if reports else None,
        report=reports[1] if reports else None,
        notes=tuple(notes),
    )


def _side(located: Located, state: Path, progress: Progress) -> Side:
    place = located.place
    top = place.registry.get_manifest(place.repository, located.selector)
    images = read_images(place, top, configs=False)
    digests = {image.digest for image in images}
    packages = _attached_packages(place, top.digest)
    scanned = not digests or not digests <= {each.manifest.digest for each in packages}
    if scanned:
        from registry_pipelines.scan.sbom import scan_image

        packages = scan_image(place, top.descriptor, state=state, progress=progress)
    report = _attached_report(place, top.digest)
    return Side(
        reference=f"{place}:{located.tag}" if located.tag else f"{place}@{located.digest}",
        digest=top.digest,
        layers={layer.digest: layer.size for image in images for layer in image.manifest.layers},
        packages=tuple(packages),
        scanned=scanned,
        report=report if report and digests <= set(report.covers) else None,
    )


def _attached_packages(place: Place, digest: Digest) -> list[PlatformPackages]:
    try:
        return [of_platform for _, of_platform in read_sboms(place, digest)]
    except EvidenceMissing:
        return []


def _attached_report(place: Place, digest: Digest) -> Report | None:
    try:
        return read_report(place, digest)[1]
    except EvidenceMissing:
        return None


def _platform_notes(old: Side, new: Side) -> list[str]:
    lone = [(platform, side) for side in (old, new) for platform in side.platforms]
    return [
        f"{platform} is in {side.reference} alone: its packages are not compared"
        for platform, side in lone
        if not (platform in old.platforms and platform in new.platforms)
    ]


def _undeclared_notes(old: Side, new: Side) -> list[str]:
    counts = [
        sum(not component.declared for each in side.packages for component in each.components) for side in (old, new)
    ]
    if not any(counts):
        return []
    what = "libraries and programs that no list names have no version, and are not compared"
    return [f"{what}: {counts[0]} before, {counts[1]} after"]


def _reports(old: Side, new: Side, state: Path, advisories: Path, notes: list[str]) -> tuple[Report, Report] | None:
    """Of both sides, by the same advisories; None where there are none."""
    if old.report and new.report and old.report.advisories.digest == new.report.advisories.digest:
        return old.report, new.report
    from registry_pipelines.scan.advisories import AdvisoryStore
    from registry_pipelines.scan.match import match

    try:
        store = AdvisoryStore.load(advisories, state)
    except AdvisoriesError as error:
        notes.append(f"findings are not compared: {error}")
        return None
    try:
        reports = match(old.packages, store), match(new.packages, store)
    finally:
        store.close()
    why = "the attached reports are by different advisories" if old.report and new.report else "not both have a report"
    notes.append(f"findings are by the advisories of {reports[1].advisories.newest[:10]}, since {why}")
    unknown = [len(report.uncertain) for report in reports]
    if any(unknown):
        notes.append(f"not known: {count_text(unknown[0], 'component')} before, {unknown[1]} after")
    return reports


__all__ = ["Difference", "Side", "compare"]
