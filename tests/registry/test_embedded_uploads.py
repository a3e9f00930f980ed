"""Uploads: whole, in chunks, broken off, resumed, at the same time; nothing half is ever served."""

from __future__ import annotations

import itertools
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from registry_pipelines.oci.digest import Digest
from registry_pipelines.registry.embedded import EmbeddedServer, Request, Response
from tests.patience import patient
from tests.registry.wire import (
    Answer,
    ask,
    begin,
    connect,
    manifest_for,
    push_blob,
    put_manifest,
    receive_all,
    receive_head,
    status_of,
)

CONTENT = b"".join(number.to_bytes(4) for number in range(50_000))
DIGEST = Digest.of(CONTENT)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedServer]:
    with EmbeddedServer(tmp_path / "root") as running:
        yield running


def chunk(server: EmbeddedServer, location: str, start: int, stop: int, method: str = "PATCH") -> Answer:
    headers = {"Content-Range": f"{start}-{stop - 1}", "Content-Type": "application/octet-stream"}
    return ask(server, method, location, CONTENT[start:stop], headers)


def private_files(server: EmbeddedServer) -> list[Path]:
    return [path for path in server.root.rglob(".uploads/*") if path.is_file()]


def assert_stored(server: EmbeddedServer, repository: str = "a") -> None:
    assert ask(server, "GET", f"/v2/{repository}/blobs/{DIGEST}").body == CONTENT
    assert private_files(server) == []


def test_post_then_put(server: EmbeddedServer) -> None:
    answer = ask(server, "PUT", f"{begin(server, 'a')}?digest={DIGEST}", CONTENT)
    assert (answer.status, answer.headers["Location"]) == (201, f"/v2/a/blobs/{DIGEST}")
    assert answer.headers["Docker-Content-Digest"] == DIGEST
    assert_stored(server)


def test_single_post(server: EmbeddedServer) -> None:
    push_blob(server, "a", CONTENT)
    assert_stored(server)


@pytest.mark.parametrize("method", ["PUT", "PATCH", "POST"])
def test_a_body_in_transfer_chunks(server: EmbeddedServer, method: str) -> None:
    pieces = (CONTENT[start : start + 7919] for start in range(0, len(CONTENT), 7919))
    if method == "POST":
        assert ask(server, "POST", f"/v2/a/blobs/uploads/?digest={DIGEST}", pieces).status == 201
    elif method == "PUT":
        assert ask(server, "PUT", f"{begin(server, 'a')}?digest={DIGEST}", pieces).status == 201
    else:
        location = begin(server, "a")
        answer = ask(server, "PATCH", location, pieces)
        assert (answer.status, answer.headers["Range"]) == (202, f"0-{len(CONTENT) - 1}")
        assert ask(server, "PUT", f"{location}?digest={DIGEST}", b"").status == 201
    assert_stored(server)


@pytest.mark.parametrize("last_by_put", [False, True])
def test_chunks_in_order(server: EmbeddedServer, last_by_put: bool) -> None:
    location = begin(server, "a")
    cuts = [0, 10, 70_000, 150_000, len(CONTENT)]
    for start, stop in itertools.pairwise(cuts):
        if last_by_put and stop == len(CONTENT):
            assert chunk(server, f"{location}?digest={DIGEST}", start, stop, "PUT").status == 201
        else:
            answer = chunk(server, location, start, stop)
            assert (answer.status, answer.headers["Range"]) == (202, f"0-{stop - 1}")
            location = answer.headers["Location"]
    if not last_by_put:
        assert ask(server, "PUT", f"{location}?digest={DIGEST}", b"").status == 201
    assert_stored(server)


@pytest.mark.parametrize("method", ["PATCH", "PUT"])
def test_a_chunk_out_of_order_changes_nothing(server: EmbeddedServer, method: str) -> None:
    location = begin(server, "a")
    assert chunk(server, location, 0, 100).status == 202
    path = location if method == "PATCH" else f"{location}?digest={DIGEST}"
    for start in (0, 99, 101, 5000):
        answer = chunk(server, path, start, start + 50, method)
        assert (answer.status, answer.headers["Range"]) == (416, "0-99")
        assert answer.headers["Location"] == location
    status = ask(server, "GET", location)
    assert (status.status, status.headers["Range"], status.headers["Location"]) == (204, "0-99", location)
    assert chunk(server, f"{location}?digest={DIGEST}", 100, len(CONTENT), "PUT").status == 201
    assert_stored(server)


