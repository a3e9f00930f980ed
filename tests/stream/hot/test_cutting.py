"""Packs from release to release: what is read, what is sent, and what a node fetches."""

from __future__ import annotations

import gzip
import hashlib
import random
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest

from registry_pipelines.collect.apply import apply_plan
from registry_pipelines.collect.make import plan_deletion
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.layout import LayoutRegistry
from registry_pipelines.registry.protocol import Place
from registry_pipelines.registry.tags import digest_at
from registry_pipelines.settings import Size
from registry_pipelines.stream.hot.packs import find_packs, read_head
from registry_pipelines.stream.hot.recording import with_contents
from registry_pipelines.stream.lazy.opened import open_image
from registry_pipelines.stream.model import Stream
from registry_pipelines.transfer.copying import copy_closure
from tests.doubles.fault_registry import FaultRegistry
from tests.evidence.parts import Counted, Key
from tests.stream.hot.packing import MIB, content, cut, recording
from tests.stream.layers import pack
from tests.stream.lazy.starts import file
from tests.stream.releases import ESTARGZ, Layer, Streamer, push

INDEXED = Stream(min_layer_size=Size(1000))


def release(place: Place, tag: str, **wheels: str) -> Descriptor:
    """A layer for each wheel: its content by a word."""
    layers = []
    for name, word in wheels.items():
        noise = random.Random(name + word).randbytes(MIB)
        tar = pack([file(f"site/{name}/lib.so", noise), file(f"site/{name}/__init__.py", word.encode() * 1000)])
        layers.append(Layer(gzip.compress(tar, 1, mtime=0), tar))
    return push(place, *layers, tag=tag)


def files(*wheels: str) -> dict[str, int]:
    return {f"site/{name}/{leaf}": size for name in wheels for leaf, size in (("lib.so", MIB), ("__init__.py", 3000))}


def test_of_the_next_release_only_what_changed_is_cut_sent_and_fetched(
    counted: Counted, streamer: Streamer, key: Key, tmp_path: Path
) -> None:
    old = release(counted.place, "v1", one="old", two="old", three="old")
    new = release(counted.place, "v2", one="old", two="new", three="old")
    for each in (old, new):
        streamer.index(each, INDEXED)
    told = recording(old.digest, files("one", "two", "three"))
    first = cut(counted.place, streamer.state, key, told)
    shutil.rmtree(streamer.state / "lazy")  # no byte of a layer is here
    with FaultRegistry(counted.server.address) as faults:
        registry = DistributionRegistry(faults.address)
        place = Place(registry, "team/app")
        second = cut(place, streamer.state, key, told, image=new.digest, earlier=[old.digest])
        assert second.inherited and (second.parts, second.parts_reused) == (3, 2) and second.files_dropped == 0
        assert second.pages_found == second.pages and second.content_bytes == first.content_bytes
        assert MIB < second.bytes_sent < 1.1 * MIB and MIB < second.bytes_read < 1.1 * MIB
        node = tmp_path / "node"
        for tag, expected in (("v1", 3), ("v2", 1)):
            with open_image(place, tag, state=node, verifier=key.verifier, log=print) as opened:
                faults.reset_counts()
                for name in ("one", "two", "three"):
                    word = "new" if (name, tag) == ("two", "v2") else "old"
                    assert content(opened, f"site/{name}/lib.so") == random.Random(name + word).randbytes(MIB)
                fetched = opened.count(opened.note(tag, node)).pack_bytes
                assert expected * MIB < fetched < (expected + 0.2) * MIB
        registry.close()


def test_a_moved_file_is_found_by_its_content_and_a_converted_layer_by_its_files(
    counted: Counted, streamer: Streamer, key: Key
) -> None:
    old = release(counted.place, "v1", one="old")
    streamer.index(old, INDEXED)
    noise = random.Random("oneold").randbytes(MIB)
    tar = pack([file("opt/moved.so", noise), file("opt/other", b"x" * 9000)])
    moved = push(counted.place, Layer(gzip.compress(tar, mtime=0), tar), tag="v2")
    streamer.index(moved, INDEXED)
    plain = recording(old.digest, files("one"))
    known = with_contents(plain, [plain.files[0]._replace(sha256=hashlib.sha256(noise).hexdigest())])
    second = cut(counted.place, streamer.state, key, known, image=moved.digest)
    assert (second.pages_found, second.files_dropped) == (256, 1)
    converted = streamer.convert(old, ESTARGZ).derived
    assert converted is not None
    third = cut(counted.place, streamer.state, key, known, image=converted.digest)
    assert (third.pages_found, third.files_dropped) == (257, 0)
    head = read_head(counted.place, find_packs(counted.place, converted.digest, key.verifier).believed[0])
    assert head.layers[0].table is not None


