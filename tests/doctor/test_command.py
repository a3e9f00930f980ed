"""`doctor` over registries that run: a release, what is missing and where it is instead, whole configurations."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from registry_pipelines.cli import main
from registry_pipelines.doctor.refusals import cause_of
from registry_pipelines.errors import (
    Forbidden,
    ManifestOutdated,
    NotFound,
    QuotaSpent,
    RateLimited,
    RegistryPipelinesError,
    TlsFailed,
    Unauthorized,
    Unavailable,
)
from registry_pipelines.oci.media_types import IN_TOTO, SOCI_V2
from tests.answers import answered
from tests.chain.conftest import fleet
from tests.chain.entries import NOWHERE, entry, index
from tests.chain.fleet import Fleet
from tests.doctor.test_pods import listed, node, pod

__all__ = ["fleet"]


def diagnosed(fleet: Fleet, *arguments: str, code: int = 0) -> list[dict[str, Any]]:
    ran = CliRunner().invoke(main, ["doctor", *arguments, "--config", str(fleet.path), "--json"])
    assert ran.exit_code == code, ran.output
    found: list[dict[str, Any]] = answered(ran.stdout)["diagnoses"]
    return found


def causes(found: list[dict[str, Any]]) -> list[str]:
    return [each["cause"] for one in found for each in one["answers"]]


def test_an_image_that_is_well(fleet: Fleet) -> None:
    place = fleet.chain.place("app")
    index(place, entry(place, "one"), tag="v1.0.0")
    found = diagnosed(fleet, "app:v1.0.0")
    assert causes(found) == []
    assert [each["ok"] for each in found[0]["asked"]] == [True, True, True]
    assert found[0]["asked"][0]["asked"].startswith("HEAD v1.0.0")


def test_a_platform_that_is_not_there(fleet: Fleet, tmp_path: Path) -> None:
    place = fleet.chain.place("app")
    index(place, entry(place, "one"), tag="v1.0.0")
    (tmp_path / "node.json").write_text(json.dumps(node()))
    by_node = diagnosed(fleet, "app:v1.0.0", "--node", str(tmp_path / "node.json"), code=4)
    by_option = diagnosed(fleet, "app:v1.0.0", "--platform", "linux/s390x", code=4)
    assert causes(by_node) == causes(by_option) == ["platform-missing"]
    assert "linux/arm64" in by_node[0]["answers"][0]["what"]
    assert by_node[0]["answers"][0]["evidence"] == "it has linux/amd64"


def test_not_here_but_there(fleet: Fleet) -> None:
    place = fleet.chain.place("app")
    index(place, entry(place, "one"), tag="v1.0.0")
    target = fleet.chain.target_place("app", "eu")
    found = diagnosed(fleet, f"{target}:v1.0.0", code=4)
    assert causes(found)[:2] == ["other-region", "no-repository"]
    assert f"not at {target} but at {place}" in found[0]["answers"][0]["what"]
    assert found[0]["answers"][0]["command"] == f"registry-pipelines copy {place}:v1.0.0 {target}"


def test_a_layer_that_no_kubernetes_node_takes(fleet: Fleet) -> None:
    place = fleet.chain.place("app")
    odd = entry(place, "one", layer_type="application/x-unknown")
    index(place, odd, tag="v1.0.0")
    found = diagnosed(fleet, "app:v1.0.0", code=6)
    assert causes(found) == ["manifest-kind"]
    assert not found[0]["answers"][0]["sure"]


def test_what_holds_no_image(fleet: Fleet) -> None:
    place = fleet.chain.place("app")
    artifact = entry(place, "four", platform=NOWHERE, artifact_type=SOCI_V2, layer_type=IN_TOTO)
    index(place, artifact, tag="v1.0.0")
    found = diagnosed(fleet, "app:v1.0.0", code=6)
    assert causes(found) == ["manifest-kind"]
    assert "attestation" in found[0]["answers"][0]["evidence"]


def test_the_image_of_a_pod_is_looked_at_when_asked(fleet: Fleet, tmp_path: Path) -> None:
    place = fleet.chain.place("app")
    (tmp_path / "pod.json").write_bytes(
        listed(pod("no words", reason="ErrImagePull")).replace(
            b"111122223333.dkr.ecr.eu-west-1.amazonaws.com/ml/app:1", f"{place}:v9".encode()
        )
    )
    silent = diagnosed(fleet, "--pod", str(tmp_path / "pod.json"))
    looked = diagnosed(fleet, "--pod", str(tmp_path / "pod.json"), "--look")
    assert causes(silent) == ["unknown"]
    assert causes(looked)[0] == "unknown"
    assert "no-repository" in causes(looked) or "no-tag" in causes(looked)


def test_a_whole_configuration(fleet: Fleet, tmp_path: Path) -> None:
    found = diagnosed(fleet)
    assert causes(found) == []
    assert len(found) == len(fleet.config.registries)
    broken = tmp_path / "broken.yaml"
    broken.write_text(
        "registries:\n  gone: {kind: distribution, host: '127.0.0.1:1'}\n"
        "  nowhere: {kind: distribution, host: registry.invalid}\n"
    )
    ran = CliRunner().invoke(main, ["doctor", str(broken), "--json"])
    assert causes(answered(ran.stdout)["diagnoses"]) == ["refused-connection", "dns"]
    assert ran.exit_code == 7


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (NotFound("x", code="NAME_UNKNOWN"), "no-repository"),
        (NotFound("reading a manifest was answered with HTTP 404 (MANIFEST_UNKNOWN)"), "no-tag"),
        (Unauthorized("x, and no credentials for it are known here"), "no-credentials"),
        (Unauthorized("reading a manifest was answered with HTTP 401"), "wrong-password"),
        (Unauthorized("no Google credentials: default"), "no-identity"),
        (Forbidden("HTTP 403 (DENIED: User: arn:aws:sts::1:assumed-role/a/i is not authorized to perform: "
                   "ecr:BatchGetImage"),
         "permission"),
        (Forbidden("HTTP 403 (DENIED: Your authorization token has expired. Reauthenticate)"), "token-expired"),
        (Forbidden("HTTP 403 (DENIED: vpcServiceControlsUniqueIdentifier: x)"), "vpc-service-controls"),
        (Forbidden("HTTP 403"), "denied-or-missing"),
        (QuotaSpent("the registry's quota for reading manifests is used up", retry_after_s=60), "pull-limit"),
        (RateLimited("HTTP 429", retry_after_s=None), "registry-rate"),
        (TlsFailed("the registry's certificate is not trusted (x)"), "tls"),
        (TlsFailed("the registry does not speak TLS there"), "plain-http"),
        (ManifestOutdated("x"), "schema-1"),
        (Unavailable("the host name does not resolve"), "dns"),
        (Unavailable("HTTP 503", status=503), "registry-fails"),
        (Unavailable("no byte moved"), "timeout"),
    ],
)  # fmt: skip
def test_our_own_errors_are_causes(error: RegistryPipelinesError, cause: str) -> None:
    assert cause_of(error) == cause


def test_a_message_from_stdin_and_one_that_nobody_knows() -> None:
    known = CliRunner().invoke(main, ["doctor", "--message", "-", "--json"], input="x: pull QPS exceeded\n")
    odd = CliRunner().invoke(main, ["doctor", "--message", "it would not", "--json"])
    empty = CliRunner().invoke(main, ["doctor", "--message", " "])
    assert (known.exit_code, odd.exit_code, empty.exit_code) == (0, 1, 8)
    assert causes(answered(known.stdout)["diagnoses"]) == ["kubelet-limit"]


def test_one_thing_at_a_time() -> None:
    assert CliRunner().invoke(main, ["doctor", "a:1", "--message", "x"]).exit_code == 8


def test_advise_takes_a_release_as_doctor_does(fleet: Fleet) -> None:
    place = fleet.chain.place("app")
    index(place, entry(place, "one"), tag="v1.0.0")
    arguments = ["advise", "app:v1.0.0", "--nodes", "eu-west-1", "--config", str(fleet.path), "--json"]
    ran = CliRunner().invoke(main, arguments)
    assert ran.exit_code == 0 and answered(ran.stdout)["image_bytes"] > 0, ran.output


def test_a_file_that_is_not_there_is_no_registry(fleet: Fleet) -> None:
    ran = CliRunner().invoke(main, ["doctor", "all.json", "--config", str(fleet.path)])
    assert ran.exit_code == 8 and "all.json: there is no such file" in ran.stderr
