"""The code location: everything that one configuration asks for."""

from collections.abc import Callable
from functools import partial

import dagster as dg

from dagster_project.assets import (
    advice,
    advisories,
    bases,
    build,
    bundles,
    collect,
    deploy,
    events,
    failover,
    history,
    infra,
    interventions,
    inventory,
    line,
    mirror,
    packages,
    page,
    promote,
    rechunk,
    recover,
    replicate,
    report_audit,
    report_cost,
    report_metrics,
    report_practice,
    rescan,
    scan,
    sign,
    start,
    stream,
    sweeps,
    sync,
    weights,
)
from dagster_project.collecting import undo_job
from dagster_project.converting import convert_sensor
from dagster_project.deciding import deciding_jobs
from dagster_project.deploying import deployment_sensor
from dagster_project.inbox import inbox_sensor
from dagster_project.location import Location
from dagster_project.moving import keys_sensor
from dagster_project.new_bases import bases_sensor, rebuild_sensor
from dagster_project.new_weights import weights_sensor
from dagster_project.owners import owners_of
from dagster_project.partitions import built_images, converted_images, rechunked_images, recorded_images
from dagster_project.promoting import promotion_sensor
from dagster_project.recordings import recordings_sensors, sweep_job
from dagster_project.resources import chain_resource, find_config
from dagster_project.schedules import (
    by_upstream,
    deploy_job,
    measure_job,
    measured,
    packs_job,
    promote_job,
    release_job,
)
from dagster_project.sensors import push_sensors
from dagster_project.sweeping import by_lane
from dagster_project.together import Together
from dagster_project.told import told_sensors
from registry_pipelines.chain import Chain
from registry_pipelines.chain.buckets import filled_buckets
from registry_pipelines.chain.events import told_registries
from registry_pipelines.chain.inventory import inventoried
from registry_pipelines.config import Config
from registry_pipelines.report.metrics.settings import MetricsSettings
from registry_pipelines.report.settings import Budget

Assets = list[dg.AssetsDefinition]


def arrivals(config: Config) -> Assets:
    """What happens to a release until it is judged. Releases are indexed where an image has ``stream``."""
    indexed = any(image.stream for image in config.images.values())
    return [
        build.provenance(
            [
                build.IMAGE,
                *([build.RECHUNKED] if rechunked_images(config) else []),
                *([build.CONVERTED] if converted_images(config) else []),
            ]
        ),
        *([stream.streaming_index] if indexed else []),
        scan.sbom(after="streaming_index" if indexed else "provenance"),
        advice.image_advice,
        scan.vulnerabilities,
        sign.signature,
        promote.verdict,
        *([start.hot_pack] if recorded_images(config) or config.node.record else []),
        page.release_page,
    ]


def departures(config: Config) -> Assets:
    """What happens to one that is let go: its channel names it, and every target and mirror gets it."""
    return [
        promote.promotion,
        *(replicate.replica(target) for target in config.targets.values()),
        *(mirror.mirrored_release(settings) for settings in config.mirrors.values() if settings.images),
    ]


def build_definitions(config: Config, make_chain: Callable[[], Chain] | None = None) -> dg.Definitions:
    """The definitions for a configuration; opens and asks nothing.

    make_chain: gives the chain that assets and sensors call; ``Chain(config)`` unless told.
    """
    location = Location(config)
    _packages(location)
    _releases(location)
    _builds(location)
    _judging(location)
    _bases(location)
    _starts(location)
    _mirrors(location)
    _copies(location)
    _recovery(location)
    _places(location)
    _sweeps(location)
    _collection(location)
    _reports(location)
    _lines(location)
    return location.definitions(
        {
            "chain": chain_resource(make_chain or (lambda: Chain(config))),
            "together": dg.ResourceDefinition(lambda _: Together(), description="Copies that a run makes in one plan."),
        }
    )


def _packages(location: Location) -> None:
    """Wheels of our own, which builds take."""
    own = location.add(*(packages.python_package(each) for each in location.config.python_packages.values()))
    location.work("python_packages", own, "Make wheels of our own packages and publish them.")


def _releases(location: Location) -> None:
    """What happens to releases, and who asks for it."""
    config = location.config
    arriving, going = location.add(*arrivals(config)), location.add(*departures(config))
    [page_of_release] = [each for each in arriving if each.key == page.release_page.key]
    release = release_job(config, [*arriving, *going])
    location.jobs([release, promote_job(config, [*going, page_of_release])])
    location.sensors([*push_sensors(config, release), *told_sensors(config, release)], location.platform)
    location.sensors([promotion_sensor(config, release), keys_sensor()], location.platform)
    places = location.add(*(deploy.deployed(settings, config) for settings in config.deploy.values()))
    if places:
        rollouts = deploy_job(config, places)
        location.jobs([rollouts])
        unasked = [name for name, settings in config.deploy.items() if settings.auto]
        location.sensors([deployment_sensor(config, rollouts, unasked)] if unasked else [], owners_of(places))


