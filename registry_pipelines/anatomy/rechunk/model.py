"""What a rechunking is told and what it answers. Sizes in bytes."""

from __future__ import annotations

from typing import Literal

import msgspec

from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.oci.platforms import Platform

Drop = Literal["caches", "weights"]
Times = Literal["fixed", "keep"]
How = Literal["present", "mounted", "uploaded"]


class RechunkOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How an image is rechunked."""

    drop: tuple[Drop, ...] = ()
    """`caches`: files of package managers' caches are left out. `weights`: files with weights of models are, by their
    content (`weights out` brings them out before); their folders stay, for volumes. Bytes that a later layer hides are
    in no merged image, so they are always gone."""
    times: Times = "fixed"
    """`fixed`: every file gets one date, and compiled Python modules that name the time of their source are made
    independent of it, so that a package's layer is the same in all images. `keep`: neither, and nothing is shared."""
    platforms: tuple[Platform, ...] = ()
    """Those of an index that are rechunked; others stay as they are. All unless told."""


class LayoutLayer(msgspec.Struct, frozen=True):
    """One layer of a layout."""

    name: str
    packages: tuple[str, ...]
    """Such as ``python numpy`` or ``deb libc6``; in parentheses what no package lists, by its class."""


class Layout(msgspec.Struct, frozen=True):
    """Which package is in which layer, base first."""

    layers: tuple[LayoutLayer, ...] = ()


class Dropped(msgspec.Struct, frozen=True, kw_only=True):
    """Files that were left out on request."""

    kind: str
    """As the advice of ``inspect --anatomy`` calls it."""
    files: int
    size: int
    examples: tuple[str, ...]


class RechunkedLayer(msgspec.Struct, frozen=True, kw_only=True):
    """One layer of the result."""

    name: str
    digest: Digest
    diff_id: Digest
    size: int
    tar_size: int
    how: How


class RechunkedImage(msgspec.Struct, frozen=True, kw_only=True):
    """One platform."""

    platform: str
    origin: Digest
    """Manifests, before and after."""
    derived: Digest
    origin_tree: Digest
    """Tree digest of all that the origin shows."""
    tree: Digest
    """The same without what was dropped: of the origin, and equal to it of the result, which was read back."""
    layout: Layout
    layers: tuple[RechunkedLayer, ...]
    size_before: int
    """Compressed."""
    size_after: int
    hidden: int
    """Unpacked bytes of files that later layers hid."""
    rewritten: int
    """Compiled Python modules whose flags, time and size of the source became "unchecked" and the source's hash."""
    dropped: tuple[Dropped, ...] = ()
    notes: tuple[str, ...] = ()


class Rechunked(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it."""

    origin: Digest
    derived: Digest
    descriptor: Descriptor
    """Of the derived manifest or index, stored at the target without a tag."""
    images: tuple[RechunkedImage, ...]
    bytes_sent: int = 0
    seconds: float = 0.0
    changed: bool = True
    """Whether anything was written."""
    notes: tuple[str, ...] = ()
