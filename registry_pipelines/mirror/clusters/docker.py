"""``daemon.json`` of Docker (dockerd, "registry-mirrors"), which knows mirrors of Docker Hub alone."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from registry_pipelines.mirror.clusters.model import CA_FILE, Placed, Route, Written
from registry_pipelines.oci.references import DOCKER_HUB

FILE = "daemon.json"


def daemon_json(placed: Sequence[Placed]) -> Written:
    """``daemon.json``, and whom to trust. Several registries are asked in their order, then Docker Hub itself.

    Docker refuses a mirror with a path, asks it for the upstream's own path, and sends it the account of Docker Hub.
    Images of other hosts, and such as lie below a prefix, are wrong here: ``docker pull`` would find nothing.
    """
    wrong = list(_wrong(placed))
    if wrong:
        return Written({}, wrong=wrong)
    endpoints = [each.endpoint for each in placed if DOCKER_HUB in each.hosts]
    content: dict[str, Any] = {"registry-mirrors": [endpoint.url for endpoint in endpoints]}
    if plain := [endpoint.host for endpoint in endpoints if endpoint.plain_http]:
        content["insecure-registries"] = plain
    files = {FILE: json.dumps(content, indent=2).encode() + b"\n"}
    for endpoint in endpoints:
        if endpoint.certificates:
            files[f"certs.d/{endpoint.host}/{CA_FILE}"] = endpoint.certificates
    return Written(files, _notes(placed))


def _wrong(placed: Sequence[Placed]) -> Iterator[str]:
    for each in placed:
        for route in each.hosts.get(DOCKER_HUB, ()):
            if route.path != route.repository:
                yield (
                    f"{route.name} is {route.path} at {each.endpoint.host}, and Docker asks a mirror for "
                    f"{route.repository} alone"
                )
    if not any(DOCKER_HUB in each.hosts for each in placed):
        yield f"there is no image of {DOCKER_HUB}, and Docker knows mirrors of nothing else"
    for endpoint in (each.endpoint for each in placed):
        if endpoint.needs_login:
            told = f"{endpoint.host} wants an account, and Docker has none for a mirror"
            yield f"{told}: it sends the one of {DOCKER_HUB}"


def _notes(placed: Sequence[Placed]) -> list[str]:
    trusted = ", and certs.d into /etc/docker/certs.d" if any(each.endpoint.certificates for each in placed) else ""
    notes = [f"On each host: take this into /etc/docker/{FILE}{trusted}, then reload dockerd"]
    hosts = " and ".join(each.endpoint.host for each in placed if DOCKER_HUB in each.hosts)
    notes.append(f"Where a host keeps an account of {DOCKER_HUB}, Docker shows it to {hosts} when that asks for one")
    endpoint, routes = placed[0].endpoint, placed[0].routes
    others = [route for route in sorted(set(routes)) if route.host != DOCKER_HUB]
    if others:
        names = ", ".join(_own_name(endpoint.host, route) for route in others)
        notes.append(f"Docker has mirrors of {DOCKER_HUB} alone; pull by their own names: {names}")
    return notes


def _own_name(host: str, route: Route) -> str:
    own = f"{host}/{route.path}"
    return own if own == route.name else f"{route.name} as {own}"
