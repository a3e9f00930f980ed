"""One image that a person wants gone: what still needs it, what goes with it, and in which order."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from registry_pipelines.collect.apply import apply_plan
from registry_pipelines.collect.make import plan_deletion
from registry_pipelines.collect.plan import Entry, RetentionPlan
from registry_pipelines.collect.rules import RetentionRule
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Index, ManifestBytes, manifest_bytes
from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.embedded import EmbeddedServer
from registry_pipelines.registry.protocol import Place
from registry_pipelines.registry.tags import digest_at
from tests.collect.test_retention import NOW, judged, note, plan, push, push_index, rule


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with EmbeddedServer(tmp_path) as server:
        yield Place(DistributionRegistry(server.address), "team/app")


def planned(
    place: Place, digest: Digest, *rules: RetentionRule, in_use: dict[Digest, str] | None = None
) -> RetentionPlan:
    return plan_deletion(place, digest, rules, now=NOW, in_use=in_use or {})


def entry(plan: RetentionPlan) -> Entry:
    [repository] = plan.repositories
    [one] = repository.entries
    return one


def test_an_image_goes_with_its_evidence_and_nothing_else(place: Place) -> None:
    kept, gone = push(place, "v1", days_ago=0), push(place, "v2", days_ago=None)
    kept_note, gone_note = note(place, kept, "kept"), note(place, gone, "gone")
    plan = planned(place, gone.digest)
    assert (entry(plan).reasons, entry(plan).delete) == ((), (gone.digest, gone_note.digest))
    own = sum(len(place.registry.get_manifest(place.repository, one).raw) for one in entry(plan).delete)
    assert entry(plan).freed_bytes > own
    done = apply_plan(place.registry, plan, now=NOW)
    assert done.ok and [each.digest for each in done.deleted] == list(entry(plan).delete)
    assert [digest_at(place, one) for one in (gone.digest, gone_note.digest)] == [None, None]
    assert digest_at(place, kept_note.digest) == kept_note.digest and list(place.registry.tags("team/app")) == ["v1"]


def test_what_an_index_lists_stays_until_the_index_goes(place: Place) -> None:
    child = push(place, "child", days_ago=1)
    index = push_index(place, "both", child)
    assert entry(planned(place, child.digest)).reasons == ("the index both lists it",)
    whole = entry(planned(place, index.digest))
    assert (whole.reasons, whole.delete) == ((), (index.digest,)), "the child has a tag of its own"
    place.registry.delete_manifest(place.repository, index.digest)
    assert entry(planned(place, child.digest)).reasons == ()


def test_children_without_a_tag_go_with_their_index(place: Place) -> None:
    child = push(place, "child", days_ago=1, architecture="arm64")
    index = push_index(place, "both", child)
    assert entry(planned(place, index.digest)).delete == (index.digest, child.digest)


def test_evidence_stays_with_what_it_is_about(place: Place) -> None:
    image = push(place, "v1", days_ago=1)
    about = note(place, image, "about it")
    assert entry(planned(place, about.digest)).reasons == ("it belongs to v1, as its evidence",)


def test_a_subject_stays_while_what_refers_to_it_has_a_tag(place: Place) -> None:
    image = push(place, "v1", days_ago=1)
    about = note(place, image, "about it")
    stored = place.registry.get_manifest(place.repository, about.digest)
    place.registry.put_manifest(place.repository, stored, tag="the-note")
    assert entry(planned(place, image.digest)).reasons == ("the-note refers to it, and has a tag of its own",)


def test_what_a_release_was_made_of_stays_with_it(place: Place) -> None:
    """Its provenance is that of its origin."""
    origin, made = push(place, "v1", days_ago=9), push(place, "v1-estargz", days_ago=9)
    assert entry(planned(place, origin.digest)).reasons == ("v1-estargz was made of it, and has its provenance",)
    assert entry(planned(place, made.digest)).reasons == ()
    push(place, "v2-soci-v2", days_ago=1)
    found = plan(place.registry, rule(("*",), keep_newest=1, keep_days=0))
    assert judged(found) == {"v2-soci-v2": "number 1 of the newest 1", "v1": "", "v1-estargz": ""}
    found = plan(place.registry, rule(("*",), keep_newest=0, keep_days=0, protect=("*-estargz",)))
    stays = {"v1": "needed by something that stays", "v1-estargz": "tag v1-estargz is protected"}
    assert judged(found) == {"v2-soci-v2": "", **stays}


def test_what_nothing_leads_to_can_be_named_by_its_digest(place: Place) -> None:
    push(place, "v1", days_ago=1)
    lost = push(place, "lost", days_ago=1, architecture="arm64")
    assert (entry(planned(place, lost.digest)).tags, entry(planned(place, lost.digest)).delete) == ((), (lost.digest,))


def test_channels_and_protected_tags_are_named(place: Place) -> None:
    image, child = push(place, "v1", days_ago=1), push(place, "child", days_ago=1, architecture="arm64")
    index = push_index(place, "both", child)
    in_use = {image.digest: "the channel prod names it", child.digest: "the channel prod names it"}
    rule = RetentionRule(registry="here", repositories=("team/*",), keep_newest=99, protect=("v*",))
    elsewhere = RetentionRule(registry="here", repositories=("other",), protect=("*",))
    assert entry(planned(place, image.digest, rule, elsewhere, in_use=in_use)).reasons == (
        "tag v1 is protected",
        "the channel prod names it",
    )
    assert entry(planned(place, index.digest, elsewhere, in_use=in_use)).reasons == (
        f"its child {child.digest.short} is in use",
    )
    assert entry(planned(place, index.digest, rule)).reasons == (), (
        "how many are kept is a rule's affair, not a person's"
    )


def test_what_came_meanwhile_keeps_it(place: Place) -> None:
    image = push(place, "v1", days_ago=1)
    plan = planned(place, image.digest)
    note(place, image, "signed meanwhile")
    done = apply_plan(place.registry, plan, now=NOW)
    assert not done.ok and "is not in the plan" in done.refused[0] and digest_at(place, "v1") == image.digest


def test_an_index_of_nothing_is_deleted_like_any_other(place: Place) -> None:
    empty: ManifestBytes = manifest_bytes(Index(schema_version=2, manifests=()))
    place.registry.put_manifest(place.repository, empty, tag="empty")
    assert entry(planned(place, empty.digest)).delete == (empty.digest,)


def test_what_was_rechunked_and_converted_keeps_all_that_it_was_made_of(place: Place) -> None:
    """A chain of names: the provenance is that of the first, reached through the record of the second."""
    pushed, middle, last = (push(place, tag, days_ago=9) for tag in ("v1", "v1-rechunked", "v1-rechunked-soci-v2"))
    about = note(place, middle, "a record of both roots")
    found = plan(place.registry, rule(("*",), keep_newest=0, keep_days=0, protect=("*-soci-v2",)))
    needed = "needed by something that stays"
    assert judged(found) == {
        "v1": needed,
        "v1-rechunked": needed,
        "v1-rechunked-soci-v2": "tag v1-rechunked-soci-v2 is protected",
    }
    assert entry(planned(place, pushed.digest)).reasons == ("v1-rechunked was made of it, and has its provenance",)
    assert "v1-rechunked-soci-v2 was made of it, and has its provenance" in entry(planned(place, middle.digest)).reasons
    assert entry(planned(place, last.digest)).reasons == ()
    assert entry(planned(place, about.digest)).reasons == ("it belongs to v1-rechunked, as its evidence",)
