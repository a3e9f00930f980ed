"""Write what a mirror takes into its lock, by digest, for people to review."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from registry_pipelines.chain.mirror_sources import read_lock, upstreams_of
from registry_pipelines.chain.result import Scalar, StageResult
from registry_pipelines.chain.session import Session
from registry_pipelines.errors import ContentError
from registry_pipelines.mirror.upstreams import MirrorPlan, plan_mirror
from registry_pipelines.oci.files import local_errors, write_file
from registry_pipelines.progress import count_text, size_text
from registry_pipelines.transfer.closure.manifests import ManifestFolder

if TYPE_CHECKING:
    from registry_pipelines.mirror.lock import Difference
    from registry_pipelines.mirror.upstreams import MirrorProblem


def lock(session: Session, name: str, *, dry_run: bool = False, check: bool = False) -> StageResult:
    """Pin every upstream of a mirror as it is now, and write its lock. dry_run: only say what would change. check: the
    same, and not ``ok`` where anything would, for a pipeline that watches the upstreams. Both look by HEAD alone, which
    no quota counts, so that new lines have no size yet.

    An upstream that cannot be read keeps its lines, and the result is not ``ok``. Raises InputError where the mirror
    has no ``lock``, LocalError.
    """
    started = time.monotonic()
    settings = session.mirror(name)
    before = read_lock(settings)
    from registry_pipelines.mirror.lock import differences
    from registry_pipelines.mirror.locked import lock_tags, news

    reads = not (dry_run or check)
    upstreams = list(upstreams_of(session, settings))
    plan = plan_mirror(upstreams)
    budget = _forecast(session, MirrorPlan(tuple(news(before, plan)), ())) if reads else []
    known = ManifestFolder(session.config.state / "transfer" / "manifests") if reads else None
    made, problems = lock_tags(name, upstreams, plan, before, known)
    changes = differences(before.tags if before else (), made.tags)
    writes = reads and (before is None or before.text != made.text)
    if writes and settings.lock is not None:
        with local_errors(settings.lock):
            settings.lock.parent.mkdir(parents=True, exist_ok=True)
            write_file(settings.lock, made.text.encode())
    total = sum(each.size for each in made.tags)
    failed = [_said(each) for each in problems]
    reasons = [*failed, *((each.sentence for each in changes) if check else ())]
    done = "written" if reads else "to be written"
    return StageResult(
        stage=f"lock:{name}",
        subject=name,
        action=f"{count_text(len(changes), 'change')} {done}" if changes else "unchanged",
        changed=writes,
        seconds=time.monotonic() - started,
        facts={
            "file": str(settings.lock),
            "tags": len(made.tags),
            "changes": len(changes),
            **{kind: sum(each.change == kind for each in changes) for kind in ("moved", "appeared", "vanished")},
            "problems": len(problems),
            "size_bytes": total,
        },
        rows=[_row(each) for each in changes],
        reasons=reasons,
        notes=[
            *budget,
            *([f"{count_text(len(made.tags), 'tag')}, {size_text(total)} where nothing is shared"] if reads else []),
        ],
        ok=not reasons,
        exit_code=ContentError.exit_code if reasons else 0,
    )


def _said(problem: MirrorProblem) -> str:
    """What failed, with its upstream once: errors of a registry often say where themselves."""
    where, error = f"{problem.upstream}{f':{problem.tag}' if problem.tag else ''}", str(problem.error)
    return error if error.startswith(f"{where}: ") else f"{where}: {error}"


def _forecast(session: Session, plan: MirrorPlan) -> list[str]:
    """What reading the new lines takes of the upstreams' quotas; said of what was left before."""
    if not session.places.limits.budgets():
        return []
    from registry_pipelines.chain.mirror import Forecast

    return Forecast(session, plan, None).notes()


def _row(change: Difference) -> dict[str, Scalar]:
    tag = change.tag
    return {
        "change": change.change,
        "upstream": tag.image,
        "tag": tag.tag,
        "before": change.before.digest if change.before else "",
        "now": change.now.digest if change.now else "",
        "platforms": ", ".join(map(str, tag.platforms)),
        "size_bytes": tag.size,
        "repository": tag.repository,
    }
