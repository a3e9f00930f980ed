"""What goes into a bundle: the closures of what is wanted, less what the far side's receipt says it has."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from registry_pipelines.errors import RegistryPipelinesError
from registry_pipelines.mirror.bundle.format import (
    SCHEMA,
    Base,
    Bundle,
    BundleBlob,
    BundleImage,
    LeftOut,
    Need,
    ToolFile,
)
from registry_pipelines.mirror.bundle.receipt import SignedReceipt
from registry_pipelines.mirror.bundle.stream import lay_out
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.oci.platforms import Platform
from registry_pipelines.registry.protocol import Place
from registry_pipelines.threads import Pool
from registry_pipelines.transfer.closure.closure import Closure
from registry_pipelines.transfer.closure.discovery import DISCOVERY_THREADS, discover
from registry_pipelines.transfer.closure.manifests import ManifestFolder
from registry_pipelines.transfer.closure.platforms import Selection


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """An image, a release or an artifact that crosses."""

    place: Place
    """Where it is read."""
    reopen: str
    """By which the place is opened again, in a later run: ``<registry of the configuration>/<repository>``."""
    digest: Digest
    repository: str
    """What it is called at the far side."""
    tags: tuple[str, ...]
    source: str = ""
    """Where it came from, for people; the place itself unless told."""
    platforms: tuple[Platform, ...] = ()
    selection: Selection = "sparse"
    foreign_layers: bool = False

    @property
    def name(self) -> str:
        """For people: ``docker.io/library/python:3.12``."""
        return f"{self.source or self.place}{f':{self.tags[0]}' if self.tags else f'@{self.digest}'}"


@dataclass
class Gathered:
    """The closures of all that is wanted, as they were found. Nothing of one that could not be read whole is in it."""

    images: list[BundleImage] = field(default_factory=list)
    manifests: dict[Digest, BundleBlob] = field(default_factory=dict)
    """In an order in which registries take them."""
    blobs: dict[Digest, BundleBlob] = field(default_factory=dict)
    """Configs and layers, in the order of the images."""
    origins: dict[Digest, str] = field(default_factory=dict)
    """Manifest or blob to the ``reopen`` of a place that has it."""
    left_out: list[LeftOut] = field(default_factory=list)
    problems: list[tuple[str, RegistryPipelinesError]] = field(default_factory=list)
    """What could not be read, by its name, and why."""


class Draft(msgspec.Struct, frozen=True, kw_only=True):
    """A bundle that is planned: what it will hold is fixed, and its parts are still to be written. origins: places by
    their ``reopen``; at: manifest or blob to its position in it."""

    bundle: Bundle
    """Without parts."""
    origins: tuple[str, ...]
    at: dict[str, int]

    def reopen(self, digest: Digest) -> str:
        """Of a place that has a manifest or blob."""
        return self.origins[self.at[digest]]


def gather(wanted: Sequence[Wanted], *, cache: ManifestFolder | None = None) -> Gathered:
    """Find the closures: manifests and referrers are read, no blobs. What cannot be read whole is a problem, and does
    not hold the others up."""
    gathered = Gathered()
    with Pool(DISCOVERY_THREADS, "bundle") as pool:
        found = list(pool.map(lambda each: _find(each, cache), wanted))
    taken: dict[tuple[str, Digest, tuple[str, ...]], int] = {}
    for each, closure in zip(wanted, found, strict=True):
        if isinstance(closure, RegistryPipelinesError):
            gathered.problems.append((each.name, closure))
            gathered.left_out.append(LeftOut(image=each.name, kind="failed", what=each.digest, why=closure.what))
            continue
        _take(gathered, each, closure, taken)
    return gathered


def _find(wanted: Wanted, cache: ManifestFolder | None) -> Closure | RegistryPipelinesError:
    try:
        return discover(
            wanted.place,
            wanted.digest,
            platforms=wanted.platforms,
            selection=wanted.selection,
            cache=cache,
            foreign_layers=wanted.foreign_layers,
        )
    except RegistryPipelinesError as error:
        return error


def _take(
    gathered: Gathered, wanted: Wanted, closure: Closure, taken: dict[tuple[str, Digest, tuple[str, ...]], int]
) -> None:
    platforms = tuple(map(str, wanted.platforms)) if closure.absent else ()
    key = (wanted.repository, closure.root.digest, platforms)
    if key in taken:
        known = gathered.images[taken[key]]
        tags = tuple(dict.fromkeys((*known.tags, *wanted.tags)))
        gathered.images[taken[key]] = msgspec.structs.replace(known, tags=tags)
    else:
        taken[key] = len(gathered.images)
        gathered.images.append(_image(wanted, closure, platforms))
    for manifest in closure.manifests:
        digest, size = manifest.digest, len(manifest.raw)
        gathered.manifests.setdefault(
            digest, BundleBlob(digest=digest, size=size, offset=0, media_type=manifest.media_type)
        )
        gathered.origins.setdefault(digest, wanted.reopen)
    for blob in closure.blobs.values():
        gathered.blobs.setdefault(blob.digest, BundleBlob(digest=blob.digest, size=blob.size, offset=0))
        gathered.origins.setdefault(blob.digest, wanted.reopen)
    gathered.left_out += [
        LeftOut(image=wanted.name, kind=each.kind, what=each.what, why=each.why, size_bytes=each.size_bytes)
        for each in closure.omissions
    ]


def _image(wanted: Wanted, closure: Closure, platforms: tuple[str, ...]) -> BundleImage:
    root: Descriptor = closure.root
    top = next(each for each in closure.manifests if each.digest == root.digest)
    return BundleImage(
        repository=wanted.repository,
        digest=top.digest,
        media_type=top.media_type,
        size=len(top.raw),
        tags=wanted.tags,
        source=wanted.source or str(wanted.place),
        manifests=tuple(each.digest for each in closure.manifests),
        digest_tags=dict(closure.digest_tags),
        platforms=platforms,
        foreign_layers=wanted.foreign_layers,
    )


@dataclass(frozen=True, kw_only=True)
class Numbered:
    """What a new bundle is called, and what stands in its document beside its content."""

    mirror: str
    line: str
    number: int
    made_at: str
    part_size: int
    receipt: SignedReceipt | None = None
    """What the far side has; None makes a full bundle."""
    brought: Mapping[str, int] = field(default_factory=dict)
    """Blob to the bundle of this line that brought it first, as far as that is known."""
    left_out: Iterable[LeftOut] = ()
    """Beside what the closures leave out."""
    tool: tuple[ToolFile, ...] = ()
    tool_image: str = ""
    notes: tuple[str, ...] = ()


def compose(gathered: Gathered, named: Numbered) -> Draft:
    """The bundle of what was gathered: laid out to the last byte, without its parts."""
    held = named.receipt.receipt.holders() if named.receipt else {}
    needs = tuple(
        Need(digest=blob.digest, size=blob.size, repository=held[blob.digest], number=named.brought.get(blob.digest, 0))
        for blob in gathered.blobs.values()
        if blob.digest in held
    )
    sent = [
        blob for blob in gathered.blobs.values() if blob.digest not in held and blob.digest not in gathered.manifests
    ]
    stream = lay_out(gathered.images, [*gathered.manifests.values(), *sent])
    places = list(dict.fromkeys(gathered.origins.values()))
    position = {place: at for at, place in enumerate(places)}
    bundle = Bundle(
        schema=SCHEMA,
        mirror=named.mirror,
        line=named.line,
        number=named.number,
        made_at=named.made_at,
        stream_size=stream.size,
        part_size=named.part_size,
        parts=(),
        blobs=stream.blobs,
        images=tuple(gathered.images),
        needs=needs,
        receipt=_base(named.receipt),
        left_out=tuple(dict.fromkeys((*gathered.left_out, *named.left_out))),
        tool=named.tool,
        tool_image=named.tool_image,
        notes=named.notes,
    )
    return Draft(
        bundle=bundle,
        origins=tuple(places),
        at={digest: position[place] for digest, place in gathered.origins.items()},
    )


def _base(receipt: SignedReceipt | None) -> Base | None:
    if receipt is None:
        return None
    return Base(far=receipt.receipt.far, sequence=receipt.receipt.sequence, sha256=receipt.sha256)
