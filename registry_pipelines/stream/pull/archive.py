"""An image as one stream that runtimes import: an OCI layout in a tar, with Docker's ``manifest.json`` beside.

What names the image comes last, after every layer was held against its digest and its diffID, so a stream that ends
before names nothing (OCI image-spec 1.1, ``image-layout.md``; Docker image specification 1.2).
"""

from __future__ import annotations

import json
import tarfile
from collections import deque
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import ExitStack

from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.layer.walk import open_layer
from registry_pipelines.oci.manifests import MAX_CONFIG_BYTES, Descriptor
from registry_pipelines.registry.blobs import read_blob
from registry_pipelines.stream.lazy.image import NodeImage
from registry_pipelines.stream.pull.fetching import BlobFlow, OpenFlow
from registry_pipelines.threads import Pool

NAME_ANNOTATION = "io.containerd.image.name"
"""What containerd names an image by, whole; ``org.opencontainers.image.ref.name`` is but its tag for others."""

Write = Callable[[bytes | memoryview], object]

_LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'


class ArchiveWriter:
    """Streams one image; :meth:`write` is called once."""

    def __init__(self, image: NodeImage, name: str, write: Write, open_flow: OpenFlow) -> None:
        """name: what the runtime calls it."""
        self._image, self._name, self._write, self._open_flow = image, name, write, open_flow
        self.layer_bytes = 0
        """Of layers that were sent."""
        self.layers_left = 0
        """Layers that were not, for they are there."""

    def write(self, there: Container[str]) -> None:
        """Send all of it. there: digests of blobs that the runtime has.

        Raises LayerInvalid, DigestMismatch: a layer is not what the image says; the RegistryError family; what
        ``write`` raises.
        """
        image = self._image
        config = image.manifest.config
        self._small(_blob_name(config.digest), read_blob(image.place, config, limit=MAX_CONFIG_BYTES))
        self._layers(there)
        raw = image.place.registry.get_manifest(image.place.repository, image.descriptor.digest)
        for manifest in (raw, *reversed(image.above)):
            self._small(_blob_name(manifest.digest), manifest.raw)
        self._small("oci-layout", _LAYOUT)
        top = image.above[0].descriptor if image.above else image.descriptor
        self._small("manifest.json", self._docker())
        self._small("index.json", self._index(top))
        self._write(bytes(2 * tarfile.BLOCKSIZE))

    def _layers(self, there: Container[str]) -> None:
        layers = [each for each in dict.fromkeys(self._image.layers) if each[0].digest not in there]
        self.layers_left = len(dict.fromkeys(self._image.layers)) - len(layers)
        with ExitStack() as opened, Pool(1, "hash") as beside:
            for (layer, diff_id), flow in zip(layers, self._flows([each for each, _ in layers], opened), strict=True):
                self._head(_blob_name(layer.digest), layer.size)
                walk = open_layer(
                    _Passing(flow, self._write),
                    layer.media_type,
                    where=f"{self._image.place}@{layer.digest}",
                    expected=layer,
                    diff_id=diff_id,
                    beside=beside,
                    any_names=True,
                )
                walk.finish()
                self._write(bytes(-layer.size % tarfile.BLOCKSIZE))
                self.layer_bytes += layer.size

    def _flows(self, layers: Sequence[Descriptor], opened: ExitStack) -> Iterator[BlobFlow]:
        """Each layer's, the next one begun while one is read."""
        ahead: deque[BlobFlow] = deque()
        for following in (*layers, None):
            if following is not None:
                ahead.append(opened.enter_context(self._open_flow(following)))
            if len(ahead) == 2 or (following is None and ahead):
                flow = ahead.popleft()
                yield flow
                flow.close()

    def _small(self, name: str, content: bytes) -> None:
        self._head(name, len(content))
        self._write(content + bytes(-len(content) % tarfile.BLOCKSIZE))

    def _head(self, name: str, size: int) -> None:
        header = tarfile.TarInfo(name)
        header.size, header.mode = size, 0o644
        self._write(header.tobuf(tarfile.GNU_FORMAT))

    def _index(self, top: Descriptor) -> bytes:
        line = {"mediaType": top.media_type, "digest": top.digest, "size": top.size}
        names = {NAME_ANNOTATION: self._name, "org.opencontainers.image.ref.name": self._name.rpartition(":")[2]}
        return json.dumps({"schemaVersion": 2, "manifests": [{**line, "annotations": names}]}).encode()

    def _docker(self) -> bytes:
        layers = [_blob_name(layer.digest) for layer, _ in self._image.layers]
        tags = [] if "@" in self._name else [self._name]
        config = _blob_name(self._image.manifest.config.digest)
        return json.dumps([{"Config": config, "RepoTags": tags, "Layers": layers}]).encode()


class _Passing:
    """What is read of a layer goes to the runtime, too."""

    def __init__(self, flow: BlobFlow, write: Write) -> None:
        self._flow, self._write = flow, write

    def readinto(self, buffer: memoryview, /) -> int:
        """See Readable."""
        piece = self._flow.next_piece(len(buffer))
        self._write(piece)
        buffer[: len(piece)] = piece
        return len(piece)


def _blob_name(digest: Digest) -> str:
    return f"blobs/{digest.algorithm}/{digest.hex}"


__all__ = ["ArchiveWriter"]
