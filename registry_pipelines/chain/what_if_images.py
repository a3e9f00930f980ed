"""What a change to images would cost or save, before it is made: another base, layers by package, streaming.

Nothing is written to a registry. Layers that nobody looked into before are read once, for a rechunk alone, and what is
found of them stays in the state folder, where a rechunk finds it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from registry_pipelines.chain.bases import OnBase, images_on
from registry_pipelines.chain.prices import price_book
from registry_pipelines.chain.recent import recent
from registry_pipelines.chain.result import short_digest
from registry_pipelines.chain.session import Session
from registry_pipelines.chain.what_if import Answer, answer, storage_of
from registry_pipelines.errors import ContentError, InputError, NotFound
from registry_pipelines.oci.platforms import Platform
from registry_pipelines.oci.tags import order_key
from registry_pipelines.progress import count_text
from registry_pipelines.promote.bases import KnownBase
from registry_pipelines.promote.documents import TIME_FORMAT
from registry_pipelines.registry.platforms import read_images
from registry_pipelines.registry.protocol import Place
from registry_pipelines.report.arithmetic import Line
from registry_pipelines.report.whatif.bases import Standing, move_base
from registry_pipelines.report.whatif.rechunk import Laid
from registry_pipelines.report.whatif.rechunk import rechunk as work_out_rechunk
from registry_pipelines.report.whatif.streaming import Starts
from registry_pipelines.report.whatif.streaming import streaming as work_out_streaming

if TYPE_CHECKING:
    from registry_pipelines.anatomy.rechunk.model import Layout, RechunkOptions
    from registry_pipelines.config import Image
    from registry_pipelines.report.prices import FilePrices, Price
    from registry_pipelines.stream.lazy.image import NodeImage

LAST = 3
"""Releases that a rechunk is tried on, unless told: layers that nobody looked into are read."""
_SCANS = {"ecr": "aws/inspector/scan-first", "gar": "gcp/scan"}


def base(session: Session, old: str, new: str, *, scanned: bool = False, prices: Path | None = None) -> Answer:
    """What moving the images of the configuration from one base to another comes to: those of their newest releases,
    and of what channels name, that begin with its layers. old, new: images as :meth:`Places.locate` reads them.
    scanned: whether each new image is scanned, and paid for. Raises InputError, RegistryError."""
    book = price_book(session.config, prices)
    of_old, of_new = _base(session, old, "old"), _base(session, new, "new")
    if {each.manifest for each in of_old} == {each.manifest for each in of_new}:
        raise InputError(f"{old} and {new} are one image")
    found, silent = images_on(session, [*of_new, *of_old])
    registries = sorted({session.image(each.release.image).registry for each in found})
    storage, why, region = _storage(session, registries, book)
    worked = move_base(
        _shown(old),
        _shown(new),
        [_standing(session, each) for each in found],
        old_blobs=_blobs_of(of_old),
        new_blobs=_blobs_of(of_new),
        storage=storage,
        no_price=why,
        scan=_scan(session, registries, region, book) if scanned else None,
        currency=book.currency,
        notes=[*silent, *_other_platforms(found, of_old, of_new, new)],
    )
    return answer(session, worked, book, region=region)


def _shown(text: str) -> str:
    """A reference with its digest cut, for people."""
    name, at, digest = text.partition("@")
    return f"{name}@{short_digest(digest)}" if at else name


def _base(session: Session, text: str, name: str) -> list[KnownBase]:
    """Every platform's image of a base. Raises InputError: there is none in it."""
    located = session.places.locate(text)
    top = located.place.registry.get_manifest(located.place.repository, located.selector)
    found = [
        KnownBase(
            name=name,
            digest=top.digest,
            manifest=entry.digest,
            platform=str(entry.platform),
            chain=entry.config.diff_ids,
            layers=tuple(layer.digest for layer in entry.manifest.layers),
            sizes=tuple(layer.size for layer in entry.manifest.layers),
            seen=session.now().strftime(TIME_FORMAT),
        )
        for entry in read_images(located.place, top)
        if entry.config and entry.config.diff_ids
    ]
    if not found:
        raise InputError(f"{text} has no image that something could stand on")
    return found


