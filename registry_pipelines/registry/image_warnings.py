"""What a registry takes and a client cannot start, or starts differently: found in manifests and configs alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from registry_pipelines.errors import ContentError, DigestInvalid, ManifestInvalid, NotFound, Refused, Unsupported
from registry_pipelines.oci import media_types
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.oci.media_types import TOC_ANNOTATION
from registry_pipelines.progress import count_text
from registry_pipelines.registry.choices import differing
from registry_pipelines.registry.platforms import Entry
from registry_pipelines.registry.protocol import Place
from registry_pipelines.registry.warning_kinds import (
    MAX_AZURE_LAYER_BYTES,
    MAX_DOCKER_LAYERS,
    ImageWarning,
    WarningId,
)

SOCI_ANNOTATION = "com.amazon.soci.index-digest"
"""On an image manifest, the digest of its SOCI v2 index (soci-snapshotter)."""
ATTESTATION_ANNOTATION = "vnd.docker.reference.type"

EXPIRES = ("quay.expires-after",)
"""Labels of an image, or annotations of its manifest, by which a registry deletes it (Red Hat Quay, Tag expiration)."""

MAX_TEXT = 80
"""Characters of a foreign text that are repeated; a sha256 has 71."""


def warnings_of(place: Place, entries: Sequence[Entry]) -> tuple[ImageWarning, ...]:
    """All that manifests and configs tell. entries: as ``read_entries`` gives them.

    One request more for each SOCI index that is named and not among the entries. Raises RegistryError.
    """
    warnings: list[ImageWarning] = []
    for row in differing(entries):
        said = "; ".join(f"{each.client.name}: {each.entry.digest.short if each.entry else each.why}" for each in row)
        warnings.append(ImageWarning("several-images", entries[0].digest, f"{row[0].platform}: {said}"))
    there = {entry.digest for entry in entries}
    for entry in entries:
        warnings += (ImageWarning(name, entry.digest, detail) for name, detail in _about_lines(entry))
        if entry.kind == "image":
            warnings += (ImageWarning(name, entry.digest, detail) for name, detail in _about_image(entry))
            warnings += (
                ImageWarning("soci-index-missing", entry.digest, each) for each in _lost_soci(place, entry, there)
            )
    return tuple(warnings)


def more_warnings(
    place: Place, entries: Sequence[Entry], *, referrers: Iterable[tuple[Digest, str]]
) -> list[ImageWarning]:
    """What takes a further look: referrers are (subject, artifact type). One request for the fallback tag."""
    warnings = [ImageWarning("cosign-copied", entries[0].digest)] if _names_itself(place, entries[0].digest) else []
    annotated = {entry.digest for entry in entries if _soci(entry)}
    v1 = {subject for subject, kind in referrers if kind == media_types.SOCI_V1}
    return warnings + [ImageWarning("soci-v1-only", digest) for digest in sorted(v1 - annotated)]


def footer_warnings(place: Place, entries: Sequence[Entry]) -> list[ImageWarning]:
    """eStargz footers against annotations: reads the last 51 bytes of each gzip layer, one request a layer."""
    warnings: list[ImageWarning] = []
    for entry in entries:
        for layer in entry.manifest.layers if entry.kind == "image" else ():
            if not layer.media_type.endswith("gzip") or is_foreign(layer):
                continue
            footer = ends_as_estargz(place, layer)
            if footer != _has_toc(layer):
                kind: WarningId = "estargz-no-annotation" if footer else "estargz-no-footer"
                warnings.append(ImageWarning(kind, entry.digest, layer.digest.short))
    return warnings


def ends_as_estargz(place: Place, layer: Descriptor) -> bool:
    """Whether a layer's last bytes say where in it a table of contents is. One request. Raises RegistryError."""
    from registry_pipelines.oci.layer.estargz_footer import FOOTER_BYTES, read_footer

    found = read_footer(_last_bytes(place, layer, FOOTER_BYTES)) if layer.size >= FOOTER_BYTES else None
    return found is not None and found.form != "estargz without its table"


def is_foreign(layer: Descriptor) -> bool:
    """Whether its publisher keeps it, so that this registry need not have it (image-spec 1.1, layer.md)."""
    return bool(layer.urls) or "nondistributable" in layer.media_type or ".foreign." in layer.media_type


def _about_lines(entry: Entry) -> Iterator[tuple[WarningId, str]]:
    """What the indexes say of an entry."""
    if entry.digest.algorithm != "sha256" and entry.kind != "blob":
        yield "sha512-manifest", ""
    if entry.kind in ("image", "index"):
        types = {line.media_type for line in entry.listed} - {entry.descriptor.media_type}
        if types:
            yield "odd-entry-type", ", ".join(sorted(types))[:MAX_TEXT]
    if entry.kind != "image":
        return
    named = [line.platform for line in entry.listed if line.platform]
    if entry.disagrees:
        yield "platform-disagrees", f"{entry.platform}, config {entry.configured}"
    for platform in named:
        if (platform.os, platform.architecture) != (platform.normal.os, platform.normal.architecture):
            yield "platform-spelling", str(platform)[:MAX_TEXT]
    if any(each.unknown for each in named) or any(
        ATTESTATION_ANNOTATION in (x.annotations or {}) for x in entry.listed
    ):
        yield "image-of-no-platform", ""


