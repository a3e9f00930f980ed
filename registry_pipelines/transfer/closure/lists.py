"""Whether a target names the referrers that it holds.

Where a registry has no referrers API, the list is a tag that clients keep (distribution-spec 1.1, "Referrers Tag
Schema"), and a referrer that is there and on no list is found by nobody. ``crane copy --all-tags``, ``skopeo sync``
and ``regctl --digest-tags`` replace that tag by the source's, ``cosign copy`` puts the image itself under it, and a
kill can come between the artifact and its list (crane 0.20.7, skopeo 1.22, cosign 3.1.1, seen 2026-11).
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Collection, Mapping
from typing import Literal

from registry_pipelines.errors import ManifestInvalid, NotFound, RegistryPipelinesError
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Index
from registry_pipelines.registry.protocol import Place
from registry_pipelines.transfer.closure.closure import Closure

Keeper = Literal["registry", "tag"]
"""Who keeps the list of a manifest's referrers: the registry itself, which has the API, or clients, under a tag."""


def keeper_at(place: Place) -> Keeper | None:
    """Who keeps the lists of a repository, as far as its registry was found out; asks nothing."""
    has_api = place.registry.capabilities(place.repository).referrers_api
    return None if has_api is None else "registry" if has_api else "tag"


def find_keeper(place: Place, subject: Digest) -> Keeper | None:
    """Who keeps the lists of a repository; where that is not known, the registry is asked for one. None where its
    answer does not tell."""
    if keeper_at(place) is None:
        with contextlib.suppress(RegistryPipelinesError):
            place.registry.referrers(place.repository, subject, tags=())
    return keeper_at(place)


def referrers_by_subject(closure: Closure, among: Collection[Digest]) -> Mapping[Digest, set[Digest]]:
    """Subject to its referrers, of those that are ``among`` these digests."""
    referrers: dict[Digest, set[Digest]] = defaultdict(set)
    for referrer, subject in closure.subjects.items():
        if referrer in among:
            referrers[subject].add(referrer)
    return referrers


def named_at(place: Place, subject: Digest, keeper: Keeper | None) -> frozenset[Digest]:
    """The digests that a place names as referrers of a manifest; one request, where the keeper is known. A tag that
    gives anything but a list names none. Raises RegistryError."""
    if keeper != "tag":
        tags = None if keeper is None else ()
        return frozenset(item.digest for item in place.registry.referrers(place.repository, subject, tags=tags))
    try:
        content = place.registry.get_manifest(place.repository, subject.fallback_tag).content()
    except (NotFound, ManifestInvalid):
        return frozenset()
    return frozenset(item.digest for item in content.manifests) if isinstance(content, Index) else frozenset()


def unlisted_at(place: Place, closure: Closure, held: Collection[Digest], known: Keeper | None) -> set[Digest]:
    """Those of the closure's referrers that a place holds and does not name. held: manifests it has. known: who keeps
    its lists, as an earlier receipt says. Asks one request for each manifest with referrers, one more for the place
    where it is not known who keeps them, and none of a registry that is known to keep them itself."""
    lost: set[Digest] = set()
    for subject, referrers in referrers_by_subject(closure, held).items():
        keeper = known or keeper_at(place)
        if keeper == "registry":
            break
        lost |= referrers - named_at(place, subject, keeper)
    return lost
