"""What programs that pull images do when the first registry of their file does not serve them.

Measured by pulling by digest with two registries in the file, the first of which does what the field says
(docs/failover.md has versions and seconds). Nothing here asks a program.
"""

from __future__ import annotations

from typing import NamedTuple

AT_ONCE = "asks the next"
NEVER = "waits for it, 200 s and more"


class Client(NamedTuple):
    """Who reads a form of files, and what they do. answers: the first registry has not the image, or says 401, 403, 500
    or 503, or has a certificate that is not believed. stopped: nothing listens there. frozen, frozen_plain: it takes
    connections and answers nothing, with TLS and without."""

    programs: str
    answers: str
    stopped: str
    frozen: str
    frozen_plain: str


CONTAINERD = Client(
    "containerd", AT_ONCE, AT_ONCE, "waits 10 s for each request; for ever where TLS still answers", NEVER
)
DOCKER = Client(
    "Docker",
    AT_ONCE,
    AT_ONCE,
    "asks the next after 10 to 15 s; with containerd's store as containerd",
    "asks the next after 15 s; with containerd's store as containerd",
)
CONTAINERS = Client("podman, skopeo, CRI-O", AT_ONCE, AT_ONCE, "asks the next after 20 s", NEVER)

CLIENTS: dict[str, Client] = {
    "hosts-toml": CONTAINERD,
    "registries-yaml": CONTAINERD._replace(programs="k3s, by its containerd"),
    "docker": DOCKER,
    "registries-conf": CONTAINERS,
    "idms": CONTAINERS._replace(programs="OpenShift, by CRI-O"),
    "itms": CONTAINERS._replace(programs="OpenShift, by CRI-O"),
}
"""By form of files. k3s makes hosts.toml of its file, and OpenShift registries.conf."""
