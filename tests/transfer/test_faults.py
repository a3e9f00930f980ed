"""Registries that misbehave: cut bodies, lost answers, stuck ranges, expired addresses, refused mounts."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from registry_pipelines.errors import DigestMismatch, NotFound, OverQuota, Refused, RegistryError
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.platforms import Platform
from registry_pipelines.progress import Silent
from registry_pipelines.registry.client import DistributionRegistry, Timeouts
from registry_pipelines.registry.client.retries import Retries
from registry_pipelines.registry.protocol import Place
from registry_pipelines.transfer.blob.memory import PART_BYTES
from registry_pipelines.transfer.copying import copy_closure
from registry_pipelines.transfer.engine import Engine
from registry_pipelines.transfer.sync import OpenTarget, Source, sync
from registry_pipelines.transfer.verify import compare
from tests.doubles.fault_registry import (
    Corrupt,
    CutAnswer,
    CutRequest,
    DropQuery,
    Fault,
    FaultRegistry,
    HoldAnswer,
    LoseAnswer,
    NoRange,
    Redirect,
    Rewrite,
    Status,
    StuckRange,
)
from tests.patience import patient

if TYPE_CHECKING:
    from tests.transfer.conftest import Counted, Graphs

LARGE = 3 * PART_BYTES + 12_345
BLOBS = r".*/blobs/sha256:.*"
UPLOADS = r".*/blobs/uploads/.*"
QUICK = Retries(attempts=4, first_wait_s=0.01, longest_wait_s=0.05)


@pytest.fixture
def faulty_source(source: Counted) -> Iterator[FaultRegistry]:
    with FaultRegistry(source.address) as faults:
        yield faults


@pytest.fixture
def faulty_target(target: Counted) -> Iterator[FaultRegistry]:
    with FaultRegistry(target.address) as faults:
        yield faults


@pytest.fixture
def copy_to_faulty(
    source: Counted,
    target: Counted,
    faulty_target: FaultRegistry,
    graphs: Graphs,
    connect: Callable[..., DistributionRegistry],
    tmp_path: Path,
) -> Callable[[list[bytes]], None]:
    """Copies an image with these layers to the target that misbehaves; all is there in the end."""

    def copy(layers: list[bytes]) -> None:
        graphs.image(source.place("app"), *layers, tag="v1")
        there = Place(connect(faulty_target.address, retries=QUICK), "app")
        copy_closure(source.place("app"), "v1", [there], engine=Engine(state=tmp_path))
        assert compare(source.place("app"), target.place("app"), "v1", content=True) == []

    return copy


@pytest.mark.parametrize(
    "fault",
    [
        CutAnswer(1_000_000),
        Status(503, {"Retry-After": "0"}),
        Status(429),
        LoseAnswer(),
        Redirect(uses=1),
        NoRange(),
    ],
    ids=lambda fault: type(fault).__name__,
)
def test_source_that_fails_for_a_while(
    fault: Fault,
    source: Counted,
    target: Counted,
    faulty_source: FaultRegistry,
    graphs: Graphs,
    connect: Callable[..., DistributionRegistry],
) -> None:
    graphs.image(source.place("app"), graphs.noise(LARGE), graphs.noise(90_000), tag="v1")
    faulty_source.play("GET", BLOBS, fault, times=4)
    copy_closure(Place(connect(faulty_source.address, retries=QUICK), "app"), "v1", [target.place("app")])
    assert compare(source.place("app"), target.place("app"), "v1", content=True) == []


def test_source_without_ranges_is_read_once_and_over_one_connection(
    source: Counted,
    target: Counted,
    faulty_source: FaultRegistry,
    graphs: Graphs,
    connect: Callable[..., DistributionRegistry],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each further connection would get the whole blob from its first byte. Known from an earlier read, or found out
    by the first connections that are added; those are the last. They are wanted at the first wait."""
    for name in ("HUNGER_S", "HUNGRY_SHARE"):
        monkeypatch.setattr(f"registry_pipelines.transfer.blob.growth.{name}", 0.0)
    layer = graphs.noise(6 * PART_BYTES)
    graphs.image(source.place("app"), layer, tag="v1")
    faulty_source.play("GET", BLOBS, NoRange(bytes_per_s=30e6))
    registry = connect(faulty_source.address)
    copy_closure(Place(registry, "app"), "v1", [target.place("first")])
    first = len(faulty_source.requests("GET", BLOBS))
    faulty_source.reset_counts()
    copy_closure(Place(registry, "app"), "v1", [target.place("second")])
    assert first > 2, "connections were never added: this test shows nothing"
    assert len(faulty_source.requests("GET", BLOBS)) == 2
    assert faulty_source.bytes_down < len(layer) + 100_000
    assert compare(source.place("app"), target.place("second"), "v1", content=True) == []


