"""Verdict, promotion, replicas, mirrors. Whatever copies a release asks :func:`require_promoted` first."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence

from registry_pipelines.chain.places import join_repository
from registry_pipelines.chain.result import Scalar, StageResult, request_facts
from registry_pipelines.chain.session import Session
from registry_pipelines.config import Mirror
from registry_pipelines.errors import InputError, RegistryPipelinesError
from registry_pipelines.evidence.predicates import PROMOTION_TYPE, roles_for
from registry_pipelines.mirror.upstreams import MirrorProblem, MirrorRow, OpenUpstream, apply_mirror, carry, plan_mirror
from registry_pipelines.promote import channels, verdicts
from registry_pipelines.promote.documents import Policy
from registry_pipelines.promote.judge import judge as judge_evidence
from registry_pipelines.promote.judge import require_promoted as ask_to_leave
from registry_pipelines.registry.protocol import Place
from registry_pipelines.release import Release
from registry_pipelines.replicate import replicas
from registry_pipelines.transfer.closure import omissions
from registry_pipelines.transfer.delivery.results import TargetResult
from registry_pipelines.transfer.limits.requests import Requests
from registry_pipelines.transfer.verify import Comparison


def policy_of(session: Session, release: Release) -> Policy:
    """The policy a release must satisfy. Raises InputError for an unknown image."""
    return session.config.policies[session.image(release.image).policy]


def judge(session: Session, release: Release) -> StageResult:
    """Judge a release by what its registry holds, and attach the signed verdict; ``ok`` is the verdict."""
    started = time.monotonic()
    place, subject, verifier = session.source(release), session.subject(release), session.verifier()
    verdict = judge_evidence(
        place, subject, policy_of(session, release), verifier, image=release.image, now=session.now()
    )
    published = verdicts.publish(place, subject, verdict, session.keys.signer("promoter"), verifier)
    facts: dict[str, Scalar] = {
        "release": release.key,
        "verdict": "allow" if verdict.allow else "deny",
        "policy": verdict.policy,
        "policy_digest": verdict.policy_digest,
        "advisories_newest": verdict.advisories.newest,
        "advisories_digest": verdict.advisories.digest,
        "reasons": len(verdict.reasons),
        "accepted": len(verdict.accepted),
    }
    facts |= {f"findings_{severity.lower()}": count for severity, count in verdict.counts.items()}
    notes: list[dict[str, Scalar]] = [{"about": "reason", "text": text} for text in verdict.reasons]
    notes += [{"about": "accepted", "text": text} for text in verdict.accepted]
    notes += [{"about": "note", "text": text} for text in verdict.notes]
    word = "allow" if verdict.allow else "deny"
    return StageResult(
        stage="judge",
        subject=release.key,
        action=f"{word} by policy {verdict.policy}" + ("" if published.changed else " (unchanged)"),
        digest=published.digest,
        changed=published.changed,
        seconds=time.monotonic() - started,
        facts=facts,
        rows=notes,
        reasons=list(verdict.reasons) or [f"accepted: {text}" for text in verdict.accepted],
        notes=[text for text in verdict.notes if text.startswith("warning ")],
        ok=verdict.allow,
    )


def promote(session: Session, release: Release) -> StageResult:
    """Move the image's channel tag to a release. Raises PromotionDenied with every reason."""
    started = time.monotonic()
    image = session.image(release.image)
    done = channels.promote(
        session.source(release),
        release,
        policy_of(session, release),
        session.verifier(),
        session.keys.signer(*roles_for(PROMOTION_TYPE)),
        channel=image.channel,
        now=session.now(),
    )
    return StageResult(
        stage="promote",
        subject=release.key,
        action=f"{image.channel} names it" + (" now" if done.changed else " (unchanged)"),
        digest=release.digest,
        changed=done.changed,
        seconds=time.monotonic() - started,
        facts={
            "release": release.key,
            "channel": image.channel,
            "record": done.digest,
            "from_digest": done.record.from_digest,
            "promoted_by": done.record.promoted_by,
        },
    )


def require_promoted(session: Session, release: Release) -> list[str]:
    """Raise PromotionDenied unless the gate lets a release leave its source registry; what the verdict accepted."""
    return ask_to_leave(
        session.source(release),
        release,
        policy_of(session, release),
        session.verifier(),
        channel=session.image(release.image).channel,
        now=session.now(),
    )


def replicate(session: Session, release: Release, target: str) -> StageResult:
    """Copy a promoted release with all its evidence to one target. Raises PromotionDenied for any other release, and
    what ended the copy."""
    outcome = replicate_to(session, release, [target])[target]
    if isinstance(outcome, RegistryPipelinesError):
        raise outcome
    return outcome


