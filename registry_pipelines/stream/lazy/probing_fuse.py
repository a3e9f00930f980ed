"""A tree of three files over FUSE, by which it is tried what a kernel does of the protocol; no image is served so.

Sources: Linux, include/uapi/linux/fuse.h and fs/fuse/dev.c; its Documentation/filesystems/fuse-passthrough.rst.
"""

from __future__ import annotations

import errno
import os
import stat
import tempfile
import threading
from contextlib import suppress
from pathlib import Path

from registry_pipelines.arrivals import is_ready
from registry_pipelines.stream.lazy import fuse_wire as wire
from registry_pipelines.stream.lazy.fuse_memory import Memory
from registry_pipelines.stream.lazy.fuse_wire import FOREVER_S, Op
from registry_pipelines.stream.lazy.passthrough import LEAST_BYTES, OPEN_OUT, RELEASE_IN, Passthrough

KEPT, PASSED, AGAIN = "kept", "passed", "again"
"""The files: given to the kernel before it is read; read by the kernel from another one; asked for twice."""
KEPT_BYTES = 4096
ASKED, GIVEN, COPIED = b"asked", b"given", b"copied"
"""What a file begins with, by who gave it."""
RESENT = 1 << 63
"""Of the number of a request that is asked again."""
WAIT_S = 10.0

_KEPT, _PASSED = 2, 3
_NUMBERS = {KEPT.encode(): _KEPT, PASSED.encode(): _PASSED}
_KEEP_CACHE = 1 << 1
_SIZES = {_KEPT: KEPT_BYTES, _PASSED: LEAST_BYTES}


