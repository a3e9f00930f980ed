"""Rechunk an image, platform by platform."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, wait
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import zip_longest
from pathlib import Path

import msgspec

from registry_pipelines.anatomy.owning import Owners
from registry_pipelines.anatomy.reading import ReadLayer, read_layers
from registry_pipelines.anatomy.rechunk.bytecode import hashes_source
from registry_pipelines.anatomy.rechunk.carrying import carry_others
from registry_pipelines.anatomy.rechunk.documents import rechunked_config, rechunked_manifest
from registry_pipelines.anatomy.rechunk.layouts import layout_of
from registry_pipelines.anatomy.rechunk.making import send_layer
from registry_pipelines.anatomy.rechunk.merged import Merged, merge
from registry_pipelines.anatomy.rechunk.model import (
    How,
    Layout,
    Rechunked,
    RechunkedImage,
    RechunkedLayer,
    RechunkOptions,
)
from registry_pipelines.anatomy.rechunk.planning import VERSION, Plan, PlannedLayer, first_names, plan_image, weights_of
from registry_pipelines.anatomy.rechunk.spilling import Spill, Wanted
from registry_pipelines.anatomy.rechunk.tree_digest import tree_digest, tree_lines
from registry_pipelines.build.cache import BuildCache
from registry_pipelines.build.splice import CODEC, LayerDigests
from registry_pipelines.errors import InputError, LayerInvalid, ManifestInvalid
from registry_pipelines.oci import media_types
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.layer.record import LayerRecord
from registry_pipelines.oci.layer.store import LayerStore
from registry_pipelines.oci.manifests import MAX_CONFIG_BYTES, Descriptor, ManifestBytes, decode_json, encode_json
from registry_pipelines.progress import Progress, Silent
from registry_pipelines.registry.blobs import BlobStream, read_blob
from registry_pipelines.registry.protocol import Place
from registry_pipelines.registry.tags import digest_at
from registry_pipelines.scan.facts import LayerContent
from registry_pipelines.scan.merge import merge_layers
from registry_pipelines.stream.documents import Remade, converted_indexes
from registry_pipelines.stream.pushing import push_piece, put_missing
from registry_pipelines.stream.soci import Piece
from registry_pipelines.stream.source import SourceImage, read_source
from registry_pipelines.threads import Pool
from registry_pipelines.transfer.engine import Engine
from registry_pipelines.transfer.uploads import Uploads

SILENT = Silent()
WORKERS = 2
"""Layers made at once: each is compressed by one thread and read back by another, beside its upload."""
LINUX = ("linux", "")
"""Systems of images that are rechunked. Without one in its config it is of Linux, as what `crane append` makes."""
_NO_OPTIONS = RechunkOptions()
NOTHING = LayerContent(facts={}, links={})
"""Of a layer that nobody looked into."""


def rechunk(
    place: Place,
    selector: str,
    target: Place,
    *,
    previous: Mapping[str, Layout] | None = None,
    options: RechunkOptions = _NO_OPTIONS,
    state: Path,
    engine: Engine | None = None,
    progress: Progress = SILENT,
) -> Rechunked:
    """Make an image anew with one package a layer, and store it at ``target`` without a tag.

    selector: tag or digest. previous: the last release's layouts by platform (``read_layouts``). state: folder of what
    is remembered. engine: what is uploaded with; one with its state in ``state`` unless told.

    Nothing that names the new layers is stored before they, read back, hold the same tree as the old ones. Killed at
    any point it leaves blobs that nothing names, and the next run goes on from there; nothing stays on the disk.
    Raises InputError: no Linux image, a layer that nobody here can read, or it names a SOCI index; LayerInvalid,
    DigestMismatch: a broken or hostile layer; ManifestInvalid, NotFound and the RegistryError family; DiskFull,
    LocalError; ToolMissing.
    """
    engine = engine or Engine(state=state / "transfer")
    started = time.monotonic()
    with closing(BuildCache(state / "rechunk" / "layers.sqlite")) as cache, engine.opened() as opened:
        own = engine.place(target)
        run = _Run(engine.place(place), Uploads(opened, own, progress), cache, state, options, previous or {}, progress)
        result = run.run(place.registry.resolve(place.repository, selector))
        opened.cancel_abandoned([own.registry])
    return msgspec.structs.replace(result, seconds=round(time.monotonic() - started, 3))


def read_layouts(place: Place, selector: str) -> dict[str, Layout]:
    """Layouts of a rechunked image by platform, such as ``linux/amd64``; nothing of platforms that were not rechunked.

    Raises NotFound, RegistryError, ManifestInvalid, ClosureIncomplete.
    """
    source = read_source(place, place.registry.resolve(place.repository, selector).digest)
    layouts = {image.platform: layout_of(image.entry.manifest) for image in source.images}
    return {platform: layout for platform, layout in layouts.items() if layout.layers}


class _Known(msgspec.Struct, frozen=True):
    """What is remembered of an image."""

    result: Rechunked
    previous: dict[str, Layout]


@dataclass(frozen=True)
class _Made:
    """One platform's image, not stored yet."""

    source: SourceImage
    plan: Plan
    before: Merged
    layers: tuple[tuple[PlannedLayer, LayerDigests, How], ...]
    origin_tree: Digest
    tree: Digest
    config: bytes
    manifest: ManifestBytes


