"""Artifacts attached to a manifest by ``subject``: how evidence is stored (image-spec 1.1, "Guidelines for Artifact
Usage")."""

from __future__ import annotations

from dataclasses import dataclass

from registry_pipelines.errors import ClosureIncomplete, ContentError, NotFound
from registry_pipelines.oci import media_types
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor, Manifest, artifact_manifest
from registry_pipelines.registry.blobs import push_blob, read_blob
from registry_pipelines.registry.protocol import Place

MAX_ARTIFACT_BYTES = 256 * 1024 * 1024
"""One attached document. SBOMs of 20 GB images reach 50 MiB."""

MAX_REFERRERS = 2000
"""Referrers opened for one subject; real images have tens. More is an attack or a runaway job, and fails closed."""


@dataclass(frozen=True)
class Attached:
    """One artifact: its manifest's descriptor, the manifest, and the verified bytes of its first layer."""

    descriptor: Descriptor
    manifest: Manifest
    content: bytes


def attach(
    place: Place,
    *,
    subject: Descriptor,
    artifact_type: str,
    content: bytes,
    media_type: str,
    annotations: dict[str, str] | None = None,
) -> Descriptor:
    """Store a document as an artifact that refers to ``subject``; the artifact manifest's descriptor.

    The same content with the same annotations has the same digest: attaching twice changes nothing.
    """
    push_blob(place, b"{}", media_type=media_types.OCI_EMPTY)
    layer = push_blob(place, content, media_type=media_type)
    manifest = artifact_manifest(artifact_type=artifact_type, layers=[layer], subject=subject, annotations=annotations)
    place.registry.put_manifest(place.repository, manifest)
    return manifest.descriptor


def attached(place: Place, subject: Digest, *, artifact_type: str, limit: int = MAX_ARTIFACT_BYTES) -> list[Attached]:
    """The artifacts of a type that refer to ``subject``, in the registry's order.

    Each manifest is opened: lists of referrers hold unsigned, sometimes wrong types (cosign 3.1.1 writes the empty
    media type). What says another subject is left out, and so is what is damaged or gone: a bad referrer must not
    hide a good one. Raises ClosureIncomplete when an artifact of the type exists but its document cannot be read, and
    no other could; the RegistryError family when anything is unclear.
    """
    artifacts: list[Attached] = []
    damaged: list[str] = []
    entries = place.registry.referrers(place.repository, subject)
    if len(entries) > MAX_REFERRERS:
        raise ClosureIncomplete(
            f"{len(entries)} referrers, at most {MAX_REFERRERS} are read", where=f"{place}@{subject}"
        )
    for entry in entries:
        try:
            artifact = _open(place, entry, subject, artifact_type, limit)
        except (ContentError, NotFound) as error:
            damaged.append(str(error))
            continue
        if artifact is not None:
            artifacts.append(artifact)
    if damaged and not artifacts:
        raise ClosureIncomplete(
            f"no {artifact_type} can be read, and {len(damaged)} referrers are damaged: {damaged[0]}",
            where=f"{place}@{subject}",
            do="Attach the document again, then delete the damaged referrer",
        )
    return artifacts


def _open(place: Place, entry: Descriptor, subject: Digest, artifact_type: str, limit: int) -> Attached | None:
    stored = place.registry.get_manifest(place.repository, entry.digest)
    manifest = stored.content()
    if not isinstance(manifest, Manifest) or manifest.kind != artifact_type:
        return None
    if manifest.subject is None or manifest.subject.digest != subject or not manifest.layers:
        return None
    content = read_blob(place, manifest.layers[0], limit=limit)
    return Attached(stored.descriptor, manifest, content)
