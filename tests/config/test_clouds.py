"""Registries of the clouds in a configuration: names, and how their APIs are asked."""

from __future__ import annotations

from pathlib import Path

import pytest

from registry_pipelines.config import EcrRegistry, GarRegistry, load
from registry_pipelines.errors import ConfigInvalid
from registry_pipelines.registry.ecr.hosts import EcrHost, read_host

CLOUDS = """
registries:
  ecr-eu: {kind: ecr, account: "111122223333", region: eu-west-1, role: "arn:aws:iam::111122223333:role/ci",
    external_id: x}
  gar-eu: {kind: gar, project: ml-prod, location: europe-west1, impersonate: ci@ml-prod.iam.gserviceaccount.com}
"""


def loaded(folder: Path, text: str) -> dict[str, object]:
    path = folder / "registry-pipelines.yaml"
    path.write_text(text)
    return dict(load(path).registries)


def test_hosts_and_access(tmp_path: Path) -> None:
    found = loaded(tmp_path, CLOUDS)
    ecr, gar = found["ecr-eu"], found["gar-eu"]
    assert isinstance(ecr, EcrRegistry) and isinstance(gar, GarRegistry)
    assert ecr.host == "111122223333.dkr.ecr.eu-west-1.amazonaws.com"
    assert gar.host == "europe-west1-docker.pkg.dev"
    assert (ecr.access().role, ecr.access().external_id) == ("arn:aws:iam::111122223333:role/ci", "x")
    assert (gar.access().project, gar.access().impersonate) == ("ml-prod", "ci@ml-prod.iam.gserviceaccount.com")


@pytest.mark.parametrize("region", ["eu-west-1", "cn-north-1", "us-gov-west-1", "eusc-de-east-1"])
@pytest.mark.parametrize("fips", [False, True])
@pytest.mark.parametrize("dualstack", [False, True])
def test_a_host_reads_back(region: str, fips: bool, dualstack: bool) -> None:
    host = EcrHost("111122223333", region, fips=fips, dualstack=dualstack)
    assert read_host(host.name) == host


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{kind: ecr, account: '12', region: eu-west-1}", "is not an AWS account"),
        ("{kind: ecr, account: '111122223333', region: europe}", "is not an AWS region"),
        ("{kind: ecr, account: '111122223333', region: eu-west-1, role: ci}", "is not the ARN of a role"),
        ("{kind: gar, project: X, location: europe-west1}", "is not a Google Cloud project"),
        ("{kind: gar, project: ml-prod, location: eu}", "is not a location of Artifact Registry"),
        ("{kind: gar, project: ml-prod, location: eu, gcr_host: grc.io}", "is not a host of Container Registry"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, line: str, said: str) -> None:
    with pytest.raises(ConfigInvalid, match=said):
        loaded(tmp_path, f"registries: {{r: {line}}}\n")


def test_tokens_go_to_no_address_without_tls(tmp_path: Path) -> None:
    """Google's are sent as they are, and AWS answers with passwords of registries and with credentials of roles."""
    path = tmp_path / "registry-pipelines.yaml"
    text = """
registries:
  e: {kind: ecr, account: "111122223333", region: eu-west-1, endpoint: "URL"}
  g: {kind: gar, project: ml-prod, location: europe-west1, endpoint: "URL"}
usage:
  u: {kind: cloud-run, project: ml-prod, locations: [europe-west1], endpoint: "URL"}
"""
    for url, wrong in (
        ("http://api.corp:80", 3),
        ("http://[::::]:80", 3),
        ("https://api.corp", 0),
        ("http://[::1]:1", 0),
    ):
        path.write_text(text.replace("URL", url))
        if not wrong:
            assert load(path).usage
            continue
        with pytest.raises(ConfigInvalid) as caught:
            load(path)
        assert str(caught.value).count("endpoint: ") == wrong
