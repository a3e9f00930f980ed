"""One HTTP request, as a stranger or as somebody would send it; redirects are answers, not followed."""

from __future__ import annotations

import http.client
import json
import ssl
import urllib.parse
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from registry_pipelines.errors import InputError, TlsFailed, Unavailable

TIMEOUT_S = 10.0
MAX_BYTES = 4 * 1024 * 1024


class Answer(NamedTuple):
    """Status, headers by their lower-case names, and the first MAX_BYTES."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """The body; None where it is no JSON."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None


class Site(NamedTuple):
    """Where to ask: ``https://HOST[:PORT][/PATH]``. ca: PEM certificates to trust beside the system's."""

    url: str
    ca: Path | None = None

    @property
    def parts(self) -> urllib.parse.SplitResult:
        """Raises InputError for what is no http or https address."""
        try:
            parts = urllib.parse.urlsplit(self.url)
            _ = parts.port
        except ValueError:
            parts = urllib.parse.SplitResult("", "", "", "", "")
        if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
            raise InputError("an address that cannot be read", do="Write https://HOST or https://HOST:PORT")
        return parts

    @property
    def tls(self) -> bool:
        """Whether it is asked in TLS."""
        return self.parts.scheme == "https"

    def ask(
        self,
        path: str,
        *,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> Answer:
        """Raises TlsFailed, Unavailable; InputError for what cannot be sent, and certificates that cannot be read."""
        parts = self.parts
        connection = self._connection(timeout_s)
        try:
            try:
                connection.request(method, parts.path.rstrip("/") + path, body, dict(headers or {}))
            except ssl.SSLError:
                raise
            except (ValueError, http.client.InvalidURL) as error:  # Python's words may have the header's content
                raise InputError(
                    "the address, or a header, has letters that cannot be sent", where=parts.netloc, do="Write it anew"
                ) from error
            response = connection.getresponse()
            found = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, found, response.read(MAX_BYTES))
        except ssl.SSLError as error:
            raise TlsFailed(f"TLS fails: {error.reason or error}", where=parts.netloc) from error
        except (OSError, http.client.HTTPException) as error:
            raise Unavailable(f"no answer: {error or type(error).__name__}", where=parts.netloc) from error
        finally:
            connection.close()

    def _connection(self, timeout_s: float) -> http.client.HTTPConnection:
        parts = self.parts
        host = parts.hostname or ""
        try:
            if parts.scheme != "https":
                return http.client.HTTPConnection(host, parts.port, timeout=timeout_s)
            context = ssl.create_default_context()
            if self.ca is not None:
                context.load_verify_locations(self.ca)
            return http.client.HTTPSConnection(host, parts.port, timeout=timeout_s, context=context)
        except http.client.InvalidURL as error:
            raise InputError("an address that cannot be read", do="Write https://HOST or https://HOST:PORT") from error
        except OSError as error:
            raise InputError("the certificates cannot be read", where=str(self.ca), do="Name a file of PEM") from error

    def graphql(self, query: str, headers: Mapping[str, str] | None = None) -> Answer:
        """A question to Dagster's webserver. Raises as :meth:`ask`."""
        said = {"Content-Type": "application/json", **(headers or {})}
        return self.ask("/graphql", method="POST", headers=said, body=json.dumps({"query": query}).encode())


__all__ = ["Answer", "Site"]
