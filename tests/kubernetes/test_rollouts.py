"""Roll-outs to workloads that Kubernetes' own controllers move, with the rights that our docs name and no more."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml

from registry_pipelines.deploying.kubernetes import Workload
from registry_pipelines.deploying.rollout import roll_out
from registry_pipelines.errors import Forbidden, InputError, NotFound, RegistryError
from registry_pipelines.inventory.usage.kube_access import by_kubeconfig
from registry_pipelines.inventory.usage.kube_api import KubeApi
from tests.deploying.parts import APP, NEW, OLD, THIRD, limits, rolled, wanted
from tests.deployments.objects import ROOT
from tests.doubles.kubernetes import MERGE, STRATEGIC, Cluster, Object
from tests.patience import patient, until

pytestmark = pytest.mark.long
PLURALS = {"Deployment": "deployments", "StatefulSet": "statefulsets", "DaemonSet": "daemonsets"}
DEADLINE_S = 3
"""Of a Deployment that makes no progress."""
Opener = Callable[..., Workload]


def documented(kind: str, page: str, namespace: str) -> Object:
    """The object of this kind that a page of the docs shows, for another namespace."""
    blocks = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / page).read_text(), re.S)
    found = [each for block in blocks for each in yaml.safe_load_all(block) if each.get("kind") == kind]
    [shown] = [each for each in found if "rules" in each]
    shown["metadata"]["namespace"] = namespace
    return dict(shown)


def account(cluster: Cluster, namespace: str, role: Object, name: str = "deployer") -> str:
    """A token of an account that has the rights of a role."""
    cluster.make({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}}, namespace)
    binding = {
        "apiVersion": role["apiVersion"],
        "kind": f"{role['kind']}Binding",
        "metadata": {"name": f"{name}-{namespace}"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": role["kind"], "name": role["metadata"]["name"]},
        "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": namespace}],
    }
    cluster.make(role, namespace)
    cluster.make(binding, namespace)
    return cluster.token_of(namespace, name)


def made(cluster: Cluster, namespace: str, kind: str, image: str, *containers: Object) -> str:
    """A workload `web` of three pods that runs; where it is."""
    labels = {"app": "web"}
    pod = {"containers": [{"name": "app", "image": image}, *containers]}
    spec: dict[str, Any] = {
        "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": pod},
    }
    if kind != "DaemonSet":
        spec["replicas"] = 3
    if kind == "Deployment":
        spec["progressDeadlineSeconds"] = DEADLINE_S
    if kind == "StatefulSet":
        spec["serviceName"] = "web"
    cluster.make({"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": "web"}, "spec": spec}, namespace)
    until(lambda: ready(cluster, namespace, 1 if kind == "DaemonSet" else 3))
    return f"/apis/apps/v1/namespaces/{namespace}/{PLURALS[kind]}/web"


def images(cluster: Cluster, namespace: str) -> list[str]:
    return sorted({each["spec"]["containers"][0]["image"] for each in cluster.pods(namespace)})


def ready(cluster: Cluster, namespace: str, count: int) -> bool:
    found = [each["status"].get("conditions", ()) for each in cluster.pods(namespace)]
    done = [any(one["type"] == "Ready" and one["status"] == "True" for one in each) for each in found]
    return len(done) == count and all(done)


@pytest.fixture
def workload(cluster: Cluster, shop: str, tmp_path: Path) -> Iterator[Opener]:
    """With the rights that the docs name: of one Deployment, unless told."""
    with ExitStack() as stack:

        def opened(kind: str = "Deployment", container: str = "app", *, role: Object | None = None) -> Workload:
            shown = role or documented("Role", "deployment.md", shop)
            if role is None and kind != "Deployment":
                shown["rules"][0]["resources"] = [PLURALS[kind]]
                shown["rules"][1]["verbs"] += ["delete"] if kind == "StatefulSet" else []
            config = cluster.kubeconfig(tmp_path / "kubeconfig", account(cluster, shop, shown))
            api = KubeApi(by_kubeconfig(config))
            workload = Workload(api, namespace=shop, kind=kind.lower(), name="web", container=container)
            stack.callback(workload.close)
            return workload

        yield opened


@pytest.mark.parametrize("kind", PLURALS)
def test_every_kind_is_rolled_out_by_digest_and_read_back(
    kind: str, cluster: Cluster, shop: str, workload: Opener
) -> None:
    path = made(cluster, shop, kind, f"{APP}@{OLD}", {"name": "proxy", "image": "proxy:1"})
    place = workload(kind)
    until(lambda: place.look().settled)
    seen = place.look()
    assert (seen.written, seen.digests) == (f"{APP}@{OLD}", [OLD])
    done = roll_out(place, seen, wanted(), limits())
    assert (done.outcome, done.before, done.changed, done.reasons) == ("running", f"{APP}@{OLD}", True, ())
    assert images(cluster, shop) == [f"{APP}@{NEW}"]
    assert (done.look.digests, done.look.setter) == ([NEW], "registry-pipelines")
    assert done.look.revision != seen.revision
    containers = cluster.get(path)["spec"]["template"]["spec"]["containers"]
    assert [each["image"] for each in containers] == [f"{APP}@{NEW}", "proxy:1"], "the other one stays"
    again = roll_out(place, place.look(), wanted(), limits())
    assert (again.outcome, again.changed) == ("running", False)


@pytest.mark.parametrize("kind", PLURALS)
def test_what_does_not_come_up_is_taken_back(kind: str, cluster: Cluster, shop: str, workload: Opener) -> None:
    """A Deployment says by itself that it makes no progress; the others are waited for."""
    made(cluster, shop, kind, f"{APP}@{OLD}")
    cluster.broken[f"{APP}@{NEW}"] = "ImagePullBackOff"
    done = rolled(workload(kind), wait_s=60.0 if kind == "Deployment" else patient(3))
    assert (done.outcome, done.before) == ("taken back", f"{APP}@{OLD}"), done.reasons
    if kind == "Deployment":
        assert "made no progress within its deadline" in done.reasons[0]
    assert any("ImagePullBackOff: Back-off pulling image" in each for each in done.reasons)
    assert images(cluster, shop) == [f"{APP}@{OLD}"]


def test_back_is_not_to_an_earlier_release_that_never_came_up(cluster: Cluster, shop: str, workload: Opener) -> None:
    made(cluster, shop, "Deployment", f"{APP}@{OLD}")
    cluster.broken.update(dict.fromkeys((f"{APP}@{NEW}", f"{APP}@{THIRD}"), "CrashLoopBackOff"))
    place = workload()
    assert rolled(place, rollback=False).outcome == "failed"
    assert f"{APP}@{OLD}" in images(cluster, shop), "pods of it go when new ones are ready"
    done = roll_out(place, place.look(), wanted(THIRD), limits())
    assert (done.outcome, done.before) == ("taken back", f"{APP}@{OLD}"), done.reasons
    assert images(cluster, shop) == [f"{APP}@{OLD}"]


def test_a_stateful_set_that_waits_for_a_pod_in_vain_gets_the_next_release(
    cluster: Cluster, shop: str, workload: Opener
) -> None:
    """Its controller would wait for that pod without an end ("Forced rollback")."""
    made(cluster, shop, "StatefulSet", f"{APP}@{OLD}")
    cluster.broken[f"{APP}@{NEW}"] = "CrashLoopBackOff"
    place = workload("StatefulSet")
    assert rolled(place, wait_s=3.0, rollback=False).outcome == "failed"
    done = roll_out(place, place.look(), wanted(THIRD), limits())
    assert (done.outcome, images(cluster, shop)) == ("running", [f"{APP}@{THIRD}"]), done.reasons


def test_who_may_not_delete_a_pod_that_a_stateful_set_waits_for_is_told(
    cluster: Cluster, shop: str, workload: Opener
) -> None:
    made(cluster, shop, "StatefulSet", f"{APP}@{OLD}")
    cluster.broken[f"{APP}@{NEW}"] = "CrashLoopBackOff"
    role = documented("Role", "deployment.md", shop)
    role["rules"][0]["resources"] = ["statefulsets"]
    done = rolled(workload("StatefulSet", role=role), wait_s=3.0)
    assert done.outcome == "failed"
    assert any("it needs the verb delete for pods" in each for each in done.reasons), done.reasons


def test_what_somebody_else_wrote_meanwhile_is_not_written_over(cluster: Cluster, shop: str, workload: Opener) -> None:
    path = made(cluster, shop, "Deployment", f"{APP}@{OLD}")
    place = workload()
    seen = place.look()
    theirs = {"spec": {"template": {"spec": {"containers": [{"name": "app", "image": f"{APP}@{THIRD}"}]}}}}
    cluster.ask("PATCH", f"{path}?fieldManager=argocd", theirs, kind=STRATEGIC)
    with pytest.raises(RegistryError, match="argocd"):
        roll_out(place, seen, wanted(), limits())
    until(lambda: images(cluster, shop) == [f"{APP}@{THIRD}"])
    scaled = place.look()
    cluster.ask("PATCH", path, {"spec": {"replicas": 2}}, kind=MERGE)
    done = roll_out(place, scaled, wanted(), limits())
    assert (done.outcome, len(done.look.instances)) == ("running", 2), "another change of it is no hindrance"


def test_a_right_that_is_missing_is_named_before_anything_is_written(
    cluster: Cluster, shop: str, workload: Opener
) -> None:
    made(cluster, shop, "Deployment", f"{APP}@{OLD}")
    role = documented("Role", "deployment.md", shop)
    role["rules"][0]["verbs"] = ["get"]
    place = workload(role=role)
    with pytest.raises(Forbidden, match=r"patch.*deployments"):
        roll_out(place, place.look(), wanted(), limits())
    assert images(cluster, shop) == [f"{APP}@{OLD}"]


def test_what_is_not_there_is_told_and_not_made(cluster: Cluster, shop: str, workload: Opener) -> None:
    place = workload()
    with pytest.raises(NotFound):
        place.look()
    path = made(cluster, shop, "Deployment", f"{APP}@{OLD}", {"name": "proxy", "image": "proxy:1"})
    other = Workload(place._api, namespace=shop, kind="deployment", name="web", container="nothing")
    with pytest.raises(InputError, match="nothing"):
        other.look()
    cluster.ask("DELETE", path)
