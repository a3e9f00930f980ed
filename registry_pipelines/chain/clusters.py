"""Files for the clusters behind a mirror, from the configuration alone: no registry is asked."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from registry_pipelines import config as configuration
from registry_pipelines.chain.places import address
from registry_pipelines.chain.result import StageResult
from registry_pipelines.chain.session import Session
from registry_pipelines.config import Mirror
from registry_pipelines.config.registries import RegistryPlace
from registry_pipelines.errors import InputError
from registry_pipelines.mirror.clusters.forms import write
from registry_pipelines.mirror.clusters.model import Endpoint, Route
from registry_pipelines.mirror.model import ClusterForm
from registry_pipelines.oci.files import local_errors, write_files
from registry_pipelines.progress import count_text
from registry_pipelines.registry.client.origins import is_loopback


def clusters(session: Session, name: str, form: ClusterForm, folder: Path) -> StageResult:
    """Write the files by which a cluster finds what a mirror brought, below ``folder``. Raises InputError for what the
    form cannot say (all of it), for a mirror without an image that has a name elsewhere, and for one whose private
    registry is a folder."""
    started = time.monotonic()
    mirror = session.mirror(name)
    endpoint = endpoint_of(session, mirror)
    routes = sorted(set(routes_of(session, mirror)))
    if not routes:
        raise InputError(
            "no image of this mirror has a name in a registry that a cluster could ask for",
            where=f"mirrors.{name}",
            do="Name `upstreams`, or `images` of a registry that is no folder",
        )
    written = write(form, name, endpoint, routes)
    write_files({folder / path: content for path, content in written.files.items()})
    notes = [*written.notes, *_nearby(endpoint)]
    return StageResult(
        stage=f"mirror:{name}:clusters",
        subject=name,
        action=f"{count_text(len(written.files), 'file')} for {count_text(len(routes), 'image')} of {endpoint.host}",
        changed=True,
        seconds=time.monotonic() - started,
        facts={"form": form, "registry": endpoint.host, "images": len(routes)},
        rows=[{"file": str(folder / path), "bytes": len(content)} for path, content in written.files.items()],
        tables={"images": [{"image": route.name, "repository": route.path} for route in routes]},
        notes=notes,
    )


def endpoint_of(session: Session, mirror: Mirror) -> Endpoint:
    """The private registry of a mirror, as its clients reach it. Raises InputError for a folder, LocalError."""
    settings = session.config.registries[mirror.to]
    if not address(settings):
        raise InputError(
            f"{mirror.to} is a folder, and no cluster can pull from it",
            where=f"mirrors.{mirror.name}.to",
            do="Write this where the private registry is configured: on the far side of the gap",
        )
    return endpoint_at(settings)


def endpoint_at(settings: RegistryPlace) -> Endpoint:
    """A registry as its clients reach it; none that is a folder. Raises LocalError."""
    host = address(settings)
    return Endpoint(host, _plain(settings, host), _certificates(settings), _needs_login(settings))


def routes_of(session: Session, mirror: Mirror) -> Iterator[Route]:
    """Every image of a mirror, foreign and own, and where it is in the private registry. Raises ReferenceInvalid."""
    for upstream in mirror.upstreams:
        registry, repository = session.config.upstream_at(upstream)
        named = session.config.registries.get(registry)
        if host := address(named) if named else registry:
            yield Route(host, repository, session.config.mirrored_repository(mirror, upstream))
    for name in mirror.images:
        image = session.image(name)
        if host := address(session.config.registries[image.registry]):
            yield Route(host, image.repository, session.stops(mirror, image.repository)[-1].repository)


def _plain(settings: RegistryPlace, host: str) -> bool:
    if isinstance(settings, configuration.EmbeddedRegistry):
        return settings.tls_cert is None
    plain = getattr(settings, "plain_http", None)
    return is_loopback(host.rpartition(":")[0] or host) if plain is None else bool(plain)


def _certificates(settings: RegistryPlace) -> bytes:
    """Public, so they go into the files."""
    path: Path | None = getattr(settings, "ca_file", None)
    if path is None:
        return b""
    with local_errors(path):
        return path.read_bytes()


def _needs_login(settings: RegistryPlace) -> bool:
    """Whether reading takes an account, as far as the configuration tells."""
    if isinstance(settings, configuration.EmbeddedRegistry):
        return bool(settings.users or settings.htpasswd) and not settings.anonymous_pull
    if isinstance(settings, configuration.DistributionRegistry):
        return bool(settings.username or settings.docker_config)
    return True


def _nearby(endpoint: Endpoint) -> list[str]:
    host = endpoint.host.rpartition(":")[0] or endpoint.host
    if not is_loopback(host):
        return []
    return [f"{endpoint.host} is this machine: for other nodes set `reachable_as` of the registry, and write it again"]
