"""Weights in a registry, opened: by their own name, or by that of the image they are attached to."""

from __future__ import annotations

from dataclasses import dataclass

from registry_pipelines.errors import ClosureIncomplete, InputError
from registry_pipelines.evidence.model import Rejected
from registry_pipelines.evidence.referrers import open_referrers
from registry_pipelines.oci.manifests import Descriptor, Manifest, ManifestBytes
from registry_pipelines.registry.blobs import read_blob
from registry_pipelines.registry.protocol import Place
from registry_pipelines.weights.image_form import ImageForm, read_image
from registry_pipelines.weights.model import (
    MAX_CONFIG_BYTES,
    WeightFile,
    WeightSet,
    from_manifest,
    is_image_form,
    is_weights,
)


@dataclass(frozen=True)
class OpenedWeights:
    """A set in a registry; its manifest and config were held against their digests, its files were not read."""

    place: Place
    descriptor: Descriptor
    manifest: Manifest
    weights: WeightSet
    image: ImageForm | None = None
    """Of weights that are a plain image."""

    @property
    def content(self) -> Place:
        """Where its files are read, by their digests."""
        return self.place if self.image is None else self.image.place(self.place)

    def __str__(self) -> str:
        return f"{self.place}@{self.descriptor.digest}"

    def need_raw(self) -> None:
        """Raise InputError where a file lies in an archive."""
        odd = [file for file in self.weights.files if not file.is_raw]
        if odd:
            raise InputError(
                f"{odd[0].path} lies in an archive ({odd[0].media_type}); archives of weights are not opened here",
                where=str(self),
                do="Push the files themselves: `registry-pipelines weights push FOLDER REF`",
            )


def open_weights(place: Place, reference: str) -> OpenedWeights:
    """Open a tag or digest: of weights, or of an image with one set of weights attached to it.

    Raises NotFound, InputError (no weights there; several, which it names), ManifestInvalid, DigestMismatch.
    """
    stored = place.registry.get_manifest(place.repository, reference)
    content = stored.content()
    if is_weights(content):
        return _open(place, stored)
    attached = attached_weights(place, stored.descriptor)
    where = f"{place}@{stored.digest}"
    if not attached:
        from_manifest(content, b"", where=where)  # says what it is
    if len(attached) > 1:
        names = ", ".join(str(each.digest) for each in attached)
        raise InputError(f"several weights are attached to this image: {names}", where=where, do="Name one by digest")
    return _open(place, place.registry.get_manifest(place.repository, attached[0].digest))


def attached_weights(place: Place, subject: Descriptor) -> list[Descriptor]:
    """Descriptors of the weights that are attached to an image, sorted by digest. Raises ClosureIncomplete where there
    are none, and something that is attached cannot be read; the RegistryError family."""
    found: list[Descriptor] = []
    damaged: list[Rejected] = []
    for each in open_referrers(place, subject.digest):
        if isinstance(each, Rejected):
            damaged += [each] if each.damaged else []
        elif is_weights(each.manifest):
            found.append(each.descriptor)
    if damaged and not found:
        raise ClosureIncomplete(f"what is attached to the image cannot be read: {damaged[0]}", where=str(place))
    return sorted(found, key=lambda each: each.digest)


def _open(place: Place, stored: ManifestBytes) -> OpenedWeights:
    content, where = stored.content(), f"{place}@{stored.digest}"
    config = b""
    if isinstance(content, Manifest) and is_weights(content):
        config = read_blob(place, content.config, limit=MAX_CONFIG_BYTES)
        if is_image_form(content):
            image = read_image(content, config, where=where)
            return OpenedWeights(place, stored.descriptor, content, image.weights, image)
    weights = from_manifest(content, config, where=where)
    assert isinstance(content, Manifest)  # noqa: S101  else it was refused
    return OpenedWeights(place, stored.descriptor, content, weights)


def distinct(files: tuple[WeightFile, ...]) -> list[WeightFile]:
    """One file for each content."""
    return list({file.digest: file for file in files}.values())


__all__ = ["OpenedWeights", "attached_weights", "distinct", "open_weights"]
