"""What the commands beside `node serve` tell of a running agent, and of one that is gone."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from registry_pipelines.cli import main
from registry_pipelines.errors import NotFound
from tests.needs import missing, needed_module
from tests.node.agent import Agent


@contextmanager
def agent(*options: str) -> Iterator[Agent]:
    needed_module("grpc", "node")
    if os.geteuid() != 0:
        missing("snapshots are mounted by root")
    with tempfile.TemporaryDirectory(prefix="node-") as name:
        found = Agent(Path(name), *options)
        found.start()
        try:
            yield found
        finally:
            found.close()


def told(root: Path, *words: str, code: int = 0) -> str:
    ran = CliRunner().invoke(main, ["node", *words, "--root", str(root)])
    assert ran.exit_code == code, ran.output
    return ran.output


def told_json(root: Path, *words: str, code: int = 0) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(told(root, *words, "--json", code=code))
    result: dict[str, Any] = found["result"]
    return result


def test_status_is_told_also_of_an_agent_that_was_killed_or_ended(tmp_path: Path) -> None:
    assert "no agent has served" in told(tmp_path, "status", code=NotFound.exit_code)
    with agent() as found:
        alive = told_json(found.root, "status")
        assert alive["alive"] and alive["process"] == found.process.pid and alive["images"] == []
        assert "has served" in told(found.root, "status")
        assert "registry_pipelines_node_info" in told(found.root, "status", "--metrics")
        found.end(kill=True)
        killed = told_json(found.root, "status")
        assert not killed["alive"] and not killed["ended"] and killed["process"] == alive["process"]
        for words in ((), ("--metrics",)):
            assert "was killed: what follows was true" in told(found.root, "status", *words)
        found.start()
        assert told_json(found.root, "status")["process"] == found.process.pid
        assert found.end() == 0
        ended = told_json(found.root, "status")
        assert not ended["alive"] and ended["ended"] and " ended " in told(found.root, "status")
