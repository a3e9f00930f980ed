"""Mirror foreign images: plan which tags, then copy each through the DMZ registry into the private one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from dataclasses import dataclass
from typing import TypeAlias

from registry_pipelines.errors import EvidenceError, NotFound, RegistryPipelinesError, exit_code_of_many
from registry_pipelines.mirror.model import Upstream
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.progress import count_text
from registry_pipelines.registry.protocol import Place, Registry
from registry_pipelines.threads import Pool
from registry_pipelines.transfer.batch import Item, copy_items
from registry_pipelines.transfer.closure import omissions
from registry_pipelines.transfer.closure.closure import Omission
from registry_pipelines.transfer.closure.digest_tags import DigestTags
from registry_pipelines.transfer.closure.listed import list_tags
from registry_pipelines.transfer.closure.selector import Selector
from registry_pipelines.transfer.engine import PLAIN, Engine

ADMITTED_AT_ONCE = 4
"""Images that are scanned and judged at a time: each reads one layer at a time, with some 35 MiB of memory."""


@dataclass(frozen=True, kw_only=True)
class OpenUpstream:
    """An upstream with its registry opened."""

    source: Place
    repository: str
    """Its name in the DMZ and in the private registry."""
    settings: Upstream

    @property
    def name(self) -> str:
        """As the configuration writes it."""
        return self.settings.image


@dataclass(frozen=True)
class PinnedTag:
    """One tag to mirror, pinned: the digest it named when the plan was made is what is copied."""

    upstream: OpenUpstream
    tag: str
    top: Descriptor
    """What its HEAD said: media type, digest and size."""
    kept_at: Place | None = None
    """Where it is taken from when the upstream has it no more: the first stop, which an earlier run filled."""

    @property
    def source(self) -> Place:
        """Where it is taken from."""
        return self.kept_at or self.upstream.source

    @property
    def digest(self) -> Digest:
        """What is copied."""
        return self.top.digest


@dataclass(frozen=True)
class MirrorProblem:
    """An upstream, or a tag of it, that could not be planned or copied; the others went on."""

    upstream: str
    tag: str
    error: RegistryPipelinesError
    pinned: PinnedTag | None = None
    """What was to be taken; None where nothing was pinned."""

    @property
    def held(self) -> bool:
        """Whether a policy said no: it is held in front of the private registry, and nothing is broken."""
        return isinstance(self.error, EvidenceError)


Admit: TypeAlias = Callable[[PinnedTag, Place, Digest], Place]
"""Whether what a tag was pinned to may go on to the private registry: its place in front of that and its digest there.
Answers with where to take it from, evidence included. Raises PromotionDenied with every reason, or what went wrong."""


@dataclass(frozen=True)
class MirrorPlan:
    """What a mirror run will copy."""

    pinned: tuple[PinnedTag, ...]
    problems: tuple[MirrorProblem, ...]
    passed_over: tuple[tuple[Place, str], ...] = ()
    """Tags named after digests, which travel only with the images they belong to."""


@dataclass(frozen=True)
class MirrorRow:
    """What became of one tag."""

    pinned: PinnedTag
    digest: Digest
    """What the private registry holds."""
    changed: bool
    bytes_moved: int
    """To the DMZ registry and the private one together."""
    seconds: float
    left_out: tuple[Omission, ...] = ()
    """What belongs to the tag's image and did not come, at any hop."""


@dataclass(frozen=True)
class MirrorRun:
    """What a mirror run did. passed_over: tags of upstreams that look like evidence, and belong to no image taken."""

    rows: tuple[MirrorRow, ...]
    problems: tuple[MirrorProblem, ...]
    passed_over: tuple[Omission, ...] = ()

    @property
    def exit_code(self) -> int:
        """What a command ends with that did this and nothing else: see
        :func:`~registry_pipelines.errors.exit_code_of_many`."""
        return exit_code_of_many([*(0 for _ in self.rows), *(each.error.exit_code for each in self.problems)])


def plan_mirror(upstreams: Iterable[OpenUpstream]) -> MirrorPlan:
    """Look at every upstream and pin the wanted tags to digests; writes nothing.

    An upstream that cannot be read, or that has none of the wanted tags, is a problem of the plan; it does not hold the
    others up.
    """
    pinned: list[PinnedTag] = []
    problems: list[MirrorProblem] = []
    passed_over: dict[tuple[Place, str], None] = {}
    for upstream in upstreams:
        try:
            chosen = wanted_tags(upstream)
        except RegistryPipelinesError as error:
            problems.append(MirrorProblem(str(upstream.source), "", error))
            continue
        problems += chosen.gone
        passed_over |= {(upstream.source, tag): None for tag in chosen.passed_over}
        for tag in chosen.tags:
            try:
                tagged = upstream.source.registry.resolve(upstream.source.repository, tag)
            except RegistryPipelinesError as error:
                problems.append(MirrorProblem(str(upstream.source), tag, error))
            else:
                pinned.append(PinnedTag(upstream, tag, tagged))
    return MirrorPlan(tuple(pinned), tuple(problems), tuple(passed_over))


@dataclass(frozen=True)
class Wanted:
    """What an upstream's rules select of its tags now."""

    tags: Sequence[str]
    passed_over: Iterable[str]
    gone: tuple[MirrorProblem, ...] = ()
    """Tags that the rules name in full and the upstream has not."""


