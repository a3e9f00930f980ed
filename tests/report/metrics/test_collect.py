"""What a fleet's numbers are, read by Prometheus itself, and what happens where one source fails."""

from __future__ import annotations

import json
import os
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from registry_pipelines.chain import Chain
from registry_pipelines.chain.keys import Keyring
from registry_pipelines.chain.metrics import keep
from registry_pipelines.chain.session import Session
from registry_pipelines.cli import main
from registry_pipelines.config import load
from registry_pipelines.measures import MEASURES, OTHERS
from registry_pipelines.progress import Silent
from registry_pipelines.report.audit.model import Action, Event
from registry_pipelines.report.audit.store import AuditStore
from registry_pipelines.report.metrics.model import Collected, Sample, bounded, sample
from registry_pipelines.report.metrics.prometheus import metrics_server
from registry_pipelines.shared.documents import FolderDocuments
from tests.chain.fleet import Fleet, push, start
from tests.needs import needed_module
from tests.packs import attach_pack
from tests.patience import patient
from tests.ports import free_ports

NOW = datetime.now(UTC)
MORE = "backups:\n  nightly: {registries: [us], to: private}\nreport: {metrics: {registries: [us, eu]}}\n"


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """A promoted release at one target of two, a backup, a drill, and a mirror that was brought."""
    needed_module("pandas", "inventory")
    with ExitStack() as stack:
        fleet = start(tmp_path_factory.mktemp("fleet"), stack)
        fleet.path.write_text(fleet.path.read_text() + MORE)
        fleet.chain = Chain(load(fleet.path, {}))
        push(fleet.chain.locate("us/up/stream").place, "1.0")
        release = fleet.release("v1.0.0")
        assert fleet.judged(release)
        fleet.chain.promote(release)
        fleet.chain.replicate(release, "eu")
        fleet.chain.backup("nightly")
        assert fleet.chain.drill("nightly", start=False).ok
        assert fleet.chain.mirror("airgap").ok
        yield fleet


def numbers(fleet: Fleet, *words: str, code: int = 0) -> tuple[dict[str, Any], dict[tuple[str, str], float]]:
    ran = CliRunner().invoke(main, ["report", "metrics", *words, "--config", str(fleet.path), "--json", "--quiet"])
    assert ran.exit_code == code, (ran.output, ran.stderr)
    [result] = json.loads(ran.stdout)["result"]["results"]
    told = {(each["name"], each["labels"]): each["value"] for each in result["tables"]["samples"]}
    return result, told


def blobs_of(fleet: Fleet, registry: str, repository: str) -> int:
    """Bytes of all distinct content of a repository, as its files have them."""
    folder = fleet.config.state / "registries" / registry / repository
    return sum(path.stat().st_size for path in (folder / "blobs").rglob("*") if path.is_file())


def test_every_part_of_the_fleet_has_its_numbers(fleet: Fleet) -> None:
    result, told = numbers(fleet)
    assert result["ok"], result["reasons"]
    assert told["registry_bytes", "registry=us"] > 1000
    assert told["repository_images", "registry=us repository=team/app"] > 1
    assert told["repository_untagged_images", "registry=us repository=team/app"] > 0, "evidence has no tags"
    assert told["replication_lag_seconds", "image=app channel=prod target=eu"] == 0
    assert told["replication_lag_seconds", "image=app channel=prod target=gcp"] > 0
    assert told["replicated_bytes", "source=us target=eu"] > 1000
    assert told["verdicts", "image=app outcome=allow"] == 1 and told["verdicts", "image=tool outcome=none"] == 1
    assert told["drill_failed", "backup=nightly"] == 0
    assert told["drill_recovery_seconds", "backup=nightly"] > 0
    assert told["mirror_age_seconds", "mirror=airgap upstream=us/up/stream"] >= 0
    ages = [value for (name, _), value in told.items() if name.endswith("_age_seconds")]
    assert len(ages) == 6 and all(0 <= each < patient(600) for each in ages)
    assert {name for name, _ in told} <= set(MEASURES)
    assert not [value for (name, _), value in told.items() if name == "source_failed" and value]


def test_stored_bytes_are_those_of_the_files_each_once(fleet: Fleet) -> None:
    _, told = numbers(fleet)
    for repository in ("team/app", "up/stream"):
        assert told["repository_bytes", f"registry=us repository={repository}"] == blobs_of(fleet, "us", repository)


def test_samples_are_kept_for_pictures(fleet: Fleet) -> None:
    numbers(fleet)
    numbers(fleet)
    [path] = (fleet.config.state / "report" / "metrics").glob("*.parquet")
    table = pq.read_table(path)
    assert table.column_names == ["time", "name", "labels", "value", "unit"]
    rows = [row for row in table.to_pylist() if row["name"] == "registry_bytes"]
    assert len({row["time"] for row in rows}) >= 2 and json.loads(rows[0]["labels"]) == {"registry": "us"}


