"""Images that are known before they are pulled: found by a layer's chain ID alone, as where nobody says more of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from registry_pipelines.chain.node import announced
from registry_pipelines.config import load
from registry_pipelines.node.announcing import Announcing
from registry_pipelines.node.images import NodeImages
from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.client.retries import NEVER
from registry_pipelines.registry.protocol import Place
from tests.doubles.fault_registry import FaultRegistry
from tests.doubles.faults import Status
from tests.evidence.parts import Counted, Key
from tests.node.test_images import chain
from tests.patience import patient, until
from tests.stream.lazy.mounts import need_fuse
from tests.stream.lazy.starts import image
from tests.stream.releases import INDEXED, Streamer

OTHER = "sha256:" + "0" * 64


@contextmanager
def node(
    place: Place, state: Path, key: Key, said: list[str], *tags: str, again_s: float = 600.0
) -> Iterator[tuple[NodeImages, Announcing]]:
    with (
        NodeImages(
            lambda tag: place, state=state, verifier=key.verifier, log=said.append, fill=False, wait_s=patient(60)
        ) as images,
        Announcing(tags, images.look, state=state, log=said.append, again_s=again_s) as known,
    ):
        images.know(known.having)
        yield images, known


def test_an_announced_image_is_found_by_its_chain_ids_also_after_it_was_removed(
    counted: Counted, streamer: Streamer, key: Key, tmp_path: Path
) -> None:
    need_fuse()
    release = image(counted.place, more_mib=1)
    streamer.index(release, INDEXED)
    image(counted.place, tag="plain", more_mib=1)
    base, top = chain(counted.place, release)
    said: list[str] = []
    with node(counted.place, tmp_path, key, said, "x/app:v1", "x/app:plain", "x/app:v1") as (images, known):
        until(lambda: len(said) == 2)
        assert any(line.startswith(f"x/app:v1@{release.digest} is announced: its layers are served") for line in said)
        assert any("is announced, and pulled as usual: the image has no index" in line for line in said)
        assert known.images["x/app:v1"] == (release.digest, 2) and known.images["x/app:plain"][1] == 0
        assert images.find({}, OTHER) is None
        for _ in range(2):
            served = images.find({}, top)
            assert served is not None and images.find({}, base) is served
            assert (served.mount(top) / "etc/motd").read_text() == "hello\n"
            served.release()


def test_a_tag_that_moved_is_announced_anew(counted: Counted, streamer: Streamer, key: Key, tmp_path: Path) -> None:
    need_fuse()
    first = image(counted.place, more_mib=1)
    streamer.index(first, INDEXED)
    said: list[str] = []
    with node(counted.place, tmp_path, key, said, "x/app:v1") as (images, known):
        until(lambda: "x/app:v1" in known.images)
        _, before = chain(counted.place, first)
        assert known.having(before) == [("x/app:v1", first.digest)]
        second = image(counted.place, tag="v2", more_mib=1)
        streamer.index(second, INDEXED)
        manifest = counted.place.registry.get_manifest(counted.place.repository, second.digest)
        counted.place.registry.put_manifest(counted.place.repository, manifest, tag="v1")
        # Nobody looks for ten minutes, but a layer is asked for that is not known.
        _, top = chain(counted.place, second)
        images.find({}, top)
        until(lambda: known.having(top) == [("x/app:v1", second.digest)])
        assert known.having(before) == []
        assert images.find({}, top) is not None


def test_what_was_announced_is_known_to_the_next_process_while_its_registry_is_down(
    counted: Counted, streamer: Streamer, key: Key, tmp_path: Path
) -> None:
    need_fuse()
    release = image(counted.place, more_mib=1)
    streamer.index(release, INDEXED)
    base, top = chain(counted.place, release)
    said: list[str] = []
    with FaultRegistry(counted.server.address) as faults:
        place = Place(DistributionRegistry(faults.address, retries=NEVER), "team/app")
        faults.play("GET", r"/v2/team/app/manifests/v1", Status(503), times=2)
        # At the start nobody answers; it is said once, and asked again.
        with node(place, tmp_path, key, said, "x/app:v1", again_s=0.01) as (_, known):
            until(lambda: len(said) == 2)
            assert said[0].startswith("x/app:v1 cannot be looked at, and will be again; it is pulled as usual so ")
            assert "is announced" in said[1] and known.having(top)
        faults.play("HEAD", r"/v2/.*", Status(503))
        with node(place, tmp_path, key, said, "x/app:v1", "x/app:new") as (_, known):
            assert known.having(top) == known.having(base) == [("x/app:v1", release.digest)]
            until(lambda: any(f"{release.digest} is served under that name meanwhile" in line for line in said))
        with node(place, tmp_path, key, said) as (_, known):
            assert known.having(top) == []  # nobody announces it any more
        place.registry.close()  # type: ignore[attr-defined]


def test_a_configuration_announces_its_own_images_where_pods_read_them(tmp_path: Path) -> None:
    (tmp_path / "registry-pipelines.yaml").write_text("""
registries:
  dev: {kind: distribution, host: dev.example}
  eu: {kind: distribution, host: eu.example}
targets:
  live: {registry: eu, prefix: copies}
images:
  app: {registry: dev, repository: team/app, channels: [{name: staging, targets: []}, prod], targets: [live]}
  job: {registry: dev, repository: team/job, targets: [live]}
node:
  announce: {images: ["docker.io/library/redis:8"], channels: true, target: live}
""")
    config = load(tmp_path / "registry-pipelines.yaml")
    own = ["eu/copies/team/app:staging", "eu/copies/team/app:prod", "eu/copies/team/job:prod"]
    assert announced(config, ["x/y:z"]) == ["x/y:z", "docker.io/library/redis:8", *own]
    assert announced(None, ["a", "a"]) == ["a"]
