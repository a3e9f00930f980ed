"""The keeper of an agent's mounts (``keeper``) as the agent sees it: started, told of mounts, taken over from.

A node whose systemd keeps descriptors for the unit (``FileDescriptorStoreMax``) gives them there, too (``fdstore``):
what all other processes lose is still there.
"""

from __future__ import annotations

import os
import select
import socket
import sys
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import NamedTuple

from registry_pipelines import __version__
from registry_pipelines.arrivals import is_ready
from registry_pipelines.errors import LocalError, StateLocked
from registry_pipelines.oci.files import held_alone
from registry_pipelines.stream.lazy import fdstore, keeper
from registry_pipelines.stream.lazy.fuse_memory import Memory
from registry_pipelines.stream.lazy.kept import make_own
from registry_pipelines.stream.lazy.outliving import why_not
from registry_pipelines.stream.lazy.sockets import connect, listen
from registry_pipelines.stream.lazy.start_keeper import start_keeper
from registry_pipelines.stream.lazy.twinned import MOST_TOLD_BYTES

PATIENCE_S = 60.0
"""How long reads wait for another agent; then they end with EIO."""

PROTOCOL = 1
"""Of what an agent and a keeper say to each other; it stands in the name of the socket."""

BUSY_S = 5.0
"""How long an agent that ends may still be there when the next one comes."""

TAKE_S = 30.0
"""How long a keeper may take to hand over: on a machine with too much to do, the agent before may be slow to end."""

ANSWER_S = 2.0
LOOK_EVERY_MS = 1000
"""Whether the keeper that is watched is still the one that is used."""
START_S = 30.0
"""How long a new keeper may take for each word: the mounts are served meanwhile, but nobody else has them."""

TRIES = 10

_NOBODY = "no process can keep what is mounted when this one ends"


class Kept(NamedTuple):
    """A mount that a former agent left."""

    name: str
    device: int
    memory: Memory


class Keep(NamedTuple):
    """How a mount is kept. told: what a next agent must know of it. kept: the mount is there, and was taken over."""

    keeper: Keeping
    told: bytes
    kept: Kept | None = None


