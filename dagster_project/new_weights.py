"""The sensor that looks for new sets of weights at the places that the configuration names."""

import dagster as dg
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus

from dagster_project.assets.weights import WHOLE, key_of
from dagster_project.memory import Count, Cursor
from dagster_project.report import OUTCOME_TAG
from dagster_project.resources import ChainParam
from dagster_project.schedules import Job
from dagster_project.sensors import LOOKS_PER_RECONCILE, MAX_ATTEMPTS, at_start, look_at
from registry_pipelines.chain import Chain
from registry_pipelines.config import Config
from registry_pipelines.errors import RegistryPipelinesError

FAILED = AssetCheckExecutionRecordStatus.FAILED
RUN_KEY_TAG = "dagster/run_key"
ENDED_BY_ITSELF = (dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE)


class Seen(Cursor):
    """digests: by section of `weights` the set that a run was asked for last. asked: how many runs were, which is part
    of a run's key: a set may come back. tried: how many of them for this set. looks: how many there were. last: what
    the last look ended with, where it did not reach everything."""

    digests: dict[str, str] = {}
    asked: dict[str, Count] = {}
    tried: dict[str, Count] = {}
    looks: Count = 0
    last: str = ""

    def key(self, name: str) -> str:
        """Of the run that was asked for last."""
        return f"{name}@{self.digests[name]}#{self.life}#{self.asked[name]}"

    def ask(self, name: str, digest: str) -> dg.RunRequest:
        """The request for a run that brings a set."""
        self.tried[name] = self.tried.get(name, 1) + 1 if self.digests.get(name) == digest else 1
        self.digests[name], self.asked[name] = digest, self.asked.get(name, 0) + 1
        return dg.RunRequest(run_key=self.key(name), asset_selection=[key_of(name)])


def look_for_weights(context: dg.SensorEvaluationContext, chain: Chain) -> dg.SensorResult:
    """One look. A set is new when its digest is; one that is still going up has none yet. Trouble with one place hides
    no other's news. Every so many looks a set that did not come everywhere is asked for again."""
    seen = Seen.read(context)
    seen.looks += 1
    again = seen.looks % LOOKS_PER_RECONCILE == 0
    requests: list[dg.RunRequest] = []
    troubles: list[str] = []

    def digest_of(name: str) -> str:
        try:
            return chain.weights_at_source(name)
        except RegistryPipelinesError as error:
            troubles.append(f"{name} cannot be looked at: {error}")
            return ""

    look = look_at(list(chain.config.weights), seen, digest_of)
    for name, digest in look.found.items():
        if not digest or len(requests) >= chain.config.sensors.max_requests:  # the others are new in the next look, too
            continue
        if seen.digests.get(name) != digest or (
            again and seen.tried.get(name, 1) < MAX_ATTEMPTS and _unfinished(context.instance, name, seen.key(name))
        ):
            requests.append(seen.ask(name, digest))
    notes = [*troubles, *look.notes()]
    for note in notes:
        context.log.warning("%s", note)
    return dg.SensorResult(
        run_requests=requests,
        skip_reason=None if requests else "; ".join(["nothing new", *notes]),
        cursor=seen.write(),
    )


def _unfinished(instance: dg.DagsterInstance, name: str, run_key: str) -> bool:
    """Whether a run ended and its set is not everywhere: a place did not answer, or the worker died. Not what a person
    ended, nor what is refused, nor what came later by another run."""
    runs = instance.get_runs(dg.RunsFilter(tags={RUN_KEY_TAG: run_key}), limit=1)
    if not runs or runs[0].status not in ENDED_BY_ITSELF or runs[0].tags.get(OUTCOME_TAG) == "denied":
        return False
    check = dg.AssetCheckKey(key_of(name), WHOLE)
    newest = instance.event_log_storage.get_asset_check_execution_history(check, limit=1)
    if newest and newest[0].run_id != runs[0].run_id:
        return newest[0].status is FAILED
    return runs[0].status is dg.DagsterRunStatus.FAILURE or bool(newest and newest[0].status is FAILED)


def weights_sensor(config: Config, job: Job) -> dg.SensorDefinition:
    """The sensor over all sections of `weights`. job: the one that brings them."""

    @dg.sensor(
        name="new_weights",
        job_name=job.name,
        minimum_interval_seconds=max(1, int(config.sensors.interval.total_seconds())),
        default_status=at_start(config),
        description="New sets of weights at their sources: asks for a run that brings them to their targets, and "
        "attaches them to their release.",
    )
    def look(context: dg.SensorEvaluationContext, chain: ChainParam) -> dg.SensorResult:
        return look_for_weights(context, chain)

    return look
