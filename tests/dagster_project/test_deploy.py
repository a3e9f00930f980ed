"""Deployments in Dagster: an asset each, its check, the job, and the sensor of those that nobody has to ask for."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.partitions.context import partition_loading_context

from dagster_project.assets.deploy import key_of
from dagster_project.definitions import build_definitions
from dagster_project.partitions import add_releases
from registry_pipelines.chain import Chain
from registry_pipelines.release import Release
from tests.chain.fleet import Fleet, start
from tests.dagster_project.conftest import QUIET
from tests.deploying.parts import TOKEN, WEB, kubeconfig
from tests.doubles.certificates import make_certificates
from tests.doubles.kube_workloads import WorkloadCluster, moving

CHANNELS = "channels: [staging, {name: prod, deployed: {names: [web], run_for: 1s}}], targets: [eu, gcp]}"


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[WorkloadCluster]:
    certificates = make_certificates(tmp_path, "kubernetes.default")
    with moving(WorkloadCluster(token=TOKEN, steps=9), certificates) as double:
        kubeconfig(tmp_path, double, certificates)
        yield double


@pytest.fixture
def chain(tmp_path: Path, cluster: WorkloadCluster) -> Iterator[tuple[Fleet, Chain]]:
    with ExitStack() as stack:
        fleet = start(tmp_path, stack)
        way = f"kind: kubernetes, namespace: shop, object: web, kubeconfig: {tmp_path / 'kubeconfig'}, health: 0s"
        deploy = f"deploy:\n  web: {{image: app, channel: staging, auto: true, {way}}}\n"
        last = f"  far-web: {{image: app, {way}, container: app, registry: eu}}\nsigning:"
        yield fleet, fleet.reload(("targets: [eu, gcp]}", CHANNELS), ("signing:", deploy + last))


def released(fleet: Fleet, chain: Chain, tag: str) -> Release:
    release = fleet.release(tag)
    assert chain.ship(f"app:{tag}", until="promote").exit_code == 0
    return release


def look(chain: Chain, instance: dg.DagsterInstance, cursor: str | None) -> dg.SensorResult:
    defs = build_definitions(chain.config, lambda: chain)
    context = dg.build_sensor_context(instance=instance, definitions=defs, cursor=cursor, resources={"chain": chain})
    with partition_loading_context(dynamic_partitions_store=instance):
        found = defs.resolve_sensor_def("deployment").evaluate_tick(context)
    return dg.SensorResult(run_requests=found.run_requests or [], cursor=found.cursor)


def rolled(chain: Chain, instance: dg.DagsterInstance, key: str) -> dg.ExecuteInProcessResult:
    job = build_definitions(chain.config, lambda: chain).resolve_job_def("deploy")
    return job.execute_in_process(instance=instance, partition_key=key, run_config=QUIET, raise_on_error=False)


def checks(ran: dg.ExecuteInProcessResult) -> dict[str, tuple[bool, str]]:
    """By deployment whether it passed, and what is said of it."""
    found = {}
    for each in ran.get_asset_check_evaluations():
        note = each.metadata.get("note")
        found[each.asset_key.path[-1]] = (each.passed, str(note.value) if note else each.description or "")
    return found


def test_what_a_channel_names_is_rolled_out_and_read_back(chain: tuple[Fleet, Chain], cluster: WorkloadCluster) -> None:
    fleet, tools = chain
    cluster.make("deployments", "web", "docker.io/library/nginx:1")
    defs = build_definitions(tools.config, lambda: tools)
    assert defs.resolve_sensor_def("deployment").default_status == dg.DefaultSensorStatus.STOPPED
    graph = defs.resolve_asset_graph()
    assert graph.get(key_of("far-web")).parent_keys == {dg.AssetKey("promotion"), dg.AssetKey(["replica", "eu"])}
    with dg.DagsterInstance.ephemeral() as instance:
        assert not look(tools, instance, None).run_requests, "staging names nothing yet"
        one = released(fleet, tools, "v1.0.0")
        first = look(tools, instance, None)
        [request] = first.run_requests or ()
        assert request.asset_selection == [key_of("web")] and request.partition_key is not None
        ran = rolled(tools, instance, request.partition_key)
        assert ran.success
        assert checks(ran) == {"web": (True, ""), "far-web": (True, "prod names another release")}, checks(ran)
        event = instance.get_latest_materialization_event(key_of("web"))
        assert event and event.asset_materialization
        assert event.asset_materialization.metadata["instances"].value == 2
        assert cluster.image(WEB).endswith(f"@{one.digest}")
        assert instance.get_latest_materialization_event(key_of("far-web")) is None
        time.sleep(1.1)
        [again] = look(tools, instance, first.cursor).run_requests or ()
        assert again.run_key != request.run_key, "the next channel waits for a longer look"
        assert rolled(tools, instance, request.partition_key).success
        assert not look(tools, instance, first.cursor).run_requests

        two = released(fleet, tools, "v2.0.0")
        cluster.broken[cluster.image(WEB).replace(str(one.digest), str(two.digest))] = "ImagePullBackOff"
        [request] = look(tools, instance, first.cursor).run_requests or ()
        down = rolled(tools, instance, str(request.partition_key))
        passed, why = checks(down)["web"]
        assert not down.success and not passed and "ImagePullBackOff" in why
        assert cluster.image(WEB).endswith(f"@{one.digest}")
        assert not look(tools, instance, first.cursor).run_requests, "a person tries it again"


def test_other_images_and_a_cluster_that_does_not_answer(chain: tuple[Fleet, Chain], cluster: WorkloadCluster) -> None:
    fleet, tools = chain
    with dg.DagsterInstance.ephemeral() as instance:
        tool = fleet.release("v1.0.0", image="tool")
        [key] = add_releases(instance, tools, [tool]).values()
        ran = rolled(tools, instance, key)
        assert ran.success and checks(ran)["web"] == (True, "web is for app"), checks(ran)
        released(fleet, tools, "v1.0.0")
        cursor: str | None = None
        counted = []
        for _ in range(5):  # the workload is missing: each run ends with an error, and no note is signed
            found = look(tools, instance, cursor)
            cursor = found.cursor
            counted.append(len(found.run_requests or ()))
        assert counted == [1, 1, 1, 0, 0]
