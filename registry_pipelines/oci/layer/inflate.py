"""Raw inflate that stops at every deflate block, through ctypes.

Python's own zlib and zlib-ng modules cannot stop at block boundaries. The zlib-ng wheel's extension module exports the
library's functions, so it is loaded a second time as a plain shared library; that is undocumented, so it is probed
before its first use, and the system's ``libz.so.1`` (1.8 times slower, same result) serves when the probe fails, as on
platforms whose wheel exports nothing. With neither, layers are built and indexed nowhere, but read everywhere.
Sources: zlib.h (``inflate``, Z_BLOCK, ``data_type``), RFC 1951.
"""

from __future__ import annotations

import ctypes
import functools
import threading
import zlib
from collections.abc import Callable
from dataclasses import dataclass

from zlib_ng import zlib_ng

from registry_pipelines.errors import ToolMissing

Z_BLOCK = 5
Z_OK = 0
Z_STREAM_END = 1
Z_BUF_ERROR = -5
Z_NO_FLUSH = 0
END_OF_BLOCK = 128
"""Bit of ``data_type`` right after an end-of-block code; the low three bits count the unused bits of the last byte."""
LAST_BLOCK = 64
"""Bit of ``data_type`` from the last block's first bit on."""
RAW_WINDOW = -15
GZIP_WINDOW = 31
"""``windowBits`` for a raw stream and for one gzip member, whose checksum the library verifies."""


class Stream(ctypes.Structure):
    """``z_stream`` of zlib and ``zng_stream`` of zlib-ng: the same layout on 64-bit systems (112 bytes)."""

    _fields_ = [
        ("next_in", ctypes.c_void_p),
        ("avail_in", ctypes.c_uint32),
        ("total_in", ctypes.c_size_t),
        ("next_out", ctypes.c_void_p),
        ("avail_out", ctypes.c_uint32),
        ("total_out", ctypes.c_size_t),
        ("msg", ctypes.c_char_p),
        ("state", ctypes.c_void_p),
        ("zalloc", ctypes.c_void_p),
        ("zfree", ctypes.c_void_p),
        ("opaque", ctypes.c_void_p),
        ("data_type", ctypes.c_int),
        ("adler", ctypes.c_ulong),
        ("reserved", ctypes.c_ulong),
    ]


@dataclass(frozen=True)
class Library:
    """Functions of one of the two libraries."""

    name: str
    init: Callable[[ctypes.Structure, int], int]
    inflate: Callable[..., int]
    reset: Callable[..., int]
    copy: Callable[..., int]
    end: Callable[..., int]


class Inflater:
    """One inflate stream; ``stream`` is driven directly by who reads or splices. Free it with ``close``."""

    def __init__(
        self, library: Library | None = None, *, of: Inflater | None = None, window_bits: int = RAW_WINDOW
    ) -> None:
        """window_bits: RAW_WINDOW or GZIP_WINDOW. Raises ToolMissing: no library can do it."""
        self.stream = Stream()
        self.library = library or load()
        self.pointer = ctypes.byref(self.stream)
        made = self.library.copy(self.pointer, of.pointer) if of else self.library.init(self.stream, window_bits)
        if made != Z_OK:
            raise MemoryError("inflateInit2")
        self.inflate = self.library.inflate

    def reset(self) -> None:
        """Ready for the next stream."""
        self.library.reset(self.pointer)

    def copy(self) -> Inflater:
        """Another stream that stands where this one does; free it, too."""
        return Inflater(self.library, of=self)

    def close(self) -> None:
        """Free the library's memory; safe to call twice."""
        if self.stream.state:
            self.library.end(self.pointer)

    __del__ = close


def _load_zlib_ng() -> Library:
    dll = ctypes.CDLL(zlib_ng.__file__)

    def init(stream: ctypes.Structure, window_bits: int) -> int:
        return int(dll.zng_inflateInit2(ctypes.byref(stream), window_bits))

    return Library("zlib-ng", init, dll.zng_inflate, dll.zng_inflateReset, dll.zng_inflateCopy, dll.zng_inflateEnd)


def _load_zlib() -> Library:
    dll = ctypes.CDLL("libz.so.1")

    def init(stream: ctypes.Structure, window_bits: int) -> int:
        version = zlib.ZLIB_RUNTIME_VERSION.encode()
        return int(dll.inflateInit2_(ctypes.byref(stream), window_bits, version, ctypes.sizeof(Stream)))

    return Library("zlib", init, dll.inflate, dll.inflateReset, dll.inflateCopy, dll.inflateEnd)


_PROBE_TEXT = b"registry pipelines " * 30


def _probe(library: Library) -> bool:
    """Whether the library gives the right bytes and stops at the end of both blocks of a small stream."""
    compressor = zlib.compressobj(6, zlib.DEFLATED, RAW_WINDOW)
    whole = compressor.compress(_PROBE_TEXT) + compressor.flush(zlib.Z_FULL_FLUSH) + compressor.flush()
    inflater = Inflater(library)
    source = ctypes.create_string_buffer(whole, len(whole))
    target = ctypes.create_string_buffer(len(_PROBE_TEXT) + 64)
    stream = inflater.stream
    stream.next_in, stream.avail_in = ctypes.addressof(source), len(whole)
    stream.next_out, stream.avail_out = ctypes.addressof(target), len(target)
    stops = 0
    for _ in range(8):
        answer = inflater.inflate(inflater.pointer, Z_BLOCK)
        stops += bool(stream.data_type & END_OF_BLOCK)
        if answer != Z_OK:
            break
    right = target.raw[: len(_PROBE_TEXT)] == _PROBE_TEXT and stream.total_out == len(_PROBE_TEXT)
    inflater.close()
    return answer == Z_STREAM_END and right and stops >= 3 and stream.avail_in == 0


def load() -> Library:
    """The fastest library that passes the probe; found once. Raises ToolMissing when none does."""
    with _lock:
        return _found()


def stops_at_blocks() -> bool:
    """Whether there is such a library: whoever can do without asks before."""
    try:
        load()
    except ToolMissing:
        return False
    return True


_lock = threading.Lock()


@functools.cache
def _found() -> Library:
    for loader in (_load_zlib_ng, _load_zlib):
        try:
            library = loader()
            if _probe(library):
                return library
        except (OSError, AttributeError, MemoryError):
            continue
    raise ToolMissing(
        "neither zlib-ng's library nor libz.so.1 can stop at deflate blocks",
        do="Install the zlib-ng wheel for this platform, or the system's zlib (zlib1g on Debian)",
    )
