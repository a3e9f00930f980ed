"""A transport with what one host alone is asked with: certificates, headers, a query. Redirects and token services are
asked as by any other."""

from __future__ import annotations

import ssl
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from registry_pipelines.dialing import tls_context
from registry_pipelines.errors import ConfigInvalid
from registry_pipelines.registry.client.connection import Request
from registry_pipelines.registry.client.origins import Origin, split_url
from registry_pipelines.registry.client.response import Response
from registry_pipelines.registry.client.transport import Timeouts, Transport


class OwnTransport(Transport):
    """See the module, and Transport."""

    def __init__(
        self,
        own: Origin,
        *,
        ca_files: Sequence[Path] = (),
        client: Sequence[tuple[Path, Path]] = (),
        verify: bool = True,
        headers: Mapping[str, str] | None = None,
        query: str = "",
        timeouts: Timeouts | None = None,
    ) -> None:
        """own: the host. ca_files: PEM certificates that are trusted beside the system's; those of token services and
        redirects may be of them, too. client: certificate and key, PEM, of the first that can be used. verify: whether
        the host must prove who it is. headers: sent to it alone, and never shown. query: put behind each address there.

        Raises ConfigInvalid for files that cannot be read, all of them.
        """
        super().__init__(timeouts=timeouts)
        self._own, self._headers, self._query = own, dict(headers or {}), query
        self._tls = _context(ca_files)
        self._at_home = Transport(timeouts=timeouts)
        self._at_home._tls = _context(ca_files, client, verify=verify) if client or not verify else self._tls

    def send(self, request: Request) -> Response:
        """See Transport."""
        origin, _ = split_url(request.url, where=request.where)
        if origin != self._own:
            return super().send(request)
        joined = "&" if "?" in request.url else "?"
        url = f"{request.url}{joined}{self._query}" if self._query else request.url
        theirs = {name.lower() for name in request.headers}
        headers = {name: value for name, value in self._headers.items() if name.lower() not in theirs}
        self._at_home.receive_bytes = self.receive_bytes
        return self._at_home.send(replace(request, url=url, headers={**request.headers, **headers}))

    def address_of(self, origin: Origin, where: str) -> str:
        """See Transport."""
        return self._at_home.address_of(origin, where) if origin == self._own else super().address_of(origin, where)

    def close(self) -> None:
        """See Transport."""
        self._at_home.close()
        super().close()


def _context(
    ca_files: Sequence[Path], client: Sequence[tuple[Path, Path]] = (), *, verify: bool = True
) -> ssl.SSLContext:
    wrong: list[str] = []
    context = tls_context()
    for path in ca_files:
        try:
            context.load_verify_locations(cafile=path)
        except OSError as error:  # SSLError is one
            wrong.append(f"the certificates {path} cannot be read: {error.strerror or error}")
    for certificate, key in client:
        try:
            context.load_cert_chain(certificate, key, lambda: "")
        except OSError as error:
            wrong.append(f"{certificate} with the key {key} cannot be read: {error.strerror or error}")
    if wrong:
        raise ConfigInvalid(wrong)
    if not verify:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


__all__ = ["OwnTransport"]
