"""Whose an open upload is, and whether its owner still lives.

Host names and process ids do not tell: containers have equal ones, and see no processes but their own. An owner is a
random name. Who shares its state folder asks for the lock of a file there, which the system takes back from a process
however it ends, and which passes between containers. For all others, who share a database, an owner lives as long as
the member whose it is (``shared.membership``); one that nobody knows, as of an older build, as long as it wrote lately.
"""

from __future__ import annotations

import fcntl
import os
import re
import time
import uuid
from pathlib import Path

from registry_pipelines.oci.files import local_errors

LEASE_S = 300.0
"""Seconds of silence after which an owner counts as dead that has no lock that can be asked, and is no member's."""

HEARTBEAT_S = 60.0
"""Between two signs of life of an owner that is no member's, in the journal of a folder; a few may fail."""

OWNERS = "owners"
"""Folder of the owners' locks, below the state folder."""

NOBODY = ""
"""Owner of an upload that was left for others."""

_NAME = re.compile(r"[0-9a-f]{32}")


def new_name() -> str:
    """A name for an owner that nobody else has."""
    return uuid.uuid4().hex


class Owner:
    """Who works on an open upload: it holds a lock as long as its process lives. folder: where its lock is, None for
    none. Raises LocalError."""

    def __init__(self, name: str, folder: Path | None) -> None:
        self.name = name
        self._folder = folder
        self._file: int | None = None
        if folder:
            with local_errors(folder):
                folder.mkdir(parents=True, exist_ok=True)
                self._file = os.open(_path(folder, name), os.O_RDWR | os.O_CREAT, 0o666)
                fcntl.flock(self._file, fcntl.LOCK_EX)

    def sees_alive(self, name: str, updated_at: float, member_alive: bool | None = None) -> bool:
        """Whether an owner lives. updated_at: when it wrote last, in seconds since 1970. member_alive: what the
        database knows of the member whose it is, None for nothing."""
        if name in (self.name, NOBODY):
            return name == self.name
        held = _is_held(_path(self._folder, name)) if self._folder and _NAME.fullmatch(name) else None
        if held is not None:
            return held
        return time.time() - updated_at < LEASE_S if member_alive is None else member_alive

    def close(self, *, named: bool) -> None:
        """From now on it is dead for all that share its folder. named: an upload still names it, so its lock has to be
        there for those who ask."""
        if self._file is not None and self._folder:
            if not named:
                _path(self._folder, self.name).unlink(missing_ok=True)
            os.close(self._file)
            self._file = None


def _path(folder: Path, name: str) -> Path:
    return folder / f"{name}.lock"


def _is_held(path: Path) -> bool | None:
    """Whether its owner holds the lock; None when nobody knows (no such file, or locks do not work there). A shared
    lock is asked for, so that those who ask at once do not take each other for the owner."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return None
    finally:
        os.close(descriptor)
    return False
