"""What runs print, kept in S3 as the settings that we ship tell it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from dagster import DagsterInstance

from dagster_project.resources import INSTANCE_SETTINGS
from tests.doubles.aws.front import AwsDouble
from tests.needs import needed_module


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[AwsDouble, Any]]:
    boto3 = needed_module("boto3", "aws")
    needed_module("dagster_aws", "dagster-clouds")
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    with AwsDouble() as aws:
        for name, value in aws.environment.items():
            monkeypatch.setenv(name, value)
        client = boto3.Session().client("s3", region_name="us-east-1")
        client.create_bucket(Bucket="our-logs")
        yield aws, client


def settings(endpoint: str) -> dict[str, Any]:
    """The commented block of the settings that we ship, as an operator uses it."""
    text = INSTANCE_SETTINGS.read_text()
    block = text[text.index("# compute_logs:") :]
    told = yaml.safe_load(re.sub(r"(?m)^# ?", "", block).replace("BUCKET", "our-logs").replace("REGION", "us-east-1"))
    told["compute_logs"]["config"]["endpoint_url"] = endpoint
    return dict(told)


def test_what_a_run_prints_is_in_the_bucket(bucket: tuple[AwsDouble, Any], tmp_path: Path) -> None:
    aws, client = bucket
    (tmp_path / "dagster.yaml").write_text(yaml.safe_dump({**settings(aws.url), "telemetry": {"enabled": False}}))

    @dg.op
    def say() -> None:
        print("something worth keeping")

    @dg.job
    def speak() -> None:
        say()

    with DagsterInstance.from_config(str(tmp_path)) as instance:
        result = speak.execute_in_process(instance=instance)
    kept = client.list_objects_v2(Bucket="our-logs", Prefix="registry-pipelines/")["Contents"]
    [printed] = [one["Key"] for one in kept if one["Key"].endswith(".out") and result.run_id in one["Key"]]
    assert b"something worth keeping" in client.get_object(Bucket="our-logs", Key=printed)["Body"].read()
