"""Programs of an unpacked image, run with nothing but its files."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from tests.needs import missing


def run_in_root(root: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """As root, or as root of an own user namespace."""
    if os.getuid() != 0 and not shutil.which("unshare"):
        missing("only root, or root of an own user namespace, can run in another root folder")
    own = [] if os.getuid() == 0 else ["unshare", "--map-root-user"]
    chroot = shutil.which("chroot", path=f"{os.environ['PATH']}:/usr/sbin") or "chroot"
    return subprocess.run(
        [*own, chroot, root, *command],
        env={"PATH": "/usr/local/bin:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
