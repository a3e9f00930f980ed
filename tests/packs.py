"""Hot packs for tests that ask whether there is one: attached and signed as real ones, with nothing in them."""

from __future__ import annotations

from pathlib import Path

from registry_pipelines.evidence.model import Signer
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.registry.blobs import push_blob
from registry_pipelines.registry.protocol import Place
from registry_pipelines.stream.hot.packs import PackNote, frames_blob, publish_pack
from registry_pipelines.transfer.engine import Engine
from registry_pipelines.transfer.uploads import Uploads

FRAMES = b"frames" * 100


def attach_pack(place: Place, image: Descriptor, signer: Signer, state: Path, *, head: bytes = b"head") -> Descriptor:
    """Attach a pack to a platform's image; its manifest. state: folder for what is uploaded."""
    push_blob(place, FRAMES, media_type="application/octet-stream")
    note = PackNote(
        image=image.digest,
        head=Digest.of(head),
        recorded=image.digest,
        pages=10,
        pages_found=10,
        content_bytes=1000,
        stored_bytes=len(FRAMES),
        window=32768,
    )
    frames = [frames_blob(Digest.of(FRAMES), len(FRAMES))]
    engine = Engine(state=state / "transfer")
    with engine.opened() as opened:
        return publish_pack(Uploads(opened, engine.place(place)), image, head, frames, note, signer)
