"""What one machine keeps the other finds, and each thing is done by one of them at a time."""

from __future__ import annotations

import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
from msgspec.structs import replace

from registry_pipelines.chain import Chain
from registry_pipelines.chain.advisory_sets import imported, standing
from registry_pipelines.chain.audit_reading import store_of
from registry_pipelines.chain.audit_sources import received
from registry_pipelines.chain.documents import documents_of
from registry_pipelines.chain.metrics import history, keep
from registry_pipelines.chain.notify_pace import left_out
from registry_pipelines.chain.quarantine import alone
from registry_pipelines.chain.release_keys import ReleaseKeys
from registry_pipelines.chain.session import Session
from registry_pipelines.collect.seen import SeenTags
from registry_pipelines.config import load
from registry_pipelines.config.notify import Notify
from registry_pipelines.errors import InputError, LocalError, SignatureInvalid, StateLocked
from registry_pipelines.events.notifications import received_lines
from registry_pipelines.evidence.model import Verifier
from registry_pipelines.infra.ecr.owed import Owed
from registry_pipelines.mirror.bundle.far import FarFolder
from registry_pipelines.mirror.bundle.near import NearState
from registry_pipelines.oci.digest import Digest
from registry_pipelines.progress import Silent
from registry_pipelines.promote import channels
from registry_pipelines.promote.channels import newer_on
from registry_pipelines.registry.protocol import Place
from registry_pipelines.release import Release
from registry_pipelines.report.metrics.model import Collected, sample
from registry_pipelines.settings import Secret
from registry_pipelines.shared import server
from registry_pipelines.shared.membership import Worker
from registry_pipelines.shared.settings import Shared
from tests.chain.fleet import Fleet, push
from tests.doubles.osv_export import OsvExport, small_set
from tests.doubles.workers import worker
from tests.patience import patient
from tests.scan.images import push_image
from tests.shared.conftest import Machines

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)


def session(machines: Machines, name: str) -> Session:
    return Session(machines.config(name), Silent())


def test_keys_of_releases_are_the_same_whoever_gives_them(postgres_url: str, tmp_path: Path) -> None:
    releases = [Release("app", f"v{n % 7}", Digest.of(str(n).encode())) for n in range(60)]
    alike = [Release("app", "x", Digest("sha256:" + "a" * 12 + f"{n}" * 52)) for n in (1, 2)]
    keys = [ReleaseKeys(tmp_path, worker(postgres_url).database) for _ in range(3)]
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda n: keys[n % 3].name([*releases[n::5], *alike, *releases]), range(12)))
    assert all(each == answers[0] or dict(each) == dict(answers[0]) for each in answers)
    assert {len(answers[0][each].rpartition("@")[2]) for each in alike} == {16}
    assert keys[1].every() == {key: release for release, key in answers[0].items()}
    assert keys[2].find(answers[0][releases[3]]) == releases[3] and keys[0].find("app:v1@" + "0" * 12) is None
    assert keys[0].like("app:x@" + "a" * 12) == sorted(answers[0][each] for each in alike)
    assert not list(tmp_path.iterdir())


def test_tags_that_one_saw_are_known_to_the_other(postgres_url: str) -> None:
    first, other = worker(postgres_url).database, worker(postgres_url).database
    one, two = Digest.of(b"1"), Digest.of(b"2")
    hour = timedelta(hours=1)
    begin = SeenTags(first, "us", within=hour, now=NOW)
    assert begin.knows_nothing() and begin.recent("app", {"v1": one}) == {}
    later = SeenTags(other, "us", within=hour, now=NOW + timedelta(minutes=10))
    assert not later.knows_nothing()
    assert later.recent("app", {"v1": one, "v2": two}) == {two: "tag v2 came 0 s ago, by our own looks"}
    again = SeenTags(first, "us", within=hour, now=NOW + timedelta(minutes=20))
    assert again.recent("app", {"v1": one, "v2": two}) == {two: "tag v2 came 10 min ago, by our own looks"}
    assert SeenTags(first, "eu", within=hour, now=NOW).recent("app", {"v1": one}) == {}


def test_a_plan_of_one_is_applied_by_the_other_once(machines: Machines) -> None:
    app = machines.fleet.chain.place("app")
    for number in range(3):
        push(app, f"v{number}", version=str(number))
    Session(machines.fleet.config, Silent()).keys.signer("promoter")  # makes the key that both get
    one, other = machines.chain("one"), machines.chain("other")
    made = one.retention_plan("us")
    assert made.facts["delete"] and not made.notes, made
    done = other.collect_approved("us", str(made.digest))
    assert done.ok and done.changed, done
    again = one.collect_approved("us", str(made.digest))
    assert not again.changed and "nothing of it is done twice" in again.notes[0]
    with pytest.raises(InputError, match=r"no plan sha256:0+ is kept here"):
        other.collect_approved("us", "sha256:" + "0" * 64)


