"""Credentials of a store that end while a backup runs."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from click.testing import CliRunner

from registry_pipelines.cli import main
from tests.chain.fleet import Fleet, push, start
from tests.doubles.s3_files import Files, s3_files

BUCKET = "backups"


@pytest.fixture
def files(tmp_path: Path) -> Iterator[Files]:
    with s3_files(tmp_path / "s3") as found:
        yield found


@pytest.fixture
def fleet(tmp_path: Path, files: Files) -> Iterator[Fleet]:
    with ExitStack() as stack:
        fleet = start(tmp_path, stack)
        vault = (
            f"  vault: {{kind: store, address: 's3://{BUCKET}/x', region: us-east-1, endpoint: '{files.address}'}}\n"
        )
        fleet.path.write_text(
            fleet.path.read_text().replace("registries:\n", f"registries:\n{vault}")
            + "backups:\n  nightly: {registries: [us], to: vault}\n"
        )
        for package in ("one", "two", "three"):
            push(fleet.chain.place("app"), package, package=package)
        yield fleet


def backup(fleet: Fleet, code: int) -> dict[str, Any]:
    ran = CliRunner().invoke(main, ["recover", "backup", "--config", str(fleet.path), "--json"])
    assert ran.exit_code == code, (ran.output, ran.stderr)
    document = json.loads(ran.stdout)
    return dict(document["result"]["results"][0] if document["result"] else document["error"])


class _Issuer(BaseHTTPRequestHandler):
    """What a task on ECS asks for credentials: they are good for as long as the server says."""

    protocol_version = "HTTP/1.1"
    tokens: dict[str, float]
    life_s: float

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        token = f"token-{len(self.tokens)}"
        self.tokens[token] = time.monotonic() + self.life_s
        end = datetime.now(UTC) + timedelta(seconds=self.life_s)
        made = {
            "AccessKeyId": "AKIATEST",
            "SecretAccessKey": "s",
            "Token": token,
            "Expiration": f"{end:%Y-%m-%dT%H:%M:%SZ}",
        }
        body = json.dumps(made).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def issuer(life_s: float) -> Iterator[tuple[str, dict[str, float]]]:
    tokens: dict[str, float] = {}
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Issuer", (_Issuer,), {"tokens": tokens, "life_s": life_s}))
    thread = Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/", tokens
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_credentials_that_are_renewed_in_time_are_used(
    fleet: Fleet, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first ones end after the first object; a backup of hours sees a dozen such ends."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    with issuer(300.0) as (address, tokens):
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", address)
        ended: set[str] = set()

        def end_those() -> None:
            ended.update(tokens)
            time.sleep(0.3)  # obstore asks again ten times a second

        files.on_put, files.believes = end_those, lambda token: token in tokens and token not in ended
        made = backup(fleet, 0)
        assert made["facts"]["whole"] and ended and set(tokens) - ended


def test_credentials_that_end_are_told_and_the_next_backup_goes_on(
    fleet: Fleet, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIATEST")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s3cr3t-of-the-test")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "first")
    taken = {"first"}

    def end_it() -> None:
        taken.clear()

    files.on_put, files.believes = end_it, lambda token: token in taken
    told = backup(fleet, 5)
    text = json.dumps(told)
    assert "credentials" in text and "s3cr3t" not in text and "first" not in text, told
    assert not [key for key in files.objects(BUCKET) if "/_tags/" in key and "rp-backups" in key], "no moment of it"
    monkeypatch.setenv("AWS_SESSION_TOKEN", "second")
    taken.add("second")
    sent = files.calls["put"]
    assert backup(fleet, 0)["facts"]["whole"]
    assert files.calls["put"] > sent
