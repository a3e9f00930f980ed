"""Which attestors a trust policy names, and whether it wants all of them or one of some: ``a and (b or c)``."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from itertools import combinations, islice, product

import msgspec

from registry_pipelines.settings import NAME, Pattern

ATTESTORS = Pattern(
    r"^[a-zA-Z0-9_() -]{1,1000}$",
    "a choice of attestors",
    "write names with and, or and parentheses: build-system and (qa or security)",
)

MAX_NAMES = 64
"""Attestors that one policy names."""
MAX_DEPTH = 8
"""Parentheses within parentheses."""

MAX_CHOICES = 1_000
"""Ways to fulfil an expression that are looked at."""

_WORD = re.compile(r"\s*([()]|[^\s()]+)")
_NAME = re.compile(NAME.expression)


class Named(msgspec.Struct, frozen=True):
    """One attestor."""

    name: str

    def __str__(self) -> str:
        return self.name


class AllOf(msgspec.Struct, frozen=True):
    """Every one of them, at least two."""

    parts: tuple[Expression, ...]

    def __str__(self) -> str:
        return " and ".join(f"({each})" if isinstance(each, AnyOf) else str(each) for each in self.parts)


class AnyOf(msgspec.Struct, frozen=True):
    """One of them, at least two."""

    parts: tuple[Expression, ...]

    def __str__(self) -> str:
        return " or ".join(map(str, self.parts))


Expression = Named | AllOf | AnyOf


def read_expression(text: str) -> Expression:
    """Read names with ``and``, ``or`` (which binds less) and parentheses. Raises ValueError, a sentence for people."""
    reader = _Reader([match[1] for match in _WORD.finditer(text)])
    expression = reader.any_of(0)
    if reader.left:
        raise ValueError(f"{reader.left[0][:60]!r} is one word too many; write `and` or `or` between names")
    if len(names_in(expression)) > MAX_NAMES:
        raise ValueError(f"it names more than {MAX_NAMES} attestors")
    return expression


def names_in(expression: Expression) -> tuple[str, ...]:
    """Every attestor that is named, each once."""
    return tuple(dict.fromkeys(_names(expression)))


def asked_together(expression: Expression) -> frozenset[tuple[str, str]]:
    """Each two attestors that an ``and`` stands between, somewhere: both may be wanted for one release."""
    if isinstance(expression, Named):
        return frozenset()
    found = frozenset[tuple[str, str]]().union(*map(asked_together, expression.parts))
    if isinstance(expression, AnyOf):
        return found
    between = {
        (one, other)
        for first, second in combinations(expression.parts, 2)
        for one in names_in(first)
        for other in names_in(second)
        if one != other
    }
    return found | between


def choices(expression: Expression, given: Collection[str]) -> Iterator[frozenset[str]]:
    """The names of ``given`` that fulfil an expression together, in each way; at most MAX_CHOICES of them.

    The other names are taken as fulfilled, but where something stands beside them that is in ``given``: which of both
    counted nobody says here, so the one that is looked at is taken.
    """
    return islice(_choices(expression, given), MAX_CHOICES)


def _choices(expression: Expression, given: Collection[str]) -> Iterator[frozenset[str]]:
    if isinstance(expression, Named):
        yield frozenset({expression.name} & set(given))
    elif isinstance(expression, AllOf):
        for parts in product(*(tuple(choices(part, given)) for part in expression.parts)):
            yield frozenset[str]().union(*parts)
    else:
        found = [each for part in expression.parts for each in choices(part, given)]
        yield from [each for each in found if each] or found[:1]


def _names(expression: Expression) -> Iterator[str]:
    if isinstance(expression, Named):
        yield expression.name
    else:
        for part in expression.parts:
            yield from _names(part)


class _Reader:
    """The words of an expression, read from the left."""

    def __init__(self, words: list[str]) -> None:
        self.left = words

    def any_of(self, depth: int) -> Expression:
        parts = [self._all_of(depth)]
        while self._next("or"):
            parts.append(self._all_of(depth))
        return parts[0] if len(parts) == 1 else AnyOf(tuple(parts))

    def _all_of(self, depth: int) -> Expression:
        parts = [self._one(depth)]
        while self._next("and"):
            parts.append(self._one(depth))
        return parts[0] if len(parts) == 1 else AllOf(tuple(parts))

    def _one(self, depth: int) -> Expression:
        if self._next("("):
            if depth >= MAX_DEPTH:
                raise ValueError(f"it has more than {MAX_DEPTH} parentheses within each other")
            inner = self.any_of(depth + 1)
            if not self._next(")"):
                raise ValueError("a parenthesis is not closed")
            return inner
        word = self.left.pop(0) if self.left else ""
        if not _NAME.match(word) or word in ("and", "or"):
            raise ValueError(f"the name of an attestor is wanted, and there is {word[:60]!r}")
        return Named(word)

    def _next(self, word: str) -> bool:
        if self.left and self.left[0].lower() == word:
            del self.left[0]
            return True
        return False
