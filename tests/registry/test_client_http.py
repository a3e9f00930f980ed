"""HTTP/1.1 as bytes: what is read agrees with http.client on good answers, whatever the pieces they arrive in, and ends
with an exception of the network on all others."""

from __future__ import annotations

import http.client
import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry_pipelines.registry.client.translate import NETWORK_ERRORS
from registry_pipelines.registry.client.wire import (
    MAX_HEADERS,
    MAX_INTERIM,
    Answer,
    BadStatusLine,
    HTTPException,
    InvalidURL,
    request_head,
)


class Pieces:
    """A socket that gives a few bytes at a time, and then its end."""

    def __init__(self, raw: bytes, sizes: list[int]) -> None:
        self._raw, self._sizes = raw, sizes or [len(raw) or 1]
        self._turn = 0

    def recv_into(self, buffer: memoryview, /) -> int:
        size = self._sizes[self._turn % len(self._sizes)]
        self._turn += 1
        piece = self._raw[: min(size, len(buffer))]
        self._raw = self._raw[len(piece) :]
        buffer[: len(piece)] = piece
        return len(piece)

    def makefile(self, _mode: str) -> io.BytesIO:
        return io.BytesIO(self._raw)


def read_all(answer: Answer, step: int = 7) -> bytes:
    body = b""
    while True:
        buffer = bytearray(step)
        count = answer.readinto(memoryview(buffer))
        if not count:
            return body
        body += buffer[:count]


tokens = st.text(st.sampled_from("abcXYZ-09_."), min_size=1, max_size=12)
values = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=20)
sizes = st.lists(st.integers(1, 40), max_size=6)


@st.composite
def answers(draw: st.DrawFn) -> tuple[bytes, bytes, str]:
    """(raw, body, method) of a good answer: by length, chunked, or up to the end of the connection."""
    body = draw(st.binary(max_size=120))
    status = draw(st.sampled_from([200, 201, 206, 307, 404, 500]))
    pairs = draw(st.lists(st.tuples(tokens.map(lambda name: f"X-{name}"), values), max_size=5))
    lines = [f"HTTP/1.{draw(st.integers(0, 1))} {status} Word", *(f"{name}: {value}" for name, value in pairs)]
    kind = draw(st.sampled_from(["length", "chunked", "end"]))
    content = body
    if kind == "length":
        lines.append(f"content-LENGTH: {len(body)}")
    elif kind == "chunked":
        lines.append("Transfer-Encoding: Chunked")
        cuts = sorted(draw(st.lists(st.integers(0, len(body)), max_size=3)))
        parts = [body[a:b] for a, b in zip([0, *cuts], [*cuts, len(body)], strict=True)]
        content = b"".join(b"%x;note=1\r\n%s\r\n" % (len(part), part) for part in parts if part) + b"0\r\nT: x\r\n\r\n"
    interim = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" if draw(st.booleans()) else b""
    return interim + "\r\n".join([*lines, "", ""]).encode() + content, body, draw(st.sampled_from(["GET", "HEAD"]))


@given(answers(), sizes, st.integers(1, 50))
def test_good_answers_are_read_as_http_client_reads_them(
    made: tuple[bytes, bytes, str], pieces: list[int], step: int
) -> None:
    raw, body, method = made
    answer = Answer(Pieces(raw, pieces), method)
    theirs = http.client.HTTPResponse(Pieces(re.sub(rb"\AHTTP/1.1 103.*?\r\n\r\n", b"", raw, flags=re.DOTALL), []))  # type: ignore[arg-type]
    theirs._method = method  # type: ignore[attr-defined]
    theirs.begin()
    assert answer.status == theirs.status
    assert answer.length == theirs.length
    assert answer.will_close == bool(theirs.will_close)
    assert list(answer.headers) == [(name.lower(), value.strip()) for name, value in theirs.headers.items()]
    assert read_all(answer, step) == theirs.read() == (b"" if method == "HEAD" else body)
    assert answer.ended


