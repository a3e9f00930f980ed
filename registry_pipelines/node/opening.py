"""How this node opens an image: where it is read from, whose word counts, and what of it may be fetched whole."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

from registry_pipelines.evidence.model import Verifier
from registry_pipelines.node.announcing import Looked
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.references import Reference
from registry_pipelines.registry.protocol import Place
from registry_pipelines.stream.lazy.image import image_for
from registry_pipelines.stream.lazy.kept_registry import Beside, kept_registry
from registry_pipelines.stream.lazy.opened import OpenImage, Promised, open_image
from registry_pipelines.stream.lazy.proving import proven_here

MOST_WHOLE_BYTES = 10 << 20
"""Of a layer that is fetched whole for an image that is served: indexes leave out those below 10 MiB unless told
otherwise, and one of them must not send all above it to the normal pull."""


class Opening:
    """See the module. For many threads."""

    def __init__(
        self,
        locate: Callable[[str], Place],
        *,
        state: Path,
        verifier: Verifier | None,
        log: Callable[[str], object],
        use_pack: bool,
        unproven: bool,
        as_erofs: bool,
        store_bytes: int,
        beside: Beside | None,
    ) -> None:
        """See ``images.NodeImages``; as_erofs: see ``opened.open_image``."""
        self.place, self._state, self._verifier, self._log = locate, state, verifier, log
        self._use_pack, self._unproven, self._as_erofs = use_pack, unproven, as_erofs
        self._store_bytes, self._beside = store_bytes, beside

    def layers(
        self,
        place: Place,
        selector: str,
        digest: Digest,
        count: int | None,
        promised: Promised | None,
        *,
        ahead: bool = True,
    ) -> AbstractContextManager[OpenImage]:
        """See ``opened.open_image``; selector: what the image was named by."""
        folder = self._state / "lazy"
        proven = partial(proven_here, place, digest, self._verifier, selector=selector, folder=folder, log=self._log)
        return open_image(
            place,
            digest,
            state=self._state,
            verifier=self._verifier,
            use_pack=self._use_pack,
            log=self._log,
            lowest=count,
            most_whole_bytes=MOST_WHOLE_BYTES if count is None else None,
            proven=None if self._unproven else proven,
            ahead=ahead,
            as_erofs=self._as_erofs,
            promised=promised,
            store_bytes=self._store_bytes,
            beside=self._beside,
        )

    def look(self, reference: str) -> Looked:
        """Where a reference points, and what of that could be served. What says how its layers are read is here then,
        and nothing else of them. Raises what ``opened.open_image`` does."""
        place, selector = self.place(reference), selector_of(reference)
        kept = Place(kept_registry(place.registry, self._state / "lazy" / "manifests", self._log), place.repository)
        image = image_for(kept, selector)
        digest, chain = image.descriptor.digest, image.config.chain_ids
        with self.layers(place, selector, digest, None, None, ahead=False) as opened:
            return Looked(digest, tuple(chain[: len(opened.layers)]), len(chain), opened.left_out)


def selector_of(reference: str) -> str:
    """Tag or digest of a reference."""
    name = Reference.parse(reference)
    return str(name.digest or name.tag)


__all__ = ["MOST_WHOLE_BYTES", "Opening", "selector_of"]
