"""An image mounted by the kernel itself, as EROFS from a plain file whose holes are filled when they are read.

The kernel asks before each read of the file (``fanotify_wire``), and this process answers when the bytes are there; a
read whose bytes cannot be had ends with EIO. What must never be is that a hole is read, for it reads as zeros: so the
file is watched before it is mounted, a watch is proved to work before (``watch_proof``), the queue has no limit, a
holder outlives this process (``guard``), after a loss of all of them a mount is taken away and never watched again, and
the watch ends when the file is complete and synced.
"""

from __future__ import annotations

import logging
import os
import select
import threading
import time
from collections.abc import Callable, Container
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path

from registry_pipelines.errors import DiskFull, LocalError, RegistryPipelinesError
from registry_pipelines.oci.files import local_errors
from registry_pipelines.stream.lazy import fanotify_wire as fan
from registry_pipelines.stream.lazy.answering import Apart
from registry_pipelines.stream.lazy.backing import BackingFile
from registry_pipelines.stream.lazy.fanotify_wire import Event, Taken
from registry_pipelines.stream.lazy.guard import PATIENCE_S, Begun, Guard, TakenOver, listen_for
from registry_pipelines.stream.lazy.holder import Held
from registry_pipelines.stream.lazy.mounting import (
    EROFS_KIND,
    MS_NODEV,
    MS_NOSUID,
    MS_RDONLY,
    mount,
    naming_settings,
    unmount,
)

WAITING_THREADS = 64
"""Readers that may wait for a registry at the same time; more wait for one of these."""

MOST_TAKEN = 400
"""Reads that are taken at the same time, each with a descriptor; more wait in the kernel."""

LOOK_EVERY_S = 0.5
"""How often it is asked whether anybody has the mount still."""

COPY_BYTES = 8 << 20
"""Of what the store has, copied at once in the background."""

REST_S = 30.0
"""How long the background rests when the disk took nothing."""

END_S = 2.0
"""How long those that fill are waited for at the end."""

_log = logging.getLogger(__name__)


def mount_file(file: BackingFile, folder: Path) -> None:
    """Mount it by mount(2), which reads the file itself: a loop device, as mount(8) makes, would never ask. Raises
    LocalError."""
    try:
        with naming_settings(folder, EROFS_KIND):
            mount(str(file.path), folder, EROFS_KIND, MS_RDONLY | MS_NOSUID | MS_NODEV)
    except OSError as error:
        raise LocalError(f"the image cannot be mounted as EROFS: {error.strerror}", where=str(folder)) from error


