"""What a plan deletes is set aside in the registry, comes back byte for byte, and goes for good when its time is over.

On the embedded server (referrers API), ECR, docker-registry (lists of referrers under tags) and layout folders.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from registry_pipelines.collect.apply import Applied, apply_plan
from registry_pipelines.collect.names import Names
from registry_pipelines.collect.plan import Entry, RetentionPlan
from registry_pipelines.collect.quarantine import Quarantine, Restored, Shelf, restore
from registry_pipelines.collect.records import Found, Record, find_records, write_record
from registry_pipelines.errors import ClosureIncomplete, NotFound, RegistryPipelinesError
from registry_pipelines.evidence.keys import generate_key, load_signer, verifier_of
from registry_pipelines.evidence.model import Signer
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Index, descriptors
from registry_pipelines.registry.client import DistributionRegistry, Retries
from registry_pipelines.registry.ecr.registry import EcrRegistry
from registry_pipelines.registry.embedded import EmbeddedServer
from registry_pipelines.registry.protocol import Place, Registry
from registry_pipelines.registry.set_aside import quarantine_of
from registry_pipelines.threads import Pool
from tests.collect.test_retention import KEEP_NONE, KEEP_ONE, NOW, going, note, plan, push, push_index
from tests.collect.test_retention import registry as registry
from tests.doubles.fault_registry import FaultRegistry, LoseAnswer, Status


@pytest.fixture(scope="module")
def signer(tmp_path_factory: pytest.TempPathFactory) -> Signer:
    path = tmp_path_factory.mktemp("keys") / "promoter.key"
    generate_key(path)
    return load_signer(path)


@dataclass(frozen=True)
class Content:
    """All of a repository: tags, manifests with their bytes, what refers to each, blobs with their sizes."""

    tags: dict[str, Digest]
    manifests: dict[Digest, bytes]
    referrers: dict[Digest, frozenset[Digest]]
    blobs: dict[Digest, int | None]


def content_of(place: Place) -> Content:
    """Everything that tags lead to; a tag that cannot be pulled whole fails here."""
    registry, repository = place.registry, place.repository
    try:
        tags = {tag: registry.resolve(repository, tag).digest for tag in registry.tags(repository)}
    except NotFound:
        tags = {}
    manifests: dict[Digest, bytes] = {}
    referrers: dict[Digest, frozenset[Digest]] = {}
    blobs: dict[Digest, int | None] = {}
    waiting = list(tags.values())
    while waiting:
        digest = waiting.pop()
        if digest in manifests:
            continue
        stored = registry.get_manifest(repository, digest)
        manifests[digest], content = stored.raw, stored.content()
        referrers[digest] = frozenset(one.digest for one in registry.referrers(repository, digest))
        below = descriptors(content)
        waiting += [*referrers[digest], *([one.digest for one in below] if isinstance(content, Index) else [])]
        if not isinstance(content, Index):
            blobs.update((one.digest, registry.blob_size(repository, one.digest)) for one in below)
            assert all(blobs[one.digest] == one.size for one in below), f"{digest} lacks content"
    return Content(tags, manifests, referrers, blobs)


def apply(registry: Registry, found: RetentionPlan, signer: Signer, days: int = 14) -> tuple[Applied, Quarantine]:
    aside = Quarantine(found.digest, days, signer, verifier_of(signer), NOW)
    return apply_plan(registry, found, now=NOW, aside=aside), aside


def found_at(place: Place, signer: Signer) -> list[Found]:
    with Pool(4, "records") as pool:
        return find_records(quarantine_of(place), verifier_of(signer), pool)


def records(place: Place, signer: Signer) -> list[Record]:
    found = found_at(place, signer)
    assert all(each.record for each in found), found
    return [each.record for each in found if each.record]


def undo(place: Place, signer: Signer, tag: str) -> Restored:
    """Bring an image back, and empty its part of the quarantine."""
    every = records(place, signer)
    [one] = [each for each in every if tag in each.tags]
    with Pool(4, "undo") as pool:
        done = restore(one, quarantine_of(place), pool)
    Shelf(quarantine_of(place), every).release(one)
    return done


def furnish(place: Place) -> None:
    """Three releases: one image with evidence and evidence of that; two indexes that share a child, whose attestation
    refers to the child; cosign's tag."""
    image = push(place, "v1", days_ago=300)
    about = note(place, image, "about v1")
    stored = place.registry.get_manifest(place.repository, about.digest)
    note(place, stored, "about what is about v1")
    note(place, image, "another about v1")
    place.registry.put_manifest(place.repository, image, tag="old")
    shared = push(place, "", days_ago=200, architecture="arm64")
    note(place, shared, "about the child")
    push_index(place, "v2", push(place, "x", days_ago=201, architecture="s390x"), shared)
    signed = push_index(place, "v3", shared)
    signature = push(place, "", days_ago=150, architecture="sig")
    place.registry.put_manifest(place.repository, signature, tag=f"{signed.digest.fallback_tag}.sig")
    push(place, "v9", days_ago=1)


