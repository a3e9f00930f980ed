"""Layers that are read before they are there: every byte is the layer's, whatever the registry, disk and machine do."""

from __future__ import annotations

import gzip
import random
import tarfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry_pipelines.errors import (
    IndexInvalid,
    LocalError,
    RegistryError,
    RegistryPipelinesError,
    Unavailable,
    Unsupported,
)
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.media_types import OCI_LAYER_GZIP
from registry_pipelines.registry.blobs import push_blob
from registry_pipelines.registry.client.distribution import DistributionRegistry
from registry_pipelines.registry.client.retries import Retries
from registry_pipelines.registry.embedded.server import EmbeddedServer
from registry_pipelines.registry.layout import LayoutRegistry
from registry_pipelines.registry.protocol import Place
from registry_pipelines.stream.estargz import Options
from registry_pipelines.stream.estargz_toc import read_toc
from registry_pipelines.stream.lazy.blocks import BlockStore
from registry_pipelines.stream.lazy.filling import Filler
from registry_pipelines.stream.lazy.lazy_layer import LazyLayer
from registry_pipelines.stream.lazy.pieces import Chunk, ChunkPieces, SpanPieces, WholeLayer
from registry_pipelines.stream.ranges import blob_ranges
from registry_pipelines.stream.ztoc import record_spans
from tests.doubles.fault_registry import FaultRegistry
from tests.doubles.faults import Corrupt, CutAnswer, HoldAnswer, NoRange, Rewrite, Status
from tests.doubles.small_disk import small_disk
from tests.patience import patient, until
from tests.stream.layers import convert, members, pack
from tests.stream.lazy.parts import Layer, filler, noise
from tests.stream.test_spans import COMPRESSORS, tars


@dataclass
class Faulty:
    faults: FaultRegistry
    place: Place


@pytest.fixture
def faulty(tmp_path: Path) -> Iterator[Faulty]:
    with EmbeddedServer(tmp_path / "registry") as server, FaultRegistry(server.address) as faults:
        registry = DistributionRegistry(faults.address, plain_http=True, retries=Retries(first_wait_s=0.01))
        yield Faulty(faults, Place(registry, "app"))
        registry.close()


def a_tar(seed: int = 1, size: int = 200_000) -> bytes:
    info = tarfile.TarInfo("a/file")
    info.size = size
    return pack([(info, noise(seed, size))])


def test_what_is_read_is_the_layer_and_comes_once(faulty: Faulty, tmp_path: Path) -> None:
    layer = Layer(faulty.place, tmp_path, gzip.compress(a_tar()))
    faulty.faults.reset_counts()
    end = layer.record.archive_end
    with filler(faulty.place, tmp_path / "blocks") as filling:
        lazy = filling.open(layer.descriptor.digest, layer.pieces)
        assert lazy.read(100_000, 10) == layer.tar[100_000:100_010]
        first = len(faulty.faults.seen)
        assert first == 1 and lazy.read(100_001, 9) == layer.tar[100_001:100_010]
        assert len(faulty.faults.seen) == first and not lazy.complete
        draw = random.Random(1)
        for _ in range(200):
            start = draw.randrange(end)
            stop = min(end, start + draw.randrange(20_000))
            assert lazy.read(start, stop - start) == layer.tar[start:stop]
        lazy.view(0, end)
        assert lazy.complete and lazy.filled_bytes == lazy.size == end
        spans = len(layer.record.checkpoints)
        assert len(faulty.faults.seen) <= spans and filling.counts.demand.requests == len(faulty.faults.seen)
        until(lambda: filling.counts.demand.bytes == sum(each.bytes_down for each in faulty.faults.seen))
    faulty.faults.reset_counts()
    with filler(faulty.place, tmp_path / "blocks") as filling:
        lazy = filling.open(layer.descriptor.digest, layer.pieces)
        assert lazy.read(0, end) == layer.tar[:end] and not faulty.faults.seen


