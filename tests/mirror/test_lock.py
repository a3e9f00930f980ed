"""The lock: a file that people review, read strictly, and taken exactly."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry_pipelines.errors import InputError
from registry_pipelines.mirror.lock import HEAD, Lock, LockedTag, differences
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.nearest import nearest_tags
from registry_pipelines.oci.platforms import Platform
from registry_pipelines.registry.protocol import Place
from registry_pipelines.transfer.copying import copy_closure
from tests.chain.conftest import fleet
from tests.chain.fleet import Fleet, push
from tests.cli.on_fleet import answer, run
from tests.doubles.fault_registry import FaultRegistry
from tests.mirror.registries import named
from tests.scan.images import push_platforms

__all__ = ["fleet"]
A, B = (f"sha256:{letter * 64}" for letter in "ab")
GOOD = f"docker.io/library/python:3.12-slim {A} linux/amd64,linux/arm64 51234567 mirror/library/python"

part = st.text("abz09", min_size=1, max_size=6)
path = st.lists(part, min_size=1, max_size=3).map("/".join)
locked = st.builds(
    LockedTag,
    image=st.builds("{}/{}".format, st.sampled_from(["docker.io", "us", "localhost:5000", "[fd00::1]:1"]), path),
    tag=st.builds("{}{}".format, st.sampled_from("aZ0_"), st.text("aZ09_.-", max_size=6)),
    digest=st.binary(max_size=8).map(Digest.of),
    platforms=st.lists(
        st.builds(Platform, os=st.just("linux"), architecture=st.sampled_from(["amd64", "arm64", "s390x"])),
        max_size=3,
        unique=True,
    ).map(tuple),
    only=st.booleans(),
    size=st.integers(0, 10**15),
    repository=path,
)


@given(st.lists(locked, max_size=4, unique_by=lambda each: each.key))
@settings(max_examples=40, deadline=None)
def test_what_is_written_is_read(tags: list[LockedTag]) -> None:
    text = Lock("m", tuple(tags)).text
    again = Lock.parse(text, where="m.lock")
    assert sorted(again.tags, key=str) == sorted(tags, key=str) and again.text == text
    assert differences(tags, again.tags) == []


@given(st.text(max_size=200))
@settings(max_examples=50, deadline=None)
def test_any_other_text_is_refused_as_input(text: str) -> None:
    with pytest.raises(InputError):
        Lock.parse(f"{HEAD}m\nx{text}", where="m.lock")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("<<<<<<< HEAD", "columns"),
        (GOOD.replace(A, A[:-1]), "sha256"),
        (GOOD.replace(" 51234567", " 5e7"), "'5e7' is not a number of bytes"),
        (GOOD.replace("python:3.12-slim", "python"), "is not an image with a tag"),
        (GOOD.replace("linux/amd64,", ","), "is not a platform"),
        (GOOD.replace("mirror/library", "Mirror//library"), "is not a repository name"),
        (GOOD, "a second line for docker.io/library/python:3.12-slim"),
    ],
)
def test_every_bad_line_is_named_at_once(line: str, said: str) -> None:
    text = "\n".join([f"{HEAD}m", "# reviewed by a person", GOOD, line, "what", ""])
    with pytest.raises(InputError) as refused:
        Lock.parse(text, where="m.lock")

    told = str(refused.value)
    assert "line 4: " in told and said in told and "line 5: 'what' has 1 col" in told


def test_another_file_is_no_lock() -> None:
    for text in ("", GOOD, "registries: {}"):
        with pytest.raises(InputError, match="does not begin"):
            Lock.parse(text, where="m.lock")


def test_tags_that_are_nearest() -> None:
    there = ["3.12.2-slim", "3.12.4-slim", "3.11-slim", "3.12.3", "latest", "3.12-slim", "3.12.4-alpine"]
    assert nearest_tags("3.12.3-slim", there) == ["3.12.4-slim", "3.12.2-slim", "3.12-slim"]
    assert nearest_tags("3.12-slmi", there)[0] == "3.12-slim"
    assert nearest_tags("lates", there) == ["latest"] and nearest_tags("nightly", there) == []


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=20), st.lists(st.text(max_size=12), max_size=6))
def test_nearest_tags_are_tags_that_are_there(tag: str, there: list[str]) -> None:
    found = nearest_tags(tag, there)
    assert len(found) <= 3 and set(found) <= set(there) and len(set(found)) == len(found)


def locking(fleet: Fleet) -> Place:
    upstream = Place(fleet.chain.registry("us"), "up/stream")
    for tag in ("1.0", "1.1"):
        push(upstream, tag, version=tag, provenance=False)
    fleet.chain = fleet.reload(("    prefix: in\n", "    prefix: in\n    lock: airgap.lock\n"))
    return upstream


def test_a_mirror_takes_exactly_what_its_lock_says(fleet: Fleet) -> None:
    upstream = locking(fleet)
    file = fleet.folder / "airgap.lock"
    assert "is not there, so it takes nothing" in run(fleet, "mirror", "airgap", code=8).output
    assert answer(fleet, "mirror", "lock", "airgap", "--dry-run")["facts"]["changes"] == 2
    assert answer(fleet, "mirror", "lock", "airgap", "--check", code=6)["facts"]["appeared"] == 2
    assert not file.exists()
    shown = run(fleet, "mirror", "lock", "airgap", "--dry-run").stdout
    assert shown.count("appeared") == 2 and "changes of " in shown
    written = answer(fleet, "mirror", "lock", "airgap")
    lines = file.read_text().splitlines()
    assert written["changed"] and lines[0] == f"{HEAD}airgap"
    assert [each.split(":")[1][:3] for each in lines[1:]] == ["1.0", "1.1"]
    assert all(" linux/amd64 " in line and line.endswith(" in/up/stream") for line in lines[1:])
    assert int(lines[1].split(" ")[3]) == written["rows"][0]["size_bytes"] > 500
    old = {tag: named(upstream, tag) for tag in ("1.0", "1.1")}
    push(upstream, "1.1", version="9", provenance=False)  # moves
    push(upstream, "1.2", provenance=False)  # appears, and 1.0 is then not among the newest two
    [done] = answer(fleet, "mirror", "airgap")
    private = Place(fleet.chain.registry("private"), "in/up/stream")
    assert {tag: named(private, tag) for tag in private.registry.tags(private.repository)} == old
    assert done["facts"]["changes_since_lock"] == 3
    told = " ".join(done["notes"])
    assert "up/stream:1.1 moved from" in told and "1.2 appeared upstream" in told and "1.0 vanished upstream" in told
    assert [row["change"] for row in answer(fleet, "mirror", "lock", "airgap", "--check", code=6)["rows"]] == [
        "vanished", "moved", "appeared",
    ]  # fmt: skip
    answer(fleet, "mirror", "lock", "airgap")
    assert answer(fleet, "mirror", "lock", "airgap")["action"] == "unchanged"
    assert answer(fleet, "mirror", "airgap")[0]["facts"]["tags_changed"] == 2
    assert named(private, "1.1") == named(upstream, "1.1") and named(private, "1.0") == old["1.0"]


def test_what_the_upstream_lost_comes_from_the_dmz_or_is_said_with_the_nearest_tags(fleet: Fleet) -> None:
    upstream = locking(fleet)
    answer(fleet, "mirror", "lock", "airgap")
    digest = named(upstream, "1.0")
    via = fleet.chain.mirror("airgap")
    assert via.ok
    upstream.registry.delete_manifest(upstream.repository, digest)
    private = Place(fleet.chain.registry("private"), "in/up/stream")
    private.registry.delete_manifest(private.repository, digest)
    [done] = answer(fleet, "mirror", "airgap")
    assert named(private, "1.0") == digest and "1.0 is taken from" in " ".join(done["notes"])
    for name in ("dmz", "private"):
        fleet.chain.registry(name).delete_manifest("in/up/stream", digest)
    [gone] = answer(fleet, "mirror", "airgap", code=6)
    assert gone["reasons"][0].endswith("nor its tag. Write one that is there in `tags`: the nearest is 1.1")
    assert {row["tag"]: row["state"] for row in gone["rows"]}["1.1"] == "unchanged", "the others go on"


def test_a_tag_that_is_written_and_gone_is_a_problem_with_the_nearest_ones(fleet: Fleet) -> None:
    upstream = Place(fleet.chain.registry("us"), "up/stream")
    for tag in ("1.0.1-slim", "1.0.3-slim", "2.0"):
        push(upstream, tag, provenance=False)
    fleet.chain = fleet.reload(('tags: ["1.*"], newest: 2', 'tags: ["1.0.2-slim", "2.0"]'))
    done = fleet.chain.mirror("airgap")
    assert not done.ok and done.facts["tags_changed"] == 1
    assert "up/stream:1.0.2-slim: the upstream has no such tag" in done.reasons[0]
    assert done.reasons[0].endswith("the nearest are 1.0.3-slim, 1.0.1-slim")
    alone = fleet.reload(('tags: ["1.0.2-slim", "2.0"]', 'tags: ["1.0.2-slim"]')).mirror("airgap")
    assert "the nearest are 1.0.3-slim, 1.0.1-slim" in alone.reasons[0] and len(alone.reasons) == 1


def test_a_lock_and_a_configuration_that_part(fleet: Fleet) -> None:
    locking(fleet)
    answer(fleet, "mirror", "lock", "airgap")
    push(Place(fleet.chain.registry("us"), "up/new"), "1.0", provenance=False)
    fleet.chain = fleet.reload(("us/up/stream", "us/up/new"))
    reasons = " ".join(fleet.chain.mirror("airgap").reasons)
    assert "the lock brings it to in/up/stream, and the mirror does not" in reasons and "has no line of it" in reasons
    fleet.chain = fleet.reload(("us/up/new", "us/up/none"))
    [unread] = answer(fleet, "mirror", "lock", "airgap", code=6)["reasons"]
    assert unread.count("/up/none: ") == 1, "its name stands there once"
    file = fleet.folder / "airgap.lock"
    file.write_text(file.read_text().replace("lock 1: airgap", "lock 1: other"))
    assert "the lock of mirror 'other'" in run(fleet, "mirror", "airgap", code=8).output
    fleet.reload(("    lock: airgap.lock\n", ""))
    assert "has no `lock`" in run(fleet, "mirror", "lock", "airgap", code=8).output


def test_platforms_stand_in_the_lock_and_are_what_is_taken(fleet: Fleet, tmp_path: Path) -> None:
    upstream = Place(fleet.chain.registry("us"), "up/stream")
    index, children = push_platforms(upstream, "amd64", "arm64", tag="1.0")
    fleet.chain = fleet.reload(
        ("    prefix: in\n", "    prefix: in\n    lock: airgap.lock\n"), ("newest: 2}", "platforms: [linux/arm64]}")
    )
    fleet.chain.lock_mirror("airgap")
    assert f"{index.digest} only:linux/arm64 " in (fleet.folder / "airgap.lock").read_text()
    chain = fleet.reload(("platforms: [linux/arm64]", "newest: 9"))
    done = chain.mirror("airgap")
    assert done.ok and "is reached otherwise upstream" in " ".join(done.notes)
    private = chain.registry("private")
    assert private.resolve("in/up/stream", children[1].digest).digest == children[1].digest
    with pytest.raises(Exception, match="sha256"):
        private.resolve("in/up/stream", children[0].digest)
    chain.lock_mirror("airgap")
    assert f"{index.digest} linux/amd64,linux/arm64 " in (fleet.folder / "airgap.lock").read_text()


def test_looking_at_a_lock_reads_no_manifest(fleet: Fleet) -> None:
    """Docker Hub counts those, and no HEAD."""
    upstream = Place(fleet.chain.registry("us"), "up/stream")
    push(upstream, "1.0", provenance=False)
    with FaultRegistry(upstream.registry.name) as hub:
        fleet.chain = fleet.reload(
            ("us/up/stream", f"{hub.address}/up/stream"), ("    prefix: in\n", "    prefix: in\n    lock: a.lock\n")
        )
        for options in ({"dry_run": True}, {"check": True}):
            assert fleet.chain.lock_mirror("airgap", **options).facts["appeared"] == 1
        assert hub.requests("GET", ".*/manifests/.*") == [] and hub.requests("HEAD", ".*/manifests/1.0")
        assert fleet.chain.lock_mirror("airgap").changed and len(hub.requests("GET", ".*/manifests/.*")) == 1
        assert not fleet.chain.lock_mirror("airgap").changed and len(hub.requests("GET", ".*/manifests/.*")) == 1
        assert fleet.chain.mirror("airgap").ok and len(hub.requests("GET", ".*/manifests/sha256.*")) == 1


def test_one_image_that_is_written_twice_keeps_each_its_own_rules(fleet: Fleet) -> None:
    upstream = locking(fleet)
    fleet.chain = fleet.reload(
        ("\nsigning:", "\npolicies: {strict: {required: [signature]}}\nsigning:"),
        (
            '{image: us/up/stream, tags: ["1.*"], newest: 2}',
            '{image: us/up/stream, tags: ["1.1"], policy: strict}\n      - {image: us/up/stream, tags: ["1.0"]}',
        ),
    )
    fleet.chain.lock_mirror("airgap")
    states = {row["tag"]: str(row["state"]).partition(":")[0] for row in fleet.chain.mirror("airgap").rows}
    assert states == {"1.0": "copied", "1.1": "held"}
    fleet.chain = fleet.reload(('tags: ["1.1"], policy', 'tags: ["2.*"], policy'), ('tags: ["1.0"]', 'tags: ["3.*"]'))
    states = {row["tag"]: str(row["state"]).partition(":")[0] for row in fleet.chain.mirror("airgap").rows}
    assert states["1.0"] == "held", "of a tag that no rule takes any more the stricter one is asked"
    assert upstream.repository == "up/stream"


def test_a_lock_through_a_cache_takes_the_bytes_from_there(fleet: Fleet) -> None:
    upstream = Place(fleet.chain.registry("us"), "up/stream")
    with FaultRegistry(upstream.registry.name) as hub:
        chain = fleet.reload(
            ("mirrors:\n", f"caches:\n  {hub.address}: {{registry: dmz, prefix: docker-hub}}\nmirrors:\n"),
            ("us/up/stream", f"{hub.address}/up/stream"),
            ("    via: dmz\n", ""),
            ("    prefix: in\n", "    prefix: in\n    lock: a.lock\n"),
        )
        made = push(upstream, "1.0", provenance=False)
        copy_closure(upstream, made.digest, [Place(chain.registry("dmz"), "docker-hub/up/stream")])
        assert chain.lock_mirror("airgap").ok
        push(upstream, "1.0", version="2", provenance=False)  # which the cache has not
        done = chain.mirror("airgap")
        assert done.ok and [row["digest"] for row in done.rows] == [made.digest], done.reasons
        assert hub.requests("GET", ".*/(manifests/sha256.*|blobs/.*)") == []
