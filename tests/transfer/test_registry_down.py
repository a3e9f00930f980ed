"""A registry that dies or hangs in the middle of a run: real processes, real signals. The others are done without it,
and it is neither asked for ever nor forgotten when it comes back."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from registry_pipelines.errors import RegistryPipelinesError, Unavailable
from registry_pipelines.oci.manifests import Manifest
from registry_pipelines.progress import Silent
from registry_pipelines.registry.client import DistributionRegistry, Retries, Timeouts
from registry_pipelines.registry.protocol import Place
from registry_pipelines.transfer.blob.fanout import move_blob
from registry_pipelines.transfer.blob.memory import PART_BYTES
from registry_pipelines.transfer.blob.tools import BlobTools
from registry_pipelines.transfer.closure.discovery import discover
from registry_pipelines.transfer.delivery.acts import DeliveryTools
from registry_pipelines.transfer.delivery.execute import execute
from registry_pipelines.transfer.delivery.plan import Job
from registry_pipelines.transfer.delivery.planner import Planner
from registry_pipelines.transfer.delivery.results import TargetResult
from registry_pipelines.transfer.flow.health import ATTEMPT_S, REVIVE_S, Health
from registry_pipelines.transfer.flow.patience import Patience
from registry_pipelines.transfer.verify import compare
from tests.doubles.docker_registry import DockerRegistry
from tests.doubles.fault_registry import FaultRegistry, Status
from tests.patience import patient

if TYPE_CHECKING:
    from tests.transfer.conftest import Counted, Graphs

IMAGES = 24
THREADS = 4
HURRIED = Timeouts(stall_s=patient(0.25), commit_s=patient(0.5))
BRIEF_S = patient(0.5)
"""Patience with a registry that is gone; one that is only slow answers within it."""

QUICK = Retries(attempts=3, first_wait_s=0.01, longest_wait_s=0.02)
UPLOADS = r".*/blobs/uploads/.*"

NO_MORE = THREADS * 2 * (QUICK.attempts + 2) + 12 * QUICK.attempts
"""Requests that a dead registry may get: what was under way when it died (of two blobs' worth for each thread), and the
few attempts of one patience. Each of the blobs asking for itself would make hundreds."""


@pytest.fixture
def start_docker(peer: Callable[[str], str], tmp_path: Path) -> Iterator[Callable[[str], DockerRegistry]]:
    program = peer("docker-registry")
    with ExitStack() as running:
        yield lambda name: running.enter_context(DockerRegistry(program, tmp_path / name))


class Watch(Silent):
    """Does something once bytes have come to a registry, and something when all copies to another have ended."""

    def __init__(self, *, moved_to: str, then: Callable[[], None]) -> None:
        self._moved_to, self._then = moved_to, then
        self._lock = threading.Lock()
        self._moved = False
        self._awaited: tuple[str, int, Callable[[], None]] | None = None

    def when_all_ended(self, at: str, copies: int, then: Callable[[], None]) -> None:
        self._awaited = (f"-> {at}/", copies, then)

    def advance(self, task: str, byte_count: int) -> None:
        with self._lock:
            if f"-> {self._moved_to}/" in task and not self._moved:
                self._moved = True
                self._then()

    def end(self, task: str, *, note: str = "") -> None:
        with self._lock:
            if self._awaited and self._awaited[0] in task:
                at, left, then = self._awaited
                self._awaited = (at, left - 1, then)
                if left == 1:
                    then()


def fill(place: Place, graphs: Graphs, *, large: bool = False) -> None:
    for number in range(IMAGES):
        layers = [graphs.noise(5000 + number, number), graphs.noise(20_000, 1000 + number)]
        if large and number == 0:
            layers.append(graphs.noise(2 * PART_BYTES))
        graphs.image(place, *layers, tag=f"v{number}", config=b"%d" % number)


def bring(source: Place, targets: Sequence[Place], tools: BlobTools, watch: Watch) -> list[TargetResult]:
    jobs = [Job(discover(source, f"v{number}"), tuple(targets), (f"v{number}",)) for number in range(IMAGES)]
    with Planner() as planner:
        plan = planner.plan(jobs)
    return execute(plan, DeliveryTools(blob=tools, progress=watch, threads=THREADS))


def whole(source: Place, target: Place) -> bool:
    return all(compare(source, target, f"v{number}") == [] for number in range(IMAGES))


@pytest.mark.peer("docker-registry")
@pytest.mark.timeout(30)
@pytest.mark.parametrize("how", ["kill", "hang"])
def test_a_target_that_dies_is_given_up_once_and_the_other_is_complete(
    how: str,
    source: Counted,
    graphs: Graphs,
    connect: Callable[..., DistributionRegistry],
    start_docker: Callable[[str], DockerRegistry],
) -> None:
    fill(source.place("app"), graphs)
    well, ill = start_docker("well"), start_docker("ill")
    sick = connect(ill.address, timeouts=HURRIED, retries=QUICK)
    before: list[int] = []

    def fall_ill() -> None:
        getattr(ill, how)()
        before.append(sick.requests_sent)

    targets = [Place(sick, "app"), Place(connect(well.address), "app")]
    watch = Watch(moved_to=ill.address, then=fall_ill)
    results = bring(source.place("app"), targets, BlobTools(patience=lambda: Patience(BRIEF_S)), watch)
    good, bad = ([each for each in results if each.place == place] for place in reversed(targets))
    assert [str(each.error) for each in good if each.error] == []
    assert whole(source.place("app"), targets[1])
    failed = [each.error for each in bad if each.error]
    assert len(failed) > IMAGES / 2
    assert all(isinstance(error, Unavailable) for error in failed)
    assert any("not tried again in this run: " in str(error) for error in failed)
    assert sick.requests_sent - before[0] <= NO_MORE


@pytest.mark.peer("docker-registry")
@pytest.mark.timeout(30)
@pytest.mark.parametrize("large", [False, True], ids=["small", "large"])
def test_the_others_are_done_while_one_hangs_and_it_gets_its_rest_when_it_is_back(
    large: bool,
    source: Counted,
    graphs: Graphs,
    connect: Callable[..., DistributionRegistry],
    start_docker: Callable[[str], DockerRegistry],
) -> None:
    """It goes on only once all copies to the other have ended: were these held up, neither would come to an end."""
    fill(source.place("app"), graphs, large=large)
    well, ill = start_docker("well"), start_docker("ill")
    sick = connect(ill.address, timeouts=Timeouts(stall_s=patient(0.75)))
    targets = [Place(sick, "app"), Place(connect(well.address), "app")]
    watch = Watch(moved_to=ill.address, then=ill.hang)
    watch.when_all_ended(well.address, IMAGES, ill.go_on)
    results = bring(source.place("app"), targets, BlobTools(), watch)
    assert [str(each.error) for each in results if each.error] == []
    assert all(whole(source.place("app"), target) for target in targets)


@pytest.mark.peer("docker-registry")
@pytest.mark.timeout(30)
def test_a_source_that_dies_is_given_up_once(
    target: Counted,
    start_embedded: Callable[..., Counted],
    graphs: Graphs,
    connect: Callable[..., DistributionRegistry],
    start_docker: Callable[[str], DockerRegistry],
) -> None:
    here = start_docker("source")
    source = connect(here.address, timeouts=HURRIED, retries=QUICK)
    fill(Place(source, "app"), graphs)
    before: list[int] = []

    def die() -> None:
        here.kill()
        before.append(source.requests_sent)

    watch = Watch(moved_to=target.address, then=die)
    targets = [target.place("app"), start_embedded().place("app")]
    results = bring(Place(source, "app"), targets, BlobTools(patience=lambda: Patience(BRIEF_S)), watch)
    failed = [each.error for each in results if each.error]
    assert len(failed) > IMAGES
    assert all(isinstance(error, Unavailable) and here.address in error.where for error in failed)
    assert any("not tried again in this run: " in str(error) for error in failed)
    assert source.requests_sent - before[0] <= NO_MORE


def test_uploads_that_are_answered_with_errors_end_a_registry_s_uploads_and_one_bad_blob_does_not(
    source: Counted, target: Counted, graphs: Graphs, connect: Callable[..., DistributionRegistry]
) -> None:
    """Other requests are answered as ever: so it is with a disk that is full and does not say so."""
    manifest = graphs.image(source.place("app"), *(graphs.noise(1000, at) for at in range(3)), tag="v1").content()
    assert isinstance(manifest, Manifest)
    bad, good, other = manifest.layers
    with FaultRegistry(target.address) as faults:
        there = Place(connect(faults.address, retries=Retries(attempts=1)), "app")
        tools, others = BlobTools(patience=lambda: Patience(0.7)), [good]

        @contextmanager
        def while_one_waits() -> Iterator[None]:
            """Others are done: a thread beside could come too late for that, or stand in the same line."""
            for each in others:
                there.registry.blob_size("app", each.digest)
                tools.health.worked(there, "content")
            yield

        tools.health = Health(tools.patience, aside=while_one_waits)

        def move(blob: object) -> RegistryPipelinesError | None:
            [outcome] = move_blob(source.place("app"), blob, [there], tools, lambda *_: None)  # type: ignore[arg-type]
            return outcome

        faults.play("PUT", rf".*{bad.digest}", Status(500))
        assert isinstance(move(bad), Unavailable)
        others.clear()
        assert move(good) is None
        faults.play("PUT", r".*", Status(500))
        assert "HTTP 500" in str(move(bad))
        faults.reset_counts()
        refused = move(other)
        assert isinstance(refused, Unavailable)
        assert refused.what.startswith("not tried again in this run: sending a blob was answered with HTTP 500")
        assert faults.requests("POST") == []
        assert tools.health.persist(there, "mount", lambda: there.registry.blob_size("app", good.digest)) == good.size


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_registry_that_was_given_up_is_tried_by_one_act_a_minute_and_taken_up_when_that_succeeds(
    target: Counted,
) -> None:
    clock, there, asked = Clock(), target.place("app"), []
    health = Health(lambda: Patience(0.0, clock=clock), clock=clock)

    def fail() -> None:
        asked.append(clock.now)
        raise Unavailable("nothing listens there", where=there.registry.name)

    for _ in range(3):
        with pytest.raises(Unavailable):
            health.persist(there, "content", fail)
    assert len(asked) == 1
    clock.now += REVIVE_S + 1
    for _ in range(3):
        with pytest.raises(Unavailable):
            health.persist(there, "manifest", fail)
    assert len(asked) == 2

    def hang() -> None:
        with pytest.raises(Unavailable, match="not tried again in this run: nothing listens there"):
            health.persist(there, "content", fail)

    clock.now += max(REVIVE_S, ATTEMPT_S) + 1
    health.persist(there, "content", hang)
    health.persist(there, "content", lambda: None)
    assert len(asked) == 2
    assert health.ready(there, "manifest")


def test_a_reader_that_was_let_try_and_failed_gives_the_turn_on(source: Counted) -> None:
    """Else all others would wait until an attempt that says nothing is over."""
    clock, here = Clock(), source.place("app")
    error = Unavailable("nothing listens there", where=here.registry.name)

    @contextmanager
    def while_it_waits() -> Iterator[None]:
        clock.now += 30  # longer than any pause, shorter than an attempt
        yield

    health = Health(lambda: Patience(1000.0, clock=clock), clock=clock, aside=while_it_waits)
    began = health.admit(here, "read")
    health.failed(here, "read", error, Patience(1000.0, clock=clock), began)
    clock.now += ATTEMPT_S
    reader = health.reading(here, health.admit(here, "read"))()
    reading = threading.Thread(target=reader.wait, args=(error,))
    clock.now += 1
    reading.start()
    reading.join(patient(30))
    assert not reading.is_alive()
