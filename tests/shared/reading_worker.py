"""One worker of several: scans and indexes images of a registry in a folder of its own, over a shared state.

Arguments: host and port, repository, database, store, seconds of silence after which it is dead to the others, folder,
then the images' digests. Says what it found as JSON.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

from registry_pipelines.oci.behind import attach
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.layer.store import LayerStore
from registry_pipelines.progress import Silent
from registry_pipelines.registry.protocol import Place
from registry_pipelines.registry.remote import remote_registry
from registry_pipelines.scan.collecting import collect_read
from registry_pipelines.scan.sbom import scan_image
from registry_pipelines.settings import Duration, Secret
from registry_pipelines.shared.settings import Shared
from registry_pipelines.shared.state import SharedState
from registry_pipelines.stream.soci import index_layers
from registry_pipelines.stream.source import read_source


def main() -> None:
    """See the module."""
    address, repository, database, store, silence_s, folder, *images = sys.argv[1:]
    place, state = Place(remote_registry(address), repository), Path(folder)
    silence = Duration(seconds=float(silence_s))
    shared = SharedState(Shared(database=Secret(database), store=store, silence=silence)) if database else None
    if shared:
        attach(state, shared.caches)
    made = hashlib.sha256()
    sys.stdin.readline()  # all begin together
    for image in map(Digest.parse, images):
        top = place.registry.resolve(place.repository, image)
        for each in scan_image(place, top, state=state, records=True):
            made.update(json.dumps([str(component) for component in each.components]).encode())
        [source] = read_source(place, image).images
        store_of = LayerStore(state / "layers", collect=lambda walk: collect_read(walk, state=state))
        index = index_layers(
            place,
            source.entry.manifest,
            [diff_id for _, diff_id in source.layers],
            store=store_of,
            folder=state,
            min_layer_bytes=0,
            progress=Silent(),
        )
        made.update(index.document.raw if index.document else b"")
    counts = shared.caches.counts()._asdict() if shared else {}
    if shared:
        shared.close()
    json.dump({"made": made.hexdigest(), **counts}, sys.stdout)


if __name__ == "__main__":
    main()
