"""Who may work on a shared state, and what is held by one alone; on a real Postgres."""

from __future__ import annotations

import signal
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from registry_pipelines.chain.shared import digest_of
from registry_pipelines.config import load
from registry_pipelines.errors import ConfigInvalid, InputError, LocalError, StateLocked, StateTooNew
from registry_pipelines.settings import Duration
from registry_pipelines.shared import budget_tables, membership, server
from registry_pipelines.shared.leases import Lease
from registry_pipelines.shared.membership import Worker
from registry_pipelines.shared.state import SharedState
from tests.doubles.postgres import ESCAPED, PgBouncer, PostgresServer
from tests.doubles.workers import worker
from tests.needs import needed_module
from tests.patience import patient, until

CONFIG = """\
registries: {here: {kind: distribution, host: registry.example}}
images: {app: {registry: here, repository: team/app, promote: auto}}
"""


def joined(url: str, as_one: Worker | None = None, **options: Any) -> SharedState:
    state = worker(url, as_one, **options)
    _ = state.database
    return state


def change(url: str, statement: str) -> None:
    with needed_module("psycopg", "postgres").connect(url) as database:
        assert database.execute(statement).rowcount


def be_silent(url: str) -> None:
    """All that have joined, as if they had said nothing for long; nor does a sign of life that is just given help."""
    change(url, "UPDATE members SET silence_s = -1")


# Members


def test_members_see_each_other_and_who_left(postgres_url: str) -> None:
    first, second = joined(postgres_url, Worker(place="/a.yaml")), joined(postgres_url)
    alive = {each.name: each for each in first.membership.members() if each.alive}
    assert set(alive) == {first.membership.name, second.membership.name}
    assert alive[first.membership.name].place == "/a.yaml"
    name = second.membership.name
    second.close()
    assert [each.alive for each in first.membership.members() if each.name == name] == [False]


def test_workers_of_two_layouts_never_work_on_one_state(postgres_url: str) -> None:
    old = joined(postgres_url, Worker(build="1.0", layout=2))
    with pytest.raises(StateLocked, match=r"1 worker of an older layout .*process \d+, build 1\.0"):
        joined(postgres_url, Worker(build="2.0", layout=3))
    old.close()
    joined(postgres_url, Worker(build="2.0", layout=3))
    with pytest.raises(StateTooNew, match=r"layout 3, and this worker's build 1\.0 knows 2"):
        joined(postgres_url, Worker(build="1.0", layout=2))


def test_a_killed_worker_of_an_older_layout_is_waited_for_until_its_silence(postgres_url: str) -> None:
    joined(postgres_url, Worker(layout=2))
    be_silent(postgres_url)
    joined(postgres_url, Worker(layout=3))


# Far off, since what a machine stands still for between its two looks is not counted as difference.
@pytest.mark.parametrize(
    ("ahead_s", "words"), [(9500, r"9[45]\d\d s ahead of"), (-4000, r"(39\d\d|4000) s behind")], ids=["ahead", "behind"]
)
def test_a_wrong_clock_is_refused_with_by_how_much(postgres_url: str, ahead_s: float, words: str) -> None:
    with pytest.raises(LocalError, match=f"the clock of this machine is {words}.*NTP"):
        joined(postgres_url, Worker(clock=lambda: time.time() + ahead_s))
    state = joined(postgres_url, Worker(clock=lambda: time.time() + ahead_s), clock_difference=Duration(hours=3))
    [member] = state.membership.members()
    assert abs(member.clock_s - ahead_s) < patient(25)


def test_a_clock_that_goes_wrong_later_is_noticed_before_something_is_signed(postgres_url: str) -> None:
    off = 0.0
    state = joined(postgres_url, Worker(clock=lambda: time.time() + off))
    state.membership.check()
    off = 3600.0
    with pytest.raises(LocalError, match=r"3[56]\d\d s ahead of"):
        state.membership.check()


def test_who_was_forgotten_is_a_member_again_with_its_next_sign_of_life(postgres_url: str) -> None:
    first, second = joined(postgres_url), joined(postgres_url)
    change(postgres_url, "DELETE FROM members WHERE name = '" + first.membership.name + "'")  # after a day of sleep
    assert first.membership.beat()
    with first.leases.held("x", "it is held"), pytest.raises(StateLocked, match="it is held"):
        second.leases.held("x", "it is held").__enter__()


