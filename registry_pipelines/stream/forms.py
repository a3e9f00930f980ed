"""The two forms an image is converted to, each behind the same few questions: what its options are, what comes of a
release in it, what is to be sent before its manifest, and what of it was there already."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import FIRST_EXCEPTION, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from registry_pipelines.oci import media_types
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.layer.store import LayerStore
from registry_pipelines.oci.manifests import MAX_CONFIG_BYTES, Descriptor
from registry_pipelines.progress import Progress
from registry_pipelines.registry.blobs import read_blob
from registry_pipelines.registry.protocol import Place
from registry_pipelines.stream.conversion import LayerConverter, LayerOutcome, options_of, why_kept
from registry_pipelines.stream.converted import ConvertedLayer, ConvertedLayers
from registry_pipelines.stream.documents import Remade, annotated_manifest, config_with_layers, manifest_with_layers
from registry_pipelines.stream.estargz import Options
from registry_pipelines.stream.indexing import (
    NOTHING,
    index_image,
    index_options,
    index_rows,
    push_pieces,
    there_rows,
)
from registry_pipelines.stream.model import Stream
from registry_pipelines.stream.pushing import push_piece
from registry_pipelines.stream.results import StreamRow
from registry_pipelines.stream.soci import Piece, SociIndex
from registry_pipelines.stream.source import Source, SourceImage
from registry_pipelines.threads import Pool
from registry_pipelines.transfer.uploads import Uploads

WORKERS = 2
"""Layers converted at a time: each has a thread that reads and inflates, and two that compress."""


@dataclass(frozen=True)
class MadeImage:
    """One platform's image, and what it becomes."""

    source: SourceImage
    remade: Remade | None
    """None when nothing of it is to be converted, ``why`` says why."""
    why: str = ""
    index: SociIndex | None = None
    config: bytes = b""
    """The new config, of a form with other layers."""
    missing: tuple[str, ...] = ()
    """Of the paths that were to be fetched first, those in no layer of it."""
    outcomes: tuple[LayerOutcome, ...] = ()


class Form(Protocol):
    """What a conversion needs of a form."""

    @property
    def options(self) -> dict[str, Any]:
        """What the outcome depends on beside the release, as plain data."""
        ...

    def make(self, source: Source) -> list[MadeImage]:
        """What comes of each platform. No manifest, config or index is sent. Raises LayerInvalid, DigestMismatch, and
        the RegistryError, ContentError and LocalError families."""
        ...

    def push(self, image: MadeImage) -> tuple[tuple[StreamRow, ...], int]:
        """Send what a manifest needs to be there; its rows, and bytes sent."""
        ...

    def rows_there(self, image: SourceImage, made: SourceImage) -> tuple[StreamRow, ...]:
        """The rows of an image that became ``made`` before. Raises ContentError, NotFound: that is not whole."""
        ...


@dataclass(frozen=True)
class SociForm:
    """Layers stay; the manifest names an index of them. Implements Form."""

    place: Place
    stream: Stream
    folder: Path
    store: LayerStore
    uploads: Uploads
    progress: Progress

    @property
    def options(self) -> dict[str, Any]:
        """See Form."""
        return index_options(self.stream)

    def make(self, source: Source) -> list[MadeImage]:
        """See Form; nothing at all is sent."""
        return [self._image(image) for image in source.images]

    def _image(self, image: SourceImage) -> MadeImage:
        index = index_image(
            self.place, image, self.stream, store=self.store, folder=self.folder, progress=self.progress
        )
        if index.document is None:
            return MadeImage(image, None, NOTHING, index)
        manifest = annotated_manifest(image.manifest.raw, index.document.digest)
        remade = Remade(manifest, image.entry.platform, index.document)
        return MadeImage(image, remade, index=index, missing=index.not_found)

    def push(self, image: MadeImage) -> tuple[tuple[StreamRow, ...], int]:
        """See Form."""
        assert image.index is not None  # noqa: S101 - made above
        sent = push_pieces(self.uploads, image.index) if image.remade else {}
        rows = index_rows(image.source, image.index, sent)
        return rows, sum(bytes_sent for _, bytes_sent in sent.values())

    def rows_there(self, image: SourceImage, made: SourceImage) -> tuple[StreamRow, ...]:
        """See Form."""
        named = made.soci_index
        document = self.place.registry.get_manifest(self.place.repository, named) if named else None
        return there_rows(image, document, self.stream)


