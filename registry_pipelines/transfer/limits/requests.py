"""How many requests a copy cost each registry: they are what registries limit and clouds bill."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, runtime_checkable

from registry_pipelines.registry.protocol import Registry


@runtime_checkable
class CountsRequests(Protocol):
    """Rare ability: knows how many requests it sent, with repeated and redirected ones, without those for tokens."""

    @property
    def requests_sent(self) -> int:
        """Since it was made."""
        ...


class Requests:
    """Counts from now on. Whatever else uses the same registry objects meanwhile is counted, too."""

    def __init__(self, registries: Iterable[Registry]) -> None:
        self._counted = {id(each): (each.name, each) for each in registries if isinstance(each, CountsRequests)}
        self._before = {key: each.requests_sent for key, (_, each) in self._counted.items()}

    def so_far(self) -> dict[str, int]:
        """Requests by registry name; a registry that was not asked at all is left out."""
        sent: dict[str, int] = {}
        for key, (name, each) in self._counted.items():
            sent[name] = sent.get(name, 0) + each.requests_sent - self._before[key]
        return {name: count for name, count in sent.items() if count}
