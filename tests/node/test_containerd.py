"""containerd, as it is, keeps its layers and containers with ``node serve``."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from registry_pipelines.stream.lazy.image import image_for
from registry_pipelines.stream.pull.pulling import pull_to_folder
from tests.doubles.containerd import Containerd
from tests.evidence.parts import Counted
from tests.needs import missing, needed_module
from tests.node.agent import NAME, Agent, node, pushed
from tests.patience import patient
from tests.stream.pull.test_runtimes import VERSIONS, about, paths

pytestmark = pytest.mark.peer("containerd", "ctr")


@pytest.fixture(autouse=True)
def _root() -> None:
    needed_module("grpc", "node")
    if os.geteuid() != 0:
        missing("containerd needs root")


def pull(ctr: Containerd, name: str) -> None:
    ctr("images", "pull", "--plain-http", "--snapshotter", NAME, name)


def run(ctr: Containerd, name: str, container: str, script: str, *options: str) -> str:
    return ctr("run", "--snapshotter", NAME, *options, name, container, "/bin/sh", "-c", script)


def fresh() -> str:
    """A name for a container: runc's state is the machine's, whichever containerd asks."""
    return f"node-{uuid.uuid4().hex[:12]}"


def in_the_end(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + patient(60)
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def left(ctr: Containerd, agent: Agent, folders: int = 0) -> None:
    """Wait until no more than these are kept. The lock of a collection under way may be held."""

    def few() -> bool:
        ctr.collect()
        return len(agent.folders()) == folders

    in_the_end(few)


@VERSIONS
def test_an_image_is_pulled_run_and_removed(
    counted: Counted, peer: Callable[[str], str], programs: tuple[str, str], tmp_path: Path
) -> None:
    pushed(counted.place)
    name = f"{counted.place}:v1"
    with node(peer, programs, "--no-lazy") as (ctr, agent):
        pull(ctr, name)
        listed = [line.split() for line in ctr("snapshots", "--snapshotter", NAME, "ls").splitlines()[1:]]
        assert [row[-1] for row in listed] == ["Committed"] * 3
        # What is mounted is what a folder gets.
        pull_to_folder(image_for(counted.place, "v1"), tmp_path / "made")
        (tmp_path / "mount").mkdir()
        ctr("images", "mount", "--snapshotter", NAME, name, str(tmp_path / "mount"))
        try:
            ours, theirs = (
                {path: about(folder / path) for path in paths(folder)}
                for folder in (tmp_path / "made", tmp_path / "mount")
            )
        finally:
            ctr("images", "unmount", "--rm", "--snapshotter", NAME, str(tmp_path / "mount"))
        assert ours == theirs
        # Two containers write over the same layers.
        script = "cat /old /d/*; ls /gone; echo mine > /old; rm /d/two; cat /old; ls /d"
        for _ in range(2):
            assert run(ctr, name, fresh(), script, "--rm") == "new\ntwo\nmine\n"
        left(ctr, agent, 3)
        ctr("images", "rm", "--sync", name)
        left(ctr, agent)
        assert agent.end() == 0
        assert agent.said().replace("terminated\n", "") == ""


@VERSIONS
def test_a_container_runs_on_while_the_agent_is_killed_and_comes_back(
    counted: Counted, peer: Callable[[str], str], programs: tuple[str, str]
) -> None:
    pushed(counted.place)
    name = f"{counted.place}:v1"
    with node(peer, programs, "--no-lazy") as (ctr, agent):
        pull(ctr, name)
        long = fresh()
        run(ctr, name, long, "echo mine > /old; sleep 1000", "--detach")
        in_the_end(lambda: bool(written(agent)))
        agent.end(kill=True)
        (agent.root / "snapshots" / "new-left").mkdir()  # as by a crash
        look = ("tasks", "exec", "--exec-id", "look", long, "/bin/cat", "/old", "/d/two")
        assert ctr(*look) == "mine\ntwo\n"
        with pytest.raises(AssertionError):
            run(ctr, name, fresh(), "exit 0", "--rm")
        agent.start()
        assert "new-left" not in agent.folders()
        assert ctr(*look) == "mine\ntwo\n"
        in_the_end(lambda: runs(ctr, name))  # gRPC waits some seconds before it asks again
        end(ctr, long)
        ctr("images", "rm", "--sync", name)
        left(ctr, agent)


def written(agent: Agent) -> list[Path]:
    return [each for each in (agent.root / "snapshots").glob("*/fs/old") if each.read_text() == "mine\n"]


def end(ctr: Containerd, container: str) -> None:
    ctr("tasks", "kill", "--signal", "9", container)
    in_the_end(lambda: "STOPPED" in ctr("tasks", "ls"))
    ctr("tasks", "rm", container)
    ctr("containers", "rm", container)


def runs(ctr: Containerd, name: str) -> bool:
    try:
        return run(ctr, name, fresh(), "cat /old", "--rm") == "new\n"
    except AssertionError:
        return False


@pytest.mark.long
def test_a_container_in_a_user_namespace_owns_its_files(counted: Counted, peer: Callable[[str], str]) -> None:
    pushed(counted.place)
    name = f"{counted.place}:v1"
    options = ("--uidmap", "0:100000:65536", "--gidmap", "0:100000:65536", "--remap-labels", "--detach")
    with node(peer, ("../containerd2/containerd", "../containerd2/ctr"), "--no-lazy") as (ctr, agent):
        pull(ctr, name)
        mapped = fresh()
        run(ctr, name, mapped, "echo mine > /old; cat /old; sleep 1000", *options)
        try:
            in_the_end(lambda: bool(written(agent)))
            [upper] = written(agent)
            assert (upper.stat().st_uid, upper.parent.stat().st_uid) == (100000, 100000)
            assert not {"bin", "d", "lib"} & {path.name for path in upper.parent.iterdir()}, "files were copied up"
            seen = ctr("tasks", "exec", "--exec-id", "see", mapped, "/bin/ls", "-ln", "/old", "/d/two")
            assert [line.split()[2:4] for line in seen.splitlines()] == [["0", "0"], ["0", "0"]]
        finally:
            end(ctr, mapped)
