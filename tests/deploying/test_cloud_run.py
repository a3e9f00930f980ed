"""Roll-outs to services of Cloud Run: revisions by digest, traffic in one step or two, and back."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry_pipelines.deploying.cloud_run import Service
from registry_pipelines.deploying.rollout import RolledOut, against, roll_out
from registry_pipelines.errors import (
    Forbidden,
    InputError,
    NotFound,
    RegistryError,
    RegistryPipelinesError,
    Unavailable,
)
from registry_pipelines.inventory.usage.google_rest import GoogleRest
from registry_pipelines.registry.gar.access import GoogleAccess
from tests.deploying.parts import NEW, OLD, QUICK, THIRD, limits, wanted
from tests.doubles.google.services.cloudrun import CloudRun, cloud_run, make
from tests.doubles.google.world import Fault, Refusal, World

APP = "reg.example/team/app"
NAME = "projects/ml-prod/locations/europe-west1/services/web"
FIELDS = ("template", "containers", "image", "name", "traffic", "trafficStatuses", "percent", "revision", "type", "tag",
          "conditions", "terminalCondition", "state", "annotations", "latestReadyRevision", "generation")  # fmt: skip
FIRST, SECOND, LAST = "web-00001", "web-00002", "web-00003"


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def endpoint(world: World) -> Iterator[str]:
    with cloud_run(world) as address:
        yield address


def service(endpoint: str, **more: Any) -> Service:
    rest = GoogleRest(GoogleAccess(project="ml-prod", endpoint=endpoint), "run.googleapis.com", retries=QUICK)
    return Service(rest, **{"project": "ml-prod", "location": "europe-west1", "service": "web", **more})


def rolled(place: Service, **more: Any) -> RolledOut:
    return roll_out(place, place.look(), wanted(), limits(**more))


def written(world: World) -> str:
    return str(world.state(CloudRun).services[NAME].template.containers[0].image)


def test_a_new_revision_gets_all_traffic_when_it_is_ready(world: World, endpoint: str) -> None:
    make(world, NAME, f"{APP}@{OLD}", labels={"team": "web"})
    place = service(endpoint)
    seen = place.look()
    assert (seen.digests, seen.settled, seen.setter, seen.revision) == ([OLD], True, "owner@example.com", f"{FIRST}/1")
    done = roll_out(place, seen, wanted(), limits())
    assert (done.outcome, done.before, done.look.digests) == ("running", f"{APP}@{OLD}", [NEW])
    assert [each.name for each in done.look.instances] == [SECOND]
    state = world.state(CloudRun)
    assert state.splits == [{FIRST: 100}, {SECOND: 100}]
    assert dict(state.services[NAME].labels) == {"team": "web"}, "all else stays"
    calls = world.calls["UpdateService"]
    assert not rolled(place).changed and world.calls["UpdateService"] == calls


def test_a_part_of_the_traffic_first(world: World, endpoint: str) -> None:
    tagged = {"type_": 2, "revision": FIRST, "tag": "stable"}
    make(world, NAME, f"{APP}@{OLD}", traffic=[{"type_": 2, "revision": FIRST, "percent": 100}, tagged])
    done = rolled(service(endpoint, first=10))
    assert (done.outcome, done.look.digests, done.look.parted) == ("running", [NEW], False)
    state = world.state(CloudRun)
    assert state.splits[1:] == [{FIRST: 90, SECOND: 10}, {SECOND: 100}]
    assert [each.tag for each in state.services[NAME].traffic if each.tag] == ["stable"]


def test_killed_between_the_part_and_all_of_it(world: World, endpoint: str) -> None:
    make(world, NAME, f"{APP}@{OLD}")
    place = service(endpoint, first=10)
    seen = place.look()
    place.change(
        seen, f"{APP}@{NEW}", {"registry-pipelines/before": seen.ran, "registry-pipelines/release": f"{APP}@{NEW}"}
    )
    done = rolled(service(endpoint, first=10))
    assert (done.outcome, done.before) == ("running", f"{APP}@{OLD}")
    assert world.state(CloudRun).splits[1:] == [{FIRST: 90, SECOND: 10}, {SECOND: 100}]


@pytest.mark.parametrize("first", [100, 10])
def test_a_container_that_does_not_start_gets_no_traffic_and_is_taken_back(
    first: int, world: World, endpoint: str
) -> None:
    make(world, NAME, f"{APP}@{OLD}")
    state = world.state(CloudRun)
    state.broken.add(f"{APP}@{NEW}")
    done = rolled(service(endpoint, first=first))
    assert done.outcome == "taken back"
    assert "failed to start and listen" in done.reasons[0]
    assert all(SECOND not in split for split in state.splits)
    assert state.splits[-1] == {LAST: 100} and written(world) == f"{APP}@{OLD}"
    assert service(endpoint).look().digests == [OLD]


def test_ready_and_then_not_goes_back_at_once_to_the_revision_that_served(world: World, endpoint: str) -> None:
    make(world, NAME, f"{APP}:v1")
    state = world.state(CloudRun)
    state.failing[f"{APP}@{NEW}"] = 3
    done = rolled(service(endpoint, first=10), health_s=30)
    assert (done.outcome, done.before) == ("taken back", f"{APP}:v1")
    assert "instances end at once" in " ".join(done.reasons)
    assert state.splits[-1] == {FIRST: 100}, "by tag the next revision might run something else"


def test_what_is_wrong_is_named(world: World, endpoint: str) -> None:
    with pytest.raises(NotFound, match="there is no service web"):
        service(endpoint).look()
    make(world, NAME, f"{APP}@{OLD}", "proxy:1")
    with pytest.raises(InputError, match="web has several containers: c0, c1"):
        service(endpoint).look()
    with pytest.raises(InputError, match="unknown container of web `c2`"):
        service(endpoint, container="c2").look()
    world.deny("run.services.update")
    with pytest.raises(Forbidden, match=r"Permission 'run.services.update' denied.*it needs run.services.update"):
        rolled(service(endpoint, container="c0"))
    world.deny("run.revisions.get")
    with pytest.raises(Forbidden, match=r"it needs run\.revisions\.get"):
        service(endpoint, container="c0").look()
    assert written(world) == f"{APP}@{OLD}"


def test_somebody_else_deploys_meanwhile(world: World, endpoint: str) -> None:
    make(world, NAME, f"{APP}@{OLD}")
    place, state = service(endpoint), world.state(CloudRun)
    state.meanwhile.append(lambda: make(world, NAME, f"{APP}@{THIRD}") and None)
    with pytest.raises(RegistryError, match=r"somebody else changed it meanwhile by owner@example.com") as caught:
        rolled(place)
    assert caught.value.status == 409 and written(world) == f"{APP}@{THIRD}"


def test_an_api_that_is_gone_for_a_while_and_an_answer_that_is_lost(world: World, endpoint: str) -> None:
    make(world, NAME, f"{APP}@{OLD}")
    world.fail("UpdateService", Fault(Refusal("UNAVAILABLE", "try again"), after=True))
    assert rolled(service(endpoint)).outcome == "running"
    assert world.state(CloudRun).splits == [{FIRST: 100}, {SECOND: 100}], "one revision, not two"
    make(world, NAME, f"{APP}@{OLD}")
    place = service(endpoint)
    seen = place.look()
    world.fail("GetService", Fault(Refusal("UNAVAILABLE", "try again"), times=10**6))
    with pytest.raises(Unavailable):
        roll_out(place, seen, wanted(), limits(0.3))
    assert written(world) == f"{APP}@{NEW}", "nothing is taken back while nobody knows what runs"


def test_traffic_that_somebody_moved_away_and_back_is_another_state(world: World, endpoint: str) -> None:
    make(world, NAME, f"{APP}@{NEW}")
    place = service(endpoint)
    before = place.look()
    assert not place.widen(before)
    place.change(before, f"{APP}@{NEW}", {})
    assert rolled(place).look.revision != before.revision


anything: Any = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=4),
    max_leaves=12,
)


@given(document=st.dictionaries(st.sampled_from(FIELDS), anything, max_size=8))
def test_no_answer_is_more_than_refused(document: dict[str, Any]) -> None:
    """Whatever an API answers, a look is an error of ours, or a look that does not settle by absence."""
    found = Service(Answers(document), project="p", location="l", service="s")  # type: ignore[arg-type]
    with contextlib.suppress(RegistryPipelinesError):
        look = found.look()
        assert not against(look, wanted()) or look.instances or "nothing runs there" in against(look, wanted())


class Answers:
    """An API that answers one thing, whatever it is asked."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.get = lambda _path: document
