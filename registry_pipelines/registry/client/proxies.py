"""``HTTP_PROXY``, ``HTTPS_PROXY``, ``NO_PROXY`` from the environment, as curl and the Go tools read them."""

from __future__ import annotations

import base64
import ipaddress
import os
import socket
import urllib.parse
from collections.abc import Mapping

import msgspec

from registry_pipelines.errors import Forbidden, InputError, RegistryError, Unauthorized, Unavailable
from registry_pipelines.registry.client.origins import Origin, is_loopback
from registry_pipelines.registry.client.wire import Answer, request_head


class Proxy(msgspec.Struct, frozen=True):
    """An HTTP proxy. headers: what each request (plain) or the CONNECT (TLS) carries for it."""

    host: str
    port: int
    headers: dict[str, str] = {}


def proxy_for(scheme: str, host: str, port: int, environ: Mapping[str, str] | None = None) -> Proxy | None:
    """The proxy for a request, None for direct. Loopback hosts are always reached directly (Go's rule).

    Lower-case names win; ``HTTP_PROXY`` is not read under CGI (``REQUEST_METHOD`` set), where a request's header could
    set it. Raises InputError for a proxy that is not ``http://``.
    """
    env = os.environ if environ is None else environ
    upper = "" if scheme == "http" and env.get("REQUEST_METHOD") else env.get(f"{scheme.upper()}_PROXY", "")
    address = env.get(f"{scheme}_proxy", "") or upper or env.get("all_proxy", "") or env.get("ALL_PROXY", "")
    if not address or _bypassed(host.lower().rstrip("."), port, env.get("no_proxy", "") or env.get("NO_PROXY", "")):
        return None
    parts = urllib.parse.urlsplit(address if "://" in address else f"http://{address}")
    try:
        name, number = parts.hostname, parts.port
    except ValueError as error:
        raise InputError("the proxy's address is not a URL", where=f"{scheme.upper()}_PROXY") from error
    if parts.scheme != "http" or not name:
        raise InputError(
            f"a proxy of kind {parts.scheme} is not served", where=f"{scheme.upper()}_PROXY", do="Use an http:// proxy"
        )
    headers = {}
    if parts.username is not None:
        user, word = urllib.parse.unquote(parts.username), urllib.parse.unquote(parts.password or "")
        token = base64.b64encode(f"{user}:{word}".encode()).decode()
        headers["Proxy-Authorization"] = f"Basic {token}"
    return Proxy(name, number or 80, headers)


def open_tunnel(connected: socket.socket, origin: Origin, proxy: Proxy, *, where: str) -> None:
    """Ask a proxy for a way to a host (CONNECT, RFC 9110 section 9.3.6). Raises what the socket raises,
    HTTPException (not HTTP), and for a refusal Unauthorized, Forbidden, Unavailable, RegistryError."""
    connected.sendall(request_head("CONNECT", str(origin), {"Host": str(origin), **proxy.headers}))
    answer = Answer(connected, "CONNECT")
    if 200 <= answer.status < 300:
        if answer.clean:
            return
        raise RegistryError(f"the proxy {proxy.host}:{proxy.port} sends more than its answer", where=where)
    status = answer.status
    said = f"the proxy {proxy.host}:{proxy.port} answered the way to {origin} with HTTP {status}"
    if status == 407:
        known = "other " if proxy.headers else ""
        do = f"Write {known}user and password into HTTPS_PROXY, as http://user:password@{proxy.host}:{proxy.port}"
        raise Unauthorized(said, where=where, do=do, status=status)
    if status in (401, 403, 451):
        raise Forbidden(said, where=where, do=f"Have the proxy permit {origin.host}, or name it in NO_PROXY")
    if status in (404, 405, 501):
        raise RegistryError(f"{said}; it makes no tunnels", where=where, do="Check HTTPS_PROXY", status=status)
    do = f"See whether {origin.host} can be reached from the proxy; where it cannot, name it in NO_PROXY"
    kind = Unavailable if status >= 500 or status == 429 else RegistryError
    raise kind(said, where=where, do=do, status=status)


def _bypassed(host: str, port: int, no_proxy: str) -> bool:
    if is_loopback(host):
        return True
    address = _address(host)
    return any(_matches(host, port, address, item.strip().lower()) for item in no_proxy.split(","))


def _matches(host: str, port: int, address: ipaddress.IPv4Address | ipaddress.IPv6Address | None, pattern: str) -> bool:
    if not pattern:
        return False
    if pattern == "*":
        return True
    if address is not None:
        try:
            return address in ipaddress.ip_network(pattern.strip("[]"), strict=False)
        except (ValueError, TypeError):
            return pattern == f"{host}:{port}"
    name, _, wanted = pattern.partition(":")
    if wanted and wanted != str(port):
        return False
    name = name.lstrip("*").lstrip(".")
    return host == name or host.endswith(f".{name}")


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return None
