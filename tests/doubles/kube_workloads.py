"""Workloads of a Kubernetes cluster that move: their controllers do one step each time somebody looks at one.

Whatever goes in and out is read by the models of Kubernetes' own Python client, which are made from its OpenAPI
document: a field that apps/v1 or core/v1 does not have, or of another type, fails the test (``problems``). Patches are
strategic merges with ``resourceVersion`` and ``fieldManager`` as the API's conventions have them; refusals have the
words of k8s.io/apiserver.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.doubles.certificates import Certificates
from tests.doubles.kube_api import KubeCluster, serving
from tests.doubles.kube_models import written_again

KINDS = {"deployments": "Deployment", "statefulsets": "StatefulSet", "daemonsets": "DaemonSet"}
MERGE_PATCH = "application/strategic-merge-patch+json"
Answer = tuple[int, dict[str, Any]]


@dataclass
class WorkloadCluster(KubeCluster):
    """image_ids: what the runtime says of an image, where that is not the image as it is written. broken: images whose
    pods do not become ready, with the reason that a container waits for. crashing: images whose pods become ready, and
    are not any more after so many looks. stuck: the controller does nothing. forbidden: (verb, resource) that nobody
    may. cut: this many of the next requests get no answer; cut_after: the next patch is done, and its answer lost.
    meanwhile: done once before the next patch is looked at. deadline: steps without progress until a Deployment gives
    up. steps: of controllers, each time somebody looks."""

    image_ids: dict[str, str] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)
    crashing: dict[str, int] = field(default_factory=dict)
    stuck: bool = False
    forbidden: set[tuple[str, str]] = field(default_factory=set)
    cut: int = 0
    cut_after: bool = False
    meanwhile: list[Callable[[], None]] = field(default_factory=list)
    deadline: int = 4
    steps: int = 1
    patches: list[dict[str, Any]] = field(default_factory=list)
    authorizations: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    workloads: dict[tuple[str, str, str], dict[str, Any]] = field(default_factory=dict)
    pods: dict[tuple[str, str, str], list[dict[str, Any]]] = field(default_factory=dict)
    _version: int = 100
    _pod: int = 0
    _idle: dict[tuple[str, str, str], int] = field(default_factory=dict)

    # What a test makes

    def make(
        self, plural: str, name: str, image: str, *, namespace: str = "shop", replicas: int = 2, **more: Any
    ) -> dict[str, Any]:
        """A workload that runs already. more: of its spec."""
        labels = {"app": name}
        containers = [{"name": "app", "image": image}, *more.pop("containers", [])]
        spec = {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": containers}},
            **({} if plural == "daemonsets" else {"replicas": replicas}),
            **({"serviceName": name} if plural == "statefulsets" else {}),
            **more,
        }
        annotations = {"deployment.kubernetes.io/revision": "1"} if plural == "deployments" else {}
        key = (plural, namespace, name)
        self.workloads[key] = {
            "apiVersion": "apps/v1",
            "kind": KINDS[plural],
            "metadata": {
                "name": name,
                "namespace": namespace,
                "uid": f"uid-{name}",
                "generation": 1,
                "annotations": annotations,
                "managedFields": [_fields_of("helm", spec["template"]["spec"])],
            },
            "spec": spec,
            "status": {"observedGeneration": 1},
        }
        self.pods[key] = [self._new_pod(key, ready=True, at=at) for at in range(replicas)]
        self._written(key)
        self._count(key)
        return self.workloads[key]

    def write(self, key: tuple[str, str, str], image: str, manager: str) -> None:
        """Somebody else writes an image."""
        spec = self.workloads[key]["spec"]["template"]["spec"]
        spec["containers"][0]["image"] = image
        self.workloads[key]["metadata"]["managedFields"] = [_fields_of(manager, spec)]
        self.workloads[key]["metadata"]["generation"] += 1
        self._written(key)

    def image(self, key: tuple[str, str, str]) -> str:
        """What is written now."""
        return str(self.workloads[key]["spec"]["template"]["spec"]["containers"][0]["image"])

    def running(self, key: tuple[str, str, str]) -> list[str]:
        """What its pods run, each once."""
        return sorted({each["status"]["containerStatuses"][0]["imageID"] for each in self.pods[key]})

    # What is asked

    def answer(self, target: str, authorization: str) -> Answer:
        """See KubeCluster."""
        if self.cut:
            self.cut -= 1
            return 0, {}
        parts = urlsplit(target)
        where = parts.path.split("/")
        if parts.path.startswith("/apis/apps/v1/namespaces/") and len(where) == 8:
            return self._one(target, authorization, (where[6], where[5], where[7]))
        if parts.path.endswith("/pods") and "/namespaces/" in parts.path:
            return self._pods(target, authorization, where[4])
        return super().answer(target, authorization)

    def _one(self, target: str, authorization: str, key: tuple[str, str, str]) -> Answer:
        self.asked.append(target)
        if refused := self._refused("get", key, authorization):
            return refused
        for _ in range(self.steps):
            self.step(key)
        return 200, self._checked(self.workloads[key], KINDS[key[0]])

    def _pods(self, target: str, authorization: str, namespace: str) -> Answer:
        self.asked.append(target)
        if refused := self._refused("list", ("pods", namespace, ""), authorization):
            return refused
        [selector] = parse_qs(urlsplit(target).query)["labelSelector"]
        wanted = dict(each.split("=", 1) for each in selector.split(","))
        found = [
            self._checked(each, "Pod")
            for key, pods in self.pods.items()
            for each in pods
            if key[1] == namespace and wanted.items() <= each["metadata"]["labels"].items()
        ]
        self.objects["/api/v1/pods"] = found
        return super().answer(target, authorization)

    def change(self, target: str, headers: Any, body: bytes) -> Answer:
        """A patch."""
        parts = urlsplit(target)
        where = parts.path.split("/")
        key = (where[6], where[5], where[7])
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        while self.meanwhile:
            self.meanwhile.pop(0)()
        if self.cut:
            self.cut -= 1
            return 0, {}
        if refused := self._refused("patch", key, headers.get("Authorization", "")):
            return refused
        if headers.get("Content-Type") != MERGE_PATCH:
            return 415, _status(f"the body of the request was in an unknown format: {headers.get('Content-Type')}")
        patch, current = json.loads(body), self.workloads[key]
        version = (patch.get("metadata") or {}).pop("resourceVersion", "")
        if version and version != current["metadata"]["resourceVersion"]:
            return 409, _status(
                f'Operation cannot be fulfilled on {key[0]}.apps "{key[2]}": the object has been modified; please '
                "apply your changes to the latest version and try again"
            )
        merged = _merge(copy.deepcopy(current), patch)
        try:
            self._checked(merged, KINDS[key[0]])
        except ValueError as error:
            return 422, _status(f"{KINDS[key[0]]}.apps {key[2]!r} is invalid: {error}")
        self.patches.append(patch)
        if merged["spec"] != current["spec"]:
            merged["metadata"]["generation"] += 1
        written = _fields_of(query.get("fieldManager", "unknown"), merged["spec"]["template"]["spec"])
        merged["metadata"]["managedFields"] = [written]
        self.workloads[key] = merged
        self._written(key)
        if self.cut_after:
            self.cut_after = False
            return 0, {}
        return 200, self.workloads[key]

    def delete(self, target: str, headers: Any, body: bytes) -> Answer:
        """A pod goes, and its controller makes another."""
        _, _, _, _, namespace, _, name = urlsplit(target).path.split("/")
        if refused := self._refused("delete", ("pods", namespace, ""), headers.get("Authorization", "")):
            return refused
        for key, pods in self.pods.items():
            for at, pod in enumerate(pods):
                if (key[1], pod["metadata"]["name"]) == (namespace, name):
                    if json.loads(body)["preconditions"]["uid"] != pod["metadata"]["uid"]:
                        return 409, _status(f"the UID in the precondition does not match the UID in record: {name}")
                    pods[at] = self._new_pod(key, ready=False, at=at)
                    return 200, pod
        return 404, _status(f'pods "{name}" not found')

    def _refused(self, verb: str, key: tuple[str, str, str], authorization: str) -> Answer | None:
        self.authorizations.append(authorization)
        if self.token and authorization != f"Bearer {self.token}":
            return 401, _status("Unauthorized")
        resource, group = key[0], "" if key[0] == "pods" else "apps"
        if (verb, resource) in self.forbidden:
            named = f"{resource}{f'.{group}' if group else ''}{f' {json.dumps(key[2])}' if key[2] else ''}"
            return 403, _status(
                f'{named} is forbidden: User "system:serviceaccount:ci:deployer" cannot {verb} resource "{resource}" '
                f'in API group "{group}" in the namespace "{key[1]}"'
            )
        if key[2] and key not in self.workloads:
            return 404, _status(f'{resource}.apps "{key[2]}" not found')
        return None

    # What controllers do

    def step(self, key: tuple[str, str, str]) -> None:
        """One step of the controller of a workload."""
        if self._crash(key) or self.stuck:
            return
        workload = self.workloads[key]
        metadata, status = workload["metadata"], workload["status"]
        if status["observedGeneration"] < metadata["generation"]:
            status["observedGeneration"] = metadata["generation"]
            self._idle[key] = 0
            status.pop("conditions", None)
            if key[0] == "deployments" and any(not self._is_new(key, each) for each in self.pods[key]):
                number = int(metadata["annotations"].get("deployment.kubernetes.io/revision", "0")) + 1
                metadata["annotations"]["deployment.kubernetes.io/revision"] = str(number)
        else:
            self._advance(key)
        self._count(key)
        self._written(key)

    def _advance(self, key: tuple[str, str, str]) -> None:
        """Make a new pod ready, or replace an old one."""
        pods = self.pods[key]
        waiting = [each for each in pods if not _ready(each) and self._is_new(key, each)]
        if waiting:
            image = self.image(key)
            if image in self.broken:
                reason = self.broken[image]
                told = {"reason": reason, "message": f'Back-off pulling image "{image}"'}
                waiting[0]["status"]["containerStatuses"][0]["state"] = {"waiting": told}
                self._give_up(key)
                return
            _set_ready(waiting[0], self.image_ids.get(image, image))
            if key[0] == "deployments" and (old := [each for each in pods if not self._is_new(key, each)]):
                pods.remove(old[0])
            return
        old = [each for each in pods if not self._is_new(key, each)]
        # A StatefulSet waits for every pod before it touches the next, as tests/kubernetes shows.
        if not old or (key[0] == "statefulsets" and not all(map(_ready, pods))):
            return
        at = pods.index(old[-1])
        wanted = self.workloads[key]["spec"].get("replicas", 0)
        if key[0] == "deployments" and len(pods) - len(old) >= wanted:
            pods.remove(old[0])
        elif key[0] == "deployments":
            pods.append(self._new_pod(key, ready=False, at=at))
        else:
            pods[at] = self._new_pod(key, ready=False, at=at)

    def _give_up(self, key: tuple[str, str, str]) -> None:
        self._idle[key] = self._idle.get(key, 0) + 1
        if key[0] == "deployments" and self._idle[key] >= self.deadline:
            self.workloads[key]["status"]["conditions"] = [
                {
                    "type": "Progressing",
                    "status": "False",
                    "reason": "ProgressDeadlineExceeded",
                    "message": f'ReplicaSet "{key[2]}-{self._hash(key)}" has timed out progressing.',
                }
            ]

    def _crash(self, key: tuple[str, str, str]) -> bool:
        image = self.image(key)
        if image not in self.crashing or not all(_ready(each) and self._is_new(key, each) for each in self.pods[key]):
            return False
        self.crashing[image] -= 1
        if self.crashing[image] <= 0:
            container = self.pods[key][0]["status"]["containerStatuses"][0]
            container["restartCount"] += 1
            container["state"] = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s restarting"}}
            self.pods[key][0]["status"]["conditions"] = [{"type": "Ready", "status": "False"}]
            self._count(key)
            return True
        return False

    def _count(self, key: tuple[str, str, str]) -> None:
        """Its status, as the controller counts pods."""
        workload, pods = self.workloads[key], self.pods[key]
        new = [each for each in pods if self._is_new(key, each)]
        ready = sum(map(_ready, pods))
        status = workload["status"]
        if key[0] == "daemonsets":
            numbers = {"desiredNumberScheduled": len(pods), "currentNumberScheduled": len(pods)}
            more = {"numberReady": ready, "numberAvailable": ready, "numberMisscheduled": 0}
            status.update({**numbers, **more, "updatedNumberScheduled": len(new)})
            return
        status.update({"replicas": len(pods), "updatedReplicas": len(new), "readyReplicas": ready})
        status["availableReplicas"] = ready
        if key[0] == "statefulsets":
            status["updateRevision"] = f"{key[2]}-{self._hash(key)}"
            if len(new) == len(pods):
                status["currentRevision"] = status["updateRevision"]

    def _hash(self, key: tuple[str, str, str]) -> str:
        template = json.dumps(self.workloads[key]["spec"]["template"], sort_keys=True)
        return hashlib.sha256(template.encode()).hexdigest()[:10]

    def _is_new(self, key: tuple[str, str, str], pod: dict[str, Any]) -> bool:
        return _hashes(key, self._hash(key)).items() <= pod["metadata"]["labels"].items()

    def _new_pod(self, key: tuple[str, str, str], *, ready: bool, at: int) -> dict[str, Any]:
        self._pod += 1
        digits, workload = self._hash(key), self.workloads[key]
        image = workload["spec"]["template"]["spec"]["containers"][0]["image"]
        owner = {"apiVersion": "apps/v1", "kind": workload["kind"], "name": key[2], "uid": f"uid-{key[2]}"}
        if key[0] == "deployments":
            owner = {**owner, "kind": "ReplicaSet", "name": f"{key[2]}-{digits}", "uid": f"uid-{digits}"}
        made: dict[str, Any] = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": f"{key[2]}-{at}" if key[0] == "statefulsets" else f"{key[2]}-{digits}-{self._pod}",
                "namespace": key[1],
                "uid": f"uid-{self._pod}",
                "labels": {**workload["spec"]["template"]["metadata"]["labels"], **_hashes(key, digits)},
                "ownerReferences": [{**owner, "controller": True}],
            },
            "spec": copy.deepcopy(workload["spec"]["template"]["spec"]),
            "status": {
                "phase": "Pending",
                "conditions": [{"type": "Ready", "status": "False"}],
                "containerStatuses": [
                    {
                        "name": "app",
                        "image": image,
                        "imageID": "",
                        "ready": False,
                        "restartCount": 0,
                        "state": {"waiting": {"reason": "ContainerCreating"}},
                    }
                ],
            },
        }
        if ready:
            _set_ready(made, self.image_ids.get(image, image))
        return made

    def _written(self, key: tuple[str, str, str]) -> None:
        self._version += 1
        self.workloads[key]["metadata"]["resourceVersion"] = str(self._version)

    def _checked(self, document: dict[str, Any], kind: str) -> dict[str, Any]:
        """The document, when the models know all of it. Raises ValueError."""
        again = written_again(document, f"V1{kind}")
        if lost := list(_lost(document, again)):
            self.problems.append(f"{kind} has no {lost[0]}")
            raise ValueError(f"unknown field {lost[0]}")
        return document


def _hashes(key: tuple[str, str, str], digits: str) -> dict[str, str]:
    """The label by which a pod's template is told; of a StatefulSet the revision's name."""
    if key[0] == "statefulsets":
        return {"controller-revision-hash": f"{key[2]}-{digits}"}
    return {"pod-template-hash" if key[0] == "deployments" else "controller-revision-hash": digits}


def _lost(document: Any, again: Any, where: str = "") -> Iterator[str]:
    """Fields that the models do not know. Times are written in another form, and empty values not at all."""
    if isinstance(document, dict) and isinstance(again, dict):
        for name, value in document.items():
            if name not in again and value not in (None, {}, []):
                yield f"{where}.{name}"
            elif name in again:
                yield from _lost(value, again[name], f"{where}.{name}")
    elif isinstance(document, list) and isinstance(again, list):
        for at, (mine, other) in enumerate(zip(document, again, strict=True)):
            yield from _lost(mine, other, f"{where}[{at}]")


def _merge(current: dict[str, Any], patch: dict[str, Any]) -> dict[str, Any]:
    """A strategic merge as far as workloads need one: containers by name, everything else as RFC 7386."""
    for name, value in patch.items():
        if value is None:
            current.pop(name, None)
        elif name in ("containers", "initContainers"):
            known = {each["name"]: each for each in current.setdefault(name, [])}
            for each in value:
                if each["name"] in known:
                    _merge(known[each["name"]], each)
                else:
                    current[name].append(each)
        elif isinstance(value, dict) and isinstance(current.get(name), dict):
            _merge(current[name], value)
        else:
            current[name] = value
    return current


def _fields_of(manager: str, spec: dict[str, Any]) -> dict[str, Any]:
    containers = {f'k:{{"name":"{each["name"]}"}}': {"f:image": {}} for each in spec["containers"]}
    path: dict[str, Any] = {"f:spec": {"f:template": {"f:spec": {"f:containers": containers}}}}
    return {
        "manager": manager,
        "operation": "Update",
        "apiVersion": "apps/v1",
        "time": "2026-11-29T08:00:00Z",
        "fieldsType": "FieldsV1",
        "fieldsV1": path,
    }


def _ready(pod: dict[str, Any]) -> bool:
    return any(each["type"] == "Ready" and each["status"] == "True" for each in pod["status"]["conditions"])


def _set_ready(pod: dict[str, Any], image_id: str) -> None:
    pod["status"]["phase"] = "Running"
    pod["status"]["conditions"] = [{"type": "Ready", "status": "True"}]
    container = pod["status"]["containerStatuses"][0]
    container.update({"imageID": image_id, "ready": True, "state": {"running": {}}})


def _status(message: str) -> dict[str, Any]:
    return {"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message}


@contextmanager
def moving(cluster: WorkloadCluster, certificates: Certificates) -> Iterator[WorkloadCluster]:
    """Serve it; a document that no model knows fails the test."""
    with serving(cluster, certificates):
        yield cluster
    assert not cluster.problems, cluster.problems
