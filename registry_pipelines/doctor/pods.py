"""What ``kubectl get pod -o json`` tells of pulls that fail; with the events and the node, where they are in the file.

A file may hold one Pod, or a List of pods, events and nodes: `kubectl get pods,events,nodes -o json`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from registry_pipelines.doctor.clues import read_message
from registry_pipelines.doctor.model import Patient
from registry_pipelines.doctor.nodes import Node, read_node
from registry_pipelines.errors import InputError

MAX_FILE_BYTES = 64 * 1024 * 1024
"""Of a saved answer of kubectl: some 10,000 pods."""

PULL_REASONS = (
    "ErrImagePull",
    "ImagePullBackOff",
    "ErrImageNeverPull",
    "InvalidImageName",
    "ImageInspectError",
    "RegistryUnavailable",
    "SignatureValidationFailed",
)
"""Reasons of a waiting container that are about its image (kubernetes, pkg/kubelet/images/types.go)."""

_SAYS_NOTHING = re.compile(r"\s*Back-off pulling image \"[^\"]*\"\s*\Z")
"""What older kubelets say of a container that waits for the next try: the reason then stands in the events alone."""


class Cluster(msgspec.Struct, frozen=True):
    """What a file holds."""

    pods: tuple[dict[str, Any], ...] = ()
    events: tuple[dict[str, Any], ...] = ()
    nodes: tuple[Node, ...] = ()

    def node(self, name: str) -> Node:
        """A node by name; an empty one where the file has none."""
        return next((node for node in self.nodes if node.name == name), Node(name=name))


def read_file(path: Path) -> Cluster:
    """Read what kubectl printed as JSON. Raises InputError for what is no JSON object of Kubernetes."""
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror or error}", where=str(path)) from error
    if len(raw) > MAX_FILE_BYTES:
        raise InputError(f"is larger than {MAX_FILE_BYTES} bytes", where=str(path), do="Save fewer pods")
    return read_objects(raw, where=str(path))


def read_objects(raw: bytes, *, where: str, empty: bool = False) -> Cluster:
    """The same of bytes. empty: they may hold neither a pod nor a node."""
    try:
        document = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise InputError("is no JSON", where=where, do="Save it with `kubectl get pod NAME -o json`") from error
    items = list(_items(document))
    cluster = Cluster(
        tuple(each for each in items if each.get("kind") == "Pod"),
        tuple(each for each in items if each.get("kind") == "Event"),
        tuple(read_node(each) for each in items if each.get("kind") == "Node"),
    )
    if not (cluster.pods or cluster.nodes or empty):
        raise InputError("holds no pod and no node", where=where, do="Save it with `kubectl get pod NAME -o json`")
    return cluster


def failed_pulls(cluster: Cluster) -> list[Patient]:
    """Every container whose image does not come, in the file's order, each image of a pod once."""
    return [patient for pod in cluster.pods for patient in _pod(pod, cluster)]


def _items(document: Any) -> Iterator[dict[str, Any]]:
    if isinstance(document, dict):
        listed = document.get("items")
        if isinstance(listed, list):
            # The items of a PodList have no kind of their own.
            kind = str(document.get("kind", "")).removesuffix("List")
            for each in listed:
                if isinstance(each, dict):
                    yield {**each, "kind": each.get("kind") or kind}
        else:
            yield document


def _pod(pod: dict[str, Any], cluster: Cluster) -> Iterator[Patient]:
    metadata, spec, status = (_mapping(pod.get(key)) for key in ("metadata", "spec", "status"))
    node = cluster.node(str(spec.get("nodeName", "")))
    known = Patient(
        node=node.name,
        platform=node.platform,
        node_region=node.region,
        node_cloud=node.cloud,
        instance=node.instance,
        pod_role=_role(spec),
        pull_secrets=tuple(str(_mapping(each).get("name", "")) for each in _list(spec.get("imagePullSecrets"))),
        kubelet=True,
    )
    events = [each for each in cluster.events if _is_about(each, metadata)]
    seen = set()
    for container in _containers(status):
        waiting = _mapping(_mapping(container.get("state")).get("waiting"))
        reason, image = str(waiting.get("reason", "")), str(container.get("image", ""))
        if reason not in PULL_REASONS or image in seen:
            continue
        seen.add(image)
        message = str(waiting.get("message") or "")
        if not message or _SAYS_NOTHING.match(message):
            message = _last_words(events, image) or message
        yield read_message(message, msgspec.structs.replace(known, image=image, reason=reason))
    if not seen and status.get("reason") == "Evicted":
        yield read_message(str(status.get("message", "")), known)


def _containers(status: dict[str, Any]) -> Iterable[dict[str, Any]]:
    for key in ("initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses"):
        yield from map(_mapping, _list(status.get(key)))


def _role(spec: dict[str, Any]) -> str:
    """The role that EKS's webhook wrote into the pod's environment (IRSA)."""
    for container in map(_mapping, _list(spec.get("containers"))):
        for variable in map(_mapping, _list(container.get("env"))):
            if variable.get("name") == "AWS_ROLE_ARN":
                return str(variable.get("value") or "")
    return ""


def _is_about(event: dict[str, Any], metadata: dict[str, Any]) -> bool:
    about = _mapping(event.get("involvedObject") or event.get("regarding"))
    return about.get("name") == metadata.get("name") and about.get("namespace") == metadata.get("namespace")


def _last_words(events: Iterable[dict[str, Any]], image: str) -> str:
    """The newest event that says why this image did not come."""
    told = [
        (
            str(each.get("lastTimestamp") or each.get("eventTime") or ""),
            str(each.get("message") or each.get("note") or ""),
        )
        for each in events
    ]
    telling = [each for each in told if f'Failed to pull image "{image}"' in each[1]]
    return max(telling, default=("", ""))[1]


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
