"""Connections to hosts with several addresses (RFC 8305), and what TLS trusts. Standard library only: the courier's
process, which has no packages, makes its connections here too.
"""

from __future__ import annotations

import base64
import contextlib
import itertools
import os
import select
import socket
import ssl
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from registry_pipelines.pem import Block, read_blocks

ATTEMPT_S = 0.25
"""The next address is tried beside those under way after this long (RFC 8305 section 5, Connection Attempt Delay)."""

MAX_CA_BYTES = 16 * 1024 * 1024
"""Of a file of certificates; the whole of what browsers trust has 0.2 MiB."""

MAX_REMEMBERED_HOSTS = 1024
"""Hosts whose working address is remembered; object stores have one host name a bucket."""


class Address(NamedTuple):
    """Where to connect to. family: of ``socket``. where: the family's address tuple."""

    family: int
    where: tuple[Any, ...]

    @property
    def host(self) -> str:
        """The address without port and zone."""
        return str(self.where[0]).partition("%")[0]

    def __str__(self) -> str:
        return f"[{self.where[0]}]:{self.where[1]}" if ":" in str(self.where[0]) else f"{self.where[0]}:{self.where[1]}"


class NoneAnswered(OSError):
    """None of several addresses took a connection. tried: each with its reason."""

    def __init__(self, tried: Sequence[tuple[Address, OSError]]) -> None:
        self.tried = list(tried)
        super().__init__("none of several addresses answered")

    @property
    def reason(self) -> OSError:
        """The one that stands for all: a time-out where there is one, for it may pass."""
        return next((error for _, error in self.tried if isinstance(error, TimeoutError)), self.tried[0][1])

    def __str__(self) -> str:
        return "tried " + ", ".join(f"{address} ({_word(error)})" for address, error in self.tried)


def _word(error: OSError) -> str:
    return "no answer" if isinstance(error, TimeoutError) else error.strerror or type(error).__name__


class Dialer:
    """Opens connections, and remembers which of a host's addresses worked. Safe for many threads."""

    def __init__(self) -> None:
        self._worked: dict[tuple[str, int], tuple[Any, ...]] = {}

    def resolve(self, host: str, port: int) -> list[Address]:
        """A host's addresses in the order to try them: what worked last, then the families in turn. Raises OSError."""
        addresses = list(dict.fromkeys(Address(f, w) for f, _, _, _, w in socket.getaddrinfo(host, port, 0, _STREAM)))
        if len(addresses) < 2:
            return addresses
        first = [one for one in addresses if one.family == addresses[0].family]
        others = [one for one in addresses if one.family != addresses[0].family]
        turns = itertools.chain.from_iterable(itertools.zip_longest(first, others))
        worked = self._worked.get((host, port))
        return sorted((one for one in turns if one), key=lambda one: one.where != worked)

    def connect(self, host: str, port: int, addresses: Sequence[Address], timeout_s: float) -> socket.socket:
        """A connection to the first address that takes one, within ``timeout_s`` for all together.

        Raises OSError: of several addresses NoneAnswered, which names them.
        """
        if len(addresses) == 1:
            return _connect_one(addresses[0], timeout_s)
        connection = _race(addresses, timeout_s)
        while len(self._worked) >= MAX_REMEMBERED_HOSTS:
            with contextlib.suppress(KeyError, StopIteration, RuntimeError):
                self._worked.pop(next(iter(self._worked)))
        with contextlib.suppress(OSError):  # it ended at once, which its first use tells
            self._worked[host, port] = connection.getpeername()
        return connection


_STREAM = socket.SOCK_STREAM


def _connect_one(address: Address, timeout_s: float) -> socket.socket:
    connection = socket.socket(address.family, _STREAM)
    try:
        connection.settimeout(timeout_s)
        connection.connect(address.where)
    except BaseException:
        connection.close()
        raise
    return _ready(connection, timeout_s)


