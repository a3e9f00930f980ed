"""Who runs what: each source by its cloud's API, and retention that keeps what runs and deletes nothing blindly."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from registry_pipelines.chain import Chain
from registry_pipelines.chain.live import live_digests
from registry_pipelines.chain.running import repository_of
from registry_pipelines.cli import main
from registry_pipelines.config import GarRegistry, load
from registry_pipelines.inventory.usage.model import Use
from registry_pipelines.oci import media_types
from registry_pipelines.oci.manifests import Manifest, manifest_bytes
from registry_pipelines.oci.references import Reference
from registry_pipelines.registry.blobs import push_blob
from registry_pipelines.registry.layout import LayoutRegistry
from registry_pipelines.registry.protocol import Place
from tests.doubles.aws.ecr_registry import EcrRegistries
from tests.doubles.aws.front import ACCOUNT, AwsDouble
from tests.doubles.aws.inspector import InspectorCoverage
from tests.doubles.aws.usage import Ecs, InspectorClusters, Lambda, SageMaker
from tests.doubles.google.usage import UsageApis
from tests.inventory.clouds import DAY_S, LOCATION, PROJECT, REGION, ecr_place, manifest, put, written
from tests.ports import free_ports

HOST = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com"
D1, D2, D3 = (f"sha256:{letter * 64}" for letter in "abc")
NOW = datetime(2026, 11, 1, tzinfo=UTC)
FUNCTION = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function"
RUN = f"/v2/projects/{PROJECT}/locations/{LOCATION}"
VERTEX = f"/v1/projects/{PROJECT}/locations/{LOCATION}"


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[AwsDouble]:
    with AwsDouble() as double:
        for name, value in double.environment.items():
            monkeypatch.setenv(name, value)
        yield double


@pytest.fixture
def google() -> Iterator[UsageApis]:
    with UsageApis() as apis:
        yield apis


def run(config: Path, *arguments: str, code: int = 0) -> dict[str, Any]:
    document = json.loads(invoke(config, *arguments, "--json", code=code).stdout)
    found: dict[str, Any] = document["result"]["results"][0] if document["result"] else document["error"]
    return found


def invoke(config: Path, *arguments: str, code: int = 0) -> Result:
    result = CliRunner().invoke(main, [*arguments, "--config", str(config), "--quiet"])
    assert result.exit_code == code, result.output
    return result


def of_aws(folder: Path, aws: AwsDouble, kind: str, more: str = "") -> Path:
    return written(folder, aws, more=f"usage:\n  {kind}: {{kind: {kind}, region: {REGION}{more}}}\n")


def of_google(folder: Path, google: UsageApis, kind: str) -> Path:
    about = f"kind: {kind}, project: {PROJECT}, locations: [{LOCATION}], endpoint: '{google.endpoint}'"
    return written(folder, more=f"  here: {{kind: layout, root: images}}\nusage:\n  g: {{{about}}}\n")


def seen(result: dict[str, Any]) -> set[tuple[str, str, str]]:
    return {(row["image"].rpartition("/")[2], row["digest"], row["how"]) for row in result["rows"]}


def fill_ecs(aws: AwsDouble, images: list[tuple[str, str]]) -> Ecs:
    """A task for each image with its digest; a service that would start another."""
    ecs = aws.area(Ecs)
    ecs.tasks["prod"] = [
        {
            "taskArn": f"arn:task/{at}",
            "clusterArn": ecs.arn("prod"),
            "group": "service:web",
            "startedAt": NOW,
            "containers": [{"name": "main", "image": image, "imageDigest": digest}] if digest else [{"image": image}],
        }
        for at, (image, digest) in enumerate(images)
    ]
    ecs.services["prod"] = [
        {
            "serviceArn": "arn:service/web",
            "serviceName": "web",
            "taskDefinition": "arn:td/web:2",
            "deployments": [{"taskDefinition": "arn:td/web:1"}, {"taskDefinition": "arn:td/web:2"}],
        }
    ]
    ecs.definitions = {"arn:td/web:1": [f"{HOST}/web:1"], "arn:td/web:2": [f"{HOST}/web:2"]}
    return ecs


def test_ecs_tells_digests_of_tasks_and_what_services_would_start(aws: AwsDouble, tmp_path: Path) -> None:
    ecs = fill_ecs(aws, [(f"{HOST}/web:2", D1), (f"{HOST}/web:2", D1), (f"{HOST}/job@{D2}", "")])
    ecs.tasks["other"] = []
    found = run(of_aws(tmp_path, aws, "ecs"), "usage")
    assert seen(found) == {
        ("web:2", D1, "runs"),
        (f"job@{D2}", D2, "runs"),
        ("web:1", "", "may start"),
        ("web:2", "", "may start"),
    }
    assert len(found["rows"]) == 5 and found["rows"][0]["where"] == "cluster prod, service:web, container main"
    assert run(of_aws(tmp_path, aws, "ecs", ", clusters: [oth*]"), "usage")["rows"] == []


def test_ecs_that_hides_a_task_is_no_answer(aws: AwsDouble, tmp_path: Path) -> None:
    ecs = fill_ecs(aws, [(f"{HOST}/web:2", D1)])
    ecs.failures = [{"arn": "arn:task/9", "reason": "MISSING"}]
    assert run(of_aws(tmp_path, aws, "ecs"), "usage")["ok"]
    ecs.failures = [{"arn": "arn:task/9", "reason": "ACCESS_DENIED"}]
    found = run(of_aws(tmp_path, aws, "ecs"), "usage", code=7)
    assert "does not tell of arn:task/9: ACCESS_DENIED" in found["reasons"][0]


def test_lambda_tells_the_digest_of_each_version(aws: AwsDouble, tmp_path: Path) -> None:
    about = {"FunctionName": "f", "PackageType": "Image", "LastModified": "2026-10-01T00:00:00.000+0000"}
    aws.area(Lambda).functions = [
        (
            {**about, "FunctionArn": f"{FUNCTION}:f:1", "Version": "1"},
            {"ImageUri": f"{HOST}/f:1", "ResolvedImageUri": f"{HOST}/f@{D1}"},
        ),
        (
            {**about, "FunctionArn": f"{FUNCTION}:f:2", "Version": "2"},
            {"ImageUri": f"{HOST}/f:1", "ResolvedImageUri": f"{HOST}/f@{D2}"},
        ),
        ({"FunctionName": "z", "FunctionArn": f"{FUNCTION}:z", "PackageType": "Zip"}, {}),
    ]
    found = run(of_aws(tmp_path, aws, "lambda"), "usage")
    assert (
        seen(found) == {("f:1", D1, "runs"), ("f:1", D2, "runs")}
        and found["rows"][1]["where"] == "function f, version 2"
    )
    assert found["rows"][0]["since"]


def test_sagemaker_tells_endpoints_models_and_training(aws: AwsDouble, tmp_path: Path) -> None:
    there = aws.area(SageMaker)
    there.endpoints = {
        "a": [(f"{HOST}/serve:1", f"{HOST}/serve@{D1}")],
        "b": [(f"{HOST}/serve:1", f"{HOST}/serve@{D2}")],
    }
    there.models, there.training = {"m": f"{HOST}/serve:1", "n": f"{HOST}/other:2"}, {"t": f"{HOST}/train:3"}
    assert seen(run(of_aws(tmp_path, aws, "sagemaker"), "usage")) == {
        ("serve:1", D1, "runs"),
        ("serve:1", D2, "runs"),
        ("serve:1", "", "may start"),
        ("other:2", "", "may start"),
        ("train:3", "", "runs"),
    }


def test_inspector_tells_clusters_of_what_is_in_use(aws: AwsDouble, tmp_path: Path) -> None:
    arns = [f"arn:aws:ecr:{REGION}:{ACCOUNT}:repository/team/app/{digest}" for digest in (D1, D2, D3)]
    coverage = aws.area(InspectorCoverage)
    coverage.reasons = dict.fromkeys(arns, "SUCCESSFUL")
    coverage.in_use = {arns[0]: (3, aws.clock() - DAY_S), arns[1]: (1, aws.clock())}
    clusters = [f"arn:aws:eks:{REGION}:{ACCOUNT}:cluster/c{at}" for at in range(3)]
    aws.area(InspectorClusters).clusters = {arns[0]: [(one, 1) for one in clusters]}
    found = run(of_aws(tmp_path, aws, "inspector"), "usage")
    assert [(row["image"], row["where"]) for row in found["rows"]] == [
        (f"{HOST}/team/app@{D1}", "eks cluster c0 (1 running), eks cluster c1 (1 running), eks cluster c2 (1 running)"),
        (f"{HOST}/team/app@{D2}", "1 containers"),
    ]


def test_pulls_are_weak_and_scanners_that_are_recorded_are_named(aws: AwsDouble, tmp_path: Path) -> None:
    place, now = ecr_place(aws), aws.clock()
    lately, old = (put(place, "app", manifest(at), f"v{at}", at=now - 90 * DAY_S) for at in range(2))
    lately.pulled_at, old.pulled_at = now - DAY_S, now - 60 * DAY_S
    excluded, recorded = (f"arn:aws:iam::{ACCOUNT}:role/scan-{at}" for at in range(2))
    aws.area(EcrRegistries).excluded[excluded] = now
    config = of_aws(tmp_path, aws, "pulls", f", registry: ecr, within: 30d, scanners: ['{excluded}', '{recorded}']")
    found = run(config, "usage")
    assert [(row["digest"], row["how"]) for row in found["rows"]] == [(lately.digest, "pulled")]
    assert len(found["notes"]) == 1 and recorded in found["notes"][0] and excluded not in found["notes"][0]


def test_cloud_run_tells_revisions_with_traffic_and_jobs(google: UsageApis, tmp_path: Path) -> None:
    def containers(image: str) -> dict[str, Any]:
        return {"containers": [{"image": image}], "createTime": "2026-10-01T00:00:00Z"}

    name = f"{RUN[4:]}/services/web"
    service = {
        "name": name,
        "template": containers("gar/web:3"),
        "latestReadyRevision": f"{name}/revisions/web-3",
        "latestCreatedRevision": f"{name}/revisions/web-3",
        "trafficStatuses": [{"revision": "web-1", "percent": 10}, {"percent": 90}],
    }
    google.lists = {
        f"{RUN}/services": [service, {**service, "name": f"{name}2", "trafficStatuses": []}],
        f"{RUN}/services/web/revisions": [
            {"name": f"{name}/revisions/web-{at}", **containers(f"gar/web:{at}")} for at in (3, 2, 1)
        ],
        f"{RUN}/services/web2/revisions": [],
        f"{RUN}/jobs": [{"name": f"{RUN[4:]}/jobs/nightly", "template": {"template": containers(f"gar/job@{D1}")}}],
    }
    found = run(of_google(tmp_path, google, "cloud-run"), "usage")
    assert seen(found) == {("web:3", "", "runs"), ("web:1", "", "runs"), (f"job@{D1}", D1, "may start")}
    assert "what they named at deployment may be another image" in found["notes"][0]


def test_vertex_tells_deployed_models_and_jobs_under_way(google: UsageApis, tmp_path: Path) -> None:
    model = f"{VERTEX[4:]}/models/7"
    google.lists = {
        f"{VERTEX}/endpoints": [
            {"name": "e1", "displayName": "chat", "deployedModels": [{"model": model, "modelVersionId": "2"}]},
            {"name": "e2", "deployedModels": []},
        ],
        f"{VERTEX}/customJobs": [
            {"displayName": "train", "jobSpec": {"workerPoolSpecs": [{"containerSpec": {"imageUri": "gar/train:1"}}]}}
        ],
    }
    google.resources = {f"/v1/{model}@2": {"containerSpec": {"imageUri": f"gar/serve@{D2}"}}}
    found = run(of_google(tmp_path, google, "vertex"), "usage")
    assert seen(found) == {(f"serve@{D2}", D2, "runs"), ("train:1", "", "runs")}
    assert any("JOB_STATE_RUNNING" in one for one in google.asked)


def test_a_source_that_refuses_is_told_in_its_own_words(google: UsageApis, tmp_path: Path) -> None:
    google.fail = {RUN: (403, json.dumps({"error": {"message": "run.services.list is missing"}}))}
    config = of_google(tmp_path, google, "cloud-run")
    found = run(config, "usage", code=7)
    assert found["reasons"][0].startswith("g: ") and "HTTP 403: run.services.list is missing" in found["reasons"][0]
    google.fail = {RUN: (401, "<html>Sign in</html>")}
    assert "gave no token" in run(config, "usage", code=7)["reasons"][0]
    google.fail, google.lists = {}, {}
    assert "HTTP 404" in run(config, "usage", code=7)["reasons"][0]


def test_a_list_that_leaves_a_place_out_is_no_answer(google: UsageApis, tmp_path: Path) -> None:
    google.lists = {f"{RUN}/services": []}
    google.fail[f"{RUN}/jobs"] = (200, json.dumps({"jobs": [], "unreachable": [RUN[4:]]}))
    found = run(of_google(tmp_path, google, "cloud-run"), "usage", code=7)
    assert f"the list is not whole: {RUN[4:]} did not answer" in found["reasons"][0]


def test_pulls_are_told_by_ecr_alone(google: UsageApis, tmp_path: Path) -> None:
    config = of_google(tmp_path, google, "vertex")
    config.write_text(config.read_text() + f"  p: {{kind: pulls, region: {REGION}, registry: here}}\n")
    assert "usage.p.registry: here is no registry of kind ecr" in invoke(config, "usage", code=8).stderr


def test_what_is_no_reference_is_no_image() -> None:
    use = Use(source="s", image="not an image", where="w")
    assert use.reference() is None and Use(source="s", image="a.b/c@sha256:1", where="w").reference() is None
    named = Use(source="s", image="a.b/c:1", digest=D1, where="w", weak=True)
    assert named.reference() and named.sentence == "perhaps in use: s: w"


@pytest.fixture
def retained(aws: AwsDouble, tmp_path: Path) -> tuple[Path, int, list[str]]:
    """A configuration whose rule keeps nothing of three images, and their digests."""
    (port,) = free_ports(1)
    config = written(tmp_path, aws)
    rule = "{registry: here, keep_newest: 0, keep_days: 0}"
    config.write_text(
        f"registries:\n  here: {{kind: embedded, port: {port}, root: content}}\n"
        f"signing: {{generate: true}}\nretention: [{rule}]\nusage:\n  prod: {{kind: ecs, region: {REGION}}}\n"
    )
    place = Place(LayoutRegistry(tmp_path / "content"), "team/app")
    digests = []
    for number in range(3):
        created = f'{{"created": "2026-01-0{number + 1}T00:00:00Z"}}'.encode()
        image = push_blob(place, created, media_type=media_types.OCI_CONFIG)
        made = manifest_bytes(Manifest(schema_version=2, config=image, layers=()))
        place.registry.put_manifest(place.repository, made, tag=f"v{number}")
        digests.append(str(made.digest))
    return config, port, digests


ECR = f'registries:\n  here: {{{{kind: ecr, account: "{ACCOUNT}", region: {REGION}{{}}}}}}\n'
GAR = f"registries:\n  here: {{{{kind: gar, project: {PROJECT}, location: us{{}}}}}}\n"


@pytest.mark.parametrize(
    ("registry", "image"),
    [
        (ECR.format(""), f"{ACCOUNT}.dkr-ecr.{REGION}.on.aws/app"),
        (ECR.format(", dualstack: true"), f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/app"),
        (ECR.format(", fips: true, reachable_as: ecr.corp:5000"), "ecr.corp:5000/app"),
        (ECR.format(", reachable_as: ecr.corp:5000"), f"{ACCOUNT}.dkr.ecr-fips.{REGION}.amazonaws.com/app"),
        (GAR.format(""), f"gcr.io/{PROJECT}/app"),
        (GAR.format(", gcr_host: gcr.io"), f"us-docker.pkg.dev/{PROJECT}/gcr.io/app"),
        (GAR.format(", gcr_host: gcr.io"), f"us.gcr.io/{PROJECT}/app"),
    ],
)
def test_what_runs_is_in_use_by_whatever_name_of_the_registry(
    aws: AwsDouble, tmp_path: Path, registry: str, image: str
) -> None:
    path = tmp_path / "registry-pipelines.yaml"
    path.write_text(f"{registry}usage:\n  prod: {{kind: ecs, region: {REGION}}}\n")
    ecs = fill_ecs(aws, [(f"{image}:1", D1), (f"other.{image}@{D2}", D2)])
    ecs.services.clear()
    assert set(live_digests(Chain(load(path))._session, "here").digests) == {D1}
    ecs.tasks["prod"][1]["containers"][0]["image"] = f"{image}:1:2"
    live = live_digests(Chain(load(path))._session, "here")
    assert "names no image that can be read" in live.stopped("any/repository")


def test_a_tag_that_runs_by_a_name_of_container_registry_is_asked_under_the_registrys_own() -> None:
    settings = GarRegistry(name="here", kind="gar", project=PROJECT, location="us")
    old = GarRegistry(name="old", kind="gar", project=PROJECT, location="us", gcr_host="gcr.io")
    for where, image, repository in (
        (settings, f"gcr.io/{PROJECT}/team/app:1", f"{PROJECT}/gcr.io/team/app"),
        (settings, f"us-docker.pkg.dev/{PROJECT}/r/app:1", f"{PROJECT}/r/app"),
        (old, f"us-docker.pkg.dev/{PROJECT}/gcr.io/app:1", f"{PROJECT}/app"),
        (old, f"gcr.io/{PROJECT}/app:1", f"{PROJECT}/app"),
    ):
        assert repository_of(where, Reference.parse(image)) == repository


def test_a_cluster_that_is_misspelt_is_no_cluster_where_nothing_runs(aws: AwsDouble, tmp_path: Path) -> None:
    fill_ecs(aws, [(f"{HOST}/web:2", D1)])
    found = run(of_aws(tmp_path, aws, "ecs", ", clusters: [prod, prd]"), "usage", code=7)
    assert "no cluster is called prd: prod" in found["reasons"][0] and found["rows"] == []


def test_collect_keeps_what_runs_and_says_who(aws: AwsDouble, retained: tuple[Path, int, list[str]]) -> None:
    config, port, digests = retained
    ecs = fill_ecs(aws, [(f"127.0.0.1:{port}/team/app:moved", digests[0])])
    ecs.definitions["arn:td/web:2"] = [f"127.0.0.1:{port}/team/app:v1", f"127.0.0.1:{port}/team/app:gone"]
    rows = {row["tags"]: row for row in run(config, "collect", "plan", "here")["rows"]}
    assert rows["v0"]["why"] == "in use: prod: cluster prod, service:web, container main"
    assert "may start: prod: cluster prod, service web" in rows["v1"]["why"]
    assert (rows["v0"]["action"], rows["v1"]["action"], rows["v2"]["action"]) == ("keep", "keep", "delete")


def test_nothing_is_deleted_while_a_source_does_not_answer(
    aws: AwsDouble, retained: tuple[Path, int, list[str]], tmp_path: Path
) -> None:
    config, port, digests = retained
    fill_ecs(aws, [])
    plan = tmp_path / "plan.json"
    assert run(config, "collect", "plan", "here", "--save", str(plan))["facts"]["delete"] == 3
    aws.deny("ecs:ListTasks")
    for arguments in (["plan", "here"], ["apply", "here", "--now"], ["apply", "here", str(plan)]):
        found = json.loads(invoke(config, "collect", *arguments, "--json", code=3).stdout)["result"]["results"][-1]
        assert any("who runs what is not known: prod: " in one for one in found["reasons"])
        assert not found["changed"]
    told = invoke(config, "delete", "here/team/app:v0", "--yes", code=7).stderr
    assert "who runs what is not known" in told
    aws.default.denied.clear()
    fill_ecs(aws, [(f"127.0.0.1:{port}/team/app:v0", digests[0])])
    applied = invoke(config, "collect", "apply", "here", str(plan), code=3).stdout
    assert "in use" in applied
    folder = LayoutRegistry(tmp_path / "content")
    assert sorted(folder.tags("team/app")) == ["v0"]


def test_usage_without_a_source_is_no_clean_answer(aws: AwsDouble, tmp_path: Path) -> None:
    assert "no source of `usage` is configured" in invoke(written(tmp_path, aws), "usage", code=8).stderr
