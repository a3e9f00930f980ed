"""What of a registry is live whatever its rules say: what ``collect`` asks before it plans, and again before it
deletes."""

from __future__ import annotations

from functools import partial

from registry_pipelines.chain.pushes import pushes
from registry_pipelines.chain.session import Session
from registry_pipelines.collect.live import Front, Live
from registry_pipelines.oci.digest import Digest
from registry_pipelines.registry.tags import digest_at


def live_digests(session: Session, registry: str) -> Live:
    """What must stay in a registry, each digest with why.

    That is what the sources of ``usage`` run or may start (one that does not answer is a stop of what it could speak
    of, never one that runs nothing), what channels name, what came lately, what has still to be brought on, what
    mirrors' locks name, and what moments of backups need that are kept there. ``plan_retention`` and ``apply_plan``
    take the value. Raises InputError (no such registry; a lock that cannot be read), RegistryError: one with channels
    does not answer; LocalError.
    """
    from registry_pipelines.chain.collect import channel_digests
    from registry_pipelines.chain.crossings import WaysOn
    from registry_pipelines.chain.deployed import deployed_digests
    from registry_pipelines.chain.expire import kept_by_backups
    from registry_pipelines.chain.running import running
    from registry_pipelines.chain.uploading import uploading

    found = running(session, registry)
    looks, unknown = pushes(session, registry)
    kept, unread = kept_by_backups(session, registry)
    return Live(
        {
            **locked_digests(session, registry),
            **(deployed_digests(session) if session.config.deploy else {}),
            **channel_digests(session),
            **found.digests,
        },
        contents=found.contents,
        at=kept,
        named=found.named,
        busy=uploading(session, registry),
        fronts=fronts(session, registry),
        stops=(*found.stops, *unread),
        notes=(*found.notes, *unknown),
        pushes=looks,
        crossings=WaysOn(session, registry),
    )


def fronts(session: Session, registry: str) -> dict[str, Front]:
    """By repository what the first channel of its image names: where releases are judged, those that are newer have
    still to be. Raises RegistryError."""
    from registry_pipelines.chain.releases import names_release

    found: dict[str, Front] = {}
    for image in session.config.images.values():
        first = image.order[0].name
        place = session.places.source(image)
        digest = digest_at(place, first) if image.registry == registry else None
        if digest is not None:
            why = f"what {first} of {image.name} names"
            found[image.repository] = Front(digest, partial(names_release, image), why)
    return found


def locked_digests(session: Session, registry: str) -> dict[Digest, str]:
    """What the locks of mirrors want in a registry, the DMZ's or the private one: gone, it would be brought again.
    Raises InputError for a lock that cannot be read."""
    found: dict[Digest, str] = {}
    for mirror in session.config.mirrors.values():
        if mirror.lock is None or registry not in (mirror.via, mirror.to):
            continue
        from registry_pipelines.chain.mirror_sources import read_lock

        lock = read_lock(mirror)
        for each in lock.tags if lock else ():
            found[each.digest] = f"the lock of the mirror {mirror.name} names it ({each.name})"
    return found
