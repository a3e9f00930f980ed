"""``stream bench start`` as it is typed: ways side by side on real nodes, and a row that says what is missing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from registry_pipelines.errors import InputError, LocalError
from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.embedded import EmbeddedServer
from registry_pipelines.registry.protocol import Place
from registry_pipelines.stream.bench.docker import DockerDaemon, missing_for_docker
from registry_pipelines.stream.bench.link import ADDRESS, Link, missing_for_link
from registry_pipelines.stream.bench.ways import WAYS
from tests.answers import answered
from tests.needs import missing
from tests.patience import patient
from tests.stream.lazy.mounts import need_fuse
from tests.stream.lazy.starts import image

COMMAND = [sys.executable, "-c", "from registry_pipelines.cli import main; main()", "stream", "bench", "start"]
SCRIPT = ("--", "sh", "-c", "echo up; sha256sum /data/3")


@pytest.fixture
def reference(tmp_path: Path) -> Iterator[str]:
    need_fuse()
    with EmbeddedServer(tmp_path / "source") as server:
        registry = DistributionRegistry(server.address)
        image(Place(registry, "team/app"))
        yield f"{server.address}/team/app:v1"
        registry.close()


def start(tmp_path: Path, *words: str) -> dict[str, Any]:
    environment = {**os.environ, "XDG_STATE_HOME": str(tmp_path / "state"), "HOME": str(tmp_path)}
    done = subprocess.run(
        [*COMMAND, "--json", *words],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=patient(120),
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = answered(done.stdout)["start"]
    return found


def test_ways_stand_beside_each_other_over_a_link(tmp_path: Path, reference: str) -> None:
    if problem := missing_for_link():
        missing(problem)
    ways = ("--way", "estargz-fuse", "--way", "spans-fuse")
    work = ("--work", str(tmp_path / "work"))
    found = start(tmp_path, reference, "--rounds", "1", *ways, *work, "--out", str(tmp_path / "out"), *SCRIPT)
    lazy, unindexed = found["rows"]
    # Of eight files of 1 MiB that do not compress one is read, beside the programs: not the whole image.
    assert 1 << 20 < lazy["wire_bytes"] < found["image_bytes"] and lazy["bytes"] < lazy["wire_bytes"]
    assert 0 < lazy["started_s"] <= lazy["result_s"] and lazy["requests"] > 3
    [sample] = found["samples"]["estargz-fuse"]
    assert sample["said"].endswith("/data/3") and len(sample["said"].split()[0]) == 64
    assert unindexed["result_s"] is None and "no layer of it can be indexed" in unindexed["why"]
    page = (tmp_path / "out" / "start.md").read_text()
    assert "over a link of 1 Gbit/s" in page and "not measured: no layer of it can be indexed" in page
    assert json.loads((tmp_path / "out" / "start.json").read_text())["rows"] == found["rows"]
    for name in ("bars", "line"):
        ElementTree.parse(tmp_path / "out" / f"start-{name}.svg")
    assert not list((tmp_path / "work" / "nodes").iterdir()), "a node is gone with its start"


@pytest.mark.long
def test_every_way_comes_to_the_same_answer(tmp_path: Path, reference: str) -> None:
    if problem := missing_for_link() or missing_for_docker():
        missing(problem)
    found = start(tmp_path, reference, "--rounds", "1", "--baseline", reference, *SCRIPT)
    measured = {row["way"]: row for row in found["rows"] if row["result_s"] is not None}
    # Its layers are too small for SOCI, and eStargz and the pack's layers are read on both carriers.
    assert set(WAYS) - set(measured) == {"spans-fuse", "spans-fanotify"}, found["rows"]
    assert len({found["samples"][way][0]["said"] for way in measured}) == 1
    assert measured["local"]["wire_bytes"] < 1 << 16 and measured["docker"]["wire_bytes"] > 8 << 20
    assert measured["docker-cached"]["wire_bytes"] < measured["docker"]["wire_bytes"] and found["cached_share"] > 0


def test_many_nodes_replay_a_start_that_was_recorded_elsewhere(tmp_path: Path, reference: str) -> None:
    """Of two files of the image and one that it has not; with the hot pack that is cut for it."""
    trace = tmp_path / "trace.json"
    files = [["/data/3", 1 << 20], ["/etc/motd", 6], ["/nowhere", 5000]]
    order = [[0.0, 1, 0, 1], [0.01, 0, 0, 1], [0.02, 0, 200, 2], [0.03, 2, 0, 1], [0.04, 0, 100, 1]]
    trace.write_text(json.dumps({"workload": "some", "files": files, "order": order}))
    ways = ("--way", "pack-fuse", "--way", "docker")
    found = start(tmp_path, reference, "--nodes", "2", "--link", "0", *ways, "--replay", str(trace))
    told, (crowd, docker) = found["workload"], found["nodes"]
    assert (told["pages"], told["pages_found"], told["files_missing"]) == (6, 5, 1)
    assert told["work_s"] == 0.04 and told["scale"] > 0
    assert crowd["nodes"] == 2 and crowd["why"] == "" and crowd["refused"] == 0
    assert crowd["result_p50_s"] <= crowd["result_p99_s"] and crowd["bytes"] > 1000 and crowd["requests"] > 2
    assert "Docker starts what is inside" in docker["why"]
    assert found["link_bits_per_s"] == 0 and found["rows"] == []


def test_what_an_interrupted_docker_left_goes_with_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if problem := missing_for_docker():
        missing(problem)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    ended = subprocess.Popen(["true"])
    ended.wait()
    for name, process in (("ended", ended.pid), ("runs", os.getpid())):
        (tmp_path / f"rp-docker-{name}" / "run").mkdir(parents=True)
        (tmp_path / f"rp-docker-{name}" / "d.pid").write_text(str(process))
    (tmp_path / "rp-docker-link").symlink_to(tmp_path / "rp-docker-ended")
    with (
        pytest.raises(LocalError, match="does not start"),
        DockerDaemon(tmp_path, lambda command: ["false"], "127.0.0.1:1"),
    ):
        pass
    assert sorted(each.name for each in tmp_path.iterdir()) == ["rp-docker-link", "rp-docker-runs"]


def test_a_way_that_nobody_knows_is_named(tmp_path: Path) -> None:
    done = subprocess.run([*COMMAND, "127.0.0.1:1/a:b", "--way", "spans-fusee"], capture_output=True, text=True)
    assert done.returncode == InputError.exit_code and "did you mean" in done.stderr and "docker-cached" in done.stderr


def test_nodes_share_a_link_that_is_gone_with_its_context() -> None:
    if problem := missing_for_link():
        missing(problem)
    program = (
        "import socket, sys\n"
        f"server = socket.create_server(('{ADDRESS}', 5000))\n"
        "print(flush=True)\n"
        "server.accept()[0].sendall(bytes(1 << 20))\n"
    )
    client = (
        "import socket\n"
        f"client, count = socket.create_connection(('{ADDRESS}', 5000)), 0\n"
        "while piece := client.recv(65536): count += len(piece)\n"
        "print(count)"
    )
    with Link(1e9, nodes=2) as link:
        serving = subprocess.Popen(
            link.registry.enter([sys.executable, "-c", program]), stdout=subprocess.PIPE, text=True
        )
        assert serving.stdout and serving.stdout.readline() == "\n"
        one, other = link.nodes
        before = other.received_bytes()
        done = subprocess.run(other.enter([sys.executable, "-c", client]), capture_output=True, text=True)
        serving.communicate()
        assert done.stdout == f"{1 << 20}\n", done.stderr
        assert 1 << 20 < other.received_bytes() - before < 2 << 20 and one.received_bytes() < 1 << 20
        assert "tbf" in link.registry.run("tc", "qdisc", "show") and "tbf" in one.run("tc", "qdisc", "show")
        holders = [Path(f"/proc/{each.process}") for each in (link.registry, one, other)]
        assert all(each.exists() for each in holders)
    assert not any(each.exists() for each in holders)
