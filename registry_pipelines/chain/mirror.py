"""Bring foreign images up to date behind an air gap."""

from __future__ import annotations

import time
from collections.abc import Iterable

from registry_pipelines.chain.places import join_repository
from registry_pipelines.chain.result import Scalar, StageResult, request_facts
from registry_pipelines.chain.session import Session
from registry_pipelines.config import Mirror
from registry_pipelines.errors import InputError
from registry_pipelines.mirror.upstreams import MirrorProblem, MirrorRow, OpenUpstream, apply_mirror, plan_mirror
from registry_pipelines.progress import count_text
from registry_pipelines.transfer.closure import omissions
from registry_pipelines.transfer.limits.requests import Requests


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
        action=f"{changed} of {count_text(len(run.rows), 'tag')} copied" if changed else "unchanged",
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
    for upstream in mirror.upstreams:
        place = session.places.place(upstream.image)
        if str(place) in ours:
            raise InputError(
                f"{upstream.image} is where releases of {ours[str(place)]} appear, no foreign image",
                where=f"mirrors.{mirror.name}.upstreams",
                do=f"List {ours[str(place)]} in `images` of the mirror: what is promoted is taken",
            )
        repository = join_repository(mirror.prefix, upstream.repository or place.repository)
        yield OpenUpstream(source=place, repository=repository, settings=upstream)


def _upstream_name(row: MirrorRow) -> str:
    return f"{row.pinned.upstream.source}:{row.pinned.tag}"


def _problem_text(problem: MirrorProblem) -> str:
    """Errors of registries mostly begin with what they are about."""
    name = f"{problem.upstream}:{problem.tag}" if problem.tag else problem.upstream
    text = str(problem.error)
    return text if text.startswith(name) else f"{name}: {text}"


def _left_out(row: MirrorRow) -> Iterable[dict[str, Scalar]]:
    return [{"image": _upstream_name(row), **each} for each in omissions.rows(row.left_out)]


def _mirrored(row: MirrorRow) -> dict[str, Scalar]:
    return {
        "upstream": str(row.pinned.upstream.source),
        "tag": row.pinned.tag,
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
