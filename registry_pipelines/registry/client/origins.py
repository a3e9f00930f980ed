"""Where a URL goes: the origin that secrets belong to, and the path exactly as a registry wrote it."""

from __future__ import annotations

import functools
import ipaddress
import re
import urllib.parse
from typing import NamedTuple

from registry_pipelines.errors import InputError, RegistryError


class Origin(NamedTuple):
    """What a connection is made to, and what ``Authorization`` belongs to."""

    scheme: str
    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


_USUAL = re.compile(r"(https?://[a-z0-9.:-]+)(/[!\"$-~]*)")
"""An address whose path can be used as it is. Every request asks three times, so this is worth a way of its own."""


def split_url(url: str, *, where: str) -> tuple[Origin, str]:
    """(origin, path with query), the latter exactly as it was. Raises RegistryError for what is not http or https."""
    usual = _USUAL.fullmatch(url)
    if usual:
        try:
            return _usual_origin(usual[1]), usual[2]
        except RegistryError:
            pass
    return _split(url, where)


@functools.lru_cache(1024)
def _usual_origin(url: str) -> Origin:
    return _split(url, "")[0]


def _split(url: str, where: str) -> tuple[Origin, str]:
    try:
        parts = urllib.parse.urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise RegistryError("the registry named an address that is not a URL", where=where) from error
    if parts.scheme not in ("http", "https") or not host:
        raise RegistryError("the registry named an address that is not http or https", where=where)
    rest = url.split("#", 1)[0].partition("://")[2]
    start = min((at for at in (rest.find("/"), rest.find("?")) if at >= 0), default=len(rest))
    target = rest[start:]
    if not target.isascii() or any(character <= " " for character in target):
        target = urllib.parse.quote(target, safe="%/:=&?~#+!$,;'@()*[]")
    if not target.startswith("/"):
        target = f"/{target}"
    return Origin(parts.scheme, host, port or (443 if parts.scheme == "https" else 80)), target


def check_loopback_or_tls(origin: Origin, *, plain_allowed: bool, where: str) -> None:
    """Raise InputError for plain HTTP to another machine, unless the configuration permits it for this registry."""
    if origin.scheme == "http" and not plain_allowed and not is_loopback(origin.host):
        raise InputError(
            "plain HTTP leaves this machine", where=where, do="Use TLS, or set plain_http for this registry"
        )


def is_loopback(host: str) -> bool:
    """Whether a host name or address is this machine, judged by its text alone (no DNS)."""
    name = host.strip("[]").lower().rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
