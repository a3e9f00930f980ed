"""Several tags on one image, several indexes over one child: a manifest is written once, and nobody reads it then."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING

from registry_pipelines.errors import Unavailable
from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.protocol import Place
from registry_pipelines.transfer.closure.discovery import discover
from registry_pipelines.transfer.sync import OpenTarget, Source, sync
from registry_pipelines.transfer.verify import compare
from tests.doubles.fault_registry import FaultRegistry
from tests.doubles.faults import Status

if TYPE_CHECKING:
    from tests.transfer.conftest import Counted, Graphs

TAGS = [f"v{number}" for number in range(12)]


def fill(place: Place, graphs: Graphs) -> None:
    top = graphs.signed_index(place, TAGS[0])
    for tag in TAGS[1:]:
        place.registry.put_manifest(place.repository, top, tag=tag)


def test_the_plan_says_who_brings_it_and_that_is_done(source: Counted, target: Counted, graphs: Graphs) -> None:
    fill(source.place("app"), graphs)
    chosen = [Source(source.registry, (OpenTarget(target.registry),))]
    plan = sync(chosen, dry_run=True).plan
    steps = Counter(step.action for delivery in plan.deliveries for step in delivery.manifests)
    manifests = len(plan.deliveries[0].manifests)
    assert steps == {"put": manifests, "shared": manifests * (len(TAGS) - 1)}
    target.forget()
    done = sync(chosen)
    assert done.ok and sum(result.manifests_put for result in done.results) == manifests
    puts = Counter(each.target for each in target.exchanges if each.method == "PUT" and "/manifests/" in each.target)
    assert {count for path, count in puts.items() if "/manifests/sha256:" in path} == {1}
    assert {path.rpartition("/")[2] for path in puts} >= set(TAGS)
    [signature] = plan.deliveries[0].job.closure.digest_tags
    assert puts[f"/v2/app/manifests/{signature}"] == 1
    assert [step.action for each in plan.deliveries for step in each.tags if step.tag == signature] == [
        "set",
        *["shared"] * (len(TAGS) - 1),
    ]
    assert sum(result.tags_moved for result in done.results) == len(TAGS) + 1
    for tag in TAGS:
        assert compare(source.place("app"), target.place("app"), tag) == []
    assert not sync(chosen).changed


def test_docker_registry_takes_them_without_a_race(
    source: Counted,
    graphs: Graphs,
    start_docker_registry: Callable[..., str],
    connect: Callable[..., DistributionRegistry],
) -> None:
    fill(source.place("app"), graphs)
    address = start_docker_registry()
    targets = tuple(OpenTarget(connect(address), f"copy{number}") for number in range(6))
    done = sync([Source(source.registry, targets)])
    assert [str(each.error) for each in done.results if each.error] == []


def test_when_the_first_one_fails_the_others_bring_it(source: Counted, target: Counted, graphs: Graphs) -> None:
    """The manifest itself is refused while it comes by digest once; the next tag puts it."""
    place = source.place("app")
    child = graphs.image(place, graphs.noise(5000))
    graphs.index(place, (child, "linux/amd64"), tag="first")
    graphs.index(place, (child, "linux/arm64"), tag="second")
    with FaultRegistry(target.address) as faults:
        faults.play("PUT", f".*/manifests/{child.digest}", Status(400), times=1)
        registry = DistributionRegistry(faults.address)
        done = sync([Source(source.registry, (OpenTarget(registry),))])
        registry.close()
    assert [result.ok for result in done.results] == [False, True]
    assert not isinstance(done.results[0].error, Unavailable)
    assert compare(place, target.place("app"), "second") == []


def test_when_the_first_one_cannot_set_a_digest_tag_the_next_one_does(
    source: Counted, target: Counted, graphs: Graphs, connect: Callable[..., DistributionRegistry]
) -> None:
    fill(source.place("app"), graphs)
    [signature] = discover(source.place("app"), TAGS[0]).digest_tags
    with FaultRegistry(target.address) as faults:
        faults.play("PUT", f".*/manifests/{signature}", Status(400), times=1)
        done = sync([Source(source.registry, (OpenTarget(connect(faults.address)),))])
        assert len(faults.requests("PUT", f".*/manifests/{signature}")) == 2
    assert [result.ok for result in done.results] == [False] + [True] * (len(TAGS) - 1)
    assert compare(source.place("app"), target.place("app"), TAGS[-1]) == []


def test_a_signature_that_comes_late_is_tagged_once_in_each_repository(
    source: Counted, target: Counted, graphs: Graphs
) -> None:
    top = graphs.image(source.place("app"), b"layer", tag=TAGS[0])
    for tag in TAGS[1:]:
        source.registry.put_manifest("app", top, tag=tag)
    chosen = [Source(source.registry, (OpenTarget(target.registry, "one"), OpenTarget(target.registry, "two")))]
    assert sync(chosen).ok
    signature = f"sha256-{top.digest.hex}.sig"
    graphs.artifact(source.place("app"), b"cosign", subject=None, kind="cosign", tag=signature)
    target.forget()
    assert sync(chosen).ok
    puts = Counter(each.target for each in target.exchanges if each.method == "PUT" and signature in each.target)
    assert puts == {f"/v2/{name}/app/manifests/{signature}": 1 for name in ("one", "two")}
