"""From names in the configuration, and references a person writes, to registries and places."""

from __future__ import annotations

import threading
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from registry_pipelines import config as configuration
from registry_pipelines.errors import InputError
from registry_pipelines.oci.references import Reference, check_no_url, check_repository
from registry_pipelines.registry.client import DistributionRegistry as DistributionClient
from registry_pipelines.registry.client.origins import is_loopback
from registry_pipelines.registry.protocol import Place, Registry
from registry_pipelines.registry.remote import cloud_registry, remote_registry
from registry_pipelines.settings import unknown
from registry_pipelines.transfer.limits.buckets import CapWindow
from registry_pipelines.transfer.limits.limited import limited
from registry_pipelines.transfer.limits.machine import MachineLimits
from registry_pipelines.versions import claim_state

if TYPE_CHECKING:  # a copy without a configuration loads none
    from registry_pipelines.config import Config, Image, RegistryPlace
    from registry_pipelines.config.clouds import EcrRegistry, GarRegistry
    from registry_pipelines.config.registries import Cache
    from registry_pipelines.registry.ecr.calls import AwsCalls
    from registry_pipelines.registry.gar.calls import GoogleCalls
    from registry_pipelines.shared.budgets import Budgets


class Located(msgspec.Struct, frozen=True):
    """A reference with the place it is at. selector: tag or digest; empty when none was written."""

    place: Place
    tag: str
    digest: str

    @property
    def selector(self) -> str:
        """The digest when there is one, else the tag."""
        return self.digest or self.tag


