"""From one cloud to the other: OAuth on one side, an ECR token on the other; whole, and killed in the middle."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from registry_pipelines.cli import main
from registry_pipelines.errors import TagImmutable
from registry_pipelines.evidence.tagged import cosign_tag
from registry_pipelines.oci import media_types
from registry_pipelines.oci.manifests import Descriptor, Manifest, manifest_bytes
from registry_pipelines.registry.blobs import push_blob
from registry_pipelines.registry.ecr.registry import EcrRegistry
from registry_pipelines.registry.gar.registry import GarRegistry
from registry_pipelines.registry.protocol import Place
from registry_pipelines.release import Release
from registry_pipelines.transfer.blob.memory import PART_BYTES
from registry_pipelines.transfer.verify import compare
from tests.chain.fleet import Fleet, check_receipt
from tests.doubles.aws.ecr import ACCOUNT, REGION, EcrDouble
from tests.doubles.link import Link
from tests.needs import needed_module

APP = "ml-prod/models/app"
LAYER_BYTES = 3 * PART_BYTES
BUFFER_BYTES = 256 * 1024
"""Of the link's sockets: what a killed sender's kernel still had goes on behind a link that is mended, and must not be
all that was left of the upload."""
COMMAND = [sys.executable, "-c", "from registry_pipelines.cli import main; main()"]


@dataclass
class Clouds:
    """The fleet's ``us`` is Artifact Registry, its ``eu`` is ECR; ``link`` and ``ecr_link`` lead to them."""

    fleet: Fleet
    google: Any
    plane: Any
    ecr: EcrDouble
    link: Link
    ecr_link: Link

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [*COMMAND, *arguments, "--quiet", "--config", str(self.fleet.path)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, "XDG_STATE_HOME": str(self.fleet.folder)},
        )

    def end(self, *arguments: str) -> None:
        """Once more, and nobody kills it."""
        result = CliRunner().invoke(main, [*arguments, "--quiet", "--config", str(self.fleet.path)])
        assert result.exit_code == 0, result.output


@pytest.fixture
def clouds(fleet: Fleet, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Clouds]:
    needed_module("google.cloud.artifactregistry_v1", "google")
    from tests.doubles.google import GoogleCloud
    from tests.doubles.google.accounts import service_account_file

    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    port = fleet.config.registries["eu"].port  # type: ignore[union-attr]
    with ExitStack() as stack:
        google = stack.enter_context(GoogleCloud(tmp_path / "google"))
        google.repository("ml-prod", "europe-west1", "models")
        plane = google.registry("europe-west1")
        link = stack.enter_context(Link(plane.address, buffer_bytes=BUFFER_BYTES))
        ecr = stack.enter_context(EcrDouble(f"127.0.0.1:{port}"))
        ecr_link = stack.enter_context(Link(ecr.proxy_address))
        for name, value in ecr.environment.items():
            monkeypatch.setenv(name, value)
        key = service_account_file(google.world, tmp_path / "key.json", google.endpoint)
        gar = (
            f"kind: gar, project: ml-prod, location: europe-west1, credentials: {key}, endpoint: '{google.endpoint}', "
            f"reachable_as: '{link.address}'"
        )
        aws = f"kind: ecr, account: '{ACCOUNT}', region: {REGION}, endpoint: '{ecr.url}'"
        lines = {"us": gar, "eu": f"{aws}, reachable_as: '{ecr_link.address}'"}
        text = fleet.path.read_text().replace("repository: team/", "repository: ml-prod/models/")
        for name, entry in lines.items():
            line = next(line for line in text.splitlines() if line.startswith(f"  {name}: {{kind: embedded"))
            text = text.replace(line, f"  {name}: {{{entry}}}")
        fleet.path.write_text(text.replace("eu: {registry: eu}", "eu: {registry: eu, prefix: from-google}"))
        fleet.chain = fleet.reload()
        yield Clouds(fleet, google, plane, ecr, link, ecr_link)


