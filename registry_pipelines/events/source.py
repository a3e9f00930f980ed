"""A queue that events lie in until somebody has acted on them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from registry_pipelines.errors import ManifestInvalid
from registry_pipelines.events.model import Event

MAX_KEPT_BYTES = 64 * 1024
"""Of a message that nobody can read, so much is kept for a person to look at."""


@dataclass(frozen=True)
class Received:
    """One message. receipt: what :meth:`EventSource.acknowledge` takes; good for as long as the message is held.
    event: None for a message that cannot be read; then ``problem`` says why, a sentence, and ``raw`` is its begin."""

    receipt: str
    event: Event | None
    problem: str = ""
    raw: bytes = b""


@dataclass(frozen=True)
class QueueState:
    """What a queue says of itself. waiting, held: messages, about; -1 where it does not say. notes: what is set up in
    a way that loses or repeats messages, one sentence each."""

    where: str
    waiting: int = -1
    held: int = -1
    notes: tuple[str, ...] = ()


class EventSource(Protocol):
    """One queue, read by one consumer. Safe for many threads; nothing is asked before the first call.

    All methods raise the RegistryError family, InputError and ToolMissing.
    """

    where: str
    """The queue, for messages."""

    def receive(self, most: int, *, hold_s: int, wait_s: int = 0) -> list[Received]:
        """Up to ``most`` messages, each held back from everybody for ``hold_s`` seconds: whoever does not acknowledge
        them until then gets them again. wait_s: how long an empty queue is waited for, at most 20."""
        ...

    def acknowledge(self, receipts: Sequence[str]) -> int:
        """Drop messages for good, and how many could not be dropped: those come again, and are the same again."""
        ...

    def state(self) -> QueueState:
        """For a person who looks; no message is touched."""
        ...


def read(decode: Callable[[bytes], Event], raw: bytes, receipt: str) -> Received:
    """A message as it came, read or not. Never raises for its content."""
    try:
        return Received(receipt, decode(raw))
    except ManifestInvalid as error:
        return Received(receipt, None, error.what, raw[:MAX_KEPT_BYTES])


def portions(receipts: Sequence[str], size: int) -> list[Sequence[str]]:
    """In lists that one request takes; none twice."""
    distinct = list(dict.fromkeys(receipts))
    return [distinct[start : start + size] for start in range(0, len(distinct), size)]