def test_what_cannot_be_kept_is_told_all_the_same(fleet: Fleet, tmp_path: Path) -> None:
    history, aside = fleet.config.state / "report" / "metrics", tmp_path / "aside"
    numbers(fleet)
    history.rename(aside)
    history.write_text("no folder")
    try:
        result, _ = numbers(fleet, "--file", str(tmp_path / "r.prom"), code=7)
    finally:
        history.unlink()
        aside.rename(history)
    assert result["reasons"][0].startswith("the numbers are not kept: ")
    assert "registry_pipelines_registry_bytes" in (tmp_path / "r.prom").read_text()


def test_an_inventory_file_is_taken_for_all_registries_in_it(fleet: Fleet, tmp_path: Path) -> None:
    file = tmp_path / "images.parquet"
    ran = CliRunner().invoke(main, ["inventory", "dmz", "--output", str(file), "--config", str(fleet.path), "--quiet"])
    assert ran.exit_code == 0, ran.output
    _, told = numbers(fleet, "--from", str(file))
    assert {labels for name, labels in told if name == "registry_bytes"} == {"registry=dmz"}


def test_prometheus_scrapes_it_and_its_tools_have_nothing_to_say(
    fleet: Fleet, tmp_path: Path, peer: Callable[[str], str]
) -> None:
    parser = needed_module("prometheus_client.parser", "dev")
    file = tmp_path / "registries.prom"
    _, told = numbers(fleet, "--file", str(file))
    text = file.read_text()
    found = {
        (each.name.removeprefix("registry_pipelines_"), tuple(sorted(each.labels.items()))): each.value
        for family in parser.text_string_to_metric_families(text)
        for each in family.samples
    }
    assert (
        len(found) == len(told)
        and found["registry_images", (("registry", "us"),)] == told["registry_images", "registry=us"]
    )
    check = [peer("promtool"), "check", "metrics"]
    linted = subprocess.run(check, input=text, capture_output=True, text=True, timeout=patient(60))
    assert (linted.returncode, linted.stderr) == (0, ""), linted.stderr
    [port] = free_ports(1)
    with metrics_server("127.0.0.1:0", fleet.chain.scrape(every_s=3600)) as server:
        settings = {
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s"},
            "scrape_configs": [{"job_name": "us", "static_configs": [{"targets": [server.address]}]}],
        }
        (tmp_path / "prometheus.yml").write_text(json.dumps(settings))
        urllib.request.urlopen(f"{server.url}/metrics", timeout=patient(60)).read()  # collected once
        command = [
            peer("prometheus"), f"--config.file={tmp_path}/prometheus.yml", f"--storage.tsdb.path={tmp_path}/data",
            f"--web.listen-address=127.0.0.1:{port}", "--log.level=error",
        ]  # fmt: skip
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as started:
            try:
                query = quote('registry_pipelines_registry_images{registry="us"}')
                [series] = asked(f"http://127.0.0.1:{port}/api/v1/query?query={query}")
            finally:
                started.kill()
    assert series["metric"]["job"] == "us"
    assert float(series["value"][1]) == told["registry_images", "registry=us"]


def asked(url: str) -> list[dict[str, Any]]:
    """The answer of Prometheus once it has scraped."""
    until = time.monotonic() + patient(60)
    while True:
        try:
            with urllib.request.urlopen(url, timeout=patient(5)) as answer:
                found: list[dict[str, Any]] = json.loads(answer.read())["data"]["result"]
            if found:
                return found
        except OSError:
            pass
        assert time.monotonic() < until, "Prometheus has scraped nothing"
        time.sleep(0.2)


def test_one_source_that_fails_is_told_and_the_rest_goes_on(fleet: Fleet) -> None:
    drill = fleet.config.state / "recover" / "nightly-drill.json"
    before = drill.read_text()
    receipts = next((fleet.config.state / "transfer" / "receipts").iterdir())
    bad = receipts / "sha256-bad.json"
    try:
        drill.write_text("{torn")
        bad.write_text("no receipt")
        result, told = numbers(fleet, code=7)
    finally:
        drill.write_text(before)
        bad.unlink()
    assert told["source_failed", "source=drills"] == told["source_failed", "source=receipts"] == 1
    assert told["source_failed", "source=verdicts"] == 0 and told["registry_bytes", "registry=us"] > 0
    assert any("drills: " in each and "cannot be read" in each for each in result["reasons"])


