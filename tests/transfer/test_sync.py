"""Fleets: every request counted at the source and at both targets."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from registry_pipelines.errors import Forbidden, InputError, NotFound, Refused, Unavailable, Unsupported
from registry_pipelines.oci.digest import Digest
from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.protocol import Capabilities
from registry_pipelines.transfer.blob.memory import PART_BYTES
from registry_pipelines.transfer.closure.discovery import discover
from registry_pipelines.transfer.closure.selector import Selector
from registry_pipelines.transfer.copying import copy_closure
from registry_pipelines.transfer.delivery.acts import DeliveryTools
from registry_pipelines.transfer.delivery.execute import execute
from registry_pipelines.transfer.delivery.plan import Job
from registry_pipelines.transfer.delivery.planner import Planner
from registry_pipelines.transfer.engine import Engine
from registry_pipelines.transfer.limits.machine import MachineLimits
from registry_pipelines.transfer.limits.rules import RegistryRule
from registry_pipelines.transfer.summary import Summary
from registry_pipelines.transfer.sync import OpenTarget, Source, sync
from registry_pipelines.transfer.verify import compare
from tests.doubles.fault_registry import FaultRegistry, Status

if TYPE_CHECKING:
    from tests.transfer.conftest import Counted, Graphs

IMAGES, BASES = 8, 2


def push_fleet(source: Counted, graphs: Graphs) -> None:
    bases = [[graphs.noise(300_000, 10 * base + layer) for layer in range(3)] for base in range(BASES)]
    for image in range(IMAGES):
        for tag in ("v1", "v2"):
            own = graphs.noise(50_000, 1000 + image * 10 + int(tag[1]))
            graphs.image(
                source.place(f"team/app{image}"), *bases[image % BASES], own, tag=tag, config=f"{image}{tag}".encode()
            )


def test_cold_fleet_reads_each_blob_once_and_mounts_all_it_can(
    source: Counted, start_embedded: Callable[..., Counted], graphs: Graphs, tmp_path: Path
) -> None:
    push_fleet(source, graphs)
    east, west = start_embedded(), start_embedded()
    source.forget()
    fleet = Source(source.registry, (OpenTarget(east.registry), OpenTarget(west.registry, "copies")))
    result = sync([fleet], engine=Engine(state=tmp_path))
    assert result.ok
    assert len(result.results) == IMAGES * 2 * 2
    reads = source.blob_reads()
    unique = BASES * 3 + IMAGES * 2 * 2
    assert len(reads) == unique
    assert set(reads.values()) == {1}
    for target in (east, west):
        possible = (IMAGES - BASES) * 3
        mounts = [item for item in target.exchanges if "mount=" in item.target]
        assert len(mounts) == sum(item.status == 201 for item in mounts) == possible
        assert target.count("PUT", "/manifests/") == IMAGES * 2
    for image in range(IMAGES):
        here = source.place(f"team/app{image}")
        assert compare(here, east.place(f"team/app{image}"), "v2", content=True) == []
        assert compare(here, west.place(f"copies/team/app{image}"), "v1", content=True) == []


def test_warm_fleet_asks_once_per_manifest_and_target(
    source: Counted, start_embedded: Callable[..., Counted], graphs: Graphs, tmp_path: Path
) -> None:
    push_fleet(source, graphs)
    east, west = start_embedded(), start_embedded()
    fleet = Source(source.registry, (OpenTarget(east.registry), OpenTarget(west.registry)))
    sync([fleet], engine=Engine(state=tmp_path))
    for registry in (source, east, west):
        registry.forget()
    again = sync([fleet], engine=Engine(state=tmp_path))
    tags = IMAGES * 2
    assert not again.changed
    assert len(east.exchanges) == len(west.exchanges) == tags
    assert source.count("HEAD", "/manifests/") == tags
    assert source.count("GET", "/referrers/") == tags + 1  # one finds out how the source answers, while tags are listed
    assert source.count("GET", "/tags/list") == IMAGES
    assert len(source.exchanges) == tags * 2 + IMAGES + 2  # and the catalogue, and how the source answers


def test_one_tag_of_each_repository_is_looked_at_before_the_second_of_any(
    source: Counted, target: Counted, graphs: Graphs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the first learns of its repository is then known: a registry without the API is not asked by all tags."""
    push_fleet(source, graphs)
    source.forget()
    monkeypatch.setattr("registry_pipelines.transfer.sync.DISCOVERY_THREADS", 1)
    result = sync([Source(source.registry, (OpenTarget(target.registry),))], dry_run=True)
    asked = [
        item.target for item in source.exchanges if item.method in ("GET", "HEAD") and "/manifests/v" in item.target
    ]
    assert [each.rpartition("/")[2] for each in asked] == ["v1"] * IMAGES + ["v2"] * IMAGES
    names = [(str(each.target.repository), each.tags[0].tag) for each in result.plan.deliveries]
    assert names == sorted(names) and len(names) == IMAGES * 2


