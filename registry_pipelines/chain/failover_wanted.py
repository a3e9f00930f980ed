"""Which images must have a second place: what channels name, what runs, and what mirrors brought."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from registry_pipelines.chain.failover import placed
from registry_pipelines.chain.failover_kept import FOLDER, KeptImage, keep, kept, name_of
from registry_pipelines.chain.session import Session
from registry_pipelines.config.failover import images_of, repository_with
from registry_pipelines.errors import InputError, NotFound, RegistryPipelinesError, Unavailable
from registry_pipelines.mirror.clusters.model import Route
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.references import Reference
from registry_pipelines.recover.failover.model import Failover
from registry_pipelines.recover.failover.standing import Wanted
from registry_pipelines.registry.protocol import Place
from registry_pipelines.registry.tags import digest_at
from registry_pipelines.transfer.closure.digest_tags import is_named_after_digest
from registry_pipelines.transfer.closure.listed import list_tags
from registry_pipelines.transfer.closure.selector import ALL

MAX_FOREIGN_TAGS = 1000
"""Of one mirrored repository; a fail-over is looked at every hour, and each tag is a request at each registry."""


@dataclass
class Sought:
    """What must be there, each digest of a repository once; problems: what could not be found out."""

    wanted: dict[tuple[str, Digest], Wanted] = field(default_factory=dict)
    images: dict[tuple[str, Digest], KeptImage] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    silent: bool = False
    """The registry that is believed about tags answered no more; it is asked for nothing else."""

    def add(
        self, said: str, digest: Digest, why: str, places: Mapping[str, Place], *, name: str = "", tag: str = ""
    ) -> None:
        """Where it is wanted already, the first reason stays, and the first tag. said: the image for people. name: of
        one of ours. places: the first registry's first."""
        repository = next(iter(places.values())).repository
        known = self.wanted.get((repository, digest))
        if known is None or (tag and not known.tag):
            why = known.why if known else why
            self.wanted[repository, digest] = Wanted(said, digest, why, places, tag)
            self.images[repository, digest] = KeptImage(
                said=said, name=name, repository=repository, digest=str(digest), why=why, tag=tag
            )


def sought(session: Session, settings: Failover, asked: Sequence[str], images: Sequence[str] = ()) -> Sought:
    """What must be at every registry. asked: the registries that can serve, in the order in which nodes ask them; the
    first of them is believed about tags. images: what a person asks about, in place of all. Raises InputError for one
    of those that is none of the fail-over's."""
    found = Sought()
    if images:
        for text in images:
            _named(session, settings, asked, text, found)
        return found
    for image in images_of(session.config, settings):
        with _telling(found, image):
            if not found.silent:
                _of_channels(session, settings, asked, image, found)
    _running(session, settings, found)
    for route in _foreign(session, settings):
        with _telling(found, route.name):
            if not found.silent:
                _mirrored(session, settings, asked, route, found)
    first = next(iter(settings.stands))
    if first not in asked or found.silent:
        _recalled(session, settings, first, found)
    elif not found.problems:
        _vanished(session, settings, first, found)
        keep(session, settings, list(found.images.values()))
    return found


def _vanished(session: Session, settings: Failover, first: str, found: Sought) -> None:
    """Channels that named an image when it was last looked, and name nothing now: a registry that lost its content
    answers as well as one that has it. What was there is still wanted, until somebody says that it is not."""
    last = kept(session, settings)
    own = images_of(session.config, settings)
    named = {(each.repository, each.tag) for each in found.images.values()}
    if last is None:
        return
    for each in last.images:
        channels = {channel.name for channel in session.config.images[each.name].order} if each.name in own else set()
        wanted = each.tag in (channels & set(settings.channels) if settings.channels else channels)
        if not wanted or (each.repository, each.tag) in named:
            continue
        places = _places(session, settings, each.repository, each.name)
        found.add(each.said, Digest.parse(each.digest), each.why, places, name=each.name, tag=each.tag)
        found.problems.append(
            f"{each.said}:{each.tag} names nothing at {first}, and did in an earlier look; where that was meant, "
            f"delete {session.documents.where}/{FOLDER}/{name_of(settings)}"
        )


def _recalled(session: Session, settings: Failover, first: str, found: Sought) -> None:
    """What the first registry had when it last answered: what never got elsewhere nobody else can name."""
    last = kept(session, settings)
    if last is None:
        found.problems.append(
            f"{first} does not answer, and what it has was never looked at before: only what others name was looked for"
        )
        return
    known = images_of(session.config, settings)
    for each in last.images:
        name = each.name if each.name in known else ""
        places = _places(session, settings, each.repository, name)
        why = f"{each.why}, as {first} said on {last.at:%Y-%m-%d %H:%M} UTC"
        # A tag may have moved since, and what names it now is looked for by what others say.
        found.add(each.said, Digest.parse(each.digest), why, places, name=name)


