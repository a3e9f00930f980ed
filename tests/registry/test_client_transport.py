"""Where requests go and what failures become: TLS, loopback, proxies, waiting, errors."""

from __future__ import annotations

import inspect
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from email.utils import formatdate
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry_pipelines.dialing import tls_context
from registry_pipelines.errors import (
    ConfigInvalid,
    DigestMismatch,
    Forbidden,
    InputError,
    NotFound,
    RateLimited,
    Refused,
    RegistryError,
    RegistryFull,
    RegistryPipelinesError,
    Stalled,
    TlsFailed,
    Unauthorized,
    Unavailable,
    Unsupported,
)
from registry_pipelines.oci import media_types
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import EMPTY as EMPTY_CONFIG
from registry_pipelines.oci.manifests import Manifest, manifest_bytes
from registry_pipelines.registry.client import DistributionRegistry, Retries, Timeouts, wire
from registry_pipelines.registry.client.exchange import base_url
from registry_pipelines.registry.client.origins import is_loopback, split_url
from registry_pipelines.registry.client.proxies import proxy_for
from registry_pipelines.registry.client.retries import MAX_RETRY_AFTER_S, read_retry_after
from registry_pipelines.registry.client.translate import (
    NETWORK_ERRORS,
    read_error_body,
    translate_exception,
    translate_status,
)
from registry_pipelines.registry.embedded import EmbeddedServer
from registry_pipelines.registry.embedded.application import Handler
from registry_pipelines.registry.embedded.heads import Request
from registry_pipelines.registry.embedded.responses import Response
from registry_pipelines.registry.protocol import Parcel, UploadSession
from tests.doubles.certificates import make_certificates
from tests.doubles.exchanges import Answer, ExchangeServer, Expect
from tests.doubles.fault_registry import FaultRegistry
from tests.patience import patient
from tests.registry.contract import read, upload

ONCE = Retries(attempts=1)
RAW = manifest_bytes(Manifest(schema_version=2, media_type=media_types.OCI_MANIFEST, config=EMPTY_CONFIG, layers=()))
HEADERS = {"Content-Type": media_types.OCI_MANIFEST, "Docker-Content-Digest": str(RAW.digest)}
DIGEST = Digest.of(b"0123456789")


# TLS


@pytest.fixture
def secure(tmp_path: Path) -> Iterator[tuple[EmbeddedServer, Path]]:
    made = make_certificates(tmp_path / "pem")
    with EmbeddedServer(tmp_path / "registry", certificate=made.certificate, key=made.key) as server:
        yield server, made.ca


def test_tls_with_an_own_authority(secure: tuple[EmbeddedServer, Path]) -> None:
    server, ca = secure
    registry = DistributionRegistry(server.address, ca_file=ca)
    content = b"secret" * 500_000
    upload(registry, "a", content)
    assert read(registry, "a", Digest.of(content)) == content


class OneChunk:
    """A carrier that sends one chunk from here."""

    def __init__(self, content: bytes) -> None:
        self.sent_bytes = 0
        self._content = content

    def carry(self, parcel: Parcel) -> bytes:
        context = ssl.create_default_context(cafile=parcel.ca_file)
        with (
            socket.create_connection((parcel.host, parcel.port), timeout=parcel.connect_s) as plain,
            context.wrap_socket(plain, server_hostname=parcel.host) as wire,
        ):
            wire.sendall(parcel.head + b"%x\r\n%s\r\n0\r\n\r\n" % (len(self._content), self._content))
            self.sent_bytes = len(self._content)
            answer = b""
            while b"\r\n\r\n" not in answer:
                answer += wire.recv(4096)
            return answer


@pytest.mark.parametrize(("host", "sent"), [("127.0.0.1", True), ("other.example", False)])
def test_uploads_stay_on_tls(tmp_path: Path, host: str, sent: bool) -> None:
    """A registry behind a TLS proxy often writes http:// into Location."""

    def behind_proxy(handler: Handler) -> Handler:
        def answer(request: Request) -> Response:
            response = handler(request)
            plain = [
                (name, f"http://{host}{value}" if name == "Location" else value) for name, value in response.headers
            ]
            return replace(response, headers=plain)

        return answer

    made = make_certificates(tmp_path / "pem")
    with EmbeddedServer(tmp_path / "r", wrap=behind_proxy, certificate=made.certificate, key=made.key) as server:
        registry = DistributionRegistry(server.address, ca_file=made.ca, retries=ONCE)
        if sent:
            assert read(registry, "a", upload(registry, "a", b"content").digest) == b"content"
            session = registry.begin_upload("a")
            registry.append_carried(session, OneChunk(b"carried"))
            assert session.location.startswith("https://")
            registry.commit_upload(session, Digest.of(b"carried"))
        else:
            with pytest.raises(RegistryError, match="from TLS to plain"):
                upload(registry, "a", b"content")


