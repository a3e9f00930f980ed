"""Take a blob over from another repository of the same registry."""

from __future__ import annotations

from functools import partial

from registry_pipelines.errors import RegistryError, Unavailable
from registry_pipelines.oci.digest import Digest
from registry_pipelines.registry.protocol import Place
from registry_pipelines.transfer.flow.health import Health


def mount(target: Place, digest: Digest, size: int, source: str, health: Health) -> bool:
    """Try to take a blob over within a registry; whether the target has it now. source: a repository of its registry.

    A mount may fail whatever was promised (202 is normal), so look, and let the caller upload. Raises Unavailable once
    the patience ended.
    """
    registry, persist = target.registry, partial(health.persist, target, "mount")
    try:
        if persist(lambda: registry.mount_blob(target.repository, digest, source=source)):
            return True
    except Unavailable:
        raise
    except RegistryError:
        pass
    return persist(lambda: registry.blob_size(target.repository, digest)) == size
