"""Accounts, tokens, TLS, ports and the helper that runs several servers."""

from __future__ import annotations

import base64
import datetime
import ipaddress
import queue
import shutil
import socket
import ssl
import threading
import time
from pathlib import Path
from urllib.parse import urlencode

import bcrypt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from registry_pipelines.errors import InputError, LocalError, PortTaken
from registry_pipelines.oci.digest import Digest
from registry_pipelines.registry.embedded import EmbeddedServer, Exchange, User, serve
from registry_pipelines.registry.embedded import auth as auth_module
from tests.doubles.certificates import make_certificates
from tests.needs import missing
from tests.patience import patient
from tests.registry.wire import ask, connect, push_blob, receive_all, receive_head, status_of

USERS = {"writer": "write-secret", "reader": User("read-secret", push=False)}


def basic(name: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()}


WRITER, READER = basic("writer", "write-secret"), basic("reader", "read-secret")


def token(server: EmbeddedServer, scope: str, credentials: dict[str, str] | None) -> dict[str, str]:
    answer = ask(server, "GET", f"/token?{urlencode({'service': server.address, 'scope': scope})}", headers=credentials)
    assert answer.status == 200, answer
    assert answer.json["token"] == answer.json["access_token"]
    return {"Authorization": f"Bearer {answer.json['token']}"}


# Basic


def test_basic_accounts(tmp_path: Path) -> None:
    with EmbeddedServer(tmp_path, users=USERS) as server:
        refused = ask(server, "GET", "/v2/")
        assert (refused.status, refused.code) == (401, "UNAUTHORIZED")
        assert refused.headers["WWW-Authenticate"] == 'Basic realm="registry"'
        assert ask(server, "GET", "/v2/", headers=WRITER).status == 200
        assert ask(server, "POST", "/v2/a/blobs/uploads/", b"", WRITER).status == 202
        denied = ask(server, "POST", "/v2/a/blobs/uploads/", b"", READER)
        assert (denied.status, denied.code) == (403, "DENIED")
        assert ask(server, "GET", "/v2/a/tags/list", headers=READER).status == 404
        assert ask(server, "GET", "/v2/_catalog", headers=READER).status == 200
        assert ask(server, "DELETE", "/v2/a/manifests/v1", headers=READER).status == 403


@pytest.mark.parametrize(
    "credentials",
    [
        basic("writer", "wrong"),
        basic("nobody", "write-secret"),
        basic("writer", ""),
        {"Authorization": "Basic not-base64!"},
        {"Authorization": "Basic " + base64.b64encode(b"writer").decode()},
        {"Authorization": "Basic " + base64.b64encode(b"\xff\xfe:x").decode()},
        {"Authorization": "Bearer abc"},
        {"Authorization": "Basic"},
    ],
)
def test_wrong_credentials(tmp_path: Path, credentials: dict[str, str]) -> None:
    with EmbeddedServer(tmp_path, users=USERS) as server:
        assert ask(server, "GET", "/v2/", headers=credentials).status == 401
        assert ask(server, "POST", "/v2/a/blobs/uploads/", b"", credentials).status == 401


def test_anonymous_pull(tmp_path: Path) -> None:
    with EmbeddedServer(tmp_path, users=USERS, anonymous_pull=True) as server:
        assert ask(server, "GET", "/v2/a/tags/list").status == 404
        assert ask(server, "POST", "/v2/a/blobs/uploads/", b"").status == 401
        assert ask(server, "GET", "/v2/a/tags/list", headers=basic("writer", "wrong")).status == 401


def test_a_refused_push_is_answered_before_its_body(tmp_path: Path) -> None:
    with EmbeddedServer(tmp_path, users=USERS) as server, connect(server) as sock:
        sock.sendall(b"PUT /v2/a/manifests/v1 HTTP/1.1\r\nHost: t\r\nContent-Length: 100000\r\n")
        sock.sendall(b"Expect: 100-continue\r\n\r\n")
        assert status_of(receive_all(sock)) == 401


