"""Byte ranges: of reads (RFC 9110, 14) and of upload chunks (distribution-spec 1.1, "Pushing a blob in chunks")."""

from __future__ import annotations

import re

_ONE_RANGE = re.compile(r"bytes\s*=\s*([0-9]{0,18})\s*-\s*([0-9]{0,18})\s*\Z", re.IGNORECASE)
_CHUNK = re.compile(r"(?:bytes[ =])?([0-9]{1,18})-([0-9]{1,18})(?:/(?:[0-9]+|\*))?\Z")


class RangeUnsatisfiable(Exception):
    """The range lies outside of the content, or ends before it begins; answered with 416."""


def parse_read_range(header: str, size: int) -> tuple[int, int] | None:
    """``(start, stop)`` of a ``Range`` header over ``size`` bytes; stop is exclusive, start < stop.

    None: serve everything (no header, another unit, more than one range, not understood). Raises RangeUnsatisfiable.
    """
    match = _ONE_RANGE.match(header.strip())
    if not match or (not match[1] and not match[2]):
        return None
    if not match[1]:
        suffix = int(match[2])
        if suffix == 0 or size == 0:
            raise RangeUnsatisfiable(header)
        return max(0, size - suffix), size
    start = int(match[1])
    last = int(match[2]) if match[2] else size - 1
    if start >= size or last < start:
        raise RangeUnsatisfiable(header)
    return start, min(last + 1, size)


def parse_chunk_range(header: str) -> tuple[int, int] | None:
    """``(start, stop)`` of a ``Content-Range`` header of an upload, ``first-last``; stop is exclusive.

    Also takes the ``bytes first-last/total`` of HTTP, which some clients send. None: not understood.
    """
    match = _CHUNK.match(header.strip())
    if not match or int(match[2]) < int(match[1]):
        return None
    return int(match[1]), int(match[2]) + 1


__all__ = ["RangeUnsatisfiable", "parse_chunk_range", "parse_read_range"]
