"""What the code location consists of, gathered part by part, and what everything in it gets in one place: who owns it,
where its code is, how old it may grow.

A part adds its assets and gets them back as they are defined in the end; its jobs, schedules and sensors belong to whom
the assets belong to.
"""

import warnings
from collections.abc import Iterable, Sequence
from typing import Any

import dagster as dg

from dagster_project.alerts import alerts_sensor
from dagster_project.code import references
from dagster_project.freshness import by_schedule
from dagster_project.owners import Owners, owners_of
from dagster_project.partitions import RELEASES
from dagster_project.pools import ALONE, limits, pools_sensor
from dagster_project.schedules import Job, job, nightly
from registry_pipelines.config import Config

Asset = dg.AssetsDefinition | dg.AssetSpec


class Location:
    """The definitions of one configuration as they are gathered."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self._owners = Owners(config)
        self._assets: dict[tuple[dg.AssetKey, ...], Asset] = {}
        self._jobs: list[Any] = []
        self._sensors: list[dg.SensorDefinition] = []
        self._schedules: list[dg.ScheduleDefinition] = []
        self._checks: list[Any] = []

    def add(self, *assets: dg.AssetsDefinition) -> list[dg.AssetsDefinition]:
        """Assets of the location; the same with the owners and the references to code that they have in the end."""
        return [self._add(each, references(each, self.config)) for each in assets]

    def report(self, spec: dg.AssetSpec, made_by: dg.OpDefinition) -> dg.AssetSpec:
        """An asset that the step of a job reports, and no asset's own code makes. made_by: that step."""
        done: dg.AssetSpec = self._add(spec, references(spec, self.config, made_by))
        return done

    def _add(self, asset: Any, metadata: dict[str, Any]) -> Any:
        def dressed(spec: dg.AssetSpec) -> dg.AssetSpec:
            owners = self._owners.of_asset(spec)
            return spec.replace_attributes(owners=owners, metadata={**spec.metadata, **metadata})

        done = dressed(asset) if isinstance(asset, dg.AssetSpec) else asset.map_asset_specs(dressed)
        self._assets[_keys(asset)] = done
        return done

    def fresh(self, assets: Iterable[Asset], cron: str) -> None:
        """Let assets turn yellow and red when a schedule's runs were missed; not those that say themselves how old
        they may grow, and none of releases: a release that nobody runs again is no older for that."""
        policy = by_schedule(cron, self.config)
        for asset in assets if policy else ():

            def dressed(spec: dg.AssetSpec) -> dg.AssetSpec:
                own = spec.freshness_policy or spec.partitions_def == RELEASES
                return spec if own else spec.replace_attributes(freshness_policy=policy)

            kept = self._assets[_keys(asset)]
            self._assets[_keys(asset)] = (
                dressed(kept) if isinstance(kept, dg.AssetSpec) else kept.map_asset_specs(dressed)
            )

    def work(self, name: str, assets: Sequence[dg.AssetsDefinition], description: str, cron: object = "") -> list[Job]:
        """A job over assets that is no release's, with its schedule when there is a cron expression; a list that is
        empty where there are no assets."""
        if not assets:
            return []
        made = job(name, assets, description)
        self._jobs.append(made)
        if cron:
            self.schedules([nightly(made, str(cron), self.config)], owners_of(assets))
            self.fresh(assets, str(cron))
        return [made]

    def jobs(self, jobs: Iterable[Job], owners: Sequence[str] = ()) -> list[Job]:
        """Jobs that a part made itself; the same. owners: of a job that is not over assets."""
        made = [_owned(each, owners) if owners else each for each in jobs]
        self._jobs += made
        return made

    def sensors(self, sensors: Iterable[dg.SensorDefinition], owners: Sequence[str]) -> None:
        """Sensors, with who owns what they ask for."""
        self._sensors += [_owned(each, owners) for each in sensors]

    def schedules(self, schedules: Iterable[dg.ScheduleDefinition], owners: Sequence[str]) -> None:
        """Schedules, with who owns what they ask for."""
        self._schedules += [_owned(each, owners) for each in schedules]

    def checks(self, *checks: dg.AssetChecksDefinition) -> None:
        """Checks that no asset's own step tells."""
        self._checks += checks

    @property
    def platform(self) -> list[str]:
        """Who owns what no team alone does."""
        return self._owners.platform

    @property
    def security(self) -> list[str]:
        """Who owns what judges."""
        return self._owners.security

    def _specs(self) -> list[dg.AssetSpec]:
        found = self._assets.values()
        return [spec for each in found for spec in ([each] if isinstance(each, dg.AssetSpec) else each.specs)]

    def definitions(self, resources: dict[str, Any]) -> dg.Definitions:
        """All of it."""
        notify = self.config.notify
        if notify.ways and {"run-failed", "stale"}.intersection(notify.events):
            self.sensors([alerts_sensor(self._specs())], self.platform)
        used = [each.pool for asset in self._assets.values() if (each := _op(asset)) and each.pool]
        pools = limits(self.config, [*used, *ALONE])
        self.sensors([pools_sensor(pools)], self.platform)
        # Dagster warns wherever it copies a job that has owners, in every process, that these are new.
        warnings.filterwarnings("ignore", message="Parameter `owners` of")
        return dg.Definitions(
            assets=list(self._assets.values()),
            jobs=self._jobs,
            sensors=self._sensors,
            schedules=self._schedules,
            asset_checks=self._checks,
            resources=resources,
            # A step in a process of its own costs 1.4-3.2 s, ten steps in one process 0.2 s; the library has threads.
            executor=dg.in_process_executor,
        )


def _op(asset: Asset) -> dg.OpDefinition | None:
    node = asset.node_def if isinstance(asset, dg.AssetsDefinition) and asset.is_executable else None
    return node if isinstance(node, dg.OpDefinition) else None


def _keys(asset: Asset) -> tuple[dg.AssetKey, ...]:
    return (asset.key,) if isinstance(asset, dg.AssetSpec) else tuple(sorted(asset.keys))


def _owned(definition: Any, owners: Sequence[str]) -> Any:
    """The definition itself, owned. Dagster takes owners of sensors, schedules and jobs of ops only where they are
    made, in ten modules here, and each with a warning that this is new."""
    definition._owners = list(owners)
    return definition
