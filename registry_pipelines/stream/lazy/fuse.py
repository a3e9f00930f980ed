"""A tree of files served to the kernel by the FUSE protocol, straight from /dev/fuse; read-only.

The kernel asks once for each name and each attribute and may keep the answers for ever; nothing is opened at the server
(``NO_OPEN_SUPPORT``; but see ``passthrough``), so a file that was read once costs no question for its content. Content
goes out by ``writev`` from the store's map. What is not here yet is waited for in threads of its own, so that a slow
registry stops nobody else; who waits and is killed gets EINTR, so that the kernel lets go of it (it waits for the
answer in a state that no signal ends).
"""

from __future__ import annotations

import errno
import logging
import os
import stat
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec

from registry_pipelines.errors import RegistryPipelinesError
from registry_pipelines.stream.lazy import fuse_wire as wire
from registry_pipelines.stream.lazy.fuse_memory import PASSES, READY, RESENDS, Memory
from registry_pipelines.stream.lazy.fuse_tree import Served
from registry_pipelines.stream.lazy.fuse_wire import FOREVER_S, Op
from registry_pipelines.stream.lazy.namespaces import group_ids, user_ids
from registry_pipelines.stream.lazy.pages_ahead import PagesAhead, Placed
from registry_pipelines.stream.lazy.passthrough import RELEASE_IN, Copies, Passthrough
from registry_pipelines.stream.lazy.sequences import Sequences

READ_AHEAD_BYTES = 32 << 10
"""What the kernel reads beyond what was asked for, where no hot pack says otherwise (``touched.WINDOW_BYTES``). More
means more pieces of a layer for a start, less means more questions."""

WHOLE_READ_AHEAD_BYTES = 128 << 10
"""The same where all of the image is here: the kernel's own for a disk."""

SERVING_THREADS = 3
"""For all that is answered from memory; while one copies into the kernel, Python runs another."""

WAITING_THREADS = 64
"""Readers that may wait for a registry at the same time; more wait for one of these."""

AGAIN_S = 0.2
"""An interrupt is asked about again after this, while its process lives and its answer is under way."""

BLOCK_BYTES = 512

_MOST_PARTS = 500
"""Buffers that one writev takes, at most 1,024 (IOV_MAX)."""

_KIND_SHIFT = 12
_SIGKILL = 1 << 8
_log = logging.getLogger(__name__)


class Refused(Exception):
    """The answer is an error. number: errno."""

    def __init__(self, number: int) -> None:
        super().__init__(os.strerror(number))
        self.number = number


class _Waiting(msgspec.Struct):
    """Requests whose answers are under way, by unique number; each with the thread that waits for it."""

    lock: threading.Lock = msgspec.field(default_factory=threading.Lock)
    requests: dict[int, int] = msgspec.field(default_factory=dict)


