"""The one way Google's APIs are called: with our retries, our errors and our limits.

Google's libraries repeat by themselves, by tables that differ from method to method; here they never do, because two
that repeat multiply and hide throttling from the limits.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Iterator
from copy import copy
from typing import Any, TypeVar

from registry_pipelines.errors import RegistryError, RegistryPipelinesError, Stalled
from registry_pipelines.registry.client.exchange import Count
from registry_pipelines.registry.client.retries import Retries
from registry_pipelines.registry.gar.access import GoogleAccess
from registry_pipelines.registry.gar.failures import translate
from registry_pipelines.registry.permissions import action_of
from registry_pipelines.registry.protocol import Observer, Pace

ANSWER_S = 60.0
"""How long an answer may take; Google's own clients give lists and deletions this long, too."""
OPERATION_S = 600.0
"""How long a long-running operation is waited for, unless told: deleting a repository of many images takes minutes."""
FIRST_QUESTION_S = 0.2
LONGEST_QUESTION_S = 10.0
"""Seconds between two questions for an operation; they double."""

_C = TypeVar("_C")


class GoogleCalls:
    """Calls of Google's APIs with one access. Safe for many threads; nothing is asked before the first call.

    retries: ours. pace: keeps requests within what is permitted; who wants that asks ``transfer.limits.apis`` for one.
    observer: told of every failed attempt.
    """

    def __init__(
        self,
        access: GoogleAccess,
        *,
        retries: Retries | None = None,
        pace: Pace | None = None,
        observer: Observer | None = None,
    ) -> None:
        self.access = access
        self.retries = retries or Retries()
        self.sent = Count()
        """Requests, with repeated ones."""
        self._pace, self._observer = pace, observer

    def adjusted(
        self, *, retries: Retries | None = None, pace: Pace | None = None, observer: Observer | None = None
    ) -> GoogleCalls:
        """The same access and count for another use."""
        calls = copy(self)
        calls.retries, calls._pace = retries or self.retries, pace or self._pace
        calls._observer = observer or self._observer
        return calls

    def client(self, kind: type[_C]) -> _C:
        """A client of Google's. See GoogleAccess.client."""
        return self.access.client(kind)

    def call(
        self,
        method: Callable[..., Any],
        request: Any,
        *,
        where: str,
        doing: str,
        settled: Callable[[RegistryPipelinesError], bool] | None = None,
        answer_s: float = ANSWER_S,
        permission: str = "",
    ) -> Any:
        """One method of a client, tried again while its failure may pass.

        method: bound, as ``client.get_repository``; a list method gives its first page. request: message or mapping.
        settled: after the failure of an attempt that followed another, whether the first one did it all the same (then
        None is returned).
        permission: that it needs, for the error; derived from the method's name for Artifact Registry's.

        Raises the RegistryError family, ToolMissing.
        """
        service, operation = _named(method)
        needed = permission or (action_of("google", operation) if service == "artifactregistry" else "")
        attempt = 1
        while True:
            self.sent.add()
            try:
                with self._pace(service, operation) if self._pace else contextlib.nullcontext():
                    return self._once(method, request, answer_s, where=where, doing=doing, permission=needed)
            except RegistryPipelinesError as ours:
                if self._observer is not None:
                    self._observer(ours)
                if attempt > 1 and settled is not None and settled(ours):
                    return None
                if not self.retries.wait(ours, attempt):
                    raise
                attempt += 1

    def _once(
        self, method: Callable[..., Any], request: Any, answer_s: float, *, where: str, doing: str, permission: str
    ) -> Any:
        try:
            answer = method(request=request, retry=None, timeout=answer_s)
            return next(iter(answer.pages)) if hasattr(answer, "pages") else answer
        except Exception as error:
            # Not chained: requests quotes addresses with tokens, google-auth the token service's whole answer.
            raise translate(error, where=where, doing=doing, permission=permission) from None

    def pages(self, method: Callable[..., Any], request: Any, field: str, *, where: str, doing: str) -> Iterator[Any]:
        """Everything a list method gives, page by page; each page is tried again by itself, so that a long list
        survives a failure in its middle. request: a mapping. field: of the answer that holds the items."""
        asked = dict(request)
        while True:
            answer = self.call(method, asked, where=where, doing=doing)
            yield from getattr(answer, field)
            if not answer.next_page_token:
                return
            if answer.next_page_token == asked.get("page_token"):
                raise RegistryError(f"{doing}: a page names itself as the next one", where=where)
            asked["page_token"] = answer.next_page_token

    def finished(self, operation: Any, client: Any, *, where: str, doing: str, limit_s: float = OPERATION_S) -> Any:
        """Wait for a long-running operation. operation: what the call returned (google.api_core.operation). client:
        whose it is. Returns google.longrunning's Operation; its error is raised as a call's would be, Stalled after
        limit_s."""
        current, pause, began = operation.operation, FIRST_QUESTION_S, time.monotonic()
        while not current.done:
            if time.monotonic() - began > limit_s:
                raise Stalled(
                    f"{doing} has not ended after {limit_s:g} s",
                    where=where,
                    do=f"It goes on at Google: {current.name}",
                )
            self.retries.sleep(pause)
            pause = min(pause * 2, LONGEST_QUESTION_S)
            current = self.call(client.get_operation, {"name": current.name}, where=where, doing=doing)
        if current.HasField("error"):
            raise translate(_of_status(current.error), where=where, doing=doing)
        return current


def _of_status(status: Any) -> Exception:
    """google.rpc.Status as the exception that a call would have raised."""
    from google.api_core import exceptions
    from google.rpc.code_pb2 import Code

    error: Exception = exceptions.from_grpc_status(_grpc_code(Code.Name(status.code)), status.message)
    return error


def _grpc_code(name: str) -> Any:
    import grpc

    return grpc.StatusCode[name]


def _named(method: Callable[..., Any]) -> tuple[str, str]:
    """(service, operation) of a client's method: ``google.cloud.kms_v1.services...`` is ``kms``."""
    owner = type(getattr(method, "__self__", None)).__module__
    service = re.search(r"(\w+?)_v\d+", owner)
    return service[1] if service else owner, getattr(method, "__name__", "")


__all__ = ["ANSWER_S", "OPERATION_S", "GoogleCalls"]
