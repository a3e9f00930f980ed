"""Mirror foreign images: plan which tags, then copy each through the DMZ registry into the private one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass

from registry_pipelines.errors import NotFound, RegistryPipelinesError, exit_code_of_many
from registry_pipelines.mirror.model import Upstream
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.progress import count_text
from registry_pipelines.registry.protocol import Place, Registry
from registry_pipelines.transfer.batch import Item, copy_items
from registry_pipelines.transfer.closure import omissions
from registry_pipelines.transfer.closure.closure import Omission
from registry_pipelines.transfer.closure.digest_tags import Chosen, DigestTags
from registry_pipelines.transfer.closure.listed import list_tags
from registry_pipelines.transfer.engine import PLAIN, Engine


@dataclass(frozen=True, kw_only=True)
class OpenUpstream:
    """An upstream with its registry opened."""

    source: Place
    repository: str
    """Its name in the DMZ and in the private registry."""
    settings: Upstream


@dataclass(frozen=True)
class PinnedTag:
    """One tag to mirror, pinned: the digest it named when the plan was made is what is copied."""

    upstream: OpenUpstream
    tag: str
    top: Descriptor
    """What its HEAD said: media type, digest and size."""

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
        passed_over |= {(upstream.source, tag): None for tag in chosen.passed_over}
        for tag in chosen.tags:
            try:
                tagged = upstream.source.registry.resolve(upstream.source.repository, tag)
            except RegistryPipelinesError as error:
                problems.append(MirrorProblem(str(upstream.source), tag, error))
            else:
                pinned.append(PinnedTag(upstream, tag, tagged))
    return MirrorPlan(tuple(pinned), tuple(problems), tuple(passed_over))


def wanted_tags(upstream: OpenUpstream) -> Chosen:
    """The tags an upstream's rules select now. Tags that only hold evidence (``sha256-<hex>...``) are never among them:
    a copy takes them along with what they belong to. Raises NotFound when nothing is selected."""
    place, selector = upstream.source, upstream.settings.selector
    listed = list_tags(place, selector)
    there = listed.every
    chosen = DigestTags.among(place, listed.listed).choose(there, selector.select)
    if not chosen.tags:
        raise NotFound(
            f"none of its {count_text(len(there), 'tag')} is selected",
            where=str(place),
            do="Correct `tags`, `exclude_tags` or `semver` of the upstream",
        )
    return chosen


def apply_mirror(
    plan: MirrorPlan,
    *,
    to: Registry,
    via: Registry | None = None,
    engine: Engine = PLAIN,
) -> MirrorRun:
    """Copy what the plan says: everything to the DMZ registry ``via`` first, then on to ``to``, tags last in each.

    Each hop is one plan over all tags: a layer that many share leaves an upstream once, and is mounted where it can be.
    The private registry is filled from the DMZ alone, as a network with an air gap asks. One failing tag does not hold
    the others up, and does not enter the next hop.
    """
    under_way = [_Way(pinned, pinned.upstream.source, pinned.digest) for pinned in plan.pinned]
    for registry in (via, to):
        if registry is not None:
            _hop([way for way in under_way if way.error is None], registry, engine)
    rows = [_row(way) for way in under_way if way.error is None]
    problems = [
        MirrorProblem(str(way.pinned.upstream.source), way.pinned.tag, way.error) for way in under_way if way.error
    ]
    return MirrorRun(tuple(rows), (*plan.problems, *problems), tuple(_left_over(plan, under_way)))


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


def _hop(ways: Sequence[_Way], registry: Registry, engine: Engine) -> None:
    """Bring what got this far to the next registry, in one plan."""
    items = [
        Item(
            source=way.source,
            reference=way.digest,
            target=Place(registry, way.pinned.upstream.repository),
            tags=(way.pinned.tag,),
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
