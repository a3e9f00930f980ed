"""``ls``: tags with what they name, repositories, and what is left out of either."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from click.testing import CliRunner, Result

from registry_pipelines.cli import listing, main
from registry_pipelines.oci.manifests import Manifest
from tests.answers import answered
from tests.chain.fleet import Fleet, start
from tests.doubles.fault_registry import FaultRegistry, Status


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with ExitStack() as stack:
        fleet = start(tmp_path_factory.mktemp("fleet"), stack)
        fleet.chain.sign(fleet.release("v1.0.0"))
        fleet.release("v1.10.0")
        fleet.release("v1.9.0")
        yield fleet


def run(fleet: Fleet, *arguments: str, code: int = 0) -> Result:
    found = CliRunner().invoke(main, ["ls", *arguments, "--config", str(fleet.path)])
    assert found.exit_code == code, found.output
    return found


def answer(fleet: Fleet, *arguments: str, code: int = 0) -> Any:
    return answered(run(fleet, *arguments, "--json", code=code).stdout)


@pytest.mark.parametrize("where", ["app", "us/team/app"])
def test_tags_are_listed_newest_first_with_digest_age_and_size(fleet: Fleet, where: str) -> None:
    place = fleet.chain.place("app")
    rows = {row["tag"]: row for row in answer(fleet, where)["tags"]}
    assert list(rows) == ["v1.10.0", "v1.9.0", "v1.0.0"]
    stored = place.registry.get_manifest(place.repository, "v1.9.0")
    manifest = stored.content()
    assert isinstance(manifest, Manifest)
    whole = len(stored.raw) + manifest.config.size + sum(layer.size for layer in manifest.layers)
    row = rows["v1.9.0"]
    assert (row["digest"], row["size_bytes"], row["platforms"]) == (stored.digest, whole, ["linux/amd64"])
    table = run(fleet, where).stdout
    assert "v1.10.0" in table and "linux/amd64" in table and " d " in table and stored.digest[:19] in table


def test_tags_named_after_digests_are_counted_and_shown_when_asked_for(fleet: Fleet) -> None:
    assert "1 tag named after a digest is not shown" in run(fleet, "app").stdout
    shown = answer(fleet, "app", "--all")
    assert [row["tag"][-4:] for row in shown["tags"]][-1] == ".sig" and shown["notes"] == []


def test_repositories_are_listed_by_registry_and_below_a_prefix(fleet: Fleet) -> None:
    assert answer(fleet, "us")["repositories"] == ["team/app"]
    assert answer(fleet, fleet.chain.registry("us").name)["repositories"] == ["team/app"]
    assert answer(fleet, "us/team/")["repositories"] == ["team/app"]
    assert "lists no repository below other" in run(fleet, "us/other/").stdout


def test_a_refused_catalogue_is_said_and_what_the_configuration_names_is_listed(fleet: Fleet) -> None:
    host = fleet.chain.registry("us").name
    with FaultRegistry(host) as front:
        front.play("GET", r"/v2/_catalog.*", Status(403))
        embedded = f"{{kind: embedded, port: {host.rpartition(':')[2]}}}"
        path = fleet.folder / "refusing.yaml"
        path.write_text(fleet.path.read_text().replace(embedded, f"{{kind: distribution, host: '{front.address}'}}"))
        listed = CliRunner().invoke(main, ["ls", "us", "--json", "--config", str(path)])
        unknown = CliRunner().invoke(main, ["ls", f"{front.address}/nobody/", "--config", str(path)])
    assert listed.exit_code == 0 and unknown.exit_code == 1
    found = answered(listed.stdout)
    assert (found["complete"], found["repositories"]) == (False, ["team/app", "team/tool"])
    assert "does not list its repositories" in found["note"] and "does not list its repositories" in unknown.stderr


def test_many_images_are_opened_only_when_asked_for(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "MOST_OPENED", 2)
    few = answer(fleet, "app")
    assert {row["size_bytes"] for row in few["tags"]} == {None}
    assert "age and size of 3 images were not asked for: --long" in few["notes"]
    assert [row["tag"] for row in few["tags"]] == ["v1.10.0", "v1.9.0", "v1.0.0"]
    every = answer(fleet, "app", "--long")
    assert all(row["size_bytes"] for row in every["tags"])


def test_slips_are_told(fleet: Fleet) -> None:
    assert "did you mean `app`" in run(fleet, "ap", code=8).stderr
    assert "where a repository is wanted" in run(fleet, "app:v1.0.0", code=8).stderr
    assert "where a repository is wanted" in run(fleet, "us/team/app:v1.0.0", code=8).stderr
    assert "there is no repository" in run(fleet, "us/team/none", code=4).stderr
