"""What an index names beside the images that are rechunked: brought to another target as it is."""

from __future__ import annotations

from collections.abc import Collection

from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor, Index, Manifest
from registry_pipelines.registry.image_warnings import is_foreign
from registry_pipelines.registry.platforms import Entry, read_entries
from registry_pipelines.registry.protocol import Place
from registry_pipelines.stream.pushing import put_missing
from registry_pipelines.stream.source import Source
from registry_pipelines.transfer.uploads import Uploads, Wanted


def carry_others(place: Place, uploads: Uploads, source: Source, made: Collection[Digest]) -> list[str]:
    """Have at the target what the new indexes still name. made: manifests that get new ones. Returns notes: images that
    stay as they are. Raises RegistryError, ContentError, LocalError."""
    others = [entry for entry in read_entries(place, source.top) if entry.digest not in made and entry.listed]
    manifests = [entry for entry in others if isinstance(entry.content, Manifest)]
    if (place.registry.name, place.repository) != (uploads.target.registry.name, uploads.target.repository):
        for entry in manifests:
            _carry(place, uploads, entry)
        for entry in others:
            if not isinstance(entry.content, Manifest | Index):
                uploads.bring([Wanted(place, entry.descriptor, f"copy {entry.digest.short}", (place.repository,))])
    return [f"{entry.platform} stays as it is" for entry in manifests if entry.kind == "image"]


def _carry(place: Place, uploads: Uploads, entry: Entry) -> None:
    assert isinstance(entry.content, Manifest)  # noqa: S101 - asked before
    blobs: dict[Digest, Descriptor] = {}
    for each in (entry.content.config, *entry.content.layers):
        if each is not None and not is_foreign(each):
            blobs[each.digest] = each
    uploads.bring([Wanted(place, each, f"copy {each.digest.short}", (place.repository,)) for each in blobs.values()])
    put_missing(uploads.target, place.registry.get_manifest(place.repository, entry.digest))
