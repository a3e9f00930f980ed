"""The agent: whether it runs, whether it is the one that containerd asks, and how it does."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from registry_pipelines.errors import NotFound, RegistryPipelinesError
from registry_pipelines.node.examining.model import Finding, failed, from_error, note, well
from registry_pipelines.node.status import NodeStatus, read_status
from registry_pipelines.oci.times import read_time
from registry_pipelines.progress import count_text

START = "Start it: `systemctl start registry-pipelines-node`, and read `journalctl -u registry-pipelines-node`"
TIMEOUT_S = 5.0
AHEAD = timedelta(minutes=2)
"""So far in the future a status may be: the agent and this program have one clock."""
_WORTH = ("credentials", "not-trusted", "registry", "slow", "disk", "this-machine")
"""Reasons of normal pulls that somebody can do something about."""


def examine_agent(root: Path, path: Path) -> Iterator[Finding]:
    """root, path: its folder and its socket, as of `node serve`."""
    answers = _answers(path)
    try:
        told = read_status(root)
    except NotFound as error:
        yield from_error("agent", error)
        if answers:
            yield _stranger(path, "an agent with another --root, or another program,")
        return
    except RegistryPipelinesError as error:
        yield from_error("agent", error)
        return
    status = told.status
    if not told.alive:
        yield failed("agent", "it does not run", where=str(root), do=START)
        if answers:
            yield _stranger(path, "another program")
        return
    yield well("agent", f"{status.version}, process {status.process}, runs", str(root))
    if status.socket != str(path):
        yield failed(
            "socket",
            f"the agent of this folder listens on {status.socket}",
            where=str(path),
            do="Name that with --socket, also to containerd; or start the agent with this one",
        )
    elif not answers:
        yield failed("socket", "nobody answers there, though the agent runs", where=str(path), do="Start it again")
    else:
        yield well("socket", "the agent answers", str(path))
    yield from _doing(status)


def _stranger(path: Path, who: str) -> Finding:
    return failed(
        "socket",
        f"{who} answers there",
        where=str(path),
        do="End it, or name its folder with --root: two agents cannot have one socket",
    )


def _doing(status: NodeStatus) -> Iterator[Finding]:
    updated = read_time(status.updated)
    if updated is not None and updated > datetime.now(UTC) + AHEAD:
        yield note("clock", f"it was set back: the agent wrote its status at {status.updated}", do="Set it right")
    if not status.lazy_state:
        yield note("lazy images", "the agent was started with --no-lazy", do="Start it without")
    if status.drain is not None:
        yield note("lazy images", "the node is being drained", do="Take it back: `node drain --undo`")
    for fallback in status.fallbacks:
        if fallback.reason in _WORTH:
            times = count_text(fallback.count, "time")
            yield note(f"pulled as usual: {fallback.reason}", f"{fallback.why} ({times})", where=fallback.image)
    failures = sum(mount.failed_reads for image in status.images for mount in image.mounts)
    if failures:
        yield note(
            "reads", f"{count_text(failures, 'read')} of containers ended with an error", do="Read the agent's log"
        )


def _answers(path: Path) -> bool:
    """Whether something listens."""
    with socket.socket(socket.AF_UNIX) as asked:
        asked.settimeout(TIMEOUT_S)
        try:
            asked.connect(str(path))
        except OSError:
            return False
    return True


__all__ = ["examine_agent"]
