"""The demonstration: every image of a configuration through the Dagster jobs, in this process.

``python -m dagster_project.demo --config PATH --events PATH`` builds the images, runs the release job for each of them,
then the mirrors, the syncs and the retention plans. Runs are recorded below the state folder, so the UI shows them
afterwards. Nothing is printed but errors. The events file gets one JSON object a line as soon as a stage is done: the
fields of ``StageResult``, ``release`` (its key, or empty) and ``status`` (``ok``, ``denied``, ``held``, ``failed``,
``skipped``).

Exit code: 0 when nothing failed (a refused release is no failure), 1 otherwise, the library's own for its errors.
"""

import argparse
import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any, cast

import dagster as dg

from dagster_project.assets.mirror import mirror_job
from dagster_project.definitions import build_definitions
from dagster_project.moving import move_whole_keys
from dagster_project.one_process import open_instance
from dagster_project.partitions import built_images, under_way
from dagster_project.resources import prepare_home
from registry_pipelines.chain import Chain, StageResult
from registry_pipelines.chain.serving import ensure_registries
from registry_pipelines.config import Config, load
from registry_pipelines.errors import EvidenceError, PromotionDenied, PromotionHeld, RegistryPipelinesError
from registry_pipelines.interrupts import prompt_end
from registry_pipelines.release import Release

QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
STAGES = {
    "image": "build",
    "converted": "convert",
    "streaming_index": "index",
    "signature": "sign",
    "verdict": "judge",
    "promotion": "promote",
    "release_page": "page",
    "replica": "replicate",
    "upstreams": "mirror",
}
"""Stages of the assets that are not named as their stage; ``replica/x`` is ``replicate:x``."""
WIND_UP_S = 1.0
"""After a signal; whoever started this process waits a little longer."""

PAGE = "page"
"""Tells how a release stands, which is no outcome of its own."""

CHECKS = frozenset({"age", "same"})
"""What an asset's checks ask: the stage itself says how it ended."""

SEVERAL = {"replicate_to": "replicate", "syncs": "sync"}
"""Calls of the chain that do a stage for several places at once; they answer by place."""


