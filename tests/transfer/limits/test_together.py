"""Budgets of many workers on one state: real processes, a real Postgres."""

from __future__ import annotations

import hashlib
import json
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import psycopg
import pytest

from registry_pipelines import waits
from registry_pipelines.errors import LocalError, QuotaSpent, RateLimited
from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.protocol import Quota
from registry_pipelines.shared import budget_tables
from registry_pipelines.shared import budgets as shared_budgets
from registry_pipelines.shared.budgets import BUDGETS, Budgets
from registry_pipelines.shared.database import Transaction
from registry_pipelines.shared.server import Server
from registry_pipelines.shared.state import SharedState
from registry_pipelines.transfer.limits.limited import limited
from registry_pipelines.transfer.limits.machine import LARGEST_WINDOW, MachineLimits
from registry_pipelines.transfer.limits.rules import RegistryRule
from tests.doubles.postgres import ESCAPED, PostgresServer
from tests.doubles.workers import worker
from tests.needs import needed_module
from tests.patience import patient

SPENDS = Path(__file__).with_name("spends.py")
WORKERS = 3
ACCOUNT = "11112222-3333-4444-5555-666677778888"
CREDIT_S = 0.5


def run_workers(database: str, folder: Path, *words: str) -> list[list[list[str]]]:
    """The lines that each of some processes wrote, which began together in folders of their own."""
    started = []
    for number in range(WORKERS):
        (own := folder / str(number)).mkdir()
        command = [sys.executable, str(SPENDS), database, *words]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        started.append(subprocess.Popen(command, cwd=own, **pipes))  # type: ignore[call-overload]
    try:
        assert [worker.stdout.readline() for worker in started] == ["ready\n"] * WORKERS
        for worker in started:
            worker.stdin.write("go\n")
            worker.stdin.flush()
        written = [worker.communicate(timeout=patient(60))[0] for worker in started]
        assert [worker.returncode for worker in started] == [0] * WORKERS
    finally:
        for worker in started:
            worker.kill()
            worker.wait()
    return [[line.split() for line in text.splitlines()] for text in written]


