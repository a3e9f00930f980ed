"""What a copy did: one result per closure and target."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import msgspec

from registry_pipelines.errors import RegistryPipelinesError
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.registry.protocol import Place
from registry_pipelines.transfer.closure import omissions
from registry_pipelines.transfer.closure.closure import Omission
from registry_pipelines.transfer.delivery.plan import Delivery, Plan
from registry_pipelines.transfer.delivery.receipts import Receipt


class Drift(msgspec.Struct, frozen=True):
    """A tag that does not name what was planned. ``target``: it names something else there and may not move.
    ``source``: it moved at the source while its planned digest was copied. found: None when the tag is gone."""

    kind: Literal["source", "target"]
    tag: str
    planned: Digest
    found: Digest | None

    def __str__(self) -> str:
        return f"tag {self.tag} at the {self.kind} names {self.found or 'nothing'}, planned was {self.planned}"


@dataclass(eq=False)
class TargetResult:
    """A delivery and what became of it; it is filled while the copy goes on, and nobody changes it afterwards.

    error: why it is not complete there; then there is no receipt, and no tag was moved unless all it names was there.
    bytes_moved counts blob content that this run sent to the target, bytes_resumed what its uploads had there already,
    from an earlier run that did not finish them.
    """

    delivery: Delivery
    source: Place
    target: Place
    """The delivery's, as they are asked while it is made."""
    bytes_moved: int = 0
    bytes_resumed: int = 0
    blobs_moved: int = 0
    blobs_mounted: int = 0
    manifests_put: int = 0
    tags_moved: int = 0
    seconds: float = 0.0
    receipt: Receipt | None = None
    drift: tuple[Drift, ...] = ()
    error: RegistryPipelinesError | None = None
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    """Held by who counts."""
    began: float = field(default_factory=time.monotonic, repr=False)

    @property
    def label(self) -> str:
        """Its name in progress."""
        closure = self.delivery.job.closure
        return f"{closure.source}:{closure.reference} -> {self.place}"

    @property
    def place(self) -> Place:
        """The target."""
        return self.delivery.target

    @property
    def root(self) -> Descriptor:
        """What is copied."""
        return self.delivery.job.closure.root

    @property
    def left_out(self) -> tuple[Omission, ...]:
        """What belongs to the image and was not to come here, with the reason."""
        return self.delivery.job.closure.omissions

    @property
    def changed(self) -> bool:
        """Whether anything was changed there."""
        return self.blobs_moved + self.blobs_mounted + self.manifests_put + self.tags_moved > 0

    @property
    def ok(self) -> bool:
        """Whether the target has all of it, under the planned tags."""
        return self.error is None and not any(item.kind == "target" for item in self.drift)

    @property
    def state(self) -> Literal["failed", "drift", "copied", "unchanged"]:
        """The word for it in tables."""
        return "failed" if self.error else "drift" if self.drift else "copied" if self.changed else "unchanged"

    @property
    def trouble(self) -> str:
        """Its error, or its drift; empty for neither."""
        return str(self.error or "; ".join(map(str, self.drift)))

    @property
    def left_out_note(self) -> str:
        """What was left out, in one line; empty for nothing."""
        return omissions.note(self.left_out)

    def row(self) -> dict[str, str | int | float]:
        """One line of a table."""
        return {
            "target": str(self.place),
            "digest": str(self.root.digest),
            "state": self.state,
            "bytes": self.bytes_moved,
            "resumed_bytes": self.bytes_resumed,
            "blobs": self.blobs_moved,
            "mounted": self.blobs_mounted,
            "manifests": self.manifests_put,
            "tags": self.tags_moved,
            "seconds": round(self.seconds, 3),
            "left_out": len(self.left_out),
            "note": "; ".join(filter(None, [self.trouble, self.left_out_note])),
        }


@dataclass(frozen=True)
class CopyResult:
    """What ``copy_closure`` did, or with ``dry_run`` would do (then only the plan is set)."""

    root: Descriptor
    per_target: Sequence[TargetResult]
    plan: Plan
    requests: Mapping[str, int] = field(default_factory=dict)
    """Requests to each registry, by its name."""

    @property
    def changed(self) -> bool:
        """Whether anything was changed anywhere."""
        return any(result.changed for result in self.per_target)

    @property
    def bytes_moved(self) -> int:
        """Bytes sent, over all targets."""
        return sum(result.bytes_moved for result in self.per_target)

    @property
    def left_out(self) -> tuple[Omission, ...]:
        """What belongs to the image and does not come along."""
        return next((each.job.closure.omissions for each in self.plan.deliveries), ())