def test_htpasswd(tmp_path: Path) -> None:
    path = tmp_path / "htpasswd"
    hashed = bcrypt.hashpw(b"secret", bcrypt.gensalt(4)).decode()
    path.write_text(f"# accounts\n\nana:{hashed}\n")
    with EmbeddedServer(tmp_path / "root", htpasswd=path) as server:
        for _ in range(2):
            assert ask(server, "GET", "/v2/", headers=basic("ana", "secret")).status == 200
            assert ask(server, "GET", "/v2/", headers=basic("ana", "wrong")).status == 401
            assert ask(server, "GET", "/v2/", headers=basic("ana", "x" * 100)).status == 401


@pytest.mark.parametrize("content", ["ana:plain", "ana", "ana:{SHA}xyz", "", "# nothing"])
def test_htpasswd_files_that_are_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "htpasswd"
    path.write_text(content)
    with pytest.raises(InputError) as caught:
        EmbeddedServer(tmp_path, htpasswd=path)
    assert "plain" not in str(caught.value)
    with pytest.raises(InputError):
        EmbeddedServer(tmp_path, htpasswd=tmp_path / "missing")


# Tokens


def test_the_token_dance(tmp_path: Path) -> None:
    with EmbeddedServer(tmp_path, users=USERS, tokens=True) as server:
        refused = ask(server, "POST", "/v2/a/blobs/uploads/", b"")
        challenge = refused.headers["WWW-Authenticate"]
        assert challenge == (
            f'Bearer realm="{server.url}/token",service="{server.address}",scope="repository:a:pull,push"'
        )
        granted = token(server, "repository:a:pull,push", WRITER)
        assert ask(server, "GET", "/v2/", headers=granted).status == 200
        assert ask(server, "POST", "/v2/a/blobs/uploads/", b"", granted).status == 202
        elsewhere = ask(server, "POST", "/v2/b/blobs/uploads/", b"", granted)
        assert elsewhere.status == 401
        assert 'error="insufficient_scope"' in elsewhere.headers["WWW-Authenticate"]
        assert 'scope="repository:b:pull,push"' in elsewhere.headers["WWW-Authenticate"]
        assert ask(server, "GET", "/v2/_catalog", headers=granted).status == 401
        everything = token(server, "registry:catalog:*", WRITER)
        assert ask(server, "GET", "/v2/_catalog", headers=everything).status == 200


def test_tokens_for_several_scopes_and_by_post(tmp_path: Path) -> None:
    with EmbeddedServer(tmp_path, users=USERS, tokens=True) as server:
        form = {
            "grant_type": "password",
            "username": "writer",
            "password": "write-secret",
            "scope": "repository:a:* repository:b:pull nonsense",
        }
        answer = ask(server, "POST", "/token", urlencode(form).encode())
        granted = {"Authorization": f"Bearer {answer.json['access_token']}"}
        assert ask(server, "POST", "/v2/a/blobs/uploads/", b"", granted).status == 202
        assert ask(server, "DELETE", "/v2/a/manifests/v1", headers=granted).status == 404
        assert ask(server, "GET", "/v2/b/tags/list", headers=granted).status == 404
        assert ask(server, "POST", "/v2/b/blobs/uploads/", b"", granted).status == 401
        form["password"] = "wrong"
        assert ask(server, "POST", "/token", urlencode(form).encode()).status == 401
        assert ask(server, "GET", "/token").status == 401


def test_a_reader_gets_no_token_to_write(tmp_path: Path) -> None:
    with EmbeddedServer(tmp_path, users=USERS, tokens=True) as server:
        granted = token(server, "repository:a:pull,push", READER)
        assert ask(server, "GET", "/v2/a/tags/list", headers=granted).status == 404
        assert ask(server, "POST", "/v2/a/blobs/uploads/", b"", granted).status == 403


