"""The files that we write for clusters: the API server takes every one, and its controllers make the pods."""

from __future__ import annotations

import base64
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from registry_pipelines.weights.model import MOUNT_FORMS
from registry_pipelines.weights.mounting import snippet
from tests.deployments.objects import KUBERNETES
from tests.deployments.test_kubernetes import launched
from tests.doubles.kubernetes import Cluster, Refused, path_of
from tests.needs import needed_module
from tests.patience import until
from tests.weights.test_mounting import wanted

pytestmark = pytest.mark.long
OURS = "registry-pipelines"


@pytest.fixture(scope="module")
def deployed(cluster: Cluster, peer: Callable[[str], str]) -> Iterator[Cluster]:
    """With what deploy/kubernetes/example is, and the secrets that a team makes."""
    done = subprocess.run([peer("kubectl"), "kustomize", KUBERNETES / "example"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    objects = list(yaml.safe_load_all(done.stdout))
    objects.sort(key=lambda each: each["kind"] != "Namespace")
    cluster.warnings.clear()
    cluster.make(objects[0])
    for name in ("secrets", "keys"):
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": f"{OURS}-{name}", "namespace": OURS}}
        cluster.make({**secret, "data": {"signing.key": base64.b64encode(b"x").decode()}})
    for each in objects[1:]:
        cluster.make(each)
    yield cluster
    cluster.ask("DELETE", f"/api/v1/namespaces/{OURS}")


def roles(cluster: Cluster) -> set[str]:
    return {
        each["metadata"]["labels"]["app.kubernetes.io/name"]
        for each in cluster.pods(OURS)
        if each["status"]["phase"] == "Running"
    }


def test_what_we_deploy_is_taken_as_it_is_and_comes_up(deployed: Cluster) -> None:
    """No unknown field, no warning of the profile `restricted`, and no pod that it refuses."""
    until(lambda: roles(deployed) >= {"code", "daemon", "webserver"})
    assert deployed.warnings == []
    until(lambda: len(deployed.pods(OURS)) == 4)
    for name in ("code", "daemon", "webserver"):
        status = deployed.get(f"/apis/apps/v1/namespaces/{OURS}/deployments/{name}")["status"]
        assert not [each for each in status.get("conditions", ()) if each["type"] == "ReplicaFailure"]


def test_a_pod_that_could_do_more_is_refused_there(deployed: Cluster) -> None:
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "more", "namespace": OURS}}
    with pytest.raises(Refused, match="violates PodSecurity"):
        deployed.make({**pod, "spec": {"containers": [{"name": "more", "image": "registry.example/more"}]}})


def allowed(cluster: Cluster, account: str, verb: str, group: str, resource: str) -> bool:
    named, _, sub = resource.partition("/")
    asked = {"namespace": OURS, "verb": verb, "group": group, "resource": named, "subresource": sub}
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": asked},
    }
    token = cluster.token_of(OURS, account)
    path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    return bool(cluster.ask("POST", path, review, token=token)["status"]["allowed"])


def test_a_run_is_launched_looked_at_and_ended_with_the_rights_of_the_launcher(
    deployed: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By Dagster's own launcher; those of a run itself are none."""
    needed_module("dagster_k8s", "cluster")
    monkeypatch.setenv("DAGSTER_NAMESPACE", OURS)
    deployed.warnings.clear()
    config = deployed.kubeconfig(tmp_path / "kubeconfig", deployed.token_of(OURS, f"{OURS}-launcher"))
    with launched(tmp_path / "home", config) as (launcher, run):
        until(lambda: "run" in roles(deployed))
        assert deployed.warnings == []
        assert str(launcher.check_run_worker_health(run).status) == "WorkerStatus.RUNNING"
        assert launcher.get_run_worker_debug_info(run)
        assert launcher.terminate(run.run_id)
        until(lambda: "run" not in roles(deployed))
    for verb, group, resource in (("create", "batch", "jobs"), ("get", "", "secrets"), ("list", "", "pods")):
        assert not allowed(deployed, f"{OURS}-run", verb, group, resource)
    assert not allowed(deployed, f"{OURS}-launcher", "get", "", "secrets")
    assert not allowed(deployed, f"{OURS}-launcher", "create", "", "pods/exec")


@pytest.mark.parametrize("form", MOUNT_FORMS)
def test_weights_are_mounted_by_objects_that_the_api_server_takes(cluster: Cluster, shop: str, form: str) -> None:
    made = snippet(wanted(form, region="eu-central-1" if form == "csi-s3" else "", name=shop))
    for each in made.objects:
        if each["apiVersion"] == "snapshot.storage.k8s.io/v1":  # of drivers, which bring the kinds
            continue
        if name := each.get("spec", {}).get("serviceAccountName"):  # whose identity the bucket lets in; a team's own
            cluster.make({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}}, shop)
        taken = cluster.make(each, shop)
        if "namespace" not in taken["metadata"]:
            cluster.ask("DELETE", f"{path_of(each)}/{taken['metadata']['name']}")
    assert cluster.warnings == []


def test_an_api_server_of_before_drops_an_image_volume_without_an_error_as_the_guard_is_there_for(
    cluster: Cluster, older: Cluster, shop: str
) -> None:
    [pod] = snippet(wanted("image-volume")).objects
    assert "image" in cluster.make(pod, shop)["spec"]["volumes"][0]
    taken = older.ask("POST", "/api/v1/namespaces/default/pods", pod)
    assert "image" not in taken["spec"]["volumes"][0]
    assert taken["spec"]["initContainers"][0]["name"] == "weights-are-there"