class _Run:
    """One image being rechunked."""

    def __init__(
        self,
        place: Place,
        uploads: Uploads,
        cache: BuildCache,
        state: Path,
        options: RechunkOptions,
        previous: Mapping[str, Layout],
        progress: Progress,
    ) -> None:
        self._place, self._uploads, self._cache, self._state = place, uploads, cache, state
        self._options, self._previous, self._progress = options, previous, progress
        self._records = LayerStore(state / "layers")
        self._sent = 0

    def run(self, top: Descriptor) -> Rechunked:
        """All platforms, then what names them."""
        if there := self._there(top.digest):
            return there
        source = read_source(self._place, top.digest)
        images = [image for image in source.images if image.entry.platform.os in LINUX and self._is_wanted(image)]
        for image in images or source.images:
            self._refuse(image)
        if not images:
            raise InputError(
                f"it has no image for {', '.join(map(str, self._options.platforms))}",
                where=f"{self._place}@{top.digest}",
                do=f"It has {', '.join(image.platform for image in source.images)}",
            )
        made = [self._image(image) for image in images]
        notes = carry_others(self._place, self._uploads, source, {each.source.entry.digest for each in made})
        remade = {each.source.entry.digest: Remade(each.manifest, each.source.entry.platform) for each in made}
        for each in made:
            described = _described(each.config)
            self._sent += push_piece(self._uploads, Piece(described, each.config))[1]
        for each in made:
            self._sent += put_missing(self._uploads.target, each.manifest)
        indexes = converted_indexes(source.top, source.indexes, remade)
        for index in indexes:
            self._sent += put_missing(self._uploads.target, index)
        derived = indexes[-1] if indexes else remade[source.top.digest].manifest
        result = Rechunked(
            origin=top.digest,
            derived=derived.digest,
            descriptor=derived.descriptor,
            images=tuple(map(_told, made)),
            bytes_sent=self._sent,
            changed=self._sent > 0,
            notes=tuple(notes),
        )
        self._remember(result)
        return result

    def _is_wanted(self, image: SourceImage) -> bool:
        wanted = self._options.platforms
        return not wanted or any(each.matches(image.entry.platform) for each in wanted)

    def _there(self, origin: Digest) -> Rechunked | None:
        """What an earlier run made of this very image, when it is at the target."""
        note = self._cache.fact(self._note_key(origin))
        try:
            known = decode_json(str(note).encode(), _Known)
        except ManifestInvalid:
            return None
        result = known.result
        for image in result.images:
            wanted = self._previous.get(image.platform)
            if wanted not in (None, image.layout, known.previous.get(image.platform)):
                return None
        if digest_at(self._uploads.target, result.derived) is None:
            return None
        return msgspec.structs.replace(result, bytes_sent=0, changed=False)

    def _remember(self, result: Rechunked) -> None:
        known = _Known(result, dict(self._previous))
        self._cache.remember_fact(self._note_key(result.origin), encode_json(known).decode())

    def _note_key(self, origin: Digest) -> str:
        return f"rechunked {VERSION} {CODEC} {origin} {msgspec.json.encode(self._options).decode()}"

    def _refuse(self, image: SourceImage) -> None:
        """Raises InputError."""
        where = f"{self._place}@{image.entry.digest}"
        if image.entry.platform.os not in LINUX:
            raise InputError(f"it is for {image.platform}, and only images of Linux can be rechunked", where=where)
        if image.soci_index:
            raise InputError(
                "it names a SOCI index, which knows its layers", where=where, do="Rechunk what it was made of"
            )

    def _image(self, image: SourceImage) -> _Made:
        where = f"{self._place}@{image.entry.digest}"
        read, records = self._read(image, where)
        before = merge(records)
        if before.lacking:
            # Who builds a layer records it without a look into it.
            self._forget(image.layers[at] for at in before.lacking)
            read, records = self._read(image, where)
            before = merge(records)
        owners = Owners(merge_layers([each.content or NOTHING for each in read]))
        plan = plan_image(
            before,
            owners,
            self._options,
            self._previous.get(image.platform),
            weights_of(read, self._options),
        )
        if not plan.layers:
            raise InputError("no file is left in it, so there is nothing to rechunk", where=where)
        with Pool(1, "tree") as beside:
            hashed = beside.submit(tree_digest, before, without=plan.without)
            layers = self._layers(image, plan, records)
            tree = hashed.result()
        made = [(_layer(digests), digests.diff_id) for _, digests, _ in layers]
        after = merge([self._record(*each) for each in made])
        if after.lacking:
            self._forget(made[at] for at in after.lacking)
            after = merge([self._record(*each) for each in made])
        if tree_digest(after) != tree:
            raise LayerInvalid(
                f"what was made is not what it was made of: {_difference(before, plan, after)}",
                where=where,
                do="Report this; nothing was tagged",
            )
        raw = read_blob(self._place, image.entry.manifest.config, limit=MAX_CONFIG_BYTES)
        pairs = [(planned.layer, digests) for planned, digests, _ in layers]
        config = rechunked_config(raw, pairs)
        manifest = rechunked_manifest(image.manifest.raw, _described(config), pairs)
        origin_tree = tree_digest(before) if plan.without else tree
        return _Made(image, plan, before, layers, origin_tree, tree, config, manifest)

    def _forget(self, layers: Iterable[tuple[Descriptor, Digest]]) -> None:
        """What is known of layers, so that they are read again."""
        for layer, diff_id in layers:
            self._records.delete(diff_id, layer.digest)

    def _read(self, image: SourceImage, where: str) -> tuple[list[ReadLayer], list[LayerRecord]]:
        """Every layer's record and facts. Raises InputError: nobody here can read one."""
        read = read_layers(self._place, image.layers, state=self._state, records=True, progress=self._progress)
        for each in read:
            if each.record is None:
                raise InputError(
                    f"the layer {each.descriptor.digest} cannot be read: {each.problem}",
                    where=where,
                    do="Build the image with layers that the registry has, compressed by gzip or zstd, not encrypted",
                )
        return read, [each.record for each in read if each.record is not None]

    def _record(self, layer: Descriptor, diff_id: Digest) -> LayerRecord:
        """Of a layer that was made, now or before, as a reader found it."""
        record = self._records.get(diff_id, layer.digest)
        if record is None:
            with BlobStream(self._uploads.target, layer) as stream:
                record = self._records.read(stream, layer, diff_id, where=f"{self._uploads.target}@{layer.digest}")
        return record

    def _layers(
        self, image: SourceImage, plan: Plan, records: Sequence[LayerRecord]
    ) -> tuple[tuple[PlannedLayer, LayerDigests, How], ...]:
        """Have all layers at the target."""
        there: dict[str, tuple[LayerDigests, How]] = {}
        for planned in plan.layers:
            if found := self._find(planned):
                there[planned.key] = found
        missing = [planned for planned in plan.layers if planned.key not in there]
        if missing:
            with Spill(self._state / "rechunk", os.cpu_count() or 1) as spill:
                for number, wanted in sorted(_wanted(plan, missing).items()):
                    layer, diff_id = image.layers[number]
                    spill.take_layer(number, self._place, layer, diff_id, records[number], wanted, self._progress)
                for planned, digests in zip(missing, self._make(plan, missing, spill), strict=True):
                    there[planned.key] = digests, "uploaded"
        return tuple((planned, *there[planned.key]) for planned in plan.layers)

    def _find(self, planned: PlannedLayer) -> tuple[LayerDigests, How] | None:
        """A layer that was made before and is at the target, or comes there without being sent."""
        known, target = self._cache.layer(planned.key), self._uploads.target
        if known is None:
            return None
        found = self._uploads.find(known.digest, known.size, self._cache.seen(known.digest, target.registry.name))
        if found is None:
            return None
        self._cache.remember_seen(known.digest, target.registry.name, target.repository)
        return known, "mounted" if found == "mounted" else "present"

    def _make(self, plan: Plan, missing: Sequence[PlannedLayer], spill: Spill) -> list[LayerDigests]:
        """The first failure ends all."""
        largest_first = sorted(missing, key=lambda each: -tar_bytes(plan, each))
        with Pool(WORKERS, "rechunk") as pool:
            futures = {each.key: pool.submit(self._send, plan, each, spill) for each in largest_first}
            done, _ = wait(futures.values(), return_when=FIRST_EXCEPTION)
            try:
                for future in done:
                    future.result()
            except BaseException:
                self._uploads.stop()
                raise
            return [futures[each.key].result() for each in missing]

    def _send(self, plan: Plan, planned: PlannedLayer, spill: Spill) -> LayerDigests:
        task = f"layer {planned.layer.name}"
        self._progress.begin(task, total_bytes=tar_bytes(plan, planned))
        digests = send_layer(
            plan,
            planned,
            spill,
            self._uploads,
            records=self._records,
            state=self._state,
            advance=partial(self._progress.advance, task),
        )
        self._cache.remember_layer(planned.key, digests)
        target = self._uploads.target
        self._cache.remember_seen(digests.digest, target.registry.name, target.repository)
        self._sent += digests.size
        self._progress.end(task, note="uploaded")
        return digests


