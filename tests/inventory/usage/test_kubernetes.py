"""Kubernetes says who runs what: every kind of workload, every form of ``imageID``, and every way to its API server."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from registry_pipelines.errors import InputError, LocalError, RegistryPipelinesError, ToolMissing
from registry_pipelines.inventory.usage.kube_access import by_kubeconfig, in_cluster
from registry_pipelines.inventory.usage.kube_api import KubeApi
from registry_pipelines.inventory.usage.kubernetes import KubernetesSource, resource_of
from registry_pipelines.inventory.usage.model import Use, split_image_id
from registry_pipelines.registry.client.retries import NEVER
from tests.doubles.certificates import Certificates, make_certificates
from tests.doubles.kube_api import KubeCluster, pod, serving, workload

D1, D2, D3, D4 = (f"sha256:{letter * 64}" for letter in "abcd")
APP = "reg.example/team/app"
TOKEN = "token-of-a-test"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("tls"), "kubernetes.default")


@pytest.fixture
def cluster(certificates: Certificates) -> Iterator[KubeCluster]:
    with serving(KubeCluster(token=TOKEN), certificates) as double:
        yield double


def kubeconfig(folder: Path, cluster: KubeCluster, ca: Path, user: dict[str, Any], **of_cluster: Any) -> Path:
    """As ``kubectl config view --raw`` prints it."""
    about = {"server": cluster.address, "certificate-authority": str(ca), **of_cluster}
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "prod",
        "contexts": [{"name": "prod", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": about}],
        "users": [{"name": "u", "user": user}],
    }
    path = folder / "kubeconfig"
    path.write_text(yaml.safe_dump(document))
    return path


def asked(path: Path, **more: Any) -> list[Use]:
    return list(KubernetesSource("prod", KubeApi(by_kubeconfig(path), retries=NEVER), **more).uses())


@pytest.fixture
def config(cluster: KubeCluster, certificates: Certificates, tmp_path: Path) -> Path:
    return kubeconfig(tmp_path, cluster, certificates.ca, {"token": TOKEN})


def test_pods_tell_what_runs_in_every_form_of_image_id(cluster: KubeCluster, config: Path) -> None:
    owner = {"ownerReferences": [{"kind": "ReplicaSet", "name": "web-5d", "controller": True}]}
    forms = {
        "docker": f"docker-pullable://{APP}@{D1}",
        "containerd": f"{APP}@{D1}",
        "other-name": f"mirror.example/team/app@{D1}",
        "docker-id": f"docker://{D2}",
        "id": D2,
        "bare-id": D2.partition(":")[2],
    }
    cluster.add("/api/v1/pods", *(pod(name, f"{APP}:v1", text) for name, text in forms.items()))
    cluster.add("/api/v1/pods", *(pod(f"web-5d-{at}", f"{APP}:v2", f"{APP}@{D3}", metadata=owner) for at in range(3)))
    cluster.add("/api/v1/pods", pod("waiting", f"{APP}:v3", "", phase="Pending"))
    cluster.add("/api/v1/pods", pod("over", f"{APP}:v4", f"{APP}@{D4}", phase="Succeeded"))
    found = asked(config)
    told = {(use.where.split(",")[1].strip(), use.image, use.digest, use.config) for use in found}
    assert {(f"Pod {name}", f"{APP}:v1", D1, "") for name in ("docker", "containerd", "other-name")} <= told
    assert ("Pod other-name", f"mirror.example/team/app@{D1}", D1, "") in told
    assert {(f"Pod {name}", f"{APP}:v1", "", D2) for name in ("docker-id", "id", "bare-id")} <= told
    assert len([use for use in found if use.digest == D3]) == 1, "pods of one ReplicaSet say it once"
    assert ("Pod waiting", f"{APP}:v3", "", "") in told
    assert [use.running for use in found if use.digest == D4] == [False]
    assert {use.digest for use in found if use.since and f"{use.since:%Y-%m-%d}" == "2026-10-30"} >= {D1, D3}


def test_init_and_ephemeral_containers_and_image_volumes_are_read(cluster: KubeCluster, config: Path) -> None:
    more = {
        "initContainers": [{"name": "setup", "image": f"{APP}:init"}],
        "ephemeralContainers": [{"name": "debug", "image": f"{APP}:debug"}],
        "volumes": [{"name": "weights", "image": {"reference": f"{APP}:weights"}}, {"name": "empty", "image": {}}],
    }
    mounted = [{"name": "weights", "mountPath": "/w", "volumeStatus": {"image": {"imageRef": f"{APP}@{D4}"}}}]
    status = {
        "initContainerStatuses": [{"name": "setup", "image": f"{APP}:init", "imageID": f"{APP}@{D2}"}],
        "ephemeralContainerStatuses": [{"name": "debug", "image": f"{APP}:debug", "imageID": f"{APP}@{D3}"}],
        "containerStatuses": [{"name": "main", "image": D1, "imageID": f"{APP}@{D1}", "volumeMounts": mounted}],
    }
    cluster.add("/api/v1/pods", pod("p", f"{APP}:v1", "", spec=more, status=status))
    found = asked(config)
    assert {use.digest for use in found} == {"", D1, D2, D3, D4}
    assert {use.image for use in found if not use.digest} == {
        f"{APP}:{tag}" for tag in ("v1", "init", "debug", "weights")
    }
    assert any("init container 'setup'" in use.where for use in found)


KINDS = {
    "/api/v1/replicationcontrollers": "ReplicationController",
    "/api/v1/podtemplates": "PodTemplate",
    "/apis/apps/v1/deployments": "Deployment",
    "/apis/apps/v1/replicasets": "ReplicaSet",
    "/apis/apps/v1/statefulsets": "StatefulSet",
    "/apis/apps/v1/daemonsets": "DaemonSet",
    "/apis/apps/v1/controllerrevisions": "ControllerRevision",
    "/apis/batch/v1/jobs": "Job",
    "/apis/batch/v1/cronjobs": "CronJob",
}


def test_every_kind_of_workload_tells_what_it_would_start(cluster: KubeCluster, config: Path) -> None:
    for path, kind in KINDS.items():
        cluster.add(path, workload(kind, f"a-{kind.lower()}", f"{APP}:{kind}"))
    rollout = workload("Rollout", "canary", f"{APP}:canary")
    cluster.add("/apis/argoproj.io/v1alpha1/rollouts", rollout, {"metadata": {"name": "n", "namespace": "ml"}})
    cluster.add("/apis/apps/v1/controllerrevisions", {"metadata": {"name": "odd", "namespace": "ml"}, "data": {}})
    found = asked(config, resources=[resource_of("argoproj.io/v1alpha1/rollouts")])
    assert {use.image for use in found} == {f"{APP}:{kind}" for kind in [*KINDS.values(), "canary"]}
    assert not any(use.running or use.digest for use in found)
    assert "namespace ml, CronJob a-cronjob, container 'c0'" in {use.where for use in found}


def test_lists_are_read_page_by_page_and_begun_again_when_their_token_is_gone(
    cluster: KubeCluster, config: Path
) -> None:
    cluster.page, cluster.gone = 2, 1
    cluster.add("/api/v1/pods", *(pod(f"p{at}", f"{APP}:v{at}", f"{APP}@{D1}") for at in range(7)))
    assert {use.image for use in asked(config)} == {f"{APP}:v{at}" for at in range(7)}
    assert len([one for one in cluster.asked if one.startswith("/api/v1/pods")]) == 2 + 4
    cluster.gone = 100
    with pytest.raises(RegistryPipelinesError, match="too old"):
        asked(config)


def test_namespaces_are_asked_each_and_one_that_is_misspelt_is_an_error(cluster: KubeCluster, config: Path) -> None:
    for name in ("ml-prod", "ml-dev", "web"):
        cluster.add("/api/v1/pods", pod("p", f"{APP}:{name}", f"{APP}@{D1}", namespace=name))
    assert {use.image for use in asked(config, namespaces=["ml-*"])} == {f"{APP}:ml-prod", f"{APP}:ml-dev"}
    cluster.asked.clear()
    assert {use.image for use in asked(config, namespaces=["web"])} == {f"{APP}:web"}
    assert "/api/v1/namespaces?limit=250" not in cluster.asked, "an account of one namespace may not list them"
    for pattern in ("mll-*", "wep"):
        with pytest.raises(RegistryPipelinesError, match=r"mll|wep"):
            asked(config, namespaces=[pattern])


@pytest.mark.parametrize("path", ["/api/v1/pods", "/apis/batch/v1/cronjobs", "/apis/apps/v1/controllerrevisions"])
def test_a_kind_that_may_not_be_listed_makes_the_answer_none(cluster: KubeCluster, config: Path, path: str) -> None:
    cluster.fail[path] = 403
    with pytest.raises(RegistryPipelinesError, match="cannot list resource") as refused:
        asked(config)
    assert "ClusterRole" in str(refused.value) and TOKEN not in str(refused.value)


def test_a_certificate_a_token_file_and_a_program_log_in(
    cluster: KubeCluster, certificates: Certificates, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    assert asked(kubeconfig(tmp_path, cluster, certificates.ca, {"tokenFile": "token"})) == []
    program = tmp_path / "give-token"
    status = json.dumps({"kind": "ExecCredential", "status": {"token": TOKEN}})
    program.write_text(f'#!/bin/sh\ntest -n "$KUBERNETES_EXEC_INFO" && test "$ROLE" = $1 && echo \'{status}\'\n')
    program.chmod(0o755)
    told = {"command": "./give-token", "args": ["reader"], "env": [{"name": "ROLE", "value": "reader"}]}
    assert asked(kubeconfig(tmp_path, cluster, certificates.ca, {"exec": told})) == []
    with pytest.raises(LocalError, match="failed"):
        asked(kubeconfig(tmp_path, cluster, certificates.ca, {"exec": {**told, "args": ["writer"]}}))
    with pytest.raises(ToolMissing, match="Install the plugin"):
        hint = {"command": "no-such-plugin", "installHint": "Install the plugin"}
        asked(kubeconfig(tmp_path, cluster, certificates.ca, {"exec": hint}))


def test_a_client_certificate_and_authority_stand_in_the_file_as_data(
    certificates: Certificates, tmp_path: Path
) -> None:
    with serving(KubeCluster(), certificates, client_ca=certificates.ca) as cluster:
        data = {
            f"client-{name}-data": base64.b64encode(path.read_bytes()).decode()
            for name, path in (("certificate", certificates.certificate), ("key", certificates.key))
        }
        authority = base64.b64encode(certificates.ca.read_bytes()).decode()
        path = kubeconfig(tmp_path, cluster, tmp_path / "none", data, **{"certificate-authority-data": authority})
        assert asked(path) == []
        with pytest.raises(RegistryPipelinesError):
            asked(kubeconfig(tmp_path, cluster, certificates.ca, {"token": TOKEN}))


def test_a_server_of_another_name_is_not_asked(
    cluster: KubeCluster, certificates: Certificates, tmp_path: Path
) -> None:
    other = {"tls-server-name": "other.example"}
    with pytest.raises(RegistryPipelinesError, match="TLS failed"):
        asked(kubeconfig(tmp_path, cluster, certificates.ca, {"token": TOKEN}, **other))
    named = {"tls-server-name": "kubernetes.default"}
    assert asked(kubeconfig(tmp_path, cluster, certificates.ca, {"token": TOKEN}, **named)) == []


@pytest.mark.parametrize(
    ("of_cluster", "user", "said"),
    [
        ({"server": "http://10.0.0.1:6443"}, {}, "without TLS"),
        ({"server": "10.0.0.1"}, {}, "no address of a server"),
        ({"proxy-url": "http://proxy:3128"}, {}, "proxy-url"),
        ({}, {"auth-provider": {"name": "gcp"}}, "gone from Kubernetes"),
        ({"certificate-authority-data": "!"}, {}, "no base64"),
        ({}, {"client-certificate-data": base64.b64encode(b"no PEM").decode()}, "cannot be read"),
        ({}, {"exec": {"args": []}}, "names no command"),
    ],
)
def test_a_kubeconfig_that_cannot_be_followed_is_refused(
    certificates: Certificates, tmp_path: Path, of_cluster: dict[str, Any], user: dict[str, Any], said: str
) -> None:
    cluster = KubeCluster(address="https://10.0.0.1:6443")
    with pytest.raises(InputError, match=said):
        by_kubeconfig(kubeconfig(tmp_path, cluster, certificates.ca, user, **of_cluster))


def test_a_context_that_is_not_there_is_named_with_the_nearest(config: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="did you mean `prod`"):
        by_kubeconfig(config, "prd")
    with pytest.raises(InputError, match="cannot be read"):
        by_kubeconfig(tmp_path / "none")


def test_a_pod_asks_as_its_service_account(
    cluster: KubeCluster, certificates: Certificates, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(InputError, match="this is no pod"):
        in_cluster(tmp_path)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", cluster.address.rpartition(":")[2])
    (tmp_path / "token").write_text(TOKEN)
    (tmp_path / "ca.crt").write_bytes(certificates.ca.read_bytes())
    cluster.add("/api/v1/pods", pod("p", f"{APP}:v1", f"{APP}@{D1}"))
    found = list(KubernetesSource("here", KubeApi(in_cluster(tmp_path))).uses())
    assert {use.digest for use in found} == {"", D1}


@given(st.text(alphabet=st.sampled_from("abf019:/@.-sha256docker"), max_size=90))
def test_any_text_is_an_image_id_or_nothing(text: str) -> None:
    reference, digest, config = split_image_id(text)
    assert not config or (len(config) == 71 and config.startswith("sha256:"))
    assert not digest or text.endswith(f"@{digest}")
    assert reference in text


JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["current-context", "contexts", "context", "name", "clusters", "users"]), inner
        )
    ),
    max_leaves=20,
)


@given(JSON)
def test_any_document_is_a_kubeconfig_or_refused(tmp_path_factory: pytest.TempPathFactory, document: Any) -> None:
    path = tmp_path_factory.getbasetemp() / "any-kubeconfig"
    path.write_text(yaml.safe_dump(document))
    with pytest.raises(InputError):
        by_kubeconfig(path)
