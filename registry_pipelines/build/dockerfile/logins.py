"""Log-ins for an engine, without a secret in its command, its environment or the user's own files.

Docker's command, buildx and buildctl read ``config.json`` of the folder that ``DOCKER_CONFIG`` names, and ask the
program ``docker-credential-NAME`` for the hosts that ``credHelpers`` gives it (docker/cli, "Credential helpers"). So
there is a folder for one build: the user's own, by links, with one helper more.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from registry_pipelines.build.dockerfile.work_folder import work_folder

LOGINS = "logins"
"""Folder of those folders; what a killed build left in it is removed by the next one."""

HELPER = "registry-pipelines-build"
_SCRIPT = """#!/bin/sh
# The log-ins of one build, by host; removed when it ends.
host=$(cat)
case "$1" in get) exec cat "$(dirname "$0")/login-$(printf %s "$host" | tr -c 'A-Za-z0-9.\\n' _).json" ;; esac
"""


@dataclass(frozen=True)
class Login:
    """Who an engine is at a host."""

    host: str
    username: str
    password: str = field(repr=False)


@contextmanager
def docker_config(logins: Mapping[str, Login] | list[Login], parent: Path, own: Path | None = None) -> Iterator[Path]:
    """A folder for ``DOCKER_CONFIG``, until the block ends. own: the user's, ``~/.docker`` unless told; what is in it
    goes on to hold for other hosts. Readable by this user alone."""
    wanted = list(logins.values()) if isinstance(logins, Mapping) else logins
    source = own or Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker")
    with work_folder(parent / LOGINS, "login-") as folder:
        for entry in source.iterdir() if source.is_dir() else ():
            if entry.name != "config.json":
                (folder / entry.name).symlink_to(entry.absolute())
        settings = _read(source / "config.json")
        settings["credHelpers"] = {**(settings.get("credHelpers") or {}), **{each.host: HELPER for each in wanted}}
        _write(folder / "config.json", json.dumps(settings), 0o600)
        _write(folder / f"docker-credential-{HELPER}", _SCRIPT, 0o700)
        for each in wanted:
            answer = {"ServerURL": each.host, "Username": each.username, "Secret": each.password}
            name = "".join(letter if letter.isalnum() or letter == "." else "_" for letter in each.host)
            _write(folder / f"login-{name}.json", json.dumps(answer), 0o600)
        yield folder


def _read(path: Path) -> dict[str, Any]:
    with suppress(OSError, ValueError):
        if isinstance(settings := json.loads(path.read_text()), dict):
            return settings
    return {}


def _write(path: Path, text: str, mode: int) -> None:
    path.touch(mode=mode)
    path.write_text(text)
