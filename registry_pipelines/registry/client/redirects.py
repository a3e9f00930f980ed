"""Where a registry may send us: redirects, and every other address of another host that it names.

RFC 9110 section 15.4 and distribution-spec main (pull request 607, 2026-04): any request may be redirected, and
``Authorization`` never goes to another host. A public registry that names an address of our own network would make us
its hand there (a token service of a cloud, a machine's metadata), so that is refused; judged is the address that is
connected to, before a byte is sent, so no name that changes its address passes.
"""

from __future__ import annotations

import ipaddress
import re
import urllib.parse
from collections.abc import Callable, Sequence

import msgspec

from registry_pipelines.dialing import Address
from registry_pipelines.errors import InputError, RedirectRefused, RegistryError
from registry_pipelines.registry.client.networks import Network, is_in, kind_of
from registry_pipelines.registry.client.origins import Origin, split_url
from registry_pipelines.registry.client.response import Response

MAX_REDIRECTS = 5
"""Registries redirect once, to an object store; two are seen behind a CDN."""

REDIRECTS = frozenset({301, 302, 303, 307, 308})

READING = frozenset({"GET", "HEAD"})

_HOST = re.compile(r"(\*\.)?[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?(:[0-9]{1,5})?\Z")
_BRACKETED = re.compile(r"\[([0-9A-Fa-f:.]+)\](:[0-9]{1,5})?\Z")


class Allowed(msgspec.Struct, frozen=True):
    """One entry of ``redirects.allow``: hosts by name, or addresses by network. port: 0 for any."""

    host: str = ""
    port: int = 0
    network: Network | None = None

    @classmethod
    def parse(cls, text: str) -> Allowed:
        """Read ``host``, ``host:port``, ``*.domain``, an address or a network like ``10.1.0.0/16``. Raises
        InputError."""
        wrong = InputError(
            f"{text[:100]!r} is no place to be redirected to",
            do="Write host, host:port, *.domain, an address, or a network like 10.1.0.0/16",
        )
        bracketed = _BRACKETED.match(text)
        bare, port = (bracketed[1], bracketed[2] or "") if bracketed else (text, "")
        if "/" in text or ":" in bare.partition(":")[2] or _is_v4(bare.partition(":")[0]):
            host, colon, number = bare.partition(":") if _is_v4(bare.partition(":")[0]) else (bare, "", "")
            try:
                return cls(port=_port(port[1:] or (number if colon else "0")), network=ipaddress.ip_network(host))
            except ValueError:
                raise wrong from None
        if not _HOST.match(bare):
            raise wrong
        host, _, number = bare.lower().partition(":")
        try:
            return cls(host.rstrip("."), _port(number or "0"))
        except ValueError:
            raise wrong from None

    def fits(self, origin: Origin, address: str) -> bool:
        """Whether it names this place."""
        if self.port not in (0, origin.port):
            return False
        if self.network is not None:
            return is_in(address, self.network)
        name = origin.host.lower().rstrip(".")
        return name.endswith(self.host[1:]) if self.host.startswith("*.") else name == self.host


def _is_v4(text: str) -> bool:
    return bool(re.match(r"[0-9.]+(/[0-9]+)?\Z", text))


def _port(text: str) -> int:
    number = int(text)
    if not 0 <= number <= 65535:
        raise ValueError(text)
    return number