class _telling:
    """What a registry said instead of an answer becomes a problem of what was sought."""

    def __init__(self, found: Sought, about: str) -> None:
        self._found, self._about = found, about

    def __enter__(self) -> None:
        """Nothing is to be opened."""

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        if not isinstance(error, RegistryPipelinesError) or isinstance(error, InputError):
            return False
        self._found.problems.append(f"{self._about}: {error}")
        self._found.silent = self._found.silent or isinstance(error, Unavailable)
        return True


def _places(session: Session, settings: Failover, at_first: str, image: str = "") -> dict[str, Place]:
    """By registry, of a repository as the first one has it."""
    by_name = {}
    for name, stand in settings.stands.items():
        if image:
            path = repository_with(session.config, image, stand, at_first)
        else:
            path = f"{stand.prefix}/{at_first}" if stand.prefix else at_first
        by_name[name] = Place(session.places.registry(name), path)
    return by_name


def _of_channels(session: Session, settings: Failover, asked: Sequence[str], image: str, found: Sought) -> None:
    at_first = images_of(session.config, settings)[image]
    places = _places(session, settings, at_first, image)
    for channel in session.config.images[image].order:
        if settings.channels and channel.name not in settings.channels:
            continue
        digest = digest_at(places[asked[0]], channel.name)
        if digest is not None:
            found.add(image, digest, channel.name, places, name=image, tag=channel.name)


def _running(session: Session, settings: Failover, found: Sought) -> None:
    """What nodes run now is what they pull again first."""
    if not session.config.usage:
        return
    from registry_pipelines.chain.usage import asked as uses_of

    routes = {(route.host, route.repository): route for route in placed(session, settings)[0].routes}
    own = {repository: image for image, repository in images_of(session.config, settings).items()}
    for answer in uses_of(session):
        if answer.problem:
            found.problems.append(f"{answer.source} does not say what it runs: {answer.problem}")
        for use in answer.uses:
            reference = use.reference()
            route = routes.get((reference.registry, reference.repository)) if reference else None
            if reference is None or route is None or reference.digest is None:
                continue
            image = own.get(route.path, "")
            places = _places(session, settings, route.path, image)
            found.add(image or route.name, reference.digest, use.sentence, places, name=image)


def _foreign(session: Session, settings: Failover) -> Iterator[Route]:
    own = set(images_of(session.config, settings).values())
    for route in placed(session, settings)[0].routes if settings.mirrors else ():
        if route.path not in own:
            yield route


def _mirrored(session: Session, settings: Failover, asked: Sequence[str], route: Route, found: Sought) -> None:
    places = _places(session, settings, route.path)
    source = places[asked[0]]
    tags = [tag for tag in list_tags(source, ALL).every if not is_named_after_digest(tag)]
    for tag in tags[:MAX_FOREIGN_TAGS]:
        digest = digest_at(source, tag)
        if digest is not None:
            found.add(route.name, digest, tag, places, tag=tag)
    if len(tags) > MAX_FOREIGN_TAGS:
        found.problems.append(f"{route.name}: {len(tags) - MAX_FOREIGN_TAGS} more tags were not looked at")


def _named(session: Session, settings: Failover, asked: Sequence[str], text: str, found: Sought) -> None:
    """``IMAGE[:TAG][@DIGEST]`` of the configuration, or a reference as workloads write it."""
    own = images_of(session.config, settings)
    name = text.partition("@")[0].partition(":")[0]
    if name in own:
        reference = Reference.parse(f"configured.invalid/{text}", default_tag=session.config.images[name].channel)
        image, at_first = name, own[name]
    else:
        reference = Reference.parse(text)
        routes = {(route.host, route.repository): route.path for route in placed(session, settings)[0].routes}
        path = routes.get((reference.registry, reference.repository))
        if path is None:
            raise InputError(
                f"{text!r} is no image of the fail-over {settings.name}",
                do=f"Name one of {', '.join(own) or 'its mirrors'}, or a reference as workloads write it",
            )
        image = next((each for each, repository in own.items() if repository == path), "")
        at_first = path
    places = _places(session, settings, at_first, image)
    digest = reference.digest or _first_digest(places, asked, reference.tag)
    if digest is None:
        raise NotFound(f"no registry has {text}", where=", ".join(str(places[each]) for each in asked))
    found.add(image or text, digest, "asked for", places, name=image, tag=reference.tag)


def _first_digest(places: Mapping[str, Place], asked: Sequence[str], tag: str) -> Digest | None:
    return next((digest for name in asked if (digest := digest_at(places[name], tag)) is not None), None)
