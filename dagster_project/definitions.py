"""The code location: everything that one configuration asks for."""

from collections.abc import Callable

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
    infra,
    interventions,
    inventory,
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
    sync,
    weights,
)
from dagster_project.collecting import undo_job
from dagster_project.converting import convert_sensor
from dagster_project.deciding import deciding_jobs
from dagster_project.deploying import deployment_sensor
from dagster_project.inbox import inbox_sensor
from dagster_project.moving import keys_sensor
from dagster_project.new_bases import bases_sensor, rebuild_sensor
from dagster_project.new_weights import weights_sensor
from dagster_project.partitions import built_images, converted_images, rechunked_images, recorded_images
from dagster_project.promoting import promotion_sensor
from dagster_project.recordings import recordings_sensors, sweep_job
from dagster_project.resources import chain_resource, find_config
from dagster_project.schedules import (
    by_bucket,
    by_upstream,
    deploy_job,
    job,
    measure_job,
    measured,
    nightly,
    packs_job,
    promote_job,
    release_job,
)
from dagster_project.sensors import push_sensors
from dagster_project.together import Together
from dagster_project.told import told_sensors
from registry_pipelines.chain import Chain
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
    going = departures(config)
    releases = [*arrivals(config), *going]
    names, converted, rechunked = built_images(config), converted_images(config), rechunked_images(config)
    upstreams = {
        settings.name: mirror.upstreams(settings) for settings in config.mirrors.values() if settings.upstreams
    }
    folders = [settings for settings in config.mirrors.values() if settings.bundle.folder]
    made = [bundles.made(settings) for settings in folders]
    inboxes = [settings for settings in config.mirrors.values() if settings.bundle.inbox]
    loaded = [bundles.loaded(settings) for settings in inboxes]
    synced = [sync.synced(settings, list(config.syncs)) for settings in config.syncs.values()]
    ruled = list(dict.fromkeys(rule.registry for rule in config.rules))
    backups = [recover.backed_up(settings) for settings in config.backups.values()]
    drills = [recover.drilled(settings) for settings in config.backups.values()]
    stands = [failover.stood_in(settings) for settings in config.failover.values()]
    outages = [failover.failed_over(settings) for settings in config.failover.values()]
    running = [deploy.deployed(settings, config) for settings in config.deploy.values()]
    models = [weights.kept(settings) for settings in config.weights.values()]
    bringing_models = [job("weights", models, "Bring weights of models to where they must be.")] if models else []
    rollouts = [deploy_job(config, running)] if running else []
    unasked = [name for name, settings in config.deploy.items() if settings.auto]
    plans = [collect.retention(name) for name in ruled]
    let_gone = [collect.collected(name) for name in ruled]
    aside = [collect.quarantine(name) for name in ruled]
    held = [inventory.inventory(name) for name in inventoried(config)]
    held += [inventory.usage] if config.usage else []
    grounds = [bases.base(settings) for settings in config.bases.values()]
    fed = config.advisories.source is None and bool(config.advisories.feed or config.advisories.debian_security)
    known = [advisories.advisories(config)] if fed else []
    queues = [events.events] if told_registries(config) else []
    declared = [infra.settings(name) for name in config.infra]
    followed = [infra.replication_lag()] if any(image.targets for image in config.images.values()) else []
    release = release_job(config, releases)
    let_go = promote_job(config, [*going, page.release_page])
    own = [packages.python_package(package) for package in config.python_packages.values()]
    publishing = [job("python_packages", own, "Make wheels of our own packages and publish them.")] if own else []
    builds = [build.build_job(names)] if names else []
    alone = [name for name in converted if name not in rechunked]
    conversions = [stream.convert_job(alone)] if alone else []
    regroupings = [rechunk.rechunk_job(rechunked)] if rechunked else []
    carried = [
        mirror.artifacts(settings)
        for settings in config.mirrors.values()
        if settings.artifacts and settings.across == "network"
    ]
    carrying = [job("nightly_artifacts", carried, "Bring the artifacts of mirrors up to date.")] if carried else []
    mirrors = {name: mirror.nightly_upstreams(config.mirrors[name], asset) for name, asset in upstreams.items()}
    syncs = [job("nightly_sync", synced, "Bring whole repositories to the targets.")] if synced else []
    keeps = (
        [job("nightly_backup", backups, "Keep what is new in registries, and what their tags name.")] if backups else []
    )
    proofs = [job("weekly_drill", drills, "Restore the newest backups here, and check all of it.")] if drills else []
    glances = [job("hourly_failover", stands, "Ask who can stand in for a registry.")] if stands else []
    trials = [job("failover_drill", outages, "Pull while a stand-in of a registry is down.")] if outages else []
    makes = [job("nightly_bundle", made, "Make bundles of what crosses an air gap.")] if made else []
    loads = [job("load_bundles", loaded, "Load what came across an air gap.")] if loaded else []
    updates = [job("nightly_advisories", known, "Fetch the advisories that are new.")] if known else []
    sweeps = [rescan.rescan_job] if config.images else []
    looks = [job("bases", grounds, "Look at the approved bases, and at what stands on them.")] if grounds else []
    watched = [interventions.interventions] if config.images else []
    hours = [job("open_interventions", watched, "List what persons let go, or revoked.")] if watched else []
    recorded = recorded_images(config)
    starts = [measure_job(config, [start.start_time])] if recorded else []
    packs = [packs_job(config, [start.hot_pack])] if config.node.record and config.images else []
    plannings = [job("retention", plans, "Plan what registries can let go; nothing is deleted.")] if plans else []
    weekly = let_gone if config.collect.apply == "auto" else []
    collections = [job("collect", weekly, "Plan, and let go what was planned.")] if weekly else []
    purges = [job("purge", aside, "Delete for good what was set aside long enough.")] if aside else []
    settings = [job("infra", declared, "Compare what registries are set to with what is declared.")] if declared else []
    lags = [job("lag", followed, "Ask how far targets are behind.")] if followed else []
    hearings = [job("ask_events", queues, "Ask the queues in which clouds tell of pushes.")] if queues else []
    asked = config.report.teams or config.report.prices or config.report.scans or config.report.budget != Budget()
    costs = [report_cost.cost] if asked else []
    bills = [job("nightly_cost", costs, "Say what registries cost, and whose that is.")] if costs else []
    judged = [report_practice.maturity, report_practice.custody] if config.images else []
    pages = [job("nightly_report", judged, "Say who shipped what and how good the practice is.")] if judged else []
    counted = [report_metrics.metrics] if config.report.metrics != MetricsSettings() else []
    tellings = (
        [job("half_hourly_metrics", counted, "Count what registries hold, and tell who draws and alarms.")]
        if counted
        else []
    )
    trails = [report_audit.audit] if config.report.audit.sources else []
    audits = [job("hourly_audit", trails, "Read logs, and look for what nothing explains.")] if trails else []
    counts = [job("nightly_inventory", held, "List what registries hold, and who runs it.")] if held else []
    return dg.Definitions(
        assets=[
            build.image(names, packages.packages_for_builds(config)),
            *own,
            *([rechunk.rechunked(rechunked)] if rechunked else []),
            *([stream.converted(converted, rechunked=bool(rechunked))] if converted else []),
            *known,
            *([rescan.rescanned()] if sweeps else []),
            *releases,
            *([start.start_time] if recorded else []),
            *upstreams.values(),
            *carried,
            *made,
            *loaded,
            *synced,
            *backups,
            *stands,
            *drills,
            *outages,
            *running,
            *models,
            *plans,
            *let_gone,
            *aside,
            *held,
            *declared,
            *followed,
            *queues,
            *grounds,
            *watched,
            *costs,
            *judged,
            *counted,
            *trails,
        ],
        jobs=[
            release,
            let_go,
            *publishing,
            *builds,
            *conversions,
            *regroupings,
            *updates,
            *sweeps,
            *mirrors.values(),
            *carrying,
            *makes,
            *loads,
            *syncs,
            *keeps,
            *proofs,
            *glances,
            *trials,
            *rollouts,
            *bringing_models,
            *plannings,
            *collections,
            *purges,
            *([undo_job()] if aside else []),
            *counts,
            *bills,
            *pages,
            *tellings,
            *audits,
            *settings,
            *lags,
            *hearings,
            *starts,
            *packs,
            *([sweep_job] if packs else []),
            *looks,
            *hours,
            *(deciding_jobs() if config.images else []),
        ],
        sensors=[
            *push_sensors(config, release),
            *told_sensors(config, release),
            *(convert_sensor(config, each.name, alone) for each in conversions),
            *(convert_sensor(config, each.name, rechunked) for each in regroupings),
            promotion_sensor(config, release),
            keys_sensor(),
            *(deployment_sensor(config, each, unasked) for each in rollouts if unasked),
            *(inbox_sensor(config, inboxes, each) for each in loads),
            *(weights_sensor(config, each) for each in bringing_models),
            *(each for cutting in packs for each in recordings_sensors(config, cutting)),
            *(bases_sensor(config, look) for look in looks),
            *(rebuild_sensor(config, each, names) for each in builds if looks),
        ],
        schedules=[
            *(nightly(update, str(config.schedules.advisories), config) for update in updates),
            *(by_bucket(sweep, config) for sweep in sweeps),
            *(
                by_upstream(bringing, mirror.upstream_partitions(config.mirrors[name]).get_partition_keys(), config)
                for name, bringing in mirrors.items()
            ),
            *(nightly(copying, str(config.schedules.mirror), config) for copying in (*carrying, *syncs)),
            *(nightly(keeping, str(config.schedules.backup), config) for keeping in keeps),
            *(nightly(proving, str(config.schedules.drill), config) for proving in proofs),
            *(nightly(glancing, str(config.schedules.failover), config) for glancing in glances),
            *(nightly(trying, str(config.schedules.failover_drill), config) for trying in trials),
            *(nightly(making, str(config.schedules.bundle), config) for making in makes),
            *(measured(starting, config) for starting in starts),
            *(nightly(planning, str(config.schedules.retention), config) for planning in plannings),
            *(nightly(collection, str(config.schedules.collect), config) for collection in collections),
            *(nightly(purging, str(config.schedules.purge), config) for purging in purges),
            *(nightly(looking, str(config.schedules.infra), config) for looking in settings),
            *(nightly(asking, str(config.schedules.replication_lag), config) for asking in lags),
            *(nightly(hearing, str(config.schedules.events), config) for hearing in hearings),
            *(nightly(counting, str(config.schedules.inventory), config) for counting in counts),
            *(nightly(billing, str(config.schedules.cost), config) for billing in bills),
            *(nightly(writing, str(config.schedules.report), config) for writing in pages),
            *(nightly(telling, str(config.schedules.metrics), config) for telling in tellings),
            *(nightly(auditing, str(config.schedules.audit), config) for auditing in audits),
            *(nightly(listing, "0 * * * *", config) for listing in hours),
        ],
        asset_checks=[rechunk.same_tree(rechunked)] if rechunked else [],
        resources={
            "chain": chain_resource(make_chain or (lambda: Chain(config))),
            "together": dg.ResourceDefinition(lambda _: Together(), description="Copies that a run makes in one plan."),
        },
        # A step in a process of its own costs 1.4-3.2 s, ten steps in one process 0.2 s; the library has threads.
        executor=dg.in_process_executor,
    )


@dg.definitions
def defs() -> dg.Definitions:
    """What Dagster loads; the configuration is read now and not when this module is imported."""
    return build_definitions(find_config())