def test_a_pack_has_no_more_than_it_may_and_nothing_is_attached_for_nothing(
    counted: Counted, streamer: Streamer, key: Key
) -> None:
    old = release(counted.place, "v1", one="old", two="old")
    told = recording(old.digest, files("one", "two"))
    small = cut(counted.place, streamer.state, key, told, max_bytes=300_000)
    assert small.pages_left_out > 200 and small.content_bytes < 2 * MIB
    nothing = cut(counted.place, streamer.state, key, recording(old.digest, {"elsewhere": 10}))
    assert nothing.pack is None and not nothing.changed and nothing.files_dropped == 1


def test_a_touch_of_no_page_cuts_nothing(counted: Counted, streamer: Streamer, key: Key) -> None:
    old = release(counted.place, "v1", one="")
    sizes = {"site/one/lib.so": MIB, "site/one/__init__.py": 0}
    touches = [("site/one/__init__.py", 0, 0), ("site/one/__init__.py", 0, 1), ("site/one/lib.so", 10, 2)]
    done = cut(counted.place, streamer.state, key, recording(old.digest, sizes, touches))
    assert done.pack is not None and 0 < done.content_bytes < 300_000


def test_more_of_a_layer_than_before_is_cut_anew(counted: Counted, streamer: Streamer, key: Key) -> None:
    old = release(counted.place, "v1", one="old", two="old")
    some = recording(old.digest, files("one", "two"), [("site/one/lib.so", 0, 100), ("site/two/lib.so", 0, 100)])
    more = recording(old.digest, files("one", "two"), [("site/two/lib.so", 0, 100), ("site/one/lib.so", 0, 200)])
    cut(counted.place, streamer.state, key, some)
    done = cut(counted.place, streamer.state, key, more)
    assert done.changed and (done.parts, done.parts_reused) == (2, 1)
    head = read_head(counted.place, find_packs(counted.place, old.digest, key.verifier).believed[0])
    assert head.parts[head.order[0][0]].layer == 1  # what is needed first comes first
    less = cut(counted.place, streamer.state, key, some)
    assert less.parts_reused == 1  # of the other layer half would be fetched for nothing


def test_a_pack_is_copied_with_its_image(counted: Counted, streamer: Streamer, key: Key, tmp_path: Path) -> None:
    old = release(counted.place, "v1", one="old")
    streamer.index(old, INDEXED)
    made = cut(counted.place, streamer.state, key, recording(old.digest, files("one")))
    target = Place(LayoutRegistry(tmp_path / "layout"), "copy")
    copy_closure(counted.place, "v1", [target])
    [found] = find_packs(target, old.digest, key.verifier).believed
    assert found.descriptor.digest == made.pack.digest  # type: ignore[union-attr]
    with open_image(target, "v1", state=tmp_path / "node", verifier=key.verifier, log=pytest.fail) as opened:
        assert content(opened, "site/one/lib.so") == random.Random("oneold").randbytes(MIB)
        assert not opened.count(opened.note("v1", tmp_path)).demand_bytes


def test_a_pack_stays_and_goes_with_its_image(counted: Counted, streamer: Streamer, key: Key) -> None:
    place, now = counted.place, datetime.now(UTC)
    images = [release(place, tag, one=tag) for tag in ("v1", "v2")]
    packs = [
        cut(place, streamer.state, key, recording(each.digest, files("one"))).pack.digest  # type: ignore[union-attr]
        for each in images
    ]
    plan = plan_deletion(place, images[0].digest, [], now=now, in_use={})
    assert apply_plan(place.registry, plan, now=now).ok
    assert [digest_at(place, each) for each in packs] == [None, packs[1]]