def test_a_plan_that_somebody_changed_is_not_applied(machines: Machines) -> None:
    app = machines.fleet.chain.place("app")
    for number in range(2):
        push(app, f"v{number}", version=str(number))
    Session(machines.fleet.config, Silent()).keys.signer("promoter")
    one, other = machines.chain("one"), machines.config("other")
    made = one.retention_plan("us")
    documents = documents_of(other).under("collect/plans")
    name = f"{str(made.digest).partition(':')[2]}.json"
    plan = documents.read(name)
    assert plan
    documents.write(name, plan.content.replace(b'"registry"', b'"registry" ', 1))
    with pytest.raises(SignatureInvalid, match="the signature is another plan's"):
        Chain(other).collect_approved("us", str(made.digest))
    documents.delete(f"{name}.sig")
    with pytest.raises(SignatureInvalid, match="the plan is not signed"):
        Chain(other).collect_approved("us", str(made.digest))


def test_a_key_that_somebody_gave_another_release_is_refused(postgres_url: str, tmp_path: Path) -> None:
    database = worker(postgres_url).database
    keys = ReleaseKeys(tmp_path, database)
    [(release, key)] = keys.name([Release("app", "v1", Digest.of(b"good"))]).items()
    evil = {"digest": str(Digest.of(b"evil"))}
    database.run(lambda on: on.change("UPDATE release_keys SET digest = :digest", evil))
    with pytest.raises(LocalError, match="is written with another release"):
        keys.find(key)
    assert keys.name([release])[release] != key


