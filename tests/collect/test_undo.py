"""`collect quarantined`, `undo` and `purge`, by the command line: what a person and a script see."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner

from registry_pipelines.chain import Chain
from registry_pipelines.chain.quarantine import alone
from registry_pipelines.chain.session import Session
from registry_pipelines.cli import main
from registry_pipelines.collect.records import write_record
from registry_pipelines.config import load
from registry_pipelines.evidence.keys import load_signer
from registry_pipelines.progress import Silent
from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.embedded import EmbeddedServer
from registry_pipelines.registry.layout import LayoutRegistry
from registry_pipelines.registry.protocol import Place
from registry_pipelines.registry.set_aside import quarantine_of
from tests.answers import document
from tests.cli.test_bad_input import PROGRAM
from tests.collect.test_quarantine import content_of, records
from tests.collect.test_retention import note, push
from tests.collect.test_stored import RULE, Shop
from tests.collect.test_stored import shop as shop
from tests.doubles.aws.ecr import ACCOUNT, REGION, EcrDouble
from tests.doubles.fault_registry import FaultRegistry
from tests.doubles.faults import HoldAnswer
from tests.patience import patient


def emptied(shop: Shop) -> str:
    """Apply a plan; its digest."""
    [made] = shop.collect("plan", "here")
    [applied] = shop.collect("apply", "here", made["digest"])
    assert applied["facts"]["quarantine_days"] == 14 and "set aside until" in applied["notes"][0]
    digest: str = made["digest"]
    return digest


def test_what_is_set_aside_is_listed_and_comes_back(shop: Shop) -> None:
    note(shop.place, push(shop.place, "v1", days_ago=99), "about v1")
    before = content_of(shop.place)
    plan = emptied(shop)
    [listed] = shop.collect("quarantined", "here")
    assert {(row["tags"], row["plan"]) for row in listed["rows"]} == {("v0", plan), ("v1", plan)}
    [back] = shop.collect("undo", "here", "team/app:v1")
    assert back["facts"]["whole"] == 1 and shop.tags == ["v1", "v2"]
    assert shop.collect("undo", "here", "team/app:v1", code=8)["what"] == "team/app:v1 is not set aside"
    shop.collect("undo", "here", "--plan", plan)
    assert content_of(shop.place) == before
    [listed] = shop.collect("quarantined")
    assert listed["action"] == "nothing is set aside" and listed["rows"] == []
    assert "nothing that" in shop.collect("undo", "here", "--plan", plan, code=8)["what"]
    assert "name images, or a plan" in shop.collect("undo", "here", code=8)["what"]


def test_a_person_reads_what_went_until_when_and_how_it_comes_back(shop: Shop) -> None:
    def shown(*words: str) -> str:
        words = ("collect", *words, "--config", str(shop.folder / "rp.yaml"))
        done = CliRunner().invoke(main, [*words], env={"COLUMNS": "220"})
        assert done.exit_code == 0, done.output
        return done.stdout

    made = shown("apply", "here", "--now")
    assert "deleted in here" in made and "to apply it" not in made
    listed = shown("quarantined")
    [command] = [line for line in listed.splitlines() if line.startswith("to bring one back: ")]
    assert "set aside in here" in listed and listed.count("team/app ") == 2
    assert "may let it go again" in shown(*command.partition(" collect ")[2].split())
    assert len(shop.tags) == 2
    assert "to apply it: registry-pipelines collect apply here sha256:" in shown("plan")


def test_purge_takes_only_what_is_over(shop: Shop) -> None:
    shop.configure(more="signing: {generate: true}\ncollect: {quarantine: 1}\n")
    [made] = shop.collect("plan", "here")
    shop.collect("apply", "here", made["digest"])
    [kept] = shop.collect("purge", "here")
    assert (kept["action"], kept["facts"]["left"]) == ("unchanged", 2)
    aside = quarantine_of(shop.place)
    _expire(shop, aside)
    [dry] = shop.collect("purge", "here", "--dry-run")
    assert dry["facts"]["images"] == 1 and not dry["changed"]
    [gone] = shop.collect("purge")
    assert (gone["facts"]["images"], gone["facts"]["left"]) == (1, 1)
    [listed] = shop.collect("quarantined", "here")
    assert len(listed["rows"]) == 1
    shop.collect("undo", "here", f"team/app@{listed['rows'][0]['digest']}")


def _expire(shop: Shop, aside: Place) -> None:
    """Write one record as it is when its time is over, by the same key."""
    signer = load_signer(shop.folder / ".registry-pipelines" / "keys" / "signing.key")
    record = records(shop.place, signer)[0]
    write_record(aside, msgspec.structs.replace(record, until="2026-01-01T00:00:00Z"), signer)


def test_a_record_of_another_key_stops_what_is_beside_it(shop: Shop) -> None:
    """Nobody knows what it keeps; what is believed still comes back."""
    emptied(shop)
    shop.configure(more="signing: {generate: true}\nstate: elsewhere\n", name="other")
    [listed] = shop.collect("quarantined", "here", code=3, config="other")
    assert listed["rows"] == [] and len(listed["reasons"]) == 2 and "trusted key" in listed["reasons"][0]
    [purged] = shop.collect("purge", "here", code=3, config="other")
    assert not purged["changed"]
    assert len(shop.collect("quarantined", "here")[0]["rows"]) == 2


def test_days_that_were_changed_make_a_plan_another_one(shop: Shop) -> None:
    [made] = shop.collect("plan", "here")
    shop.configure(more="signing: {generate: true}\ncollect: {quarantine: 0}\n")
    refused = shop.collect("apply", "here", made["digest"], code=8)
    assert refused["what"] == "the plan sets aside for 14 days, and the configuration says 0"


def test_a_process_that_is_killed_leaves_what_the_next_one_finishes(shop: Shop) -> None:
    """kill -9 while an answer is awaited: to a copy, to a record, to a deletion."""
    before = content_of(shop.place)
    with FaultRegistry(shop.place.registry.name) as faults:
        behind = Shop(shop.folder, Place(DistributionRegistry(faults.address), "team/app"))
        behind.configure(f"[{RULE}]", name="behind")
        [made] = behind.collect("plan", "here", config="behind")
        for method, target in (
            ("PUT", ".*/manifests/rp-record-.*"),
            ("PUT", ".*rp-quarantine.*/manifests/sha256.*"),
            ("DELETE", ".*"),
        ):
            faults.clear()
            faults.reset_counts()
            held = HoldAnswer(threading.Event())
            faults.play(method, target, held)
            words = ["collect", "apply", "here", made["digest"], "--config", str(shop.folder / "behind.yaml")]
            process = subprocess.Popen([*PROGRAM, *words])
            until = time.monotonic() + patient(60)
            while not [one for one in faults.seen if one.fault] and time.monotonic() < until:
                time.sleep(0.02)
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            held.release.set()
            content_of(shop.place)
        faults.clear()
        [done] = behind.collect("apply", "here", made["digest"], config="behind")
        assert done["ok"] and shop.tags == ["v2"]
        behind.collect("undo", "here", "--plan", made["digest"], config="behind")
    assert content_of(shop.place) == before


def test_what_is_set_aside_is_in_no_inventory_and_no_sync(shop: Shop) -> None:
    emptied(shop)
    path = shop.configure(
        more="signing: {generate: true}\ntargets: {disk: {registry: disk}}\n"
        "syncs: {all: {source: here, repositories: ['*'], targets: [disk]}}\n"
    )
    path.write_text(path.read_text().replace("registries:\n", "registries:\n  disk: {kind: layout, root: disk}\n"))
    assert set(shop.place.registry.repositories()) == {"team/app", "rp-quarantine/team/app"}
    counted = run(path, "inventory", "here")
    assert (counted["facts"]["images"], counted["ok"]) == (1, True)
    assert any("1 repository of what retention set aside" in note for note in counted["notes"]), counted["notes"]
    named = run(path, "inventory", "here", "--repository", "rp-quarantine/team/app")
    assert named["facts"]["images"] > 1
    synced = run(path, "sync", "all")
    assert list(LayoutRegistry(shop.folder / "disk").repositories()) == ["team/app"]
    assert "retention set aside" in str(synced)


def run(config: Path, *words: str) -> Any:
    done = CliRunner().invoke(main, [*words, "--json", "--config", str(config)])
    assert done.exit_code == 0, done.output
    [result] = document(done.stdout)["result"]["results"]
    return result


def test_a_plan_says_what_is_sent_where_nothing_is_mounted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with EmbeddedServer(tmp_path / "content") as server, EcrDouble(server.address) as double:
        for name, value in double.environment.items():
            monkeypatch.setenv(name, value)
        api = f"endpoint: '{double.url}', reachable_as: '{double.proxy_address}'"
        path = tmp_path / "rp.yaml"
        path.write_text(
            f"registries:\n  here: {{kind: ecr, account: '{ACCOUNT}', region: {REGION}, {api}}}\n"
            f"retention: [{RULE}]\nsigning: {{generate: true}}\ncollect: {{recent: 0s}}\n"
        )
        shop = Shop(tmp_path, Place(Chain(load(path)).registry("here"), "team/app"))
        for number in range(2):
            push(shop.place, f"v{number}", days_ago=100 - number)
        [made] = shop.collect("plan", "here")
        assert any("here mounts no blobs: at least " in note for note in made["notes"]), made["notes"]
        double.here.settings["BLOB_MOUNTING"] = "ENABLED"
        [made] = shop.collect("plan", "here")
        assert not any("mounts" in note for note in made["notes"])
        [applied] = shop.collect("apply", "here", made["digest"])
        assert applied["facts"]["sent_bytes"] == 0 and applied["facts"]["mounted"] > 0


def test_what_runs_by_now_is_not_deleted_for_good(shop: Shop) -> None:
    """The source of usage came after the plan; then it is silent; then nothing runs any more."""
    plan = emptied(shop)
    signer = load_signer(shop.folder / ".registry-pipelines" / "keys" / "signing.key")
    held = {tag: record for record in records(shop.place, signer) for tag in record.tags}
    for record in held.values():
        over = msgspec.structs.replace(record, until="2026-01-01T00:00:00Z")
        write_record(quarantine_of(shop.place), over, signer)
    uses = shop.folder / "uses.json"
    shop.configure(more="signing: {generate: true}\nusage: {a: {kind: file, path: uses.json}}\n")
    [silent] = shop.collect("purge", "here", code=3)
    assert not silent["changed"] and all("who runs what is not known" in each for each in silent["reasons"])
    running = f"{shop.place.registry.name}/team/app@{held['v0'].digest}"
    uses.write_text(msgspec.json.encode(_said(running)).decode())
    [dry] = shop.collect("purge", "here", "--dry-run", code=3)
    [purged] = shop.collect("purge", "here", code=3)
    assert (dry["facts"]["images"], purged["facts"]["images"]) == (1, 1)
    assert f"team/app@{held['v0'].digest}: it stays set aside" in purged["reasons"][0]
    shop.collect("undo", "here", "--plan", plan)
    assert shop.tags == ["v0", "v2"]


def _said(*images: str) -> dict[str, Any]:
    return {"schema": 1, "at": datetime.now(UTC).isoformat(), "uses": [{"image": each} for each in images]}


def test_one_registry_under_two_names_is_collected_once_at_a_time(shop: Shop) -> None:
    path = shop.configure()
    text = path.read_text()
    here = text.splitlines()[1]
    path.write_text(text.replace(here, f"{here}\n{here.replace('here:', 'there:')}"))
    [made] = shop.collect("plan", "here")
    with alone(Session(load(path, {}), Silent()), "there"):
        assert shop.collect("apply", "here", made["digest"], code=9)["what"] == "another process collects here"
    [applied] = shop.collect("apply", "here", made["digest"])
    assert applied["facts"]["deleted"] == 2
