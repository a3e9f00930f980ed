"""FlatBuffers, as far as SOCI's tables need them: written from the last byte to the first, and read with every offset
checked (FlatBuffers, "FlatBuffer Internals").

The official builders' bytes come out: a buffer grows downwards, each value is aligned to its own size counted from the
buffer's end, absent values are left out, equal vtables are written once, strings are never shared.
"""

from __future__ import annotations

import hashlib
import struct
import tempfile
from collections.abc import Iterator, Sequence
from functools import lru_cache
from operator import itemgetter
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, NamedTuple

from registry_pipelines.errors import IndexInvalid
from registry_pipelines.oci.digest import Digest

MAX_BYTES = (1 << 31) - 1
"""Offsets are 32 bits and half of them signed: no builder writes more, and none may be read."""

BLOCK_BYTES = 1 << 20
"""Written at once."""

MEMORY_BYTES = 32 << 20
"""A larger buffer waits in a file until its first byte is known."""

_OFFSETS = 1 << 14
"""Of a vector, made at once."""

_U32 = struct.Struct("<I")
_CODES = {1: "b", 4: "I", 8: "q"}


class Layout(NamedTuple):
    """Where the values of a table lie: depends on which are there, and on the position modulo 8."""

    pack: struct.Struct
    """The offset of the vtable and the values, lowest address first."""
    order: Any
    """Takes the values in that order out of all of them."""
    ends: tuple[int, ...]
    """For each value, from the table's high end to its low one, 0 where it is absent."""
    size: int
    vtable: bytes


@lru_cache(1024)
def layout(slots: tuple[int, ...], sizes: tuple[int, ...], phase: int) -> Layout:
    """Values in the order in which they are written. sizes: 1, 4, 8, or 0 for one that is absent. phase: bytes below
    which the table begins, modulo 8."""
    position, text, order, ends = 0, "", [], []
    for index, size in enumerate(sizes):
        pad = -(phase + position) % size if size else 0
        position += pad + size
        ends.append(position if size else 0)
        if size:
            text = f"{_CODES[size]}{pad}x" + text
            order.append(index)
    pad = -(phase + position) % 4
    position += pad + 4
    found = dict(zip(slots, ends, strict=True))
    last = max((slot for slot, end in found.items() if end), default=-1)
    lines = [position - found[slot] if found.get(slot) else 0 for slot in range(last + 1)]
    vtable = struct.pack(f"<{len(lines) + 2}H", 2 * len(lines) + 4, position, *lines)
    return Layout(struct.Struct(f"<i{pad}x{text}"), itemgetter(*reversed(order)), tuple(ends), position, vtable)


class Builder:
    """A buffer that is written from its end. Positions are counted from there. A context manager."""

    def __init__(self, folder: Path | None = None) -> None:
        """folder: where a large buffer waits, on a disk; the system's own one may be memory."""
        self.used = 0
        self._parts: list[bytes] = []
        self._pending = 0
        self._blocks: list[int] = []
        self._spool = tempfile.SpooledTemporaryFile(max_size=MEMORY_BYTES, dir=str(folder) if folder else None)  # noqa: SIM115 - closed with the builder
        self._vtables: dict[bytes, int] = {}

    def __enter__(self) -> Builder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._spool.close()

    def put(self, raw: bytes | memoryview) -> None:
        """Bytes below all that were written. Raises IndexInvalid when there is no more room."""
        self._parts.append(raw if isinstance(raw, bytes) else bytes(raw))
        self.used += len(raw)
        self._pending += len(raw)
        if self._pending >= BLOCK_BYTES:
            self._flush()

    def align(self, size: int, extra: int = 0) -> None:
        """So that what has ``extra`` bytes begins at a multiple of ``size``."""
        if pad := -(self.used + extra) % size:
            self.put(bytes(pad))

    def string(self, raw: bytes) -> int:
        """A string; where it lies."""
        self.align(4, len(raw) + 1)
        self.put(b"%b%b\0" % (_U32.pack(len(raw)), raw))
        return self.used

    def offsets(self, positions: Sequence[int]) -> int:
        """A vector of what lies at these positions."""
        self.align(4)
        high = self.used + 4 * len(positions)
        for end in range(len(positions), 0, -_OFFSETS):
            start = max(0, end - _OFFSETS)
            part = (high - 4 * i - positions[i] for i in range(start, end))
            self.put(struct.pack(f"<{end - start}I", *part))
        self.put(_U32.pack(len(positions)))
        return self.used

    def table(self, values: Sequence[tuple[int, int, int]], references: Sequence[int] = ()) -> int:
        """A table. values: slot, size and value, in writing order; 0 is not written. references: slots whose values
        are positions."""
        sizes = tuple(size if value else 0 for _, size, value in values)
        form = layout(tuple(slot for slot, _, _ in values), sizes, self.used % 8)
        numbers = [
            self.used + end - value if slot in references else value
            for (slot, _, value), end in zip(values, form.ends, strict=True)
        ]
        return self.place(form, numbers)

    def place(self, form: Layout, numbers: Sequence[int]) -> int:
        """A table whose layout is known. numbers: all values, references already relative."""
        at = self.used + form.size
        known = self._vtables.get(form.vtable)
        chosen = form.order(numbers)
        chosen = chosen if isinstance(chosen, tuple) else (chosen,)
        if known is not None:
            self.put(form.pack.pack(known - at, *chosen))
        else:
            self.put(form.pack.pack(len(form.vtable), *chosen))
            self.put(form.vtable)
            self._vtables[form.vtable] = self.used
        return at

    def finish(self, root: int, out: BinaryIO) -> tuple[Digest, int]:
        """Write the buffer. root: where the root table lies. Returns the digest and the size in bytes."""
        self.align(8, 4)
        self.put(_U32.pack(self.used + 4 - root))
        self._flush()
        hasher, end = hashlib.sha256(), sum(self._blocks)
        for size in reversed(self._blocks):
            end -= size
            self._spool.seek(end)
            block = self._spool.read(size)
            hasher.update(block)
            out.write(block)
        return Digest(f"sha256:{hasher.hexdigest()}"), self.used

    def _flush(self) -> None:
        if self.used > MAX_BYTES:
            raise IndexInvalid("the index would be larger than 2 GiB", do="Choose a larger span size")
        block = b"".join(reversed(self._parts))
        self._spool.write(block)
        self._blocks.append(len(block))
        self._parts, self._pending = [], 0


