"""Layers of a release in another form: those already made found, the others made while they are sent."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from registry_pipelines.errors import IndexInvalid, LayerInvalid, LayerUnlisted, Unsupported
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.layer.store import LayerStore
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.progress import Progress, count_text
from registry_pipelines.registry.blobs import BlobStream, Counted
from registry_pipelines.registry.protocol import Place
from registry_pipelines.stream.converted import ConvertedLayer, ConvertedLayers
from registry_pipelines.stream.estargz import Conversion, Converted, Options
from registry_pipelines.stream.estargz_verify import verify_existing
from registry_pipelines.stream.left_out import unreadable
from registry_pipelines.stream.ranges import blob_ranges
from registry_pipelines.stream.results import LayerHow
from registry_pipelines.stream.source import is_estargz
from registry_pipelines.transfer.uploads import Uploads

NAMES_TOLD = 3

NOT_CARRIED = "eStargz could not carry it when the image was converted"


@dataclass(frozen=True)
class LayerOutcome:
    """What became of one layer. made: None for one that stays as it is, ``why`` says why."""

    made: ConvertedLayer | None
    how: LayerHow
    why: str = ""
    bytes_sent: int = 0


def why_kept(layer: Descriptor) -> str:
    """Why a layer stays as it is, of one that does, as far as its manifest tells. layer: as it is after that."""
    found = unreadable(layer)
    if found is not None:
        return found.detail
    return "it is eStargz already" if is_estargz(layer) else NOT_CARRIED


def options_of(options: Options) -> dict[str, Any]:
    """What a converted layer depends on, as plain data."""
    return {"chunk_bytes": options.chunk_bytes, "level": options.level, "prioritized": list(options.prioritized)}


class LayerConverter:
    """Converts layers of one repository to eStargz and stores them there. Safe for many threads."""

    def __init__(
        self,
        source: Place,
        uploads: Uploads,
        cache: ConvertedLayers,
        store: LayerStore,
        folder: Path,
        options: Options,
    ) -> None:
        """folder: for tables of contents that are too long for memory."""
        self._source, self._uploads, self._cache, self._store = source, uploads, cache, store
        self._folder, self._options = folder, options

    def ensure(self, layer: Descriptor, diff_id: Digest, progress: Progress) -> LayerOutcome:
        """Have the layer's other form in the repository. One with an entry that the form cannot carry stays as it is.
        Raises LayerInvalid, DigestMismatch (the layer is not what the image says), and the RegistryError, ContentError
        and LocalError families."""
        if unreadable(layer):
            return LayerOutcome(None, "kept", why_kept(layer))
        place, options = self._uploads.target, options_of(self._options)
        task = f"convert {layer.digest.short}"
        made = self._cache.find(layer, diff_id, options)
        why = ""
        if made is None:
            made, why = self._existing(layer, diff_id)
            if made is not None:
                self._cache.keep(layer, diff_id, options, made)
        if made and made.descriptor.digest == layer.digest:
            # Only the annotations may be new; Docker's push loses them where the blob is there already.
            told = (layer.annotations or {}).items() >= (made.descriptor.annotations or {}).items()
            return LayerOutcome(None if told else made, "kept", why_kept(made.descriptor))
        how: LayerHow | None = None
        if made:
            digest, size = made.descriptor.digest, made.descriptor.size
            found = self._uploads.find(digest, size, self._cache.seen(digest, place.registry.name))
            how = "mounted" if found == "mounted" else "present" if found else None
        sent = 0
        if made is None or how is None:
            try:
                made = self._make(layer, diff_id, progress, task)
            except LayerUnlisted as error:
                self._hold(layer, diff_id)
                progress.end(task, note="kept")
                return LayerOutcome(None, "kept", error.what)
            how, sent = "uploaded", made.descriptor.size
            self._cache.keep(layer, diff_id, options, made)
        self._cache.remember_seen(made.descriptor.digest, place.registry.name, place.repository)
        progress.end(task, note=how)
        return LayerOutcome(made, how, why, bytes_sent=sent)

    def _hold(self, layer: Descriptor, diff_id: Digest) -> None:
        """What stays as it is is vouched for, too: hold it against its diffID. Raises DigestMismatch."""
        if self._store.get(diff_id, layer.digest) is not None:
            return
        with self._store.turn(diff_id, layer.digest):
            if self._store.get(diff_id, layer.digest) is None:
                with BlobStream(self._source, layer) as stream:
                    self._store.read(stream, layer, diff_id, where=f"{self._source}@{layer.digest}")

    def _existing(self, layer: Descriptor, diff_id: Digest) -> tuple[ConvertedLayer | None, str]:
        """The layer itself where it is eStargz, and its table is right; and why it is not, where it says it were."""
        ranges = blob_ranges(self._source, layer.digest)
        try:
            found = verify_existing(layer, diff_id, ranges, where=f"{self._source}@{layer.digest}", folder=self._folder)
        except (IndexInvalid, LayerInvalid, Unsupported) as error:
            return None, f"it was made anew: {error.what}"
        if found is None:
            return None, "it was made anew: its annotation says eStargz, and it is not" if is_estargz(layer) else ""
        annotations = {**(layer.annotations or {}), **found.annotations}
        return ConvertedLayer(msgspec.structs.replace(layer, annotations=annotations), diff_id, found.chunks), ""

    def _make(self, layer: Descriptor, diff_id: Digest, progress: Progress, task: str) -> ConvertedLayer:
        passes = 0

        @contextmanager
        def opened() -> Iterator[Counted]:
            nonlocal passes
            passes += 1
            progress.begin(task, total_bytes=passes * layer.size)
            with BlobStream(self._source, layer) as stream:
                yield Counted(stream, progress, task)

        record = self._store.get(diff_id, layer.digest)
        conversion = Conversion(
            opened,
            where=f"{self._source}@{layer.digest}",
            expected=layer,
            diff_id=diff_id,
            entries=record.entries() if record else None,
            options=self._options,
            folder=self._folder,
        )
        name = f"estargz {layer.digest} {options_of(self._options)}"
        done = conversion.deliver(lambda produce: self._uploads.produce(name, produce))
        return ConvertedLayer(done.descriptor, done.diff_id, done.chunks, _left_out(done), done.missing)


def _left_out(done: Converted) -> str:
    """What a layer has and its other form has not, in words."""
    if not done.left_out:
        return ""
    names = ", ".join(repr(name) for name in done.left_out_names[:NAMES_TOLD])
    more = ", ..." if done.left_out > NAMES_TOLD else ""
    entries = count_text(done.left_out, "entry", "entries")
    return f"{entries} left out, whose name comes again or is the format's own: {names}{more}"
