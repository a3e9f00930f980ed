"""Where credentials are written: ``DOCKER_AUTH_CONFIG``, Docker's ``config.json``, the container tools' ``auth.json``.

Sources: docker/cli (pull request 6008, 2025-04: the variable comes before file and store), containers-auth.json(5)
(keys with a path, the most specific first; ``REGISTRY_AUTH_FILE`` stands alone, else the files complete each other).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from registry_pipelines.errors import ConfigInvalid

MAX_CONFIG_BYTES = 1024 * 1024
"""Docker's own config.json with hundreds of registries stays below 100 KiB."""

VARIABLE = "DOCKER_AUTH_CONFIG"

DOCKER_HUB_KEY = "https://index.docker.io/v1/"
_DOCKER_HUB = ("docker.io", "index.docker.io", "registry-1.docker.io")


@dataclass(frozen=True)
class AuthFile:
    """One place with credentials. where: for errors. content: never shown, it holds secrets."""

    where: str
    content: Mapping[str, Any] = field(repr=False)

    def section(self, name: str) -> Mapping[str, Any]:
        """``auths`` or ``credHelpers``; empty when it is missing or no mapping."""
        section = self.content.get(name)
        return section if isinstance(section, dict) else {}

    def namespaces(self, host: str) -> set[str]:
        """What stands behind the host in keys with a path: ``team`` for ``host/team``."""
        starts = tuple(f"{name}/" for name in _names(host))
        keys = [*self.section("auths"), *self.section("credHelpers")]
        return {path for key in keys if key.startswith(starts) and (path := key.partition("/")[2].rstrip("/"))}


def read_auth_files(named: Path | None, environ: Mapping[str, str]) -> list[AuthFile]:
    """All places, the first to ask first. named: a file that stands alone. Raises ConfigInvalid."""
    if named is not None:
        return [AuthFile(str(named), read_config(named))]
    files = []
    if environ.get(VARIABLE, "").strip():
        files.append(AuthFile(VARIABLE, _parse(environ[VARIABLE].encode(errors="surrogateescape"), VARIABLE)))
    return [*files, *(AuthFile(str(path), read_config(path)) for path in usual_files(environ))]


def usual_files(environ: Mapping[str, str]) -> list[Path]:
    """``$REGISTRY_AUTH_FILE`` alone when it exists; else those that exist of ``$DOCKER_CONFIG/config.json`` or
    ``~/.docker/config.json``, ``$XDG_RUNTIME_DIR/containers/auth.json``, ``~/.config/containers/auth.json``."""
    alone = Path(environ.get("REGISTRY_AUTH_FILE") or "/nonexistent")
    if is_there(alone):
        return [alone]
    home = environ.get("HOME", "")
    settings = environ.get("XDG_CONFIG_HOME") or (f"{home}/.config" if home else "")
    docker = environ.get("DOCKER_CONFIG") or (f"{home}/.docker" if home else "")
    folders = (
        (docker, "config.json"),
        (environ.get("XDG_RUNTIME_DIR", ""), "containers/auth.json"),
        (settings, "containers/auth.json"),
    )
    return [path for folder, name in folders if folder and is_there(path := Path(folder, name))]


def is_there(path: Path) -> bool:
    """Whether a file is there; also where its folder may not be looked into, so that whoever reads it says so."""
    try:
        return path.is_file()
    except PermissionError:
        return True


def read_config(path: Path) -> dict[str, Any]:
    """Read a config.json. Raises ConfigInvalid; its content is never quoted, since it holds secrets."""
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_CONFIG_BYTES + 1)
    except OSError as error:
        raise wrong_file(f"{path}: cannot be read ({error.strerror})") from error
    return _parse(raw, str(path))


def wrong_file(problem: str) -> ConfigInvalid:
    """The error for one of Docker's files. problem: where and what, nothing of its content."""
    return ConfigInvalid([problem], do="Correct it, or log in again (`docker login`, `skopeo login`)")


def _parse(raw: bytes, where: str) -> dict[str, Any]:
    if len(raw) > MAX_CONFIG_BYTES:
        raise wrong_file(f"{where}: larger than {MAX_CONFIG_BYTES} bytes")
    try:
        content = json.loads(raw) if raw.strip() else {}  # as docker/cli reads an empty file
    except (ValueError, RecursionError):
        raise wrong_file(f"{where}: not JSON") from None
    if not isinstance(content, dict):
        raise wrong_file(f"{where}: not a JSON object")
    return content


def keys_of(host: str, account: str = "") -> list[str]:
    """How a host (or ``account``, a path below it) may be written as a key; Docker Hub has keys of its own."""
    if account:
        return [f"{name}/{account}{end}" for name in _names(host) for end in ("", "/")]
    if host in _DOCKER_HUB:
        more = "https://index.docker.io/v1", "index.docker.io/v1/", "index.docker.io/v1"
        return [DOCKER_HUB_KEY, *_DOCKER_HUB, *more, *(f"{name}/" for name in _DOCKER_HUB)]
    schemes = [f"{scheme}{host}{path}" for scheme in ("https://", "http://") for path in ("", "/", "/v1/", "/v2/")]
    return [host, f"{host}/", *schemes]


def _names(host: str) -> tuple[str, ...]:
    return _DOCKER_HUB if host in _DOCKER_HUB else (host,)