def _builds(location: Location) -> None:
    """Images that are made here, or made of what was pushed."""
    config = location.config
    names, converted, rechunked = built_images(config), converted_images(config), rechunked_images(config)
    alone = [name for name in converted if name not in rechunked]
    location.report(build.image(names, packages.packages_for_builds(config)), build.built)
    builds = [build.build_job(names)] if names else []
    location.jobs(builds, location.platform)
    location.sensors(
        [rebuild_sensor(config, each, names) for each in builds if config.bases],
        location.platform,
    )
    if rechunked:
        location.report(rechunk.rechunked(rechunked), rechunk.rechunk)
        location.checks(rechunk.same_tree(rechunked))
        [regrouping] = location.jobs([rechunk.rechunk_job(rechunked)], location.platform)
        location.sensors([convert_sensor(config, regrouping.name, rechunked)], location.platform)
    if converted:
        location.report(stream.converted(converted, rechunked=bool(rechunked)), stream.convert)
    if alone:
        [conversion] = location.jobs([stream.convert_job(alone)], location.platform)
        location.sensors([convert_sensor(config, conversion.name, alone)], location.platform)
    models = location.add(*(weights.kept(settings) for settings in config.weights.values()))
    bringing = location.work("weights", models, "Bring weights of models to where they must be.")
    location.sensors([weights_sensor(config, each) for each in bringing], owners_of(models))


def _judging(location: Location) -> None:
    """Advisories, and what persons decided against a policy."""
    config = location.config
    fed = config.advisories.source is None and bool(config.advisories.feed or config.advisories.debian_security)
    known = location.add(*([advisories.advisories(config)] if fed else []))
    location.work("nightly_advisories", known, "Fetch the advisories that are new.", config.schedules.advisories)
    if config.images:
        swept = location.report(rescan.rescanned(), rescan.swept)
        location.jobs([rescan.rescan_job], location.security)
        buckets = partial(filled_buckets, config)
        times = str(config.schedules.rescan)
        location.schedules([by_lane(rescan.rescan_job, times, config, rescan.RESCAN, buckets)], location.security)
        location.fresh([swept], str(config.schedules.rescan))
        watched = location.add(interventions.interventions)
        location.work("open_interventions", watched, "List what persons let go, or revoked.", "0 * * * *")
        location.jobs(deciding_jobs(), location.security)


def _bases(location: Location) -> None:
    """Approved bases, and what stands on them."""
    grounds = location.add(*(bases.base(settings) for settings in location.config.bases.values()))
    looks = location.work("bases", grounds, "Look at the approved bases, and at what stands on them.")
    location.sensors([bases_sensor(location.config, each) for each in looks], owners_of(grounds))


def _starts(location: Location) -> None:
    """How releases start on nodes."""
    config = location.config
    if recorded_images(config):
        [timed] = location.add(start.start_time)
        [starting] = location.jobs([measure_job(config, [timed])])
        location.schedules([measured(starting, config)], owners_of([timed]))
    if config.node.record and config.images:
        [cutting] = location.jobs([packs_job(config, [start.hot_pack])])
        location.jobs([sweep_job], location.platform)
        location.sensors(recordings_sensors(config, cutting), location.platform)


def _mirrors(location: Location) -> None:
    """Foreign images, and bundles across an air gap."""
    config = location.config
    for mirrored in config.mirrors.values():
        if mirrored.upstreams:
            [asset] = location.add(mirror.upstreams(mirrored))
            [bringing] = location.jobs([mirror.nightly_upstreams(mirrored, asset)])
            keys = mirror.upstream_partitions(mirrored).get_partition_keys()
            location.schedules([by_upstream(bringing, keys, config)], owners_of([asset]))
    across = [each for each in config.mirrors.values() if each.artifacts and each.across == "network"]
    carried = location.add(*(mirror.artifacts(each) for each in across))
    location.work("nightly_artifacts", carried, "Bring the artifacts of mirrors up to date.", config.schedules.mirror)
    made = location.add(*(bundles.made(each) for each in config.mirrors.values() if each.bundle.folder))
    location.work("nightly_bundle", made, "Make bundles of what crosses an air gap.", config.schedules.bundle)
    inboxes = [each for each in config.mirrors.values() if each.bundle.inbox]
    loaded = location.add(*(bundles.loaded(each) for each in inboxes))
    loads = location.work("load_bundles", loaded, "Load what came across an air gap.")
    location.sensors([inbox_sensor(config, inboxes, each) for each in loads], owners_of(loaded))


