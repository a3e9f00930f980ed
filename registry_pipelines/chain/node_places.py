"""Where a node's images come from: the mirrors that its containerd asks, then the registry as everybody asks it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from urllib.parse import quote

from registry_pipelines.chain.places import Places, one_name
from registry_pipelines.node.hosts_files import Endpoint, Hosts, find_hosts
from registry_pipelines.oci.references import DOCKER_HUB
from registry_pipelines.registry.client import DistributionRegistry, Retries
from registry_pipelines.registry.client.origins import split_url
from registry_pipelines.registry.client.own_transport import OwnTransport
from registry_pipelines.registry.in_turn import InTurn, Turn
from registry_pipelines.registry.protocol import Place, Registry

DOCKER_HUB_HOST = "registry-1.docker.io"
"""Docker Hub's own, which files write out; accounts have the other name."""

MIRROR_ATTEMPTS = 2
"""Of a request to a mirror: there is another place to ask."""


class NodePlaces:
    """Places of references on a node. For many threads. Files are read again with each question, as containerd does,
    and what is open is used on while they say the same."""

    def __init__(self, places: Places, folders: Sequence[Path], log: Callable[[str], object]) -> None:
        """folders: of containerd's ``config_path``; those that are not there say nothing. log: is told once of what
        cannot be followed."""
        self._places, self._folders, self._log = places, tuple(folders), log
        self._open: dict[str, tuple[Hosts, Registry]] = {}
        self._lock = threading.Lock()

    def place(self, reference: str) -> Place:
        """Where an image is read. Raises ReferenceInvalid, InputError, ConfigInvalid for a file that containerd could
        not read either, LocalError."""
        place = self._places.locate(reference).place
        host = place.registry.name
        hosts = find_hosts(host, self._folders)
        if hosts is None or not (hosts.endpoints or hosts.left_out):
            return place
        with self._lock:
            known = self._open.get(host)
            if known is None or known[0] != hosts:
                for line in hosts.left_out:
                    self._log(line)
                known = self._open[host] = hosts, self._opened(host, hosts, place.registry)
            return Place(known[1], place.repository)

    def _opened(self, host: str, hosts: Hosts, itself: Registry) -> Registry:
        turns = [Turn(self._endpoint(host, each, itself), each.prefix, each.resolves) for each in hosts.endpoints]
        if not hosts.server:
            turns.append(Turn(itself))
        return InTurn(host, turns) if turns else itself

    def _endpoint(self, host: str, endpoint: Endpoint, itself: Registry) -> Registry:
        """As a host of the configuration or a cloud's where it is asked in the usual way, with its log-in."""
        named = DOCKER_HUB if endpoint.host == DOCKER_HUB_HOST else endpoint.host
        if endpoint.usual:
            if one_name(named) == one_name(host):
                return itself
            if any(self._known(named)):
                return self._places.host(named)
        scheme = "http" if endpoint.plain else "https"
        own, _ = split_url(f"{scheme}://{endpoint.host}/", where=host)
        transport = OwnTransport(
            own,
            ca_files=endpoint.ca_files,
            client=endpoint.client,
            verify=not endpoint.skip_verify,
            headers=endpoint.headers,
            query="" if one_name(named) == one_name(host) else f"ns={quote(host)}",  # what a shared mirror goes by
        )
        retries = Retries(attempts=MIRROR_ATTEMPTS)
        return DistributionRegistry(named, plain_http=endpoint.plain, retries=retries, transport=transport)

    def _known(self, host: str) -> Iterator[bool]:
        from registry_pipelines.registry.ecr.hosts import read_host
        from registry_pipelines.registry.gar.hosts import read_host as read_google_host

        yield bool(self._places.configured(host))
        yield read_host(host) is not None
        yield read_google_host(host) is not None


__all__ = ["NodePlaces"]