def wanted_tags(upstream: OpenUpstream) -> Wanted:
    """The tags an upstream's rules select now. Tags that only hold evidence (``sha256-<hex>...``) are never among them:
    a copy takes them along with what they belong to. Raises NotFound when nothing is selected, with the tags that are
    nearest to those that the rules name in full."""
    place, selector = upstream.source, upstream.settings.selector
    listed = list_tags(place, selector)
    there = listed.every
    chosen = DigestTags.among(place, listed.listed).choose(there, selector.select)
    gone = {tag: gone_tag(place, tag, there) for tag in _named_and_gone(selector, there)}
    if not chosen.tags:
        near = "; ".join(each.do for each in gone.values())
        raise NotFound(
            f"none of its {count_text(len(there), 'tag')} is selected",
            where=str(place),
            do=near or "Correct `tags`, `exclude_tags` or `semver` of the upstream",
        )
    problems = (MirrorProblem(str(place), tag, error) for tag, error in gone.items())
    return Wanted(chosen.tags, chosen.passed_over, tuple(problems))


def gone_tag(place: Place, tag: str, there: Iterable[str]) -> NotFound:
    """What is said of a tag that an upstream has not, or no more. there: the tags that it has."""
    from registry_pipelines.oci.nearest import nearest_text  # for what is gone alone

    near = nearest_text(tag, there)
    return NotFound(
        "the upstream has no such tag",
        where=f"{place}:{tag}",
        do=f"Write one that is there in `tags`: {near}" if near else "Take it out of `tags` of the upstream",
    )


def _named_and_gone(selector: Selector, there: Sequence[str]) -> list[str]:
    known = set(there)
    return [name for name in selector.full_names if name not in known and name not in selector.exclude]


def apply_mirror(
    plan: MirrorPlan,
    *,
    to: Registry | None,
    via: Registry | None = None,
    engine: Engine = PLAIN,
    admit: Admit | None = None,
) -> MirrorRun:
    """Copy what the plan says: everything to the DMZ registry ``via`` first, then on to ``to``, tags last in each.

    to: None where no wire leads there. admit: is asked of each tag before the private registry; what it refuses is held
    in front of it, and what the private registry has already stays. Where there is no DMZ it is asked about the source.

    Each hop is one plan over all tags: a layer that many share leaves an upstream once, and is mounted where it can be.
    The private registry is filled from the DMZ alone, as a network with an air gap asks. One failing tag does not hold
    the others up, and does not enter the next hop.
    """
    under_way = [_Way(pinned, pinned.source, pinned.digest) for pinned in plan.pinned]
    if via is not None:
        _hop(under_way, via, engine)
    if admit is not None:
        with Pool(ADMITTED_AT_ONCE, "admit") as pool:
            list(pool.map(lambda way: _ask(way, admit), [way for way in under_way if way.error is None]))
    if to is not None:
        _hop(under_way, to, engine)
    rows = [_row(way) for way in under_way if way.error is None]
    problems = [
        MirrorProblem(str(way.pinned.upstream.source), way.pinned.tag, way.error, way.pinned)
        for way in under_way
        if way.error
    ]
    return MirrorRun(tuple(rows), (*plan.problems, *problems), tuple(_left_over(plan, under_way)))


def _ask(way: _Way, admit: Admit) -> None:
    try:
        way.source = admit(way.pinned, way.source, way.digest)
    except RegistryPipelinesError as error:
        way.error = error


def _left_over(plan: MirrorPlan, ways: Sequence[_Way]) -> Iterator[Omission]:
    """Tags of the upstreams that came with no image."""
    brought: dict[Place, set[str]] = defaultdict(set)
    for way in ways:
        brought[way.pinned.upstream.source] |= way.companions
    for place, tag in plan.passed_over:
        yield from omissions.left_over(place, [tag], brought[place])


@dataclass
class _Way:
    """How far one tag came: where it is now, under which digest, and what that cost."""

    pinned: PinnedTag
    source: Place
    digest: Digest
    changed: bool = False
    bytes_moved: int = 0
    seconds: float = 0.0
    left_out: tuple[Omission, ...] = ()
    companions: Set[str] = frozenset()
    """Tags of the upstream that travelled with it."""
    error: RegistryPipelinesError | None = None


def _hop(under_way: Sequence[_Way], registry: Registry, engine: Engine) -> None:
    """Bring what got this far to the next registry, in one plan; not what is taken from there, as the upstream has it
    no more."""
    ways = [
        way for way in under_way if way.error is None and way.source != Place(registry, way.pinned.upstream.repository)
    ]
    items = [
        Item(
            source=way.source,
            reference=way.digest,
            target=Place(registry, way.pinned.upstream.repository),
            tags=(way.pinned.tag,) if way.pinned.tag else (),
            platforms=way.pinned.upstream.settings.platforms,
            selection=way.pinned.upstream.settings.selection,
            foreign_layers=way.pinned.upstream.settings.foreign_layers,
        )
        for way in ways
    ]
    results = copy_items(items, engine=engine)
    for way, asked, result in zip(ways, items, results, strict=True):
        if isinstance(result, RegistryPipelinesError):
            way.error = result
            continue
        way.changed |= result.changed
        way.bytes_moved += result.bytes_moved
        way.seconds += result.seconds
        way.left_out = tuple(dict.fromkeys((*way.left_out, *result.left_out)))
        if way.source is way.pinned.upstream.source and result.receipt is not None:
            way.companions = omissions.companions(result.delivery.job.closure)
        way.error = result.error
        way.source, way.digest = asked.target, result.root.digest


def _row(way: _Way) -> MirrorRow:
    return MirrorRow(way.pinned, way.digest, way.changed, way.bytes_moved, way.seconds, way.left_out)
