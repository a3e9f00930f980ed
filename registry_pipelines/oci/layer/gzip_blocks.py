"""Gzip members inflated with stops at the deflate blocks where a checkpoint may be (RFC 1952; zlib.h, Z_BLOCK)."""

from __future__ import annotations

import ctypes
import gzip
from collections.abc import Callable

from registry_pipelines.oci.layer.checkpoints import WINDOW_BYTES, Checkpoints
from registry_pipelines.oci.layer.inflate import (
    END_OF_BLOCK,
    GZIP_WINDOW,
    LAST_BLOCK,
    Z_BLOCK,
    Z_BUF_ERROR,
    Z_NO_FLUSH,
    Z_OK,
    Z_STREAM_END,
    Inflater,
)

MAX_EMPTY_BLOCKS = 65_536
"""Stops without a byte, of one layer. Flushes give a few; a gigabyte of empty blocks before the first byte would cost
half an hour, because there the rule of checkpoints looks at each."""


class GzipBlocks:
    """Uncompressed bytes of any number of gzip members; zero bytes may stand between and behind them, as gzip pads.

    A read ends where a checkpoint is due, and the next one makes it: by then whoever reads knows whether the archive
    has ended before it.
    """

    def __init__(self, next_piece: Callable[[], memoryview], checkpoints: Checkpoints) -> None:
        """next_piece: the next compressed bytes, writable memory that stays in place until it is called again; empty at
        the end. Raises ToolMissing: no library that stops at blocks."""
        self._next_piece = next_piece
        self._checkpoints = checkpoints
        self._inflater = Inflater(window_bits=GZIP_WINDOW)
        self._piece = memoryview(b"")
        self._read = 0
        self._position = 0
        self._history = b""
        self._due: tuple[int, int, int] | None = None
        self._in_member = False
        self._empty_blocks = 0
        self.padding_bytes = 0
        """Zero bytes between and behind members."""

    @property
    def is_due(self) -> bool:
        """Whether the next read begins with a checkpoint."""
        return self._due is not None

    def readinto(self, buffer: memoryview, *, ahead: bool = False) -> int:
        """Fill the buffer; less where a checkpoint is due; 0 at the end. ahead: what was read before is not looked at
        yet: also 0 where a checkpoint is due before the next byte. Raises BadGzipFile, EOFError."""
        done = 0
        while not done:
            if self._due and ahead:
                return 0
            if self._due:
                self._checkpoints.at_block(*self._due, self._history)
                self._due = None
            done = self._inflate(buffer)
            if not done and not self._due:
                self._inflater.close()
                return 0
        self._position += done
        tail = bytes(buffer[max(0, done - WINDOW_BYTES) : done])
        self._history = tail if done >= WINDOW_BYTES else (self._history + tail)[-WINDOW_BYTES:]
        return done

    def _inflate(self, buffer: memoryview) -> int:
        """Up to the buffer's end, the input's, or a block where a checkpoint is due; how many bytes came."""
        stream, checkpoints, done, size = self._inflater.stream, self._checkpoints, 0, len(buffer)
        address = ctypes.addressof(ctypes.c_char.from_buffer(buffer))
        while done < size:
            more = bool(stream.avail_in) or self._feed()
            if not self._in_member:
                if not more:
                    break
                self._begin_member()
                continue
            room = checkpoints.room(self._position + done)
            most = min(size - done, room) if room else size - done
            stream.next_out, stream.avail_out = address + done, most
            answer = self._inflater.inflate(self._inflater.pointer, Z_NO_FLUSH if room else Z_BLOCK)
            came = most - stream.avail_out
            done += came
            if answer == Z_STREAM_END:
                self._in_member = False
            elif answer not in (Z_OK, Z_BUF_ERROR):
                raise gzip.BadGzipFile((stream.msg or b"invalid data").decode("ascii", "replace"))
            elif not more and not came:
                if done:
                    break
                raise EOFError("a gzip member is cut off")
            elif not room and stream.data_type & (END_OF_BLOCK | LAST_BLOCK) == END_OF_BLOCK:
                self._empty_blocks += not came
                if self._empty_blocks > MAX_EMPTY_BLOCKS:
                    raise gzip.BadGzipFile("it consists of far too many empty blocks")
                position = self._position + done
                if checkpoints.due(position):
                    self._due = self._read - stream.avail_in, position, stream.data_type & 7
                    break
        return done

    def _feed(self) -> bool:
        """Put the next piece before the inflater; False at the end."""
        self._piece = self._next_piece()
        stream, size = self._inflater.stream, len(self._piece)
        if size:
            stream.next_in, stream.avail_in = ctypes.addressof(ctypes.c_char.from_buffer(self._piece)), size
        self._read += size
        return bool(size)

    def _begin_member(self) -> None:
        """Pass over zero bytes up to the next member, or to the end of the piece."""
        stream = self._inflater.stream
        rest = bytes(self._piece[len(self._piece) - stream.avail_in :])
        zeros = len(rest) - len(rest.lstrip(b"\0"))
        stream.next_in += zeros
        stream.avail_in -= zeros
        self.padding_bytes += zeros
        if stream.avail_in:
            self._inflater.reset()
            self._in_member = True
