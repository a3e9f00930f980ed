"""How much happens at once at a registry, on all machines together: Dagster's pools, with limits of the configuration.

A pool is a step's, and fixed when the code is loaded: steps that copy to one registry, list it or delete there are in
its pool. Those of a release before its promotion read whatever registry its image has, and are held by the library's
own limits of requests. A run copies to all its targets in the step of the first: that one's pool counts.

Dagster keeps limits in its database, where ``dagster instance concurrency set`` puts them. The sensor here does the
same once, and again when the configuration changes: what an operator sets meanwhile stays.
"""

from collections.abc import Iterable

import dagster as dg
import msgspec

from registry_pipelines.config import Config
from registry_pipelines.oci.decoding import ready

AT_ONCE = 4
"""Steps at once at a registry unless the configuration says: copies are many threads each."""
ALONE = {"start": 1, "rescan": 1, "sweep": 1}
"""Pools of no registry, and their limits: starts are timed, and runs that sweep a fleet share processors."""
INTERVAL_S = 300


def pool_of(registry: str) -> str:
    """The pool of a registry."""
    return f"registry-{registry}"


def limits(config: Config, used: Iterable[str]) -> dict[str, int]:
    """The limit of each pool that is used, by the configuration."""
    told = config.dagster.pools
    wanted = {pool_of(name): told.get(name, AT_ONCE) for name in config.registries}
    wanted |= {name: told.get(name, limit) for name, limit in ALONE.items()}
    return {name: wanted[name] for name in sorted(set(used)) if name in wanted}


def recall(cursor: str | None) -> dict[str, int]:
    """What was set last; nothing for a cursor that cannot be read."""
    try:
        return msgspec.json.decode(cursor or "{}", type=ready(dict[str, int]))
    except msgspec.DecodeError:
        return {}


def pools_sensor(wanted: dict[str, int]) -> dg.SensorDefinition:
    """The sensor that sets limits. It starts no run, so it is on from the start."""

    @dg.sensor(
        name="pool_limits",
        minimum_interval_seconds=INTERVAL_S,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Sets how many steps run at once in each pool, as the configuration has it. Runs nothing.",
    )
    def keep(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        before = recall(context.cursor)
        changed = {name: limit for name, limit in wanted.items() if before.get(name) != limit}
        for name, limit in changed.items():
            context.instance.event_log_storage.set_concurrency_slots(name, limit)
        done = ", ".join(f"{name}: {limit}" for name, limit in changed.items())
        return dg.SensorResult(skip_reason=done or "limits are set", cursor=msgspec.json.encode(wanted).decode())

    return keep
