"""``registries.conf`` of podman, skopeo and CRI-O (containers-registries.conf(5), version 2)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from registry_pipelines.mirror.clusters.model import (
    CA_FILE,
    Endpoint,
    Placed,
    Written,
    in_order,
    names_of,
    where_to_login,
)

FILE = "registries.conf.d/registry-pipelines-{name}.conf"


def registries_conf(name: str, placed: Sequence[Placed]) -> Written:
    """One table for each image: its name stands for a place in a registry, the last that is asked; those before it are
    its ``[[registry.mirror]]``.

    The last one is the ``location`` and no mirror, too: after its mirrors that place is asked in any case, and as the
    upstream's own it is one that nothing behind a gap reaches, whose error is told instead of what is missing.
    """
    lines = ["# Written by `registry-pipelines`; no account is in it.", *_tables(placed)]
    files = {FILE.format(name=name): "\n".join(lines).encode() + b"\n"}
    for each in placed:
        if each.endpoint.certificates:
            files[f"certs.d/{each.endpoint.host}/{CA_FILE}"] = each.endpoint.certificates
    return Written(files, _notes(placed))


def _tables(placed: Sequence[Placed]) -> Iterator[str]:
    for host, repository in names_of(placed):
        *before, last = in_order(placed, host, repository)
        yield ""
        yield "[[registry]]"
        yield f"prefix = {json.dumps(f'{host}/{repository}')}"
        yield from _location(*last)
        for place in before:
            yield ""
            yield "[[registry.mirror]]"
            yield from _location(*place)


def _location(endpoint: Endpoint, path: str) -> Iterator[str]:
    yield f"location = {json.dumps(f'{endpoint.host}/{path}')}"
    if endpoint.plain_http:
        yield "insecure = true"


def _notes(placed: Sequence[Placed]) -> list[str]:
    trusted = ", certs.d into /etc/containers/certs.d" if any(each.endpoint.certificates for each in placed) else ""
    login = "log in with `podman login`, or in CRI-O's global_auth_file"
    return [
        f"On each host: the file into /etc/containers/registries.conf.d{trusted}; CRI-O takes it after a reload",
        *(note for each in placed for note in where_to_login(each.endpoint, login)),
    ]
