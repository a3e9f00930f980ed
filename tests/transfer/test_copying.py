"""Copies between real registries: what arrives, what is asked for, what a second pass does."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from registry_pipelines.errors import DigestMismatch, NotFound
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.platforms import Platform
from registry_pipelines.progress import Counter
from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.layout import LayoutRegistry
from registry_pipelines.registry.protocol import Place
from registry_pipelines.transfer.blob.memory import PART_BYTES
from registry_pipelines.transfer.closure.discovery import discover
from registry_pipelines.transfer.copying import copy_closure
from registry_pipelines.transfer.engine import Engine
from registry_pipelines.transfer.verify import compare

if TYPE_CHECKING:
    from conftest import Counted, Graphs

LARGE = 20_000_000


def test_copies_everything_that_belongs_to_an_index(source: Counted, target: Counted, graphs: Graphs) -> None:
    here, there = source.place("team/app"), target.place("replica/app")
    top = graphs.signed_index(here, "v1")
    result = copy_closure(here, "v1", [there])
    assert result.root.digest == top.digest
    assert result.per_target[0].changed
    assert compare(here, there, "v1", content=True) == []
    assert there.registry.resolve("replica/app", "v1").digest == top.digest
    signatures = there.registry.referrers("replica/app", top.digest)
    assert len(signatures) == 1
    assert len(there.registry.referrers("replica/app", signatures[0].digest)) == 1
    assert there.registry.resolve("replica/app", f"sha256-{top.digest.hex}.sig")


def test_copies_large_layers_between_all_kinds_of_places(
    source: Counted,
    target: Counted,
    graphs: Graphs,
    tmp_path: Path,
    start_docker_registry: Callable[[], str],
    connect: Callable[..., DistributionRegistry],
) -> None:
    here = source.place("app")
    graphs.image(here, graphs.noise(LARGE), graphs.noise(PART_BYTES), b"", tag="v1")
    docker = Place(connect(start_docker_registry()), "app")
    layout = Place(LayoutRegistry(tmp_path / "layouts"), "app")
    counter = Counter()
    result = copy_closure(here, "v1", [target.place("app"), docker, layout], engine=Engine(progress=counter))
    for place in (target.place("app"), docker, layout):
        assert compare(here, place, "v1", content=True) == []
    assert max(source.blob_reads().values()) <= LARGE // PART_BYTES + 1 + 3  # ranges of one read, then the comparisons
    assert (
        counter.bytes_moved
        == result.bytes_moved
        == 3 * discover(here, "v1").size_bytes - 3 * len(here.registry.get_manifest("app", "v1").raw)
    )
    back = source.place("back")
    copy_closure(layout, "v1", [back])
    assert compare(here, back, "v1", content=True) == []


@pytest.mark.parametrize("by", ["tag", "digest"])
def test_second_pass_looks_once_at_everything_and_moves_nothing(
    by: str, source: Counted, target: Counted, graphs: Graphs, tmp_path: Path
) -> None:
    here, there = source.place("app"), target.place("app")
    top = graphs.signed_index(here, "v1")
    reference = "v1" if by == "tag" else top.digest
    first = copy_closure(here, reference, [there], engine=Engine(state=tmp_path / "state"))
    source.forget()
    target.forget()
    again = copy_closure(here, reference, [there], engine=Engine(state=tmp_path / "state"))
    manifests = len(discover(here, "v1").manifests)
    assert first.changed
    assert not again.changed
    assert again.per_target[0].receipt == first.per_target[0].receipt
    assert target.count("HEAD", "/manifests/") == manifests
    assert len(target.exchanges) == manifests


def test_late_signature_arrives_with_the_next_pass(
    source: Counted, target: Counted, graphs: Graphs, tmp_path: Path
) -> None:
    here, there = source.place("app"), target.place("app")
    top = graphs.image(here, b"layer", tag="v1")
    copy_closure(here, "v1", [there], engine=Engine(state=tmp_path))
    late = graphs.artifact(here, b"late", subject=top.descriptor)
    result = copy_closure(here, "v1", [there], engine=Engine(state=tmp_path))
    assert result.per_target[0].manifests_put == 1
    assert [item.digest for item in there.registry.referrers("app", top.digest)] == [late.digest]


def test_dry_run_is_the_plan_and_changes_nothing(source: Counted, target: Counted, graphs: Graphs) -> None:
    here, there = source.place("app"), target.place("app")
    graphs.signed_index(here, "v1")
    dry = copy_closure(here, "v1", [there], dry_run=True)
    assert target.count("PUT") + target.count("POST") + target.count("PATCH") == 0
    wet = copy_closure(here, "v1", [there])
    assert json.dumps(dry.plan.to_json()) == json.dumps(wet.plan.to_json())
    [delivery] = dry.plan.deliveries
    assert sum(step.action == "put" for step in delivery.manifests) == wet.per_target[0].manifests_put
    assert dry.plan.upload_bytes == wet.bytes_moved


def test_copies_by_digest_without_a_tag_and_under_other_tags(source: Counted, target: Counted, graphs: Graphs) -> None:
    here = source.place("app")
    top = graphs.image(here, b"layer", tag="v1")
    copy_closure(here, top.digest, [target.place("by-digest")])
    assert list(target.place("x").registry.tags("by-digest")) == []
    copy_closure(here, top.digest, [target.place("other")], tags=["a", "b"])
    assert sorted(target.place("x").registry.tags("other")) == ["a", "b"]


def test_tag_that_may_not_move_is_reported_and_left(source: Counted, target: Counted, graphs: Graphs) -> None:
    here, there = source.place("app"), target.place("app")
    old = graphs.image(there, b"old", tag="v1")
    new = graphs.image(here, b"new", tag="v1")
    result = copy_closure(here, "v1", [there], move_tags=False)
    drift = result.per_target[0].drift[0]
    assert (drift.kind, drift.planned, drift.found) == ("target", new.digest, old.digest)
    assert not result.per_target[0].ok
    assert there.registry.resolve("app", "v1").digest == old.digest
    copy_closure(here, "v1", [there])
    assert there.registry.resolve("app", "v1").digest == new.digest


def test_damaged_source_blob_is_found_and_never_stored(source: Counted, target: Counted, graphs: Graphs) -> None:
    here, there = source.place("app"), target.place("app")
    for name, size in (("small", 5000), ("large", LARGE)):
        content = graphs.noise(size)
        graphs.image(here, content, tag=name)
        digest = Digest.of(content)
        path = next(source.server.root.rglob(digest.hex))
        path.chmod(0o644)
        with path.open("r+b") as file:
            file.seek(size // 2)
            file.write(b"damage")
        with pytest.raises(DigestMismatch, match="the source's blob"):
            copy_closure(here, name, [there])
        assert there.registry.blob_size("app", digest) is None
        with pytest.raises(NotFound):
            there.registry.resolve("app", name)


def test_one_failing_target_does_not_stop_the_other(
    source: Counted, target: Counted, graphs: Graphs, start_embedded: Callable[..., Counted]
) -> None:
    here, good = source.place("app"), target.place("app")
    graphs.image(here, graphs.noise(LARGE), tag="v1")
    closed = start_embedded(users={"team": "secret"}, anonymous_pull=True).place("app")
    with pytest.raises(Exception, match="credentials") as caught:
        copy_closure(here, "v1", [closed, good])
    assert any("complete" in note for note in caught.value.__notes__)
    assert compare(here, good, "v1", content=True) == []


def test_platform_selection_is_explicit(source: Counted, target: Counted, graphs: Graphs) -> None:
    here = source.place("app")
    top = graphs.signed_index(here, "v1")
    arm = [Platform.parse("linux/arm64")]
    sparse = copy_closure(here, "v1", [target.place("sparse")], platforms=arm)
    assert sparse.root.digest == top.digest
    assert compare(here, target.place("sparse"), "v1", platforms=arm) == []
    assert [item.kind for item in compare(here, target.place("sparse"), "v1")].count("manifest") == 2
    rewritten = copy_closure(here, "v1", [target.place("rewritten")], platforms=arm, selection="rewritten")
    assert rewritten.root.digest != top.digest
    assert rewritten.per_target[0].drift == ()
    whole = discover(target.place("rewritten"), "v1")
    assert len(whole.manifests) == 2


def test_blob_is_mounted_when_the_registry_has_it_elsewhere(
    source: Counted, target: Counted, graphs: Graphs, tmp_path: Path
) -> None:
    base = graphs.noise(100_000)
    graphs.image(source.place("a"), base, b"one", tag="v1")
    graphs.image(source.place("b"), base, b"two", tag="v1")
    copy_closure(source.place("a"), "v1", [target.place("a")], engine=Engine(state=tmp_path))
    second = copy_closure(source.place("b"), "v1", [target.place("b")], engine=Engine(state=tmp_path)).per_target[0]
    assert second.blobs_mounted == 2  # the base and the equal config
    assert second.bytes_moved == 3
    within = copy_closure(source.place("a"), "v1", [source.place("c")]).per_target[0]
    assert (within.bytes_moved, within.blobs_mounted) == (0, 3)


def test_more_large_layers_at_once_than_memory_has_parts(
    source: Counted, target: Counted, graphs: Graphs, tmp_path: Path
) -> None:
    """Twelve uploads share eight parts of memory; none may keep a part that another waits for."""
    layers = [graphs.noise(PART_BYTES + 1_000_000 * number, number) for number in range(1, 13)]
    graphs.image(source.place("app"), *layers, tag="v1")
    copy_closure(source.place("app"), "v1", [target.place("a"), target.place("b")], engine=Engine(state=tmp_path))
    assert compare(source.place("app"), target.place("b"), "v1", content=True) == []
