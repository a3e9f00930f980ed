"""One key counts once: where two must say the same thing, two keys must have said it.

``qa and security`` asks for two persons. Where one key counts as both (by mistake, or because a person is in both
teams), what it says is one word, not two.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping
from typing import TypeVar

_K = TypeVar("_K", bound=Hashable)


def without_own_key(said: Mapping[_K, Collection[str]]) -> _K | None:
    """The first of those who said something whom no key is left for, when every key counts for one of them alone and
    is given to whoever has no other. said: by each the ids of the keys that count as it. None: each has one of its own.

    Kuhn's way of matching: bounded by the product of names and keys, which both are few.
    """
    taken: dict[str, _K] = {}

    def give(name: _K, tried: set[str]) -> bool:
        for key in sorted(said[name]):
            if key in tried:
                continue
            tried.add(key)
            if key not in taken or give(taken[key], tried):
                taken[key] = name
                return True
        return False

    return next((name for name in said if not give(name, set())), None)


__all__ = ["without_own_key"]
