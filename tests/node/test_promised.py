"""Images that a pull is promised before what says how their layers are read is on the node."""

from __future__ import annotations

import gzip
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from msgspec.structs import replace

from registry_pipelines.errors import LayerInvalid
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor, Manifest
from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.protocol import Place
from registry_pipelines.stream.hot.packs import find_packs
from registry_pipelines.stream.signed_index import attest_index, find_index
from tests.doubles.fault_registry import FaultRegistry
from tests.doubles.faults import HoldAnswer, Status
from tests.evidence.parts import Counted, Key
from tests.node.test_images import chain, found, labels, node
from tests.patience import patient, until
from tests.stream.hot.packing import cut, recording
from tests.stream.layers import pack
from tests.stream.lazy.mounts import need_fuse
from tests.stream.lazy.starts import file, image
from tests.stream.releases import INDEXED, Layer, Streamer, push


def ztocs(place: Place, index: Digest) -> list[Digest]:
    manifest = place.registry.get_manifest(place.repository, index).content()
    assert isinstance(manifest, Manifest)
    return [each.digest for each in manifest.layers]


def indexed(streamer: Streamer, release: Descriptor) -> Digest:
    [platform] = streamer.index(release, INDEXED).platforms
    assert platform.index is not None
    return platform.index.digest


def test_a_pull_is_answered_before_the_tables_of_layers_came_and_a_container_waits_for_them(
    counted: Counted, streamer: Streamer, key: Key, tmp_path: Path
) -> None:
    need_fuse()
    release = image(counted.place, more_mib=2)
    tables, (base, top) = ztocs(counted.place, indexed(streamer, release)), chain(counted.place, release)
    come = threading.Event()
    with FaultRegistry(counted.server.address) as faults, ThreadPoolExecutor(1) as pool:
        place = Place(DistributionRegistry(faults.address), "team/app")
        for each in tables:
            faults.play("GET", f"/v2/team/app/blobs/{each}", HoldAnswer(come))
        with node(place, tmp_path / "node", key, wait_s=patient(60)) as images:
            served = found(images, release, base)
            assert served.layers == (base, top) and images.find({}, top) is served  # kept, for a new process
            mounted = pool.submit(served.mount, top)
            assert not come.is_set() and not mounted.done()
            come.set()
            assert (mounted.result(patient(60)) / "etc/motd").read_text() == "hello\n"
            assert found(images, release, top) is served
        place.registry.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize("gone", [False, True], ids=["late", "gone"])
def test_a_pull_waits_for_the_signature_of_a_hot_pack_alone(
    counted: Counted, streamer: Streamer, key: Key, tmp_path: Path, gone: bool
) -> None:
    """Where the pack cannot be read after all, layers are read as the index says."""
    need_fuse()
    release = image(counted.place, more_mib=2)
    indexed(streamer, release)
    cut(counted.place, tmp_path / "cutter", key, recording(release.digest, {"etc/motd": 6}))
    [made] = find_packs(counted.place, release.digest, key.verifier).believed
    (base, top), come, said = chain(counted.place, release), threading.Event(), list[str]()
    with FaultRegistry(counted.server.address) as faults, ThreadPoolExecutor(1) as pool:
        place = Place(DistributionRegistry(faults.address), "team/app")
        faults.play("GET", f"/v2/team/app/blobs/{made.head.digest}", Status(404) if gone else HoldAnswer(come))
        with node(place, tmp_path / "node", key, said) as images:
            served = found(images, release, base)
            assert served.layers == (base, top)
            mounted = pool.submit(served.mount, top)
            assert gone or not mounted.done()
            come.set()
            assert (mounted.result(patient(60)) / "etc/motd").read_text() == "hello\n"
        assert any("hot pack is not used" in line for line in said) is gone, said
        place.registry.close()  # type: ignore[attr-defined]


def test_an_image_that_is_removed_or_an_agent_that_ends_waits_for_no_table(
    counted: Counted, streamer: Streamer, key: Key, tmp_path: Path
) -> None:
    release = image(counted.place, more_mib=2)
    tables, (_base, top) = ztocs(counted.place, indexed(streamer, release)), chain(counted.place, release)
    come, said = threading.Event(), list[str]()
    with FaultRegistry(counted.server.address) as faults:
        place = Place(DistributionRegistry(faults.address), "team/app")
        for each in tables:
            faults.play("GET", f"/v2/team/app/blobs/{each}", HoldAnswer(come))
        with node(place, tmp_path / "node", key, said, wait_s=patient(60)) as images:
            first = found(images, release, top)
            first.release()
            assert not list((tmp_path / "node/lazy/node").glob("*.json"))
            assert found(images, release, top) is not first
        come.set()
        until(lambda: not any(each.name == "node_image" for each in threading.enumerate()))
        assert not list((tmp_path / "node/lazy/node").glob("*/")) and not any("yet" in line for line in said)
        place.registry.close()  # type: ignore[attr-defined]


