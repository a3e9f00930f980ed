"""``daemon.json`` of Docker (dockerd, "registry-mirrors"), which knows mirrors of Docker Hub alone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from registry_pipelines.mirror.clusters.model import CA_FILE, Endpoint, Route, Written, by_host
from registry_pipelines.oci.references import DOCKER_HUB

FILE = "daemon.json"


def daemon_json(endpoint: Endpoint, routes: Sequence[Route]) -> Written:
    """``daemon.json``, and whom to trust.

    Docker refuses a mirror with a path, asks it for the upstream's own path, and sends it the account of Docker Hub.
    Images of other hosts, and such as lie below a prefix, are wrong here: ``docker pull`` would find nothing.
    """
    hub = by_host(routes).get(DOCKER_HUB, [])
    wrong = [
        f"{route.name} is {route.path} in the private registry, and Docker asks a mirror for {route.repository} alone"
        for route in hub
        if route.path != route.repository
    ]
    if not hub:
        wrong.append(f"the mirror has no image of {DOCKER_HUB}, and Docker knows mirrors of nothing else")
    if endpoint.needs_login:
        wrong.append(
            f"{endpoint.host} wants an account, and Docker has none for a mirror: it sends the one of {DOCKER_HUB}"
        )
    if wrong:
        return Written({}, wrong=wrong)
    content: dict[str, Any] = {"registry-mirrors": [endpoint.url]}
    if endpoint.plain_http:
        content["insecure-registries"] = [endpoint.host]
    files = {FILE: json.dumps(content, indent=2).encode() + b"\n"}
    if endpoint.certificates:
        files[f"certs.d/{endpoint.host}/{CA_FILE}"] = endpoint.certificates
    return Written(files, _notes(endpoint, routes))


def _notes(endpoint: Endpoint, routes: Sequence[Route]) -> list[str]:
    trusted = ", and certs.d into /etc/docker/certs.d" if endpoint.certificates else ""
    notes = [f"On each host: take this into /etc/docker/{FILE}{trusted}, then reload dockerd"]
    notes.append(
        f"Where a host keeps an account of {DOCKER_HUB}, Docker shows it to {endpoint.host} when that asks for one"
    )
    others = [route for route in sorted(set(routes)) if route.host != DOCKER_HUB]
    if others:
        names = ", ".join(f"{route.name} as {endpoint.host}/{route.path}" for route in others)
        notes.append(f"Docker has mirrors of {DOCKER_HUB} alone; pull by their own names: {names}")
    return notes
