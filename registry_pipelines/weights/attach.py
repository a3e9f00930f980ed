"""Make weights part of what belongs to an image: the same manifest with the image as its subject.

Whatever moves the image with all that refers to it then moves the weights too: copies, mirrors, bundles, backups; and
what keeps the image keeps them. The blobs are those of the weights, taken over within a registry without being sent.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import msgspec

from registry_pipelines.errors import InputError
from registry_pipelines.oci.manifests import Descriptor, manifest_bytes
from registry_pipelines.registry.protocol import Place
from registry_pipelines.transfer.engine import PLAIN, Engine
from registry_pipelines.transfer.uploads import Uploads, Wanted
from registry_pipelines.weights.model import bare, is_weights
from registry_pipelines.weights.oms.attached import carry_signatures
from registry_pipelines.weights.oms.images import carry_vouching
from registry_pipelines.weights.opening import OpenedWeights, attached_weights


@dataclass(frozen=True)
class AttachedWeights:
    """Weights that refer to an image now. descriptor: of the manifest with the subject, in the image's repository.
    changed: it was not there. blobs, bytes_sent: as of a push. signatures: of the
    weights, that are attached to this manifest, too, now."""

    descriptor: Descriptor
    subject: Descriptor
    changed: bool
    blobs: Counter[str]
    bytes_sent: int
    signatures: int


def attach_weights(place: Place, reference: str, opened: OpenedWeights, *, engine: Engine = PLAIN) -> AttachedWeights:
    """Attach weights to an image, in the image's repository. reference: the image's tag or digest; an index as a whole.

    Attaching the same twice changes nothing. Raises NotFound, InputError (the image is weights itself), the
    RegistryError family; then the image has no more weights than before.
    """
    image = place.registry.get_manifest(place.repository, reference)
    if is_weights(image.content()):
        raise InputError("these are weights, and an image is wanted", where=f"{place}:{reference}", do="Name the image")
    manifest = manifest_bytes(msgspec.structs.replace(opened.manifest, subject=bare(image.descriptor)))
    if manifest.digest in {each.digest for each in attached_weights(place, image.descriptor)}:
        carried = _carry(opened, place, manifest.descriptor)
        return AttachedWeights(manifest.descriptor, image.descriptor, carried > 0, Counter(), 0, carried)
    goal, source = engine.place(place), engine.place(opened.place)
    beside = (opened.place.repository,) if opened.place.registry.name == place.registry.name else ()
    layers = {each.digest: each for each in (opened.manifest.config, *opened.manifest.layers)}
    wanted = [Wanted(source, each, str(each.digest), beside) for each in layers.values()]
    with engine.opened() as state:
        brought = Uploads(state, goal, engine.progress).bring(wanted)
        goal.registry.put_manifest(goal.repository, manifest)
        state.cancel_abandoned([goal.registry])
    return AttachedWeights(
        manifest.descriptor,
        image.descriptor,
        True,
        Counter(each.how for each in brought),
        sum(each.bytes_sent for each in brought),
        _carry(opened, place, manifest.descriptor),
    )


def _carry(opened: OpenedWeights, place: Place, subject: Descriptor) -> int:
    """Attach what is signed of the weights to the manifest with the subject, too; how many are new."""
    carried = carry_signatures(opened, place, subject)
    if opened.image is not None:
        carried += carry_vouching(opened.place, opened.descriptor.digest, opened.image, place, subject)
    return carried


__all__ = ["AttachedWeights", "attach_weights"]