def test_a_promised_layer_whose_table_is_gone_is_fetched_whole(
    counted: Counted, streamer: Streamer, key: Key, tmp_path: Path
) -> None:
    need_fuse()
    release = image(counted.place, more_mib=2)
    table, *_ = ztocs(counted.place, indexed(streamer, release))
    base, top = chain(counted.place, release)
    with FaultRegistry(counted.server.address) as faults:
        place = Place(DistributionRegistry(faults.address), "team/app")
        faults.play("GET", f"/v2/team/app/blobs/{table}", Status(404))
        with node(place, tmp_path / "node", key, wait_s=patient(60)) as images:
            served = found(images, release, base)
            assert served.layers == (base, top)
            assert (served.mount(top) / "etc/motd").read_text() == "hello\n"
        place.registry.close()  # type: ignore[attr-defined]


def test_a_promise_that_a_registry_does_not_keep_is_asked_for_again_by_the_next_container(
    counted: Counted, streamer: Streamer, key: Key, tmp_path: Path
) -> None:
    need_fuse()
    release = image(counted.place, more_mib=2)
    tables, (_base, top) = ztocs(counted.place, indexed(streamer, release)), chain(counted.place, release)
    said: list[str] = []
    with FaultRegistry(counted.server.address) as faults:
        place = Place(DistributionRegistry(faults.address), "team/app")
        # one of all: a second would meet the next try
        faults.play("GET", f"/v2/team/app/blobs/({'|'.join(map(str, tables))})", Status(403), times=1)
        with node(place, tmp_path / "node", key, said, wait_s=patient(60)) as images:
            served = found(images, release, top)
            until(lambda: any("cannot be mounted yet" in line for line in said))
            until(lambda: (served.mount(top) / "etc/motd").read_text() == "hello\n")
        place.registry.close()  # type: ignore[attr-defined]


def test_an_image_that_cannot_be_mounted_after_all_is_said_and_pulled_as_usual_the_next_time(
    counted: Counted, streamer: Streamer, key: Key, tmp_path: Path
) -> None:
    """The name is longer than a kernel takes, which an index does not mind."""
    tar = pack([file("n" * 300, os.urandom(4000)), file("data", os.urandom(1 << 20))])
    release = push(counted.place, Layer(gzip.compress(tar, 1, mtime=0), tar))
    indexed(streamer, release)
    [top] = chain(counted.place, release)
    said: list[str] = []
    with node(counted.place, tmp_path / "node", key, said, wait_s=patient(60)) as images:
        served = found(images, release, top)
        with pytest.raises(LayerInvalid, match="300 bytes"):
            served.mount(top)
        assert any("remove it and pull it again" in line for line in said)
        assert images.find(labels(release), top) is None and images.find({}, top) is None
    with node(counted.place, tmp_path / "node", key, wait_s=patient(60)) as images:
        assert images.find(labels(release), top) is None


SMALL = b"small"


def stacked(place: Place, claimed: bytes = b"") -> tuple[Descriptor, Layer]:
    """A layer that is indexed, above a small one that is not. claimed: what the config says that the small one is."""
    tar, above = pack([file("small", SMALL)]), pack([file("data", os.urandom(1 << 20))])
    small = Layer(gzip.compress(tar, 1, mtime=0), claimed or tar)
    return push(place, small, Layer(gzip.compress(above, 1, mtime=0), above)), small


def test_a_small_layer_that_an_indexer_read_is_no_reason_to_wait(
    counted: Counted, streamer: Streamer, key: Key, tmp_path: Path
) -> None:
    need_fuse()
    release, small = stacked(counted.place)
    indexed(streamer, release)
    ids, come = chain(counted.place, release), threading.Event()
    with FaultRegistry(counted.server.address) as faults:
        place = Place(DistributionRegistry(faults.address), "team/app")
        faults.play("GET", f"/v2/team/app/blobs/{Digest.of(small.blob)}", HoldAnswer(come))
        with node(place, tmp_path / "node", key, wait_s=patient(60)) as images:
            served = found(images, release, ids[0])
            assert served.layers == ids
            come.set()
            assert (served.mount(ids[1]) / "small").read_bytes() == SMALL
        place.registry.close()  # type: ignore[attr-defined]


def test_a_small_layer_that_is_not_what_its_image_claims_is_never_promised(
    counted: Counted, streamer: Streamer, key: Key, tmp_path: Path
) -> None:
    release, _small = stacked(counted.place, claimed=pack([file("small", b"of another image")]))
    indexed(streamer, release)
    said: list[str] = []
    with node(counted.place, tmp_path / "node", key, said, wait_s=patient(60)) as images:
        assert images.find(labels(release), chain(counted.place, release)[0]) is None
    assert "is pulled as usual" in said[0]


def test_an_index_whose_note_says_nothing_of_small_layers_is_signed_again(
    counted: Counted, streamer: Streamer, key: Key, tmp_path: Path
) -> None:
    release, small = stacked(counted.place)
    index = indexed(streamer, release)
    verifier = key.verifier
    [signed] = find_index(counted.place, release.digest, verifier).signed
    assert signed.note.held == (Digest.of(small.blob),)
    counted.place.registry.delete_manifest("team/app", signed.statement)  # type: ignore[attr-defined]
    attest_index(counted.place, release, replace(signed.note, held=()), streamer.signer)
    [old] = find_index(counted.place, release.digest, verifier).signed
    assert old.note.held == ()
    for changed in (True, False):
        [platform] = streamer.index(release, INDEXED).platforms
        assert platform.index is not None and platform.index.digest == index and platform.changed is changed
    [again] = find_index(counted.place, release.digest, verifier).signed
    assert again.note.held == signed.note.held
