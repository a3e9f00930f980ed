"""Repositories of ECR whose tags never move, end to end: what has to move lives in a repository of its own."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from registry_pipelines.chain import Chain
from registry_pipelines.chain.keys import trusted_keys
from registry_pipelines.config import load
from registry_pipelines.errors import ConfigInvalid, TagImmutable
from registry_pipelines.evidence.tagged import cosign_tag
from registry_pipelines.promote.person import Person
from registry_pipelines.promote.standing import records
from registry_pipelines.release import Release
from tests.chain.fleet import Fleet
from tests.doubles.aws.ecr import ACCOUNT, REGION, ApiError, EcrDouble

OTHER = "999988887777"
JANE = Person("jane@example.com", "proxy")
MOVING = ("repository: team/app,", "repository: team/app, moving: team/app-channels,")
TARGET = ("eu: {registry: eu}", "eu: {registry: eu, prefix: in, moving_prefix: moving}")


@pytest.fixture
def ecr(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> Iterator[EcrDouble]:
    """The fleet's source and its target ``eu`` are ECR, with immutable tags in all but the moving repositories."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    source, target = (f"127.0.0.1:{fleet.config.registries[name].port}" for name in ("us", "eu"))  # type: ignore[union-attr]
    double = EcrDouble(source)
    there = double.add(OTHER, REGION, target)
    with double:
        for name, value in double.environment.items():
            monkeypatch.setenv(name, value)
        text = fleet.path.read_text()
        for name, account, address in (("us", ACCOUNT, double.proxy_address), ("eu", OTHER, there)):
            line = next(line for line in text.splitlines() if line.startswith(f"  {name}: {{kind: embedded"))
            api = f"endpoint: '{double.url}', reachable_as: '{address}'"
            text = text.replace(line, f"  {name}: {{kind: ecr, account: '{account}', region: {REGION}, {api}}}")
        fleet.path.write_text(text)
        for place, name in ((double.here, "team/app"), (double.registries.at(OTHER, REGION), "in/team/app")):
            place.open(name).mode = "IMMUTABLE"
        fleet.chain = fleet.reload()
        yield double


def ship(fleet: Fleet, chain: Chain, tag: str) -> Release:
    """Judged and promoted."""
    fleet.chain = chain
    release = fleet.release(tag)
    assert fleet.judged(release)
    assert chain.promote(release, JANE).changed
    return release


def test_a_channel_moves_in_a_repository_of_its_own(fleet: Fleet, ecr: EcrDouble) -> None:
    chain = fleet.reload(MOVING)
    first, second = ship(fleet, chain, "v1.0.0"), ship(fleet, chain, "v1.1.0")
    fixed, moving = (ecr.here.repositories[name] for name in ("team/app", "team/app-channels"))
    assert fixed.tags == {"v1.0.0": first.digest, "v1.1.0": second.digest}
    assert moving.tags["prod"] == second.digest
    assert chain.on_channels("app") == {"prod": second.digest}
    assert set(chain.registry("us").tags("team/app")) >= {"v1.0.0", "v1.1.0", "prod"}
    assert chain.promote(first, JANE).changed  # back
    assert moving.tags["prod"] == first.digest
    assert [status.channel for status in chain.release_statuses([first, second])] == ["prod", ""]
    assert list(Chain(load(fleet.path, {})).releases(["app"])) == [first, second]


def test_a_node_pulls_the_channel_there_with_all_its_content(fleet: Fleet, ecr: EcrDouble) -> None:
    ecr.here.settings["BLOB_MOUNTING"] = "ENABLED"
    chain = fleet.reload(MOVING)
    release = ship(fleet, chain, "v1.0.0")
    there = ecr.here.repositories["team/app-channels"].images[release.digest]
    for blob in there.blobs:
        assert ecr.here.content.size("team/app-channels", blob) is not None
    mounts = [one for one in ecr.requests if "team/app-channels" in one and "mount=" in one]
    assert len(mounts) >= len(there.blobs)


