"""What an agent counts since it started, for `node status` and for Prometheus.

Counters have labels of few values each; what a person wants to read of one image is a :class:`Fallback`. Counters that
belong to one mount (bytes, stalls) are in its note (``stream.lazy.notes``) and are added here by ``status``.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Literal

import msgspec

from registry_pipelines.errors import (
    ContentError,
    DiskFull,
    EvidenceError,
    Forbidden,
    InputError,
    LocalError,
    NotFound,
    RegistryError,
    Unauthorized,
    Unavailable,
)
from registry_pipelines.node.lately import Lately
from registry_pipelines.oci.times import write_time

COUNTERS: dict[str, str] = {
    "images": "Images that were looked at for a pull. served: all, part (some layers are pulled as usual), none.",
    "layers": "Layers that containerd asked for. way: lazy (served before they are fetched), normal (pulled as usual).",
    "fallbacks": "Images, or their upper layers, that were left to the normal pull. reason: see Reason.",
    "packs": "Mounts that began with a hot pack.",
    "mounts": "Trees that were mounted.",
    "fetched_bytes": "Bytes from registries. way: pack, demand (somebody waited), background.",
    "requests": "Requests to registries for layers and hot packs.",
    "stalls": "Reads of containers that waited for a registry.",
    "stalled_seconds": "Seconds that they waited, all together.",
    "failed_reads": "Reads of containers that ended with EIO.",
    "refused": "Images that the gate refused. mode: enforce, audit.",
    "taken_over": "Mounts of an agent that ended or was killed which this one serves on.",
    "lost": "Mounts that could not be taken over.",
    "recordings": "Recordings of starts. result: sent, dropped.",
    "evicted_bytes": "Bytes of layers that were deleted from this node's store, since nobody used them for longest.",
}
"""Each with what it says; a new one is a row here."""

Reason = Literal[
    "not-indexed",
    "not-trusted",
    "not-found",
    "credentials",
    "registry",
    "slow",
    "draining",
    "disk",
    "this-machine",
    "image",
    "other",
]
"""Why an image is pulled as usual. not-indexed: nothing says how it is read by pieces. not-trusted: signed by nobody
who is believed. slow: the registry took longer than a pull waits. this-machine: it cannot be mounted here. image: it is
not what it says."""

MOST_FALLBACKS = 100
"""Images of which the last reason is kept; a node has fewer."""

SAME_PULL_S = 60.0
"""For so long the same reason for the same image is that of the same pull."""

_REASONS: tuple[tuple[type[Exception] | tuple[type[Exception], ...], Reason], ...] = (
    ((Unauthorized, Forbidden), "credentials"),
    (NotFound, "not-found"),
    ((Unavailable, RegistryError), "registry"),
    (EvidenceError, "not-trusted"),
    (DiskFull, "disk"),
    ((LocalError, InputError), "this-machine"),
    (ContentError, "image"),
)
"""The first that fits."""


def reason_of(error: Exception) -> Reason:
    """The word for what kept an image from being served."""
    return next((reason for kinds, reason in _REASONS if isinstance(error, kinds)), "other")


class Counted(msgspec.Struct, frozen=True):
    """One counter with its labels."""

    name: str
    value: float
    labels: dict[str, str] = {}


class Fallback(msgspec.Struct, frozen=True):
    """An image that was left to the normal pull, for the last time."""

    image: str
    """Reference and digest."""
    reason: Reason
    why: str
    """One sentence."""
    at: str
    """RFC 3339, UTC."""
    count: int = 1
    """How often, since the agent started."""


class Counts:
    """See the module. For many threads; counters only grow."""

    def __init__(self) -> None:
        self._lock, self._fell_back = threading.Lock(), Lately()
        self._counters: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}
        self._fallbacks: dict[str, Fallback] = {}

    def count(self, name: str, amount: float = 1, /, **labels: str) -> None:
        """Add to a counter. Raises KeyError for one that ``COUNTERS`` has not."""
        if name not in COUNTERS:
            raise KeyError(name)
        key = name, tuple(sorted(labels.items()))
        with self._lock:
            self._counters[key] = self._counters.get(key, 0) + amount

    def fall_back(self, image: str, reason: Reason, why: str) -> None:
        """An image, or some of its layers, are pulled as usual: counted once for a pull, which asks for each layer, and
        told by `node status`. why: without secrets."""
        if not self._fell_back.first((image, reason), SAME_PULL_S):
            return
        self.count("fallbacks", reason=reason)
        with self._lock:
            before = self._fallbacks.pop(image, None)
            self._fallbacks[image] = Fallback(
                image, reason, why, write_time(datetime.now(UTC)), before.count + 1 if before else 1
            )
            if len(self._fallbacks) > MOST_FALLBACKS:
                self._fallbacks.pop(next(iter(self._fallbacks)))

    def value(self, name: str, /, **labels: str) -> float:
        """Of one counter; 0 where nothing was counted. Without labels the sum over all of them."""
        with self._lock:
            found = list(self._counters.items())
        wanted = set(labels.items())
        return sum(value for (each, told), value in found if each == name and wanted <= set(told))

    def counters(self) -> Sequence[Counted]:
        """All, in the order of their names."""
        with self._lock:
            found = sorted(self._counters.items())
        return [Counted(name, value, dict(labels)) for (name, labels), value in found]

    def fallbacks(self) -> Sequence[Fallback]:
        """The newest first."""
        with self._lock:
            return list(reversed(self._fallbacks.values()))


__all__ = ["COUNTERS", "Counted", "Counts", "Fallback", "Reason", "reason_of"]
