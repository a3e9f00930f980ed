"""Images of a node: found by what containerd says of a layer, mounted once, and there again after a restart."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from registry_pipelines.errors import NotFound, Unavailable
from registry_pipelines.node.counts import Counts
from registry_pipelines.node.images import NodeImages
from registry_pipelines.node.lazy_images import IMAGE_LABEL, LAYER_LABEL, MANIFEST_LABEL, LazyImages
from registry_pipelines.node.opening import MOST_WHOLE_BYTES
from registry_pipelines.node.served import ServedImage
from registry_pipelines.oci.manifests import Descriptor, Index, Manifest
from registry_pipelines.registry.blobs import read_blob
from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.client.retries import NEVER
from registry_pipelines.registry.platforms import image_config
from registry_pipelines.registry.protocol import Place
from registry_pipelines.settings import Size
from registry_pipelines.stream.lazy.mounting import KIND, end_mount, mounts
from tests.doubles.fault_registry import FaultRegistry
from tests.doubles.faults import HoldAnswer, NoRange, Status
from tests.evidence.parts import Counted, Key
from tests.patience import patient, until
from tests.stream.hot.packing import cut, recording
from tests.stream.layers import pack
from tests.stream.lazy.mounts import need_fuse
from tests.stream.lazy.parts import nothing_left
from tests.stream.lazy.starts import file, image
from tests.stream.releases import ESTARGZ, INDEXED, SOCI, Layer, Streamer, push, push_index

FILE = 1 << 20
REFERENCE = "registry.example/team/app:v1"

SERVING = f"""
import sys, time
from pathlib import Path
from registry_pipelines.evidence.keys import load_verifier
from registry_pipelines.node.images import NodeImages
from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.protocol import Place
address, state, key, digest, top, reference = sys.argv[1:]
place = Place(DistributionRegistry(address), "team/app")
verifier = load_verifier([Path(key)])
images = NodeImages(lambda _: place, state=Path(state), verifier=verifier, wait_s=600, log=sys.stderr.write)
folder = images.find({{"{IMAGE_LABEL}": reference, "{MANIFEST_LABEL}": digest}}, top).mount(top)
sys.stdout.write((folder / "etc/motd").read_text())
sys.stdout.flush()
time.sleep(600)
"""
"""A node in a process of its own, until it is killed."""


def labels(image: Descriptor) -> dict[str, str]:
    return {IMAGE_LABEL: REFERENCE, MANIFEST_LABEL: image.digest, LAYER_LABEL: "sha256:" + "0" * 64}


def chain(place: Place, image: Descriptor) -> tuple[str, ...]:
    manifest = place.registry.get_manifest(place.repository, image.digest).content()
    return image_config(place, manifest).chain_ids  # type: ignore[arg-type]


@contextmanager
def node(
    place: Place, state: Path, key: Key | None, said: list[str] | None = None, **more: Any
) -> Iterator[NodeImages]:
    verifier = key.verifier if key else None
    log = print if said is None else said.append
    more.setdefault("wait_s", patient(60))
    with NodeImages(lambda reference: place, state=state, verifier=verifier, log=log, fill=False, **more) as images:
        yield images


def ours(state: Path) -> list[Path]:
    return [each.folder for each in mounts() if each.kind == KIND and state in each.folder.parents]


def found(images: LazyImages, image: Descriptor, chain_id: str) -> ServedImage:
    served = images.find(labels(image), chain_id)
    assert isinstance(served, ServedImage)
    return served


def test_layers_of_an_image_have_one_tree_each_that_is_mounted_once(
    counted: Counted, streamer: Streamer, key: Key, tmp_path: Path
) -> None:
    need_fuse()
    release = image(counted.place, more_mib=2)
    streamer.index(release, INDEXED)
    base, top = chain(counted.place, release)
    with node(counted.place, tmp_path / "node", key) as images:
        served = found(images, release, base)
        assert served.layers == (base, top) and str(release.digest) in served.name
        assert not ours(tmp_path) and found(images, release, top) is served
        folder = served.mount(top)
        assert (folder / "etc/motd").read_text() == "hello\n" and not (folder / "etc/gone").exists()
        assert served.mount(top) == folder and ours(tmp_path) == [folder]
        below = served.mount(base)  # another image may stand on the base alone
        assert (below / "etc/motd").read_text() == "old\n" and (below / "etc/gone").exists()
        assert not (below / "data").exists()
        with pytest.raises(NotFound):
            served.mount("sha256:" + "0" * 64)
        assert images.find(labels(release), "sha256:" + "0" * 64) is None
        end_mount(folder)  # by whoever it was
        until(lambda: len(ours(tmp_path)) == 1)
        until(lambda: served.mount(top).joinpath("motd").is_symlink())
    assert not ours(tmp_path)


def test_what_is_open_when_an_image_is_released_can_be_read_on(
    counted: Counted, streamer: Streamer, key: Key, tmp_path: Path
) -> None:
    need_fuse()
    release = image(counted.place, more_mib=2)
    streamer.index(release, INDEXED)
    *_, top = chain(counted.place, release)
    with node(counted.place, tmp_path / "node", key) as images:
        served = found(images, release, top)
        with (served.mount(top) / "data/1").open("rb") as open_file:
            served.release()
            assert not ours(tmp_path) and not list((tmp_path / "node/lazy/node").iterdir())
            assert len(open_file.read()) == 1 << 20  # nothing of it was here
        again = found(images, release, top)
        assert again is not served and again.name == served.name
        assert (again.mount(top) / "motd").read_text() == "hello\n"
        assert images.find({}, top) is again


def test_what_the_runtime_has_fetched_already_is_asked_of_no_registry(
    counted: Counted, streamer: Streamer, key: Key, tmp_path: Path
) -> None:
    release = image(counted.place, more_mib=2)
    streamer.index(release, INDEXED)
    base, _ = chain(counted.place, release)
    manifest = counted.place.registry.get_manifest(counted.place.repository, release.digest)
    content = manifest.content()
    assert isinstance(content, Manifest)
    here = {
        release.digest: manifest.raw,
        content.config.digest: read_blob(counted.place, content.config, limit=1 << 20),
    }
    with FaultRegistry(counted.server.address) as faults:
        place = Place(DistributionRegistry(faults.address, retries=NEVER), "team/app")
        for each in (f"manifests/{release.digest}", f"blobs/{content.config.digest}"):
            faults.play("GET|HEAD", f"/v2/team/app/{each}", Status(503))
        with node(place, tmp_path / "other", key) as images:
            assert images.find(labels(release), base) is None
        with node(place, tmp_path / "node", key, beside=here.get) as images:
            found(images, release, base)
        with node(place, tmp_path / "node", key) as images:  # it is kept, for the time when the runtime has it no more
            found(images, release, base)
        place.registry.close()  # type: ignore[attr-defined]


def test_a_new_process_serves_what_the_killed_one_did_without_the_registry(
    counted: Counted, streamer: Streamer, key: Key, tmp_path: Path
) -> None:
    need_fuse()
    release = image(counted.place, more_mib=2)
    streamer.index(release, INDEXED)
    *_, top = chain(counted.place, release)
    state = tmp_path / "node"
    with FaultRegistry(counted.server.address) as faults:
        words = [faults.address, str(state), str(key.public), release.digest, top, REFERENCE]
        killed = subprocess.Popen([sys.executable, "-c", SERVING, *words], stdout=subprocess.PIPE)
        assert killed.stdout is not None and killed.stdout.readline() == b"hello\n"
        [folder] = ours(tmp_path)
        opened = (folder / "data/1").open("rb", buffering=0)
        opened.read(1 << 20)
        killed.kill()
        killed.communicate()
        gone = Place(DistributionRegistry(faults.address, retries=NEVER), "team/app")
        for method in ("GET", "HEAD"):
            faults.play(method, r"/v2/.*", Status(503))
        counts = Counts()
        with opened, ThreadPoolExecutor(1) as pool:
            waits = pool.submit((folder / "etc/motd").read_text)
            for told in (labels(release), {}):
                with node(gone, state, key, counts=counts) as images:
                    served = images.find(told, top)
                    assert served is not None and served.mount(top) == folder and ours(tmp_path) == [folder]
                    assert waits.result() == "hello\n"
                    assert (folder / "motd").is_symlink() and (folder / "etc/motd").read_text() == "hello\n"
        assert counts.value("taken_over") == 1 and counts.value("lost") == 0
        gone.registry.close()  # type: ignore[attr-defined]


def test_a_large_layer_that_nobody_indexed_ends_what_is_served(
    counted: Counted, streamer: Streamer, key: Key, tmp_path: Path
) -> None:
    """Small ones do not, for indexes leave those out; but they alone are not worth it."""
    need_fuse()
    base, small, large = (
        pack([file(name, os.urandom(size)), file("last", name.encode())])
        for name, size in (("base", 1 << 20), ("small", 1000), ("large", MOST_WHOLE_BYTES + 1))
    )
    plain = {tar: Layer(gzip.compress(tar, 1, mtime=0), tar) for tar in (base, small, large)}
    derived = streamer.convert(push(counted.place, plain[base], tag="base"), ESTARGZ).derived
    assert derived is not None
    manifest = counted.place.registry.get_manifest("team/app", derived.digest).content()
    assert isinstance(manifest, Manifest)
    [told] = manifest.layers
    blob = read_blob(counted.place, told, limit=2 << 20)
    lazy = Layer(blob, gzip.decompress(blob), more={"annotations": told.annotations})
    release = push(counted.place, lazy, plain[small], lazy, plain[small], plain[large], plain[small], tag="v1")
    ids = chain(counted.place, release)
    said: list[str] = []
    with node(counted.place, tmp_path / "node", None, said, unproven=True) as images:
        served = found(images, release, ids[0])
        assert served.layers == ids[:3] and images.find(labels(release), ids[3]) is None
        assert (served.mount(ids[1]) / "last").read_text() == "small"
        assert (served.mount(ids[2]) / "last").read_text() == "base"
        assert any("3 of 6 layers" in line and "no index" in line for line in said), said
        other = pack([file("other", b"small")])
        tiny = Layer(gzip.compress(other, 1, mtime=0), other)
        for nothing in (push(counted.place, tiny), push(counted.place, tiny, plain[large])):
            assert images.find(labels(nothing), chain(counted.place, nothing)[0]) is None
            assert f"{nothing.digest} is pulled as usual" in said[-1]


@pytest.mark.parametrize("trouble", ["unsigned", "another's key", "no ranges", "not there", "denied", "no digest"])
def test_what_cannot_be_served_is_left_to_the_normal_pull_and_said_once(
    counted: Counted, streamer: Streamer, key: Key, other_key: Key, tmp_path: Path, trouble: str
) -> None:
    release = image(counted.place, more_mib=2)
    ids = chain(counted.place, release)
    if trouble != "unsigned":
        streamer.index(release, INDEXED)
    told = labels(release)
    if trouble == "not there":
        told[MANIFEST_LABEL] = "sha256:" + "0" * 64
    if trouble == "no digest":
        told[MANIFEST_LABEL] = "../../etc"
    said: list[str] = []
    with FaultRegistry(counted.server.address) as faults:
        place = Place(DistributionRegistry(faults.address), "team/app")
        if trouble == "no ranges":
            faults.play("GET", r"/v2/team/app/blobs/.*", NoRange())
        if trouble == "denied":
            faults.play("GET", r"/v2/.*", Status(403))
        with node(place, tmp_path / "node", other_key if trouble == "another's key" else key, said) as images:
            assert images.find(told, ids[0]) is None
            # who refers to it is asked meanwhile, and may still be under way
            asked = sum("/referrers/" not in each.target for each in faults.seen)
            assert images.find(told, ids[1]) is None and images.find({}, ids[1]) is None
            assert sum("/referrers/" not in each.target for each in faults.seen) == asked
        place.registry.close()  # type: ignore[attr-defined]
    [line] = said
    assert f"{REFERENCE}@{told[MANIFEST_LABEL]} is pulled as usual: " in line
    assert not list((tmp_path / "node/lazy/node").iterdir())


def test_what_nobody_indexed_costs_a_pull_five_questions(counted: Counted, key: Key, tmp_path: Path) -> None:
    release = image(counted.place, more_mib=2)
    with FaultRegistry(counted.server.address) as faults:
        place = Place(DistributionRegistry(faults.address), "team/app")
        with node(place, tmp_path / "node", key) as images:
            for chain_id in chain(counted.place, release):
                assert images.find(labels(release), chain_id) is None
        targets = [each.target for each in faults.seen]
        assert len(targets) <= 5 and sum("/referrers/" in each for each in targets) == 1, targets
        place.registry.close()  # type: ignore[attr-defined]


def test_a_pull_does_not_wait_for_a_registry_that_hangs(
    counted: Counted, streamer: Streamer, key: Key, tmp_path: Path
) -> None:
    release = image(counted.place, more_mib=2)
    streamer.index(release, INDEXED)
    base, top = chain(counted.place, release)
    said: list[str] = []
    answer = threading.Event()
    with FaultRegistry(counted.server.address) as faults:
        place = Place(DistributionRegistry(faults.address), "team/app")
        faults.play("GET", r"/v2/team/app/manifests/.*", HoldAnswer(answer))
        counts = Counts()
        with node(place, tmp_path / "node", key, said, wait_s=1, counts=counts) as images:
            began = time.monotonic()
            for _ in range(60):
                assert images.find(labels(release), base) is None
            assert time.monotonic() - began < 60, "each layer of a pull waited"
            assert "takes longer than 1 s" in said[0] and len(said) == counts.value("fallbacks", reason="slow") == 1
            answer.set()
            until(lambda: images.find(labels(release), top) is not None)  # what comes late is for the layers above
        place.registry.close()  # type: ignore[attr-defined]


def test_layers_that_are_asked_for_at_once_open_their_image_once(
    counted: Counted, streamer: Streamer, key: Key, tmp_path: Path
) -> None:
    release = image(counted.place, more_mib=2)
    streamer.index(release, INDEXED)
    ids = chain(counted.place, release)
    with (
        node(counted.place, tmp_path / "node", key) as images,
        ThreadPoolExecutor(8) as pool,
    ):
        served = list(pool.map(lambda number: images.find(labels(release), ids[number % 2]), range(16)))
        assert len(set(map(id, served))) == 1 and served[0] is not None


def stolen(place: Place, streamer: Streamer, victim: bytes, *above: Layer) -> Descriptor:
    """An eStargz image whose config claims that its lowest layer unpacks to somebody else's."""
    evil = pack([file("bin/sh", b"evil")])
    made = streamer.convert(push(place, Layer(gzip.compress(evil, 1, mtime=0), evil), tag="base"), ESTARGZ).derived
    assert made is not None
    manifest = place.registry.get_manifest(place.repository, made.digest).content()
    assert isinstance(manifest, Manifest)
    [told] = manifest.layers
    blob = read_blob(place, told, limit=2 << 20)
    return push(place, Layer(blob, victim, more={"annotations": told.annotations}), *above, tag="evil")


