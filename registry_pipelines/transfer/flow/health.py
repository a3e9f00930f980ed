"""How the registries of a run stand: one in trouble is tried by one act at a time, what stays in trouble is given up.

Without this each blob would find out by itself that a registry is down, with a patience of its own: a sync of hundreds
of blobs would wait for hours. Trouble without an answer (nothing listens, a stall, a broken connection) is the whole
registry's; errors that it answers (5xx) are those of one kind of act, so a registry whose disk is full is not thought
well because it still answers questions. A 429 is neither: who says "slow down" is well.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Literal, TypeVar

import msgspec
from msgspec.structs import replace

from registry_pipelines.errors import RateLimited, RegistryError, RegistryPipelinesError, Unavailable
from registry_pipelines.registry.protocol import Place, Repeating
from registry_pipelines.transfer.flow.patience import Elsewhere, Patience

Kind = Literal["read", "content", "mount", "manifest", "read-back"]
"""What is done at a registry; kinds may fail one without the other."""

ATTEMPT_S = 75.0
"""An attempt that says nothing for so long is over, and the next in line may try: the client's stall time-out (60 s),
and time for an answer. An attempt under which bytes move says so, and ends the trouble."""

REVIVE_S = 60.0
"""A registry that was given up is tried again by one act this often: one that is back after a restart gets what comes
then. More often would hold up the end of a run whose registry is gone: an attempt that hangs takes a minute."""

LOCAL = "this machine"
"""Where errors are that no registry is to blame for."""

_ALL = ""

_T = TypeVar("_T")


class _Trouble(msgspec.Struct):
    """error: the first one. next_try: when one act may try, in seconds of the clock."""

    error: RegistryPipelinesError
    patience: Patience
    since: float
    next_try: float = 0.0
    given_up: bool = False


class Health:
    """What all acts of a run know of their registries. Safe for many threads.

    patience: makes a fresh one. aside: what a long wait is put into, see
    :meth:`~registry_pipelines.transfer.flow.schedule.Schedule.aside`. revive_s: see REVIVE_S.
    """

    def __init__(
        self,
        patience: Callable[[], Patience],
        *,
        aside: Callable[[], AbstractContextManager[object]] = nullcontext,
        revive_s: float = REVIVE_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._patience, self._aside, self._revive_s, self._clock = patience, aside, revive_s, clock
        self._change = threading.Condition()
        self._troubles: dict[tuple[str, str], _Trouble] = {}

    def ready(self, place: Place, kind: Kind) -> bool:
        """Whether it may be asked without waiting in line."""
        return not self._troubles or self._find(place.registry.name, kind) is None

    def worked(self, place: Place, kind: Kind) -> None:
        """Bytes moved, or an act was done."""
        if self._troubles:
            self._clear((place.registry.name, _ALL), (place.registry.name, kind))

    def persist(
        self,
        place: Place,
        kind: Kind,
        act: Callable[[], _T],
        *,
        patience: Patience | None = None,
        failed: RegistryPipelinesError | None = None,
    ) -> _T:
        """Do an act, and again while it may pass. patience: the act's own; failed: how it ended a first time already.

        Raises its error once that will not pass or the patience ended, and Unavailable at once for a registry that was
        given up.
        """
        patience = patience or self._patience()
        not_before = began = 0.0
        while True:
            if failed is not None:
                not_before = self.failed(place, kind, failed, patience, began)
            began = self.admit(place, kind, not_before, failed, patience)
            try:
                result = act()
            except RegistryPipelinesError as error:
                failed = error
            except BaseException:
                self._pass_on(place, kind)
                raise
            else:
                self.worked(place, kind)
                return result

    def reading(self, source: Place, began: float = 0.0) -> Callable[[], Patience]:
        """Makes the patience of a thread that only reads from a source. began: what :meth:`admit` gave for it; a
        failure of who was let try is news, and gives the turn on."""

        def make() -> Patience:
            return _Reading(self, source, self._patience(), began)

        return make

    def admit(
        self,
        place: Place,
        kind: Kind,
        not_before: float = 0.0,
        failed: RegistryPipelinesError | None = None,
        patience: Patience | None = None,
    ) -> float:
        """Wait until the registry may be asked; when that is, in seconds of the clock. Raises Unavailable when it was
        given up."""
        with self._change:
            if self._turn(place, kind, not_before) <= 0:
                return self._clock()
        with self._aside(), self._change:
            while (wait_s := self._turn(place, kind, not_before)) > 0:
                with self._told(place, kind, failed, patience):
                    self._change.wait(wait_s)
            return self._clock()

    def _told(
        self, place: Place, kind: Kind, failed: RegistryPipelinesError | None, patience: Patience | None
    ) -> AbstractContextManager[object]:
        trouble = self._find(place.registry.name, kind)
        if trouble is not None:
            return trouble.patience.told(trouble.error)
        return patience.told(failed) if patience and failed else nullcontext()

    def _turn(self, place: Place, kind: Kind, not_before: float) -> float:
        """Seconds to wait, at most; 0 when it is our turn, which is taken by this."""
        with self._change:
            now, trouble = self._clock(), self._find(place.registry.name, kind)
            if trouble is None:
                return not_before - now
            if trouble.given_up and now < trouble.next_try:
                raise _refusal(trouble, place) from trouble.error
            wait_s = max(not_before, trouble.next_try) - now
            if wait_s <= 0 or trouble.given_up:
                trouble.next_try = now + ATTEMPT_S
                return 0.0
            return wait_s

    def failed(
        self, place: Place, kind: Kind, error: RegistryPipelinesError, patience: Patience, began: float
    ) -> float:
        """Learn from an error of an attempt; when to try again, in seconds of the clock. Raises the error when not."""
        with self._change:
            name, now = place.registry.name, self._clock()
            answered = isinstance(error, RegistryError) and error.status > 0
            if answered:
                self._clear((name, _ALL))
            trouble = self._blame((name, kind if answered else _ALL), error, now, began)
            pause_s = patience.pause_s(error)
            if trouble and pause_s is None and trouble.since <= patience.since:
                self._give_up(trouble, now)
            if pause_s is None or (trouble and trouble.given_up):
                raise error
            return now + pause_s

    def _blame(self, key: tuple[str, str], error: RegistryPipelinesError, now: float, began: float) -> _Trouble | None:
        if not _is_trouble(error):
            return None
        trouble = self._troubles.get(key)
        if trouble is None:
            trouble = self._troubles[key] = _Trouble(error, self._patience(), now)
        elif began < trouble.since:  # it was under way when the trouble began, and tells nothing new
            return trouble
        pause_s = None if trouble.given_up else trouble.patience.pause_s(error)
        if pause_s is None:
            self._give_up(trouble, now)
        else:
            trouble.next_try = now + pause_s
        self._change.notify_all()
        return trouble

    def _pass_on(self, place: Place, kind: Kind) -> None:
        """The attempt said nothing of the registry: the next in line may try at once."""
        with self._change:
            trouble = self._find(place.registry.name, kind)
            if trouble is not None:
                trouble.next_try = self._clock()
                self._change.notify_all()

    def _give_up(self, trouble: _Trouble, now: float) -> None:
        trouble.given_up, trouble.next_try = True, now + self._revive_s
        self._change.notify_all()

    def _find(self, registry: str, kind: Kind) -> _Trouble | None:
        troubles = [self._troubles.get((registry, each)) for each in (_ALL, kind)]
        known = [each for each in troubles if each is not None]
        return next((each for each in known if each.given_up), known[0] if known else None)

    def _clear(self, *keys: tuple[str, str]) -> None:
        with self._change:
            if [self._troubles.pop(key) for key in keys if key in self._troubles]:
                self._change.notify_all()


def left_to_us(place: Place) -> Place:
    """The same place, for acts that :class:`Health` repeats: it alone says how often and how long, so the client does
    not send again what stalled."""
    registry = place.registry
    return replace(place, registry=registry.leaving_stalls()) if isinstance(registry, Repeating) else place


def _is_trouble(error: RegistryPipelinesError) -> bool:
    if not isinstance(error, Unavailable) or isinstance(error, RateLimited | Elsewhere) or not error.temporary:
        return False
    return error.where != LOCAL and (error.status == 0 or error.status >= 500)


def _refusal(trouble: _Trouble, place: Place) -> Unavailable:
    first = trouble.error
    status = first.status if isinstance(first, RegistryError) else 0
    return Unavailable(f"not tried again in this run: {first.what}", where=str(place), do=first.do, status=status)


class _Reading(Patience):
    """The patience of one part of a blob, with what the run knows of its source."""

    def __init__(self, health: Health, source: Place, own: Patience, began: float) -> None:
        super().__init__(own.no_progress_s)
        self._health, self._source, self._own, self._began = health, source, own, began

    def progress(self) -> None:
        """Bytes arrived."""
        self._own.progress()
        self._health.worked(self._source, "read")

    def wait(self, error: RegistryPipelinesError) -> bool:
        """Wait for a turn; False when there is to be none."""
        try:
            not_before = self._health.failed(self._source, "read", error, self._own, self._began)
            self._began = self._health.admit(self._source, "read", not_before, error, self._own)
        except RegistryPipelinesError:
            return False
        return True