def test_an_untrusted_certificate_is_not_tried_again(secure: tuple[EmbeddedServer, Path]) -> None:
    with pytest.raises(TlsFailed, match="not trusted") as caught:
        DistributionRegistry(secure[0].address, plain_http=False).ping()
    assert not caught.value.temporary


def test_a_certificate_for_another_name(tmp_path: Path) -> None:
    made = make_certificates(tmp_path / "pem")
    with (
        EmbeddedServer(tmp_path / "r", host="127.0.0.2", certificate=made.certificate, key=made.key) as server,
        pytest.raises(TlsFailed, match="not trusted"),
    ):
        DistributionRegistry(server.address, ca_file=made.ca, retries=ONCE).ping()


def test_tls_where_none_is_spoken(tmp_path: Path) -> None:
    with EmbeddedServer(tmp_path) as server, pytest.raises(RegistryError):
        DistributionRegistry(server.address, plain_http=False, retries=ONCE, timeouts=Timeouts(connect_s=0.3)).ping()


def authorities(tmp_path: Path) -> tuple[bytes, bytes, bytes]:
    """PEM certificates of three authorities."""
    one, two, three = (make_certificates(tmp_path / name).ca.read_bytes() for name in ("one", "two", "three"))
    return one, two, three


def test_a_bad_ca_file_says_which_certificate_and_why(tmp_path: Path) -> None:
    one, two, three = authorities(tmp_path)
    lines = one.count(b"\n")
    key = make_certificates(tmp_path / "key").key.read_bytes()
    damaged = b"-----BEGIN CERTIFICATE-----\n" + two.splitlines()[1] + b"\n-----END CERTIFICATE-----\n"
    path = tmp_path / "ca.pem"
    for content, said in {
        b"no certificate": "it has no certificate, no PEM block",
        b"": "it has no certificate, no PEM block",
        key: "it has no certificate, only PRIVATE KEY",
        one + damaged + three: f"certificate 2 of 3, in line {lines + 1}, is not readable",
        one + two[:-30] + three: f"the block CERTIFICATE in line {lines + 1} has no end",
        one + two.replace(b"-----BEGIN", b"----BEGIN"): f"line {lines + 1} looks like the mark of a block",
        b"0123": "the certificate is not readable",
    }.items():
        path.write_bytes(content)
        with pytest.raises(ConfigInvalid) as caught:
            DistributionRegistry("localhost", ca_file=path)
        assert f"ca_file {path} cannot be read: " in str(caught.value) and said in str(caught.value)
    for missing, said in ((tmp_path / "missing.pem", "No such file"), (tmp_path, "Is a directory")):
        with pytest.raises(ConfigInvalid, match=said):
            DistributionRegistry("localhost", ca_file=missing)


@pytest.mark.peer("openssl")
def test_every_authority_of_a_bundle_is_trusted(tmp_path: Path, peer: Callable[[str], str]) -> None:
    """As OpenSSL reads them, and what editors leave: no block is passed over."""
    one, two, three = authorities(tmp_path)
    path = tmp_path / "ca.pem"

    def openssl(*arguments: str) -> bytes:
        return subprocess.run([peer("openssl"), "x509", *arguments], input=one, capture_output=True, check=True).stdout

    for first in (
        one + one,
        one.rstrip(),
        b"\xef\xbb\xbf" + one,
        b"".join(b"  " + line + b"\n" for line in one.splitlines()),
        one.replace(b"\n", b"\r\n"),
        one.replace(b" CERTIFICATE", b" X509 CERTIFICATE"),
        b"# ours\n" + openssl("-text"),
        openssl("-trustout", "-setalias", "ours", "-addtrust", "serverAuth"),
        make_certificates(tmp_path / "key").key.read_bytes() + one,
    ):
        path.write_bytes(first + two + three)
        assert len(tls_context(str(path)).get_ca_certs()) - len(tls_context().get_ca_certs()) == 3, first[:60]
    for alone in (openssl("-outform", "DER"), (one + two).decode().encode("utf-16")):
        path.write_bytes(alone)
        assert len(tls_context(str(path)).get_ca_certs()) > len(tls_context().get_ca_certs())


