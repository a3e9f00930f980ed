"""Artifact Registry looked at: the role that is missing, another location, and a node of another cloud."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from registry_pipelines.chain.places import Places
from registry_pipelines.cli import main
from registry_pipelines.config import load
from registry_pipelines.registry.protocol import Place
from tests.answers import answered
from tests.chain.entries import entry, index
from tests.doctor.test_pods import node
from tests.needs import needed_module

APP = "ml-prod/models/app"
HOST = "europe-west1-docker.pkg.dev"


class Google:
    """Two locations of one project, with an image that goes from the first to the second."""

    def __init__(self, cloud: Any, folder: Path) -> None:
        from tests.doubles.google.accounts import service_account_file

        self.cloud, self.path = cloud, folder / "google.yaml"
        key = service_account_file(cloud.world, folder / "key.json", cloud.endpoint)
        lines = ["registries:"]
        for name, location in (("eu", "europe-west1"), ("us", "us-central1")):
            cloud.repository("ml-prod", location, "models")
            plane = cloud.registry(location)
            lines.append(
                f"  {name}: {{kind: gar, project: ml-prod, location: {location}, credentials: {key}, "
                f"endpoint: '{cloud.endpoint}', reachable_as: '{plane.address}'}}"
            )
        lines += [
            f"images:\n  app: {{registry: eu, repository: {APP}, targets: [us]}}",
            "targets:\n  us: {registry: us}",
        ]
        self.path.write_text("\n".join(lines) + "\n")

    def place(self, registry: str) -> Place:
        return Place(Places(load(self.path, {})).registry(registry), APP)

    def doctor(self, *arguments: str, code: int = 0) -> list[dict[str, Any]]:
        ran = CliRunner().invoke(main, ["doctor", *arguments, "--config", str(self.path), "--json"])
        assert ran.exit_code == code, ran.output
        (found,) = answered(ran.stdout)["diagnoses"]
        answers: list[dict[str, Any]] = found["answers"]
        return answers


@pytest.fixture
def google(tmp_path: Path) -> Iterator[Google]:
    needed_module("google.cloud.artifactregistry_v1", "google")
    from tests.doubles.google import GoogleCloud

    with GoogleCloud(tmp_path / "google") as cloud:
        yield Google(cloud, tmp_path)


def test_an_image_that_is_well_and_a_node_far_away(google: Google, tmp_path: Path) -> None:
    place = google.place("eu")
    index(place, entry(place, "one"), tag="v1")
    assert google.doctor("app:v1") == []
    (tmp_path / "node.json").write_text(json.dumps(node()))
    arguments = (f"{HOST}/{APP}:v1", "--node", str(tmp_path / "node.json"), "--platform", "linux/amd64")
    (note,) = google.doctor(*arguments)
    assert (note["cause"], note["note"]) == ("far-away", True)
    assert "of another cloud" in note["what"]
    assert note["command"] == f"registry-pipelines advise {HOST}/{APP}:v1 --nodes eu-west-1"


def test_not_in_this_location_but_in_that_one(google: Google) -> None:
    place = google.place("us")
    index(place, entry(place, "one"), tag="v1")
    answers = google.doctor(f"{HOST}/{APP}:v1", code=4)
    assert answers[0]["cause"] == "other-region"
    assert (
        "not at europe-west1-docker.pkg.dev/ml-prod/models/app but at us-central1-docker.pkg.dev" in answers[0]["what"]
    )
    assert answers[1]["cause"] in ("no-tag", "no-repository")


def test_the_role_that_is_missing(google: Google) -> None:
    place = google.place("eu")
    index(place, entry(place, "one"), tag="v1")
    google.cloud.world.denied.add(("artifactregistry.repositories.downloadArtifacts", "projects/ml-prod"))
    answers = google.doctor("eu/" + APP + ":v1", code=5)
    assert answers[0]["cause"] in ("permission", "denied-or-missing")
    told = " ".join(str(answers[0][name]) for name in ("what", "do", "command"))
    assert "roles/artifactregistry.reader" in told
    assert "add-iam-policy-binding models --project=ml-prod --location=europe-west1" in told
