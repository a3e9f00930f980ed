"""A release: one digest of an image that is meant to ship. Its key is the Dagster partition key."""

from __future__ import annotations

import re

import msgspec

from registry_pipelines.errors import InputError, TagImmutable
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.references import check_tag

IMAGE_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}\Z")
"""Image names are partition keys, run tags and asset names, so they keep to what all of these permit."""

_FIXED_TAG = re.compile(r"v?\d+(\.\d+)*([-_.+].*)?\Z|sha\d+-.*\Z")
"""Tags that begin like a version (``1.x``) or name a digest."""


class Release(msgspec.Struct, frozen=True):
    """``image:tag@sha256:<hex>``: an image of the configuration, its version tag, its top digest.

    The top digest is the index when there are several platforms.
    """

    image: str
    tag: str
    digest: Digest

    @classmethod
    def parse(cls, key: str) -> Release:
        """Read a key. Raises InputError."""
        name, at, digest = key.partition("@")
        image, colon, tag = name.partition(":")
        if not (at and colon and IMAGE_NAME.match(image)):
            raise InputError(f"{key[:200]!r} is not a release key", do="Write image:tag@sha256:<64 hex digits>")
        return cls(image, check_tag(tag), Digest.parse(digest))

    @property
    def key(self) -> str:
        """The partition key."""
        return f"{self.image}:{self.tag}@{self.digest}"

    def __str__(self) -> str:
        return self.key


def is_version_tag(tag: str) -> bool:
    """Whether a tag begins like a version or names a digest. Such a tag never moves, and is a release's unless its
    image says otherwise."""
    from registry_pipelines.oci.tags import read_version  # ten patterns, which most tags need not

    return bool(_FIXED_TAG.match(tag) or read_version(tag))


def check_channel(channel: str, release: Release | None = None) -> str:
    """Return ``channel`` when promotion may move it. Raises TagImmutable for a version tag, ReferenceInvalid."""
    check_tag(channel)
    if is_version_tag(channel) or (release is not None and channel == release.tag):
        raise TagImmutable(
            f"{channel!r} is a version tag; those never move",
            do="Promote to a channel with a word for a name, like staging or prod",
        )
    return channel
