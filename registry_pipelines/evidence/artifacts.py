"""Artifacts attached to a manifest by ``subject``: how evidence is stored (image-spec 1.1, "Guidelines for Artifact
Usage")."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from registry_pipelines.errors import ClosureIncomplete, NotFound
from registry_pipelines.evidence.model import Rejected
from registry_pipelines.evidence.referrers import open_referrers, read_layer
from registry_pipelines.oci import media_types
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor, Manifest, artifact_manifest
from registry_pipelines.progress import count_text
from registry_pipelines.registry.blobs import push_blob
from registry_pipelines.registry.protocol import Place

MAX_ARTIFACT_BYTES = 256 * 1024 * 1024
"""One attached document. SBOMs of 20 GB images reach 50 MiB."""

PREDICATE_ANNOTATION = "dev.sigstore.bundle.predicateType"
"""Of a bundle's manifest: the type of what it states."""


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
    layer = push_blob(place, content, media_type=media_type, made_now=True)
    manifest = artifact_manifest(artifact_type=artifact_type, layers=[layer], subject=subject, annotations=annotations)
    place.registry.put_manifest(place.repository, manifest)
    return manifest.descriptor


def attach_once(
    place: Place,
    *,
    subject: Descriptor,
    artifact_type: str,
    content: bytes,
    media_type: str,
    annotations: dict[str, str] | None = None,
) -> tuple[Descriptor, bool]:
    """As :func:`attach`, unless the very artifact is there; its descriptor, and whether it was attached now.

    It is there when its digest is listed **and** its manifest answers: a list may name what was deleted, and after a
    kill between the manifest and the fallback tag no list names what is stored. Other referrers are not opened.
    """
    layer = Descriptor(media_type=media_type, digest=Digest.of(content), size=len(content))
    expected = artifact_manifest(artifact_type=artifact_type, layers=[layer], subject=subject, annotations=annotations)
    if _is_there(place, subject.digest, expected.digest):
        return expected.descriptor, False
    descriptor = attach(
        place,
        subject=subject,
        artifact_type=artifact_type,
        content=content,
        media_type=media_type,
        annotations=annotations,
    )
    return descriptor, True


def attach_bundle(place: Place, *, subject: Descriptor, content: bytes, predicate_type: str) -> tuple[Descriptor, bool]:
    """A Sigstore bundle with one statement, with :func:`attach_once`: without its time, so that the same bundle is the
    same artifact wherever it is carried."""
    return attach_once(
        place,
        subject=subject,
        artifact_type=media_types.SIGSTORE_BUNDLE,
        content=content,
        media_type=media_types.SIGSTORE_BUNDLE,
        annotations=bundle_annotations(predicate_type),
    )


def bundle_annotations(predicate_type: str) -> dict[str, str]:
    """What cosign writes to a bundle's manifest, so that its kind is known without opening it."""
    return {"dev.sigstore.bundle.content": "dsse-envelope", PREDICATE_ANNOTATION: predicate_type}


def attached(
    place: Place,
    subject: Digest,
    *,
    artifact_type: str,
    limit: int = MAX_ARTIFACT_BYTES,
    known: Mapping[Digest, bytes] = MappingProxyType({}),
) -> list[Attached]:
    """The artifacts of a type that refer to ``subject``, in the registry's order. known: documents that the caller has,
    by their digest; they are not read again.

    Each manifest is opened: lists of referrers hold unsigned, sometimes wrong types (cosign 3.1.1 writes the empty
    media type). What says another subject is left out, and so is what is damaged or gone: a bad referrer must not
    hide a good one. Raises ClosureIncomplete when an artifact of the type exists but its document cannot be read, and
    no other could; the RegistryError family when anything is unclear. For several types at once, and the reason for
    each referrer that is left out, see ``referrers.read_artifacts``.
    """
    artifacts: list[Attached] = []
    damaged: list[Rejected] = []
    for referrer in open_referrers(place, subject):
        if isinstance(referrer, Rejected):
            damaged += [referrer] if referrer.damaged else []
        elif referrer.manifest.kind == artifact_type and referrer.manifest.layers:
            layer = referrer.manifest.layers[0]
            content = known.get(layer.digest) or read_layer(place, layer, limit=limit)
            if isinstance(content, Rejected):
                damaged.append(content)
            else:
                artifacts.append(Attached(referrer.descriptor, referrer.manifest, content))
    if damaged and not artifacts:
        raise ClosureIncomplete(
            f"no {artifact_type} can be read, and {count_text(len(damaged), 'referrer is', 'referrers are')} damaged: "
            f"{damaged[0]}",
            where=f"{place}@{subject}",
            do="Attach the document again, then delete the damaged referrer",
        )
    return artifacts


def _is_there(place: Place, subject: Digest, artifact: Digest) -> bool:
    if all(entry.digest != artifact for entry in place.registry.referrers(place.repository, subject)):
        return False
    try:
        place.registry.resolve(place.repository, artifact)
    except NotFound:
        return False
    return True
