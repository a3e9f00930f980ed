"""Real runs on a real Postgres, one of which fails over a password: no secret is in any table, log or file."""

from __future__ import annotations

import base64
import subprocess
import urllib.parse
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest
from click.testing import CliRunner

from registry_pipelines.chain.serving import ensure_registries
from registry_pipelines.cli import main
from registry_pipelines.config import load
from tests.doubles.postgres import ESCAPED, PASSWORD
from tests.needs import needed_module

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import World

    from registry_pipelines.config import Config

GOOD = {"calm": "1.0"}
RIGHT, WRONG = "r1ght-p4ssw0rd/&", "wr0ng-p4ssw0rd/&"
HOME = """
storage: {postgres: {postgres_url: {env: DAGSTER_POSTGRES_URL}}}
telemetry: {enabled: false}
"""


def forms(secret: str, user: str) -> set[bytes]:
    """How a secret may be written."""
    header = base64.b64encode(f"{user}:{secret}".encode())
    return {secret.encode(), urllib.parse.quote(secret, safe="").encode(), header, header.rstrip(b"=")[:-2]}


def test_no_secret_is_in_a_database_a_log_or_a_file(
    tmp_path: Path,
    settings: Path,
    world_of: Callable[[Config, dg.DagsterInstance], World],
    postgres_url: str,
    postgres_programs: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    needed_module("dagster_postgres", "cluster")
    text = settings.read_text().replace("eu-west-1: {kind: embedded, ", "eu-west-1: {USERS kind: embedded, ", 1)
    settings.write_text(text.replace("USERS", "users: {pusher: '${PUSHER}'},"))
    monkeypatch.setenv("PUSHER", RIGHT)
    made = CliRunner().invoke(main, ["sign", "--generate-key", "--config", str(settings)])
    assert made.exit_code == 0, made.output
    monkeypatch.setenv("REGISTRY_PIPELINES_DATABASE", postgres_url)
    monkeypatch.setenv("DAGSTER_POSTGRES_URL", postgres_url.replace("postgresql:", "postgresql+psycopg2:"))
    (home := tmp_path / "home").mkdir()
    (home / "dagster.yaml").write_text(HOME)
    config = load(settings)
    assert config.shared.database.reveal() == postgres_url

    def ran(config: Config, instance: dg.DagsterInstance, tag: str) -> dg.ExecuteInProcessResult:
        world = world_of(config, instance)
        return world.run(world.known("app", tag, GOOD, note=tag))

    with ensure_registries(config), dg.DagsterInstance.from_config(str(home)) as instance:
        assert ran(config, instance, "v1").success
        monkeypatch.setenv("PUSHER", WRONG)
        failed = ran(load(settings), instance, "v2")
        assert not failed.success
        said = [str(each.step_failure_data.error_display_string) for each in failed.get_step_failure_events()]
        assert any("eu-west-1" in each or "credentials" in each for each in said), said
        info = instance.info_str()
    dump = subprocess.run(
        [postgres_programs / "pg_dump", "--dbname", postgres_url], capture_output=True, check=True
    ).stdout
    assert failed.run_id.encode() in dump
    assert b"replica" in dump and b"members" in dump, "both Dagster's tables and ours are there"
    printed = "".join(capfd.readouterr())
    files = [each for each in tmp_path.rglob("*") if each.is_file() and each != settings]
    assert len(files) > 10
    places: dict[str, bytes] = {"the dump": dump, "what was printed": printed.encode(), "the settings": info.encode()}
    places |= {str(each.relative_to(tmp_path)): each.read_bytes() for each in files}
    wanted: set[Any] = forms(RIGHT, "pusher") | forms(WRONG, "pusher") | {PASSWORD.encode(), ESCAPED.encode()}
    found = {(name, secret) for name, content in places.items() for secret in wanted if secret in content}
    assert not found
