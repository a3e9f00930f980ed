"""Calls to AWS for the settings of one registry: one at a time or several at once, in pages, each counted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Protocol, TypeVar

from registry_pipelines.errors import RegistryPipelinesError
from registry_pipelines.registry.client.retries import Retries
from registry_pipelines.registry.ecr.failures import raise_translated, translate
from registry_pipelines.threads import Pool

THREADS = 8
"""Calls at once. ECR's settings have no published rate above about 10 a second and operation for writes; throttling is
answered by waiting."""

Answer = Mapping[str, Any]
_T = TypeVar("_T")
_R = TypeVar("_R")


class Access(Protocol):
    """What gives clients of boto3: :class:`registry_pipelines.registry.ecr.access.AwsAccess`."""

    def client(self, service: str, *, region: str = "") -> Any:
        """A client that tries once."""
        ...


class Asking:
    """The APIs of one account and region. Safe for many threads."""

    def __init__(self, access: Access, *, account: str, region: str, retries: Retries | None = None) -> None:
        self.account, self.region = account, region
        self._access, self._retries = access, retries or Retries()

    def ask(self, operation: str, *, service: str = "ecr", region: str = "", **values: Any) -> Answer:
        """One operation by boto3's method name, tried again while its failure may pass. ECR's get the registry's id
        where they take one. Raises the RegistryError family, InputError, ToolMissing."""
        where = f"{service} of {self.account} in {region or self.region}"
        doing = operation.replace("_", " ")
        try:
            client = self._access.client(service, region=region)
        except Exception as error:
            raise_translated(error, where=where, doing="preparing for AWS")
        attempt = 1
        while True:
            try:
                answer: Answer = getattr(client, operation)(**values)
                return answer
            except Exception as error:
                ours = translate(error, where=where, doing=doing)
                if not self._retries.wait(ours, attempt):
                    raise_translated(error, where=where, doing=doing)
                attempt += 1

    def pages(self, operation: str, listed: str, **values: Any) -> Iterator[Any]:
        """All entries of a list, page by page. listed: the field that has them. Raises as :meth:`ask`."""
        token: dict[str, str] = {}
        while True:
            answer = self.ask(operation, **values, **token)
            yield from answer.get(listed, ())
            following = answer.get("nextToken") or answer.get("NextToken")
            if not following:
                return
            token = {"nextToken" if "nextToken" in answer else "NextToken": following}

    def each(self, things: Iterable[_T], act: Callable[[_T], _R]) -> list[_R | RegistryPipelinesError]:
        """``act`` for each, several at once, in their order; an error of ours stands in the place of its answer."""

        def tried(thing: _T) -> _R | RegistryPipelinesError:
            try:
                return act(thing)
            except RegistryPipelinesError as error:
                return error

        with Pool(THREADS, "infra") as pool:
            return list(pool.map(tried, things))
