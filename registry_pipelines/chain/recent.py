"""The last releases of an image as blobs: what one has, what it moves, and how often there is one.

Manifests and configs alone are read, so that it costs a few small requests for each release.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise

import msgspec

from registry_pipelines.chain.releases import releases_of
from registry_pipelines.chain.session import Session
from registry_pipelines.config import Image
from registry_pipelines.errors import ContentError, NotFound
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.tags import order_key
from registry_pipelines.oci.times import read_created
from registry_pipelines.registry.platforms import read_images
from registry_pipelines.registry.protocol import Place
from registry_pipelines.release import Release
from registry_pipelines.report.arithmetic import DAYS
from registry_pipelines.threads import Pool

LAST = 10
"""Releases that are looked at."""
_THREADS = 8
_DAY_S = 86_400
_SAME_S = 60
"""Images that were made within so many seconds of each other have a date that stands for none."""


class ReleaseBlobs(msgspec.Struct, frozen=True, kw_only=True):
    """What one release needs. blobs: layers and configs of all platforms, with their bytes. largest: bytes of its
    largest platform's, which is what one node fetches at most. created: None where its images do not say."""

    release: Release
    blobs: dict[Digest, int]
    largest: int
    created: datetime | None


class Recent(msgspec.Struct, frozen=True, kw_only=True):
    """The last releases, the newest first. notes: what could not be looked at."""

    releases: tuple[ReleaseBlobs, ...]
    notes: tuple[str, ...] = ()

    @property
    def moves(self) -> list[int]:
        """Bytes that each release but the oldest moved to where the one before it was, the newest first."""
        return [
            sum(size for digest, size in new.blobs.items() if digest not in old.blobs)
            for new, old in pairwise(self.releases)
        ]

    @property
    def moved(self) -> float | None:
        """Bytes that one release moved on average; None where there are not two."""
        moves = self.moves
        return sum(moves) / len(moves) if moves else None

    @property
    def per_month(self) -> float | None:
        """Releases a month, by the dates of the images; None where there are not two that differ."""
        dates = [each.created for each in self.releases if each.created is not None]
        span_s = (max(dates) - min(dates)).total_seconds() if len(dates) == len(self.releases) > 1 else 0.0
        return (len(dates) - 1) * DAYS * _DAY_S / span_s if span_s > _SAME_S else None

    @property
    def held(self) -> int:
        """Bytes of all of them, each blob once."""
        return sum({digest: size for each in self.releases for digest, size in each.blobs.items()}.values())

    @property
    def why(self) -> str:
        """Why :attr:`moved` or :attr:`per_month` is not known; empty where both are."""
        if len(self.releases) < 2:
            return "there are not two releases to compare"
        return "" if self.per_month is not None else "its images have no dates that tell how often it is released"


def recent(session: Session, image: Image, last: int = LAST) -> Recent:
    """The last releases of an image of the configuration. Raises RegistryError."""
    releases = sorted(releases_of(session, image), key=lambda each: order_key(each.tag), reverse=True)[:last]
    return read_recent(session.places.source(image), releases)


def read_recent(place: Place, releases: Sequence[Release]) -> Recent:
    """The same of some releases, the newest first. One that is gone or cannot be read is a note. Raises
    RegistryError."""

    def read(release: Release) -> ReleaseBlobs | str:
        try:
            return _blobs(place, release)
        except (NotFound, ContentError) as error:
            return f"{release.key}: {error.what}"

    with Pool(_THREADS, "releases") as pool:
        found = list(pool.map(read, releases))
    return Recent(
        releases=tuple(each for each in found if isinstance(each, ReleaseBlobs)),
        notes=tuple(f"not looked at: {each}" for each in found if isinstance(each, str)),
    )


def _blobs(place: Place, release: Release) -> ReleaseBlobs:
    entries = read_images(place, place.registry.get_manifest(place.repository, release.digest))
    needed = [{each.digest: each.size for each in (one.manifest.config, *one.manifest.layers)} for one in entries]
    dates = [read_created(one.config.created) for one in entries if one.config]
    known = [each for each in dates if each is not None]
    return ReleaseBlobs(
        release=release,
        blobs={digest: size for each in needed for digest, size in each.items()},
        largest=max((sum(each.values()) for each in needed), default=0),
        created=max(known, default=None),
    )


__all__ = ["LAST", "Recent", "ReleaseBlobs", "read_recent", "recent"]
