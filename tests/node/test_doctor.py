"""node doctor: against real agents and a real containerd, and what settings mean."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import settings as settings_of
from hypothesis import strategies as st

from registry_pipelines.errors import LocalError, NotFound
from registry_pipelines.node.examining.runtime import (
    Runtime,
    _config_of,
    _known,
    daemon_of,
    examine_plugin,
    read_settings,
)
from tests.evidence.parts import Counted
from tests.needs import missing, needed_module
from tests.node.agent import NAME, Agent, node
from tests.node.test_agent import agent, told, told_json
from tests.stream.releases import layer, push

CRI_1 = {"snapshotter": "rp", "disable_snapshot_annotations": False}


def doctor(found: Agent, *words: str, code: int) -> dict[str, dict[str, Any]]:
    folder = found.folder
    at = ["--socket", str(folder / "snap.sock"), "--containerd", str(folder / "grpc.sock")]
    result = told_json(found.root, "doctor", *at, *words, code=code)
    return {each["about"]: each for each in result["findings"]}


@pytest.mark.peer("containerd", "ctr")
def test_an_agent_beside_containerd(counted: Counted, peer: Callable[[str], str]) -> None:
    needed_module("grpc", "node")
    if os.geteuid() != 0:
        missing("snapshots are mounted by root")
    with node(peer, ("containerd", "ctr")) as (_, found):
        image = f"{counted.place}:none"
        seen = doctor(found, "--image", image, code=NotFound.exit_code)
        assert {about for about, each in seen.items() if each["state"] == "failed"} == {f"registry of {image}"}
        for about in ("user", "kernel", "agent", "socket", "containerd"):
            assert seen[about]["state"] == "ok", seen[about]
        if seen["containerd"]["what"].lstrip("v").startswith("1.6"):  # it reads no `exports`: nothing to be told
            assert seen[f"snapshotter {NAME}"]["state"] == "ok", seen
        assert daemon_of(found.folder / "grpc.sock").config == found.folder / "config.toml"
        assert "configuration" not in seen  # it has no CRI, and 1.6 has no transfer service
        assert seen["containerd"]["what"].lstrip("v")[0].isdigit()
        found.end()
        seen = doctor(found, code=LocalError.exit_code)
        assert seen["agent"]["state"] == "failed" and "systemctl start" in seen["agent"]["do"]
        with closing(socket.socket(socket.AF_UNIX)) as other:
            other.bind(str(found.folder / "snap.sock"))
            other.listen()
            seen = doctor(found, code=LocalError.exit_code)
            assert "another program answers there" in seen["socket"]["what"]
        (found.folder / "snap.sock").unlink()


def test_registries_are_asked_where_the_agent_asks_them(counted: Counted, tmp_path: Path) -> None:
    """By a mirror of the node's: the host itself answers nobody."""
    push(counted.place, layer("one"), tag="v1")
    (tmp_path / "127.0.0.1_9_").mkdir()
    (tmp_path / "127.0.0.1_9_" / "hosts.toml").write_text(f'[host."http://{counted.server.address}"]\n')
    config = tmp_path / "registry-pipelines.yaml"
    registries = "registries: {other: {kind: distribution, host: registry.example}}"
    config.write_text(f"{registries}\nstate: {tmp_path}/state\nnode: {{hosts: [{tmp_path}]}}\n")
    with agent() as found:
        image = f"127.0.0.1:9/{counted.place.repository}:v1"
        seen = doctor(found, "--config", str(config), "--image", image, code=LocalError.exit_code)
        assert seen["registry"]["state"] == "ok" and seen["registry"]["where"] == image, seen


def test_an_agent_without_containerd_or_on_another_socket() -> None:
    with agent() as found:
        seen = doctor(found, code=LocalError.exit_code)
        assert "does not answer" in seen["containerd"]["what"]
        at = ["--socket", str(found.folder / "other"), "--containerd", str(found.folder / "none")]
        said = told(found.root, "doctor", *at, code=LocalError.exit_code)
        assert f"the agent of this folder listens on {found.folder}/snap.sock" in said
    with tempfile.TemporaryDirectory() as name:
        assert "no agent has served" in told(Path(name), "doctor", "--containerd", "/none", code=6)


