"""What one pass over each layer of an image found: its record, and what a scan keeps of it."""

from __future__ import annotations

import os
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from registry_pipelines.oci.behind import in_turns
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.layer.record import LayerRecord
from registry_pipelines.oci.layer.store import LayerStore, layer_turn
from registry_pipelines.oci.layer.walk import LayerWalk
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.progress import Progress
from registry_pipelines.registry.blobs import BlobStream, Counted
from registry_pipelines.registry.protocol import Place
from registry_pipelines.scan.collecting import collect_read
from registry_pipelines.scan.facts import LayerContent
from registry_pipelines.scan.kept import Kept
from registry_pipelines.stream.left_out import unreadable
from registry_pipelines.threads import Pool

WORKERS = 4
"""Layers read at once, at most one a core."""


@dataclass(frozen=True)
class ReadLayer:
    """One layer. record and content are None for one that nobody here can read: ``problem`` says why."""

    descriptor: Descriptor
    record: LayerRecord | None
    content: LayerContent | None
    fetched: bool = False
    problem: str = ""


def read_layers(
    place: Place,
    layers: tuple[tuple[Descriptor, Digest], ...],
    *,
    state: Path,
    records: bool = False,
    progress: Progress,
) -> list[ReadLayer]:
    """All layers of an image, base first; those that are not known yet are streamed once, and nothing is unpacked.

    state: the state folder; what is found stays there for scans. records: with checkpoints and the files' sha256, which
    takes a third more of the processor; else listings do. Raises LayerInvalid, DigestMismatch, NotFound, Unavailable,
    DiskFull, LocalError; with ``records`` ToolMissing: no library here stops at deflate blocks.
    """
    reader = _Reader(place, state, progress, records=records)
    unique = {(layer.digest, diff_id): layer for layer, diff_id in layers}
    cores = os.cpu_count() or 1
    with Pool(min(WORKERS, cores), "anatomy-layer") as pool:
        found = dict(zip(unique, pool.map(reader.known, unique, unique.values()), strict=True))
        unread = in_turns(state, [key for key, known in found.items() if known is None])
        # One fat layer is the usual image: inflating and hashing beside the walk takes half of the time from it. Where
        # there are others enough for all cores, more threads cost more than they bring.
        share = sum(unique[key].size for key in unread) // cores
        helped = [unique[key].size > share for key in unread]
        found |= zip(unread, pool.map(reader.read, unread, (unique[key] for key in unread), helped), strict=True)
    read = {key: each for key, each in found.items() if each is not None}
    return [read[layer.digest, diff_id] for layer, diff_id in layers]


class _Reader:
    def __init__(self, place: Place, state: Path, progress: Progress, *, records: bool) -> None:
        self._place, self._state, self._progress, self._records = place, state, progress, records

    def known(self, key: tuple[Digest, Digest], layer: Descriptor) -> ReadLayer | None:
        """What needs no byte of the layer; None: it has to be read."""
        if skipped := unreadable(layer):
            return ReadLayer(layer, None, None, problem=skipped.detail)
        return self._known(key[1], layer)

    def read(self, key: tuple[Digest, Digest], layer: Descriptor, helped: bool) -> ReadLayer:
        """helped: by threads that inflate and hash."""
        with layer_turn(self._state, key[1], layer.digest):
            return self._known(key[1], layer) or self._read(key[1], layer, helped=helped)

    def _known(self, diff_id: Digest, layer: Descriptor) -> ReadLayer | None:
        store = LayerStore(self._state / "layers")
        record = (store.get if self._records else store.listing)(diff_id, layer.digest)
        content = Kept(self._state).layer(diff_id, layer.digest)
        if record is None or content is None:
            return None
        self._progress.end(_task(layer), note="known")
        return ReadLayer(layer, record, content)

    def _read(self, diff_id: Digest, layer: Descriptor, *, helped: bool) -> ReadLayer:
        task = _task(layer)
        collected: list[LayerContent] = []

        def collect(walk: LayerWalk) -> None:
            collected.append(collect_read(walk, state=self._state))

        self._progress.begin(task, total_bytes=layer.size)
        with (
            BlobStream(self._place, layer) as stream,
            Pool(1, "anatomy-hash") if helped else nullcontext() as beside,
            Pool(1, "anatomy-inflate") if helped else nullcontext() as ahead,
        ):
            record = LayerStore(self._state / "layers", collect=collect).read(
                Counted(stream, self._progress, task),
                layer,
                diff_id,
                where=f"{self._place}@{layer.digest}",
                listing=not self._records,
                beside=beside,
                ahead=ahead,
            )
        self._progress.end(task)
        return ReadLayer(layer, record, collected[0], fetched=True)


def _task(layer: Descriptor) -> str:
    return f"anatomy {layer.digest.short}"
