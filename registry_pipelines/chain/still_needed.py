"""Of what was set aside, and whose time is over, that which is needed all the same: it is not deleted for good.

A plan asks who runs what by its day. Clusters come later, a source may have been silent for one scope, or wrong; a pod
that was started before from what its node keeps goes on until the node pulls again. So whoever ends a quarantine asks
once more: by then it is the last copy.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress

from registry_pipelines.chain.live import live_digests
from registry_pipelines.chain.session import Session
from registry_pipelines.collect.live import Live
from registry_pipelines.collect.records import Record
from registry_pipelines.errors import ManifestInvalid, NotFound
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Manifest
from registry_pipelines.registry.protocol import Place
from registry_pipelines.registry.tags import digest_at


def still_needed(session: Session, registry: str, over: Sequence[tuple[Place, Record]]) -> dict[str, str]:
    """By the record's tag, why it stays set aside: who needs what it keeps, or what is not known. over: the quarantine
    of each record, and the record. Raises InputError, RegistryError as ``live_digests``."""
    if not over:
        return {}
    live = live_digests(session, registry)
    found = ((record, _why(live, aside, record)) for aside, record in over)
    return {record.tag: why for record, why in found if why}


def _why(live: Live, aside: Place, record: Record) -> str:
    if stop := live.stopped(record.repository):
        return stop
    place = Place(aside.registry, record.repository)
    for digest in map(Digest.parse, record.deleted):
        why = live.why(record.repository, digest) or live.why_content(_config(aside, digest) if live.contents else ())
        if why and digest_at(place, digest) is None:
            return f"it stays set aside: {digest.short} is needed ({why}); bring it back with `collect undo`"
    return ""


def _config(aside: Place, digest: Digest) -> Iterable[Digest]:
    with suppress(NotFound, ManifestInvalid):
        content = aside.registry.get_manifest(aside.repository, digest).content()
        if isinstance(content, Manifest):
            return (content.config.digest,)
    return ()


__all__ = ["still_needed"]