class Events:
    """The events file. A stage that is asked twice with the same answer is written once."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file
        self._seen: set[tuple[str, str, str]] = set()
        self.bad: list[str] = []
        self.failures: list[str] = []

    def write(self, result: StageResult, status: str) -> None:
        """Write one finished stage."""
        key = (result.stage, result.subject, status)
        if key in self._seen:
            return
        self._seen.add(key)
        event = {"release": release_key(result), **result.plain(), "status": status}
        print(json.dumps(event), file=self._file, flush=True)
        if status in ("denied", "failed"):
            self.bad.append(result.stage)
        if status == "failed":
            self.failures.append(f"{result.stage} {result.subject}: {'; '.join(result.reasons)}")


class Recorder:
    """Stands before the chain and writes down what every stage gives or raises."""

    def __init__(self, chain: Chain, events: Events) -> None:
        self._chain = chain
        self._events = events

    def __getattr__(self, name: str) -> Any:
        act = getattr(self._chain, name)
        if not callable(act):
            return act  # the configuration

        def call(*arguments: Any, **named: Any) -> Any:
            try:
                result = act(*arguments, **named)
            except EvidenceError as error:
                self._denied(name, arguments, error)
                raise
            if isinstance(result, Chain):
                return Recorder(result, self._events)
            several = result.values() if name in SEVERAL else result
            for each in several if isinstance(several, Iterable) else [result]:
                if isinstance(each, StageResult) and each.stage.partition(":")[0] not in CHECKS:
                    self._events.write(each, "ok" if each.stage == PAGE else each.outcome)
            return result

        return call

    def _denied(self, name: str, arguments: tuple[Any, ...], error: EvidenceError) -> None:
        """Other errors are told when their step has failed: one that passes may come right at the next attempt."""
        stage = SEVERAL.get(name, name.removesuffix("_release").removesuffix("_automatically"))
        reasons = error.reasons if isinstance(error, PromotionDenied) else [str(error)]
        for each in arguments[1] if name in SEVERAL else [":".join(map(str, arguments[1:]))]:
            named = f"{stage}:{each}" if each else stage
            what = error.what.partition("\n")[0]  # the reasons are told beside it
            status = "held" if isinstance(error, PromotionHeld) else "denied"
            self._events.write(untold(named, str(arguments[0]), what, *reasons), status)


def release_key(result: StageResult) -> str:
    """The release a result is about; empty when it is about none."""
    text = str(result.facts.get("release", result.subject))
    try:
        return Release.parse(text).key
    except RegistryPipelinesError:
        return ""


def stage_of(asset: dg.AssetKey) -> str:
    """The stage an asset belongs to."""
    first, *rest = asset.path
    return ":".join([STAGES.get(first, first), *rest])


def run(
    defs: dg.Definitions,
    name: str,
    instance: dg.DagsterInstance,
    events: Events,
    key: str | None = None,
    release: Release | None = None,
) -> dg.ExecuteInProcessResult:
    """Run a job here, for a partition key; write down the stages that it did not come to, and the failures that no
    stage told of. release: that of the key."""
    job, before, subject = defs.resolve_job_def(name), len(events.bad), release.key if release else key
    result = job.execute_in_process(instance=instance, partition_key=key, raise_on_error=False, run_config=QUIET)
    begun = {event.step_key for event in result.all_events if event.is_step_start}
    failed = {event.step_key: event for event in result.all_events if event.is_step_failure}
    held = f"not run: {', '.join(sorted(str(step) for step in failed))} did not pass"
    for step, stage in stages_of(job).items():
        if step in failed and stage not in events.bad[before:]:
            events.write(untold(stage, subject, "failed", reason_of(failed[step])), "failed")
        elif step not in begun and failed:
            events.write(untold(stage, subject, held, held), "skipped")
    return result


def stages_of(job: dg.JobDefinition) -> dict[str, str]:
    """The stage of each step, in the order of the steps. The one step of a build is named as the asset it reports."""
    layer = job.asset_layer
    order = [asset for asset in layer.asset_graph.toposorted_asset_keys if asset in layer.executable_asset_keys]
    order = order or [dg.AssetKey(node.name) for node in job.nodes]
    return {asset.to_python_identifier(): stage_of(asset) for asset in order}


def reason_of(event: dg.DagsterEvent) -> str:
    """Why a step failed: what the library said, else the exception."""
    data = event.step_failure_data
    said = data.user_failure_data.description if data.user_failure_data else None
    return (said or data.error_display_string).strip()


def untold(stage: str, subject: str | None, action: str, *reasons: str) -> StageResult:
    """The outcome of a stage that gave no result."""
    return StageResult(stage=stage, subject=subject or "", action=action, reasons=reasons, ok=False)


def demonstrate(config: Config, instance: dg.DagsterInstance, events: Events) -> None:
    """Run every job once: builds, releases, mirrors, retention plans."""
    chain = Chain(config)
    recorder = cast(Chain, Recorder(chain, events))
    defs = build_definitions(config, lambda: recorder)
    keys: dict[Release, str] = {}
    move_whole_keys(instance, chain, under_way(instance))
    for image in built_images(config):
        built = run(defs, "build", instance, events, image)
        made = built.asset_materializations_for_node("image")[-1:]
        keys |= chain.keys_of(Release.parse(str(each.metadata["release"].value)) for each in made)
    for release, key in keys.items():
        run(defs, "release", instance, events, key, release)
    for settings in config.mirrors.values():
        for upstream in dict.fromkeys(each.image for each in settings.upstreams):
            run(defs, mirror_job(settings), instance, events, upstream)
    for name in ("nightly_sync", "retention"):
        if any(job.name == name for job in defs.jobs or []):
            run(defs, name, instance, events)


def main() -> int:
    """The command; see the module."""
    parser = argparse.ArgumentParser(prog="python -m dagster_project.demo", description="Run the demonstration.")
    parser.add_argument("--config", type=Path, required=True, help="configuration file")
    parser.add_argument("--events", type=Path, required=True, help="file that gets a JSON object a line for each stage")
    options = parser.parse_args()
    try:
        config = load(options.config)
        home = prepare_home(config)
        os.environ["DAGSTER_HOME"] = str(home)
        with (
            options.events.open("w", encoding="utf-8") as file,
            ensure_registries(config),
            open_instance(home) as instance,
        ):
            events = Events(file)
            demonstrate(config, instance, events)
    except RegistryPipelinesError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    for failure in events.failures:
        print(failure, file=sys.stderr)
    return 1 if events.failures else 0


if __name__ == "__main__":
    with prompt_end(WIND_UP_S, silent=True):
        sys.exit(main())