def push_large(place: Place, tag: str) -> Descriptor:
    """An image with a layer of LAYER_BYTES."""
    config = {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": []}}
    made = manifest_bytes(
        Manifest(
            schema_version=2,
            media_type=media_types.OCI_MANIFEST,
            config=push_blob(place, json.dumps(config).encode(), media_type=media_types.OCI_CONFIG),
            layers=(push_blob(place, random.Random(7).randbytes(LAYER_BYTES), media_type=media_types.OCI_LAYER_GZIP),),
        )
    )
    place.registry.put_manifest(place.repository, made, tag=tag)
    return made.descriptor


def test_a_release_goes_from_artifact_registry_to_ecr_with_all_its_evidence(clouds: Clouds) -> None:
    chain = clouds.fleet.chain
    assert isinstance(chain.registry("us")._registry, GarRegistry)  # type: ignore[attr-defined]
    assert isinstance(chain.registry("eu")._registry, EcrRegistry)  # type: ignore[attr-defined]
    release = clouds.fleet.release("v1.0.0")
    assert clouds.fleet.judged(release)
    assert chain.promote(release).changed
    assert chain.replicate(release, "eu").ok
    assert chain.compare_replica(release, "eu").differences == ()
    here, there = chain.place("app"), Place(chain.registry("eu"), f"from-google/{APP}")
    assert compare(here, there, "v1.0.0", content=True) == []
    kinds = {each.artifact_type for each in here.registry.referrers(APP, release.digest)}
    assert kinds and kinds <= {
        each.artifact_type for each in there.registry.referrers(there.repository, release.digest)
    }
    images = clouds.ecr.here.repositories[there.repository]
    assert images.tags["v1.0.0"] == images.tags["prod"] == release.digest
    check_receipt(chain, there, "v1.0.0")
    assert not chain.replicate(release, "eu").changed


def kill_when_broken(clouds: Clouds, link: Link, *arguments: str) -> None:
    """Start a copy that cannot end, because a link breaks; SIGKILL when it has."""
    process = clouds.start(*arguments)
    link.wait_until_broken(lambda: process.poll() is not None)
    process.send_signal(signal.SIGKILL)
    said = process.communicate()[0]
    assert process.returncode == -signal.SIGKILL, said.decode()


def test_killed_on_the_way_to_ecr_the_rest_is_sent(clouds: Clouds) -> None:
    here = clouds.fleet.chain.place("app")
    push_large(here, "v1")
    arguments = ("copy", f"us/{APP}:v1", "eu/copied/app")
    clouds.link.break_at("down", clouds.link.down + LAYER_BYTES - PART_BYTES // 2, "silent")
    kill_when_broken(clouds, clouds.link, *arguments)
    clouds.link.mend()
    clouds.end(*arguments)
    there = Place(clouds.fleet.chain.registry("eu"), "copied/app")
    assert compare(here, there, "v1", content=True) == []
    assert clouds.ecr.part_bytes_in <= LAYER_BYTES + PART_BYTES, "more than a part was sent again"


@pytest.mark.parametrize("moment", ["read", "sent"])
def test_killed_on_the_way_to_artifact_registry_at_most_one_upload_is_sent_again(clouds: Clouds, moment: str) -> None:
    """While the layer is read into the spool, or sent from there, in one request."""
    from_ecr = Place(clouds.fleet.chain.registry("eu"), "source/app")
    push_large(from_ecr, "v1")
    arguments = ("copy", "eu/source/app:v1", f"us/{APP}")
    spool = clouds.fleet.chain.config.state / "transfer" / "spool"
    link, way = (clouds.link, "up") if moment == "sent" else (clouds.ecr_link, "down")
    before = link.passed[way]  # type: ignore[index]
    link.break_at(way, before + LAYER_BYTES - PART_BYTES, "silent")  # type: ignore[arg-type]
    kill_when_broken(clouds, link, *arguments)
    [kept] = spool.glob("*/*")
    assert kept.stat().st_size == LAYER_BYTES if moment == "sent" else kept.stat().st_size < LAYER_BYTES
    link.mend()
    clouds.end(*arguments)
    assert compare(from_ecr, clouds.fleet.chain.place("app"), "v1", content=True) == []
    if moment == "sent":
        assert link.up - before < 2 * LAYER_BYTES + PART_BYTES // 2, "the layer was sent more than once again"
    assert not [path for path in spool.glob("*/*") if path.is_file()], "what was sent is kept nowhere"


# Artifact Registry with immutable tags: no exclusions, and nothing that has a tag is deleted


@pytest.fixture
def fixed(clouds: Clouds) -> Clouds:
    """The source repository has immutable tags; what moves is in another repository of the project."""
    clouds.google.repository("ml-prod", "europe-west1", "models", immutable=True)
    clouds.google.repository("ml-prod", "europe-west1", "channels")
    return clouds


MOVING = (f"repository: {APP},", f"repository: {APP}, moving: ml-prod/channels/app,")


def package(clouds: Clouds, repository: str) -> Any:
    held = clouds.google.images.held[f"projects/ml-prod/locations/europe-west1/repositories/{repository}"]
    return held.packages["app"]


def ship(clouds: Clouds, tag: str) -> Release:
    release = clouds.fleet.release(tag)
    assert clouds.fleet.judged(release)
    assert clouds.fleet.chain.promote(release).changed
    return release


def test_a_channel_of_immutable_artifact_registry_moves_in_a_repository_of_its_own(fixed: Clouds) -> None:
    chain = fixed.fleet.chain = fixed.fleet.reload(MOVING)
    first, second = ship(fixed, "v1.0.0"), ship(fixed, "v1.1.0")
    tags = package(fixed, "models").tags
    assert {tags["v1.0.0"], tags["v1.1.0"]} == {first.digest, second.digest} and "prod" not in tags
    moving = package(fixed, "channels").tags
    assert moving["prod"] == second.digest and cosign_tag(first.digest, "sig") in moving
    assert chain.on_channels("app") == {"prod": second.digest}
    assert chain.replicate(second, "eu").ok
    assert chain.compare_replica(second, "eu").differences == ()


def test_collect_says_what_cannot_go_from_immutable_artifact_registry(fixed: Clouds) -> None:
    rule = "retention: [{registry: us, repositories: [ml-prod/models/*], keep_newest: 0, keep_days: 0}]\nsigning:"
    chain = fixed.fleet.chain = fixed.fleet.reload(MOVING, ("signing:", rule))
    release = fixed.fleet.release("v1.0.0")
    plan = chain.plan_retention("us")
    [entry] = [entry for each in plan.repositories for entry in each.entries if entry.digest == release.digest]
    assert not entry.delete and any("are immutable" in reason for reason in entry.reasons)


def test_latest_fails_before_anything_is_built_for_immutable_artifact_registry(fixed: Clouds) -> None:
    build = f"repository: {APP}, build: {{requirements: [], base: us/{APP}:v1, version: latest}},"
    chain = fixed.fleet.reload((f"repository: {APP},", build))
    with pytest.raises(TagImmutable, match="latest") as caught:
        chain.build("app")
    assert "`moving`" in caught.value.do and "exclusion" not in caught.value.do