def test_who_stood_still_while_a_newer_layout_took_over_goes_on_no_more(postgres_url: str) -> None:
    old = joined(postgres_url, Worker(build="1.0", layout=2))
    lease = old.leases.attempt("x")
    be_silent(postgres_url)
    joined(postgres_url, Worker(layout=3))
    assert lease and not old.membership.beat()
    with pytest.raises(StateTooNew, match="layout 3"):
        _ = old.database
    assert [each.alive for each in old._membership.members() if each.name == old._membership.name] == [False]


def test_two_projects_have_a_state_each(postgres_url: str) -> None:
    joined(postgres_url, project="ours").close()
    for theirs in ("theirs", None):
        with pytest.raises(InputError, match=r"of the project ours, and this worker is of .*a database of its own"):
            joined(postgres_url, project=theirs)
    joined(postgres_url, project="ours")


def test_a_state_that_is_at_work_without_a_name_gets_none_from_a_stranger(postgres_url: str) -> None:
    """Its workers would be refused from then on."""
    here, elsewhere = Worker(configuration="here", place="/here.yaml"), Worker(configuration="elsewhere")
    joined(postgres_url, here)
    with pytest.raises(
        InputError, match=r"used without .*, by .* with /here\.yaml; this worker is of theirs, with another"
    ):
        joined(postgres_url, elsewhere, project="theirs")
    joined(postgres_url, here)
    joined(postgres_url, here, project="ours")


