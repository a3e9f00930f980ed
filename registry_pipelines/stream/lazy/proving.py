"""Whether somebody who is believed found that an image's layers unpack to what its config says.

A runtime names a layer by what the *config* says it unpacks to (its diffID, with those below: the chain ID), and every
other image with the same names uses the same snapshot. Who fetches a layer whole holds it against its diffID. Who
serves an eStargz layer by its own table cannot: the table's digest stands in the manifest, and whoever wrote that wrote
the config, too, and may have claimed the diffIDs of somebody else's base. So on a node with several users such a layer
needs the word of an indexer, who converted it.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from registry_pipelines.errors import DiskFull, RegistryError
from registry_pipelines.evidence.attestations import read_attestations
from registry_pipelines.evidence.model import Verifier
from registry_pipelines.evidence.predicates import DERIVATION_TYPE
from registry_pipelines.oci.digest import Digest
from registry_pipelines.registry.protocol import Place
from registry_pipelines.stream.derivation import read_derivations
from registry_pipelines.stream.lazy.kept import KeptFiles
from registry_pipelines.stream.lazy.kept_registry import kept_registry
from registry_pipelines.stream.lazy.vouching import vouched

MAX_KEPT_BYTES = 1 << 20
"""Of notes about images that are proven, each some bytes."""


def is_proven(place: Place, image: Digest, verifier: Verifier | None, *, selector: str = "") -> bool:
    """Whether a believed indexer signed that it made a platform's manifest by converting to eStargz: each layer was
    held against its diffID then, those that were eStargz before, too. Indexes prove nothing here, for they leave layers
    out; nor do hot packs, which are cut by an image's own tables. selector: a tag or digest that may name an index with
    the manifest, whose conversion counts for it; one that cannot be asked about proves nothing.

    Raises RegistryError, ClosureIncomplete.
    """
    if verifier is None:
        return False
    if _converted(place, image, image, verifier):
        return True
    with suppress(RegistryError):  # a tag may have gone, and an index of signed tables serves the image all the same
        top = place.registry.resolve(place.repository, selector).digest if selector else image
        return top != image and _converted(place, top, image, verifier)
    return False


def _converted(place: Place, top: Digest, image: Digest, verifier: Verifier) -> bool:
    """Whether a record about ``top`` names the image among what was made."""
    records, _ = read_derivations(read_attestations(place, top, verifier, predicate_type=DERIVATION_TYPE), top)
    made = (pair for record, _ in records if record.format == "estargz" for pair in record.platforms)
    return any(pair.derived == image for pair in made)


def proven_here(
    place: Place, image: Digest, verifier: Verifier | None, *, selector: str, folder: Path, log: Callable[[str], object]
) -> bool:
    """The same, remembered by this node for as long as it believes the same keys: an image that was served is served
    again without its registry. folder: of lazy images. Raises as :func:`is_proven`, LocalError."""
    if verifier is None:
        return False
    kept = KeptFiles(folder / "proven", max_bytes=MAX_KEPT_BYTES)
    name = Digest.of(f"{image} {vouched(verifier)}".encode()).hex
    if kept.find(name) is not None:
        return True
    registry = kept_registry(place.registry, folder / "manifests", log)
    if not is_proven(Place(registry, place.repository), image, verifier, selector=selector):
        return False
    with suppress(DiskFull):
        kept.put(name, image.encode())
    return True


__all__ = ["is_proven", "proven_here"]
