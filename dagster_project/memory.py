"""What a sensor keeps in its cursor, and the run keys that follow from it.

Dagster serves a run key once for ever, also after a failed run and after the cursor was reset. A key here therefore has
a part that begins anew with every fresh cursor: within one cursor's life a request is served once, whatever ticks are
repeated; after a reset, which is how a person asks for everything again, all keys are new.
"""

import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Annotated, Self

import dagster as dg
import msgspec

from registry_pipelines.oci.decoding import ready

BEFORE = "before"
"""Stands in place of the evidence; no digest ends so."""
Count = Annotated[int, msgspec.Meta(ge=0)]


class Cursor(msgspec.Struct):
    """A sensor's cursor, decoded; each sensor adds what it remembers. life: part of run keys that a fresh cursor
    renews."""

    life: str = ""

    @classmethod
    def read(cls, context: dg.SensorEvaluationContext) -> Self:
        """From the tick's cursor; one that cannot be read begins anew, with a warning in the tick's log."""
        seen = cls()
        if context.cursor:
            try:
                seen = msgspec.json.decode(context.cursor, type=ready(cls))
            except ValueError as error:
                context.log.warning("the cursor cannot be read and begins anew: %s", error)
        seen.life = seen.life or beginning(context.last_tick_completion_time)
        return seen

    def write(self) -> str:
        """The cursor's text."""
        return msgspec.json.encode(self).decode()


@dataclass
class Memory:
    """A cursor, decoded.

    attempts: by fingerprint of the key (16 hex digits, so 3,000 releases stay below 100 KB), how many runs were asked
    for, and for which evidence (the end of its digest; empty for a push; ``BEFORE`` for what was there before the first
    look). looks: how many there were. last: what the last look ended with, where it did not reach everything. life: the
    part of run keys that a fresh cursor renews. looked_for: by image what the first look at it looked for; None in
    cursors of earlier versions, which asked for runs of all that was there. receipts: of messages whose word this
    cursor holds; they are acknowledged by the tick that is given it. listed_s: Unix time at which a registry with
    events was listed last.
    """

    attempts: dict[str, tuple[str, Count]] = field(default_factory=dict)
    looks: Count = 0
    last: str = ""
    life: str = ""
    looked_for: dict[str, str] | None = None
    receipts: list[str] = field(default_factory=list)
    listed_s: float = 0

    @classmethod
    def read(cls, cursor: str) -> "Memory":
        """From a cursor, also of an earlier version, which has no life. Raises ValueError for what is none: the UI lets
        people type one."""
        return msgspec.json.decode(cursor, type=ready(cls))

    def write(self) -> str:
        """The text that Dagster keeps as the cursor until the next tick."""
        return msgspec.json.encode(self).decode()

    def tried(self, key: str, evidence: str = "") -> int:
        """How many runs were asked for, for this evidence."""
        about, count = self.attempts.get(fingerprint(key), ("", 0))
        return count if about == evidence[-16:] else 0

    def ask(self, key: str, evidence: str = "") -> dg.RunRequest:
        """The request for the next attempt at a release."""
        attempt = self.tried(key, evidence) + 1
        self.attempts[fingerprint(key)] = (evidence[-16:], attempt)
        return dg.RunRequest(run_key=f"{key}#{evidence}#{self.life}#{attempt}", partition_key=key)

    def noted(self, key: str) -> bool:
        """Whether anything is known of a release: runs were asked for, or it was there before."""
        return fingerprint(key) in self.attempts

    def pass_over(self, keys: Iterable[str]) -> None:
        """Releases were there before the first look: no run is asked for."""
        self.attempts |= {fingerprint(key): (BEFORE, 1) for key in keys}

    def look_first(self, sought: Mapping[str, str], answered: Iterable[str]) -> set[str]:
        """The images among the answered that were never looked at for what is sought now; now they are. sought: image
        to what is looked for."""
        looked_for = self.looked_for
        if looked_for is None:
            looked_for = dict(sought) if self.looks else {}
        first = {image for image in answered if looked_for.get(image) != sought[image]}
        self.looked_for = looked_for | {image: sought[image] for image in first}
        return first

    def rename(self, keys: Mapping[str, str]) -> None:
        """What was noted about the old keys is noted about the new ones. keys: old to new."""
        marks = {fingerprint(old): fingerprint(new) for old, new in keys.items()}
        self.attempts = {marks.get(mark, mark): tried for mark, tried in self.attempts.items()}

    def forget(self, keys: Iterable[str]) -> None:
        """Forget everything about some keys: when they come again they are new."""
        for key in keys:
            self.attempts.pop(fingerprint(key), None)

    def keep(self, keys: Iterable[str]) -> None:
        """Forget everything about other keys."""
        marks = {fingerprint(key) for key in keys}
        self.attempts = {mark: tried for mark, tried in self.attempts.items() if mark in marks}


def recall(context: dg.SensorEvaluationContext) -> Memory:
    """The memory of this tick. A cursor that cannot be read begins anew, with a warning in the tick's log: a sensor
    that failed over it would fail at every tick."""
    memory = Memory()
    if context.cursor:
        try:
            memory = Memory.read(context.cursor)
        except ValueError as error:
            context.log.warning("the cursor cannot be read and begins anew: %s", error)
    memory.life = memory.life or beginning(context.last_tick_completion_time)
    return memory


def beginning(last_tick_s: float | None) -> str:
    """The life of a cursor that begins now. Named after the tick before it, so that a tick that is evaluated twice, by
    two daemons or after a kill, asks with the same keys; by chance where there was none."""
    return secrets.token_hex(4) if last_tick_s is None else f"{round(last_tick_s * 1000):x}"


def fingerprint(key: str) -> str:
    """A short name for a partition key: a cursor has a limit, and thousands of keys."""
    return sha256(key.encode()).hexdigest()[:16]
