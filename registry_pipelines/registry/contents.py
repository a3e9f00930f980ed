"""What a tag names, in a few numbers: for lists of tags."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from registry_pipelines.errors import ContentError, NotFound
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Index, Manifest
from registry_pipelines.oci.times import read_created
from registry_pipelines.registry.platforms import Entry, read_entries
from registry_pipelines.registry.protocol import Place


@dataclass(frozen=True)
class Contents:
    """An image, or an artifact, as a whole.

    kind: ``image``, ``index``, or the artifact's type. created: when the newest of its images was made, None when
    nobody says. size_bytes: its manifests, configs and layers, each once, without what refers to it. platforms: of its
    images. problem: why something of it could not be read, and is in no number here; empty else.
    """

    kind: str
    created: datetime | None = None
    size_bytes: int = 0
    platforms: tuple[str, ...] = ()
    problem: str = ""


def contents_of(place: Place, digest: Digest) -> Contents:
    """Read an image's manifests and configs: two requests for one platform, and two for each further. Raises
    RegistryError; what is wrong with the content is ``problem``."""
    try:
        top = place.registry.get_manifest(place.repository, digest)
        entries = read_entries(place, top)
    except (ContentError, NotFound) as error:
        return Contents("", problem=str(error))
    images = [entry for entry in entries if entry.kind == "image"]
    created = [made for each in images if each.config and (made := read_created(each.config.created))]
    sizes: Mapping[Digest, int] = {key: size for entry in entries for key, size in _sizes(entry).items()}
    return Contents(
        kind=_kind(entries[0]),
        created=max(created, default=None),
        size_bytes=sum(sizes.values()),
        platforms=tuple(dict.fromkeys(str(each.platform) for each in images if each.platform.os)),
        problem=next((str(each.problem) for each in images if each.problem), ""),
    )


def _kind(top: Entry) -> str:
    if isinstance(top.content, Manifest) and not top.content.is_image:
        return top.content.kind
    return "index" if isinstance(top.content, Index) else "image"


def _sizes(entry: Entry) -> dict[Digest, int]:
    below = (entry.content.config, *entry.content.layers) if isinstance(entry.content, Manifest) else ()
    return {entry.digest: entry.descriptor.size, **{each.digest: each.size for each in below if not each.urls}}
