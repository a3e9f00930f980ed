"""Each rule of a safe deployment kept and broken, at real servers and files."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from click.testing import CliRunner

from registry_pipelines.cli import main
from registry_pipelines.config import load
from registry_pipelines.evidence.keys import generate_key
from registry_pipelines.hardening.asking import Site
from registry_pipelines.hardening.doors import examine_failure_policy, examine_webhook
from registry_pipelines.hardening.files import examine_configuration, examine_keys, examine_state, examine_user
from registry_pipelines.hardening.model import RULES, Finding, worst
from registry_pipelines.hardening.services import examine_broker, examine_database
from registry_pipelines.hardening.webservers import examine_proxy, examine_webserver
from registry_pipelines.registry.embedded import EmbeddedServer
from tests.doubles.certificates import make_certificates
from tests.doubles.postgres import ESCAPED, PASSWORD, PostgresServer
from tests.needs import missing, needed_module
from tests.patience import patient
from tests.ports import free_ports

READER = {"Authorization": "Basic cmVhZGVyOnB3"}


def verdicts(found: Iterator[Finding] | list[Finding]) -> dict[str, str]:
    """The verdict of each rule; what is not kept says what to do."""
    looked = list(found)
    assert all(each.rule in RULES and (each.verdict == "kept" or each.do or each.what) for each in looked)
    assert all(each.do for each in looked if each.verdict == "broken")
    return {each.rule: each.verdict for each in looked}


class Pages(BaseHTTPRequestHandler):
    """A webserver of Dagster behind a proxy, or without one, as ``shape`` says."""

    shape: Mapping[str, object] = {}
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.answer()

    def do_POST(self) -> None:
        query = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["query"]
        value = self.shape["may"]
        data = {"permissions": [{"permission": name, "value": value} for name in ("launch_pipeline_execution", "wipe")]}
        if "instance" in query:
            data = {"instance": {"info": self.shape["settings"]}}  # type: ignore[dict-item]
        self.answer(json.dumps({"data": data}).encode())

    def answer(self, body: bytes = b"{}") -> None:
        refused = self.shape["login"] and not self.headers["Authorization"]
        foreign = self.shape["own"] and self.headers["Origin"]
        self.send_response(401 if refused else 403 if foreign else 200)
        for name, text in self.shape["headers"].items():  # type: ignore[attr-defined]
            self.send_header(name, text)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


OPEN = {
    "login": False,
    "own": False,
    "may": True,
    "headers": {},
    "settings": "run_coordinator: {}\npassword: hunter2\n",
}
CLOSED = {
    "login": True,
    "own": True,
    "may": False,
    "headers": {"Content-Security-Policy": "frame-ancestors 'none'; base-uri 'self'"},
    "settings": "storage:\n  password:\n    env: PGPASSWORD\n"
    "run_coordinator:\n  module: dagster_project.people\n  class: NamedByProxy\n",
}


@pytest.fixture
def pages() -> Iterator[Callable[..., str]]:
    servers = []

    def serve(shape: Mapping[str, object]) -> str:
        server = ThreadingHTTPServer(("127.0.0.1", 0), type("Shaped", (Pages,), {"shape": shape}))
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_address[1]}"

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


def test_a_proxy_that_lets_everything_through(pages: Callable[..., str]) -> None:
    found = verdicts(examine_proxy(Site(pages(OPEN)), READER, person_header="X-Forwarded-User"))
    assert set(found.values()) == {"broken"}
    assert len(found) == 7
    assert verdicts(examine_webserver(Site(pages(OPEN)))) == {"webserver-hidden": "broken"}


def test_a_proxy_that_keeps_all_but_its_scheme(pages: Callable[..., str]) -> None:
    found = verdicts(examine_proxy(Site(pages(CLOSED)), READER, person_header="X-Forwarded-User"))
    assert {rule for rule, verdict in found.items() if verdict != "kept"} == {"proxy-tls"}


def test_what_nobody_could_look_at_is_no_pass(pages: Callable[..., str]) -> None:
    found = verdicts(examine_proxy(Site(pages(CLOSED)), {}, person_header="X-Forwarded-User"))
    assert [rule for rule, verdict in found.items() if verdict == "unknown"] == [
        "readers-only-read",
        "proxy-origin",
        "names-by-proxy",
        "instance-secrets",
    ]
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{listener.getsockname()[1]}"
        assert verdicts(examine_proxy(Site(nobody), READER, person_header="X"))["proxy-login"] == "unknown"
        assert verdicts(examine_webserver(Site(nobody))) == {"webserver-hidden": "kept"}
    assert worst([]) == "unknown"


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("postgres_url: postgresql://rp:hunter2@db/dagster", "broken"),
        ("broker: redis://:hunter2@redis:6379/0", "broken"),
        ("broker:\n  env: REGISTRY_PIPELINES_BROKER", "kept"),
        ("broker: redis://redis:6379/0", "kept"),
        ("password: {env: PGPASSWORD}", "kept"),
        ("password: null", "kept"),
    ],
)
def test_passwords_among_the_settings(pages: Callable[..., str], text: str, verdict: str) -> None:
    site = Site(pages({**CLOSED, "settings": text}))
    assert verdicts(examine_proxy(site, READER, person_header="X"))["instance-secrets"] == verdict


@pytest.mark.parametrize(("options", "verdict"), [((), "broken"), (("--requirepass", "pw"), "kept")])
def test_a_broker_asks_for_its_password(options: tuple[str, ...], verdict: str) -> None:
    program = shutil.which("redis-server") or missing("no Redis server is installed")
    [port] = free_ports(1)
    command = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", *options]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd="/") as redis:
        try:
            url, until = f"redis://:pw@127.0.0.1:{port}/0", time.monotonic() + patient(10)
            while (found := verdicts(examine_broker(url)))["broker-password"] == "unknown":
                assert time.monotonic() < until
                time.sleep(0.05)
            assert found == {"broker-tls": "kept", "broker-password": verdict}
        finally:
            redis.terminate()


def test_a_broker_elsewhere_is_reached_in_tls() -> None:
    found = verdicts(examine_broker("redis://:pw@broker.invalid:6379/0"))
    assert found == {"broker-tls": "broken", "broker-password": "unknown"}
    assert verdicts(examine_broker("rediss://:pw@broker.invalid:6379/0"))["broker-tls"] == "kept"


@pytest.fixture(scope="module")
def server(postgres_programs: Path) -> Iterator[PostgresServer]:
    needed_module("psycopg", "postgres")
    with PostgresServer(postgres_programs) as running:
        yield running


def test_a_database_with_a_superuser_that_trusts_everybody(server: PostgresServer) -> None:
    url = f"postgresql://rp:{ESCAPED}@/postgres?host={server.folder}"
    psycopg = needed_module("psycopg", "postgres")
    with psycopg.connect(host=server.folder, user="rp", password=PASSWORD, dbname="postgres", autocommit=True) as root:
        root.execute("CREATE ROLE worker LOGIN PASSWORD 'pw'")
    assert verdicts(examine_database(url))["database-role"] == "broken"
    worker = url.replace(f"rp:{ESCAPED}", "worker:pw")
    assert set(verdicts(examine_database(worker)).values()) == {"kept"}
    in_query = f"postgresql:///postgres?host={server.folder}&user=worker&password=pw"
    assert set(verdicts(examine_database(in_query)).values()) == {"kept"}
    rules = Path(server.folder, "data", "pg_hba.conf")
    rules.write_text(rules.read_text().replace("scram-sha-256", "trust"))
    server.stop()
    server.start()
    assert verdicts(examine_database(worker))["database-password"] == "broken"


def test_a_database_elsewhere_is_reached_in_tls_that_is_checked() -> None:
    from registry_pipelines.hardening.services import _link

    def link(url: str, *, encrypted: bool) -> str:
        return _link(url, url, encrypted=encrypted).verdict

    assert link("postgresql://w:pw@db.example/x", encrypted=False) == "broken"
    assert link("postgresql://w:pw@db.example/x", encrypted=True) == "broken"
    assert link("postgresql://w:pw@db.example/x?sslmode=verify-full", encrypted=True) == "kept"


def test_files_of_a_pod_are_as_kubernetes_makes_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A secret with ``fsGroup`` and an empty volume: their modes are not the operator's to choose."""
    key, volume = tmp_path / "signing.key", Path("/dev/shm")
    key.write_text("-----BEGIN PRIVATE KEY-----")
    key.chmod(0o440)
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    assert verdicts(examine_keys([key])) == {"keys-private": "broken"}
    assert verdicts([examine_state(volume)]) == {"state-closed": "broken"}
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    assert verdicts(examine_keys([key])) == {"keys-private": "kept"}
    assert verdicts([examine_state(volume)]) == {"state-closed": "kept"}
    for loose in (0o444, 0o460):
        key.chmod(loose)
        assert verdicts(examine_keys([key])) == {"keys-private": "broken"}
    tmp_path.chmod(0o777)
    assert verdicts([examine_state(tmp_path)]) == {"state-closed": "broken"}


