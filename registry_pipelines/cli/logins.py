"""``login`` and ``logout``: where Docker, the container tools and this program look."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from registry_pipelines.cli.context import Options, common
from registry_pipelines.cli.envelope import print_json
from registry_pipelines.cli.names import REGISTRIES
from registry_pipelines.cli.output import (
    console,
    print_lines,
)
from registry_pipelines.errors import InputError
from registry_pipelines.registry.client.auth_files import keys_of
from registry_pipelines.registry.client.logins import (
    Kept,
    forget_login,
    login_file,
    others_with_login,
    store_login,
    try_login,
)
from registry_pipelines.registry.ecr.hosts import read_host
from registry_pipelines.settings import unknown

MAX_PASSWORD_BYTES = 64 * 1024
"""Of standard input; Artifact Registry's key files, the longest known passwords, have 2.4 KB."""


NOT_BY_ALL = "podman, skopeo, crane and this program read $REGISTRY_AUTH_FILE; docker and oras do not"
"""Run 2026-11-28 with skopeo 1.9.3, crane 0.20.7, oras 1.3.3; docker/cli has no such variable."""


@dataclass(frozen=True)
class _Registry:
    """Whose log-in it is. file: that is written. options: for the client that tries it."""

    host: str
    file: Path
    options: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@click.command("login")
@click.argument("registry", shell_complete=REGISTRIES)
@click.option("--username", "-u", metavar="NAME", help="User name; asked for unless told.")
@click.option("--password-stdin", is_flag=True, help="Read the password from standard input; asked for unless told.")
@common
def login(options: Options, registry: str, username: str | None, password_stdin: bool) -> None:
    """Keep a user name and a password of a registry, tried first, where docker, podman, skopeo, crane and this program
    read them.

    REGISTRY is a host, or a name of the configuration. Written is $REGISTRY_AUTH_FILE, $DOCKER_CONFIG/config.json or
    ~/.docker/config.json, or the credential helper that this file names; what else it holds stays.
    """
    with options.places([registry]):
        known = _find(options, registry)
        user, password = _ask(username, password_stdin)
        tried = try_login(known.host, user, password, **known.options)
    kept = store_login(known.file, known.host, user, password)
    notes = [
        *(() if tried else ["the registry lets everybody in and did not ask for the password, so it was not tried"]),
        *known.notes,
        *_notes(known, kept),
        *([NOT_BY_ALL] if str(known.file) == os.environ.get("REGISTRY_AUTH_FILE") else []),
    ]
    if options.as_json:
        document = {"registry": known.host, "username": user, "tried": tried}
        print_json({**document, "file": str(kept.file), "helper": kept.helper, "notes": notes})
        return
    where = f"docker-credential-{kept.helper}" if kept.helper else str(kept.file)
    console().print(f"logged in to {known.host} as {user}; kept in {where}", markup=False, soft_wrap=True)
    print_lines(notes)


@click.command("logout")
@click.argument("registry", shell_complete=REGISTRIES)
@common
def logout(options: Options, registry: str) -> None:
    """Forget what login kept, in the file and in the credential helper that it names."""
    known = _find(options, registry)
    kept = forget_login(known.file, known.host)
    notes = _notes(known, kept)
    if options.as_json:
        document = {"registry": known.host, "changed": kept.changed}
        print_json({**document, "file": str(kept.file), "helper": kept.helper, "notes": notes})
        return
    what = f"logged out of {known.host}" if kept.changed else f"{kept.file} has no log-in for {known.host}"
    console().print(what, markup=False, soft_wrap=True)
    print_lines(notes)


def _notes(known: _Registry, kept: Kept) -> list[str]:
    return others_with_login(known.host, kept.file, os.environ)


def _ask(username: str | None, password_stdin: bool) -> tuple[str, str]:
    """What standard input or a person says. Raises InputError where there is no person to ask."""
    if not sys.stdin.isatty() and not (password_stdin and username):
        raise InputError("nobody can be asked here", do="Give --username and --password-stdin")
    if password_stdin:
        if not username:
            raise InputError("--password-stdin leaves nobody to ask for the name", do="Give --username")
        raw = sys.stdin.buffer.read(MAX_PASSWORD_BYTES + 1)
        if len(raw) > MAX_PASSWORD_BYTES:
            raise InputError(f"the password has more than {MAX_PASSWORD_BYTES} bytes")
        try:
            password = raw.decode().rstrip("\r\n")
        except UnicodeDecodeError as error:
            raise InputError("the password is not UTF-8 text") from error
    else:
        username = username or click.prompt("User name", err=True)
        password = click.prompt("Password", hide_input=True, err=True)
    if not password:
        raise InputError("the password is empty")
    return username, password


def _find(options: Options, text: str) -> _Registry:
    """A registry by its name in the configuration or its host. Raises InputError."""
    from registry_pipelines import config as configuration
    from registry_pipelines.chain.places import address

    config = options.config_if_any()
    known = config.registries if config else {}
    host = _host(text)
    settings = known.get(host) or next((each for each in known.values() if address(each) == host), None)
    file, trial = login_file(os.environ), dict[str, Any]()
    if settings is None:
        if not ("." in host or ":" in host or host == "localhost"):
            raise InputError(unknown(host, known, "registry"), do="Write a configured name, or a host with its port")
        return _Registry(host, file, trial, _cloud(host))
    if isinstance(settings, configuration.LayoutRegistry | configuration.StoreRegistry):
        raise InputError(f"{host} is a folder or an object store, and nobody logs in there")
    trial["ca_file"] = settings.ca_file
    if isinstance(settings, configuration.EmbeddedRegistry):
        trial["plain_http"] = settings.tls_cert is None
        users = ("our own commands log in as the first of its `users`",) if settings.users else ()
        return _Registry(settings.client_address, file, trial, users)
    trial |= {"plain_http": settings.plain_http, "redirects": settings.redirects.allow}
    if isinstance(settings, configuration.EcrRegistry | configuration.EcrPublicRegistry | configuration.GarRegistry):
        return _Registry(settings.host, file, trial, ("our own commands take the cloud's credentials for it",))
    own = () if settings.docker_config else _cloud(settings.host)
    if settings.username:
        own = ("the configuration has a user name for it, with which our own commands go on",)
    return _Registry(settings.host, settings.docker_config or file, trial, own)


def _host(text: str) -> str:
    """What stands for a registry, without scheme. Raises InputError for more than that."""
    if text in keys_of("docker.io"):
        return "docker.io"
    if "@" in text:  # it may be a password, which is not said again
        raise InputError(
            "the registry stands with a user name, or a digest, in front of `@`",
            do="Write the host alone, with --username NAME; the password is asked for, or read with --password-stdin",
        )
    host, slash, path = text.removeprefix("https://").partition("/")
    if slash and path:
        raise InputError(f"{text!r} names more than a registry", do=f"Write {host}: a log-in is for the whole registry")
    return host


def _cloud(host: str) -> tuple[str, ...]:
    if not read_host(host):
        return ()
    return ("our own commands take AWS credentials for it, unless the configuration has `docker_config` or `username`",)


COMMANDS = [login, logout]
