"""Images in an object store: they go there with all that belongs to them, and come back to any registry."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from registry_pipelines.cli import main
from registry_pipelines.config import Config, load
from registry_pipelines.errors import InputError
from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.protocol import Place
from registry_pipelines.registry.stored import StoredRegistry
from registry_pipelines.stores.store import open_store
from registry_pipelines.transfer.blob.memory import PART_BYTES
from tests.chain.fleet import Fleet
from tests.chain.killing import LAYER_BYTES, push_large
from tests.doubles.docker_registry import DockerRegistry
from tests.doubles.fault_registry import FaultRegistry
from tests.doubles.faults import HoldContent
from tests.doubles.s3 import BUCKET, REGION, s3_server
from tests.patience import patient


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    with s3_server() as address:
        yield address


def with_store(fleet: Fleet, s3: str, prefix: str, *, more: str = "") -> Config:
    """The fleet's configuration with `vault`, which is a prefix of the bucket."""
    vault = f"  vault: {{kind: store, address: 's3://{BUCKET}/{prefix}', region: {REGION}, endpoint: '{s3}'}}\n"
    text = fleet.path.read_text().replace("registries:\n", f"registries:\n{vault}{more}")
    fleet.path.write_text(text)
    return load(fleet.path, {})


def run(fleet: Fleet, *words: str) -> dict[str, Any]:
    ran = CliRunner().invoke(main, [*words, "--config", str(fleet.path), "--json"])
    assert ran.exit_code == 0, ran.output
    result: dict[str, Any] = json.loads(ran.stdout)["result"]
    return result


@pytest.mark.peer("docker-registry")
@pytest.mark.peer("skopeo")
def test_a_release_goes_to_s3_with_its_evidence_and_comes_back(
    fleet: Fleet, s3: str, tmp_path: Path, peer: Callable[[str], str]
) -> None:
    release = fleet.release("v1.0.0")
    assert fleet.judged(release)
    with DockerRegistry(peer("docker-registry"), tmp_path / "docker") as docker:
        with_store(fleet, s3, "fleet", more=f"  docker: {{kind: distribution, host: '{docker.address}'}}\n")
        there = run(fleet, "copy", "us/team/app:v1.0.0", "vault/kept/app:v1.0.0")
        again = run(fleet, "copy", "us/team/app:v1.0.0", "vault/kept/app:v1.0.0")
        [copied], [kept] = there["targets"], again["targets"]
        assert copied["state"] == "copied" and not again["changed"] and kept["bytes"] == 0
        assert run(fleet, "verify", "vault/kept/app:v1.0.0")["digest"] == release.digest
        run(fleet, "copy", "vault/kept/app:v1.0.0", "docker/back/app:v1.0.0")
        named = f"docker://{docker.address}/back/app:v1.0.0"
        shown = subprocess.run(
            [peer("skopeo"), "inspect", "--tls-verify=false", named], capture_output=True, text=True, check=True
        )
        assert json.loads(shown.stdout)["Digest"] == release.digest
        first, back = fleet.chain.place("app"), Place(DistributionRegistry(docker.address), "back/app")
        told = [
            {each.digest for each in place.registry.referrers(place.repository, release.digest)}
            for place in (first, back)
        ]
        assert told[0] == told[1] and len(told[0]) >= 4


def test_a_copy_that_was_killed_goes_on(fleet: Fleet, s3: str) -> None:
    source = Place(DistributionRegistry(fleet.config.registries["us"].client_address), "big/app")  # type: ignore[union-attr]
    push_large(source)
    release = threading.Event()
    with FaultRegistry(source.registry.name) as slow:
        slow.play("GET", r"/v2/big/app/blobs/.*", HoldContent(release, LAYER_BYTES // 2))
        with_store(fleet, s3, "killed", more=f"  near: {{kind: distribution, host: '{slow.address}'}}\n")
        words = ["copy", "near/big/app:v1", "vault/big/app:v1"]
        command = [str(Path(sys.executable).with_name("registry-pipelines")), *words, "--config", str(fleet.path)]
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        until = time.monotonic() + patient(60)
        while slow.bytes_down < PART_BYTES:  # of the layer, which cannot be there as a whole
            assert process.poll() is None and time.monotonic() < until
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        process.wait(patient(30))
        release.set()
        vault = StoredRegistry(open_store(f"s3://{BUCKET}/killed", region=REGION, endpoint=s3))
        assert list(vault.repositories()) == []
        run(fleet, *words)
        assert vault.resolve("big/app", "v1") == source.registry.resolve("big/app", "v1")


def test_a_store_is_reached_before_it_is_used(fleet: Fleet, s3: str) -> None:
    with_store(
        fleet,
        s3,
        "fleet",
        more=f"  lost: {{kind: store, address: 's3://nowhere/x', region: {REGION}, endpoint: '{s3}'}}\n",
    )
    ran = CliRunner().invoke(main, ["config", "check", "--online", "--config", str(fleet.path), "--json"])
    rows = {each["registry"]: each for each in json.loads(ran.stdout)["result"]["reached"]}
    assert rows["vault"]["ok"] and rows["vault"]["where"] == f"s3://{BUCKET}/fleet"
    assert not rows["lost"]["ok"] and ran.exit_code


def test_nobody_logs_in_at_a_store(fleet: Fleet, s3: str) -> None:
    with_store(fleet, s3, "fleet")
    ran = CliRunner().invoke(main, ["login", "vault", "--config", str(fleet.path)])
    assert ran.exit_code == InputError.exit_code and "nobody logs in there" in ran.output
