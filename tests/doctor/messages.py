"""What people have in hand when an image does not come: each message in the form in which its program writes it, with
where such a one was reported, the cause, and words that the answer must have. Accounts, names and digests are ours."""

from __future__ import annotations

from pathlib import Path

import msgspec

_FILE = Path(__file__).parents[1] / "data" / "pull_messages.json"


class Message(msgspec.Struct, frozen=True):
    """One message. words: of the answer, all of its fields together."""

    source: str
    text: str
    cause: str
    words: tuple[str, ...] = ()


MESSAGES = msgspec.json.decode(_FILE.read_bytes(), type=tuple[Message, ...])
