"""CycloneDX 1.6 JSON, written and read back; properties of our own carry what CycloneDX has no field for, so that a
rescan needs the document alone.

Equal packages give equal bytes: the serial number is derived from the manifest's digest and the time is the image's.
What a package brings along stands in the ``components`` of that package, with how it was found as its ``evidence``; an
SBOM that lies in the package is referred to by path and hash, and stays as it is.
"""

from __future__ import annotations

import uuid
from collections import deque
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, unquote

import msgspec

from registry_pipelines.errors import DigestInvalid, ManifestInvalid, PlatformInvalid
from registry_pipelines.oci.decoding import ready
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor, decode_json, encode_json
from registry_pipelines.oci.platforms import Platform
from registry_pipelines.oci.times import read_time
from registry_pipelines.scan.installed_system import installed_system, is_of_system
from registry_pipelines.scan.licenses import spdx_expression
from registry_pipelines.scan.report import (
    CarriedSbom,
    Component,
    Evidence,
    LeftOut,
    PlatformPackages,
    Unattributed,
    Unknown,
)

MAX_SBOM_BYTES = 256 * 1024 * 1024
"""SBOMs of 20 GB images reach 50 MiB."""

PREFIX = "registry-pipelines:"
"""Namespace of our properties (CycloneDX property taxonomy: a colon-separated name of the tool)."""

_NAMESPACE = uuid.UUID("6f7e2d5a-9f5c-5b63-8f0f-4a52b1f4c0de")
SYSTEM = "operating-system"
"""Type of the component that is the operating system; all others are packages."""

_LIBRARY_FIELDS = ("type", "ecosystem", "os_owned", "source_name", "source_version")
_TECHNIQUES: dict[Evidence, tuple[str, float]] = {
    "manifest": ("manifest-analysis", 1),
    "list": ("attestation", 0.8),
    "content": ("binary-analysis", 0.8),
    "name": ("filename", 0.4),
}
"""CycloneDX's word for how a component was found, and a confidence that ranks the four (nobody measured it)."""

_Node = dict[str, Any]


def write_cyclonedx(packages: PlatformPackages) -> bytes:
    """The SBOM of one platform manifest: CycloneDX 1.6, JSON, one line, deterministic."""
    digest = packages.manifest.digest
    components = _arranged(packages.components)
    systems = _systems(packages)
    root = {
        "type": "container",
        "bom-ref": digest,
        "name": packages.subject,
        "version": digest,
        "properties": _root(packages),
    }
    tool = {"type": "application", "bom-ref": "registry-pipelines", "name": "registry-pipelines"}
    document = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": uuid.uuid5(_NAMESPACE, digest).urn,
        "version": 1,
        "metadata": {
            "timestamp": _moment(packages.created).isoformat(),
            "tools": {"components": [tool]},
            "component": root,
        },
        "components": [*components, *systems],
        "dependencies": [
            {"ref": digest, "dependsOn": [node["bom-ref"] for node in (*components, *systems)]},
            *({"ref": node["bom-ref"], "dependsOn": sorted(_of_system(packages))} for node in systems),
        ],
    }
    return encode_json(document)


def _systems(packages: PlatformPackages) -> list[_Node]:
    """The operating system, if it is known, as trivy wants it (name), and as syft and grype do (SWID)."""
    system = installed_system(packages.components)
    if system is None:
        return []
    node: _Node = {"type": SYSTEM, "bom-ref": f"{SYSTEM}:{system.id}-{system.version}", "name": system.family}
    if system.version:
        node["version"] = system.version
    return [node | {"swid": {"tagId": system.id, "name": system.id, "version": system.version}}]


def _of_system(packages: PlatformPackages) -> set[str]:
    """The ``bom-ref`` of its packages: their package URLs, as they stand on top."""
    return {component.purl for component in packages.components if is_of_system(component)}


def _moment(created: str) -> datetime:
    moment = read_time(created, zone=UTC) or datetime(1970, 1, 1, tzinfo=UTC)
    return moment.replace(microsecond=0)


def _properties(pairs: Iterable[tuple[str, str]]) -> list[_Node]:
    return [{"name": PREFIX + name, "value": value} for name, value in pairs]


def _root(packages: PlatformPackages) -> list[_Node]:
    pairs = [
        ("subject", packages.subject),
        ("manifest-media-type", packages.manifest.media_type),
        ("manifest-size", str(packages.manifest.size)),
        ("platform", msgspec.json.encode(packages.platform).decode()),
        ("created", packages.created),
    ]
    pairs += [("unknown", msgspec.json.encode(unknown).decode()) for unknown in packages.unknowns]
    pairs += [("left-out", msgspec.json.encode(left_out).decode()) for left_out in packages.left_out]
    if packages.unattributed is not None:
        pairs.append(("unattributed", msgspec.json.encode(packages.unattributed).decode()))
    return _properties(pairs)


