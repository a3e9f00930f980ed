"""Pages of releases kept outside Dagster: in a folder, in S3, in Google's Cloud Storage."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import msgspec
import pytest
import yaml

from dagster_project.keeping import keep_report
from registry_pipelines.chain.result import StageResult
from registry_pipelines.config import load
from registry_pipelines.errors import ConfigInvalid, Forbidden, NotFound
from registry_pipelines.release import Release
from tests.dagster_project.conftest import World
from tests.needs import needed_module

RELEASE = Release.parse(f"app:v1@sha256:{'ab' * 32}")
NAME = "reports/app/v1-abababababab.json"
PAGE = StageResult(stage="page", subject=RELEASE.key, action="prod names it", facts={"findings": 0})


def test_a_page_is_kept_where_the_configuration_says(world: World, tmp_path: Path) -> None:
    place = (tmp_path / "kept").as_uri()
    world.use(msgspec.structs.replace(world.config, reports=place))
    key = world.known("app", "v1", {"good": "1.0"})
    result = world.run(key)
    [told] = result.asset_materializations_for_node("release_page")
    kept = Path(unquote(urlsplit(str(told.metadata["kept_at"].value)).path))
    document = json.loads(kept.read_text())
    assert kept.is_relative_to(tmp_path / "kept" / "app") and document["action"] == told.metadata["state"].value
    assert document["release"].startswith("app:v1@sha256:") and document["ok"] is True


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Any:
    needed_module("moto", "dev")
    boto3 = needed_module("boto3", "aws")
    needed_module("dagster_aws", "dagster-clouds")
    from tests.doubles.aws.behind import moto_address

    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    host, port = moto_address()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "any")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    client = boto3.session.Session().client("s3")
    client.create_bucket(Bucket="reports-of-ours")
    return client


def test_a_page_in_s3(aws: Any) -> None:
    where = keep_report("s3://reports-of-ours/reports", RELEASE, PAGE)
    assert where == f"s3://reports-of-ours/{NAME}"
    kept = aws.get_object(Bucket="reports-of-ours", Key=NAME)
    assert json.loads(kept["Body"].read())["action"] == PAGE.action and kept["ContentType"] == "application/json"
    with pytest.raises(NotFound, match="NoSuchBucket"):
        keep_report("s3://no-such-bucket", RELEASE, PAGE)


@pytest.fixture
def google(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    needed_module("google.cloud.storage", "dagster-clouds")
    needed_module("dagster_gcp", "dagster-clouds")
    from tests.doubles.google import GoogleCloud

    with GoogleCloud(tmp_path / "google") as cloud:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", cloud.endpoint)
        yield cloud


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_a_page_in_cloud_storage(google: Any) -> None:
    kept = google.bucket("reports-of-ours")
    where = keep_report("gs://reports-of-ours/reports", RELEASE, PAGE)
    assert where == f"gs://reports-of-ours/{NAME}"
    kind, content = kept[NAME]
    assert json.loads(content)["release"] == RELEASE.key and kind == "application/json"
    with pytest.raises(NotFound, match="bucket does not exist"):
        keep_report("gs://none-of-ours", RELEASE, PAGE)
    google.world.deny("storage.objects.create")
    with pytest.raises(Forbidden, match=r"storage\.objects\.create"):
        keep_report("gs://reports-of-ours", RELEASE, PAGE)


@pytest.mark.parametrize("url", ["https://bucket", "s3://", "gs://A/x", "s3://bucket?x=1", "reports"])
def test_what_is_no_place_for_reports(settings: Path, url: str) -> None:
    settings.write_text(settings.read_text() + f"\nreports: {url!r}\n")
    with pytest.raises(ConfigInvalid, match="not a place for reports"):
        load(settings)


@pytest.mark.parametrize("library", ["dagster_aws", "dagster_gcp", "google.cloud.artifactregistry_v1"])
def test_the_clouds_own_libraries_are_used(library: str) -> None:
    ours = [*Path("dagster_project").rglob("*.py"), *Path("registry_pipelines").rglob("*.py")]
    assert any(f"from {library}" in path.read_text() for path in ours), f"nothing uses {library}: remove its extra"


def test_dagster_takes_the_logs_of_docs(settings: Path) -> None:
    """A block of compute logs in the documentation is one that Dagster can make, with settings that it knows."""
    blocks = [
        yaml.safe_load(block)["compute_logs"]
        for block in re.findall(r"```yaml\n(compute_logs:.*?)```", Path("docs/dagster.md").read_text(), re.DOTALL)
    ]
    assert blocks
    for block in blocks:
        kind = getattr(needed_module(block["module"], "dagster-clouds"), block["class"])
        assert set(block["config"]) <= set(kind.config_type())
