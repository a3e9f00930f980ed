"""What an earlier build left behind: today's goes on from there. See ``tests/data/upgrade/README.md``."""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from registry_pipelines.chain import Chain
from registry_pipelines.chain.serving import ensure_registries
from registry_pipelines.config import load
from registry_pipelines.promote import channels, verdicts
from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.protocol import Place
from registry_pipelines.release import Release
from registry_pipelines.transfer.delivery.receipts import Receipt, ReceiptFolder
from tests.chain.fleet import Fleet, load_verifier
from tests.ports import free_ports

KEPT = Path(__file__).parent.parent / "data" / "upgrade"
BUILDS = ["785dced", "6fa6ad4"]
POLICY_CHANGED = {"785dced", "6fa6ad4"}
"""Builds that made a policy's digest otherwise: their verdicts are of another policy now, and given again."""
PORT = re.compile(r"port: (\d+)")


@pytest.fixture
def left(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Fleet]:
    """What a build left behind, its registries listening again; at other ports, these may be taken."""
    with tarfile.open(KEPT / f"{request.param}.tar.gz") as archive:
        archive.extraction_filter = getattr(tarfile, "data_filter", None)  # Python 3.11.2 has none
        archive.extractall(tmp_path)
    path = tmp_path / "registry-pipelines.yaml"
    ports = iter(free_ports(5))
    path.write_text(PORT.sub(lambda _: f"port: {next(ports)}", path.read_text()))
    config = load(path, {})
    with ensure_registries(config):
        yield Fleet(path, config, Chain(config))


@pytest.mark.parametrize("left", BUILDS, indirect=True)
def test_what_an_earlier_build_wrote_is_read(left: Fleet) -> None:
    [release] = left.chain.releases()
    place, verifier = left.chain.place("app"), load_verifier(left.config.trusted_keys)
    assert left.chain.verify(release).ok
    verdict = verdicts.read(place, release.digest, verifier).latest("app", "default")
    assert verdict is not None and verdict.verdict.allow
    record = channels.latest_record(place, release.digest, verifier, channel="prod")
    assert record is not None and (record[0].to_digest, record[0].version) == (release.digest, "v1")
    assert _receipt(left, release).signed
    assert left.chain.compare_replica(release, "eu").differences == ()


@pytest.mark.parametrize("left", BUILDS, indirect=True)
def test_what_an_earlier_build_released_goes_on(left: Fleet, request: pytest.FixtureRequest) -> None:
    [release] = left.chain.releases()
    if request.node.callspec.params["left"] in POLICY_CHANGED:
        assert left.chain.judge(release).ok
    assert not left.chain.promote(release).changed, "it was promoted then"
    assert left.chain.replicate(release, "gcp").ok
    assert left.chain.replicate(release, "eu").ok
    assert left.chain.compare_replica(release, "gcp").differences == ()
    second = left.release("v2")
    assert left.judged(second)
    assert left.chain.promote(second).changed
    assert left.chain.promote(release).changed, "back to what the earlier build promoted"


def _receipt(left: Fleet, release: Release) -> Receipt:
    """The receipt of the copy to ``eu``, under the address that it had then."""
    folder = left.config.state / "transfer" / "receipts"
    [name] = [path.name for path in folder.iterdir()]
    host, port, *repository = name.split("_")
    place = Place(DistributionRegistry(f"{host}:{port}"), "/".join(repository))
    receipt = ReceiptFolder(folder).load(place, release.digest)
    assert receipt is not None
    return receipt
