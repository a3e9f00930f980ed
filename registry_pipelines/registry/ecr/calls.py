"""The one place that calls AWS's APIs: our retries, our errors, lists in pages, batches with their partial failures.

Whoever asks ECR, SQS, Inspector or another service of AWS makes one :class:`AwsCalls` of an access and calls
operations by boto3's method names. boto3's own repetitions are off (``access``), because two that multiply hide
throttling from the limits. ``pace`` keeps calls within the account's budgets; who wants them kept asks
``transfer.limits.apis`` for one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import nullcontext
from copy import copy
from typing import Any

import msgspec

from registry_pipelines.errors import RegistryError, RegistryPipelinesError, ToolMissing
from registry_pipelines.registry.client.exchange import Count
from registry_pipelines.registry.client.retries import Retries
from registry_pipelines.registry.client.translate import not_answered
from registry_pipelines.registry.client.transport import Timeouts
from registry_pipelines.registry.ecr.access import AwsAccess
from registry_pipelines.registry.ecr.failures import is_read_timeout, raise_translated
from registry_pipelines.registry.protocol import Observer, Pace

Answer = Mapping[str, Any]
MAX_BATCH = 100
"""Identifiers in one call of ECR's batch operations (BatchGetImage, BatchDeleteImage, BatchCheckLayerAvailability)."""
MAX_PAGES = 100_000
"""A list with more pages than this has a token that leads in a circle: 100 million images."""


class Failure(msgspec.Struct, frozen=True):
    """What a batch operation did not do: for which identifier, AWS's code and reason."""

    asked: Mapping[str, str]
    code: str
    reason: str = ""

    @property
    def name(self) -> str:
        """The tag or digest."""
        return next((value for value in self.asked.values() if value), "")


class Batch(msgspec.Struct, frozen=True):
    """Answers of a batch operation, and its failures one by one: neither hides the other."""

    done: list[Any]
    failures: list[Failure]


class AwsCalls:
    """Calls of one access. Safe for many threads; nothing is asked before the first call.

    retries: ours, of every call. observer: told of every failed attempt. pace: see the module. ``sent`` counts
    requests, repeated ones too.
    """

    def __init__(
        self,
        access: AwsAccess,
        *,
        timeouts: Timeouts | None = None,
        retries: Retries | None = None,
        observer: Observer | None = None,
        pace: Pace | None = None,
    ) -> None:
        self.access = access
        self.timeouts, self.retries = timeouts or Timeouts(), retries or Retries()
        self.observer, self._pace = observer, pace
        self.sent = Count()

    def adjusted(self, retries: Retries, observer: Observer | None) -> AwsCalls:
        """The same for another use; clients, their log-in and counts are shared."""
        calls = copy(self)
        calls.retries, calls.observer = retries, observer
        return calls

    def client(self, service: str, *, where: str, region: str = "", answer_s: float = 0.0) -> Any:
        """A client of boto3 whose answers may take so long. Raises ToolMissing, InputError."""
        try:
            answer_s = answer_s or self.timeouts.stall_s
            return self.access.client(service, region=region, answer_s=answer_s, connect_s=self.timeouts.connect_s)
        except ToolMissing as error:
            raise ToolMissing(
                "boto3 is not installed; AWS's APIs need it",
                where=where,
                do="Install it: pip install 'registry-pipelines[aws]'; or give `username: AWS` and a password",
            ) from error
        except Exception as error:
            raise_translated(error, where=where, doing="preparing for AWS")

    def call(
        self,
        operation: str,
        *,
        where: str,
        doing: str = "",
        service: str = "ecr",
        region: str = "",
        settle: Callable[[], bool] | None = None,
        commit_s: float = 0.0,
        counted: bool = True,
        **values: Any,
    ) -> Answer:
        """One operation by boto3's method name, tried again while its failure may pass. values: its parameters.

        where, doing: for errors, as ``111122223333 in eu-west-1/app`` and ``opening an upload``. settle: after such a
        failure, whether it was done all the same; then the answer is empty. commit_s: how long the answer to all of an
        upload may take; it is not waited for twice. Raises the RegistryError family, InputError, ToolMissing; Forbidden
        names the action of IAM that is missing.
        """
        doing = doing or operation.replace("_", " ")
        client = self.client(service, where=where, region=region, answer_s=commit_s)
        attempt = 1
        while True:
            if counted:
                self.sent.add()
            try:
                return self._once(client, operation, values, (service, where, doing))
            except RegistryPipelinesError as error:
                self.tell(error)
                if error.temporary and settle is not None and settle():
                    return {}
                if commit_s and is_read_timeout(error.__cause__):
                    raise not_answered(commit_s, where=where) from error.__cause__
                if not self.retries.wait(error, attempt):
                    raise
                attempt += 1

    def _once(self, client: Any, operation: str, values: Mapping[str, Any], about: tuple[str, str, str]) -> Answer:
        """One attempt; the pace sees errors of ours, from which it learns."""
        service, where, doing = about
        with self._pace(service, operation) if self._pace else nullcontext():
            try:
                answer: Answer = getattr(client, operation)(**values)
                return answer
            except Exception as error:
                raise_translated(error, where=where, doing=doing, service=service)

    def tell(self, error: RegistryPipelinesError) -> None:
        """Tell the observer of a failed attempt."""
        if self.observer is not None:
            self.observer(error)

    def pages(self, operation: str, listed: str, *, where: str, token: str = "", **values: Any) -> Iterator[Any]:
        """All entries of a list, page by page. listed: the field of the answer that has them. token: the field that a
        page has for the next one, where it is not ``nextToken`` or ``NextToken``; asked for by the same name. Raises as
        :meth:`call`; RegistryError for a list without end."""
        following: dict[str, Any] = {}
        for _ in range(MAX_PAGES):
            answer = self.call(operation, where=where, **values, **following)
            yield from answer.get(listed) or ()
            name = token or next((one for one in ("nextToken", "NextToken") if answer.get(one)), "")
            if not name or not answer.get(name):
                return
            if answer[name] == following.get(name):  # taken for the end, what is missing would look as if it were gone
                raise RegistryError(f"{operation.replace('_', ' ')} leads to the same page again", where=where)
            following = {name: answer[name]}
        raise RegistryError(f"{operation.replace('_', ' ')} has no end: {MAX_PAGES} pages", where=where)

    def batch(
        self,
        operation: str,
        ids: Iterable[Mapping[str, str]],
        *,
        where: str,
        done: str,
        asked: str = "imageIds",
        size: int = MAX_BATCH,
        **values: Any,
    ) -> Batch:
        """A batch operation over any number of identifiers, ``size`` a call. done: the field of what was done. One that
        fails is a :class:`Failure` beside the others. Raises as :meth:`call` where a whole call fails."""
        good: list[Any] = []
        bad: list[Failure] = []
        wanted = [dict(one) for one in ids]
        for start in range(0, len(wanted), size):
            answer = self.call(operation, where=where, **{**values, asked: wanted[start : start + size]})
            good += answer.get(done) or ()
            bad += [_failure(one) for one in answer.get("failures") or ()]
        return Batch(good, bad)


def _failure(said: Mapping[str, Any]) -> Failure:
    asked = said.get("imageId") or {key: str(value) for key, value in said.items() if key not in _ABOUT_FAILURE}
    return Failure(dict(asked), str(said.get("failureCode") or ""), str(said.get("failureReason") or ""))


_ABOUT_FAILURE = ("failureCode", "failureReason")


__all__ = ["Answer", "AwsCalls", "Batch", "Failure", "Pace"]