class Keeping:
    """See the module. For many threads."""

    def __init__(self, folder: Path, *, patience_s: float = PATIENCE_S, log: Callable[[str], object]) -> None:
        """folder: where its socket is; one for each agent. log: is told in one line what a person must know.

        Raises StateLocked: another agent serves what is mounted there; LocalError.
        """
        self._path = folder / f"keeper.{PROTOCOL}.sock"
        self.patience_s, self._log = patience_s, log
        self._lock = threading.Lock()
        self._mounts: dict[str, Kept] = {}
        self._served: set[str] = set()
        self._closed = self._watched = False
        self._socket: socket.socket | None = None
        make_own(folder)
        self._alone = self._wait_until_alone(folder)
        self._socket = self._taken()
        self._tell_of_others(folder)
        if why := why_not():
            log(f"what is mounted ends with this pod, and reads of containers that use it end with errors then: {why}")
        self.left: Sequence[Kept] = list(self._mounts.values())
        """What a former agent left mounted; nobody serves it yet, see :meth:`serve`."""

    def begin(self) -> None:
        """Have a keeper now where there is none, in a thread: a container is about to need it, and would wait for the
        start of a program."""
        threading.Thread(target=self._begin, name="keeper_start", daemon=True).start()

    def _begin(self) -> None:
        with self._lock:
            if self._socket is None and not self._closed:
                with suppress(LocalError, OSError):  # who needs it tries again, and says so
                    self._socket = self._started()

    def keep(self, device: int, memory: Memory) -> str:
        """From now on a mount outlives this process, which serves it; the name by which it is known. Descriptors stay
        the caller's. It never raises: what cannot be kept is served all the same, and that is said."""
        name = uuid.uuid4().hex
        with self._lock:
            self._mounts[name] = Kept(name, device, memory)
            self._served.add(name)
            self._say(f"keep {name}", [device, memory.descriptor])
            fdstore.store(name, device, memory.descriptor)
        return name

    def serve(self, name: str) -> None:
        """This process serves a mount that was left: from the answer on nobody else reads its requests."""
        with self._lock:
            self._served.add(name)
            self._say(f"serve {name}")

    def fail(self, name: str) -> None:
        """It cannot be served: have reads end with EIO, as long as anybody has it."""
        with self._lock:
            self._served.discard(name)
            self._say(f"fail {name}")

    def drop(self, name: str) -> None:
        """Nobody has the mount any more."""
        with self._lock:
            self._mounts.pop(name, None)
            self._served.discard(name)
            self._say(f"drop {name}")
            fdstore.remove(name)

    def close(self, *, end: bool) -> None:
        """At the end of the process. end: nothing is to be kept; what is in use ends with errors."""
        with self._lock:
            if end and self._socket is not None:
                self._say("done")
            self._closed = True
            if end:
                for name in self._mounts:
                    fdstore.remove(name)
            if self._socket is not None:
                self._socket.close()
        self._alone.close()

    def _wait_until_alone(self, folder: Path) -> ExitStack:
        """The lock that the agent has as long as it lives."""
        until = time.monotonic() + BUSY_S
        while True:
            stack = ExitStack()
            try:
                do = "End it first, or give this one a configuration with another `state` folder"
                what = "another agent serves what is mounted there"
                stack.enter_context(held_alone(folder / "agent.lock", what, do=do, own=True))
            except StateLocked:
                if time.monotonic() > until:
                    raise
                time.sleep(0.05)
            else:
                return stack

    def _taken(self) -> socket.socket | None:
        """To the keeper that is there, which has told of all mounts; None: there is none, and no mount. Raises
        LocalError: it does not tell, and without it what is mounted would be lost."""
        until = time.monotonic() + TAKE_S
        while True:
            try:
                asked = connect(self._path, ANSWER_S)
            except (ConnectionRefusedError, FileNotFoundError):  # nobody
                break
            except OSError as error:
                self._wait_for_keeper(until, error)
                continue
            try:
                build = self._hear_mounts(asked)
            except OSError as error:  # it has just ended, or its twin takes its place, or its agent is not quite gone
                asked.close()
                self._forget()
                self._wait_for_keeper(until, error)
                continue
            stored = self._add_stored()
            if build == __version__ and not stored:
                self._begin_to_watch()
                return asked
            with self._lock:  # it is an older program, as long as it lives
                newer = self._started()
            with suppress(OSError):
                asked.send(b"done")
                asked.recv(MOST_TOLD_BYTES)
            asked.close()
            return newer
        if not self._add_stored():
            return None
        with self._lock:
            return self._started()

    def _wait_for_keeper(self, until: float, error: OSError) -> None:
        if time.monotonic() > until:
            raise LocalError(
                f"the process that keeps what containers read does not hand it over: {error}",
                where=str(self._path),
                do="Start the agent again; end the processes lazy.keeper yourself, and those containers get errors",
            ) from error
        time.sleep(0.05)

    def _hear_mounts(self, asked: socket.socket) -> str:
        """The build of a keeper, which has told of all mounts. Raises OSError: it ended, or has not yet seen that its
        agent did."""
        asked.send(f"take {self.patience_s}".encode())
        while True:
            said, numbers, _, _ = socket.recv_fds(asked, MOST_TOLD_BYTES, 2, socket.MSG_CMSG_CLOEXEC)
            what, _, rest = said.decode().partition(" ")
            if what == "end":
                return rest
            if what == "mount" and len(numbers) == 2:
                self._add(rest, *numbers)
            else:
                raise OSError("it ended, or has an agent")

    def _add(self, name: str, device: int, memory: int) -> None:
        """A mount that was left. One that another version made is not known here, and stays the keeper's."""
        try:
            self._mounts[name] = Kept(name, device, Memory(memory))
        except (ValueError, OSError) as error:
            self._log(f"a mount of containers that run is not served on, and reads of it end with errors: {error}")
            os.close(device)
            os.close(memory)

    def _add_stored(self) -> bool:
        """What only systemd has; whether there is any."""
        before = len(self._mounts)
        for name, device, memory in fdstore.stored():
            if name in self._mounts or is_over(device):
                os.close(device)
                os.close(memory)
                if name not in self._mounts:
                    fdstore.remove(name)
            else:
                self._add(name, device, memory)
        return len(self._mounts) > before

    def _forget(self) -> None:
        for each in self._mounts.values():
            os.close(each.device)
            each.memory.close()
        self._mounts.clear()

    def _tell_of_others(self, folder: Path) -> None:
        """Of keepers that say other things than this program understands."""
        for path in folder.glob("keeper.*.sock"):
            if path != self._path:
                with suppress(OSError):
                    connect(path, ANSWER_S).close()
                    self._log(
                        "images of containers that run are kept by another version of this program, and are not served "
                        f"on: reads of them end with errors ({path})"
                    )

    def _say(self, what: str, numbers: Sequence[int] = ()) -> None:
        """Say it until it is heard, if need be to another keeper, which is told of all mounts. The lock is held."""
        for _ in range(0 if self._closed else TRIES):
            try:
                if self._socket is None or _is_gone(self._socket):
                    self._socket = self._started()
                while is_ready(self._socket.fileno()) and self._socket.recv(MOST_TOLD_BYTES):
                    pass  # answers to what was said twice
                socket.send_fds(self._socket, [what.encode()], numbers)
                if self._socket.recv(MOST_TOLD_BYTES) == keeper.OK:
                    return
            except LocalError as error:
                self._log(f"{_NOBODY}: {error}")
                return
            except OSError:  # it was killed meanwhile; its twin, or another one, hears it again
                pass
        if not self._closed:
            self._log(f"{_NOBODY}: it does not answer")

    def _started(self) -> socket.socket:
        """To a new keeper that has all mounts. The lock is held. Raises LocalError."""
        if self._socket is not None:
            self._socket.close()
        ours = _start(self._path, self.patience_s)
        try:
            for name, each in self._mounts.items():
                socket.send_fds(ours, [f"keep {name}".encode()], [each.device, each.memory.descriptor])
                ours.recv(MOST_TOLD_BYTES)
                if name not in self._served:
                    ours.send(f"wait {name}".encode())
                    ours.recv(MOST_TOLD_BYTES)
        except OSError as error:
            with suppress(OSError):  # else it would wait for another agent, and then answer beside this one
                ours.send(b"done")
            ours.close()
            raise LocalError(f"{_NOBODY}: {error.strerror or error}", where=sys.executable) from error
        ours.settimeout(ANSWER_S)
        self._begin_to_watch()
        return ours

    def _begin_to_watch(self) -> None:
        if not self._watched:
            self._watched = True
            threading.Thread(target=self._watch, name="keeper", daemon=True).start()

    def _watch(self) -> None:
        """In a thread: start another keeper, where the one and its twin were killed."""
        while not self._closed:
            watched = self._socket
            if watched is not None:
                poll = select.poll()
                with suppress(ValueError, OSError):  # it was closed meanwhile
                    poll.register(watched, select.POLLRDHUP)
                    poll.poll(LOOK_EVERY_MS)
            else:
                time.sleep(0.01)
            with self._lock:
                if self._closed or watched is None or self._socket is not watched or not _is_gone(watched):
                    continue
                try:
                    self._socket = self._started()
                except LocalError as error:
                    self._log(f"{_NOBODY}: {error}")
                    return


def is_over(device: int) -> bool:
    """Whether nobody has a mount any more."""
    poll = select.poll()
    poll.register(device, 0)
    return bool(poll.poll(0))


def _is_gone(other: socket.socket) -> bool:
    """Whether the other end is closed."""
    poll = select.poll()
    try:
        poll.register(other, select.POLLRDHUP)
    except ValueError:  # closed here
        return True
    return bool(poll.poll(0))


def _start(path: Path, patience_s: float) -> socket.socket:
    """Start a keeper that listens at a path; it has ``START_S`` for each answer. Raises LocalError."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        try:
            with listen(path) as listener:
                passed = [listener.fileno(), theirs.fileno()]
                words = [*map(str, passed), str(patience_s), __version__, str(path.parent)]
                start_keeper("keeper", words, passed, fault=_NOBODY, tells=True)
        except BaseException:
            ours.close()
            raise
    ours.settimeout(START_S)
    with suppress(OSError):
        if ours.recv(MOST_TOLD_BYTES) == keeper.OK:
            return ours
    ours.close()
    raise LocalError(f"{_NOBODY}: it ended, or says nothing", where=sys.executable)


__all__ = ["PATIENCE_S", "Keep", "Keeping", "Kept", "is_over"]