@pytest.mark.parametrize("header", ["5", "9-5", "a-b", "bytes 5"])
def test_a_content_range_that_is_none(server: EmbeddedServer, header: str) -> None:
    location = begin(server, "a")
    assert ask(server, "PATCH", location, b"12345", {"Content-Range": header}).status == 416
    assert ask(server, "GET", location).headers["Range"] == "0-0"


def test_a_chunk_whose_length_is_not_its_range(server: EmbeddedServer) -> None:
    location = begin(server, "a")
    assert ask(server, "PATCH", location, b"12345", {"Content-Range": "0-9"}).status == 416
    chunked = ask(server, "PATCH", location, iter([b"123", b"45"]), {"Content-Range": "0-9"})
    assert (chunked.status, chunked.code) == (400, "SIZE_INVALID")


def test_the_range_form_of_http_is_understood_too(server: EmbeddedServer) -> None:
    location = begin(server, "a")
    headers = {"Content-Range": f"bytes 0-{len(CONTENT) - 1}/{len(CONTENT)}"}
    assert ask(server, "PATCH", location, CONTENT, headers).status == 202
    assert ask(server, "PUT", f"{location}?digest={DIGEST}", b"").status == 201


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
@pytest.mark.parametrize("way", ["told", "put", "patched", "post"])
def test_both_algorithms(server: EmbeddedServer, algorithm: str, way: str) -> None:
    digest = Digest.of(CONTENT, algorithm)
    if way == "post":
        assert ask(server, "POST", f"/v2/a/blobs/uploads/?digest={digest}", CONTENT).status == 201
    else:
        query = f"?digest-algorithm={algorithm}" if way == "told" else ""
        location = ask(server, "POST", f"/v2/a/blobs/uploads/{query}", b"").headers["Location"]
        body = CONTENT
        if way != "put":
            assert ask(server, "PATCH", location, CONTENT).status == 202
            body = b""
        assert ask(server, "PUT", f"{location}?digest={digest}", body).status == 201
    assert ask(server, "GET", f"/v2/a/blobs/{digest}").body == CONTENT


def test_unknown_algorithms_are_refused(server: EmbeddedServer) -> None:
    assert ask(server, "POST", "/v2/a/blobs/uploads/?digest-algorithm=md5", b"").status == 400
    assert ask(server, "PUT", f"{begin(server, 'a')}?digest=md5:{'0' * 32}", CONTENT).status == 400
    assert ask(server, "PUT", begin(server, "a"), CONTENT).status == 400


@pytest.mark.parametrize("way", ["post", "put", "patched"])
def test_content_with_another_digest_is_dropped(server: EmbeddedServer, way: str) -> None:
    other = CONTENT[:-1] + b"?"
    if way == "post":
        answer = ask(server, "POST", f"/v2/a/blobs/uploads/?digest={DIGEST}", other)
    else:
        location = begin(server, "a")
        body = other
        if way == "patched":
            ask(server, "PATCH", location, other)
            body = b""
        answer = ask(server, "PUT", f"{location}?digest={DIGEST}", body)
        assert ask(server, "GET", location).status == 404
    assert (answer.status, answer.code) == (400, "DIGEST_INVALID")
    assert ask(server, "HEAD", f"/v2/a/blobs/{DIGEST}").status == 404
    assert private_files(server) == []


def test_a_cancelled_upload_is_gone(server: EmbeddedServer) -> None:
    location = begin(server, "a")
    ask(server, "PATCH", location, CONTENT)
    assert ask(server, "DELETE", location).status == 204
    for method in ("GET", "PATCH", "DELETE"):
        answer = ask(server, method, location, b"x" if method == "PATCH" else None)
        assert answer.status == 404
    assert private_files(server) == []


def test_an_upload_belongs_to_its_repository(server: EmbeddedServer) -> None:
    location = begin(server, "a")
    elsewhere = location.replace("/v2/a/", "/v2/b/")
    answer = ask(server, "PUT", f"{elsewhere}?digest={DIGEST}", CONTENT)
    assert (answer.status, answer.code) == (404, "BLOB_UPLOAD_UNKNOWN")
    for name in ("..", "x" * 32, "%2e%2e%2findex.json", "0" * 32):
        assert ask(server, "GET", f"/v2/a/blobs/uploads/{name}").status in (400, 404)


# Broken connections


