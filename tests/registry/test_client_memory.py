"""Memory does not grow with the size of a blob, neither in the client nor in the embedded server; what nobody has any
more is freed at once."""

from __future__ import annotations

import gc
import hashlib
import tracemalloc
import weakref
from pathlib import Path

from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.embedded import EmbeddedServer
from registry_pipelines.transfer.limits.limited import limited
from registry_pipelines.transfer.limits.machine import MachineLimits

SIZE = 192 * 1024 * 1024
LIMIT = 12 * 1024 * 1024


class Zeros:
    """So many zero bytes, made on the fly."""

    def __init__(self, size: int) -> None:
        self._left = size

    def readinto(self, buffer: memoryview, /) -> int:
        count = min(len(buffer), self._left)
        self._left -= count
        return count


def test_a_large_blob_goes_through_small_buffers(tmp_path: Path) -> None:
    hasher = hashlib.sha256()
    block = bytes(1024 * 1024)
    for _ in range(SIZE // len(block)):
        hasher.update(block)
    descriptor = Descriptor(media_type="", digest=Digest(f"sha256:{hasher.hexdigest()}"), size=SIZE)
    with EmbeddedServer(tmp_path) as server:
        registry = DistributionRegistry(server.address)
        registry.ping()
        tracemalloc.start()
        try:
            registry.upload_blob("a", descriptor, Zeros(SIZE))
            buffer = memoryview(bytearray(1024 * 1024))
            received = 0
            with registry.open_blob("a", descriptor.digest) as reader:
                while count := reader.readinto(buffer):
                    received += count
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert received == SIZE
    assert peak < LIMIT


def test_a_registry_that_nobody_has_closes_its_connections_at_once(tmp_path: Path) -> None:
    """Not when Python looks for circles, which a process with a large heap seldom does."""
    with EmbeddedServer(tmp_path) as server:
        gc.collect()
        gc.disable()
        try:
            registry = DistributionRegistry(server.address)
            used = limited(registry.observed(lambda error: None), MachineLimits())
            assert not used.referrers("a", Digest.of(b"nothing")) and used.blob_size("a", Digest.of(b"")) is None
            transport = weakref.ref(registry._exchange.transport)
            del registry, used
            assert transport() is None
        finally:
            gc.enable()
