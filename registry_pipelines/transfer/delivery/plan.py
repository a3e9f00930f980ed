"""What a copy will do, as a plain value: it can be printed, stored and approved; the dry run *is* this value.

The order that every execution keeps: blobs; manifests, children before parents and subjects before referrers; tags
last, by digest. A blob that several repositories of one registry need is uploaded for the first (the *leader*) and
mounted for the others once the leader's manifests are committed, because ECR mounts only blobs that a committed
manifest names. ``planner.py`` makes plans, ``execute.py`` applies them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import msgspec

from registry_pipelines.errors import RegistryPipelinesError
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor, ManifestBytes
from registry_pipelines.registry.protocol import Place
from registry_pipelines.transfer.closure import omissions
from registry_pipelines.transfer.closure.closure import Closure

BlobKey = tuple[str, str, Digest]
"""Registry name, repository, digest: a blob or manifest in one place."""


def key_of(place: Place, digest: Digest) -> BlobKey:
    """The key of a blob or manifest in a place."""
    return place.registry.name, place.repository, digest


@dataclass(frozen=True)
class Job:
    """One closure and where it must be. tags: what the root is called there. move_tags: whether a tag that names
    another digest may move; when not, it is reported as drift and left alone."""

    closure: Closure
    targets: tuple[Place, ...]
    tags: tuple[str, ...] = ()
    move_tags: bool = True


class BlobStep(msgspec.Struct, frozen=True):
    """One blob at one target. ``upload``: from the source. ``mount``: from repository ``mount_from`` of the target's
    registry. ``shared``: another delivery of the plan brings it to the same repository. ``present``: nothing to do."""

    descriptor: Descriptor
    action: Literal["upload", "mount", "shared", "present"]
    mount_from: str = ""
    leader: int | None = None
    """The delivery (its position in the plan) whose manifests must be committed before the mount."""


class ManifestStep(msgspec.Struct, frozen=True):
    """One manifest at one target. ``list``: it is there, but the target's list of referrers does not name it; putting
    it once more completes the list. ``shared``: another delivery of the plan puts it into the same repository."""

    manifest: ManifestBytes
    action: Literal["put", "list", "shared", "present"]


class TagStep(msgspec.Struct, frozen=True):
    """One tag at one target. ``drift``: it names another digest and may not move, or keeps the list of referrers.
    ``shared``: another delivery of the plan sets it, as a digest tag of an image that goes under several tags. before:
    what it named until now."""

    tag: str
    digest: Digest
    before: Digest | None
    action: Literal["set", "shared", "present", "drift"]


@dataclass(frozen=True)
class Delivery:
    """Everything to do for one closure at one target."""

    job: Job
    target: Place
    blobs: tuple[BlobStep, ...]
    manifests: tuple[ManifestStep, ...]
    tags: tuple[TagStep, ...]
    refused: str = ""
    """Why the target will not take it, known beforehand; then there are no steps."""
    unseen: RegistryPipelinesError | None = None
    """Why the target could not be looked at; ``refused`` says the same in words."""
    do: str = ""
    """What to do about ``refused``; empty where only ``unseen`` tells."""

    @property
    def upload_bytes(self) -> int:
        """Bytes of the blobs that this delivery uploads."""
        return sum(step.descriptor.size for step in self.blobs if step.action == "upload")

    @property
    def unchanged(self) -> bool:
        """Whether the target has everything already."""
        steps: Iterable[BlobStep | ManifestStep | TagStep] = (*self.blobs, *self.manifests, *self.tags)
        return not self.refused and all(step.action in ("present", "drift") for step in steps)

    def key(self, digest: Digest) -> BlobKey:
        """The name of a blob at this target."""
        return key_of(self.target, digest)

    def written(self) -> Iterator[BlobKey]:
        """The manifests that are written, be it again under another tag."""
        for step in self.manifests:
            if step.action != "present":
                yield self.key(step.manifest.digest)
        for tag in self.tags:
            if tag.action == "set":
                yield self.key(tag.digest)

    def mounts(self) -> list[Digest]:
        """The blobs that are to be mounted."""
        return [step.descriptor.digest for step in self.blobs if step.action == "mount"]

    def to_json(self) -> dict[str, object]:
        """Plain values for JSON; digests and names only, no secrets."""
        return {
            "source": str(self.job.closure.source),
            "reference": self.job.closure.reference,
            "root": str(self.job.closure.root.digest),
            "target": str(self.target),
            **({"refused": self.refused} if self.refused else {}),
            **({"do": self.do} if self.do else {}),
            "blobs": [
                {
                    "digest": str(step.descriptor.digest),
                    "size_bytes": step.descriptor.size,
                    "action": step.action,
                    **({"mount_from": step.mount_from} if step.mount_from else {}),
                }
                for step in self.blobs
            ],
            "manifests": [
                {"digest": str(step.manifest.digest), "media_type": step.manifest.media_type, "action": step.action}
                for step in self.manifests
            ],
            "left_out": omissions.rows(self.job.closure.omissions),
            "tags": [
                {"tag": step.tag, "digest": str(step.digest), "before": str(step.before or ""), "action": step.action}
                for step in self.tags
            ],
        }


@dataclass(frozen=True)
class Plan:
    """Deliveries in the order of the jobs; earlier ones lead, later ones mount."""

    deliveries: tuple[Delivery, ...] = ()

    @property
    def unchanged(self) -> bool:
        """Whether nothing is to be done."""
        return all(delivery.unchanged for delivery in self.deliveries)

    @property
    def upload_bytes(self) -> int:
        """Bytes that targets receive."""
        return sum(delivery.upload_bytes for delivery in self.deliveries)

    @property
    def largest_upload_bytes(self) -> int:
        """The largest blob that a target receives; 0 when none does."""
        return max((step.descriptor.size for step in self._steps("upload")), default=0)

    @property
    def fetch_bytes(self) -> int:
        """Bytes that leave the sources: every blob once, however many targets it goes to."""
        return sum({step.descriptor.digest: step.descriptor.size for step in self._steps("upload")}.values())

    def _steps(self, action: str) -> list[BlobStep]:
        return [step for delivery in self.deliveries for step in delivery.blobs if step.action == action]

    def to_json(self) -> dict[str, object]:
        """The whole plan as plain values."""
        return {
            "fetch_bytes": self.fetch_bytes,
            "upload_bytes": self.upload_bytes,
            "mounts": len(self._steps("mount")),
            "deliveries": [delivery.to_json() for delivery in self.deliveries],
        }