def cut_off(server: EmbeddedServer, head: str, body: bytes) -> bytes:
    """Send a request whose body never ends as promised, then hang up and wait until the server noticed."""
    with connect(server) as sock:
        sock.sendall(head.encode() + b"\r\nHost: t\r\n\r\n" + body)
        sock.shutdown(1)
        return receive_all(sock)


@pytest.mark.parametrize(
    "framing",
    [
        ("Content-Length: {size}", b"{half}"),
        ("Transfer-Encoding: chunked", b"{full-chunk}{half-chunk}"),
        ("Transfer-Encoding: chunked", b"{full-chunk}"),
    ],
)
@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_a_cut_body_is_never_a_blob(server: EmbeddedServer, method: str, framing: tuple[str, bytes]) -> None:
    """Even when the bytes that came are exactly a blob: a body that did not end is no body."""
    header, shape = framing
    half = CONTENT[:100_000]
    promised = Digest.of(half)
    full_chunk = f"{len(half):x}\r\n".encode() + half + b"\r\n"
    body = (
        shape.replace(b"{half}", half)
        .replace(b"{full-chunk}", full_chunk)
        .replace(b"{half-chunk}", b"400\r\n" + CONTENT[:100])
    )
    path = "/v2/a/blobs/uploads/" if method == "POST" else begin(server, "a")
    head = f"{method} {path}?digest={promised} HTTP/1.1\r\n{header.format(size=len(CONTENT))}"
    assert cut_off(server, head, body) == b""
    assert ask(server, "HEAD", f"/v2/a/blobs/{promised}").status == 404
    if method == "PUT":
        assert ask(server, "GET", path).headers["Range"] == "0-0"
        assert ask(server, "PUT", f"{path}?digest={DIGEST}", CONTENT).status == 201
        assert_stored(server)
    else:
        assert private_files(server) == []


def test_a_cut_chunk_with_a_range_can_be_resumed(server: EmbeddedServer) -> None:
    location = begin(server, "a")
    size = len(CONTENT)
    head = f"PATCH {location} HTTP/1.1\r\nContent-Range: 0-{size - 1}\r\nContent-Length: {size}"
    assert cut_off(server, head, CONTENT[:123_456]) == b""
    assert ask(server, "GET", location).headers["Range"] == "0-123455"
    assert chunk(server, f"{location}?digest={DIGEST}", 123_456, size, "PUT").status == 201
    assert_stored(server)


def test_a_cut_stream_without_a_range_begins_again(server: EmbeddedServer) -> None:
    location = begin(server, "a")
    assert cut_off(server, f"PATCH {location} HTTP/1.1\r\nContent-Length: {len(CONTENT)}", CONTENT[:70_000]) == b""
    assert ask(server, "GET", location).headers["Range"] == "0-0"
    assert ask(server, "PATCH", location, CONTENT).status == 202
    assert ask(server, "PUT", f"{location}?digest={DIGEST}", b"").status == 201
    assert_stored(server)


def test_an_upload_survives_a_restart(tmp_path: Path) -> None:
    with EmbeddedServer(tmp_path) as before:
        location = begin(before, "a")
        assert chunk(before, location, 0, 100_000).status == 202
    with EmbeddedServer(tmp_path) as after:
        assert ask(after, "GET", location).headers["Range"] == "0-99999"
        assert chunk(after, location, 100_000, 150_000).status == 202
        assert chunk(after, f"{location}?digest={DIGEST}", 150_000, len(CONTENT), "PUT").status == 201
        assert_stored(after)


def test_stop_cuts_what_is_running(tmp_path: Path) -> None:
    server = EmbeddedServer(tmp_path).start()
    location = begin(server, "a")
    with connect(server) as sock:
        head = f"PUT {location}?digest={DIGEST} HTTP/1.1\r\nHost: t\r\nContent-Length: {len(CONTENT)}\r\n"
        sock.sendall(head.encode() + b"Expect: 100-continue\r\n\r\n")
        assert b"100" in receive_head(sock)  # the server is inside the body now
        server.stop()
        assert receive_all(sock) == b""
    with EmbeddedServer(tmp_path) as again:
        assert ask(again, "HEAD", f"/v2/a/blobs/{DIGEST}").status == 404
        assert ask(again, "PUT", f"{location}?digest={DIGEST}", CONTENT).status == 201


# At the same time


def test_one_blob_pushed_by_many(server: EmbeddedServer) -> None:
    def push(number: int) -> int:
        repository = f"r{number % 2}"
        return ask(server, "PUT", f"{begin(server, repository)}?digest={DIGEST}", CONTENT).status

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(push, range(16))) == [201] * 16
    for repository in ("r0", "r1"):
        assert_stored(server, repository)


