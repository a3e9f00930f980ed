"""What keeps this node from serving images before they are fetched: the machine, the agent, containerd, registries."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from registry_pipelines.errors import RegistryPipelinesError
from registry_pipelines.node.examining.agent import examine_agent
from registry_pipelines.node.examining.machine import examine_machine
from registry_pipelines.node.examining.model import Finding, from_error, note, well
from registry_pipelines.node.examining.runtime import examine_runtime
from registry_pipelines.node.status import read_status
from registry_pipelines.oci.references import Reference
from registry_pipelines.registry.protocol import Place

MOST_HOSTS = 8
"""Of images that the agent knows: one of each host is asked for."""
SLOW_S = 1.0
"""A pull waits for several answers of its registry before its first layer."""


class Node(NamedTuple):
    """Where everything is. lazy: the folder of lazy images. containerd, config: its socket and its file."""

    root: Path
    socket: Path
    lazy: Path
    containerd: Path
    config: Path | None


def examine_this_node(
    node: Node, images: Sequence[str], locate: Callable[[str], tuple[Place, str]]
) -> Iterator[Finding]:
    """All of it, in the order in which it is needed. images: asked of their registries; one of each host that the agent
    knows unless told. locate: where an image is read from, and its tag or digest."""
    machine = list(examine_machine(node.root, node.lazy))
    yield from machine
    if machine[0].state == "failed":  # who is not root sees nothing of the rest
        return
    yield from examine_agent(node.root, node.socket)
    yield from examine_runtime(node.containerd, node.socket, node.config)
    wanted = list(images) or list(_known(node.root))
    if not wanted:
        yield note("registries", "the agent knows no image yet", do="Name some with --image")
    for image in wanted:
        yield _asked(image, locate)


def _known(root: Path) -> Iterator[str]:
    """Images that the agent served, or could not: one of each host."""
    hosts: set[str] = set()
    with suppress(RegistryPipelinesError):
        status = read_status(root).status
        for name in [*(each.image for each in status.images), *(each.image for each in status.fallbacks)]:
            with suppress(RegistryPipelinesError):
                host = Reference.parse(name).registry
                if host not in hosts and len(hosts) < MOST_HOSTS:
                    hosts.add(host)
                    yield name


def _asked(image: str, locate: Callable[[str], tuple[Place, str]]) -> Finding:
    began = time.monotonic()
    try:
        place, selector = locate(image)
        digest = place.registry.resolve(place.repository, selector).digest
    except RegistryPipelinesError as error:
        return from_error(f"registry of {image}", error)
    took = time.monotonic() - began
    if took > SLOW_S:
        return note("registry", f"it took {took:.1f} s to say what the image is", where=image)
    return well("registry", f"the image is {digest}", image)


__all__ = ["Node", "examine_this_node"]