def _ready(connection: socket.socket, timeout_s: float) -> socket.socket:
    connection.settimeout(timeout_s)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def _race(addresses: Sequence[Address], timeout_s: float) -> socket.socket:
    """Begin one after the other, the next after ATTEMPT_S or a failure; whoever is connected first wins."""
    started = time.monotonic()
    waiting = list(addresses)
    running: dict[int, tuple[socket.socket, Address]] = {}
    failed: list[tuple[Address, OSError]] = []
    poll = select.poll()
    next_at = started
    try:
        while waiting or running:
            now = time.monotonic()
            if now - started >= timeout_s:
                late = [*(address for _, address in running.values()), *waiting]
                raise NoneAnswered([*failed, *((address, TimeoutError("no answer")) for address in late)])
            if waiting and (now >= next_at or not running):
                next_at = now + ATTEMPT_S
                _begin(waiting.pop(0), running, failed, poll)
                continue
            until = min(started + timeout_s, next_at) if waiting else started + timeout_s
            for number, _ in poll.poll(max(1.0, (until - now) * 1000)):
                poll.unregister(number)
                connection, address = running.pop(number)
                status = connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if not status:
                    return _ready(connection, timeout_s)
                connection.close()
                failed.append((address, OSError(status, os.strerror(status))))
                next_at = now
        raise NoneAnswered(failed)
    finally:
        for left, _ in running.values():
            left.close()


def _begin(
    address: Address,
    running: dict[int, tuple[socket.socket, Address]],
    failed: list[tuple[Address, OSError]],
    poll: select.poll,
) -> None:
    try:
        begun = socket.socket(address.family, _STREAM)
    except OSError as error:  # no IPv6 on this machine
        failed.append((address, error))
        return
    try:
        begun.setblocking(False)
        begun.connect(address.where)
    except BlockingIOError:
        pass
    except OSError as error:
        begun.close()
        failed.append((address, error))
        return
    running[begun.fileno()] = (begun, address)
    poll.register(begun, select.POLLOUT)


def tls_context(ca_file: str = "") -> ssl.SSLContext:
    """What connections to registries trust: the system's certificates, and those of ca_file (PEM or DER). Raises
    OSError with the line of the first certificate that cannot be read: what OpenSSL makes of a bundle says neither
    which, nor that it passed over a block whose mark is not right.

    The same on every Python: from 3.13 on ``create_default_context`` refuses certificates without the extensions that
    RFC 5280 asks of authorities, which company CAs lack and which curl and the Go tools take.
    """
    context = ssl.create_default_context()
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    context.set_alpn_protocols(["http/1.1"])
    if ca_file:
        for place, block in _certificates(ca_file):
            try:
                _load(context, block)
            except (ssl.SSLError, ValueError) as error:
                raise OSError(f"{place} is not readable") from error
    return context


def authorities_pem(ca_file: str) -> bytes:
    """The certificates of a file that a :func:`tls_context` is made with, for programs that read PEM alone, as those
    in Go. Those that are trusted for some uses only are left out, for nothing carries that along. Raises OSError."""
    blocks = (block for _, block in _certificates(ca_file) if block.label != "TRUSTED CERTIFICATE")
    return "".join(ssl.DER_cert_to_PEM_cert(block.content) for block in blocks).encode()


def _load(context: ssl.SSLContext, block: Block) -> None:
    """Behind the certificate a TRUSTED CERTIFICATE says what it is not trusted for (``x509 -addreject``; distributions
    list distrusted authorities so). Only a file carries that into OpenSSL."""
    if block.label != "TRUSTED CERTIFICATE":
        context.load_verify_locations(cadata=block.content)
        return
    import tempfile  # brings shutil, bz2 and lzma, and almost no file of authorities distrusts

    with tempfile.NamedTemporaryFile("wb") as file:
        lines = base64.encodebytes(block.content)
        file.write(b"-----BEGIN TRUSTED CERTIFICATE-----\n" + lines + b"-----END TRUSTED CERTIFICATE-----\n")
        file.flush()
        context.load_verify_locations(cafile=file.name)


def _certificates(ca_file: str) -> list[tuple[str, Block]]:
    """Every certificate of a file, with its place in words. Raises OSError. Keys and revocation lists beside them are
    passed over, as OpenSSL does."""
    with Path(ca_file).open("rb") as file:
        raw = file.read(MAX_CA_BYTES + 1)
    if len(raw) > MAX_CA_BYTES:
        raise OSError(f"it has more than {MAX_CA_BYTES} bytes")
    if raw.startswith(b"\x30"):
        return [("the certificate", Block("CERTIFICATE", raw, 1))]
    try:
        blocks = read_blocks(raw)
    except ValueError as error:
        raise OSError(str(error)) from error
    certificates = [
        block for block in blocks if block.label in ("CERTIFICATE", "X509 CERTIFICATE", "TRUSTED CERTIFICATE")
    ]
    if not certificates:
        there = f"only {', '.join(sorted({block.label for block in blocks}))}" if blocks else "no PEM block"
        raise OSError(f"it has no certificate, {there}")
    return [
        (f"certificate {number} of {len(certificates)}, in line {block.line},", block)
        for number, block in enumerate(certificates, 1)
    ]
