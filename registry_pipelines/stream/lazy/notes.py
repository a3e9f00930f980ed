"""What is mounted on this node, as each process that serves a mount writes it down: a file for each, locked while the
process lives, so that what a killed one left is known as such."""

from __future__ import annotations

import contextlib
import fcntl
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

from registry_pipelines.errors import ContentError, RegistryPipelinesError
from registry_pipelines.oci.files import local_errors, write_file
from registry_pipelines.oci.manifests import decode_json, encode_json
from registry_pipelines.stream.lazy.mounting import EROFS_KIND, KIND, mounts


class MountNote(msgspec.Struct, kw_only=True):
    """One mount. Counters grow until it ends."""

    image: str
    """As it was asked for."""
    digest: str
    """Of the manifest that is mounted."""
    folder: str
    """Where; of `stream run` it is seen by the program alone."""
    process: int
    since: str
    """RFC 3339, UTC."""
    lazy: bool
    """Whether anything is read by pieces; else all was fetched before."""
    layers_lazy: int = 0
    layers_whole: int = 0
    """Fetched whole before the start."""
    reasons: list[str] = []
    """Why layers were fetched whole, one sentence each."""
    size_bytes: int = 0
    """Of all layers' tars."""
    filled_bytes: int = 0
    """Of them, those that are on this node."""
    fetched_bytes: int = 0
    """From the registry, since the mount."""
    pack: str = ""
    """Digest of the hot pack that is used; empty for none."""
    pack_bytes: int = 0
    """Of what was fetched, frames of the hot pack."""
    demand_bytes: int = 0
    """Of what was fetched, pieces of layers that somebody waited for."""
    background_bytes: int = 0
    """Of what was fetched, pieces of layers that nobody waited for."""
    requests: int = 0
    stalls: int = 0
    """Reads that waited for the registry."""
    stalled_s: float = 0.0
    waiting: int = 0
    """Reads that wait for the registry now."""
    carrier: str = "fuse"
    """What serves it: fuse, fanotify, or none, where all was fetched before."""
    carrier_why: str = ""
    """Why it is not the one that was asked for, or not watched; empty where there is nothing to say."""
    copied_bytes: int = 0
    """Of layers, those that stand on the disk a second time, in the file that the kernel mounts."""
    failed_reads: int = 0
    """Reads that ended with EIO."""
    updated: str = ""
    """When the counters were written, RFC 3339, UTC."""


class Noted(NamedTuple):
    """A note, and whether its process lives."""

    note: MountNote
    alive: bool
    path: Path


class NoteFile:
    """The note of this process's mount: written again and again, and gone with the context. Raises LocalError."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / f"{uuid.uuid4().hex}.json"
        with local_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(self._path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX)

    def __enter__(self) -> NoteFile:
        return self

    def __exit__(self, *_: object) -> None:
        forget(self._path)
        os.close(self._lock)

    def write(self, note: MountNote) -> None:
        """Replace the note. A full disk keeps the old one: what is served is worth more than what is told of it."""
        with contextlib.suppress(RegistryPipelinesError), local_errors(self._path.parent):
            write_file(self._path, encode_json(note), mode=0o600, lasting=False)  # no mount outlives a power cut


def read_notes(folder: Path) -> Iterator[Noted]:
    """All notes. Those of killed processes that left nothing mounted are forgotten."""
    mounted = {str(each.folder) for each in mounts() if each.kind in (KIND, EROFS_KIND)}
    for path in sorted(folder.glob("*.json")):
        try:
            note = decode_json(path.read_bytes(), MountNote, what="note of a mount")
        except (OSError, ContentError):  # it has just ended, or is another build's
            continue
        alive = is_locked(path.with_suffix(".lock"))
        if alive or note.folder in mounted:
            yield Noted(note, alive, path)
        else:
            forget(path)


def forget(path: Path) -> None:
    """Take a note away."""
    for each in (path, path.with_suffix(".lock")):
        each.unlink(missing_ok=True)


def is_locked(path: Path) -> bool:
    """Whether a process holds a lock file (flock). Who takes it must wait for it: it is held here for a moment."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