def test_what_went_comes_back_byte_for_byte(registry: Registry, signer: Signer) -> None:
    place = Place(registry, "team/app")
    furnish(place)
    before, found = content_of(place), plan(registry, KEEP_ONE)
    assert going(found) == {"v1", "old", "v2", "v3"}
    done, aside = apply(registry, found, signer)
    assert done.ok and sorted(registry.tags("team/app")) == ["v9"]
    if not isinstance(registry, EcrRegistry):  # an account without BLOB_MOUNTING
        assert aside.brought.sent_bytes == 0 and aside.brought.mounted > 0, "what can be mounted is not sent"
    for tag in ("v3", "old", "v2"):
        assert undo(place, signer, tag).problems == []
    assert content_of(place) == before
    assert content_of(quarantine_of(place)).tags == {}, "nothing is left aside"
    assert going(plan(registry, KEEP_ONE)) == going(found), "and it is judged as it was"


def test_what_several_images_share_comes_back_with_each(registry: Registry, signer: Signer) -> None:
    """Two indexes went, with the child that they share and what is attached to it; each comes back whole alone."""
    place = Place(registry, "team/app")
    furnish(place)
    before = content_of(place)
    shared = [digest for digest in before.manifests if before.referrers[digest] and digest not in before.tags.values()]
    apply(registry, plan(registry, KEEP_NONE), signer)
    for tag in ("v2", "v3"):
        assert undo(place, signer, tag).problems == []
        now = content_of(place)
        assert now.manifests.items() <= before.manifests.items()
        assert all(now.referrers[digest] == before.referrers[digest] for digest in shared if digest in now.manifests)
        assert now.tags[tag] == before.tags[tag] and any(digest in now.manifests for digest in shared)
        if tag == "v2":
            going = plan(registry, KEEP_NONE)
            assert apply(registry, going, signer)[0].ok and "v2" not in content_of(place).tags
    assert f"{before.tags['v3'].fallback_tag}.sig" in content_of(place).tags


@pytest.mark.parametrize(
    "registry",
    ["embedded", pytest.param("docker-registry", marks=pytest.mark.peer("docker-registry"))],
    indirect=True,
)
def test_the_end_of_a_quarantine_leaves_nothing(registry: Registry, signer: Signer) -> None:
    place = Place(registry, "team/app")
    furnish(place)
    done, _ = apply(registry, plan(registry, KEEP_ONE), signer)
    assert done.ok, "\n".join(done.refused)
    kept = content_of(place)
    while left := records(place, signer):
        assert not left[0].is_over(NOW) and left[0].is_over(NOW + timedelta(days=14))
        shelf = Shelf(quarantine_of(place), left)
        shelf.free(shelf.release(left[0]))
        for other in left[1:]:
            assert all(registry.resolve(quarantine_of(place).repository, digest) for digest in other.held)
    assert content_of(quarantine_of(place)) == Content({}, {}, {}, {}) and content_of(place) == kept


@pytest.mark.parametrize("registry", ["embedded"], indirect=True)
def test_a_tag_that_names_something_else_by_now_stays(registry: Registry, signer: Signer) -> None:
    place = Place(registry, "team/app")
    furnish(place)
    old = registry.resolve("team/app", "v1").digest
    apply(registry, plan(registry, KEEP_ONE), signer)
    new = push(place, "v1", days_ago=0)
    done = undo(place, signer, "old")
    assert done.tags == ["old"] and "tag v1 names" in done.problems[0]
    tags = content_of(place).tags
    assert (tags["v1"], tags["old"]) == (new.digest, old)


