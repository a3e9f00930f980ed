"""When images came to a registry, as its cloud tells it; for ``collect``, which keeps what came lately."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING

from registry_pipelines.chain.session import Session
from registry_pipelines.collect.live import NoPushes, Pushes
from registry_pipelines.errors import NotFound, ReferenceInvalid
from registry_pipelines.oci.digest import Digest

if TYPE_CHECKING:  # most registries are others
    from registry_pipelines.collect.seen import Told
    from registry_pipelines.config.clouds import EcrRegistry, GarRegistry

FILE = "seen.sqlite"
"""In ``<state>/collect``."""


def pushes(session: Session, registry: str) -> tuple[Pushes, list[str]]:
    """Who knows when tags came to a registry of the configuration, and notes about what is not known. The registry is
    not asked yet. Raises LocalError."""
    within = session.config.collect.recent
    if not within:
        return NoPushes(), ["`collect.recent` is 0: what was pushed just now is judged like anything else"]
    from registry_pipelines.collect.seen import SeenTags, tells_nothing

    settings = session.config.registries[registry]
    told: Told = tells_nothing
    if settings.kind == "ecr":
        told = _by_ecr(session, settings)
    elif settings.kind == "gar":
        told = _by_gar(session, settings)
    name = session.places.registry(registry).name
    kept = session.shared.database if session.shared else session.config.state / "collect" / FILE
    looks = SeenTags(kept, name, within=within, now=session.now(), told=told)
    first = "this is the first look at its tags: which of them came lately is known from the next one on"
    return looks, [first] if told is tells_nothing and looks.knows_nothing() else []


def _by_ecr(session: Session, settings: EcrRegistry) -> Told:
    from registry_pipelines.registry.ecr.images import EcrImages

    def told(repository: str) -> Mapping[Digest, datetime]:
        images = EcrImages(settings.account, session.places.aws(settings).access, calls=session.places.aws(settings))
        try:
            return {Digest(each.digest): each.pushed for each in images.list_images(repository) if each.pushed}
        except NotFound:
            return {}

    return told


def _by_gar(session: Session, settings: GarRegistry) -> Told:
    """Artifact Registry lists a whole repository at once, with all images in it: each is asked for once."""
    from registry_pipelines.registry.gar.hosts import locate, read_host
    from registry_pipelines.registry.gar.images import list_images

    kept: dict[str, dict[str, dict[Digest, datetime]]] = {}

    def told(repository: str) -> Mapping[Digest, datetime]:
        host = read_host(settings.host)
        if host is None:
            return {}
        try:
            there, image = locate(host, repository)
        except ReferenceInvalid:
            return {}
        if str(there) not in kept:
            found: dict[str, dict[Digest, datetime]] = {}
            for each in list_images(session.places.google(settings), there):
                if each.uploaded:
                    found.setdefault(each.name, {})[Digest(each.digest)] = each.uploaded
            kept[str(there)] = found
        return kept[str(there)].get(image, {})

    return told


__all__ = ["pushes"]
