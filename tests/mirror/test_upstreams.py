from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from registry_pipelines.errors import NotFound
from registry_pipelines.evidence.artifacts import attach
from registry_pipelines.mirror.carry import carry
from registry_pipelines.mirror.upstreams import apply_mirror, plan_mirror, wanted_tags
from registry_pipelines.oci.manifests import Index, manifest_bytes
from registry_pipelines.oci.media_types import OCI_INDEX
from registry_pipelines.oci.platforms import Platform
from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.embedded import EmbeddedServer
from registry_pipelines.registry.protocol import Place
from registry_pipelines.transfer.engine import Engine
from registry_pipelines.transfer.verify import compare
from tests.doubles.asked import Asked, noting
from tests.doubles.docker_registry import DockerRegistry
from tests.mirror.opened import opened
from tests.scan.images import push_image, push_platforms


@dataclass
class Three:
    """Upstream, DMZ and private registry; every exchange with the upstream is counted."""

    upstream: DistributionRegistry
    dmz: DistributionRegistry
    private: DistributionRegistry
    asked: list[Asked]

    def place(self, repository: str = "library/app") -> Place:
        return Place(self.upstream, repository)


@pytest.fixture
def three(tmp_path: Path) -> Iterator[Three]:
    asked: list[Asked] = []
    with ExitStack() as stack:
        servers = [
            stack.enter_context(EmbeddedServer(tmp_path / name, wrap=noting(asked) if name == "upstream" else None))
            for name in ("upstream", "dmz", "private")
        ]
        clients = [DistributionRegistry(server.address) for server in servers]
        yield Three(clients[0], clients[1], clients[2], asked)


def push(place: Place, tag: str) -> str:
    return push_image(place, [{"etc/version": tag}], tag=tag).digest


def test_tags_go_through_the_dmz_with_their_evidence_and_stay_pinned(three: Three, tmp_path: Path) -> None:
    place = three.place()
    digests = {tag: push(place, tag) for tag in ("1.0", "1.1", "2.0", "latest")}
    subject = place.registry.resolve(place.repository, "1.1")
    attach(place, subject=subject, artifact_type="text/plain", content=b"signed", media_type="text/plain")
    plan = plan_mirror([opened(source=place, repository="mirror/app", tags=("1.*",), newest=5)])
    assert [(item.tag, item.digest) for item in plan.pinned] == [("1.1", digests["1.1"]), ("1.0", digests["1.0"])]
    push_image(place, [{"etc/version": "replaced"}], tag="1.1")  # the tag moves after the plan was made
    run = apply_mirror(plan, via=three.dmz, to=three.private, engine=Engine(state=tmp_path / "state"))
    assert not run.problems and [row.digest for row in run.rows] == [digests["1.1"], digests["1.0"]]
    for registry in (three.dmz, three.private):
        found = Place(registry, "mirror/app")
        assert sorted(registry.tags("mirror/app")) == ["1.0", "1.1"]
        assert registry.resolve("mirror/app", "1.1").digest == digests["1.1"]
        assert compare(place, found, digests["1.1"]) == []
    assert run.rows[0].bytes_moved > 0
    again = apply_mirror(plan, via=three.dmz, to=three.private, engine=Engine(state=tmp_path / "state"))
    assert [(row.changed, row.bytes_moved) for row in again.rows] == [(False, 0), (False, 0)]


def test_the_private_registry_is_filled_from_the_dmz_alone(three: Three) -> None:
    digest = three.place().registry.resolve("library/app", push(three.place(), "1.0")).digest
    dmz, private = Place(three.dmz, "m/app"), Place(three.private, "m/app")
    three.asked.clear()
    carry(three.place(), digest, [dmz], tags=("1.0",))
    once = sum(each.method == "GET" for each in three.asked)
    three.asked.clear()
    carry(dmz, digest, [private], tags=("1.0",))
    assert once > 0 and not three.asked
    assert private.registry.resolve("m/app", "1.0").digest == digest


def test_one_broken_upstream_holds_no_other_up(three: Three) -> None:
    good, broken = three.place("good"), three.place("broken")
    push(good, "1.0")
    push(broken, "1.0")
    layer = broken.registry.get_manifest("broken", "1.0").content().layers[0]  # type: ignore[union-attr]
    broken.registry.delete_blob("broken", layer.digest)
    plan = plan_mirror(
        [
            opened(source=three.place("none"), repository="none"),
            opened(source=broken, repository="broken"),
            opened(source=good, repository="good", semver=">=3"),
            opened(source=good, repository="good"),
        ]
    )
    assert [problem.upstream.rpartition("/")[2] for problem in plan.problems] == ["none", "good"]
    run = apply_mirror(plan, to=three.private)
    assert [row.pinned.upstream.repository for row in run.rows] == ["good"]
    assert [(problem.upstream.rpartition("/")[2], problem.tag) for problem in run.problems][-1] == ("broken", "1.0")
    with pytest.raises(NotFound):
        three.private.resolve("broken", "1.0")


