"""``registries.yaml`` of k3s and RKE2 (k3s documentation, "Private Registry Configuration")."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from registry_pipelines.mirror.clusters.model import (
    CA_FILE,
    Endpoint,
    Route,
    Written,
    by_host,
    where_to_login,
)
from registry_pipelines.yaml_text import to_yaml

FILE, FOLDER = "registries.yaml", "/etc/rancher/k3s"


def registries_yaml(endpoint: Endpoint, routes: Sequence[Route]) -> Written:
    """``registries.yaml``, and whom to trust.

    ``rewrite`` is a map of regular expressions of Go, and k3s tries them in any order: so no two of a host match the
    same repository. Where the path keeps the host one rule is enough, else each image has its own.
    """
    mirrors = {
        host: {"endpoint": [endpoint.url], **_rewrite(found)} for host, found in by_host(routes).items() if found
    }
    content: dict[str, Any] = {"mirrors": mirrors}
    files: dict[str, bytes] = {}
    if endpoint.certificates:
        content["configs"] = {endpoint.host: {"tls": {"ca_file": f"{FOLDER}/{CA_FILE}"}}}
        files[CA_FILE] = endpoint.certificates
    comment = "Written by `registry-pipelines mirror clusters`; no account is in it."
    return Written({FILE: to_yaml(content, comment=comment), **files}, _notes(endpoint))


def _rewrite(routes: Sequence[Route]) -> dict[str, dict[str, str]]:
    prefixes = {route.prefix for route in routes}
    if prefixes == {""}:
        return {}
    if len(prefixes) == 1 and all(route.keeps_host for route in routes):
        return {"rewrite": {"^(.*)$": f"{routes[0].prefix}/$1"}}
    return {"rewrite": {"^{}$".format(route.repository.replace(".", r"\.")): route.path for route in routes}}


def _notes(endpoint: Endpoint) -> list[str]:
    trusted = f", {CA_FILE} beside it" if endpoint.certificates else ""
    return [
        f"On each node: {FOLDER}/{FILE}{trusted} (of RKE2 /etc/rancher/rke2), then restart k3s",
        "k3s asks the upstream itself last; --disable-default-registry-endpoint of k3s ends that",
        *where_to_login(endpoint, f"as configs.{endpoint.host}.auth of this file on the node, mode 0600"),
    ]
