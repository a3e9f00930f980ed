"""A mirror of an upstream with a quota: what it needs and what is left are said before; nothing new costs nothing."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from registry_pipelines.chain import Chain
from registry_pipelines.cli import main
from registry_pipelines.registry.protocol import Place
from tests.answers import answered
from tests.chain.conftest import fleet
from tests.chain.entries import entry, index
from tests.chain.fleet import Fleet
from tests.doubles.fault_registry import FaultRegistry, Rewrite

__all__ = ["fleet"]
MANIFESTS = r".*/manifests/.*"


@pytest.fixture
def hub(fleet: Fleet) -> Iterator[FaultRegistry]:
    """The fleet's first registry as a Docker Hub that gives 37 more of 100 in six hours."""
    with FaultRegistry(fleet.chain.place("app").registry.name) as faults:
        told = {
            "ratelimit-limit": "100;w=21600",
            "ratelimit-remaining": "37;w=21600",
            "docker-ratelimit-source": "203.0.113.7",
        }
        for method in ("GET", "HEAD"):
            faults.play(method, MANIFESTS, Rewrite(set=told))
        yield faults


@pytest.fixture
def mirrored(fleet: Fleet, hub: FaultRegistry) -> Chain:
    """A mirror of two tags: an index of two images, and one image."""
    at = Place(fleet.chain.place("app").registry, "up/stream")
    index(at, entry(at, "one"), entry(at, "two"), tag="1.0")
    fleet.chain.place("app").registry.put_manifest(
        "up/stream", at.registry.get_manifest("up/stream", entry(at, "three").digest), tag="1.1"
    )
    return fleet.reload(("us/up/stream", f"{hub.address}/up/stream"))


def test_a_plan_says_what_it_needs_and_what_is_left(mirrored: Chain, hub: FaultRegistry) -> None:
    planned = mirrored.mirror("airgap", dry_run=True)
    assert hub.requests("GET", MANIFESTS) == []  # HEAD is free, and used
    assert (planned.facts["pulls_needed"], planned.facts["pulls_left"]) == (2, 37)
    (note,) = planned.notes
    assert f"this mirror needs at least 2 pulls of {hub.address}, 37 left until " in note
    assert "(100 in 6 h for 203.0.113.7)" in note
    assert [row["state"] for row in planned.rows] == ["to be copied", "to be copied"]
    assert planned.tables["quotas"][0]["needed"] == 2
    assert not planned.changed


def test_a_mirror_without_news_takes_nothing_of_the_quota(mirrored: Chain, hub: FaultRegistry, fleet: Fleet) -> None:
    assert mirrored.mirror("airgap").ok
    taken = len(hub.requests("GET", MANIFESTS))
    assert taken == 4  # an index, its two images, an image
    shutil.rmtree(mirrored.config.state / "transfer")  # another machine, or a state that was lost
    again = fleet.reload()
    planned = again.mirror("airgap", dry_run=True)
    done = again.mirror("airgap")
    assert (planned.action, done.action) == ("nothing is to be done", "unchanged")
    assert planned.facts["pulls_needed"] == 0
    assert len(hub.requests("GET", MANIFESTS)) == taken


def test_the_command_plans_and_a_copy_says_what_it_took(
    mirrored: Chain, hub: FaultRegistry, fleet: Fleet, tmp_path: Path
) -> None:
    ran = CliRunner().invoke(main, ["mirror", "airgap", "--dry-run", "--json", "--config", str(fleet.path)])
    assert answered(ran.stdout)[0]["facts"]["pulls_left"] == 37
    copy = ["copy", f"{hub.address}/up/stream:1.1", "gcp/copied", "--config", str(fleet.path), "--dry-run"]
    told = CliRunner().invoke(main, copy, env={"COLUMNS": "300"}).output
    assert f"1 pull of {hub.address} taken, 37 left until " in told
    refused = CliRunner().invoke(main, ["mirror", "--release", "app:v1", "--dry-run", "--config", str(fleet.path)])
    assert refused.exit_code == 8