def test_signatures_are_rewritten_there(fleet: Fleet, ecr: EcrDouble) -> None:
    chain = fleet.reload(MOVING)
    release = ship(fleet, chain, "v1.0.0")
    tag = cosign_tag(release.digest, "sig")
    before = ecr.here.repositories["team/app-channels"].tags[tag]
    assert tag not in ecr.here.repositories["team/app"].tags
    keys = fleet.config.state / "keys"
    (keys / "signing.pub").rename(fleet.folder / "old.pub")
    (keys / "signing.key").unlink()
    chain = fleet.reload(("signing: {generate: true}", "signing: {generate: true, trusted: [old.pub]}"))
    assert chain.sign(release).changed
    assert ecr.here.repositories["team/app-channels"].tags[tag] != before


def test_targets_have_theirs_where_it_may_move(fleet: Fleet, ecr: EcrDouble) -> None:
    chain = fleet.reload(MOVING, TARGET)
    there = ecr.registries.at(OTHER, REGION)
    for tag in ("v1.0.0", "v1.1.0"):
        release = ship(fleet, chain, tag)
        assert chain.replicate(release, "eu").ok
        assert there.repositories["moving/team/app"].tags["prod"] == release.digest
        assert there.repositories["in/team/app"].tags[tag] == release.digest
    assert not {"prod"} & there.repositories["in/team/app"].tags.keys()
    assert chain.compare_replica(release, "eu").differences == ()


def test_what_a_channel_named_can_go_after_it_moved_and_not_before(fleet: Fleet, ecr: EcrDouble) -> None:
    rule = "retention: [{registry: us, repositories: [team/app], keep_newest: 0, keep_days: 0}]\n"
    rule += "collect: {recent: 0s}\nsigning:"
    chain = fleet.reload(MOVING, ("signing:", rule))
    first, second = ship(fleet, chain, "v1.0.0"), ship(fleet, chain, "v1.1.0")
    going = {entry.digest for _, entry in chain.plan_retention("us").deletions}
    assert first.digest in going and second.digest not in going


def test_tags_that_may_move_by_the_repositorys_own_exclusions_need_no_other_place(fleet: Fleet, ecr: EcrDouble) -> None:
    fixed = ecr.here.repositories["team/app"]
    fixed.mode, fixed.filters = "IMMUTABLE_WITH_EXCLUSION", ("prod", "sha256-*")
    ship(fleet, fleet.chain, "v1.0.0")
    second = ship(fleet, fleet.chain, "v1.1.0")
    assert fixed.tags["prod"] == second.digest
    assert ecr.here.repositories.keys() == {"team/app"}


def test_a_channel_that_may_not_move_is_told_before_anything_is_signed(fleet: Fleet, ecr: EcrDouble) -> None:
    """Also the first time, when it would be made: there it would stay for ever."""
    release = fleet.release("v1.0.0")
    assert fleet.judged(release)
    with pytest.raises(TagImmutable, match="prod") as caught:
        fleet.chain.promote(release, JANE)
    assert "`moving`" in caught.value.do and "exclusion" in caught.value.do
    place = fleet.chain.place("app")
    assert records(place, release.digest, trusted_keys(fleet.chain.config)) == []
    assert fleet.chain.on_channels("app") == {"prod": None}
    ecr.fail("DescribeRepositories", ApiError("AccessDeniedException", "no"), times=9)
    assert fleet.chain.promote(release, JANE).changed  # nobody tells; ECR takes what is new
    second = fleet.release("v1.1.0")
    assert fleet.judged(second)
    with pytest.raises(TagImmutable, match="cannot be overwritten"):
        fleet.chain.promote(second, JANE)


def test_latest_fails_before_anything_is_built(fleet: Fleet, ecr: EcrDouble) -> None:
    fleet.release("latest")
    build = "repository: team/app, build: {requirements: [], base: us/base:v1, version: latest},"
    chain = fleet.reload(("repository: team/app,", build))
    with pytest.raises(TagImmutable, match="latest"):
        chain.build("app")


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (("repository: team/app,", "repository: team/app, moving: team/tool,"), "is the repository of an image"),
        (("repository: team/app,", "repository: team/app, moving: team/app,"), "is the repository of an image"),
        (("gcp, prefix: replicas", "gcp, prefix: replicas, moving_prefix: replicas"), "needs a place of its own"),
    ],
)
def test_what_moves_needs_a_place_of_its_own(change: tuple[str, str], problem: str, fleet: Fleet) -> None:
    with pytest.raises(ConfigInvalid, match=problem):
        fleet.reload(change)
