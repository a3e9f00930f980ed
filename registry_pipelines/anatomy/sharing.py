"""What an image shares with the other images of its registry: layers by digest and by diffID, and, where layers were
read before, files by content.

Who lists a registry asks for every image's manifest and config, so there are limits, and what was left out is said. A
stored inventory (``inventory --manifests all --output``) knows every blob of every image and asks for nothing.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from registry_pipelines.anatomy.report import Anatomy, LayerShare, Sharing
from registry_pipelines.anatomy.stacking import Content
from registry_pipelines.errors import ContentError, NotFound, RegistryError, RegistryPipelinesError, Unsupported
from registry_pipelines.inventory.needed import need_tables
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.layer.store import LayerStore
from registry_pipelines.oci.media_types import IMAGE_CONFIGS
from registry_pipelines.oci.tags import order_key
from registry_pipelines.progress import count_text
from registry_pipelines.registry.platforms import image_config, read_images
from registry_pipelines.registry.protocol import Place
from registry_pipelines.threads import Pool
from registry_pipelines.transfer.closure.digest_tags import is_named_after_digest

MAX_REPOSITORIES = 200
"""Of a registry that is listed."""
MAX_TAGS = 20
"""Of one repository: the highest versions."""
MAX_LAYERS_READ = 2_000
"""Listings of other images' layers that are gone through for equal files, each some 10 ms."""
MIN_FILE_BYTES = 4096
"""Smaller files are equal by the thousand, and weigh nothing."""
_THREADS = 8
_EXAMPLES = 3


@dataclass(frozen=True)
class OtherImage:
    """One image of the registry. layers: digests with diffIDs, those empty where nobody asked the config."""

    repository: str
    name: str
    digest: Digest
    layers: tuple[tuple[Digest, Digest | None], ...]


@dataclass
class Others:
    """The registry's images. not_looked: what was left out, a sentence each."""

    images: list[OtherImage] = field(default_factory=list)
    """Of an inventory, those that have one of the layers."""
    looked: Counter[str] = field(default_factory=Counter)
    """Repository to images that were looked at; the image itself counts."""
    not_looked: list[str] = field(default_factory=list)
    source: str = "listing"


def list_images(place: Place) -> Others:
    """Images of the registry that an image is in, by its catalogue and tags. What cannot be read is said, and the
    image's own repository is always looked at."""
    found = Others()
    try:
        names = list(islice(place.registry.repositories(), MAX_REPOSITORIES + 1))
    except (Unsupported, RegistryError) as error:
        found.not_looked.append(f"all repositories but its own: {error.what}")
        names = []
    if len(names) > MAX_REPOSITORIES:
        found.not_looked.append(f"repositories after the first {MAX_REPOSITORIES}")
    names = list(dict.fromkeys([place.repository, *names[:MAX_REPOSITORIES]]))
    with Pool(_THREADS, "shared") as pool:
        for each in pool.map(lambda name: _repository(Place(place.registry, name)), names):
            found.images += each.images
            found.looked += each.looked
            found.not_looked += each.not_looked
    return found


def _repository(place: Place) -> Others:
    found = Others()
    try:
        tags = [tag for tag in islice(place.registry.tags(place.repository), 100_000) if not is_named_after_digest(tag)]
    except NotFound:
        return found
    except RegistryPipelinesError as error:
        found.not_looked.append(f"{place.repository}: {error.what}")
        return found
    tags.sort(key=order_key, reverse=True)
    if len(tags) > MAX_TAGS:
        found.not_looked.append(f"{place.repository}: {count_text(len(tags) - MAX_TAGS, 'tag')} of lower versions")
    seen: set[Digest] = set()
    for tag in tags[:MAX_TAGS]:
        try:
            for image in _images(place, tag):
                if image.digest not in seen:
                    seen.add(image.digest)
                    found.images.append(image)
                    found.looked[place.repository] += 1
        except (RegistryError, ContentError) as error:
            found.not_looked.append(f"{place.repository}:{tag}: {error.what}")
    return found


def _images(place: Place, tag: str) -> Iterator[OtherImage]:
    for entry in read_images(place, place.registry.get_manifest(place.repository, tag), configs=False):
        diff_ids = image_config(place, entry.manifest).diff_ids
        layers = [each.digest for each in entry.manifest.layers]
        pairs = tuple(zip(layers, diff_ids, strict=True)) if len(layers) == len(diff_ids) else ()
        yield OtherImage(
            place.repository, f"{place.repository}:{tag}", entry.digest, pairs or tuple((each, None) for each in layers)
        )


