"""What a webserver of Dagster, and the proxies before it, answer, over real connections."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from registry_pipelines.cli import main
from registry_pipelines.errors import Forbidden, InputError, RegistryError, Unauthorized, Unavailable
from registry_pipelines.runs import asking
from registry_pipelines.runs.server import Server
from registry_pipelines.settings import Secret

TOKEN = "t0ken-word"
ANSWERS = {
    "repositoriesOrError": {
        "__typename": "RepositoryConnection",
        "nodes": [{"name": "r", "location": {"name": "l"}, "jobs": [{"name": "collect"}]}],
    },
    "pipelineOrError": {"__typename": "Pipeline", "partitionKeysOrError": {"partitionKeys": []}},
}
"""Of a webserver that has one job, without partitions."""


class Proxy(BaseHTTPRequestHandler):
    """Lets a token through, and answers what the test has laid down."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.server.seen.append(dict(self.headers))  # type: ignore[attr-defined]
        code, body = self.server.answer  # type: ignore[attr-defined]
        self.send_response(code)
        self.send_header("Location", "/elsewhere")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@pytest.fixture
def proxy() -> Iterator[Any]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Proxy) as server:
        server.seen = []  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, args=[0.01])
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def at(proxy: Any, **more: Any) -> Server:
    return Server(f"http://127.0.0.1:{proxy.server_address[1]}/dagster/", **more)


def test_what_goes_to_this_machine_goes_through_no_proxy(proxy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a company's network, as the environment names it: it would see the token, and reach no webserver here."""
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    proxy.answer = (200, b'{"data": {"runsOrError": {"__typename": "Runs", "results": []}}}')
    assert asking.runs(at(proxy, token=Secret(TOKEN))) == []


def test_a_token_and_a_password_are_sent_as_proxies_take_them(proxy: Any) -> None:
    proxy.answer = (200, b'{"data": {"runsOrError": {"__typename": "Runs", "results": []}}}')
    assert asking.runs(at(proxy, token=Secret(TOKEN))) == []
    assert asking.runs(at(proxy, user="me", password=Secret("w0rd"))) == []
    assert [each["Authorization"] for each in proxy.seen] == [f"Bearer {TOKEN}", "Basic bWU6dzByZA=="]


@pytest.mark.parametrize(
    ("code", "body", "error", "said"),
    [
        (401, b"no", Unauthorized, "another token"),
        (403, b"no", Forbidden, "does not permit"),
        (503, b"", Unavailable, "does not answer now"),
        (500, b"Internal Server Error", Unavailable, "its webserver says why"),
        (302, b"", RegistryError, "a page to log in at"),
        (200, b"<html>Log in", RegistryError, "a page to log in at"),
        (200, b"{half", RegistryError, "no JSON"),
        (200, b'{"errors": [{"message": "Unknown \\n field"}]}', RegistryError, "Unknown field"),
        (200, b'{"data": {"runsOrError": null}}', RegistryError, "no runsOrError"),
        (200, b'{"data": {"runsOrError": {"__typename": "Runs"}}}', RegistryError, "no Dagster, or another version"),
        (200, b'{"data": {"runsOrError": {"__typename": "Runs", "results": [7]}}}', RegistryError, "another version"),
        (
            200,
            b'{"data": {"runsOrError": {"__typename": "UnauthorizedError", "message": ""}}}',
            Forbidden,
            "only reads",
        ),
    ],
)
def test_what_is_no_answer_is_an_error_that_says_so(
    proxy: Any, code: int, body: bytes, error: type[Exception], said: str
) -> None:
    proxy.answer = (code, body)
    with pytest.raises(error, match=said) as raised:
        asking.runs(at(proxy, token=Secret(TOKEN)))
    assert TOKEN not in str(raised.value) and len(proxy.seen) == 1


def test_a_config_that_the_job_does_not_take_is_said_in_its_words() -> None:
    answer = {"__typename": "RunConfigValidationInvalid", "errors": [{"message": "Undefined field 'promoted'"}]}

    class Asked:
        url = ""

        def ask(self, query: str, **_: Any) -> dict[str, Any]:
            return {**ANSWERS, "launchRun": answer}

    with pytest.raises(InputError, match="Undefined field 'promoted'"):
        asking.launch(Asked(), "collect", "", config={"promoted": 1})  # type: ignore[arg-type]


def test_a_partition_that_there_is_not_is_told_what_there_is() -> None:
    assert asking._what_for("forcaster:v1", ["forecaster:v1@0123456789ab"]) == "Did you mean forecaster:v1?"
    assert asking._what_for("nonsense", [f"app-{n}:v1@0" for n in range(7)]).endswith("app-4:v1 and 2 more")
    assert "leave it out" in asking._what_for("nonsense", [])


def test_a_key_that_somebody_typed_is_not_taken_for_the_release() -> None:
    class Asked:
        def ask(self, query: str, **_: Any) -> dict[str, Any]:
            keys = {"partitionKeys": ["app:v1", "app:v1@0123456789ab", "other"]}
            return {"pipelineOrError": {"__typename": "Pipeline", "partitionKeysOrError": keys}}

    for about, key in (("app:v1", "app:v1@0123456789ab"), ("app:v1@0123456789ab",) * 2, ("other", "other")):
        assert asking._key(Asked(), {"pipelineName": "release"}, about) == key  # type: ignore[arg-type]


def test_one_that_cannot_be_reached_is_named_with_its_port_and_what_to_do() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))  # and does not listen: nobody else gets the port meanwhile
        port = silent.getsockname()[1]
        with pytest.raises(Unavailable, match=rf"127\.0\.0\.1:{port}/dagster: .*refused\. Start its webserver"):
            asking.runs(Server(f"http://127.0.0.1:{port}/dagster/"))


