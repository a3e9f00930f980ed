"""Whether the newest image that stays is whole: the last good one is not let go before that is known.

A rule that keeps the newest image counts what has a tag. A registry may have taken that tag without its content (a
layer lost by a collector or a disk, a copy that broke off), and then the older images are the last that start.
"""

from __future__ import annotations

from concurrent.futures import Executor
from contextlib import suppress

from registry_pipelines.collect.plan import RepositoryPlan
from registry_pipelines.errors import ContentError, NotFound
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor, Index, descriptors
from registry_pipelines.registry.protocol import Place

NEWEST = "number 1 of the newest "
"""How the reason begins of what a rule keeps as the newest (``reasons``)."""


def check_newest(place: Place, planned: RepositoryPlan, pool: Executor) -> None:
    """Ask for every blob of the images that rules keep as the newest. Platforms that an index lists and that are not
    there are no fault, as of a copy of chosen platforms; an index of which none is there is. Raises ContentError where
    something is not there, RegistryError."""
    for entry in planned.entries:
        if any(reason.startswith(NEWEST) for reason in entry.reasons):
            lacks = _lacks(place, entry.digest, pool)
            if lacks:
                raise ContentError(
                    f"{', '.join(entry.tags) or entry.digest}, the newest image that stays, is not whole: {lacks} is "
                    "not there, so nothing older goes",
                    where=str(place),
                    do="Push it again, or delete it; then make a new plan",
                )


def _lacks(place: Place, top: Digest, pool: Executor) -> str:
    blobs: dict[Digest, Descriptor] = {}
    waiting, seen, images = [top], {top}, 0
    while waiting:
        with suppress(NotFound):
            content = place.registry.get_manifest(place.repository, waiting.pop()).content()
            below = [one for one in descriptors(content) if not one.urls]
            if isinstance(content, Index):
                waiting += [one.digest for one in below if one.digest not in seen]
                seen.update(one.digest for one in below)
            else:
                images += 1
                blobs.update((one.digest, one) for one in below)
    if not images and len(seen) > 1:
        return "every platform"
    sizes = pool.map(lambda digest: place.registry.blob_size(place.repository, digest), blobs)
    return next((str(one) for one, size in zip(blobs, sizes, strict=True) if size is None), "")
