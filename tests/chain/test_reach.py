"""``config check --online``: each registry is asked, all at once, and each has its own row."""

from __future__ import annotations

import socket
from contextlib import ExitStack
from pathlib import Path

import pytest
from click.testing import CliRunner

from registry_pipelines.chain.reach import reach
from registry_pipelines.cli import main
from registry_pipelines.config import load
from tests.answers import answered
from tests.chain.fleet import start


def test_each_registry_has_a_row_and_what_it_refuses_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PW", "right-word")
    monkeypatch.setenv("OTHER", "wrong-word")
    (tmp_path / "folder").mkdir()
    path = tmp_path / "registry-pipelines.yaml"
    with ExitStack() as stack:
        fleet = start(tmp_path, stack)
        stack.close()
        text = fleet.path.read_text().replace("us: {kind: embedded,", "us: {kind: embedded, users: {robot: '${PW}'},")
        port = text.partition("'${PW}'}, port: ")[2].partition("}")[0]
        known = f"{{kind: distribution, host: '127.0.0.1:{port}', username: "
        more = f"  right: {known}robot, password: '${{PW}}'}}\n  wrong: {known}robot, password: '${{OTHER}}'}}\n"
        path.write_text(text.replace("images:", more + "  disk: {kind: layout, root: folder}\nimages:", 1))
        shown = CliRunner().invoke(main, ["config", "check", "--online", "--config", str(path), "--json"])
        told = answered(shown.stdout)
        rows = {row["registry"]: row for row in told["reached"]}
        assert list(rows) == ["us", "eu", "gcp", "dmz", "private", "right", "wrong", "disk"]
        assert (shown.exit_code, told["ok"]) == (5, False)
        assert [name for name, row in rows.items() if not row["ok"]] == ["wrong"]
        assert "401" in rows["wrong"]["read"] or "credentials" in rows["wrong"]["read"]
        assert rows["us"]["read"] == "ok; not there yet: team/app, team/tool" and rows["us"]["login"] == "robot"
        assert rows["gcp"]["read"] == "ok; not there yet: replicas/team/app"
        assert {row["write"] for row in rows.values()} == {"not tried"}
        people = CliRunner().invoke(main, ["config", "check", "--online", "--config", str(path)])
        assert people.exit_code == 5 and "writing was not tried" in people.stdout
        assert "wrong-word" not in people.output + shown.output


def test_a_registry_that_says_nothing_holds_up_nobody(tmp_path: Path) -> None:
    """Nor the end of the command: its thread is left behind."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        path = tmp_path / "registry-pipelines.yaml"
        path.write_text(
            f"registries: {{silent: {{kind: distribution, host: '127.0.0.1:{silent.getsockname()[1]}'}}}}\n"
        )
        [row] = reach(load(path, {}), limit_s=0.1)
    assert (row.ok, row.read, row.exit_code) == (False, "no answer within 0.1 s", 7)