def stored_images(path: Path, registry: str, layers: Collection[Digest]) -> Others:
    """The same of a stored inventory. registry: its name there. layers: those that are looked for. Raises InputError:
    it is none, or not of this registry; StateTooNew, ToolMissing."""
    need_tables()
    from registry_pipelines.inventory.stored import StoredInventory

    inventory = StoredInventory(path)
    source = inventory.source(registry)
    found = Others(source=str(path))
    found.not_looked += [f"{each.what}: {each.problem}" for each in source.unread]
    found.not_looked.append("layers that are compressed otherwise, and files: an inventory has no diffIDs")
    wanted = frozenset(layers)
    for stored in inventory.repositories(registry):
        survey = stored.having(wanted)
        tags = {digest: tag for tag, digest in survey.tags.items()}
        for digest, node in survey.nodes.items():
            if node.artifact_type not in IMAGE_CONFIGS:
                continue
            found.looked[survey.repository] += 1
            if have := wanted.intersection(node.blobs):
                name = f":{tags[digest]}" if digest in tags else f"@{digest}"
                pairs = tuple((each, None) for each in have)
                found.images.append(OtherImage(survey.repository, survey.repository + name, digest, pairs))
    return found


def sharing_of(
    found: Anatomy, mine: Sequence[tuple[Digest, Digest]], repository: str, others: Others, store: LayerStore
) -> Sharing:
    """What the image shares. mine: its layers' digests and diffIDs. store: listings of layers that were read."""
    images = [each for each in others.images if each.digest != found.digest]
    by_digest: dict[str, list[OtherImage]] = defaultdict(list)
    by_diff_id: dict[str, list[OtherImage]] = defaultdict(list)
    for image in images:
        for digest in dict.fromkeys(layer for layer, _ in image.layers):
            by_digest[digest].append(image)
        for diff_id in dict.fromkeys(diff_id for _, diff_id in image.layers if diff_id):
            by_diff_id[diff_id].append(image)
    files, layers_read, not_read = _equal_files(mine, images, store)
    rows = []
    for part, (digest, diff_id) in zip(found.layers, mine, strict=True):
        same = by_digest[digest]
        alike = [each for each in by_diff_id[diff_id] if each not in same]
        rows.append(
            LayerShare(
                number=part.number,
                images=len(same),
                elsewhere=len({each.repository for each in same} - {repository}),
                repacked=len(alike),
                file_bytes=files.get((digest, diff_id)) if not same and layers_read else None,
                examples=_examples(same, alike, repository),
            )
        )
    sizes = {part.number: part.compressed for part in found.layers}
    return Sharing(
        source=others.source,
        images=max(others.looked.total() - 1, len(images)),
        repositories=len(others.looked),
        shared=sum(sizes[row.number] for row in rows if row.images),
        elsewhere=sum(sizes[row.number] for row in rows if row.elsewhere),
        repacked=sum(sizes[row.number] for row in rows if not row.images and row.repacked),
        file_bytes=sum(row.file_bytes or 0 for row in rows),
        layers_read=layers_read,
        layers=tuple(rows),
        not_looked=(*others.not_looked, *not_read),
    )


def _examples(same: Iterable[OtherImage], alike: Iterable[OtherImage], repository: str) -> tuple[str, ...]:
    """Names of a few, those of other repositories first."""
    by_place = sorted(same, key=lambda each: each.repository == repository)
    return tuple(dict.fromkeys(each.name for each in (*by_place, *alike)))[:_EXAMPLES]


_Key = tuple[Digest, Digest]


def _equal_files(
    mine: Iterable[_Key], images: Iterable[OtherImage], store: LayerStore
) -> tuple[dict[_Key, int], int, list[str]]:
    """For each layer of the image the unpacked bytes of its files that stand in other images' other layers, too; how
    many of those layers are known; what was left out."""
    own = dict.fromkeys(mine)
    other = dict.fromkeys(
        (layer, diff) for each in images for layer, diff in each.layers if diff and (layer, diff) not in own
    )
    listed = {key: contents for key in own if (contents := _contents(store, key)) is not None}
    wanted = set().union(*listed.values()) if listed else set()
    there: set[Content] = set()
    read = 0
    for key in islice(other, MAX_LAYERS_READ):
        contents = _contents(store, key, wanted)
        read += contents is not None
        there |= contents or set()
    notes = [] if read == len(other) else [f"files of {count_text(len(other) - read, 'layer')} that nobody read here"]
    return {key: sum(size for size, _ in contents & there) for key, contents in listed.items()}, read, notes


def _contents(store: LayerStore, key: _Key, wanted: Collection[Content] | None = None) -> set[Content] | None:
    """Contents of a layer's files, each once; None where nobody read it, or its record is damaged."""
    digest, diff_id = key
    record = store.listing(diff_id, digest)
    if record is None:
        return None
    try:
        found = {(raw.size, raw.crc) for raw in record.entries() if raw.size >= MIN_FILE_BYTES}
    except ContentError:
        return None
    return found if wanted is None else found.intersection(wanted)
