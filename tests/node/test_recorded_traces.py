"""Starts that were traced on an H100, done again on a node: its recording cuts the very pack that the trace does."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import msgspec
import pytest

from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.registry.protocol import Place
from registry_pipelines.stream.bench.traces import PlacedTrace, place_trace, read_trace
from registry_pipelines.stream.hot.inbox import NodeNote, of_images, send, waiting
from registry_pipelines.stream.hot.recording import PAGE_BYTES, Recording
from registry_pipelines.stream.hot.taking import take
from registry_pipelines.stream.hot.watched import WatchedImage
from registry_pipelines.stream.lazy.carriers import Kind
from registry_pipelines.stream.lazy.opened import open_image
from registry_pipelines.stream.lazy.serving import Mounted
from tests.evidence.parts import Counted, Key
from tests.stream.bench.test_replay import ARCHIVE, SITE, sizes_of
from tests.stream.hot.packing import cut
from tests.stream.layers import pack
from tests.stream.lazy.mounts import need_fanotify
from tests.stream.lazy.starts import file
from tests.stream.releases import INDEXED, Layer, Streamer, push


def made(place: Place, placed: PlacedTrace) -> Descriptor:
    """An image with the files of a trace, in their sizes."""
    tar = pack([file(each.path, content(each.size)) for each in placed.recording.files])
    return push(place, Layer(gzip.compress(tar, 1, mtime=0), tar))


def content(size: int) -> bytes:
    """No two pages alike, and small enough as a layer; equal bytes alone would be taken for a bomb."""
    pages = range(-(-size // PAGE_BYTES))
    return b"".join((number.to_bytes(8, "big") * 16).ljust(PAGE_BYTES, b"\0") for number in pages)[:size]


def recorded(counted: Counted, key: Key, state: Path, image: Descriptor, carrier: Kind, start: Recording) -> Recording:
    """What a node records of a program that touches these pages, each from a process's point of view."""
    (state / "top").mkdir(parents=True)
    with open_image(counted.place, image.digest, state=state, verifier=key.verifier, log=print) as opened:
        watched, folder = WatchedImage(opened), state / "top"
        watched.begin()
        note = opened.note("x", folder)
        with Mounted(watched, folder, state / "lazy/mounts", note, opened.count, carrier=carrier, log=print):
            descriptors: dict[int, int] = {}
            for number, first, count in start.touches:
                if number not in descriptors:
                    if len(descriptors) > 400:
                        os.close(descriptors.pop(next(iter(descriptors))))
                    descriptors[number] = os.open(folder / start.files[number].path, os.O_RDONLY)
                    os.posix_fadvise(descriptors[number], 0, 0, os.POSIX_FADV_RANDOM)
                for page in range(first, first + count):
                    os.pread(descriptors[number], 1, page * PAGE_BYTES)
            for descriptor in descriptors.values():
                os.close(descriptor)
        watched.finish()
        files, touches = watched.found()
    return Recording(image=image.digest, files=files, touches=touches, gpu=True)


def in_order(what: Recording) -> list[tuple[str, int]]:
    return [(what.files[n].path, first + more) for n, first, count in what.touches for more in range(count)]


@pytest.mark.parametrize(
    ("name", "carrier"),
    [
        pytest.param("stdlib-4", "fuse", marks=pytest.mark.long),
        ("stdlib-4", "fanotify"),
        *(
            pytest.param(name, carrier, marks=pytest.mark.long)
            for name in ("cupy-4", "sklearn-4")
            for carrier in ("fuse", "fanotify")
        ),
    ],
)
def test_a_traced_start_is_recorded_page_by_page_in_its_order(
    counted: Counted, streamer: Streamer, key: Key, tmp_path: Path, name: str, carrier: Kind
) -> None:
    need_fanotify(tmp_path)
    trace = read_trace(f"{ARCHIVE}:{name}")
    placed = place_trace(trace, Digest.of(b""), sizes_of(trace).get, SITE)
    release = made(counted.place, placed)
    streamer.index(release, INDEXED)
    start = msgspec.structs.replace(placed.recording, image=release.digest, command=())
    told = recorded(counted, key, tmp_path / "node", release, carrier, start)
    if carrier == "fuse":
        assert in_order(told) == in_order(start)
    else:  # of small files that share a page of the layer nobody knows which one it was
        assert set(in_order(start)) <= set(in_order(told)) and told.pages < 1.05 * start.pages
    inbox = Place(counted.place.registry, "inbox")
    send(inbox, told, NodeNote(image=release.digest, recording=release.digest, node="one"))
    [(_, messages)] = of_images(waiting(inbox))
    state = tmp_path / "indexer"
    taken = take(inbox, messages, counted.place, release, signer=key.signer, state=state)
    assert taken.published is not None and taken.notes() == []
    packed = cut(counted.place, state, key, taken.published.recording)
    again = cut(counted.place, state, key, start)
    assert packed.changed and packed.pages == told.pages and packed.content_bytes
    if carrier == "fuse":
        assert not again.changed and again.pack == packed.pack, "the very same pack"
    else:
        assert abs(again.content_bytes - packed.content_bytes) <= 0.01 * packed.content_bytes