def _blobs_of(bases: Sequence[KnownBase]) -> dict[str, int]:
    return {digest: size for each in bases for digest, size in zip(each.layers, each.sizes, strict=True)}


def _standing(session: Session, each: OnBase) -> Standing:
    image = session.image(each.release.image)
    return Standing(
        name=f"{each.release.image}:{each.release.tag} {each.entry.platform}",
        repository=f"{image.registry}/{image.repository}",
        blobs={layer.digest: layer.size for layer in each.entry.manifest.layers},
        on=each.base.name if each.base else "",
    )


def _other_platforms(
    found: Sequence[OnBase], old: Sequence[KnownBase], new: Sequence[KnownBase], name: str
) -> list[str]:
    there = {each.platform for each in new}
    lacking = sorted(
        {str(each.entry.platform) for each in found if each.base in old and str(each.entry.platform) not in there}
    )
    return [f"{name} has no image for {', '.join(lacking)}, and images on the old base have"] if lacking else []


def _storage(session: Session, registries: Sequence[str], book: FilePrices) -> tuple[Price | None, str, str]:
    """The one price of all registries that images are in; none where they differ."""
    found = [storage_of(session, name, book) for name in registries]
    ids = {price.id for price, _, _ in found if price}
    lacking = [why for price, why, _ in found if price is None]
    if lacking or len(ids) != 1:
        return None, lacking[0] if lacking else "the images' registries have different prices of storage", ""
    return found[0]


def _scan(session: Session, registries: Sequence[str], region: str, book: FilePrices) -> Price:
    """Raises InputError: nobody bills a scan there, or the book has no price of it."""
    kinds = {session.config.registries[name].kind for name in registries}
    if len(kinds) != 1 or (kind := kinds.pop()) not in _SCANS:
        raise InputError("--scanned is about registries of one cloud, which bills scans")
    price = book.find(_SCANS[kind], region)
    if price is None:
        raise InputError(f"the price book has no {_SCANS[kind]}", where=book.where)
    return price


def rechunk(
    session: Session,
    name: str,
    *,
    last: int = LAST,
    platform: str = "",
    nodes: int | None = None,
    prices: Path | None = None,
) -> Answer:
    """What layers of a package each change of an image: of its last releases that were rechunked what was measured,
    else what is planned for its last releases, by what is in their layers. platform: of an index; the first unless
    told. nodes: that take each release, where the configuration has one edge to them. Raises InputError, RegistryError,
    LayerInvalid, ToolMissing."""
    image = session.image(name)
    book = price_book(session.config, prices)
    storage, why, region = storage_of(session, image.registry, book)
    seen = recent(session, image)
    laid, notes = _measured(session, image, last, platform)
    measured = len(laid) > 1
    if not measured:
        laid, notes = _planned(session, image, last, platform)
    updates, more = _updates(session, image, nodes, book)
    worked = work_out_rechunk(
        name,
        laid,
        measured=measured,
        storage=storage,
        no_price=why,
        per_month=seen.per_month,
        updates=updates,
        currency=book.currency,
        rate_unknown=seen.why,
        notes=[*notes, *more],
    )
    return answer(session, worked, book, region=region)


def _updates(
    session: Session, image: Image, nodes: int | None, book: FilePrices
) -> tuple[list[Line] | None, list[str]]:
    """What a byte costs on its way to all nodes that take a release; None where nothing says how many, or which way."""
    if nodes is None:
        return None, []
    lines, why = byte_lines(session, image, book)
    return ([Line(nodes * each.amount, each.price) for each in lines], []) if not why else (None, [why])


def byte_lines(session: Session, image: Image, book: FilePrices) -> tuple[list[Line], str]:
    """What one byte of a pull of an image costs, by the edges that have it and their shares; or why that is not
    known."""
    from registry_pipelines.chain.advise import origin_of
    from registry_pipelines.report.transfer import Pulls, transfer

    origins = {image.registry: origin_of(session.config, image.registry)}
    edges = [each for each in session.config.report.edges.values() if each.registry == image.registry]
    one = Pulls(registry=image.registry, repository=image.repository, pulls=1.0, each_bytes=1.0)
    found = transfer(edges, origins, [one], (), book, days=30.4)
    return ([], found.unknown[0]) if found.unknown else (list(found.lines), "")


