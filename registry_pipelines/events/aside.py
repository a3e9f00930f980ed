"""Messages that nobody can read, kept aside for a person: they never block the queue, and are never dropped unsaid."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import msgspec

from registry_pipelines.events.source import Received
from registry_pipelines.oci.decoding import ready
from registry_pipelines.shared.documents import Documents

MAX_ASIDE = 1000
"""Files in the folder. What comes when it is full is said, and not kept."""


class Unreadable(msgspec.Struct, frozen=True, kw_only=True):
    """A message kept aside. at: when it was received, RFC 3339, UTC. body: its begin, as text."""

    at: str
    problem: str
    body: str


def keep_aside(folder: Documents, messages: Iterable[Received], *, at: str) -> list[str]:
    """Keep those that could not be read, each content once, and say so, one sentence each. Raises LocalError."""
    said: list[str] = []
    for message in messages:
        if message.event is not None:
            continue
        name = hashlib.sha256(message.raw).hexdigest()[:16]
        file, kept = f"{name}.json", {each.name for each in folder.entries()}
        if file in kept:
            continue
        if len(kept) >= MAX_ASIDE:
            said.append(f"a message cannot be read, and {MAX_ASIDE} such are kept already: {message.problem}")
            continue
        body = message.raw.decode(errors="backslashreplace")
        folder.write(file, msgspec.json.encode(Unreadable(at=at, problem=message.problem, body=body)))
        said.append(f"a message cannot be read and is kept aside as {file}: {message.problem}")
    return said


def read_aside(folder: Documents) -> dict[str, Unreadable]:
    """What is kept, by file name, the newest first. Raises LocalError."""
    names = [each.name for each in folder.entries() if each.name.endswith(".json")]
    contents = {name: kept.content for name in names if (kept := folder.read(name))}
    found: dict[str, Unreadable] = {}
    for name, content in contents.items():
        try:
            found[name] = msgspec.json.decode(content, type=ready(Unreadable))
        except msgspec.MsgspecError:
            found[name] = Unreadable(at="", problem="the file itself is damaged", body="")
    return dict(sorted(found.items(), key=lambda item: item[1].at, reverse=True))
