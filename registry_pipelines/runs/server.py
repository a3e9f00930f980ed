"""A webserver of Dagster, or the proxy before it, asked over GraphQL."""

from __future__ import annotations

import base64
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from registry_pipelines.errors import Forbidden, InputError, RegistryError, Unauthorized, Unavailable
from registry_pipelines.settings import Secret

LOOPBACK = ("127.0.0.1", "::1", "localhost")
MAX_ANSWER = 64 << 20
"""Bytes of an answer; the partitions of a job with 100,000 keys take 7 MB."""
TIMEOUT_S = 60
MAX_WORDS = 300
"""Letters of what a server says about an error."""

_NONE = Secret("")


class Server:
    """Where Dagster is asked.

    url: of the webserver, with the path that a proxy gave it. token: sent as bearer token. user, password: for a proxy
    that wants those. ca_file: certificates that vouch for it beside the system's. Raises InputError for an address that
    is none, and for a secret that would go without TLS to another machine.
    """

    def __init__(
        self,
        url: str,
        *,
        token: Secret = _NONE,
        user: str = "",
        password: Secret = _NONE,
        ca_file: Path | None = None,
    ) -> None:
        self.url = url.rstrip("/")
        try:
            place = urlsplit(self.url)
            self._host, _ = place.hostname or "", place.port
        except ValueError as error:
            raise InputError(
                "the address of Dagster is none", do="Write https://HOST or http://127.0.0.1:3000"
            ) from error
        if place.scheme not in ("http", "https") or not self._host or place.username or place.query or place.fragment:
            raise InputError(
                "the address of Dagster is none", do="Write https://HOST or http://127.0.0.1:3000, without a password"
            )
        if token and password:
            raise InputError("there is a token and a password", do="Give one of them")
        if (token or password) and place.scheme == "http" and self._host not in LOOPBACK:
            raise InputError("the token would be sent without TLS", where=self._host, do="Use https://")
        self._headers = {"Content-Type": "application/json", "User-Agent": "registry-pipelines"}
        if any(not " " < letter <= "\xff" for letter in token.reveal()):
            raise InputError("the token has letters that cannot be sent, as a new line at its end", do="Set it anew")
        if token:
            self._headers["Authorization"] = f"Bearer {token.reveal()}"
        elif password:
            pair = base64.b64encode(f"{user}:{password.reveal()}".encode()).decode()
            self._headers["Authorization"] = f"Basic {pair}"
        try:
            self._context = ssl.create_default_context()
            if ca_file is not None:
                self._context.load_verify_locations(ca_file)
        except (OSError, ssl.SSLError) as error:
            raise InputError("the certificates cannot be read", where=str(ca_file)) from error

    def ask(self, query: str, **variables: Any) -> dict[str, Any]:
        """The answer to a query, or what a mutation did. Raises Unauthorized, Forbidden, Unavailable, RegistryError."""
        try:
            body = msgspec.json.encode({"query": query, "variables": variables})
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise InputError(f"what is asked for cannot be sent, for JSON does not have it: {error}") from error
        code, answer = self._post(body)
        if code == 401:
            raise Unauthorized("Dagster, or the proxy before it, wants another token", where=self._host, do=_TOKEN)
        if code == 403:
            raise Forbidden("Dagster, or the proxy before it, does not permit that", where=self._host)
        if code in (429, 502, 503, 504):
            raise Unavailable(f"Dagster does not answer now ({code})", where=self._host)
        if code >= 500:
            raise Unavailable(
                f"Dagster failed ({code})",
                where=self._host,
                do="The output of its webserver says why: often its database is away",
            )
        try:
            found = msgspec.json.decode(answer)
        except msgspec.DecodeError as error:
            what = (
                "a page to log in at" if 300 <= code < 400 or b"<html" in answer[:2000].lower() else f"no JSON ({code})"
            )
            raise RegistryError(f"what answers there is no Dagster: {what}", where=self._host, do=_TOKEN) from error
        if isinstance(found, dict) and isinstance(found.get("data"), dict) and not found.get("errors"):
            data: dict[str, Any] = found["data"]
            return data
        errors = found.get("errors") if isinstance(found, dict) else None
        first = errors[0] if isinstance(errors, list) and errors else {}
        said = words(first.get("message") if isinstance(first, dict) else "")
        raise RegistryError(f"Dagster does not understand the question: {said}", where=self._host)

    def _post(self, body: bytes) -> tuple[int, bytes]:
        from http.client import HTTPException
        from urllib.error import HTTPError
        from urllib.request import HTTPRedirectHandler, HTTPSHandler, ProxyHandler, Request, build_opener

        class NoRedirect(HTTPRedirectHandler):
            """A token is for this address alone."""

            def redirect_request(self, *_: object) -> None:
                return None

        request = Request(f"{self.url}/graphql", body, self._headers, method="POST")
        try:
            # What goes to this machine goes to no proxy of the environment, which would read the token.
            direct = [ProxyHandler({})] if self._host in LOOPBACK else []
            opener = build_opener(NoRedirect, HTTPSHandler(context=self._context), *direct)
            with opener.open(request, timeout=TIMEOUT_S) as answer:
                return int(answer.status), answer.read(MAX_ANSWER)
        except HTTPError as error:
            with error:
                return error.code, error.read(MAX_WORDS)
        except UnicodeError as error:  # a name that no name server can be asked for
            raise InputError("the address of Dagster is none", where=self.url, do=_ADDRESS) from error
        except (OSError, HTTPException, ValueError) as error:
            reason = getattr(error, "reason", None)
            cause = reason if isinstance(reason, OSError) else error
            why = cause.strerror if isinstance(cause, OSError) and cause.strerror else type(cause).__name__
            raise Unavailable(f"Dagster cannot be reached: {why}", where=self.url, do=_ADDRESS) from error


_ADDRESS = "Start its webserver, or say by --server or REGISTRY_PIPELINES_DAGSTER where it is"
_TOKEN = "Set REGISTRY_PIPELINES_DAGSTER_TOKEN, or ..._USER and ..._PASSWORD, to what the proxy takes"  # noqa: S105


def words(text: object) -> str:
    """What a server says, as one line of a limited length."""
    return " ".join(str(text or "").split())[:MAX_WORDS]


def refused(answer: Mapping[str, Any]) -> RegistryError | InputError:
    """The error for a part of an answer that is not what was asked for."""
    kind, said = str(answer.get("__typename")), words(answer.get("message"))
    if kind == "UnauthorizedError":
        return Forbidden("this webserver only reads", do="Ask the one that people launch with")
    if kind == "RunConfigValidationInvalid":
        errors = [words(each.get("message")) for each in answer.get("errors") or [] if isinstance(each, dict)]
        return InputError(f"the run's config is not what the job takes: {'; '.join(errors[:3])}")
    if kind in ("RunNotFoundError", "PipelineNotFoundError"):
        return InputError(f"there is none: {said}")
    return RegistryError(f"Dagster did not do it: {kind}: {said}")


__all__ = ["Server", "refused", "words"]