@settings(max_examples=40)
@given(tars(), st.sampled_from(sorted(COMPRESSORS)), st.integers(200, 60_000), st.integers(3000, 30_000), st.data())
def test_every_read_of_any_layer_is_what_is_unpacked(
    tmp_path_factory: pytest.TempPathFactory,
    tar: bytes,
    compressor: str,
    span_bytes: int,
    cut: int,
    data: st.DataObject,
) -> None:
    folder = tmp_path_factory.mktemp("layer")
    place = Place(LayoutRegistry(folder / "registry"), "app")
    layer = Layer(place, folder, COMPRESSORS[compressor](tar, cut), span_bytes=span_bytes)
    end = layer.record.archive_end
    whole = WholeLayer(layer.descriptor, end)
    with filler(place, folder / "blocks") as filling:
        lazies = [filling.open(layer.descriptor.digest, each) for each in (layer.pieces, whole)]
        for _ in range(5):
            start = data.draw(st.integers(0, end))
            stop = min(end, start + data.draw(st.integers(0, 30_000)))
            for lazy in lazies:
                assert lazy.read(start, stop - start) == tar[start:stop]
        assert all(lazy.read(0, end) == tar[:end] and lazy.complete for lazy in lazies)


def test_readers_of_one_piece_wait_for_one_request(faulty: Faulty, tmp_path: Path) -> None:
    layer = Layer(faulty.place, tmp_path, gzip.compress(a_tar()))
    release = threading.Event()
    faulty.faults.reset_counts()
    faulty.faults.play("GET", ".*/blobs/.*", HoldAnswer(release))
    with filler(faulty.place, tmp_path / "blocks") as filling, ThreadPoolExecutor(8) as readers:
        lazy = filling.open(layer.descriptor.digest, layer.pieces)
        reads = [readers.submit(lazy.read, 50_000 + each, 100) for each in range(8)]
        until(lambda: len(faulty.faults.seen) > 0)
        release.set()
        assert [each.result() for each in reads] == [layer.tar[50_000 + each :][:100] for each in range(8)]
        assert len(faulty.faults.seen) == 1 and filling.counts.stalls >= 1 and filling.counts.stall_s > 0


def test_neighbours_come_in_one_request(faulty: Faulty, tmp_path: Path) -> None:
    layer = Layer(faulty.place, tmp_path, gzip.compress(a_tar()))
    faulty.faults.reset_counts()
    with filler(faulty.place, tmp_path / "blocks") as filling:
        lazy = filling.open(layer.descriptor.digest, layer.pieces)
        assert lazy.read(0, lazy.size) == layer.tar[: lazy.size]
    assert len(layer.record.checkpoints) > 10 and len(faulty.faults.seen) == 1


def test_wrong_bytes_are_an_error_and_never_seen(faulty: Faulty, tmp_path: Path) -> None:
    layer = Layer(faulty.place, tmp_path, gzip.compress(a_tar()))
    log: list[str] = []
    with filler(faulty.place, tmp_path / "blocks", log=log) as filling:
        spans = filling.open(layer.descriptor.digest, layer.pieces)
        whole = filling.open(layer.descriptor.digest, WholeLayer(layer.descriptor, len(layer.tar)))
        faulty.faults.play("GET", ".*/blobs/.*", Corrupt(2000))
        for lazy in (spans, whole):
            with pytest.raises(IndexInvalid, match="hashes to"):
                lazy.read(100_000, 10)
            assert lazy.filled_bytes == 0 and not any(lazy.raw(0, lazy.size))
        assert len(log) == 2 and "hashes to" in log[0] and filling.counts.failures == 2
        faulty.faults.clear()
        assert all(lazy.read(100_000, 10) == layer.tar[100_000:100_010] for lazy in (spans, whole))


def test_a_wrong_piece_does_not_take_its_neighbours_with_it(faulty: Faulty, tmp_path: Path) -> None:
    layer = Layer(faulty.place, tmp_path, gzip.compress(a_tar()))
    spans = record_spans(layer.record)
    digests = list(spans.digests)
    digests[3] = digests[4]
    with filler(faulty.place, tmp_path / "blocks") as filling:
        wrong = SpanPieces(replace(spans, digests=tuple(digests)), table=Digest.of(b"a table"))
        lazy = filling.open(layer.descriptor.digest, wrong)
        with pytest.raises(IndexInvalid, match="span 3 hashes"):
            lazy.read(0, lazy.size)
        until(lambda: lazy.filled_bytes > lazy.size - 20_000)
        start, stop = spans.unpacked(3)
        assert lazy.read(0, start) == layer.tar[:start] and lazy.read(stop, 1000) == layer.tar[stop : stop + 1000]
        assert not lazy.holds(start, start + 1)