def test_an_hour_takes_only_so_many_notifications_of_all_together(
    machines: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And each machine counts for itself while the database is away."""
    both = [replace(machines.config(name), notify=Notify(most_per_hour=4)) for name in ("one", "other")]
    with ThreadPoolExecutor(6) as pool:
        told = list(pool.map(lambda number: left_out(both[number % 2]), range(10)))
    assert (told.count(0), told.count(None)) == (4, 6)
    assert not list(machines.fleet.folder.glob("o*e*/notify"))
    alone = replace(both[0], shared=Shared(database=Secret("postgresql://nobody@127.0.0.1:1/none")))
    monkeypatch.setattr(server, "START_S", 0.2)
    assert left_out(alone) == 0 and len(list(machines.fleet.folder.glob("o*e*/notify/sent.json"))) == 1


def test_what_one_keeps_the_other_finds(machines: Machines) -> None:
    one, other = session(machines, "one"), session(machines, "other")
    push_image(Place(one.places.registry("us"), "bases/python"), [{"usr/bin/python": "3"}], tag="3")
    assert Chain(one.config).bases(["python"]).changed and not Chain(other.config).bases(["python"]).changed
    for number, each in enumerate((one, other)):
        collected = Collected(time=NOW, samples=(sample("registry_bytes", number, NOW, registry="us"),))
        assert not keep(each, collected)
    assert [each.name for each in history(one).entries()] == ["2026-11-30.parquet"]

    near = [NearState(each.documents.under("bundles/near/m"), "m") for each in (one, other)]
    assert near[0].line() == near[1].line()
    with near[0].held(), pytest.raises(StateLocked, match="another process makes a bundle of m"), near[1].held():
        pass
    far = [FarFolder(each.documents.under("bundles/far/m"), "m") for each in (one, other)]
    with far[0].held() as state:
        state.sequence = 7
        far[0].save(state)
    assert far[1].read().sequence == 7 and far[1].read().far == state.far
    Owed(one.documents.under("infra/ecr")).add(frozenset({"1/eu"}))
    assert Owed(other.documents.under("infra/ecr")).read() == {"1/eu"}
    with alone(one, "us"), pytest.raises(StateLocked, match="another process collects us"), alone(other, "us"):
        pass
    kept = {path.relative_to(machines.fleet.folder).parts[1] for path in machines.fleet.folder.glob("o*e*/*")}
    assert kept <= {"keys", "copies", "transfer", "version", "scan", "layers"}, "nothing else is in the folders"


def test_a_log_that_one_was_told_is_read_by_the_other(machines: Machines) -> None:
    one, other = session(machines, "one"), session(machines, "other")
    source = one.config.report.audit.sources["hub"]
    line = (
        b'{"id":"n1","timestamp":"2026-11-30T10:00:00Z","action":"delete","target":{"repository":"team/app",'
        b'"digest":"sha256:%s"},"request":{"method":"DELETE"},"actor":{"name":"ci"}}\n' % (b"a" * 64)
    )
    received_lines(received(one, source)).add(line)
    first = Chain(other.config).audit()
    assert first.rows and store_of(one).days() == [NOW.date()]
    assert [each.who for each in store_of(one).events()] == ["ci"]
    assert Chain(one.config).audit().tables["sources"][0]["new"] == 0


def test_advisories_that_one_imports_are_those_of_all(machines: Machines, tmp_path: Path) -> None:
    configs = [
        replace(machines.config(name), advisories=machines.config(name).advisories.__class__())
        for name in ("one", "other")
    ]
    with OsvExport(small_set()) as export:
        (tmp_path / "all.zip").write_bytes(export.content("PyPI/all.zip") or b"")
    now = datetime.now(UTC)
    done = imported(configs[0].state, [f"PyPI={tmp_path / 'all.zip'}"], now=now, config=configs[0])
    there = standing(configs[1].state, now=now, config=configs[1])
    assert there.digest == done.digest == standing(configs[0].state, now=now, config=configs[0]).digest
    assert there.facts["kind"] == "set"
    documents = documents_of(configs[1]).under("advisories")
    with documents.held("lock", "x"), pytest.raises(StateLocked, match="another worker updates or imports"):
        imported(configs[0].state, [f"PyPI={tmp_path / 'all.zip'}"], now=now, config=configs[0])


@pytest.mark.parametrize("shared", [False, True], ids=["one machine", "two machines"])
def test_of_two_releases_that_come_at_once_the_higher_stays(
    machines: Machines, monkeypatch: pytest.MonkeyPatch, shared: bool
) -> None:
    """The older one is between its look at the channel and the move when the newer one comes."""
    machines.fleet.reload(("repository: team/app,", "repository: team/app, promote: auto,"))
    fleet = Fleet(machines.fleet.path, load(machines.fleet.path, {}), machines.alone())
    older, newer = fleet.release("v1.0.0"), fleet.release("v2.0.0")
    assert fleet.judged(older) and fleet.judged(newer)
    first, second = (machines.chain(name) if shared else Chain(fleet.config) for name in "ab")
    moving, moved = threading.Event(), threading.Event()

    def slow_look(place: Place, release: Release, verifier: Verifier, *, channel: str) -> str:
        found = newer_on(place, release, verifier, channel=channel)
        if release == older:
            moving.set()
            moved.wait(0.5)
        return found

    monkeypatch.setattr(channels, "newer_on", slow_look)
    with ThreadPoolExecutor(2) as pool:
        slow = pool.submit(first.promote_automatically, older)
        assert moving.wait(patient(30))
        assert second.promote_automatically(newer).changed
        moved.set()
        slow.result()
    place = fleet.chain.place("app")
    assert place.registry.resolve(place.repository, "prod").digest == newer.digest


def test_nothing_is_signed_or_decided_with_a_clock_that_went_wrong(machines: Machines) -> None:
    fleet = machines.fleet
    fleet.judged(fleet.release("v1.0.0"))
    own, ahead_s = session(machines, "a"), [0.0]
    assert own.shared is not None
    own.shared._worker = replace(own.shared._worker, clock=lambda: time.time() + ahead_s[0])
    assert own.keys.signer("promoter") and own.now()
    ahead_s[0] = 3600.0
    for act in (lambda: own.keys.signer("promoter"), own.now):
        with pytest.raises(LocalError, match=r"3[56]\d\d s ahead"):
            act()


def test_commands_that_sign_what_is_no_release_look_at_the_clock_too(machines: Machines) -> None:
    weights = machines.fleet.folder / "weights"
    weights.mkdir()
    (weights / "a.txt").write_text("a")
    words = ("weights", "sign", str(weights))
    Session(machines.fleet.config, Silent()).keys.signer("person", "builder")
    machines.run(*words)
    with pytest.MonkeyPatch.context() as patched:
        ahead = partial(Worker, clock=lambda: time.time() + 3600)
        patched.setattr("registry_pipelines.shared.state.Worker", ahead)
        refused = machines.run(*words, code=9)
    assert re.search(r"3[56]\d\d s ahead", refused["what"])


def test_no_worker_makes_a_key_of_its_own(machines: Machines) -> None:
    bare = session(machines, "bare")
    for ask in (lambda: bare.keys.signer("scanner"), bare.keys.trusted):
        with pytest.raises(InputError, match="no key is made here: workers share their state") as refused:
            ask()
        assert "the same `keys` folder as a secret" in str(refused.value)
    assert not (bare.config.state / "keys").exists()
    Session(machines.fleet.config, Silent()).keys.signer("scanner")
    equipped = session(machines, "equipped")
    assert (
        equipped.keys.signer("scanner").key_id == Session(machines.fleet.config, Silent()).keys.signer("scanner").key_id
    )
    (equipped.config.state / "keys" / "signing.key").unlink()
    assert session(machines, "equipped").keys.trusted(), "who only verifies needs the public half alone"