def replicate_to(
    session: Session, release: Release, targets: Sequence[str]
) -> dict[str, StageResult | RegistryPipelinesError]:
    """Copy a promoted release to several targets, in one plan: each blob leaves the source once.

    Returns for each target its result, or the error that ended its copy; none holds the others up. Requests to the
    source are those for all of them. Raises PromotionDenied, InputError for a target that the image does not go to, and
    LocalError.
    """
    places = {name: _destination(session, release, name) for name in targets}
    source, image = session.source(release), session.image(release.image)
    requests = Requests([source.registry, *(each.registry for each in places.values())])
    require_promoted(session, release)
    tags = replicas.tags_of(source, release.digest, version=release.tag, channel=image.channel)
    outcomes = replicas.replicate(
        source,
        release.digest,
        list(places.values()),
        tags=tags,
        foreign_layers=[place for name, place in places.items() if session.config.targets[name].foreign_layers],
        engine=session.engine(),
    )
    counted = requests.so_far()
    results: dict[str, StageResult | RegistryPipelinesError] = {}
    for (name, place), outcome in zip(places.items(), outcomes, strict=True):
        if isinstance(outcome, RegistryPipelinesError):
            results[name] = outcome
        elif outcome.error is not None:
            results[name] = outcome.error
        else:
            asked = {each: counted[each] for each in (source.registry.name, place.registry.name) if each in counted}
            results[name] = _replicated(release, name, outcome, tags.names, asked)
    return results


def _destination(session: Session, release: Release, target: str) -> Place:
    image = session.image(release.image)
    destination = session.places.target(image, target)
    if target not in image.targets:
        raise InputError(f"{image.name} does not go to {target}", do=f"Add it to `targets` of images.{image.name}")
    return destination


def _replicated(
    release: Release, target: str, copied: TargetResult, tags: Sequence[str], requests: Mapping[str, int]
) -> StageResult:
    counted = f"{copied.blobs_moved} blobs, {copied.manifests_put} manifests, {copied.tags_moved} tags"
    return StageResult(
        stage=f"replicate:{target}",
        subject=release.key,
        action=f"copied {counted}" if copied.changed else "unchanged",
        digest=copied.root.digest,
        changed=copied.changed,
        bytes_moved=copied.bytes_moved,
        seconds=copied.seconds,
        facts={
            "release": release.key,
            "place": str(copied.place),
            "blobs": copied.blobs_moved,
            "resumed_bytes": copied.bytes_resumed,
            "mounted": copied.blobs_mounted,
            "manifests": copied.manifests_put,
            "tags": " ".join(tags),
            "receipt": copied.receipt is not None,
            **request_facts(requests),
        },
        tables={"left_out": omissions.rows(copied.left_out)},
        reasons=[str(each) for each in copied.drift],
        notes=list(filter(None, [copied.left_out_note])),
        ok=copied.ok,
    )


def compare_replica(session: Session, release: Release, target: str) -> Comparison:
    """What differs between a release's source and a target, and what was not compared."""
    image = session.image(release.image)
    source = session.source(release)
    tags = replicas.tags_of(source, release.digest, version=release.tag, channel=image.channel)
    foreign = session.config.targets[target].foreign_layers
    place = session.places.target(image, target)
    return replicas.examine(source, place, release.digest, tags=tags, foreign_layers=foreign)


def mirror_release(session: Session, release: Release, name: str) -> StageResult:
    """Copy a promoted release through the DMZ registry into the private one. Raises PromotionDenied otherwise."""
    mirror = session.mirror(name)
    image = session.image(release.image)
    if image.name not in mirror.images:
        raise InputError(f"{image.name} is not mirrored by {name}", do=f"Add it to `images` of mirrors.{name}")
    source, stops = session.source(release), session.stops(mirror, image.repository)
    requests = Requests(each.registry for each in (source, *stops))
    require_promoted(session, release)
    tags = replicas.tags_of(source, release.digest, version=release.tag, channel=image.channel)
    carried = carry(
        source,
        release.digest,
        stops,
        tags=tags.names,
        foreign_layers=mirror.foreign_layers,
        engine=session.engine(),
    )
    compared = replicas.examine(source, stops[-1], release.digest, tags=tags, foreign_layers=mirror.foreign_layers)
    way = " by way of ".join(reversed([str(stop) for stop in stops]))
    return StageResult(
        stage=f"mirror:{name}",
        subject=release.key,
        action=f"copied to {way}" if carried.changed else "unchanged",
        digest=carried.digest,
        changed=carried.changed,
        bytes_moved=carried.bytes_moved,
        seconds=carried.seconds,
        facts={
            "release": release.key,
            "place": str(stops[-1]),
            "stops": len(stops),
            "differences": len(compared.differences),
            **request_facts(requests.so_far()),
        },
        tables={"left_out": omissions.rows(carried.left_out)},
        reasons=[str(each) for each in compared.differences],
        notes=list(filter(None, [omissions.note(carried.left_out)])),
        ok=not compared.differences,
    )


