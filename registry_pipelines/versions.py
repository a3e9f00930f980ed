"""Versions of what is stored beside the registries: the state folder, and databases in it or elsewhere.

Each holds a whole number. None is what builds before there were versions left; it is the first version, and taken over
as it is. A newer one was written by a newer build: nothing is touched then, because that build may keep what this one
would misread, as an upload that seems abandoned. Whoever changes a format raises the number and turns the older into
the newer one; caches that can be filled again bear their number in a name instead.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from registry_pipelines.errors import DiskFull, StateTooNew
from registry_pipelines.oci.files import local_errors, write_file

if TYPE_CHECKING:  # who has a file of its own brought it along
    import sqlite3

STATE_VERSION = 1
"""Of the state folder: which files and folders there are, and what their names mean."""

VERSION_FILE = "version"
MAX_VERSION_BYTES = 32


def claim_state(folder: Path) -> None:
    """Make sure that a state folder is one that this build understands, before anything in it is read or written; make
    it where it is not there. Of several processes that start at once each may write the version, at once or not at all.

    A folder that this process may not write to, or on a full disk, keeps none. Raises StateTooNew, also for a version
    that is no number; LocalError.
    """
    path = folder / VERSION_FILE
    try:
        with path.open("rb") as file:
            text = file.read(MAX_VERSION_BYTES + 1)
    except FileNotFoundError:
        with contextlib.suppress(OSError, DiskFull):  # whoever needs the folder says why it cannot be had
            folder.mkdir(parents=True, exist_ok=True)
            write_file(path, f"{STATE_VERSION}\n".encode())
        return
    except PermissionError:
        return
    except OSError:
        with local_errors(folder):
            raise
    version = text.decode(errors="replace").strip()
    if not version:
        raise StateTooNew(
            f"the file with the version of the state folder is empty; this build knows {STATE_VERSION}",
            where=str(path),
            do=f"Write {STATE_VERSION} into it where this build filled the folder; else use another `state`",
        )
    check_version(version, STATE_VERSION, what="the state folder", where=str(path))


def claim_file(connection: sqlite3.Connection, known: int, *, what: str, path: Path) -> None:
    """Check the version of a SQLite file just opened, and close it when it is not ours; whoever creates the tables sets
    it with them (``PRAGMA user_version``; 0 is a file without one). Raises StateTooNew, sqlite3.Error."""
    [version] = connection.execute("PRAGMA user_version").fetchone()
    try:
        check_version(version, known, what=what, where=str(path))
    except StateTooNew:
        connection.close()
        raise


def check_version(version: int | str, known: int, *, what: str, where: str) -> None:
    """Raise StateTooNew for what a newer build wrote. version: as read; a text that is no number is of nobody."""
    if not str(version).isdecimal() or int(version) > known:
        raise StateTooNew(
            f"{what} has version {str(version)[:MAX_VERSION_BYTES]!s}, this build knows {known}",
            where=where,
            do="Use the newer Registry Pipelines that wrote it, or name another place in the configuration",
        )


__all__ = ["STATE_VERSION", "VERSION_FILE", "check_version", "claim_file", "claim_state"]
