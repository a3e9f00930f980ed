"""`deploy` over a configuration: the gate before, what is signed after, the next channel that waits for it, and
`collect`, which keeps what runs and what ran before."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from registry_pipelines.chain import Chain
from registry_pipelines.chain.deployed import deployed_digests
from registry_pipelines.chain.live import live_digests
from registry_pipelines.chain.session import Session
from registry_pipelines.config import load
from registry_pipelines.deploying.record import read_deployments
from registry_pipelines.errors import ConfigInvalid, PromotionDenied, PromotionHeld
from registry_pipelines.evidence.attestations import read_attestations
from registry_pipelines.progress import Silent
from registry_pipelines.promote.person import Person
from registry_pipelines.release import Release
from tests.chain.fleet import Fleet
from tests.cli.on_fleet import answer, run
from tests.deploying.parts import WEB
from tests.doubles.google.services import cloudrun
from tests.doubles.google.world import World
from tests.doubles.kube_workloads import WorkloadCluster
from tests.patience import patient

CHANNELS = "channels: [staging, {name: prod, deployed: {names: [web], run_for: 1s}}], targets: [eu, gcp]}"
PROGRAM = str(Path(sys.executable).with_name("registry-pipelines"))
JANE = Person("jane", "claimed")


def deployed(fleet: Fleet, config: Path) -> Chain:
    """The fleet with a deployment `web` of what staging names, and a channel that waits for it."""
    web = f"kind: kubernetes, namespace: shop, object: web, kubeconfig: {config}, health: 0s, wait: 30s"
    section = f"deploy:\n  web: {{image: app, channel: staging, {web}}}\nsigning:"
    return fleet.reload(("targets: [eu, gcp]}", CHANNELS), ("signing:", section))


def released(fleet: Fleet, chain: Chain, tag: str) -> Release:
    """A release that staging names."""
    release = fleet.release(tag)
    assert chain.ship(f"app:{tag}", until="promote").exit_code == 0
    return release


def session(fleet: Fleet) -> Session:
    return Session(load(fleet.path, {}), Silent())


def records(fleet: Fleet, release: Release) -> list[Any]:
    tools = session(fleet)
    known = read_attestations(tools.source(release), release.digest, tools.verifier())
    return read_deployments(known, release.digest, tools.now())


def test_from_the_plan_to_the_next_channel_and_back(fleet: Fleet, cluster: WorkloadCluster, config: Path) -> None:
    chain = deployed(fleet, config)
    host = chain.registry("us").name
    cluster.make("deployments", "web", "docker.io/library/nginx:1")
    cluster.steps = 9
    refused = run(fleet, "deploy", "web", code=3).stderr
    assert "staging of app does not name any release" in refused and "names nothing yet" in refused
    one = released(fleet, chain, "v1.0.0")
    image = f"{host}/team/app@{one.digest}"

    plan = answer(fleet, "deploy", "web", "--dry-run")
    assert plan["action"] == "would roll out: v1.0.0" and not plan["changed"]
    assert (plan["rows"][0]["written"], plan["rows"][0]["runs"], plan["rows"][0]["is"]) == (
        "docker.io/library/nginx:1",
        "not told",
        "not known",
    )
    assert plan["rows"][0]["wanted"] == image
    assert "its digest is not known" in " ".join(plan["notes"]) and not cluster.patches
    with pytest.raises(PromotionHeld, match="held: deployment") as held:
        chain.promote(one, JANE, channel="prod")
    assert held.value.reasons == ["deployment: prod wants it at web, and nobody read back that it runs there"]
    assert any("registry-pipelines deploy web" in each for each in held.value.next_steps)

    done = answer(fleet, "deploy", "web")
    assert (done["ok"], done["changed"], cluster.running(WEB)) == (True, True, [image])
    [record] = records(fleet, one)
    assert (record.outcome, record.deployment, record.seen, record.instances, record.version) == (
        "running",
        "web",
        (str(one.digest),),
        2,
        "v1.0.0",
    )
    assert record.before == "docker.io/library/nginx:1" and record.written == image
    with pytest.raises(PromotionHeld, match="held: deployment") as held:
        chain.promote(one, JANE, channel="prod")
    assert "for 1s without a break, it was seen there for 0 s" in held.value.reasons[0]
    [staging, prod] = chain.channel_rows(one)
    assert "held: deployment" in str(prod), staging

    time.sleep(1.1)
    assert chain.deploy_due("web") is not None
    again = answer(fleet, "deploy", "web")
    assert again["changed"] and again["facts"]["ran_s"] >= 1 and len(cluster.patches) == 1
    assert len(records(fleet, one)) == 2
    assert chain.deploy_due("web") is None
    assert "(unchanged)" in run(fleet, "deploy", "web").stdout
    assert len(records(fleet, one)) == 2, "what says the same is not signed again"
    assert chain.promote(one, JANE, channel="prod").ok

    two = released(fleet, chain, "v2.0.0")
    cluster.broken[f"{host}/team/app@{two.digest}"] = "CrashLoopBackOff"
    down = answer(fleet, "deploy", "web", code=1)
    assert down["facts"]["outcome"] == "taken back" and cluster.running(WEB) == [image]
    assert any("CrashLoopBackOff" in each for each in down["reasons"])
    with pytest.raises(PromotionDenied) as denied:
        chain.promote(two, JANE, channel="prod")
    assert denied.value.reasons[0].startswith("deployment: it did not come up at web")
    places = {str(row["place"]): str(row["state"]) for row in chain.page(two).tables["places"]}
    assert places["deployment web"].startswith("did not come up (")
    assert chain.deploy_due("web") is None, "what did not come up is for a person to try again"
    kept = deployed_digests(session(fleet))
    assert "was rolled out at the deployment web" in kept[two.digest]
    assert "ran at the deployment web before" in kept[one.digest]
    three = released(fleet, chain, "v3.0.0")
    del cluster.broken[f"{host}/team/app@{two.digest}"]
    answer(fleet, "deploy", "web")
    live = live_digests(session(fleet), "us").digests
    assert three.digest in live and one.digest in live and two.digest not in live
    kept = deployed_digests(session(fleet))
    assert list(kept) == [three.digest, one.digest] and "ran at the deployment web before" in kept[one.digest]

    chain.promote(one, JANE, channel="staging")
    assert chain.deploy_due("web") == (one, f"rollout {records(fleet, three)[-1].time}"), "though it ran here before"
    run(fleet, "deploy", "web", "--release", "app:v3.0.0", code=3)
    run(fleet, "deploy", "web", "--release", "app:v1.0.0")
    assert records(fleet, one)[-1].ran.total_seconds() == 0, "what ran in between ends the time"
    assert cluster.running(WEB) == [image], "a rollback is the promotion of an earlier release"
    chain.revoke(one, reason="bad")
    assert "app:v1.0.0" in run(fleet, "deploy", "web", "--release", "app:v1.0.0", code=3).stderr
    run(fleet, "deploy", "web")
    assert cluster.running(WEB) == [f"{host}/team/app@{three.digest}"], "revoked, staging names the last good one"
    assert len(cluster.pods[WEB]) == 2


def test_clusters_that_pull_from_a_target_and_from_a_mirror(
    fleet: Fleet, cluster: WorkloadCluster, config: Path
) -> None:
    """The digest must be where it is pulled from, before anything changes."""
    far = f"kind: kubernetes, namespace: shop, object: web, kubeconfig: {config}, container: app"
    more = f"  far: {{image: app, channel: prod, registry: gcp, pulled_as: reg.far.example/cache, {far}, health: 0s}}\n"
    gap = far.replace("container: app", "workload: daemonset")
    more += f"  gap: {{image: app, registry: private, {gap}, health: 0s}}\n"
    chain = fleet.reload(("signing:", f"deploy:\n{more}signing:"))
    cluster.make("deployments", "web", "docker.io/library/nginx:1")
    cluster.steps = 9
    one = released(fleet, chain, "v1.0.0")
    told = run(fleet, "deploy", "far", code=4).stderr
    assert "app:v1.0.0 is not at gcp, from which far pulls" in told and "replicate app:v1.0.0" in told
    chain.replicate(one, "gcp")
    run(fleet, "deploy", "far")
    assert cluster.image(WEB) == f"reg.far.example/cache/replicas/team/app@{one.digest}"
    cluster.make("daemonsets", "web", "docker.io/library/nginx:1")
    assert "is not at private" in run(fleet, "deploy", "gap", code=4).stderr
    chain.mirror_release(one, "airgap")
    run(fleet, "deploy", "gap")
    assert cluster.image(("daemonsets", "shop", "web")).endswith(f"/in/team/app@{one.digest}"), "as the mirror has it"


def test_killed_in_the_middle_the_next_run_does_the_rest(fleet: Fleet, cluster: WorkloadCluster, config: Path) -> None:
    chain = deployed(fleet, config)
    cluster.make("deployments", "web", "docker.io/library/nginx:1")
    one = released(fleet, chain, "v1.0.0")
    cluster.stuck = True
    command = [PROGRAM, "deploy", "web", "--config", str(fleet.path)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        until = time.monotonic() + patient(60)
        while not cluster.patches and time.monotonic() < until:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    assert len(cluster.patches) == 1 and not records(fleet, one)
    cluster.stuck = False
    plan = answer(fleet, "deploy", "web", "--dry-run")
    assert plan["action"] == "would go on: v1.0.0" and "it is not settled" in plan["notes"][0]
    cluster.steps = 9
    run(fleet, "deploy", "web")
    assert len(cluster.patches) == 1, "what is written is not written again"
    [record] = records(fleet, one)
    assert (record.outcome, record.before) == ("running", "docker.io/library/nginx:1")

    two = released(fleet, chain, "v2.0.0")
    cluster.meanwhile.append(lambda: chain.revoke(two, reason="bad") and None)
    late = answer(fleet, "deploy", "web", code=3)
    assert late["reasons"] == ["staging names another release by now; deploy that"], "revoked in the middle"
    cluster.write(WEB, "docker.io/library/nginx:2", "kubectl-edit")
    assert "kubectl-edit had written docker.io/library/nginx:2" in run(fleet, "deploy", "web").stdout
    assert cluster.image(WEB).endswith(f"@{one.digest}")


def test_a_service_of_cloud_run(fleet: Fleet) -> None:
    world = World()
    with cloudrun.cloud_run(world) as endpoint:
        name = "projects/ml-prod/locations/europe-west1/services/web"
        cloudrun.make(world, name, "reg.example/app:1")
        way = f"kind: cloud-run, project: ml-prod, location: europe-west1, service: web, endpoint: '{endpoint}'"
        chain = fleet.reload(("signing:", f"deploy:\n  run: {{image: app, {way}, health: 0s, traffic: 25}}\nsigning:"))
        one = released(fleet, chain, "v1.0.0")
        chain.deploy("run")
        [record] = records(fleet, one)
        assert (record.outcome, record.seen, record.channel) == ("running", (str(one.digest),), "prod")
        splits = world.state(cloudrun.CloudRun).splits
        assert [sorted(each.values()) for each in splits] == [[100], [25, 75], [100]]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("channel: nope", "deploy.one.channel: unknown channel of app `nope`"),
        ("registry: dmz, pulled_as: 'reg.example:5000/in/cache'", ""),
        ("pulled_as: 'https://reg.example'", "without https://"),
        ("registry: far", "deploy.one.registry: unknown registry `far`"),
        (
            "gke: {project: ml-prod, location: eu, cluster: c}, eks: {cluster: c, region: eu-west-1}",
            "how the cluster is",
        ),
        ("wait: 0s", "deploy.one.wait: without any time nothing comes up"),
        ("gke: {project: ml-prod, location: eu, cluster: c, endpoint: 'http://far.example'}", "without TLS"),
    ],
)
def test_what_does_not_fit_together(change: str, said: str, fleet: Fleet) -> None:
    way = "kind: kubernetes, namespace: shop, object: web"
    text = fleet.path.read_text() + f"deploy:\n  one: {{image: app, {way}, {change}}}\n"
    fleet.path.write_text(text)
    if not said:
        load(fleet.path, {})
        return
    with pytest.raises(ConfigInvalid) as caught:
        load(fleet.path, {})
    assert said in str(caught.value.problems), caught.value.problems


def test_gates_that_could_never_open_are_refused(fleet: Fleet) -> None:
    way = "kind: kubernetes, namespace: shop, object"
    section = (
        f"deploy:\n  one: {{image: app, {way}: a}}\n  two: {{image: app, {way}: a}}\n  t: {{image: tool, {way}: b}}\n"
    )
    order = "channels: [{name: staging, deployed: {names: [t]}}, {name: prod, deployed: {names: [one, t, far]}}]}"
    fleet.path.write_text(fleet.path.read_text().replace("targets: [eu, gcp]}", order) + section)
    with pytest.raises(ConfigInvalid, match="unknown deployment `far`"):
        load(fleet.path, {})
    fleet.path.write_text(fleet.path.read_text().replace("t, far]", "t]"))
    with pytest.raises(ConfigInvalid) as caught:
        load(fleet.path, {})
    told = "\n".join(caught.value.problems)
    assert "`one` changes the same container already" in told
    assert "nothing comes before the first channel" in told
    assert "`one` runs what prod names, which is no channel before this one" in told
    assert "`t` runs tool, not app" in told


def test_notes_of_a_wrong_clock_hide_nothing(
    fleet: Fleet, cluster: WorkloadCluster, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clock that was years ahead, and one that was set back, while the release was read back."""
    chain = deployed(fleet, config)
    cluster.make("deployments", "web", "docker.io/library/nginx:1")
    cluster.steps = 9
    one = released(fleet, chain, "v1.0.0")
    for days in (0, 3000):
        monkeypatch.setattr(Session, "now", lambda _, days=days: datetime.now(UTC) + timedelta(days=days))
        run(fleet, "deploy", "web")
    monkeypatch.undo()
    with pytest.raises(PromotionHeld, match="held: deployment") as held:
        chain.promote(one, JANE, channel="prod")
    assert "it was seen there for 0 s" in held.value.reasons[0]
    time.sleep(1.1)
    assert answer(fleet, "deploy", "web")["facts"]["ran_s"] < 1000
    monkeypatch.setattr(Session, "now", lambda _: datetime.now(UTC) - timedelta(hours=2))
    cluster.write(WEB, "docker.io/library/nginx:2", "kubectl-edit")
    cluster.broken[f"{chain.registry('us').name}/team/app@{one.digest}"] = "CrashLoopBackOff"
    run(fleet, "deploy", "web", code=1)
    monkeypatch.undo()
    with pytest.raises(PromotionDenied, match="did not come up"):
        chain.promote(one, JANE, channel="prod")
