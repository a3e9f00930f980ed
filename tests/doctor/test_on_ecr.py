"""What only ECR's own API tells: archived, in another region, refused to whom; and networks with half a private way."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from registry_pipelines.chain.places import Places
from registry_pipelines.cli import main
from registry_pipelines.config import Config, load
from registry_pipelines.registry.protocol import Place
from tests.answers import answered
from tests.chain.conftest import fleet
from tests.chain.entries import entry, index
from tests.chain.fleet import Fleet
from tests.doctor.test_pods import node
from tests.doubles.aws.ecr import REGION, EcrDouble
from tests.doubles.aws.front import ACCOUNT
from tests.doubles.aws.instances import Instances, NodeRole, Roles
from tests.needs import needed_module

__all__ = ["fleet"]
AWAY = "us-east-1"
HOST = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com"


class Clouds:
    """Two regions of one account, with a configuration that names both, or the first alone."""

    def __init__(self, aws: EcrDouble, folder: Path, away: str) -> None:
        self.aws, self.path = aws, folder / "clouds.yaml"
        common = f'kind: ecr, account: "{ACCOUNT}", endpoint: "{aws.url}"'
        self.path.write_text(
            "registries:\n"
            f'  eu: {{{common}, region: {REGION}, reachable_as: "{aws.proxy_address}"}}\n'
            f'  us: {{{common}, region: {AWAY}, reachable_as: "{away}"}}\n'
        )

    @property
    def config(self) -> Config:
        return load(self.path, {})

    def place(self, registry: str, repository: str) -> Place:
        return Place(Places(self.config).registry(registry), repository)

    def doctor(self, *arguments: str, code: int = 0) -> list[dict[str, Any]]:
        ran = CliRunner().invoke(main, ["doctor", *arguments, "--config", str(self.path), "--json"])
        assert ran.exit_code == code, ran.output
        found: list[dict[str, Any]] = answered(ran.stdout)["diagnoses"]
        return found


@pytest.fixture
def clouds(fleet: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Clouds]:
    needed_module("boto3", "aws")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
    from tests.doubles.aws.model import SECRET_KEY

    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    places = Places(fleet.config)
    aws = EcrDouble(places.registry("us").name)
    away = aws.add(ACCOUNT, AWAY, places.registry("eu").name)
    with aws:
        yield Clouds(aws, tmp_path, away)


def causes(found: list[dict[str, Any]]) -> list[str]:
    return [each["cause"] for one in found for each in one["answers"]]


def test_an_image_of_ecr_that_is_well(clouds: Clouds) -> None:
    place = clouds.place("eu", "ml/app")
    index(place, entry(place, "one"), tag="v1")
    assert causes(clouds.doctor(f"{HOST}/ml/app:v1")) == []


def test_archived_is_not_gone(clouds: Clouds) -> None:
    place = clouds.place("eu", "ml/app")
    made = index(place, entry(place, "one"), tag="v1")
    calls = clouds.config.registries["eu"].access().client("ecr")  # type: ignore[union-attr]
    calls.update_image_storage_class(
        registryId=ACCOUNT, repositoryName="ml/app", imageId={"imageDigest": made.digest}, targetStorageClass="ARCHIVE"
    )
    found = clouds.doctor("eu/ml/app:v1", code=4)
    assert causes(found)[0] == "archived"
    assert "update-image-storage-class" in found[0]["answers"][0]["command"]
    assert made.digest in found[0]["answers"][0]["evidence"]
    calls.update_image_storage_class(
        registryId=ACCOUNT, repositoryName="ml/app", imageId={"imageDigest": made.digest}, targetStorageClass="STANDARD"
    )
    again = clouds.doctor("eu/ml/app:v1", code=4)
    assert "being restored" in again[0]["answers"][0]["what"]


def test_not_in_this_region_but_in_that_one(clouds: Clouds) -> None:
    place = clouds.place("us", "ml/app")
    made = index(place, entry(place, "one"), tag="v1")
    found = clouds.doctor(f"{HOST}/ml/app:v1", code=4)
    answer = found[0]["answers"][0]
    assert answer["cause"] == "other-region"
    assert answer["what"] == f"v1 of ml/app is not in {REGION} but in {AWAY}"
    assert made.digest in answer["evidence"]
    assert answer["command"].startswith(f"registry-pipelines copy {ACCOUNT}.dkr.ecr.{AWAY}.amazonaws.com/ml/app:v1 ")


def test_other_regions_are_looked_at_when_told(clouds: Clouds) -> None:
    place = clouds.place("us", "ml/app")
    index(place, entry(place, "one"), tag="v1")
    text = clouds.path.read_text().splitlines()
    clouds.path.write_text("\n".join(line for line in text if not line.startswith("  us")) + "\n")
    assert causes(clouds.doctor("eu/ml/app:v1", code=4)) == ["no-repository"]
    assert causes(clouds.doctor("eu/ml/app:v1", "--region", AWAY, code=4))[0] == "other-region"


def test_the_missing_action_is_named(clouds: Clouds) -> None:
    clouds.aws.default.denied.add("ecr:GetAuthorizationToken")
    found = clouds.doctor(f"{HOST}/ml/app:v1", code=5)
    (answer,) = found[0]["answers"]
    assert answer["cause"] == "permission"
    assert "ecr:GetAuthorizationToken" in answer["what"]


def test_half_a_private_way_is_no_way(clouds: Clouds) -> None:
    ec2 = clouds.config.registries["eu"].access().client("ec2")  # type: ignore[union-attr]
    for name in ("ecr.api", "ecr.dkr"):
        ec2.create_vpc_endpoint(
            VpcId="vpc-1", ServiceName=f"com.amazonaws.{REGION}.{name}", VpcEndpointType="Interface", SubnetIds=["s-1"]
        )
    ec2.create_vpc_endpoint(VpcId="vpc-2", ServiceName=f"com.amazonaws.{REGION}.s3", RouteTableIds=["r-1"])
    text = clouds.path.read_text().replace(clouds.aws.proxy_address, "127.0.0.1:1")
    clouds.path.write_text(text)
    found = clouds.doctor("eu/ml/app:v1", code=7)
    assert causes(found) == ["layer-store-timeout", "refused-connection"]
    first = found[0]["answers"][0]
    assert "network vpc-1" in first["what"]
    assert "lacks s3, so manifests come and layers do not" in first["what"]
    assert f"com.amazonaws.{REGION}.s3 --vpc-endpoint-type Gateway" in first["command"]
    assert json.dumps(found).count("vpc-2") == 0


@pytest.mark.parametrize(
    ("role", "causes_of", "words"),
    [
        (None, ["no-identity"], ("no instance profile",)),
        (NodeRole(), ["permission"], ("lacks", "ecr:GetAuthorizationToken", "attach-role-policy --role-name eks-node")),
        (
            NodeRole([("ecr:*", "*")], [("ecr:GetDownloadUrlForLayer", "*:repository/ml/*")]),
            ["permission"],
            ("is denied ecr:GetDownloadUrlForLayer", "explicitDeny"),
        ),
        (NodeRole([("ecr:*", "*")]), [], ()),
    ],
)
def test_the_nodes_role_is_asked_about_and_not_ours(
    clouds: Clouds, tmp_path: Path, role: NodeRole | None, causes_of: list[str], words: tuple[str, ...]
) -> None:
    place = clouds.place("eu", "ml/app")
    index(place, entry(place, "one"), tag="v1")
    clouds.aws.area(Instances).instances["i-0123456789abcdef0"] = "eks-node" if role else ""
    if role:
        clouds.aws.area(Roles).roles["eks-node"] = role
    (tmp_path / "node.json").write_text(json.dumps(node()))
    arguments = (f"{HOST}/ml/app:v1", "--platform", "linux/amd64", "--node", str(tmp_path / "node.json"))
    found = clouds.doctor(*arguments, code=5 if causes_of else 0)
    assert causes(found) == causes_of
    told = json.dumps(found[0]["answers"])
    assert [each for each in words if each not in told] == []


def not_asked(found: list[dict[str, Any]]) -> list[str]:
    return [each["do"] for one in found for each in one["answers"] if each["cause"] == "not-asked"]


def test_what_may_not_be_asked_is_said_with_the_right_it_takes(clouds: Clouds) -> None:
    clouds.aws.default.denied.update({"ecr:DescribeImages", "ecr:DescribeRegistry"})
    found = clouds.doctor("eu/ml/app:v1", code=4)
    assert causes(found) == ["no-repository", "not-asked", "not-asked", "not-asked"]
    rights = ("ecr:DescribeImages", "ecr:DescribeRegistry", f"ecr:DescribeImages in {AWAY}")
    assert not_asked(found) == [f"Who runs this needs {each}" for each in rights]


def test_private_ways_that_may_not_be_asked_about_are_not_whole(clouds: Clouds) -> None:
    clouds.aws.default.denied.add("ec2:DescribeVpcEndpoints")
    clouds.path.write_text(clouds.path.read_text().replace(clouds.aws.proxy_address, "127.0.0.1:1"))
    found = clouds.doctor("eu/ml/app:v1", code=7)
    assert causes(found) == ["refused-connection", "not-asked"]
    assert not_asked(found) == ["Who runs this needs ec2:DescribeVpcEndpoints"]


def test_a_nodes_role_that_may_not_be_asked_about_is_no_clean_bill(clouds: Clouds, tmp_path: Path) -> None:
    place = clouds.place("eu", "ml/app")
    index(place, entry(place, "one"), tag="v1")
    clouds.aws.default.denied.add("ec2:DescribeInstances")
    (tmp_path / "node.json").write_text(json.dumps(node()))
    found = clouds.doctor(f"{HOST}/ml/app:v1", "--platform", "linux/amd64", "--node", str(tmp_path / "node.json"))
    assert causes(found) == ["not-asked"]
    (told,) = not_asked(found)
    assert "ec2:DescribeInstances" in told
    assert "iam:SimulatePrincipalPolicy" in told
