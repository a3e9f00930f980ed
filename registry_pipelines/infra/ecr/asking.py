"""Calls to AWS for the settings of one registry: one at a time or several at once, in pages."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from registry_pipelines.errors import RegistryPipelinesError
from registry_pipelines.registry.ecr.calls import Answer, AwsCalls
from registry_pipelines.threads import Pool

THREADS = 8
"""Calls at once; nothing is published of the rates of settings, so the pace of ``calls`` learns them."""

_T = TypeVar("_T")
_R = TypeVar("_R")


class Asking:
    """The APIs of one account and region. Safe for many threads."""

    def __init__(self, calls: AwsCalls, *, account: str, region: str) -> None:
        self.account, self.region = account, region
        self._calls = calls

    def _where(self, values: dict[str, Any]) -> str:
        name = values.get("repositoryName", "")
        return f"{self.account} in {values.get('region') or self.region}{f'/{name}' if name else ''}"

    def ask(self, operation: str, **values: Any) -> Answer:
        """One operation by boto3's method name, tried again while its failure may pass. service, region: ECR here
        unless told. Raises the RegistryError family, InputError, ToolMissing."""
        return self._calls.call(operation, where=self._where(values), **values)

    def pages(self, operation: str, listed: str, **values: Any) -> Iterator[Any]:
        """All entries of a list, page by page. listed: the field that has them. Raises as :meth:`ask`."""
        return self._calls.pages(operation, listed, where=self._where(values), **values)

    def each(self, things: Iterable[_T], act: Callable[[_T], _R]) -> list[_R | RegistryPipelinesError]:
        """``act`` for each, several at once, in their order; an error of ours stands in the place of its answer."""

        def tried(thing: _T) -> _R | RegistryPipelinesError:
            try:
                return act(thing)
            except RegistryPipelinesError as error:
                return error

        with Pool(THREADS, "infra") as pool:
            return list(pool.map(tried, things))
