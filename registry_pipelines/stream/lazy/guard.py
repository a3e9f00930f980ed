"""The holder of a mount (``holder``) as the process that fills sees it: started, asked, taken over from."""

from __future__ import annotations

import os
import socket
import sys
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

from registry_pipelines.arrivals import is_ready
from registry_pipelines.errors import InputError, LocalError
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.files import local_errors
from registry_pipelines.stream.lazy import holder
from registry_pipelines.stream.lazy.holder import Held
from registry_pipelines.stream.lazy.mounting import unmount
from registry_pipelines.stream.lazy.sockets import connect, listen
from registry_pipelines.stream.lazy.start_keeper import start_keeper
from registry_pipelines.stream.lazy.twinned import MOST_TOLD_BYTES

PATIENCE_S = 60.0
"""How long reads wait for another process to take over; then they end with EIO."""

START_S = 30.0
"""How long a holder may take to say that it holds."""

ANSWER_S = 20.0
"""And to answer: it may have a long list of reads to deny."""

TAKE_S, AGAIN_S = 30.0, 0.05
"""And to hand over, where it has yet to see that its filler is gone; how often it is asked."""

_NO_HOLDER = "the process that keeps readers safe when this one is killed does not start"


class TakenOver:
    """What a holder handed over: from now on this process fills. Reads wait meanwhile."""

    def __init__(self, held: Held, filler: socket.socket, told: str) -> None:
        """filler: to the holder."""
        self.held, self.filler, self.told = held, filler, told
        self._is_ours = True

    def end(self, folder: Path | None) -> None:
        """Take the mount away, which has no name any more where no folder is told, and let all reads end with EIO."""
        if folder is not None:
            with suppress(OSError):
                unmount(folder, detach=True)
        with suppress(OSError):
            self.filler.send(holder.END)
        self.close()

    def give(self) -> None:
        """A mount goes on with group, memory, listener and socket; the file has its own of the others."""
        self._is_ours = False
        for descriptor in (self.held.data, self.held.lease):
            os.close(descriptor)

    def close(self) -> None:
        """Let go, where it was not given to anybody: the holder waits for another."""
        if self._is_ours:
            self._is_ours = False
            self.filler.close()
            for descriptor in self.held:
                os.close(descriptor)


class Begun:
    """A holder that is started before there is anything to hold, for that takes a Python's time."""

    def __init__(self, folder: Path, below: Path | None) -> None:
        """See :class:`Guard`. Raises LocalError."""
        self.filler, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        words = [str(theirs.fileno()), str(folder), str(below or "")]
        with theirs:
            try:
                start_keeper("holder", words, [theirs.fileno()], fault=_NO_HOLDER)
            except BaseException:
                self.filler.close()
                raise

    def hold(self, held: Held, patience_s: float, told: str) -> None:
        """It holds from now on, and says so; it may have been killed before."""
        with suppress(OSError):
            socket.send_fds(self.filler, [holder.words(patience_s, told)], [each for each in held if each >= 0])

    def close(self) -> None:
        """It ends, where it holds nothing. Safe to call twice."""
        self.filler.close()


