"""Tell somebody of runs that failed and of what grew too old: what nobody would see who does not look at the UI.

One sensor, and none of Dagster's ``run_failure_sensor``: that one asks for each run by itself, remembers nothing of its
own, and has no say about what is told together. This one remembers in its cursor what was told, tells many failures of
a job as one, and tries again when nobody could be told. It starts no run, so it is on from the start.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from time import monotonic

import dagster as dg
import msgspec
from dagster._core.definitions.freshness import FreshnessState

from dagster_project.owners import Owners
from dagster_project.partitions import PARTITION_TAG, whole_key
from dagster_project.people import PROMOTE_JOB
from dagster_project.report import OUTCOME_TAG
from dagster_project.resources import ChainParam
from dagster_project.schedules import IMAGE_TAG
from registry_pipelines.chain import Chain
from registry_pipelines.config import Config
from registry_pipelines.config.notify import NotifyEvent
from registry_pipelines.oci.decoding import ready
from registry_pipelines.progress import count_text

INTERVAL_S = 60
MOST_RUNS = 200
"""Failed runs that one look reads; the next one goes on there."""
LONGEST_S = 15
"""Seconds after which a look begins to tell nothing more; one notice takes `notify.timeout` for each way."""
TOGETHER = 3
"""Failed runs of one job that are told one by one; more at once are one notice."""
OVERLAP = timedelta(seconds=30)
"""Before the last look: a run's end is written by another machine, whose clock differs."""
KEPT = 2000
"""Runs remembered as told; more than fail within the overlap."""
TELLING_JOBS = ("release", PROMOTE_JOB, "deploy")
"""Their failure hook and the library tell of releases themselves, with what to do."""
LONGEST_REASON = 500
WILL_RETRY = "dagster/will_retry"
STALE_EVENT: NotifyEvent = "stale"
RUN_EVENT: NotifyEvent = "run-failed"


class Told(msgspec.Struct, omit_defaults=True):
    """The cursor: since when failures are told, which runs were, and which assets."""

    since: float = 0.0
    """Seconds since 1970, by the database's rows."""
    runs: list[str] = []
    stale: list[str] = []


def recall(cursor: str | None) -> Told:
    """What was told; nothing for a cursor that cannot be read, whoever typed it."""
    try:
        return msgspec.json.decode(cursor or "{}", type=ready(Told))
    except msgspec.DecodeError:
        return Told()


def failed_runs(instance: dg.DagsterInstance, told: Told) -> list[dg.RunRecord]:
    """Runs that failed and were not told of, the oldest first. What Dagster starts again by itself is told when that
    fails, too."""
    after = datetime.fromtimestamp(told.since, UTC) - OVERLAP
    records = instance.get_run_records(
        dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE], updated_after=after),
        limit=MOST_RUNS + len(told.runs),  # those that were told may be all that the first so many are
        order_by="update_timestamp",
        ascending=True,
    )
    known = set(told.runs)
    return [each for each in records if each.dagster_run.run_id not in known]


def tells_itself(run: dg.DagsterRun) -> bool:
    """Whether somebody else tells of a failed run, or it is started again."""
    outcome = run.tags.get(OUTCOME_TAG, "")
    return run.tags.get(WILL_RETRY) == "true" or (run.job_name in TELLING_JOBS and outcome in ("denied", "failed"))


def why(instance: dg.DagsterInstance, run_id: str) -> str:
    """Why a run failed, in one line: its first step that did, else what ended it from outside."""
    kinds = {dg.DagsterEventType.STEP_FAILURE, dg.DagsterEventType.RUN_FAILURE}
    for entry in instance.all_logs(run_id, of_type=kinds):
        event = entry.dagster_event
        if event is None:
            continue
        error = event.step_failure_data.error if event.is_step_failure else None
        cause = error.cause if error and error.cause else error
        text = " ".join((cause.message if cause else event.message or "").split())
        if text:
            step = f"{event.step_key}: " if event.is_step_failure else ""
            return f"{step}{text}"[:LONGEST_REASON]
    return "nothing says why; its worker may have been killed"


def tell_failed(context: dg.SensorEvaluationContext, chain: Chain, told: Told) -> list[str]:
    """Tell of failed runs, and note them as told; what went wrong with that. Where nobody could be told this ends: the
    next look asks for the rest again. It ends also where telling takes long: Dagster ends a tick after 60 s and forgets
    it, and who was told would be told anew, each time."""
    started, problems = monotonic(), []
    records = failed_runs(context.instance, told)
    groups, done = grouped(records)
    for job, group in groups:
        if monotonic() - started >= LONGEST_S:
            break
        found = tell_group(context.instance, chain, job, [each.dagster_run for each in group])
        problems += found
        if nobody_told(chain, found):
            break
        done += group
    ids = [each.dagster_run.run_id for each in done]
    told.runs = [*told.runs, *ids][-KEPT:]
    left = [each for each in records if each.dagster_run.run_id not in ids]
    if last := left[:1] or records[-1:]:
        told.since = max(told.since, last[0].update_timestamp.replace(tzinfo=UTC).timestamp())
    return problems