@pytest.mark.parametrize(
    ("method", "fault"),
    [
        ("PATCH", CutRequest(3_000_000)),
        ("PATCH", LoseAnswer()),
        ("PATCH", Status(503, {"Retry-After": "0"})),
        ("PATCH", Status(429, after_bytes=100)),
        ("PATCH", Rewrite(status=201)),
        ("PATCH", Status(404)),
        ("PATCH", Status(411)),
        ("PATCH", StuckRange()),
        ("PUT", LoseAnswer()),
        ("POST", Status(503, {"Retry-After": "0"})),
    ],
    ids=lambda item: item if isinstance(item, str) else type(item).__name__,
)
def test_target_that_fails_for_a_while(
    method: str,
    fault: Fault,
    faulty_target: FaultRegistry,
    graphs: Graphs,
    copy_to_faulty: Callable[[list[bytes]], None],
    tmp_path: Path,
) -> None:
    faulty_target.play(method, UPLOADS, fault, times=3)
    copy_to_faulty([graphs.noise(LARGE), graphs.noise(90_000)])
    assert not list((tmp_path / "couriers").glob("*.json"))


def test_what_a_registry_kept_of_a_torn_request_is_not_sent_again(
    faulty_target: FaultRegistry, graphs: Graphs, copy_to_faulty: Callable[[list[bytes]], None]
) -> None:
    """One request carries many parts, so the registry may be many parts ahead of what was confirmed to us."""
    faulty_target.play("PATCH", UPLOADS, CutRequest(2 * PART_BYTES + 777, kept=True), times=1)
    copy_to_faulty([graphs.noise(LARGE)])
    assert sum(seen.bytes_up for seen in faulty_target.requests("PATCH")) < LARGE + 1000


def test_target_behind_a_proxy_takes_parts(
    source: Counted, target: Counted, graphs: Graphs, tmp_path: Path, connect: Callable[..., DistributionRegistry]
) -> None:
    """The courier knows no proxies; what goes through one is sent from here. The double serves as the proxy."""
    graphs.image(source.place("app"), graphs.noise(LARGE), tag="v1")
    with FaultRegistry(target.address) as proxy:
        registry = connect("registry.test", plain_http=True, environ={"http_proxy": f"http://{proxy.address}"})
        copy_closure(source.place("app"), "v1", [Place(registry, "app")], engine=Engine(state=tmp_path))
        assert len(proxy.requests("PATCH")) == 4
    assert compare(source.place("app"), target.place("app"), "v1", content=True) == []


def test_corrupted_on_the_way_is_never_stored(
    source: Counted,
    target: Counted,
    faulty_source: FaultRegistry,
    graphs: Graphs,
    connect: Callable[..., DistributionRegistry],
) -> None:
    layer = graphs.noise(LARGE)
    graphs.image(source.place("app"), layer, tag="v1")
    faulty_source.play("GET", BLOBS, Corrupt(70), times=1_000)
    with pytest.raises(DigestMismatch, match="the source's blob"):
        copy_closure(Place(connect(faulty_source.address), "app"), "v1", [target.place("app")])
    assert target.registry.blob_size("app", Digest.of(layer)) is None
    assert not list(target.server.root.rglob("*upload*/*"))


def test_mount_that_is_not_done_becomes_an_upload(
    source: Counted,
    target: Counted,
    faulty_target: FaultRegistry,
    graphs: Graphs,
    tmp_path: Path,
    connect: Callable[..., DistributionRegistry],
) -> None:
    base = graphs.noise(500_000)
    registry = connect(faulty_target.address)
    for name in ("a", "b"):
        graphs.image(source.place(name), base, name.encode(), tag="v1")
    faulty_target.play("POST", r".*mount=.*", DropQuery())
    copy_closure(source.place("a"), "v1", [Place(registry, "a")], engine=Engine(state=tmp_path))
    result = copy_closure(source.place("b"), "v1", [Place(registry, "b")], engine=Engine(state=tmp_path)).per_target[0]
    assert result.blobs_mounted == 0
    assert result.blobs_moved == 3
    assert compare(source.place("b"), target.place("b"), "v1", content=True) == []
    assert faulty_target.requests("DELETE", UPLOADS)