class Guard(msgspec.Struct, frozen=True):
    """Judges the addresses of a place that a registry named. outside: whether a public address named it, or one that
    nobody knows because a proxy stands between. named_by: that address. doing, where: for errors."""

    origin: Origin
    outside: bool
    named_by: str
    doing: str
    where: str
    allow: Sequence[Allowed] = ()

    def choose(self, addresses: list[Address]) -> list[Address]:
        """Those that may be connected to. Raises RedirectRefused when there is none."""
        good = [address for address in addresses if not self._against(address.host)]
        if not good and addresses:
            self.check(addresses[0].host)
        return good

    def check(self, address: str) -> None:
        """Raise RedirectRefused for an address that may not be asked."""
        why = self._against(address)
        if why:
            place = str(self.origin) if address == self.origin.host else f"{self.origin} ({address})"
            raise RedirectRefused(
                f"{self.doing}: the registry sent us to {place}, {why}",
                where=self.where,
                do=f"If it should, write `redirects: {{allow: [{self.origin.host}]}}` for this registry",
            )

    def _against(self, address: str) -> str:
        """Why an address is refused; empty when it is not."""
        kind = kind_of(address)
        if kind == "public" or (kind == "inner" and not self.outside) or address == self.named_by:
            return ""
        if any(one.fits(self.origin, address) for one in self.allow):
            return ""
        if kind == "metadata":
            return "which is a link-local address or a cloud's metadata service"
        return "which is in an inner network, and the registry is not"


class Redirects:
    """Where one registry may send us. address_of: the address that answers for an origin (empty behind a proxy); asked
    when the registry has named another host and nobody knows yet who the registry is."""

    def __init__(self, origin: Origin, address_of: Callable[[Origin, str], str], allow: Sequence[str] = ()) -> None:
        self.origin = origin
        self.allow = tuple(Allowed.parse(text) for text in allow)
        self._address_of = address_of

    def guard(self, url: str, *, doing: str, where: str) -> Guard | None:
        """For an address that the registry named some time ago; None for the registry itself."""
        origin = split_url(url, where=where)[0]
        if origin == self.origin:
            return None
        named_by = self._address_of(self.origin, where)
        return Guard(origin, kind_of(named_by) == "public" or not named_by, named_by, doing, where, self.allow)


class Trail(msgspec.Struct):
    """One request's way over redirects: counted, without circles, never from TLS to plain HTTP."""

    redirects: Redirects
    doing: str
    where: str
    _seen: set[str] = msgspec.field(default_factory=set)
    _outside: bool = False

    def follow(self, method: str, response: Response) -> tuple[str, Guard]:
        """Where the request goes on, and what judges the addresses there; reads nothing and closes nothing.

        Raises RedirectRefused; RegistryError for what is no address.
        """
        from registry_pipelines.redacting import redact_url

        target = resolve_location(response, where=self.where)
        shown = redact_url(target)
        if method not in READING and response.status not in (307, 308):
            raise self._refused(
                f"was answered with HTTP {response.status} and another address ({shown}): only 307 and 308 keep a "
                f"{method} what it is",
                "Write the host it names as the registry's host",
                response.status,
            )
        before, after = split_url(response.url, where=self.where)[0], split_url(target, where=self.where)[0]
        if before.scheme == "https" and after.scheme == "http":
            raise self._refused(f"was redirected from TLS to plain HTTP ({shown})", "", response.status)
        self._seen.add(response.url)
        if target in self._seen:
            raise self._refused(f"was redirected in a circle, back to {shown}", "", response.status)
        if len(self._seen) > MAX_REDIRECTS:
            raise self._refused(f"was redirected more than {MAX_REDIRECTS} times", "", response.status)
        self._outside = self._outside or not response.peer or kind_of(response.peer) == "public"
        allow = self.redirects.allow
        return target, Guard(after, self._outside, response.peer, self.doing, self.where, allow)

    def _refused(self, what: str, do: str, status: int) -> RedirectRefused:
        do = do or "Tell whoever runs the registry"
        return RedirectRefused(f"{self.doing} {what}", where=self.where, do=do, status=status)


def resolve_location(response: Response, *, where: str) -> str:
    """The ``Location`` as an absolute URL, otherwise verbatim (distribution-spec 1.1 permits relative ones)."""
    location = response.header("Location")
    if not location:
        raise RegistryError(f"the answer (HTTP {response.status}) has no Location", where=where)
    try:
        return urllib.parse.urljoin(response.url, location)
    except ValueError as error:
        raise RegistryError("the Location is not a URL", where=where) from error


__all__ = ["READING", "REDIRECTS", "Allowed", "Guard", "Redirects", "Trail", "resolve_location"]
