"""Roll-outs to workloads of a cluster whose controllers move, and whatever goes wrong on the way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry_pipelines.deploying.kube_pods import belongs, instance_of
from registry_pipelines.deploying.kube_status import progress_of, setter_of
from registry_pipelines.deploying.platform import BEFORE, RELEASE
from registry_pipelines.deploying.rollout import against, before_of, roll_out
from registry_pipelines.errors import Forbidden, InputError, NotFound, RegistryError, Unavailable
from registry_pipelines.inventory.usage.kube_access import by_kubeconfig
from tests.deploying.parts import APP, NEW, OLD, THIRD, TOKEN, WEB, Opener, limits, rolled, wanted
from tests.doubles.kube_workloads import WorkloadCluster
from tests.patience import patient


@pytest.mark.parametrize("plural", ["deployments", "statefulsets", "daemonsets"])
def test_every_kind_is_rolled_out_by_digest_and_read_back(
    plural: str, cluster: WorkloadCluster, workload: Opener
) -> None:
    key = (plural, "shop", "web")
    cluster.make(plural, "web", f"{APP}@{OLD}", replicas=3, containers=[{"name": "proxy", "image": "proxy:1"}])
    place = workload(key, "app")
    seen = place.look()
    assert (seen.written, seen.digests, seen.settled, seen.setter) == (f"{APP}@{OLD}", [OLD], True, "helm")
    done = roll_out(place, seen, wanted(), limits())
    assert (done.outcome, done.before, done.changed, done.reasons) == ("running", f"{APP}@{OLD}", True, ())
    assert cluster.running(key) == [f"{APP}@{NEW}"]
    assert (done.look.digests, len(done.look.instances)) == ([NEW], 3)
    assert done.look.revision != seen.revision
    [patch] = cluster.patches
    assert patch["spec"] == {"template": {"spec": {"containers": [{"name": "app", "image": f"{APP}@{NEW}"}]}}}
    containers = cluster.workloads[key]["spec"]["template"]["spec"]["containers"]
    assert [each["image"] for each in containers] == [f"{APP}@{NEW}", "proxy:1"], "the other one stays"
    assert done.look.setter == "registry-pipelines"
    assert dict(done.look.annotations) | {BEFORE: f"{APP}@{OLD}", RELEASE: f"{APP}@{NEW}"} == done.look.annotations
    again = roll_out(place, place.look(), wanted(), limits())
    assert (again.outcome, again.changed, again.before) == ("running", False, f"{APP}@{OLD}")
    assert len(cluster.patches) == 1


def test_what_does_not_come_up_is_taken_back_to_the_digest_that_ran(cluster: WorkloadCluster, workload: Opener) -> None:
    """By tag it ran: what a roll-back starts is the digest that pods ran, not what the tag names by then."""
    cluster.make("deployments", "web", f"{APP}:v1")
    cluster.image_ids[f"{APP}:v1"] = f"docker-pullable://{APP}@{OLD}"
    cluster.pods[WEB] = [cluster._new_pod(WEB, ready=True, at=at) for at in range(2)]
    cluster.broken[f"{APP}@{NEW}"] = "ImagePullBackOff"
    place = workload()
    assert place.look().ran == f"{APP}@{OLD}"
    done = rolled(place)
    assert (done.outcome, done.before) == ("taken back", f"{APP}@{OLD}")
    assert "made no progress within its deadline" in done.reasons[0]
    assert any("ImagePullBackOff: Back-off pulling image" in each for each in done.reasons)
    assert cluster.image(WEB) == f"{APP}@{OLD}" and cluster.running(WEB) == [f"{APP}@{OLD}"]


def test_back_is_not_to_an_earlier_release_that_never_came_up(cluster: WorkloadCluster, workload: Opener) -> None:
    """As when a roll-out is killed, or not taken back, and the channel names another release by then."""
    cluster.make("deployments", "web", f"{APP}@{OLD}")
    for digest in (NEW, THIRD):
        cluster.broken[f"{APP}@{digest}"] = "CrashLoopBackOff"
    place = workload()
    assert rolled(place, rollback=False).outcome == "failed" and cluster.image(WEB) == f"{APP}@{NEW}"
    assert f"{APP}@{OLD}" in cluster.running(WEB), "pods of it go when new ones are ready"
    done = roll_out(place, place.look(), wanted(THIRD), limits())
    assert (done.outcome, done.before) == ("taken back", f"{APP}@{OLD}"), done.reasons
    assert cluster.running(WEB) == [f"{APP}@{OLD}"]


STATEFUL = ("statefulsets", "shop", "web")


def test_a_stateful_set_that_waits_for_a_pod_in_vain_goes_on_without_it(
    cluster: WorkloadCluster, workload: Opener
) -> None:
    """Its controller touches no other pod before that one is ready, whatever is written meanwhile."""
    cluster.make("statefulsets", "web", f"{APP}@{OLD}", replicas=3)
    cluster.broken.update(dict.fromkeys((f"{APP}@{NEW}", f"{APP}@{THIRD}"), "CrashLoopBackOff"))
    cluster.steps = 9
    place = workload(STATEFUL)
    done = rolled(place, wait_s=patient(0.5))
    assert (done.outcome, cluster.running(STATEFUL)) == ("taken back", [f"{APP}@{OLD}"]), done.reasons
    assert rolled(place, wait_s=0.3, rollback=False).outcome == "failed"
    cluster.broken.pop(f"{APP}@{THIRD}")
    done = roll_out(place, place.look(), wanted(THIRD), limits())
    assert (done.outcome, cluster.running(STATEFUL)) == ("running", [f"{APP}@{THIRD}"]), done.reasons


def test_a_pod_of_a_stateful_set_that_only_starts_is_left_alone(cluster: WorkloadCluster, workload: Opener) -> None:
    """It may be at work, as a database that recovers is. With ``Parallel`` none is waited for."""
    cluster.make("statefulsets", "web", f"{APP}@{OLD}", replicas=3)
    first = cluster.pods[STATEFUL][0]
    first["status"]["conditions"] = [{"type": "Ready", "status": "False"}]
    cluster.broken[f"{APP}@{OLD}"] = "ContainerCreating"  # for ever
    place = workload(STATEFUL)
    done = rolled(place, wait_s=0.3, rollback=False)
    assert done.outcome == "failed" and cluster.pods[STATEFUL][0] is first
    first["status"]["containerStatuses"][0]["state"] = {"waiting": {"reason": "CrashLoopBackOff"}}
    assert [each.name for each in place.look().raw["stuck"]] == ["web-0"]
    cluster.workloads[STATEFUL]["spec"]["podManagementPolicy"] = "Parallel"
    assert place.look().raw["stuck"] == []


def test_who_may_not_delete_a_pod_that_a_stateful_set_waits_for_is_told(
    cluster: WorkloadCluster, workload: Opener
) -> None:
    cluster.make("statefulsets", "web", f"{APP}@{OLD}", replicas=3)
    cluster.broken[f"{APP}@{NEW}"] = "ImagePullBackOff"
    cluster.forbidden.add(("delete", "pods"))
    cluster.steps = 9
    done = rolled(workload(STATEFUL), wait_s=0.3)
    assert done.outcome == "failed"
    assert any("it needs the verb delete for pods" in each for each in done.reasons), done.reasons


def test_a_stuck_controller_and_an_order_not_to_go_back(cluster: WorkloadCluster, workload: Opener) -> None:
    cluster.make("deployments", "web", f"{APP}@{OLD}")
    cluster.stuck = True
    done = rolled(workload(), wait_s=0.3, rollback=False)
    assert done.outcome == "failed"
    assert done.reasons[0].endswith("its controller has not seen the change yet")
    assert cluster.image(WEB) == f"{APP}@{NEW}"
    done = rolled(workload(), wait_s=0.3)
    assert done.outcome == "failed" and "did not come up again" in done.reasons[-1], "nor does the roll-back"
    cluster.stuck = False
    assert rolled(workload()).outcome == "running", "run again it goes on"


def test_ready_and_then_not_within_the_health_window(cluster: WorkloadCluster, workload: Opener) -> None:
    cluster.make("deployments", "web", f"{APP}@{OLD}")
    cluster.crashing[f"{APP}@{NEW}"] = 3
    done = rolled(workload(), health_s=30)
    assert done.outcome == "taken back"
    assert "container app: CrashLoopBackOff: back-off 10s restarting" in done.reasons
    assert cluster.running(WEB) == [f"{APP}@{OLD}"]


def test_a_workload_that_grows_within_the_health_window(cluster: WorkloadCluster, workload: Opener) -> None:
    """An autoscaler adds a pod, which starts while the others are watched."""
    cluster.make("deployments", "web", f"{APP}@{OLD}")
    steps = cluster.step

    def step(key: tuple[str, str, str]) -> None:
        watched = cluster.running(key) == [f"{APP}@{NEW}"]  # as the look before this one showed it
        steps(key)
        if watched and len(cluster.pods[key]) == 2:
            cluster.workloads[key]["spec"]["replicas"] = 3
            cluster.pods[key].append(cluster._new_pod(key, ready=False, at=2))
            cluster._count(key)

    cluster.step = step  # type: ignore[method-assign]
    done = rolled(workload(), health_s=0.5)
    assert (done.outcome, len(done.look.instances)) == ("running", 3)


def test_a_runtime_that_runs_something_else_is_no_release(cluster: WorkloadCluster, workload: Opener) -> None:
    """Only what really runs counts: all pods are ready, and of another digest."""
    cluster.make("deployments", "web", f"{APP}@{OLD}")
    cluster.image_ids[f"{APP}@{NEW}"] = f"{APP}@{THIRD}"
    cluster.steps = 9  # the first look finds them ready, however little of the time is left by then
    done = rolled(workload(), wait_s=1)
    assert done.outcome == "taken back"
    assert f"{THIRD} runs there, not the release" in done.reasons[0]


@pytest.mark.parametrize("said", [f"docker-pullable://{APP}@{NEW}", f"mirror.example/x@{NEW}", NEW, NEW[7:]])
def test_every_form_of_image_id_is_read(said: str, cluster: WorkloadCluster, workload: Opener) -> None:
    cluster.make("deployments", "web", f"{APP}@{OLD}")
    cluster.image_ids[f"{APP}@{NEW}"] = said
    assert rolled(workload()).outcome == "running"


def test_a_tag_whose_digest_nobody_knows(cluster: WorkloadCluster, workload: Opener) -> None:
    """The runtime has its own id alone, so the tag is all that can be written again."""
    cluster.make("deployments", "web", f"{APP}:v1")
    cluster.image_ids[f"{APP}:v1"] = OLD
    cluster.pods[WEB] = [cluster._new_pod(WEB, ready=True, at=at) for at in range(2)]
    look = workload().look()
    assert (look.ran, look.digests) == (f"{APP}:v1", [OLD])


@pytest.mark.parametrize(("verb", "resource"), [("get", "deployments"), ("list", "pods"), ("patch", "deployments")])
def test_a_missing_right_is_named_by_verb_and_resource(
    verb: str, resource: str, cluster: WorkloadCluster, workload: Opener
) -> None:
    cluster.make("deployments", "web", f"{APP}@{OLD}")
    cluster.forbidden.add((verb, resource))
    with pytest.raises(Forbidden, match=f"it needs the verb {verb} for {resource}") as caught:
        rolled(workload())
    assert f"cannot {verb} resource" in caught.value.what and "docs/deployment.md" in caught.value.do
    assert cluster.image(WEB) == f"{APP}@{OLD}"


def test_what_is_not_there_is_not_made(cluster: WorkloadCluster, workload: Opener) -> None:
    cluster.make("deployments", "web", f"{APP}@{OLD}", containers=[{"name": "proxy", "image": "proxy:1"}])
    with pytest.raises(NotFound, match="there is no deployment wbe in namespace shop"):
        workload(("deployments", "shop", "wbe")).look()
    with pytest.raises(InputError, match="unknown container of web `ap`; did you mean `app`"):
        workload(container="ap").look()
    with pytest.raises(InputError, match="web has several containers: app, proxy"):
        workload().look()
    assert not cluster.patches


def test_what_could_not_be_rolled_out_says_so_before(cluster: WorkloadCluster, workload: Opener) -> None:
    on_delete = {"updateStrategy": {"type": "OnDelete"}}
    parted = {"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 2}}}
    cluster.make("statefulsets", "a", f"{APP}@{OLD}", **on_delete)
    cluster.make("statefulsets", "b", f"{APP}@{OLD}", **parted)
    cluster.make("daemonsets", "c", f"{APP}@{OLD}", **on_delete)
    cluster.make("deployments", "d", f"{APP}@{OLD}", paused=True)
    cluster.make("deployments", "e", f"{APP}@{OLD}", replicas=0)
    told = [workload(key).look().blocked for key in cluster.workloads]
    words = ["OnDelete", "a partition", "OnDelete", "paused", "no pods"]
    assert all(word in text for word, text in zip(words, told, strict=True)), told


def test_somebody_else_changes_the_image_before_and_meanwhile(cluster: WorkloadCluster, workload: Opener) -> None:
    cluster.make("deployments", "web", f"{APP}@{OLD}")
    place = workload()
    cluster.meanwhile.append(lambda: cluster.write(WEB, f"{APP}@{THIRD}", "kubectl-edit"))
    with pytest.raises(RegistryError, match="somebody else changed it meanwhile by kubectl-edit") as caught:
        rolled(place)
    assert caught.value.status == 409 and not cluster.patches
    assert rolled(place).before == f"{APP}@{THIRD}", "a new look is a new decision"

    cluster.broken[f"{APP}@{NEW}"] = "ErrImagePull"
    cluster.write(WEB, f"{APP}@{OLD}", "argocd")
    seen, steps = place.look(), cluster.step

    def step(key: tuple[str, str, str]) -> None:
        if cluster.image(key) == f"{APP}@{NEW}":
            cluster.write(key, f"{APP}@{THIRD}", "argocd")
        steps(key)

    cluster.step = step  # type: ignore[method-assign]
    done = roll_out(place, seen, wanted(), limits())
    assert done.outcome == "failed" and "by argocd" in done.reasons[0]
    assert cluster.image(WEB) == f"{APP}@{THIRD}", "what is theirs is not taken back"


def test_an_annotation_that_somebody_writes_is_no_other_image(cluster: WorkloadCluster, workload: Opener) -> None:
    cluster.make("deployments", "web", f"{APP}@{OLD}")
    cluster.meanwhile.append(lambda: cluster._written(WEB))
    assert rolled(workload()).outcome == "running"


def test_an_answer_that_is_lost_and_a_server_that_is_gone_for_a_while(
    cluster: WorkloadCluster, workload: Opener
) -> None:
    cluster.make("deployments", "web", f"{APP}@{OLD}")
    cluster.cut_after = True
    assert rolled(workload()).outcome == "running"
    assert len(cluster.patches) == 1, "the change is found, not made again"

    cluster.write(WEB, f"{APP}@{OLD}", "kubectl")
    place = workload()
    seen = place.look()
    place.change(seen, f"{APP}@{NEW}", {BEFORE: f"{APP}@{OLD}", RELEASE: f"{APP}@{NEW}"})
    cluster.cut = 10**6
    with pytest.raises(Unavailable) as caught:  # killed here, another process begins
        roll_out(place, seen, wanted(), limits(0.3))
    assert cluster.image(WEB) == f"{APP}@{NEW}", "nothing is taken back while nobody knows what runs"
    assert caught.value.temporary
    cluster.cut = 0
    again = workload()
    look = again.look()
    assert before_of(look, wanted()) == f"{APP}@{OLD}"
    done = roll_out(again, look, wanted(), limits())
    assert (done.outcome, done.before) == ("running", f"{APP}@{OLD}")


def test_a_token_that_ends_is_asked_for_again(cluster: WorkloadCluster, workload: Opener, config: Path) -> None:
    cluster.make("deployments", "web", f"{APP}@{OLD}")
    place = workload(renew=lambda: by_kubeconfig(config))
    place.look()
    cluster.token = "the-next-one"
    config.write_text(config.read_text().replace(TOKEN, cluster.token))
    assert rolled(place).outcome == "running"


def test_pods_of_others_do_not_count(cluster: WorkloadCluster, workload: Opener) -> None:
    """A pod whose labels match, too, one that is going, and one that has ended."""
    cluster.make("deployments", "web", f"{APP}@{NEW}")
    strange, going, ended = (cluster._new_pod(WEB, ready=True, at=at) for at in range(3))
    strange["metadata"]["ownerReferences"] = []
    going["metadata"]["deletionTimestamp"] = "2026-11-29T08:00:00Z"
    ended["status"]["phase"] = "Failed"
    cluster.objects["/api/v1/namespaces"].append({"metadata": {"name": "shop"}})
    cluster.pods[("other", "shop", "x")] = [strange, going, ended]
    look = workload().look()
    assert (len(look.instances), against(look, wanted())) == (2, [])


anything: Any = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("ab"), inner, max_size=2),
    max_leaves=5,
)
NUMBERS = ("observedGeneration", "replicas", "updatedReplicas", "availableReplicas", "readyReplicas", "numberAvailable")


@given(
    kind=st.sampled_from(["deployment", "statefulset", "daemonset"]),
    status=st.dictionaries(st.sampled_from(NUMBERS), anything, max_size=6),
    spec=st.dictionaries(st.sampled_from(["replicas", "paused"]), anything, max_size=2),
)
def test_no_status_settles_by_absence(kind: str, status: dict[str, Any], spec: dict[str, Any]) -> None:
    """Whatever stands there, it is settled only where as many are ready as there are to be, at least one."""
    found = progress_of(kind, {"metadata": {"generation": 1}, "spec": spec, "status": status})
    if found.settled:
        ready = status.get(
            "numberAvailable" if kind == "daemonset" else "availableReplicas", status.get("readyReplicas")
        )
        assert isinstance(ready, int) and ready >= 1
    assert found.settled == (found.text == "all of it is updated and ready")


@given(fields=st.lists(st.fixed_dictionaries({"manager": st.text(max_size=3), "fieldsV1": anything}), max_size=3))
def test_no_managed_fields_break_a_look(fields: list[Any]) -> None:
    assert setter_of({"metadata": {"managedFields": fields}}, "containers", "app") == ""


PARTS = ("name", "image", "imageID", "state", "waiting", "reason", "conditions", "type", "status", "restartCount",
         "metadata", "labels", "ownerReferences", "containerStatuses", "controller", "kind", "uid")  # fmt: skip
deep: Any = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["Ready", "True", "app", "ReplicaSet", "x"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(PARTS), inner, max_size=4),
    max_leaves=12,
)


@given(pod=st.dictionaries(st.sampled_from(PARTS), deep, max_size=4), other=deep)
def test_no_pod_breaks_a_look_or_is_ready_by_absence(pod: dict[str, Any], other: Any) -> None:
    found = instance_of(pod, "app", "containerStatuses")
    conditions = (pod.get("status") or {}).get("conditions") if isinstance(pod.get("status"), dict) else []
    assert not found.ready or any(each.get("type") == "Ready" for each in conditions if isinstance(each, dict))
    for kind in ("deployment", "statefulset"):
        assert belongs(pod, {"metadata": other}, kind) in (True, False)
