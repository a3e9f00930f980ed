"""Put a set of weights into a registry, from wherever a transfer reads: an object store, or another registry."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Literal

from registry_pipelines.evidence.artifacts import attach_bundle
from registry_pipelines.evidence.predicates import OMS_TYPE
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.registry.blobs import push_blob
from registry_pipelines.registry.protocol import Place
from registry_pipelines.registry.tags import tag_content
from registry_pipelines.transfer.engine import PLAIN, Engine
from registry_pipelines.transfer.uploads import Uploads, Wanted
from registry_pipelines.weights.model import CONFIG_TYPE
from registry_pipelines.weights.oms.attached import fits
from registry_pipelines.weights.opening import distinct
from registry_pipelines.weights.to_store import Source

Carried = Literal["none", "attached", "present", "of other files"]
"""What became of a signature that lies beside files: there was none; it came along; it was there; it stays behind."""


@dataclass(frozen=True)
class RegisteredWeights:
    """A set that is in a registry now. changed: the tag names it since now, or its signature came. files: how many
    contents were ``present``, ``mounted`` or ``copied``. bytes_sent: by this run. signature: what became of the
    source's. replaced: what the tag named before, where that was something else."""

    descriptor: Descriptor
    changed: bool
    files: Counter[str]
    bytes_sent: int
    signature: Carried = "none"
    replaced: Digest | None = None


def register_weights(source: Source, place: Place, tag: str, *, engine: Engine = PLAIN) -> RegisteredWeights:
    """Have a set under a tag, which moves when all of it is there, and a signature that fits beside it; the digest is
    the one it had where it comes from.

    Raises ContentError (the source gave other bytes, or changed), DiskFull, the RegistryError family; then the tag is
    as it was, and the next run goes on.
    """
    goal, origin = engine.place(place), engine.place(source.place)
    near = (origin.repository,) if origin.registry.name == goal.registry.name else ()
    wanted = [Wanted(origin, file.descriptor, file.path, near) for file in distinct(source.weights.files)]
    with engine.opened() as state:
        brought = Uploads(state, goal, engine.progress).bring(wanted)
        push_blob(goal, source.weights.config, media_type=CONFIG_TYPE)
        source.check()
        tagged = tag_content(goal, source.manifest, tag)
        signature = carry_one(source, goal, source.manifest.descriptor)
        state.cancel_abandoned([goal.registry])
    return RegisteredWeights(
        source.manifest.descriptor,
        tagged.changed or signature == "attached",
        Counter(each.how for each in brought),
        sum(each.bytes_sent for each in brought),
        signature,
        tagged.replaced,
    )


def carry_one(source: Source, goal: Place, subject: Descriptor) -> Carried:
    """Attach the source's signature where it has one and it is about these files. Raises the RegistryError family."""
    if source.signature is None:
        return "none"
    if not fits(source.signature, source.weights):
        return "of other files"
    _, new = attach_bundle(goal, subject=subject, content=source.signature, predicate_type=OMS_TYPE)
    return "attached" if new else "present"


__all__ = ["Carried", "RegisteredWeights", "carry_one", "register_weights"]
