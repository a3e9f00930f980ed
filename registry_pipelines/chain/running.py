"""What of a registry runs, by what the sources of ``usage`` say: from names as clusters have them to digests there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import TYPE_CHECKING

from registry_pipelines.chain.places import address, one_name
from registry_pipelines.chain.session import Session
from registry_pipelines.chain.usage import asked
from registry_pipelines.collect.live import Named, Stop
from registry_pipelines.collect.rules import matches
from registry_pipelines.errors import ReferenceInvalid, Unavailable
from registry_pipelines.oci.digest import Digest
from registry_pipelines.registry.protocol import Place, Registry
from registry_pipelines.registry.tags import digest_at
from registry_pipelines.threads import Pool

if TYPE_CHECKING:  # clouds are loaded where they are asked
    from registry_pipelines.config import RegistryPlace
    from registry_pipelines.inventory.usage.model import Use
    from registry_pipelines.oci.references import Reference

ASKING_THREADS = 8
"""Small requests at once, as a survey makes them."""


@dataclass(frozen=True)
class Running:
    """What runs of a registry. digests: of manifests, each with who runs it. contents: ids of images (digests of their
    configs), in the same way. named: repository to what is said to run from it by digest. stops: what could not be
    known."""

    digests: dict[Digest, str] = field(default_factory=dict)
    contents: dict[Digest, str] = field(default_factory=dict)
    named: dict[str, list[Named]] = field(default_factory=dict)
    stops: tuple[Stop, ...] = ()
    notes: tuple[str, ...] = ()


def in_use(session: Session, registry: str, repository: str) -> Running:
    """What runs, for who cannot go on without an answer. Raises Unavailable when a source that could speak of the
    repository does not answer: what runs is then not known, and nothing of it may go."""
    found = running(session, registry)
    if held := [stop for stop in found.stops if matches(repository, stop.repositories)]:
        told = "; ".join(f"{stop.source}: {stop.why}" for stop in held)
        raise Unavailable(
            f"who runs what is not known: {told}", do="Nothing is deleted until every source of `usage` answers"
        )
    return found


def running(session: Session, registry: str) -> Running:
    """Digests of a registry that something runs, each with who does; what could not be known; and notes.

    A use counts where its image is named by a name of the registry, or by that of an upstream that a mirror brings
    there, or where its source says that it pulls from there. One that names a tag alone counts for what the tag names
    now; a digest that the registry does not have is said, and its tag counts in its place. Raises RegistryError: the
    registry itself does not answer.
    """
    if not session.config.usage:
        return Running()
    answers = [each for each in asked(session) if _speaks_of(session, each.source, registry)]
    stops = [_stop(session, each.source, each.problem) for each in answers if each.problem]
    notes = [note for each in answers for note in each.notes]
    known = _Names(session, registry)
    found = _Found(session.places.registry(registry))
    for use in (use for each in answers for use in each.uses):
        named = use.reference()
        if named is None and use.image and known.is_ours(use.image):
            stops.append(
                _stop(session, use.source, f"{use.where} names no image that can be read: {use.image[:200]!r}")
            )
        elif use.image_id is not None and (named is None or known.repositories(use, named)):
            found.add_content(use.image_id, use)
        if named is not None:
            for repository in known.repositories(use, named):
                found.add(repository, named, use, own=known.is_own(named))
    found.settle()
    return Running(found.digests, found.contents, found.named, tuple(dict.fromkeys(stops)), tuple(dict.fromkeys(notes)))


def _speaks_of(session: Session, source: str, registry: str) -> bool:
    told = session.config.usage[source].registries
    return not told or registry in told


def _stop(session: Session, source: str, why: str) -> Stop:
    return Stop(source, why, session.config.usage[source].repositories)


class _Names:
    """By which names workloads call what is in one registry."""

    def __init__(self, session: Session, registry: str) -> None:
        self._session, self._registry = session, registry
        self._settings = session.config.registries[registry]
        self._own = names_of(self._settings)
        self._mirrored = _mirrored(session, registry)

    def is_ours(self, image: str) -> bool:
        """Whether an image that is no reference begins with a name of the registry."""
        return any(image.lower().startswith(f"{name.removesuffix(':443')}/") for name in self._own)

    def is_own(self, named: Reference) -> bool:
        """Whether an image's own name says that it is of this registry, so that one that is not there is strange."""
        return one_name(named.registry) in self._own

    def repositories(self, use: Use, named: Reference) -> Sequence[str]:
        """The repositories of the registry that an image may be in; none when it is not of this registry."""
        if one_name(named.registry) in self._own:
            return [repository_of(self._settings, named)]
        mirrored = self._mirrored.get((one_name(named.registry), named.repository), ())
        if mirrored or self._registry not in self._session.config.usage[use.source].registries:
            return mirrored
        return [named.repository]