@pytest.mark.peer("openssl")
@pytest.mark.parametrize(("told", "believed"), [("-addtrust", True), ("-addreject", False)])
def test_an_authority_that_a_bundle_distrusts_is_not_believed(
    told: str, believed: bool, tmp_path: Path, peer: Callable[[str], str]
) -> None:
    made = make_certificates(tmp_path / "pem")
    marked = tmp_path / "marked.pem"
    command = [peer("openssl"), "x509", "-in", made.ca, "-trustout", told, "serverAuth", "-out", marked]
    subprocess.run(command, check=True, capture_output=True)
    with EmbeddedServer(tmp_path / "r", certificate=made.certificate, key=made.key) as server:
        registry = DistributionRegistry(server.address, ca_file=marked, retries=ONCE)
        if believed:
            registry.ping()
        else:
            with pytest.raises(TlsFailed, match="not trusted"):
                registry.ping()


@pytest.mark.parametrize(
    ("host", "plain", "ca", "base"),
    [
        ("localhost:5000", None, False, "http://localhost:5000"),
        ("127.0.0.1:5000", None, False, "http://127.0.0.1:5000"),
        ("127.0.0.1:5000", None, True, "https://127.0.0.1:5000"),
        ("127.0.0.1:5000", False, False, "https://127.0.0.1:5000"),
        ("[::1]:5000", None, False, "http://[::1]:5000"),
        ("reg.example", None, False, "https://reg.example"),
        ("reg.example", True, False, "http://reg.example"),
        ("127.0.0.1.example", None, False, "https://127.0.0.1.example"),
        ("docker.io", None, False, "https://registry-1.docker.io"),
    ],
)
def test_where_a_registry_is(host: str, plain: bool | None, ca: bool, base: str) -> None:
    assert base_url(host, plain_http=plain, tls_wanted=ca) == base


@pytest.mark.parametrize("host", ["localhost", "a.localhost", "127.9.8.7", "::1", "[::1]", "LOCALHOST."])
def test_loopback(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["localhost.example", "128.0.0.1", "10.0.0.1", "127.0.0.1.example", "0x7f.1", ""])
def test_not_loopback(host: str) -> None:
    assert not is_loopback(host)


@given(st.text(max_size=80))
@settings(max_examples=150, deadline=None)
def test_any_address_is_split_or_refused(text: str) -> None:
    for url in (text, f"http://{text}", f"https://host/{text}"):
        try:
            _, target = split_url(url, where="here")
        except RegistryError:
            continue
        assert target.startswith("/") and target.isascii() and " " not in target


# Proxies


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, None),
        ({"HTTPS_PROXY": "http://p:3128"}, ("p", 3128)),
        ({"https_proxy": "p:3128"}, ("p", 3128)),
        ({"HTTP_PROXY": "http://p:3128"}, None),
        ({"ALL_PROXY": "http://p"}, ("p", 80)),
        ({"HTTPS_PROXY": "http://p", "NO_PROXY": "*"}, None),
        ({"HTTPS_PROXY": "http://p", "NO_PROXY": "other, .example"}, None),
        ({"HTTPS_PROXY": "http://p", "NO_PROXY": "reg.example:443"}, None),
        ({"HTTPS_PROXY": "http://p", "NO_PROXY": "reg.example:5000"}, ("p", 80)),
        ({"HTTPS_PROXY": "http://p", "NO_PROXY": "g.example"}, ("p", 80)),
    ],
)
def test_the_proxy_of_a_host(environ: dict[str, str], expected: tuple[str, int] | None) -> None:
    proxy = proxy_for("https", "reg.example", 443, environ)
    assert (proxy and (proxy.host, proxy.port)) == expected


def test_proxies_and_addresses() -> None:
    environ = {"HTTP_PROXY": "http://user:p%40ss@p:1", "NO_PROXY": "10.0.0.0/8"}
    proxy = proxy_for("http", "11.0.0.1", 80, environ)
    assert proxy is not None and proxy.headers == {"Proxy-Authorization": "Basic dXNlcjpwQHNz"}
    for host in ("10.1.2.3", "127.0.0.1", "localhost", "::1"):
        assert proxy_for("http", host, 80, environ) is None
    assert proxy_for("http", "h", 80, {**environ, "REQUEST_METHOD": "GET"}) is None
    with pytest.raises(InputError, match="socks5"):
        proxy_for("http", "h", 80, {"http_proxy": "socks5://u:secret@p"})


def test_a_plain_request_through_a_proxy(tmp_path: Path) -> None:
    with ExchangeServer(
        Expect(
            "GET",
            r"http://reg\.example:80/v2/",
            Answer(200),
            {"Host": r"reg\.example(:80)?", "Proxy-Authorization": "Basic .*"},
        )
    ) as proxy:
        environ = {"HTTP_PROXY": f"http://user:hunter2@{proxy.address}"}
        DistributionRegistry("reg.example", plain_http=True, environ=environ).ping()


