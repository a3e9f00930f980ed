"""What the header of a GGUF file says of its tensors; nothing is loaded.

Sources: GGUF's specification (versions 2 and 3, little-endian: header, pairs of key and value, tensors, then their data
at a multiple of ``general.alignment``), and ggml's types with the size of their blocks.
"""

from __future__ import annotations

import struct
from collections import Counter
from typing import NamedTuple

_TYPES = {
    **{0: ("F32", 1, 4), 1: ("F16", 1, 2), 2: ("Q4_0", 32, 18), 3: ("Q4_1", 32, 20), 6: ("Q5_0", 32, 22)},
    **{7: ("Q5_1", 32, 24), 8: ("Q8_0", 32, 34), 9: ("Q8_1", 32, 0), 10: ("Q2_K", 256, 84), 11: ("Q3_K", 256, 110)},
    **{12: ("Q4_K", 256, 144), 13: ("Q5_K", 256, 176), 14: ("Q6_K", 256, 210), 15: ("Q8_K", 256, 292)},
    **{16: ("IQ2_XXS", 256, 66), 17: ("IQ2_XS", 256, 74), 18: ("IQ3_XXS", 256, 98), 19: ("IQ1_S", 256, 50)},
    **{20: ("IQ4_NL", 32, 18), 21: ("IQ3_S", 256, 110), 22: ("IQ2_S", 256, 82), 23: ("IQ4_XS", 256, 136)},
    **{24: ("I8", 1, 1), 25: ("I16", 1, 2), 26: ("I32", 1, 4), 27: ("I64", 1, 8), 28: ("F64", 1, 8)},
    **{29: ("IQ1_M", 256, 56), 30: ("BF16", 1, 2), 34: ("TQ1_0", 256, 54), 35: ("TQ2_0", 256, 66)},
    **{39: ("MXFP4", 32, 17)},
}
"""Name, elements of a block and its bytes by number. Of Q8_1, which no file has, two sizes are about."""
_FIXED = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
"""Bytes of GGUF's values by their type; 8 is a string, 9 an array."""
_STRING, _ARRAY, _UINT32 = 8, 9, 4
_U32, _U64 = struct.Struct("<I"), struct.Struct("<Q")
_MAX_TENSORS = 1_000_000
_MAX_DIMENSIONS = 8
"""Of a tensor; ggml has four."""
_ALIGNMENT = 32
"""Where ``general.alignment`` says none."""


class Header(NamedTuple):
    """types: how many tensors of which type; ``?`` for unknown ones. end: bytes that the whole file has at least; of a
    header that goes on one more than were read of it."""

    types: Counter[str]
    end: int = 0


class _Unknown(Exception):
    """No header of a known form."""


def read_gguf(head: bytes) -> Header:
    """The header, of a file's first bytes; of one that is longer the number of tensors alone, and nothing of another
    version or byte order."""
    if len(head) < 24 or head[:4] != b"GGUF" or _U32.unpack_from(head, 4)[0] not in (2, 3):
        return Header(Counter(), 24 if len(head) < 24 and b"GGUF".startswith(head[:4]) else 0)
    tensors, pairs = _U64.unpack_from(head, 8)[0], _U64.unpack_from(head, 16)[0]
    if tensors > _MAX_TENSORS:
        return Header(Counter())
    try:
        return _read(_Cursor(head, 24), tensors, pairs)
    except (struct.error, EOFError, _Unknown) as error:
        end = 0 if isinstance(error, _Unknown) else len(head) + 1
        return Header(Counter({"?": tensors}) if tensors else Counter(), end)


class _Cursor:
    """A place in a header. Raises EOFError, struct.error at its end."""

    def __init__(self, raw: bytes, at: int) -> None:
        self._raw, self._at = raw, at

    def number(self, form: struct.Struct) -> int:
        value: int = form.unpack_from(self._raw, self._at)[0]
        self._at += form.size
        return value

    @property
    def at(self) -> int:
        return self._at

    def text(self) -> bytes:
        start = self._at + _U64.size
        self.skip(self.number(_U64))
        return self._raw[start : self._at]

    def skip(self, count: int) -> None:
        self._at += count
        if self._at > len(self._raw):
            raise EOFError

    def skip_value(self, kind: int) -> None:
        if kind == _STRING:
            self.skip(self.number(_U64))
        elif kind == _ARRAY:
            of, count = self.number(_U32), self.number(_U64)
            if of in _FIXED:
                self.skip(_FIXED[of] * count)
            elif of == _STRING:
                for _ in range(count):
                    self.skip_value(_STRING)
            else:  # arrays of arrays have no writer
                raise _Unknown
        elif kind in _FIXED:
            self.skip(_FIXED[kind])
        else:
            raise _Unknown


def _read(cursor: _Cursor, tensors: int, pairs: int) -> Header:
    alignment = _ALIGNMENT
    for _ in range(pairs):
        key, kind = cursor.text(), cursor.number(_U32)
        if key == b"general.alignment" and kind == _UINT32:
            alignment = cursor.number(_U32)
        else:
            cursor.skip_value(kind)
    types: Counter[str] = Counter()
    last = 0
    for _ in range(tensors):
        cursor.skip_value(_STRING)
        elements, dimensions = 1, cursor.number(_U32)
        if dimensions > _MAX_DIMENSIONS:
            raise _Unknown
        for _ in range(dimensions):
            elements *= cursor.number(_U64)
        name, block, size = _TYPES.get(cursor.number(_U32), ("?", 1, 0))
        types[name] += 1
        last = max(last, cursor.number(_U64) + elements // block * size)
    padding = -cursor.at % alignment if alignment and tensors else 0
    return Header(types, cursor.at + padding + last)


__all__ = ["Header", "read_gguf"]
