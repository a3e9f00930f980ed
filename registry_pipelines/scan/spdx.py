"""SPDX 2.3 JSON, for programs that read no CycloneDX. It is an export: a rescan reads our CycloneDX, which holds more.

Equal packages give equal bytes. Source: SPDX specification 2.3, clauses 6 to 12 and annexes D and E. What SPDX has no
field for (what could not be read, what was left out, files that nobody owns) are annotations of the image.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

from packageurl import PackageURL

from registry_pipelines.oci.manifests import encode_json
from registry_pipelines.oci.times import read_time
from registry_pipelines.scan.installed_system import installed_system, is_of_system
from registry_pipelines.scan.licenses import spdx_expression
from registry_pipelines.scan.report import Component, PlatformPackages, unattributed_lines

SPDX_VERSION = "SPDX-2.3"
NAMESPACE = "https://registry-pipelines.invalid/spdx/"
"""Of documents; a name that is unique and leads nowhere (RFC 6761)."""

_TOOL = "Tool: registry-pipelines"
_IMAGE = "SPDXRef-Image"
_NOT_TOLD = "NOASSERTION"
_NO_IDENTIFIER = re.compile(r"[^A-Za-z0-9.-]+")
_REF = re.compile(r"LicenseRef-[A-Za-z0-9.-]+")

_Node = dict[str, Any]


def write_spdx(packages: PlatformPackages) -> bytes:
    """The SBOM of one platform manifest as SPDX 2.3, JSON, one line, deterministic."""
    digest = packages.manifest.digest
    licenses = _Licenses()
    components = list(_identified(packages.components))
    nodes = [_package(component, ref, licenses) for component, ref in components]
    systems = _systems(packages)
    document: _Node = {
        "spdxVersion": SPDX_VERSION,
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": f"{packages.subject} ({packages.platform})",
        "documentNamespace": f"{NAMESPACE}{digest.algorithm}/{digest.hex}",
        "creationInfo": {"created": _moment(packages.created), "creators": [_TOOL]},
        "packages": [_image(packages), *systems, *nodes],
        "relationships": [*_relationships(components), *_of_systems(systems, components)],
    }
    if licenses.extracted:
        document["hasExtractedLicensingInfos"] = [licenses.extracted[ref] for ref in sorted(licenses.extracted)]
    return encode_json(document)


def _moment(created: str) -> str:
    moment = read_time(created, zone=UTC) or datetime(1970, 1, 1, tzinfo=UTC)
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _image(packages: PlatformPackages) -> _Node:
    digest = packages.manifest.digest
    purl = PackageURL("oci", None, "image", str(digest), {"arch": packages.platform.architecture}).to_string()
    node: _Node = {
        "SPDXID": _IMAGE,
        "name": str(digest),
        "versionInfo": str(digest),
        "downloadLocation": _NOT_TOLD,
        "filesAnalyzed": False,
        "checksums": [{"algorithm": digest.algorithm.upper(), "checksumValue": digest.hex}],
        "primaryPackagePurpose": "CONTAINER",
        "licenseConcluded": _NOT_TOLD,
        "licenseDeclared": _NOT_TOLD,
        "copyrightText": _NOT_TOLD,
        "externalRefs": [_reference(purl)],
    }
    comments = [
        *(f"unknown, {each.kind}: {each.subject}: {each.reason}" for each in packages.unknowns),
        *(f"left out: {each.subject}: {each.reason}" for each in packages.left_out),
        *unattributed_lines(packages.unattributed),
    ]
    if comments:
        when = _moment(packages.created)
        node["annotations"] = [
            {"annotationDate": when, "annotationType": "OTHER", "annotator": _TOOL, "comment": comment}
            for comment in comments
        ]
    return node


def _systems(packages: PlatformPackages) -> list[_Node]:
    """The operating system, if it is known. trivy knows it by its identifier, and by its own name for it."""
    system = installed_system(packages.components)
    if system is None:
        return []
    own = _NO_IDENTIFIER.sub("-", f"{system.id}-{system.version}")
    node: _Node = {"SPDXID": f"SPDXRef-OperatingSystem-{own}", "name": system.family}
    if system.version:
        node["versionInfo"] = system.version
    return [
        node
        | {
            "downloadLocation": _NOT_TOLD,
            "filesAnalyzed": False,
            "primaryPackagePurpose": "OPERATING-SYSTEM",
            "licenseConcluded": _NOT_TOLD,
            "licenseDeclared": _NOT_TOLD,
            "copyrightText": _NOT_TOLD,
        }
    ]


def _of_systems(systems: list[_Node], components: list[tuple[Component, str]]) -> Iterator[_Node]:
    """The image contains it, and it contains its packages."""
    for system in systems:
        yield _related(_IMAGE, "CONTAINS", system["SPDXID"])
        for component, ref in components:
            if is_of_system(component):
                yield _related(system["SPDXID"], "CONTAINS", ref)


def _reference(purl: str) -> _Node:
    return {"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": purl}


def _identified(components: Iterable[Component]) -> Iterator[tuple[Component, str]]:
    """Each with an identifier that is its own in the document, and the same in every document."""
    for component in components:
        identity = "\n".join((component.purl, component.os_owned, component.inside))
        yield component, f"SPDXRef-{component.type}-{hashlib.sha256(identity.encode()).hexdigest()[:16]}"


def _package(component: Component, ref: str, licenses: _Licenses) -> _Node:
    node: _Node = {"SPDXID": ref, "name": component.name}
    if component.version:
        node["versionInfo"] = component.version
    node |= {
        "downloadLocation": _NOT_TOLD,
        "filesAnalyzed": False,
        "licenseConcluded": _NOT_TOLD,
        "licenseDeclared": licenses.declared(component.licenses),
        "copyrightText": _NOT_TOLD,
        "externalRefs": [_reference(component.purl)],
    }
    source = list(_source(component))
    if source:
        node["sourceInfo"] = "; ".join(source)
    return node


def _source(component: Component) -> Iterator[str]:
    if component.locations:
        yield f"found at {', '.join(component.locations)}"
    if component.layers:
        yield f"in the layer {', '.join(component.layers)}"
    if component.os_owned:
        yield f"installed by {component.os_owned}"
    if component.source_name or component.source_version:
        yield " ".join(filter(None, ("made from", component.source_name, component.source_version)))
    if not component.declared:
        yield "no package list names it: only its own file shows it"


def _relationships(components: list[tuple[Component, str]]) -> Iterator[_Node]:
    """The document describes the image, the image contains what stands by itself, and that what it brings along."""
    yield _related("SPDXRef-DOCUMENT", "DESCRIBES", _IMAGE)
    outer: dict[str, list[str]] = {}
    for component, ref in components:
        outer.setdefault(component.purl, []).append(ref)
    for component, ref in components:
        holders = outer.get(component.inside, []) if component.inside else []
        for holder in [each for each in holders if each != ref] or [_IMAGE]:
            yield _related(holder, "CONTAINS", ref)


def _related(one: str, how: str, other: str) -> _Node:
    return {"spdxElementId": one, "relationshipType": how, "relatedSpdxElement": other}


class _Licenses:
    """What packages declare, and the texts of what SPDX has no identifier for."""

    def __init__(self) -> None:
        self.extracted: dict[str, _Node] = {}

    def declared(self, stated: tuple[str, ...]) -> str:
        """One expression for all that a package states."""
        if not stated:
            return _NOT_TOLD
        parts = list(dict.fromkeys(spdx_expression(text) or self._extracted(text) for text in stated))
        for ref in _REF.findall(" ".join(parts)):
            self.extracted.setdefault(ref, _extracted(ref, ref))
        return parts[0] if len(parts) == 1 else " AND ".join(f"({part})" if " " in part else part for part in parts)

    def _extracted(self, text: str) -> str:
        ref = f"LicenseRef-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
        self.extracted[ref] = _extracted(ref, text)
        return ref


def _extracted(ref: str, text: str) -> _Node:
    return {"licenseId": ref, "extractedText": text, "name": text}
