"""Docker, as it is, with its containerd store above an agent."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.doubles.docker_daemon import Docker, daemon
from tests.node.agent import NAME, Agent


@contextmanager
def above(agent: Agent, peer: Callable[[str], str]) -> Iterator[Docker]:
    """Docker 28 beside the containerd that runs in an agent's folder."""
    folder = agent.folder / "docker"
    plugins = folder / ".docker/cli-plugins"
    plugins.mkdir(parents=True)
    (plugins / "docker-buildx").symlink_to(Path(peer("docker-buildx")).resolve())
    store = ("--storage-driver", NAME, "--feature", "containerd-snapshotter=true")
    options = ("--containerd", str(agent.folder / "grpc.sock"), *store)
    with daemon(peer("../docker28/dockerd"), peer("../docker28/docker"), folder, options) as docker:
        yield docker


__all__ = ["above"]
