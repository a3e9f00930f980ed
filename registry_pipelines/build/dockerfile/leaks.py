"""No value of a secret leaves with an image: everything that would be pushed is read for it first.

``RUN --mount=type=secret`` keeps a secret out of a layer only as long as no step writes it somewhere: ``pip config``,
``git clone https://user:token@...`` and ``npm`` do.
"""

from __future__ import annotations

from collections.abc import Sequence

from registry_pipelines.build.dockerfile.image import MadeImage
from registry_pipelines.errors import ContentError
from registry_pipelines.oci.layer.walk import open_layer
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.progress import Progress
from registry_pipelines.registry.blobs import BlobStream
from registry_pipelines.registry.protocol import Place

PIECE_BYTES = 1 << 20

SHORTEST_SECRET = 6
"""Shorter values stand in any layer by chance; of those, config and provenance alone are read."""


def check_leaks(made: MadeImage, statement: bytes, values: Sequence[str], progress: Progress) -> None:
    """Raise ContentError when a value of a secret stands in a config, a manifest, the provenance, or in the name or
    content of a file of a layer. Reads nothing where there are no secrets."""
    needles = [value.encode() for value in values if value]
    if not needles:
        return
    for image in made.images:
        blob = made.place.registry.open_blob(made.place.repository, image.manifest.config.digest)
        with blob as reader:
            config = bytes(_all(reader, image.manifest.config.size))
        for what, content in (("config", config), ("manifest", image.stored.raw), ("provenance", statement)):
            if _holds(content, needles):
                raise _leaked(f"the {what} of {image.platform}", "An argument or a label carries it: mount it")
        long = [needle for needle in needles if len(needle) >= SHORTEST_SECRET]
        for layer in image.manifest.layers if long else ():
            _check_layer(made.place, layer, long, progress)
