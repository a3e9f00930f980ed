"""What Slack and mail servers get, over real connections; what goes wrong with that; what is never in it."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, LoginPassword

from registry_pipelines.chain.notify import Notifier
from registry_pipelines.config import load
from registry_pipelines.config.notify import Notify
from registry_pipelines.errors import ConfigInvalid
from registry_pipelines.oci.digest import Digest
from registry_pipelines.release import Release
from tests.doubles.certificates import Certificates, make_certificates
from tests.patience import patient
from tests.ports import free_ports

RELEASE = Release("app", "v1.0.0", Digest.parse("sha256:" + "5" * 64))
SETTINGS = """\
registries: {{here: {{kind: embedded, port: 5999, users: {{ci: '${{PULL}}'}}}}}}
images: {{app: {{registry: here, repository: team/app, owners: [app-owner@example.com, "team:vision"]}}}}
notify: {{{0}}}
"""
SECRETS = {"PULL": "Tr0ub4dor", "SMTP": "sm-tp-word", "HOOK": "http://127.0.0.1:1/s3cret"}


def notifier(folder: Path, notify: str, **env: str) -> Notifier:
    path = folder / "registry-pipelines.yaml"
    path.write_text(SETTINGS.format(notify))
    return Notifier(load(path, {**SECRETS, **env}))


class Mails:
    """Keeps what a mail server takes; who has logged in."""

    def __init__(self) -> None:
        self.taken: list[Any] = []
        self.users: list[str] = []

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: Any) -> str:
        if address.startswith("nobody"):
            return "550 no such user s3cret-answer"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        self.taken.append(envelope)
        return "250 OK"

    def log_in(self, server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
        assert isinstance(data, LoginPassword)
        self.users.append(data.login.decode())
        return AuthResult(success=data.password.decode() == SECRETS["SMTP"], handled=False)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def mails(certificates: Certificates) -> Iterator[tuple[Mails, int]]:
    """A mail server that wants STARTTLS and a log-in."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.certificate, certificates.key)
    kept = Mails()
    server = Controller(
        kept,
        hostname="127.0.0.1",
        port=free_ports(1)[0],
        tls_context=context,
        require_starttls=True,
        authenticator=kept.log_in,
        auth_required=True,
        auth_require_tls=True,
        ready_timeout=patient(30),
    )
    server.start()
    try:
        yield kept, server.port
    finally:
        server.stop()


def test_mail_goes_over_tls_to_who_is_named_and_to_owners(
    tmp_path: Path, mails: tuple[Mails, int], certificates: Certificates
) -> None:
    kept, port = mails
    email = (
        f"email: {{host: 'localhost:{port}', sender: rp@example.com, to: [ops@example.com, nobody@example.com], "
        f"owners: true, username: rp, password: '${{SMTP}}', ca_file: {certificates.ca}}}"
    )
    told = notifier(tmp_path, email)
    reasons = ["pull said Tr0ub4dor", "see https://me:hunter22@host/x", "x" * 5000]
    [problem] = told.tell("denied", RELEASE, stage="judge", what="deny\r\nBcc: all@example.com", reasons=reasons)
    assert problem == "1 of 3 recipients were not taken by localhost"
    [envelope] = kept.taken
    assert envelope.rcpt_tos == ["ops@example.com", "app-owner@example.com"] and kept.users == ["rp"]
    text = envelope.content.decode()
    assert "Bcc: all" in text and "\nBcc:" not in text.replace("\r", "").partition("\n\n")[0]
    assert "Owned by app-owner@example.com, team:vision." in text or "(cut)" in text
    for secret in ("Tr0ub4dor", "hunter22", "sm-tp-word"):
        assert secret not in text


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ("username: rp, password: '${WRONG}'", "answered 535"),
        ("security: none", "answered 530"),
        ("security: tls", "cannot be reached"),
    ],
)
def test_a_mail_server_that_refuses_is_said_without_its_words(
    tmp_path: Path, mails: tuple[Mails, int], certificates: Certificates, fields: str, said: str
) -> None:
    kept, port = mails
    email = (
        f"email: {{host: 'localhost:{port}', sender: rp@x.org, to: [a@x.org], ca_file: {certificates.ca}, {fields}}}"
    )
    [problem] = notifier(tmp_path, email, WRONG="wr0ng-word").alert("stale", stage="freshness", what="old")
    assert said in problem and "wr0ng" not in problem and not kept.taken


