"""Google's REST APIs, without their clients (Vertex AI's alone is 100 MB): google-auth signs, we read JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from registry_pipelines.errors import Forbidden, NotFound, RateLimited, RegistryError, Unauthorized, Unavailable
from registry_pipelines.registry.client.origins import is_loopback
from registry_pipelines.registry.client.retries import Retries
from registry_pipelines.registry.gar.access import LOG_IN, GoogleAccess

ANSWER_S = 60.0
PAGE = 100
MAX_PAGES = 10_000
_BY_STATUS: dict[int, type[RegistryError]] = {401: Unauthorized, 403: Forbidden, 404: NotFound}


class GoogleRest:
    """One API. service: ``run.googleapis.com``; an ``endpoint`` of the access takes its place."""

    def __init__(self, access: GoogleAccess, service: str, *, retries: Retries | None = None) -> None:
        self._access, self._retries = access, retries or Retries()
        self._base = access.endpoint.rstrip("/") or f"https://{service}"
        self._made: Any = None

    def get(self, path: str, **query: str) -> dict[str, Any]:
        """One resource. Raises the RegistryError family."""
        return self._again("GET", path, query)

    def patch(self, path: str, body: Mapping[str, Any], **query: str) -> dict[str, Any]:
        """Change a resource; its ``etag`` is in it, so that to send it again is safe. Raises as :meth:`get`; status 409
        where somebody wrote meanwhile, or this did and the answer was lost."""
        return self._again("PATCH", path, query, body)

    def post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """A question that is asked by a document, and may be asked again. Raises as :meth:`get`."""
        return self._again("POST", path, {}, body)

    def token(self) -> str:
        """An access token, for what takes one beside this API; a new one where the last one ends soon. Raises
        Unauthorized."""
        from google.auth.exceptions import GoogleAuthError
        from google.auth.transport.requests import Request

        credentials = self._access.credentials
        try:
            if not credentials.valid:
                credentials.refresh(Request())
        except GoogleAuthError as error:
            raise _no_token(error, urlsplit(self._base).netloc) from None
        return str(credentials.token)

    def _again(
        self, verb: str, path: str, query: Mapping[str, str], body: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        attempt = 1
        while True:
            try:
                return self._once(verb, path, query, body)
            except RegistryError as error:
                if not self._retries.wait(error, attempt):
                    raise
                attempt += 1

    def pages(self, path: str, listed: str, **query: str) -> Iterator[dict[str, Any]]:
        """All entries of a list. Raises the RegistryError family."""
        token: dict[str, str] = {}
        for _ in range(MAX_PAGES):
            answer = self.get(path, pageSize=str(PAGE), **query, **token)
            if answer.get("unreachable"):
                missing = ", ".join(map(str, answer["unreachable"]))[:200]
                raise Unavailable(f"the list is not whole: {missing} did not answer", where=f"{self._base}{path}")
            yield from answer.get(listed, ())
            if not answer.get("nextPageToken"):
                return
            token = {"pageToken": answer["nextPageToken"]}
        raise RegistryError(f"{path} has no end: {MAX_PAGES} pages", where=self._base)

    def _once(self, verb: str, path: str, query: Mapping[str, str], body: Mapping[str, Any] | None) -> dict[str, Any]:
        where = f"{urlsplit(self._base).netloc}{path}"
        session = self._session()
        import requests
        from google.auth.exceptions import GoogleAuthError

        try:
            answer = session.request(verb, f"{self._base}{path}", params=query, json=body, timeout=ANSWER_S)
        except GoogleAuthError as error:
            raise _no_token(error, where) from None
        except requests.RequestException as error:
            raise Unavailable(f"no answer: {type(error).__name__}", where=where) from None
        if answer.status_code != 200:
            raise _refused(answer.status_code, answer.text, where)
        try:
            document = answer.json()
        except ValueError as error:
            raise Unavailable("the answer is no JSON", where=where, status=200) from error
        if not isinstance(document, dict):
            raise RegistryError("the answer is no object", where=where)
        return document

    def _session(self) -> Any:
        if self._made is None:
            parts = urlsplit(self._base)
            plain = parts.scheme == "http" and is_loopback(parts.hostname or "")
            own = None if plain else self._access.credentials
            from google.auth.credentials import AnonymousCredentials
            from google.auth.transport.requests import AuthorizedSession

            self._made = AuthorizedSession(own or AnonymousCredentials(), max_refresh_attempts=1)
        return self._made


def _no_token(error: Exception, where: str) -> Unauthorized:
    return Unauthorized(f"Google gave no token: {type(error).__name__}", where=where, do=LOG_IN)


def _refused(status: int, text: str, where: str) -> RegistryError:
    said = text.strip().partition("\n")[0][:200] if text.lstrip().startswith("<") else _message(text)
    if status == 429:
        return RateLimited("too many requests", where=where)
    if status >= 500:
        return Unavailable(f"HTTP {status}: {said}", where=where, status=status)
    kind = _BY_STATUS.get(status, RegistryError)
    do = LOG_IN if kind is Unauthorized else "Give the caller the role that may list these" if kind is Forbidden else ""
    return kind(f"HTTP {status}: {said}", where=where, do=do, status=status)


def _message(text: str) -> str:
    import json

    try:
        return str(json.loads(text)["error"]["message"])[:300]
    except (ValueError, KeyError, TypeError):
        return text[:200]