def test_tags_pushed_by_many_are_all_kept(server: EmbeddedServer) -> None:
    def push(number: int) -> int:
        raw = manifest_for([], annotations={"number": str(number % 5)})
        return put_manifest(server, "a", raw, f"t{number}").status

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(push, range(60))) == {201}
    assert set(ask(server, "GET", "/v2/a/tags/list").json["tags"]) == {f"t{number}" for number in range(60)}
    for number in range(60):
        raw = manifest_for([], annotations={"number": str(number % 5)})
        assert ask(server, "GET", f"/v2/a/manifests/t{number}").body == raw


def test_tags_pushed_and_deleted_by_many(server: EmbeddedServer) -> None:
    raw = manifest_for([])
    assert put_manifest(server, "a", raw, "stays").status == 201

    def push_and_delete(number: int) -> None:
        for _ in range(5):
            assert put_manifest(server, "a", raw, f"t{number}").status == 201
            assert ask(server, "DELETE", f"/v2/a/manifests/t{number}").status == 202

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(push_and_delete, range(6)))
    assert ask(server, "GET", "/v2/a/tags/list").json["tags"] == ["stays"]


def told_of_puts(tell: Callable[[], object]):  # type: ignore[no-untyped-def]
    """Wraps a server's handler: tells when a PUT has arrived."""

    def watched(handler):  # type: ignore[no-untyped-def]
        def handle(request: Request) -> Response:
            if request.method == "PUT":
                tell()
            response: Response = handler(request)
            return response

        return handle

    return watched


def begin_to_send(server: EmbeddedServer, sock: socket.socket) -> str:
    """A session whose first request holds it, without its content; the location."""
    location = begin(server, "a")
    head = f"PATCH {location} HTTP/1.1\r\nHost: t\r\nContent-Length: {len(CONTENT)}\r\nExpect: 100-continue\r\n\r\n"
    sock.sendall(head.encode())
    assert b"100" in receive_head(sock)
    return location


def test_the_second_writer_of_one_session_waits_for_the_first(tmp_path: Path) -> None:
    """Two requests on one session never mix: the later one finds what the earlier one stored."""
    inside = threading.Event()
    with EmbeddedServer(tmp_path, wrap=told_of_puts(inside.set)) as server, connect(server) as sock:
        location = begin_to_send(server, sock)
        with ThreadPoolExecutor(1) as pool:
            finish = pool.submit(ask, server, "PUT", f"{location}?digest={DIGEST}", b"")
            assert inside.wait(patient(20))
            sock.sendall(CONTENT)
            assert status_of(receive_head(sock)) == 202
            assert finish.result(patient(20)).status == 201
        assert_stored(server)


def test_a_second_commit_that_waited_damages_nothing(tmp_path: Path) -> None:
    """Two closing PUTs of one session: one wins, the other is told that the session is over; the blob stays whole."""
    arrived = threading.Semaphore(0)
    with EmbeddedServer(tmp_path, wrap=told_of_puts(arrived.release)) as server, connect(server) as sock:
        location = begin_to_send(server, sock)
        with ThreadPoolExecutor(3) as pool:
            finishes = [pool.submit(ask, server, "PUT", f"{location}?digest={DIGEST}", b"") for _ in range(3)]
            for _ in finishes:
                assert arrived.acquire(timeout=patient(20))
            sock.sendall(CONTENT)
            assert status_of(receive_head(sock)) == 202
            assert sorted(finish.result(patient(20)).status for finish in finishes) == [201, 404, 404]
        assert_stored(server)
        assert ask(server, "GET", location).status == 404


def test_manifests_pushed_and_deleted_at_once_are_there_or_not(server: EmbeddedServer) -> None:
    """A push that was confirmed after the last delete is served."""
    raw = manifest_for([])
    path = f"/v2/a/manifests/{Digest.of(raw)}"

    def push_and_delete(number: int) -> None:
        for _ in range(15):
            if number % 2:
                assert put_manifest(server, "a", raw, "v1").status == 201
            else:
                assert ask(server, "DELETE", path).status in (202, 404)

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(push_and_delete, range(6)))
    listed = ask(server, "GET", "/v2/a/tags/list").json["tags"]
    assert [ask(server, "GET", f"/v2/a/manifests/{tag}").status for tag in listed] == [200] * len(listed)
