"""The whole life of a digest as statements, each with the evidence that says so. Plain data; nothing is asked here.

A statement is a fact only where its state is ``verified``, or where a registry itself was asked (``seen``). What
anybody who may push could have written stands beside it, and is called what it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

import msgspec

from registry_pipelines.evidence.model import key_name

State = Literal["verified", "seen", "unsigned", "rejected", "logged"]
"""Why a statement stands there. ``verified``: a key that is believed for it signed it. ``seen``: the registry itself
answered so when the page was made. ``unsigned``: attached by whoever may push, or written by a machine of ours without
a key: a claim. ``rejected``: it looked like evidence, and is not believed. ``logged``: a log or an event of the cloud
or the registry says so, which nobody here signed."""

STATES: Mapping[State, str] = {
    "verified": "signature verified",
    "seen": "the registry said so just now",
    "unsigned": "unsigned: a claim",
    "rejected": "not believed",
    "logged": "a log says so: not signed",
}
"""In words for people."""

Chapter = Literal[
    "source",
    "builder",
    "bases",
    "packages",
    "findings",
    "signatures",
    "people",
    "verdicts",
    "channels",
    "places",
    "deployments",
    "access",
    "revocations",
    "other",
]

CHAPTERS: Mapping[Chapter, str] = {
    "source": "Source",
    "builder": "Builder",
    "bases": "Base images",
    "packages": "Packages",
    "findings": "Findings over time",
    "signatures": "Signatures of the image",
    "people": "Who approved it",
    "verdicts": "Verdicts",
    "channels": "Channels, and when",
    "places": "Where it went",
    "deployments": "Deployments",
    "access": "Who pushed, pulled, and deleted it",
    "revocations": "Revocations",
    "other": "Other evidence",
}
"""In the order in which they are read: how it was made, what is in it, who let it go, where it is."""

Cell = str | int


class Statement(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is said about a digest, and who says so."""

    chapter: Chapter
    says: str
    """One sentence, without a full stop."""
    state: State
    time: str = ""
    """When it happened, RFC 3339 in UTC; empty where nothing says so."""
    evidence: str = ""
    """Digest of the manifest, or the document, that says so; empty where a registry or a log was asked."""
    signer: str = ""
    """Id of the key that signed it, or the identity of a certificate; empty where nobody believed did."""
    role: str = ""
    """What that key is believed for: ``builder``, ``scanner``, ``promoter``, ``person``."""
    details: tuple[str, ...] = ()
    """More of it, a line each: every reason of a verdict."""

    def proof(self) -> str:
        """Its state with who signed, for people."""
        if self.state != "verified":
            return STATES[self.state]
        by = " ".join(filter(None, [key_name(self.signer) or "a key", self.role and f"({self.role})"]))
        return f"{STATES[self.state]}: {by}"


class Custody(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that is known of one digest."""

    name: str
    """As it was asked for: a release's key, or an image's name with its digest."""
    digest: str
    place: str
    """Registry and repository whose evidence was read."""
    made_at: str
    """When the page was made, RFC 3339, UTC."""
    sentence: str
    """How it stands, in a few words: ``denied``, ``prod names it``."""
    statements: tuple[Statement, ...]
    """As :func:`in_order` has them."""
    missing: Mapping[Chapter, str] = {}
    """Chapters that nothing could be said in, each with why: that nothing was found, or that nobody looked."""
    packages: tuple[Mapping[str, Cell], ...] = ()
    """What the SBOMs list: ``name``, ``version``, ``type``, ``platform``."""
    findings: tuple[Mapping[str, Cell], ...] = ()
    """Each finding that any report had: ``id``, ``component``, ``severity``, ``first_seen``, ``last_seen``, ``fixed``,
    ``state``."""
    ages: tuple[tuple[str, float], ...] = ()
    """At the time of each report, the oldest first: for how many days the oldest finding that was critical or high then
    was known in this digest."""
    alerts: tuple[str, ...] = ()
    """What a reader must know first: a channel without a record, a delete without a plan, a break-glass."""
    notes: tuple[str, ...] = ()
    """What was left out or could not be read, one sentence each."""

    def chapter(self, chapter: Chapter) -> list[Statement]:
        """The statements of one chapter."""
        return [each for each in self.statements if each.chapter == chapter]

    def counts(self) -> dict[State, int]:
        """How many statements there are of each state; all states are keys."""
        found = dict.fromkeys(STATES, 0)
        for each in self.statements:
            found[each.state] += 1
        return found

    def plain(self) -> dict[str, Any]:
        """The same as plain JSON values."""
        found: dict[str, Any] = msgspec.to_builtins(self, enc_hook=str)
        return found


def in_order(statements: Iterable[Statement]) -> tuple[Statement, ...]:
    """Statements as a page has them: by chapter, then by time, what has none first; how it is now comes last."""
    chapters = list(CHAPTERS)
    return tuple(sorted(statements, key=lambda each: (chapters.index(each.chapter), each.state == "seen", each.time)))