@pytest.mark.parametrize("registry", ["embedded"], indirect=True)
def test_an_image_that_goes_twice_comes_back(registry: Registry, signer: Signer) -> None:
    place = Place(registry, "team/app")
    furnish(place)
    before = content_of(place)
    for moment in range(2):
        found = plan(registry, KEEP_ONE)
        found = RetentionPlan(found.registry, found.made_at, found.repositories, (f"of {moment}",), (), found.rules)
        assert apply(registry, found, signer)[0].ok
        for tag in ("v2", "v3", "v1"):
            undo(place, signer, tag)
    assert content_of(place) == before


@pytest.mark.parametrize("registry", ["embedded"], indirect=True)
def test_plans_leave_what_is_aside_alone(registry: Registry, signer: Signer) -> None:
    place = Place(registry, "team/app")
    furnish(place)
    apply(registry, plan(registry, KEEP_NONE), signer)
    again = plan(registry, KEEP_NONE)
    assert [each.repository for each in again.repositories if each.entries] == []
    assert any("set aside before" in each for each in again.notes)


@contextmanager
def faulty(tmp_path: Path) -> Iterator[tuple[DistributionRegistry, FaultRegistry, Place]]:
    """The embedded server behind faults, and a way to it without them."""
    with EmbeddedServer(tmp_path) as server, FaultRegistry(server.address) as faults:
        whole = Place(DistributionRegistry(server.address), "team/app")
        yield DistributionRegistry(faults.address, retries=Retries(attempts=1)), faults, whole


WRITES = "PUT|POST|PATCH|DELETE"
STEP = 17
"""Writes between two cuts of one run; with all beginnings below it every write is cut once."""


def stopping(faults: FaultRegistry, after: int) -> None:
    """Nothing is written any more after so many writes, as after a kill; of the last one the answer is lost."""
    faults.clear()
    faults.play(WRITES, ".*", LoseAnswer(), skip=after, times=1)
    faults.play(WRITES, ".*", Status(503), skip=after)


@pytest.mark.parametrize(
    "first", [0, 9, *(pytest.param(one, marks=pytest.mark.long) for one in range(1, 17) if one != 9)]
)
def test_after_a_kill_anywhere_each_tag_can_be_pulled_and_the_same_command_ends_it(
    first: int, tmp_path: Path, signer: Signer
) -> None:
    with faulty(tmp_path) as (registry, faults, whole):
        place = Place(registry, "team/app")
        furnish(whole)
        before, stops = content_of(whole), 0
        found = plan(registry, KEEP_ONE)
        for writes in range(first, 400, STEP):
            stopping(faults, writes)
            done, _ = apply(registry, found, signer)
            faults.clear()
            content_of(whole)
            if done.ok:
                break
            stops += 1
        assert done.ok and sorted(whole.registry.tags("team/app")) == ["v9"]
        for tag in ("v1", "v2", "v3"):
            for writes in range(first, 400, STEP):
                if not any(tag in each.tags for each in records(whole, signer)):
                    break  # all was done, and only the last answer was lost
                stopping(faults, writes)
                try:
                    undo(place, signer, tag)
                except RegistryPipelinesError:
                    stops += 1
                else:
                    break
                finally:
                    faults.clear()
                    content_of(whole)
        assert stops >= 2 and content_of(whole) == before
        assert content_of(quarantine_of(whole)).tags == {}


def test_what_somebody_else_deleted_is_not_finished(tmp_path: Path, signer: Signer) -> None:
    """Its evidence would be gone without a record."""
    with faulty(tmp_path) as (registry, _, whole):
        image = push(whole, "v1", days_ago=300)
        evidence = note(whole, image, "about v1")
        found = plan(registry, KEEP_NONE)
        whole.registry.delete_manifest("team/app", image.digest)
        done, _ = apply(registry, found, signer)
        assert "not by this plan" in done.refused[0] and records(whole, signer) == []
        assert whole.registry.get_manifest("team/app", evidence.digest)


def test_a_registry_without_mounts_is_sent_the_content(tmp_path: Path, signer: Signer) -> None:
    with faulty(tmp_path) as (registry, faults, whole):
        furnish(whole)
        before = content_of(whole)
        faults.play("POST", r".*mount=.*", Status(403))
        done, aside = apply(registry, plan(registry, KEEP_ONE), signer)
        assert done.ok and aside.brought.mounted == 0 and aside.brought.sent_bytes > 0
        faults.clear()
        for tag in ("v1", "v2", "v3"):
            undo(whole, signer, tag)
        assert content_of(whole) == before


