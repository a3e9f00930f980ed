"""The API server asks our webhook what may start, and tells us what runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from registry_pipelines.chain import Chain
from registry_pipelines.config import load
from registry_pipelines.inventory.usage.kube_access import by_kubeconfig
from registry_pipelines.inventory.usage.kube_api import KubeApi
from registry_pipelines.inventory.usage.kubernetes import KubernetesSource
from registry_pipelines.node.setup import Setup
from registry_pipelines.node.setup.kubernetes import kubernetes
from registry_pipelines.promote.admission.model import Form
from registry_pipelines.release import Release
from tests.chain.fleet import start
from tests.deploying.parts import APP, NEW, OLD
from tests.doubles.certificates import make_certificates
from tests.doubles.kubernetes import STRATEGIC, Cluster, Object, Refused, path_of
from tests.kubernetes.test_rollouts import account, documented, made
from tests.patience import until
from tests.ports import free_ports
from tests.promote.admission.workload_objects import pod, pod_spec

pytestmark = pytest.mark.long
APPROVED = "registry.k8s.io"


@dataclass
class Judged:
    """A release that was promoted, and one that was denied. chain: with the webhook's settings."""

    chain: Chain
    good: Release
    evil: Release

    def tagged(self, release: Release) -> str:
        return f"{self.chain.place('app')}:{release.tag}"

    def named(self, release: Release) -> str:
        """By digest."""
        return f"{self.chain.place('app')}@{release.digest}"


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Judged]:
    folder = tmp_path_factory.mktemp("fleet")
    with ExitStack() as stack:
        fleet = start(folder, stack)
        good, evil = fleet.release("v1.0.0"), fleet.release("v2.0.0", package="badwheel")
        assert [fleet.judged(each) for each in (good, evil)] == [True, False]
        fleet.chain.promote(good)
        own, [port] = make_certificates(folder / "tls"), free_ports(1)
        lines = {
            "approved": [{"images": APPROVED, "reason": "the cluster's own"}],
            "host": "127.0.0.1",
            "port": port,
            "url": f"https://localhost:{port}",
            "tls_cert": str(own.certificate),
            "tls_key": str(own.key),
            "ca_file": str(own.ca),
            "mutate": ["digest"],
        }
        path = fleet.path.with_name("admission.yaml")
        path.write_text(fleet.path.read_text() + yaml.safe_dump({"admission": lines}))
        yield Judged(Chain(load(path, {})), good, evil)


@contextmanager
def applied(judged: Judged, form: Form, cluster: Cluster, namespace: str) -> Iterator[None]:
    """What `admission write` gives, for one namespace alone. An API server goes by it a moment after it was told."""
    with ExitStack() as stack:
        only = {"kubernetes.io/metadata.name": namespace}
        for text in judged.chain.admission_files(form).values():
            for each in yaml.safe_load_all(text):
                for rules in (
                    *each.get("webhooks", ()),
                    each["spec"].get("matchResources", {}) if "spec" in each else {},
                ):
                    if "namespaceSelector" in rules:
                        rules["namespaceSelector"]["matchLabels"] = only
                cluster.make(each)
                stack.callback(cluster.ask, "DELETE", f"{path_of(each)}/{each['metadata']['name']}")
        until(lambda: is_refused(cluster, namespace, pod("registry.example/unknown:1")))
        yield


def tried(cluster: Cluster, namespace: str, each: Object) -> Object:
    """What the pod would be."""
    return cluster.ask("POST", f"/api/v1/namespaces/{namespace}/pods?dryRun=All", each)


def is_refused(cluster: Cluster, namespace: str, each: Object) -> bool:
    try:
        tried(cluster, namespace, each)
    except Refused as refused:
        assert refused.status in (403, 500), refused
        return True
    return False


def test_what_was_denied_does_not_start_and_a_tag_becomes_a_digest(judged: Judged, cluster: Cluster, shop: str) -> None:
    """The API server asks the webhook about every pod, and about what makes pods."""
    evil = judged.tagged(judged.evil)
    with judged.chain.admission_webhook() as webhook, webhook, applied(judged, "webhook", cluster, shop):
        made = tried(cluster, shop, pod(judged.tagged(judged.good)))
        assert made["spec"]["containers"][0]["image"] == judged.named(judged.good)
        with pytest.raises(Refused, match="badwheel") as refused:
            tried(cluster, shop, pod(evil))
        assert refused.value.status == 403
        labels = {"app": "it"}
        template = {"metadata": {"labels": labels}, "spec": pod_spec(evil)}
        spec = {"selector": {"matchLabels": labels}, "template": template}
        with pytest.raises(Refused, match="badwheel"):
            cluster.make(
                {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "it"}, "spec": spec}, shop
            )
    with applied(judged, "webhook", cluster, shop), pytest.raises(Refused, match="failed calling webhook"):
        tried(cluster, shop, pod(judged.tagged(judged.good)))  # nobody answers, so nothing starts


