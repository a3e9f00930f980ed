"""Many images to many targets in one plan: each blob leaves its source once, whatever number of targets it has."""

from __future__ import annotations

import fnmatch
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import TypeVar

import msgspec

from registry_pipelines.errors import ContentError, RegistryPipelinesError, exit_code_of_many
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.platforms import Platform
from registry_pipelines.progress import count_text
from registry_pipelines.registry.protocol import Place, Registry
from registry_pipelines.threads import Pool
from registry_pipelines.transfer.closure.closure import Omission
from registry_pipelines.transfer.closure.digest_tags import Chosen, DigestTags
from registry_pipelines.transfer.closure.discovery import DISCOVERY_THREADS, discover
from registry_pipelines.transfer.closure.listed import list_tags
from registry_pipelines.transfer.closure.manifests import ManifestFolder
from registry_pipelines.transfer.closure.omissions import companions, left_over
from registry_pipelines.transfer.closure.platforms import Selection
from registry_pipelines.transfer.closure.selector import ALL, Selector
from registry_pipelines.transfer.delivery.plan import Job, Plan
from registry_pipelines.transfer.delivery.planner import Goals, Planner
from registry_pipelines.transfer.delivery.results import TargetResult
from registry_pipelines.transfer.engine import PLAIN, Engine
from registry_pipelines.transfer.limits.requests import Requests

NOBODYS = Digest.of(b"")
"""A digest that no manifest has."""

LOOKING = "looking at sources and targets"
"""The task before the first byte moves; with thousands of tags it takes seconds."""


@dataclass(frozen=True)
class OpenTarget:
    """A registry and a prefix before the repository's name; the prefix may be empty. strip: a beginning of names at the
    source that is left away."""

    registry: Registry
    prefix: str = ""
    strip: str = ""

    def place(self, repository: str) -> Place:
        """Where a repository of the source goes."""
        name = repository.removeprefix(f"{self.strip}/") if self.strip else repository
        return Place(self.registry, f"{self.prefix.strip('/')}/{name}" if self.prefix else name)


@dataclass(frozen=True)
class Source:
    """What to take from one registry. repositories: names, or empty for those the registry lists (its catalogue)."""

    registry: Registry
    targets: tuple[OpenTarget, ...]
    repositories: tuple[str, ...] = ()
    choose_repositories: Selector = ALL
    never: Mapping[str, str] = field(default_factory=dict)
    """Patterns of repositories that are not taken, whatever is chosen; each with the reason, which the result tells."""
    choose_tags: Selector = ALL
    platforms: tuple[Platform, ...] = ()
    selection: Selection = "sparse"
    move_tags: bool = True
    foreign_layers: bool = False


class Failure(msgspec.Struct, frozen=True):
    """What could not be read at a source: a registry that does not list its repositories, a repository that does not
    list its tags, or a tag whose closure is not whole. The others go on."""

    reference: str
    error: RegistryPipelinesError


@dataclass(frozen=True)
class SyncResult:
    """What a sync did, or with ``dry_run`` would do (then ``results`` is empty)."""

    plan: Plan
    results: tuple[TargetResult, ...] = ()
    failures: tuple[Failure, ...] = ()
    requests: Mapping[str, int] = field(default_factory=dict)
    """Requests to each registry, by its name."""
    passed_over: tuple[Omission, ...] = ()
    """Tags and repositories that nobody excluded and that were not taken; what single images leave out is theirs."""

    @property
    def ok(self) -> bool:
        """Whether everything chosen is at every target, or with ``dry_run`` can be brought there."""
        return (
            not self.failures
            and not any(each.refused for each in self.plan.deliveries)
            and all(result.ok for result in self.results)
        )

    @property
    def exit_code(self) -> int:
        """What a command ends with that did this and nothing else: see
        :func:`~registry_pipelines.errors.exit_code_of_many`."""
        return exit_code_of_many(
            [
                *(each.error.exit_code for each in self.failures),
                *(_code(each.error, ok=each.ok) for each in self.results),
                *(_code(each.unseen, ok=not each.refused) for each in self.plan.deliveries if not self.results),
            ]
        )

    @property
    def changed(self) -> bool:
        """Whether anything was changed anywhere."""
        return any(result.changed for result in self.results)

    @property
    def bytes_moved(self) -> int:
        """Bytes sent, over all targets."""
        return sum(result.bytes_moved for result in self.results)


def _code(error: RegistryPipelinesError | None, *, ok: bool) -> int:
    """What is not ok without an error is drift, or refused in the plan."""
    return error.exit_code if error else 0 if ok else ContentError.exit_code


