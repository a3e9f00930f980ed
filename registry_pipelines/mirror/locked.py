"""Between a lock and the upstreams: the plan that takes exactly what a lock says, and the lines for what is there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import msgspec

from registry_pipelines.errors import InputError, NotFound, RegistryPipelinesError
from registry_pipelines.mirror.lock import Difference, Lock, LockedTag, differences
from registry_pipelines.mirror.upstreams import (
    MirrorPlan,
    MirrorProblem,
    OpenUpstream,
    PinnedTag,
    gone_tag,
    plan_mirror,
)
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import (
    MAX_CONFIG_BYTES,
    Descriptor,
    Index,
    Manifest,
    ManifestBytes,
    read_image_config,
)
from registry_pipelines.oci.platforms import Platform
from registry_pipelines.registry.blobs import read_blob
from registry_pipelines.registry.protocol import Place, Registry
from registry_pipelines.transfer.closure.listed import list_tags
from registry_pipelines.transfer.closure.manifests import ManifestFolder
from registry_pipelines.transfer.closure.platforms import select

RELOCK = "Run `registry-pipelines mirror lock`, and have the change reviewed"


@dataclass(frozen=True)
class LockedPlan:
    """What a mirror takes by its lock, and how the upstreams differ from it by now."""

    plan: MirrorPlan
    changes: tuple[Difference, ...]
    unseen: tuple[MirrorProblem, ...] = ()
    """Upstreams that could not be looked at, so that nothing is known of their changes."""


def plan_locked(lock: Lock, upstreams: Sequence[OpenUpstream], *, first_stop: Registry | None = None) -> LockedPlan:
    """The plan that takes exactly what the lock says; writes nothing.

    A digest that an upstream has no more is taken from the first stop, where an earlier run brought it; where it is not
    there either, that tag is a problem, with the nearest tags. first_stop: the DMZ registry, or the private one where
    there is none. What the lock and the configuration do not share is a problem, too.
    """
    looked = plan_mirror(upstreams)
    by_key = _by_key(upstreams)
    pinned: list[PinnedTag] = []
    problems: list[MirrorProblem] = []
    for line in lock.tags:
        upstream = _upstream_of(line, by_key)
        if upstream is None:
            why = InputError(f"the lock brings it to {line.repository}, and the mirror does not", do=RELOCK)
            problems.append(MirrorProblem(line.image, line.tag, why))
            continue
        try:
            pinned.append(_pinned(line, upstream, first_stop))
        except RegistryPipelinesError as error:
            problems.append(MirrorProblem(str(upstream.source), line.tag, error))
    locked = {(line.image, line.repository) for line in lock.tags}
    for key, (upstream, *_) in by_key.items():
        if key not in locked:
            why = InputError("the lock has no line of it", do=RELOCK)
            problems.append(MirrorProblem(str(upstream.source), "", why))
    # An upstream that did not answer has not vanished; what it lost is told by its own tags, where those can be read.
    dark = [each for each in looked.problems if not isinstance(each.error, NotFound)]
    sources = {each.upstream for each in dark if not each.tag}
    tags = {(each.upstream, each.tag) for each in dark}
    seen = [
        line
        for line in lock.tags
        if (upstream := _upstream_of(line, by_key))
        and str(upstream.source) not in sources
        and (str(upstream.source), line.tag) not in tags
    ]
    changes = differences(seen, [_unmeasured(each) for each in looked.pinned])
    return LockedPlan(MirrorPlan(tuple(pinned), tuple(problems), looked.passed_over), tuple(changes), tuple(dark))


def _by_key(upstreams: Iterable[OpenUpstream]) -> Mapping[tuple[str, str], list[OpenUpstream]]:
    """Upstreams by image and repository: one image may be written twice, with other tags and another policy."""
    found: dict[tuple[str, str], list[OpenUpstream]] = {}
    for each in upstreams:
        found.setdefault((each.name, each.repository), []).append(each)
    return found


def _upstream_of(line: LockedTag, by_key: Mapping[tuple[str, str], list[OpenUpstream]]) -> OpenUpstream | None:
    """The upstream that a line is about: the first whose rules take its tag. Of a tag that none takes any more, one
    with a policy of its own comes first, so that it gets no easier."""
    there = by_key.get((line.image, line.repository), [])
    taking = [each for each in there if each.settings.selector.select([line.tag])]
    found = taking or sorted(there, key=lambda each: each.settings.policy is None)
    return found[0] if found else None


def news(before: Lock | None, plan: MirrorPlan) -> list[PinnedTag]:
    """What is to be read for a lock of this plan: tags that are new, or name something else than in the lock."""
    old = {line.key: line for line in before.tags} if before else {}
    lines = [(each, _unmeasured(each)) for each in plan.pinned]
    return [each for each, line in lines if line.key not in old or differences([old[line.key]], [line])]


def lock_tags(
    name: str, upstreams: Sequence[OpenUpstream], plan: MirrorPlan, before: Lock | None, known: ManifestFolder | None
) -> tuple[Lock, tuple[MirrorProblem, ...]]:
    """What a lock says of the upstreams as a plan found them, and what could not be read. Lines of an upstream that
    could not be read stay as they are in ``before``; of one that is unchanged nothing is read anew. known: manifests
    that are read are kept there, so that the mirror asks no quota for them again; None: nothing is read, and new lines
    have neither platforms nor sizes."""
    old = {line.key: line for line in before.tags} if before else {}
    lines: dict[tuple[str, str, str], LockedTag] = {}
    problems = list(plan.problems)
    for pinned in plan.pinned:
        line = _unmeasured(pinned)
        try:
            lines[line.key] = _measured(line, pinned, old.get(line.key), known) if known else line
        except RegistryPipelinesError as error:
            problems.append(MirrorProblem(str(pinned.upstream.source), pinned.tag, error))
    unread = {(each.upstream, each.tag) for each in problems if not isinstance(each.error, NotFound)}
    sources = {(each.name, each.repository): str(each.source) for each in upstreams}
    for key, line in old.items():
        source = sources.get((line.image, line.repository))
        if source is not None and ((source, "") in unread or (source, line.tag) in unread):
            lines.setdefault(key, line)
    return Lock(name, tuple(lines.values())), tuple(problems)


def _pinned(line: LockedTag, upstream: OpenUpstream, first_stop: Registry | None) -> PinnedTag:
    wanted = line.platforms if line.only else ()
    settings = msgspec.structs.replace(upstream.settings, platforms=wanted)
    chosen = replace(upstream, settings=settings)
    try:
        return PinnedTag(chosen, line.tag, upstream.source.registry.resolve(upstream.source.repository, line.digest))
    except NotFound:
        if first_stop is None:
            raise _gone(line, upstream) from None
        here = Place(first_stop, upstream.repository)
        try:
            return PinnedTag(chosen, line.tag, first_stop.resolve(here.repository, line.digest), kept_at=here)
        except NotFound:
            raise _gone(line, upstream) from None


def _gone(line: LockedTag, upstream: OpenUpstream) -> NotFound:
    """Also where the repository is gone, of which no tags can be listed."""
    try:
        there = list_tags(upstream.source, upstream.settings.selector).every
    except RegistryPipelinesError:
        there = []
    if line.tag in there:
        return NotFound(
            f"the upstream has {line.digest.short} no more, which the lock names; the tag names another digest",
            where=f"{upstream.source}:{line.tag}",
            do=RELOCK,
        )
    near = gone_tag(upstream.source, line.tag, there)
    return NotFound(
        f"the upstream has neither {line.digest.short}, which the lock names, nor its tag", where=near.where, do=near.do
    )


def _unmeasured(pinned: PinnedTag) -> LockedTag:
    wanted = pinned.upstream.settings.platforms
    return LockedTag(
        image=pinned.upstream.name,
        tag=pinned.tag,
        digest=pinned.digest,
        platforms=tuple(wanted),
        only=bool(wanted),
        repository=pinned.upstream.repository,
    )


def _measured(line: LockedTag, pinned: PinnedTag, before: LockedTag | None, known: ManifestFolder) -> LockedTag:
    """With platforms and size; those of the old line where it is about the same."""
    if before is not None and not differences([before], [line]):
        return before
    place, wanted = pinned.source, pinned.upstream.settings.platforms
    platforms, sizes = _contents(place, pinned.digest, wanted, known)
    return replace(
        line,
        platforms=tuple(wanted) or tuple({str(each): each for each in platforms}.values()),
        size=sum(sizes.values()),
    )


def _contents(
    place: Place, digest: Digest, wanted: Sequence[Platform], known: ManifestFolder
) -> tuple[list[Platform], Mapping[Digest, int]]:
    """Platforms, and bytes of each manifest and blob below it."""
    platforms: list[Platform] = []
    sizes: dict[Digest, int] = {}
    waiting: list[tuple[Digest, Descriptor | None]] = [(digest, None)]
    while waiting:
        each, listed = waiting.pop(0)
        if each in sizes:
            continue
        stored = _read(place, each, known)
        sizes[each] = len(stored.raw)
        content = stored.content()
        if isinstance(content, Index):
            chosen = select(content.manifests, wanted if each == digest else (), where=f"{place}@{each}")
            waiting += [(child.digest, child) for child in chosen]
            continue
        sizes.update({blob.digest: blob.size for blob in (content.config, *content.layers)})
        platform = listed.platform if listed and listed.platform else _configured(place, content)
        if platform is not None and not platform.unknown:
            platforms.append(platform)
    return platforms, sizes


def _read(place: Place, digest: Digest, known: ManifestFolder) -> ManifestBytes:
    stored = known.manifest(digest)
    if stored is None:
        stored = place.registry.get_manifest(place.repository, digest)
        known.keep_manifest(stored)
    return stored


def _configured(place: Place, manifest: Manifest) -> Platform | None:
    """The platform of a single image; None for an artifact."""
    try:
        config = read_image_config(read_blob(place, manifest.config, limit=MAX_CONFIG_BYTES), where=str(place))
    except RegistryPipelinesError:
        return None
    return config.platform if config.platform.os and config.platform.architecture else None