class EstargzForm:
    """Every layer is written anew. Implements Form."""

    def __init__(
        self,
        place: Place,
        stream: Stream,
        folder: Path,
        store: LayerStore,
        uploads: Uploads,
        cache: ConvertedLayers,
        progress: Progress,
    ) -> None:
        self._place, self._uploads, self._progress = place, uploads, progress
        self._options = Options(prioritized=stream.prioritize)
        self._converter = LayerConverter(place, uploads, cache, store, folder, self._options)
        self._counted: set[tuple[Digest, Digest]] = set()

    @property
    def options(self) -> dict[str, Any]:
        """See Form."""
        return options_of(self._options)

    def make(self, source: Source) -> list[MadeImage]:
        """See Form. Layers are made while they are sent, each once for all platforms; the first failure ends all."""
        layers = {_key(pair): pair for image in source.images for pair in image.layers}
        with Pool(WORKERS, "convert") as pool:
            futures = {key: pool.submit(self._converter.ensure, *pair, self._progress) for key, pair in layers.items()}
            done, _ = wait(futures.values(), return_when=FIRST_EXCEPTION)
            try:
                for future in done:
                    future.result()
            except BaseException:
                self._uploads.stop()
                raise
            outcomes = {key: future.result() for key, future in futures.items()}
        return [self._image(image, [outcomes[_key(pair)] for pair in image.layers]) for image in source.images]

    def _image(self, image: SourceImage, outcomes: Sequence[LayerOutcome]) -> MadeImage:
        if not any(outcome.made for outcome in outcomes):
            whys = dict.fromkeys(outcome.why for outcome in outcomes)
            why = f"no layer of it is to be converted: {'; '.join(whys)}" if whys else "it has no layers"
            return MadeImage(image, None, why, outcomes=tuple(outcomes))
        diff_ids = [
            outcome.made.diff_id if outcome.made else diff_id
            for outcome, (_, diff_id) in zip(outcomes, image.layers, strict=True)
        ]
        raw = read_blob(self._place, image.entry.manifest.config, limit=MAX_CONFIG_BYTES)
        config = config_with_layers(raw, diff_ids)
        described = Descriptor(media_type=media_types.OCI_CONFIG, digest=Digest.of(config), size=len(config))
        layers = {number: outcome.made.descriptor for number, outcome in enumerate(outcomes) if outcome.made}
        manifest = manifest_with_layers(image.manifest.raw, described, layers)
        absent = [set(outcome.made.missing) for outcome in outcomes if outcome.made]
        missing = tuple(path for path in self._options.prioritized if all(path in each for each in absent))
        remade = Remade(manifest, image.entry.platform)
        return MadeImage(image, remade, config=config, outcomes=tuple(outcomes), missing=missing)

    def push(self, image: MadeImage) -> tuple[tuple[StreamRow, ...], int]:
        """See Form. Bytes of layers that were sent while they were made are counted here, once."""
        sent = 0
        if image.remade:
            descriptor = Descriptor(
                media_type=media_types.OCI_CONFIG, digest=Digest.of(image.config), size=len(image.config)
            )
            _, sent = push_piece(self._uploads, Piece(descriptor, image.config))
        rows = []
        for pair, outcome in zip(image.source.layers, image.outcomes, strict=True):
            again = _key(pair) in self._counted
            self._counted.add(_key(pair))
            rows.append(_row(image.source.platform, pair[0], outcome, again=again))
        return tuple(rows), sent + sum(row.bytes_sent for row in rows)

    def rows_there(self, image: SourceImage, made: SourceImage) -> tuple[StreamRow, ...]:
        """See Form."""
        rows = []
        for (before, _), (after, diff_id) in zip(image.layers, made.layers, strict=True):
            same = after.digest == before.digest
            outcome = LayerOutcome(None, "kept", why_kept(after))
            if not same:
                outcome = LayerOutcome(ConvertedLayer(after, diff_id, None), "present")
            rows.append(_row(image.platform, before, outcome))
        return tuple(rows)


def _key(pair: tuple[Descriptor, Digest]) -> tuple[Digest, Digest]:
    """Names a layer and what its image says it unpacks to."""
    return pair[0].digest, pair[1]


def _row(platform: str, layer: Descriptor, outcome: LayerOutcome, *, again: bool = False) -> StreamRow:
    """again: the layer was told of for another platform."""
    made = outcome.made
    return StreamRow(
        platform=platform,
        layer=layer.digest,
        size=layer.size,
        how="present" if again and made else outcome.how,
        why="; ".join(filter(None, (outcome.why, made.note if made else ""))),
        made=made.descriptor.digest if made else "",
        made_bytes=made.descriptor.size if made else 0,
        spans=made.chunks if made else None,
        bytes_sent=0 if again else outcome.bytes_sent,
    )