def test_a_tls_request_through_a_proxy() -> None:
    with ExchangeServer(
        Expect("CONNECT", r"reg\.example:443", Answer(407, close=True), {"Proxy-Authorization": "Basic .*"})
    ) as proxy:
        environ = {"HTTPS_PROXY": f"http://user:hunter2@{proxy.address}"}
        with pytest.raises(Unauthorized, match="407") as caught:
            DistributionRegistry("reg.example", environ=environ).ping()
        assert "hunter2" not in str(caught.value)


# Waiting


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("0", 0.0), ("7", 7.0), (" 12 ", 12.0), ("99999999999999999999", MAX_RETRY_AFTER_S)],
)
def test_retry_after_in_seconds(value: str, seconds: float) -> None:
    assert read_retry_after(value) == seconds


@pytest.mark.parametrize("value", ["", None, "soon", "-5", "1.5", "Mon, 99 Foo 2026", "٣"])
def test_retry_after_that_cannot_be_read(value: str | None) -> None:
    assert read_retry_after(value) is None


def test_retry_after_as_a_date() -> None:
    now = time.time()
    assert read_retry_after(formatdate(now + 30, usegmt=True), now=now) == pytest.approx(30, abs=1)
    assert read_retry_after(formatdate(now - 30, usegmt=True), now=now) == 0


@given(st.text(max_size=60))
@settings(max_examples=200, deadline=None)
def test_any_retry_after(value: str) -> None:
    wait_s = read_retry_after(value)
    assert wait_s is None or 0 <= wait_s <= MAX_RETRY_AFTER_S


def test_a_registry_that_stops_reading_is_dropped() -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        address = f"127.0.0.1:{deaf.getsockname()[1]}"
        registry = DistributionRegistry(address, retries=ONCE, timeouts=Timeouts(stall_s=patient(0.2)))
        session = UploadSession("a", f"http://{address}/u")
        with pytest.raises(Stalled) as caught:
            registry.append_upload(session, memoryview(bytes(64 * 1024 * 1024)))
        before: BaseException | None = caught.value
        while before is not None and "while sending content" not in str(before):
            before = before.__context__
        assert isinstance(before, Stalled)


# Errors

FULL_WRITING = (
    b'{"errors":[{"code":"UNKNOWN","message":"unknown error","detail":"write /data/docker/registry/v2/repositories/'
    b'app/_uploads/e9f83d36-275e-452e-85d6-95bfaf39cf5a/data: no space left on device"}]}'
)
FULL_OPENING = (
    b'{"errors":[{"code":"UNKNOWN","message":"unknown error","detail":{"DriverName":"filesystem","Enclosed":'
    b'{"Op":"write","Path":"/data/docker/registry/v2/repositories/app/_uploads/e9f83d36/startedat","Err":28}}}]}'
)
"""What docker-registry 2.8.2 answers on a full disk: while content is written, and when an upload is opened."""


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (400, b'{"errors":[{"code":"MANIFEST_INVALID","message":"no"}]}', Refused),
        (400, b'{"errors":[{"code":"DIGEST_INVALID","message":"no"}]}', DigestMismatch),
        (400, b'{"errors":[{"code":"NAME_UNKNOWN"}]}', NotFound),
        (403, b'{"errors":[{"code":"DENIED"}]}', Forbidden),
        (403, b"", Forbidden),
        (404, b"404 page not found", NotFound),
        (405, b'{"errors":[{"code":"UNSUPPORTED"}]}', Unsupported),
        (409, b"", Refused),
        (412, b'{"errors":[{"message":"configured as immutable"}]}', Refused),
        (413, b"<html>too large</html>", Refused),
        (429, b"", RateLimited),
        (503, b'{"errors":[{"code":"TOOMANYREQUESTS"}]}', RateLimited),
        (500, b'{"errors":[{"code":"DENIED"}]}', Unavailable),
        (501, b"", Unsupported),
        (507, b"", RegistryFull),
        (500, FULL_WRITING, RegistryFull),
        (500, FULL_OPENING, RegistryFull),
        (500, FULL_OPENING.replace(b"28", b"5"), Unavailable),
        (500, FULL_OPENING.replace(b"28", b"280"), Unavailable),
        (400, FULL_WRITING, Refused),
        (599, b"", Unavailable),
        (302, b"", RegistryError),
    ],
)
def test_statuses_become_errors(status: int, body: bytes, kind: type[RegistryPipelinesError]) -> None:
    error = translate_status(status, body, where="reg/a", doing="asking")
    assert type(error) is kind
    assert "<html" not in str(error)