def _arranged(components: Iterable[Component]) -> list[_Node]:
    """Components with what is inside them below them. What is inside something that is not here stands on top, with the
    property ``inside``."""
    waiting: dict[str, list[Component]] = {}
    for component in components:
        waiting.setdefault(component.inside, []).append(component)
    top: list[_Node] = []
    todo: deque[tuple[str, _Node]] = deque()
    for component in waiting.pop("", []):
        top.append(_node(component, ""))
        todo.append((component.purl, top[-1]))
    while todo:
        purl, node = todo.popleft()
        for component in waiting.pop(purl, []):
            inner = _node(component, f"{node['bom-ref']}|")
            node.setdefault("components", []).append(inner)
            todo.append((component.purl, inner))
    for outer, orphans in waiting.items():
        for component in orphans:
            node = _node(component, f"{outer}|")
            node["properties"] += _properties([("inside", outer)])
            top.append(node)
    return top


def _node(component: Component, outer: str) -> _Node:
    pairs = [(name, str(getattr(component, name))) for name in _LIBRARY_FIELDS if getattr(component, name)]
    pairs += [("layer", layer) for layer in component.layers]
    own = f"{component.purl}#{component.os_owned}" if component.os_owned else component.purl
    node: _Node = {"type": "library", "bom-ref": outer + own, "name": component.name}
    if component.version:
        node["version"] = component.version
    if component.licenses:
        node["licenses"] = _licenses(component.licenses)
    node["purl"] = component.purl
    if component.sboms:
        node["externalReferences"] = [_reference(sbom) for sbom in component.sboms]
    node["evidence"] = _evidence(component)
    node["properties"] = _properties(pairs)
    return node


def _licenses(stated: tuple[str, ...]) -> list[_Node]:
    """One that is an SPDX expression is an expression; the schema takes no mixture, so several are names."""
    expression = spdx_expression(stated[0]) if len(stated) == 1 else ""
    if expression == stated[0]:
        return [{"expression": expression}]
    return [{"license": {"name": name}} for name in stated]


def _reference(sbom: CarriedSbom) -> _Node:
    """The path in the image, as a relative reference (RFC 3986)."""
    hashes = [{"alg": "SHA-256", "content": sbom.digest.hex}]
    return {"url": quote(sbom.path), "type": "bom", "hashes": hashes}


def _evidence(component: Component) -> _Node:
    technique, confidence = _TECHNIQUES[component.evidence]
    method = {"technique": technique, "confidence": confidence}
    node: _Node = {"identity": [{"field": "purl", "confidence": confidence, "methods": [method]}]}
    if component.locations:
        node["occurrences"] = [{"location": place} for place in component.locations]
    return node


class _ReadProperty(msgspec.Struct, gc=False):
    name: str
    value: str = ""


class _ReadMethod(msgspec.Struct, gc=False):
    technique: str


class _ReadIdentity(msgspec.Struct, gc=False):
    methods: list[_ReadMethod] = []


class _ReadOccurrence(msgspec.Struct, gc=False):
    location: str


class _ReadEvidence(msgspec.Struct, gc=False):
    identity: list[_ReadIdentity] = []
    occurrences: list[_ReadOccurrence] = []


class _ReadHash(msgspec.Struct, gc=False):
    alg: str
    content: str


class _ReadReference(msgspec.Struct, gc=False):
    url: str
    type: str
    hashes: list[_ReadHash] = []


class _ReadLicense(msgspec.Struct, gc=False):
    name: str = ""


class _ReadLicenses(msgspec.Struct, gc=False):
    expression: str = ""
    license: _ReadLicense | None = None


class _ReadComponent(msgspec.Struct, rename="camel", gc=False):
    name: str
    type: str
    licenses: list[_ReadLicenses] = []
    version: str = ""
    purl: str = ""
    properties: list[_ReadProperty] = []
    evidence: _ReadEvidence | None = None
    external_references: list[_ReadReference] = []
    components: list[_ReadComponent] = []


class _ReadMetadata(msgspec.Struct, gc=False):
    component: _ReadComponent


class _ReadBom(msgspec.Struct, rename="camel", gc=False):
    bom_format: str
    spec_version: str
    metadata: _ReadMetadata
    components: list[msgspec.Raw] = []


Remembered = dict[bytes, tuple[Component, ...]]
"""A component as it stands in a document, with all inside it, and what it reads as."""

MAX_REMEMBERED = 50_000
"""Some 2 KB each."""


