"""CycloneDX 1.6 JSON: written by cyclonedx-python-lib, read back with our own properties.

Equal packages give equal bytes: the serial number is derived from the manifest's digest and the time is the image's.
Properties carry what CycloneDX has no field for, so that a rescan needs the document alone.
"""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec

from registry_pipelines.errors import DigestInvalid, ManifestInvalid, PlatformInvalid
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor, decode_json
from registry_pipelines.oci.platforms import Platform
from registry_pipelines.scan.interface import Component, PlatformPackages, Unknown

if TYPE_CHECKING:
    from cyclonedx.model import Property
    from cyclonedx.model.component import Component as CycloneComponent

MAX_SBOM_BYTES = 256 * 1024 * 1024
"""SBOMs of 20 GB images reach 50 MiB."""

PREFIX = "registry-pipelines:"
"""Namespace of our properties (CycloneDX property taxonomy: a colon-separated name of the tool)."""

_NAMESPACE = uuid.UUID("6f7e2d5a-9f5c-5b63-8f0f-4a52b1f4c0de")
_LIBRARY_FIELDS = ("type", "ecosystem", "os_owned", "source_name", "source_version")


def write_cyclonedx(packages: PlatformPackages) -> bytes:
    """The SBOM of one platform manifest: CycloneDX 1.6, JSON, one line, deterministic."""
    # Imported here: the library takes 1.3 s to import, and most commands never write an SBOM.
    from cyclonedx.model.bom import Bom
    from cyclonedx.model.component import Component as CycloneComponent
    from cyclonedx.model.component import ComponentType
    from cyclonedx.output.json import JsonV1Dot6

    digest = packages.manifest.digest
    root = CycloneComponent(
        type=ComponentType.CONTAINER, name=packages.subject, version=digest, bom_ref=digest, properties=_root(packages)
    )
    tool = CycloneComponent(type=ComponentType.APPLICATION, name="registry-pipelines", bom_ref="registry-pipelines")
    bom = Bom(
        serial_number=uuid.uuid5(_NAMESPACE, digest), components=[_component(item) for item in packages.components]
    )
    bom.metadata.timestamp = _moment(packages.created)
    bom.metadata.component = root
    bom.metadata.tools.components.add(tool)
    bom.register_dependency(root, bom.components)
    return JsonV1Dot6(bom).output_as_string(indent=None).encode()


def _moment(created: str) -> datetime:
    try:
        moment = datetime.fromisoformat(created)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC).replace(microsecond=0)
    except (ValueError, OverflowError):
        return datetime(1970, 1, 1, tzinfo=UTC)


def _properties(pairs: list[tuple[str, str]]) -> list[Property]:
    from cyclonedx.model import Property

    return [Property(name=PREFIX + name, value=value) for name, value in pairs]


def _root(packages: PlatformPackages) -> list[Property]:
    pairs = [
        ("subject", packages.subject),
        ("manifest-media-type", packages.manifest.media_type),
        ("manifest-size", str(packages.manifest.size)),
        ("platform", msgspec.json.encode(packages.platform).decode()),
        ("created", packages.created),
    ]
    pairs += [("unknown", msgspec.json.encode(unknown).decode()) for unknown in packages.unknowns]
    return _properties(pairs)


def _component(component: Component) -> CycloneComponent:
    from cyclonedx.model.component import Component as CycloneComponent
    from cyclonedx.model.component import ComponentType
    from packageurl import PackageURL

    pairs = [(name, str(getattr(component, name))) for name in _LIBRARY_FIELDS if getattr(component, name)]
    if component.declared == (component.type == "generic"):
        pairs.append(("declared", str(component.declared).lower()))
    pairs += [("location", place) for place in component.locations]
    return CycloneComponent(
        type=ComponentType.LIBRARY,
        name=component.name,
        version=component.version or None,
        purl=PackageURL.from_string(component.purl),
        bom_ref=f"{component.purl}#{component.os_owned}" if component.os_owned else component.purl,
        properties=_properties(pairs),
    )


class _ReadProperty(msgspec.Struct):
    name: str
    value: str = ""


class _ReadComponent(msgspec.Struct, rename="camel"):
    name: str
    type: str
    version: str = ""
    purl: str = ""
    properties: list[_ReadProperty] = []


class _ReadMetadata(msgspec.Struct):
    component: _ReadComponent


class _ReadBom(msgspec.Struct, rename="camel"):
    bom_format: str
    spec_version: str
    metadata: _ReadMetadata
    components: list[_ReadComponent] = []


def read_cyclonedx(raw: bytes, *, where: str = "") -> PlatformPackages:
    """Read a document of :func:`write_cyclonedx`. Raises ManifestInvalid: not CycloneDX, not written by us, malformed.

    Documents of other tools are refused: they lack who owns what, and guessing would hide findings.
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
        components = [_read_component(item) for item in bom.components]
        unknowns = [msgspec.json.decode(text, type=Unknown) for text in root.get("unknown", [])]
        return PlatformPackages(
            subject=Digest.parse(root["subject"][0]),
            manifest=descriptor,
            platform=msgspec.json.decode(root["platform"][0], type=Platform),
            components=tuple(sorted(components, key=lambda item: (item.purl, item.os_owned))),
            unknowns=tuple(sorted(unknowns, key=lambda item: (item.kind, item.subject, item.reason))),
            created=(root.get("created") or [""])[0],
        )
    except (KeyError, ValueError, msgspec.MsgspecError, DigestInvalid, PlatformInvalid) as error:
        raise ManifestInvalid(
            f"this SBOM was not written by registry-pipelines, or is malformed: {error!r}",
            where=where,
            do="Scan the image itself; it writes an SBOM that can be read back",
        ) from error


def _grouped(component: _ReadComponent) -> dict[str, list[str]]:
    values: dict[str, list[str]] = {}
    for found in component.properties:
        if found.name.startswith(PREFIX):
            values.setdefault(found.name.removeprefix(PREFIX), []).append(found.value)
    return values


def _read_component(item: _ReadComponent) -> Component:
    values = _grouped(item)
    fields: dict[str, Any] = {name: values[name][0] for name in _LIBRARY_FIELDS if name in values}
    if not item.purl or "type" not in fields:
        raise ValueError(f"component {item.name!r} has no purl or type")
    # Documents of earlier versions do not say it: there, all that was generic came from the file alone.
    declared = values.get("declared", ["false" if fields["type"] == "generic" else "true"])[0] != "false"
    return Component(
        purl=item.purl,
        name=item.name,
        version=item.version,
        locations=tuple(sorted(values.get("location", []))),
        declared=declared,
        **fields,
    )