def test_an_estargz_image_of_others_is_served_by_an_index_of_its_layers(
    counted: Counted, streamer: Streamer, key: Key, tmp_path: Path
) -> None:
    """Who makes that reads each of them whole."""
    tar = pack([file("data", os.urandom(300_000))])
    theirs = stolen(counted.place, streamer, tar)  # in form; what it claims is made true
    manifest = counted.place.registry.get_manifest("team/app", theirs.digest).content()
    assert isinstance(manifest, Manifest)
    [told] = manifest.layers
    blob = read_blob(counted.place, told, limit=2 << 20)
    honest = push(counted.place, Layer(blob, gzip.decompress(blob), more={"annotations": told.annotations}))
    [name] = chain(counted.place, honest)
    said: list[str] = []
    with node(counted.place, tmp_path / "before", key, said) as images:
        assert images.find(labels(honest), name) is None and "stream index" in said[-1]
    streamer.index(honest, replace(INDEXED, min_layer_size=Size(1)))
    with node(counted.place, tmp_path / "after", key) as images:
        assert images.find(labels(honest), name) is not None


@pytest.mark.parametrize("how", ["index", "soci-v2", "pack"])
def test_the_word_of_an_indexer_about_another_layer_does_not_count_for_such_a_claim(
    counted: Counted, streamer: Streamer, key: Key, tmp_path: Path, how: str
) -> None:
    """Indexes leave out small layers, and a hot pack is cut by an image's own tables: signed, and no proof of that."""
    victim = pack([file("bin/sh", b"good" * 1000)])
    honest = pack([file("data", os.urandom(300_000))])
    evil = stolen(counted.place, streamer, victim, Layer(gzip.compress(honest, 1, mtime=0), honest))
    if how == "index":
        streamer.index(evil, replace(INDEXED, min_layer_size=Size(100_000)))
    elif how == "soci-v2":
        derived = streamer.convert(evil, replace(SOCI, min_layer_size=Size(100_000)), tag="evil").derived
        assert derived is not None
        top = counted.place.registry.get_manifest("team/app", derived.digest).content()
        assert isinstance(top, Index)
        evil = top.manifests[0]
    else:
        cut(counted.place, tmp_path / "cutter", key, recording(evil.digest, {"bin/sh": 4}))
    name, *_ = chain(counted.place, evil)
    with node(counted.place, tmp_path / "node", key) as images:
        assert images.find(labels(evil), name) is None
    with node(counted.place, tmp_path / "other", key, unproven=True) as images:
        assert images.find(labels(evil), name) is not None  # what it is about


