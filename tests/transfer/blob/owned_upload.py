"""A worker that records an upload and lives until it is killed; arguments: URL FOLDER REGISTRY.

URL: of the journal. FOLDER: its state folder, or ``-``. It says ``recorded`` once it did.
"""

import sys
import threading
from pathlib import Path

from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.protocol import Place, UploadSession
from registry_pipelines.transfer.blob.journal import Journal
from tests.doubles.workers import worker

LAYER = Descriptor(media_type="application/octet-stream", digest=Digest.of(b"layer"), size=5)

if __name__ == "__main__":
    url, folder, address = sys.argv[1:]
    own = None if folder == "-" else Path(folder)
    journal = (
        Journal.on(worker(url), own) if "postgres" in url else Journal.at(Path(url.removeprefix("sqlite:///")).parent)
    )
    journal.record(Place(DistributionRegistry(address), "app"), LAYER, UploadSession("app", "http://x/upload", 4))
    print("recorded", flush=True)
    threading.Event().wait()