def test_a_time_that_is_to_come_is_a_wrong_clock_and_no_age(fleet: Fleet) -> None:
    drill = fleet.config.state / "recover" / "nightly-drill.json"
    before = drill.read_text()
    history = fleet.config.state / "report" / "metrics" / "2999-01-01.parquet"
    try:
        drill.write_text(json.dumps({**json.loads(before), "time": "2999-01-01T00:00:00Z"}))
        numbers(fleet, code=7)
        history.write_bytes(b"")
        result, told = numbers(fleet, code=7)
    finally:
        drill.write_text(before)
        history.unlink()
    assert ("drill_age_seconds", "backup=nightly") not in told
    assert any("a clock is wrong" in each for each in result["reasons"])
    assert any("a clock jumped" in each for each in result["notes"])


def test_a_registry_that_is_down_has_no_numbers_and_is_named(fleet: Fleet, tmp_path: Path) -> None:
    text = fleet.path.read_text()
    path = tmp_path / "registry-pipelines.yaml"
    (tmp_path / "advisories").symlink_to(fleet.folder / "advisories")
    [port] = free_ports(1)
    gone = f"  gone: {{kind: distribution, host: '127.0.0.1:{port}', plain_http: true}}\n"
    text = text.replace("registries:\n", f"registries:\n{gone}", 1).replace("[us, eu]", "[us, gone]")
    path.write_text(f"state: {fleet.config.state}\n{text}")
    result, told = numbers(Fleet(path, fleet.config, fleet.chain), code=7)
    assert told["registry_images", "registry=us"] > 0
    assert ("registry_images", "registry=gone") not in told
    assert told["source_failed", "source=inventory gone"] == 1
    assert any(each.startswith("inventory gone: ") for each in result["reasons"])


def test_series_are_bounded_and_what_is_left_out_is_counted() -> None:
    parts = [sample("repository_bytes", number, NOW, registry="us", repository=f"r{number}") for number in range(50)]
    others = sample("repository_bytes", 1, NOW, registry="us", repository=OTHERS)
    whole = sample("registry_bytes", 9, NOW, registry="us")
    kept, left = bounded([*parts, others, whole, *parts], most=12)
    assert left == {"repository_bytes": 40} and whole in kept and others in kept
    assert {each.value for each in kept if each not in (whole, others)} == set(range(40, 50))


def test_repositories_above_the_bound_are_told_as_one(fleet: Fleet, tmp_path: Path) -> None:
    _, all_of_them = numbers(fleet)
    path = tmp_path / "registry-pipelines.yaml"
    (tmp_path / "advisories").symlink_to(fleet.folder / "advisories")
    state = f"state: {fleet.config.state}\n"
    path.write_text(state + fleet.path.read_text().replace("[us, eu]", "[us, eu], repositories: 1"))
    result, told = numbers(Fleet(path, fleet.config, fleet.chain))
    mine = {labels: value for (name, labels), value in told.items() if name == "repository_bytes"}
    assert len([labels for labels in mine if labels.startswith("registry=us")]) == 2
    us = sum(value for labels, value in mine.items() if labels.startswith("registry=us"))
    assert us == told["registry_bytes", "registry=us"] == all_of_them["registry_bytes", "registry=us"]
    assert any("are told together as (others)" in note for note in result["notes"])


@pytest.mark.parametrize(
    ("metrics", "told"),
    [
        ("{to: [cloudwatch]}", "says nothing of where"),
        ("{to: [prometheus]}", "`file` is missing"),
        ("{file: numbers.txt}", "must end in .prom"),
        ("{cloudwatch: {registry: us}}", "must be ecr"),
        ("{monitoring: {registry: us}}", "must be gar"),
        ("{otlp: {url: 'ftp://x'}}", "is not the address of a collector"),
        ("{otlp: {url: 'http://me:word@host'}}", "is not the address of a collector"),
        ("{cloudwatch: {registry: us, namespace: AWS/ECR}}", "is not a namespace"),
    ],
)
def test_what_does_not_go_together_is_said_of_the_configuration(tmp_path: Path, metrics: str, told: str) -> None:
    from registry_pipelines.errors import ConfigInvalid

    path = tmp_path / "registry-pipelines.yaml"
    path.write_text(f"registries:\n  us: {{kind: embedded, port: 5000}}\nreport: {{metrics: {metrics}}}\n")
    with pytest.raises(ConfigInvalid, match=told):
        load(path)


