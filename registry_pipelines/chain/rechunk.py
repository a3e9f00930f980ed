"""Layers of a package each: make a release of what was pushed whose layers stay where they are from one to the next."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from registry_pipelines.chain.releases import names_origin
from registry_pipelines.chain.result import Scalar, StageResult
from registry_pipelines.chain.session import Session
from registry_pipelines.chain.stream import Tools
from registry_pipelines.config import Image
from registry_pipelines.errors import ContentError, InputError, NotFound
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.oci.tags import order_key
from registry_pipelines.progress import count_text, size_text
from registry_pipelines.registry.platforms import images_of, read_entries
from registry_pipelines.registry.protocol import Place
from registry_pipelines.registry.tags import digest_at
from registry_pipelines.release import Release
from registry_pipelines.stream.model import RECHUNKED
from registry_pipelines.stream.rechunk_record import RechunkedPlatform
from registry_pipelines.transfer.closure.listed import list_tags
from registry_pipelines.transfer.closure.selector import ALL

if TYPE_CHECKING:  # what makes layers is loaded by what does
    from registry_pipelines.anatomy.rechunk.model import RechunkOptions
    from registry_pipelines.anatomy.rechunk.release import Lender, RechunkResult
    from registry_pipelines.anatomy.rechunk.section import Rechunk

EARLIER = 5
"""Releases of the image, the newest before this one first, that are asked for a layout."""
SUFFIX = f"-{RECHUNKED}"


def rechunk(session: Session, name: str, tag: str, wanted: Rechunk | None = None) -> StageResult:
    """Make of the image that was pushed under ``tag`` one whose layers are a package each, as ``rechunk`` of the image
    says, or ``wanted``.

    ``facts["release"]`` is the key of what was made: of a release, or of what one is derived of (``stream``). A row for
    each layer, ``tables["platforms"]`` has each platform before and after. Raises InputError (nothing says how, no key
    of the indexer is here), TagImmutable, NotFound, LayerInvalid, RegistryError.
    """
    image = session.image(name)
    told = wanted or image.rechunk
    if told is None:
        raise InputError(f"images.{name} has no `rechunk`", do=f"Write images.{name}.rechunk: {{}} for the defaults")
    place = session.places.source(image)
    tag = tag.removesuffix(SUFFIX)
    origin = place.registry.resolve(place.repository, tag)
    lends = _previous(session, place, image, tag, told.previous)
    previous = (place, lends) if lends else None
    result = _made(place, origin, f"{tag}{SUFFIX}", told.options, Tools.of(session), previous=previous)
    made = Release(name, result.tag, result.rechunked.digest)
    return _told(f"{name}:{tag}", place, result, previous, release=made.key)


def rechunk_any(
    place: Place,
    selector: str,
    tag: str,
    wanted: RechunkOptions,
    tools: Tools,
    *,
    target: Place | None = None,
    previous: tuple[Place, str] | None = None,
) -> StageResult:
    """The same of any image. tag: what is made gets. target: where it goes; beside the image unless told. previous:
    where what lends its layout is, and its tag or digest."""
    origin = place.registry.resolve(place.repository, selector)
    lends = (
        (previous[0], previous[0].registry.resolve(previous[0].repository, previous[1]).digest) if previous else None
    )
    result = _made(place, origin, tag, wanted, tools, target=target, previous=lends)
    return _told(f"{place}@{origin.digest}", place, result, lends, release="")


def _made(
    place: Place,
    origin: Descriptor,
    tag: str,
    wanted: RechunkOptions,
    tools: Tools,
    *,
    target: Place | None = None,
    previous: Lender | None,
) -> RechunkResult:
    from registry_pipelines.anatomy.rechunk.release import rechunk_release

    return rechunk_release(
        place,
        origin,
        tag,
        wanted,
        target=target,
        previous=previous,
        state=tools.state,
        signer=tools.signer,
        engine=tools.engine,
        progress=tools.progress,
    )


def _previous(session: Session, place: Place, image: Image, tag: str, told: str) -> Digest | None:
    """Top digest of the image that lends its layout. Raises NotFound: no such tag; RegistryError."""
    from registry_pipelines.anatomy.rechunk.engine import read_layouts
    from registry_pipelines.anatomy.rechunk.section import AUTOMATIC, NO_LAYOUT

    if told == NO_LAYOUT:
        return None
    if told != AUTOMATIC:
        return place.registry.resolve(place.repository, told).digest
    listed = (each.removesuffix(SUFFIX) for each in list_tags(place, ALL).every if each.endswith(SUFFIX))
    older = sorted(
        (each for each in listed if names_origin(image, each) and order_key(each) < order_key(tag)), key=order_key
    )
    tags = [*(f"{each}{SUFFIX}" for each in older[: -EARLIER - 1 : -1]), *(each.name for each in reversed(image.order))]
    own = digest_at(place, f"{tag}{SUFFIX}")
    for digest in dict.fromkeys(digest_at(place, each) for each in tags):
        if digest is None or digest == own:
            continue
        try:
            if read_layouts(place, digest):
                return digest
        except (ContentError, NotFound):
            continue  # what cannot be read lends nothing
    return None


def _told(subject: str, place: Place, result: RechunkResult, previous: Lender | None, *, release: str) -> StageResult:
    """What was made of an image as a result. release: the key of what was made; empty for an image that is none of the
    configuration's."""
    record = result.record
    there = _layers_of(*previous) if previous else frozenset[str]()
    before = _counts(place, record.origin)
    rows = [row for platform in record.platforms for row in _rows(platform, result, there)]
    new = sum(int(row["bytes"]) for row in rows if row["new"])
    dropped = [each for platform in record.platforms for each in platform.dropped]
    same = all(platform.same_tree for platform in record.platforms)
    platforms = [_platform(platform, before, there) for platform in record.platforms]
    return StageResult(
        stage="rechunk",
        subject=subject,
        action=_action(result, sum(before.values()), rows, new, previous),
        digest=result.rechunked.digest,
        changed=result.changed,
        bytes_moved=result.bytes_sent,
        seconds=result.seconds,
        facts={
            **({"release": release} if release else {}),
            "tag": result.tag,
            "origin": record.origin,
            **({"previous": previous[1]} if previous else {}),
            "layers_before": sum(before.values()),
            "layers": len(rows),
            "before_bytes": sum(platform.size_before for platform in record.platforms),
            "image_bytes": sum(int(row["bytes"]) for row in rows),
            "new_bytes": new,
            "pyc_rewritten": sum(platform.pyc_rewritten for platform in record.platforms),
            "dropped_files": sum(each.files for each in dropped),
            "dropped_bytes": sum(each.bytes for each in dropped),
            "same_tree": same,
            "trees": " ".join(dict.fromkeys(platform.tree for platform in record.platforms)),
            **({"record": result.carrier} if result.carrier else {}),
        },
        rows=rows,
        tables={"platforms": platforms},
        notes=[*(_dropped(platform) for platform in record.platforms if platform.dropped), *result.notes],
    )


