"""A tar that is being made, for a walk that goes on beside it."""

from __future__ import annotations

import threading
from collections import deque

PIECE_BYTES = 1024 * 1024
"""Bytes that are handed over at once: handing over costs a switch of threads."""

MOST_PIECES = 4
"""Pieces that wait for the walk; then the maker waits."""


class PushedTar:
    """Whoever makes a tar writes into it; a walk in another thread (``open_tar``) reads it.

    The maker never fails here: when the walk has gone (:meth:`abandon`), what is written is dropped.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._pieces: deque[memoryview] = deque()
        self._piece = bytearray()
        self._ended = False
        self._abandoned = False
        self._skip = 0

    def write(self, piece: bytes | memoryview) -> None:
        """The next bytes of the tar; they are copied, unless the walk passes over them."""
        if not self._abandoned:
            self._piece += self._wanted(piece) if self._skip else piece
            if len(self._piece) >= PIECE_BYTES:
                self._hand_over()

    def close(self) -> None:
        """No more bytes. The maker alone knows whether they are the whole tar."""
        self._hand_over()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _wanted(self, piece: bytes | memoryview) -> bytes | memoryview:
        """What is left of it behind what the walk passes over."""
        with self._changed:
            self._pass_over()
            count = min(self._skip, len(piece))
            self._skip -= count
        return piece[count:]

    def _pass_over(self) -> None:
        """In what was not handed over yet, which comes first."""
        count = min(self._skip, len(self._piece))
        del self._piece[:count]
        self._skip -= count

    def _hand_over(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: len(self._pieces) < MOST_PIECES or self._abandoned)
            self._pass_over()
            if self._piece and not self._abandoned:
                self._pieces.append(memoryview(self._piece))
                self._changed.notify_all()
        self._piece = bytearray()

    def skip(self, count: int) -> None:
        """For the walk's side: it wants none of the next ``count`` bytes, so those that are still to come are not even
        copied."""
        with self._changed:
            while count and self._pieces:
                piece = self._pieces.popleft()
                if count < len(piece):
                    self._pieces.appendleft(piece[count:])
                count -= min(count, len(piece))
            self._skip += count
            self._changed.notify_all()

    def abandon(self) -> None:
        """For the walk's side: nobody reads any more."""
        with self._changed:
            self._abandoned = True
            self._pieces.clear()
            self._changed.notify_all()

    def readinto(self, buffer: memoryview, /) -> int:
        """Fill the buffer from the front; 0 at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._pieces or self._ended)
            if not self._pieces:
                return 0
            piece = self._pieces[0]
        count = min(len(piece), len(buffer))
        buffer[:count] = piece[:count]
        with self._changed:
            if count < len(piece):
                self._pieces[0] = piece[count:]
            else:
                self._pieces.popleft()
                self._changed.notify_all()
        return count