def _copies(location: Location) -> None:
    """Whole repositories at the targets, and how far copies are behind."""
    config, times = location.config, location.config.schedules
    synced = location.add(*(sync.synced(each, list(config.syncs)) for each in config.syncs.values()))
    location.work("nightly_sync", synced, "Bring whole repositories to the targets.", times.mirror)
    followed = any(image.targets for image in config.images.values())
    lag = location.add(*([infra.replication_lag()] if followed else []))
    location.work("lag", lag, "Ask how far targets are behind.", times.replication_lag)


def _recovery(location: Location) -> None:
    """Backups, drills, and who stands in for whom."""
    config, times = location.config, location.config.schedules
    backups = location.add(*(recover.backed_up(settings) for settings in config.backups.values()))
    location.work("nightly_backup", backups, "Keep what is new in registries, and what their tags name.", times.backup)
    drills = location.add(*(recover.drilled(settings) for settings in config.backups.values()))
    location.work("weekly_drill", drills, "Restore the newest backups here, and check all of it.", times.drill)
    stands = location.add(*(failover.stood_in(settings) for settings in config.failover.values()))
    location.work("hourly_failover", stands, "Ask who can stand in for a registry.", times.failover)
    outages = location.add(*(failover.failed_over(settings) for settings in config.failover.values()))
    location.work("failover_drill", outages, "Pull while a stand-in of a registry is down.", times.failover_drill)


def _places(location: Location) -> None:
    """What registries hold, are set to and tell."""
    config, times = location.config, location.config.schedules
    held = location.add(*(inventory.inventory(name) for name in inventoried(config)))
    held += location.add(*([inventory.usage] if config.usage else []))
    location.work("nightly_inventory", held, "List what registries hold, and who runs it.", times.inventory)
    declared = location.add(*(infra.settings(name) for name in config.infra))
    location.work("infra", declared, "Compare what registries are set to with what is declared.", times.infra)
    queues = location.add(*([events.events] if told_registries(config) else []))
    location.work("ask_events", queues, "Ask the queues in which clouds tell of pushes.", times.events)


def _sweeps(location: Location) -> None:
    """A whole fleet in 256 parts."""
    config, times = location.config, str(location.config.schedules.sweeps)
    for kind in dict.fromkeys(config.dagster.sweeps):
        made, step = sweeps.job_of(kind)
        swept = location.report(sweeps.spec(kind), step)
        location.jobs([made], location.platform)
        buckets = partial(sweeps.buckets_of, kind, config)
        location.schedules([by_lane(made, times, config, sweeps.POOL, buckets)], location.platform)
        location.fresh([swept], times)
    old = location.add(history.history)
    location.work("nightly_history", old, "Say which old runs and partitions may go.", config.schedules.history)


def _collection(location: Location) -> None:
    """What registries let go."""
    config, times = location.config, location.config.schedules
    ruled = list(dict.fromkeys(rule.registry for rule in config.rules))
    plans = location.add(*(collect.retention(name) for name in ruled))
    location.work("retention", plans, "Plan what registries can let go; nothing is deleted.", times.retention)
    let_go = location.add(*(collect.collected(name) for name in ruled))
    if config.collect.apply == "auto":
        location.work("collect", let_go, "Plan, and let go what was planned.", times.collect)
    aside = location.add(*(collect.quarantine(name) for name in ruled))
    location.work("purge", aside, "Delete for good what was set aside long enough.", times.purge)
    location.jobs([undo_job()] if aside else [], location.platform)


def _reports(location: Location) -> None:
    """What it costs, who did what, and how good the practice is."""
    config, times, asked = location.config, location.config.schedules, location.config.report
    priced = asked.teams or asked.prices or asked.scans or asked.budget != Budget()
    costs = location.add(*([report_cost.cost] if priced else []))
    location.work("nightly_cost", costs, "Say what registries cost, and whose that is.", times.cost)
    judged = location.add(*([report_practice.maturity, report_practice.custody] if config.images else []))
    location.work("nightly_report", judged, "Say who shipped what and how good the practice is.", times.report)
    counted = location.add(*([report_metrics.metrics] if asked.metrics != MetricsSettings() else []))
    telling = "Count what registries hold, and tell who draws and alarms."
    location.work("half_hourly_metrics", counted, telling, times.metrics)
    trails = location.add(*([report_audit.audit] if asked.audit.sources else []))
    location.work("hourly_audit", trails, "Read logs, and look for what nothing explains.", times.audit)


def _lines(location: Location) -> None:
    """Images that have a file of their own (``dagster_project.components``). Dagster's loader would import every module
    below the folder, and those of the clouds' libraries: the configuration has read them."""
    own = location.add(*(line.line(location.config.images[name]) for name in location.config.lined))
    location.work("lines", own, "Look where image lines stand.", "40 * * * *")


@dg.definitions
def defs() -> dg.Definitions:
    """What Dagster loads; the configuration is read now and not when this module is imported."""
    return build_definitions(find_config())
