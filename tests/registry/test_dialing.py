"""Connections: several addresses of one host, what TLS trusts, and what proxies refuse."""

from __future__ import annotations

import itertools
import socket
import ssl
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from registry_pipelines.dialing import Address, Dialer, NoneAnswered
from registry_pipelines.errors import (
    Forbidden,
    RegistryError,
    RegistryPipelinesError,
    Stalled,
    TlsFailed,
    Unauthorized,
    Unavailable,
)
from registry_pipelines.registry.client import DistributionRegistry, Retries, Timeouts
from registry_pipelines.registry.embedded import EmbeddedServer
from registry_pipelines.registry.protocol import Place
from registry_pipelines.transfer.blob.courier_process import Connections
from registry_pipelines.transfer.blob.memory import PART_BYTES
from registry_pipelines.transfer.copying import copy_closure
from registry_pipelines.transfer.engine import Engine
from registry_pipelines.transfer.verify import compare
from tests.doubles.certificates import make_certificates
from tests.doubles.exchanges import Answer, ExchangeServer, Expect
from tests.doubles.fault_registry import FaultRegistry
from tests.patience import patient
from tests.transfer.conftest import Graphs

ONCE = Retries(attempts=1)
HOLE, NOBODY, HERE = "127.0.0.2", "127.0.0.3", "127.0.0.1"


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    """A registry on HERE; on HOLE nobody answers, as behind a broken IPv6 route: the backlog is full."""
    with EmbeddedServer(tmp_path / "r") as server, socket.socket() as hole:
        hole.bind((HOLE, server.port))
        hole.listen(0)
        held = [socket.socket() for _ in range(6)]
        for one in held:
            one.setblocking(False)
            one.connect_ex((HOLE, server.port))
        yield server.port
        for one in held:
            one.close()


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """Names with their addresses, for this process's resolver."""
    known: dict[str, list[str]] = {}
    real = socket.getaddrinfo

    def answer(host: str, *more: Any) -> Any:
        return [one for address in known.get(host, [host]) for one in real(address, *more)]

    monkeypatch.setattr(socket, "getaddrinfo", answer)
    return known


def test_a_dead_address_is_passed_over_and_remembered(port: int, names: dict[str, list[str]]) -> None:
    names["two.example"] = [HOLE, HERE]
    registry = DistributionRegistry(f"two.example:{port}", plain_http=True, retries=ONCE)
    registry.ping()
    dialer = Dialer()
    assert [one.host for one in dialer.resolve("two.example", port)] == [HOLE, HERE]
    dialer.connect("two.example", port, dialer.resolve("two.example", port), 30).close()
    assert [one.host for one in dialer.resolve("two.example", port)] == [HERE, HOLE]


@pytest.mark.parametrize("order", list(itertools.permutations([HOLE, NOBODY, HERE])))
def test_whoever_answers_is_found(port: int, order: tuple[str, ...]) -> None:
    places = [Address(socket.AF_INET, (one, port)) for one in order]
    with Dialer().connect("x", port, places, 30) as connection:
        assert connection.getpeername() == (HERE, port)


def test_all_dead_addresses_are_named(port: int, names: dict[str, list[str]]) -> None:
    names["two.example"] = [HOLE, NOBODY]
    timeouts = Timeouts(connect_s=patient(0.6))
    registry = DistributionRegistry(f"two.example:{port}", plain_http=True, retries=ONCE, timeouts=timeouts)
    with pytest.raises(Stalled, match=rf"127.0.0.3:{port} \(Connection refused\), 127.0.0.2:{port} \(no answer\)"):
        registry.ping()


def test_where_nobody_listens_at_several_addresses(port: int) -> None:
    places = [Address(socket.AF_INET, (one, port)) for one in (NOBODY, "127.0.0.4")]
    with pytest.raises(NoneAnswered, match=r"127.0.0.3.*127.0.0.4") as caught:
        Dialer().connect("x", port, places, 30)
    assert isinstance(caught.value.reason, ConnectionRefusedError)


def test_families_take_turns(names: dict[str, list[str]]) -> None:
    names["six.example"] = ["::1", "::2", "::3", HERE]
    assert [one.host for one in Dialer().resolve("six.example", 1)] == ["::1", HERE, "::2", "::3"]


def test_the_courier_goes_where_it_is_told(port: int) -> None:
    order = {"scheme": "http", "host": "nowhere.invalid", "port": port, "ca_file": "", "connect_s": 30.0}
    order["addresses"] = [[int(socket.AF_INET), [HOLE, port]], [int(socket.AF_INET), [HERE, port]]]
    with Connections().take(order) as connection:
        assert connection.getpeername() == (HERE, port)


# Certificates


@pytest.fixture
def old_authority(tmp_path: Path) -> Iterator[tuple[EmbeddedServer, Path]]:
    """A company's CA without the key identifiers that RFC 5280 asks for."""
    new = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"
    bare = "-addext subjectKeyIdentifier=none -addext authorityKeyIdentifier=none"
    lines = "subjectAltName=IP:127.0.0.1", "authorityKeyIdentifier=none", "subjectKeyIdentifier=none"
    (tmp_path / "ext").write_text("\n".join(lines))
    for command in (
        f"req -x509 {new} -keyout ca.key -out ca.pem -days 30 -subj /CN=Corp {bare}",
        f"req {new} -keyout s.key -out s.csr -subj /CN=registry",
        "x509 -req -in s.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out s.pem -days 30 -extfile ext",
    ):
        subprocess.run(["openssl", *command.split()], cwd=tmp_path, check=True, capture_output=True)
    with EmbeddedServer(tmp_path / "r", certificate=tmp_path / "s.pem", key=tmp_path / "s.key") as server:
        yield server, tmp_path / "ca.pem"