def grouped(records: Iterable[dg.RunRecord]) -> tuple[list[tuple[str, list[dg.RunRecord]]], list[dg.RunRecord]]:
    """Runs that are told together, with their job; and those that are not told here."""
    by_job: dict[str, list[dg.RunRecord]] = {}
    quiet = []
    for each in records:
        if tells_itself(each.dagster_run):
            quiet.append(each)
        else:
            by_job.setdefault(each.dagster_run.job_name, []).append(each)
    groups = []
    for job, failed in by_job.items():
        groups += [(job, part) for part in ([failed] if len(failed) > TOGETHER else [[each] for each in failed])]
    return groups, quiet


def nobody_told(chain: Chain, problems: Sequence[str]) -> bool:
    """Whether each way failed: where one did not, somebody was told, and is not told again."""
    return len(problems) >= chain.config.notify.way_count


def tell_group(instance: dg.DagsterInstance, chain: Chain, job: str, runs: Sequence[dg.DagsterRun]) -> list[str]:
    """Tell of runs of one job as one notice."""
    if len(runs) == 1:
        [run] = runs
        about = run.tags.get(PARTITION_TAG, "")
        what, reasons = f"run {run.run_id[:8]}{f' of {about}' if about else ''} failed", [why(instance, run.run_id)]
    else:
        what = f"{count_text(len(runs), 'run')} failed"
        reasons = [f"{each.run_id[:8]} {each.tags.get(PARTITION_TAG, '')}".strip() for each in runs]
        reasons.insert(0, why(instance, runs[0].run_id))
    return chain.alert(RUN_EVENT, stage=job, what=what, reasons=reasons, owners=owners_of_runs(chain.config, runs))


def owners_of_runs(config: Config, runs: Iterable[dg.DagsterRun]) -> list[str]:
    """Who owns the images that runs are of; the platform's owners for what is no image's."""
    owners = Owners(config)
    images = {
        run.tags.get(IMAGE_TAG) or getattr(whole_key(run.tags.get(PARTITION_TAG, "")), "image", "") for run in runs
    }
    return list(dict.fromkeys(each for image in sorted(images) for each in owners.of_image(image)))


def tell_stale(
    context: dg.SensorEvaluationContext, chain: Chain, watched: Mapping[dg.AssetKey, Sequence[str]], told: Told
) -> list[str]:
    """Tell of assets that turned red, all that did as one notice; what is fresh again may be told again later. watched:
    assets with a freshness policy, and who owns each."""
    found = context.instance.get_freshness_state_records(list(watched))
    red = {key for key, record in found.items() if record.freshness_state is FreshnessState.FAIL}
    names = {key.to_user_string(): key for key in red}
    new = sorted(set(names) - set(told.stale))
    owners = list(dict.fromkeys(owner for name in new for owner in watched[names[name]]))
    problems = []
    if new:
        what = f"{count_text(len(new), 'asset is', 'assets are')} older than may be"
        problems = chain.alert(STALE_EVENT, stage="freshness", what=what, reasons=new, owners=owners)
    told.stale = sorted(name for name in names if name in told.stale or not nobody_told(chain, problems))
    return problems


def look(
    context: dg.SensorEvaluationContext, chain: Chain, watched: Mapping[dg.AssetKey, Sequence[str]]
) -> dg.SensorResult:
    """One look; what failed before the first one is not told."""
    told = recall(context.cursor)
    if not told.since:
        told.since = datetime.now(UTC).timestamp()
        told.runs = [each.dagster_run.run_id for each in failed_runs(context.instance, told)]
    events = chain.config.notify.events
    problems = tell_failed(context, chain, told) if RUN_EVENT in events else []
    if STALE_EVENT in events and not nobody_told(chain, problems):
        problems += tell_stale(context, chain, watched, told)
    for problem in problems:
        context.log.warning("%s", problem)
    return dg.SensorResult(
        skip_reason="; ".join(problems) or "everything was told", cursor=msgspec.json.encode(told).decode()
    )


def alerts_sensor(specs: Iterable[dg.AssetSpec]) -> dg.SensorDefinition:
    """The sensor that tells. specs: every asset of the location."""
    watched = {each.key: list(each.owners) for each in specs if each.freshness_policy}

    @dg.sensor(
        name="alerts",
        minimum_interval_seconds=INTERVAL_S,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Tells whom `notify` names of runs that failed, and of assets that are older than they may be. "
        "Runs nothing.",
    )
    def tell(context: dg.SensorEvaluationContext, chain: ChainParam) -> dg.SensorResult:
        return look(context, chain, watched)

    return tell