class Hub(BaseHTTPRequestHandler):
    """Docker Hub's counting: GETs of manifests, by account, with what is left told in each answer."""

    MANIFEST = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {
                "mediaType": "application/vnd.oci.image.config.v1+json",
                "digest": "sha256:" + "0" * 64,
                "size": 2,
            },
            "layers": [],
        }
    ).encode()
    limit, pulls, refused = 40, 0, 0
    lock = threading.Lock()
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        cls = type(self)
        with cls.lock:
            served = "/manifests/" not in self.path or cls.pulls < cls.limit
            cls.pulls += served and "/manifests/" in self.path
            cls.refused += not served
            left = cls.limit - cls.pulls
        self.answer(200 if served else 429, left)

    def do_HEAD(self) -> None:
        self.answer(200, type(self).limit - type(self).pulls)

    def answer(self, status: int, left: int) -> None:
        body = self.MANIFEST if "/manifests/" in self.path else b"{}"
        self.send_response(status)
        self.send_header("Content-Type", "application/vnd.oci.image.manifest.v1+json")
        self.send_header("Docker-Content-Digest", f"sha256:{hashlib.sha256(body).hexdigest()}")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ratelimit-limit", f"{self.limit};w=21600")
        self.send_header("ratelimit-remaining", f"{left};w=21600")
        self.send_header("docker-ratelimit-source", ACCOUNT)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hub() -> Iterator[str]:
    Hub.pulls = Hub.refused = 0
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def test_three_workers_keep_one_budget_of_each(
    postgres_url: str, hub: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Requests a second, bytes a second, and Docker Hub's pulls. Of these the last ones may be refused while another
    worker has them in hand; they are there for who comes later."""
    monkeypatch.setattr(shared_budgets, "ANSWER_S", 600.0)  # as in the workers: see there
    with shared(postgres_url) as state:  # somebody was told before: then also the first pulls are counted
        limits = MachineLimits(shared=lambda: state.budgets)
        limits.quota(hub).observe(Quota(40, 40, 21600, ACCOUNT))
        by_worker = run_workers(postgres_url, tmp_path, "1.5", hub, "24")
        monkeypatch.setattr(budget_tables, "PULLS_KEPT_S", 0.0)  # those workers are gone
        registry, later = limited(DistributionRegistry(hub), limits), 0
        with pytest.raises(QuotaSpent):
            for later in range(Hub.limit + 1):  # noqa: B007 - so many were read before it was spent
                registry.get_manifest("app", "v1")
        budget = limits.quota(hub).budget()
    ends = [line[1] for lines in by_worker for line in lines if line[0] == "hub"]
    assert Hub.pulls == ends.count("read") + later == 40 and later < WORKERS * 4
    assert Hub.refused == 0
    assert ends.count("QuotaSpent") == 3 * 24 - 40 + later
    assert budget is not None and (budget.remaining, budget.limit) == (0, 40)
    for host, rate, late in (("few.example", 10, 2), ("many.example", 400, 40), ("capped.example", 20e6, 9 * 2**18)):
        assert all(any(line[0] == host for line in lines) for lines in by_worker)
        taken = sorted((int(line[1]), int(line[2])) for lines in by_worker for line in lines if line[0] == host)
        first, so_far = taken[0][0], 0
        for at, amount in taken:
            so_far += amount
            assert so_far <= rate * ((at - first) / 1e9 + CREDIT_S) + late


def limits_of(budgets: Budgets) -> MachineLimits:
    return MachineLimits(shared=lambda: budgets)


@contextmanager
def shared(url: str) -> Iterator[SharedState]:
    state = worker(url)
    try:
        yield state
    finally:
        state.close()


@pytest.fixture
def two(postgres_url: str) -> Iterator[tuple[Budgets, Budgets]]:
    with shared(postgres_url) as one, shared(postgres_url) as other:
        yield one.budgets, other.budgets


def eventually(holds: Callable[[], object]) -> None:
    until = time.monotonic() + patient(10)
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.02)


def test_who_is_told_to_stop_stops_all(two: tuple[Budgets, Budgets]) -> None:
    limits, others = (limits_of(each) for each in two)
    assert others.window("r.example", "write-manifest").stopped_s() == 0
    limits.window("r.example", "write-manifest").note(RateLimited("slow down", retry_after_s=250))
    eventually(others.window("r.example", "write-manifest").stopped_s)
    assert 100 < others.window("r.example", "write-manifest").stopped_s() <= 250
    assert others.window("r.example", "append").stopped_s() == 0


def test_workers_share_the_largest_window(two: tuple[Budgets, Budgets], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_budgets, "USED_S", 0.05)
    monkeypatch.setattr(shared_budgets, "STOP_SEEN_S", 0.05)
    windows = [limits_of(each).window("r.example", "append") for each in two]
    for window in windows:
        window.size = LARGEST_WINDOW

    def shares() -> list[int]:
        for window in windows:
            with window.request():
                pass
        return [window.open for window in windows]

    assert windows[0].open == int(LARGEST_WINDOW)
    eventually(lambda: shares() == [LARGEST_WINDOW / 2] * 2)
    two[1].close()
    eventually(lambda: shares()[0] == LARGEST_WINDOW)


def test_what_a_short_process_counted_is_written_before_its_first_exchange(two: tuple[Budgets, Budgets]) -> None:
    months = [limits_of(each).month("public.ecr.aws") for each in two]
    one, other = (month for month in months if month is not None)
    with two[0]._change:  # its thread begins, and waits for this
        one.add(5)
        two[0]._closed = True
    two[0].close()
    other.add(1)
    eventually(lambda: other.so_far() == 6)


def test_a_month_counts_what_all_read(two: tuple[Budgets, Budgets]) -> None:
    months = [limits_of(each).month("public.ecr.aws") for each in two]
    one, other = (month for month in months if month is not None)
    one.add(5)
    other.add(7_000_000_000)
    two[0].close()  # writes what it has at once
    eventually(lambda: other.so_far() == 7_000_000_005)
    assert "7.0 GB of 500.0 GB" in other.note()


def test_many_requests_are_few_questions(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with shared(postgres_url) as state:
        asked: list[object] = []
        run, line = state.database.run, state.budgets.line("r.example read-manifest")

        def counted(act: Callable[[Transaction], object], *, patient: bool = True) -> object:
            asked.append(act)
            return run(act, patient=patient)

        monkeypatch.setattr(state.database, "run", counted)
        for _ in range(1000):
            line.reserve(1, 2000)
        assert len(asked) < 250
        assert line.reserve(1, 2000) < 1.0  # and what was taken ahead is no more than a moment's


@pytest.fixture(scope="module")
def server(postgres_programs: Path) -> Iterator[PostgresServer]:
    """A server of these tests' own, because it is stopped."""
    needed_module("psycopg", "postgres")
    with PostgresServer(postgres_programs) as running:
        yield running


@pytest.mark.parametrize("frozen", [False, True])
def test_without_the_database_each_keeps_its_share_and_says_so(
    server: PostgresServer, monkeypatch: pytest.MonkeyPatch, frozen: bool
) -> None:
    monkeypatch.setattr(shared_budgets, "ANSWER_S", 0.5)
    monkeypatch.setattr(shared_budgets, "RETRY_S", 0.05)
    monkeypatch.setattr(shared_budgets, "USED_S", 0.0)
    url = f"postgresql://rp:{ESCAPED}@/postgres?host={server.folder}"
    with shared(url) as one, shared(url) as other:
        limits, others = (limits_of(each.budgets) for each in (one, other))
        limits.rules = others.rules = (RegistryRule(".*", per_second={"append": 100}),)
        lines = [each.budgets.line("r.example append") for each in (one, other)]
        for line in (*lines, lines[0]):  # now both know of both
            line.reserve(1, 100)
        (server.freeze if frozen else server.stop)()
        began = time.monotonic()
        waited = [lines[0].reserve(100, 100) for _ in range(3)][-1]
        passed = time.monotonic() - began  # a busy machine may stand still between them
        # 300 requests at half of 100 a second, as no more than began before.
        assert waited + passed > 5 and waited <= 6.5
        told = [each.reason for each in waits.BOARD.open.values() if each.host == BUDGETS]
        assert told == ["their database does not answer; 1/2 of each is kept here, of 2 workers"]
        limits.window("r.example", "write-manifest").note(RateLimited("slow down", retry_after_s=250))
        (server.thaw if frozen else server.start)()
        eventually(lambda: not one.budgets.away)
        assert not [each for each in waits.BOARD.open.values() if each.host == BUDGETS]
        eventually(others.window("r.example", "write-manifest").stopped_s)  # what was told meanwhile
        assert lines[0].reserve(1, 100) < 6.5


def test_a_share_of_pulls_is_all_that_is_taken_without_the_database(
    server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_budgets, "USED_S", 0.0)
    url = f"postgresql://rp:{ESCAPED}@/postgres?host={server.folder}"
    with shared(url) as one, shared(url) as other:
        for each in (other, one):
            each.budgets.line("r.example append").reserve(1, 1)
        gate = MachineLimits(shared=lambda: one.budgets).quota("hub.example")
        gate.observe(Quota(100, 20, 3600, "account"))
        server.stop()
        taken = 0
        stock = one.budgets.stock("hub.example", "account")
        while not stock.take():
            taken += 1
        assert taken == 10
        server.start()


def test_workers_that_stop_take_and_count_at_once_never_wait_for_each_other(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two that lock the same rows in another order would: Postgres ends one after a second, whose budgets are then its
    own for a while."""
    told: list[str] = []
    unusable = Server._unusable

    def noted(self: Server, error: psycopg.Error) -> LocalError:
        told.append(str(error))
        return unusable(self, error)

    monkeypatch.setattr(Server, "_unusable", noted)
    states = [worker(postgres_url) for _ in range(3)]

    def works(state: SharedState, seed: int) -> None:
        chance, budgets = random.Random(seed), state.budgets
        for _ in range(150):
            name = chance.choice("ABCD")
            budgets.line(name).reserve(1, 1000)
            budgets.line(chance.choice("ABCD")).block(0.001)
            budgets.count(name).add(1)
            budgets.count(chance.choice("ABCD")).total()

    threads = [threading.Thread(target=works, args=(state, seed)) for seed, state in enumerate(states * 4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert [each for each in told if "deadlock" in each] == []
    for state in states:
        state.close()
    whole = worker(postgres_url)
    assert sum(whole.budgets.count(name).total() for name in "ABCD") == 12 * 150
    whole.close()