def test_several_that_collect_at_once_lose_no_row(tmp_path: Path) -> None:
    config = tmp_path / "registry-pipelines.yaml"
    config.write_text("registries: {us: {kind: layout, root: us}}\n")
    session = Session(load(config, {}), Silent())
    collected = [Collected(time=NOW, samples=(sample("registry_bytes", at, NOW, registry="us"),)) for at in range(24)]
    with ThreadPoolExecutor(8) as pool:
        assert not any(pool.map(lambda each: keep(session, each), collected))
    folder = session.config.state / "report" / "metrics"
    [path] = folder.glob("*.parquet")
    assert sorted(pq.read_table(path)["value"].to_pylist()) == list(range(24))
    path.write_bytes(damaged := path.read_bytes()[:-9])
    assert "is damaged" in keep(session, collected[1])
    [aside] = folder.glob("*.damaged-*")
    assert aside.read_bytes() == damaged and pq.read_table(path)["value"].to_pylist() == [1]


def test_old_days_of_the_history_go(fleet: Fleet) -> None:
    folder = fleet.config.state / "report" / "metrics"
    old = folder / f"{NOW - timedelta(days=500):%Y-%m-%d}.parquet"
    numbers(fleet)
    old.write_bytes(b"")
    numbers(fleet)
    assert not old.exists()


def test_a_sample_has_the_labels_of_its_measure() -> None:
    found = sample("verdicts", 1, NOW, image="a" * 300, outcome="allow")
    assert isinstance(found, Sample) and len(found.labels["image"]) == 255
    with pytest.raises(AssertionError):
        sample("verdicts", 1, NOW, image="a")


def test_a_hot_pack_has_an_age_once_a_believed_key_made_it(fleet: Fleet, tmp_path: Path) -> None:
    path = tmp_path / "registry-pipelines.yaml"
    (tmp_path / "advisories").symlink_to(fleet.folder / "advisories")
    text = fleet.path.read_text().replace("targets: [eu, gcp]}", "targets: [eu, gcp], stream: {record: {}}}")
    path.write_text(f"state: {fleet.config.state}\n{text}")
    recorded = Fleet(path, fleet.config, fleet.chain)
    _, told = numbers(recorded)
    assert not [labels for name, labels in told if name == "hot_pack_age_seconds"], "none is no age of 0"
    place = fleet.chain.place("app")
    attach_pack(
        place, place.registry.resolve(place.repository, "v1.0.0"), Keyring(fleet.config).signer("indexer"), tmp_path
    )
    _, told = numbers(recorded)
    assert 0 <= told["hot_pack_age_seconds", "image=app channel=prod"] < patient(600)


def test_pulls_and_bytes_given_out_are_those_of_the_last_day(fleet: Fleet) -> None:
    def event(number: int, action: Action, hours: float, **more: Any) -> Event:
        at = datetime.now(UTC) - timedelta(hours=hours)
        return Event(time=at, action=action, registry="us", source="log", id=str(number), **more)

    pulled = [event(at, "pull", 1, repository="team/app", who="node", size=10) for at in range(3)]
    given = [event(10 + at, "layer", 2, repository="team/app", size=1000) for at in range(2)]
    others = [
        event(20, "pull", 30, repository="team/app", size=10),
        event(21, "pull", 1, repository="team/app", refused="DENIED"),
        event(22, "push", 1, repository="team/tool", size=500),
        event(23, "pull", 1, repository="team/tool"),
    ]
    AuditStore(FolderDocuments(fleet.config.state / "report" / "audit")).add([*pulled, *given, *others])
    _, told = numbers(fleet)
    assert told["repository_pulls", "registry=us repository=team/app"] == 3
    assert told["repository_pulls", "registry=us repository=team/tool"] == 1
    assert told["egress_bytes", "registry=us"] == 2030, "sizes that a log does not tell are not guessed"
    damaged = max((fleet.config.state / "report" / "audit").rglob("*.parquet"))  # of today: the older day is not read
    before = damaged.read_bytes()
    try:
        damaged.write_bytes(b"PAR1 torn")
        result, told = numbers(fleet, code=7)
    finally:
        damaged.write_bytes(before)
    assert told["source_failed", "source=logs"] == 1 and told["source_failed", "source=verdicts"] == 0
    assert any(each.startswith("logs: ") for each in result["reasons"])


def test_an_inventory_of_a_wrong_clock_is_taken_again(fleet: Fleet) -> None:
    numbers(fleet)
    path = fleet.config.state / "inventory" / "us.parquet"
    far = time.time() + 86_400
    for written in (far, time.time() - 27 * 3600):
        os.utime(path, (written, written))
        numbers(fleet)
        assert abs(path.stat().st_mtime - time.time()) < patient(600)


def test_what_is_no_text_becomes_some() -> None:
    assert sample("registry_bytes", 1, NOW, registry="a\ud800").labels == {"registry": "a?"}