def test_a_record_that_somebody_else_wrote_is_not_believed(tmp_path: Path, signer: Signer) -> None:
    key = tmp_path / "other.key"
    generate_key(key)
    with faulty(tmp_path / "content") as (registry, _, whole):
        furnish(whole)
        apply(registry, plan(registry, KEEP_ONE), signer)
        [record, *_] = records(whole, signer)
        write_record(quarantine_of(whole), record, load_signer(key))
        [bad] = [each for each in found_at(whole, signer) if each.record is None]
        assert bad.tag == record.tag and "trusted key" in bad.problem


def test_an_image_that_is_not_whole_in_the_quarantine_is_said(tmp_path: Path, signer: Signer) -> None:
    with faulty(tmp_path) as (registry, _, whole):
        furnish(whole)
        apply(registry, plan(registry, KEEP_ONE), signer)
        [record] = [each for each in records(whole, signer) if "v1" in each.tags]
        aside = quarantine_of(whole)
        aside.registry.delete_manifest(aside.repository, Digest.parse(record.digest))
        with Pool(2, "undo") as pool, pytest.raises(ClosureIncomplete, match="not in the quarantine any more"):
            restore(record, aside, pool)
        assert sorted(whole.registry.tags("team/app")) == ["v9"]


def test_nothing_is_copied_where_nothing_could_be_deleted(tmp_path: Path, signer: Signer) -> None:
    """docker-registry deletes nothing unless it is configured to."""
    with faulty(tmp_path) as (registry, faults, whole):
        furnish(whole)
        before, found = content_of(whole), plan(registry, KEEP_ONE)
        faults.play("DELETE", ".*", Status(405))
        done, aside = apply(registry, found, signer)
        assert not done.ok and not done.deleted and aside.brought.manifests == 0
        assert content_of(whole) == before and records(whole, signer) == []


def test_what_could_not_go_keeps_what_it_shares(tmp_path: Path, signer: Signer) -> None:
    """A platform goes with the last index of a plan that has it; not where an earlier one had to stay."""
    with faulty(tmp_path) as (registry, faults, whole):
        furnish(whole)
        found = plan(registry, KEEP_ONE)
        order = [entry for each in found.repositories for entry in each.entries if {"v2", "v3"} & set(entry.tags)]
        faults.play("DELETE", rf".*/team/app/manifests/{order[0].digest}", Status(503))
        done, _ = apply(registry, found, signer)
        assert len(done.refused) == 2 and "stays, and needs it" in done.refused[1]
        assert sorted(content_of(whole).tags)[-3:] == ["v2", "v3", "v9"]
        faults.clear()
        assert apply(registry, found, signer)[0].ok and list(whole.registry.tags("team/app")) == ["v9"]


@pytest.mark.parametrize(
    "registry",
    ["embedded", pytest.param("docker-registry", marks=pytest.mark.peer("docker-registry"))],
    indirect=True,
)
def test_what_people_pushed_into_a_quarantine_stays_whole(registry: Registry, signer: Signer) -> None:
    """A repository of theirs has that name: an image that is set aside as well, and one that shares its layers."""
    place = Place(registry, "team/app")
    furnish(place)
    apply(registry, plan(registry, KEEP_ONE), signer)
    aside = quarantine_of(place)
    held = {tag: Digest.parse(record.digest) for record in records(place, signer) for tag in record.tags}
    for tag, theirs in (("v1", "theirs"), ("v2", "also-theirs")):
        registry.put_manifest(aside.repository, registry.get_manifest(aside.repository, held[tag]), tag=theirs)
    shelf, every = Shelf(aside, records(place, signer)), records(place, signer)
    blobs = {blob for record in every for blob in shelf.release(record)}
    shelf.free(blobs)
    left = content_of(aside)
    assert {"theirs", "also-theirs"} <= left.tags.keys() and left.tags["theirs"] == held["v1"]
    assert not any(tag.startswith("rp-record-") for tag in left.tags)


@pytest.mark.parametrize("registry", ["embedded"], indirect=True)
def test_a_record_that_another_machine_writes_meanwhile_keeps_what_it_names(registry: Registry, signer: Signer) -> None:
    place = Place(registry, "team/app")
    furnish(place)
    apply(registry, plan(registry, KEEP_ONE), signer)
    before = records(place, signer)
    shelf = Shelf(quarantine_of(place), before)
    another = msgspec.structs.replace(before[0], plan=str(Digest.of(b"another plan")))
    write_record(quarantine_of(place), another, signer)
    with pytest.raises(ClosureIncomplete, match="came meanwhile"):
        shelf.release(before[0])
    assert len(records(place, signer)) == len(before) + 1
    assert all(registry.resolve(quarantine_of(place).repository, digest) for digest in another.held)