def read_cyclonedx(raw: bytes, *, where: str = "", remembered: Remembered | None = None) -> PlatformPackages:
    """Read a document of :func:`write_cyclonedx`. Raises ManifestInvalid: not CycloneDX, not written by us, malformed.

    Documents of other tools are refused: they lack who owns what, and guessing would hide findings. remembered: what
    documents before it held, filled here, for who reads many: releases share most of their components.
    """
    if len(raw) > MAX_SBOM_BYTES:
        raise ManifestInvalid(f"the SBOM has {len(raw)} bytes, at most {MAX_SBOM_BYTES} are read", where=where)
    bom = decode_json(raw, _ReadBom, where=where, what="SBOM")
    root = _grouped(bom.metadata.component)
    try:
        descriptor = Descriptor(
            media_type=root["manifest-media-type"][0],
            digest=Digest.parse(bom.metadata.component.version),
            size=int(root["manifest-size"][0]),
        )
        remembered = {} if remembered is None else remembered
        components = [each for node in bom.components for each in _remembered(bytes(node), remembered)]
        unknowns = [msgspec.json.decode(text, type=ready(Unknown)) for text in root.get("unknown", [])]
        left_out = [msgspec.json.decode(text, type=ready(LeftOut)) for text in root.get("left-out", [])]
        counted = [msgspec.json.decode(text, type=ready(Unattributed)) for text in root.get("unattributed", [])]
        return PlatformPackages(
            subject=Digest.parse(root["subject"][0]),
            manifest=descriptor,
            platform=msgspec.json.decode(root["platform"][0], type=ready(Platform)),
            components=tuple(
                sorted(components, key=lambda component: (component.purl, component.os_owned, component.inside))
            ),
            unknowns=tuple(sorted(unknowns, key=lambda unknown: (unknown.kind, unknown.subject, unknown.reason))),
            created=(root.get("created") or [""])[0],
            left_out=tuple(sorted(left_out, key=lambda omission: (omission.subject, omission.reason))),
            unattributed=counted[0] if counted else None,
        )
    except (KeyError, ValueError, msgspec.MsgspecError, DigestInvalid, PlatformInvalid) as error:
        raise ManifestInvalid(
            f"this SBOM was not written by registry-pipelines, or is malformed: {error!r}",
            where=where,
            do="Scan the image itself; it writes an SBOM that can be read back",
        ) from error


def _remembered(node: bytes, remembered: Remembered) -> tuple[Component, ...]:
    found = remembered.get(node)
    if found is None:
        if len(remembered) >= MAX_REMEMBERED:
            remembered.clear()
        top = msgspec.json.decode(node, type=ready(_ReadComponent))
        packages = _flat([top]) if top.type != SYSTEM else ()
        found = remembered[node] = tuple(_read_component(each, inside) for each, inside in packages)
    return found


def _grouped(component: _ReadComponent) -> dict[str, list[str]]:
    values: dict[str, list[str]] = {}
    for prop in component.properties:
        if prop.name.startswith(PREFIX):
            values.setdefault(prop.name.removeprefix(PREFIX), []).append(prop.value)
    return values


def _flat(components: list[_ReadComponent]) -> Iterator[tuple[_ReadComponent, str]]:
    """Each component with the package URL of the one around it."""
    todo = deque((component, "") for component in components)
    while todo:
        component, inside = todo.popleft()
        yield component, inside
        todo.extend((inner, component.purl) for inner in component.components)


def _read_component(component: _ReadComponent, inside: str) -> Component:
    values = _grouped(component)
    fields: dict[str, Any] = {name: values[name][0] for name in _LIBRARY_FIELDS if name in values}
    if not component.purl or "type" not in fields:
        raise ValueError(f"component {component.name!r} has no purl or type")
    occurrences = component.evidence.occurrences if component.evidence else []
    return Component(
        purl=component.purl,
        name=component.name,
        version=component.version,
        # Earlier versions of this program wrote the property.
        locations=tuple(sorted({*values.get("location", []), *(occurrence.location for occurrence in occurrences)})),
        evidence=_read_evidence(component, fields["type"]),
        inside=values.get("inside", [inside])[0],
        sboms=tuple(_read_references(component)),
        layers=tuple(Digest.parse(text) for text in values.get("layer", [])),
        licenses=tuple(each.expression or (each.license.name if each.license else "") for each in component.licenses),
        **fields,
    )


def _read_evidence(component: _ReadComponent, kind: str) -> Evidence:
    """Documents of earlier versions do not say it: there, all that was generic came from the file alone."""
    techniques = [
        method.technique
        for identity in (component.evidence.identity if component.evidence else [])
        for method in identity.methods
    ]
    for evidence, (technique, _) in _TECHNIQUES.items():
        if technique in techniques:
            return evidence
    if kind != "generic":
        return "manifest"
    return "content" if component.version else "name"


def _read_references(component: _ReadComponent) -> Iterator[CarriedSbom]:
    for reference in component.external_references:
        for checksum in reference.hashes:
            if reference.type == "bom" and checksum.alg == "SHA-256":
                yield CarriedSbom(path=unquote(reference.url), digest=Digest.parse(f"sha256:{checksum.content}"))
