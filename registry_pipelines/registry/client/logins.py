"""Keep log-ins where Docker, crane, oras, cosign, skopeo, podman and this program read them, and take them away again.

All of them read Docker's ``config.json``; skopeo and podman read their own ``auth.json`` first. Formats: see
``credentials`` and ``auth_files``. Whatever else is in the file stays: entries of other registries, and settings that
nobody here knows.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from registry_pipelines.errors import InputError
from registry_pipelines.oci.files import local_errors, write_file
from registry_pipelines.registry.client.auth_files import (
    DOCKER_HUB_KEY,
    AuthFile,
    is_there,
    keys_of,
    read_auth_files,
    read_config,
    wrong_file,
)
from registry_pipelines.registry.client.credentials import Credentials, tell_helper
from registry_pipelines.registry.client.distribution import DistributionRegistry


@dataclass(frozen=True)
class Kept:
    """Where a log-in was kept, or was not any more. file: that was changed. helper: the program that keeps the secret;
    empty: the file itself does, in base64, which hides nothing. changed: whether anything was there to forget."""

    file: Path
    helper: str = ""
    changed: bool = True


def login_file(environ: Mapping[str, str]) -> Path:
    """The file to write: ``$REGISTRY_AUTH_FILE``, else ``$DOCKER_CONFIG/config.json``, else ``~/.docker/config.json``.
    Raises InputError where none of them is set."""
    if environ.get("REGISTRY_AUTH_FILE"):
        return Path(environ["REGISTRY_AUTH_FILE"])
    home = environ.get("HOME")
    folder = environ.get("DOCKER_CONFIG") or (f"{home}/.docker" if home else "")
    if not folder:
        raise InputError("there is no home folder to keep a log-in in", do="Set HOME or DOCKER_CONFIG")
    return Path(folder, "config.json")


def others_with_login(host: str, written: Path, environ: Mapping[str, str]) -> list[str]:
    """Other places that are read and have a log-in for the host (``DOCKER_AUTH_CONFIG``, files), and accounts of paths
    below it, which count before it; one phrase each. Raises ConfigInvalid."""
    phrases = []
    for file in read_auth_files(None, environ):
        if file.where != str(written) and any(key in file.section("auths") for key in keys_of(host)):
            phrases.append(f"{file.where} has a log-in for it, too; which of the two counts depends on the program")
        paths = sorted(file.namespaces(host) - {"v1", "v2"})  # Docker's own way to write the host
        if paths:
            phrases.append(f"{file.where} has log-ins of their own for {', '.join(paths[:5])} below it")
    return phrases


class _Recorded:
    """Credentials that tell whether they were asked for. Implements CredentialFinder."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials
        self.asked = False

    def account(self, repository: str) -> str:
        """See CredentialFinder."""
        return ""

    def find(self, account: str = "") -> Credentials:
        """See CredentialFinder."""
        self.asked = True
        return self._credentials


def try_login(host: str, username: str, password: str, **options: Any) -> bool:
    """Ask the registry whether it takes a log-in; False where it lets everybody in, so that nothing was tried. options:
    DistributionRegistry's (plain_http, ca_file, redirects). Raises Unauthorized, RegistryError."""
    finder = _Recorded(Credentials(username, password))
    registry = DistributionRegistry(host, finder=finder, **options)
    try:
        registry.ping()
    finally:
        registry.close()
    return finder.asked


def store_login(
    file: Path, host: str, username: str, password: str, *, environ: Mapping[str, str] | None = None
) -> Kept:
    """Keep a log-in: in the helper that the file names for the host, else in the file (mode 0600), whole or not at all.

    Raises InputError (a name with a colon, a control character), ConfigInvalid (the file cannot be read), ToolMissing,
    LocalError.
    """
    if not username or ":" in username or any(ord(character) < 32 for character in username + password):
        raise InputError("user names hold no colon, and neither name nor password control characters")
    with _open(file) as content:
        key = DOCKER_HUB_KEY if DOCKER_HUB_KEY in keys_of(host) else host
        helper, server = _helper(content, host, key)
        entry = {} if helper else {"auth": base64.b64encode(f"{username}:{password}".encode()).decode()}
        others = {name: value for name, value in _entries(content, file).items() if name not in keys_of(host)}
        if helper:
            secret = {"ServerURL": server, "Username": username, "Secret": password}
            tell_helper(helper, "store", json.dumps(secret), server=server, environ=environ)
        content["auths"] = {**others, key: entry}
    return Kept(file, helper)


def forget_login(file: Path, host: str, *, environ: Mapping[str, str] | None = None) -> Kept:
    """Take a log-in away, from the helper that the file names too. Raises as :func:`store_login`."""
    if not is_there(file):
        return Kept(file, changed=False)
    with _open(file) as content:
        entries = _entries(content, file)
        key = next((name for name in keys_of(host) if name in entries), "")
        helper, server = _helper(content, host, key or keys_of(host)[0])
        if helper:
            tell_helper(helper, "erase", server, server=server, environ=environ)
        content["auths"] = {name: value for name, value in entries.items() if name not in keys_of(host)}
    return Kept(file, helper, changed=bool(key or helper))


def _entries(content: Mapping[str, Any], file: Path) -> dict[str, Any]:
    entries = content.get("auths") or {}
    if not isinstance(entries, dict):
        raise wrong_file(f"{file}: `auths` is no JSON object")
    return entries


def _helper(content: Mapping[str, Any], host: str, key: str) -> tuple[str, str]:
    """The helper's name, empty for none, and what it knows the registry by: as ``credentials`` asks it."""
    helpers = AuthFile("", content).section("credHelpers")
    for name in keys_of(host):
        if isinstance(helpers.get(name), str) and helpers[name]:
            return helpers[name], name
    store = content.get("credsStore")
    return (store, key) if isinstance(store, str) and store else ("", key)


@contextmanager
def _open(file: Path) -> Iterator[dict[str, Any]]:
    """The file's content, written back at the end of the block; one program of ours at a time. A link stays a link, for
    people keep this file among their settings elsewhere."""
    try:
        target = file.resolve()
    except RuntimeError as error:  # links in a circle
        raise wrong_file(f"{file}: links to itself") from error
    with local_errors(file):
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        content = read_config(target) if is_there(target) else {}
        before = json.dumps(content)
        yield content
        if json.dumps(content) != before:
            with local_errors(file):
                write_file(target, json.dumps(content, indent="\t").encode() + b"\n", mode=0o600)
    finally:
        os.close(folder)


__all__ = ["Kept", "forget_login", "login_file", "others_with_login", "store_login", "try_login"]