@pytest.mark.parametrize("registry", ["embedded"], indirect=True)
def test_what_is_not_set_aside_any_more_is_not_deleted(registry: Registry, signer: Signer) -> None:
    """Between the copy and the deletion somebody empties the quarantine."""
    place = Place(registry, "team/app")
    furnish(place)
    found = plan(registry, KEEP_ONE)

    class Emptied(Quarantine):
        def hold(self, place: Place, entry: Entry, names: Names, pool: Executor, **more: Any) -> None:
            super().hold(place, entry, names, pool, **more)
            if "v1" in entry.tags:
                registry.delete_manifest(quarantine_of(place).repository, entry.digest)

    done = apply_plan(registry, found, now=NOW, aside=Emptied(found.digest, 14, signer, verifier_of(signer), NOW))
    assert [why for why in done.refused if "is not set aside any more" in why]
    assert {"v1", "old"} <= content_of(place).tags.keys(), "it is whole at its place"


@pytest.mark.parametrize("registry", ["embedded"], indirect=True)
def test_content_that_a_quarantine_lost_is_brought_anew(registry: Registry, signer: Signer) -> None:
    """The manifest is there by an earlier record, and a layer is not."""
    place, aside = Place(registry, "team/app"), quarantine_of(Place(registry, "team/app"))
    furnish(place)
    before = content_of(place)
    found = plan(registry, KEEP_ONE)
    apply(registry, found, signer)
    undone = [each for each in records(place, signer) if "v1" in each.tags]
    with Pool(2, "undo") as pool:
        restore(undone[0], aside, pool)
    [config, *_] = descriptors(registry.get_manifest("team/app", "v1").content())
    registry.delete_blob(aside.repository, config.digest)
    assert apply(registry, found, signer)[0].ok
    for tag in ("v3", "old", "v2"):
        assert undo(place, signer, tag).problems == []
    assert content_of(place) == before


@pytest.mark.parametrize("registry", ["embedded"], indirect=True)
def test_what_a_record_names_and_nobody_copied_is_not_deleted(registry: Registry, signer: Signer) -> None:
    """Killed after the record; then somebody deletes the index by hand, and the plan is applied again."""
    place = Place(registry, "team/app")
    furnish(place)
    found = plan(registry, KEEP_ONE)
    [planned] = found.repositories
    [entry] = [each for each in planned.entries if each.tags == ("v2",)]
    aside = Quarantine(found.digest, 14, signer, verifier_of(signer), NOW)
    with Pool(2, "hold") as pool:
        aside.hold(place, entry, Names(planned.tags), pool)
    held = quarantine_of(place)
    for tag in [tag for tag in registry.tags(held.repository) if tag.startswith("rp-held-")]:
        with suppress(NotFound):
            registry.delete_manifest(held.repository, registry.resolve(held.repository, tag).digest)
    registry.delete_manifest("team/app", entry.digest)
    left = [digest for digest in entry.delete if digest != entry.digest]
    done, _ = apply(registry, found, signer)
    assert left and any("is not set aside any more" in why for why in done.refused)
    assert all(registry.resolve("team/app", digest) for digest in left)


@pytest.mark.parametrize(
    "registry",
    ["embedded", pytest.param("docker-registry", marks=pytest.mark.peer("docker-registry"))],
    indirect=True,
)
def test_two_machines_that_apply_one_plan_lose_nothing(registry: Registry, signer: Signer) -> None:
    """What one of them could not do is told and left, and all comes back."""
    place = Place(registry, "team/app")
    furnish(place)
    before = content_of(place)
    found = plan(registry, KEEP_ONE)
    with Pool(2, "machines") as pool:
        list(pool.map(lambda _: apply(registry, found, signer), range(2)))
    assert apply(registry, found, signer)[0].ok, "a third run finishes what is left"
    assert sorted(registry.tags("team/app")) == ["v9"]
    for tag in ("v3", "old", "v2"):
        assert undo(place, signer, tag).problems == []
    assert content_of(place) == before
