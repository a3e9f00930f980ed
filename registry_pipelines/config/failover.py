"""What does not go together in ``failover``, and where an image is at each of its registries."""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase

from registry_pipelines.config.model import Config, Image
from registry_pipelines.recover.failover.model import Dns, Failover, Stand
from registry_pipelines.settings import closest

MAX_TIMEOUT_S = 60
LEAST_TIMEOUT_S = 0.1
MAX_TTL_S = 86_400


def failover_problems(config: Config) -> Iterator[tuple[str, str]]:
    """Where, and what."""
    for name, settings in config.failover.items():
        path = f"failover.{name}"
        yield from ((f"{path}.{where}", what) for where, what in _registries(config, settings))
        yield from ((f"{path}.{where}", what) for where, what in _images(config, settings))
        timeout_s = settings.health.timeout.total_seconds()
        if not LEAST_TIMEOUT_S <= timeout_s <= MAX_TIMEOUT_S:
            yield f"{path}.health.timeout", f"is {settings.health.timeout}; write something from 100ms to 60s"
        dial_s = settings.dial_timeout.total_seconds()
        if dial_s % 1 or dial_s > MAX_TIMEOUT_S:
            yield f"{path}.dial_timeout", f"is {settings.dial_timeout}; write whole seconds, at most 60s"
        if settings.health.pause.total_seconds() > MAX_TIMEOUT_S:
            yield f"{path}.health.pause", f"is {settings.health.pause}; write at most 60s"
        if settings.dns:
            yield from ((f"{path}.dns.{where}", what) for where, what in _dns(settings, settings.dns))
            yield from ((f"{path}.{where}", what) for where, what in _targets(config, settings))


def _registries(config: Config, settings: Failover) -> Iterator[tuple[str, str]]:
    seen: set[str] = set()
    for place, stand in enumerate(settings.registries):
        kind = config.registries[stand.registry].kind
        if kind in ("layout", "store"):
            yield f"registries[{place}]", f"{stand.registry} is of kind {kind}, and no node can pull from it"
        if stand.registry in seen:
            yield f"registries[{place}]", f"{stand.registry} is there already, and cannot stand in for itself"
        seen.add(stand.registry)
    if settings.registries[0].prefix:
        yield "registries[0].prefix", "the names of the first registry are what others are told from; leave it out"


def _images(config: Config, settings: Failover) -> Iterator[tuple[str, str]]:
    first = settings.registries[0].registry
    for place, pattern in enumerate(settings.images):
        found = [image for image in config.images.values() if fnmatchcase(image.name, pattern)]
        if not found:
            best = closest(pattern, config.images)
            yield f"images[{place}]", f"no image is called {pattern}" + (f"; did you mean `{best}`?" if best else "")
        elif not any(repository_at(config, image, first) for image in found):
            yield f"images[{place}]", f"{first} has none of {pattern}: it is neither their registry nor a target's"
    for place, name in enumerate(settings.mirrors):
        if config.mirrors[name].to != first:
            yield (
                f"mirrors[{place}]",
                f"{name} brings its images to {config.mirrors[name].to}, and {first} is the first",
            )
    if not settings.mirrors and not images_of(config, settings):
        yield "registries", f"no image is in {first}; name the registry first that has them, or `mirrors`"


def _dns(settings: Failover, dns: Dns) -> Iterator[tuple[str, str]]:
    ttl_s = dns.ttl.total_seconds()
    if not 1 <= ttl_s <= MAX_TTL_S or ttl_s % 1:
        yield "ttl", f"is {dns.ttl}; write whole seconds, from 1s to 1d"
    if dns.provider == "cloud-dns" and not dns.project:
        yield "project", "Cloud DNS wants the project of the zone"
    if dns.provider != "cloud-dns" and dns.project:
        yield "project", "is for `provider: cloud-dns`"
    if dns.provider == "text" and dns.name == dns.zone:
        yield "name", "is the zone itself, which can have no CNAME; take a name below it"
    if dns.provider == "text" and not dns.name.endswith(f".{dns.zone}"):
        yield "name", f"is not below the zone {dns.zone}"
    if dns.provider != "route53":
        for stand in settings.registries:
            if stand.health_check:
                yield "provider", f"{stand.registry} has a health check of Route 53, and this is {dns.provider}"


def _targets(config: Config, settings: Failover) -> Iterator[tuple[str, str]]:
    """A CNAME leads to a name, and to no address."""
    for place, stand in enumerate(settings.registries):
        registry = config.registries[stand.registry]
        host = str(stand.leads_to or getattr(registry, "client_address", "") or getattr(registry, "host", ""))
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() and ":" in host else host
        if name.startswith("[") or name.replace(".", "").isdecimal() or "." not in name:
            where = f"registries[{place}].leads_to"
            yield where, f"`dns` would lead to {name}, which is no name; write one of what stands in front of it"


def repository_at(config: Config, image: Image, registry: str) -> str | None:
    """The repository of an image at a registry: where its releases appear, or at a target; None for neither."""
    if image.registry == registry:
        return image.repository
    targets = (config.targets[name] for name in image.with_order().targets)
    return next((config.repository_at(image, each) for each in targets if each.registry == registry), None)


def images_of(config: Config, settings: Failover) -> dict[str, str]:
    """Our images that are failed over, each with its repository at the first registry."""
    first = settings.registries[0].registry
    found = {
        name: repository_at(config, image, first)
        for name, image in config.images.items()
        if not settings.images or any(fnmatchcase(name, pattern) for pattern in settings.images)
    }
    return {name: repository for name, repository in found.items() if repository}


def repository_with(config: Config, name: str, stand: Stand, at_first: str) -> str:
    """The repository of one of our images at a registry of a fail-over. name: of the image. at_first: its repository at
    the first registry."""
    there = repository_at(config, config.images[name], stand.registry)
    return there or below(stand, at_first)


def below(stand: Stand, repository: str) -> str:
    """A repository of the first registry, as another one has it that no target names."""
    return f"{stand.prefix}/{repository}" if stand.prefix else repository