class Guard:
    """Keeps a holder running beside this process."""

    def __init__(
        self,
        held: Held,
        folder: Path,
        *,
        below: Path | None,
        patience_s: float,
        told: str,
        filler: socket.socket | None = None,
        begun: Begun | None = None,
    ) -> None:
        """folder: where the file is, or will be mounted. below: a folder below which all mounts go at the end, too.
        told: to who takes over. filler: of a holder that was taken over; else one is started, or was ``begun`` for the
        same folder.

        Raises LocalError.
        """
        self.held = held
        self._begin, self._words = partial(Begun, folder, below), (patience_s, told)
        if filler is None:
            filler = self._start(begun)
            self._wait(filler)
        self._filler = filler

    def fileno(self) -> int:
        """Readable when there is something to :meth:`hear`."""
        return self._filler.fileno()

    def hear(self) -> None:
        """Start another holder, where this one and its twin were killed. Raises LocalError: call it again."""
        with suppress(OSError):
            if self._filler.fileno() >= 0 and self._filler.recv(MOST_TOLD_BYTES):
                return
        self._filler.close()
        self._filler = self._start()

    def done(self) -> None:
        """Nobody needs to hold any more: the file is complete and synced, or nobody has it open."""
        self._say(holder.DONE)

    def end(self) -> None:
        """This process ends, and reads are to end with EIO."""
        self._say(holder.END)

    def leave(self) -> None:
        """This process fills no more, and others may: as if it had been killed."""
        self._filler.close()

    def _say(self, what: bytes) -> None:
        with suppress(OSError):
            self._filler.send(what)
        self._filler.close()
        if self.held.listener >= 0:
            os.close(self.held.listener)

    def _start(self, begun: Begun | None = None) -> socket.socket:
        begun = begun or self._begin()
        begun.hold(self.held, *self._words)
        return begun.filler

    def _wait(self, filler: socket.socket) -> None:
        """Until it says that it holds. Raises LocalError."""
        said = b""
        if is_ready(filler.fileno(), START_S):
            with suppress(OSError):
                said = filler.recv(MOST_TOLD_BYTES)
        if said != holder.READY:
            filler.close()
            raise LocalError(f"{_NO_HOLDER}: it ended, or says nothing", where=sys.executable)


def listen_for(sockets: Path, folder: Path, name: str = "") -> int:
    """A socket where another process can take over the mount on a folder. name: of the socket; that of the folder
    unless told, which :func:`find_holder` knows. Raises LocalError."""
    return listen(sockets / (name or _name(folder))).detach()


def find_holder(folder: Path, sockets: Path, *, take: bool) -> TakenOver | None:
    """What the holder of a mount on a folder hands over, of a process that was killed; None where there is no holder,
    or, without ``take``, where there is one that waits. Raises InputError: a process serves the mount; LocalError."""
    path = sockets / _name(folder)
    if not path.exists():
        return None
    try:
        told, taken = _ask(path, holder.TAKE if take else holder.LOOK)
    except TimeoutError as error:
        raise LocalError("the process that holds the mount does not answer", where=str(folder)) from error
    except OSError:  # nobody listens: it was killed, too
        return None
    if told == holder.BUSY:
        raise InputError("an image is mounted there already", where=str(folder), do=f"Unmount it: `umount {folder}`")
    return taken


def take_all(sockets: Path) -> list[TakenOver]:
    """What all holders below a folder hand over, of one process that was killed and used no other folder. Names of
    holders that are gone go. Raises LocalError."""
    found = []
    with local_errors(sockets):
        for path in sorted(sockets.iterdir()) if sockets.exists() else ():
            if (taken := _take(path)) is None:
                path.unlink(missing_ok=True)
            else:
                found.append(taken)
    return found


def _take(path: Path) -> TakenOver | None:
    """None: nobody listens any more. A holder may have yet to see that its filler is gone, or be killed while it is
    asked, and have a twin. Raises LocalError."""
    until, why = time.monotonic() + TAKE_S, "it says that somebody fills"
    while time.monotonic() < until:
        try:
            _, taken = _ask(path, holder.TAKE)
        except (ConnectionRefusedError, FileNotFoundError):
            return None
        except OSError as error:
            why = str(error)
        else:
            if taken is not None:
                return taken
        time.sleep(AGAIN_S)
    raise LocalError(f"a process that holds a mount does not hand it over: {why}", where=str(path))


def _ask(path: Path, what: bytes) -> tuple[bytes, TakenOver | None]:
    """Raises OSError."""
    asked = connect(path, ANSWER_S)
    try:
        asked.send(what)
        told, numbers, _, _ = socket.recv_fds(asked, MOST_TOLD_BYTES, len(Held._fields))
    except BaseException:
        asked.close()
        raise
    for number in numbers:
        os.set_inheritable(number, False)
    if len(numbers) == len(Held._fields):
        asked.settimeout(None)
        return told, TakenOver(Held(*numbers), asked, told.decode())
    asked.close()
    return told, None


def _name(folder: Path) -> str:
    return Digest.of(os.fsencode(folder)).hex[:32]


__all__ = ["PATIENCE_S", "Begun", "Guard", "TakenOver", "find_holder", "listen_for", "take_all"]