def _measured(session: Session, image: Image, last: int, platform: str) -> tuple[list[Laid], list[str]]:
    """Releases of which both forms are there, the newest first."""
    from registry_pipelines.chain.rechunk import SUFFIX
    from registry_pipelines.chain.releases import names_origin, names_release
    from registry_pipelines.transfer.closure.listed import list_tags
    from registry_pipelines.transfer.closure.selector import ALL

    place = session.places.source(image)
    listed = set(list_tags(place, ALL).every)
    origins = [tag for tag in listed if f"{tag}{SUFFIX}" in listed]
    origins = [tag for tag in origins if names_origin(image, tag) or names_release(image, tag)]
    found: list[Laid] = []
    for tag in sorted(origins, key=order_key, reverse=True)[:last]:
        now, then = _chosen(place, tag, platform), _chosen(place, f"{tag}{SUFFIX}", platform)
        found.append(Laid(release=tag, now=_layers(now), then=_layers(then)))
    return found, []


def _layers(image: NodeImage) -> dict[str, int]:
    return {layer.digest: layer.size for layer in image.manifest.layers}


def _chosen(place: Place, selector: str, platform: str) -> NodeImage:
    """The image of a platform; of an index the first unless told. Raises InputError, NotFound."""
    from registry_pipelines.stream.lazy.image import image_for

    if platform:
        return image_for(place, selector, Platform.parse(platform))
    top = place.registry.get_manifest(place.repository, selector)
    entries = read_images(place, top)
    if not entries:
        raise InputError("there is no image in it", where=f"{place}:{selector}")
    return image_for(place, entries[0].digest)


def _planned(session: Session, image: Image, last: int, platform: str) -> tuple[list[Laid], list[str]]:
    """The last releases, and what their layers by package would be. One that cannot be read is a note."""
    from registry_pipelines.anatomy.rechunk.model import RechunkOptions
    from registry_pipelines.chain.releases import origins, releases_of

    tags = list(origins(session, image)) if image.forms else [each.tag for each in releases_of(session, image)]
    tags = sorted(tags, key=order_key, reverse=True)[:last]
    options = image.rechunk.options if image.rechunk else RechunkOptions()
    place = session.places.source(image)
    found: list[Laid] = []
    notes: list[str] = []
    layout: Layout | None = None
    for tag in reversed(tags):  # the layout of one release is that of the next
        try:
            laid, layout = _plan(session, place, tag, platform, options, layout)
            found.append(laid)
        except (NotFound, ContentError, InputError) as error:
            notes.append(f"{tag} is not looked at: {error}")
    if not tags:
        notes.append(f"{image.name} has no release")
    return found[::-1], notes


def _plan(
    session: Session, place: Place, tag: str, platform: str, options: RechunkOptions, layout: Layout | None
) -> tuple[Laid, Layout]:
    """One release. Sizes of what would be made: unpacked bytes by the ratio of the whole image."""
    from registry_pipelines.anatomy.owning import Owners
    from registry_pipelines.anatomy.reading import read_layers
    from registry_pipelines.anatomy.rechunk.engine import NOTHING, tar_bytes
    from registry_pipelines.anatomy.rechunk.merged import merge
    from registry_pipelines.anatomy.rechunk.planning import plan_image, weights_of
    from registry_pipelines.scan.merge import merge_layers

    image = _chosen(place, tag, platform)
    read = read_layers(place, image.layers, state=session.config.state, records=True, progress=session.progress)
    records = [each.record for each in read if each.record is not None]
    if len(records) < len(read):
        problem = next(each.problem for each in read if each.record is None)
        raise InputError(f"a layer cannot be read: {problem}", where=f"{place}:{tag}")
    merged = merge(records)
    plan = plan_image(
        merged,
        Owners(merge_layers([each.content or NOTHING for each in read])),
        options,
        layout,
        weights_of(read, options),
    )
    sizes = {planned.key: tar_bytes(plan, planned) for planned in plan.layers}
    ratio = sum(layer.size for layer, _ in image.layers) / max(merged.listed_bytes, 1)
    then = {key: round(size * ratio) for key, size in sizes.items()}
    return Laid(release=tag, now=_layers(image), then=then), plan.layout