def mounting(image: str, reference: str) -> Object:
    """A pod of an image that mounts another one."""
    each = pod(image)
    each["spec"]["volumes"] = [{"name": "models", "image": {"reference": reference}}]
    return each


@pytest.mark.parametrize("release", ["1.37", "1.34"])
def test_an_api_server_alone_judges_by_the_policy(
    release: str, judged: Judged, request: pytest.FixtureRequest, shop: str
) -> None:
    """Of 1.34, too, whose pods have no image volumes: the expression names a field that it does not know."""
    cluster: Cluster = request.getfixturevalue("cluster" if release == "1.37" else "older")
    namespace = shop if release == "1.37" else "default"
    good, evil = judged.named(judged.good), judged.named(judged.evil)
    beside = f"{APPROVED}/pause:3"
    with applied(judged, "validating-policy", cluster, namespace):
        for each in (pod(good), pod(good, beside), pod(beside, where="containers")):
            tried(cluster, namespace, each)
        for each in (pod(evil), pod(good, evil), pod(judged.tagged(judged.good)), pod(f"{APPROVED}/pause:latest")):
            assert is_refused(cluster, namespace, each), each
        inside = pod(good)
        inside["spec"]["initContainers"] = [{"name": "first", "image": evil}]
        assert is_refused(cluster, namespace, inside)
        if release == "1.37":
            tried(cluster, namespace, mounting(good, good))
            assert is_refused(cluster, namespace, mounting(good, evil))
        path = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies/registry-pipelines-images"
        told = cluster.get(path)["status"].get("typeChecking", {})
        assert not told.get("expressionWarnings"), told


def test_who_runs_what_is_read_with_the_rights_that_the_docs_name(cluster: Cluster, shop: str, tmp_path: Path) -> None:
    """Also what a roll-back starts: old ReplicaSets, and the ControllerRevisions of a StatefulSet."""
    path = made(cluster, shop, "StatefulSet", f"{APP}@{OLD}")
    changed = {"spec": {"template": {"spec": {"containers": [{"name": "app", "image": f"{APP}@{NEW}"}]}}}}
    cluster.ask("PATCH", path, changed, kind=STRATEGIC)
    until(lambda: {each["spec"]["containers"][0]["image"] for each in cluster.pods(shop)} == {f"{APP}@{NEW}"})
    role = documented("ClusterRole", "inventory.md", "")
    del role["metadata"]["namespace"]
    config = cluster.kubeconfig(tmp_path / "kubeconfig", account(cluster, shop, role, name="reader"))
    for namespaces in ((shop,), ("shop-*",), ("*",)):
        found = list(KubernetesSource("it", KubeApi(by_kubeconfig(config)), namespaces).uses())
        here = {(each.running, each.digest or each.image.partition("@")[2]) for each in found if shop in each.where}
        assert here == {(True, NEW), (False, NEW), (False, OLD)}, namespaces
    for kind in ("ClusterRoleBinding", "ClusterRole"):
        name = f"reader-{shop}" if kind.endswith("Binding") else role["metadata"]["name"]
        each = {"apiVersion": role["apiVersion"], "kind": kind, "metadata": {}}
        cluster.ask("DELETE", f"{path_of(each)}/{name}")


def test_the_agent_of_nodes_is_started_on_each(cluster: Cluster, tmp_path: Path) -> None:
    """By the objects that `node setup kubernetes` writes."""
    written = kubernetes(Setup(program=Path("/usr/local/bin/registry-pipelines"), image=f"{APP}@{NEW}"))
    cluster.warnings.clear()
    for text in written.files.values():
        each = yaml.safe_load(text)
        cluster.make(each)
    until(lambda: any(f"{APP}@{NEW}" == each["spec"]["containers"][0]["image"] for each in cluster.pods("kube-system")))
    assert cluster.warnings == []
