"""Docker with the containerd store. Rules: Docker's "containerd image store"."""

from __future__ import annotations

import json

from registry_pipelines.node.setup.containerd import containerd
from registry_pipelines.node.setup.model import NAME, Setup, Written


def docker(setup: Setup) -> Written:
    """Docker's own file beside those of its containerd."""
    files, notes = containerd(setup)
    content = {"features": {"containerd-snapshotter": True}, "storage-driver": NAME}
    files["daemon.json"] = json.dumps(content, indent=2).encode() + b"\n"
    more = [
        "take daemon.json into /etc/docker/daemon.json and restart dockerd; images and containers of another storage "
        "driver are not seen meanwhile, and are there again with it",
        "dockerd must use the host's containerd, as packages set it up: one that it starts itself reads no such files",
    ]
    return Written(files, [*notes, *more])
