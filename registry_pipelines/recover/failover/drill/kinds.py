"""What a drill is told by name: kinds of clients, and how they reach a registry."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

Scheme = Literal["http", "https"]
KindName = Literal["containerd", "kubelet", "docker", "docker-containerd"]
"""As a configuration has kinds of clients, which knows no enumerations."""
SCHEMES: tuple[Scheme, ...] = ("http", "https")


class Kind(StrEnum):
    """How an image is pulled."""

    CONTAINERD = "containerd"
    """By ``ctr``, with ``hosts.toml``."""
    KUBELET = "kubelet"
    """By containerd's CRI, as a kubelet asks, with ``hosts.toml``."""
    DOCKER = "docker"
    """By Docker as it starts by itself, with ``registry-mirrors``."""
    DOCKER_CONTAINERD = "docker-containerd"
    """By Docker with containerd's store of images."""


__all__ = ["SCHEMES", "Kind", "KindName", "Scheme"]