class WatchedMount:
    """A file that is mounted, and what answers who reads it. See :meth:`run`."""

    def __init__(
        self,
        file: BackingFile,
        folder: Path,
        *,
        log: Callable[[str], object],
        below: Path | None = None,
        sockets: Path | None = None,
        socket: str = "",
        told: str = "",
        patience_s: float = PATIENCE_S,
        taken: TakenOver | None = None,
        begun: Begun | None = None,
        apart: Apart | None = None,
        asked: Callable[[int, int], object] | None = None,
    ) -> None:
        """It mounts the file on the folder; or goes on with a mount of the same file that was ``taken`` over. log: is
        told in one line what a person must know. below, told: see ``guard.Guard``. sockets: the folder of the socket
        where another process can take over, when this one was killed; None: none can, and reads fail then. socket: its
        name there, see ``guard.listen_for``. begun: a holder, for these folders. asked: is told offset and size of each
        read before it is answered; quick, for readers wait for it. apart: answers in a process of its own what can be
        answered at once; not of a mount that was taken over, and not with ``asked``.

        Raises LocalError: nothing is mounted then.
        """
        self.failed_reads = 0
        """Reads that ended with EIO."""
        self.ahead: Container[int] = ()
        """Threads of this process that only read ahead: what is not in the file is refused to them."""
        self.named = True
        """Whether it is mounted on its folder still: another mount may be there."""
        self.watched = True
        """Whether the kernel still asks: not, once the file is complete and synced."""
        self._file, self._folder, self._log_line = file, folder, log
        self._asked = asked
        self._answering = threading.Lock()
        self._pending: dict[int, Event] = {}
        """Reads that are taken, by their number; what was not taken by this process may lose its number to another."""
        self._ended = threading.Event()
        self._woken = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._poll, self._polled = select.poll(), list[int]()
        self._pool = ThreadPoolExecutor(WAITING_THREADS, thread_name_prefix="lazy-read")
        self._told_full = False
        self._foreign: set[int] = set()
        """Numbers of them that mean something else in this process, or nothing."""
        self._apart: Apart | None = None
        with ExitStack() as undo:
            self._is_taken_over = taken is not None
            if taken is not None:
                self._group, self._taken = taken.held.group, Taken(taken.held.taken)
            else:
                self._group = self._watch(undo)
                self._taken = Taken()
                undo.callback(self._taken.close)
            self._guard = Guard(
                Held(self._group, *file.descriptors, self._taken.memory, self._listener(sockets, socket, taken, undo)),
                folder,
                below=below,
                patience_s=patience_s if sockets else 0.0,
                told=told,
                filler=taken.filler if taken else None,
                begun=begun,
            )
            undo.callback(self._guard.done)
            if taken is None:
                self._begin_apart(apart)
                undo.callback(self._end_apart)
                mount_file(file, folder)
            undo.pop_all()

    def _begin_apart(self, apart: Apart | None) -> None:
        if apart is None or self._asked is not None:
            return
        with local_errors(self._file.path):
            bits = self._file.open_bits()
        apart.begin(self._group, self._taken.memory, bits, self._guard.fileno(), self._file.layout.size)
        os.close(bits)
        self._apart = apart

    def _end_apart(self) -> None:
        """From now on nobody else reads the group's questions."""
        if self._apart is not None:
            apart, self._apart = self._apart, None
            apart.end()

    def _watch(self, undo: ExitStack) -> int:
        """Before anybody can have the file open, who would never be asked."""
        try:
            group = fan.open_group()
            undo.callback(os.close, group)
            fan.watch(group, self._file.descriptors[0])
        except OSError as error:
            raise LocalError(f"the file cannot be watched: {error.strerror}", where=str(self._file.path)) from error
        return group

    def _listener(self, sockets: Path | None, name: str, taken: TakenOver | None, undo: ExitStack) -> int:
        if taken is not None:
            return taken.held.listener
        if sockets is None:
            return -1
        listener = listen_for(sockets, self._folder, name)
        undo.callback(os.close, listener)
        return listener

    def run(self) -> None:
        """Answer until nobody has the mount any more, or :meth:`end`. Blocks; in a thread or in the main one."""
        if self._is_taken_over:  # it asks the kernel once for each number: readers of a new mount would wait for that
            self._recover()
        looked = time.monotonic()
        while not self._ended.is_set():
            self._wait()
            if time.monotonic() - looked >= LOOK_EVERY_S and not self._ended.is_set():
                looked = time.monotonic()
                if self._guard.fileno() < 0:
                    self._hear()
                if not fan.is_read(self._file.descriptors[0]):
                    return

    def _wait(self) -> None:
        """For reads, for a word of the holder, or for room for more reads."""
        wanted = [self._woken]
        if (apart := self._apart) is not None:
            wanted.append(apart.fileno())
        elif len(self._pending) < MOST_TAKEN:
            wanted.append(self._group)
        if self.watched and self._guard.fileno() >= 0:
            wanted.append(self._guard.fileno())
        if wanted != self._polled:
            self._poll, self._polled = select.poll(), wanted
            for each in wanted:
                self._poll.register(each, select.POLLIN)
        for descriptor, _ in self._poll.poll(int(LOOK_EVERY_S * 1000)):
            if descriptor == self._group:
                self._take()
            elif descriptor == self._woken:
                os.eventfd_read(self._woken)
            elif apart is not None and descriptor == apart.fileno():
                self._hear_apart(apart)
            else:
                self._hear()

    def _hear_apart(self, apart: Apart) -> None:
        events = apart.told()
        if events is None:  # it was killed, or nobody asked for long
            self._answer_alone()
            return
        for event in events:
            self._foreign.add(event.descriptor)
            if not self._answered_at_once(event):
                self._begin(event)

    def _answer_alone(self) -> None:
        with self._answering:
            if self._ended.is_set():
                return
            self._end_apart()
        self._recover()

    def _hear(self) -> None:
        with self._answering:
            if not self.watched or self._ended.is_set():
                return
            try:
                self._guard.hear()
            except LocalError as error:
                self._log_line(str(error))
            if self._apart is not None and self._guard.fileno() >= 0:
                self._apart.keep(self._guard.fileno())

    def _recover(self) -> None:
        """Answer what a process before this one took: what it knew of is filled, all else fails."""
        left = self._taken.all()
        known = {event.descriptor for event in left}
        fan.deny_unanswered(self._group, [number for number in range(fan.SLOTS) if number not in known])
        for event in left:
            try:
                os.fstat(event.descriptor)
                self._foreign.add(event.descriptor)
            except OSError:  # no other read gets the number
                os.dup2(self._woken, event.descriptor, inheritable=False)
                self._foreign.discard(event.descriptor)
            self._pending[event.descriptor] = event
        for event in left:
            self._begin(event)

    def _take(self) -> None:
        try:
            events = fan.events(self._group)
        except OSError as error:  # no descriptor, no memory: the kernel refuses that read; others are served
            _log.debug("a read fails: %s", error)
            time.sleep(0.01)
            return
        for event in events:
            if event.descriptor < fan.SLOTS:
                self._taken.add(event)
        if self._asked is not None:
            for event in events:
                self._asked(event.offset, event.size)
        for event in events:
            if event.descriptor >= fan.SLOTS or not event.size:
                fan.answer(self._group, event.descriptor, fan.DENY_EIO)
                os.close(event.descriptor)
            elif not self._answered_at_once(event):
                self._begin(event)

    def _answered_at_once(self, event: Event) -> bool:
        """Let a reader go on that reads what is there: most do, in a start from a pack. Else it is noted who waits."""
        with self._answering:
            if event.descriptor in self._pending:  # the kernel gives an answer to the older one
                fan.answer(self._group, event.descriptor, fan.DENY_EIO)
                self._foreign.discard(event.descriptor)
                self.failed_reads += 1
            elif not self._ended.is_set():
                is_here = self._file.holds(event.offset, event.offset + event.size)
                if is_here or event.thread in self.ahead:  # else it would wait for itself
                    fan.answer(self._group, event.descriptor, fan.FAN_ALLOW if is_here else fan.DENY_EIO)
                    self._taken.remove(event.descriptor)
                    self._close(event)
                    return True
            self._pending[event.descriptor] = event
            return False

    def _begin(self, event: Event) -> None:
        if self._file.holds(event.offset, event.offset + event.size):
            self._answer(event, fan.FAN_ALLOW)
        else:
            self._pool.submit(self._fill, event)

    def came(self) -> None:
        """More of the file is here: who waits for that goes on."""
        for event in list(self._pending.values()):
            if self._file.holds(event.offset, event.offset + event.size):
                self._answer(event, fan.FAN_ALLOW)

    def _fill(self, event: Event) -> None:
        answer = fan.DENY_EIO
        try:
            self._file.fill(event.offset, event.offset + event.size)
            answer = fan.FAN_ALLOW
        except DiskFull as error:
            self._tell_full(error)
        except RegistryPipelinesError as error:
            _log.debug("a read fails: %s", error)
        except Exception as error:  # the reader would wait for ever
            _log.debug("a read fails: %r", error)
        self._answer(event, answer)

    def _tell_full(self, error: DiskFull) -> None:
        with self._answering:
            first, self._told_full = not self._told_full, True
        if first:
            self._log_line(f"reads of what is not there yet fail: {error}")

    def _answer(self, event: Event, what: int) -> None:
        with self._answering:
            # After the end it is the holder that answers, and the number may stand for another read.
            if self._pending.get(event.descriptor) is not event:
                return
            if not self._ended.is_set():
                self.failed_reads += what != fan.FAN_ALLOW
                fan.answer(self._group, event.descriptor, what)
                self._taken.remove(event.descriptor)
            was_full = len(self._pending) >= MOST_TAKEN
            del self._pending[event.descriptor]
            self._close(event)
        if was_full:
            os.eventfd_write(self._woken, 1)

    def _close(self, event: Event) -> None:
        if event.descriptor in self._foreign:
            self._foreign.discard(event.descriptor)
        else:
            fan.close(event.descriptor)

    def fill_rest(self) -> None:
        """Copy what the store has, too, until the file is complete; then nobody is asked any more."""
        threading.Thread(target=self._complete, name="complete", daemon=True).start()

    def _complete(self) -> None:
        rest = LOOK_EVERY_S
        while not self._ended.wait(rest):
            rest = 0.0
            try:
                if not self._pending and not self._file.copy_held(COPY_BYTES):
                    rest = LOOK_EVERY_S
                if self._file.complete:
                    self._file.sync()
                    if self._file.complete:  # a disk that failed takes bytes back
                        self._unwatch()
                        return
            except (RegistryPipelinesError, OSError) as error:
                if not self._ended.is_set():
                    self._log_line(f"the mounted file cannot be completed for now: {error}")
                rest = REST_S
            if self._pending:
                rest = max(rest, 0.01)

    def _unwatch(self) -> None:
        with self._answering:
            if self._ended.is_set():
                return
            fan.unwatch(self._group, self._file.descriptors[0])
            self.watched = False
            self._guard.done()

    def end(self) -> None:
        """Unmount it. Who still has files open gets EIO for what is not there, from the holder. Safe to call twice."""
        if self.named:
            with suppress(OSError):  # somebody else did it
                unmount(self._folder, detach=True)
        with self._answering:
            if self._ended.is_set():
                return
            self._ended.set()
            self._end_apart()
            if self.watched:
                in_use = fan.is_read(self._file.descriptors[0])
                self._guard.end() if in_use else self._guard.done()
        os.eventfd_write(self._woken, 1)

    def leave(self) -> None:
        """Answer no more: who reads what is not there waits for the process that takes the mount over."""
        with self._answering:
            if self._ended.is_set() or not self.watched:
                return
            self._ended.set()
            self._end_apart()  # which has an end of the holder's socket, too
            self._guard.leave()
        os.eventfd_write(self._woken, 1)

    def close(self) -> None:
        """Let the file go, behind :meth:`end` or :meth:`run`."""
        with self._answering:
            self._end_apart()
            if self.watched and not self._ended.is_set():  # nobody has it any more, so nobody needs to hold it
                self._ended.set()
                self._guard.done()
        self._pool.shutdown(wait=False, cancel_futures=True)
        until = time.monotonic() + END_S
        while self._pending and time.monotonic() < until:
            time.sleep(0.01)
        if not self._pending:  # else the end of the process closes it
            self._file.close()
        os.close(self._group)
        self._taken.close()


__all__ = ["WatchedMount", "mount_file"]
