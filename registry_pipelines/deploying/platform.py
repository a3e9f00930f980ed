"""What a roll-out needs of the place where an image runs, and what is looked at there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from registry_pipelines.inventory.usage.model import split_image_id

BEFORE = "registry-pipelines/before"
"""Annotation of a workload or service: the image that ran before the last roll-out of ours. It survives the machine
that rolled out, for whoever finishes or takes back."""
RELEASE = "registry-pipelines/release"
"""Annotation: the image that the last roll-out of ours wrote."""


CONFLICT = 409
"""Status of the RegistryError that a change gets where somebody wrote the workload between a look and it."""


@dataclass(frozen=True)
class Instance:
    """A pod, or a revision that gets traffic. image_id: what it is said to run, as :func:`split_image_id` reads it;
    empty where nothing is said yet. trouble: why it is not ready, in the platform's words."""

    name: str
    image_id: str
    ready: bool
    restarts: int = 0
    trouble: str = ""

    @property
    def digest(self) -> str:
        """The digest of the manifest or of the config that runs; empty where it is not told."""
        _, digest, config = split_image_id(self.image_id)
        return digest or config


@dataclass(frozen=True)
class Look:
    """A workload as it is now.

    written: the image that it says. instances: what runs of it, of older states, too. settled: the platform itself says
    that what is written is what runs, all of it. progress: for people, ``2 of 3 pods are updated``. failed: why the
    platform will not come to an end by itself; empty while it may. blocked: why nothing would come of a change.
    revision: what it calls this state. annotations: of the workload. parted: what is written has a part of the traffic,
    as a roll-out of ours begins; ``instances`` are its own then. setter: who wrote the image last, where that is told.
    version: changes with every write, for :meth:`Platform.change`. raw: what the platform needs of it again.
    """

    written: str
    instances: tuple[Instance, ...]
    settled: bool
    progress: str
    revision: str
    version: str
    failed: str = ""
    blocked: str = ""
    parted: bool = False
    setter: str = ""
    annotations: Mapping[str, str] = field(default_factory=dict)
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def digests(self) -> list[str]:
        """The digests that instances run, each once; without those that do not tell."""
        return list(dict.fromkeys(each.digest for each in self.instances if each.digest))

    @property
    def troubles(self) -> list[str]:
        """What keeps instances from being ready, each once: hundreds of pods say the same."""
        return list(dict.fromkeys(each.trouble for each in self.instances if each.trouble))

    @property
    def ran(self) -> str:
        """What runs, as an image that can be written: by digest, where all instances run the same one; else as it is
        written."""
        named = self.written.partition("@")[0]
        manifests = {split_image_id(each.image_id)[1] for each in self.instances}
        if "@" in self.written or len(manifests) != 1 or not (digest := manifests.pop()):
            return self.written
        return f"{without_tag(named)}@{digest}"


def without_tag(reference: str) -> str:
    """``host:5000/app`` of ``host:5000/app:1.2``."""
    head, slash, last = reference.rpartition("/")
    return f"{head}{slash}{last.partition(':')[0]}"


class Platform(Protocol):
    """A workload at Cloud Run or in a cluster."""

    @property
    def where(self) -> str:
        """For people: ``cluster api.example, deployment shop/web, container app``."""
        ...

    def look(self) -> Look:
        """Read it. Raises NotFound (no such workload), InputError (no such container, or one that cannot be rolled
        out), Forbidden with the verb and resource, RegistryError."""
        ...

    def change(self, seen: Look, image: str, annotations: Mapping[str, str], *, back: bool = False) -> None:
        """Write another image, where nobody wrote since ``seen``. annotations: set with it. back: to what ran before,
        at once. Raises RegistryError: of the status ``CONFLICT`` where somebody did; nothing was written then."""
        ...

    def widen(self, seen: Look) -> bool:
        """Give the new state all of the traffic, where it has a part; whether there was anything to do. Raises as
        :meth:`change`."""
        ...

    def unblock(self, seen: Look, given_up: str) -> list[str]:
        """Take away the instances without which the platform would come to no end, and name them. given_up: the image
        of a roll-out that is taken back; empty while one goes on. Raises Forbidden, RegistryError."""
        ...

    def close(self) -> None:
        """Close connections."""
        ...


__all__ = [
    "BEFORE",
    "RELEASE",
    "CONFLICT",
    "Instance",
    "Look",
    "Platform",
    "without_tag",
]
