"""Who is told of a release that does not ship, and what becomes of a notification that fails."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from registry_pipelines.chain import Chain
from registry_pipelines.cli import main
from registry_pipelines.config import load
from registry_pipelines.errors import PromotionDenied
from registry_pipelines.oci.digest import Digest
from registry_pipelines.release import Release
from tests.chain.fleet import Fleet
from tests.patience import until

KEEP = "import sys; open(sys.argv[1], 'a').write(sys.stdin.read() + '\\n')"


class Hook(BaseHTTPRequestHandler):
    """Takes what is posted; answers with the code in the path, or after the test when that says so."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.seen.append((dict(self.headers), json.loads(body)))  # type: ignore[attr-defined]
        code = self.path.rpartition("/")[2]
        if code == "never":
            self.server.over.wait()  # type: ignore[attr-defined]
        else:
            self.send_response(int(code))
            self.send_header("Location", "/s3cret/200")
            self.end_headers()

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@pytest.fixture
def hook() -> Iterator[ThreadingHTTPServer]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Hook) as server:
        server.seen, server.over = [], threading.Event()  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, args=[0.01])
        thread.start()
        yield server
        server.over.set()  # type: ignore[attr-defined]
        server.shutdown()
        thread.join()


def told(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def keeping(fleet: Fleet) -> tuple[Chain, Path]:
    """A chain whose command keeps what it is told."""
    kept = fleet.folder / "told"
    settings = json.dumps([sys.executable, "-c", KEEP, "told"])
    return fleet.reload(("signing:", f"notify: {{command: {settings}}}\nsigning:")), kept


def at(fleet: Fleet, hook: ThreadingHTTPServer, path: str, more: str = "") -> Chain:
    """A chain whose webhook is the test's."""
    fleet.path.write_text(
        fleet.path.read_text() + f"notify: {{webhook: '${{HOOK}}', token: '${{HOOK_TOKEN}}'{more}}}\n"
    )
    port = hook.server_address[1]
    return Chain(load(fleet.path, {"HOOK": f"http://127.0.0.1:{port}/s3cret/{path}", "HOOK_TOKEN": "t0ken"}))


def test_a_new_verdict_that_denies_is_told_once_and_so_is_each_refused_promotion(fleet: Fleet) -> None:
    chain, kept = keeping(fleet)
    bad = fleet.release("v1.0.0", package="badwheel")
    assert not fleet.judged(bad) and told(kept) == []  # that chain has no notify
    bad = fleet.release("v1.0.1", package="badwheel")
    chain.sbom(bad)
    assert not chain.judge(bad).ok
    assert not chain.judge(bad).ok
    [first] = told(kept)
    assert (first["event"], first["stage"], first["release"]) == ("denied", "judge", bad.key)
    assert (first["image"], first["tag"], first["digest"]) == ("app", "v1.0.1", bad.digest)
    assert any("signature" in reason for reason in first["reasons"])
    found = CliRunner().invoke(main, ["promote", bad.key, "--config", str(fleet.path)])
    assert found.exit_code == 3
    [_, second] = told(kept)
    assert (second["event"], second["stage"], second["what"]) == (
        "denied",
        "promote",
        "app may not be promoted to prod",
    )


def test_a_good_release_and_unwanted_events_are_not_told(fleet: Fleet) -> None:
    chain, kept = keeping(fleet)
    release = fleet.release("v1.0.0")
    for act in (chain.sbom, chain.vulnerabilities, chain.sign, chain.judge, chain.promote):
        assert act(release).ok
    deaf = fleet.reload(("notify: {", "notify: {events: [failed], "))
    assert not deaf.judge(fleet.release("v1.0.1", package="badwheel")).ok
    assert told(kept) == []


def test_a_webhook_gets_it_with_its_token_and_neither_is_ever_shown(fleet: Fleet, hook: ThreadingHTTPServer) -> None:
    chain = at(fleet, hook, "204")
    bad = fleet.release("v1.0.0", package="badwheel")
    result = chain.judge(bad)
    [(headers, body)] = hook.seen  # type: ignore[attr-defined]
    assert headers["Authorization"] == "Bearer t0ken" and body["release"] == bad.key
    assert not any("notif" in note for note in result.notes)


@pytest.mark.parametrize(
    ("path", "more", "said"),
    [
        ("500", "", "answered 500"),
        ("302", "", "answered 302"),
        ("never", ", timeout: 50ms", "did not answer within 50ms"),
    ],
)
def test_a_webhook_that_fails_is_said_and_changes_nothing(
    fleet: Fleet, hook: ThreadingHTTPServer, path: str, more: str, said: str
) -> None:
    chain = at(fleet, hook, path, more)
    bad = fleet.release("v1.0.0", package="badwheel")
    [note] = [note for note in chain.judge(bad).notes if "notif" in note]
    assert said in note and "127.0.0.1" in note
    until(lambda: hook.seen)  # type: ignore[attr-defined]  # who gave up may have done so before it was read
    assert len(hook.seen) == 1  # type: ignore[attr-defined]
    with pytest.raises(PromotionDenied) as denied:
        chain.promote(bad)
    [more_said] = denied.value.__notes__
    for text in (note, more_said, str(denied.value)):
        assert "s3cret" not in text and "t0ken" not in text


@pytest.mark.parametrize(
    "address", ["http://127.0.0.1:9/s3cret", "http://127.0.0.1:99999/s3cret", "https://a..b/s3cret"]
)
def test_a_webhook_that_cannot_be_reached_is_said(fleet: Fleet, address: str) -> None:
    fleet.path.write_text(fleet.path.read_text() + "notify: {webhook: '${HOOK}'}\n")
    chain = Chain(load(fleet.path, {"HOOK": address}))
    release = Release("app", "v1.0.0", Digest.of(b""))
    [said] = chain.notify("failed", release, stage="judge", what="no answer")
    assert said.startswith("nobody was notified: the webhook at ") and "s3cret" not in said


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["no-such-program"], "no-such-program cannot be started: No such file"),
        ([sys.executable, "-c", "raise SystemExit(7)"], "ended with 7"),
    ],
)
def test_a_command_that_fails_is_said_on_stderr_and_the_exit_code_stays(
    fleet: Fleet, command: list[str], said: str
) -> None:
    fleet.reload(("signing:", f"notify: {{command: {json.dumps(command)}}}\nsigning:"))
    bad = fleet.release("v1.0.0", package="badwheel")
    found = CliRunner().invoke(main, ["promote", bad.key, "--config", str(fleet.path)])
    assert found.exit_code == 3 and said in found.stderr
    found = CliRunner().invoke(main, ["judge", bad.key, "--config", str(fleet.path)])
    assert found.exit_code == 3 and said in found.stdout


def test_a_stage_that_ends_with_an_error_is_a_failure_and_is_told(fleet: Fleet) -> None:
    _, kept = keeping(fleet)
    fleet.release("v1.0.0")
    key = f"app:v1.0.0@sha256:{'0' * 64}"
    found = CliRunner().invoke(main, ["judge", key, "--config", str(fleet.path)])
    assert found.exit_code == 4
    [event] = told(kept)
    assert (event["event"], event["stage"], event["release"]) == ("failed", "judge", key)
    assert "0000" in event["what"]
