"""How registries are read into an inventory: one reader for each kind, and what all of them do alike.

A repository that cannot be read stands in the source's ``unread``, and what its list told before it broke off stays in
the table: whoever decides by an inventory asks ``complete`` first. A registry that does not answer gives a source
without images. Neither is ever taken for a registry that holds nothing.
"""

from __future__ import annotations

import fnmatch
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import islice
from typing import Protocol

from registry_pipelines.errors import ContentError, RegistryPipelinesError, Unsupported
from registry_pipelines.inventory.parts import RepositoryFacts
from registry_pipelines.inventory.rows import Row, Rows
from registry_pipelines.inventory.value import Inventory, Source, Unread, now
from registry_pipelines.progress import Progress, Silent, count_text
from registry_pipelines.registry.set_aside import is_quarantine, is_set_aside
from registry_pipelines.threads import Pool

THREADS = 6
"""Repositories read at once. One list call of 1,000 images takes a cloud half a second, most of it waiting."""
ROWS_AT_ONCE = 1000
EVERYTHING = "the list of repositories"
_GLOB_CHARACTERS = frozenset("*?[")


class Reader(Protocol):
    """A registry that can be read. kind: as the configuration says it. notes: what it does not tell of images."""

    kind: str
    notes: Sequence[str]

    @property
    def facts(self) -> Mapping[str, RepositoryFacts]:
        """Of repositories that were read, for the second file."""
        ...

    def repositories(self) -> Iterator[str]:
        """All repositories. Raises Unsupported where they are not listed, RegistryError."""
        ...

    def images(self, repository: str) -> Iterator[Row]:
        """Every manifest of a repository. Raises RegistryError, ContentError."""
        ...

    def calls(self) -> int:
        """Requests since the reader was made."""
        ...


def read_registry(
    name: str,
    reader: Reader,
    *,
    repositories: Iterable[str] = (),
    set_aside: bool = False,
    progress: Progress | None = None,
) -> Inventory:
    """Read a registry. name: of the configuration. repositories: patterns of names; all unless told, and names without
    wildcards are asked for also where the registry lists none. set_aside: with what retention set aside, and records.
    Raises nothing of the registry's: see ``sources``."""
    return _Reading(name, reader, list(repositories), set_aside, progress or Silent()).inventory()


class _Reading:
    def __init__(self, name: str, reader: Reader, patterns: Sequence[str], set_aside: bool, progress: Progress) -> None:
        self._set_aside = set_aside
        self._name, self._reader, self._patterns, self._progress = name, reader, patterns, progress
        self._rows, self._lock = Rows(), threading.Lock()
        self._unread: list[Unread] = []
        self._aside = 0

    def inventory(self) -> Inventory:
        task = f"inventory of {self._name}"
        self._progress.begin(task)
        names = self._names()
        with Pool(THREADS, "inventory") as pool:
            list(pool.map(self._repository, names))
        self._unread.sort(key=lambda one: one.what)
        source = Source(
            registry=self._name,
            kind=self._reader.kind,
            answered=now(),
            images=self._rows.count,
            repositories=len(names),
            calls=self._reader.calls(),
            complete=not self._unread,
            unread=tuple(self._unread),
            notes=(*self._reader.notes, *self._left_out()),
        )
        self._progress.end(task, note="read" if source.complete else "not whole")
        self._rows.facts.update(self._reader.facts)
        return self._rows.inventory([source], ordered=False)

    def _names(self) -> list[str]:
        named = [one for one in self._patterns if not _GLOB_CHARACTERS.intersection(one)]
        if self._patterns and len(named) == len(self._patterns):
            return sorted(set(named))
        try:
            listed = [one for one in self._reader.repositories() if self._wanted(one)]
            if self._set_aside:
                return sorted(listed)
            self._aside = sum(is_quarantine(one) for one in listed)
            return sorted(one for one in listed if not is_set_aside(one))
        except Unsupported as error:
            self._fail(EVERYTHING, error, hint="; name repositories in full")
        except RegistryPipelinesError as error:
            self._fail(EVERYTHING, error)
        return sorted(set(named))

    def _left_out(self) -> list[str]:
        """What retention set aside is no image that anybody judges; by its whole name a repository is read all the
        same."""
        count = count_text(self._aside, "repository", "repositories")
        return [f"{count} of what retention set aside are left out (`collect quarantined`)"] if self._aside else []

    def _wanted(self, repository: str) -> bool:
        return not self._patterns or any(fnmatch.fnmatchcase(repository, one) for one in self._patterns)

    def _repository(self, repository: str) -> None:
        try:
            rows = self._reader.images(repository)
            while taken := list(islice(rows, ROWS_AT_ONCE)):
                with self._lock:
                    for row in taken:
                        self._rows.add(row)
        except RegistryPipelinesError as error:
            self._fail(repository, error)

    def _fail(self, what: str, error: RegistryPipelinesError, *, hint: str = "") -> None:
        kind = "" if isinstance(error, ContentError) else f"{type(error).__name__}: "
        with self._lock:
            self._unread.append(Unread(what, f"{kind}{error.what}{hint}"))


def made_row(registry: str, repository: str, answered: datetime) -> Callable[..., Row]:
    """A row of one answer; what is empty text is not known."""

    def made(digest: str, **fields: object) -> Row:
        known = {name: value for name, value in fields.items() if value != ""}
        return Row(registry, repository, digest, answered, **known)  # type: ignore[arg-type]

    return made
