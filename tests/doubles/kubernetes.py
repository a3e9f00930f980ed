"""Kubernetes itself: its API server with etcd and its controllers, and a stand-in for kubelets, for there are no nodes.

The programs are those that `.ci/build-kubernetes` builds from Kubernetes' own source. What a kubelet would do, the
stand-in says by the status of pods: they run at once, unless the image is one that does not come up.
"""

from __future__ import annotations

import base64
import http.client
import json
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.doubles.certificates import Certificates, make_certificates
from tests.patience import patient, until
from tests.ports import free_ports

ADMIN, KUBELET = "token-of-an-admin", "token-of-the-stand-in"
STRICT = "fieldValidation=Strict"
"""An unknown field is an error then, not a warning."""
MERGE, STRATEGIC = "application/merge-patch+json", "application/strategic-merge-patch+json"
"""Content of patches."""
NODE = "here"
SERVICES = "10.96.0.0/24"
LOOK_S = 0.05
"""Between two looks of the stand-in."""

WITHOUT_NAMESPACE = {
    "Namespace",
    "Node",
    "PersistentVolume",
    "StorageClass",
    "RuntimeClass",
    "ClusterRole",
    "ClusterRoleBinding",
    "ValidatingWebhookConfiguration",
    "MutatingWebhookConfiguration",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
}

Object = dict[str, Any]


