"""What ECR says about one image (DescribeImageScanFindings, all pages), read as an opinion.

A basic scan compares the packages of the distribution alone: it adds to our own findings, and clears nothing.
Basic scans have ``findings`` with attributes, Inspector ``enhancedFindings`` (botocore's model of ECR; the ECR user
guide, "Scan images"). What the account's own rules suppress counts: only a policy excuses, and says so.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from registry_pipelines.oci.digest import Digest
from registry_pipelines.scan.clouds.components import Components
from registry_pipelines.scan.clouds.states import End, ecr_end
from registry_pipelines.scan.other_scanners import Opinion, about_scanner, findings_of
from registry_pipelines.scan.report import DISTRIBUTED, Finding, OtherScanner, Severity, Unknown

_SEVERITIES: dict[str, Severity] = {"CRITICAL": "CRITICAL", "HIGH": "HIGH", "MEDIUM": "MEDIUM", "LOW": "LOW"}
_SEVERITIES["INFORMATIONAL"] = "LOW"
"""UNDEFINED and UNTRIAGED are no severity."""

_MANAGERS: dict[str, tuple[str, ...]] = {
    "OS": DISTRIBUTED,
    **dict.fromkeys(("PYTHONPKG", "PIP", "PIPENV", "POETRY"), ("pypi",)),
    **dict.fromkeys(("NODEPKG", "NPM", "YARN", "PNPM"), ("npm",)),
    **dict.fromkeys(("GOBINARY", "GOMOD"), ("golang",)),
    **dict.fromkeys(("JAR", "POM"), ("maven",)),
    **dict.fromkeys(("GEMSPEC", "BUNDLER"), ("gem",)),
    **dict.fromkeys(("CARGO", "RUST_BINARY"), ("cargo",)),
    "COMPOSER": ("composer",),
    **dict.fromkeys(("NUGET", "DOTNET_CORE"), ("nuget",)),
}
"""Package URL types of Inspector's ``packageManager``."""


@dataclass(frozen=True)
class EcrAnswer:
    """All pages together, with times as boto3 gives them. enhanced: None where Inspector does not scan the repository.
    end: why there is no more; None: a scan ended, and these are its findings."""

    status: str = ""
    description: str = ""
    completed: datetime | None = None
    source_updated: datetime | None = None
    findings: Sequence[Mapping[str, Any]] = ()
    enhanced: Sequence[Mapping[str, Any]] | None = None
    end: End | None = None
    notes: Sequence[End] = field(default_factory=tuple)
    """What else is to be known of a scan that ended."""


def read_ecr(
    answer: EcrAnswer, manifest: Digest, components: Components, *, scanner: str, now: datetime | None = None
) -> Opinion:
    """scanner: ``ecr`` or ``inspector``, as the configuration names it. now: UTC, the clock unless told.

    The age of the data is that of a basic scan's own data; what Inspector watches (``ACTIVE``) it matches again when it
    learns of a vulnerability, so its data is of now. A scan that did not end is an unknown, and what it has found until
    then counts.
    """
    now = now or datetime.now(UTC)
    end = answer.end or ecr_end(answer.status, answer.description)
    if answer.status == "ACTIVE":
        newest: datetime | None = now
    else:
        newest = answer.source_updated or (answer.completed if answer.enhanced is not None else None)
    covers = (manifest,) if end is None else ()
    about = OtherScanner(name=scanner, newest=_text(newest), covers=covers)
    found = [each for raw in answer.findings for each in _basic(raw, components, scanner)]
    found += [each for raw in answer.enhanced or () for each in _enhanced(raw, components, scanner)]
    unknowns = [*_unknowns(answer, manifest, scanner, end)]
    if end is None and newest is None:
        unknowns.append(about_scanner("incomplete", scanner, "it does not say how old its data was"))
    return Opinion(about, tuple(found), tuple(unknowns))


def _text(moment: datetime | None) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if moment else ""


def _unknowns(answer: EcrAnswer, manifest: Digest, scanner: str, end: End | None) -> Iterator[Unknown]:
    for each in (*([end] if end else []), *answer.notes):
        yield about_scanner(each.kind, scanner, f"{manifest.short}: {each.reason}")
    odd = {str(raw.get("type")) for raw in answer.enhanced or ()} - {"PACKAGE_VULNERABILITY", "None"}
    for kind in sorted(odd):
        yield about_scanner("cannot-compare", scanner, f"{manifest.short}: findings of the kind {kind[:60]}")


def _basic(raw: Mapping[str, Any], components: Components, scanner: str) -> list[Finding]:
    attributes = {str(each.get("key")): str(each.get("value") or "") for each in raw.get("attributes") or ()}
    name, version = attributes.get("package_name", ""), attributes.get("package_version", "")
    purl, locations = components.purl(DISTRIBUTED, name, (version,))
    scores = [_score(attributes.get(key)) for key in ("CVSS4_SCORE", "CVSS3_SCORE", "CVSS2_SCORE")]
    return findings_of(
        purl,
        str(raw.get("name") or "unnamed"),
        related=(),
        severity=_SEVERITIES.get(str(raw.get("severity")), "UNKNOWN"),
        found_by=scanner,
        score=next((score for score in scores if score is not None), None),
        fixed=[each for each in attributes.get("fixed_in_versions", "").split(",") if each.strip()],
        summary=str(raw.get("description") or ""),
        locations=locations,
    )


def _enhanced(raw: Mapping[str, Any], components: Components, scanner: str) -> Iterator[Finding]:
    if raw.get("type") not in (None, "PACKAGE_VULNERABILITY") or raw.get("status") == "CLOSED":
        return
    details = raw.get("packageVulnerabilityDetails") or {}
    scores = [_score(each.get("baseScore")) for each in details.get("cvss") or ()]
    for package in details.get("vulnerablePackages") or [{}]:
        types = _MANAGERS.get(str(package.get("packageManager")), ("generic",))
        purl, locations = components.purl(types, str(package.get("name") or ""), _versions(package))
        path = str(package.get("filePath") or "").lstrip("/")
        fixed = str(package.get("fixedInVersion") or "")
        yield from findings_of(
            purl,
            str(details.get("vulnerabilityId") or raw.get("title") or "unnamed"),
            related=[str(each) for each in details.get("relatedVulnerabilities") or ()],
            severity=_SEVERITIES.get(str(raw.get("severity")), "UNKNOWN"),
            found_by=scanner,
            score=max((score for score in scores if score is not None), default=_score(raw.get("score"))),
            fixed=[fixed] if fixed and fixed != "NotAvailable" else [],
            summary=str(raw.get("description") or raw.get("title") or ""),
            locations=locations or ((path,) if path else ()),
        )


def _versions(package: Mapping[str, Any]) -> tuple[str, ...]:
    """As package databases write it, and without what Inspector keeps apart."""
    version, release, epoch = (str(package.get(key) or "") for key in ("version", "release", "epoch"))
    whole = f"{version}-{release}" if release and version else version
    return tuple(dict.fromkeys((f"{epoch}:{whole}" if epoch not in ("", "0") else whole, whole, version)))


def _score(value: Any) -> float | None:
    try:
        score = float(value)
    except (TypeError, ValueError):
        return None
    return score if 0 < score <= 10 else None
