"""What bad, slow and hostile peers send: a clear answer or a closed connection follows, and the server serves on."""

from __future__ import annotations

import resource
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from registry_pipelines.oci.digest import Digest
from registry_pipelines.registry.embedded import Deadlines, EmbeddedServer
from registry_pipelines.registry.embedded.heads import MAX_HEADERS, MAX_TARGET_BYTES
from registry_pipelines.registry.embedded.http_messages import MAX_HEAD_BYTES
from tests.needs import missing
from tests.patience import patient
from tests.registry.wire import (
    ask,
    begin,
    connect,
    push_blob,
    receive_all,
    receive_head,
    send_raw,
    status_of,
)

CONTENT = bytes(range(256)) * 4000
DIGEST = Digest.of(CONTENT)
MANY_FILES = 2500
SOON = Deadlines(head_s=patient(0.3), idle_s=patient(0.3), stall_s=patient(0.3), minimum_bytes_per_s=1024 * 1024)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedServer]:
    with EmbeddedServer(tmp_path / "root") as running:
        yield running
        assert ask(running, "GET", "/v2/").status == 200, "the server must survive the test"


# Heads


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GARBAGE\r\n\r\n", 400),
        (b"GET /v2/\r\n\r\n", 400),
        (b"GET /v2/ HTTP/1.1 extra\r\nHost: t\r\n\r\n", 400),
        (b"GET  /v2/ HTTP/1.1\r\nHost: t\r\n\r\n", 400),
        (b"G@T /v2/ HTTP/1.1\r\nHost: t\r\n\r\n", 400),
        (b"GET v2 HTTP/1.1\r\nHost: t\r\n\r\n", 400),
        (b"GET /v2/\xff HTTP/1.1\r\nHost: t\r\n\r\n", 400),
        (b"GET /%ff HTTP/1.1\r\nHost: t\r\n\r\n", 400),
        (b"GET /v2/ HTTP/2.0\r\nHost: t\r\n\r\n", 505),
        (b"GET /v2/ HTTP/x.y\r\nHost: t\r\n\r\n", 400),
        (b"GET /v2/ HTTP/1.1\r\n\r\n", 400),
        (b"GET /v2/ HTTP/1.1\r\nHost: t\r\nHost: u\r\n\r\n", 400),
        (b"GET /v2/ HTTP/1.1\r\nHost: t\r\nNo colon\r\n\r\n", 400),
        (b"GET /v2/ HTTP/1.1\r\nHost: t\r\nName : x\r\n\r\n", 400),
        (b"GET /v2/ HTTP/1.1\r\nHost: t\r\n folded: x\r\n\r\n", 400),
        (b"GET /v2/ HTTP/1.1\r\nHost: t\r\nX: a\x00b\r\n\r\n", 400),
        (b"GET /v2/ HTTP/1.1\r\nHost: t\r\nX: a\rb\r\n\r\n", 400),
        (b"GET /v2/ HTTP/1.1\nHost: t\n\n", 400),
        (b"GET /v2/ HTTP/1.1\r\nHost: t\nX: y\r\n\r\n", 400),
        (b"PUT /v2/ HTTP/1.1\r\nHost: t\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n", 400),
        (b"PUT /v2/ HTTP/1.1\r\nHost: t\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"PUT /v2/ HTTP/1.1\r\nHost: t\r\nContent-Length: -1\r\n\r\n", 400),
        (b"PUT /v2/ HTTP/1.1\r\nHost: t\r\nContent-Length: +1\r\n\r\n", 400),
        (b"PUT /v2/ HTTP/1.1\r\nHost: t\r\nContent-Length: 1, 1\r\n\r\n", 400),
        (b"PUT /v2/ HTTP/1.1\r\nHost: t\r\nContent-Length: 1e3\r\n\r\n", 400),
        (b"PUT /v2/ HTTP/1.1\r\nHost: t\r\nContent-Length: 99999999999999999999\r\n\r\n", 400),
        (b"PUT /v2/ HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"PUT /v2/ HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501),
        (b"PUT /v2/ HTTP/1.1\r\nHost: t\r\nExpect: tea\r\nContent-Length: 0\r\n\r\n", 417),
        (b"GET /" + b"a" * MAX_TARGET_BYTES + b" HTTP/1.1\r\nHost: t\r\n\r\n", 414),
        (b"GET /v2/?" + b"a=b&" * 300 + b" HTTP/1.1\r\nHost: t\r\n\r\n", 400),
    ],
)
def test_heads_that_are_refused(server: EmbeddedServer, head: bytes, status: int) -> None:
    answer = send_raw(server, head)
    assert status_of(answer) == status
    assert b"Connection: close" in answer
    assert answer.count(b"HTTP/1.1 ") == 1


