"""Send a folder of weights to a registry; what the registry has already is not sent.

It is a copy whose source is the folder: many files at once, each in parts that a journal confirms, so that after a kill
the same command goes on where it was. The tag is set last, after every file was looked at once more.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from registry_pipelines.oci.files import local_errors
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.registry.blobs import push_blob
from registry_pipelines.registry.protocol import Place
from registry_pipelines.registry.tags import digest_at
from registry_pipelines.transfer.engine import PLAIN, Engine
from registry_pipelines.transfer.uploads import Uploads, Wanted
from registry_pipelines.weights.hashing import Folder, read_folder
from registry_pipelines.weights.model import CONFIG_TYPE, to_manifest
from registry_pipelines.weights.opening import distinct
from registry_pipelines.weights.source import folder_place


@dataclass(frozen=True)
class PushedWeights:
    """A folder that is in a registry now. changed: the tag names it since now. blobs: how many contents were
    ``present``, ``mounted`` or ``copied``. bytes_sent: by this run."""

    place: Place
    descriptor: Descriptor
    folder: Folder
    changed: bool
    blobs: Counter[str]
    bytes_sent: int


def push_weights(
    folder: Path, place: Place, *, tag: str, follow_links: bool = False, engine: Engine = PLAIN
) -> PushedWeights:
    """Push all files of a folder under a tag, which moves when all of them are there.

    follow_links: see :func:`~registry_pipelines.weights.hashing.read_folder`. Raises what that raises, ContentError for
    a file that changed while it was sent (the tag stays as it was), the RegistryError family.
    """
    read = read_folder(folder, follow_links=follow_links, progress=engine.progress)
    manifest = to_manifest(read.weights)
    goal, source = engine.place(place), folder_place(folder, read)
    wanted = [Wanted(source, file.descriptor, file.path) for file in distinct(read.weights.files)]
    with engine.opened() as state:
        brought = Uploads(state, goal, engine.progress).bring(wanted)
        push_blob(goal, read.weights.config, media_type=CONFIG_TYPE)
        for origin in read.origins.values():
            with local_errors(origin.path):
                origin.check(origin.path.stat())
        changed = digest_at(goal, tag) != manifest.digest
        if changed:
            goal.registry.put_manifest(goal.repository, manifest, tag=tag)
        state.cancel_abandoned([goal.registry])
    return PushedWeights(
        place,
        manifest.descriptor,
        read,
        changed,
        Counter(each.how for each in brought),
        sum(each.bytes_sent for each in brought),
    )


__all__ = ["PushedWeights", "push_weights"]
