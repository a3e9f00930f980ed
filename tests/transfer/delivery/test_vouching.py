"""What a registry looks for itself is not asked for again; whatever is only claimed is."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from registry_pipelines.errors import ClosureIncomplete
from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.transfer.delivery.vouching import NOBODYS, WORTH_A_TRIAL
from registry_pipelines.transfer.engine import Engine
from registry_pipelines.transfer.sync import OpenTarget, Source, SyncResult, sync
from registry_pipelines.transfer.verify import compare
from tests.doubles.fault_registry import FaultRegistry, Status

if TYPE_CHECKING:
    from pathlib import Path

    from tests.transfer.conftest import Counted, Graphs

IMAGES = WORTH_A_TRIAL // 2
"""Each uploads a config and a layer, and mounts the base that the first one uploads, too."""

MOUNTED, UPLOADED = IMAGES - 1, 2 * IMAGES + 1
TRIALS = r".*/manifests/sha256:.*"
"""Manifests of single images are put under their tags."""
BLOBS = r".*/blobs/sha256:.*"


@pytest.fixture
def fleet(source: Counted, graphs: Graphs) -> Counted:
    """A base under many images."""
    base = graphs.noise(1000)
    for image in range(IMAGES):
        name = f"app{image:02}"
        graphs.image(source.place(name), base, graphs.noise(500, image), tag="v1", config=name.encode())
    return source


def copy(fleet: Counted, target: DistributionRegistry, folder: Path) -> SyncResult:
    return sync([Source(fleet.registry, (OpenTarget(target),))], engine=Engine(state=folder))


def checked_by_registry(result: SyncResult) -> int:
    receipts = [each.receipt for each in result.results]
    return sum(len(each.document["blobs_checked_by_registry"]) for each in receipts if each)


def test_a_cold_fleet_costs_few_requests(
    fleet: Counted,
    start_docker_registry: Callable[..., str],
    tmp_path: Path,
    connect: Callable[..., DistributionRegistry],
) -> None:
    with FaultRegistry(start_docker_registry()) as target:
        result = copy(fleet, connect(target.address), tmp_path)
        assert result.ok
        counts = {
            "new?": len(target.requests("GET", ".*/tags/list.*")),
            "mounts": len(target.requests("POST", ".*mount=.*")),
            "uploads": len(target.requests("POST", ".*/uploads/")) + len(target.requests("PUT", ".*digest=.*")),
            "manifests": len(target.requests("PUT", ".*/manifests/v1")),
            "trials": len(target.requests("PUT", TRIALS)),
            "tags read back": len(target.requests("HEAD", ".*/manifests/v1")),
            "blobs read back": len(target.requests("HEAD", BLOBS)),
        }
        assert counts == {
            "new?": IMAGES,
            "mounts": MOUNTED,
            "uploads": 2 * UPLOADED,
            "manifests": IMAGES,
            "trials": 2,
            "tags read back": IMAGES,
            "blobs read back": MOUNTED,
        }
        assert len(target.seen) == sum(counts.values())
    assert checked_by_registry(result) == UPLOADED


def test_a_registry_that_does_not_look_is_asked_for_every_blob(
    fleet: Counted, start_embedded: Callable[..., Counted], tmp_path: Path
) -> None:
    target = start_embedded(require_complete=False)
    result = copy(fleet, target.registry, tmp_path)
    assert result.ok
    assert checked_by_registry(result) == 0
    assert target.count("HEAD", "/blobs/") == MOUNTED + UPLOADED
    assert target.count("PUT", "/manifests/sha256:") == target.count("DELETE", "/manifests/sha256:") == 1
    for image in range(IMAGES):
        place = target.place(f"app{image:02}")
        assert compare(fleet.place(place.repository), place, "v1") == []
    stored = [
        path for path in target.server.root.rglob("*") if path.is_file() and NOBODYS.encode() in path.read_bytes()
    ]
    assert stored == []


@pytest.mark.parametrize("answer", [Status(403), Status(400, body=b"no"), Status(503)], ids=lambda each: each.status)
def test_a_trial_that_fails_otherwise_proves_nothing(
    answer: Status,
    fleet: Counted,
    target: Counted,
    tmp_path: Path,
    connect: Callable[..., DistributionRegistry],
) -> None:
    with FaultRegistry(target.address) as faults:
        faults.play("PUT", TRIALS, answer)
        result = copy(fleet, connect(faults.address), tmp_path)
        assert result.ok
        assert len(faults.requests("HEAD", BLOBS)) >= MOUNTED + UPLOADED
    assert checked_by_registry(result) == 0


def test_an_upload_that_is_confirmed_and_lost_is_seen(
    fleet: Counted,
    start_embedded: Callable[..., Counted],
    tmp_path: Path,
    connect: Callable[..., DistributionRegistry],
) -> None:
    with FaultRegistry(start_embedded(require_complete=False).address) as faults:
        faults.play("PUT", ".*app07/blobs/uploads/.*", Status(201), times=1)
        result = copy(fleet, connect(faults.address), tmp_path)
    failed = [each for each in result.results if each.error]
    assert [(each.place.repository, type(each.error), each.receipt) for each in failed] == [
        ("app07", ClosureIncomplete, None)
    ]


def test_mounts_that_are_confirmed_and_not_done_are_mended_where_a_registry_looks(
    fleet: Counted, target: Counted, tmp_path: Path, connect: Callable[..., DistributionRegistry]
) -> None:
    with FaultRegistry(target.address) as faults:
        faults.play("POST", r".*mount=.*", Status(201, {"Location": "/v2/there"}))
        result = copy(fleet, connect(faults.address), tmp_path)
    assert result.ok
    assert sum(each.blobs_moved for each in result.results) == UPLOADED + MOUNTED
    for image in range(IMAGES):
        place = target.place(f"app{image:02}")
        assert compare(fleet.place(place.repository), place, "v1") == []


def test_a_few_images_are_not_worth_a_trial(source: Counted, target: Counted, graphs: Graphs, tmp_path: Path) -> None:
    graphs.image(source.place("app"), graphs.noise(100), tag="v1")
    result = copy(source, target.registry, tmp_path)
    assert result.ok
    assert target.count("PUT", "/manifests/") == 1
    assert target.count("HEAD", "/blobs/") == 2