def _mirrored(session: Session, registry: str) -> Mapping[tuple[str, str], Sequence[str]]:
    """Upstreams (host as :func:`one_name`, repository) to what mirrors call them in a registry."""
    found: dict[tuple[str, str], list[str]] = {}
    for mirror in session.config.mirrors.values():
        for upstream in mirror.upstreams if registry in (mirror.via, mirror.to) else ():
            place = session.places.place(upstream.image)
            here = session.config.mirrored_repository(mirror, upstream)
            found.setdefault((one_name(place.registry.name), place.repository), []).append(here)
    return found


class _Found:
    """Collects uses of one registry, and asks it about each digest and tag once."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self.digests: dict[Digest, str] = {}
        self.contents: dict[Digest, str] = {}
        self._weak: set[Digest] = set()
        self.named: dict[str, list[Named]] = {}
        self._tags: dict[tuple[str, str], Use] = {}

    def add_content(self, digest: Digest, use: Use) -> None:
        """The id of an image."""
        self._keep(self.contents, digest, use)

    def add(self, repository: str, named: Reference, use: Use, *, own: bool) -> None:
        """A use by digest, or by a tag alone. What a weak source says comes from the registry itself. own: by a name of
        this registry, so that it is strange when it is not there."""
        if named.digest is None:
            if named.tag and use.image_id is None:
                self._tag(repository, named.tag, use)
            return
        self._keep(self.digests, named.digest, use)
        if own and not use.weak:
            self.named.setdefault(repository, []).append(Named(named.digest, named.tag, use.source, use.sentence))

    def settle(self) -> None:
        """Ask the registry what the tags name. Raises RegistryError."""
        with Pool(ASKING_THREADS, "usage") as pool:
            named = pool.map(lambda key: digest_at(Place(self._registry, key[0]), key[1]), self._tags)
            for use, found in zip(self._tags.values(), named, strict=True):
                if found is not None:
                    self._keep(self.digests, found, use)

    def _tag(self, repository: str, tag: str, use: Use) -> None:
        known = self._tags.setdefault((repository, tag), use)
        if use.running and not known.running:
            self._tags[repository, tag] = use

    def _keep(self, found: dict[Digest, str], digest: Digest, use: Use) -> None:
        """Whoever stands behind it counts more than a hint."""
        if digest not in found or (digest in self._weak and not use.weak):
            found[digest] = use.sentence
            (self._weak.add if use.weak else self._weak.discard)(digest)


def names_of(settings: RegistryPlace) -> frozenset[str]:
    """All names that a place may have for a registry, each as :func:`one_name`: what runs by a private link, by a FIPS
    or an IPv6 name of ECR, or by a host of Container Registry, is in use all the same."""
    names = {address(settings), getattr(settings, "reachable_as", None) or ""}
    if settings.kind == "ecr":
        from registry_pipelines.registry.ecr.hosts import EcrHost

        forms = product((False, True), (False, True))
        names |= {EcrHost(settings.account, settings.region, *form).name for form in forms}
    elif settings.kind == "gar":
        from registry_pipelines.registry.gar.hosts import LEGACY

        own = {settings.location, LEGACY.get(settings.gcr_host or "", "")}
        names |= {f"{location}-docker.pkg.dev" for location in own if location}
        names |= {host for host, location in LEGACY.items() if location in own}
    return frozenset(one_name(name) for name in names if name)


def repository_of(settings: RegistryPlace, named: Reference) -> str:
    """The repository of a use as the registry itself has it. Container Registry's hosts have other names for theirs."""
    if settings.kind != "gar":
        return named.repository
    from registry_pipelines.registry.gar.hosts import locate, read_host

    own, written = read_host(settings.host), read_host(named.registry)
    if own is None or written is None or own == written:
        return named.repository
    try:
        there, image = locate(written, named.repository)
    except ReferenceInvalid:
        return named.repository
    project = there.project.replace(":", "/")
    return f"{project}/{image}" if own.legacy == there.repository else f"{project}/{there.repository}/{image}"
