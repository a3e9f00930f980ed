"""What a tag or digest names in a repository, and how a tag is made to name something."""

from __future__ import annotations

from typing import NamedTuple

from registry_pipelines.errors import NotFound, Unavailable
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import ManifestBytes
from registry_pipelines.registry.protocol import Place


def digest_at(place: Place, reference: str) -> Digest | None:
    """The digest of the manifest that a tag or digest names at a place; None without one. Asked by whoever takes "not
    there" for an answer. One request; raises the RegistryError family but NotFound."""
    try:
        return place.registry.resolve(place.repository, reference).digest
    except NotFound:
        return None


class Tagged(NamedTuple):
    """What became of a tag. changed: it names the manifest since now. replaced: what it named before, where that was
    another."""

    changed: bool
    replaced: Digest | None


def tag_content(place: Place, manifest: ManifestBytes, tag: str) -> Tagged:
    """Put a manifest under a tag unless the tag names it already; what it needs is there. Raises RegistryError."""
    before = digest_at(place, tag)
    if before == manifest.digest:
        return Tagged(changed=False, replaced=None)
    place.registry.put_manifest(place.repository, manifest, tag=tag)
    return Tagged(changed=True, replaced=before)


def told_replaced(before: Digest | None) -> list[str]:
    """A line for people where a tag was moved away from something else, as of :class:`Tagged`."""
    return [f"the tag named another before: {before}"] if before else []


def put_tag(place: Place, manifest: ManifestBytes, tag: str) -> None:
    """Make a tag name a manifest that is there, and read it back. Who may, is the caller's to ask. Raises Unavailable
    where it names something else afterwards, TagImmutable, RegistryError."""
    place.registry.put_manifest(place.repository, manifest, tag=tag)
    named = digest_at(place, tag)
    if named != manifest.digest:
        raise Unavailable(
            f"the tag names {named or 'nothing'} after it was moved: another program moves it too",
            where=f"{place}:{tag}",
            do="Try again; let one program at a time move a tag",
        )