def test_the_same_is_trusted_on_every_python(
    old_authority: tuple[EmbeddedServer, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    server, ca = old_authority
    made = ssl.create_default_context

    def strict() -> ssl.SSLContext:
        """As Python 3.13 makes it."""
        context = made()
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        return context

    monkeypatch.setattr(ssl, "create_default_context", strict)
    context = strict()
    context.load_verify_locations(ca)
    with socket.create_connection((HERE, server.port)) as plain, pytest.raises(ssl.SSLCertVerificationError):
        context.wrap_socket(plain, server_hostname=HERE)
    DistributionRegistry(server.address, ca_file=ca, retries=ONCE).ping()
    order = {"scheme": "https", "host": HERE, "port": server.port, "ca_file": str(ca), "connect_s": 30.0}
    order["addresses"] = [[int(socket.AF_INET), [HERE, server.port]]]
    Connections().take(order).close()


def test_who_named_an_authority_is_not_told_to_name_one(tmp_path: Path) -> None:
    made, other = make_certificates(tmp_path / "a"), make_certificates(tmp_path / "b")
    with EmbeddedServer(tmp_path / "r", certificate=made.certificate, key=made.key) as server:
        with pytest.raises(TlsFailed) as caught:
            DistributionRegistry(server.address, ca_file=other.ca).ping()
        assert caught.value.do == f"See whether {other.ca} holds the authority that signed it"
        with pytest.raises(TlsFailed, match="Name the CA"):
            DistributionRegistry(server.address, plain_http=False).ping()


# Proxies


@pytest.mark.parametrize(
    ("status", "kind", "said"),
    [
        (407, Unauthorized, "Write other user and password into HTTPS_PROXY"),
        (403, Forbidden, "Have the proxy permit reg.example, or name it in NO_PROXY"),
        (502, Unavailable, "can be reached from the proxy"),
        (504, Unavailable, "can be reached from the proxy"),
        (405, RegistryError, "makes no tunnels"),
    ],
)
def test_a_proxy_that_refuses_a_tunnel(status: int, kind: type[RegistryPipelinesError], said: str) -> None:
    with ExchangeServer(Expect("CONNECT", "reg.example:443", Answer(status, body=b"<html>no</html>"))) as proxy:
        environ = {"HTTPS_PROXY": f"http://user:hunter2@{proxy.address}"}
        with pytest.raises(kind, match=f"proxy {proxy.address}.*HTTP {status}") as caught:
            DistributionRegistry("reg.example", environ=environ, retries=ONCE).ping()
    assert said in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_a_proxy_that_wants_a_log_in_for_plain_requests() -> None:
    with (
        ExchangeServer(Expect("GET", "http://reg.example:80/v2/", Answer(407))) as proxy,
        pytest.raises(Unauthorized, match="It is the proxy that asks"),
    ):
        environ = {"HTTP_PROXY": f"http://{proxy.address}"}
        DistributionRegistry("reg.example", plain_http=True, environ=environ).ping()


def test_a_large_blob_through_a_proxy(tmp_path: Path) -> None:
    """Carriers know no proxies, so its parts are sent from here."""
    graphs = Graphs()
    with (
        EmbeddedServer(tmp_path / "from") as here,
        EmbeddedServer(tmp_path / "to") as there,
        FaultRegistry(there.address) as proxy,
    ):
        environ = {"HTTP_PROXY": f"http://{proxy.address}"}
        source = Place(DistributionRegistry(here.address), "app")
        target = Place(DistributionRegistry("reg.example:5000", plain_http=True, environ=environ), "app")
        graphs.image(source, graphs.noise(PART_BYTES + 7), tag="v1")
        copy_closure(source, "v1", [target], engine=Engine(state=tmp_path / "state"))
        assert compare(source, Place(DistributionRegistry(there.address), "app"), "v1", content=True) == []
        assert [one.target for one in proxy.seen if one.target.startswith("http://reg.example:5000/v2/app/")]


def test_a_tunnel_that_opens() -> None:
    """Then it is TLS that is spoken, which this proxy does not."""
    with (
        ExchangeServer(Expect("CONNECT", "reg.example:443", Answer(200, raw=b"HTTP/1.0 200 ok\r\n\r\n"))) as proxy,
        pytest.raises(Unavailable, match="connection broke"),
    ):
        DistributionRegistry("reg.example", environ={"HTTPS_PROXY": f"http://{proxy.address}"}, retries=ONCE).ping()


def test_a_connection_that_ends_as_soon_as_it_was_made_is_one_that_broke(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who was killed answers with a reset; the other end of such a connection has no address any more."""
    connect = Dialer.connect
    made: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def reset(dialer: Dialer, *given: Any) -> socket.socket:
            connection = connect(dialer, *given)
            theirs, _ = server.accept()
            theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            theirs.close()
            with pytest.raises(ConnectionResetError):
                connection.recv(1)
            made.append(connection)
            return connection

        monkeypatch.setattr(Dialer, "connect", reset)
        registry = DistributionRegistry(f"127.0.0.1:{server.getsockname()[1]}", retries=Retries(attempts=1))
        with pytest.raises(Unavailable, match="the connection broke while connecting"):
            registry.resolve("app", "v1")
        registry.close()
    assert made and all(each.fileno() < 0 for each in made)