def test_a_token_mounts_only_from_what_it_may_read(tmp_path: Path) -> None:
    with EmbeddedServer(tmp_path, users=USERS, tokens=True) as server:
        content = b"secret of another team"
        digest = Digest.of(content)
        theirs = token(server, "repository:theirs:pull,push", WRITER)
        ours = token(server, "repository:ours:pull,push", WRITER)
        stored = ask(server, "POST", f"/v2/theirs/blobs/uploads/?digest={digest}", content, theirs)
        assert stored.status == 201
        for query in (f"mount={digest}&from=theirs", f"mount={digest}", f"mount={digest}&from="):
            assert ask(server, "POST", f"/v2/ours/blobs/uploads/?{query}", b"", ours).status == 202, query
        assert ask(server, "GET", f"/v2/ours/blobs/{digest}", headers=ours).status == 404
        scopes = {"service": server.address, "scope": ["repository:ours:pull,push", "repository:theirs:pull"]}
        answer = ask(server, "GET", f"/token?{urlencode(scopes, doseq=True)}", headers=WRITER)
        both = {"Authorization": f"Bearer {answer.json['token']}"}
        mounted = ask(server, "POST", f"/v2/ours/blobs/uploads/?mount={digest}&from=theirs", b"", both)
        assert mounted.status == 201


@pytest.mark.parametrize("name", ["", "a:b"])
def test_an_account_without_a_usable_name_is_refused(tmp_path: Path, name: str) -> None:
    """Nobody's name is empty: everybody would have that account."""
    with pytest.raises(InputError, match="name"):
        EmbeddedServer(tmp_path, users={name: "secret", "writer": "secret"})
    accounts = tmp_path / "htpasswd"
    accounts.write_text(f":{bcrypt.hashpw(b'secret', bcrypt.gensalt(4)).decode()}\n")
    with pytest.raises(InputError):
        EmbeddedServer(tmp_path, htpasswd=accounts)


def test_anonymous_tokens(tmp_path: Path) -> None:
    with EmbeddedServer(tmp_path, users=USERS, tokens=True, anonymous_pull=True) as server:
        granted = token(server, "repository:a:pull,push", None)
        assert ask(server, "GET", "/v2/a/tags/list", headers=granted).status == 404
        assert ask(server, "GET", "/v2/a/tags/list").status == 401
        assert ask(server, "POST", "/v2/a/blobs/uploads/", b"", granted).status == 401


def test_forged_and_old_tokens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        EmbeddedServer(tmp_path / "1", users=USERS, tokens=True) as server,
        EmbeddedServer(tmp_path / "2", users=USERS, tokens=True) as other,
    ):
        granted = token(server, "repository:a:pull", WRITER)["Authorization"]
        payload, _, mac = granted.removeprefix("Bearer ").partition(".")
        for forged in (f"{payload}x.{mac}", f"{payload}.{mac}x", payload, ".", f"{payload}.\u00e9", "a.b.c"):
            headers = {"Authorization": f"Bearer {forged}".encode().decode("latin-1")}
            assert ask(server, "GET", "/v2/a/tags/list", headers=headers).status == 401
        assert ask(other, "GET", "/v2/a/tags/list", headers={"Authorization": granted}).status == 401
        now = time.time()
        monkeypatch.setattr(auth_module.time, "time", lambda: now + auth_module.TOKEN_LIFE_S + 1)
        assert ask(server, "GET", "/v2/a/tags/list", headers={"Authorization": granted}).status == 401


def test_a_challenge_does_not_repeat_a_strange_host(tmp_path: Path) -> None:
    with EmbeddedServer(tmp_path, users=USERS, tokens=True) as server, connect(server) as sock:
        sock.sendall(b'GET /v2/ HTTP/1.1\r\nHost: evil",scope="x\r\nConnection: close\r\n\r\n')
        answer = receive_all(sock)
        assert b"evil" not in answer
        assert server.address.encode() in answer


@pytest.mark.parametrize("tokens", [False, True])
def test_a_challenge_carries_no_line_of_the_request(tmp_path: Path, tokens: bool) -> None:
    with EmbeddedServer(tmp_path, users=USERS, tokens=tokens) as server:
        for name in ("a%0d%0aSet-Cookie:%20x", "a%22,realm=%22evil", "%E2%82%AC"):
            answer = ask(server, "POST", f"/v2/{name}/blobs/uploads/", b"")
            assert answer.status in (400, 404)
            assert answer.headers.get("Set-Cookie") is None
            assert answer.headers.get("WWW-Authenticate") is None


