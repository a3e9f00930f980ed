"""`recover failover-drill`: real containerd and Docker, in daemons of the drill's own, while a registry is down."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from registry_pipelines.cli import main
from registry_pipelines.oci.manifests import Manifest
from registry_pipelines.registry.protocol import Place
from tests.chain.fleet import Fleet, push, start
from tests.needs import missing
from tests.patience import patient

LONG = f"{patient(60):.0f}s"
SHORT = "1s"
"""Shorter than any client's own patience (10 s), so it is reached however slow the machine is."""
Row = dict[str, Any]


@pytest.fixture(autouse=True)
def _as_root() -> None:
    if os.geteuid() != 0:
        missing("containerd and Docker need root")


@pytest.fixture
def alone(tmp_path: Path) -> Path:
    """A configuration with nothing in it."""
    path = tmp_path / "registry-pipelines.yaml"
    path.write_text("registries: {here: {kind: layout, root: content}}\nsigning: {generate: true}\n")
    return path


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    """Three registries that are to have a release, the second below a prefix."""
    with ExitStack() as stack:
        fleet = start(tmp_path, stack)
        told = "failover:\n  prod: {registries: [us, gcp, eu], images: [app], drill: {clients: [containerd]}}\n"
        fleet.path.write_text(fleet.path.read_text() + told)
        yield fleet


def copy(fleet: Fleet) -> None:
    for place in ("gcp/replicas/team/app", "eu/team/app"):
        ran = CliRunner().invoke(main, ["copy", "us/team/app:v1.0.0", place, "--config", str(fleet.path)])
        assert ran.exit_code == 0, ran.stderr


def drill(config: Path, *words: str, code: int = 0) -> Row:
    ran = CliRunner().invoke(main, ["recover", "failover-drill", *words, "--config", str(config), "--json"])
    assert ran.exit_code == code, (ran.output, ran.stderr)
    document = json.loads(ran.stdout)
    [result] = document["result"]["results"] if document["result"] else [document["error"]]
    return dict(result)


def outcomes(result: Row) -> dict[tuple[str, str], str]:
    """By scheme and fault, of one client."""
    return {(row["scheme"], row["fault"]): row["outcome"] for row in result["rows"]}


