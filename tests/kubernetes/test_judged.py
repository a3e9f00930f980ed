"""The API server asks our webhook what may start, and tells us what runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
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
from tests.chain.fleet import start
from tests.deploying.parts import APP, NEW, OLD
from tests.doubles.certificates import make_certificates
from tests.doubles.kubernetes import Cluster, Refused, path_of
from tests.kubernetes.test_rollouts import account, documented, made
from tests.patience import until
from tests.ports import free_ports
from tests.promote.admission.workload_objects import pod, pod_spec

pytestmark = pytest.mark.long


@pytest.fixture
def asked(cluster: Cluster, shop: str, tmp_path: Path) -> Iterator[tuple[str, str]]:
    """The API server asks the webhook about every pod: an image that was promoted, and one that was denied."""
    with ExitStack() as stack:
        fleet = start(tmp_path, stack)
        good, evil = fleet.release("v1.0.0"), fleet.release("v2.0.0", package="badwheel")
        assert [fleet.judged(each) for each in (good, evil)] == [True, False]
        fleet.chain.promote(good)
        own, [port] = make_certificates(tmp_path / "tls"), free_ports(1)
        lines = {
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
        chain = Chain(load(path, {}))
        stack.enter_context(stack.enter_context(chain.admission_webhook()))
        for text in chain.admission_files("webhook").values():
            for each in yaml.safe_load_all(text):
                each["webhooks"][0].setdefault("namespaceSelector", {})["matchLabels"] = {
                    "kubernetes.io/metadata.name": shop
                }
                cluster.make(each)
                stack.callback(cluster.ask, "DELETE", f"{path_of(each)}/{each['metadata']['name']}")
        place = chain.place("app")
        yield f"{place}:v1.0.0", f"{place}:v2.0.0"


def test_what_was_denied_does_not_start_and_a_tag_becomes_a_digest(
    asked: tuple[str, str], cluster: Cluster, shop: str
) -> None:
    good, evil = asked

    def judged(image: str) -> str:
        """What the pod has then. An API server hears of a webhook a moment after it was told of it."""
        each = pod(image)
        made = cluster.ask("POST", f"/api/v1/namespaces/{shop}/pods?dryRun=All", each)
        return str(made["spec"]["containers"][0]["image"])

    def is_asked() -> bool:
        try:
            judged("registry.example/unknown:1")
        except Refused as refused:
            return "admission webhook" in refused.message
        return False

    until(is_asked)
    image = judged(good)
    assert image.partition("@")[0] == good.rpartition(":")[0] and "@sha256:" in image
    with pytest.raises(Refused, match="badwheel") as refused:
        judged(evil)
    assert refused.value.status == 403
    spec = {"selector": {"matchLabels": {"app": "it"}}, "template": {"metadata": {"labels": {"app": "it"}}}}
    spec["template"]["spec"] = pod_spec(evil)  # type: ignore[index]
    web = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": spec}
    with pytest.raises(Refused, match="badwheel"):
        cluster.make(web, shop)


def test_who_runs_what_is_read_with_the_rights_that_the_docs_name(cluster: Cluster, shop: str, tmp_path: Path) -> None:
    """Also what a roll-back starts: old ReplicaSets, and the ControllerRevisions of a StatefulSet."""
    path = made(cluster, shop, "StatefulSet", f"{APP}@{OLD}")
    changed = {"spec": {"template": {"spec": {"containers": [{"name": "app", "image": f"{APP}@{NEW}"}]}}}}
    cluster.ask("PATCH", path, changed, kind="application/strategic-merge-patch+json")
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
