"""``hosts.toml`` of containerd (docs/hosts.md of containerd 1.6 and 2.1; CRI-O knows another, ``containers``)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from registry_pipelines.mirror.clusters.model import (
    CA_FILE,
    Endpoint,
    Route,
    Written,
    by_host,
    renamed,
    shared_names,
    where_to_login,
)
from registry_pipelines.progress import count_text

FOLDER = "/etc/containerd/certs.d"
CONFIG_PATH = f"""config_path = "{FOLDER}\""""

HEAD = """\
# Images of {host} come from {registry}. Written by `registry-pipelines mirror clusters`; no account is in it.
"""


def hosts_toml(endpoint: Endpoint, routes: Sequence[Route]) -> Written:
    """A folder for each upstream's host, with ``hosts.toml`` and whom to trust.

    containerd asks ``<url>/<repository>`` where ``override_path`` is set, and puts ``/v2/`` before the repository by
    itself nowhere then: so the whole path up to the repository stands here. ``server`` is what is asked last; without
    it that is the upstream, which nothing behind a gap reaches, and each image that is missing takes until the
    connection's time is over. The same address stands in a ``host`` table as well: containerd 1.6 takes a file without
    any for broken ("invalid `host` tree") and asks the upstream.
    """
    wrong = [renamed(route) for route in sorted(set(routes)) if route.prefix is None]
    if wrong:
        return Written({}, wrong=wrong)
    files: dict[str, bytes] = {}
    for host, found in by_host(routes).items():
        files[f"{host}/hosts.toml"] = "\n".join(_lines(endpoint, host, found)).encode()
        if endpoint.certificates:
            files[f"{host}/{CA_FILE}"] = endpoint.certificates
    return Written(files, [*_notes(endpoint), *_several(routes), *shared_names(routes)])


def _lines(endpoint: Endpoint, host: str, routes: Sequence[Route]) -> Iterator[str]:
    urls = [_url(endpoint, prefix) for prefix in _prefixes(routes)]
    yield HEAD.format(host=host, registry=endpoint.host)
    yield from _section(endpoint, f"server = {json.dumps(urls[-1])}")
    for url in urls:
        yield from _section(endpoint, f"[host.{json.dumps(url)}]")


def _section(endpoint: Endpoint, first: str) -> Iterator[str]:
    yield first
    yield 'capabilities = ["pull", "resolve"]'
    yield "override_path = true"
    if endpoint.certificates:
        yield f"ca = {json.dumps(CA_FILE)}"
    yield ""


def _prefixes(routes: Sequence[Route]) -> list[str]:
    """What stands before the repositories of one host; longest first, so that what keeps the host is asked first."""
    return sorted({route.prefix or "" for route in routes}, key=lambda each: (-len(each), each))


def _url(endpoint: Endpoint, prefix: str) -> str:
    return f"{endpoint.url}/v2/{prefix}" if prefix else f"{endpoint.url}/v2"


def _several(routes: Sequence[Route]) -> Iterator[str]:
    for host, found in by_host(routes).items():
        if len(prefixes := _prefixes(found)) > 1:
            paths = ", ".join(each or "the registry's own root" for each in prefixes)
            count = count_text(len(prefixes), "path")
            yield f"{host}: its images lie below {count}, which are asked one after the other: {paths}"


def _notes(endpoint: Endpoint) -> list[str]:
    return [
        f"On each node: put the folders into {FOLDER}, and name that folder in containerd's config.toml: {CONFIG_PATH} "
        'below [plugins."io.containerd.grpc.v1.cri".registry], of containerd 2 below '
        "[plugins.'io.containerd.cri.v1.images'.registry]; containerd is restarted once, files are read at each pull",
        *where_to_login(
            endpoint,
            f'as configs."{endpoint.host}".auth below the same section of config.toml, mode 0600',
        ),
    ]