def test_who_is_not_trusted_gets_no_password(tmp_path: Path, mails: tuple[Mails, int]) -> None:
    kept, port = mails
    email = f"email: {{host: 'localhost:{port}', sender: r@x.org, to: [a@x.org], username: rp, password: '${{SMTP}}'}}"
    [problem] = notifier(tmp_path, email).alert("stale", stage="freshness", what="old")
    assert "cannot be reached" in problem and kept.users == []


class Slack(BaseHTTPRequestHandler):
    """An incoming webhook."""

    def do_POST(self) -> None:
        self.server.seen.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))  # type: ignore[attr-defined]
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@pytest.fixture
def slack() -> Iterator[tuple[list[dict[str, str]], str]]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Slack) as server:
        server.seen = []  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, args=[0.01])
        thread.start()
        yield server.seen, f"http://127.0.0.1:{server.server_address[1]}/T0/B0/s3cret"  # type: ignore[attr-defined]
        server.shutdown()
        thread.join()


def test_slack_gets_a_text_in_which_nothing_is_a_mark_of_its_own(
    tmp_path: Path, slack: tuple[list[dict[str, str]], str]
) -> None:
    seen, address = slack
    told = notifier(tmp_path, "slack: '${HOOK}'", HOOK=address)
    assert told.alert("run-failed", stage="nightly_sync", what="run <!channel> & co", owners=["team:a"]) == []
    [body] = seen
    assert set(body) == {"text"}
    assert body["text"] == "run-failed: nightly_sync: run &lt;!channel&gt; &amp; co\nOwned by team:a."


def test_an_hour_takes_only_so_many_and_the_next_says_how_many_were_left_out(
    tmp_path: Path, slack: tuple[list[dict[str, str]], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, address = slack
    notify = "slack: '${HOOK}', most_per_hour: 2"
    for number in range(5):  # each run is a process with a notifier of its own
        told = notifier(tmp_path, notify, HOOK=address)
        assert told.tell("failed", RELEASE, stage=f"stage-{number}", what="no") == []
    assert len(seen) == 2
    file = tmp_path / ".registry-pipelines" / "notify" / "sent.json"
    kept = json.loads(file.read_text())
    assert kept["left_out"] == 3
    kept["times"] = [each - 3601 for each in kept["times"]]
    file.write_text(json.dumps(kept))
    notifier(tmp_path, notify, HOOK=address).alert("stale", stage="freshness", what="old")
    assert "3 notifications before this one were left out" in seen[2]["text"]
    file.write_text("{half")
    notifier(tmp_path, notify, HOOK=address).alert("stale", stage="freshness", what="old")
    assert len(seen) == 4


@pytest.mark.parametrize(
    ("notify", "said"),
    [
        ("slack: 'http://hooks.example.com/x'", "notify.slack"),
        ("email: {host: mail.example.com, sender: a@x.org}", "nobody gets it"),
        ("email: {host: mail, sender: a@x.org, to: [b@x.org], username: u}", "written together"),
        (
            "email: {host: mail, sender: a@x.org, to: [b@x.org], security: none, username: u, password: '${SMTP}'}",
            "would be sent without TLS",
        ),
        ("email: {host: mail, sender: 'A <a@x.org>', to: [b@x.org]}", "is not an e-mail address"),
        ("most_per_hour: 0", "most_per_hour"),
    ],
)
def test_what_cannot_work_is_refused_with_its_line(tmp_path: Path, notify: str, said: str) -> None:
    with pytest.raises(ConfigInvalid) as refused:
        notifier(tmp_path, notify.replace("'http://hooks.example.com/x'", "'${PLAIN}'"), PLAIN="http://hooks.io/x")
    assert said in str(refused.value) and "yaml:3:" in str(refused.value)


def test_all_events_are_told_unless_chosen() -> None:
    assert {"run-failed", "stale", "denied"} <= set(Notify().events) and not Notify().ways