_T = TypeVar("_T")


class _Survey(msgspec.Struct):
    """What is to be copied of one source, what is left out, and what failed."""

    jobs: list[Job] = []
    passed_over: list[Omission] = []
    failures: list[Failure] = []

    def keep(self, answer: _T | Failure) -> _T | None:
        """The answer; None for a failure, which is kept here."""
        if isinstance(answer, Failure):
            self.failures.append(answer)
            return None
        return answer


def sync(
    sources: Sequence[Source],
    *,
    dry_run: bool = False,
    engine: Engine = PLAIN,
) -> SyncResult:
    """Bring every chosen tag's closure to its targets.

    What fails is in the result and does not stop the rest. Raises LocalError, and InputError when two sources are to
    have one tag at one place.
    """
    results = _sync(sources, dry_run=dry_run, engine=engine, by_source=False)
    requests: dict[str, int] = {}
    for result in results:
        requests |= result.requests
    return SyncResult(
        Plan(tuple(delivery for result in results for delivery in result.plan.deliveries)),
        tuple(done for result in results for done in result.results),
        tuple(failure for result in results for failure in result.failures),
        requests,
        tuple(left for result in results for left in result.passed_over),
    )


def sync_each(
    sources: Sequence[Source],
    *,
    dry_run: bool = False,
    engine: Engine = PLAIN,
) -> list[SyncResult]:
    """The same with a result for each source, though all of them are one plan: a blob that several take leaves its
    place once, whoever sends it. Requests are those of all at the source's registries.

    A tag that an image before it has at the same place from elsewhere is a failure of the later one. Raises LocalError.
    """
    return _sync(sources, dry_run=dry_run, engine=engine, by_source=True)


def _sync(sources: Sequence[Source], *, dry_run: bool, engine: Engine, by_source: bool) -> list[SyncResult]:
    progress = engine.progress
    requests = Requests(each for source in sources for each in _registries(source))
    within = [_limited(source, engine) for source in sources]
    results: list[TargetResult] = []
    with engine.opened() as state:
        progress.begin(LOOKING)
        with state.planner() as planner:
            surveys = _discover_all(within, state.manifests, planner)
            if by_source:
                _leave_to_the_first(surveys)
            plan = planner.plan([job for survey in surveys for job in survey.jobs])
        progress.end(LOOKING, note=_counted(plan))
        if not dry_run:
            results = state.apply(plan)
            state.cancel_abandoned(target.registry for source in within for target in source.targets)
    counted, deliveries, done = requests.so_far(), iter(plan.deliveries), iter(results)
    results_by_source = []
    for source, survey in zip(sources, surveys, strict=True):
        count = sum(len(job.targets) for job in survey.jobs)
        names = {registry.name for registry in _registries(source)}
        results_by_source.append(
            SyncResult(
                Plan(tuple(islice(deliveries, count))),
                tuple(islice(done, count)),
                tuple(survey.failures),
                {name: number for name, number in counted.items() if name in names},
                tuple(survey.passed_over),
            )
        )
    return results_by_source


def _leave_to_the_first(surveys: Sequence[_Survey]) -> None:
    """Take away what something before it brings to the same place under the same tag from elsewhere, also within one
    source: it would keep all the others from being planned."""
    goals = Goals()
    for survey in surveys:
        alone = []
        for job in survey.jobs:
            clash = goals.clash(job)
            if clash is None:
                goals.take(job)
                alone.append(job)
            else:
                closure = job.closure
                survey.failures.append(Failure(f"{closure.source}:{closure.reference}", clash))
        survey.jobs = alone


def _registries(source: Source) -> list[Registry]:
    return [source.registry, *(target.registry for target in source.targets)]


def _counted(plan: Plan) -> str:
    waiting = sum(not each.unchanged for each in plan.deliveries)
    return f"{waiting} of {count_text(len(plan.deliveries), 'copy', 'copies')} to be made"


def _limited(source: Source, engine: Engine) -> Source:
    targets = tuple(replace(target, registry=engine.registry(target.registry)) for target in source.targets)
    return replace(source, registry=engine.registry(source.registry), targets=targets)


