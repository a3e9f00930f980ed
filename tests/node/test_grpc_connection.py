"""The server's side of gRPC: asked by grpcio, and frame by frame for what gRPC's own clients do not, or seldom."""

from __future__ import annotations

import select
import socket
import struct
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import grpc
import pytest
from hpack import Decoder

from registry_pipelines.node.grpc_connection import MAX_CALLS, MAX_MESSAGE_BYTES, Connection, Failed
from tests.patience import patient

DATA, HEADERS, RESET, SETTINGS, PING, GOAWAY, WINDOW, CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
END, PADDED, PRIORITY, WHOLE = 1, 8, 32, 4
LARGE = 200_000
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def path(name: str) -> bytes:
    """Fields of a call: the method of the table, the path as a text of its own."""
    return b"\x83\x04" + bytes((len(name),)) + name.encode()


def message(content: bytes, *, compressed: int = 0) -> bytes:
    return struct.pack(">BI", compressed, len(content)) + content


def frame(kind: int, flags: int, number: int, content: bytes) -> bytes:
    return len(content).to_bytes(3, "big") + bytes((kind, flags)) + struct.pack(">I", number) + content


class Client:
    def __init__(self, link: socket.socket) -> None:
        self.link, self.source, self.fields = link, link.makefile("rb"), Decoder()
        link.settimeout(patient(20))

    def send(self, kind: int, flags: int, number: int, content: bytes = b"") -> None:
        self.link.sendall(frame(kind, flags, number, content))

    def call_at_once(self, name: str, *numbers: int) -> None:
        """Calls that come together, each whole."""
        self.link.sendall(
            b"".join(
                frame(HEADERS, WHOLE, number, path(name)) + frame(DATA, END, number, message(b"")) for number in numbers
            )
        )

    def call(self, number: int, name: str, content: bytes = b"") -> None:
        self.send(HEADERS, WHOLE, number, path(name))
        self.send(DATA, END, number, message(content))

    def take(self) -> tuple[int, int, int, bytes]:
        """Kind, flags, stream and content of the next frame; zeros at the end."""
        head = self.source.read(9)
        if not head:
            return (0, 0, 0, b"")
        content = self.source.read(int.from_bytes(head[:3], "big"))
        if head[3] == HEADERS:
            fields = self.fields.decode(content, raw=True)
            content = b" ".join(name + b"=" + value for name, value in fields)
        return head[3], head[4], int.from_bytes(head[5:], "big"), content

    def until(self, kind: int, number: int = 0) -> bytes:
        while (found := self.take())[:1] != (kind,) or found[2] != number:
            assert found[2] or found[0], f"it ended before a frame {kind}"
        return found[3]

    def answer(self, number: int) -> tuple[bytes, bytes]:
        """All data of a call, and the fields behind it."""
        content = b""
        while True:
            kind, flags, stream, piece = self.take()
            assert kind or stream, "it ended"
            if stream == number and kind == DATA:
                content += piece
            if stream == number and kind == HEADERS and flags & END:
                return content, piece


class Calls:
    """What the server answers."""

    def __init__(self) -> None:
        self.begun, self.go_on = threading.Semaphore(0), threading.Event()

    def echo(self, raw: bytes) -> Iterable[bytes]:
        return (raw,)

    def large(self, raw: bytes) -> Iterable[bytes]:
        return (b"x" * LARGE, b"y")

    def wait(self, raw: bytes) -> Iterator[bytes]:
        self.begun.release()
        assert self.go_on.wait(patient(20))
        yield raw

    def fail(self, raw: bytes) -> Iterator[bytes]:
        if raw:
            yield raw
        raise Failed(9, "50 % of ä")

    def break_(self, raw: bytes) -> Iterator[bytes]:
        raise ValueError("unexpected")


@contextmanager
def served(log: list[str] | None = None) -> Iterator[tuple[Client, Calls, Connection]]:
    ours, theirs = socket.socketpair()
    calls, ended, said = Calls(), threading.Event(), log if log is not None else []
    named = {"echo": calls.echo, "large": calls.large, "wait": calls.wait, "fail": calls.fail, "break": calls.break_}
    by_path = {f"/{name}".encode(): call for name, call in named.items()}
    connection = Connection(ours, by_path, said.append, lambda each: ended.set())
    connection.start()
    client = Client(theirs)
    client.link.sendall(PREFACE)
    client.send(SETTINGS, 0, 0)
    try:
        yield client, calls, connection
    finally:
        calls.go_on.set()
        theirs.shutdown(socket.SHUT_RDWR)
        assert ended.wait(patient(20))
        client.source.close()
        theirs.close()
        assert log is not None or not said


