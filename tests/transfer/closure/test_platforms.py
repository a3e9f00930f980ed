"""Some platforms of an index: as it is, lacking the others, or written anew; and registries that want whole indexes."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from registry_pipelines.errors import Forbidden, ManifestInvalid, NotFound, Refused, TagImmutable
from registry_pipelines.oci.platforms import Platform
from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.protocol import Place
from registry_pipelines.transfer.closure.discovery import discover
from registry_pipelines.transfer.closure.platforms import Selection
from registry_pipelines.transfer.copying import copy_closure
from registry_pipelines.transfer.delivery.acts import DeliveryTools
from registry_pipelines.transfer.delivery.execute import execute
from registry_pipelines.transfer.delivery.plan import Job, Plan
from registry_pipelines.transfer.delivery.planner import Planner
from registry_pipelines.transfer.delivery.refusals import BELIEVED_S
from registry_pipelines.transfer.engine import Engine
from registry_pipelines.transfer.limits.rules import KNOWN, RegistryRule, rule_for
from registry_pipelines.transfer.summary import Summary
from registry_pipelines.transfer.sync import SyncResult
from registry_pipelines.transfer.verify import compare
from tests.doubles.fault_registry import FaultRegistry
from tests.doubles.faults import Status

if TYPE_CHECKING:
    from tests.transfer.conftest import Counted, Graphs

ARM = [Platform.parse("linux/arm64")]
BOTH = [Platform.parse("linux/amd64"), *ARM]


def make_plan(job: Job, rules: Sequence[RegistryRule]) -> Plan:
    with Planner(rules=rules) as planner:
        return planner.plan([job])


@pytest.mark.peer("docker-registry")
def test_docker_registry_refuses_a_sparse_index_and_takes_a_rewritten_one(
    source: Counted,
    graphs: Graphs,
    start_docker_registry: Callable[..., str],
    connect: Callable[..., DistributionRegistry],
) -> None:
    here, there = source.place("app"), Place(connect(start_docker_registry()), "app")
    graphs.signed_index(here, "v1")
    with pytest.raises(Refused, match=r"without 1 of its manifests is not taken.*`selection: rewritten`") as caught:
        copy_closure(here, "v1", [there], platforms=ARM)
    assert (caught.value.status, caught.value.code) == (400, "MANIFEST_BLOB_UNKNOWN")
    with pytest.raises(NotFound):
        there.registry.resolve("app", "v1")
    done = copy_closure(here, "v1", [there], platforms=ARM, selection="rewritten")
    assert done.per_target[0].changed and there.registry.resolve("app", "v1").digest == done.root.digest
    assert compare(here, there, "v1", platforms=ARM, selection="rewritten", content=True) == []
    again = copy_closure(here, "v1", [there], platforms=ARM, selection="rewritten")
    assert (again.root, again.per_target[0].changed) == (done.root, False)


@pytest.mark.peer("docker-registry")
def test_a_refusal_that_was_met_once_is_said_in_the_next_plan_before_a_byte_moves(
    source: Counted,
    graphs: Graphs,
    start_docker_registry: Callable[..., str],
    connect: Callable[..., DistributionRegistry],
    tmp_path: Path,
) -> None:
    """And is found out anew after a month; a rewritten index is never held back by it."""
    here, registry = source.place("app"), connect(start_docker_registry())
    graphs.signed_index(here, "v1")
    with pytest.raises(Refused, match="without 1 of its manifests is not taken"):
        copy_closure(here, "v1", [Place(registry, "first")], platforms=ARM, engine=Engine(state=tmp_path))
    there = Place(registry, "second")
    [delivery] = copy_closure(
        here, "v1", [there], platforms=ARM, dry_run=True, engine=Engine(state=tmp_path)
    ).plan.deliveries
    assert "refused such an index on " in delivery.refused and "selection: rewritten" in delivery.do
    with pytest.raises(Refused, match="nothing was sent"):
        copy_closure(here, "v1", [there], platforms=ARM, engine=Engine(state=tmp_path))
    assert "second" not in list(registry.repositories())
    anew = copy_closure(here, "v1", [there], platforms=ARM, selection="rewritten", engine=Engine(state=tmp_path))
    assert anew.per_target[0].ok
    for noted in (tmp_path / "sparse-refused").iterdir():
        long_ago = time.time() - BELIEVED_S - 60
        os.utime(noted, (long_ago, long_ago))
    third = copy_closure(
        here, "v1", [Place(registry, "third")], platforms=ARM, dry_run=True, engine=Engine(state=tmp_path)
    )
    assert not third.plan.deliveries[0].refused


@pytest.mark.peer("docker-registry")
def test_what_leaves_nothing_out_is_copied_as_it_is(
    source: Counted,
    graphs: Graphs,
    start_docker_registry: Callable[..., str],
    connect: Callable[..., DistributionRegistry],
) -> None:
    """Its digest stays, so its signatures come along."""
    here, there = source.place("app"), Place(connect(start_docker_registry()), "app")
    top = graphs.signed_index(here, "v1")
    whole = discover(here, "v1")
    for selection in ("rewritten", "sparse"):
        closure = discover(here, "v1", platforms=BOTH, selection=selection)
        assert (closure.root, closure.named, closure.manifests) == (whole.root, None, whole.manifests)
    assert copy_closure(here, "v1", [there], platforms=BOTH, selection="rewritten").root.digest == top.digest
    assert compare(here, there, "v1") == []


@pytest.mark.parametrize("selection", ["sparse", "rewritten"])
def test_whatever_a_client_could_start_for_a_platform_is_copied(
    source: Counted, graphs: Graphs, selection: Selection
) -> None:
    """Plain, variants, twice, without a platform: clients differ in which of them they take for linux/amd64."""
    here = source.place("app")
    named = ("linux/amd64", "linux/amd64/v3", "linux/amd64", "", "linux/arm64")
    made = [graphs.image(here, b"layer", config=b"%d" % number) for number in range(len(named))]
    graphs.index(here, *zip(made, named, strict=True), tag="v1")
    closure = discover(here, "v1", platforms=[Platform.parse("linux/amd64")], selection=selection)
    assert {each.digest for each in made[:4]} == {
        each.digest for each in closure.manifests if each.digest != closure.root.digest
    }
    assert [each.digest for each in closure.absent] == ([made[4].digest] if selection == "sparse" else [])
    one = discover(here, "v1", platforms=[Platform.parse("linux/amd64/v3")], selection=selection)
    assert {made[1].digest, made[3].digest, one.root.digest} == {each.digest for each in one.manifests}


def test_an_index_of_artifacts_has_no_platforms_to_choose(source: Counted, graphs: Graphs) -> None:
    here = source.place("app")
    notes = [graphs.artifact(here, text, subject=None) for text in (b"one", b"two")]
    top = graphs.index(here, *((note, "") for note in notes), tag="v1")
    for selection in ("rewritten", "sparse"):
        assert discover(here, "v1", platforms=ARM, selection=selection).root.digest == top.digest
    graphs.signed_index(here, "v2")
    for selection in ("rewritten", "sparse"):
        with pytest.raises(ManifestInvalid, match=r"no manifest for platform linux/s390x"):
            discover(here, "v2", platforms=[Platform.parse("linux/s390x")], selection=selection)


def test_a_registry_that_is_known_to_want_whole_indexes_is_told_in_the_plan(
    source: Counted, target: Counted, graphs: Graphs
) -> None:
    here, there = source.place("app"), target.place("app")
    graphs.signed_index(here, "v1")
    rules = [RegistryRule(target.address.replace(".", r"\."), sparse_indexes=False)]
    job = Job(discover(here, "v1", platforms=ARM), (there,), ("v1",))
    plan = make_plan(job, rules=rules)
    [reason] = Summary(SyncResult(plan), [str(there)]).reasons()
    assert "lacks 1 of its manifests" in reason and "Set `selection: rewritten`" in reason
    [result] = execute(plan, DeliveryTools())
    assert isinstance(result.error, Refused) and "nothing was sent" in str(result.error)
    assert target.bytes_in() == 0
    anew = Job(discover(here, "v1", platforms=ARM, selection="rewritten"), (there,), ("v1",))
    assert not make_plan(anew, rules=rules).deliveries[0].refused


def test_an_index_within_a_rewritten_one_is_not_written_anew(source: Counted, target: Counted, graphs: Graphs) -> None:
    here, there = source.place("app"), target.place("app")
    amd64, arm64 = (graphs.image(here, name, config=name) for name in (b"amd64", b"arm64"))
    inner = graphs.index(here, (amd64, "linux/amd64"), (arm64, "linux/arm64"))
    graphs.index(here, (inner, "linux/arm64"), (amd64, "linux/amd64"), tag="v1")
    closure = discover(here, "v1", platforms=ARM, selection="rewritten")
    [delivery] = make_plan(Job(closure, (there,), ("v1",)), rules=[RegistryRule(".*", sparse_indexes=False)]).deliveries
    assert str(inner.digest) in delivery.refused and delivery.do == "Take all platforms"


def test_an_index_whose_other_children_are_there_already_is_no_sparse_one(
    source: Counted, target: Counted, graphs: Graphs
) -> None:
    here, there = source.place("app"), target.place("app")
    graphs.signed_index(here, "v1")
    rules = [RegistryRule(".*", sparse_indexes=False)]
    amd64 = discover(here, "v1", platforms=ARM).absent[0]
    copy_closure(here, amd64.digest, [there])
    plan = make_plan(Job(discover(here, "v1", platforms=ARM), (there,), ("v1",)), rules=rules)
    assert not plan.deliveries[0].refused
    assert execute(plan, DeliveryTools())[0].ok
    assert compare(here, there, "v1", platforms=ARM) == []


def test_only_what_is_about_the_index_is_explained_so(
    source: Counted, target: Counted, graphs: Graphs, connect: Callable[..., DistributionRegistry]
) -> None:
    here = source.place("app")
    graphs.signed_index(here, "v1")
    with FaultRegistry(target.address) as faults:
        there = Place(connect(faults.address), "app")
        faults.play("PUT", r"/v2/app/manifests/v1", Status(403))
        with pytest.raises(Forbidden) as caught:
            copy_closure(here, "v1", [there], platforms=ARM)
        assert "selection" not in str(caught.value)
        whole = Place(connect(faults.address), "whole")
        faults.play("PUT", r"/v2/whole/manifests/.*", Status(400))
        with pytest.raises(Refused) as refused:
            copy_closure(here, "v1", [whole])
        assert "selection" not in str(refused.value) and not isinstance(refused.value, TagImmutable)


def test_ecr_is_known_to_want_whole_indexes() -> None:
    hosts = ("123456789012.dkr.ecr.eu-west-1.amazonaws.com", "public.ecr.aws")
    assert not any(rule_for(host, KNOWN).sparse_indexes for host in hosts)
    assert rule_for("reg.example", KNOWN).sparse_indexes