def test_a_run_that_the_queue_did_not_take_says_why() -> None:
    run = {"runId": "a" * 36, "jobName": "collect", "status": "FAILURE", "creationTime": 1.0, "startTime": None}
    events = [
        {"__typename": "EngineEvent", "error": None},
        {"__typename": "EngineEvent", "error": {"message": "Redis did not\ntake the run", "cause": None}},
        {"__typename": "RunFailureEvent", "message": "marked as failed from outside"},
    ]
    page = {"cursor": "", "hasMore": False, "events": events}

    class Asked:
        url = ""

        def ask(self, query: str, **_: Any) -> dict[str, Any]:
            return {"runOrError": {"__typename": "Run", **run, "endTime": 2.0, "tags": [], "eventConnection": page}}

    found = asking.run(Asked(), "a" * 36)  # type: ignore[arg-type]
    assert found.reasons == ("Redis did not take the run", "marked as failed from outside")


@pytest.mark.parametrize(
    "url", ["", "nowhere", "ftp://host", "http://host:99999", "https://me:pw@host", "https://host/?x=1", "http://[x"]
)
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(InputError, match="address of Dagster"):
        Server(url)


def test_a_name_that_no_server_can_have_is_no_address() -> None:
    with pytest.raises(InputError, match="address of Dagster"):
        asking.runs(Server("http://a..b"))


def test_no_secret_goes_to_another_machine_without_tls() -> None:
    with pytest.raises(InputError, match="without TLS"):
        Server("http://dagster.example.com", token=Secret(TOKEN))
    with pytest.raises(InputError, match="a token and a password"):
        Server("https://dagster.example.com", token=Secret(TOKEN), password=Secret("x"))


def test_the_command_takes_the_token_from_the_environment_and_shows_it_nowhere(proxy: Any) -> None:
    run = {"runId": "a" * 36, "jobName": "release", "status": "FAILURE", "creationTime": 1.0, "startTime": 2.0}
    tags = [{"key": "registry-pipelines/outcome", "value": "denied"}]
    runs = {"__typename": "Runs", "results": [{**run, "endTime": 4.0, "tags": tags}]}
    proxy.answer = (200, json.dumps({"data": {"runsOrError": runs}}).encode())
    env = {"REGISTRY_PIPELINES_DAGSTER": f"http://127.0.0.1:{proxy.server_address[1]}"}
    done = CliRunner().invoke(main, ["runs", "list"], env={**env, "REGISTRY_PIPELINES_DAGSTER_TOKEN": TOKEN})
    assert done.exit_code == 0 and "denied" in done.output and TOKEN not in done.output
    assert proxy.seen[0]["Authorization"] == f"Bearer {TOKEN}"
    proxy.answer = (200, json.dumps({"data": {"runsOrError": {**runs, "results": []}}}).encode())
    assert CliRunner().invoke(main, ["runs", "list"], env=env).output == "no runs\n"


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (b"ops: {null: 1}", "cannot be sent"),
        (b"ops: " + b"[" * 1000, "cannot be read"),
        (b"ops: 2026-99-99", "cannot be read"),
        (b"\xff\xfe\xff", "cannot be read"),
        (b"ops: {n: 1}\n" + b"#" * (1 << 20), "has more than 1.0 MiB"),
        (b"- ops", "is no mapping"),
    ],
    ids=["no name", "deep", "date", "no text", "large", "list"],
)
def test_a_config_that_cannot_be_sent_is_wrong_input(proxy: Any, tmp_path: Path, config: bytes, said: str) -> None:
    proxy.answer = (200, json.dumps({"data": ANSWERS}).encode())
    (tmp_path / "run.yaml").write_bytes(config)
    words = ["runs", "launch", "collect", "--server", at(proxy).url, "--run-config", str(tmp_path / "run.yaml")]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 8 and said in done.stderr
    assert "launched" not in done.output


def test_words_that_no_header_and_no_question_can_hold_are_wrong_input(proxy: Any) -> None:
    proxy.answer = (200, json.dumps({"data": ANSWERS}).encode())
    with pytest.raises(InputError, match="a new line at its end") as raised:
        Server("https://dagster.example.com", token=Secret(f"{TOKEN}\n"))
    assert TOKEN not in str(raised.value)
    done = CliRunner().invoke(main, ["runs", "launch", "collect", "--server", at(proxy).url, "--tag", "a=\udc80"])
    assert done.exit_code == 8 and "cannot be sent" in done.stderr
