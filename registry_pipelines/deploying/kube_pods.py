"""What pods of a workload say: whose they are, what they run, and what keeps them from being ready.

Sources: PodStatus, ContainerStatus and OwnerReference of core/v1 and meta/v1. What is not as it says there counts for
nothing, and nothing is ready by that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from registry_pipelines.deploying.kube_status import mapping, mappings, number
from registry_pipelines.deploying.platform import Instance

HASH = "controller-revision-hash"
"""Label of a StatefulSet's pod: the template that it has."""
STARTING = frozenset({"ContainerCreating", "PodInitializing", "Completed"})
"""Reasons of containers that only start, or of init containers that are done."""


def belongs(pod: Mapping[str, Any], workload: Mapping[str, Any], kind: str) -> bool:
    """Whether a pod is the workload's own, and not one of another whose labels match, too. A Deployment's belong to its
    ReplicaSets, which are called after it."""
    metadata, own = mapping(pod.get("metadata")), mapping(workload.get("metadata"))
    owners = [each for each in mappings(metadata.get("ownerReferences")) if each.get("controller")]
    if kind == "deployment":
        replica_set = f"{own.get('name')}-{mapping(metadata.get('labels')).get('pod-template-hash')}"
        return any(each.get("kind") == "ReplicaSet" and each.get("name") == replica_set for each in owners)
    return any(each.get("uid") == own.get("uid") for each in owners)


def instance_of(pod: Mapping[str, Any], container: str, status: str) -> Instance:
    """What a pod says of a container. status: the list that it is in, ``containerStatuses``."""
    name, state = str(mapping(pod.get("metadata")).get("name")), mapping(pod.get("status"))
    mine = next((each for each in mappings(state.get(status)) if each.get("name") == container), {})
    conditions = {str(each.get("type")): each for each in mappings(state.get("conditions"))}
    ready = conditions.get("Ready", {}).get("status") == "True"
    trouble = "" if ready else _trouble(state, conditions)
    return Instance(name, str(mine.get("imageID") or ""), ready, number(mine, "restartCount"), trouble)


def _trouble(state: Mapping[str, Any], conditions: Mapping[str, Mapping[str, Any]]) -> str:
    """What a pod waits for: ``ImagePullBackOff: ...``, ``Unschedulable: ...``; empty while it only starts."""
    for status in ("initContainerStatuses", "containerStatuses"):
        for each in mappings(state.get(status)):
            for phase in ("waiting", "terminated"):
                told = mapping(mapping(each.get("state")).get(phase))
                reason = str(told.get("reason") or "")
                if reason and reason not in STARTING:
                    message = str(told.get("message") or "")[:300]
                    return f"container {each.get('name')}: {reason}{f': {message}' if message else ''}"
    scheduled = conditions.get("PodScheduled", {})
    if scheduled.get("status") == "False":
        return f"{scheduled.get('reason')}: {str(scheduled.get('message') or '')[:300]}"
    return ""


class Stuck(NamedTuple):
    """A pod that a StatefulSet waits for before it touches another. image: that it is to run. trouble: why it is not
    ready; empty while it only starts."""

    name: str
    uid: str
    image: str
    trouble: str


def stuck_in(
    pods: Sequence[Mapping[str, Any]], workload: Mapping[str, Any], listed: str, container: str
) -> list[Stuck]:
    """The pods that a StatefulSet would wait for without an end: not ready, and of another template than the one of
    now. It waits for each pod before it touches the next, also for one that will never be ready ("Forced
    rollback" in Kubernetes' documentation of StatefulSets); with ``Parallel`` it does not."""
    metadata, spec, status = (mapping(workload.get(part)) for part in ("metadata", "spec", "status"))
    seen = number(status, "observedGeneration") >= number(metadata, "generation")
    if not seen or str(spec.get("podManagementPolicy") or "OrderedReady") != "OrderedReady":
        return []
    return [
        Stuck(instance.name, str(own.get("uid") or ""), _image(pod, listed, container), instance.trouble)
        for pod in pods
        for own in [mapping(pod.get("metadata"))]
        for instance in [instance_of(pod, container, "containerStatuses")]
        if not instance.ready
        and own.get("uid")
        and mapping(own.get("labels")).get(HASH) != status.get("updateRevision")
    ]


def _image(pod: Mapping[str, Any], listed: str, container: str) -> str:
    listing = mappings(mapping(pod.get("spec")).get(listed))
    return next((str(each.get("image") or "") for each in listing if each.get("name") == container), "")


__all__ = ["Stuck", "belongs", "instance_of", "stuck_in"]
