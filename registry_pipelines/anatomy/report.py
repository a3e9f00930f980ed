"""The anatomy of one image, as it is printed. All sizes are bytes, all seconds are of one core or one link."""

from __future__ import annotations

from typing import Literal

import msgspec

from registry_pipelines.scan.advice.document import Advice
from registry_pipelines.scan.facts import FoundWeights

LayerClass = Literal["base OS", "system libraries", "runtime", "dependencies", "application", "weights"]
"""``system libraries``: CUDA, cuDNN, NCCL, ROCm and what comes with them, whoever brings them. ``runtime``: an
interpreter with its own library. ``dependencies``: what a language's package manager installed."""

Gone = Literal["", "overwritten", "deleted"]


class FilePart(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One regular file, as one layer brings it."""

    path: str
    also: tuple[str, ...] = ()
    """Its other names: hard links, in its own layer or above. ``path`` is one that stands, and that a package lists."""
    removed: tuple[str, ...] = ()
    """Of all its names those that a later layer overwrites or deletes, while another stands."""
    layer: int
    """From 1 for the base."""
    class_: LayerClass = msgspec.field(name="class")
    owner: str = ""
    """``deb libc6``, ``python numpy 2.1.0``; empty: no package lists it. Of rpm and apk only the manager is told where
    the database of a scan does not keep whose file it is."""
    more_owners: tuple[str, ...] = ()
    """Others that list it, too."""
    size: int
    compressed: int
    """Its share of the layer's stored bytes, with its header: exact of plain tar, else an estimate, and so is all that
    is summed of it: straight between places that the pass noted every 4 to 8 MiB of the tar."""
    gone: Gone = ""
    gone_by: int = 0
    """The layer that overwrites or deletes it."""
    mode: int = 0
    weights: FoundWeights | None = None
    """What its content says of weights of a model; None of all other files."""
    crc32: str = ""
    """Of its content, eight hex digits; with the size it tells which files are equal."""

    @property
    def standing(self) -> tuple[str, ...]:
        """The names by which a container finds it; of one that is gone all that it had."""
        if not self.also:
            return (self.path,)
        removed = frozenset(self.removed)
        return tuple(name for name in (self.path, *self.also) if name not in removed)


class Sum(msgspec.Struct, frozen=True, kw_only=True):
    """Files of one class, or of one package."""

    name: str
    files: int
    size: int
    compressed: int
    gone: int
    """Unpacked bytes of those that a later layer overwrites or deletes, in ``size`` too."""
    gone_compressed: int


class Package(msgspec.Struct, frozen=True, kw_only=True):
    """Files of one package in one class."""

    class_: LayerClass = msgspec.field(name="class")
    owner: str
    size: int
    gone: int


class LayerPart(msgspec.Struct, frozen=True, kw_only=True):
    """One layer."""

    number: int
    digest: str
    compressed: int
    """As stored."""
    unpacked: int
    """Of the tar; 0: nobody here can read it."""
    compression: str
    files: int
    gone: int
    gone_compressed: int
    classes: dict[str, int]
    """Class to unpacked bytes."""
    wire_s: float
    inflate_s: float | None
    """Of one core, an estimate by fixed rates; None: not known for this compression."""
    made_by: str
    """What the image's history says of it."""
    problem: str = ""
    """Why it was not read."""


class Equal(msgspec.Struct, frozen=True, kw_only=True):
    """Files with the same content that all stand in the image."""

    crc32: str
    size: int
    """Of one."""
    copies: int
    wasted: int
    """Unpacked bytes of all but one."""
    wasted_compressed: int
    layers: tuple[int, ...]
    paths: tuple[str, ...]
    """Some of them."""


class LayerShare(msgspec.Struct, frozen=True, kw_only=True):
    """Who else has one layer."""

    number: int
    images: int
    """Other images with the same bytes of it."""
    elsewhere: int
    """Other repositories that they are in."""
    repacked: int
    """Images that have the same files of it compressed otherwise (equal diffIDs): a registry keeps both."""
    file_bytes: int | None
    """Of one that no other image has: unpacked bytes of its files that stand in other images' layers, too, as far as
    those were read here. None: not asked, or not known."""
    examples: tuple[str, ...]
    """Some of these images."""


class Sharing(msgspec.Struct, frozen=True, kw_only=True):
    """What the image shares with its registry's other images, in stored bytes where nothing else is said."""

    source: str
    """``listing``: the registry was asked; else the inventory's file."""
    images: int
    """Other images that were looked at."""
    repositories: int
    """That they are in."""
    shared: int
    """Of layers that another image has: the registry keeps them once."""
    elsewhere: int
    """Those of them that an image of another repository has."""
    repacked: int
    """Of layers that no other image has, but for the compression."""
    file_bytes: int
    """Unpacked, of files in layers of its own that stand in other images, too."""
    layers_read: int
    """Other images' layers whose files are known."""
    layers: tuple[LayerShare, ...]
    not_looked: tuple[str, ...]
    """What was left out, a sentence each: more may be shared than is told."""


class ReleaseMove(msgspec.Struct, frozen=True, kw_only=True):
    """What one release brought that the one before it does not have."""

    tag: str
    compressed: int
    """Of all its layers."""
    moved: int | None
    """Stored bytes; None for the oldest that was looked at."""
    layers: int | None


class LayerChange(msgspec.Struct, frozen=True, kw_only=True):
    """How often one layer changed."""

    number: int
    changed: int
    """Releases that brought another one in its place."""
    moved: int
    """Stored bytes that a release moved of it on average."""


class Changes(msgspec.Struct, frozen=True, kw_only=True):
    """What the last releases moved, in stored bytes."""

    releases: tuple[ReleaseMove, ...]
    """The newest first; the image itself is the first."""
    moved: int
    """Of one release on average."""
    layers: tuple[LayerChange, ...]
    classes: dict[str, int]
    """Class to bytes that a release moved of it on average: an estimate, by the classes of the layers of today."""
    elsewhere: int
    """Of one release on average, in layers in whose place the image has none."""
    notes: tuple[str, ...]
    """Releases that could not be looked at."""


class Anatomy(msgspec.Struct, frozen=True, kw_only=True):
    """One image."""

    image: str
    digest: str
    platform: str
    compressed: int
    unpacked: int
    """Of all regular files in all layers."""
    seen: int
    """Of those that a container sees."""
    gone: int
    gone_compressed: int
    wasted: int = 0
    """Stored bytes of all that need not be there, each file once; an estimate, as they are."""
    wasted_unpacked: int = 0
    unread: tuple[str, ...] = ()
    """Why some of it was not looked at; empty: all was."""
    link_gbit: float
    """Of ``wire_s``."""
    read_layers: int
    """Layers that had to be fetched; 0: all were known from a scan, an index or an anatomy before."""
    layers: tuple[LayerPart, ...]
    classes: tuple[Sum, ...]
    owners: tuple[Sum, ...]
    """By bytes, the largest first; all of them."""
    packages: tuple[Package, ...]
    """Owners by class: CUDA's libraries in a package of torch are apart from its others."""
    equal: tuple[Equal, ...]
    advice: tuple[Advice, ...]
    largest: tuple[FilePart, ...]
    files: tuple[FilePart, ...] = ()
    """All of them, in the order of the layers; only where they were asked for."""
    sharing: Sharing | None = None
    """Only where it was asked for, and so is ``changes``."""
    changes: Changes | None = None
