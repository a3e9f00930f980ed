"""CBOR: what is written reads back and is what cbor2 reads and writes; everything else is refused in our words."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry_pipelines.evidence.cbor import CborInvalid, Tagged, read_cbor, write_cbor
from tests.needs import needed_module

ATOMS = st.integers(-(1 << 64), (1 << 64) - 1) | st.binary(max_size=300) | st.text(max_size=30)
VALUES = st.recursive(
    ATOMS,
    lambda inner: (
        st.lists(inner, max_size=5) | st.dictionaries(st.integers(-9, 99) | st.text(max_size=9), inner, max_size=4)
    ),
    max_leaves=12,
).filter(lambda value: depth(value) < 8)


def depth(value: Any) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + max(map(depth, inner), default=-1)


@given(VALUES)
def test_what_is_written_reads_back_and_is_cbor(value: Any) -> None:
    cbor2 = needed_module("cbor2", "dev")
    written = write_cbor(value)
    assert read_cbor(written) == cbor2.loads(written) == value
    assert read_cbor(cbor2.dumps(value)) == value


@given(st.binary(max_size=40))
def test_noise_is_refused_or_read(noise: bytes) -> None:
    try:
        value = read_cbor(noise)
    except CborInvalid:
        return
    if write_cbor_can(value):
        assert read_cbor(write_cbor(value)) == value


def write_cbor_can(value: Any) -> bool:
    """False and null are read and never written."""
    if isinstance(value, Tagged):
        return write_cbor_can(value.value)
    if isinstance(value, dict):
        return all(map(write_cbor_can, value.values()))
    return all(map(write_cbor_can, value)) if isinstance(value, list) else not isinstance(value, bool | None)


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        ("", "cut off"),
        ("5bffffffffffffffff", "cut off"),
        ("9bffffffffffffffff", "cut off"),
        ("9fff", "indefinite"),
        ("5f4100ff", "indefinite"),
        ("fb3ff0000000000000", "floating-point"),
        ("f7", "floating-point or simple"),
        ("a201000100", "key twice"),
        ("a1f500", "neither an integer nor a text"),
        ("a1410000", "neither an integer nor a text"),
        ("81" * 9 + "00", "too deep"),
        ("c1" * 2000 + "00", "too deep"),
        ("61ff", "UTF-8"),
        ("0000", "bytes follow"),
    ],
)
def test_what_is_not_taken_says_why(raw: str, words: str) -> None:
    with pytest.raises(CborInvalid, match=words):
        read_cbor(bytes.fromhex(raw))


def test_simple_values_and_tags_are_read() -> None:
    assert read_cbor(bytes.fromhex("83f4f5f6")) == [False, True, None]
    assert read_cbor(write_cbor(Tagged(18, [Tagged(1, 5)]))) == Tagged(18, [Tagged(1, 5)])