def test_a_configuration_is_rolled_out_and_then_the_older_is_refused(
    postgres_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    old, new = Worker(configuration="old", place="/old.yaml"), Worker(configuration="new", place="/new.yaml")
    first = joined(postgres_url, old)
    assert first.membership.notes == ()
    second = joined(postgres_url, new)
    assert "/old.yaml" in second.membership.notes[0]
    assert caplog.messages == list(second.membership.notes)
    joined(postgres_url, old).close()  # runs of the old one that begin meanwhile
    change(postgres_url, f"UPDATE members_configurations SET since = since - {membership.ROLLOUT_S + 60}")
    with pytest.raises(StateLocked, match=r"another configuration is at work .* 16 minutes: .*/new\.yaml"):
        joined(postgres_url, old)
    joined(postgres_url, new).close()
    first.close()
    joined(postgres_url, old)  # a roll-back: nobody has the old one any more, so that it is the newest now


def test_configurations_that_nobody_has_any_more_are_forgotten(postgres_url: str) -> None:
    old, same = (joined(postgres_url, Worker(configuration=each)) for each in ("old", "same"))
    old.close()
    change(postgres_url, f"UPDATE members_configurations SET since = since - {2 * membership.KEPT_S}")
    joined(postgres_url, Worker(configuration="same")).close()
    change(postgres_url, "DELETE FROM members_configurations WHERE configuration = 'old'")  # its member is known yet
    joined(postgres_url, Worker(configuration="gone")).close()
    change(postgres_url, f"UPDATE members_configurations SET since = since - {2 * membership.KEPT_S}")
    change(postgres_url, f"UPDATE members SET seen = seen - {2 * membership.KEPT_S} WHERE ended")
    joined(postgres_url, Worker(configuration="same")).close()
    with needed_module("psycopg", "postgres").connect(postgres_url) as database:
        rows = database.execute("SELECT configuration FROM members_configurations").fetchall()
    assert rows == [("same",)]
    same.close()


def test_a_configuration_is_the_same_wherever_it_lies_and_without_its_secrets(tmp_path: Path) -> None:
    def digest(folder: str, text: str = CONFIG, **environment: str) -> str:
        path = tmp_path / folder / "registry-pipelines.yaml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        return digest_of(load(path, environment))

    assert digest("a") == digest("b", REGISTRY_PIPELINES_STATE="/var/x") == digest("c", f"# a word\n{CONFIG}")
    assert digest("a") != digest("d", CONFIG.replace("auto", "manual"))
    # A file of each machine's own: the access log that an embedded registry writes.
    logs = CONFIG.replace(
        "kind: distribution, host: registry.example",
        "kind: embedded, port: 5601, access_log: .registry-pipelines/here.jsonl",
    )
    assert digest("e", logs) == digest("f", logs, REGISTRY_PIPELINES_STATE="/var/x")
    assert digest("e", logs) == digest("f", logs, REGISTRY_PIPELINES_STATE=str(tmp_path / "f" / "own"))
    assert digest("e", logs) != digest("g", logs.replace("here.jsonl", "there.jsonl"))


def test_the_environment_says_what_the_file_does_not(tmp_path: Path) -> None:
    path = tmp_path / "registry-pipelines.yaml"
    path.write_text(CONFIG)
    url = "postgresql://rp:s3cret@db.example/state"
    environment = {"REGISTRY_PIPELINES_DATABASE": url, "REGISTRY_PIPELINES_STORE": "s3://bucket/prefix"}
    shared = load(path, environment).shared
    assert shared.database.reveal() == url and shared.store == "s3://bucket/prefix"
    assert not load(path, {"REGISTRY_PIPELINES_DATABASE": ""}).shared.database
    for wrong in ("mysql://rp:s3cret@db/x", "s3cret"):
        with pytest.raises(ConfigInvalid, match=r"shared\.database: REGISTRY_PIPELINES_DATABASE is not") as caught:
            load(path, {"REGISTRY_PIPELINES_DATABASE": wrong})
        assert "s3cret" not in str(caught.value)
    with pytest.raises(ConfigInvalid, match="a store alone is not enough"):
        load(path, {"REGISTRY_PIPELINES_STORE": "s3://bucket/prefix"})
    path.write_text(CONFIG + 'shared: {database: "${DB}", silence: 1s}\n')
    with pytest.raises(ConfigInvalid, match=r"shared\.silence: .*2s to 1h"):
        load(path, {"DB": url})
    path.write_text(CONFIG + 'journal: "${DB}"\n')
    with pytest.raises(ConfigInvalid, match=r"journal: is `shared: \{database: \.\.\.\}` now"):
        load(path, {"DB": url})


# Leases


def test_a_lease_is_one_worker_s_and_says_whose(postgres_url: str) -> None:
    first, second = joined(postgres_url), joined(postgres_url)
    with first.leases.held("collect/x", "another worker collects x") as lease:
        for other in (first, second):
            with pytest.raises(StateLocked, match=r"another worker collects x: .*process \d+, for \d+ s"):
                other.leases.held("collect/x", "another worker collects x").__enter__()
        lease.check()
        with second.leases.held("collect/y", "another worker collects y"):
            pass
    with second.leases.held("collect/x", "another worker collects x"):
        pass


def test_a_lease_that_ends_is_taken_by_who_waits(postgres_url: str) -> None:
    first, second = joined(postgres_url), joined(postgres_url)
    order = []
    with first.leases.held("x", "it is held"):
        waiting = threading.Thread(target=lambda: hold(second, order))
        waiting.start()
        order.append("first")
    waiting.join()
    assert order == ["first", "second"]


def hold(state: SharedState, order: list[str]) -> None:
    with state.leases.held("x", "it is held", wait_s=patient(30)):
        order.append("second")


def test_who_stood_still_learns_that_another_took_over_and_writes_nothing(postgres_url: str) -> None:
    first, second = joined(postgres_url), joined(postgres_url)
    with pytest.raises(StateLocked, match="another worker took over"), first.leases.held("x", "held") as lease:
        be_silent(postgres_url)
        with second.leases.held("x", "held"):
            with pytest.raises(StateLocked, match="another worker took over"):
                first.database.run(lease.guard)
            first.membership.beat()
            with pytest.raises(StateLocked, match="another worker took over"):
                lease.check()


def test_a_sign_of_life_tells_of_a_lost_lease_without_being_asked(postgres_url: str) -> None:
    first = joined(postgres_url, silence=Duration(seconds=3))
    lease = first.leases.attempt("x")
    assert lease is not None
    change(postgres_url, "DELETE FROM leases")
    until(lease.lost.is_set)


@given(st.lists(st.tuples(st.integers(0, 2), st.sampled_from(["take", "leave", "dies", "comes back"])), max_size=12))
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_never_two_living_workers_hold_one_lease(
    three: tuple[str, list[SharedState]], steps: list[tuple[int, str]]
) -> None:
    """Whatever the order in which they take it, leave it, fall silent and come back."""
    url, workers = three
    change(url, "UPDATE members SET silence_s = 600")
    held: list[Lease | None] = [None, None, None]
    silent: set[int] = set()
    for who, what in steps:
        name = workers[who].membership.name
        if what == "take" and held[who] is None:
            lease = workers[who].leases.attempt("x")
            holders = [at for at in range(3) if held[at] is not None and at not in silent and at != who]
            assert (lease is None) == bool(holders)
            if lease is not None:
                held = [None if at in silent else each for at, each in enumerate(held)]
                held[who] = lease
        elif what == "leave" and (lease := held[who]) is not None:
            workers[who].leases.leave(lease)
            held[who] = None
        elif what in ("dies", "comes back"):
            change(url, f"UPDATE members SET silence_s = {0.0 if what == 'dies' else 600} WHERE name = '{name}'")
            silent = silent | {who} if what == "dies" else silent - {who}
    for who, lease in enumerate(held):
        if lease is not None:
            workers[who].leases.leave(lease)
    change(url, "UPDATE members SET silence_s = 600")


@pytest.fixture
def three(postgres_url: str) -> tuple[str, list[SharedState]]:
    return postgres_url, [joined(postgres_url, silence=Duration(seconds=600)) for _ in range(3)]


# Outages


def test_a_connection_to_what_became_a_standby_is_left_for_one_that_may_be_written(postgres_url: str) -> None:
    state = joined(postgres_url)
    state.database.run(lambda on: on.rows("SELECT set_config('default_transaction_read_only', 'on', FALSE)", {}))
    lease = state.leases.attempt("x")
    assert lease and state.leases.leave(lease)


def test_another_program_s_database_is_told_and_left_as_it_is(postgres_url: str) -> None:
    with needed_module("psycopg", "postgres").connect(postgres_url, autocommit=True) as database:
        database.execute("CREATE TABLE members (id INTEGER)")
        database.execute("INSERT INTO members VALUES (7)")
        with pytest.raises(LocalError, match=r"does not exist.*a database of their own"):
            joined(postgres_url)
        assert database.execute("SELECT * FROM members").fetchall() == [(7,)]


def test_a_role_that_may_make_no_tables_is_told(postgres_url: str) -> None:
    with needed_module("psycopg", "postgres").connect(postgres_url, autocommit=True) as database:
        database.execute(f"CREATE ROLE {(role := 'r' + uuid.uuid4().hex)} LOGIN PASSWORD 'x'")
        database.execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
        with pytest.raises(LocalError, match=r"permission denied.*grant it CREATE on its schema"):
            joined(postgres_url.replace(f"rp:{ESCAPED}", f"{role}:x"))


def test_a_database_that_may_only_be_read_is_told(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "START_S", 0.3)
    joined(postgres_url).close()
    with needed_module("psycopg", "postgres").connect(postgres_url, autocommit=True) as database:
        database.execute("ALTER ROLE rp SET default_transaction_read_only = on")
        try:
            with pytest.raises(LocalError, match="read-only"):
                joined(postgres_url)
        finally:
            database.execute("ALTER ROLE rp RESET default_transaction_read_only")


def test_connections_that_nobody_uses_are_given_back(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "IDLE_S", 0.0)
    state = joined(postgres_url)
    all_wait = threading.Barrier(server.CONNECTIONS)
    threads = [
        threading.Thread(target=lambda: state.database.run(lambda _: all_wait.wait(patient(30))))
        for _ in range(server.CONNECTIONS)
    ]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    mine = "SELECT COUNT(*) AS count FROM pg_stat_activity WHERE backend_type = 'client backend'"
    until(lambda: state.database.run(lambda on: on.rows(mine, {}))[0]["count"] <= 2)


@pytest.mark.peer("pgbouncer")
def test_transactions_may_go_to_a_server_each(postgres_url: str, _postgres: str, peer: Callable[[str], str]) -> None:
    """Behind PgBouncer in transaction mode: the driver would prepare what it sees a sixth time, on a server that the
    next transaction does not see."""
    with PgBouncer(peer("pgbouncer"), _postgres) as address:
        name = urlsplit(postgres_url).path
        state = joined(f"{address}{name}")
        answers: list[int] = []

        def ask(thread: int) -> None:
            for number in range(20):
                rows = state.database.run(lambda on, it=number: on.rows("SELECT CAST(:it AS int) AS it", {"it": it}))
                answers.append(rows[0]["it"])

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        assert sorted(answers) == sorted([*range(20)] * 4)


def test_a_server_that_comes_up_late_is_waited_for(postgres_programs: Path) -> None:
    needed_module("psycopg", "postgres")
    with PostgresServer(postgres_programs) as postgres:
        postgres.stop()
        later = threading.Timer(0.5, postgres.start)
        later.start()
        state = joined(f"postgresql://rp:{ESCAPED}@/postgres?host={postgres.folder}")
        later.join()
        with state.leases.held("x", "held") as lease:
            postgres.stop()
            postgres.start()
            until(state.membership.beat)  # its restart is nobody's silence
            lease.check()
        state.close()


class Cancelled(BaseException):
    """As Dagster ends a run."""


def test_a_connection_on_which_a_signal_stopped_a_statement_is_used_no_more(
    postgres_url: str, request: pytest.FixtureRequest
) -> None:
    """Of what a cancelled run tidies up nothing came to the database."""

    def stop(*_: object) -> None:
        raise Cancelled

    before = signal.signal(signal.SIGUSR1, stop)
    request.addfinalizer(lambda: signal.signal(signal.SIGUSR1, before))
    state, other = joined(postgres_url), joined(postgres_url)
    asleep = "SELECT 1 FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%' AND datname = current_database()"

    def end_it() -> None:
        until(lambda: bool(other.database.run(lambda on: on.rows(asleep, {}))))
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)

    ending = threading.Thread(target=end_it)
    with pytest.raises(Cancelled), state.leases.held("x", "held"):
        ending.start()
        state.database.run(lambda on: on.rows("SELECT pg_sleep(600)", {}))
    ending.join()
    with other.leases.held("x", "held"):
        assert state.database.run(lambda on: on.rows("SELECT 1 AS one", {}), patient=False)[0]["one"] == 1


