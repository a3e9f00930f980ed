"""What is known of a run."""

from __future__ import annotations

from typing import Literal

import msgspec

from registry_pipelines.errors import EvidenceError

Status = Literal[
    "QUEUED",
    "NOT_STARTED",
    "MANAGED",
    "STARTING",
    "STARTED",
    "SUSPENDED",
    "SUCCESS",
    "FAILURE",
    "CANCELING",
    "CANCELED",
]
ENDED: tuple[Status, ...] = ("SUCCESS", "FAILURE", "CANCELED")
PARTITION = "dagster/partition"
OUTCOME = "registry-pipelines/outcome"
PERSON = "registry-pipelines/person"


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """A run. Times are seconds since 1970; None for what did not happen yet."""

    run: str
    """Its whole id."""
    job: str
    status: Status
    partition: str = ""
    """The release's key, the image, the bucket: what it is about."""
    outcome: str = ""
    """How its release ended: ``promoted``, ``denied``, ``held``, ``failed``; empty for none."""
    person: str = ""
    """Whom a proxy named at launch."""
    created: float | None = None
    started: float | None = None
    ended: float | None = None
    url: str = ""
    reasons: tuple[str, ...] = ()
    """Why it failed, a sentence for each step."""

    @property
    def over(self) -> bool:
        """Whether it ended."""
        return self.status in ENDED

    @property
    def exit_code(self) -> int:
        """Of a command that waited for it: 0 where it ended well, 3 where a gate said no, else 1."""
        if not self.over or self.status == "SUCCESS":
            return 0
        return EvidenceError.exit_code if self.outcome == "denied" else 1