def test_a_call_is_answered_however_its_request_is_cut() -> None:
    with served() as (client, _, _):
        client.send(HEADERS, PADDED | PRIORITY, 1, b"\x02" + b"\0" * 5 + path("/echo")[:3] + b"\0\0")
        client.send(CONTINUATION, WHOLE, 1, path("/echo")[3:])
        client.send(DATA, PADDED, 1, b"\x01" + message(b"one two")[:4] + b"\0")
        client.send(DATA, 0, 1, message(b"one two")[4:])
        client.send(DATA, END, 1)
        assert client.answer(1) == (message(b"one two"), b"grpc-status=0")
        client.send(PING, 0, 0, b"12345678")
        assert client.until(PING) == b"12345678"


@pytest.mark.parametrize(
    "name, raw, code, said",
    [
        ("/none", message(b""), 12, b"there is no call /none"),
        ("/echo", b"\0\0", 13, b"not one message"),
        ("/echo", message(b"x")[:-1], 13, b"not one message"),
        ("/echo", message(b"x") * 2, 13, b"not one message"),
        ("/echo", message(b"x", compressed=1), 12, b"compressed"),
        ("/fail", message(b""), 9, b"50 %25 of %C3%A4"),
        ("/fail", message(b"x"), 9, b"50 %25 of %C3%A4"),
        ("/break", message(b""), 2, b"ValueError: unexpected"),
    ],
)
def test_what_fails_says_why_by_grpcs_numbers(name: str, raw: bytes, code: int, said: bytes) -> None:
    log: list[str] = []
    with served(log) as (client, _, _):
        client.send(HEADERS, WHOLE, 1, path(name))
        client.send(DATA, END, 1, raw)
        content, fields = client.answer(1)
        assert content == (raw if name == "/fail" and raw[5:] else b"")
        assert b"grpc-status=%d grpc-message=" % code in fields and said in fields
        client.call(3, "/echo", b"goes on")
        assert client.answer(3)[0] == message(b"goes on")
    assert log == (["/break: ValueError: unexpected"] if name == "/break" else [])


def test_a_large_answer_comes_as_far_as_the_client_has_room_and_others_meanwhile() -> None:
    with served() as (client, _, _):
        client.call(1, "/large")
        got = 0
        while got < 65_535:
            kind, _, _, content = client.take()
            got += len(content) if kind == DATA else 0
        client.send(WINDOW, 0, 0, struct.pack(">I", 1_000_000))
        client.call(3, "/echo", b"beside it")
        assert client.answer(3)[0] == message(b"beside it")
        client.send(SETTINGS, 0, 0, struct.pack(">HI", 4, 300_000))
        content, _ = client.answer(1)
        assert got + len(content) == LARGE + 1 + 10 and content.endswith(message(b"y"))


def test_who_does_not_wait_any_more_keeps_no_thread() -> None:
    with served() as (client, _, connection):
        client.call(1, "/large")
        client.send(RESET, 0, 1, struct.pack(">I", 8))
        client.send(HEADERS, WHOLE, 3, path("/echo"))  # and never asks
        client.send(RESET, 0, 3, struct.pack(">I", 8))
        client.send(WINDOW, 0, 0, struct.pack(">I", 1_000_000))
        client.call(5, "/echo", b"x")
        assert client.answer(5)[0] == message(b"x")
        with connection._state:
            assert connection._state.wait_for(lambda: not connection._streams, patient(20))


def test_calls_wait_for_no_other() -> None:
    with served() as (client, calls, _):
        for number in range(MAX_CALLS - 1):
            client.call(2 * number + 1, "/wait")
        for _ in range(MAX_CALLS - 1):
            assert calls.begun.acquire(timeout=patient(20))
        client.call(1001, "/echo", b"x")
        assert client.answer(1001)[0] == message(b"x")
        client.send(PING, 0, 0, b"12345678")
        assert client.until(PING) == b"12345678"
        calls.go_on.set()
        assert client.answer(1)[0] == message(b"")


