"""What a sync and a mirror choose from: repositories without tags, lists that leave tags out, one that fails."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from registry_pipelines.cli import main
from registry_pipelines.errors import Forbidden, NotFound
from registry_pipelines.mirror.upstreams import plan_mirror
from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.hidden import hidden_tags, likely_to_hide, shows_such_tags
from registry_pipelines.transfer.closure.selector import Selector
from registry_pipelines.transfer.engine import Engine
from registry_pipelines.transfer.limits.machine import MachineLimits
from registry_pipelines.transfer.sync import OpenTarget, Source, sync
from tests.doubles.fault_registry import FaultRegistry, Status
from tests.doubles.walked_tags import walk, walked
from tests.mirror.opened import opened

if TYPE_CHECKING:
    from tests.transfer.conftest import Counted, Graphs

EMPTIED = b'{"errors":[{"code":"NAME_UNKNOWN","message":"repository name not known to registry"}]}'
VERSIONS = [f"0.1.{number}" for number in range(25)]


@pytest.fixture
def short(start_embedded: Callable[..., Counted]) -> Counted:
    """distribution 3.1.1 on S3."""
    return start_embedded(wrap=walked)


def test_a_repository_without_tags_is_nothing_to_do(
    source: Counted, target: Counted, graphs: Graphs, connect: Callable[..., DistributionRegistry]
) -> None:
    """docker-registry 2.8.2 lists it in its catalogue and answers 404 to its list."""
    for name in ("app", "emptied"):
        graphs.image(source.place(name), b"layer", tag="v1")
    with FaultRegistry(source.address) as faults:
        faults.play("GET", r"/v2/emptied/tags/list.*", Status(404, body=EMPTIED))
        here = connect(faults.address)
        result = sync([Source(here, (OpenTarget(target.registry),))])
        assert (result.exit_code, [each.place.repository for each in result.results]) == (0, ["app"])
        named = sync([Source(here, (OpenTarget(target.registry),), ("app", "emptied"))])
        assert [type(each.error) for each in named.failures] == [NotFound]


@pytest.mark.parametrize("status", [403, 404])
def test_one_repository_of_a_catalogue_that_cannot_be_read_stops_no_other(
    status: int, source: Counted, target: Counted, graphs: Graphs, connect: Callable[..., DistributionRegistry]
) -> None:
    for name in ("app", "theirs"):
        graphs.image(source.place(name), b"layer", tag="v1")
    with FaultRegistry(source.address) as faults:
        faults.play("GET", r"/v2/theirs/tags/list.*", Status(status))
        result = sync([Source(connect(faults.address), (OpenTarget(target.registry),))])
    assert [each.place.repository for each in result.results if each.ok] == ["app"]
    assert [type(each.error) for each in result.failures] == [Forbidden if status == 403 else NotFound]
    assert result.failures[0].reference.endswith("/theirs") and result.exit_code == 6


def test_the_walk_leaves_out_what_was_reported() -> None:
    """distribution#4891."""
    there = ["0.1.2", "0.1.3", "0.1.19", "0.1.20", "0.2.0", "0.1.2-slim"]
    assert walk(there, "") == ["0.1.19", "0.1.2-slim", "0.1.2", "0.1.3", "0.2.0"]
    assert walk(there, "0.1.2/~")[0] == "0.1.20"
    assert "0.1.20" not in walk(there, "0.1.2")


def test_hidden_tags_are_found_and_nothing_else(short: Counted, source: Counted, graphs: Graphs) -> None:
    for registry in (short, source):
        for tag in ("0.1.2", "0.1.20", "0.1.200", "0.1.3", "0.1.2-slim", "main"):
            graphs.image(registry.place("app"), tag.encode(), tag=tag)
    listed = list(short.registry.tags("app"))
    assert "0.1.20" not in listed and not shows_such_tags(listed)
    hidden = hidden_tags(short.place("app"), listed)
    assert (sorted(hidden.tags), hidden.asked) == (["0.1.20", "0.1.200"], 6)
    whole = list(source.registry.tags("app"))
    assert hidden_tags(source.place("app"), whole).asked == 0
    assert hidden_tags(source.place("app"), ["0.1.3", "main"]).tags == ()


def test_a_broad_choice_takes_the_tags_that_are_not_listed(
    short: Counted, target: Counted, graphs: Graphs, tmp_path_factory: pytest.TempPathFactory
) -> None:
    for tag in (*VERSIONS, *(f"0.2.{number}" for number in range(10))):
        graphs.image(short.place("app"), b"layer", tag=tag)
    assert len(list(short.registry.tags("app"))) == 20
    choice = Selector(semver=">=0.1", newest=30)
    for limits in (None, MachineLimits(tmp_path_factory.mktemp("limits"))):
        plan = sync(
            [Source(short.registry, (OpenTarget(target.registry),), choose_tags=choice)],
            dry_run=True,
            engine=Engine(limits=limits),
        )
        tags = {step.tag for each in plan.plan.deliveries for step in each.tags}
        assert tags >= {"0.1.24", "0.1.20", "0.1.10"} and len(tags) == 30


def test_a_whole_list_is_not_asked_about(source: Counted, target: Counted, graphs: Graphs) -> None:
    for tag in VERSIONS:
        graphs.image(source.place("app"), b"layer", tag=tag)
    source.forget()
    sync([Source(source.registry, (OpenTarget(target.registry),))], dry_run=True)
    assert len([each for each in source.exchanges if "/tags/list" in each.target]) == 1


def test_a_tag_that_is_named_and_not_listed_is_asked_for(short: Counted, target: Counted, graphs: Graphs) -> None:
    for tag in ("0.1.2", "0.1.20"):
        graphs.image(short.place("app"), tag.encode(), tag=tag)
    wanted = Selector(glob=("0.1.20",))
    result = sync([Source(short.registry, (OpenTarget(target.registry),), choose_tags=wanted)])
    assert result.ok and list(target.registry.tags("app")) == ["0.1.20"]
    plan = plan_mirror([opened(source=short.place("app"), repository="app", tags=wanted.glob)])
    assert [item.tag for item in plan.pinned] == ["0.1.20"] and not plan.problems
    missing = plan_mirror([opened(source=short.place("app"), repository="app", tags=("0.1.21",))])
    assert [type(each.error) for each in missing.problems] == [NotFound]


def test_repositories_are_compared_with_the_tags_that_are_not_listed(
    short: Counted, target: Counted, graphs: Graphs
) -> None:
    for tag in ("0.1.2", "0.1.20"):
        graphs.image(short.place("app"), tag.encode(), tag=tag)
    listed = Source(short.registry, (OpenTarget(target.registry),), ("app",))
    assert sync([listed]).ok and list(target.registry.tags("app")) == ["0.1.2"]
    run = CliRunner().invoke(main, ["verify-copy", f"{short.address}/app", f"{target.address}/app"])
    assert run.exit_code == 6 and "0.1.20" in run.output, run.output


def test_the_likeliest_are_asked_first() -> None:
    assert likely_to_hide(["1.9", "1.2", "latest", "1.1", "1.1-slim"], 2) == ["1.1", "1.2"]