def test_what_a_database_has_as_isolation_changes_nothing(postgres_url: str) -> None:
    name = urlsplit(postgres_url).path[1:].partition("?")[0]
    with needed_module("psycopg", "postgres").connect(postgres_url) as database:
        database.execute(f'ALTER DATABASE "{name}" SET default_transaction_isolation = serializable')
    states = [joined(postgres_url) for _ in range(2)]
    for state in states:
        state.database.make(budget_tables.TABLES)
    failed: list[LocalError] = []

    def take(state: SharedState) -> None:
        asked = [budget_tables.LineAsk("line", take_s=0.001)]
        for _ in range(20):
            try:
                state.database.run(lambda on: budget_tables.move_lines(on, asked), patient=False)
            except LocalError as error:
                failed.append(error)

    threads = [threading.Thread(target=take, args=(each,)) for each in states * 3]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert not failed


def test_a_lease_that_ends_while_the_database_is_away_is_free_when_it_is_back(postgres_programs: Path) -> None:
    """Its holder lives on, and gives signs of life: nobody else could take it until that process ends."""
    needed_module("psycopg", "postgres")
    with PostgresServer(postgres_programs) as postgres:
        url = f"postgresql://rp:{ESCAPED}@/postgres?host={postgres.folder}"
        first, second = joined(url, silence=Duration(hours=1)), joined(url, silence=Duration(hours=1))
        turn = first.leases.attempt("turn")
        assert turn is not None
        with first.leases.held("x", "held"):
            postgres.stop()
            first.leases.leave(turn)
        postgres.start()
        assert second.leases.attempt("x") is None  # nobody could say so
        until(first.membership.beat)
        until(first.membership.beat)
        for name in ("x", "turn"):
            with second.leases.held(name, "held"):
                first.membership.beat()  # ends nobody's
        for each in (first, second):
            each.close()