@pytest.mark.parametrize("count", [MAX_HEADERS + 1, 2000])
def test_too_many_headers(server: EmbeddedServer, count: int) -> None:
    answer = send_raw(server, b"GET /v2/ HTTP/1.1\r\nHost: t\r\n" + b"A: b\r\n" * count + b"\r\n")
    assert status_of(answer) == 431


@pytest.mark.parametrize("piece", [b"A: b\r\n", b"x" * 100])
def test_an_endless_head_is_cut_at_the_limit(server: EmbeddedServer, piece: bytes) -> None:
    with connect(server) as sock:
        sock.sendall(b"GET /v2/ HTTP/1.1\r\nHost: t\r\n")
        try:
            for _ in range(1024):
                sock.sendall(piece * (64 * 1024 // len(piece)))
        except OSError:
            pass  # the server stopped reading, as it should
        else:
            pytest.fail("the server read 64 MB of head")


def test_an_endless_head_is_answered_431(server: EmbeddedServer) -> None:
    answer = send_raw(server, b"GET /v2/ HTTP/1.1\r\nHost: t\r\nX: " + b"x" * (MAX_HEAD_BYTES + 100))
    assert status_of(answer) == 431


def test_a_tls_greeting_on_the_plain_port_is_answered_at_once(server: EmbeddedServer) -> None:
    """Docker and skopeo try HTTPS first; without an answer they wait ten seconds before they try HTTP."""
    with connect(server) as sock, pytest.raises(ssl.SSLError, match=r"(?i)wrong.version.number|http.request"):
        ssl.create_default_context().wrap_socket(sock, server_hostname="localhost")
    with connect(server) as sock:
        sock.sendall(b"\x16\x03\x01")
        assert status_of(receive_all(sock)) == 400


def test_a_cut_head(server: EmbeddedServer) -> None:
    assert status_of(send_raw(server, b"GET /v2/ HT", finish=True)) == 400
    assert send_raw(server, b"", finish=True) == b""


def test_empty_lines_before_a_request_are_ignored(server: EmbeddedServer) -> None:
    answer = send_raw(server, b"\r\n\r\nGET /v2/ HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n")
    assert status_of(answer) == 200


def test_http_1_0(server: EmbeddedServer) -> None:
    answer = send_raw(server, b"GET /v2/ HTTP/1.0\r\n\r\n")
    assert status_of(answer) == 200
    assert b"Connection: close" in answer


def test_an_absolute_target(server: EmbeddedServer) -> None:
    answer = send_raw(server, b"GET http://t/v2/ HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n")
    assert status_of(answer) == 200


def test_requests_in_a_row_on_one_connection(server: EmbeddedServer) -> None:
    digest = push_blob(server, "a", b"0123456789")
    requests = b"".join(
        f"GET /v2/a/blobs/{digest} HTTP/1.1\r\nHost: t\r\nRange: bytes={n}-{n}\r\n\r\n".encode() for n in range(10)
    )
    answer = send_raw(server, requests + b"GET /v2/ HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n")
    assert answer.count(b"206 Partial Content") == 10
    assert [answer.split(b"\r\n\r\n")[n + 1][:1] for n in range(10)] == [str(n).encode() for n in range(10)]


# Bodies


@pytest.mark.parametrize(
    "chunks",
    [
        b"xyz\r\n",
        b"-5\r\n12345\r\n0\r\n\r\n",
        b"0x5\r\n12345\r\n0\r\n\r\n",
        b"5\r\n1234567\r\n0\r\n\r\n",
        b"5 5\r\n12345\r\n0\r\n\r\n",
        b"FFFFFFFFFFFFFFFF\r\n12345",
        b"ffffffffffffffffffffffff\r\n12345",
        b"5;" + b"x" * 1000 + b"\r\n12345\r\n0\r\n\r\n",
        b"0" * 1000,
        b"5\r\n12345\r\n0\r\n" + b"X: y\r\n" * 5000 + b"\r\n",
    ],
)
def test_bad_chunks_are_refused_and_nothing_is_stored(server: EmbeddedServer, chunks: bytes) -> None:
    location = begin(server, "a")
    digest = Digest.of(b"12345")
    head = f"PUT {location}?digest={digest} HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n"
    answer = send_raw(server, head.encode() + chunks)
    assert status_of(answer) == 400
    assert b"Connection: close" in answer
    assert ask(server, "HEAD", f"/v2/a/blobs/{digest}").status == 404
    assert ask(server, "GET", location).headers["Range"] == "0-0"


def test_chunks_with_extensions_and_trailers(server: EmbeddedServer) -> None:
    digest = Digest.of(b"12345")
    head = f"PUT {begin(server, 'a')}?digest={digest} HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: Chunked\r\n"
    body = b"3;name=value\r\n123\r\n02\r\n45\r\n0\r\nTrailer: x\r\n\r\n"
    answer = send_raw(server, head.encode() + b"Connection: close\r\n\r\n" + body)
    assert status_of(answer) == 201


def test_a_refused_expectation_gets_its_final_status_at_once(server: EmbeddedServer) -> None:
    with connect(server) as sock:
        sock.sendall(b"PUT /v2/a/blobs/uploads/unknown?digest=x HTTP/1.1\r\nHost: t\r\n")
        sock.sendall(b"Expect: 100-continue\r\nContent-Length: 1000000\r\n\r\n")
        answer = receive_all(sock)
    assert status_of(answer) == 404
    assert b"Connection: close" in answer


def test_an_accepted_expectation(server: EmbeddedServer) -> None:
    with connect(server) as sock:
        head = f"PUT {begin(server, 'a')}?digest={DIGEST} HTTP/1.1\r\nHost: t\r\nContent-Length: {len(CONTENT)}\r\n"
        sock.sendall(head.encode() + b"Expect: 100-continue\r\n\r\n")
        assert status_of(receive_head(sock)) == 100
        sock.sendall(CONTENT)
        assert status_of(receive_head(sock)) == 201


def test_a_small_unread_body_is_read_away(server: EmbeddedServer) -> None:
    body = b"GET /v2/smuggled HTTP/1.1\r\nHost: t\r\n\r\n"
    request = f"PUT /v2/a/blobs/uploads/unknown HTTP/1.1\r\nHost: t\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    last = b"GET /v2/ HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n"
    answer = send_raw(server, request + body + last)
    assert answer.count(b"HTTP/1.1 404") == 1
    assert answer.count(b"HTTP/1.1 200") == 1
    assert answer.count(b"HTTP/1.1 ") == 2


def test_a_large_unread_body_ends_the_connection_but_not_the_answer(server: EmbeddedServer) -> None:
    head = f"PUT /v2/a/blobs/uploads/unknown HTTP/1.1\r\nHost: t\r\nContent-Length: {len(CONTENT)}\r\n\r\n"
    answer = send_raw(server, head.encode() + CONTENT + b"GET /v2/ HTTP/1.1\r\nHost: t\r\n\r\n")
    assert status_of(answer) == 404
    assert b"Connection: close" in answer
    assert answer.count(b"HTTP/1.1 ") == 1


def test_a_manifest_that_says_it_is_huge(server: EmbeddedServer) -> None:
    head = b"PUT /v2/a/manifests/v1 HTTP/1.1\r\nHost: t\r\nContent-Length: 99999999999\r\n\r\n"
    assert status_of(send_raw(server, head + b"x" * 100_000, finish=True)) == 413


# Slow peers


@pytest.fixture
def hasty(tmp_path: Path) -> Iterator[EmbeddedServer]:
    with EmbeddedServer(tmp_path / "hasty", deadlines=SOON) as running:
        yield running


def test_an_idle_connection_is_closed(hasty: EmbeddedServer) -> None:
    with connect(hasty) as sock:
        assert receive_all(sock) == b""
    with connect(hasty) as sock:
        sock.sendall(b"GET /v2/ HTTP/1.1\r\nHost: t\r\n\r\n")
        assert receive_all(sock).endswith(b"{}")


def dripped(sock: socket.socket) -> bytes:
    """What is answered to a byte now and then."""
    stop = threading.Event()

    def drip() -> None:
        try:
            while not stop.wait(0.05):
                sock.sendall(b"X")
        except OSError:
            return

    dripping = threading.Thread(target=drip)
    dripping.start()
    try:
        return receive_all(sock)
    finally:
        stop.set()
        dripping.join()


def test_a_slow_head(hasty: EmbeddedServer) -> None:
    """Bytes that drip in do not push the deadline of the head away."""
    with connect(hasty) as sock:
        assert status_of(dripped(sock)) == 408


def test_a_stalled_body(hasty: EmbeddedServer) -> None:
    location = begin(hasty, "a")
    with connect(hasty) as sock:
        head = f"PUT {location}?digest={DIGEST} HTTP/1.1\r\nHost: t\r\nContent-Length: {len(CONTENT)}\r\n\r\n"
        sock.sendall(head.encode() + CONTENT[:1000])
        assert status_of(receive_all(sock)) == 408
    assert ask(hasty, "HEAD", f"/v2/a/blobs/{DIGEST}").status == 404
    assert ask(hasty, "GET", location).headers["Range"] == "0-0"


def test_a_dripping_body(hasty: EmbeddedServer) -> None:
    """A byte now and then never stalls, but does not earn its time either."""
    with connect(hasty) as sock:
        head = f"PUT {begin(hasty, 'a')}?digest={DIGEST} HTTP/1.1\r\nHost: t\r\nContent-Length: {len(CONTENT)}\r\n\r\n"
        sock.sendall(head.encode())
        assert status_of(dripped(sock)) == 408


def test_a_client_that_does_not_read(hasty: EmbeddedServer) -> None:
    content = bytes(64 * 1024 * 1024)
    digest = Digest.of(content)
    push_blob(hasty, "a", content)
    with connect(hasty) as sock:
        sock.sendall(f"GET /v2/a/blobs/{digest} HTTP/1.1\r\nHost: t\r\n\r\n".encode())
        assert status_of(receive_head(sock)) == 200
        closed = threading.Event()
        while not closed.wait(0.05):
            if not hasty.connections:
                break
        assert len(receive_all(sock)) < len(content)


# Many peers


@pytest.fixture
def many_files() -> Iterator[None]:
    """Two ends of a thousand connections; desktops give a process 1,024 files unless it asks for more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < MANY_FILES:
        missing(f"this process may not open {MANY_FILES} files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, MANY_FILES), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("many_files")
def test_a_thousand_idle_connections_leave_room(server: EmbeddedServer) -> None:
    idle = [connect(server) for _ in range(1000)]
    try:
        assert ask(server, "GET", "/v2/").status == 200
        push_blob(server, "a", CONTENT)
    finally:
        for sock in idle:
            sock.close()


def test_more_connections_than_permitted_are_told_to_come_back(tmp_path: Path) -> None:
    with EmbeddedServer(tmp_path, max_connections=3) as server:
        held = [connect(server) for _ in range(3)]
        for sock in held:
            sock.sendall(b"GET /v2/ HTTP/1.1\r\nHost: t\r\n\r\n")
            assert status_of(receive_head(sock)) == 200
        with connect(server) as refused:
            answer = receive_all(refused)
        assert status_of(answer) == 503
        assert b"Retry-After: 1" in answer
        held[0].close()
        while server.connections == 3:
            pass
        assert ask(server, "GET", "/v2/").status == 200
        for sock in held:
            sock.close()


def test_a_fault_of_ours_is_500_and_the_server_goes_on(tmp_path: Path) -> None:
    def broken(handler):  # type: ignore[no-untyped-def]
        def handle(request):  # type: ignore[no-untyped-def]
            if request.path.endswith("/boom"):
                raise ZeroDivisionError("secret details")
            return handler(request)

        return handle

    with EmbeddedServer(tmp_path, wrap=broken) as server:
        answer = ask(server, "GET", "/v2/a/manifests/boom")
        assert (answer.status, answer.code) == (500, "UNKNOWN")
        assert b"secret" not in answer.body
        assert ask(server, "GET", "/v2/").status == 200


def test_a_reset_in_the_middle_of_a_download(server: EmbeddedServer) -> None:
    content = bytes(32 * 1024 * 1024)
    digest = push_blob(server, "a", content)
    sock = connect(server)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
    sock.sendall(f"GET /v2/a/blobs/{digest} HTTP/1.1\r\nHost: t\r\n\r\n".encode())
    receive_head(sock)
    sock.close()
    assert len(ask(server, "GET", f"/v2/a/blobs/{digest}").body) == len(content)
