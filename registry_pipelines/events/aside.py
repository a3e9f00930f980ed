"""Messages that nobody can read, kept aside for a person: they never block the queue, and are never dropped unsaid."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

import msgspec

from registry_pipelines.events.source import Received
from registry_pipelines.oci.decoding import ready
from registry_pipelines.oci.files import local_errors

MAX_ASIDE = 1000
"""Files in the folder. What comes when it is full is said, and not kept."""


class Unreadable(msgspec.Struct, frozen=True, kw_only=True):
    """A message kept aside. at: when it was received, RFC 3339, UTC. body: its begin, as text."""

    at: str
    problem: str
    body: str


def keep_aside(folder: Path, messages: Iterable[Received], *, at: str) -> list[str]:
    """Keep those that could not be read, each content once, and say so, one sentence each. Raises LocalError."""
    said: list[str] = []
    for message in messages:
        if message.event is not None:
            continue
        name = hashlib.sha256(message.raw).hexdigest()[:16]
        path = folder / f"{name}.json"
        with local_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            if path.exists():
                continue
            if sum(1 for _ in folder.glob("*.json")) >= MAX_ASIDE:
                said.append(f"a message cannot be read, and {MAX_ASIDE} such are kept already: {message.problem}")
                continue
            body = message.raw.decode(errors="backslashreplace")
            temporary = path.with_suffix(f".{os.getpid()}")
            temporary.write_bytes(msgspec.json.encode(Unreadable(at=at, problem=message.problem, body=body)))
            temporary.replace(path)
        said.append(f"a message cannot be read and is kept aside as {path.name}: {message.problem}")
    return said


def read_aside(folder: Path) -> dict[str, Unreadable]:
    """What is kept, by file name, the newest first. Raises LocalError."""
    with local_errors(folder):
        contents = {path.name: path.read_bytes() for path in folder.glob("*.json")} if folder.is_dir() else {}
    found: dict[str, Unreadable] = {}
    for name, content in contents.items():
        try:
            found[name] = msgspec.json.decode(content, type=ready(Unreadable))
        except msgspec.MsgspecError:
            found[name] = Unreadable(at="", problem="the file itself is damaged", body="")
    return dict(sorted(found.items(), key=lambda item: item[1].at, reverse=True))
