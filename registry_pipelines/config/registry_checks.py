"""Checks of what a configuration says of registries and clouds: places that must differ, fields that fit the kind."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import urlsplit

from registry_pipelines.config.model import Config
from registry_pipelines.config.registries import EcrRegistry, EmbeddedRegistry, GarRegistry, RemoteRegistry
from registry_pipelines.errors import InputError
from registry_pipelines.registry.client.origins import is_loopback
from registry_pipelines.registry.client.redirects import Allowed
from registry_pipelines.transfer.limits.buckets import CapWindow


def registry_problems(config: Config) -> Iterable[tuple[str, str]]:
    """Where, and what is wrong there."""
    yield from _lookalikes(config)
    yield from _ports(config)
    yield from _bandwidth(config)
    yield from _redirects(config)
    yield from _events(config)
    yield from _scanners(config)
    yield from _usage(config)
    yield from _endpoints(config)


def _lookalikes(config: Config) -> Iterable[tuple[str, str]]:
    """Dagster's names have no dashes: of two that differ by one alone nothing would load."""
    for section in ("registries", "targets", "mirrors", "syncs", "python_packages", "deploy"):
        used: dict[str, str] = {}
        for name in getattr(config, section):
            if (first := used.setdefault(name.replace("-", "_"), name)) != name:
                yield f"{section}.{name}", f"differs from `{first}` only by - and _, which are one in Dagster's names"


def _ports(config: Config) -> Iterable[tuple[str, str]]:
    used: dict[str, str] = {}
    roots: dict[str, str] = {}
    for name, registry in config.registries.items():
        if not isinstance(registry, EmbeddedRegistry):
            continue
        if (first := used.setdefault(registry.address, name)) != name:
            yield f"registries.{name}.port", f"{registry.address} is the address of `{first}` already"
        if (first := roots.setdefault(str(config.root(registry)), name)) != name:
            yield f"registries.{name}.root", f"the folder belongs to `{first}` already"
        if (registry.tls_cert is None) != (registry.tls_key is None):
            yield f"registries.{name}", "`tls_cert` and `tls_key` are written together or not at all"


def _bandwidth(config: Config) -> Iterable[tuple[str, str]]:
    for name, registry in config.registries.items():
        for place, text in enumerate(registry.bandwidth if isinstance(registry, RemoteRegistry) else ()):
            try:
                CapWindow.parse(text)
            except InputError as error:
                yield f"registries.{name}.bandwidth[{place}]", f"{error.what}; {error.do}"


def _redirects(config: Config) -> Iterable[tuple[str, str]]:
    for name, registry in config.registries.items():
        for place, text in enumerate(registry.redirects.allow if isinstance(registry, RemoteRegistry) else ()):
            try:
                Allowed.parse(text)
            except InputError as error:
                yield f"registries.{name}.redirects.allow[{place}]", f"{error.what}; {error.do}"


def _events(config: Config) -> Iterable[tuple[str, str]]:
    """A queue has one reader: of two each would get half of the messages, and drop it."""
    seen: dict[str, str] = {}
    for name, registry in config.registries.items():
        if not isinstance(registry, EcrRegistry | GarRegistry) or registry.events is None:
            continue
        field = "sqs" if isinstance(registry, EcrRegistry) else "pubsub"
        queue = str(getattr(registry.events, field))
        if queue in seen:
            yield f"registries.{name}.events.{field}", f"registry `{seen[queue]}` reads this queue; each needs its own"
        seen.setdefault(queue, name)


def _endpoints(config: Config) -> Iterable[tuple[str, str]]:
    """Tokens, and answers that hold some, go to the addresses of clouds' APIs."""
    for section in ("registries", "usage"):
        for name, each in getattr(config, section).items():
            try:
                address = urlsplit(getattr(each, "endpoint", None) or "")
            except ValueError:
                yield f"{section}.{name}.endpoint", "the host of the address is no IPv6 address"
                continue
            if address.scheme == "http" and not is_loopback(address.hostname or ""):
                yield (
                    f"{section}.{name}.endpoint",
                    "tokens would go there without TLS; it begins with https://, but on this machine",
                )


def _usage(config: Config) -> Iterable[tuple[str, str]]:
    """Pull times are ECR's alone. Where no host is named nothing would seem to run."""
    for name, source in config.usage.items():
        if source.kind in ("containerd", "docker") and not source.hosts:
            yield f"usage.{name}.hosts", "names no host, so that nothing would seem to run"
        if source.kind == "pulls" and config.registries[source.registry].kind != "ecr":
            yield (
                f"usage.{name}.registry",
                f"{source.registry} is no registry of kind ecr, and only ECR tells pull times",
            )


def _scanners(config: Config) -> Iterable[tuple[str, str]]:
    """What a program needs is nothing for a cloud."""
    for kind, scanner in config.scanners.items():
        cloud = kind not in ("trivy", "grype")
        for field in ("program", "reports", "database"):
            if cloud and getattr(scanner, field):
                yield (
                    f"scanners.{kind}.{field}",
                    "a scanner of a cloud has no program and no file; its registry is asked",
                )
        wanted = EcrRegistry if kind in ("ecr", "inspector") else GarRegistry
        named = [image.registry for image in config.images.values()] if scanner.registry is None else []
        if cloud and named and not any(isinstance(config.registries[name], wanted) for name in named):
            kinds = "ecr" if wanted is EcrRegistry else "gar"
            yield f"scanners.{kind}", f"no image is in a registry of the kind `{kinds}`: it would never be asked"
        if scanner.registry is None:
            continue
        if kind != "google-on-demand":
            yield f"scanners.{kind}.registry", "only for google-on-demand; other clouds scan what their registry has"
        elif not isinstance(config.registries[scanner.registry], GarRegistry):
            yield f"scanners.{kind}.registry", "name a registry of the kind `gar`, whose project asks"
