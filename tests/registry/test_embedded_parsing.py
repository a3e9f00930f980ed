"""Parsers of the embedded server: right on what is right, our error and never another on anything else."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from registry_pipelines.registry.embedded import Deadlines, EmbeddedServer
from registry_pipelines.registry.embedded.heads import parse_head, split_target
from registry_pipelines.registry.embedded.http_messages import (
    MAX_HEAD_BYTES,
    BadRequest,
    Body,
    BodyCut,
    Connection,
)
from registry_pipelines.registry.embedded.ranges import RangeUnsatisfiable, parse_chunk_range, parse_read_range
from tests.patience import patient
from tests.registry.wire import ask, receive_all, status_of

BOUNDED = settings(deadline=None, max_examples=200)
QUICK = Deadlines(head_s=patient(5), idle_s=patient(5), stall_s=patient(5))


@BOUNDED
@given(st.binary(max_size=300))
def test_any_head_parses_or_is_refused(raw: bytes) -> None:
    try:
        head = parse_head(raw)
    except BadRequest as error:
        assert 400 <= error.status < 600
    else:
        assert head.method
        assert head.length is None or head.length >= 0


@BOUNDED
@given(
    st.lists(
        st.tuples(
            st.sampled_from([b"Content-Length", b"Transfer-Encoding", b"content-length", b"X-Other"]),
            st.sampled_from([b"5", b"-5", b"5,5", b" 5 ", b"chunked", b"Chunked", b"identity", b"", b"5 5"]),
        ),
        max_size=4,
    )
)
def test_a_body_has_one_length_or_is_refused(headers: list[tuple[bytes, bytes]]) -> None:
    raw = b"\r\n".join([b"PUT / HTTP/1.1", b"Host: t", *(name + b":" + value for name, value in headers)])
    framing = [(name.lower(), value.strip().lower()) for name, value in headers if name != b"X-Other"]
    try:
        head = parse_head(raw)
    except BadRequest:
        assert framing not in ([], [(b"content-length", b"5")], [(b"transfer-encoding", b"chunked")])
    else:
        expected = {(): 0, ((b"content-length", b"5"),): 5, ((b"transfer-encoding", b"chunked"),): None}
        assert head.length == expected[tuple(framing)]


@BOUNDED
@given(st.text(max_size=60), st.dictionaries(st.text(max_size=10), st.text(max_size=20), max_size=4))
def test_targets_come_back_as_they_were_meant(path: str, query: dict[str, str]) -> None:
    from urllib.parse import quote, urlencode

    encodable = all(not (0xD800 <= ord(char) < 0xE000) for char in path + "".join(query) + "".join(query.values()))
    if encodable:
        parsed_path, parameters = split_target(f"/{quote(path)}?{urlencode(query)}")
        assert parsed_path == f"/{path}"
        assert parameters == {key: [value] for key, value in query.items()}


@BOUNDED
@given(st.text(alphabet="/%abc0129fF?&=+;:@", max_size=60))
def test_any_target_parses_or_is_refused(target: str) -> None:
    try:
        path, query = split_target(f"/{target}")
    except BadRequest as error:
        assert error.status == 400
    else:
        assert path.startswith("/")
        assert all(values for values in query.values())


@BOUNDED
@given(st.integers(0, 50), st.integers(0, 60), st.integers(0, 60))
def test_read_ranges_agree_with_slices(size: int, first: int, last: int) -> None:
    content = bytes(range(size))
    for header, expected in [
        (f"bytes={first}-{last}", content[first : last + 1]),
        (f"bytes={first}-", content[first:]),
        (f"bytes=-{last}", content[-last:] if last else b""),
    ]:
        try:
            byte_range = parse_read_range(header, size)
        except RangeUnsatisfiable:
            assert expected == b""
        else:
            assert byte_range is not None
            start, stop = byte_range
            assert content[start:stop] == expected
            assert start < stop <= size


@BOUNDED
@given(st.text(max_size=40), st.integers(0, 10**12))
def test_any_range_header(header: str, size: int) -> None:
    try:
        byte_range = parse_read_range(header, size)
    except RangeUnsatisfiable:
        return
    assert byte_range is None or 0 <= byte_range[0] < byte_range[1] <= size
    chunk = parse_chunk_range(header)
    assert chunk is None or 0 <= chunk[0] < chunk[1]


@BOUNDED
@given(st.integers(0, 10**15), st.integers(0, 10**15))
def test_chunk_ranges(first: int, length: int) -> None:
    assert parse_chunk_range(f"{first}-{first + length}") == (first, first + length + 1)
    assert parse_chunk_range(f"bytes {first}-{first + length}/*") == (first, first + length + 1)
    if length:
        assert parse_chunk_range(f"{first + length}-{first}") is None


def feed(
    data: bytes, *, length: int | None, cuts: list[int], finish: bool = True
) -> tuple[bytes, Exception | None, bytes]:
    """Send ``data`` in pieces to a Body; what it gave, the error, and what stayed unread behind it."""
    ours, theirs = socket.socketpair()

    def send() -> None:
        start = 0
        for cut in [*sorted(cuts), len(data)]:
            theirs.sendall(data[start : max(start, cut)])
            start = max(start, cut)
        if finish:
            theirs.shutdown(socket.SHUT_WR)

    sender = threading.Thread(target=send)
    sender.start()
    body = Body(Connection(ours, QUICK), length=length)
    received = bytearray()
    buffer = memoryview(bytearray(7))
    error: Exception | None = None
    try:
        while count := body.readinto(buffer):
            received += buffer[:count]
    except (BadRequest, BodyCut) as caught:
        error = caught
    sender.join()
    rest = bytes(body._connection._ahead) + (receive_all(ours) if finish else b"")
    ours.close()
    theirs.close()
    return bytes(received), error, rest


@st.composite
def chunked_bodies(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """Content, and one way to send it in chunks."""
    pieces = draw(st.lists(st.binary(min_size=1, max_size=40), max_size=6))
    wire = bytearray()
    for piece in pieces:
        extension = draw(st.sampled_from([b"", b";a=b", b" ; x"]))
        size = draw(st.sampled_from(["{:x}", "{:X}", "00{:x}"])).format(len(piece)).encode()
        wire += size + extension + b"\r\n" + piece + b"\r\n"
    trailer = draw(st.sampled_from([b"", b"Trailer: x\r\n"]))
    return b"".join(pieces), bytes(wire) + b"0\r\n" + trailer + b"\r\n"


@settings(deadline=None, max_examples=60)
@given(chunked_bodies(), st.lists(st.integers(0, 300), max_size=5), st.binary(max_size=20))
def test_chunked_bodies_come_back_whole_however_they_are_cut_up(
    both: tuple[bytes, bytes], cuts: list[int], behind: bytes
) -> None:
    content, wire = both
    received, error, rest = feed(wire + behind, length=None, cuts=[min(cut, len(wire)) for cut in cuts])
    assert error is None
    assert received == content
    assert rest == behind


@settings(deadline=None, max_examples=60)
@given(chunked_bodies(), st.integers(0, 1000))
def test_a_truncated_chunked_body_never_ends_well(both: tuple[bytes, bytes], cut: int) -> None:
    content, wire = both
    received, error, _ = feed(wire[: cut % len(wire)], length=None, cuts=[])
    assert error is not None
    assert content.startswith(received)


@settings(deadline=None, max_examples=60)
@given(st.binary(max_size=100), st.integers(0, 120), st.lists(st.integers(0, 100), max_size=3))
def test_a_body_of_known_length_is_exactly_that_or_cut(data: bytes, length: int, cuts: list[int]) -> None:
    received, error, rest = feed(data, length=length, cuts=cuts)
    if length <= len(data):
        assert (received, error, rest) == (data[:length], None, data[length:])
    else:
        assert isinstance(error, BodyCut)
        assert data.startswith(received)


@settings(deadline=None, max_examples=60)
@given(st.binary(max_size=100), st.integers(0, 120), st.booleans())
def test_reading_a_body_with_a_limit(data: bytes, limit: int, chunked: bool) -> None:
    ours, theirs = socket.socketpair()
    wire = b"%x\r\n%s\r\n0\r\n\r\n" % (len(data), data) if data else b"0\r\n\r\n"
    theirs.sendall(wire if chunked else data)
    body = Body(Connection(ours, QUICK), length=None if chunked else len(data))
    assert body.read(limit) == (data if len(data) <= limit else None)
    ours.close()
    theirs.close()


def test_a_head_arrives_however_it_is_cut_up() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        connection = Connection(ours, QUICK)
        head = b"GET / HTTP/1.1\r\nHost: t"
        for cut in range(1, len(head) + 4):
            whole = head + b"\r\n\r\n"
            sender = threading.Thread(
                target=lambda cut=cut, whole=whole: (theirs.sendall(whole[:cut]), theirs.sendall(whole[cut:]))
            )
            sender.start()
            assert connection.read_head() == head
            sender.join()
        largest = head + b"\r\nX: " + b"x" * (MAX_HEAD_BYTES - len(head) - 5)
        theirs.sendall(largest + b"\r\n\r\n")
        assert connection.read_head() == largest


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory):  # type: ignore[no-untyped-def]
    deadlines = Deadlines(head_s=patient(2), idle_s=patient(2), stall_s=patient(2))
    with EmbeddedServer(tmp_path_factory.mktemp("fuzz"), deadlines=deadlines) as running:
        yield running


METHODS = ["GET", "HEAD", "PUT", "POST", "PATCH", "DELETE", "BREW"]
PARTS = st.sampled_from(
    [
        "v2",
        "a",
        "b",
        "blobs",
        "uploads",
        "manifests",
        "tags",
        "list",
        "referrers",
        "_catalog",
        "token",
        "..",
        ".",
        "",
        "%2e%2e",
        "%00",
        "index.json",
        "sha256:" + "0" * 64,
        "sha512:" + "f" * 128,
        "latest",
        "x" * 300,
    ]
)
QUERIES = st.dictionaries(
    st.sampled_from(["digest", "mount", "from", "n", "last", "tag", "artifactType", "digest-algorithm", "scope"]),
    st.sampled_from(["", "a", "-1", "99999999999999999999", "sha256:" + "0" * 64, "../..", "%00", "\u00e9"]),
    max_size=3,
)


@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    method=st.sampled_from(METHODS),
    parts=st.lists(PARTS, max_size=6),
    query=QUERIES,
    headers=st.dictionaries(
        st.sampled_from(["Range", "Content-Range", "Content-Type", "Authorization", "If-None-Match", "Connection"]),
        st.sampled_from(["", "bytes=0-", "0-4", "4-0", "close", "text/plain", "Basic !!!", "Bearer a.b", "*", "\x80"]),
        max_size=3,
    ),
    body=st.binary(max_size=50),
)
def test_any_request_gets_an_answer_of_the_specification(
    server: EmbeddedServer, method: str, parts: list[str], query: dict[str, str], headers: dict[str, str], body: bytes
) -> None:
    from urllib.parse import urlencode

    path = "/v2/" + "/".join(parts) + (f"?{urlencode(query)}" if query else "")
    answer = ask(server, method, path, body, {**headers, "Content-Length": str(len(body))})
    assert answer.status < 500
    if answer.status >= 400 and method != "HEAD":
        assert answer.code == answer.code.upper()
    outside = {path.name for path in Path(server.root).parent.iterdir()}
    assert Path(server.root).name in outside


@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(min_size=1, max_size=400))
def test_any_bytes_get_an_answer_or_a_closed_connection(server: EmbeddedServer, data: bytes) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=patient(20)) as sock:
        sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)
        answer = receive_all(sock)
    assert not answer or 200 <= status_of(answer) < 500 or status_of(answer) in (501, 505)
