"""An image that is opened on a node, and what is told of how it is read."""

from __future__ import annotations

import errno
import random
from pathlib import Path

import pytest

from registry_pipelines.errors import InputError, Unavailable
from registry_pipelines.oci.platforms import Platform
from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.client.retries import NEVER
from registry_pipelines.registry.protocol import Place
from registry_pipelines.stream.lazy.image import image_for
from registry_pipelines.stream.lazy.opened import OpenImage, open_image
from tests.doubles.fault_registry import FaultRegistry
from tests.doubles.faults import NoRange, Status
from tests.evidence.parts import Counted, Key
from tests.patience import until
from tests.stream.lazy.mounts import mounted, need_fuse
from tests.stream.lazy.starts import image
from tests.stream.releases import INDEXED, Streamer, layer, push, push_index

BLOBS = r"/v2/team/app/blobs/.*"


def content(opened: OpenImage, path: str) -> bytes:
    number = opened.find(path)
    assert number is not None
    return opened.read(number, 0, opened.node(number).size)


@pytest.mark.parametrize("trouble", ["", "unsigned", "nobody is believed", "no ranges"])
def test_what_cannot_be_read_by_pieces_is_fetched_whole_and_said_so(
    counted: Counted, streamer: Streamer, key: Key, tmp_path: Path, trouble: str
) -> None:
    release = image(counted.place, more_mib=2)
    if trouble != "unsigned":
        streamer.index(release, INDEXED)
    with FaultRegistry(counted.server.address) as faults:
        place = Place(DistributionRegistry(faults.address), "team/app")
        if trouble == "no ranges":
            faults.play("GET", BLOBS, NoRange())
        verifier = None if trouble == "nobody is believed" else key.verifier
        with open_image(place, "v1", state=tmp_path / "node", verifier=verifier, log=print) as opened:
            note = opened.count(opened.note("v1", tmp_path))
            assert content(opened, "etc/motd") == b"hello\n"
            assert (note.lazy, note.layers_whole) == ((False, 2) if trouble else (True, 0))
            expected = {
                "unsigned": "no index",
                "nobody is believed": "no key",
                "no ranges": "whole blob",
            }
            assert all(expected[trouble] in reason for reason in note.reasons)
            assert bool(note.reasons) is bool(trouble)
            assert (note.filled_bytes == note.size_bytes) is bool(trouble)
        place.registry.close()  # type: ignore[attr-defined]


def test_two_images_share_what_was_fetched(counted: Counted, streamer: Streamer, key: Key, tmp_path: Path) -> None:
    for tag in ("v1", "v2"):
        streamer.index(image(counted.place, tag=tag, more_mib=2), INDEXED)
    fetched = []
    for tag in ("v1", "v2"):
        with open_image(counted.place, tag, state=tmp_path / "node", verifier=key.verifier, log=print) as opened:
            content(opened, "bin/cat")
            fetched.append(opened.count(opened.note(tag, tmp_path)).fetched_bytes)
    assert fetched[0] > 0 == fetched[1]


def test_the_image_is_the_one_for_this_machine(counted: Counted) -> None:
    images = {name: push(counted.place, layer(name), architecture=name) for name in ("amd64", "arm64")}
    push_index(counted.place, images, tag="many", attested=True)
    for name in images:
        assert (
            image_for(counted.place, "many", Platform.parse(f"linux/{name}")).descriptor.digest == images[name].digest
        )
    with pytest.raises(InputError, match="is for linux/amd64, linux/arm64, and linux/s390x was asked for"):
        image_for(counted.place, "many", Platform.parse("linux/s390x"))


def test_a_known_digest_starts_without_its_registry_and_a_tag_says_what_it_was(
    counted: Counted, streamer: Streamer, key: Key, tmp_path: Path
) -> None:
    release = image(counted.place, more_mib=2)
    streamer.index(release, INDEXED)
    said: list[str] = []
    with FaultRegistry(counted.server.address) as faults:
        registry = DistributionRegistry(faults.address)
        place, node = Place(registry, "team/app"), tmp_path / "node"
        with open_image(place, "v1", state=node, verifier=key.verifier, log=said.append) as opened:
            assert content(opened, "etc/motd") == b"hello\n"
        faults.reset_counts()
        with open_image(place, release.digest, state=node, verifier=key.verifier, log=said.append) as opened:
            assert content(opened, "etc/motd") == b"hello\n"
        assert faults.seen and not faults.requests("GET", rf".*/manifests/{release.digest}") and not said
        assert not faults.requests("HEAD")
        registry.close()
    registry = DistributionRegistry(faults.address, retries=NEVER)  # where nobody listens any more
    place = Place(registry, "team/app")
    with open_image(
        place, release.digest, state=node, verifier=key.verifier, log=said.append, patience_s=0.1
    ) as opened:
        assert content(opened, "etc/motd") == b"hello\n" and opened.count(opened.note("x", node)).lazy
        with pytest.raises(Unavailable):
            content(opened, "data/1")
    assert sum("its last answer is used" in line for line in said) == 1
    with (
        pytest.raises(Unavailable) as raised,
        open_image(place, "v1", state=node, verifier=key.verifier, log=print),
    ):
        pass
    assert f"/team/app@{release.digest}" in raised.value.do
    for each in (node / "lazy" / "manifests").iterdir():  # what is not what its digest says is not believed
        each.write_bytes(each.read_bytes()[:-1] + b"!")
    with (
        pytest.raises(Unavailable),
        open_image(place, release.digest, state=node, verifier=key.verifier, log=print),
    ):
        pass
    registry.close()


def readable(path: Path) -> bool:
    try:
        path.read_bytes()
    except OSError:
        return False
    return True


def test_a_registry_that_dies_is_an_error_and_one_that_comes_back_is_read(
    counted: Counted, streamer: Streamer, key: Key, tmp_path: Path
) -> None:
    need_fuse()
    streamer.index(image(counted.place, more_mib=3), INDEXED)
    said: list[str] = []
    with FaultRegistry(counted.server.address) as faults:
        registry = DistributionRegistry(faults.address)
        place, node, top = Place(registry, "team/app"), tmp_path / "node", tmp_path / "top"
        with (
            open_image(place, "v1", state=node, verifier=key.verifier, log=said.append, patience_s=0.5) as opened,
            mounted(opened, top) as server,
        ):
            until(lambda: readable(top / "data" / "0"))  # it may take longer than a reader waits here
            here = (top / "data" / "0").read_bytes()
            faults.play("GET", BLOBS, Status(503), times=1_000)
            with pytest.raises(OSError) as raised:
                (top / "data" / "2").read_bytes()
            assert raised.value.errno == errno.EIO and server.failed_reads and said
            assert (top / "data" / "0").read_bytes() == here
            faults.clear()
            # The request that failed may still pause before its next attempt, longer than a reader waits here.
            until(lambda: readable(top / "data" / "2"))
            assert (top / "data" / "2").read_bytes() == random.Random("v1").randbytes(3 << 20)[2 << 20 :]
        registry.close()
