"""Backups of a fleet's registry to S3, restores and drills, by the command line."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import boto3
import pytest
from click.testing import CliRunner

from registry_pipelines.chain.moments import moments_place
from registry_pipelines.chain.session import Session
from registry_pipelines.cli import main
from registry_pipelines.config import load
from registry_pipelines.progress import Silent
from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.protocol import Place
from registry_pipelines.release import Release
from tests.chain.fleet import Fleet, push, start
from tests.doubles.docker_daemon import own_docker
from tests.doubles.docker_registry import DockerRegistry
from tests.doubles.s3 import BUCKET, REGION, s3_server


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    with s3_server() as address:
        yield address


@pytest.fixture
def prefix(request: pytest.FixtureRequest) -> str:
    return str(abs(hash(request.node.name)))


@pytest.fixture
def fleet(tmp_path: Path, s3: str, prefix: str) -> Iterator[Fleet]:
    """A fleet with a promoted release, one that is not signed, an image of nobody's, and a backup of `us` on S3."""
    with ExitStack() as stack:
        fleet = start(tmp_path, stack)
        vault = f"  vault: {{kind: store, address: 's3://{BUCKET}/{prefix}', region: {REGION}, endpoint: '{s3}'}}\n"
        fleet.path.write_text(
            fleet.path.read_text().replace("registries:\n", f"registries:\n{vault}")
            + "backups:\n  nightly: {registries: [us], to: vault}\n"
        )
        yield fleet


def run(fleet: Fleet, *words: str, code: int | None = 0) -> dict[str, Any]:
    ran = CliRunner().invoke(main, ["recover", *words, "--config", str(fleet.path), "--json"])
    assert code is None or ran.exit_code == code, (ran.output, ran.stderr)
    document = json.loads(ran.stdout)
    [result] = document["result"]["results"] if document["result"] else [document["error"]]
    return dict(result)


def released(fleet: Fleet) -> Release:
    release = fleet.release("v1.0.0")
    assert fleet.judged(release)
    fleet.chain.promote(release)
    return release


