"""How what keeps mounts (``keeper``, ``holder``) outlives the pod that it was started in.

When a pod's container ends, its runtime kills all that is in its control group; in a process namespace of its own the
kernel does. So an agent in a pod needs the host's processes (``hostPID``) and the host's control groups, writable, in
the folder that ``CGROUPS`` names; then what keeps mounts goes to a group of its own there. It stays in the pod's
namespace of mounts, to which the host's are passed on, so that this lasts as long.

Rules: "cgroup.procs" in the kernel's cgroup-v2 and cgroup-v1/cgroups; all versions that nodes have.

Standard library only: see ``keeper``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

CGROUPS = "REGISTRY_PIPELINES_HOST_CGROUPS"
"""A variable of the environment: where the host's control groups are; nothing is left where it is not set."""

GROUP = "registry-pipelines-keepers"
_MEMBERS = "cgroup.procs"
_VERSION_2 = "cgroup.controllers"
_NEEDS_SETTINGS = "cpuset"
"""Of version 1: a new group there takes nobody before it has some."""


def leave_pod() -> None:
    """This process goes where nothing of the pod's end reaches it, as far as it can."""
    if base := os.environ.get(CGROUPS, ""):
        for group in _groups(Path(base)):
            with suppress(OSError):
                group.mkdir(exist_ok=True)
                (group / _MEMBERS).write_text("0")


def why_not() -> str:
    """Why what this agent's pod mounts cannot outlive it; empty where it can, or is in none that should."""
    base = os.environ.get(CGROUPS, "")
    if not base:
        return ""
    if os.getpid() == 1:
        return "the pod does not share the host's processes (hostPID)"
    groups = list(_groups(Path(base)))
    if not groups or not all(os.access(each.parent, os.W_OK) for each in groups):
        return f"the host's control groups cannot be changed at {base}"
    return ""


def _groups(base: Path) -> Iterator[Path]:
    if (base / _VERSION_2).exists():
        yield base / GROUP
        return
    for each in sorted(base.glob(f"*/{_MEMBERS}")):
        if not each.parent.is_symlink():
            yield each.parent if _NEEDS_SETTINGS in each.parent.name.split(",") else each.parent / GROUP


__all__ = ["CGROUPS", "GROUP", "leave_pod", "why_not"]