class Places:
    """Opens registries once and keeps them. config: None when there is no configuration file. limits: those that then
    hold; the configuration's else. Raises StateTooNew."""

    def __init__(self, config: Config | None, *, limits: MachineLimits | None = None) -> None:
        if config is not None:
            claim_state(config.state)
        self._config = config
        self._open: dict[str, Registry] = {}
        self._aws: dict[str, AwsCalls] = {}
        self._google: dict[str, GoogleCalls] = {}
        self.limits = limits or (limits_of(config) if config else MachineLimits())
        self._lock = threading.Lock()

    def registry(self, name: str) -> Registry:
        """A registry by its name in the configuration. Raises InputError with the closest name."""
        settings = self._config.registries.get(name) if self._config else None
        if settings is None:
            known = self._config.registries if self._config else {}
            raise InputError(unknown(name, known, "registry"), do="Name a registry of the configuration")
        with self._lock:
            if name not in self._open:
                opened = open_registry(settings, self.limits)
                self._open[name] = self._with_moving_tags(name, opened)
            return self._open[name]

    def _with_moving_tags(self, name: str, registry: Registry) -> Registry:
        config = self._config
        told = config and any([*(each.moving for each in config.images.values()), *_prefixes(config)])
        if config is None or not told:
            return registry
        from registry_pipelines.chain.moving import bring, moving_tags  # most configurations keep no tag apart
        from registry_pipelines.registry.moving import with_moving_tags

        elsewhere = moving_tags(config, name)
        return with_moving_tags(registry, elsewhere, bring) if elsewhere else registry

    def ecr(self, name: str) -> tuple[EcrRegistry, AwsCalls]:
        """A registry of kind ``ecr``, and what :meth:`aws` gives for it. Raises InputError for another."""
        settings = self._config.registries.get(name) if self._config else None
        if settings is None:
            known = self._config.registries if self._config else {}
            raise InputError(unknown(name, known, "registry"), do="Name a registry of the configuration")
        if settings.kind != "ecr":
            raise InputError(f"{name} is of kind {settings.kind}", do="Name a registry of kind ecr")
        return settings, self.aws(settings)

    def aws(self, settings: EcrRegistry) -> AwsCalls:
        """How AWS's APIs are asked for a registry: within the budgets that all processes share, by clients that are
        made once, as a role's credentials are."""
        from registry_pipelines.registry.ecr.calls import AwsCalls
        from registry_pipelines.transfer.limits.apis import pace_of

        with self._lock:
            if settings.name not in self._aws:
                self._aws[settings.name] = AwsCalls(settings.access(), pace=pace_of(self.limits, settings.host))
            return self._aws[settings.name]

    def google(self, settings: GarRegistry) -> GoogleCalls:
        """How Google's APIs are asked for a registry, in the same way."""
        from registry_pipelines.registry.gar.calls import GoogleCalls
        from registry_pipelines.transfer.limits.apis import pace_of

        with self._lock:
            if settings.name not in self._google:
                self._google[settings.name] = GoogleCalls(settings.access(), pace=pace_of(self.limits, settings.host))
            return self._google[settings.name]

    def source(self, image: Image) -> Place:
        """Where an image's releases appear."""
        return Place(self.registry(image.registry), image.repository)

    def target(self, image: Image, target_name: str) -> Place:
        """Where an image is at a target. Raises InputError for an unknown target."""
        targets = self._config.targets if self._config else {}
        if target_name not in targets or self._config is None:
            raise InputError(unknown(target_name, targets, "target"), do="Name a target of the configuration")
        target = targets[target_name]
        return Place(self.registry(target.registry), self._config.repository_at(image, target))

    def locate(self, text: str, *, default_tag: str = "latest") -> Located:
        """Read ``<configured registry>/repository[:tag][@digest]`` or any reference as Docker writes it.

        A configured name wins over a repository of Docker Hub with the same first part. Hosts that are not configured
        get docker's own credentials, those of ECR the AWS credentials. Raises ReferenceInvalid, InputError for a
        registry alone: Docker would take its name for an image of Docker Hub.
        """
        first, slash, rest = text.partition("/")
        if not slash and self._is_registry(first):
            raise InputError(f"{text!r} is a registry, and no repository is named", do=f"Write {text}/REPOSITORY")
        if slash and self._config and first in self._config.registries:
            # Only the host is ours; everything after it follows Docker's rules, so those are asked.
            parsed = Reference.parse(f"configured.invalid/{rest}", default_tag=default_tag)
            return Located(Place(self.registry(first), parsed.repository), parsed.tag, parsed.digest or "")
        parsed = Reference.parse(text, default_tag=default_tag)
        return Located(Place(self.host(parsed.registry), parsed.repository), parsed.tag, parsed.digest or "")

    def tagged(self, text: str) -> tuple[Place, str]:
        """Where something is to be put under a tag, ``latest`` unless one is written. Raises as :meth:`locate`,
        InputError for a digest."""
        located = self.locate(text)
        if located.digest:
            raise InputError(f"{text!r} names a digest, and what is pushed has its own", do="Write a tag, or none")
        return located.place, located.tag

    def open(self, text: str) -> tuple[Registry, str]:
        """A registry by configured name or host, and the repository prefix after the first slash (empty for none).

        Raises ReferenceInvalid for a prefix, InputError for a name that is neither configured nor a host.
        """
        check_no_url(text)
        first, slash, prefix = text.partition("/")
        if slash:
            check_repository(prefix)
        if self._config and first in self._config.registries:
            return self.registry(first), prefix
        if "." not in first and ":" not in first and first != "localhost":
            known = self._config.registries if self._config else {}
            raise InputError(unknown(first, known, "registry"), do="Write a configured name, or a host with its port")
        return self.host(first), prefix

    def place(self, text: str) -> Place:
        """A repository without tag. Raises ReferenceInvalid."""
        located = self.locate(text, default_tag="")
        if located.selector:
            raise InputError(f"{text!r} names a tag or digest where a repository is wanted")
        return located.place

    def _is_registry(self, text: str) -> bool:
        known = self._config.registries if self._config else {}
        host = text.partition("@")[0].partition(":")[0]
        return text in known or text in map(address, known.values()) or "." in host or host == "localhost"

    def host(self, host: str) -> Registry:
        """The registry at a host: one of the configuration where it has that address, else as any client asks it."""
        if name := self.configured(host):
            return self.registry(name)
        cache = self._cache(host)
        inside = self.registry(cache.registry) if cache else None
        with self._lock:
            key = f"host {host}"
            if key not in self._open:
                opened = limited(remote_registry(host), self.limits)
                self._open[key] = _through(opened, inside, cache.prefix) if cache and inside else opened
            return self._open[key]

    def configured(self, host: str) -> str:
        """The name of the configuration's registry with that address; empty for none."""
        known = self._config.registries if self._config else {}
        return next((name for name, each in known.items() if one_name(address(each)) == one_name(host)), "")

    def _cache(self, host: str) -> Cache | None:
        """The declared cache of an upstream that is no configured registry."""
        caches = self._config.caches if self._config else {}
        return next((each for name, each in caches.items() if one_name(name) == one_name(host)), None)