def test_files_that_others_read_or_write(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.mkdir()
    (keys / "signing.key").write_text("-----BEGIN PRIVATE KEY-----")
    (keys / "signing.pub").write_text("-----BEGIN PUBLIC KEY-----")
    (keys / "signing.key").chmod(0o600)
    assert [each.verdict for each in examine_keys([keys])] == ["kept"]
    (keys / "signing.key").chmod(0o640)
    assert [each.verdict for each in examine_keys([keys])] == ["broken"]
    settings = tmp_path / "registry-pipelines.yaml"
    settings.write_text("")
    settings.chmod(0o644)
    tmp_path.chmod(0o755)
    assert (examine_configuration(settings).verdict, examine_state(tmp_path).verdict) == ("kept", "broken")
    tmp_path.chmod(0o750)
    assert examine_state(tmp_path).verdict == "kept"
    settings.chmod(0o666)
    assert examine_configuration(settings).verdict == "broken"
    settings.chmod(0o644)
    tmp_path.chmod(0o777)  # who may write there may replace the file
    assert examine_configuration(settings).verdict == "broken"
    tmp_path.chmod(0o700)
    assert examine_state(tmp_path / "nowhere").verdict == "unknown"


def test_who_runs() -> None:
    assert examine_user().verdict == ("broken" if os.geteuid() == 0 else "kept")


def test_a_webhook_with_a_certificate_of_another_name(tmp_path: Path) -> None:
    made = make_certificates(tmp_path, "admission.registry-pipelines.svc")
    registry = EmbeddedServer(tmp_path / "content", certificate=made.certificate, key=made.key)
    with registry:
        address = registry.address
        good = examine_webhook(address, "admission.registry-pipelines.svc", made.ca)
        assert (good.verdict, good.what.split(",")[0]) in {
            ("kept", "its certificate is trusted"),
            ("broken", good.what),
        }
        assert examine_webhook(address, "other.registry-pipelines.svc", made.ca).verdict == "broken"
        assert examine_webhook(address, "admission.registry-pipelines.svc", None).verdict == "broken"
    assert examine_webhook(address, "admission.registry-pipelines.svc", made.ca).verdict == "unknown"
    assert examine_failure_policy("Ignore").verdict == "broken"


CONFIG = """
registries:
  open: {{kind: distribution, host: "{open}"}}
  closed: {{kind: distribution, host: "{closed}"}}
  far: {{kind: distribution, host: registry.invalid, plain_http: true}}
signing: {{generate: true}}
admission: {{failure_policy: Ignore}}
"""


def test_the_command_over_a_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("REGISTRY_PIPELINES_BROKER", "DAGSTER_POSTGRES_URL"):
        monkeypatch.delenv(name, raising=False)
    anybody, somebody = EmbeddedServer(tmp_path / "a"), EmbeddedServer(tmp_path / "b", users={"me": "pw"})
    with anybody, somebody:
        settings = Path("registry-pipelines.yaml")
        settings.write_text(CONFIG.format(open=anybody.address, closed=somebody.address))
        assert load(settings).signing.generate
        answered = CliRunner().invoke(main, ["harden-check", "--json", "--webserver", f"http://{anybody.address}"])
    document = json.loads(answered.stdout)
    found = {(each["rule"], each["where"]): each["verdict"] for each in document["result"]["findings"]}
    assert answered.exit_code == document["exit_code"] == 3
    assert found["registry-login", f"registries.open ({anybody.address})"] == "broken"
    assert found["registry-login", f"registries.closed ({somebody.address})"] == "kept"
    assert found["registry-login", "registries.far (registry.invalid)"] == "unknown"
    assert found["registry-tls", "registries.far (registry.invalid)"] == "broken"
    assert found["webserver-hidden", f"http://{anybody.address}"] == "broken"
    assert not list((tmp_path / "a").rglob("uploads/*")), "what was begun is cancelled"


def test_workers_are_given_their_key_and_it_is_looked_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The configuration of one machine, `generate: true` and all, is good on several where each has the key."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("REGISTRY_PIPELINES_BROKER", raising=False)
    monkeypatch.setenv("REGISTRY_PIPELINES_DATABASE", "postgresql://nobody@127.0.0.1:1/none")
    Path("registry-pipelines.yaml").write_text("registries: {}\nsigning: {generate: true}\n")
    without = CliRunner().invoke(main, ["harden-check"])
    assert "BROKEN  keys-given" in without.stdout and "no worker makes one" in without.stdout
    generate_key(tmp_path / ".registry-pipelines" / "keys" / "signing.key")
    given = CliRunner().invoke(main, ["harden-check"])
    assert "kept    keys-given" in given.stdout and given.stdout.count("keys-private") == 1
    last = given.stdout.splitlines()[-1].split(", ")
    assert [each.partition(" ")[2] for each in last] == ["kept", "broken", "unknown"]


HERE = "http://127.0.0.1:1"


@pytest.mark.parametrize(
    "words",
    [
        ("--webserver", "htp://webserver:3000"),
        ("--webserver", "http://a b:3000"),
        ("--webserver", "http://webserver:99999"),
        ("--webserver", "http://webserver:3000/\N{SNOWMAN}"),
        ("--proxy", HERE, "--person-header", "X-User:\nY"),
        ("--proxy", "https://127.0.0.1:1", "--ca-file", "no.pem"),
        ("--broker", "redis://redis:99999"),
        ("--broker", "redis://[::1"),
        ("--broker", "redis://:pa/hunter2@redis:6379/0"),
        ("--broker", "redis://:pa#hunter2@redis:6379/0"),
        ("--database", "LOOSE"),
    ],
    ids=lambda words: words[-1][-20:],
)
def test_what_cannot_be_asked_is_wrong_input_and_no_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("REGISTRY_PIPELINES_BROKER", raising=False)
    monkeypatch.setenv("LOOSE", "postgresql://rp:a/hunter2@db/dagster")
    Path("registry-pipelines.yaml").write_text("registries: {}\n")
    Path("no.pem").write_text("-----BEGIN CERTIFICATE-----\nAAAA\n")
    done = CliRunner().invoke(main, ["harden-check", *words])
    assert done.exit_code == 8 and "kept" not in done.output, done.output
    assert "hunter2" not in done.output


def test_a_reader_that_cannot_be_sent_is_not_shown(
    pages: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("registry-pipelines.yaml").write_text("registries: {}\n")
    monkeypatch.setenv("REGISTRY_PIPELINES_READER", "Cookie: s3cret\N{SNOWMAN}")
    done = CliRunner().invoke(main, ["harden-check", "--proxy", pages(CLOSED)])
    assert done.exit_code == 8 and "s3cret" not in done.output


@pytest.mark.parametrize("address", ["127.0.0.1:99999", f"{'a' * 300}:443", ".:443", ":443"])
def test_a_webhook_that_is_nowhere_is_no_pass(tmp_path: Path, address: str) -> None:
    assert examine_webhook(address, "admission.registry-pipelines.svc", None).verdict == "unknown"
    (tmp_path / "ca.pem").write_text("no certificate")
    for ca in (tmp_path / "ca.pem", tmp_path / "nowhere.pem"):
        found = examine_webhook(address, "admission.registry-pipelines.svc", ca)
        assert found.verdict == "unknown" and "cannot be read as certificates" in found.what
