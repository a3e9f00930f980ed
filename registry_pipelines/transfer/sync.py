"""Many images to many targets in one plan: each blob leaves its source once, whatever number of targets it has."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from registry_pipelines.errors import RegistryPipelinesError
from registry_pipelines.oci.platforms import Platform
from registry_pipelines.progress import Progress, Silent
from registry_pipelines.registry.interface import Place, Registry
from registry_pipelines.transfer.closure import COSIGN_SUFFIXES, Closure, ManifestCache, Selection, discover
from registry_pipelines.transfer.execute import Setting, execute
from registry_pipelines.transfer.limited import limited
from registry_pipelines.transfer.limits import Limits
from registry_pipelines.transfer.plan import Job, Plan, make_plan
from registry_pipelines.transfer.receipts import ReceiptSigner
from registry_pipelines.transfer.results import TargetResult
from registry_pipelines.transfer.selectors import ALL, Selector, is_our_own
from registry_pipelines.transfer.state import State

DISCOVERY_THREADS = 16
"""Closures looked up at once, each with a few lookups of its own."""


@dataclass(frozen=True)
class Target:
    """A registry and a prefix before the repository's name; the prefix may be empty."""

    registry: Registry
    prefix: str = ""

    def place(self, repository: str) -> Place:
        """Where a repository of the source goes."""
        return Place(self.registry, f"{self.prefix.strip('/')}/{repository}" if self.prefix else repository)


@dataclass(frozen=True)
class Source:
    """What to take from one registry. repositories: names, or empty for those the registry lists (its catalogue)."""

    registry: Registry
    targets: tuple[Target, ...]
    repositories: tuple[str, ...] = ()
    choose_repositories: Selector = ALL
    choose_tags: Selector = ALL
    platforms: tuple[Platform, ...] = ()
    selection: Selection = "sparse"
    move_tags: bool = True


@dataclass(frozen=True)
class Failure:
    """A reference whose closure could not be found; the others go on."""

    reference: str
    error: RegistryPipelinesError


@dataclass(frozen=True)
class SyncResult:
    """What a sync did, or with ``dry_run`` would do (then ``results`` is empty)."""

    plan: Plan
    results: tuple[TargetResult, ...] = ()
    failures: tuple[Failure, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether everything chosen is at every target, or with ``dry_run`` can be brought there."""
        return (
            not self.failures
            and not any(each.refused for each in self.plan.deliveries)
            and all(result.ok for result in self.results)
        )

    @property
    def changed(self) -> bool:
        """Whether anything was changed anywhere."""
        return any(result.changed for result in self.results)

    @property
    def bytes_moved(self) -> int:
        """Bytes sent, over all targets."""
        return sum(result.bytes_moved for result in self.results)


@dataclass
class _Found:
    jobs: list[Job] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)


def sync(
    sources: Sequence[Source],
    *,
    state: Path | None = None,
    journal_url: str = "",
    progress: Progress | None = None,
    signer: ReceiptSigner | None = None,
    limits: Limits | None = None,
    dry_run: bool = False,
) -> SyncResult:
    """Bring every chosen tag's closure to its targets.

    What fails is in the result and does not stop the rest. limits: request windows and bandwidth caps, shared by all
    processes that use the same limits folder. Raises RegistryError when a source cannot be listed, LocalError.
    """
    with State(state, journal_url=journal_url) as kept:
        within = [_limit(source, limits) for source in sources]
        found = _discover_all(within, kept.journal)
        plan = make_plan(found.jobs, holdings=kept.journal)
        failures = tuple(found.failures)
        if dry_run:
            return SyncResult(plan, (), failures)
        setting = Setting(
            means=kept.means(),
            progress=progress or Silent(),
            receipts=kept.receipts,
            signer=signer,
            keeper=kept.journal,
        )
        results = tuple(execute(plan, setting))
        kept.cancel_abandoned(target.registry for source in within for target in source.targets)
        return SyncResult(plan, results, failures)


def _limit(source: Source, limits: Limits | None) -> Source:
    if limits is None:
        return source
    targets = tuple(Target(limited(target.registry, limits), target.prefix) for target in source.targets)
    return Source(
        limited(source.registry, limits),
        targets,
        source.repositories,
        source.choose_repositories,
        source.choose_tags,
        source.platforms,
        source.selection,
        source.move_tags,
    )


def _discover_all(sources: Sequence[Source], cache: ManifestCache | None) -> _Found:
    """Lists and closures in parallel; the order of the jobs is that of the sources, repositories and tags."""
    with ThreadPoolExecutor(DISCOVERY_THREADS, thread_name_prefix="discover") as pool:
        repositories = [(source, name) for source in sources for name in _repositories(source)]
        listed = list(pool.map(lambda item: _tags(item[0], item[1]), repositories))
        wanted = [
            (source, name, tag, own)
            for (source, name), (tags, own) in zip(repositories, listed, strict=True)
            for tag in tags
        ]
        closures = list(pool.map(lambda item: _find(item[0], item[1], item[2], item[3], cache), wanted))
    found = _Found()
    for (source, name, tag, _), closure in zip(wanted, closures, strict=True):
        if isinstance(closure, Failure):
            found.failures.append(closure)
        else:
            targets = tuple(target.place(name) for target in source.targets)
            found.jobs.append(Job(closure, targets, (tag,), source.move_tags))
    return found


def _repositories(source: Source) -> list[str]:
    names = source.repositories or tuple(source.registry.repositories())
    return source.choose_repositories.select(names)


def _tags(source: Source, repository: str) -> tuple[list[str], list[str]]:
    """The chosen tags, and cosign's of the same repository: one list serves both."""
    every = list(source.registry.tags(repository))
    chosen = source.choose_tags.select(tag for tag in every if not is_our_own(tag))
    return chosen, [tag for tag in every if tag.endswith(COSIGN_SUFFIXES)]


def _find(
    source: Source, repository: str, tag: str, cosign: Sequence[str], cache: ManifestCache | None
) -> Closure | Failure:
    place = Place(source.registry, repository)
    try:
        return discover(
            place, tag, platforms=source.platforms, selection=source.selection, cache=cache, digest_tags=cosign
        )
    except RegistryPipelinesError as error:
        return Failure(f"{place}:{tag}", error)
