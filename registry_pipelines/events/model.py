"""Events of registries, whichever cloud told them. Plain data.

``registry`` of an event is the registry's own host name (``111122223333.dkr.ecr.eu-west-1.amazonaws.com``,
``europe-west1-docker.pkg.dev``), ``repository`` the name in it as references have it, ``at`` RFC 3339 in UTC: when it
happened where the cloud says that, else when the message was published.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

ScanState = Literal["complete", "failed", "other"]


@dataclass(frozen=True, kw_only=True)
class _Event:
    """What all have in common. id: the cloud's own name of the event, the same in every copy of it; empty where it
    gives none."""

    at: str
    registry: str
    id: str = ""


@dataclass(frozen=True, kw_only=True)
class _OfImage(_Event):
    repository: str
    digest: str = ""
    """``sha256:...``; empty where the message names a tag alone."""
    tag: str = ""
    """Empty for what has none."""


@dataclass(frozen=True, kw_only=True)
class Pushed(_OfImage):
    """A manifest came, or a tag was set. upstream: whence a pull-through cache brought it; empty for a push."""

    upstream: str = ""


@dataclass(frozen=True, kw_only=True)
class Deleted(_OfImage):
    """A manifest or a tag went. What else named the digest may still be there."""


@dataclass(frozen=True, kw_only=True)
class Restored(_OfImage):
    """An image came back from the archive: from now on it can be pulled, like after a push."""


@dataclass(frozen=True, kw_only=True)
class Archived(_OfImage):
    """An image went to the archive: it is listed no more and cannot be pulled until it is restored."""


@dataclass(frozen=True, kw_only=True)
class ReferrerChanged(_OfImage):
    """Something that refers to an image (a signature, an SBOM) came, went, or changed its storage. action: as the cloud
    says it, ``PUSH``. artifact_type: its media type."""

    action: str
    artifact_type: str = ""


@dataclass(frozen=True, kw_only=True)
class PullThroughFailed(_OfImage):
    """A pull-through cache could not ask its upstream; what it has is served on."""

    upstream: str
    code: str = ""
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class Replicated(_OfImage):
    """The registry's own replication brought an image here, or failed to. source: the region it comes from."""

    ok: bool
    source: str
    source_account: str = ""


@dataclass(frozen=True, kw_only=True)
class Scanned(_OfImage):
    """A scan of the registry's own scanner ended. counts: findings by severity, as the cloud names them. scanner:
    ``ecr``, ``inspector`` or ``google``."""

    scanner: str
    state: ScanState
    status: str
    """In the cloud's words."""
    counts: Mapping[str, int] = field(default_factory=dict)
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ScanSettingsChanged(_Event):
    """How repositories are scanned was changed. repositories: name to the new frequency."""

    scan_type: str
    repositories: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class OccurrenceTold(_Event):
    """Artifact Analysis has something new about some image: the message names the occurrence alone, and says neither
    the image nor the finding. kind: ``VULNERABILITY``, ``DISCOVERY``, ..."""

    name: str
    kind: str


@dataclass(frozen=True, kw_only=True)
class Unconcerned(_Event):
    """An event that is well formed and tells nothing that anybody here acts on. kind: what it says it is."""

    kind: str


Event: TypeAlias = (
    Pushed
    | Deleted
    | Restored
    | Archived
    | ReferrerChanged
    | PullThroughFailed
    | Replicated
    | Scanned
    | ScanSettingsChanged
    | OccurrenceTold
    | Unconcerned
)

OF_IMAGES = (Pushed, Deleted, Restored, Archived, ReferrerChanged, PullThroughFailed, Replicated, Scanned)
"""Events with a repository."""


def kind_of(event: Event) -> str:
    """What an event is, in a word or two for tables."""
    if isinstance(event, Unconcerned):
        return event.kind
    words = {
        Pushed: "pushed",
        Deleted: "deleted",
        Restored: "restored",
        Archived: "archived",
        ReferrerChanged: "referrer",
        PullThroughFailed: "upstream failed",
        Replicated: "replicated",
        Scanned: "scanned",
        ScanSettingsChanged: "scan settings",
        OccurrenceTold: "occurrence",
    }
    if isinstance(event, Replicated) and not event.ok:
        return "replication failed"
    return words[type(event)]
