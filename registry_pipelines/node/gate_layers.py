"""Whether an image has the layer that labels give it.

containerd takes a layer's labels from annotations in the image's own manifest, and puts its own over them only where it
is told to name images with their layers. So whoever made an image can have it named as another one, which is let in:
what labels say is held against the config of the image that they name, by digest. Where that cannot be asked, a layer
may come, for nothing starts by that; a container may not stand on it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from registry_pipelines.errors import ManifestInvalid, RegistryPipelinesError
from registry_pipelines.node.judging import Named
from registry_pipelines.node.last_answers import LastAnswers
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Manifest
from registry_pipelines.promote.admission.kept import Kept
from registry_pipelines.registry.platforms import image_config
from registry_pipelines.registry.protocol import Place
from registry_pipelines.threads import Pool

KEEP_S = 600.0
"""What a digest has does not change."""
KEEP_ERROR_S = 10.0

Chains = Kept[Named, "tuple[Digest, ...] | RegistryPipelinesError"]


class Held(NamedTuple):
    """has: None where it could not be asked, and error says why."""

    has: bool | None
    error: str = ""


class Layers:
    """For many threads."""

    def __init__(
        self,
        place: Callable[[str], Place],
        last: LastAnswers,
        pool: Pool,
        waited: Callable[[Chains, Named], tuple[Digest, ...] | RegistryPipelinesError],
        *,
        clock: Callable[[], float],
    ) -> None:
        """place: of a reference, as images are read on this node. last: what was found is kept there. waited: asks, and
        raises TimeoutError where that takes too long."""
        self._place, self._last, self._waited = place, last, waited
        self._chains: Chains = Kept(
            self._chain, pool, lambda found: KEEP_S if isinstance(found, tuple) else KEEP_ERROR_S, clock=clock
        )

    def has(self, image: Named, chain_id: str, *, topmost: bool) -> Held:
        """Whether a layer with this chain ID is one of the image's, or the one above all others."""
        if self._last.release(_key(image, chain_id, topmost=topmost)) is not None:
            return Held(True)
        try:
            found = self._waited(self._chains, image)
        except TimeoutError:
            return Held(None, "its registry has not answered yet")
        if isinstance(found, RegistryPipelinesError):
            return Held(None, str(found))
        if found:  # the container that comes after the last layer finds it here
            self._last.put_release(_key(image, found[-1], topmost=True), Digest(image.digest))
        if chain_id not in (found[-1:] if topmost else found):
            return Held(False)
        if not topmost:
            self._last.put_release(_key(image, chain_id, topmost=False), Digest(image.digest))
        return Held(True)

    def _chain(self, image: Named) -> tuple[Digest, ...] | RegistryPipelinesError:
        """In a thread of the pool."""
        try:
            place = self._place(image.reference)
            content = place.registry.get_manifest(place.repository, Digest.parse(image.digest)).content()
            if not isinstance(content, Manifest):
                return ManifestInvalid("it is an index, which has no layers", where=f"{place}@{image.digest}")
            return image_config(place, content).chain_ids
        except RegistryPipelinesError as error:
            return error


def _key(image: Named, chain_id: str, *, topmost: bool) -> str:
    return f"{'topmost layer' if topmost else 'layer'} {image.digest} {chain_id}"


__all__ = ["Held", "Layers"]
