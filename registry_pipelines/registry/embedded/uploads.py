"""Upload sessions: content grows in a private file of its repository and becomes a blob only when it is whole.

A session is its file, so it survives a restart of the server: the hash is computed again from what is on disk. When a
connection breaks in the middle of a request, bytes of a request that named its range (Content-Range) are kept, so that
a client can go on after asking for the status; bytes of any other request are dropped: such a client begins again.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from registry_pipelines.errors import DigestMismatch
from registry_pipelines.oci.blob_folder import is_aside
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.files import disk_errors
from registry_pipelines.oci.layout import Layout
from registry_pipelines.registry.embedded.http_messages import BadRequest, Body, BodyCut
from registry_pipelines.registry.protocol import BUFFER_BYTES

CANONICAL = "sha256"
BUSY_WAIT_S = 10.0
"""How long a request waits for another one on the same session; a client that lost its connection may be back before
the server noticed."""

_ID = re.compile(r"[0-9a-f]{32}\Z")


class SessionBusy(Exception):
    """Another request is writing to the session."""


class SessionOver(Exception):
    """The session was committed, cancelled or expired while the request waited for it."""


class Session:
    """One open upload. ``offset``: bytes stored so far."""

    def __init__(self, layout: Layout, name: str, *, algorithm: str = CANONICAL, offset: int = 0) -> None:
        self.layout = layout
        self.name = name
        self.path = layout.private / name
        self.offset = offset
        self.used_at = time.time()
        self._algorithm = algorithm
        self._hasher: Any = Digest(f"{algorithm}:").hasher() if offset == 0 else None
        self._lock = threading.Lock()
        self._over = False

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """One request at a time. Raises SessionBusy, SessionOver."""
        if not self._lock.acquire(timeout=BUSY_WAIT_S):
            raise SessionBusy(self.name)
        try:
            if self._over:
                raise SessionOver(self.name)
            yield
        finally:
            self.used_at = time.time()
            self._lock.release()

    def append(self, body: Body, *, keep_partial: bool, algorithm: str = "") -> None:
        """Add a request's body. On any error the session is as before.

        keep_partial: when the connection breaks, what came stays. algorithm: the digest's, when it is known by now.
        Raises DiskFull, BodyCut, BadRequest, OSError.
        """
        if algorithm and self.offset == 0 and algorithm != self._algorithm:
            self._algorithm, self._hasher = algorithm, Digest(f"{algorithm}:").hasher()
        before = self.offset
        hasher = self._hasher
        saved = hasher.copy() if hasher is not None else None
        with disk_errors(self.path):
            # A file that somebody removed must not come back with a hole where the content was.
            descriptor = os.open(self.path, os.O_WRONLY | (0 if before else os.O_CREAT), 0o666)
            try:
                os.lseek(descriptor, before, os.SEEK_SET)
                try:
                    self._copy(body, descriptor, hasher)
                except BaseException as error:
                    broken = isinstance(error, BodyCut | BadRequest | ConnectionError | TimeoutError)
                    if not (keep_partial and broken):
                        self.offset, self._hasher = before, saved
                    os.ftruncate(descriptor, self.offset)
                    raise
            finally:
                os.close(descriptor)

    def _copy(self, body: Body, descriptor: int, hasher: Any) -> None:
        size = BUFFER_BYTES if body.length is None else min(BUFFER_BYTES, max(body.length, 1))
        buffer = memoryview(bytearray(size))
        while count := body.readinto(buffer):
            piece = buffer[:count]
            written = 0
            while written < count:
                written += os.write(descriptor, piece[written:])
            if hasher is not None:
                hasher.update(piece)
            self.offset += count
            self.used_at = time.time()

    def commit(self, digest: Digest) -> None:
        """Turn the content into a blob. Raises DigestMismatch, DiskFull, OSError; then it is no blob."""
        descriptor = os.open(self.path, os.O_RDWR)
        try:
            hasher = self._hasher
            whole = os.fstat(descriptor).st_size == self.offset
            if hasher is None or self._algorithm != digest.algorithm or not whole:
                hasher = self._hash_file(descriptor, digest)
            if hasher.hexdigest() != digest.hex:
                raise DigestMismatch(f"the content hashes to {digest.algorithm}:{hasher.hexdigest()}, not to {digest}")
            self.layout.install_blob(descriptor, self.path, digest)
        finally:
            os.close(descriptor)

    def _hash_file(self, descriptor: int, digest: Digest) -> Any:
        hasher = digest.hasher()
        buffer = memoryview(bytearray(BUFFER_BYTES))
        position = 0
        while count := os.preadv(descriptor, [buffer], position):
            hasher.update(buffer[:count])
            position += count
        return hasher

    def lost(self) -> bool:
        """Whether another process let it expire: its file is gone and nobody here is committing it."""
        return not self._lock.locked() and not self.path.exists()

    def end(self) -> bool:
        """Let no other request in any more, unless one is inside; whether that succeeded."""
        if not self._lock.acquire(blocking=False):
            return False
        self._over = True
        self._lock.release()
        return True

    def discard(self) -> None:
        """Remove what was stored; requests that wait for the session find it over."""
        self._over = True
        with suppress(FileNotFoundError):
            self.path.unlink()


class Uploads:
    """The open sessions of a server."""

    def __init__(self) -> None:
        self._sessions: dict[str, Session] = {}
        self._guard = threading.Lock()

    def begin(self, layout: Layout, *, algorithm: str = CANONICAL) -> Session:
        """Open a session; its file exists from now on, so it survives a restart. Raises DiskFull, OSError."""
        path = layout.temporary_path()
        with disk_errors(path):
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
        session = Session(layout, path.name, algorithm=algorithm)
        with self._guard:
            self._sessions[session.name] = session
        return session

    def temporary(self, layout: Layout, *, algorithm: str) -> Session:
        """A session that lives for one request only and has no file until content comes."""
        return Session(layout, layout.temporary_path().name, algorithm=algorithm)

    def find(self, layout: Layout, name: str) -> Session | None:
        """An open session of this repository, also one from before a restart."""
        if not _ID.match(name):
            return None
        with self._guard:
            session = self._sessions.get(name)
            if session is not None and session.lost():
                del self._sessions[name]
                return None
            if session is None:
                try:
                    size = (layout.private / name).stat().st_size
                except (FileNotFoundError, NotADirectoryError):
                    return None
                session = self._sessions[name] = Session(layout, name, offset=size)
        return session if session.layout.folder == layout.folder else None

    def forget(self, session: Session) -> None:
        """The session is over: committed or cancelled."""
        session.discard()  # first, so that nobody finds the file and takes it for a session from before a restart
        with self._guard:
            self._sessions.pop(session.name, None)

    def expire(self, layout: Layout, *, before: float, dry_run: bool = False) -> int:
        """Remove sessions and other private files of a repository that nobody used since a moment (seconds of the
        epoch); how many. What is set aside is no session. dry_run: only count them."""
        try:
            names = sorted(path.name for path in layout.private.iterdir() if not is_aside(path.name))
        except (FileNotFoundError, NotADirectoryError):
            return 0
        return sum(self._expire_one(layout, name, before, dry_run) for name in names)

    def _expire_one(self, layout: Layout, name: str, limit: float, dry_run: bool) -> bool:
        path = layout.private / name
        with self._guard, suppress(FileNotFoundError):
            session = self._sessions.get(name)
            used_at = path.stat().st_mtime if session is None else session.used_at
            if used_at > limit or (session is not None and not dry_run and not session.end()):
                return False
            if not dry_run:
                self._sessions.pop(name, None)
                path.unlink()
            return True
        return False


def open_sessions(layout: Layout) -> list[float]:
    """When each open upload of a repository was used last (seconds of the epoch), by its file. Raises OSError."""
    found = []
    with suppress(FileNotFoundError, NotADirectoryError):
        for path in layout.private.iterdir():
            if _ID.match(path.name):
                with suppress(FileNotFoundError):  # it became a blob meanwhile
                    found.append(path.stat().st_mtime)
    return found


__all__ = ["BUSY_WAIT_S", "CANONICAL", "Session", "SessionBusy", "SessionOver", "Uploads", "open_sessions"]
