"""All rules of a safe deployment over a configuration, in the order of the page (docs/hardening.md)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from registry_pipelines.chain.places import address
from registry_pipelines.config import Config, DistributionRegistry, EmbeddedRegistry
from registry_pipelines.errors import RegistryPipelinesError
from registry_pipelines.hardening.asking import Site
from registry_pipelines.hardening.doors import examine_failure_policy, examine_registry, examine_webhook
from registry_pipelines.hardening.files import examine_configuration, examine_keys, examine_state, examine_user
from registry_pipelines.hardening.model import Finding, broken, kept, unknown
from registry_pipelines.hardening.services import examine_broker, examine_database
from registry_pipelines.hardening.webservers import examine_proxy, examine_webserver
from registry_pipelines.registry.client.origins import is_loopback


class Deployment(NamedTuple):
    """What runs, beside what the configuration says. webservers: their own addresses. proxy: what people open. reader:
    headers of somebody who may only look. ca: of the proxy's certificate. databases: others than the shared one, as
    Dagster's. webhook: host and port of the admission webhook."""

    webservers: tuple[str, ...] = ()
    proxy: str = ""
    reader: Mapping[str, str] = {}
    person_header: str = "X-Forwarded-User"
    ca: Path | None = None
    broker: str = ""
    databases: tuple[str, ...] = ()
    webhook: str = ""


def examine(config: Config, deployment: Deployment) -> Iterator[Finding]:
    """Each as it is found. What the configuration has not, and nobody gave, is left out. Raises InputError for an
    address that cannot be read."""
    for url in deployment.webservers:
        yield from examine_webserver(Site(url))
    if deployment.proxy:
        site = Site(deployment.proxy, deployment.ca)
        yield from examine_proxy(site, deployment.reader, person_header=deployment.person_header)
    if deployment.broker:
        yield from examine_broker(deployment.broker)
    shared = config.shared.database.reveal()
    for url in dict.fromkeys((*filter(None, [shared]), *deployment.databases)):
        yield from examine_database(url)
    yield from _files(config)
    for name in config.registries:
        yield from _registry(config, name)
    yield from _webhook(config, deployment)


def _files(config: Config) -> Iterator[Finding]:
    yield examine_user()
    keys = [each.key for _, each in config.signing.told() if each.key]
    yield from examine_keys(dict.fromkeys([*keys, config.signing_key, config.state / "keys"]))
    if config.shared.database:
        key = config.signing_key
        if config.signing.generate and not key.exists():
            do = "Make them once (`sign --generate-key`), and give every worker the same as a secret, or a key service"
            yield broken(
                "keys-given", str(key), "is not here, and no worker makes one that the others do not know", do=do
            )
        else:
            yield kept("keys-given", "signing", "keys are given")
    yield examine_configuration(config.path)
    yield examine_state(config.state)


def _registry(config: Config, name: str) -> Iterator[Finding]:
    """Nobody logs in to folders and stores; clouds ask everybody for credentials, in TLS."""
    settings = config.registries[name]
    host = address(settings)
    if isinstance(settings, EmbeddedRegistry):
        yield from examine_registry(name, host, plain=settings.tls_cert is None, ca=settings.ca_file)
    elif isinstance(settings, DistributionRegistry):
        loopback = is_loopback(host.rpartition(":")[0] or host) and settings.ca_file is None
        plain = loopback if settings.plain_http is None else settings.plain_http
        yield from examine_registry(name, host, plain=plain, ca=settings.ca_file)


def _webhook(config: Config, deployment: Deployment) -> Iterator[Finding]:
    settings = config.admission
    if settings.tls_cert is None and not deployment.webhook:
        return
    yield examine_failure_policy(settings.failure_policy)
    namespace, _, service = settings.service.partition("/")
    given = deployment.webhook or settings.url.removeprefix("https://").partition("/")[0]
    if not given:
        do = "Name it with --webhook HOST:PORT"
        yield unknown("webhook-tls", settings.service, "nobody said where it is reached from here", do=do)
        return
    name = given.rpartition(":")[0] or given if settings.url else f"{service}.{namespace}.svc"
    try:
        yield examine_webhook(given, name, settings.ca_file)
    except (OSError, RegistryPipelinesError) as error:
        yield unknown("webhook-tls", given, str(error))


__all__ = ["Deployment", "examine"]
