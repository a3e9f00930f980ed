"""What the tests with faults share: some content, patterns of requests, a source that cannot be rewound."""

from __future__ import annotations

import hashlib
import json

from registry_pipelines.oci.digest import Digest
from registry_pipelines.registry.blobs import BytesSource

CONTENT = hashlib.shake_128(b"content").digest(3 * 1024 * 1024 + 5)
DIGEST = Digest.of(CONTENT)
BLOBS = r"/v2/.*/blobs/sha256:.*"
UPLOADS = r"/v2/.*/blobs/uploads/.*"
MANIFESTS = r"/v2/.*/manifests/.*"
KIND = "application/vnd.example.note.v1+json"


def errors(code: str) -> bytes:
    """What a registry answers with a status of a failure."""
    return json.dumps({"errors": [{"code": code, "message": "so it is"}]}).encode()


class Once:
    """CONTENT as a source that cannot be rewound."""

    def __init__(self, content: bytes = CONTENT) -> None:
        self._source = BytesSource(content)

    def readinto(self, buffer: memoryview, /) -> int:
        return self._source.readinto(buffer)
