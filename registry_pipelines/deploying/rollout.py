"""A roll-out: write the image by digest, wait, read back what runs, watch it, and go back where it did not come up.

Run again it finds what it did: an image that is written already is not written again, and what ran before stands in an
annotation of the workload. A platform that does not answer is asked until the time is over; nothing is taken back then,
for nobody knows what runs.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from registry_pipelines.deploying.platform import BEFORE, CONFLICT, RELEASE, Look, Platform
from registry_pipelines.deploying.record import Outcome
from registry_pipelines.errors import RegistryError, Unavailable
from registry_pipelines.progress import count_text

FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 5.0
"""Between two looks: pauses grow by half, so that what is quick is seen at once and a long roll-out costs little."""
MOST_WRITES = 5
"""Times that a change is tried again because something else of the workload was written meanwhile: a controller writes
its status at any moment."""
MAX_REASONS = 10


@dataclass(frozen=True)
class Wanted:
    """What is to run. image: by digest, as the place pulls it. digests: every digest that an instance of it may be said
    to run: its own, those of its platforms, and of their configs."""

    image: str
    digests: frozenset[str]


@dataclass(frozen=True)
class Limits:
    """How long a roll-out may take, and must stay ready afterwards, in seconds; whether it is taken back; and how soon
    it is looked at for the second time."""

    wait_s: float
    health_s: float
    rollback: bool
    pause_s: float = FIRST_PAUSE_S


@dataclass(frozen=True)
class RolledOut:
    """What became of it. before: the image that ran before. look: the last one. changed: whether anything was
    written."""

    outcome: Outcome
    reasons: tuple[str, ...]
    before: str
    look: Look
    changed: bool


class _NotUp(Exception):
    """It did not come up. ours: what is written is still what we wrote, so that it can be taken back."""

    def __init__(self, look: Look, *reasons: str, ours: bool = True) -> None:
        super().__init__(*reasons)
        self.look, self.reasons, self.ours = look, reasons, ours


def before_of(look: Look, wanted: Wanted) -> str:
    """The image that runs before a roll-out; of one that is under way or over, what its annotation says. So it is where
    an earlier one of ours never came up: back to that would be back to nothing."""
    own = look.annotations.get(RELEASE) == look.written
    noted = look.annotations.get(BEFORE, "") if own else ""
    if look.written == wanted.image:
        return noted
    return noted if noted and _never_came_up(look, noted) else look.ran


def _never_came_up(look: Look, before: str) -> bool:
    """Whether what is written runs nowhere yet: what ran before is there still, or nothing is ready. A pod of one that
    ran for weeks may be down at any moment, too."""
    still = before.rpartition("@")[2] in look.digests
    return not look.settled and (still or not any(each.ready for each in look.instances))


def against(look: Look, wanted: Wanted) -> list[str]:
    """Why a workload does not run what is wanted, all of it and ready; empty when it does. Only what instances are said
    to run counts."""
    found: list[str] = []
    if not look.instances:
        found.append("nothing runs there")
    silent = [each.name for each in look.instances if not each.digest]
    if silent:
        found.append(f"of {count_text(len(silent), 'instance')} nobody says what they run ({silent[0]})")
    strange = [each for each in look.digests if each not in wanted.digests]
    if strange:
        found.append(f"{', '.join(strange[:MAX_REASONS])} runs there, not the release")
    unready = [each for each in look.instances if not each.ready]
    if unready:
        found.append(f"{count_text(len(unready), 'instance')} not ready ({unready[0].name})")
    return found


def roll_out(
    platform: Platform, seen: Look, wanted: Wanted, limits: Limits, tell: Callable[[str], None] = lambda _: None
) -> RolledOut:
    """Roll a release out. seen: the look that it was planned by. tell: of progress, for people.

    Raises RegistryError: what is written could not be (``Forbidden``, ``CONFLICT``: somebody else changed the image
    since ``seen``), or the platform did not answer until the time was over; then it is for the next call to go on.
    """
    before, changed = before_of(seen, wanted), False
    rolling = _Rolling(platform, wanted, limits, tell)
    try:
        if seen.written != wanted.image:
            rolling.write(seen, wanted.image, before)
            changed = True
        look = rolling.come_up()
        if rolling.widen(look):
            changed = True
            look = rolling.come_up()
        return RolledOut("running", (), before, look, changed)
    except _NotUp as down:
        reasons = tuple(down.reasons)[:MAX_REASONS]
        if not (limits.rollback and down.ours and before and before != wanted.image):
            if limits.rollback and down.ours:
                reasons = (*reasons, "it stays as it is: nobody knows what ran before")
            return RolledOut("failed", reasons, before, down.look, changed)
        return _taken_back(platform, limits, tell, down.look, before, reasons)


def _taken_back(
    platform: Platform, limits: Limits, tell: Callable[[str], None], look: Look, before: str, reasons: tuple[str, ...]
) -> RolledOut:
    """Back to what ran before. Only that the platform settles on it is asked: which digests a runtime may call it by,
    an index's or a platform's, is known of releases alone."""
    tell(f"it did not come up; back to {before}")
    rolling = _Rolling(platform, Wanted(before, frozenset()), limits, tell, given_up=look.written)
    try:
        rolling.write(look, before, before, back=True)
        back = rolling.settle()
        # By tag the new revision may run something else: traffic stays with the one that ran before.
        if "@" in before and rolling.widen(back):
            back = rolling.settle()
        return RolledOut("taken back", reasons, before, back, changed=True)
    except _NotUp as down:
        told = [f"and what ran before did not come up again: {each}" for each in down.reasons]
        return RolledOut("failed", (*reasons, *told)[:MAX_REASONS], before, down.look, changed=True)
    except RegistryError as error:
        told = [f"and it could not be taken back: {error.what}"]
        return RolledOut("failed", (*reasons, *told)[:MAX_REASONS], before, look, changed=True)


@dataclass(frozen=True)
class _Rolling:
    platform: Platform
    wanted: Wanted
    limits: Limits
    tell: Callable[[str], None]
    given_up: str = ""
    """The image of a roll-out that is taken back."""

    def write(self, seen: Look, image: str, before: str, *, back: bool = False) -> None:
        """Write the image, while nobody else changes it. Raises RegistryError."""
        look, notes = seen, {BEFORE: before, RELEASE: image}
        for left in reversed(range(MOST_WRITES)):
            try:
                self.platform.change(look, image, notes, back=back)
                return
            except RegistryError as error:
                if error.status != CONFLICT and not isinstance(error, Unavailable):
                    raise
                again = self.platform.look()
                if again.written == image:  # of an answer that was lost, or another run of this
                    return
                if again.written != seen.written or not left:
                    raise self._conflict(again, error) from error
                look = again

    def _conflict(self, look: Look, error: RegistryError) -> RegistryError:
        by = f" by {look.setter}" if look.setter else ""
        return RegistryError(
            f"somebody else changed it meanwhile{by}: {look.written} is written there now ({error.what})",
            where=self.platform.where,
            do="Let one program change an image; then run it again",
            status=CONFLICT,
        )

    def come_up(self) -> Look:
        """Wait until the release runs, and watch it. Raises _NotUp, Unavailable."""
        look = self.settle()
        begun, until, pause = look, time.monotonic() + self.limits.health_s, self.limits.pause_s
        while (left := until - time.monotonic()) > 0:
            time.sleep(min(pause, left))
            pause = min(pause * 1.5, LONGEST_PAUSE_S)
            try:
                look = self.platform.look()
            except Unavailable:
                if time.monotonic() < until:
                    continue
                raise  # nobody saw how it ended
            self._still_ours(look)
            if why := self._fell(look, begun):
                raise _NotUp(look, *why, *look.troubles)
        return look if look.settled else self.settle()

    def _fell(self, look: Look, begun: Look) -> list[str]:
        """What speaks against instances that were ready. One that came since, as the workload grew or a node was
        drained, may start in peace, unless it says what is wrong with it."""
        known = {each.name for each in begun.instances}
        watched = [each for each in look.instances if each.name in known or each.trouble]
        why = against(replace(look, instances=tuple(watched)), self.wanted) if watched or not look.instances else []
        if not why and sum(each.restarts for each in watched if each.name in known) > _restarts(begun):
            why = ["it was ready, and restarted within `health`"]
        return [look.failed] if look.failed and not why else why

    def widen(self, look: Look) -> bool:
        """Give it all of the traffic; whether there was anything to do. Raises _NotUp, RegistryError."""
        for left in reversed(range(MOST_WRITES)):
            try:
                return self.platform.widen(look)
            except RegistryError as error:
                if error.status != CONFLICT or not left:
                    raise
                look = self.platform.look()
                self._still_ours(look)
        return False

    def settle(self) -> Look:
        """Wait until the platform says that all of it runs, and instances do. Raises _NotUp, Unavailable."""
        until, pause, said, look = time.monotonic() + self.limits.wait_s, self.limits.pause_s, "", None
        while True:
            try:
                look = self.platform.look()
                why = self._unsettled(look)
                if not why:
                    return look
                why += self._unblock(look)
            except Unavailable as error:
                if time.monotonic() >= until:
                    error.add_note("Run it again when it answers: it finds what was done")
                    raise
                why = [error.what]
            if look and time.monotonic() >= until:
                raise _NotUp(
                    look, f"it was not up after {self.limits.wait_s:.0f} s: {why[0]}", *why[1:], *look.troubles
                )
            if why[0] != said:
                said = why[0]
                self.tell(said)
            time.sleep(max(0.0, min(pause, until - time.monotonic())))
            pause = min(pause * 1.5, LONGEST_PAUSE_S)

    def _unsettled(self, look: Look) -> list[str]:
        self._still_ours(look)
        if look.failed:
            raise _NotUp(look, look.failed, *look.troubles)
        if not look.settled:
            return [look.progress]
        return against(look, self.wanted) if self.wanted.digests else []

    def _unblock(self, look: Look) -> list[str]:
        """Take away what the platform waits for in vain; why that cannot be done."""
        try:
            for name in self.platform.unblock(look, self.given_up):
                self.tell(f"{name} was deleted: it did not come up, and the others would wait for it")
        except Unavailable:
            return []  # with the next look
        except RegistryError as error:
            return [error.what]
        return []

    def _still_ours(self, look: Look) -> None:
        if look.written != self.wanted.image:
            by = f" by {look.setter}" if look.setter else ""
            raise _NotUp(look, f"somebody else changed it meanwhile{by}: {look.written} is written there", ours=False)


def _restarts(look: Look) -> int:
    return sum(each.restarts for each in look.instances)


__all__ = ["Limits", "RolledOut", "Wanted", "against", "before_of", "roll_out"]