def _wanted(plan: Plan, layers: Sequence[PlannedLayer]) -> dict[int, dict[int, Wanted]]:
    """What has to be taken out of the old layers: by their number, by position."""
    tree = plan.merged.tree
    found: dict[int, dict[int, Wanted]] = {}

    def wanted(number: int) -> Wanted:
        inode = tree.node(number)
        return found.setdefault(inode.layer, {}).setdefault(inode.position, Wanted(inode.size))

    for planned in layers:
        for number in first_names(planned.entries):
            if not plan.merged.is_file(number):
                continue
            one = wanted(number)
            one.kept = True
            rewrite = plan.bytecode.rewrites.get(number)
            if rewrite is not None:
                one.whole = True
                if rewrite.source is not None and hashes_source(rewrite) and plan.merged.is_file(rewrite.source):
                    source = wanted(rewrite.source)
                    source.magics |= {rewrite.magic}
    return found


def tar_bytes(plan: Plan, planned: PlannedLayer) -> int:
    """Unpacked bytes of the files of a layer that is planned."""
    tree = plan.merged.tree
    return sum(tree.node(number).size for number in first_names(planned.entries) if plan.merged.is_file(number))


def _described(config: bytes) -> Descriptor:
    return Descriptor(media_type=media_types.OCI_CONFIG, digest=Digest.of(config), size=len(config))


