"""Read what refers to a digest without letting one bad referrer hide a good one."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from registry_pipelines.errors import ClosureIncomplete, ContentError, NotFound
from registry_pipelines.evidence.bounds import MAX_BUNDLE_BYTES, MAX_REFERRERS
from registry_pipelines.evidence.model import Rejected
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor, Manifest
from registry_pipelines.progress import count_text
from registry_pipelines.registry.blobs import read_blob
from registry_pipelines.registry.protocol import Place


@dataclass(frozen=True)
class Referrer:
    """A manifest whose subject is the digest asked for; its bytes hash to its digest."""

    descriptor: Descriptor
    manifest: Manifest

    def carries(self, media_type: str) -> bool:
        """Whether it is an artifact of this type, or holds a layer of it: artifactType is written unreliably."""
        return self.manifest.kind == media_type or any(layer.media_type == media_type for layer in self.manifest.layers)


def open_referrers(place: Place, digest: Digest) -> Iterator[Referrer | Rejected]:
    """Every referrer, opened. The index entry's artifactType is not used: cosign 3.1.1 writes the empty media type into
    fallback indexes (fixed by sigstore/cosign#5098).

    A referrer that is gone, damaged or about something else is Rejected. Raises RegistryError when the registry does
    not answer: "unreachable" is never taken for "none". Raises ClosureIncomplete when there are more than
    MAX_REFERRERS: the one that denies could be among those that are not opened.
    """
    listed = place.registry.referrers(place.repository, digest)
    if len(listed) > MAX_REFERRERS:
        raise ClosureIncomplete(
            f"{count_text(len(listed), 'referrer is', 'referrers are')} listed, at most {MAX_REFERRERS} are opened",
            where=f"{place}@{digest}",
            do="Delete referrers that are no evidence, or old reports and verdicts",
        )
    for descriptor in listed:
        yield _open(place, digest, descriptor)


def read_artifacts(
    place: Place, digest: Digest, *, kinds: Collection[str]
) -> tuple[dict[str, list[tuple[Descriptor, bytes]]], list[Rejected]]:
    """Unsigned artifacts about ``digest``: for each kind (artifact type) the manifests and their one layer's bytes.

    Every referrer that cannot be read is named in the second value; the others are still found. Raises RegistryError.
    """
    by_kind: dict[str, list[tuple[Descriptor, bytes]]] = {kind: [] for kind in kinds}
    rejected: list[Rejected] = []
    for referrer in open_referrers(place, digest):
        if isinstance(referrer, Rejected):
            rejected.append(referrer)
        elif referrer.manifest.kind in by_kind:
            content = _only_layer(place, referrer)
            if isinstance(content, Rejected):
                rejected.append(content)
            else:
                by_kind[referrer.manifest.kind].append((referrer.descriptor, content))
    return by_kind, rejected


def read_layer(place: Place, layer: Descriptor, *, limit: int) -> bytes | Rejected:
    """The verified bytes of a layer, or why not. Raises RegistryError when the registry does not answer."""
    if not 0 <= layer.size <= limit:
        return Rejected(str(layer.digest), f"the content has {layer.size} bytes, at most {limit} are read")
    try:
        return read_blob(place, layer, limit=limit)
    except (ContentError, NotFound) as error:
        return Rejected(str(layer.digest), error.what)


def _only_layer(place: Place, referrer: Referrer) -> bytes | Rejected:
    layers = referrer.manifest.layers
    if len(layers) != 1:
        return Rejected(str(referrer.descriptor.digest), f"it has {count_text(len(layers), 'layer')}, expected one")
    return read_layer(place, layers[0], limit=MAX_BUNDLE_BYTES)


def _open(place: Place, digest: Digest, descriptor: Descriptor) -> Referrer | Rejected:
    try:
        stored = place.registry.get_manifest(place.repository, descriptor.digest)
        content = stored.content()
    except (ContentError, NotFound) as error:
        return Rejected(str(descriptor.digest), error.what, damaged=True)
    if not isinstance(content, Manifest):
        return Rejected(str(descriptor.digest), "it is an index, not an artifact manifest")
    if content.subject is None or content.subject.digest != digest:
        return Rejected(str(descriptor.digest), f"its `subject` is not {digest}")
    return Referrer(stored.descriptor, content)
