"""Credentials: given ones, or those of Docker's ``config.json`` and its ``docker-credential-*`` programs.

Formats: docker/cli ``config.json`` (``auths``, ``identitytoken``, ``credHelpers``, ``credsStore``) and the credential
helper protocol (docker/docker-credential-helpers): the host on standard input, JSON on standard output.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
import math
import os
import re
import subprocess
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from registry_pipelines.errors import ConfigInvalid, LocalError, ToolMissing, Unauthorized
from registry_pipelines.registry.client.auth_files import AuthFile, keys_of, read_auth_files, wrong_file
from registry_pipelines.threads import started_child

MAX_HELPER_OUTPUT_BYTES = 64 * 1024
"""A helper's answer holds one token; ECR's, the longest known, has about 3 KiB."""

HELPER_TIMEOUT_S = 30.0
"""Cloud helpers ask a service over the network; one that waits for a person never ends."""

_HELPER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}\Z")
_TOKEN_USERS = frozenset({"<token>"})


@dataclass(frozen=True)
class Credentials:
    """What a registry knows us by; all empty for anonymous. identity_token is an OAuth2 refresh token.

    use_until: Unix time after which they are asked for anew, for registries that do not answer 401 to old ones."""

    username: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)
    use_until: float = math.inf

    @property
    def anonymous(self) -> bool:
        """Whether there is nothing to send."""
        return not (self.password or self.identity_token or self.username)


class CredentialFinder(Protocol):
    """Where credentials come from."""

    def account(self, repository: str) -> str:
        """Which account serves a repository (empty: what belongs to none): those with the same one share it. Empty for
        the account of the whole host. Raises like :meth:`find`."""
        ...

    def find(self, account: str = "") -> Credentials:
        """The credentials as they are now."""
        ...


class CredentialSource:
    """Finds the credentials of one host; asked again when a registry refuses what it gave (tokens age).

    An account is the path of a key: for repository ``a/b`` the keys ``host/a/b``, ``host/a`` and ``host`` are looked
    for in this order, each in all files (see ``auth_files``), the first file that has it.
    """

    def __init__(
        self,
        host: str,
        *,
        username: str = "",
        password: str = "",
        docker_config: Path | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self._host = host
        self._given = Credentials(username, password)
        self._config = docker_config
        self._environ = os.environ if environ is None else environ
        self._namespaces: frozenset[str] | None = None

    def account(self, repository: str) -> str:
        """See CredentialFinder. Raises ConfigInvalid."""
        if not self._given.anonymous:
            return ""
        if self._namespaces is None:
            self._read()
        return next((path for path in _upwards(repository) if path in (self._namespaces or ())), "")

    def find(self, account: str = "") -> Credentials:
        """The credentials as they are now. Raises ConfigInvalid, ToolMissing, Unauthorized (a helper failed)."""
        if not self._given.anonymous:
            return self._given
        files = self._read()
        for path in (*_upwards(account), ""):
            for file in files:
                credential = find_in_config(file, self._host, path, environ=self._environ)
                if not credential.anonymous:
                    return credential
        return Credentials()

    def _read(self) -> list[AuthFile]:
        files = read_auth_files(self._config, self._environ)
        self._namespaces = frozenset().union(*(file.namespaces(self._host) for file in files))
        return files


def _upwards(path: str) -> list[str]:
    """``a/b``, ``a``; nothing for the empty path."""
    parts = path.split("/") if path else []
    return ["/".join(parts[:count]) for count in range(len(parts), 0, -1)]


def find_in_config(
    file: AuthFile, host: str, account: str = "", *, environ: Mapping[str, str] | None = None
) -> Credentials:
    """The credentials of a host, or of a path below it: its own helper, else the store, else the entry in the file;
    anonymous when none. A store is asked for paths that are listed alone, for hosts always."""
    keys = keys_of(host, account)
    helpers, entries = file.section("credHelpers"), file.section("auths")
    for key in keys:
        helper = helpers.get(key)
        if isinstance(helper, str) and helper:
            return ask_helper(helper, key, environ=environ)
    listed = next((key for key in keys if key in entries), "")
    store = file.content.get("credsStore")
    if isinstance(store, str) and store and not _has_secret(entries.get(listed)) and (listed or not account):
        return ask_helper(store, listed or keys[0], environ=environ)
    return _read_entry(entries.get(listed), where=f"{file.where}: auths of {listed}")


def _has_secret(entry: Any) -> bool:
    return isinstance(entry, dict) and any(entry.get(key) for key in ("auth", "identitytoken", "password"))


def _read_entry(entry: Any, *, where: str) -> Credentials:
    if not isinstance(entry, dict) or not _has_secret(entry):
        return Credentials()
    identity = entry.get("identitytoken")
    username, password = entry.get("username"), entry.get("password")
    if isinstance(entry.get("auth"), str) and entry["auth"]:
        try:
            username, colon, password = base64.b64decode(entry["auth"]).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError, ValueError):
            colon = ""
        if not colon:
            raise wrong_file(f"{where}: `auth` is not base64 of user:password")
    return _credentials(username, password.rstrip("\0") if isinstance(password, str) else "", identity)


def _credentials(username: Any, password: Any, identity: Any = "") -> Credentials:
    user = username if isinstance(username, str) else ""
    secret = password if isinstance(password, str) else ""
    if isinstance(identity, str) and identity:
        return Credentials(user, "", identity)
    if user in _TOKEN_USERS:
        return Credentials("", "", secret)
    return Credentials(user, secret)


def ask_helper(name: str, server: str, *, environ: Mapping[str, str] | None = None) -> Credentials:
    """Ask ``docker-credential-<name>`` for a server. Its output is bounded and never shown.

    Raises ToolMissing, ConfigInvalid (a name that is no program name), Unauthorized (failed or took too long).
    """
    program = _program(name)
    status, output = _run([program, "get"], server, environ=environ)
    if status != 0:
        if b"credentials not found" in output:
            return Credentials()
        raise Unauthorized(f"{program} failed with status {status}", where=server, do=f"Run: {program} get")
    try:
        answer = json.loads(output)
        return _credentials(answer.get("Username"), answer.get("Secret"))
    except (ValueError, AttributeError, RecursionError):
        raise Unauthorized(f"{program} did not answer with JSON", where=server, do=f"Run: {program} get") from None


def tell_helper(
    name: str, act: Literal["store", "erase"], text: str, *, server: str, environ: Mapping[str, str] | None = None
) -> None:
    """Have ``docker-credential-<name>`` keep or forget a log-in. text: for ``store`` the JSON object with
    ``ServerURL``, ``Username`` and ``Secret``, for ``erase`` the server; on standard input, and never shown. That there
    is nothing to forget is no error. Raises ToolMissing, ConfigInvalid, LocalError (it refused: those of clouds keep
    nothing)."""
    program = _program(name)
    status, output = _run([program, act], text, environ=environ)
    if status != 0 and not (act == "erase" and b"credentials not found" in output):
        raise LocalError(
            f"{program} {act} failed with status {status}",
            where=server,
            do="A helper that gets log-ins from a cloud keeps none; remove it from `credHelpers`, or log in there",
        )


def _program(name: str) -> str:
    if not _HELPER_NAME.match(name):
        raise ConfigInvalid([f"credential helper {name[:80]!r}: not a program name"])
    return f"docker-credential-{name}"


def _run(command: list[str], given: str, *, environ: Mapping[str, str] | None) -> tuple[int, bytes]:
    """(status, standard output) of a program; killed when it takes too long or writes too much."""
    with contextlib.ExitStack() as stack:
        try:
            process = stack.enter_context(
                started_child(
                    command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    env=dict(environ) if environ is not None else None,
                )
            )
        except OSError as error:
            raise ToolMissing(
                f"{command[0]} cannot be started ({error.strerror})", do="Install it, or change Docker's config.json"
            ) from error
        return _converse(process, given, command[0])


def _converse(process: subprocess.Popen[bytes], given: str, program: str) -> tuple[int, bytes]:
    fired = threading.Event()

    def stop() -> None:
        fired.set()
        process.kill()

    timer = threading.Timer(HELPER_TIMEOUT_S, stop)
    timer.daemon = True
    timer.start()
    stdin, stdout = process.stdin, process.stdout
    if stdin is None or stdout is None:
        raise ToolMissing(f"{program} was started without pipes")
    try:
        with contextlib.suppress(BrokenPipeError):
            stdin.write(given.encode())
            stdin.close()
        output = stdout.read(MAX_HELPER_OUTPUT_BYTES + 1)
        if len(output) > MAX_HELPER_OUTPUT_BYTES:
            raise Unauthorized(f"{program} writes more than {MAX_HELPER_OUTPUT_BYTES} bytes", where=given)
        status = process.wait()
    finally:
        timer.cancel()
    if fired.is_set():
        raise Unauthorized(f"{program} took longer than {HELPER_TIMEOUT_S:g} s", where=given, do=f"Run: {program} get")
    return status, output
