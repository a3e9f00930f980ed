"""What ``stream.py`` measures of ours, each in a process of its own. ``stream_ours.py WHAT ARGUMENT...``:

own LAYER DIGEST DIFF_ID FOLDER: a ztoc, by nothing but what it takes. record (the same): the record that all stages
share, and the ztoc of it. all (the same): that pass with a scan's eyes, and a thread beside it that hashes. estargz
LAYER TARGET. build REGISTRY STATE KEEPING WHEELS REQUIREMENT...: an image, of whose layers is kept: ``nothing``, their
``record``, or that and what a ``scan`` looks for.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.layer.checkpoints import SPAN_BYTES, Checkpoints
from registry_pipelines.oci.layer.gzip_blocks import GzipBlocks
from registry_pipelines.oci.layer.record import LayerRecord, RawEntry, RecordWriter
from registry_pipelines.oci.layer.store import LayerStore
from registry_pipelines.oci.layer.tar import BLOCK_BYTES, ZERO_BLOCK, read_header
from registry_pipelines.oci.layer.walk import LayerWalk
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.oci.media_types import OCI_LAYER_GZIP
from registry_pipelines.stream.soci import ztoc_files
from registry_pipelines.stream.ztoc import record_spans, write_ztoc

READ_BYTES = 256 * 1024
TAR_BYTES = 1024 * 1024


class Tar:
    """The uncompressed bytes from front to back."""

    def __init__(self, blocks: GzipBlocks) -> None:
        self._blocks = blocks
        self._view = memoryview(bytearray(TAR_BYTES))
        self._start = self._at = self._end = 0

    @property
    def offset(self) -> int:
        return self._start + self._at

    def fill(self) -> bool:
        self._start += self._end
        self._at, self._end = 0, self._blocks.readinto(self._view)
        return self._end > 0

    def take(self, count: int) -> bytes:
        taken = b""
        while len(taken) < count and (self._at < self._end or self.fill()):
            piece = bytes(self._view[self._at : min(self._end, self._at + count - len(taken))])
            self._at += len(piece)
            taken += piece
        return taken

    def skip(self, count: int) -> None:
        while count > self._end - self._at:
            count -= self._end - self._at
            if not self.fill():
                return
        self._at += count


def own(layer: str, digest: str, diff_id: str, name: str) -> None:
    """Checkpoints, span digests and headers, without the hashes of the layer, its tar and its files that are part of
    every pass of ours and of no ztoc."""
    folder = Path(name)
    with Path(layer).open("rb", buffering=0) as file, RecordWriter(folder, span_bytes=SPAN_BYTES) as writer:
        spans = Checkpoints(writer.keep_window)
        buffer, piece = memoryview(bytearray(READ_BYTES)), memoryview(b"")

        def next_piece() -> memoryview:
            nonlocal piece
            spans.compressed(piece)
            piece = buffer[: file.readinto(buffer)]
            return piece

        tar, headers = Tar(GzipBlocks(next_piece, spans)), b""
        while (block := tar.take(BLOCK_BYTES)) != ZERO_BLOCK:
            headers += block
            header = read_header(block, where=layer, offset=tar.offset)
            stored = header.stored_bytes
            if header.type in b"LKxg":
                headers += tar.take(stored + -stored % BLOCK_BYTES)
                continue
            writer.add(RawEntry(tar.offset, stored, headers, b""))
            headers = b""
            tar.skip(stored + -stored % BLOCK_BYTES)
        tar.take(BLOCK_BYTES)
        end = tar.offset
        spans.archive_ended(end)
        while tar.fill():
            pass
        spans.finish()
        writer.finish(
            spans,
            digest=Digest(digest),
            size=Path(layer).stat().st_size,
            diff_id=Digest(diff_id),
            tar_size=tar.offset,
            archive_end=end,
            compression="gzip",
        )
    write_table(LayerRecord(folder), folder)


def record(
    layer: str,
    digest: str,
    diff_id: str,
    name: str,
    *,
    beside: Executor | None = None,
    collect: Callable[[LayerWalk], object] | None = None,
) -> None:
    """The pass of every stage."""
    folder = Path(name)
    descriptor = Descriptor(media_type=OCI_LAYER_GZIP, digest=Digest(digest), size=Path(layer).stat().st_size)
    with Path(layer).open("rb", buffering=0) as file:
        store = LayerStore(folder / "layers", collect=collect)
        write_table(store.read(file, descriptor, Digest(diff_id), beside=beside), folder)


def every(layer: str, digest: str, diff_id: str, name: str) -> None:
    """The same, and what a scan looks for."""
    from registry_pipelines.scan.collecting import collect_read

    with ThreadPoolExecutor(1) as pool:
        record(layer, digest, diff_id, name, beside=pool, collect=lambda walk: collect_read(walk, state=Path(name)))


def write_table(found: LayerRecord, folder: Path) -> None:
    write_ztoc(folder / "ztoc", ztoc_files(found), record_spans(found))


def estargz(layer: str, target: str) -> None:
    from registry_pipelines.stream.estargz import Conversion, Write

    def write_anew(produce: Callable[[Write], Descriptor]) -> None:
        with Path(target).open("wb") as out:
            produce(out.write)

    Conversion(partial(Path(layer).open, "rb", buffering=0)).deliver(write_anew)


def build(registry: str, state: str, keep: str, wheels: str, *requirements: str) -> None:
    from registry_pipelines.build.builder import BuildSpec
    from registry_pipelines.build.layers import LayersBuilder
    from registry_pipelines.build.recording import Keeping
    from registry_pipelines.registry.client import DistributionRegistry
    from registry_pipelines.registry.protocol import Place
    from registry_pipelines.scan.collecting import MadeLayer

    folder = Path(state)
    read = (lambda: MadeLayer(folder)) if keep == "scan" else None
    keeping = None if keep == "nothing" else Keeping(LayerStore(folder / "layers"), read=read)
    spec = BuildSpec(name="bench", requirements=requirements, wheels=Path(wheels), version="v1")
    place = Place(DistributionRegistry(registry, plain_http=True), "bench/image")
    LayersBuilder(folder, keeping=keeping).build(spec, place)


if __name__ == "__main__" and sys.argv[1:]:
    {"own": own, "record": record, "all": every, "estargz": estargz, "build": build}[sys.argv[1]](*sys.argv[2:])
