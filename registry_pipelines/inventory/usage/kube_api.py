"""An API server of Kubernetes: lists, page by page (API concepts: "Retrieving large results sets in chunks"), single
objects, patches of them, and their end.

A continue token lives as long as etcd keeps the revision, five minutes by default; when it is gone (410) the list is
begun again, for a list that goes on at another revision may miss what moved between.
"""

from __future__ import annotations

import http.client
import json
import socket
import ssl
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import urlencode, urlsplit

from registry_pipelines.errors import (
    Forbidden,
    NotFound,
    RateLimited,
    RegistryError,
    TlsFailed,
    Unauthorized,
    Unavailable,
)
from registry_pipelines.inventory.usage.kube_access import KubeAccess
from registry_pipelines.redacting import redact_text
from registry_pipelines.registry.client.retries import Retries, read_retry_after

ANSWER_S = 60.0
"""For an answer to move on; API servers end a request after a minute."""
PAGE = 250
"""Objects in an answer: about 5 MB of large pods."""
MAX_ANSWER_BYTES = 256 * 1024 * 1024
MAX_PAGES = 100_000
BEGUN_AGAIN = 3
"""Times that a list whose token is gone is begun again."""
GONE = 410
PATCH_TYPE = "application/strategic-merge-patch+json"
"""Lists with a key are merged by it: a container by its name."""
_TYPES = {"PATCH": PATCH_TYPE, "DELETE": "application/json"}
_BY_STATUS: dict[int, type[RegistryError]] = {401: Unauthorized, 403: Forbidden, 404: NotFound}


class KubeApi:
    """One API server, over one connection that is kept; of one thread. renew: gives the access with new credentials,
    for work that lasts longer than a token; asked when the server takes these no longer."""

    def __init__(
        self, access: KubeAccess, *, retries: Retries | None = None, renew: Callable[[], KubeAccess] | None = None
    ) -> None:
        self._access, self._retries, self._renew = access, retries or Retries(), renew
        parts = urlsplit(access.server)
        self.host = parts.netloc
        self._path = parts.path.rstrip("/")
        self._address = (parts.hostname or "", parts.port or (443 if access.tls else 80))
        self._connection: http.client.HTTPConnection | None = None

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def items(self, path: str, **query: str) -> Iterator[dict[str, Any]]:
        """All objects of a list. query: as ``labelSelector``. Raises RegistryError: a list that cannot be read to its
        end is none. One that is begun again gives what it gave before once more."""
        for left in reversed(range(BEGUN_AGAIN)):
            try:
                yield from self._whole(path, query)
            except RegistryError as error:
                if error.status != GONE or not left:
                    raise
            else:
                return

    def _whole(self, path: str, asked: Mapping[str, str]) -> Iterator[dict[str, Any]]:
        token = ""
        for _ in range(MAX_PAGES):
            query = {"limit": str(PAGE), **asked, **({"continue": token} if token else {})}
            answer = self.get(f"{path}?{urlencode(query)}")
            listed = answer.get("items")
            if listed is not None and not isinstance(listed, list):
                raise RegistryError("the answer is no list", where=f"{self.host}{path}")
            yield from (each for each in listed or () if isinstance(each, dict))
            token = str((answer.get("metadata") or {}).get("continue") or "")
            if not token:
                return
        raise RegistryError(f"the list has no end: {MAX_PAGES} pages", where=f"{self.host}{path}")

    def get(self, path: str) -> dict[str, Any]:
        """One answer. Raises the RegistryError family; status 410 for a token that is gone."""
        return self._again("GET", path)

    def patch(self, path: str, patch: Mapping[str, Any]) -> dict[str, Any]:
        """Change an object by a strategic merge patch; it has a ``resourceVersion``, so that to send it again is safe.
        Raises as :meth:`get`; status 409 where somebody wrote meanwhile, or this did and the answer was lost."""
        return self._again("PATCH", path, json.dumps(patch).encode())

    def delete(self, path: str, uid: str) -> None:
        """Delete an object, where it is still the one with this ``uid``, so that to send it again is safe. Raises as
        :meth:`get`; status 409 where another one has its name by now."""
        options = {"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": {"uid": uid}}
        self._again("DELETE", path, json.dumps(options).encode())

    def _again(self, verb: str, path: str, body: bytes | None = None) -> dict[str, Any]:
        attempt, renewed = 1, False
        while True:
            try:
                return self._once(verb, path, body)
            except RegistryError as error:
                if isinstance(error, Unauthorized) and self._renew and not renewed:
                    self.close()
                    self._access, renewed = self._renew(), True
                    continue
                if not self._retries.wait(error, attempt):
                    raise
                attempt += 1

    def _once(self, verb: str, path: str, body: bytes | None) -> dict[str, Any]:
        where = f"{self.host}{path.partition('?')[0]}"
        try:
            connection = self._connected()
            headers = {**self._headers(), **({"Content-Type": _TYPES[verb]} if body else {})}
            connection.request(verb, f"{self._path}{path}", body, headers)
            answer = connection.getresponse()
            raw = answer.read(MAX_ANSWER_BYTES + 1)
        except (OSError, http.client.HTTPException) as error:
            self.close()
            if isinstance(error, ssl.SSLError):
                raise TlsFailed(f"TLS failed: {error.reason or type(error).__name__}", where=where) from error
            raise Unavailable(f"no answer: {type(error).__name__}", where=where) from error
        if len(raw) > MAX_ANSWER_BYTES:
            self.close()
            raise RegistryError(f"the answer is larger than {MAX_ANSWER_BYTES} bytes", where=where)
        if answer.status not in (200, 202):
            raise _refused(answer, raw, where)
        try:
            document = json.loads(raw)
        except (ValueError, RecursionError) as error:
            raise Unavailable("the answer is no JSON", where=where, status=200) from error
        if not isinstance(document, dict):
            raise RegistryError("the answer is no object", where=where)
        return document

    def _headers(self) -> dict[str, str]:
        own = {"Accept": "application/json", "User-Agent": "registry-pipelines"}
        return {**own, **({"Authorization": self._access.authorization} if self._access.authorization else {})}

    def _connected(self) -> http.client.HTTPConnection:
        if self._connection is None:
            host, port = self._address
            made = http.client.HTTPConnection(host, port, timeout=ANSWER_S)
            made.sock = socket.create_connection((host, port), timeout=ANSWER_S)
            if self._access.tls is not None:
                name = self._access.server_name or host
                made.sock = self._access.tls.wrap_socket(made.sock, server_hostname=name)
            self._connection = made
        return self._connection


def _refused(answer: http.client.HTTPResponse, raw: bytes, where: str) -> RegistryError:
    """The error of a Status (meta/v1), whose message says who may not do what."""
    said = redact_text(_message(raw))
    status = answer.status
    if status == 429:
        wait = read_retry_after(answer.headers.get("Retry-After"))
        return RateLimited("too many requests", where=where, retry_after_s=wait)
    if status >= 500:
        return Unavailable(f"HTTP {status}: {said}", where=where, status=status)
    do = {
        401: "Renew the credentials of the kubeconfig",
        403: "Let the account list these in all namespaces (docs/inventory.md has the ClusterRole)",
    }
    kind = _BY_STATUS.get(status, RegistryError)
    return kind(f"HTTP {status}: {said}", where=where, do=do.get(status, ""), status=status)


def _message(raw: bytes) -> str:
    try:
        return str(json.loads(raw)["message"])[:300]
    except (ValueError, LookupError, TypeError, RecursionError):
        return raw[:200].decode(errors="replace").strip().partition("\n")[0]


__all__ = ["KubeApi"]