def test_an_image_that_claims_the_layers_of_another_one_gives_it_no_content(
    counted: Counted, streamer: Streamer, key: Key, tmp_path: Path
) -> None:
    """containerd names a layer by what the config claims, and takes it for every image that claims the same: a table
    that only this image's own manifest names must not fill it."""
    victim = pack([file("bin/sh", b"good" * 1000)])
    honest = push(counted.place, Layer(gzip.compress(victim, 1, mtime=0), victim), tag="v1")
    evil = stolen(counted.place, streamer, victim)
    [name] = chain(counted.place, honest)
    assert chain(counted.place, evil) == (name,) and evil.digest != honest.digest
    said: list[str] = []
    with node(counted.place, tmp_path / "node", key, said) as images:
        assert images.find(labels(evil), name) is None and images.find({}, name) is None
        assert "its config claims" in said[-1] or "image's config claims" in said[-1]
    with node(counted.place, tmp_path / "other", key, said, unproven=True) as images:
        assert images.find(labels(evil), name) is not None  # what it is about


def test_what_an_indexer_converted_is_served_by_its_word_which_is_kept(
    counted: Counted, streamer: Streamer, key: Key, other_key: Key, tmp_path: Path
) -> None:
    need_fuse()
    derived = streamer.convert(image(counted.place, more_mib=2), ESTARGZ).derived
    assert derived is not None
    both = push_index(counted.place, {"amd64": image(counted.place, tag="v2", more_mib=1)}, tag="v2")
    listed = streamer.convert(both, ESTARGZ, tag="v2").derived
    assert listed is not None
    top = counted.place.registry.get_manifest("team/app", listed.digest).content()
    assert isinstance(top, Index)
    below = top.manifests[0]
    named = {**labels(below), IMAGE_LABEL: f"registry.example/team/app@{listed.digest}"}
    with node(counted.place, tmp_path / "others", other_key) as images:
        assert images.find(labels(derived), chain(counted.place, derived)[0]) is None
    with FaultRegistry(counted.server.address) as faults:
        place = Place(DistributionRegistry(faults.address, retries=NEVER), "team/app")
        with node(place, tmp_path / "node", key) as images:
            for told, made in ((labels(derived), derived), (named, below)):
                top_id = chain(counted.place, made)[-1]
                served = images.find(told, top_id)
                assert served is not None and (served.mount(top_id) / "etc/motd").read_text() == "hello\n"
        for method in ("GET", "HEAD"):
            faults.play(method, r"/v2/team/app/.*", Status(503))
        with node(place, tmp_path / "node", key) as images:
            for told, made in ((labels(derived), derived), (named, below)):
                top_id = chain(counted.place, made)[-1]
                served = images.find(told, top_id)  # its table, too, is here
                assert served is not None and (served.mount(top_id) / "motd").is_symlink()
        place.registry.close()  # type: ignore[attr-defined]