def streaming(
    session: Session,
    name: str,
    *,
    tag: str = "",
    platform: str = "",
    times: float | None = None,
    days: int = 30,
    pulls: Path | None = None,
    prices: Path | None = None,
) -> Answer:
    """What streaming an image changes on the wire: what a measured start fetched beside the whole image, times its
    pulls. tag: of a release; the newest unless told. times: pulls a month, in place of what counts them. Raises
    InputError (it has no release), RegistryError."""
    image = session.image(name)
    book = price_book(session.config, prices)
    storage, why, region = storage_of(session, image.registry, book)
    place = session.places.source(image)
    chosen = _chosen(place, tag or _newest(session, image), platform)
    starts, notes = _starts(session, place, chosen)
    way, no_way = byte_lines(session, image, book)
    counted, more = (times, []) if times is not None else _pulled(session, image, days, pulls, prices)
    worked = work_out_streaming(
        f"{name}:{tag}" if tag else name,
        starts,
        pulls=counted,
        way=way,
        storage=storage,
        no_price=why,
        no_way=no_way,
        currency=book.currency,
        notes=[*notes, *more],
    )
    return answer(session, worked, book, region=region)


def _newest(session: Session, image: Image) -> str:
    from registry_pipelines.chain.releases import releases_of

    releases = releases_of(session, image)
    if not releases:
        raise InputError(f"{image.name} has no release", do="Ship one, or give --tag")
    return max((each.tag for each in releases), key=order_key)


def _pulled(
    session: Session, image: Image, days: int, pulls: Path | None, prices: Path | None
) -> tuple[float | None, list[str]]:
    """Pulls of an image's repository a month, by what counts them; or None, and why."""
    from registry_pipelines.chain.transfer import measured

    found, counts, _ = measured(session, [image.registry], days=days, pulls=pulls, prices=prices, copies=False)
    mine = [each for each in found.moved if each.repository == image.repository]
    if counts.failed or not mine or any(each.times is None for each in mine):
        reasons = [*counts.failed, *(each.unknown for each in found.moved if each.times is None)]
        return None, [reasons[0] if reasons else "nothing counted its pulls: give --pulls or --times"]
    return sum(each.times or 0.0 for each in mine), []


def _starts(session: Session, place: Place, chosen: NodeImage) -> tuple[Starts, list[str]]:
    """What is measured, and what is there beside the image. What nobody signed who is believed counts for nothing."""
    from registry_pipelines.stream.hot.packs import find_packs
    from registry_pipelines.stream.signed_index import find_index
    from registry_pipelines.stream.start_report import read_reports

    digest = chosen.descriptor.digest
    full = sum(layer.size for layer in chosen.manifest.layers)
    verifier = session.keys.trusted_if_any()
    if verifier is None:
        return Starts(full=full, read=None, pack=None, extra=0, of=""), ["no key is trusted: nothing signed counts"]
    reports, rejected = read_reports(place, digest, verifier)
    packs = find_packs(place, digest, verifier)
    signed = find_index(place, digest, verifier).signed
    newest = packs.believed[0].note if packs.believed else None
    index = signed[0].descriptor.size + sum(each.size for each in signed[0].ztocs.values()) if signed else 0
    notes = [f"not counted: {each.reason}" for each in (*rejected, *packs.not_used)]
    report = reports[0].report if reports else None
    return (
        Starts(
            full=full,
            read=report.fetched_bytes if report else None,
            pack=newest.stored_bytes if newest else None,
            extra=index + sum(each.note.stored_bytes for each in packs.believed),
            of=f"the median of {count_text(report.starts, 'start')} measured at {report.time}" if report else "",
        ),
        notes,
    )


__all__ = ["base", "rechunk", "streaming"]