def _prefixes(config: Config) -> list[str]:
    return [each.moving_prefix for each in config.targets.values()]


def _through(upstream: Registry, cache: Registry, prefix: str) -> Registry:
    from registry_pipelines.registry.through_cache import ThroughCache  # few configurations have one

    return ThroughCache(upstream, cache, prefix)


def one_name(address: str) -> str:
    """How a host is compared. All names of this machine are one, and 443 is the port of a host without: what the
    configuration protects must not be reached as somebody else's."""
    host, colon, port = address.lower().rpartition(":")
    host, port = (host, port) if colon and port.isdecimal() else (address.lower(), "443")
    return f"{'127.0.0.1' if is_loopback(host) else host.rstrip('.')}:{port}"


def address(settings: RegistryPlace) -> str:
    """Host and port of a configured registry; empty for a folder or a store."""
    if isinstance(settings, configuration.EmbeddedRegistry):
        return settings.client_address
    return settings.host if isinstance(settings, configuration.RemoteRegistry) else ""


def limits_of(config: Config) -> MachineLimits:
    """Request budgets of known clouds and the configured bandwidth caps, kept by all processes with the state folder,
    or by all workers on a shared state."""
    caps = {
        settings.host: tuple(CapWindow.parse(text) for text in settings.bandwidth)
        for settings in config.registries.values()
        if isinstance(settings, configuration.RemoteRegistry) and settings.bandwidth
    }
    shared = partial(_budgets, config) if config.shared.database else None
    return MachineLimits(folder=config.state / "limits", caps=caps, shared=shared)


def _budgets(config: Config) -> Budgets:
    from registry_pipelines.chain.shared import shared_of  # one machine needs none

    shared = shared_of(config)
    if shared is None:
        raise AssertionError("budgets of a state that is not shared")
    return shared.budgets


def open_registry(settings: RegistryPlace, limits: MachineLimits) -> Registry:
    """A client for a configured registry; no network yet. Those elsewhere are kept within the limits; what this project
    serves itself has none."""
    client = client_of(settings)
    return limited(client, limits) if isinstance(settings, configuration.RemoteRegistry) else client


def client_of(settings: RegistryPlace) -> Registry:
    """The same without limits, for a look that asks little."""
    if isinstance(settings, configuration.LayoutRegistry):
        from registry_pipelines.registry.layout import LayoutRegistry as LayoutFolder  # with the embedded server

        return LayoutFolder(settings.root)
    if isinstance(settings, configuration.StoreRegistry):
        from registry_pipelines.registry.stored import StoredRegistry  # with the clients of object stores
        from registry_pipelines.stores.store import open_store

        return StoredRegistry(
            open_store(
                settings.address, region=settings.region, endpoint=settings.endpoint, aws_profile=settings.aws_profile
            )
        )
    if isinstance(settings, configuration.EmbeddedRegistry):
        username = next(iter(settings.users), "")
        return DistributionClient(
            settings.client_address,
            username=username,
            password=settings.users[username].reveal() if username else "",
            plain_http=settings.tls_cert is None,
            ca_file=settings.ca_file,
        )
    if isinstance(settings, configuration.EcrRegistry | configuration.EcrPublicRegistry | configuration.GarRegistry):
        return cloud_registry(
            settings.host,
            settings.access(),
            dial=settings.reachable_as or "",
            plain_http=settings.plain_http,
            ca_file=settings.ca_file,
            redirects=settings.redirects.allow,
        )
    return remote_registry(
        settings.host,
        username=settings.username,
        password=settings.password.reveal(),
        plain_http=settings.plain_http,
        ca_file=settings.ca_file,
        docker_config=settings.docker_config,
        aws_profile=settings.aws_profile,
        redirects=settings.redirects.allow,
    )


def join_repository(prefix: str, repository: str) -> str:
    """``prefix/repository``, checked. Raises ReferenceInvalid."""
    return check_repository(f"{prefix}/{repository}" if prefix else repository)


__all__ = ["Located", "Places", "address", "client_of", "join_repository", "one_name", "open_registry"]
