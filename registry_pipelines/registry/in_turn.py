"""Several places that have the same images under one name, asked one after the other, as container runtimes ask the
mirrors of a registry (containerd, ``docs/hosts.md``).

The first that answers counts. One that has not, or does not answer, or answers with something else than was asked, is
passed over, and one that could not be reached is not asked again for some seconds; where that is the last one, nobody
else is believed meanwhile that there is nothing. Nothing is written this way.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from registry_pipelines.errors import ContentError, NotFound, RegistryError, Unavailable, Unsupported
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor, ManifestBytes
from registry_pipelines.registry.protocol import BlobReader, Capabilities, Registry, Repeating
from registry_pipelines.registry.through_cache import ReadOnly

_T = TypeVar("_T")

DOWN_S = 10.0
"""For so long one that could not be reached is passed over, while there is another."""


@dataclass(frozen=True)
class Turn:
    """One of them. prefix: before the repositories there; empty for none. resolves: whether it is believed about tags;
    who is not may be old, and is asked by digest alone."""

    registry: Registry
    prefix: str = ""
    resolves: bool = True

    def there(self, repository: str) -> str:
        """The repository's name there."""
        return f"{self.prefix}/{repository}" if self.prefix else repository


class InTurn(ReadOnly):
    """A registry with the name that images have. turns: at least one; the last is mostly the registry itself. For many
    threads."""

    def __init__(self, name: str, turns: Sequence[Turn], *, clock: Callable[[], float] = time.monotonic) -> None:
        self.name = name
        self._turns, self._clock = tuple(turns), clock
        self._down: dict[int, tuple[float, Unavailable]] = {}
        """Until when each is passed over, and why."""
        self._lock = threading.Lock()

    def leaving_stalls(self) -> InTurn:
        """See Repeating."""
        turns = [
            Turn(turn.registry.leaving_stalls(), turn.prefix, turn.resolves)
            if isinstance(turn.registry, Repeating)
            else turn
            for turn in self._turns
        ]
        return InTurn(self.name, turns, clock=self._clock)

    def resolve(self, repository: str, reference: str) -> Descriptor:
        """See Registry."""
        return self._first(
            lambda turn: turn.registry.resolve(turn.there(repository), reference), tag=":" not in reference
        )

    def get_manifest(self, repository: str, reference: str) -> ManifestBytes:
        """See Registry."""
        return self._first(
            lambda turn: turn.registry.get_manifest(turn.there(repository), reference), tag=":" not in reference
        )

    def blob_size(self, repository: str, digest: Digest) -> int | None:
        """See Registry."""

        def size(turn: Turn) -> int:
            found = turn.registry.blob_size(turn.there(repository), digest)
            if found is None:
                raise NotFound("it does not have the blob", where=f"{turn.registry.name}/{turn.there(repository)}")
            return found

        try:
            return self._first(size)
        except NotFound:
            return None

    def open_blob(self, repository: str, digest: Digest, *, start: int = 0, stop: int | None = None) -> BlobReader:
        """See Registry."""
        return self._first(lambda turn: turn.registry.open_blob(turn.there(repository), digest, start=start, stop=stop))

    def tags(self, repository: str) -> Iterator[str]:
        """See Registry: of the first that is believed about tags."""
        yield from self._first(lambda turn: list(turn.registry.tags(turn.there(repository))), tag=True)

    def referrers(
        self, repository: str, digest: Digest, *, artifact_type: str = "", tags: Container[str] | None = None
    ) -> list[Descriptor]:
        """See Registry: what any of them lists, for many mirrors bring none. Raises the last one's error where that,
        which is the registry itself, does not answer, and no other lists any."""
        found: dict[Digest, Descriptor] = {}
        turns, passed = self._order(tag=False)
        failed: RegistryError | None = None
        for number, turn in turns:
            failed = None
            try:
                listed = turn.registry.referrers(turn.there(repository), digest, artifact_type=artifact_type, tags=tags)
            except (NotFound, Unsupported):
                continue
            except RegistryError as error:
                self._note(number, error)
                failed = error
                continue
            found = {**{each.digest: each for each in listed}, **found}
        if (why := passed or failed) and not found:
            raise why
        return list(found.values())

    @property
    def requests_sent(self) -> int:
        """See CountsRequests: to all."""
        return sum(int(getattr(turn.registry, "requests_sent", 0)) for turn in self._turns)

    def capabilities(self, repository: str) -> Capabilities:
        """See Registry: those of the first."""
        return self._turns[0].registry.capabilities(self._turns[0].there(repository))

    def repositories(self) -> Iterator[str]:
        """See Registry: the last one's."""
        return self._turns[-1].registry.repositories()

    def refusal(self, repository: str) -> Unsupported:
        """See ReadOnly."""
        return Unsupported(
            "it is read through the mirrors that this node's runtime asks, and nothing is written that way",
            where=f"{self.name}/{repository}",
        )

    def _first(self, ask: Callable[[Turn], _T], *, tag: bool = False) -> _T:
        """The first answer. Raises the last one's error: what the registry itself says is what people look into."""
        turns, passed = self._order(tag=tag)
        failed: RegistryError | ContentError | None = None
        for number, turn in turns:
            try:
                return ask(turn)
            except (RegistryError, ContentError) as error:
                self._note(number, error)
                failed = error
        raise (
            passed
            or failed
            or NotFound("none of the places that this node asks is believed about tags", where=self.name)
        )

    def _order(self, *, tag: bool) -> tuple[list[tuple[int, Turn]], Unavailable | None]:
        """Those to ask, those that could not be reached a moment ago only where all of them were; and why the last one
        is not among them."""
        turns = [(number, turn) for number, turn in enumerate(self._turns) if turn.resolves or not tag]
        now = self._clock()
        with self._lock:
            down = {number: error for number, (until, error) in self._down.items() if until > now}
        up = [pair for pair in turns if pair[0] not in down]
        return (up, down.get(turns[-1][0])) if up else (turns, None)

    def _note(self, number: int, error: Exception) -> None:
        if isinstance(error, Unavailable):
            with self._lock:
                self._down[number] = self._clock() + DOWN_S, error


__all__ = ["InTurn", "Turn"]
