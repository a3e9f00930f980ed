"""The header fields of a request of HTTP/2, as far as a server reads them: HPACK's decoder.

Rules: RFC 7541. Its code is canonical: the lengths below are all of it (appendix B).
"""

from __future__ import annotations

from functools import lru_cache

MAX_TABLE_BYTES = 4096
"""Of the table that the sender fills, unless it was told another size."""
MAX_TEXT_BYTES = 64 << 10
_ENTRY_BYTES = 32
"""What an entry of the table counts for, beside its texts."""
_MOST_NUMBER = 1 << 31
_LENGTHS = (
    "ISXXXXXXXTZXXZXXXXXXXXZXXXXXXXXXBFFHIBDGFFDGDBBBAAABBBBBBBCDKBHFIBCCCCCCCCCCCCCCCCCCCCCCDCDIOIJBKABABABBBACCBBBABCBAABCC"
    "CCCKGJIXPRPPRRRSRSSSSSTSTTRSTSSSSQRSRSSTRQPRRSSQSRRTQRSSQQRQSRSSPRRRSRRSVVPORSRUVVVWWVTUOQVWWVWTQQVVXWWWPTPQRQQSRRUUTTVSV"
    "WVVWWWWWXWWWWWVZ"
)
"""Bits of each byte's code and of the end's, ``A`` for 5."""
_STATIC = (
    ":authority|:method GET|:method POST|:path /|:path /index.html|:scheme http|:scheme https|:status 200|:status 204|"
    ":status 206|:status 304|:status 400|:status 404|:status 500|accept-charset|accept-encoding gzip, deflate|"
    "accept-language|accept-ranges|accept|access-control-allow-origin|age|allow|authorization|cache-control|"
    "content-disposition|content-encoding|content-language|content-length|content-location|content-range|content-type|"
    "cookie|date|etag|expect|expires|from|host|if-match|if-modified-since|if-none-match|if-range|if-unmodified-since|"
    "last-modified|link|location|max-forwards|proxy-authenticate|proxy-authorization|range|referer|refresh|retry-after|"
    "server|set-cookie|strict-transport-security|transfer-encoding|user-agent|vary|via|www-authenticate"
)
"""Appendix A: names, and values behind a space."""
_FIXED = tuple(
    (name.encode(), value.encode()) for name, _, value in (each.partition(" ") for each in _STATIC.split("|"))
)

Field = tuple[bytes, bytes]


class FieldsInvalid(Exception):
    """A block that is none: nothing that comes on the connection can be read any more."""


class FieldsReader:
    """Of one connection: what a block says depends on those before it. For one thread at a time."""

    def __init__(self) -> None:
        self._table: list[Field] = []
        """The newest first."""
        self._size, self._most = 0, MAX_TABLE_BYTES

    def read(self, block: bytes) -> list[Field]:
        """All fields of a block, in order. Raises FieldsInvalid."""
        found: list[Field] = []
        at = 0
        try:
            while at < len(block):
                first = block[at]
                if first >= 0x80:
                    number, at = _number(block, at, 7)
                    found.append(self._named(number))
                elif first >= 0x40:
                    field, at = self._literal(block, at, 6)
                    self._add(field)
                    found.append(field)
                elif first >= 0x20:
                    self._most, at = _number(block, at, 5)
                    if self._most > MAX_TABLE_BYTES:
                        raise FieldsInvalid("a table that is too large")
                    self._shrink()
                else:
                    field, at = self._literal(block, at, 4)
                    found.append(field)
        except IndexError as error:
            raise FieldsInvalid("it ends early, or names what is not there") from error
        return found

    def _named(self, number: int) -> Field:
        if not number:
            raise FieldsInvalid("a field without a number")
        return _FIXED[number - 1] if number <= len(_FIXED) else self._table[number - 1 - len(_FIXED)]

    def _literal(self, block: bytes, at: int, bits: int) -> tuple[Field, int]:
        number, at = _number(block, at, bits)
        name, at = (self._named(number)[0], at) if number else _text(block, at)
        value, at = _text(block, at)
        return (name, value), at

    def _add(self, field: Field) -> None:
        self._table.insert(0, field)
        self._size += len(field[0]) + len(field[1]) + _ENTRY_BYTES
        self._shrink()

    def _shrink(self) -> None:
        while self._size > self._most:
            name, value = self._table.pop()
            self._size -= len(name) + len(value) + _ENTRY_BYTES


def _number(block: bytes, at: int, bits: int) -> tuple[int, int]:
    """And where it ends. Raises IndexError, FieldsInvalid."""
    most = (1 << bits) - 1
    number, at = block[at] & most, at + 1
    if number < most:
        return number, at
    shift = 0
    while True:
        number += (block[at] & 0x7F) << shift
        if number > _MOST_NUMBER:
            raise FieldsInvalid("a number that is too large")
        at, shift = at + 1, shift + 7
        if block[at - 1] < 0x80:
            return number, at


def _text(block: bytes, at: int) -> tuple[bytes, int]:
    is_coded = block[at] >= 0x80
    size, at = _number(block, at, 7)
    raw = block[at : at + size]
    if len(raw) < size or size > MAX_TEXT_BYTES:
        raise FieldsInvalid("a text that ends early or is too long")
    return (_decoded(raw) if is_coded else raw), at + size


@lru_cache(1)
def _codes() -> dict[tuple[int, int], int]:
    """Bytes by length and number of their codes; 256 is the end."""
    found: dict[tuple[int, int], int] = {}
    code = last = 0
    for length, byte in sorted((ord(letter) - 60, byte) for byte, letter in enumerate(_LENGTHS)):
        code, last = code << (length - last), length
        found[length, code] = byte
        code += 1
    return found


@lru_cache(1024)
def _decoded(raw: bytes) -> bytes:
    """A text of Huffman's code. Raises FieldsInvalid."""
    codes, found = _codes(), bytearray()
    code = length = 0
    for byte in raw:
        for shift in range(7, -1, -1):
            code, length = code << 1 | byte >> shift & 1, length + 1
            known = codes.get((length, code))
            if known is not None:
                if known > 255:
                    raise FieldsInvalid("a text with an end in it")
                found.append(known)
                code = length = 0
    if length > 7 or code != (1 << length) - 1:
        raise FieldsInvalid("a text that ends within a byte's code")
    return bytes(found)


__all__ = ["Field", "FieldsInvalid", "FieldsReader"]