def files_of(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def keys(s3: str, prefix: str, below: str) -> list[str]:
    client = boto3.Session().client("s3", endpoint_url=s3, region_name=REGION)
    found = client.list_objects_v2(Bucket=BUCKET, Prefix=f"{prefix}/{below}").get("Contents", [])
    return [each["Key"] for each in found]


@pytest.mark.peer("docker-registry")
@pytest.mark.peer("skopeo")
@pytest.mark.peer("cosign")
@pytest.mark.peer("docker", "dockerd")
def test_a_registry_that_is_lost_comes_back_with_signatures(
    fleet: Fleet, tmp_path: Path, peer: Callable[[str], str]
) -> None:
    release = released(fleet)
    push(Place(DistributionRegistry(fleet.chain.place("app").registry.name), "others/thing"), "1.0")
    made = run(fleet, "backup")
    assert made["facts"]["whole"] and made["facts"]["repositories"] == 2 and made["bytes_moved"] > 0
    again = run(fleet, "backup", "nightly")
    assert again["facts"]["moment"] > made["facts"]["moment"] and again["action"].endswith("none of them new")
    listed = run(fleet, "list")
    assert [each["moment"] for each in listed["rows"]] == [again["facts"]["moment"], made["facts"]["moment"]]
    with DockerRegistry(peer("docker-registry"), tmp_path / "docker") as docker:
        text = fleet.path.read_text().replace(
            "registries:\n", f"registries:\n  new: {{kind: distribution, host: '{docker.address}'}}\n"
        )
        fleet.path.write_text(text)
        would = run(fleet, "restore", "--to", "new", "--dry-run")
        assert "would come back" in would["action"] and not would["changed"]
        back = run(fleet, "restore", "--to", "new")
        assert back["ok"] and back["facts"]["failed"] == 0
        assert not run(fleet, "restore", "--to", "new")["changed"]
        copied = subprocess.run(
            [peer("skopeo"), "copy", "--src-tls-verify=false", f"docker://{docker.address}/team/app:prod", "dir:out"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
        assert copied.returncode == 0, copied.stderr
        with own_docker(peer) as engine:
            assert release.digest in engine("pull", f"{docker.address}/team/app@{release.digest}")
        for tag in ("v1.0.0", "prod"):
            shown = subprocess.run(
                [peer("skopeo"), "inspect", "--tls-verify=false", f"docker://{docker.address}/team/app:{tag}"],
                capture_output=True,
                check=True,
            )
            assert json.loads(shown.stdout)["Digest"] == release.digest
        key = fleet.config.signing_key.with_suffix(".pub")
        verified = subprocess.run(
            [
                *(peer("cosign"), "verify", "--insecure-ignore-tlog", "--allow-http-registry"),
                *("--key", str(key), f"{docker.address}/team/app@{release.digest}"),
            ],
            capture_output=True,
            text=True,
        )
        assert verified.returncode == 0, verified.stderr


def test_a_moment_comes_back_though_tags_moved_on(fleet: Fleet) -> None:
    place = fleet.chain.place("app")
    first = push(place, "latest")
    run(fleet, "backup")
    moment = run(fleet, "list")["rows"][0]["moment"]
    second = push(place, "latest", package="otherwheel")
    run(fleet, "backup")
    refused = run(fleet, "restore", "--at", moment, code=8)
    assert "the place is not empty" in refused["what"], refused
    assert run(fleet, "restore", "--at", moment, "--prefix", "old")["ok"]
    assert place.registry.resolve("old/team/app", "latest").digest == first.digest
    assert place.registry.resolve("team/app", "latest").digest == second.digest
    assert run(fleet, "restore", "--at", moment, "--over", "--repository", "team/*")["changed"]
    assert place.registry.resolve("team/app", "latest").digest == first.digest


def test_a_drill_proves_it_and_changes_nothing(fleet: Fleet) -> None:
    released(fleet)
    fleet.release("v1.1.0", package="otherwheel")
    run(fleet, "backup")
    before = sorted(fleet.chain.place("app").registry.repositories())
    known = files_of(fleet.config.state / "transfer")
    done = run(fleet, "drill", "--no-start")
    facts = done["facts"]
    assert done["ok"] and facts["signatures"] == 1 and facts["rto_s"] > 0 and facts["rpo_s"] < 3600
    assert any("v1.1.0" in each and "not signed" in each for each in done["notes"])
    assert sorted(fleet.chain.place("app").registry.repositories()) == before
    assert not list((fleet.config.state / "recover" / "drills").iterdir())
    assert files_of(fleet.config.state / "transfer") == known, "a drill leaves no receipt of a place that is gone"
    assert json.loads((fleet.config.state / "recover" / "nightly-drill.json").read_text())["ok"]


def test_a_drill_finds_what_is_wrong(fleet: Fleet, s3: str, prefix: str) -> None:
    """A changed blob, a lost one, a lost signature, a lost manifest: one after the other; then all is well."""
    release = released(fleet)
    run(fleet, "backup")
    client = boto3.Session().client("s3", endpoint_url=s3, region_name=REGION)
    manifest = fleet.chain.place("app").registry.get_manifest("team/app", release.digest).content()
    layer = manifest.layers[0]  # type: ignore[union-attr]
    blob = f"{prefix}/blobs/sha256/{layer.digest.hex}"
    manifests = keys(s3, prefix, "repositories/us/team/app/_manifests/")
    damages: dict[str, list[str]] = {
        "changed": [blob],
        "lost": [blob],
        "signature": keys(s3, prefix, "repositories/us/team/app/_referrers/"),
        "tag": [each for each in manifests if release.digest.hex in each],
    }
    for damage, objects in damages.items():
        assert objects, damage
        before = {key: client.get_object(Bucket=BUCKET, Key=key)["Body"].read() for key in objects}
        for key in objects:
            if damage == "changed":
                client.put_object(Bucket=BUCKET, Key=key, Body=b"x" * layer.size)
            else:
                client.delete_object(Bucket=BUCKET, Key=key)
        found = run(fleet, "drill", "--no-start", code=3)
        assert not found["ok"] and found["reasons"], (damage, found)
        for key, content in before.items():
            client.put_object(Bucket=BUCKET, Key=key, Body=content)
    assert run(fleet, "drill", "--no-start")["ok"]


def test_a_moment_of_somebody_else_is_not_believed(fleet: Fleet, tmp_path: Path) -> None:
    released(fleet)
    run(fleet, "backup")
    for path in (fleet.config.state / "keys").rglob("*"):
        if path.is_file():
            path.unlink()
    told = run(fleet, "restore", "--prefix", "x", code=3)
    assert "nobody who is believed" in told["what"] or "signing" in told["what"], told


def test_a_repository_that_cannot_be_read_is_told_and_the_rest_is_kept(fleet: Fleet) -> None:
    released(fleet)
    place = fleet.chain.place("app")
    broken = push(Place(place.registry, "team/broken"), "v1")
    folder = fleet.config.state / "registries" / "us" / "team" / "broken"
    layer = place.registry.get_manifest("team/broken", broken.digest).content().layers[0]  # type: ignore[union-attr]
    (folder / "blobs" / "sha256" / layer.digest.hex).unlink()
    made = CliRunner().invoke(main, ["recover", "backup", "--config", str(fleet.path), "--json"])
    [result] = json.loads(made.stdout)["result"]["results"]
    assert made.exit_code and not result["facts"]["whole"] and "team/broken" in result["reasons"][0]
    assert run(fleet, "restore", "--prefix", "kept", "--repository", "team/app")["ok"]


def test_a_moment_of_the_future_does_not_pass_for_new(fleet: Fleet) -> None:
    released(fleet)
    made = run(fleet, "backup")
    place = moments_place(Session(load(fleet.path, {}), Silent()), load(fleet.path, {}).backups["nightly"])
    moment = place.registry.get_manifest(place.repository, made["facts"]["moment"])
    place.registry.put_manifest(place.repository, moment, tag="20991231T235959Z")
    listed = run(fleet, "list", code=3)
    assert "a clock was or is wrong" in listed["reasons"][0]
    assert run(fleet, "backup")["facts"]["moment"] == "21000101T000000Z"


def test_a_moment_that_lacks_something_is_no_recovery_point(fleet: Fleet) -> None:
    """A backup that fails every night must not pass for one that is a night old."""
    place = fleet.chain.place("app")
    content = place.registry.get_manifest(place.repository, push(place, "v1").digest).content()
    layer = content.layers[0].digest  # type: ignore[union-attr]
    [blob] = [each for each in fleet.path.parent.rglob(layer.hex) if each.is_file()]
    blob.rename(blob.with_name("away"))
    assert not run(fleet, "backup", code=None)["ok"]
    listed = run(fleet, "list", code=3)
    assert listed["reasons"][0].startswith("no moment is whole") and "is not whole: " in listed["notes"][0]
    assert any("no other one is" in each for each in run(fleet, "drill", "--no-start", code=3)["reasons"])
    blob.with_name("away").rename(blob)
    assert run(fleet, "backup")["ok"] and run(fleet, "drill", "--no-start")["ok"]
    assert run(fleet, "list")["action"].startswith("the newest moment is ")


def test_each_pattern_of_a_restore_must_match(fleet: Fleet) -> None:
    """Who types one of two wrongly would take the restore for done."""
    push(fleet.chain.place("app"), "v1")
    run(fleet, "backup")
    words = ("restore", "--prefix", "x", "--repository", "team/*")
    assert run(fleet, *words)["ok"]
    assert "no such repository: taem/tool" in run(fleet, *words, "--repository", "taem/tool", code=8)["what"]