def test_what_is_here_of_a_layer_is_counted_and_goes_with_the_image_unless_another_needs_it(
    counted: Counted, streamer: Streamer, key: Key, tmp_path: Path
) -> None:
    need_fuse()
    first = image(counted.place, more_mib=2)
    second = image(counted.place, tag="v2", more_mib=2)
    for each in (first, second):
        streamer.index(each, INDEXED)
    base, top = chain(counted.place, first)
    _, other_top = chain(counted.place, second)
    blocks = tmp_path / "node/lazy/blocks"

    def here() -> int:
        return sum(path.stat().st_blocks * 512 for path in blocks.rglob("*") if path.name == "data")

    with node(counted.place, tmp_path / "node", key) as images:
        one, other = found(images, first, top), found(images, second, other_top)
        # They are promised, and opened behind that.
        until(lambda: images.usage(one.name, top) > (0, 0) and images.usage(other.name, base) > (0, 0))
        before = images.usage(one.name, top)
        assert len((one.mount(top) / "data/0").read_bytes()) == FILE
        grown = images.usage(one.name, top)
        assert grown[0] - before[0] >= FILE and grown[1] == before[1] >= 4
        assert images.usage(one.name, base) == images.usage(other.name, base) > (0, 0)
        assert images.usage(one.name, other_top) == images.usage("x/app@sha256:00", base) == (0, 0)
        with (one.mount(top) / "data/1").open("rb") as still:
            one.release()
            assert images.usage(one.name, top) == (0, 0)
            assert len(still.read()) == FILE
        with_base = images.usage(other.name, base)
        until(lambda: here() < FILE)
        assert images.usage(other.name, base) == with_base > (0, 0)
        other.release()
        until(lambda: nothing_left(blocks, "v*/*/*"))


def test_what_a_killed_agent_did_not_release_goes_at_the_start_of_the_next_and_without_the_registry(
    counted: Counted, streamer: Streamer, key: Key, tmp_path: Path
) -> None:
    need_fuse()
    release = image(counted.place, more_mib=2)
    streamer.index(release, INDEXED)
    *_, top = chain(counted.place, release)
    blocks, folder = tmp_path / "node/lazy/blocks", tmp_path / "node/lazy/node"

    def nobody(reference: str) -> Place:
        raise Unavailable("the registry is away", where=reference)

    def gone() -> bool:
        return not ours(tmp_path) and not any(folder.iterdir()) and nothing_left(blocks, "v*/*/*")

    for way in ("started", "removed"):
        with node(counted.place, tmp_path / "node", key, end_mounts=way == "removed") as images:
            served = found(images, release, top)
            name = served.name
            assert (served.mount(top) / "data/1").stat().st_size == FILE
        with NodeImages(nobody, state=tmp_path / "node", verifier=key.verifier, log=print, fill=False) as images:
            images.retain([name])
            assert (folder / f"{release.digest.hex}.json").exists()
            if way == "started":
                images.retain([])
            else:
                images.release(name)
            until(gone)