def _discover_all(sources: Sequence[Source], cache: ManifestFolder | None, planner: Planner) -> list[_Survey]:
    """Lists, closures and looks at targets in parallel, for all sources at once; a survey of each, in their order, jobs
    in the order of its repositories and tags."""
    surveys = [_Survey() for _ in sources]
    with Pool(DISCOVERY_THREADS, "discover") as pool:
        named = [survey.keep(names) for survey, names in zip(surveys, pool.map(_repositories, sources), strict=True)]
        taken = [(at, names) for at, names in enumerate(named) if names is not None]
        repositories = [(at, name) for at, names in taken for name in names.repositories]
        for at, names in taken:
            surveys[at].passed_over += names.passed_over
            for name in names.repositories[:1]:
                # How this registry answers where nothing refers to anything: found out while tags are listed, since the
                # closures wait for it. What it fails with is met again, and told, by whoever needs the answer.
                pool.submit(sources[at].registry.referrers, name, NOBODYS, tags=())
        answers = pool.map(lambda item: _tags(sources[item[0]], item[1]), repositories)
        listed = [surveys[at].keep(tags) for (at, _), tags in zip(repositories, answers, strict=True)]
        chosen = [(at, name, tags) for (at, name), tags in zip(repositories, listed, strict=True) if tags is not None]
        # The first tag of each repository before the second of any: what the first learns of its repository (that there
        # is no API for referrers) is then known, and not asked again by all of its tags at once.
        turns = sorted(
            (turn, number) for number, (_, _, tags) in enumerate(chosen) for turn in range(len(tags[0].tags))
        )

        def find(turn: int, number: int) -> Job | Failure:
            at, name, tags = chosen[number]
            return _find(sources[at], name, tags[0].tags[turn], tags[1], cache=cache, planner=planner)

        answers_by_turn = dict(zip(turns, pool.map(lambda item: find(*item), turns), strict=True))
        for turn, number in sorted(turns, key=lambda item: (item[1], item[0])):
            at = chosen[number][0]
            if (job := surveys[at].keep(answers_by_turn[turn, number])) is not None:
                surveys[at].jobs.append(job)
    travelling: dict[tuple[int, str], set[str]] = defaultdict(set)
    for at, survey in enumerate(surveys):
        for job in survey.jobs:
            travelling[at, job.closure.source.repository] |= companions(job.closure)
    for (at, name), tags in zip(repositories, listed, strict=True):
        if tags is not None:
            surveys[at].passed_over += left_over(
                Place(sources[at].registry, name), tags[0].passed_over, travelling[at, name]
            )
    return surveys


class _Repositories(msgspec.Struct, frozen=True):
    """The chosen repositories, and those that would be chosen and are never taken."""

    repositories: Sequence[str]
    passed_over: Sequence[Omission]


def _repositories(source: Source) -> _Repositories | Failure:
    """The chosen repositories. Of those that the registry lists none is taken that lies below a prefix where this very
    sync writes: each pass would copy the copies of the one before, one level deeper."""
    never = dict(source.never)
    if not source.repositories:
        own = (
            target.place("*").repository for target in source.targets if target.registry.name == source.registry.name
        )
        never |= {pattern: "this sync writes there itself" for pattern in own if pattern != "*"}
    try:
        wanted = source.choose_repositories.select(source.repositories or source.registry.repositories())
    except RegistryPipelinesError as error:
        return Failure(source.registry.name, error)
    why = {name: said for name in wanted for pattern, said in never.items() if fnmatch.fnmatchcase(name, pattern)}
    left = [Omission("repository", str(Place(source.registry, name)), said) for name, said in why.items()]
    return _Repositories([name for name in wanted if name not in why], left)


def _tags(source: Source, repository: str) -> tuple[Chosen, DigestTags] | Failure:
    """The chosen tags, and those of the same repository that are named after digests: one list serves both."""
    place = Place(source.registry, repository)
    try:
        tags = list_tags(place, source.choose_tags, from_catalogue=not source.repositories)
        digest_tags = DigestTags.among(place, tags.listed)
        return digest_tags.choose(tags.every, source.choose_tags.select), digest_tags
    except RegistryPipelinesError as error:
        return Failure(str(place), error)


def _find(
    source: Source,
    repository: str,
    tag: str,
    digest_tags: DigestTags,
    *,
    cache: ManifestFolder | None,
    planner: Planner,
) -> Job | Failure:
    place = Place(source.registry, repository)
    try:
        closure = discover(
            place,
            tag,
            platforms=source.platforms,
            selection=source.selection,
            cache=cache,
            digest_tags=digest_tags,
            foreign_layers=source.foreign_layers,
        )
    except RegistryPipelinesError as error:
        return Failure(f"{place}:{tag}", error)
    targets = tuple(target.place(repository) for target in source.targets)
    job = Job(closure, targets, (tag,), source.move_tags)
    planner.look(job)
    return job
