"""What comes to a repository while a plan is applied there gets back what it needs, on every kind of registry."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any

import pytest

from registry_pipelines.collect.apply import apply_plan
from registry_pipelines.collect.heal import bring_needed, missing
from registry_pipelines.collect.names import Names
from registry_pipelines.collect.plan import Entry
from registry_pipelines.collect.quarantine import Quarantine
from registry_pipelines.errors import Refused
from registry_pipelines.evidence.keys import verifier_of
from registry_pipelines.evidence.model import Signer
from registry_pipelines.oci.manifests import ManifestBytes
from registry_pipelines.progress import Silent
from registry_pipelines.registry.protocol import Place, Registry
from registry_pipelines.registry.set_aside import quarantine_of
from registry_pipelines.threads import Pool
from tests.collect.test_quarantine import content_of, records
from tests.collect.test_quarantine import signer as signer
from tests.collect.test_retention import KEEP_ONE, NOW, note, plan, push, push_index
from tests.collect.test_retention import registry as registry


class AfterFirst(Silent):
    """Somebody who does something as soon as the first image is gone."""

    def __init__(self, act: Callable[[], object]) -> None:
        self._act: Callable[[], object] | None = act

    def advance(self, task: str, count: int) -> None:
        if self._act:
            act, self._act = self._act, None
            act()


def is_taken(place: Place, tag: str, *children: ManifestBytes) -> bool:
    """Whether the registry takes an index that lacks one of its images."""
    try:
        push_index(place, tag, *children)
    except Refused:
        return False
    return True


@pytest.mark.parametrize("quarantine", [True, False])
def test_an_index_that_came_meanwhile_has_its_platforms(registry: Registry, signer: Signer, quarantine: bool) -> None:
    """The pusher skipped a platform that was there; it went, and its signature with it. ECR and docker-registry refuse
    such an index, so that its pusher knows."""
    place = Place(registry, "team/app")
    child = push(place, "", days_ago=300, architecture="arm64")
    about = note(place, child, "about the platform")
    push_index(place, "old", child)
    keep = push(place, "keep", days_ago=100)
    found = plan(registry, KEEP_ONE)
    aside = Quarantine(found.digest, 14, signer, verifier_of(signer), NOW) if quarantine else None
    taken: list[bool] = []
    late = AfterFirst(lambda: taken.append(is_taken(place, "new", keep, child)))
    done = apply_plan(registry, found, now=NOW, aside=aside, progress=late)
    if taken == [False]:
        assert done.ok and content_of(place).tags.keys() == {"keep"}
        return
    assert not done.ok and f"tag new is new since the plan was made, and needs {child.digest}" in done.refused[0]
    assert child.digest not in [each.digest for each in done.deleted]
    content = content_of(place)
    tags = {tag for tag in content.tags if not tag.startswith("sha256-")}
    assert tags == {"keep", "new"} and content.manifests[child.digest] == child.raw
    assert content.referrers[child.digest] == {about.digest}


@pytest.mark.parametrize("quarantine", [True, False])
def test_a_tag_that_came_to_an_old_image_while_others_went_stays(
    registry: Registry, signer: Signer, quarantine: bool
) -> None:
    """Who deletes a manifest deletes all its tags: one that came a moment before would be lost without a word."""
    place = Place(registry, "team/app")
    first = push(place, "v1", days_ago=300)
    for number in range(2, 5):
        push(place, f"v{number}", days_ago=300 - number)
    found = plan(registry, KEEP_ONE)
    aside = Quarantine(found.digest, 14, signer, verifier_of(signer), NOW) if quarantine else None
    late = AfterFirst(lambda: registry.put_manifest("team/app", first, tag="release"))
    done = apply_plan(registry, found, now=NOW, aside=aside, progress=late)
    assert len(done.deleted) == 2 and "tag release is new since the plan" in done.refused[0]
    assert {"v1", "v4", "release"} == content_of(place).tags.keys()


def test_a_tag_that_goes_back_to_an_old_image_while_it_is_set_aside_stays(registry: Registry, signer: Signer) -> None:
    """A roll-back: a channel moves, and its name is known."""
    place = Place(registry, "team/app")
    old, newest = push(place, "v1", days_ago=300), push(place, "v2", days_ago=200)
    registry.put_manifest("team/app", newest, tag="latest")
    found = plan(registry, KEEP_ONE)

    class RolledBack(Quarantine):
        def hold(self, place: Place, entry: Entry, names: Names, pool: Executor, **more: Any) -> None:
            super().hold(place, entry, names, pool, **more)
            registry.put_manifest("team/app", old, tag="latest")

    done = apply_plan(registry, found, now=NOW, aside=RolledBack(found.digest, 14, signer, verifier_of(signer), NOW))
    assert done.deleted == [] and "tag latest moved since the plan" in done.refused[0]
    assert content_of(place).tags == {"v1": old.digest, "v2": newest.digest, "latest": old.digest}


def test_what_a_new_tag_needs_stays_and_the_rest_goes(registry: Registry) -> None:
    place = Place(registry, "team/app")
    first, second = push(place, "v1", days_ago=300), push(place, "v2", days_ago=200)
    push(place, "v3", days_ago=100)
    found = plan(registry, KEEP_ONE)
    push(place, "v4", days_ago=1)
    push_index(place, "new", first)
    done = apply_plan(registry, found, now=NOW)
    assert [each.digest for each in done.deleted] == [second.digest]
    assert len(done.refused) == 1 and "tag new is new" in done.refused[0]
    assert sorted(registry.tags("team/app")) == ["new", "v1", "v3", "v4"]


def test_a_new_image_under_a_known_tag_stops_nothing(registry: Registry) -> None:
    """As a channel moves: the image it named has another tag."""
    place = Place(registry, "team/app")
    gone = push(place, "v1", days_ago=300)
    kept = push(place, "v2", days_ago=200)
    registry.put_manifest("team/app", kept, tag="latest")
    found = plan(registry, KEEP_ONE)
    registry.put_manifest("team/app", push(place, "v3", days_ago=1), tag="latest")
    done = apply_plan(registry, found, now=NOW)
    assert done.ok and [each.digest for each in done.deleted] == [gone.digest]


def test_an_index_that_came_too_late_is_healed_from_the_quarantine(registry: Registry, signer: Signer) -> None:
    """Who looked for the platform before it went, and pushed the index after all was over."""
    place = Place(registry, "team/app")
    child = push(place, "", days_ago=300, architecture="arm64")
    about = note(place, child, "about the platform")
    push_index(place, "old", child)
    keep = push(place, "keep", days_ago=100)
    found = plan(registry, KEEP_ONE)
    aside = Quarantine(found.digest, 14, signer, verifier_of(signer), NOW)
    assert apply_plan(registry, found, now=NOW, aside=aside).ok
    assert missing(place) == frozenset()
    if not is_taken(place, "late", keep, child):
        return
    assert missing(place) == {child.digest}
    with Pool(4, "heal") as pool:
        back = bring_needed(place, quarantine_of(place), records(place, signer), pool)
        assert [*back] == [child.digest]
        assert bring_needed(place, quarantine_of(place), records(place, signer), pool) == {}
    assert content_of(place).referrers[child.digest] == {about.digest}
    assert records(place, signer), "and can still be brought back whole"