def test_what_comes_wakes_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    count, woken, made = 50, list[int](), select.epoll

    class Counting:
        def __init__(self) -> None:
            self._poll = made()
            self.register, self.modify, self.close = self._poll.register, self._poll.modify, self._poll.close

        def poll(self) -> object:
            found = self._poll.poll()
            woken.append(threading.get_native_id())
            return found

    monkeypatch.setattr(select, "epoll", Counting)
    with served() as (client, calls, _):
        client.call(1, "/wait")  # so that two threads wait behind it
        assert calls.begun.acquire(timeout=patient(20))
        client.call(3, "/echo")
        assert client.answer(3)[0] == message(b"")
        calls.go_on.set()
        assert client.answer(1)[0] == message(b"")
        woken.clear()
        for number in range(5, 2 * count + 5, 2):
            client.call_at_once("/echo", number)
            assert client.answer(number)[0] == message(b"")
        assert len(woken) <= count + 4, len(woken)  # what came before may be told late


def test_calls_that_come_together_are_answered_together() -> None:
    with served() as (client, calls, _):
        client.call_at_once("/wait", *range(1, 41, 2))
        assert all(calls.begun.acquire(timeout=patient(20)) for _ in range(20))


def test_at_the_end_a_call_that_is_under_way_is_answered_and_no_other() -> None:
    with served() as (client, calls, connection):
        client.call(1, "/wait", b"last")
        assert calls.begun.acquire(timeout=patient(20))
        ending = threading.Thread(target=connection.leave, args=(patient(20),))
        ending.start()
        with connection._state:
            assert connection._state.wait_for(lambda: connection._leaving, patient(20))
        client.call(3, "/echo")
        assert client.until(RESET, 3) == struct.pack(">I", 7)
        calls.go_on.set()
        assert client.answer(1)[0] == message(b"last")
        assert client.until(GOAWAY)[4:] == struct.pack(">I", 0)
        ending.join()
        assert client.take()[:3] == (0, 0, 0)


def test_grpcs_own_client_is_answered(tmp_path: Path) -> None:
    calls, links, said = Calls(), list[Connection](), list[str]()
    by_path = {"/x/Echo": calls.echo, "/x/Large": calls.large, "/x/Fail": calls.fail, "/x/Wait": calls.wait}
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "s"))
        listening.listen()

        def accept() -> None:
            with suppress(OSError):
                while True:
                    made = Connection(listening.accept()[0], {k.encode(): v for k, v in by_path.items()}, said.append)
                    links.append(made)
                    made.start()

        threading.Thread(target=accept, daemon=True).start()
        with grpc.insecure_channel(f"unix://{tmp_path / 's'}") as channel:
            echo = channel.unary_unary("/x/Echo")
            assert [echo(b"%d" % number * number) for number in range(300)] == [b"%d" % n * n for n in range(300)]
            assert echo(bytes(MAX_MESSAGE_BYTES // 2), timeout=patient(20)) == bytes(MAX_MESSAGE_BYTES // 2)
            assert [len(each) for each in channel.unary_stream("/x/Large")(b"")] == [LARGE, 1]
            with pytest.raises(grpc.RpcError) as raised:
                channel.unary_unary("/x/Fail")(b"")
            assert (raised.value.code().value[0], raised.value.details()) == (9, "50 % of ä")
            with pytest.raises(grpc.RpcError) as raised:
                channel.unary_unary("/x/None")(b"", metadata=[("a-key", "x" * 8000)])
            assert raised.value.code() == grpc.StatusCode.UNIMPLEMENTED
            waiting = channel.unary_unary("/x/Wait").future(b"")
            assert calls.begun.acquire(timeout=patient(20))
            assert waiting.cancel() and echo(b"goes on") == b"goes on"
            calls.go_on.set()
        listening.shutdown(socket.SHUT_RDWR)
        for each in links:
            each.close()
    assert not said


@pytest.mark.parametrize(
    "kind, flags, number, content, code",
    [
        (DATA, 0, 7, b"of no call", 1),
        (HEADERS, WHOLE, 2, path("/echo"), 1),
        (HEADERS, WHOLE, 1, b"\xff\xff\xff\xff\xff\xff", 1),
        (HEADERS, WHOLE | PADDED, 1, b"\xff", 1),
        (CONTINUATION, WHOLE, 1, b"", 1),
        (SETTINGS, 0, 0, b"12345", 6),
        (SETTINGS, 0, 0, struct.pack(">HI", 4, 1 << 31), 3),
        (PING, 0, 0, b"1", 6),
        (WINDOW, 0, 0, b"1", 6),
        (DATA, 0, 1, b"\0" * 20_000, 6),
    ],
)
def test_a_client_that_breaks_the_rules_is_told_and_left(
    kind: int, flags: int, number: int, content: bytes, code: int
) -> None:
    with served() as (client, _, _):
        client.send(kind, flags, number, content)
        assert client.until(GOAWAY)[4:] == struct.pack(">I", code)
        assert client.take()[:3] == (0, 0, 0)