@pytest.mark.parametrize(
    "body",
    [
        b"Client sent an HTTP request to an HTTPS server.\n",
        b"<html><head><title>400 The plain HTTP request was sent to HTTPS port</title></head></html>",
        b"<p>Reason: You're speaking plain HTTP to an SSL-enabled server port.<br /></p>",
    ],
)
def test_plain_http_where_tls_is_spoken_says_what_to_set(body: bytes) -> None:
    """As Go's server, nginx and Apache answer; docker-registry itself in ``test_client_peers``."""
    error = translate_status(400, body, where="reg/a", doing="asking")
    assert type(error) is TlsFailed and error.do == "Set plain_http: false for this registry"


@given(st.binary(max_size=300))
@settings(max_examples=200, deadline=None)
def test_any_error_body_can_be_read(body: bytes) -> None:
    code, message = read_error_body(body)
    assert len(code) <= 300 and len(message) <= 300
    assert not any(ord(character) < 32 for character in code + message)


def test_error_bodies_carry_no_escape_codes_and_no_secrets() -> None:
    body = b'{"errors":[{"code":"X","message":"\\u001b[31mred\\u001b[0m https://u:pw@h/?sig=abc Bearer abc.def.ghi"}]}'
    text = str(translate_status(400, body, where="reg", doing="asking"))
    assert "\x1b" not in text
    for secret in ("pw@", "abc"):
        assert secret not in text


def test_an_endless_error_body_is_not_read_to_its_end() -> None:
    body = b"x" * (2 * 1024 * 1024)
    with (
        ExchangeServer(Expect("GET", ".*", Answer(500, body=body, close=True))) as server,
        pytest.raises(Unavailable) as caught,
    ):
        DistributionRegistry(server.address, retries=ONCE).get_manifest("a", "v1")
    assert len(str(caught.value)) < 1000


def _foreign() -> list[BaseException]:
    """One of every exception that socket, ssl and ``wire`` define."""
    made: list[BaseException] = []
    for module in (wire, socket, ssl):
        for _, kind in inspect.getmembers(module, inspect.isclass):
            if issubclass(kind, Exception) and issubclass(kind, NETWORK_ERRORS):
                made.append(_make(kind))
    made += [_make(kind) for kind in _subclasses(OSError) if kind.__module__ == "builtins"]
    return made


def _subclasses(kind: type[Exception]) -> set[type[Exception]]:
    return {kind}.union(*(_subclasses(child) for child in kind.__subclasses__()))


def _make(kind: type[Exception]) -> Exception:
    if issubclass(kind, wire.HTTPException):
        return kind("Bearer top-secret")
    if kind is ssl.SSLCertVerificationError:
        error = ssl.SSLCertVerificationError(1, "x")
        error.verify_message = "self-signed certificate"
        return error
    return kind(1, "reason")


@pytest.mark.parametrize("error", _foreign(), ids=lambda error: type(error).__name__)
def test_every_foreign_exception_is_translated(error: BaseException) -> None:
    ours = translate_exception(error, where="reg/a", doing="reading content")
    assert isinstance(ours, RegistryError | InputError)
    assert ours.where == "reg/a"
    assert "top-secret" not in str(ours)


@pytest.mark.parametrize("error", [ValueError("Bearer abc"), UnicodeEncodeError("ascii", "ü", 0, 1, "Bearer abc")])
def test_header_errors_do_not_quote_the_header(error: Exception) -> None:
    ours = translate_exception(error, where="reg", doing="sending")
    assert isinstance(ours, InputError)
    assert "abc" not in str(ours)


def test_errors_of_ours_pass() -> None:
    error = NotFound("gone")
    assert translate_exception(error, where="x", doing="y") is error


def test_nothing_of_a_signed_address_is_in_an_error(tmp_path: Path) -> None:
    from tests.doubles.fault_registry import Redirect

    with EmbeddedServer(tmp_path) as server, FaultRegistry(server.address) as faults:
        registry = DistributionRegistry(faults.address, retries=ONCE)
        digest = upload(registry, "a", b"content").digest
        faults.play("GET", ".*/blobs/sha256:.*", Redirect(uses=0))
        with pytest.raises(RegistryError) as caught:
            registry.open_blob("a", digest)
    assert "signed" not in str(caught.value).lower()
    assert faults.store_address not in str(caught.value)
