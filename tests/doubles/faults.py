"""The faults that the fault registry plays, as plain values."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Status:
    """Answer without asking the registry: 429, 5xx, 401, 404. after_bytes: of the request's body, read first."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    after_bytes: int = 0


@dataclass(frozen=True)
class CutAnswer:
    """Pass so many bytes of the answer's body, then close."""

    at_byte: int


@dataclass(frozen=True)
class CutRequest:
    """Pass so many bytes of the request's body, then close both sides. kept: the registry has stored them all the same,
    as zot does; else what becomes of them is its own affair."""

    at_byte: int
    kept: bool = False


@dataclass(frozen=True)
class LoseAnswer:
    """The registry does the work, its answer never arrives."""


@dataclass(frozen=True)
class HoldAnswer:
    """The answer waits for ``release`` (a slow commit, a stalled registry). after_bytes: of its body, sent first."""

    release: threading.Event
    after_bytes: int = -1


@dataclass(frozen=True)
class HoldContent:
    """No answer gives content from this byte on before ``release``, whichever range is asked for: who copies it comes
    so far, however fast or slow, and no further."""

    release: threading.Event
    from_byte: int


@dataclass(frozen=True)
class Corrupt:
    """One byte of the answer's body is changed."""

    at_byte: int = 0


@dataclass(frozen=True)
class Rewrite:
    """Change the answer's status or headers. ``{address}`` is the proxy's address. drop: names of headers."""

    status: int = 0
    drop: tuple[str, ...] = ()
    set: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class DropQuery:
    """The registry never sees the query: a mount becomes an ordinary upload (202)."""


@dataclass(frozen=True)
class NoRange:
    """The registry never sees the Range: it answers 200 with the whole blob. bytes_per_s: as fast; 0 unthrottled."""

    bytes_per_s: float = 0.0


@dataclass(frozen=True)
class StuckRange:
    """The upload's Range stays at the end of the first chunk though all bytes are kept, as ECR's does."""


@dataclass(frozen=True)
class Redirect:
    """Blobs are at the object store, behind a signed address that serves so many requests, then answers ``expired``."""

    uses: int = 1_000_000
    expired: int = 403


@dataclass(frozen=True)
class Throttle:
    """The answer's body comes at this rate: one slow stream, as over a distance."""

    bytes_per_s: float


Fault = (
    Status
    | CutAnswer
    | CutRequest
    | LoseAnswer
    | HoldAnswer
    | HoldContent
    | Corrupt
    | Rewrite
    | DropQuery
    | NoRange
    | StuckRange
    | Redirect
    | Throttle
)