def left_behind(config: Path) -> list[str]:
    """Mounts and processes of a configuration's drills: their folders are below its state folder."""
    found = Path("/proc/self/mountinfo").read_text().splitlines()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # it ended
            found.append(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
    return [each for each in found if f"{config.parent}/.registry-pipelines/" in each]


def eventually(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + patient(30)
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.peer("containerd", "ctr")
def test_containerd_leaves_a_registry_that_refuses(alone: Path) -> None:
    words = ("--embedded", "--client", "containerd", "--fault", "stopped", "--fault", "unavailable", "--limit", LONG)
    result = drill(alone, *words)
    want = {"-": "pulled", "stopped": "failed over", "unavailable": "failed over"}
    assert outcomes(result) == {(scheme, fault): way for scheme in ("http", "https") for fault, way in want.items()}
    facts = result["facts"]
    assert (facts["by_itself"], facts["by_hand"]) == (4, 0) and not result["next_steps"] and not left_behind(alone)


@pytest.mark.long
@pytest.mark.peer("../docker28/containerd", "../docker28/ctr")
def test_containerd_from_21_on_leaves_an_unreachable_registry_as_its_file_says(
    alone: Path, peer: Callable[[str], str]
) -> None:
    """By itself it takes 30 s for each of four requests."""
    programs = Path(peer("../docker28/containerd")).parent
    words = ("--client", "kubelet", "--scheme", "http", "--fault", "unreachable", "--programs", str(programs))
    result = drill(alone, "--embedded", *words, "--limit", "60s")
    [new] = [row for row in result["rows"] if row["client"].endswith(" 2.1.9") and row["fault"] == "unreachable"]
    assert (new["outcome"], new["verdict"]) == ("failed over", "by itself")


@pytest.mark.peer("containerd", "ctr")
@pytest.mark.parametrize(
    ("kind", "faults"), [("containerd", ("frozen", "silent", "stalled", "unreachable")), ("kubelet", ("silent",))]
)
def test_containerd_waits_for_a_registry_that_hangs(alone: Path, kind: str, faults: tuple[str, ...]) -> None:
    """Until the file has another order: no daemon is started anew for it."""
    hanging = [word for fault in faults for word in ("--fault", fault)]
    result = drill(alone, "--embedded", "--client", kind, "--scheme", "https", *hanging, "--limit", SHORT)
    assert outcomes(result) == {("https", "-"): "pulled", **{("https", fault): "waited" for fault in faults}}
    waited = [row for row in result["rows"] if row["outcome"] == "waited"]
    assert all(row["remedied_s"] and row["verdict"] == "by hand" for row in waited)
    [said] = result["next_steps"]
    assert said.startswith(f"{kind} ") and "hosts.toml" in said


@pytest.mark.peer("containerd", "ctr")
def test_a_release_is_pulled_from_the_second_registry_under_its_own_name(fleet: Fleet) -> None:
    made = push(Place(fleet.chain.registry("us"), "team/app"), "v1.0.0")
    words = ("prod", "--scheme", "http", "--fault", "stopped", "--limit", LONG)
    nowhere = drill(fleet.path, *words, code=8)
    assert "is in all of us, gcp, eu" in nowhere["what"] and "--embedded" in nowhere["do"]
    copy(fleet)
    result = drill(fleet.path, *words)
    assert result["digest"] == made.digest and result["subject"] == "prod"
    want = {"-": "pulled", "stopped": "failed over", "gcp alone": "pulled", "eu alone": "pulled"}
    assert outcomes(result) == {("http", fault): way for fault, way in want.items()}
    kept = json.loads((fleet.config.state / "recover" / "prod-failover-drill.json").read_text())
    assert [each["ok"] for each in kept] == [True] and len(kept[0]["attempts"]) == 4

    # What only looked like a copy: its layers are gone.
    second = Place(fleet.chain.registry("gcp"), "replicas/team/app")
    content = second.registry.get_manifest(second.repository, made.digest).content()
    assert isinstance(content, Manifest)
    for layer in content.layers:
        second.registry.delete_blob(second.repository, layer.digest)
    broken = drill(fleet.path, *words, code=3)
    [reason] = broken["reasons"]
    assert "gcp alone: failed" in reason, "though with eu behind it the drill's pull went on"
    [changed] = broken["alerts"]
    assert "failed, the drill before: pulled" in changed
    kept = json.loads((fleet.config.state / "recover" / "prod-failover-drill.json").read_text())
    assert [each["ok"] for each in kept] == [True, False]


@pytest.mark.peer("containerd", "ctr")
def test_what_may_not_need_a_hand_is_missed_where_it_does(fleet: Fleet) -> None:
    made = push(Place(fleet.chain.registry("us"), "team/app"), "v1.0.0")
    copy(fleet)
    text = fleet.path.read_text()
    told = (
        f"objectives: {{by_hand: []}}, health: {{digest: 'team/app@{made.digest}'}}, drill: {{clients: [containerd]}}"
    )
    fleet.path.write_text(text.replace("drill: {clients: [containerd]}", told))
    result = drill(fleet.path, "--scheme", "http", "--fault", "frozen", "--limit", SHORT, code=3)
    [reason] = result["reasons"]
    # How long it waited is told as it was: a busy machine ends a pull some seconds after its limit.
    assert re.search(r"registry frozen: waited \d+ s, .*it pulled in", reason) and result["facts"]["missed"] == 1


@pytest.mark.peer("containerd", "ctr")
@pytest.mark.parametrize("how", [pytest.param(signal.SIGTERM, marks=pytest.mark.long), signal.SIGKILL])
def test_nothing_runs_on_when_a_drill_is_ended(alone: Path, how: signal.Signals) -> None:
    """Not even after KILL; and the next drill takes away what that one left."""
    words = ["--embedded", "--client", "containerd", "--fault", "frozen", "--scheme", "http", "--limit", "1h"]
    words += ["--config", str(alone)]
    program = [sys.executable, "-c", "from registry_pipelines.cli import main; main()", "recover", "failover-drill"]
    with subprocess.Popen([*program, *words], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as process:
        try:
            eventually(lambda: any(" pull " in each for each in left_behind(alone)))
        finally:
            process.send_signal(how)
        assert process.wait(patient(20)) in (-signal.SIGKILL, 128 + signal.SIGTERM)
    eventually(lambda: not left_behind(alone))
    folder = alone.parent / ".registry-pipelines" / "recover" / "failover-drill"
    assert bool([each for each in folder.iterdir() if each.is_dir()]) == (how == signal.SIGKILL)
    words[words.index("1h")] = SHORT
    assert CliRunner().invoke(main, ["recover", "failover-drill", *words]).exit_code == 0
    assert [each.name for each in folder.iterdir()] == ["lock"]


def test_what_cannot_be_tried_is_said(alone: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert "has no `failover`" in drill(alone, code=8)["what"]
    assert "has no client" in drill(alone, "--embedded", "--programs", str(tmp_path), code=8)["what"]
    monkeypatch.setenv("PATH", str(tmp_path))
    nobody = drill(alone, "--embedded", "--client", "containerd", code=9)
    assert "containerd: containerd is not on this machine" in nobody["what"]
    state = tmp_path / ".registry-pipelines" / "recover"
    state.mkdir(parents=True, exist_ok=True)
    (state / "clients.json").write_text("{")
    monkeypatch.undo()
    broken = drill(alone, "--embedded", "--client", "containerd", code=9)
    assert "cannot be read" in broken["what"] and "clients.json" in broken["where"]


@pytest.mark.long
@pytest.mark.peer("dockerd", "docker")
def test_docker_goes_on_after_its_ping_and_with_containerds_store_it_waits(
    alone: Path, peer: Callable[[str], str]
) -> None:
    """The classic store pings a registry first and gives up after 15 s; containerd's store has no such limit."""
    programs = str(Path(peer("../docker28/dockerd")).parent)
    words = ("--embedded", "--client", "docker", "--client", "docker-containerd", "--programs", programs)
    result = drill(alone, *words, "--scheme", "http", "--limit", "45s")
    found: dict[tuple[str, str], dict[str, str]] = {}
    for row in result["rows"]:
        kind, version = row["client"].split()
        found.setdefault((kind, version.split(".")[0]), {})[row["fault"]] = row["outcome"]
    refused = {"-": "pulled", "stopped": "failed over", "unavailable": "failed over", "stalled": "waited"}
    pinged = {**refused, "frozen": "failed over", "unreachable": "failed over"}
    assert found[("docker", "20")] == pinged and found[("docker", "28")] == pinged
    assert found[("docker-containerd", "28")] == {**refused, "frozen": "waited", "unreachable": "waited"}
    assert result["facts"]["missed"] == 0 and not left_behind(alone)