def _action(
    result: RechunkResult, before: int, rows: Sequence[Mapping[str, Scalar]], new: int, previous: Lender | None
) -> str:
    if result.record.origin == result.record.rechunked:
        return "nothing to rechunk"
    if not result.changed:
        return "unchanged"
    more = f", {size_text(new)} in none of the release before" if previous else ""
    was = size_text(sum(platform.size_before for platform in result.record.platforms))
    now = size_text(sum(int(row["bytes"]) for row in rows))
    return f"{count_text(len(rows), 'layer')} of {now}, before {before} of {was}{more}"


def _rows(platform: RechunkedPlatform, result: RechunkResult, there: frozenset[str]) -> Iterable[dict[str, Scalar]]:
    for layer in platform.layers:
        yield {
            "platform": platform.platform,
            "contents": layer.contents,
            "bytes": layer.size,
            "new": layer.digest not in there,
            "how": result.how.get(layer.digest, "present"),
            "layer": layer.digest,  # last: it is wide, and pushes what follows out of the UI's table
        }


def _platform(platform: RechunkedPlatform, before: dict[Digest, int], there: frozenset[str]) -> dict[str, Scalar]:
    return {
        "platform": platform.platform,
        "layers_before": before.get(platform.origin, 0),
        "layers": len(platform.layers),
        "before_bytes": platform.size_before,
        "bytes": sum(layer.size for layer in platform.layers),
        "new_bytes": sum(layer.size for layer in platform.layers if layer.digest not in there),
        "pyc_rewritten": platform.pyc_rewritten,
        "dropped_bytes": sum(each.bytes for each in platform.dropped),
        "same_tree": platform.same_tree,
        "tree": platform.tree,
    }


def _dropped(platform: RechunkedPlatform) -> str:
    told = ", ".join(
        f"{count_text(each.files, 'file')} of {size_text(each.bytes)} ({each.why})" for each in platform.dropped
    )
    return f"{platform.platform}: left out as asked: {told}"


def _counts(place: Place, top: Digest) -> dict[Digest, int]:
    """By manifest, how many layers an image has."""
    stored = place.registry.get_manifest(place.repository, top)
    return {entry.digest: len(entry.manifest.layers) for entry in images_of(read_entries(place, stored))}


def _layers_of(place: Place, top: Digest) -> frozenset[str]:
    """Digests of all layers of an image; none of what is gone."""
    try:
        stored = place.registry.get_manifest(place.repository, top)
        return frozenset(
            layer.digest for entry in images_of(read_entries(place, stored)) for layer in entry.manifest.layers
        )
    except (ContentError, NotFound):
        return frozenset()
