"""`infra` over a configuration with an Artifact Registry: all that is wrong at once, plan, apply, drift, import."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result
from google.cloud import artifactregistry_v1

from registry_pipelines.cli import main
from registry_pipelines.registry.gar.access import GoogleAccess
from tests.doubles.google import GoogleCloud

PARENT = "projects/ml-prod/locations/europe-west1"
NODE = "serviceAccount:nodes@ml-prod.iam.gserviceaccount.com"
DECLARED: dict[str, Any] = {
    "kind": "gar",
    "repositories": [
        {
            "names": ["models"],
            "immutable": True,
            "cleanup": "cleanup.json",
            "labels": {"team": "ml"},
            "readers": [NODE],
        },
        {"names": ["hub"], "remote": {"upstream": "docker-hub"}},
        {"names": ["ghcr"], "remote": {"upstream": "https://ghcr.io"}},
        {"names": ["debian"], "format": "APT", "remote": {"upstream": "apt:DEBIAN/debian/dists/bookworm"}},
        {"names": ["jars"], "format": "MAVEN", "maven_versions": "SNAPSHOT", "maven_overwrites": True},
        {"names": ["all"], "virtual": [{"repository": "models", "priority": 20}, {"repository": "hub", "priority": 3}]},
    ],
    "readers": ["group:ml@example.com"],
    "binary_authorization": {"default": {"evaluation": "ALWAYS_DENY"}, "always_allowed": ["registry.k8s.io/*"]},
}


class Person:
    """Somebody with a configuration, and the cloud that it names."""

    def __init__(self, folder: Path, google: GoogleCloud) -> None:
        self.folder, self.google = folder, google
        (folder / "cleanup.json").write_text(
            json.dumps([{"name": "old", "action": {"type": "Delete"}, "condition": {"olderThan": "30d"}}])
        )
        self.declare(DECLARED)

    def declare(self, section: dict[str, Any]) -> None:
        registry = {"kind": "gar", "project": "ml-prod", "location": "europe-west1", "endpoint": self.google.endpoint}
        config = {"version": 1, "registries": {"gar-eu": registry}, "infra": {"gar-eu": section}}
        (self.folder / "registry-pipelines.yaml").write_text(yaml.safe_dump(config))

    def run(self, *arguments: str) -> Result:
        return CliRunner().invoke(main, ["infra", *arguments, "--config", str(self.folder / "registry-pipelines.yaml")])

    def rows(self, *arguments: str) -> list[dict[str, Any]]:
        answer = json.loads(self.run(*arguments, "--json").stdout)
        rows: list[dict[str, Any]] = answer["result"]["results"][0]["rows"]
        return rows


@pytest.fixture
def person(tmp_path: Path) -> Iterator[Person]:
    with GoogleCloud(tmp_path / "google") as google:
        yield Person(tmp_path, google)


def test_plan_apply_and_drift_by_the_commands(person: Person) -> None:
    assert {row["action"] for row in person.rows("plan")} == {"create", "update"}
    assert person.run("apply").exit_code == 0
    assert person.rows("plan") == [] and person.run("drift").exit_code == 0
    client = GoogleAccess(endpoint=person.google.endpoint).client(artifactregistry_v1.ArtifactRegistryClient)
    changed = {"name": f"{PARENT}/repositories/models", "docker_config": {"immutable_tags": False}}
    client.update_repository(request={"repository": changed, "update_mask": {"paths": ["docker_config"]}})
    drifted = person.run("drift")
    assert drifted.exit_code == 3 and "immutable_tags is false, declared true" in drifted.stdout
    assert person.run("apply").exit_code == 0 and person.run("drift").exit_code == 0
    told = person.run("plan").stdout
    assert "who may pull from gar-eu" in told and NODE in told and "project ml-prod" in told


def test_what_is_imported_and_declared_has_nothing_to_do(person: Person) -> None:
    assert person.run("apply").exit_code == 0
    done = person.run("import", "gar-eu")
    assert done.exit_code == 0, done.output
    section = yaml.safe_load((person.folder / "infra" / "gar-eu.yaml").read_text())["infra"]["gar-eu"]
    person.declare(section)
    assert person.rows("plan") == []
    names = {name for group in section["repositories"] for name in group["names"]}
    assert names == {"models", "hub", "ghcr", "debian", "jars", "all"}
    assert section["readers"] == ["group:ml@example.com"]
    assert section["binary_authorization"]["always_allowed"] == ["registry.k8s.io/*"]


def test_everything_that_is_wrong_is_said_before_anything_is_asked(person: Person) -> None:
    (person.folder / "cleanup.json").write_text(
        json.dumps(
            [
                {"name": "a", "action": {"type": "Delete"}, "mostRecentVersions": {"keepCount": 1}},
                {"name": "a", "action": {"type": "Keep"}, "condition": {"olderThan": "soon"}},
            ]
        )
    )
    person.declare(
        {
            "kind": "gar",
            "repositories": [
                {"names": ["a", "a"], "format": "PYTHON", "immutable": True, "remote": {"upstream": "docker-hub"}},
                {"names": ["b"], "remote": {"upstream": "pypi", "username": "x"}, "virtual": [], "force": True},
                {"names": ["c"], "virtual": [{"repository": "c", "priority": 1}], "scanning": "DISABLED"},
            ],
            "binary_authorization": {
                "default": {"evaluation": "REQUIRE_ATTESTATION"},
                "clusters": {"europe-west1.dev": {"evaluation": "ALWAYS_ALLOW", "attestors": ["nobody"]}},
            },
        }
    )
    told = person.run("plan")
    assert told.exit_code == 8
    for words in (
        "a stands in repositories[0] already",
        "is for repositories of images",
        "has the format DOCKER, these repositories PYTHON",
        "is for `absent` alone",
        "has `remote` and `virtual`",
        "`username` and `password_secret` go together",
        "names itself",
        "it stores nothing",
        "go together",
        "nobody is not among `attestors`",
    ):
        assert words in told.stderr.replace("\n", " "), words
    person.declare({"kind": "gar", "repositories": [{"names": ["a"], "cleanup": "cleanup.json"}]})
    told = person.run("plan")
    assert told.exit_code == 8 and "soon" in told.stderr and told.stderr.count("cleanup.json") >= 2
    assert not person.google.world.calls


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({"kind": "ecr"}, "is ecr, and the registry's is gar"),
        ({"kind": "gar", "repositories": [{"names": ["Models"]}]}, "is not the id of a repository"),
        ({"kind": "gar", "readers": ["nodes"]}, "is not somebody in IAM"),
        ({"kind": "gar", "repositories": [{"names": ["a"], "virtual": [{"repository": "b", "priority": 31}]}]}, "30"),
        ({"kind": "gar", "perimeters": [{"name": "prod"}]}, "is not a perimeter"),
        (
            {"kind": "gar", "repositories": [{"names": ["a"], "remote": {"upstream": "dockerhub"}}]},
            "is not an upstream",
        ),
    ],
)
def test_a_wrong_value_is_refused_where_it_stands(person: Person, section: dict[str, Any], words: str) -> None:
    person.declare(section)
    told = person.run("plan")
    assert told.exit_code == 8 and words in told.stderr.replace("\n", " ")


def test_terraform_is_written_without_asking(person: Person) -> None:
    made = json.loads(person.run("terraform").stdout)
    assert made["resource"]["google_artifact_registry_repository"]["gar-eu_models"]["docker_config"] == {
        "immutable_tags": True
    }
    assert not person.google.world.calls
