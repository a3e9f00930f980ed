"""Where an application folder comes from: its last Git commit. The working tree decides nothing else."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

GIT_TIMEOUT_S = 30


@dataclass(frozen=True)
class Revision:
    """The last commit that touched a folder."""

    commit: str
    """40 (or 64) hex digits."""
    time: datetime
    """Committer time, UTC."""
    dirty: bool
    """Whether the folder has changes that no commit holds."""
    remote: str
    """Address of ``origin`` without credentials, empty when there is none."""

    @property
    def rfc3339(self) -> str:
        """``2026-01-31T12:00:00Z``."""
        return f"{self.time:%Y-%m-%dT%H:%M:%SZ}"


def read_revision(folder: Path) -> Revision | None:
    """The folder's revision; None without Git, outside a repository, or when nothing of it was ever committed.

    The last commit *of the folder* is taken, not HEAD: an image must not change because something else did.
    """
    if shutil.which("git") is None:
        return None
    found = _git(folder, "log", "-1", "--format=%H %ct", "--", ".")
    match = re.fullmatch(r"([0-9a-f]{40,64}) (\d+)", found or "")
    if not match:
        return None
    changes = _git(folder, "status", "--porcelain", "--untracked-files=normal", "--", ".")
    return Revision(
        commit=match[1],
        time=datetime.fromtimestamp(int(match[2]), UTC),
        dirty=changes is None or bool(changes),
        remote=without_credentials(_git(folder, "remote", "get-url", "origin") or ""),
    )


def without_credentials(address: str) -> str:
    """A remote's address without user name and password; ``git@host:path`` stays readable."""
    if "://" not in address:
        return re.sub(r"^[^/@]*@", "", address)
    parts = urlsplit(address)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


def _git(folder: Path, *arguments: str) -> str | None:
    # fsmonitor and the pager would start programs that the repository names.
    command = ["git", "-c", "core.fsmonitor=false", "-c", "core.pager=cat", "-C", str(folder), *arguments]
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"}
    try:
        done = subprocess.run(command, capture_output=True, timeout=GIT_TIMEOUT_S, env=environment)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode(errors="replace").strip() if done.returncode == 0 else None
