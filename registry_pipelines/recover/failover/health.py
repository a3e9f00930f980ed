"""Whether registries can serve: each is asked as a node asks it, and has only so long to answer.

A registry that is frozen takes connections and says nothing; to a node that is worse than one that is gone, and a look
must not wait as long as a node does. So every look has an end, whatever the registry does meanwhile.
"""

from __future__ import annotations

import math
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import TimeoutError as NotDone
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from registry_pipelines.dialing import Dialer, tls_context
from registry_pipelines.errors import NotFound, RateLimited, RegistryPipelinesError, TlsFailed, Unavailable
from registry_pipelines.oci.digest import Digest
from registry_pipelines.progress import count_text
from registry_pipelines.recover.failover.model import Health
from registry_pipelines.registry.client.proxies import proxy_for
from registry_pipelines.registry.protocol import Pinged, Registry
from registry_pipelines.threads import Pool

AT_ONCE = 8
"""Registries that are asked at once; each waits for its own."""


class _Asked(Registry, Pinged, Protocol):
    pass


@dataclass(frozen=True)
class Door:
    """How a registry is reached. host: ``host[:port]``. dial: where it is reached, when that is not its name.
    repository, digest: a known image it must have; empty for none."""

    name: str
    host: str
    open: Callable[[], _Asked]
    """A new client, whose connections are its own, and which repeats nothing."""
    plain_http: bool = False
    ca_file: Path | None = None
    dial: str = ""
    repository: str = ""
    digest: str = ""


@dataclass(frozen=True)
class State:
    """What the looks at a registry showed. problem: why it counts as down; empty while it can serve. seconds: of the
    last look. ends: of its certificate; None without TLS, or where a proxy stands between. warnings: what will be a
    problem."""

    name: str
    problem: str = ""
    seconds: float = 0.0
    looks: int = 1
    ends: datetime | None = None
    warnings: tuple[str, ...] = ()

    @property
    def up(self) -> bool:
        """Whether it can serve."""
        return not self.problem


def states(doors: Mapping[str, Door], health: Health) -> dict[str, State]:
    """Ask every registry at once, each until it answers or failed as often as ``health`` says. By name, in order."""
    with Pool(AT_ONCE, "health") as pool:
        return dict(zip(doors, pool.map(lambda door: _state(door, health), doors.values()), strict=True))


def _state(door: Door, health: Health) -> State:
    state = State(door.name)
    for number in range(1, health.failures + 1):
        if number > 1:
            time.sleep(health.pause.total_seconds())
        state = look(door, health, looks=number)
        if state.up:
            failed = f"{count_text(number - 1, 'look')} failed before it answered"
            warnings = (*state.warnings, *((failed,) if number > 1 else ()))
            return State(door.name, "", state.seconds, number, state.ends, warnings)
    return state


def look(door: Door, health: Health, *, looks: int = 1) -> State:
    """Ask once. It ends in time, also where the registry never answers: what hangs is left behind."""
    limit_s = health.timeout.total_seconds()
    started = time.monotonic()
    pool = Pool(1, "look")
    try:
        # Its steps may last longer than the look, so that a hang is told in one way.
        ends, problem, warnings = pool.submit(_ask, door, 2 * limit_s).result(timeout=limit_s)
    except NotDone:
        ends, problem, warnings = None, f"no answer within {health.timeout}", ()
    finally:
        pool.stop()
    warnings = (*warnings, *(_warnings(ends, health) if not problem else ()))
    return State(door.name, problem, time.monotonic() - started, looks, ends, warnings)


def _ask(door: Door, limit_s: float) -> tuple[datetime | None, str, tuple[str, ...]]:
    """When its certificate ends, why it cannot serve, and what else to know."""
    ends = None
    try:
        ends = certificate_end(door, limit_s)
        registry = door.open()
        registry.ping()
        if door.digest:
            registry.resolve(door.repository, Digest.parse(door.digest))
    except RateLimited as error:  # it answers, and a node that asks elsewhere now would find no better reason there
        return ends, "", (f"it gives us no more requests now ({error.what})",)
    except NotFound:
        return ends, f"it has no {door.repository}@{door.digest}, which it must have", ()
    except RegistryPipelinesError as error:
        return ends, error.what, ()
    return ends, "", ()


def _warnings(ends: datetime | None, health: Health) -> Iterator[str]:
    left = ends - datetime.now(UTC) if ends else None
    if left is not None and left < health.certificate:
        days = math.floor(left.total_seconds() / 86_400)
        yield f"its certificate ends in {count_text(days, 'day')}, on {ends:%Y-%m-%d}"


def certificate_end(door: Door, limit_s: float) -> datetime | None:
    """When the certificate that a registry shows is over; None without TLS, and through a proxy. Raises TlsFailed
    where it is not believed, Unavailable."""
    if door.plain_http:
        return None
    name, _ = _parts(door.host)
    host, port = _parts(door.dial or door.host)
    if proxy_for("https", host, port):
        return None
    shown = shown_certificate(door.dial or door.host, name, door.ca_file, limit_s)
    with suppress(KeyError, ValueError):
        return datetime.fromtimestamp(ssl.cert_time_to_seconds(str(shown["notAfter"])), UTC)
    return None


def shown_certificate(at: str, name: str, ca_file: Path | None, limit_s: float) -> Mapping[str, object]:
    """The certificate with which ``host[:port]`` answers for a name, as :meth:`ssl.SSLSocket.getpeercert` gives it.
    Raises TlsFailed where it is not believed or is another name's, Unavailable."""
    host, port = _parts(at)
    where = f"{host}:{port}"
    try:
        dialer = Dialer()
        context = tls_context(str(ca_file or ""))
        with dialer.connect(host, port, dialer.resolve(host, port), limit_s) as connected:
            connected.settimeout(limit_s)
            with context.wrap_socket(connected, server_hostname=name) as secured:
                return secured.getpeercert() or {}
    except ssl.SSLCertVerificationError as error:
        raise TlsFailed(f"its certificate is not believed for {name}: {error.verify_message}", where=where) from error
    except ssl.SSLError as error:
        raise TlsFailed(f"no TLS could be agreed on: {error.reason or error}", where=where) from error
    except TimeoutError as error:
        raise Unavailable("no answer in time", where=where) from error
    except OSError as error:
        raise Unavailable(f"no connection: {error.strerror or error}", where=where) from error


def _parts(host: str) -> tuple[str, int]:
    name, colon, port = host.rpartition(":")
    if colon and port.isdecimal():
        return name.strip("[]"), int(port)
    return ("registry-1.docker.io" if host == "docker.io" else host.strip("[]")), 443
