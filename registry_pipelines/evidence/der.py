"""DER (X.690), as much of it as timestamps need: what is read may come from anybody, so every length is checked.

Not BER: an indefinite length, a length in more bytes than needed and a tag number above 30 are refused.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NamedTuple

INTEGER, BIT_STRING, OCTET_STRING, NULL, OID = 0x02, 0x03, 0x04, 0x05, 0x06
BOOLEAN, GENERALIZED_TIME, SEQUENCE, SET = 0x01, 0x18, 0x30, 0x31

_TIME = re.compile(rb"(\d{14})(?:\.(\d{1,9}))?Z")
_MAX_OID_BYTES = 64
_MAX_INTEGER_BYTES = 64
"""Serial numbers have 20 at most (RFC 5280 section 4.1.2.2), nonces 8 to 32. Python writes no endless numbers out."""


class DerInvalid(ValueError):
    """Bytes are not DER, or not the structure that was expected; one sentence without full stop."""


class Node(NamedTuple):
    """One value. encoded: with its tag and length."""

    tag: int
    content: bytes
    encoded: bytes

    def children(self) -> list[Node]:
        """What a constructed value holds, in its order."""
        if not self.tag & 0x20:
            raise DerInvalid(f"a value of tag {self.tag:#x} holds no others")
        nodes, rest = [], self.content
        while rest:
            node, rest = _first(rest)
            nodes.append(node)
        return nodes

    def of(self, tag: int, what: str) -> Node:
        """Itself, when it has this tag; ``what`` names it otherwise."""
        if self.tag != tag:
            raise DerInvalid(f"{what} has tag {self.tag:#x}, expected {tag:#x}")
        return self

    def integer(self) -> int:
        """Of an INTEGER."""
        content = self.of(INTEGER, "an integer").content
        if not content or (len(content) > 1 and (content[0], content[1] >> 7) in ((0, 0), (0xFF, 1))):
            raise DerInvalid("an integer is empty or longer than needed")
        if len(content) > _MAX_INTEGER_BYTES:
            raise DerInvalid(f"an integer has {len(content)} bytes, at most {_MAX_INTEGER_BYTES} are read")
        return int.from_bytes(content, signed=True)

    def oid(self) -> str:
        """Of an OBJECT IDENTIFIER, dotted."""
        content = self.of(OID, "an object identifier").content
        if not 1 <= len(content) <= _MAX_OID_BYTES or content[-1] & 0x80:
            raise DerInvalid("an object identifier is empty, too long or cut off")
        parts, value = [], 0
        for byte in content:
            value = value << 7 | byte & 0x7F
            if not byte & 0x80:
                parts.append(value)
                value = 0
        first = min(parts[0] // 40, 2)
        return ".".join(map(str, (first, parts[0] - 40 * first, *parts[1:])))

    def time(self) -> datetime:
        """Of a GeneralizedTime as RFC 3161 writes it: UTC, to the second or finer."""
        content = self.of(GENERALIZED_TIME, "a time").content
        found = _TIME.fullmatch(content)
        if found is None:
            raise DerInvalid("a time is not YYYYMMDDhhmmss[.s]Z")
        try:
            whole = datetime.strptime(found[1].decode(), "%Y%m%d%H%M%S").replace(tzinfo=UTC)
        except ValueError as error:
            raise DerInvalid("a time is no date") from error
        return whole.replace(microsecond=int((found[2] or b"").ljust(6, b"0")[:6]))


def read_der(raw: bytes) -> Node:
    """The one value that the bytes are. Raises DerInvalid."""
    node, rest = _first(raw)
    if rest:
        raise DerInvalid("bytes follow the value")
    return node


def write_der(tag: int, *contents: bytes) -> bytes:
    """A value of its contents, each encoded already."""
    content = b"".join(contents)
    size = len(content)
    if size < 0x80:
        return bytes((tag, size)) + content
    length = size.to_bytes((size.bit_length() + 7) // 8)
    return bytes((tag, 0x80 | len(length))) + length + content


def write_integer(value: int) -> bytes:
    """An INTEGER that is not negative."""
    return write_der(INTEGER, value.to_bytes(value.bit_length() // 8 + 1))


def write_oid(dotted: str) -> bytes:
    """An OBJECT IDENTIFIER."""
    first, second, *rest = map(int, dotted.split("."))
    return write_der(OID, *(_base128(part) for part in (40 * first + second, *rest)))


def optional(nodes: Sequence[Node], tag: int) -> tuple[Node | None, Sequence[Node]]:
    """The first of the nodes when it has this tag, and the nodes after it."""
    return (nodes[0], nodes[1:]) if nodes and nodes[0].tag == tag else (None, nodes)


def _first(raw: bytes) -> tuple[Node, bytes]:
    if len(raw) < 2:
        raise DerInvalid("a value is cut off")
    tag, length, start = raw[0], raw[1], 2
    if tag & 0x1F == 0x1F:
        raise DerInvalid("a tag number is above 30")
    if length & 0x80:
        start += length & 0x7F
        if not 1 <= length & 0x7F <= 4 or len(raw) < start:
            raise DerInvalid("a length is indefinite, too large or cut off")
        length = int.from_bytes(raw[2:start])
        if length < 0x80 or raw[2] == 0:
            raise DerInvalid("a length is written in more bytes than needed")
    end = start + length
    if len(raw) < end:
        raise DerInvalid("a value is cut off")
    return Node(tag, raw[start:end], raw[:end]), raw[end:]


def _base128(value: int) -> bytes:
    digits = [value & 0x7F]
    while value := value >> 7:
        digits.append(0x80 | value & 0x7F)
    return bytes(reversed(digits))