def test_what_another_repository_of_the_plan_has_is_mounted_though_no_journal_tells_it(
    source: Counted, target: Counted, graphs: Graphs, tmp_path: Path
) -> None:
    """A run was killed after the first image, and before its journal had written down where its blobs are."""
    base = graphs.noise(300_000)
    graphs.image(source.place("first"), base, tag="v1", config=b"first")
    graphs.image(source.place("second"), base, tag="v1", config=b"second")
    copy_closure(source.place("second"), "v1", [target.place("second")], engine=Engine(state=tmp_path / "elsewhere"))
    target.forget()
    result = sync([Source(source.registry, (OpenTarget(target.registry),))], engine=Engine(state=tmp_path / "state"))
    assert result.ok and [each.blobs_mounted for each in result.results] == [1, 0]
    assert target.bytes_in() < len(base)


def test_a_target_that_was_emptied_is_not_asked_for_every_piece(
    source: Counted, target: Counted, graphs: Graphs, tmp_path: Path
) -> None:
    """Receipts say that all was there; so each closure is looked for, and each repository once."""
    push_fleet(source, graphs)
    fleet = Source(source.registry, (OpenTarget(target.registry),))
    sync([fleet], engine=Engine(state=tmp_path))
    shutil.rmtree(target.server.root / "team")
    target.forget()
    assert not sync([fleet], dry_run=True, engine=Engine(state=tmp_path)).plan.unchanged
    closures = IMAGES * 2
    assert target.count("HEAD", "/manifests/") == closures * 2  # by tag and by digest
    assert target.count("GET", "/tags/list") == IMAGES
    assert len(target.exchanges) == closures * 2 + IMAGES


def test_chooses_repositories_and_tags(source: Counted, target: Counted, graphs: Graphs) -> None:
    push_fleet(source, graphs)
    fleet = Source(
        source.registry,
        (OpenTarget(target.registry),),
        choose_repositories=Selector(glob=("team/app[01]",)),
        choose_tags=Selector(newest=1),
    )
    dry = sync([fleet], dry_run=True)
    assert target.count("PUT") == 0
    assert [(row["image"], row["tags"]) for row in Summary(dry, ["east"]).plan_rows()] == [
        (f"team/app{image}:v2", "v2") for image in (0, 1)
    ]
    assert sync([fleet]).plan.to_json() == dry.plan.to_json()
    assert sorted(target.registry.repositories()) == ["team/app0", "team/app1"]


def test_one_broken_image_does_not_stop_the_fleet(source: Counted, target: Counted, graphs: Graphs) -> None:
    lost = graphs.noise(9000)
    graphs.image(source.place("broken"), lost, tag="v1")
    graphs.image(source.place("whole"), b"fine", tag="v1")
    source.registry.delete_blob("broken", Digest.of(lost))
    result = sync([Source(source.registry, (OpenTarget(target.registry),))])
    assert not result.ok
    errors = [item.error for item in result.results if item.error]
    assert len(errors) == 1
    assert isinstance(errors[0], NotFound)
    assert "gone at the source" in str(errors[0])
    assert compare(source.place("whole"), target.place("whole"), "v1") == []
    assert list(target.registry.tags("whole")) == ["v1"]


def test_refusals_are_known_before_a_byte_moves(source: Counted, target: Counted, graphs: Graphs) -> None:
    here, there = source.place("app"), target.place("app")
    graphs.image(here, graphs.noise(5000), tag="v1")
    closure = discover(here, "v1")
    host = target.address.replace(".", r"\.")
    for rule in (
        RegistryRule(host, max_layer_bytes=4000),
        RegistryRule(host, refused_media_types=("application/vnd.oci.image.layer.v1.tar+gzip",)),
    ):
        with Planner(rules=[rule]) as planner:
            plan = planner.plan([Job(closure, (there,), ("v1",))])
        assert plan.deliveries[0].refused
        (result,) = execute(plan, DeliveryTools())
        assert isinstance(result.error, Refused)
        assert "nothing was sent" in str(result.error)
    assert target.count("POST") + target.count("PUT") == 0


def test_a_source_that_cannot_be_listed_fails_alone(
    source: Counted, target: Counted, graphs: Graphs, connect: Callable[..., DistributionRegistry]
) -> None:
    graphs.image(source.place("whole"), b"fine", tag="v1")
    graphs.image(source.place("shut"), b"fine", tag="v1")
    with FaultRegistry(source.address) as faults:
        faults.play("GET", r"/v2/shut/tags/.*", Status(403))
        faults.play("GET", r"/v2/_catalog.*", Status(401), skip=1)
        to = (OpenTarget(target.registry),)
        listed, silent = (connect(faults.address) for _ in range(2))
        names = list(listed.repositories())
        result = sync([Source(silent, to), Source(listed, to, repositories=tuple(names))])
        assert [(each.reference, type(each.error)) for each in result.failures] == [
            (faults.address, Unsupported),
            (f"{faults.address}/shut", Forbidden),
        ]
    assert not result.ok
    assert [item.ok for item in result.results] == [True]
    assert list(target.registry.repositories()) == ["whole"]


