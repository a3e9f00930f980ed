"""Runs of a cluster, asked of its webserver: which there are, where each was, and how it ended."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from deploy.cluster.machines import LOCATION, Cluster

ENDED = frozenset({"SUCCESS", "FAILURE", "CANCELED"})
PAGE = 100
"""Runs that are asked for at once: the webserver answers no question that takes longer than half a minute."""

_RUNS = """
query ($filter: RunsFilter, $cursor: String, $limit: Int) {
  runsOrError(filter: $filter, cursor: $cursor, limit: $limit) { __typename ... on Runs { results {
    runId jobName status creationTime startTime endTime tags { key value } } } ... on PythonError { message } } }
"""
_LAUNCH = """
mutation ($params: ExecutionParams!) { launchRun(executionParams: $params) {
  __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message }
  ... on InvalidSubsetError { message } ... on RunConfigValidationInvalid { errors { message } } } }
"""


@dataclass(frozen=True)
class Run:
    """One run. Times are Unix seconds, None for what has not come. worker: who has it, or had it last."""

    id: str
    job: str
    status: str
    created: float
    started: float | None
    ended: float | None
    tags: Mapping[str, str]

    @property
    def about(self) -> str:
        """The release, image or whatever else its partition is."""
        return self.tags.get("dagster/partition", "")

    @property
    def worker(self) -> str:
        """The worker's machine; empty where none took it."""
        return self.tags.get("registry-pipelines/worker", "").partition("@")[0]

    @property
    def outcome(self) -> str:
        """How its release ended; empty where the run did not come to say so."""
        return self.tags.get("registry-pipelines/outcome", "")

    @property
    def attempt(self) -> int:
        """The how manieth try it is: Dagster runs again what died with its worker."""
        return 1 + int(self.tags.get("dagster/retry_number", "0"))

    @property
    def is_over(self) -> bool:
        """Whether it has ended."""
        return self.status in ENDED

    @property
    def starts_again(self) -> bool:
        """Whether Dagster's daemon makes another run of it, a moment after it failed. Dagster says so in a tag behind
        the failure: without one it may."""
        return self.status == "FAILURE" and self.tags.get("dagster/will_retry", "true") == "true"


def runs(cluster: Cluster, **tags: str) -> list[Run]:
    """All runs with these tags, the oldest first."""
    return sorted(_runs(cluster, tags), key=lambda run: run.created)


def _runs(cluster: Cluster, tags: Mapping[str, str]) -> Iterator[Run]:
    cursor: str | None = None
    chosen = {"tags": [{"key": name, "value": value} for name, value in tags.items()]} if tags else None
    while True:
        found = cluster.ask(_RUNS, filter=chosen, cursor=cursor, limit=PAGE)["runsOrError"]
        if found["__typename"] != "Runs":
            raise RuntimeError(found.get("message", found["__typename"]))
        for each in found["results"]:
            told = {tag["key"]: tag["value"] for tag in each["tags"]}
            times = each["creationTime"], each["startTime"], each["endTime"]
            yield Run(each["runId"], each["jobName"], each["status"], *times, told)
        if len(found["results"]) < PAGE:
            return
        cursor = found["results"][-1]["runId"]


def launch(cluster: Cluster, job: str, **tags: str) -> str:
    """Have a job queued, as the launchpad does; the run's id. Raises RuntimeError for what Dagster refuses."""
    selector = {"repositoryLocationName": LOCATION, "repositoryName": "__repository__", "jobName": job}
    told = [{"key": name, "value": value} for name, value in tags.items()]
    params: dict[str, Any] = {"selector": selector, "runConfigData": {}, "executionMetadata": {"tags": told}}
    found = cluster.ask(_LAUNCH, params=params)["launchRun"]
    if found["__typename"] != "LaunchRunSuccess":
        raise RuntimeError(f"{job} is not launched: {found}")
    return str(found["run"]["runId"])


def table(found: Iterable[Run]) -> str:
    """What ran where, one line for each run."""
    heads = ("run", "job", "about", "worker", "state", "outcome", "waited", "took")
    rows = [heads, *(_row(run) for run in found)]
    widths = [max(len(row[place]) for row in rows) for place in range(len(heads))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _row(run: Run) -> tuple[str, ...]:
    waited = f"{run.started - run.created:.1f} s" if run.started else "-"
    took = f"{run.ended - run.started:.1f} s" if run.started and run.ended else "-"
    again = f" (try {run.attempt})" if run.attempt > 1 else ""
    return run.id[:8], run.job, run.about, (run.worker or "none") + again, run.status.lower(), run.outcome, waited, took
