"""Launch runs, and read what became of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import wraps
from time import monotonic, sleep
from typing import Any, ParamSpec, TypeVar

from msgspec.structs import replace

from registry_pipelines.errors import InputError, RegistryError, Unavailable
from registry_pipelines.runs.model import OUTCOME, PARTITION, PERSON, Run
from registry_pipelines.runs.server import Server, refused, words
from registry_pipelines.settings import closest

P = ParamSpec("P")
T = TypeVar("T")

MOST_REASONS = 20
MOST_NAMED = 5
POLL_S = 2.0
LONGEST_AWAY_S = 120
"""Seconds that a server may be away while somebody waits: it is started anew, and the run goes on without it."""

_RUN = "runId jobName status creationTime startTime endTime tags { key value }"
_LIST = (
    "query ($filter: RunsFilter, $limit: Int, $cursor: String) { runsOrError(filter: $filter, limit: $limit, "
    f"cursor: $cursor) {{ __typename ... on Runs {{ results {{ {_RUN} }} }} ... on Error {{ message }} }} }}"
)
_SHOW = (
    f"query ($run: ID!) {{ runOrError(runId: $run) {{ __typename ... on Run {{ {_RUN} }} "
    "... on Error { message } } }"
)
_EVENTS = """query ($run: ID!, $after: String) { runOrError(runId: $run) { __typename ... on Run {
  eventConnection(afterCursor: $after, limit: 1000) { cursor hasMore events { __typename
    ... on ExecutionStepFailureEvent { stepKey error { message cause { message } } }
    ... on EngineEvent { error { message cause { message } } }
    ... on RunFailureEvent { message } } } } ... on Error { message } } }"""
_JOBS = """query { repositoriesOrError { __typename ... on RepositoryConnection { nodes { name location { name }
  jobs { name isJob } } } ... on Error { message } } }"""
_KEYS = """query ($job: PipelineSelector!) { pipelineOrError(params: $job) { __typename
  ... on Pipeline { partitionKeysOrError { partitionKeys } } ... on Error { message } } }"""
_PARTITION = """query ($job: PipelineSelector!, $key: String!) { pipelineOrError(params: $job) { __typename
  ... on Pipeline { partition(partitionName: $key) {
    runConfigOrError { __typename ... on PartitionRunConfig { yaml } ... on Error { message } }
    tagsOrError { __typename ... on PartitionTags { results { key value } } ... on Error { message } } } }
  ... on Error { message } } }"""
_LAUNCH = f"""mutation ($params: ExecutionParams!) {{ launchRun(executionParams: $params) {{ __typename
  ... on LaunchRunSuccess {{ run {{ {_RUN} }} }}
  ... on RunConfigValidationInvalid {{ errors {{ message }} }} ... on Error {{ message }} }} }}"""


def _understood(ask: Callable[P, T]) -> Callable[P, T]:
    """An answer of another form than was asked for is told as one."""

    @wraps(ask)
    def asked(*arguments: P.args, **named: P.kwargs) -> T:
        try:
            return ask(*arguments, **named)
        except (KeyError, TypeError, AttributeError, IndexError) as error:
            raise RegistryError(
                f"what answers there is no Dagster, or another version of it: {type(error).__name__} {error}"[:200],
                do="Say by --server or REGISTRY_PIPELINES_DAGSTER where it is",
            ) from error

    return asked


@_understood
def runs(
    server: Server,
    *,
    job: str = "",
    statuses: Sequence[str] = (),
    tags: Mapping[str, str] | None = None,
    limit: int = 20,
) -> list[Run]:
    """Runs, the newest first. tags: that each has. Raises what :meth:`Server.ask` does."""
    wanted: dict[str, Any] = {"pipelineName": job} if job else {}
    wanted |= {"statuses": list(statuses)} if statuses else {}
    wanted |= {"tags": [{"key": key, "value": value} for key, value in (tags or {}).items()]} if tags else {}
    answer = _part(server.ask(_LIST, filter=wanted, limit=limit), "runsOrError", "Runs")
    return [_run(server, each) for each in answer["results"]]


@_understood
def run(server: Server, named: str) -> Run:
    """A run by its id, or by the beginning of one of the newest 200, with why it failed. Raises InputError."""
    whole = named if len(named) == 36 else _whole(server, named)
    found = _run(server, _part(server.ask(_SHOW, run=whole), "runOrError", "Run"))
    return _with_reasons(server, found) if found.status == "FAILURE" else found


@_understood
def launch(server: Server, job: str, about: str, *, config: Any = None, tags: Mapping[str, str] | None = None) -> Run:
    """Launch a job. about: the partition: a release by its key or ``image:tag``, an image, a bucket; empty for a
    job that has none. config: of the run, in place of what the job has. tags: further ones. Raises InputError,
    RegistryError."""
    selector = _job(server, job)
    key = _key(server, selector, about)
    if key:
        config, found = _of_partition(server, selector, key, config)
        tags = {**found, **(tags or {}), PARTITION: key}
    params = {
        "selector": {
            "jobName": job,
            "repositoryName": selector["repositoryName"],
            "repositoryLocationName": selector["repositoryLocationName"],
        },
        "mode": "default",
        "runConfigData": config or {},
        "executionMetadata": {"tags": [{"key": each, "value": value} for each, value in (tags or {}).items()]},
    }
    answer = _part(server.ask(_LAUNCH, params=params), "launchRun", "LaunchRunSuccess")
    return _run(server, answer["run"])


def waited(server: Server, launched: Run, say: Callable[[str], None] = lambda _: None) -> Run:
    """The run when it ended. say: is told each status once. A server that is away for up to two minutes is waited
    for."""
    told, seen = "", monotonic()
    while True:
        try:
            found = run(server, launched.run)
            seen = monotonic()
        except Unavailable:
            if monotonic() - seen > LONGEST_AWAY_S:
                raise
            found = launched
        if found.status != told:
            told = found.status
            say(told)
        if found.over:
            return found
        sleep(POLL_S)


def _part(data: Mapping[str, Any], name: str, kind: str) -> dict[str, Any]:
    answer = data.get(name)
    if not isinstance(answer, dict):
        raise RegistryError(f"Dagster's answer has no {name}")
    if answer.get("__typename") != kind:
        raise refused(answer)
    return answer


def _run(server: Server, told: Mapping[str, Any]) -> Run:
    tags = {str(each["key"]): str(each["value"]) for each in told["tags"]}
    return Run(
        run=str(told["runId"]),
        job=str(told["jobName"]),
        status=told["status"],
        partition=tags.get(PARTITION, ""),
        outcome=tags.get(OUTCOME, ""),
        person=tags.get(PERSON, ""),
        created=told["creationTime"],
        started=told["startTime"],
        ended=told["endTime"],
        url=f"{server.url}/runs/{told['runId']}",
    )


def _with_reasons(server: Server, found: Run) -> Run:
    return replace(found, reasons=tuple(dict.fromkeys(_reasons(server, found.run)))[:MOST_REASONS])


def _reasons(server: Server, run_id: str) -> Iterator[str]:
    after, more = None, True
    while more:
        page = _part(server.ask(_EVENTS, run=run_id, after=after), "runOrError", "Run")["eventConnection"]
        for event in page["events"]:
            error = event.get("error") or {}
            said = words((error.get("cause") or error).get("message"))
            if event["__typename"] == "ExecutionStepFailureEvent":
                yield f"{event['stepKey']}: {said}"
            elif event["__typename"] == "EngineEvent" and said:  # as of a launch that the queue did not take
                yield said
            elif event["__typename"] == "RunFailureEvent":
                yield words(event.get("message"))
        after, more = page["cursor"], bool(page["hasMore"])


def _whole(server: Server, beginning: str) -> str:
    found = [each.run for each in runs(server, limit=200) if each.run.startswith(beginning)] if beginning else []
    if len(found) != 1:
        how = "several runs begin" if found else "none of the newest 200 runs begins"
        raise InputError(f"{how} with {beginning[:36]!r}", do="Give its whole id; `runs list` shows them")
    return found[0]


def _job(server: Server, name: str) -> dict[str, str]:
    """Where a job is, as Dagster wants it named. Raises InputError."""
    nodes = _part(server.ask(_JOBS), "repositoriesOrError", "RepositoryConnection")["nodes"]
    known: dict[str, dict[str, str]] = {}
    for node in nodes:
        for each in node["jobs"]:
            where = {"repositoryName": node["name"], "repositoryLocationName": node["location"]["name"]}
            known.setdefault(str(each["name"]), {"pipelineName": str(each["name"]), **where})
    if not known:
        raise Unavailable(
            "the webserver has no jobs yet: its code server starts, or could not load the code",
            where=server.url,
            do="Try again in a moment; the page Deployment of the UI says what failed",
        )
    if name not in known:
        near = closest(name, known)
        shown = [each for each in sorted(known) if not each.startswith("__")]
        raise InputError(
            f"there is no job {name[:80]!r}", do=f"Did you mean {near}?" if near else f"There are: {', '.join(shown)}"
        )
    return known[name]


def _key(server: Server, job: Mapping[str, str], about: str) -> str:
    """The partition that is meant; empty for a job without any. Raises InputError for what is not exactly one."""
    answer = _part(server.ask(_KEYS, job=job), "pipelineOrError", "Pipeline")
    keys = [str(each) for each in answer["partitionKeysOrError"]["partitionKeys"]]
    if not about:
        if keys:
            raise InputError(
                f"which of {len(keys)} is meant is not said: {job['pipelineName']} is about one",
                do="Say for which, as `app:v1.0.0`",
            )
        return ""
    found = [each for each in keys if each.startswith(f"{about}@") or _short(about, each)]
    if len(found) == 1:
        return found[0]
    if about in keys:  # after those: somebody may have typed `app:v1.0.0` as a key, which is no release
        return about
    if found:
        raise InputError(f"{about[:120]!r} is several: {', '.join(found[:5])}", do="Give the whole key")
    raise InputError(f"{job['pipelineName']} does not run for {about[:120]!r}", do=_what_for(about, keys))


def _what_for(about: str, keys: Sequence[str]) -> str:
    """What to say in place of a partition that there is not."""
    names = list(dict.fromkeys(each.partition("@")[0] for each in keys))
    if near := closest(about, names):
        return f"Did you mean {near}?"
    if not names:
        return "It runs for nothing in particular, or for what has not come yet: leave it out, or look in the UI"
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return f"It runs for {', '.join(names[:MOST_NAMED])}{more}"


def _short(about: str, key: str) -> bool:
    """Whether a release with its whole digest is the one of a short key."""
    named, _, digest = about.partition("@sha256:")
    return bool(digest) and key == f"{named}@{digest[: len(key.rpartition('@')[2])]}"


def _of_partition(server: Server, job: Mapping[str, str], key: str, config: Any) -> tuple[Any, dict[str, str]]:
    """The run's config and tags that the job gives to a partition, as the UI takes them."""
    answer = _part(server.ask(_PARTITION, job=job, key=key), "pipelineOrError", "Pipeline")["partition"] or {}
    tags = answer.get("tagsOrError") or {}
    found = {str(each["key"]): str(each["value"]) for each in tags.get("results") or ()}
    if config is None and (written := (answer.get("runConfigOrError") or {}).get("yaml")):
        import yaml

        config = yaml.safe_load(written)
    return config, found


__all__ = ["launch", "run", "runs", "waited"]