@pytest.mark.parametrize("strict", [True, False], ids=["manifest-refused", "seen-at-read-back"])
def test_mount_that_is_confirmed_and_not_done_is_mended(
    strict: bool,
    source: Counted,
    start_embedded: Callable[..., Counted],
    graphs: Graphs,
    tmp_path: Path,
    connect: Callable[..., DistributionRegistry],
) -> None:
    target, base = start_embedded(require_complete=strict), graphs.noise(500_000)
    for name in ("a", "b"):
        graphs.image(source.place(name), base, name.encode(), tag="v1")
    with FaultRegistry(target.address) as faults:
        registry = connect(faults.address)
        faults.play("POST", r".*mount=.*", Status(201, {"Location": "/v2/b/blobs/there"}))
        copy_closure(source.place("a"), "v1", [Place(registry, "a")], engine=Engine(state=tmp_path))
        result = copy_closure(
            source.place("b"), "v1", [Place(registry, "b")], engine=Engine(state=tmp_path)
        ).per_target[0]
        assert faults.requests("POST", r".*mount=.*")
    assert (result.blobs_mounted, result.blobs_moved, result.tags_moved) == (0, 3, 1)
    assert compare(source.place("b"), target.place("b"), "v1", content=True) == []


def test_deleted_repository_is_asked_for_its_blobs_once(
    source: Counted, target: Counted, graphs: Graphs, tmp_path: Path
) -> None:
    """What is remembered of it is replaced by the repository that the blobs were then sent to."""
    graphs.image(source.place("app"), graphs.noise(500_000), tag="v1")

    def copy(name: str) -> tuple[int, int]:
        target.forget()
        done = copy_closure(source.place("app"), "v1", [target.place(name)], engine=Engine(state=tmp_path)).per_target[
            0
        ]
        return done.blobs_mounted, target.count("POST", "from=deleted")

    assert copy("deleted") == (0, 0)
    shutil.rmtree(target.server.root / "deleted")
    assert copy("second") == (0, 2)
    assert copy("third") == (2, 0)
    assert compare(source.place("app"), target.place("third"), "v1", content=True) == []


def test_unclear_referrers_are_an_error_never_none(
    source: Counted,
    target: Counted,
    faulty_source: FaultRegistry,
    graphs: Graphs,
    connect: Callable[..., DistributionRegistry],
) -> None:
    graphs.signed_index(source.place("app"), "v1")
    faulty_source.play("GET", r".*/referrers/.*", Status(500))
    with pytest.raises(RegistryError):
        copy_closure(Place(connect(faulty_source.address, retries=QUICK), "app"), "v1", [target.place("app")])
    assert target.count("PUT") == 0


def test_source_deleted_half_way(
    source: Counted,
    target: Counted,
    faulty_source: FaultRegistry,
    graphs: Graphs,
    connect: Callable[..., DistributionRegistry],
) -> None:
    graphs.image(source.place("app"), graphs.noise(LARGE), graphs.noise(90_000), tag="v1")
    faulty_source.play("GET", BLOBS, Status(404), skip=1)
    with pytest.raises(NotFound, match="gone at the source"):
        copy_closure(Place(connect(faulty_source.address), "app"), "v1", [target.place("app")])
    with pytest.raises(NotFound):
        target.registry.resolve("app", "v1")


class MovesTag(Silent):
    """Pushes another image under the tag as soon as bytes move."""

    def __init__(self, graphs: Graphs, place: Place) -> None:
        self._graphs, self._place, self._done = graphs, place, False

    def advance(self, task: str, byte_count: int) -> None:
        if not self._done:
            self._done = True
            self._graphs.image(self._place, b"second", tag="v1")


def test_tag_moved_during_the_copy_is_told(source: Counted, target: Counted, graphs: Graphs) -> None:
    here = source.place("app")
    first = graphs.image(here, graphs.noise(LARGE), tag="v1")
    result = copy_closure(here, "v1", [target.place("app")], engine=Engine(progress=MovesTag(graphs, here)))
    assert result.root.digest == first.digest
    assert target.registry.resolve("app", "v1").digest == first.digest
    assert [drift.kind for drift in result.per_target[0].drift] == ["source"]
    assert result.per_target[0].ok


