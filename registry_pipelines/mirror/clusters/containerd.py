"""``hosts.toml`` of containerd (docs/hosts.md of containerd 1.6 and 2.1; CRI-O knows another, ``containers``)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace

from registry_pipelines.mirror.clusters.model import (
    Endpoint,
    Placed,
    Route,
    Written,
    ca_files,
    pods_accounts,
    renamed,
    shared_names,
    where_to_login,
)
from registry_pipelines.progress import count_text

FOLDER = "/etc/containerd/certs.d"
CONFIG_PATH = f"""config_path = "{FOLDER}\""""

HEAD = """\
# Images of {host} come from {registries}. Written by `registry-pipelines`; no account is in it.
"""


def hosts_toml(placed: Sequence[Placed]) -> Written:
    """A folder for each upstream's host, with ``hosts.toml`` and whom to trust; a table for each registry, in the order
    in which containerd asks them.

    containerd asks ``<url>/<repository>`` where ``override_path`` is set, and puts ``/v2/`` before the repository by
    itself nowhere then: so the whole path up to the repository stands here. ``server`` is what is asked last; without
    it that is the upstream, which nothing behind a gap reaches, and each image that is missing takes until the
    connection's time is over. The same address stands in a ``host`` table as well: containerd 1.6 takes a file without
    any for broken ("invalid `host` tree") and asks the upstream.
    """
    wrong = [renamed(each.endpoint, route) for each in placed for route in sorted(set(each.routes)) if not _fits(route)]
    if wrong:
        return Written({}, wrong=wrong)
    files: dict[str, bytes] = {}
    for host in sorted({host for each in placed for host in each.hosts}):
        of_host = [replace(each, routes=each.hosts[host]) for each in placed if host in each.hosts]
        files[f"{host}/hosts.toml"] = "\n".join(_lines(host, of_host)).encode()
        files.update({f"{host}/{name}": content for name, content in ca_files(of_host).items()})
    several = [note for each in placed for note in _several(each)]
    return Written(files, [*_notes(placed), *several, *shared_names(placed)])


def _fits(route: Route) -> bool:
    return route.prefix is not None


def _lines(host: str, placed: Sequence[Placed]) -> Iterator[str]:
    urls = [(each, _url(each.endpoint, prefix)) for each in placed for prefix in _prefixes(each.routes)]
    yield HEAD.format(host=host, registries=", then from ".join(each.endpoint.host for each in placed))
    last, url = urls[-1]
    yield from _section(last.endpoint, f"server = {json.dumps(url)}")
    for each, url in urls:
        yield from _section(each.endpoint, f"[host.{json.dumps(url)}]", dial_s=0 if each is last else each.dial_s)


def _section(endpoint: Endpoint, first: str, *, dial_s: int = 0) -> Iterator[str]:
    """dial_s: of one that is not the last. containerd from 2.1 on obeys it, 1.6 passes over it (run: 2.1.9, 1.6.20)."""
    yield first
    yield 'capabilities = ["pull", "resolve"]'
    yield "override_path = true"
    if endpoint.certificates:
        yield f"ca = {json.dumps(endpoint.ca_file)}"
    if dial_s:
        yield f'dial_timeout = "{dial_s}s"'
    yield ""


def _prefixes(routes: Sequence[Route]) -> list[str]:
    """What stands before the repositories of one host; longest first, so that what keeps the host is asked first."""
    return sorted({route.prefix or "" for route in routes}, key=lambda each: (-len(each), each))


def _url(endpoint: Endpoint, prefix: str) -> str:
    return f"{endpoint.url}/v2/{prefix}" if prefix else f"{endpoint.url}/v2"


def _several(placed: Placed) -> Iterator[str]:
    for host, found in placed.hosts.items():
        if len(prefixes := _prefixes(found)) > 1:
            paths = ", ".join(each or "the registry's own root" for each in prefixes)
            count = count_text(len(prefixes), "path")
            yield f"{host}: its images lie below {count}, which are asked one after the other: {paths}"


def _notes(placed: Sequence[Placed]) -> list[str]:
    place = 'as configs."{host}".auth below the same section of config.toml, mode 0600'
    return [
        f"On each node: put the folders into {FOLDER}, and name that folder in containerd's config.toml: {CONFIG_PATH} "
        'below [plugins."io.containerd.grpc.v1.cri".registry], of containerd 2 below '
        "[plugins.'io.containerd.cri.v1.images'.registry]; containerd is restarted once, files are read at each pull",
        *(note for each in placed for note in where_to_login(each.endpoint, place.format(host=each.endpoint.host))),
        *pods_accounts(placed),
    ]
