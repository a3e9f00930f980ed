"""Raw deflate streams inflated piece by piece, with stops only where somebody must know of blocks (zlib.h, Z_BLOCK)."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Protocol

from registry_pipelines.oci.layer.inflate import (
    END_OF_BLOCK,
    Z_BLOCK,
    Z_BUF_ERROR,
    Z_NO_FLUSH,
    Z_OK,
    Z_STREAM_END,
    Inflater,
)

OUTPUT_BYTES = 256 * 1024
"""Fits into the second-level cache with as much input, so hashing right after inflating reads no memory."""


class Blocks(Protocol):
    """Who wants to know where blocks end."""

    def room(self, filled: int) -> int:
        """So many more bytes may come without a stop; 0: stop at the next block's end. filled: bytes that came since
        the last ones were handed on."""
        ...

    def ended(self, left: int, unused: int, filled: int) -> bool:
        """A block ended, with ``left`` bytes of the input still to come and ``unused`` bits of the byte before them.
        Answers whether that is enough."""
        ...


class Stretches:
    """An inflater and its buffer. Free it with ``close``."""

    def __init__(self) -> None:
        self.inflater = Inflater()
        output = bytearray(OUTPUT_BYTES)
        self.output = memoryview(output)
        self._address = ctypes.addressof(ctypes.c_char.from_buffer(output))

    def close(self) -> None:
        """Free the library's memory; safe to call twice."""
        self.inflater.close()

    def inflate(
        self,
        address: int,
        count: int,
        hand_on: Callable[[memoryview], object],
        blocks: Blocks | None,
        inflater: Inflater | None = None,
    ) -> bool:
        """Inflate ``count`` bytes at ``address``; without ``blocks`` at a stretch. Whether they are a deflate stream.

        hand_on: gets what came out, valid during the call only. inflater: a copy, instead of this one's own.
        """
        inflater = inflater or self.inflater
        stream = inflater.stream
        stream.next_in, stream.avail_in = address, count
        filled, enough = 0, False
        while not enough:
            room = blocks.room(filled) if blocks else OUTPUT_BYTES
            most = min(OUTPUT_BYTES - filled, room or OUTPUT_BYTES)
            stream.next_out, stream.avail_out = self._address + filled, most
            answer = inflater.inflate(inflater.pointer, Z_NO_FLUSH if room else Z_BLOCK)
            if answer not in (Z_OK, Z_STREAM_END, Z_BUF_ERROR):
                return False
            filled += most - stream.avail_out
            if blocks and not room and stream.data_type & END_OF_BLOCK:
                enough = blocks.ended(stream.avail_in, stream.data_type & 7, filled)
            enough = enough or answer == Z_STREAM_END or bool(stream.avail_out and not stream.avail_in)
            if filled and (enough or filled == OUTPUT_BYTES):
                hand_on(self.output[:filled])
                filled = 0
        return True