# TLS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A self-signed certificate for 127.0.0.1 and localhost, and its key."""

    folder = tmp_path_factory.mktemp("tls")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "registry")])
    now = datetime.datetime.now(datetime.UTC)
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(built.public_bytes(serialization.Encoding.PEM))
    raw = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "key.pem").write_bytes(raw)
    return folder / "cert.pem", folder / "key.pem"


def test_tls(tmp_path: Path, certificate: tuple[Path, Path]) -> None:
    content = bytes(range(256)) * 20_000
    context = ssl.create_default_context(cafile=str(certificate[0]))
    with EmbeddedServer(tmp_path, certificate=certificate[0], key=certificate[1]) as server:
        assert server.url.startswith("https://")
        digest = push_blob(server, "a", content, context=context)
        assert ask(server, "GET", f"/v2/a/blobs/{digest}", context=context).body == content
        ranged = ask(server, "GET", f"/v2/a/blobs/{digest}", headers={"Range": "bytes=5-9"}, context=context)
        assert (ranged.status, ranged.body) == (206, content[5:10])
        with pytest.raises(ssl.SSLCertVerificationError):
            ask(server, "GET", "/v2/", context=ssl.create_default_context())
        with connect(server) as plain:
            plain.sendall(b"GET /v2/ HTTP/1.1\r\nHost: t\r\n\r\n")
            assert b"200" not in receive_all(plain)
        assert ask(server, "GET", "/v2/", context=context).status == 200


def test_a_certificate_that_was_replaced_is_served_without_a_restart(tmp_path: Path) -> None:
    """Certificates of webhooks and registries last for weeks; half-written files change nothing."""
    first, second = (make_certificates(tmp_path / name) for name in ("first", "second"))
    shutil.copy(first.certificate, tmp_path / "tls.crt")
    shutil.copy(first.key, tmp_path / "tls.key")
    with EmbeddedServer(tmp_path / "root", certificate=tmp_path / "tls.crt", key=tmp_path / "tls.key") as server:

        def shown() -> str:
            return ssl.get_server_certificate(("127.0.0.1", server.port))

        before = shown()
        shutil.copy(second.certificate, tmp_path / "tls.crt")
        assert shown() == before  # its key is not there yet
        shutil.copy(second.key, tmp_path / "tls.key")
        assert shown() != before and shown() in second.certificate.read_text()


def test_a_cut_tls_connection_stores_nothing(tmp_path: Path, certificate: tuple[Path, Path]) -> None:
    context = ssl.create_default_context(cafile=str(certificate[0]))
    with EmbeddedServer(tmp_path, certificate=certificate[0], key=certificate[1]) as server:
        answer = ask(server, "POST", "/v2/a/blobs/uploads/", b"", context=context)
        half = b"x" * 1000
        sock = context.wrap_socket(connect(server), server_hostname="127.0.0.1")
        head = f"PUT {answer.headers['Location']}?digest={Digest.of(half)} HTTP/1.1\r\nHost: t\r\n"
        sock.sendall(f"{head}Content-Length: 2000\r\n\r\n".encode() + half)
        sock.close()
        while server.connections:
            pass
        assert ask(server, "HEAD", f"/v2/a/blobs/{Digest.of(half)}", context=context).status == 404


def test_a_certificate_that_cannot_be_used(tmp_path: Path, certificate: tuple[Path, Path]) -> None:
    (tmp_path / "bad.pem").write_text("no certificate")
    for pair in [(tmp_path / "bad.pem", certificate[1]), (certificate[0], tmp_path / "missing.pem")]:
        with pytest.raises(InputError):
            EmbeddedServer(tmp_path / "root", certificate=pair[0], key=pair[1]).start()


# Running