def test_only_wanted_platforms_come_and_the_index_keeps_its_digest(three: Three) -> None:
    place = three.place()
    index, children = push_platforms(place, "amd64", "arm64", tag="1.0")
    plan = plan_mirror(
        [opened(source=place, repository="m/app", platforms=(Platform(os="linux", architecture="amd64"),))]
    )
    [row] = apply_mirror(plan, via=three.dmz, to=three.private).rows
    assert row.digest == index.digest == three.private.resolve("m/app", "1.0").digest
    assert three.private.resolve("m/app", children[0].digest).digest == children[0].digest
    with pytest.raises(NotFound):
        three.private.resolve("m/app", children[1].digest)


@pytest.mark.peer("docker-registry")
def test_a_registry_that_wants_whole_indexes_gets_a_rewritten_one(
    three: Three, peer: Callable[[str], str], tmp_path: Path
) -> None:
    """Written anew on the way into the DMZ, and taken from there as it is."""
    place, amd64 = three.place(), (Platform(os="linux", architecture="amd64"),)
    index, _ = push_platforms(place, "amd64", "arm64", tag="1.0")
    with DockerRegistry(peer("docker-registry"), tmp_path / "docker-registry") as registry:
        private = DistributionRegistry(registry.address)
        sparse = plan_mirror([opened(source=place, repository="m/app", platforms=amd64)])
        [problem] = apply_mirror(sparse, via=three.dmz, to=private).problems
        assert "Set `selection: rewritten`" in str(problem.error)
        plan = plan_mirror([opened(source=place, repository="n/app", platforms=amd64, selection="rewritten")])
        [row] = apply_mirror(plan, via=three.dmz, to=private).rows
        assert row.digest == three.dmz.resolve("n/app", "1.0").digest == private.resolve("n/app", "1.0").digest
        assert row.digest != index.digest
        assert compare(place, Place(private, "n/app"), "1.0", platforms=amd64, selection="rewritten") == []
        assert not apply_mirror(plan, via=three.dmz, to=private).rows[0].changed


def test_evidence_tags_are_never_mirrored_by_themselves(three: Three) -> None:
    place = three.place()
    digest = push(place, "1.0")
    stored = place.registry.get_manifest(place.repository, digest)
    for tag in (f"sha256-{digest[7:]}.sig", "sha256-short"):
        place.registry.put_manifest(place.repository, stored, tag=tag)
    fallback = manifest_bytes(Index(schema_version=2, media_type=OCI_INDEX, manifests=()))
    place.registry.put_manifest(place.repository, fallback, tag=f"sha256-{digest[7:]}")
    assert wanted_tags(opened(source=place, repository="x")).tags == ["1.0", "sha256-short"]


@pytest.mark.peer("docker-registry")
def test_docker_registry_as_the_private_one(three: Three, peer: Callable[[str], str], tmp_path: Path) -> None:
    place = three.place()
    digest = push(place, "1.0")
    subject = place.registry.resolve(place.repository, "1.0")
    attach(place, subject=subject, artifact_type="text/plain", content=b"sbom", media_type="text/plain")
    with DockerRegistry(peer("docker-registry"), tmp_path / "docker-registry") as registry:
        private = DistributionRegistry(registry.address)
        plan = plan_mirror([opened(source=place, repository="m/app")])
        [row] = apply_mirror(plan, via=three.dmz, to=private).rows
        assert row.digest == digest and compare(place, Place(private, "m/app"), digest) == []
        assert not apply_mirror(plan, via=three.dmz, to=private).rows[0].changed


def test_a_shared_layer_leaves_its_upstream_once_and_is_mounted_after_that(tmp_path: Path) -> None:
    seen: dict[str, list[Asked]] = {"upstream": [], "dmz": [], "private": []}
    base = {"usr/lib/base": "x" * 50_000}
    with ExitStack() as stack:
        upstream, dmz, private = (
            DistributionRegistry(stack.enter_context(EmbeddedServer(tmp_path / name, wrap=noting(asked))).address)
            for name, asked in seen.items()
        )
        for name in ("one", "two", "three"):
            for tag in ("1.0", "1.1"):
                push_image(Place(upstream, name), [base, {"app": f"{name} {tag}"}], tag=tag)
        shared = upstream.get_manifest("one", "1.0").content().layers[0].digest  # type: ignore[union-attr]
        plan = plan_mirror(
            [opened(source=Place(upstream, name), repository=f"in/{name}") for name in ("one", "two", "three")]
        )
        for asked in seen.values():
            asked.clear()
        run = apply_mirror(plan, via=dmz, to=private, engine=Engine(state=tmp_path / "state"))
        assert len(run.rows) == 6 and not run.problems
        for name in ("upstream", "dmz"):
            reads = Counter(
                each.target for each in seen[name] if each.method == "GET" and "/blobs/sha256:" in each.target
            )
            assert set(reads.values()) == {1}
            assert sum(str(shared) in target for target in reads) == 1
        for name in ("dmz", "private"):
            mounts = [each for each in seen[name] if "mount=" in each.target and shared.hex in each.target]
            assert [each.status for each in mounts] == [201, 201]
