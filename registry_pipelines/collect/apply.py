"""Apply an approved retention plan: what is planned and nothing else, and only where nothing changed since."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from registry_pipelines.collect.live import Live
from registry_pipelines.collect.meanwhile import Meanwhile
from registry_pipelines.collect.names import Names
from registry_pipelines.collect.plan import Entry, RepositoryPlan, RetentionPlan
from registry_pipelines.collect.whole import check_newest
from registry_pipelines.collect.within import read_pieces, referring, refers
from registry_pipelines.errors import (
    ContentError,
    InputError,
    ManifestInvalid,
    NotFound,
    RegistryError,
    RegistryPipelinesError,
    SignatureInvalid,
    Unsupported,
)
from registry_pipelines.inventory.survey import SURVEY_THREADS
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Manifest
from registry_pipelines.oci.times import read_time
from registry_pipelines.progress import Progress, Silent
from registry_pipelines.registry.protocol import Place, Registry
from registry_pipelines.registry.tags import digest_at
from registry_pipelines.threads import Pool

if TYPE_CHECKING:  # signatures bring the cryptography along
    from registry_pipelines.collect.quarantine import Quarantine

MAX_PLAN_AGE = timedelta(hours=24)
"""An older plan is refused: what runs, and which signatures exist, is known by the plan's time only."""

FEW_TAGS = 256
"""Up to so many tags all are read before each :data:`AT_ONCE` images are deleted: a request for each."""

LOOK_EVERY = 8
"""Of a repository with more tags: times :data:`AT_ONCE` images go between two looks at what all of them name. What is
new among the names is looked at each time."""

AT_ONCE = 16
"""Images that are set aside at once, before the first of them is deleted."""


@dataclass(frozen=True)
class Deleted:
    """A manifest that is gone. already: it was gone before, by an earlier run of the same plan."""

    repository: str
    digest: Digest
    tags: tuple[str, ...]
    already: bool = False


@dataclass
class Applied:
    """What was done. refused: ``repository[@digest]: reason``, each left as it was from there on. freed_bytes: of the
    entries that are wholly gone; the registry frees them when it collects garbage."""

    deleted: list[Deleted] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    freed_bytes: int = 0

    @property
    def ok(self) -> bool:
        """Whether the whole plan is done."""
        return not self.refused


def apply_plan(
    registry: Registry,
    plan: RetentionPlan,
    *,
    in_use: Live | Collection[Digest | str] = (),
    now: datetime | None = None,
    progress: Progress | None = None,
    aside: Quarantine | None = None,
) -> Applied:
    """Delete what the plan says, through the Registry protocol. aside: where each image is set aside before; without
    one it is gone at once.

    Left alone is an entry that a new or moved tag needs, that has a new referrer, or that is live by now; and a
    repository where an image that the plan counted lost its last tag, or of which it is not known what is live. What
    came too late to be seen before is given back what it needs (``meanwhile``).
    Running it again finishes the rest.
    Raises InputError for a plan of another registry or older than a day.
    """
    moment = now or datetime.now(UTC)
    made = read_time(plan.made_at)
    if plan.registry != registry.name:
        raise InputError(f"the plan is for {plan.registry}", where=registry.name, do="Make a plan for this registry")
    if made is None or not timedelta(minutes=-5) <= moment - made <= MAX_PLAN_AGE:
        raise InputError(f"the plan was made at {plan.made_at}; plans are applied within a day", do="Make a new plan")
    used = Live.of(in_use)
    done = Applied(refused=list(plan.stopped))
    for planned in plan.repositories:
        if planned.refused:
            done.refused.append(f"{planned.repository}: {planned.refused}")
        elif any(not entry.reasons for entry in planned.entries):
            place = Place(registry, planned.repository)
            _Application(place, planned, used, done, progress or Silent(), aside).run()
    return done


