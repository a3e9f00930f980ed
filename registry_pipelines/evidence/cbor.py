"""CBOR (RFC 8949), as much of it as COSE signatures need; what is read may come from anybody.

By hand, not by cbor2: it decodes tags into decimals, regular expressions and shared references that a signature has no
use for, and whoever may push chooses the bytes. Read are integers, byte and text strings, arrays, maps, tags as they
are, false, true and null, each of a length that is told; written is the deterministic form (section 4.2.1).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

MAX_DEPTH = 8
"""Of arrays, maps and tags in each other; a signature with its headers has four."""

_SIMPLE = {20: False, 21: True, 22: None}


class CborInvalid(ValueError):
    """Bytes are not this part of CBOR; one sentence without full stop."""


class Tagged(NamedTuple):
    """A value with its tag."""

    tag: int
    value: Any


def read_cbor(raw: bytes) -> Any:
    """The one value that the bytes are; a map with a key twice is refused. Raises CborInvalid."""
    reader = _Reader(raw)
    value = reader.value(0)
    if reader.position != len(raw):
        raise CborInvalid("bytes follow the value")
    return value


def write_cbor(value: Any) -> bytes:
    """Deterministic: shortest lengths, map keys in the order of their bytes."""
    if isinstance(value, Tagged):
        return _head(6, value.tag) + write_cbor(value.value)
    if isinstance(value, int):
        return _head(0, value) if value >= 0 else _head(1, -1 - value)
    if isinstance(value, bytes):
        return _head(2, len(value)) + value
    if isinstance(value, str):
        text = value.encode()
        return _head(3, len(text)) + text
    if isinstance(value, Mapping):
        pairs = sorted((write_cbor(key), write_cbor(each)) for key, each in value.items())
        return _head(5, len(pairs)) + b"".join(key + each for key, each in pairs)
    return _head(4, len(value)) + b"".join(map(write_cbor, value))


class _Reader:
    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self.position = 0

    def value(self, depth: int) -> Any:
        if depth > MAX_DEPTH:
            raise CborInvalid("values are in each other too deep")
        kind, argument = self._read_head()
        if kind == 0:
            return argument
        if kind == 1:
            return -1 - argument
        if kind == 2:
            return self._bytes(argument)
        if kind == 3:
            return self._text(argument)
        if kind == 4:
            return [self.value(depth + 1) for _ in range(self._count(argument))]
        if kind == 5:
            return self._map(self._count(argument), depth)
        if kind == 6:
            return Tagged(argument, self.value(depth + 1))
        if argument in _SIMPLE:
            return _SIMPLE[argument]
        raise CborInvalid("it has a floating-point or simple value")

    def _read_head(self) -> tuple[int, int]:
        first = self._bytes(1)[0]
        kind, short = first >> 5, first & 0x1F
        if short < 24:
            return kind, short
        if kind == 7 or short > 27:
            raise CborInvalid("it has a value of indefinite length, or a floating-point or simple value")
        return kind, int.from_bytes(self._bytes(1 << (short - 24)))

    def _bytes(self, count: int) -> bytes:
        if count > len(self._raw) - self.position:
            raise CborInvalid("it is cut off")
        self.position += count
        return self._raw[self.position - count : self.position]

    def _text(self, count: int) -> str:
        try:
            return self._bytes(count).decode()
        except UnicodeDecodeError as error:
            raise CborInvalid("a text is not UTF-8") from error

    def _count(self, count: int) -> int:
        """Of values, each of which has a byte at least."""
        if count > len(self._raw) - self.position:
            raise CborInvalid("it is cut off")
        return count

    def _map(self, count: int, depth: int) -> dict[Any, Any]:
        found: dict[Any, Any] = {}
        for _ in range(count):
            key = self.value(depth + 1)
            if not isinstance(key, int | str) or isinstance(key, bool) or key in found:
                raise CborInvalid("a map has a key twice, or one that is neither an integer nor a text")
            found[key] = self.value(depth + 1)
        return found


def _head(kind: int, argument: int) -> bytes:
    if argument < 24:
        return bytes((kind << 5 | argument,))
    size = next(size for size in (1, 2, 4, 8) if argument < 1 << 8 * size)
    return bytes((kind << 5 | 23 + size.bit_length(),)) + argument.to_bytes(size)
