"""``registries.conf`` of podman, skopeo and CRI-O (containers-registries.conf(5), version 2)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from registry_pipelines.mirror.clusters.model import CA_FILE, Endpoint, Route, Written, by_host, where_to_login

FILE = "registries.conf.d/registry-pipelines-{name}.conf"


def registries_conf(name: str, endpoint: Endpoint, routes: Sequence[Route]) -> Written:
    """One table for each image: its name stands for a place in the private registry.

    ``location`` and no ``[[registry.mirror]]``: after its mirrors the place itself is asked, which nothing behind a gap
    reaches, and then its error is told instead of what is missing.
    """
    found = [route for of_host in by_host(routes).values() for route in of_host]
    lines = ["# Written by `registry-pipelines mirror clusters`; no account is in it.", *_tables(endpoint, found)]
    files = {FILE.format(name=name): "\n".join(lines).encode() + b"\n"}
    if endpoint.certificates:
        files[f"certs.d/{endpoint.host}/{CA_FILE}"] = endpoint.certificates
    return Written(files, _notes(endpoint))


def _tables(endpoint: Endpoint, routes: Sequence[Route]) -> Iterator[str]:
    for route in routes:
        yield ""
        yield "[[registry]]"
        yield f"prefix = {json.dumps(route.name)}"
        yield f"location = {json.dumps(f'{endpoint.host}/{route.path}')}"
        if endpoint.plain_http:
            yield "insecure = true"


def _notes(endpoint: Endpoint) -> list[str]:
    trusted = ", certs.d into /etc/containers/certs.d" if endpoint.certificates else ""
    return [
        f"On each host: the file into /etc/containers/registries.conf.d{trusted}; CRI-O takes it after a reload",
        *where_to_login(endpoint, "log in with `podman login`, or in CRI-O's global_auth_file"),
    ]