def test_a_lease_whose_taking_was_not_answered_is_free_again(postgres_url: str) -> None:
    first, second = joined(postgres_url), joined(postgres_url)
    run = first.database.run

    def unanswered(act: Callable[[Any], Any], **options: bool) -> Any:
        run(act, **options)
        raise LocalError("the shared database cannot be used: its answer was lost")

    first.database.run = unanswered  # type: ignore[method-assign]
    with pytest.raises(LocalError, match="its answer was lost"):
        first.leases.attempt("x")
    first.database.run = run  # type: ignore[method-assign]
    assert second.leases.attempt("x") is None
    assert first.membership.beat()
    assert second.leases.attempt("x") is not None


def test_one_that_is_away_or_wants_another_password_is_told(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "START_S", 0.3)
    with pytest.raises(LocalError, match=r"127\.0\.0\.1:1/x: the shared database cannot be used: .*Check that"):
        joined(f"postgresql://rp:{ESCAPED}@127.0.0.1:1/x")
    monkeypatch.setattr(server, "START_S", 600.0)
    with pytest.raises(LocalError, match="password authentication failed"):  # at once: it does not pass by itself
        joined(postgres_url.replace(ESCAPED, "other"))
    with pytest.raises(LocalError, match="does not exist"):
        joined(postgres_url.replace("@/", "@/no"))
