"""A folder for the time of one build, that does not outlive a killed one: it may hold layers, and log-ins."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from registry_pipelines.oci.files import disk_errors


@contextmanager
def work_folder(parent: Path, prefix: str = "build-") -> Iterator[Path]:
    """An empty folder for one build, removed afterwards; those that killed builds left are removed on the way. parent:
    has nothing else in it. Raises DiskFull."""
    with disk_errors(parent):
        parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        folder, held = _new_folder(parent, prefix)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(held)


def _new_folder(parent: Path, prefix: str) -> tuple[Path, int]:
    """A folder, and what holds it: open, locked. One build at a time does this: between making and locking a folder it
    looks like one that a killed build left."""
    alone = os.open(parent, os.O_RDONLY)
    try:
        fcntl.flock(alone, fcntl.LOCK_EX)
        for left in parent.iterdir():
            _sweep(left)
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        held = os.open(folder, os.O_RDONLY)
        fcntl.flock(held, fcntl.LOCK_EX)
        return folder, held
    finally:
        os.close(alone)


def _sweep(folder: Path) -> None:
    try:
        held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return  # a build that goes on
    else:
        shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(held)