def test_a_registry_without_ranges_is_said_and_gives_the_whole(faulty: Faulty, tmp_path: Path) -> None:
    layer = Layer(faulty.place, tmp_path, gzip.compress(a_tar()))
    faulty.faults.play("GET", ".*/blobs/.*", NoRange())
    with filler(faulty.place, tmp_path / "blocks") as filling:
        lazy = filling.open(layer.descriptor.digest, layer.pieces)
        with pytest.raises(Unsupported, match="whole blob"):
            lazy.read(0, 10)
        whole = filling.open(layer.descriptor.digest, WholeLayer(layer.descriptor, len(layer.tar)))
        assert whole.read(0, whole.size) == layer.tar


def test_another_range_than_asked_for_is_an_error(faulty: Faulty, tmp_path: Path) -> None:
    layer = Layer(faulty.place, tmp_path, gzip.compress(a_tar()))
    faulty.faults.play("GET", ".*/blobs/.*", Rewrite(set={"Content-Range": "bytes 0-99/150000"}))
    with filler(faulty.place, tmp_path / "blocks") as filling:
        lazy = filling.open(layer.descriptor.digest, layer.pieces)
        with pytest.raises(RegistryError, match="the registry gave 0-99"):
            lazy.read(100_000, 10)
        assert lazy.filled_bytes == 0


def test_a_token_that_expires_is_renewed(faulty: Faulty, tmp_path: Path) -> None:
    layer = Layer(faulty.place, tmp_path, gzip.compress(a_tar()))
    faulty.faults.require_tokens()
    with filler(faulty.place, tmp_path / "blocks") as filling:
        lazy = filling.open(layer.descriptor.digest, layer.pieces)
        assert lazy.read(0, 10) == layer.tar[:10]
        faulty.faults.expire_tokens()
        assert lazy.read(150_000, 10) == layer.tar[150_000:150_010]


def test_an_answer_that_is_cut_goes_on(faulty: Faulty, tmp_path: Path) -> None:
    layer = Layer(faulty.place, tmp_path, gzip.compress(a_tar()))
    faulty.faults.reset_counts()
    faulty.faults.play("GET", ".*/blobs/.*", CutAnswer(50_000), times=1)
    with filler(faulty.place, tmp_path / "blocks") as filling:
        lazy = filling.open(layer.descriptor.digest, layer.pieces)
        assert lazy.read(0, lazy.size) == layer.tar[: lazy.size]
    first, second = (each.range for each in faulty.faults.seen)
    assert int(second.removeprefix("bytes=").split("-")[0]) > 30_000 > int(first.removeprefix("bytes=").split("-")[0])


