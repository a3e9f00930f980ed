"""What of a registry is live whatever its rules say: what ``collect`` asks before it plans, and again before it
deletes."""

from __future__ import annotations

from registry_pipelines.chain.pushes import pushes
from registry_pipelines.chain.session import Session
from registry_pipelines.collect.live import Live


def live_digests(session: Session, registry: str) -> Live:
    """What must stay in a registry, each digest with why.

    That is what the sources of ``usage`` run or may start (one that does not answer is a stop of what it could speak
    of, never one that runs nothing), what channels name, and what came lately. ``plan_retention`` and ``apply_plan``
    take the value. Raises InputError (no such registry), RegistryError: one with channels does not answer; LocalError.
    """
    from registry_pipelines.chain.collect import channel_digests
    from registry_pipelines.chain.running import running

    found = running(session, registry)
    looks, unknown = pushes(session, registry)
    return Live(
        {**found.digests, **dict.fromkeys(channel_digests(session), "in use")},
        contents=found.contents,
        named=found.named,
        stops=found.stops,
        notes=(*found.notes, *unknown),
        pushes=looks,
    )
