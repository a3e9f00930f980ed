"""One start of a release in a process of its own: to be recorded, or to be timed.

The process that becomes the program is forked before any thread is there, and who calls a chain has threads. So this
module is started anew (``python -m``), gets what is wanted as JSON on stdin, and answers with JSON on stdout.
"""

from __future__ import annotations

import os
import platform
import sys
import time
from pathlib import Path
from subprocess import PIPE
from typing import TYPE_CHECKING

import msgspec

from registry_pipelines import errors
from registry_pipelines.chain.session import Session
from registry_pipelines.errors import LocalError, RegistryPipelinesError
from registry_pipelines.oci.decoding import ready
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import encode_json
from registry_pipelines.progress import Silent
from registry_pipelines.registry.protocol import Place
from registry_pipelines.settings import Duration, Size
from registry_pipelines.stream.model import Record
from registry_pipelines.threads import started_child

if TYPE_CHECKING:  # what mounts is loaded by the process that starts something
    from registry_pipelines.stream.lazy.running import Started

MAX_LAST_WORDS = 2000
"""Characters of what a process said that ended without an answer."""


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What is started. cold: with nothing of the image here, and a hot pack where there is one; it is timed, and not
    recorded."""

    config: str
    image: str
    digest: str
    """The platform's manifest."""
    cold: bool
    at: str = ""
    """Host and repository where it is, without TLS, in place of the image's own."""
    folder: str
    """For what this start keeps: an empty one where it is cold, else the state folder."""
    command: tuple[str, ...]
    until: str
    timeout_s: float
    memory_bytes: int
    processes: int
    """These as ``Record`` has them."""

    @property
    def record(self) -> Record:
        """How it is recorded."""
        return Record(
            command=self.command,
            until=self.until,
            timeout=Duration(seconds=self.timeout_s),
            memory=Size(self.memory_bytes),
            processes=self.processes,
        )


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it. Clocks are seconds since the image was begun to be opened."""

    recording: bytes = b""
    """Encoded; empty of a cold start."""
    started_s: float | None = None
    """Until the first byte of output."""
    result_s: float = 0.0
    """Until what was waited for came."""
    pack: str = ""
    pack_bytes: int = 0
    fetched_bytes: int = 0
    notes: tuple[str, ...] = ()
    """What a person must know, one sentence each."""
    error: str = ""
    """Name of the class of what ended it."""
    what: str = ""
    where: str = ""
    do: str = ""


def run_start(
    session: Session, image: str, digest: Digest, record: Record, folder: Path, *, cold: bool, at: str = ""
) -> Told:
    """Start a platform's image in a sandbox. at: see :class:`Wanted`. Raises StartFailed (the program did not start as
    ``record`` says), LocalError, InputError (it cannot be started here), ContentError, RegistryError, and whatever else
    ended it."""
    wanted = Wanted(
        config=str(session.config.path),
        image=image,
        digest=digest,
        cold=cold,
        at=at,
        folder=str(folder),
        command=record.command,
        until=record.until,
        timeout_s=record.timeout.total_seconds(),
        memory_bytes=int(record.memory),
        processes=record.processes,
    )
    command = [sys.executable, "-m", __name__]
    with started_child(command, stdin=PIPE, stdout=PIPE, stderr=PIPE) as child:
        said, last_words = child.communicate(encode_json(wanted))
    try:
        told = msgspec.json.decode(said, type=ready(Told))
    except msgspec.DecodeError as error:
        words = last_words.decode(errors="replace").strip()[-MAX_LAST_WORDS:]
        raise LocalError(f"the process that should start it ended with {child.returncode}: {words}") from error
    if told.error:
        kind = getattr(errors, told.error, LocalError)
        raise kind(told.what, where=told.where, do=told.do)
    return told


def machine_text() -> str:
    """What this machine is, for who reads a measurement elsewhere."""
    return f"{platform.machine()}, {os.cpu_count()} processors, {platform.system()} {platform.release()}"


def main() -> None:
    """In the process of its own."""
    wanted = msgspec.json.decode(sys.stdin.buffer.read(), type=ready(Wanted))
    try:
        told = _start(wanted)
    except RegistryPipelinesError as error:
        told = Told(error=type(error).__name__, what=error.what, where=error.where, do=error.do)
    sys.stdout.buffer.write(msgspec.json.encode(told))


def _start(wanted: Wanted) -> Told:
    from registry_pipelines.stream.lazy.running import Started

    started = Started()  # before anything starts a thread
    try:
        return _started(wanted, started)
    finally:
        started.end(0)


def _place(session: Session, wanted: Wanted) -> Place:
    if not wanted.at:
        return session.places.source(session.image(wanted.image))
    from registry_pipelines.registry.remote import remote_registry

    host, _, repository = wanted.at.partition("/")
    return Place(remote_registry(host, plain_http=True), repository)


def _started(wanted: Wanted, started: Started) -> Told:
    from registry_pipelines.config import load
    from registry_pipelines.stream.hot.recorder import record_start
    from registry_pipelines.stream.hot.recording import PAGE_BYTES, encode
    from registry_pipelines.stream.lazy.opened import open_image
    from registry_pipelines.stream.lazy.program_root import run_folder
    from registry_pipelines.stream.lazy.running import program_of

    session = Session(load(Path(wanted.config), spare="schedules"), Silent())
    place, verifier = _place(session, wanted), session.keys.trusted_if_any()
    state, notes = Path(wanted.folder), list[str]()
    begun = time.monotonic()
    with (
        run_folder(state / "lazy" / "runs") as folder,
        open_image(
            place, wanted.digest, state=state, verifier=verifier, use_pack=wanted.cold, log=notes.append
        ) as image,
    ):
        program = program_of(image.config, wanted.record.command, None)
        done = record_start(
            image,
            program,
            wanted.record,
            started,
            folder=folder,
            read_ahead_bytes=image.read_ahead_bytes if wanted.cold else PAGE_BYTES,
            say=notes.append,
        )
        note = image.count(image.note(wanted.digest, folder))
    opened_s = done.begun - begun
    return Told(
        recording=b"" if wanted.cold else encode(done.recording),
        started_s=None if done.first_output_s is None else round(opened_s + done.first_output_s, 3),
        result_s=round(opened_s + done.seconds, 3),
        pack=note.pack,
        pack_bytes=note.pack_bytes,
        fetched_bytes=note.fetched_bytes,
        notes=tuple(dict.fromkeys(notes)),
    )


if __name__ == "__main__":
    main()
