"""Keep when an upstream was last brought whole, and say how long ago that was."""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import replace
from datetime import UTC, timedelta

from registry_pipelines.chain.mirror_sources import Chosen, upstreams_of
from registry_pipelines.chain.result import Scalar, StageResult
from registry_pipelines.chain.session import Session
from registry_pipelines.config import Mirror
from registry_pipelines.errors import (
    EvidenceError,
    RegistryPipelinesError,
)
from registry_pipelines.mirror.record import Mirrored, read_record, record_place, write_record
from registry_pipelines.mirror.upstreams import MirrorRun
from registry_pipelines.oci.times import read_time
from registry_pipelines.progress import age_text, count_text
from registry_pipelines.registry.protocol import Place, Registry

SKEW = timedelta(minutes=10)
"""A record may be of the future by so much: clocks differ."""


def remember(session: Session, chosen: Chosen, result: StageResult, run: MirrorRun) -> StageResult:
    """The result of a run, with the records of the upstreams that came whole written to the last registry that was
    filled. One that cannot be written is noted: the images are there all the same."""
    if not chosen.stops:
        note = "`across: bundle` without `via`: nothing is filled from here, `bundle create` takes it from the sources"
        return replace(result, notes=[note, *result.notes])
    signer = session.keys.at_hand("promoter")
    if signer is None:
        note = "when it was last brought is not kept: the promoter's key, which signs that, is not here"
        return replace(result, notes=[*result.notes, note])
    failed = {each.upstream for each in run.problems} | {each.upstream for each in chosen.plan.problems}
    tags: dict[str, dict[str, str]] = defaultdict(dict)
    for row in run.rows:
        upstream = row.pinned.upstream
        tags[upstream.name][f"{upstream.repository}:{row.pinned.tag}"] = str(row.digest)
    place = record_place(chosen.stops[-1], chosen.settings.prefix, chosen.settings.name)
    now = session.now().strftime("%Y-%m-%dT%H:%M:%SZ")
    notes: list[str] = []
    broken = {each.name for each in chosen.upstreams if {str(each.source), each.name} & failed}
    for name in sorted(tags.keys() - broken):
        record = Mirrored(mirror=chosen.settings.name, upstream=name, at=now, tags=tags[name])
        try:
            write_record(place, record, signer)
        except RegistryPipelinesError as error:
            notes.append(f"when {name} was last brought is not kept: {error}")
    return replace(result, notes=[*result.notes, *notes])


def age(session: Session, name: str, *, upstream: str = "") -> StageResult:
    """How long ago each upstream was last brought whole, by the signed record at the private registry; not ``ok`` where
    that is longer than ``max_age``, never was, or cannot be told. upstream: only this one. Raises InputError."""
    started = time.monotonic()
    settings = session.mirror(name)
    most = settings.max_age
    place = record_place(_last(session, settings), settings.prefix, name)
    names = dict.fromkeys(each.name for each in upstreams_of(session, settings, upstream=upstream))
    rows: list[dict[str, Scalar]] = []
    reasons: list[str] = []
    for each in names:
        row, reason = _aged(session, place, name, each, most)
        rows.append(row)
        reasons += [f"{each}: {reason}"] if reason else []
    oldest = max((float(row["age_s"]) for row in rows), default=0.0)
    return StageResult(
        stage=f"age:{name}",
        subject=upstream or name,
        action=f"{count_text(len(reasons), 'upstream')} of {len(rows)} too old" if reasons else "all are young enough",
        seconds=time.monotonic() - started,
        facts={"upstreams": len(rows), "too_old": len(reasons), "oldest_s": oldest, "most_s": most.total_seconds()},
        rows=rows,
        reasons=reasons,
        ok=not reasons,
        exit_code=EvidenceError.exit_code if reasons else 0,
    )


def _aged(session: Session, place: Place, mirror: str, upstream: str, most: timedelta) -> tuple[dict[str, Scalar], str]:
    row: dict[str, Scalar] = {"upstream": upstream, "last": "", "age_s": 0.0, "tags": 0}
    try:
        record = read_record(place, mirror, upstream, session.verifier())
    except RegistryPipelinesError as error:
        return row, f"when it was last brought cannot be read: {error}"
    if record is None:
        return row, "it was never brought whole"
    at = read_time(record.at, zone=UTC)
    if at is None or at - session.now() > SKEW:
        return {**row, "last": record.at[:40]}, f"it was last brought at {record.at[:40]}, which is no time that was"
    passed = session.now() - at
    row |= {"last": record.at, "age_s": max(0.0, passed.total_seconds()), "tags": len(record.tags)}
    told = f"it was last brought whole {age_text(passed.total_seconds())} ago"
    return row, told if passed > most else ""


def _last(session: Session, mirror: Mirror) -> Registry:
    """The last registry that is filled from this side."""
    return session.places.registry(mirror.stops[-1])