def _about_image(entry: Entry) -> Iterator[tuple[WarningId, str]]:
    manifest, layers = entry.manifest, entry.manifest.layers
    if manifest.artifact_type:
        yield "image-with-artifact-type", manifest.artifact_type[:MAX_TEXT]
    if manifest.config.media_type not in media_types.IMAGE_CONFIGS:
        yield "config-type", manifest.config.media_type[:MAX_TEXT]
    if entry.descriptor.media_type == media_types.DOCKER_MANIFEST and any(map(_is_oci, (manifest.config, *layers))):
        yield "mixed-types", ""
    named = [each.digest.short for each in (manifest.config, *layers) if each.digest.algorithm != "sha256"]
    if named:
        yield "sha512-layer", ", ".join(named)
    yield from _about_config(entry)
    odd = {layer.media_type for layer in layers if not _is_layer(layer)}
    if odd:
        yield "odd-layer-type", ", ".join(sorted(odd))[:MAX_TEXT]
    if not layers:
        yield "no-layers", ""
    repeated = [digest.short for digest, count in Counter(layer.digest for layer in layers).items() if count > 1]
    if repeated:
        yield "repeated-layer", ", ".join(repeated)
    if len(layers) > MAX_DOCKER_LAYERS:
        yield "many-layers", str(len(layers))
    large = [layer.digest.short for layer in layers if layer.size > MAX_AZURE_LAYER_BYTES]
    if large:
        yield "large-layer", ", ".join(large)
    foreign = [layer.digest.short for layer in layers if is_foreign(layer)]
    if foreign:
        yield "foreign-layer", ", ".join(foreign)
    if _soci(entry) and any(layer.media_type.endswith("zstd") for layer in layers):
        yield "zstd-under-soci", ""
    gzips = [_has_toc(layer) for layer in layers if layer.media_type.endswith("gzip")]
    if any(gzips) and not all(gzips):
        yield "estargz-partly", f"{sum(gzips)} of {len(gzips)}"


def _about_config(entry: Entry) -> Iterator[tuple[WarningId, str]]:
    if entry.config is None:
        if entry.problem is not None:
            yield "config-unreadable", entry.problem.what
        return
    try:
        count = len(entry.config.diff_ids)
    except ManifestInvalid as error:
        yield "diff-ids", error.what
    else:
        if count != len(entry.manifest.layers):
            yield "diff-ids", f"{count_text(len(entry.manifest.layers), 'layer')}, {count_text(count, 'diff_id')}"
    if not (entry.config.os and entry.config.architecture):
        yield "config-without-platform", ""
    if label := expiry_of(entry):
        yield "expires-by-label", label


def expiry_of(entry: Entry) -> str:
    """The label by which a registry may delete an image, as ``quay.expires-after=2w``; empty without one."""
    labels = (entry.config.config or {}).get("Labels") if entry.config else None
    told = {**(labels if isinstance(labels, dict) else {}), **(entry.manifest.annotations or {})}
    return next((f"{name}={told[name]}"[:MAX_TEXT] for name in EXPIRES if told.get(name)), "")


def _lost_soci(place: Place, entry: Entry, there: set[Digest]) -> Iterator[str]:
    """The digest of a SOCI index that an image names and that is not stored."""
    text = _soci(entry)
    if not text or text in there:
        return
    try:
        place.registry.resolve(place.repository, Digest.parse(text))
    except (NotFound, DigestInvalid):
        yield text[:MAX_TEXT]


def _names_itself(place: Place, digest: Digest) -> bool:
    try:
        return place.registry.resolve(place.repository, digest.fallback_tag).digest == digest
    except (NotFound, ContentError, Refused, Unsupported):  # what else may be under such a tag is not asked here
        return False


def _soci(entry: Entry) -> str:
    return (entry.manifest.annotations or {}).get(SOCI_ANNOTATION, "") if entry.kind == "image" else ""


def _has_toc(layer: Descriptor) -> bool:
    return TOC_ANNOTATION in (layer.annotations or {})


def _is_oci(descriptor: Descriptor) -> bool:
    return descriptor.media_type.startswith("application/vnd.oci.")


def _is_layer(layer: Descriptor) -> bool:
    """As containerd's images.IsLayerType reads it (1.6 and 2.1)."""
    return layer.media_type.startswith(("application/vnd.oci.image.layer.", "application/vnd.docker.image.rootfs."))


def _last_bytes(place: Place, layer: Descriptor, count: int) -> bytes:
    with place.registry.open_blob(place.repository, layer.digest, start=layer.size - count) as reader:
        content, filled = bytearray(count), 0
        while filled < count and (got := reader.readinto(memoryview(content)[filled:])):
            filled += got
    return bytes(content)
