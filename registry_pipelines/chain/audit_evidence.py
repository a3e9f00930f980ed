"""What is signed, as the alerts of an audit ask for it: promotion records in registries, retention plans in the state
folder, and which tags are channels where."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

from registry_pipelines.chain.audit_sources import name_in_logs, registries_that_name_callers
from registry_pipelines.chain.expire import expiries_folder
from registry_pipelines.chain.places import join_repository
from registry_pipelines.chain.plans import plan_store
from registry_pipelines.chain.session import Session
from registry_pipelines.collect.quarantine import tried
from registry_pipelines.collect.records import RECORD_TAG
from registry_pipelines.collect.stored import read_signed
from registry_pipelines.errors import DigestInvalid, NotFound, RegistryPipelinesError
from registry_pipelines.evidence.model import Verifier
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.times import read_time
from registry_pipelines.promote.standing import records
from registry_pipelines.recover.expiry import kept_expiries
from registry_pipelines.registry.protocol import Place
from registry_pipelines.registry.set_aside import is_quarantine, origin_of
from registry_pipelines.report.audit.alerts import SKEW
from registry_pipelines.report.audit.model import Event

APPLIED_WITHIN = timedelta(days=2)
"""A plan is applied within a day of its making; so long a deletion may follow it."""
UNDONE_WITHIN = timedelta(hours=1)
"""So long what was brought back out of the quarantine may still be there."""

_Key = tuple[str, str, str]


@dataclass(frozen=True)
class _Planned:
    """said: by what it was planned, in words. made: when. until: from when what it set aside may go for good."""

    said: str
    made: datetime
    until: datetime


class SignedEvidence:
    """See ``report.audit.alerts.Evidence``. known: explanations of earlier looks, by log entry: plans are kept for 30
    days, and events longer. deletions: those that are asked about. pushes: kept ones of some digests."""

    def __init__(
        self,
        session: Session,
        verifier: Verifier | None,
        *,
        known: Mapping[str, str],
        deletions: Iterable[Event],
        pushes: Callable[[Collection[str]], Iterable[Event]],
    ) -> None:
        self._session, self._verifier, self._known = session, verifier, known
        self._one_name = name_in_logs(session)
        places = _channel_places(session)
        self._channels = {(self._registry(name), repository): found for (name, repository), found in places}
        self._naming = {self._registry(name) for name in registries_that_name_callers(session)}
        self._promotions: dict[tuple[str, str], list[tuple[str, datetime]]] = {}
        self.problems: list[str] = []
        """Plans that cannot be believed, one sentence each."""
        wanted: set[_Key] = set()
        aside: list[Event] = []
        self._gone: dict[_Key, list[datetime]] = defaultdict(list)
        for each in deletions:
            if not is_quarantine(each.repository):
                for key in self._keys(each):
                    self._gone[key].append(each.time)
            if each.id not in known:
                wanted.update(self._keys(each))
                aside += [each] if is_quarantine(each.repository) else []
        self._planned = self._plans_for(wanted) if wanted and verifier else {}
        self._pushed: dict[_Key, list[datetime]] = defaultdict(list)
        for each in pushes({each.digest for each in aside if each.digest}) if aside else ():
            self._pushed[self._registry(each.registry), each.repository, each.digest].append(each.time)
        self._purged = [each for each in aside if self._by_plan(each) or self._brought_back(each)]

    @property
    def channel_names(self) -> set[str]:
        """Tags that are a channel somewhere."""
        return {name for _, names, _ in self._channels.values() for name in names}

    def channel(self, event: Event) -> tuple[str, bool] | None:
        """See Evidence."""
        found = self._channels.get((self._registry(event.registry), event.repository))
        if found is None or event.tag not in found[1]:
            return None
        return found[0], found[2]

    def promotions(self, image: str, channel: str, digest: str) -> Sequence[datetime]:
        """See Evidence. Raises RegistryError."""
        key = image, digest
        if key not in self._promotions:
            self._promotions[key] = self._records(image, digest)
        return [time for named, time in self._promotions[key] if named == channel]

    def _records(self, image: str, digest: str) -> list[tuple[str, datetime]]:
        if self._verifier is None:
            return []
        try:
            named = Digest.parse(digest)
        except DigestInvalid:
            return []
        source = self._session.places.source(self._session.image(image))
        if found := self._records_at(source, image, named):
            return found
        # Records go with a release that its source let go. They are signed, so a copy's say as much.
        for (registry, repository), (name, _, at_source) in self._channels.items():
            if name == image and not at_source:
                with suppress(RegistryPipelinesError):
                    copy = Place(self._session.places.registry(registry), repository)
                    if found := self._records_at(copy, image, named):
                        return found
        return []

    def _records_at(self, place: Place, image: str, digest: Digest) -> list[tuple[str, datetime]]:
        assert self._verifier is not None  # noqa: S101  for mypy
        try:
            found = records(place, digest, self._verifier)
        except NotFound:
            return []
        pairs = ((each.channel, read_time(each.time)) for each, _ in found if each.image == image)
        return [(channel, time) for channel, time in pairs if time is not None]

    def explained(self, event: Event) -> str:
        """See Evidence."""
        if found := self._known.get(event.id):
            return found
        if planned := self._by_plan(event):
            return planned
        if self._brought_back(event):
            return "it is where it was before: it was brought back"
        if is_quarantine(event.repository) and event.digest == tried().digest:
            return "it was tried whether anything can be deleted"
        if is_quarantine(event.repository) and self._is_record(event):
            return "the record of what was set aside went with it"
        return ""

    def _brought_back(self, event: Event) -> bool:
        """What is undone leaves the quarantine after it was pushed where a plan had taken it from; nothing is lost."""
        if not is_quarantine(event.repository) or not event.digest:
            return False
        return any(
            max(planned.made, min(self._gone.get(key, ()), default=planned.made)) <= time
            and -SKEW <= event.time - time <= UNDONE_WITHIN
            for key in self._keys(event)
            for planned in self._planned.get(key, ())
            for time in self._pushed.get(key, ())
        )

    def _is_record(self, event: Event) -> bool:
        """Records of a quarantine have digests that no plan knows; they go when what they are of does."""
        if any(self._planned.get(key) for key in self._keys(event)):  # it is what was set aside, and no record of it
            return False
        own = (each for each in self._purged if (each.registry, each.repository) == (event.registry, event.repository))
        near = any(abs(each.time - event.time) <= timedelta(minutes=10) for each in own)
        return near and (not event.tag or event.tag.startswith(RECORD_TAG))

    def says_who(self, registry: str) -> bool:
        """See Evidence."""
        return self._registry(registry) in self._naming

    def _registry(self, name: str) -> str:
        """One name of a registry that the configuration names twice."""
        return self._one_name.get(name, name)

    def _keys(self, event: Event) -> list[_Key]:
        """Registry, repository (of what was set aside: where it was), and digest of what went; its tag where no log
        tells the digest: a tag that a plan names may have been moved since."""
        repository = origin_of(event.repository) if is_quarantine(event.repository) else event.repository
        named = event.digest or event.tag
        return [(self._registry(event.registry), repository, named)] if named else []

    def _by_plan(self, event: Event) -> str:
        aside = is_quarantine(event.repository)
        for key in self._keys(event):
            for planned in self._planned.get(key, ()):
                if aside and event.time >= planned.until - SKEW:
                    return f"its time was over, {planned.said}"
                if not aside and planned.made - SKEW <= event.time <= planned.made + APPLIED_WITHIN:
                    return planned.said
        return ""

    def _plans_for(self, wanted: Collection[_Key]) -> dict[_Key, list[_Planned]]:
        """Signed plans of some deletions. One plan is in memory at once, an image at a time."""
        found: dict[_Key, list[_Planned]] = defaultdict(list)
        store = plan_store(self._session)
        for digest in store.signed():
            path = store.find(digest)
            if path is None:
                continue
            try:
                assert self._verifier is not None  # noqa: S101  for mypy
                plan, statement = read_signed(path, self._verifier)
                made = read_time(plan.made_at)
                if made is None:
                    continue
                registry = self._registry(statement.registry)
                planned = _Planned(f"by the plan {plan.digest}", made, made + timedelta(days=statement.quarantine))
                for repository in plan.repositories:
                    for entry in repository.entries:
                        gone = [*map(str, entry.delete), *(entry.tags if entry.delete else ())]
                        for key in ((registry, repository.repository, named) for named in gone):
                            if key in wanted:
                                found[key].append(planned)
            except RegistryPipelinesError as error:
                self.problems.append(f"the plan {digest} explains nothing: {error.what}")
        self._add_expiries(wanted, found)
        return found

    def _add_expiries(self, wanted: Collection[_Key], found: dict[_Key, list[_Planned]]) -> None:
        """Backups let old moments go, and what only these needed."""
        assert self._verifier is not None  # noqa: S101  for mypy
        for expiry in kept_expiries(expiries_folder(self._session), self._verifier, self.problems):
            if (made := read_time(expiry.made_at)) is None:
                continue
            planned = _Planned(f"the backup {expiry.backup} let old moments go", made, made)
            registry = self._registry(expiry.registry)
            for repository, digests in expiry.manifests.items():
                for key in ((registry, repository, digest) for digest in digests):
                    if key in wanted:
                        found[key].append(planned)


def _channel_places(session: Session) -> Iterator[tuple[tuple[str, str], tuple[str, frozenset[str], bool]]]:
    """Registry and repository of every place where channels are; with the image, its channels, and whether the place is
    its source. The source comes last, so that it counts where a place is both."""
    config = session.config
    sources = []
    for image in config.images.values():
        channels = frozenset(each.name for each in image.order)
        for name in image.targets:
            target = config.targets[name]
            yield (target.registry, config.repository_at(image, target)), (image.name, channels, False)
        for mirror in config.mirrors.values():
            if image.name in mirror.images:
                for stop in mirror.stops:
                    yield (stop, join_repository(mirror.prefix, image.repository)), (image.name, channels, False)
        sources.append(((image.registry, image.repository), (image.name, channels, True)))
    yield from sources