class Reader:
    """A buffer by others. Every method raises IndexInvalid where an offset leads out of it."""

    def __init__(self, raw: Any, *, where: str) -> None:
        self.raw = raw
        self.where = where
        self._end = len(raw)
        self._budget = 64 * len(raw)
        if self._end > MAX_BYTES:
            raise self.invalid("it is larger than 2 GiB")

    def invalid(self, why: str) -> IndexInvalid:
        """What to raise."""
        return IndexInvalid(f"the SOCI index of a layer is damaged: {why}", where=self.where, do="Make the index again")

    def root(self) -> Table:
        """The table that the first four bytes lead to."""
        return Table(self, self.follow(0))

    def follow(self, at: int) -> int:
        """Where the offset that stands at ``at`` leads to."""
        if not 0 <= at <= self._end - 4:
            raise self.invalid("an offset leads out of it")
        return at + int(_U32.unpack_from(self.raw, at)[0])

    def number(self, code: str, size: int, at: int) -> int:
        """A number."""
        if not 0 <= at <= self._end - size:
            raise self.invalid("an offset leads out of it")
        return int(struct.unpack_from(code, self.raw, at)[0])

    def vector(self, at: int, item: int) -> tuple[int, int]:
        """Where the items of a vector begin, and how many there are."""
        count = self.number("<I", 4, at)
        if count * item > self._end - at - 4:
            raise self.invalid("a vector is longer than the index")
        self.spend(count * item)
        return at + 4, count

    def spend(self, count: int) -> None:
        """So many bytes are about to be read. Parts may be shared; when all that is read is 64 times the whole buffer,
        it was made to be."""
        self._budget -= count
        if self._budget < 0:
            raise self.invalid("its parts repeat without end")

    def text(self, at: int) -> bytes:
        """A string. In one step, for an index has ten an entry."""
        start, end = at + 4, self._end
        if not 4 <= start <= end:
            raise self.invalid("an offset leads out of it")
        (count,) = _U32.unpack_from(self.raw, at)
        if count > end - start:
            raise self.invalid("a vector is longer than the index")
        self._budget -= count
        if self._budget < 0:
            self.spend(0)
        return bytes(self.raw[start : start + count])


class Table:
    """One table of a buffer."""

    __slots__ = ("_at", "_lines", "_reader")

    def __init__(self, reader: Reader, at: int) -> None:
        vtable = at - reader.number("<i", 4, at)
        size = reader.number("<H", 2, vtable)
        reader.spend(size)
        reader.number("<H", 2, vtable + size - 2)
        if size < 4 or size % 2:
            raise reader.invalid("a table has no form")
        self._reader, self._at = reader, at
        self._lines = struct.unpack_from(f"<{size // 2 - 2}H", reader.raw, vtable + 4)

    def _find(self, slot: int) -> int:
        line = self._lines[slot] if slot < len(self._lines) else 0
        return self._at + line if line else 0

    def number(self, slot: int, code: str = "<q", size: int = 8, default: int = 0) -> int:
        """A number, the default where it is absent."""
        line = self._lines[slot] if slot < len(self._lines) else 0
        return self._reader.number(code, size, self._at + line) if line else default

    def text(self, slot: int) -> bytes:
        """A string; empty where it is absent."""
        line = self._lines[slot] if slot < len(self._lines) else 0
        return self._reader.text(self._reader.follow(self._at + line)) if line else b""

    def table(self, slot: int) -> Table:
        """A table. Raises IndexInvalid where it is absent."""
        at = self._find(slot)
        if not at:
            raise self._reader.invalid("a part of it is missing")
        return Table(self._reader, self._reader.follow(at))

    def vector(self, slot: int, item: int = 4) -> tuple[int, int]:
        """Where the items of a vector begin, and how many there are; none where it is absent."""
        at = self._find(slot)
        return self._reader.vector(self._reader.follow(at), item) if at else (0, 0)

    def tables(self, slot: int) -> Iterator[Table]:
        """The tables of a vector."""
        start, count = self.vector(slot)
        for at in range(start, start + 4 * count, 4):
            yield Table(self._reader, self._reader.follow(at))

    def texts(self, slot: int) -> Iterator[bytes]:
        """The strings of a vector."""
        start, count = self.vector(slot)
        for at in range(start, start + 4 * count, 4):
            yield self._reader.text(self._reader.follow(at))


__all__ = ["Builder", "Layout", "Reader", "Table", "layout"]
