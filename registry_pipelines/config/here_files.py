"""Files of a configuration that are here, and that whoever needs them could not use: see ``here``."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from registry_pipelines.config.model import Config
from registry_pipelines.config.registries import EmbeddedRegistry
from registry_pipelines.errors import InputError, ManifestInvalid

Finding = tuple[str, str]
"""The path in the file, and what is said about it."""


def unfit_files(config: Config, wrong: set[str]) -> Iterator[Finding]:
    """What is wrong in them. wrong: paths in the file of which something is said already, such as that nothing is
    there."""
    found = chain(
        _requirements(config, wrong),
        _dockerfiles(config),
        _authorities(config),
        _servers(config),
        _vex(config),
        _admission(config),
    )
    yield from (each for each in found if each[0] not in wrong)


def said_of(error: InputError) -> str:
    """An error in one line: where, what, what to do."""
    return ": ".join(filter(None, (error.where, error.what))) + (f"; {error.do}" if error.do else "")


def _requirements(config: Config, wrong: set[str]) -> Iterator[Finding]:
    """Files that requirements name, and lines that no build takes."""
    for name, image in config.images.items():
        build, path = image.build, f"images.{name}.build.requirements"
        if build is None or not (build.requirements or build.requirements_file) or f"{path}_file" in wrong:
            continue
        from registry_pipelines.build.requirement_lines import (
            read_lines,
            refuse_other_sources,
        )  # who builds nothing needs no `packaging`

        try:
            lines = read_lines(build.requirements, build.requirements_file, folder=config.path.parent)
            if build.index:
                refuse_other_sources(lines)
        except InputError as error:
            at = path if build.requirements else f"{path}_file"
            yield at, ": ".join(filter(None, (error.where, error.what)))


def _dockerfiles(config: Config) -> Iterator[Finding]:
    """Dockerfiles that no engine would be given: absent, too long, or with a line that is no instruction."""
    for name, image in config.images.items():
        own = image.dockerfile
        if own is None or not own.context.is_dir():
            continue
        from registry_pipelines.build.dockerfile.parsing import parse_dockerfile, read_dockerfile

        try:
            parse_dockerfile(read_dockerfile(own.path), args=own.args, where=str(own.path))
        except InputError as error:
            yield f"images.{name}.dockerfile" + (".file" if own.file else ""), said_of(error)


def _authorities(config: Config) -> Iterator[Finding]:
    """Files of certificates, of which one cannot be read, or that have none: nothing behind them is reached."""
    told = {f"registries.{name}": getattr(registry, "ca_file", None) for name, registry in config.registries.items()}
    told["notify.email"] = config.notify.email.ca_file if config.notify.email else None
    for where, path in told.items():
        if path is not None and path.exists():
            from registry_pipelines.dialing import tls_context

            try:
                tls_context(str(path))
            except OSError as error:
                yield f"{where}.ca_file", f"{path}: {error.strerror or error}"


def _servers(config: Config) -> Iterator[Finding]:
    """What embedded registries could not be served with."""
    for name, registry in config.registries.items():
        if not isinstance(registry, EmbeddedRegistry):
            continue
        if registry.htpasswd and registry.htpasswd.exists():
            from registry_pipelines.registry.embedded.auth import read_htpasswd

            try:
                read_htpasswd(registry.htpasswd)
            except InputError as error:
                yield f"registries.{name}.htpasswd", said_of(error)
        if registry.tls_cert and _all_there(registry.tls_cert, registry.tls_key):
            from registry_pipelines.registry.embedded.server_tls import ServerTls

            try:
                ServerTls(registry.tls_cert, registry.tls_key).read()
            except InputError as error:
                yield f"registries.{name}.tls_cert", said_of(error)


def _vex(config: Config) -> Iterator[Finding]:
    """OpenVEX documents that would end every judgement by their policy."""
    for name, policy in config.policies.items():
        for place, path in enumerate(policy.vex):
            if not path.exists():
                continue
            from registry_pipelines.scan.openvex import MAX_VEX_BYTES, read_openvex

            try:
                with path.open("rb") as file:
                    read_openvex(file.read(MAX_VEX_BYTES + 1), where=path.name)
            except ManifestInvalid as error:
                yield f"policies.{name}.vex[{place}]", f"{path}: {error.what}"
            except OSError as error:
                yield f"policies.{name}.vex[{place}]", f"{path} cannot be read: {error.strerror}"


def _admission(config: Config) -> Iterator[Finding]:
    """A certificate that the webhook cannot serve with."""
    own = config.admission
    if own and own.tls_cert and own.tls_key and _all_there(own.tls_cert, own.tls_key):
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(own.tls_cert, own.tls_key, lambda: "")
        except OSError:  # SSLError is one
            yield "admission.tls_key", f"{own.tls_key} is not the private key of {own.tls_cert}, or no PEM file"


def _all_there(*paths: Path | None) -> bool:
    return all(path is None or path.exists() for path in paths)