@pytest.mark.parametrize("dead", ["hangs", "refuses"])
def test_a_registry_that_dies_ends_the_wait_with_an_error(
    faulty: Faulty, tmp_path: Path, dead: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = Layer(faulty.place, tmp_path, gzip.compress(a_tar()))
    log: list[str] = []
    release = threading.Event()
    fault = HoldAnswer(release) if dead == "hangs" else Status(503)
    faulty.faults.play("GET", ".*/blobs/.*", fault)
    # One that refuses is given up after its answer, however late that comes: the pause behind it would be too long.
    monkeypatch.setattr("registry_pipelines.transfer.flow.patience.FIRST_PAUSE_S", patient(1000))
    patience_s = 0.2 if dead == "hangs" else patient(60)
    with filler(faulty.place, tmp_path / "blocks", log=log, patience_s=patience_s) as filling:
        lazy = filling.open(layer.descriptor.digest, layer.pieces)
        with pytest.raises(Unavailable, match=r"gave nothing for 0\.2 s" if dead == "hangs" else "503"):
            lazy.read(100_000, 10)
        assert lazy.filled_bytes == 0 and filling.counts.failures == 1 and log
        faulty.faults.clear()
        release.set()
        until(lambda: not pending(lazy, 100_000, 10))
        assert lazy.read(100_000, 10) == layer.tar[100_000:100_010]


def pending(lazy: LazyLayer, position: int, size: int) -> bool:
    """Whether a read still ends with the error of a registry that has come back meanwhile."""
    try:
        lazy.read(position, size)
    except Unavailable:
        return True
    return False


def test_who_waits_when_the_mount_ends_gets_an_error(faulty: Faulty, tmp_path: Path) -> None:
    layer = Layer(faulty.place, tmp_path, gzip.compress(a_tar()))
    release = threading.Event()
    faulty.faults.play("GET", ".*/blobs/.*", HoldAnswer(release))
    filling = filler(faulty.place, tmp_path / "blocks")
    lazies = [filling.open(layer.descriptor.digest, layer.pieces) for _ in range(6)]
    with ThreadPoolExecutor(6) as readers:
        reads = [readers.submit(lazy.read, 0, 10) for lazy in lazies]
        until(lambda: len(faulty.faults.requests("GET", ".*/blobs/.*")) == 4)
        closing = threading.Thread(target=filling.close)
        closing.start()
        assert any(isinstance(each.exception(), Unavailable) for each in as_completed(reads[:6], timeout=patient(30)))
        release.set()
        closing.join(patient(30))
    with pytest.raises((Unavailable, LocalError)):
        lazies[0].read(0, 10)
    assert filling.filled_bytes <= filling.total_bytes


def test_the_rest_comes_in_the_background_and_readers_come_first(faulty: Faulty, tmp_path: Path) -> None:
    layers = [Layer(faulty.place, tmp_path / str(n), gzip.compress(a_tar(n))) for n in range(5)]
    release = threading.Event()
    with filler(faulty.place, tmp_path / "blocks") as filling:
        lazies = [filling.open(each.descriptor.digest, each.pieces) for each in layers]
        faulty.faults.reset_counts()
        faulty.faults.play("GET", ".*/blobs/.*", HoldAnswer(release), times=3)
        filling.start_background()
        until(lambda: len(faulty.faults.seen) == 3)
        # While three requests stand still, one of them for what is read.
        assert lazies[4].read(150_000, 10) == layers[4].tar[150_000:150_010]
        assert lazies[2].read(150_000, 10) == layers[2].tar[150_000:150_010]
        release.set()
        until(lambda: filling.filled_bytes == filling.total_bytes)
        assert all(lazy.read(0, lazy.size) == each.tar[: lazy.size] for lazy, each in zip(lazies, layers, strict=True))
        assert filling.counts.background.bytes > 300_000 and filling.counts.demand.requests >= 1


def test_two_fillers_of_one_node_share_the_background(faulty: Faulty, tmp_path: Path) -> None:
    layer = Layer(faulty.place, tmp_path, gzip.compress(a_tar()))
    with filler(faulty.place, tmp_path / "blocks") as one, filler(faulty.place, tmp_path / "blocks") as other:
        lazies = [each.open(layer.descriptor.digest, layer.pieces) for each in (one, other)]
        faulty.faults.reset_counts()
        release = threading.Event()
        faulty.faults.play("GET", ".*/blobs/.*", HoldAnswer(release), times=1)
        one.start_background()
        until(lambda: len(faulty.faults.seen) == 1)
        other.start_background()
        assert lazies[1].read(150_000, 10) == layer.tar[150_000:150_010]
        release.set()
        until(lambda: lazies[0].complete)
        assert lazies[1].complete and lazies[1].read(0, lazies[1].size) == layer.tar[: lazies[1].size]
        assert other.counts.background.requests == 0


def test_what_came_is_synced_while_the_mount_is_idle(
    faulty: Faulty, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("registry_pipelines.stream.lazy.filling.SYNC_EVERY_S", 0.2)
    layer = Layer(faulty.place, tmp_path, gzip.compress(a_tar()))
    with filler(faulty.place, tmp_path / "blocks") as filling:
        lazy = filling.open(layer.descriptor.digest, layer.pieces)
        assert lazy.read(100_000, 10) == layer.tar[100_000:100_010]
        until((lazy.folder / "synced").exists)


def test_the_background_keeps_the_stores_limit(faulty: Faulty, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("registry_pipelines.stream.lazy.filling.MEASURE_EVERY_BYTES", 100_000)
    monkeypatch.setattr("registry_pipelines.stream.lazy.filling.JOINED_BYTES", 100_000)
    layer = Layer(faulty.place, tmp_path, gzip.compress(a_tar(1, 2_000_000)))
    log: list[str] = []
    store = BlockStore(tmp_path / "blocks", max_bytes=500_000)
    with Filler(faulty.place, store, log=log.append) as filling:
        lazy = filling.open(layer.descriptor.digest, layer.pieces)
        filling.start_background()
        until(lambda: bool(log))
        assert "the store is full" in log[0] and lazy.filled_bytes < 1_500_000
        assert lazy.read(0, lazy.size) == layer.tar[: lazy.size]


def test_a_full_disk_is_served_without_keeping(faulty: Faulty, tmp_path: Path) -> None:
    tar = a_tar(1, 3_000_000)
    layer = Layer(faulty.place, tmp_path, gzip.compress(tar), span_bytes=100_000)
    log: list[str] = []
    with small_disk(tmp_path / "small", 1) as small, filler(faulty.place, small / "blocks", log=log) as filling:
        lazy = filling.open(layer.descriptor.digest, layer.pieces)
        filling.start_background()
        draw = random.Random(1)
        for _ in range(300):
            start = draw.randrange(lazy.size)
            stop = min(lazy.size, start + draw.randrange(200_000))
            assert lazy.read(start, stop - start) == tar[start:stop]
        assert 0 < lazy.filled_bytes < 1 << 20 and len(log) == 1 and "not kept" in log[0]


def test_a_full_disk_lets_go_what_nobody_has_open(faulty: Faulty, tmp_path: Path) -> None:
    layers = [Layer(faulty.place, tmp_path / str(n), gzip.compress(a_tar(n, 500_000))) for n in range(3)]
    log: list[str] = []
    with small_disk(tmp_path / "small", 1) as small:
        for layer in layers:
            with filler(faulty.place, small / "blocks", log=log) as filling:
                lazy = filling.open(layer.descriptor.digest, layer.pieces)
                assert lazy.read(0, lazy.size) == layer.tar[: lazy.size] and lazy.complete
    assert not log


def estargz(place: Place, raw: bytes, chunk_bytes: int) -> tuple[Digest, list[Chunk], list[tuple[str, int, int]], int]:
    """An eStargz layer in a registry: its chunks; digest, position and size of its files; bytes of the layout."""
    blob, _ = convert(raw, Options(chunk_bytes=chunk_bytes))
    layer = push_blob(place, blob, media_type=OCI_LAYER_GZIP)
    chunks, files, position, size = [], [], 0, 0
    with read_toc(blob_ranges(place, layer.digest), layer.size) as toc:
        rows = [row for row in toc if row.has_content]
        stops = [*(row.offset for row in rows[1:]), toc.offset]
    for row, stop in zip(rows, stops, strict=True):
        if row.type == "reg":
            position += -position % 512
            size = row.size
            files.append((row.digest, position, size))
        count = row.chunk_size or size - row.chunk_offset
        chunks.append(Chunk(position, count, row.offset, stop, row.inner_offset, Digest(row.chunk_digest)))
        position += count
    return layer.digest, chunks, files, position + -position % 512


@settings(max_examples=30)
@given(members(), st.sampled_from([1000, 4096, 8000, 1 << 20]))
def test_chunks_of_estargz_give_the_files(
    tmp_path_factory: pytest.TempPathFactory, entries: list[tuple[tarfile.TarInfo, bytes]], chunk_bytes: int
) -> None:
    folder = tmp_path_factory.mktemp("layer")
    place = Place(LayoutRegistry(folder / "registry"), "app")
    digest, chunks, files, size = estargz(place, gzip.compress(pack(entries)), chunk_bytes)
    with filler(place, folder / "blocks") as filling:
        lazy = filling.open(digest, ChunkPieces(chunks, size, table=Digest.of(b"table")))
        for file_digest, start, count in files:
            assert Digest.of(lazy.read(start, count)) == file_digest
        assert lazy.complete


def test_a_chunk_that_is_another_one_is_found(faulty: Faulty, tmp_path: Path) -> None:
    digest, chunks, files, size = estargz(faulty.place, gzip.compress(a_tar()), 50_000)
    table = Digest.of(b"table")
    with filler(faulty.place, tmp_path / "blocks") as filling:
        wrong = [chunks[0]._replace(digest=chunks[1].digest), *chunks[1:]]
        lazy = filling.open(digest, ChunkPieces(wrong, size, table=table))
        with pytest.raises(IndexInvalid, match="another digest"):
            lazy.read(0, 10)
        assert not any(lazy.raw(0, 50_000)) and lazy.read(60_000, 10)
        behind = [chunks[0]._replace(inner=chunks[0].inner + 10**9), *chunks[1:]]
        with pytest.raises(IndexInvalid, match="do not follow"):
            filling.open(digest, ChunkPieces(behind, size, table=Digest.of(b"other"))).read(0, 10)
        assert Digest.of(filling.open(digest, ChunkPieces(chunks, size, table=Digest.of(b"right"))).read(*files[0][1:]))
    for each in ([chunks[1], chunks[0]], [chunks[0]._replace(size=0)], [chunks[0]._replace(stop=chunks[0].start)]):
        with pytest.raises(IndexInvalid, match="overlap"):
            ChunkPieces(each, size, table=table)
    with pytest.raises(IndexInvalid, match="outside"):
        ChunkPieces(chunks, size - 4096, table=table)


def troubled_reads(faulty: Faulty, tmp_path: Path, turns: int) -> None:
    """Reads while the registry changes between all kinds of trouble: each gives the right bytes, or an error."""
    layer = Layer(faulty.place, tmp_path, gzip.compress(a_tar(1, 1_000_000)))
    store = tmp_path / "blocks"
    draw = random.Random(turns)
    for turn in range(turns):
        release = threading.Event()
        trouble = [Status(503), Status(429), HoldAnswer(release), CutAnswer(draw.randrange(20_000)), NoRange()]
        faulty.faults.clear()
        faulty.faults.play(
            "GET", ".*/blobs/.*", draw.choice([*trouble, Corrupt(draw.randrange(9000))]), skip=draw.randrange(4)
        )
        with filler(faulty.place, store, patience_s=0.1) as filling, ThreadPoolExecutor(4) as readers:
            lazy = filling.open(layer.descriptor.digest, layer.pieces)
            if draw.random() < 0.3:
                filling.start_background()
            starts = [draw.randrange(lazy.size - 30_000) for _ in range(8)]
            wanted = [(start, start + draw.randrange(30_000)) for start in starts]
            reads = [readers.submit(lazy.read, start, stop - start) for start, stop in wanted]
            for (start, stop), read in zip(wanted, reads, strict=True):
                with suppress(RegistryPipelinesError):
                    assert read.result() == layer.tar[start:stop]
            release.set()
        if lazy.filled_bytes > 700_000 or turn == turns - 1:
            faulty.faults.clear()
            with filler(faulty.place, store) as filling:
                whole = filling.open(layer.descriptor.digest, layer.pieces)
                assert whole.read(0, whole.size) == layer.tar[: whole.size], "also what was kept meanwhile"
            BlockStore(store).make_room(10**9)


def test_no_trouble_of_a_registry_gives_a_wrong_byte(faulty: Faulty, tmp_path: Path) -> None:
    troubled_reads(faulty, tmp_path, 2)


@pytest.mark.long
def test_two_hundred_troubles_of_a_registry_give_no_wrong_byte(faulty: Faulty, tmp_path: Path) -> None:
    troubled_reads(faulty, tmp_path, 200)