class _Application:
    """One repository's part of a plan."""

    def __init__(
        self,
        place: Place,
        planned: RepositoryPlan,
        in_use: Live,
        done: Applied,
        progress: Progress,
        aside: Quarantine | None,
    ) -> None:
        self._place, self._planned, self._in_use = place, planned, in_use
        self._done, self._progress, self._aside = done, progress, aside
        self._going = frozenset(digest for entry in planned.entries for digest in entry.delete)
        self._names = Names(planned.tags)
        self._spared: dict[Digest, str] = {}
        self._all_spared = ""
        self._meanwhile = Meanwhile(place, planned.tags, self._going)

    def run(self) -> None:
        """All of it, but what is needed by now."""
        with Pool(AT_ONCE, "set-aside") as pool, Pool(SURVEY_THREADS, "mount") as blobs:
            if self._begin(blobs):
                self._progress.begin(self._planned.repository)
                self._go(pool, blobs)
                self._look_again(blobs)
                self._progress.end(self._planned.repository)

    def _begin(self, pool: Executor) -> bool:
        """Whether anything may go at all."""
        place, planned = self._place, self._planned
        try:
            if stop := self._in_use.stopped(planned.repository):
                raise ContentError(stop, where=str(place))
            seen = self._in_use.seen(planned.repository, planned.tags)
            self._in_use = seen.awaited(planned.repository, planned.tags, self._going)
            self._meanwhile.look(pool)
            check_newest(place, planned, pool)
            if self._aside:
                self._aside.check(place)
        except (RegistryError, ContentError) as error:
            self._done.refused.append(f"{planned.repository}: {error}")
            return False
        return True

    def _go(self, pool: Executor, blobs: Executor) -> None:
        entries = [entry for entry in self._planned.entries if not entry.reasons]
        for number, start in enumerate(range(0, len(entries), AT_ONCE)):
            together = entries[start : start + AT_ONCE]
            held = list(pool.map(lambda entry: self._hold(entry, blobs), together))
            # Setting aside takes its time, and who deletes a manifest deletes the tags that it got meanwhile.
            whole = len(self._planned.tags) <= FEW_TAGS or not number % LOOK_EVERY
            if not self._look_again(blobs, whole=whole, last=False):
                return
            if not all(self._let_go(*each) for each in zip(together, held, strict=True)):
                return

    def _look_again(self, pool: Executor, *, whole: bool = True, last: bool = True) -> bool:
        """What came meanwhile gets back what it needs. False where that is not known: nothing more goes then."""
        repository = self._planned.repository
        try:
            if whole:
                self._meanwhile.look(pool, last=last)
            else:
                self._meanwhile.look_for_new()
            back = self._meanwhile.give_back()
        except (RegistryError, ContentError) as error:
            self._done.refused.append(f"{repository}: {error}")
            return False
        self._done.refused += [f"{repository}@{digest}: {why}; it was put back" for digest, why in back.items()]
        self._done.deleted = [
            each for each in self._done.deleted if each.repository != repository or each.digest not in back
        ]
        return True

    def _hold(self, entry: Entry, pool: Executor) -> RegistryPipelinesError | None:
        """Set an image aside; why that was not done."""
        if self._aside is None:
            return None
        try:
            self._check_in_use(entry)
            for tag in entry.tags:
                _check_tag(self._place, tag, self._meanwhile.named(tag), entry)
            self._aside.hold(
                self._place, entry, self._names, pool, seen=lambda *each: self._check_referrers(entry, *each)
            )
        except (RegistryError, ContentError, SignatureInvalid) as error:
            return error
        return None

    def _let_go(self, entry: Entry, held: RegistryPipelinesError | None) -> bool:
        """Delete an image that is set aside; False where the registry deletes nothing at all."""
        try:
            if held is not None:
                raise held
            self._check(entry)
            if self._aside:
                self._aside.check_held(self._place, entry)
            self._delete(entry)
        except Unsupported as error:
            self._done.refused.append(f"{self._place.repository}: {error}")
            return False
        except (RegistryError, ContentError, SignatureInvalid) as error:
            self._done.refused.append(f"{self._place.repository}@{entry.digest}: {error}")
            self._spare(entry)
        else:
            self._done.freed_bytes += entry.freed_bytes
            self._progress.advance(self._planned.repository, entry.freed_bytes)
        return True

    def _spare(self, entry: Entry) -> None:
        """What was to go and stays keeps what it needs: what several images share goes with the last of them."""
        why = f"{entry.digest.short} stays, and needs it"

        def attached(digest: Digest) -> list[Digest]:
            return [*referring(self._place, digest), *self._names.about(digest)]

        try:
            needed = read_pieces(self._place, [entry.digest, *entry.delete], attached).digests
        except (RegistryError, ContentError) as error:
            self._all_spared = f"what {entry.digest.short} needs is not known ({error.what})"
            return
        self._spared.update(dict.fromkeys(needed, why))

    def _check(self, entry: Entry) -> None:
        """Just before: nothing of it is in use, no tag moved, and no signature arrived that nobody planned for. Before
        it is set aside the same was asked of what was read by then."""
        place = self._place
        if len(self._planned.tags) <= FEW_TAGS:
            self._meanwhile.look_for_new()
        self._check_in_use(entry)
        for tag in entry.tags:
            _check_tag(place, tag, digest_at(place, tag), entry)
        for digest in entry.delete:
            listed = (one.digest for one in place.registry.referrers(place.repository, digest))
            fresh = [one for one in listed if one not in self._going]
            self._check_referrers(entry, digest, [one for one in fresh if refers(place, one, digest)])

    def _check_referrers(self, entry: Entry, digest: Digest, referrers: Iterable[Digest]) -> None:
        """What refers to a manifest that goes has to go, too."""
        if new := next((one for one in referrers if one not in self._going and digest in entry.delete), None):
            raise ContentError(
                f"{new} refers to {digest} and is not in the plan", where=str(self._place), do="Make a new plan"
            )

    def _check_in_use(self, entry: Entry) -> None:
        place = self._place
        spared = self._all_spared or next((self._spared[one] for one in entry.delete if one in self._spared), "")
        if why := spared or self._meanwhile.why(entry.delete):
            raise ContentError(why, where=f"{place}@{entry.digest}", do="Make a new plan")
        if why := next(filter(None, (self._in_use.why(place.repository, digest) for digest in entry.delete)), ""):
            raise ContentError(f"it is live now: {why}", where=f"{place}@{entry.digest}", do="Make a new plan")
        if self._in_use.contents and (why := self._in_use.why_content(_configs(place, entry.delete))):
            raise ContentError(f"it is live now: {why}", where=f"{place}@{entry.digest}", do="Make a new plan")

    def _delete(self, entry: Entry) -> None:
        known = self._aside.read(entry) if self._aside else {}
        for digest in entry.delete:
            tags = tuple(sorted(self._names.of([digest])))
            already = not self._meanwhile.delete(digest, known.get(digest))
            self._done.deleted.append(Deleted(self._place.repository, digest, tags, already))


def _check_tag(place: Place, tag: str, named: Digest | None, entry: Entry) -> None:
    if named not in (None, entry.digest):
        raise ContentError(f"tag {tag} moved", where=str(place), do="Make a new plan")


def _configs(place: Place, digests: Iterable[Digest]) -> Iterator[Digest]:
    """The configs of manifests, for what runs by an image's id; of what is gone, none."""
    for digest in digests:
        with suppress(NotFound, ManifestInvalid):
            content = place.registry.get_manifest(place.repository, digest).content()
            if isinstance(content, Manifest):
                yield content.config.digest
