"""What crosses in a mirror's bundle, and where this side has it: upstreams, releases that may leave, artifacts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from registry_pipelines.chain.mirror_sources import asked, pinned_at, upstreams_of
from registry_pipelines.chain.places import join_repository
from registry_pipelines.chain.promote import broken_glass, leaves_from
from registry_pipelines.chain.releases import names_release, releases_of
from registry_pipelines.chain.session import Session
from registry_pipelines.config import Image, Mirror
from registry_pipelines.errors import EvidenceError, NotFound, PromotionDenied, RegistryPipelinesError
from registry_pipelines.mirror.bundle.contents import Wanted
from registry_pipelines.mirror.bundle.format import LeftOut
from registry_pipelines.mirror.upstreams import PinnedTag
from registry_pipelines.oci.digest import Digest
from registry_pipelines.registry.protocol import Place
from registry_pipelines.registry.tags import digest_at
from registry_pipelines.release import Release


@dataclass
class Found:
    """All that is to cross. left_out: what is held, with the reason. problems: what could not be looked at."""

    wanted: list[Wanted] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)
    problems: list[tuple[str, RegistryPipelinesError]] = field(default_factory=list)
    alerts: list[str] = field(default_factory=list)


def find_wanted(session: Session, mirror: Mirror) -> Found:
    """Pin what a mirror's bundle takes to digests: from its DMZ registry where it has one, else from the sources. What
    cannot be looked at does not hold the others up."""
    found = Found()
    _upstreams(session, mirror, found)
    for name in mirror.images:
        try:
            _releases(session, mirror, session.image(name), found)
        except RegistryPipelinesError as error:
            found.problems.append((name, error))
    for reference in mirror.artifacts:
        try:
            found.wanted.append(artifact(session, mirror, reference))
        except RegistryPipelinesError as error:
            found.problems.append((reference, error))
    return found


def artifact(session: Session, mirror: Mirror, reference: str) -> Wanted:
    """One that is named by its tag or digest. Raises NotFound, RegistryError, InputError."""
    located = session.places.locate(reference)
    place = located.place
    return Wanted(
        place=place,
        reopen=_without_selector(reference),
        digest=place.registry.resolve(place.repository, located.selector).digest,
        repository=join_repository(mirror.prefix, place.repository),
        tags=(located.tag,) if located.tag else (),
    )


def _without_selector(reference: str) -> str:
    """``registry/repository`` of a reference; a colon before the last slash is of a port."""
    name = reference.partition("@")[0]
    head, slash, last = name.rpartition("/")
    return f"{head}{slash}{last.partition(':')[0]}"


def _upstreams(session: Session, mirror: Mirror, found: Found) -> None:
    opened = list(upstreams_of(session, mirror))
    reopen = {each.repository: each.settings.image for each in opened}
    if mirror.via:
        via = session.places.registry(mirror.via)
        reopen = {each.repository: f"{mirror.via}/{each.repository}" for each in opened}
        opened = [replace(each, source=Place(via, each.repository)) for each in opened]
    plan = pinned_at(mirror, opened)
    for problem in plan.problems:
        name = f"{problem.upstream}:{problem.tag}" if problem.tag else problem.upstream
        found.problems.append((name, _not_yet_there(mirror, problem.error)))
    for pinned in _admitted(session, mirror, plan.pinned, found):
        upstream, settings = pinned.upstream, pinned.upstream.settings
        found.wanted.append(
            Wanted(
                place=upstream.source,
                reopen=reopen[upstream.repository],
                digest=pinned.digest,
                repository=upstream.repository,
                tags=(pinned.tag,),
                source=settings.image,
                platforms=settings.platforms,
                selection=settings.selection,
                foreign_layers=settings.foreign_layers,
            )
        )


def _not_yet_there(mirror: Mirror, error: RegistryPipelinesError) -> RegistryPipelinesError:
    """What a DMZ registry lacks is brought there by the mirror: whoever pins it anew finds the same lack again."""
    if not mirror.via or not isinstance(error, NotFound):
        return error
    return NotFound(
        f"{mirror.via} does not have it: {error.what}",
        where=error.where,
        do=f"Run `registry-pipelines mirror {mirror.name}` first, which fills {mirror.via}",
    )


def _admitted(session: Session, mirror: Mirror, pinned: Sequence[PinnedTag], found: Found) -> Iterator[PinnedTag]:
    """Those that the mirror's policies let in now; the others are left out, with the first reason."""
    with asked(session, mirror) as admit:
        for each in pinned:
            name = f"{each.upstream.name}:{each.tag}"
            try:
                if admit is not None:
                    admit(each, each.source, each.digest)
            except EvidenceError as error:
                why = error.reasons[0] if isinstance(error, PromotionDenied) and error.reasons else error.what
                found.left_out.append(LeftOut(image=name, kind="held", what=each.digest, why=why))
            except RegistryPipelinesError as error:
                found.problems.append((name, error))
            else:
                yield each


def _releases(session: Session, mirror: Mirror, image: Image, found: Found) -> None:
    """The releases of an own image that may leave; whether they may is asked where they come from, as of any copy."""
    repository = join_repository(mirror.prefix, image.repository)
    if mirror.via:
        place, reopen = Place(session.places.registry(mirror.via), repository), f"{mirror.via}/{repository}"
    else:
        place, reopen = session.places.source(image), f"{image.registry}/{image.repository}"
    channel = image.order[-1]
    for release in _candidates(session, mirror, image, place):
        name = f"{image.name}:{release.tag}"
        try:
            accepted = leaves_from(session, release, channel)
        except EvidenceError as error:
            if mirror.via:  # it went that far, so it was let go before
                found.left_out.append(
                    LeftOut(image=name, kind="held", what=release.digest, why=error.what.split("\n")[0])
                )
            continue
        found.alerts += broken_glass(accepted)
        channels = [channel.name] if digest_at(place, channel.name) == release.digest else []
        found.wanted.append(
            Wanted(
                place=place,
                reopen=reopen,
                digest=release.digest,
                repository=repository,
                tags=(release.tag, *channels),
                source=f"{image.registry}/{image.repository}",
                foreign_layers=mirror.foreign_layers,
            )
        )


def _candidates(session: Session, mirror: Mirror, image: Image, place: Place) -> Iterator[Release]:
    """Without a DMZ registry all of the source; else what was brought there."""
    if not mirror.via:
        yield from releases_of(session, image)
        return
    try:
        tags = list(place.registry.tags(place.repository))
    except NotFound:
        return
    seen: set[Digest] = set()
    for tag in tags:
        if names_release(image, tag) and (digest := digest_at(place, tag)) is not None and digest not in seen:
            seen.add(digest)
            yield Release(image.name, tag, digest)


__all__ = ["Found", "artifact", "find_wanted"]
