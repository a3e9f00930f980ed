"""DER: what is written reads back, and everything else is refused in our words."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry_pipelines.evidence.der import (
    GENERALIZED_TIME,
    OCTET_STRING,
    SEQUENCE,
    DerInvalid,
    Node,
    read_der,
    write_der,
    write_integer,
    write_oid,
)

ARCS = st.lists(st.integers(0, 1 << 40), max_size=6)


@given(st.integers(0, 1 << 80), st.integers(0, 2), st.integers(0, 39), ARCS, st.binary(max_size=70000))
def test_what_is_written_reads_back(number: int, first: int, second: int, arcs: list[int], content: bytes) -> None:
    dotted = ".".join(map(str, (first, second, *arcs)))
    written = write_der(SEQUENCE, write_integer(number), write_oid(dotted), write_der(OCTET_STRING, content))
    one, two, three = read_der(written).children()
    assert (one.integer(), two.oid(), three.content, three.encoded[-1:]) == (number, dotted, content, written[-1:])


@given(st.binary(max_size=60))
def test_noise_is_refused_or_read(noise: bytes) -> None:
    try:
        waiting = [read_der(noise)]
        while waiting:
            node = waiting.pop()
            assert node.encoded in noise
            waiting += node.children() if node.tag & 0x20 else []
    except DerInvalid:
        pass


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        ("", "cut off"),
        ("3080", "indefinite"),
        ("308500000000ff", "too large"),
        ("3082", "cut off"),
        ("30810100", "more bytes than needed"),
        ("3082000100", "more bytes than needed"),
        ("1f0100", "above 30"),
        ("0401", "cut off"),
        ("040000", "bytes follow"),
    ],
)
def test_what_is_not_der_says_why(raw: str, words: str) -> None:
    with pytest.raises(DerInvalid, match=words):
        read_der(bytes.fromhex(raw))


def node(tag: int, content: bytes) -> Node:
    return Node(tag, content, b"")


def test_values_are_what_their_tag_says() -> None:
    assert node(0x02, b"\xff").integer() == -1
    assert node(GENERALIZED_TIME, b"20261129012345.25Z").time() == datetime(2026, 11, 29, 1, 23, 45, 250000, UTC)
    for bad in (
        lambda: node(0x02, b"").integer(),
        lambda: node(0x02, b"\x00\x01").integer(),
        lambda: node(0x02, b"\xff\x80").integer(),
        lambda: node(0x04, b"\x01").integer(),
        lambda: node(0x06, b"").oid(),
        lambda: node(0x06, b"\x2a\x86").oid(),
        lambda: node(0x06, b"\x2a" * 65).oid(),
        lambda: node(GENERALIZED_TIME, b"20261129012345").time(),
        lambda: node(GENERALIZED_TIME, b"20261329012345Z").time(),
        lambda: node(0x04, b"").children(),
    ):
        with pytest.raises(DerInvalid):
            bad()