def _layer(digests: LayerDigests) -> Descriptor:
    return Descriptor(media_type=media_types.OCI_LAYER_GZIP, digest=digests.digest, size=digests.size)


def _difference(before: Merged, plan: Plan, after: Merged) -> str:
    """The first line in which two trees differ."""
    pairs = zip_longest(tree_lines(before, without=plan.without), tree_lines(after), fillvalue=b"nothing")
    one, other = next((pair for pair in pairs if pair[0] != pair[1]), (b"", b""))
    return f"{one[:300].decode().strip()!r} became {other[:300].decode().strip()!r}"


def _told(made: _Made) -> RechunkedImage:
    layers = tuple(
        RechunkedLayer(
            name=planned.layer.name,
            digest=digests.digest,
            diff_id=digests.diff_id,
            size=digests.size,
            tar_size=digests.tar_size,
            how=how,
        )
        for planned, digests, how in made.layers
    )
    return RechunkedImage(
        platform=made.source.platform,
        origin=made.source.entry.digest,
        derived=made.manifest.digest,
        origin_tree=made.origin_tree,
        tree=made.tree,
        layout=made.plan.layout,
        layers=layers,
        size_before=sum(layer.size for layer, _ in made.source.layers),
        size_after=sum(each.size for each in layers),
        hidden=made.before.listed_bytes - made.before.tree.content_bytes,
        rewritten=len(made.plan.bytecode.rewrites),
        dropped=tuple(made.plan.dropped),
        notes=tuple(made.plan.notes),
    )


__all__ = ["NOTHING", "read_layouts", "rechunk", "tar_bytes"]
