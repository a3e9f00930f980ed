"""``registries.yaml`` of k3s and RKE2 (k3s documentation, "Private Registry Configuration")."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from registry_pipelines.mirror.clusters.model import (
    Placed,
    Route,
    Written,
    ca_files,
    pods_accounts,
    where_to_login,
)
from registry_pipelines.yaml_text import to_yaml

FILE, FOLDER = "registries.yaml", "/etc/rancher/k3s"


def registries_yaml(placed: Sequence[Placed]) -> Written:
    """``registries.yaml``, and whom to trust; endpoints in the order in which they are asked.

    ``rewrite`` is a map of regular expressions of Go, and k3s tries them in any order: so no two of a host match the
    same repository. Where the path keeps the host one rule is enough, else each image has its own. The rules of a host
    hold for all its endpoints: registries that have images in different places are told apart by the path of their
    endpoint, where something stands before the names and nothing else differs.
    """
    mirrors: dict[str, Any] = {}
    wrong: list[str] = []
    for host in sorted({host for each in placed for host in each.hosts}):
        of_host = [Placed(each.endpoint, each.hosts[host]) for each in placed if host in each.hosts]
        rules = [_rewrite(each.routes) for each in of_host]
        if all(each == rules[0] for each in rules):
            mirrors[host] = {"endpoint": [each.endpoint.url for each in of_host], **rules[0]}
        elif all(_only_before(each.routes) for each in of_host):
            mirrors[host] = {"endpoint": [_with_path(each) for each in of_host]}
        else:
            wrong.append(_told(host, of_host))
    if wrong:
        return Written({}, wrong=wrong)
    content: dict[str, Any] = {"mirrors": mirrors}
    files = ca_files(placed)
    if files:
        content["configs"] = {
            each.endpoint.host: {"tls": {"ca_file": f"{FOLDER}/{each.endpoint.ca_file}"}}
            for each in placed
            if each.endpoint.certificates
        }
    comment = "Written by `registry-pipelines`; no account is in it."
    return Written({FILE: to_yaml(content, comment=comment), **files}, _notes(placed))


def _rewrite(routes: Sequence[Route]) -> dict[str, dict[str, str]]:
    prefixes = {route.prefix for route in routes}
    if prefixes == {""}:
        return {}
    if len(prefixes) == 1 and all(route.keeps_host for route in routes):
        return {"rewrite": {"^(.*)$": f"{routes[0].prefix}/$1"}}
    return {"rewrite": {"^{}$".format(route.repository.replace(".", r"\.")): route.path for route in routes}}


def _only_before(routes: Sequence[Route]) -> bool:
    prefixes = {route.prefix for route in routes}
    return len(prefixes) == 1 and None not in prefixes


def _with_path(placed: Placed) -> str:
    """k3s asks ``<endpoint>/<repository>`` where the endpoint has another path than ``/v2``."""
    prefix = placed.routes[0].prefix
    return f"{placed.endpoint.url}/v2/{prefix}" if prefix else placed.endpoint.url


def _told(host: str, placed: Sequence[Placed]) -> str:
    names = " and ".join(each.endpoint.host for each in placed)
    return (
        f"{host}: its images have other names at {names}, and the rules of `rewrite` hold for all endpoints of a host"
    )


def _notes(placed: Sequence[Placed]) -> list[str]:
    files = sorted(ca_files(placed))
    trusted = f", {', '.join(files)} beside it" if files else ""
    place = "as configs.{host}.auth of this file on the node, mode 0600"
    return [
        f"On each node: {FOLDER}/{FILE}{trusted} (of RKE2 /etc/rancher/rke2), then restart k3s",
        "k3s asks the upstream itself last; --disable-default-registry-endpoint of k3s ends that",
        *(note for each in placed for note in where_to_login(each.endpoint, place.format(host=each.endpoint.host))),
        *pods_accounts(placed),
    ]
