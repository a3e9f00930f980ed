"""Calls to Google for the settings of one project and location: through its clients, and by REST where it has none."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar
from urllib.parse import urlsplit

from registry_pipelines.errors import RegistryPipelinesError, Stalled
from registry_pipelines.registry.client.origins import is_loopback
from registry_pipelines.registry.client.retries import NEVER
from registry_pipelines.registry.gar.calls import ANSWER_S, OPERATION_S, GoogleCalls
from registry_pipelines.registry.gar.failures import translate
from registry_pipelines.threads import Pool

THREADS = 8
PAGE = 1000
"""Entries of a page, the most that Artifact Registry gives."""

Json = dict[str, Any]
_T = TypeVar("_T")
_R = TypeVar("_R")


class Asking:
    """The APIs of one project and location. Safe for many threads."""

    def __init__(self, calls: GoogleCalls, *, project: str, location: str) -> None:
        self.project, self.location = project, location
        self._calls = calls

    @property
    def parent(self) -> str:
        """Where repositories are."""
        return f"projects/{self.project}/locations/{self.location}"

    def once(self) -> Asking:
        """The same, with nothing tried again: for what has to be read anew before it is sent anew."""
        return Asking(self._calls.adjusted(retries=NEVER), project=self.project, location=self.location)

    def again(self, act: Callable[[], object]) -> None:
        """``act``, which reads and sets, anew while its failure may pass, as where somebody else set it in between."""
        attempt = 1
        while True:
            try:
                act()
                return
            except RegistryPipelinesError as error:
                if not self._calls.retries.wait(error, attempt):
                    raise
                attempt += 1

    def client(self, kind: type[_T]) -> _T:
        """A client of one of Google's libraries. Raises ToolMissing, Unauthorized."""
        return self._calls.client(kind)

    def ask(
        self,
        doing: str,
        method: Callable[..., Any],
        request: Any,
        *,
        where: str,
        permission: str = "",
    ) -> Any:
        """One method of a client. permission: as docs/iam.md names it, for another service than Artifact Registry.
        Raises the RegistryError family, ToolMissing."""
        return self._calls.call(method, request, where=where, doing=doing, permission=permission)

    def pages(self, doing: str, method: Callable[..., Any], request: Json, field: str) -> Iterator[Any]:
        """Everything that a list has. field: of its answers that holds the entries. Raises as :meth:`ask`."""
        return self._calls.pages(method, request, field, where=str(request["parent"]), doing=doing)

    def finished(self, doing: str, operation: Any, client: Any, *, where: str) -> None:
        """Wait for what Google does by itself. Raises as :meth:`ask`; Stalled when it takes too long."""
        self._calls.finished(operation, client, where=where, doing=doing)

    def rest(
        self, verb: str, host: str, path: str, *, doing: str, where: str, permission: str, body: Json | None = None
    ) -> Json:
        """One call of an API that has no client here. host: as ``cloudresourcemanager``. Raises as :meth:`ask`."""
        url = f"{self._calls.access.endpoint or f'https://{host}.googleapis.com'}{path}"
        attempt = 1
        while True:
            self._calls.sent.add()
            try:
                return self._send(verb, url, body, doing=doing, where=where, permission=permission)
            except RegistryPipelinesError as error:
                if not self._calls.retries.wait(error, attempt):
                    raise
                attempt += 1

    def _send(self, verb: str, url: str, body: Json | None, *, doing: str, where: str, permission: str) -> Json:
        credentials: Any
        if is_loopback(urlsplit(url).hostname or ""):
            from google.auth.credentials import AnonymousCredentials

            credentials = AnonymousCredentials()
        else:
            credentials = self._calls.access.credentials
        from google.api_core.exceptions import from_http_response
        from google.auth.transport.requests import AuthorizedSession

        try:
            with AuthorizedSession(credentials) as session:
                answer = session.request(verb, url, json=body, timeout=ANSWER_S)
                if answer.status_code >= 400:
                    raise from_http_response(answer)
                found: Json = answer.json()
                return found
        except Exception as error:  # not chained: requests quotes addresses, google-auth the token service's answer
            raise translate(error, where=where, doing=doing, permission=permission) from None

    def wait_rest(self, host: str, operation: Mapping[str, Any], *, doing: str, where: str) -> None:
        """Ask again for an operation of such an API until it is done. Raises as :meth:`finished`."""
        until, pause_s = time.monotonic() + OPERATION_S, 0.2
        while not operation.get("done"):
            if time.monotonic() > until:
                raise Stalled(f"{doing}: Google is still at it after {OPERATION_S:g} s", where=where)
            self._calls.retries.sleep(pause_s)
            pause_s = min(5.0, pause_s * 2)
            path = f"/v1/{operation['name']}"
            operation = self.rest("GET", host, path, doing=doing, where=where, permission="")
        if error := operation.get("error"):
            from google.api_core.exceptions import from_grpc_status

            raise translate(
                from_grpc_status(error.get("code", 2), str(error.get("message", ""))), where=where, doing=doing
            )

    def each(self, things: Iterable[_T], act: Callable[[_T], _R]) -> list[_R | RegistryPipelinesError]:
        """``act`` for each, several at once, in their order; an error of ours stands in the place of its answer."""

        def tried(thing: _T) -> _R | RegistryPipelinesError:
            try:
                return act(thing)
            except RegistryPipelinesError as error:
                return error

        with Pool(THREADS, "infra") as pool:
            return list(pool.map(tried, things))
