"""Hosts with Docker (and with Podman's service): containers, running or stopped, and images that are there.

Source: Docker's Engine API (ContainerList, ImageList). A container names the image as it was started and the image's
id: the digest of its config, or with containerd's store that of its index; ``RepoDigests`` has what it was pulled by.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from registry_pipelines.errors import LocalError, RegistryError, ToolMissing, Unavailable
from registry_pipelines.inventory.usage.model import Use, split_image_id

ANSWER_S = 60.0
NO_NAME = "<none>"


class DockerHost(NamedTuple):
    """One engine. address: as DOCKER_HOST has it; empty for what the environment says. tls: folder with ``ca.pem``,
    ``cert.pem`` and ``key.pem``, as DOCKER_CERT_PATH has it."""

    name: str
    address: str = ""
    tls: Path | None = None


class DockerSource:
    """See UsageSource. images: whether images that are there and that no container uses count, too."""

    notes: Sequence[str] = ()

    def __init__(self, name: str, hosts: Sequence[DockerHost], *, images: bool = True) -> None:
        self.name, self._hosts, self._images = name, hosts, images

    def uses(self) -> Iterator[Use]:
        """See UsageSource. A host that does not answer is an error, after what the others said. Raises ToolMissing
        without the package docker."""
        failed: list[Exception] = []
        for host in self._hosts:
            try:
                containers, images = _asked(host)
            except (RegistryError, LocalError) as error:
                failed.append(error)
                continue
            yield from self._of_host(host, containers, images)
        if failed:
            raise failed[0]

    def _of_host(
        self, host: DockerHost, containers: Sequence[dict[str, Any]], images: Sequence[dict[str, Any]]
    ) -> Iterator[Use]:
        by_id = {str(image.get("Id", "")): image for image in images}
        used = set()
        for container in containers:
            image_id = str(container.get("ImageID") or "")
            used.add(image_id)
            name = (container.get("Names") or [str(container.get("Id", ""))[:12]])[0].lstrip("/")
            yield from _uses(
                str(container.get("Image") or ""),
                image_id,
                by_id.get(image_id, {}),
                source=self.name,
                where=f"host {host.name}, container {name}",
                since=_time(container.get("Created")),
                running=container.get("State") in ("running", "paused", "restarting"),
            )
        for image_id, image in by_id.items() if self._images else ():
            if image_id not in used:
                yield from _uses("", image_id, image, source=self.name, where=f"host {host.name}, image", weak=True)


def _uses(asked: str, image_id: str, image: dict[str, Any], **more: Any) -> Iterator[Use]:
    """By each name that it was pulled by, with its digest; else by the name that it was started by, and the id."""
    digests = [text for text in image.get("RepoDigests") or () if not text.startswith(NO_NAME)]
    named = [asked] if asked and not split_image_id(asked)[2] else []
    named += [tag for tag in image.get("RepoTags") or () if NO_NAME not in tag and tag not in named]
    config = split_image_id(image_id)[2]
    if config:
        yield Use(image=named[0] if named else "", config=config, **more)
    for text in digests:
        yield Use(image=text, digest=split_image_id(text)[1], config=config, **more)
    if not config and not digests:
        for name in named:
            yield Use(image=name, **more)


def _asked(host: DockerHost) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """All containers and images. Raises ToolMissing, Unavailable, LocalError."""
    try:
        import docker
        import requests
    except ImportError as error:
        raise ToolMissing(
            "the package docker is not installed", do="Install it: pip install 'registry-pipelines[docker]'"
        ) from error
    where = f"host {host.name}"
    socket = host.address.removeprefix("unix://")
    if socket != host.address and not Path(socket).exists():
        raise Unavailable("Docker does not answer: its socket is not there", where=where, do="Start it")
    try:
        client = _client(docker, host)
        try:
            return client.containers(all=True), client.images()
        finally:
            client.close()
    except (docker.errors.DockerException, requests.RequestException) as error:
        if isinstance(error, docker.errors.TLSParameterError):
            raise LocalError("the certificates of the client cannot be used", where=where) from error
        raise Unavailable(
            f"Docker does not answer: {type(error).__name__}", where=where, do="Start it, or correct its address"
        ) from error


def _client(docker: Any, host: DockerHost) -> Any:
    if not host.address:
        return docker.from_env(timeout=int(ANSWER_S)).api
    tls = None
    if host.tls is not None:
        pair = (str(host.tls / "cert.pem"), str(host.tls / "key.pem"))
        tls = docker.tls.TLSConfig(client_cert=pair, ca_cert=str(host.tls / "ca.pem"), verify=True)
    return docker.APIClient(base_url=host.address, version="auto", timeout=int(ANSWER_S), tls=tls or False)


def _time(value: Any) -> datetime | None:
    try:
        return datetime.fromtimestamp(int(value), UTC)
    except (TypeError, ValueError, OverflowError, OSError):
        return None


__all__ = ["DockerHost", "DockerSource"]