class Refused(Exception):
    """What the API server answered instead. status: of HTTP. message: its own words."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status, self.message = status, message


@dataclass
class Cluster:
    """address: of the API server. warnings: what it said beside its answers. broken: images that do not come up, and
    the reason that their container waits for; what runs them already goes on."""

    address: str
    port: int
    certificates: Certificates
    broken: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def ask(self, method: str, path: str, body: Object | None = None, *, token: str = ADMIN, kind: str = "") -> Object:
        """One request. kind: of the content, JSON unless told. Raises Refused."""
        connection = http.client.HTTPSConnection(
            "127.0.0.1",
            self.port,
            context=ssl.create_default_context(cafile=str(self.certificates.ca)),
            timeout=patient(60),
        )
        headers = {"Authorization": f"Bearer {token}", "Content-Type": kind or "application/json"}
        try:
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            response = connection.getresponse()
            content = response.read()
        finally:
            connection.close()
        self.warnings += [value for name, value in response.getheaders() if name.lower() == "warning"]
        document = json.loads(content) if content.startswith(b"{") else {"message": content.decode()}
        if response.status >= 300:
            raise Refused(response.status, str(document.get("message", "")))
        return document

    def make(self, each: Object, namespace: str = "", **more: Any) -> Object:
        """Make an object, with fields that the API does not have refused. namespace: where it names none."""
        return self.ask("POST", f"{path_of(each, namespace)}?{STRICT}", each, **more)

    def get(self, path: str, **more: Any) -> Object:
        return self.ask("GET", path, **more)

    def pods(self, namespace: str) -> list[Object]:
        """That are not about to go."""
        found = self.get(f"/api/v1/namespaces/{namespace}/pods")["items"]
        return [each for each in found if "deletionTimestamp" not in each["metadata"]]

    def token_of(self, namespace: str, account: str) -> str:
        """A token of a service account, as its pods have one."""
        wanted = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"audiences": []}}
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token"
        return str(self.ask("POST", path, wanted)["status"]["token"])

    def kubeconfig(self, path: Path, token: str = ADMIN) -> Path:
        """As ``kubectl config view --raw`` prints it."""
        bundle = base64.b64encode(self.certificates.ca.read_bytes()).decode()
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "it",
            "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
            "clusters": [{"name": "it", "cluster": {"server": self.address, "certificate-authority-data": bundle}}],
            "users": [{"name": "it", "user": {"token": token}}],
        }
        path.write_text(yaml.safe_dump(document))
        return path


def path_of(each: Object, namespace: str = "") -> str:
    """The collection that an object belongs to."""
    group, kind = each["apiVersion"], each["kind"]
    plural = (
        f"{kind.lower()}es"
        if kind.endswith("s")
        else f"{kind.lower()[:-1]}ies"
        if kind.endswith("y")
        else f"{kind.lower()}s"
    )
    within = "" if kind in WITHOUT_NAMESPACE else f"/namespaces/{each['metadata'].get('namespace', namespace)}"
    return f"{'/api' if '/' not in group else '/apis'}/{group}{within}/{plural}"


@contextmanager
def running(programs: Mapping[str, Path], folder: Path, *, controllers: bool = True) -> Iterator[Cluster]:
    """A cluster that answers. programs: ``etcd``, ``kube-apiserver``, ``kube-controller-manager``. controllers: False
    for the API alone, where nothing moves."""
    certificates = make_certificates(folder / "tls", "kubernetes.default")
    etcd, peer, port, health = free_ports(4)
    tokens = folder / "tokens.csv"
    tokens.write_text(f"{ADMIN},admin,admin,system:masters\n{KUBELET},kubelet,kubelet,system:masters\n")
    cluster = Cluster(f"https://127.0.0.1:{port}", port, certificates)
    with ExitStack() as stack:
        _start(
            stack,
            folder / "etcd.log",
            programs["etcd"],
            f"--data-dir={folder / 'etcd'}",
            f"--listen-client-urls=http://127.0.0.1:{etcd}",
            f"--advertise-client-urls=http://127.0.0.1:{etcd}",
            f"--listen-peer-urls=http://127.0.0.1:{peer}",
            f"--initial-advertise-peer-urls=http://127.0.0.1:{peer}",
            f"--initial-cluster=default=http://127.0.0.1:{peer}",
            "--unsafe-no-fsync",
        )
        api = _start(
            stack,
            folder / "api.log",
            programs["kube-apiserver"],
            f"--etcd-servers=http://127.0.0.1:{etcd}",
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            "--endpoint-reconciler-type=none",
            f"--secure-port={port}",
            f"--tls-cert-file={certificates.certificate}",
            f"--tls-private-key-file={certificates.key}",
            f"--token-auth-file={tokens}",
            "--authorization-mode=RBAC",
            "--allow-privileged=true",
            f"--service-cluster-ip-range={SERVICES}",
            "--service-account-issuer=https://kubernetes.default",
            f"--service-account-key-file={certificates.certificate}",
            f"--service-account-signing-key-file={certificates.key}",
        )
        until(lambda: _answers(cluster, "/readyz") or api.poll() is not None)
        assert api.poll() is None, (folder / "api.log").read_text()[-2000:]
        if controllers:
            _start(
                stack,
                folder / "controllers.log",
                programs["kube-controller-manager"],
                f"--kubeconfig={cluster.kubeconfig(folder / 'controllers.kubeconfig')}",
                f"--service-account-private-key-file={certificates.key}",
                f"--root-ca-file={certificates.ca}",
                "--use-service-account-credentials=false",
                # Nobody gives signs of life for the node, and its pods would be called not ready after a minute.
                "--controllers=*,-node-lifecycle-controller",
                "--leader-elect=false",
                f"--secure-port={health}",
                "--bind-address=127.0.0.1",
            )
            stack.enter_context(_kubelet(cluster))
            until(lambda: _answers(cluster, "/api/v1/namespaces/default/serviceaccounts/default"))
        yield cluster


def _start(stack: ExitStack, log: Path, *command: str | Path) -> subprocess.Popen[bytes]:
    file = stack.enter_context(log.open("wb"))
    process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)
    stack.callback(process.wait)
    stack.callback(process.kill)
    return process


def _answers(cluster: Cluster, path: str) -> bool:
    try:
        cluster.get(path)
    except (OSError, Refused):
        return False
    return True


@contextmanager
def _kubelet(cluster: Cluster) -> Iterator[None]:
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE, "labels": {"kubernetes.io/os": "linux"}}}
    cluster.make(node)
    cluster.ask("PATCH", f"/api/v1/nodes/{NODE}", {"spec": {"taints": None}}, kind=MERGE)  # that it is not ready yet
    ready = {"conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady"}]}
    cluster.ask("PATCH", f"/api/v1/nodes/{NODE}/status", {"status": ready}, kind=MERGE)
    ended = threading.Event()
    failures: list[BaseException] = []

    def work() -> None:
        while not ended.wait(LOOK_S):
            try:
                _look(cluster)
            except BaseException as error:
                failures.append(error)
                return

    thread = threading.Thread(target=work, name="kubelet")
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
    assert not failures, failures


def _look(cluster: Cluster) -> None:
    for pod in cluster.get("/api/v1/pods", token=KUBELET)["items"]:
        name, namespace = pod["metadata"]["name"], pod["metadata"]["namespace"]
        path = f"/api/v1/namespaces/{namespace}/pods/{name}"
        try:
            if "deletionTimestamp" in pod["metadata"]:
                now = {"gracePeriodSeconds": 0, "preconditions": {"uid": pod["metadata"]["uid"]}}
                cluster.ask("DELETE", path, now, token=KUBELET)
                continue
            if not pod["spec"].get("nodeName"):
                target = {"apiVersion": "v1", "kind": "Node", "name": NODE}
                binding = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": name}, "target": target}
                cluster.ask("POST", f"{path}/binding", binding, token=KUBELET)
            status = _status(pod, cluster.broken)
            if any(pod["status"].get(name) != value for name, value in status.items() if name != "conditions"):
                cluster.ask("PATCH", f"{path}/status", {"status": status}, token=KUBELET, kind=MERGE)
        except Refused as refused:
            if refused.status not in (404, 409) and "being terminated" not in refused.message:
                raise  # what was changed meanwhile is for the next look, and what is gone for none


def _status(pod: Object, broken: Mapping[str, str]) -> Object:
    """What a kubelet says of a pod that runs, or of one whose container waits."""
    since = pod["metadata"]["creationTimestamp"]
    containers = [_container(each, broken, since) for each in pod["spec"]["containers"]]
    ready = all(each["ready"] for each in containers)
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return {
        "phase": "Running" if ready else "Pending",
        "podIP": "10.0.0.2",
        "conditions": [
            {"type": each, "status": str(ready), "lastTransitionTime": now} for each in ("Ready", "ContainersReady")
        ],
        "containerStatuses": containers,
    }


def _container(container: Object, broken: Mapping[str, str], since: str) -> Object:
    image, name = container["image"], container["name"]
    if image in broken:
        waiting = {"reason": broken[image], "message": f'Back-off pulling image "{image}"'}
        return _said(name, image, "", ready=False, state={"waiting": waiting})
    return _said(name, image, image if "@" in image else "", ready=True, state={"running": {"startedAt": since}})


def _said(name: str, image: str, image_id: str, *, ready: bool, state: Object) -> Object:
    return {
        "name": name,
        "image": image,
        "imageID": image_id,
        "ready": ready,
        "started": ready,
        "restartCount": 0,
        "state": state,
        "lastState": {},
    }
