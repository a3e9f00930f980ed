"""The anatomy of one image."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path

from registry_pipelines.anatomy.advice import MIN_EQUAL_BYTES, advice, layer_advice
from registry_pipelines.anatomy.classes import class_of
from registry_pipelines.anatomy.image_findings import image_findings
from registry_pipelines.anatomy.kept import keep_classes
from registry_pipelines.anatomy.owning import Owners
from registry_pipelines.anatomy.reading import ReadLayer, read_layers
from registry_pipelines.anatomy.report import Anatomy, Equal, FilePart, LayerClass, LayerPart, Package, Sum
from registry_pipelines.anatomy.stacking import Piece, stack
from registry_pipelines.oci.layer.record import LayerRecord
from registry_pipelines.oci.platforms import Platform
from registry_pipelines.progress import Progress, Silent, count_text
from registry_pipelines.registry.protocol import Place
from registry_pipelines.scan.facts import FoundWeights, LayerContent
from registry_pipelines.scan.merge import merge_layers
from registry_pipelines.scan.redacting import redacted
from registry_pipelines.stream.lazy.image import NodeImage, image_for

LINK_GBIT = 10.0
"""What wire seconds are told for: a usual node of a cloud."""
LARGEST = 50
MAX_EQUAL = 200

_NOTHING = LayerContent(facts={}, links={})
_GZIP_NS = 20.0
_STORED_NS = 0.3
"""A byte as stored, inflated by Go's compress/gzip, which containerd and Docker use where no pigz is there. Measured
on one core, best of two (2026-11-29): 47 MB of machine code (105 MB) 0.92 s, 23 MB of Python (95 MB) 0.58 s, 105 MB of
random bytes, which deflate only stores, 0.03 s."""
_STORED_RATIO = 1.03
"""A span that unpacks to less than this times its bytes was stored."""


def image_anatomy(
    place: Place,
    selector: str,
    *,
    state: Path,
    platform: Platform | None = None,
    link_gbit: float = LINK_GBIT,
    all_files: bool = False,
    progress: Progress | None = None,
) -> Anatomy:
    """Read an image, or what is known of it, and say what is in it.

    selector: tag or digest. platform: this machine's unless told. all_files: ``files`` too. Raises InputError: no image
    for the platform; ManifestInvalid, ClosureIncomplete, NotFound, RegistryError; LayerInvalid, DigestMismatch: a
    broken or hostile layer; DiskFull, LocalError.
    """
    image = image_for(place, selector, platform)
    read = read_layers(place, image.layers, state=state, progress=progress or Silent())
    pieces = stack([each.record for each in read])
    tree = merge_layers([each.content or _NOTHING for each in read])
    owners = Owners(tree)
    told = [_weights_of(each) for each in read]
    files = [_part(each, owners, told[each.layer - 1]) for each in pieces]
    copied = [part for part, piece in zip(files, pieces, strict=True) if piece.copied]
    equal = equal_files(files)
    standing = [each for each in files if not each.gone]
    gone = [each for each in files if each.gone]
    empty = [number for number, each in enumerate(read, 1) if each.record and not each.record.entry_count]
    diff_ids = [diff_id for _, diff_id in image.layers]
    layers = tuple(_layers(image, read, files, link_gbit))
    keep_classes(state, layers)
    by_files = advice(files, copied, equal)
    contents = [each.content or _NOTHING for each in read]
    known = {each.kind for each in by_files.rows}
    others = image_findings(image, tree, contents, files, layers, known=known)
    return Anatomy(
        image=f"{place}@{image.descriptor.digest}",
        digest=image.descriptor.digest,
        platform=str(image.config.platform),
        compressed=sum(layer.size for layer, _ in image.layers),
        unpacked=sum(each.size for each in files),
        seen=sum(each.size for each in standing),
        gone=sum(each.size for each in gone),
        gone_compressed=sum(each.compressed for each in gone),
        wasted=by_files.wasted,
        wasted_unpacked=by_files.wasted_unpacked,
        unread=unread(read),
        link_gbit=link_gbit,
        read_layers=len({each.descriptor.digest for each in read if each.fetched}),
        layers=layers,
        classes=sums(files, lambda each: each.class_),
        owners=sums(files, lambda each: each.owner or "(no package)"),
        packages=_packages(files),
        equal=tuple(equal[:MAX_EQUAL]),
        advice=(*by_files.rows, *layer_advice([layer for layer, _ in image.layers], diff_ids, empty), *others),
        largest=tuple(sorted(files, key=lambda each: (-each.size, each.path))[:LARGEST]),
        files=tuple(files) if all_files else (),
    )


def unread(read: Sequence[ReadLayer]) -> tuple[str, ...]:
    """Why some of the layers, or some of their files, was not looked at."""
    reasons = []
    for number, each in enumerate(read, 1):
        if each.problem:
            reasons.append(f"layer {number}: {each.problem}")
        elif each.content and each.content.cut:
            reasons.append(f"layer {number}: {each.content.cut}")
        if each.content and each.content.unsearched:
            many = count_text(each.content.unsearched, "file")
            reasons.append(f"layer {number}: {many} of those that may hold secrets, more than are looked into")
    return tuple(reasons)


def _weights_of(layer: ReadLayer) -> dict[str, FoundWeights] | None:
    """By path; None: not all of it was looked at, so names have to say."""
    content = layer.content
    if content is None or content.cut or content.more_weights:
        return None
    return {each.path: each for each in content.weights}


def _part(piece: Piece, owners: Owners, told: Mapping[str, FoundWeights] | None) -> FilePart:
    path, found = _best_name(piece, owners)
    owner = found[0] if found else ""
    weights = told.get(_shown(piece.path)) if told is not None else None
    return FilePart(
        path=_shown(path),
        also=tuple(_shown(name) for name in (piece.path, *piece.also) if name != path),
        removed=tuple(map(_shown, sorted(piece.removed))),
        layer=piece.layer,
        class_=class_of(
            path, piece.size, owner, owners.interpreters, weights=None if told is None else weights is not None
        ),
        owner=owner,
        more_owners=found[1:],
        size=piece.size,
        compressed=piece.compressed,
        gone=piece.gone,
        gone_by=piece.gone_by,
        mode=piece.mode,
        weights=weights,
        crc32=f"{piece.content[1]:08x}",
    )


def _best_name(piece: Piece, owners: Owners) -> tuple[str, tuple[str, ...]]:
    """The first name that stands and that a package lists, and who lists it; else the first that stands."""
    standing = [name for name in (piece.path, *piece.also) if name not in piece.removed]
    for name in standing:
        if found := owners.of(name):
            return name, found
    return standing[0], ()


def _shown(path: str) -> str:
    """Names that are not UTF-8 hold surrogates, which JSON cannot."""
    return path if path.isascii() else path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def sums(files: Iterable[FilePart], name: Callable[[FilePart], str]) -> tuple[Sum, ...]:
    """Files by what ``name`` says of each, the most bytes first."""
    groups: dict[str, list[FilePart]] = defaultdict(list)
    for each in files:
        groups[name(each)].append(each)
    rows = [
        Sum(
            name=key,
            files=len(parts),
            size=sum(each.size for each in parts),
            compressed=sum(each.compressed for each in parts),
            gone=sum(each.size for each in parts if each.gone),
            gone_compressed=sum(each.compressed for each in parts if each.gone),
        )
        for key, parts in groups.items()
    ]
    return tuple(sorted(rows, key=lambda row: (-row.size, row.name)))


def _packages(files: Iterable[FilePart]) -> tuple[Package, ...]:
    sizes: dict[tuple[LayerClass, str], list[int]] = defaultdict(lambda: [0, 0])
    for each in files:
        size = sizes[each.class_, each.owner]
        size[0] += each.size
        size[1] += each.size if each.gone else 0
    rows = (Package(class_=key[0], owner=key[1], size=size, gone=gone) for key, (size, gone) in sizes.items())
    return tuple(sorted(rows, key=lambda row: (-row.size, row.class_, row.owner)))


def equal_files(files: Iterable[FilePart]) -> list[Equal]:
    """Files that all stand and have the same content, the most wasted bytes first. Hard links are one file."""
    groups: dict[tuple[str, int], list[FilePart]] = defaultdict(list)
    for each in files:
        if not each.gone and each.size >= MIN_EQUAL_BYTES:
            groups[each.crc32, each.size].append(each)
    rows = [
        Equal(
            crc32=key[0],
            size=parts[0].size,
            copies=len(parts),
            wasted=parts[0].size * (len(parts) - 1),
            wasted_compressed=sum(each.compressed for each in parts[1:]),
            layers=tuple(sorted({each.layer for each in parts})),
            paths=tuple(each.path for each in parts[:4]),
        )
        for key, parts in groups.items()
        if len(parts) > 1
    ]
    return sorted(rows, key=lambda row: (-row.wasted, row.crc32))


def _layers(
    image: NodeImage, read: Sequence[ReadLayer], files: Iterable[FilePart], link_gbit: float
) -> Iterable[LayerPart]:
    by_layer: dict[int, list[FilePart]] = defaultdict(list)
    for each in files:
        by_layer[each.layer].append(each)
    made_by = _made_by(image, len(read))
    for number, layer in enumerate(read, 1):
        parts, record = by_layer[number], layer.record
        yield LayerPart(
            number=number,
            digest=layer.descriptor.digest,
            compressed=layer.descriptor.size,
            unpacked=record.tar_size if record else 0,
            compression=record.compression if record else "",
            files=len(parts),
            gone=sum(each.size for each in parts if each.gone),
            gone_compressed=sum(each.compressed for each in parts if each.gone),
            classes={row.name: row.size for row in sums(parts, lambda each: each.class_)},
            wire_s=round(layer.descriptor.size * 8 / (link_gbit * 1e9), 3),
            inflate_s=inflate_seconds(record) if record else None,
            made_by=made_by[number - 1],
            problem=layer.problem,
        )


def inflate_seconds(record: LayerRecord) -> float | None:
    """How long one core inflates a layer, by the spans of its record; None for zstd."""
    if record.compression == "plain":
        return 0.0
    if record.compression != "gzip":
        return None
    total = 0.0
    for (tar, stored), (next_tar, next_stored) in pairwise(record.places):
        size = next_stored - stored
        total += size * (_STORED_NS if next_tar - tar < size * _STORED_RATIO else _GZIP_NS)
    return round(total / 1e9, 3)


def _made_by(image: NodeImage, count: int) -> list[str]:
    """What the history says of each layer; nothing where it does not fit the layers."""
    steps = [each for each in image.config.history or [] if isinstance(each, dict) and not each.get("empty_layer")]
    texts = [redacted(str(each.get("created_by") or "")) for each in steps]
    return texts if len(texts) == count else [""] * count
