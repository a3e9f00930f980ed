"""What lies on this machine: keys, the configuration, the state folder; and who runs."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from registry_pipelines.hardening.model import Finding, broken, kept, unknown

OTHERS = stat.S_IRWXG | stat.S_IRWXO
POD_VARIABLE = "KUBERNETES_SERVICE_HOST"
"""Of the environment of each container in a pod. There files of a secret are root's and of a group of the pod (0440,
whatever ``defaultMode`` says, where it has an ``fsGroup``), and an empty volume is everybody's (0777): nobody else is
in a pod, and on the node the folder above is root's."""
MAX_FILES = 1000
"""Of a folder of keys."""


def examine_user() -> Finding:
    """Who runs this."""
    if os.geteuid() == 0:
        do = "Run as a user of its own: USER in the image, runAsNonRoot in the pod, User= in the unit"
        return broken("no-root", "this process", "runs as root", do=do)
    return kept("no-root", "this process", f"runs as user {os.geteuid()}")


def examine_keys(paths: Iterable[Path]) -> Iterator[Finding]:
    """Private keys; folders with all that is in them. Public keys (``.pub``, certificates) are passed over."""
    seen: set[Path] = set()
    for path in paths:
        for each in _files(path):
            if each in seen:
                continue
            seen.add(each)
            if each.suffix in (".pub", ".crt", ".pem") and b"PRIVATE KEY" not in _beginning(each):
                continue
            found = _mode(each)
            if found is None:
                yield unknown("keys-private", str(each), "cannot be looked at")
            elif found & (OTHERS & ~stat.S_IRGRP if _in_pod() else OTHERS):
                do = f"chmod 600 {each}; a secret in Kubernetes: defaultMode 0400"
                yield broken(
                    "keys-private", str(each), f"others may read or write it (mode {found & 0o777:03o})", do=do
                )
            else:
                yield kept("keys-private", str(each), "its user's alone")


def examine_configuration(path: Path) -> Finding:
    """The configuration's file, and its folder: who may write there may replace it."""
    for each in (path, path.parent):
        found = _mode(each)
        if found is None:
            return unknown("configuration-closed", str(each), "cannot be looked at")
        if found & stat.S_IWOTH or (found & stat.S_IWGRP and each.stat().st_gid not in (0, os.getegid())):
            if found & stat.S_ISVTX and each is not path:
                continue
            do = f"chmod go-w {each}; better, mount it read-only"
            what = f"others may change it (mode {found & 0o7777:03o})"
            return broken("configuration-closed", str(each), what, do=do)
    return kept("configuration-closed", str(path), "only its owner changes it")


def examine_state(path: Path) -> Finding:
    """The state folder."""
    found = _mode(path)
    if found is None:
        return unknown("state-closed", str(path), "is not there", do="Look where the workers run")
    if found & stat.S_IRWXO and _in_pod() and path.is_mount():
        return kept("state-closed", str(path), "a volume of this pod")
    if found & stat.S_IRWXO:
        what = f"every user of the machine may look into it (mode {found & 0o777:03o})"
        return broken("state-closed", str(path), what, do=f"chmod o-rwx {path}")
    return kept("state-closed", str(path), "closed to others")


def _in_pod() -> bool:
    return POD_VARIABLE in os.environ


def _files(path: Path) -> Iterator[Path]:
    if path.is_dir():
        for number, each in enumerate(sorted(path.rglob("*"))):
            if number >= MAX_FILES:
                return
            if each.is_file():
                yield each
    elif path.exists():
        yield path


def _beginning(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(4096)
    except OSError:
        return b"PRIVATE KEY"


def _mode(path: Path) -> int | None:
    """Of the file itself: Kubernetes mounts secrets as links."""
    try:
        return path.stat().st_mode
    except OSError:
        return None


__all__ = ["examine_configuration", "examine_keys", "examine_state", "examine_user"]
