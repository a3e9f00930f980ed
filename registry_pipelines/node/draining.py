"""A drain of a node: no further image is served before it is fetched, what runs is fetched whole, then it is waited
until no container uses such an image. What runs goes on all the while.

It is asked for by a file below the agent's root, at which the agent looks each second: only root can write there, and
there is no protocol to keep. It ends with the file, and with the agent: the next one begins without.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from registry_pipelines.errors import LocalError
from registry_pipelines.node.lazy_images import LazyImages
from registry_pipelines.node.status import DrainStatus, ImageStatus, Told, read_status
from registry_pipelines.oci.files import local_errors, write_file
from registry_pipelines.oci.times import write_time

FILE = "drain"
"""In the agent's root; what is in it is for people."""


class Gated(Protocol):
    """Who answers containerd. draining: further layers are pulled as usual."""

    draining: bool


class Drain:
    """The agent's side; its :meth:`look` is called each second."""

    def __init__(self, root: Path, snapshots: Gated, images: LazyImages | None) -> None:
        """images: None where none is served before it is fetched. Raises LocalError."""
        self._path, self._snapshots, self._images = root / FILE, snapshots, images
        with local_errors(root):
            self._path.unlink(missing_ok=True)  # of an agent before this one
        self._since = ""

    def look(self, images: Sequence[ImageStatus]) -> DrainStatus | None:
        """How far it is; None where nobody wants one."""
        wanted = self._path.exists()
        if not wanted and not self._since:
            return None
        self._since = (self._since or write_time(datetime.now(UTC))) if wanted else ""
        self._snapshots.draining = wanted
        missing = sum(
            mount.size_bytes - mount.filled_bytes for image in images if image.containers for mount in image.mounts
        )
        done = wanted and not any(image.containers for image in images)
        if self._images is not None:
            self._images.drain(wanted=wanted, done=done)
        return DrainStatus(self._since, missing, filled=not missing, done=done) if wanted else None


def ask(root: Path, *, undo: bool = False) -> None:
    """Ask the agent of a root for a drain, or end it. Raises what ``read_status`` does, LocalError where none runs."""
    if not read_status(root).alive:
        raise not_running(root)
    with local_errors(root):
        if undo:
            (root / FILE).unlink(missing_ok=True)
        else:
            write_file(root / FILE, b"a drain was asked for: node drain\n", mode=0o600, lasting=False)


def look(root: Path) -> Told:
    """How far it is. Raises what ``read_status`` does, LocalError where the agent is gone."""
    told = read_status(root)
    if not told.alive:
        raise not_running(root)
    return told


def not_running(root: Path) -> LocalError:
    """No agent serves a root."""
    return LocalError(
        "the agent does not run, so nothing can be drained: what it served waits for it, or reads errors",
        where=str(root),
        do="Start it: `systemctl start registry-pipelines-node`",
    )


__all__ = ["Drain", "ask", "look"]