def test_tag_moved_during_the_copy_is_told_of_a_rewritten_index_too(
    source: Counted, target: Counted, graphs: Graphs
) -> None:
    """What it is called at the target is no digest of the source; still the source's tag must stay what it was."""
    here, platforms = source.place("app"), [Platform.parse("linux/arm64")]
    top = graphs.signed_index(here, "v1")
    first, again = (target.place(name) for name in ("first", "again"))
    still = copy_closure(here, "v1", [first], platforms=platforms, selection="rewritten")
    assert still.per_target[0].drift == ()
    moved = copy_closure(
        here, "v1", [again], platforms=platforms, selection="rewritten", engine=Engine(progress=MovesTag(graphs, here))
    )
    [drift] = moved.per_target[0].drift
    assert (drift.kind, drift.planned, moved.root.digest) == ("source", top.digest, still.root.digest)


IMMUTABLE = [
    (400, "TAG_INVALID", "The image tag 'v1' already exists and cannot be overwritten because the tag is immutable."),
    (412, "PRECONDITION", "Failed to process request due to 'app:v1' configured as immutable."),
    (409, "TAG_IMMUTABLE", "tag is immutable and cannot be overwritten"),
    (400, "BLOB_UPLOAD_INVALID", "Repository does not allow updating assets: hosted"),
    (405, "REGISTRY_DISALLOWED_OPERATION", "The operation is disallowed on this registry, repository or image."),
]


@pytest.mark.parametrize("answer", IMMUTABLE, ids=["ecr", "harbor", "quay", "nexus", "acr"])
def test_a_tag_that_turns_out_to_be_immutable_is_drift_and_the_image_is_there_by_digest(
    answer: tuple[int, str, str],
    source: Counted,
    target: Counted,
    faulty_target: FaultRegistry,
    graphs: Graphs,
    connect: Callable[..., DistributionRegistry],
) -> None:
    """ECR says so only when the tag is written."""
    made = graphs.image(source.place("app"), b"layer", tag="v1")
    status, code, words = answer
    body = json.dumps({"errors": [{"code": code, "message": words}]}).encode()
    faulty_target.play("PUT", r".*/manifests/v1", Status(status, body=body))
    result = copy_closure(source.place("app"), "v1", [Place(connect(faulty_target.address), "app")]).per_target[0]
    assert [(drift.kind, drift.tag) for drift in result.drift] == [("target", "v1")]
    assert not result.ok
    assert target.registry.resolve("app", made.digest).digest == made.digest


def test_refused_content_is_told_and_other_targets_go_on(
    source: Counted,
    target: Counted,
    faulty_target: FaultRegistry,
    graphs: Graphs,
    connect: Callable[..., DistributionRegistry],
) -> None:
    graphs.image(source.place("app"), graphs.noise(LARGE), tag="v1")
    faulty_target.play("PATCH", UPLOADS, Status(413))
    other = source.place("copy")
    with pytest.raises(Refused):
        copy_closure(source.place("app"), "v1", [Place(connect(faulty_target.address), "app"), other])
    assert compare(source.place("app"), other, "v1") == []
    assert faulty_target.requests("DELETE", UPLOADS)


def test_a_spent_quota_is_told_and_other_targets_go_on(
    source: Counted,
    target: Counted,
    faulty_target: FaultRegistry,
    graphs: Graphs,
    connect: Callable[..., DistributionRegistry],
) -> None:
    """Harbor's words: a project is full, not the registry, so its other projects are tried all the same."""
    for name in ("full", "roomy"):
        graphs.image(source.place(name), name.encode(), tag="v1")
    words = "adding 1.0 MiB of storage resource, which ... will exceed the configured upper limit of 1.0 MiB."
    body = json.dumps({"errors": [{"code": "DENIED", "message": words}]}).encode()
    faulty_target.play("PUT", r"/v2/full/.*", Status(403, body=body))
    there = connect(faulty_target.address)
    result = sync([Source(source.registry, (OpenTarget(there),), ("full", "roomy"))])
    errors = {each.place.repository: each.error for each in result.results}
    assert isinstance(errors["full"], OverQuota) and "project quota" in errors["full"].do
    assert errors["roomy"] is None and compare(source.place("roomy"), target.place("roomy"), "v1") == []


def test_stalled_source_is_dropped_and_read_on(
    source: Counted,
    target: Counted,
    faulty_source: FaultRegistry,
    graphs: Graphs,
    connect: Callable[..., DistributionRegistry],
) -> None:
    graphs.image(source.place("app"), graphs.noise(LARGE), tag="v1")
    faulty_source.play("GET", BLOBS, HoldAnswer(threading.Event(), after_bytes=2_000_000), times=1)
    here = Place(connect(faulty_source.address, timeouts=Timeouts(stall_s=patient(0.25))), "app")
    copy_closure(here, "v1", [target.place("app")])
    assert compare(source.place("app"), target.place("app"), "v1", content=True) == []