class Silenced(DistributionRegistry):
    """A registry of a kind that has to ask before it can say what it does, and gets no answer."""

    def capabilities(self, repository: str) -> Capabilities:
        raise Unavailable("the registry does not say what it does", where=f"{self.name}/{repository}")


def test_a_target_that_does_not_say_what_it_does_is_refused_alone(
    source: Counted, start_embedded: Callable[..., Counted], graphs: Graphs
) -> None:
    base = graphs.noise(300_000)
    for name in ("one", "two", "three"):
        graphs.image(source.place(name), base, graphs.noise(5000, len(name)), tag="v1", config=name.encode())
    east, west = start_embedded(), start_embedded()
    silenced = Silenced(west.address)
    result = sync([Source(source.registry, (OpenTarget(silenced), OpenTarget(east.registry)), ("one", "two", "three"))])
    silenced.close()
    refused = [item for item in result.results if item.error]
    assert [str(item.place) for item in refused] == [f"{west.address}/two", f"{west.address}/three"]
    assert all(isinstance(item.error, Unavailable) for item in refused)
    assert compare(source.place("one"), west.place("one"), "v1") == []
    for name in ("one", "two", "three"):
        assert compare(source.place(name), east.place(name), "v1") == []


def test_a_large_layer_reaches_the_other_targets_too(
    source: Counted, start_embedded: Callable[..., Counted], graphs: Graphs
) -> None:
    graphs.image(source.place("app"), graphs.noise(PART_BYTES + 1), tag="v1")
    east, west = start_embedded(), start_embedded()
    silenced = Silenced(west.address)
    result = sync([Source(source.registry, (OpenTarget(silenced), OpenTarget(east.registry)))])
    silenced.close()
    assert [type(item.error) for item in result.results] == [Unavailable, type(None)]
    assert compare(source.place("app"), east.place("app"), "v1") == []
    assert west.count("PUT", "/manifests/") == 0


def test_two_sources_for_one_place_and_tag_are_named_both_and_nothing_is_copied(
    start_embedded: Callable[..., Counted], target: Counted, graphs: Graphs
) -> None:
    ours, theirs = start_embedded(), start_embedded()
    for each, own in ((ours, b"ours"), (theirs, b"theirs")):
        graphs.image(each.place("app"), b"shared", tag="v1")
        graphs.image(each.place("app"), own, tag="v2")
    fleet = [Source(each.registry, (OpenTarget(target.registry),)) for each in (ours, theirs)]
    with pytest.raises(InputError) as clash:
        sync(fleet)
    assert clash.value.what == (
        f"{ours.address}/app:v2 and {theirs.address}/app:v2 are both to be {target.address}/app:v2"
    )
    assert {each.method for each in target.exchanges} <= {"GET", "HEAD"}
    assert sync([replace(each, choose_tags=Selector(glob=("v1",))) for each in fleet]).ok


def test_a_registry_copied_below_itself_does_not_grow_with_every_pass(source: Counted, graphs: Graphs) -> None:
    graphs.image(source.place("app"), b"layer", tag="v1")
    graphs.image(source.place("mirrored"), b"other", tag="v1")
    for _ in range(2):
        assert sync([Source(source.registry, (OpenTarget(source.registry, "mirror"),))]).ok
    assert set(source.registry.repositories()) == {"app", "mirrored", "mirror/app", "mirror/mirrored"}


def test_tells_how_many_requests_each_registry_got(
    source: Counted, start_embedded: Callable[..., Counted], graphs: Graphs, tmp_path: Path
) -> None:
    """Also behind limits, and with one registry under two roles; a request that is repeated counts twice."""
    push_fleet(source, graphs)
    east, west = start_embedded(), start_embedded()
    with FaultRegistry(west.address) as faults:
        faults.play("PUT", r".*/manifests/.*", Status(503, {"Retry-After": "0"}), times=3)
        registry = DistributionRegistry(faults.address)
        fleet = Source(
            source.registry,
            (OpenTarget(east.registry), OpenTarget(registry), OpenTarget(source.registry, "backup")),
            choose_repositories=Selector(exclude=("backup/*",)),
        )
        source.forget()
        result = sync([fleet], engine=Engine(limits=MachineLimits(), state=tmp_path))
        registry.close()
        assert result.ok
        assert result.requests == {
            source.address: len(source.exchanges),
            east.address: len(east.exchanges),
            faults.address: len(faults.seen),
        }
    east.forget()
    again = copy_closure(source.place("team/app0"), "v1", [east.place("team/app0")])
    assert again.requests[east.address] == len(east.exchanges)
