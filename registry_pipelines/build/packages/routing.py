"""From which index a project comes.

Installers ask all of their indexes and take the highest version, so a stranger who publishes the name of a private
project with a high version is installed ("dependency confusion"). Here a project comes from one index, whole:

1. from the one that names it (``names``; a name counts before a pattern, a longer pattern before a shorter one),
   whether that has it or not;
2. else from the first that has it, of those that may give it (``only``): private ones first, then public ones, each in
   the order of the configuration. One that does not answer ends the build: what it has is not known.
"""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Protocol, TypeVar

from packaging.utils import canonicalize_name

from registry_pipelines.build.packages.model import IndexRules
from registry_pipelines.errors import InputError


class Ruled(Protocol):
    """An index with its rules."""

    @property
    def name(self) -> str:
        """Its name in the configuration."""
        ...

    @property
    def rules(self) -> IndexRules:
        """What holds for it."""
        ...


_R = TypeVar("_R", bound=Ruled)


def normalised(pattern: str) -> str:
    """A name or pattern as names are compared (PEP 503): lower case, one ``-`` for each run of separators."""
    return str(canonicalize_name(pattern))


def matches(name: str, patterns: Sequence[str]) -> str:
    """The pattern that is most about a normalised name: itself, else the longest; empty without one."""
    found = [each for each in patterns if fnmatchcase(name, normalised(each))]
    return max(found, key=lambda each: (normalised(each) == name, len(each)), default="")


def asked_for(project: str, indexes: Sequence[_R]) -> tuple[list[_R], bool]:
    """The indexes that may give a project, in the order in which they are asked, and whether it is reserved: then it
    is one index, and no other counts, also where that has nothing. Raises InputError where two name it alike."""
    name = normalised(project)
    claims = [(index, pattern) for index in indexes if (pattern := matches(name, index.rules.names))]
    if claims:
        exact = [index for index, pattern in claims if normalised(pattern) == name]
        longest = max(len(pattern) for _, pattern in claims)
        best = exact or [index for index, pattern in claims if len(pattern) == longest]
        if len(best) > 1:
            raise InputError(
                f"{name} is named by {' and '.join(index.name for index in best)}, and comes from one index alone",
                where="packages",
                do="Take it out of `names` of all but one",
            )
        return best, True
    open_to = [index for index in indexes if not index.rules.only or matches(name, index.rules.only)]
    return sorted(open_to, key=lambda index: index.rules.public), False


__all__ = ["Ruled", "asked_for", "matches", "normalised"]
