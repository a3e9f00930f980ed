"""What nodes recorded: taken out of the inbox for hot packs, by the chain as people ask; nothing of it is believed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner

from registry_pipelines.cli import main
from registry_pipelines.errors import Forbidden, InputError
from registry_pipelines.oci.digest import Digest
from registry_pipelines.registry.protocol import Place
from registry_pipelines.registry.tags import digest_at
from registry_pipelines.release import Release
from registry_pipelines.stream.hot.inbox import NodeNote, send, waiting
from registry_pipelines.stream.hot.packs import find_packs
from registry_pipelines.stream.hot.recording import Recording
from tests.answers import document
from tests.chain.fleet import Fleet
from tests.cli.on_fleet import run
from tests.doubles.fault_registry import FaultRegistry
from tests.doubles.faults import Status
from tests.evidence.conftest import counted, key, make_key, place
from tests.evidence.parts import Counted, Key
from tests.stream.hot.packing import MIB, recording
from tests.stream.lazy.starts import image

__all__ = ["counted", "key", "make_key", "place"]
NODES = "policies: {default: {required: []}}\nnode: {record: us/inbox}\nsigning:"


@pytest.fixture
def nodes(fleet: Fleet) -> Fleet:
    """Whose nodes record."""
    fleet.chain = fleet.reload(("signing:", NODES))
    return fleet


def box(fleet: Fleet) -> Place:
    return Place(fleet.chain.place("app").registry, "inbox")


def pushed(fleet: Fleet, tag: str) -> Release:
    return Release("app", tag, image(fleet.chain.place("app"), tag=tag, more_mib=2).digest)


def sent(fleet: Fleet, of: Digest, node: str, files: dict[str, int] | None = None, **more: object) -> Recording:
    what = recording(of, files or {"etc/motd": 6, "data/0": MIB, "etc/shadow": 100})
    told = msgspec.structs.replace(what, command=(), gpu=True, **more)
    send(box(fleet), told, NodeNote(image=of, recording=of, node=node))
    return told


def test_what_nodes_recorded_becomes_the_pack_of_a_release_once_it_is_allowed(nodes: Fleet) -> None:
    chain, release = nodes.chain, pushed(nodes, "v1.0.0")
    assert chain.recorded_by_nodes().count == 0
    sent(nodes, release.digest, "one")
    sent(nodes, release.digest, "two", {"etc/motd": 6, "data/1": MIB})
    look = chain.recorded_by_nodes()
    assert [each.digest for each in look.releases] == [release.digest] and len(look.releases[release]) == 2
    [waits, inbox] = chain.collect_recordings()
    assert "verdict is not allow" in waits.action and inbox.facts["recordings"] == 2
    assert len(waiting(box(nodes)).waiting) == 2, "they wait"
    chain.judge(release)
    made = chain.record(release)
    assert made.ok and made.rows[0]["how"] == "merged" and made.facts["platforms_covered"] == 1
    assert any("2 nodes recorded a start" in note for note in made.notes)
    assert any("1 file with 1 page were dropped" in note for note in made.notes), made.notes
    assert waiting(box(nodes)).waiting == ()
    [pack] = find_packs(chain.place("app"), release.digest, chain._session.verifier()).believed
    assert pack.note.gpu and pack.note.pages == 1 + 2 * MIB // 4096 and pack.note.recorded == release.digest
    again = chain.record(release)
    assert (again.action, again.changed) == ("unchanged", False)


def test_what_is_of_no_release_is_deleted_and_counted_unless_one_release_is_named(nodes: Fleet) -> None:
    chain, release = nodes.chain, pushed(nodes, "v1.0.0")
    chain.judge(release)
    for number in range(3):
        sent(nodes, Digest.of(os.urandom(9)), f"forger {number}")
    sent(nodes, release.digest, "one")
    result = answer_all(nodes, "stream", "recordings", "collect", "app:v1.0.0")
    assert result[0]["rows"][0]["how"] == "merged" and "3 recordings of no release left" in result[1]["action"]
    assert len(waiting(box(nodes)).waiting) == 3
    [cleared] = answer_all(nodes, "stream", "recordings", "collect")
    assert cleared["action"] == "3 recordings of no release dropped" and cleared["facts"]["dropped"] == 3
    assert waiting(box(nodes)).waiting == ()
    [empty] = answer_all(nodes, "stream", "recordings", "collect")
    assert empty["action"] == "the inbox is empty" and not empty["changed"]


def answer_all(fleet: Fleet, *words: str) -> list[dict[str, Any]]:
    found = document(run(fleet, *words, "--json").stdout)["result"]["results"]
    return list(found)


def test_an_image_whose_registry_fails_holds_up_no_other_and_nothing_is_deleted_that_may_be_its_own(
    nodes: Fleet,
) -> None:
    with FaultRegistry(nodes.chain.place("app").registry.name) as faults:
        gone = f"registries:\n  gone: {{kind: distribution, host: '{faults.address}'}}\n"
        nodes.chain = nodes.reload(("registries:\n", gone), ("tool: {registry: us", "tool: {registry: gone"))
        tool = Release("tool", "v1", image(nodes.chain.place("tool"), tag="v1", more_mib=1).digest)
        app = pushed(nodes, "v1.0.0")
        for release in (tool, app):
            nodes.chain.judge(release)
            sent(nodes, release.digest, "one")
        sent(nodes, Digest.of(os.urandom(9)), "forger")
        faults.play("GET", r"/v2/team/tool/blobs/.*", Status(403))
        made = {each.subject: each for each in nodes.chain.collect_recordings([tool, app])}
        assert not made[tool.key].ok and "403" in made[tool.key].reasons[0]
        assert made[app.key].rows[0]["how"] == "merged"
        faults.play("HEAD", r"/v2/team/tool/manifests/.*", Status(403))
        [inbox] = nodes.chain.collect_recordings()
        assert not inbox.changed and "what nodes recorded of tool: " in inbox.notes[0], inbox.notes
        assert len(waiting(box(nodes)).waiting) == 2
        faults.clear()
        assert nodes.chain.sweep_recordings().facts["dropped"] == 1


def test_tags_that_no_node_makes_are_left_to_a_person(nodes: Fleet) -> None:
    """Somebody may have named the repository of something else."""
    made = image(box(nodes), tag="v1", more_mib=1)
    result = nodes.chain.sweep_recordings()
    assert not result.changed and "1 tag that no node makes" in result.notes[0]
    assert digest_at(box(nodes), "v1") == made.digest


@pytest.mark.long
def test_an_inbox_that_does_not_answer_holds_no_release_up(nodes: Fleet) -> None:
    release = pushed(nodes, "v1.0.0")
    with FaultRegistry(nodes.chain.place("app").registry.name) as faults:
        faults.play("GET", r"/v2/inbox/.*", Status(403))
        nodes.chain = nodes.reload(("record: us/inbox", f"record: '{faults.address}/inbox'"))
        shipment = nodes.chain.ship("app:v1.0.0", until="record")
        made = {step.result.stage: step.result for step in shipment.steps}["record"]
        assert made.ok and not made.changed and made.action == "not recorded: no node has recorded a start of it yet"
        assert any("recordings of nodes are not used" in note for note in made.notes), made.notes
        with pytest.raises(Forbidden):
            nodes.chain.recorded_by_nodes()
    assert release.digest == shipment.release.digest


def test_without_an_inbox_there_is_nothing_to_look_at(fleet: Fleet) -> None:
    with pytest.raises(InputError, match="no inbox"):
        fleet.chain.recorded_by_nodes()
    error = document(run(fleet, "stream", "recordings", "collect", "--json", code=8).stdout)["error"]
    assert "no inbox" in error["what"] and "node: {record:" in error["do"]


def test_an_image_of_nobody_s_configuration_is_collected_by_its_reference(
    counted: Counted, key: Key, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    release = image(counted.place, more_mib=2)
    inbox, host = Place(counted.place.registry, "inbox"), counted.server.address
    for node, other in (("one", release.digest), ("two", release.digest), ("one", Digest.of(b"other"))):
        send(inbox, recording(other, {"etc/motd": 6, node: 5}), NodeNote(image=other, recording=other, node=node))
    words = ["stream", "recordings", "collect", f"{host}/team/app:v1", "--key", str(key.path), "--json"]
    refused = CliRunner().invoke(main, words)
    assert refused.exit_code == 8 and "no inbox is named" in document(refused.stdout)["error"]["what"]
    shown = CliRunner().invoke(main, [*words, "--inbox", f"{host}/inbox"])
    [made] = document(shown.stdout)["result"]["results"]
    assert shown.exit_code == 0 and made["stage"] == "pack" and made["facts"]["pages"] == 1
    assert "2 nodes recorded a start: 1 new page" in shown.stderr and "2 files with 2 pages" in shown.stderr
    assert len(waiting(inbox).waiting) == 1, "another image's are left"
    nobody = CliRunner().invoke(main, ["stream", "recordings", "collect", "--inbox", f"{host}/inbox"])
    assert nobody.exit_code == 8