class FuseServer:
    """Serves one mount. ``device``: /dev/fuse, opened and mounted. copies: where large files may have copies of their
    own; reads of those are not asked here. See :meth:`run`."""

    def __init__(
        self,
        device: int,
        served: Served,
        *,
        copies: Copies | None = None,
        read_ahead_bytes: int = READ_AHEAD_BYTES,
        memory: Memory | None = None,
        alone: bool = False,
    ) -> None:
        """memory: where this one leaves what the next server of the mount must know; or where another one left it,
        which is gone and whose requests are asked again (``Memory.recover``). The tree is the same then, number by
        number. alone: nobody sees the mount but a program that is started on it."""
        self._device = device
        self._own_memory = Memory() if memory is None else None
        self._memory = memory or self._own_memory or Memory()
        self._read_ahead_bytes, self._alone = read_ahead_bytes, alone
        self._sequence = Sequences()
        self._copies = copies
        self._passthrough: Passthrough | None = None
        self._served = served
        self._users, self._groups = user_ids(), group_ids()
        self._waiting = _Waiting()
        self._pool = ThreadPoolExecutor(WAITING_THREADS, thread_name_prefix="lazy-read")
        self._listing: tuple[int, Sequence[tuple[bytes, int]]] = (0, ())
        self.ahead: PagesAhead | None = None
        """See :meth:`pages_ahead`."""
        self.failed_reads = 0
        """Reads that ended with EIO."""
        self._left = self._records = False
        self.ready = threading.Event()
        """The kernel has begun to ask."""
        self._answers: dict[int, Callable[[int, memoryview], Sequence[bytes | memoryview]]] = {
            Op.LOOKUP: self._lookup,
            Op.GETATTR: self._getattr,
            Op.READLINK: self._readlink,
            Op.STATFS: self._statfs,
            Op.GETXATTR: self._getxattr,
            Op.LISTXATTR: self._listxattr,
            Op.READDIR: self._readdir,
            Op.READDIRPLUS: self._readdirplus,
            Op.INIT: self._init,
            Op.OPEN: self._open,
            Op.DESTROY: lambda node, body: (),
        }
        self._memory.begin()
        if self._memory.flags & READY:
            self._agreed()

    @property
    def copied_bytes(self) -> int:
        """Of files that have copies of their own, and were opened here."""
        return self._passthrough.copied_bytes if self._passthrough else 0

    def run(self) -> None:
        """Serve until the mount is gone. Blocks; in a thread or in the main one."""
        threads = [
            threading.Thread(target=self._serve, args=(number,), name=f"fuse-{number}", daemon=True)
            for number in range(SERVING_THREADS)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self._pool.shutdown(wait=False, cancel_futures=True)
        if self.ahead is not None:
            self.ahead.close()
        if self._passthrough is not None:
            self._passthrough.close()
        if self._own_memory is not None:
            self._own_memory.close()

    def leave(self) -> None:
        """Answer nothing any more with an error: this process ends, and another one will serve the mount."""
        self._left = True

    def pages_ahead(self, placed: Placed) -> PagesAhead:
        """What gives the kernel pages before it asks for them, while this serves; before :meth:`run`."""
        self.ahead = PagesAhead(placed, self._store)
        return self.ahead

    def _store(self, number: int, offset: int, size: int) -> bool:
        """See ``pages_ahead.Store`` (``FUSE_NOTIFY_STORE``: Linux, fs/fuse/dev.c)."""
        content = self._served.view(number, offset, size)
        if content is None:
            return True
        length = wire.REPLY.size + wire.STORE_OUT.size + size
        head = wire.REPLY.pack(length, wire.NOTIFY_STORE, 0) + wire.STORE_OUT.pack(number, offset, size, 0)
        try:
            os.writev(self._device, [head, content])
        except OSError as error:
            if error.errno in (errno.ENODEV, errno.EBADF):  # unmounted
                raise
            return error.errno != errno.ENOENT
        return True

    def _serve(self, reader: int) -> None:
        view = self._memory.reading(reader)
        while True:
            try:
                count = os.readv(self._device, [view])
            except OSError as error:
                if error.errno in (errno.ENOENT, errno.EINTR, errno.EAGAIN):  # an interrupted request
                    continue
                if error.errno != errno.ENODEV:  # ENODEV: unmounted
                    _log.error("the kernel does not talk to the mount any more: %s", error.strerror)
                return
            if count < wire.HEAD.size or self._left:  # who comes next is asked it again
                return
            _, operation, unique, node, _, _, process, _, _ = wire.HEAD.unpack_from(view)
            self._answer(operation, unique, node, process, view[wire.HEAD.size : count])
            if self._records and not self._left:
                self._memory.answered(reader)

    def _answer(self, operation: int, unique: int, node: int, process: int, body: memoryview) -> None:
        if operation in (Op.FORGET, Op.BATCH_FORGET):
            return
        if operation == Op.INTERRUPT:
            self._interrupt(unique, *wire.INTERRUPT_IN.unpack_from(body))
            return
        try:
            if operation == Op.READ:
                self._read(unique, node, process, body)
                return
            if operation == Op.RELEASE:
                self._release(unique, node, body)
                return
            answer = self._answers.get(operation)
            if answer is None:
                raise Refused(errno.ENOSYS)  # what would write ends in the kernel: the mount is read-only
            self._reply(unique, *answer(node, body))
        except Refused as refused:
            self._fail(unique, refused.number)
        except LookupError:
            self._fail(unique, errno.ENOENT)
        except Exception:  # one request must not end the mount of all
            _log.exception("a request of the kernel failed (operation %s)", operation)
            self._fail(unique, errno.EIO)

    def _reply(self, unique: int, *parts: bytes | memoryview) -> None:
        length = wire.REPLY.size + sum(map(len, parts))
        self._send([wire.REPLY.pack(length, 0, unique), *parts])

    def _fail(self, unique: int, number: int) -> None:
        if self._left:
            return
        self._send([wire.REPLY.pack(wire.REPLY.size, -number, unique)])

    def _send(self, parts: Sequence[bytes | memoryview]) -> None:
        try:
            os.writev(self._device, parts)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENODEV, errno.EBADF):  # whoever asked is gone; unmounted
                raise

    def _init(self, node: int, body: memoryview) -> Sequence[bytes]:
        major, _, _, flags = wire.INIT_IN.unpack_from(body)
        if major < wire.MAJOR:
            raise Refused(errno.EPROTO)
        if major > wire.MAJOR:  # the kernel asks again with ours
            return (wire.INIT_OUT.pack(wire.MAJOR, wire.MINOR, *[0] * 15),)
        background = WAITING_THREADS
        offered = self._offered(flags, body)
        wanted, more = flags & wire.WANTED, offered & wire.ALLOW_IDMAP_2
        if self._copies is not None and offered & wire.PASSTHROUGH_2:
            more |= wire.PASSTHROUGH_2
            self._memory.set(PASSES)
        if more:
            wanted |= wire.INIT_EXT
        self._memory.set(READY | (RESENDS if offered & wire.HAS_RESEND_2 else 0))
        self._agreed()
        return (
            wire.INIT_OUT.pack(
                *(wire.MAJOR, wire.MINOR, self._read_ahead_bytes, wanted),
                *(background, background * 3 // 4, 4096, 1, 0, 0, more),
                *(int(bool(more & wire.PASSTHROUGH_2)), *[0] * 6),
            ),
        )

    def _offered(self, flags: int, body: memoryview) -> int:
        """The kernel's second word of flags, for root of the machine; others may use nothing of it."""
        if not flags & wire.INIT_EXT or os.geteuid() != 0 or not self._users.every:
            return 0
        return int(wire.INIT_IN_2.unpack_from(body, wire.INIT_IN.size)[0])

    def _agreed(self) -> None:
        """What kernel and server know of each other is in the memory."""
        flags = self._memory.flags
        self._records = not flags & RESENDS
        if flags & PASSES and self._copies is not None:
            self._passthrough = Passthrough(self._device, self._copies, self._memory)
        self.ready.set()

    def _open(self, node: int, body: memoryview) -> Sequence[bytes]:
        if self._passthrough is None:
            raise Refused(errno.ENOSYS)  # the kernel opens files without a question from now on
        found = self._served.node(node)
        if self.ahead is not None:
            self.ahead.opened(node)
        return (self._passthrough.open(node, found.mode, found.size),)

    def _release(self, unique: int, node: int, body: memoryview) -> None:
        (handle,) = RELEASE_IN.unpack_from(body)
        self._reply(unique)  # first: who is killed in between counts it as open for ever, and never twice as closed
        if self._passthrough is not None:
            self._passthrough.release(node, handle)

    def _attributes(self, number: int) -> bytes:
        node = self._served.node(number)
        size = node.size
        seconds, nanoseconds = divmod(node.mtime_ns, 10**9)
        seconds &= (1 << 64) - 1  # before 1970
        return wire.ATTR.pack(
            *(number, size, -(-size // BLOCK_BYTES), seconds, seconds, seconds),
            *(nanoseconds, nanoseconds, nanoseconds, node.mode, node.nlink),
            *(self._users.shown(node.uid), self._groups.shown(node.gid)),
            *(node.rdev & 0xFFFFFFFF, 4096, 0),
        )

    def _entry(self, number: int) -> bytes:
        if self.ahead is not None:
            self.ahead.known(number)
        return wire.ENTRY.pack(number, 0, FOREVER_S, FOREVER_S, 0, 0) + self._attributes(number)

    def _lookup(self, node: int, body: memoryview) -> Sequence[bytes]:
        found = self._served.lookup(node, bytes(body[:-1]))
        if found is None:  # node 0: the kernel keeps that there is nothing
            return (wire.ENTRY.pack(0, 0, FOREVER_S, 0, 0, 0) + bytes(wire.ATTR.size),)
        return (self._entry(found),)

    def _getattr(self, node: int, body: memoryview) -> Sequence[bytes]:
        return (wire.ATTR_VALID.pack(FOREVER_S, 0, 0), self._attributes(node))

    def _readlink(self, node: int, body: memoryview) -> Sequence[bytes]:
        found = self._served.node(node)
        if not stat.S_ISLNK(found.mode):
            raise Refused(errno.EINVAL)
        return (found.target,)

    def _statfs(self, node: int, body: memoryview) -> Sequence[bytes]:
        blocks = -(-self._served.content_bytes // 4096)
        return (wire.STATFS_OUT.pack(blocks, 0, 0, self._served.nodes, 0, 4096, 255, 4096, *[0] * 7),)

    def _getxattr(self, node: int, body: memoryview) -> Sequence[bytes]:
        if not self._served.any_xattrs:
            # With ENOSYS the kernel asks no more: a start through an overlay waits for 8,000 answers, 2,500 of them
            # about attributes of the overlay's own. But programs read EOPNOTSUPP then, by which a container's changes
            # cannot be found (containerd's differ, Docker's commit and build).
            raise Refused(errno.ENOSYS if self._alone else errno.ENODATA)
        size, _ = wire.XATTR_IN.unpack_from(body)
        value = self._served.node(node).xattrs.get(bytes(body[wire.XATTR_IN.size : -1]))
        if value is None:
            raise Refused(errno.ENODATA)
        return _sized(value, size)

    def _listxattr(self, node: int, body: memoryview) -> Sequence[bytes]:
        size, _ = wire.XATTR_IN.unpack_from(body)
        return _sized(b"".join(name + b"\0" for name in self._served.node(node).xattrs), size)

    def _readdir(self, node: int, body: memoryview) -> Sequence[bytes]:
        return self._entries(node, body, plus=False)

    def _readdirplus(self, node: int, body: memoryview) -> Sequence[bytes]:
        return self._entries(node, body, plus=True)

    def _entries(self, node: int, body: memoryview, *, plus: bool) -> Sequence[bytes]:
        _, offset, room = wire.READ_IN.unpack_from(body)
        listed, children = self._listing
        if listed != node:
            children = self._served.children(node)
            self._listing = (node, children)
        parts: list[bytes] = []
        for index in range(offset, len(children) + 2):
            if index < 2:
                name, number = (b".", node) if index == 0 else (b"..", self._served.parent(node))
            else:
                name, number = children[index - 2]
            kind = self._served.node(number).mode >> _KIND_SHIFT
            part = wire.DIRENT.pack(number, index + 1, len(name), kind) + name + bytes(-len(name) % 8)
            if plus:
                # For `.` and `..` the kernel wants no node.
                part = (self._entry(number) if index > 1 else bytes(wire.ENTRY.size + wire.ATTR.size)) + part
            room -= len(part)
            if room < 0:
                break
            parts.append(part)
        return parts if len(parts) < _MOST_PARTS else (b"".join(parts),)

    def _read(self, unique: int, number: int, process: int, body: memoryview) -> None:
        _, offset, size = wire.READ_IN.unpack_from(body)
        node = self._served.node(number)
        if not stat.S_ISREG(node.mode):
            raise Refused(errno.EISDIR if stat.S_ISDIR(node.mode) else errno.EINVAL)
        size = max(min(size, node.size - offset), 0)
        if not size:
            self._reply(unique)
            return
        view = self._served.view(number, offset, size)
        if view is not None:
            self._reply(unique, view)
            wanted = self._sequence.next_wanted(number, offset, offset + size, node.size)
            if wanted is not None:
                self._served.soon(number, wanted[0], wanted[1] - wanted[0])
            return
        with self._waiting.lock:
            self._waiting.requests[unique] = process
        if self._records and not self._memory.add(unique):
            self._fetch(unique, number, offset, size)
            return
        self._pool.submit(self._fetch, unique, number, offset, size)

    def _fetch(self, unique: int, number: int, offset: int, size: int) -> None:
        """Wait for content, in a thread of the pool."""
        found: bytes | None = None
        if unique in self._waiting.requests:
            try:
                found = self._served.read(number, offset, size)
            except RegistryPipelinesError as error:
                _log.error("a read ends with EIO: %s", error)
            except Exception:
                _log.exception("a read ends with EIO")
        with self._waiting.lock:
            if self._waiting.requests.pop(unique, None) is None:  # it was interrupted, and has its answer
                return
        if found is None:
            self.failed_reads += 1
            self._fail(unique, errno.EIO)
        else:
            self._reply(unique, found)
        if self._records and not self._left:
            self._memory.remove(unique)

    def _interrupt(self, own: int, unique: int) -> None:
        """A signal came for who waits. Reads of files are not interrupted for a handler's sake, so only who is being
        killed gets EINTR; for others the kernel is told to ask again."""
        process = self._waiting.requests.get(unique)
        if process is None:
            return
        if _is_dying(process):
            with self._waiting.lock:
                waited = self._waiting.requests.pop(unique, None) is not None
            if waited:
                self._fail(unique, errno.EINTR)
                self._memory.remove(unique)
            return
        again = threading.Timer(AGAIN_S, self._fail, (own, errno.EAGAIN))
        again.daemon = True
        again.start()


def _sized(value: bytes, size: int) -> Sequence[bytes]:
    if not size:
        return (wire.XATTR_OUT.pack(len(value), 0),)
    if len(value) > size:
        raise Refused(errno.ERANGE)
    return (value,)


def _is_dying(thread: int) -> bool:
    """Whether a thread is gone or is being killed. Signals that end a program are SIGKILL by the time that they are
    pending for its threads."""
    try:
        text = Path(f"/proc/{thread}/status").read_bytes()
    except OSError:
        return True
    pending = [int(line.split()[1], 16) for line in text.splitlines() if line.startswith((b"SigPnd:", b"ShdPnd:"))]
    return any(mask & _SIGKILL for mask in pending)


__all__ = ["FuseServer"]
