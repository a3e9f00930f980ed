"""``tag`` and ``delete``: what a person may change by hand, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from click.testing import CliRunner

from registry_pipelines.chain.tagging import untag
from registry_pipelines.cli import main
from registry_pipelines.errors import ContentError
from registry_pipelines.registry.layout import LayoutRegistry
from registry_pipelines.registry.protocol import Place
from registry_pipelines.registry.tags import digest_at
from registry_pipelines.release import Release
from tests.chain.fleet import Fleet, push, start
from tests.cli.on_fleet import answer, run
from tests.cli.test_bad_input import PROGRAM
from tests.terminal import typed


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with ExitStack() as stack:
        yield start(tmp_path, stack)


@pytest.fixture
def release(fleet: Fleet) -> Release:
    return fleet.release("v1.0.0")


def named(fleet: Fleet, tag: str) -> str | None:
    return digest_at(fleet.chain.place("app"), tag)


def test_a_tag_is_set_by_digest_and_moves_only_when_told(fleet: Fleet, release: Release) -> None:
    other = fleet.release("v1.1.0")
    first = answer(fleet, "tag", "app:v1.0.0", "candidate")
    assert (first["changed"], first["digest"], named(fleet, "candidate")) == (True, release.digest, release.digest)
    assert answer(fleet, "tag", release.key, "candidate")["action"] == "unchanged"
    refused = run(fleet, "tag", "us/team/app:v1.1.0", "candidate", code=6)
    assert "give --move" in refused.stderr and named(fleet, "candidate") == release.digest
    moved = answer(fleet, "tag", f"us/team/app@{other.digest}", "candidate", "--move")
    assert (moved["facts"]["from_digest"], named(fleet, "candidate")) == (release.digest, other.digest)


def test_what_means_something_is_no_tag_for_hands(fleet: Fleet, release: Release) -> None:
    repositories = ("us/team/app", "gcp/replicas/team/app", "private/in/team/app")
    run(fleet, "copy", "us/team/app:v1.0.0", *(f"{repository}:other" for repository in repositories))
    for repository in repositories:
        for tag, why in (
            ("prod", "channel of app, which only a promotion moves"),
            ("v2.0.0", "stands for a release of app"),
            (f"sha256-{'0' * 64}", "lists of referrers"),
        ):
            assert why in run(fleet, "tag", f"{repository}:other", tag, "--move", code=6).stderr
        place = fleet.chain.locate(f"{repository}:other").place
        assert set(place.registry.tags(place.repository)) <= {"other", "v1.0.0"}


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST", "127.0.0.2"])
def test_another_name_of_a_configured_host_is_that_registry(fleet: Fleet, release: Release, host: str) -> None:
    address = fleet.chain.registry("us").name.replace("127.0.0.1", host)
    assert "channel of app" in run(fleet, "tag", f"{address}/team/app:v1.0.0", "prod", code=6).stderr
    assert "stands for a release of app" in run(fleet, "tag", f"{address}/team/app:v1.0.0", "v2.0.0", code=6).stderr


def test_other_repositories_have_no_such_tags(fleet: Fleet, release: Release) -> None:
    run(fleet, "copy", "us/team/app:v1.0.0", "us/base/python:3.12")
    assert answer(fleet, "tag", "us/base/python:3.12", "v2.0.0")["changed"]
    assert answer(fleet, "tag", "us/base/python:3.12", "prod")["changed"]


def test_delete_shows_its_plan_and_takes_the_evidence_along(fleet: Fleet, release: Release) -> None:
    fleet.judged(release)
    attached = [each.digest for each in fleet.chain.registry("us").referrers("team/app", release.digest)]
    shown = run(fleet, "delete", "app:v1.0.0", "--dry-run").stdout
    assert "v1.0.0" in shown and "below it or attached to it would go, too" in shown
    assert named(fleet, "v1.0.0") == release.digest
    done = answer(fleet, "delete", "app:v1.0.0", "--yes")
    assert (done["changed"], done["digest"]) == (True, release.digest)
    assert attached and not any(digest_at(fleet.chain.place("app"), one) for one in [release.digest, *attached])
    assert run(fleet, "delete", "app:v1.0.0", "--yes", code=4).stdout == ""


def test_delete_refuses_what_is_needed_and_says_by_whom(fleet: Fleet, release: Release) -> None:
    fleet.judged(release)
    fleet.chain.promote(release)
    refused = run(fleet, "delete", release.key, "--yes", code=6)
    assert "the channel prod of app names it" in refused.stderr and named(fleet, "v1.0.0") == release.digest
    [evidence, *_] = fleet.chain.registry("us").referrers("team/app", release.digest)
    assert "as its evidence" in run(fleet, "delete", f"us/team/app@{evidence.digest}", "--yes", code=6).stderr


def test_delete_by_a_tag_takes_no_other_tag_along(fleet: Fleet, release: Release) -> None:
    run(fleet, "tag", "app:v1.0.0", "candidate")
    refused = run(fleet, "delete", "app:v1.0.0", "--yes", code=6)
    assert "candidate names the same image" in refused.stderr and f"app@{release.digest}" in refused.stderr
    assert "the image stays as v1.0.0" in run(fleet, "delete", "app:candidate", "--dry-run").stdout
    assert named(fleet, "candidate") == release.digest
    done = answer(fleet, "delete", "us/team/app:candidate", "--yes")
    assert (done["changed"], named(fleet, "candidate"), named(fleet, "v1.0.0")) == (True, None, release.digest)


def test_a_tag_that_is_protected_or_a_channel_is_not_taken_away(fleet: Fleet, release: Release) -> None:
    fleet.judged(release)
    fleet.chain.promote(release)
    fleet.path.write_text(fleet.path.read_text() + "retention: [{registry: us, protect: [keep-*]}]\n")
    run(fleet, "tag", "app:v1.0.0", "keep-me")
    assert "protects the tag" in run(fleet, "delete", "app:keep-me", "--yes", code=6).stderr
    assert "which only a promotion moves" in run(fleet, "delete", "us/team/app:prod", "--yes", code=6).stderr
    assert {named(fleet, tag) for tag in ("keep-me", "prod", "v1.0.0")} == {release.digest}


class Sweeping(LayoutRegistry):
    """A registry that takes the image away with any of its tags."""

    def delete_tag(self, repository: str, tag: str) -> None:
        self.delete_manifest(repository, self.resolve(repository, tag).digest)


def test_a_registry_that_deletes_the_image_with_a_tag_is_told_on(tmp_path: Path) -> None:
    place = Place(Sweeping(tmp_path), "team/app")
    made = push(place, "v1", provenance=False)
    place.registry.put_manifest("team/app", place.registry.get_manifest("team/app", "v1"), tag="other")
    with pytest.raises(ContentError, match="deleted the image with the tag"):
        untag(place, "other", made.digest, session=None)


def test_delete_by_digest_takes_all_tags(fleet: Fleet, release: Release) -> None:
    run(fleet, "tag", "app:v1.0.0", "candidate")
    assert answer(fleet, "delete", f"us/team/app@{release.digest}", "--yes")["changed"]
    assert named(fleet, "candidate") is named(fleet, "v1.0.0") is None


@pytest.mark.parametrize("reference", ["app", "us/team/app"])
def test_delete_wants_a_tag_or_a_digest(fleet: Fleet, release: Release, reference: str) -> None:
    run(fleet, "tag", "app:v1.0.0", "latest")
    assert "names no tag and no digest" in run(fleet, "delete", reference, "--yes", code=8).stderr
    assert named(fleet, "latest") == release.digest


@pytest.mark.parametrize("command", [("delete", "--yes"), ("promote",), ("ship",), ("tag", "other")])
def test_an_empty_variable_behind_the_colon_is_no_release(
    fleet: Fleet, release: Release, command: tuple[str, ...]
) -> None:
    name, *more = command
    assert "should stand" in run(fleet, name, "app:", *more, code=8).stderr
    assert named(fleet, "v1.0.0") == release.digest and not named(fleet, "prod")


def test_delete_asks_on_a_terminal_and_nowhere_else(fleet: Fleet, release: Release) -> None:
    assert "Give --yes" in run(fleet, "delete", "app:v1.0.0", code=8).stderr
    command = [*PROGRAM, "delete", "app:v1.0.0", "--config", str(fleet.path)]
    code, screen = typed(command, [("Delete it?", "n\n")])
    assert code == 0 and "nothing was deleted" in screen and named(fleet, "v1.0.0") == release.digest
    code, screen = typed(command, [("Delete it?", "y\n")])
    assert code == 0 and "deleted" in screen and named(fleet, "v1.0.0") is None


def test_without_a_configuration_the_registry_alone_decides(fleet: Fleet, release: Release, tmp_path: Path) -> None:
    host = fleet.chain.registry("us").name
    (tmp_path / "empty").mkdir()
    runner = CliRunner()
    environment = {"XDG_STATE_HOME": str(tmp_path / "state")}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path / "empty")
        tagged = runner.invoke(main, ["tag", f"{host}/team/app:v1.0.0", "other", "--json"], env=environment)
        deleted = runner.invoke(
            main, ["delete", f"{host}/team/app@{release.digest}", "--yes", "--json"], env=environment
        )
    assert (tagged.exit_code, deleted.exit_code) == (0, 0), tagged.output + deleted.output
    assert named(fleet, "other") is None