def test_a_taken_port(tmp_path: Path) -> None:
    with EmbeddedServer(tmp_path / "1") as first:
        with pytest.raises(PortTaken) as caught:
            EmbeddedServer(tmp_path / "2", port=first.port).start()
        assert first.address in str(caught.value)
        assert ask(first, "GET", "/v2/").status == 200


def test_an_address_of_another_machine(tmp_path: Path) -> None:
    with pytest.raises((LocalError, InputError)):
        EmbeddedServer(tmp_path, host="192.0.2.1").start()
    with pytest.raises(InputError):
        EmbeddedServer(tmp_path, host="no.such.host.invalid").start()


def test_a_root_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LocalError):
        EmbeddedServer(tmp_path / "file").start()


def test_loopback_only_by_default(tmp_path: Path) -> None:
    with EmbeddedServer(tmp_path) as server:
        assert server.address == f"127.0.0.1:{server.port}"


def test_ipv6(tmp_path: Path) -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        missing("this machine has no IPv6 loopback")
    with EmbeddedServer(tmp_path, host="::1") as server:
        assert server.address == f"[::1]:{server.port}"
        with socket.create_connection(("::1", server.port)) as sock:
            sock.sendall(b"GET /v2/ HTTP/1.1\r\nHost: t\r\n\r\n")
            assert status_of(receive_head(sock)) == 200


def test_start_and_stop_twice_and_again(tmp_path: Path) -> None:
    server = EmbeddedServer(tmp_path)
    server.stop()
    assert server.start() is server
    assert server.start() is server
    assert ask(server, "GET", "/v2/").status == 200
    server.stop()
    server.stop()
    with pytest.raises(ConnectionRefusedError):
        ask(server, "GET", "/v2/")
    server.start()
    assert ask(server, "GET", "/v2/").status == 200
    server.stop()


def test_several_servers_until_told_to_stop(tmp_path: Path) -> None:
    stop = threading.Event()
    ready = threading.Event()
    servers = [EmbeddedServer(tmp_path / str(number)) for number in range(3)]
    thread = threading.Thread(target=serve, args=(servers,), kwargs={"ready": lambda _: ready.set(), "stop": stop})
    thread.start()
    assert ready.wait(patient(20))
    assert [ask(server, "GET", "/v2/").status for server in servers] == [200] * 3
    stop.set()
    thread.join(patient(20))
    assert not thread.is_alive()
    for server in servers:
        with pytest.raises(ConnectionRefusedError):
            ask(server, "GET", "/v2/")


def test_when_one_server_cannot_start_the_others_stop(tmp_path: Path) -> None:
    with EmbeddedServer(tmp_path / "holder") as holder:
        first = EmbeddedServer(tmp_path / "1")
        with pytest.raises(PortTaken):
            serve([first, EmbeddedServer(tmp_path / "2", port=holder.port)])
        with pytest.raises(ConnectionRefusedError):
            ask(first, "GET", "/v2/")


def test_exchanges_are_told(tmp_path: Path) -> None:
    heard: queue.Queue[Exchange] = queue.Queue()
    told = []
    with EmbeddedServer(tmp_path, on_exchange=heard.put, users=USERS) as server:
        content = b"0123456789"
        digest = Digest.of(content)
        for act in (
            lambda: ask(server, "POST", f"/v2/a/blobs/uploads/?digest={digest}", content, WRITER),
            lambda: ask(server, "GET", f"/v2/a/blobs/{digest}", headers={**WRITER, "Range": "bytes=0-3"}),
            lambda: ask(server, "GET", "/v2/"),
        ):
            act()
            told.append(heard.get(timeout=patient(20)))
    facts = [(one.method, one.status, one.bytes_in, one.user) for one in told]
    assert facts == [("POST", 201, 10, "writer"), ("GET", 206, 0, "writer"), ("GET", 401, 0, "")]
    assert told[1].bytes_out == 4
    assert told[0].target == f"/v2/a/blobs/uploads/?digest={digest}"


def test_repr_shows_no_password() -> None:
    assert "secret" not in repr(User("secret"))