@pytest.mark.parametrize(
    ("words", "config"),
    [
        (["containerd"], None),
        (["containerd", "--config", "/a"], "/a"),
        (["containerd", "-c", "/a", "-l", "debug"], "/a"),
        (["containerd", "--config=/a b"], "/a b"),
        (["containerd", "--config"], None),
    ],
)
def test_the_file_that_it_was_started_with(words: list[str], config: str | None) -> None:
    assert _config_of(words) == (Path(config) if config else None)


@pytest.mark.parametrize(
    ("version", "state"),
    [
        ("1.6.20~ds1", "ok"),
        ("v2.1.9", "ok"),
        ("1.5.0", "failed"),
        ("v3.0.0", "note"),
        ("301026e58", "note"),
        ("", "note"),
    ],
)
def test_versions(version: str, state: str) -> None:
    assert _known(Runtime(version, ()), Path("/s")).state == state


class Known(NamedTuple):
    """A snapshotter, as containerd tells of it."""

    capabilities: list[str]
    exports: dict[str, str]
    id: str = "rp"
    init_err: Any = SimpleNamespace(code=0, message="")


_ASKED = {"enable_remote_snapshot_annotations": "true"}


@pytest.mark.parametrize(
    ("numbers", "plugin", "states"),
    [
        ((1, 6), Known([], {"address": "/s"}), ["ok"]),  # it reads neither, whatever stands in its file
        ((1, 7), Known(["remap-ids"], {**_ASKED, "root": "/r"}), ["ok"]),
        ((2, 1), Known(["remap-ids"], {**_ASKED, "root": "/r"}), ["ok"]),
        ((2, 1), Known([], {"address": "/s"}), ["note", "note", "note"]),
        ((1, 7), Known(["remap-ids", "rebase"], {**_ASKED, "root": "/r"}), ["failed"]),
    ],
)
def test_what_containerd_knows_of_the_agent(numbers: tuple[int, int], plugin: Known, states: list[str]) -> None:
    found = list(examine_plugin(plugin, numbers))
    assert [each.state for each in found] == states
    assert all(bool(each.do) == (each.state != "ok") for each in found)


def settings(plugins: Any, numbers: tuple[int, int] = (1, 7)) -> list[tuple[str, str]]:
    return [(each.state, each.what) for each in read_settings({"plugins": plugins}, {"rp"}, numbers, "c")]


def test_settings_of_cri() -> None:
    def old(**more: Any) -> Any:
        return {"io.containerd.grpc.v1.cri": {"containerd": more}}

    assert settings({}) == []
    [(state, what)] = settings(old(snapshotter="overlayfs"))
    assert state == "note" and "no pod uses the agent" in what
    [(state, what)] = settings(old(snapshotter="rp"))
    assert state == "failed" and "disable_snapshot_annotations" in what
    [(state, _)] = settings(old(**CRI_1))
    assert state == "ok"
    by_runtime = {"snapshotter": "overlayfs", "disable_snapshot_annotations": False}
    [(state, _)] = settings(old(**by_runtime, runtimes={"rp": {"snapshotter": "rp"}}))
    assert state == "ok"
    assert "discard_unpacked_layers" in settings(old(**CRI_1, discard_unpacked_layers=True))[1][1]


def test_settings_of_containerd_2() -> None:
    new = {
        "io.containerd.cri.v1.images": CRI_1,
        "io.containerd.transfer.v1.local": {"unpack_config": [{"snapshotter": "rp", "differ": "walking"}]},
    }
    assert [state for state, _ in settings(new, (2, 1))] == ["ok"]
    new["io.containerd.transfer.v1.local"] = {"unpack_config": [{"snapshotter": "overlayfs"}]}
    assert [state for state, _ in settings(new, (2, 1))] == ["ok", "failed"]


_ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@settings_of(max_examples=50)
@given(
    st.dictionaries(
        st.sampled_from(
            ["io.containerd.grpc.v1.cri", "io.containerd.cri.v1.images", "io.containerd.transfer.v1.local", "x"]
        ),
        _ANY | st.dictionaries(st.sampled_from(["containerd", "snapshotter", "unpack_config", "runtimes"]), _ANY),
    ),
)
def test_no_configuration_is_too_odd(plugins: Any) -> None:
    for state, what in settings(plugins, (2, 0)):
        assert state in ("ok", "note", "failed") and what