@given(answers(), sizes, st.integers(0, 400))
def test_an_answer_that_is_cut_short_is_never_taken_for_whole(
    made: tuple[bytes, bytes, str], pieces: list[int], cut: int
) -> None:
    raw, body, method = made
    try:
        answer = Answer(Pieces(raw[:cut], pieces), method)
        received = read_all(answer)
    except NETWORK_ERRORS:
        return
    by_end = answer.length is None and b"chunked" not in raw.lower()
    whole = received == (b"" if method == "HEAD" else body)
    assert whole or by_end or not answer.ended


@given(st.binary(max_size=300), sizes)
def test_any_bytes_are_an_answer_or_an_exception_of_the_network(raw: bytes, pieces: list[int]) -> None:
    for head in (b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"):
        try:
            read_all(Answer(Pieces(head + raw, pieces), "GET"))
        except NETWORK_ERRORS:
            continue


@pytest.mark.parametrize(
    "head",
    [
        b"Content-Length: 5\r\nContent-Length: 6\r\n",
        b"Content-Length: -1\r\n",
        b"Content-Length: 1_0\r\n",
        b"Transfer-Encoding: gzip, chunked\r\n",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: gzip\r\n",
        b"no colon\r\n",
        b"Spaced : x\r\n",
        b"X: y\r\n" * (MAX_HEADERS + 1),
    ],
)
def test_heads_that_two_readers_could_take_differently_are_refused(head: bytes) -> None:
    with pytest.raises(HTTPException):
        Answer(Pieces(b"HTTP/1.1 200 OK\r\n" + head + b"\r\nhello", []), "GET")


class Waiting(Pieces):
    """Nothing comes after the bytes, and the other side does not close: who asks for more would wait."""

    def recv_into(self, buffer: memoryview, /) -> int:
        count = super().recv_into(buffer)
        assert count, "waits for ever"
        return count


@pytest.mark.parametrize(
    "raw", [b"SSH-2.0-OpenSSH_9.6\r\n", b"\x15\x03\x01\x00\x02\x02\x16", b"220 mail\r\n", b"HTTP/2"]
)
def test_another_protocol_is_told_at_once(raw: bytes) -> None:
    with pytest.raises(BadStatusLine):
        Answer(Waiting(raw, [1]), "GET")


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
    ],
)
def test_a_connection_with_two_lengths_does_not_serve_again(raw: bytes) -> None:
    answer = Answer(Pieces(raw, []), "GET")
    assert read_all(answer) == b"hi"
    assert answer.will_close


def test_identity_is_no_coding() -> None:
    raw = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\nContent-Length: 2\r\n\r\nhi"
    answer = Answer(Waiting(raw, []), "GET")
    assert read_all(answer) == b"hi"
    assert not answer.will_close


def test_a_switch_to_another_protocol_has_no_body_and_ends_the_connection() -> None:
    answer = Answer(Waiting(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\n\r\n", []), "GET")
    assert read_all(answer) == b""
    assert answer.will_close


def test_endless_interim_answers_are_given_up() -> None:
    with pytest.raises(HTTPException, match="interim"):
        Answer(Pieces(b"HTTP/1.1 100 Continue\r\n\r\n" * (MAX_INTERIM + 1), []), "GET")


def test_a_folded_header_is_one_and_lone_line_feeds_are_ends() -> None:
    answer = Answer(Pieces(b"HTTP/1.1 200 OK\nA: one\n  two\nContent-Length: 2\n\nhi", [3]), "GET")
    assert answer.headers.get("a") == "one two"
    assert read_all(answer) == b"hi"


def test_what_comes_behind_the_body_spoils_the_connection() -> None:
    answer = Answer(Pieces(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhiHTTP/1.1 200 OK\r\n", []), "GET")
    assert read_all(answer) == b"hi"
    assert answer.ended
    assert not answer.clean


@pytest.mark.parametrize("target", ["/a b", "/a\r\nHost: evil", "/\x7f", "/\u00e9", "/a\tb"])
def test_a_target_that_is_none_is_not_sent(target: str) -> None:
    with pytest.raises(InvalidURL):
        request_head("GET", target, {})


@pytest.mark.parametrize("value", ["a\r\nb", "a\nb", "\x00", "\u20ac"])
def test_a_header_that_would_be_two_is_not_sent(value: str) -> None:
    with pytest.raises(ValueError):
        request_head("GET", "/", {"X": value})