def mirror(session: Session, name: str) -> StageResult:
    """Bring a mirror's foreign images up to date; one that fails does not hold the others up, but is not ``ok``."""
    started = time.monotonic()
    settings = session.mirror(name)
    upstreams = list(upstreams_of(session, settings))
    via = session.places.registry(settings.via) if settings.via else None
    to = session.places.registry(settings.to)
    requests = Requests([*(each.source.registry for each in upstreams), *([via] if via else []), to])
    run = apply_mirror(
        plan_mirror(upstreams),
        via=via,
        to=to,
        engine=session.engine(),
    )
    changed = sum(row.changed for row in run.rows)
    left_out: list[dict[str, Scalar]] = [{"image": "", **each} for each in omissions.rows(run.passed_over)]
    left_out += [left for row in run.rows for left in _left_out(row)]
    notes = [f"{_upstream_name(row)}: {omissions.note(row.left_out)}" for row in run.rows if row.left_out]
    return StageResult(
        stage=f"mirror:{name}",
        subject=name,
        action=f"{changed} of {len(run.rows)} tags copied" if changed else "unchanged",
        changed=bool(changed),
        bytes_moved=sum(row.bytes_moved for row in run.rows),
        seconds=time.monotonic() - started,
        facts={
            "upstreams": len(settings.upstreams),
            "tags": len(run.rows),
            "tags_changed": changed,
            "problems": len(run.problems),
            "left_out_count": len(left_out),
            **request_facts(requests.so_far()),
        },
        rows=[*map(_mirrored, run.rows), *map(_not_mirrored, run.problems)],
        tables={"left_out": left_out},
        notes=[*notes, omissions.note(run.passed_over)] if run.passed_over else notes,
        reasons=[_problem_text(each) for each in run.problems],
        ok=not run.problems,
        exit_code=run.exit_code,
    )


def upstreams_of(session: Session, mirror: Mirror) -> Iterable[OpenUpstream]:
    """A mirror's upstreams, opened. Raises InputError for the source of our own image: no policy is asked that way."""
    ours = {str(session.places.source(image)): image.name for image in session.config.images.values()}
    for each in mirror.upstreams:
        place = session.places.place(each.image)
        if str(place) in ours:
            raise InputError(
                f"{each.image} is where releases of {ours[str(place)]} appear, no foreign image",
                where=f"mirrors.{mirror.name}.upstreams",
                do=f"List {ours[str(place)]} in `images` of the mirror: what is promoted is taken",
            )
        repository = join_repository(mirror.prefix, each.repository or place.repository)
        yield OpenUpstream(source=place, repository=repository, settings=each)


def _upstream_name(row: MirrorRow) -> str:
    return f"{row.item.upstream.source}:{row.item.tag}"


def _problem_text(problem: MirrorProblem) -> str:
    """Errors of registries mostly begin with what they are about."""
    name = f"{problem.upstream}:{problem.tag}" if problem.tag else problem.upstream
    text = str(problem.error)
    return text if text.startswith(name) else f"{name}: {text}"


def _left_out(row: MirrorRow) -> Iterable[dict[str, Scalar]]:
    return [{"image": _upstream_name(row), **each} for each in omissions.rows(row.left_out)]


def _mirrored(row: MirrorRow) -> dict[str, Scalar]:
    return {
        "upstream": str(row.item.upstream.source),
        "tag": row.item.tag,
        "digest": row.digest,
        "state": "copied" if row.changed else "unchanged",
        "bytes": row.bytes_moved,
        "left_out": len(row.left_out),
        "seconds": round(row.seconds, 3),
    }


def _not_mirrored(problem: MirrorProblem) -> dict[str, Scalar]:
    return {
        "upstream": problem.upstream,
        "tag": problem.tag,
        "digest": "",
        "state": f"failed: {problem.error.what}",
        "bytes": 0,
        "left_out": 0,
        "seconds": 0.0,
    }