class TriedFuse:
    """Serves such a tree on a device in a thread of its own, until that is closed or unmounted. copies: a folder on a
    disk."""

    def __init__(self, device: int, copies: Path) -> None:
        self.version = ""
        """Of the protocol that the kernel speaks."""
        self.offers = 0
        """The second word of its flags."""
        self.asked: list[int] = []
        """Files that it asked the content of."""
        self.resent = ""
        """Empty: it did not ask again, for no reason that is known."""
        self.was_resent = False
        self.ready = threading.Event()
        self._device, self._copies = device, copies
        self._passthrough: Passthrough | None = None
        self._thread = threading.Thread(target=self._serve, name="tried_fuse", daemon=True)
        self._thread.start()

    def keep(self) -> None:
        """Give the kernel the page of a file that it knows. Raises OSError."""
        content = GIVEN.ljust(KEPT_BYTES)
        length = wire.REPLY.size + wire.STORE_OUT.size + len(content)
        head = wire.REPLY.pack(length, wire.NOTIFY_STORE, 0) + wire.STORE_OUT.pack(_KEPT, 0, len(content), 0)
        os.writev(self._device, [head, content])

    def unpacked(self, number: int) -> int | None:
        """See ``passthrough.Copies``."""
        with tempfile.TemporaryFile(dir=self._copies) as file:
            file.write(COPIED)
            file.truncate(LEAST_BYTES)
            file.flush()
            return os.dup(file.fileno())

    def unpack(self, number: int) -> bool:
        """See ``passthrough.Copies``."""
        return False

    def join(self) -> None:
        """Behind the unmount."""
        self._thread.join(WAIT_S)

    def _serve(self) -> None:
        buffer = bytearray(wire.REQUEST_BYTES)
        with suppress(OSError):  # ENODEV: unmounted
            while True:
                count = os.readv(self._device, [buffer])
                _, operation, unique, node, *_ = wire.HEAD.unpack_from(buffer)
                try:
                    self._answer(operation, unique, node, bytes(buffer[wire.HEAD.size : count]))
                except OSError as error:
                    if error.errno != errno.ENOENT:  # whoever asked is gone
                        raise

    def _answer(self, operation: int, unique: int, node: int, body: bytes) -> None:
        if operation == Op.INIT:
            self._reply(unique, self._init(body))
        elif operation == Op.LOOKUP:
            self._lookup(unique, body[:-1])
        elif operation == Op.GETATTR:
            self._reply(unique, wire.ATTR_VALID.pack(FOREVER_S, 0, 0) + _attributes(node))
        elif operation == Op.OPEN:
            self._reply(unique, self._open(node))
        elif operation == Op.READ:
            self.asked.append(node)
            self._reply(unique, ASKED.ljust(min(KEPT_BYTES, wire.READ_IN.unpack_from(body)[2])))
        elif operation == Op.STATFS:
            self._reply(unique, wire.STATFS_OUT.pack(1, 0, 0, 3, 0, 4096, 255, 4096, *[0] * 7))
        elif operation == Op.RELEASE:
            if self._passthrough is not None:
                self._passthrough.release(node, RELEASE_IN.unpack_from(body)[0])
            self._reply(unique, b"")
        elif operation not in (Op.FORGET, Op.BATCH_FORGET, Op.INTERRUPT):
            self._fail(unique, errno.ENOSYS)

    def _init(self, body: bytes) -> bytes:
        major, minor, _, flags = wire.INIT_IN.unpack_from(body)
        self.version = f"{major}.{minor}"
        if flags & wire.INIT_EXT:
            self.offers = wire.INIT_IN_2.unpack_from(body, wire.INIT_IN.size)[0]
        more = self.offers & (wire.PASSTHROUGH_2 | wire.ALLOW_IDMAP_2)
        if self.offers & wire.PASSTHROUGH_2:
            self._passthrough = Passthrough(self._device, self, Memory())
        wanted = flags & wire.INIT_EXT
        self.ready.set()
        return wire.INIT_OUT.pack(
            *(wire.MAJOR, wire.MINOR, 1 << 17, wanted, 16, 12, 4096, 1, 0, 0, more),
            *(int(bool(more & wire.PASSTHROUGH_2)), *[0] * 6),
        )

    def _lookup(self, unique: int, name: bytes) -> None:
        if name == AGAIN.encode():
            self._ask_again(unique)
            return
        number = _NUMBERS.get(name)
        if number is None:
            self._fail(unique, errno.ENOENT)
            return
        self._reply(unique, wire.ENTRY.pack(number, 0, FOREVER_S, FOREVER_S, 0, 0) + _attributes(number))

    def _ask_again(self, unique: int) -> None:
        if unique & RESENT:
            self.was_resent = True
            self._fail(unique, errno.ENOENT)
            return
        try:
            os.write(self._device, wire.REPLY.pack(wire.REPLY.size, wire.NOTIFY_RESEND, 0))
        except OSError as error:
            self.resent = error.strerror or ""
            self._fail(unique, errno.ENOENT)
            return
        if not is_ready(self._device, WAIT_S):
            self._fail(unique, errno.ENOENT)

    def _open(self, node: int) -> bytes:
        if node == _PASSED and self._passthrough is not None:
            return self._passthrough.open(node, stat.S_IFREG, LEAST_BYTES)
        return OPEN_OUT.pack(0, _KEEP_CACHE, 0)

    def _reply(self, unique: int, content: bytes) -> None:
        os.writev(self._device, [wire.REPLY.pack(wire.REPLY.size + len(content), 0, unique), content])

    def _fail(self, unique: int, number: int) -> None:
        os.write(self._device, wire.REPLY.pack(wire.REPLY.size, -number, unique))


def _attributes(number: int) -> bytes:
    folder = number not in _SIZES
    mode, size = (stat.S_IFDIR | 0o755, 0) if folder else (stat.S_IFREG | 0o644, _SIZES[number])
    return wire.ATTR.pack(number, size, size // 512, *[0] * 6, mode, 2 if folder else 1, 0, 0, 0, 4096, 0)


def first_bytes(path: Path) -> bytes:
    """What a file begins with. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(descriptor, max(map(len, (ASKED, GIVEN, COPIED))))
    finally:
        os.close(descriptor)


__all__ = ["AGAIN", "COPIED", "GIVEN", "KEPT", "PASSED", "TriedFuse", "first_bytes"]
