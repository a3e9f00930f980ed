"""The two ends of a copy of weights: a folder, a prefix of an object store, or a registry."""

from __future__ import annotations

from pathlib import Path

import msgspec

from registry_pipelines.errors import ContentError
from registry_pipelines.oci.files import local_errors
from registry_pipelines.oci.manifests import manifest_bytes
from registry_pipelines.progress import Progress
from registry_pipelines.stores.store import ObjectStore
from registry_pipelines.weights.hashing import SIGNATURE_FILE, Folder, find_files, read_folder
from registry_pipelines.weights.in_store import MAX_SIGNATURE_BYTES, open_stored
from registry_pipelines.weights.model import to_manifest
from registry_pipelines.weights.oms.attached import fitting_signatures
from registry_pipelines.weights.opening import OpenedWeights
from registry_pipelines.weights.source import folder_place
from registry_pipelines.weights.to_store import Source
from registry_pipelines.weights.wholeness import check_whole


def from_folder(folder: Path, *, follow_links: bool = False, progress: Progress | None = None) -> tuple[Source, Folder]:
    """A folder of weights, hashed; with its ``model.sig``. Raises as ``wholeness.check_whole``, before anything is
    hashed, and ``hashing.read_folder``."""
    check_whole(find_files(folder, follow_links=follow_links))
    read = read_folder(folder, follow_links=follow_links, progress=progress)

    def check() -> None:
        for origin in read.origins.values():
            with local_errors(origin.path):
                origin.check(origin.path.stat())

    place = folder_place(folder, read)
    return Source(place, read.weights, to_manifest(read.weights), _signature(folder), check), read


def _signature(folder: Path) -> bytes | None:
    path = folder / SIGNATURE_FILE
    with local_errors(path):
        if not path.is_file():
            return None
        if path.stat().st_size > MAX_SIGNATURE_BYTES:
            raise ContentError("this is too large for a signature", where=str(path))
        return path.read_bytes()


def from_registry(opened: OpenedWeights) -> Source:
    """Weights of a registry. Those that are attached to an image are the same set without it, and those that are a
    plain image are the artifact of its files. Of several signatures it is the first that fits. Raises InputError for
    files in archives."""
    opened.need_raw()
    if opened.image is None:
        manifest = manifest_bytes(msgspec.structs.replace(opened.manifest, subject=None))
    else:
        manifest = to_manifest(opened.weights)
    return Source(opened.content, opened.weights, manifest, next(fitting_signatures(opened), None))


def from_store(store: ObjectStore) -> Source:
    """The whole set below a prefix. Raises NotFound (none, or not whole), InputError, ContentError where the store lost
    a file."""
    found = open_stored(store)
    found.need_whole()
    return Source(found.opened.place, found.opened.weights, found.manifest, found.signature)


__all__ = ["from_folder", "from_registry", "from_store"]
