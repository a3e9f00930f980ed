"""The gate of a node over one configuration: the answers of the webhook (``admission``), asked by the snapshotter."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from registry_pipelines.chain.admission import ConfiguredSites
from registry_pipelines.chain.node_places import NodePlaces
from registry_pipelines.chain.places import address
from registry_pipelines.chain.session import Session
from registry_pipelines.node.counts import Counts
from registry_pipelines.node.gate import NodeGate
from registry_pipelines.node.model import Gate
from registry_pipelines.node.runtime_images import Containerd
from registry_pipelines.oci.references import Reference
from registry_pipelines.promote.admission.judging import THREADS
from registry_pipelines.threads import Pool


@contextmanager
def node_gate(
    session: Session,
    settings: Gate,
    folder: Path,
    log: Callable[[str], object],
    counts: Counts | None = None,
    hosts: Sequence[Path] = (),
) -> Iterator[NodeGate]:
    """A gate with these settings. folder: for the last answers, which only this user can write to. log: see NodeGate.
    hosts: of containerd's ``config_path``; those of the configuration unless told.
    Raises InputError for keys or a policy that cannot be read, LocalError."""
    sites = ConfiguredSites(session, channel=settings.channel, policy=settings.policy)
    channel = settings.channel or session.config.admission.channel or ""
    pool = Pool(THREADS, "gate")
    try:
        yield NodeGate(
            settings,
            sites,
            pool,
            place=NodePlaces(session.places, hosts or session.config.node.hosts, log).place,
            folder=folder,
            approved=session.config.admission.approved,
            scope=f"policy {settings.policy or 'of the channel'}, channel {channel or 'the last'}",
            runtime=Containerd(settings.containerd),
            read=partial(_reference, session),
            log=log,
            counts=counts,
        )
    finally:
        pool.stop()


def _reference(session: Session, text: str) -> Reference:
    """What a reference names: announced images may be told with a registry's name of the configuration. Raises
    ReferenceInvalid."""
    first, slash, rest = text.partition("/")
    settings = session.config.registries.get(first) if slash else None
    return Reference.parse(f"{address(settings)}/{rest}" if settings is not None else text)


__all__ = ["node_gate"]
