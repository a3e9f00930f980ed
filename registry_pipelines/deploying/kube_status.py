"""What the status of a workload says of its roll-out, as ``kubectl rollout status`` reads it.

Sources: DeploymentStatus, StatefulSetStatus and DaemonSetStatus of apps/v1, and Kubernetes' "Deployment status".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from registry_pipelines.progress import count_text

REVISION = "deployment.kubernetes.io/revision"
"""Annotation of a Deployment: grows with each roll-out, also with one to a template that was there before."""

NO_PODS = "it has no pods (scaled to zero, or no node takes one), so nothing runs that could be read back"


class Progress(NamedTuple):
    """settled: all of it runs what is written. text: how far it is. failed: why the controller gave up. blocked: why
    nothing would come of a roll-out, by what the workload itself says. revision: of the state."""

    settled: bool
    text: str
    failed: str
    blocked: str
    revision: str


class _Counted(NamedTuple):
    """Pods: how many there are to be, how many have the new template, and are ready with it, and how many are old."""

    wanted: int
    updated: int
    ready: int
    old: int = 0


def progress_of(kind: str, document: Mapping[str, Any]) -> Progress:
    """Of a workload as the API server has it. kind: ``deployment``, ``statefulset``, ``daemonset``."""
    metadata, spec, status = (mapping(document.get(part)) for part in ("metadata", "spec", "status"))
    count, failed, revision = {"deployment": _deployment, "statefulset": _stateful_set, "daemonset": _daemon_set}[kind](
        metadata, spec, status
    )
    waiting = _waiting(count)
    if number(status, "observedGeneration") < number(metadata, "generation"):
        # What the status says is about the state before; so is a failure.
        waiting, failed = "its controller has not seen the change yet", ""
    blocked = _blocked(kind, spec) or ("" if count.wanted or waiting.startswith("its") else NO_PODS)
    text = failed or blocked or waiting or "all of it is updated and ready"
    return Progress(not (waiting or failed or blocked), text, failed, blocked, revision)


def _blocked(kind: str, spec: Any) -> str:
    if kind == "deployment":
        return "the Deployment is paused: `kubectl rollout resume` lets it go on" if spec.get("paused") else ""
    strategy = mapping(spec.get("updateStrategy"))
    if strategy.get("type") == "OnDelete":
        return "its updateStrategy is OnDelete: pods change when somebody deletes them"
    if number(mapping(strategy.get("rollingUpdate")), "partition"):
        return "its updateStrategy has a partition: pods below it keep the old image"
    return ""


def _deployment(metadata: Any, spec: Any, status: Any) -> tuple[_Counted, str, str]:
    conditions = {str(each.get("type")): each for each in mappings(status.get("conditions"))}
    late = conditions.get("Progressing", {})
    failed = ""
    if late.get("reason") == "ProgressDeadlineExceeded":
        failed = f"the Deployment made no progress within its deadline: {str(late.get('message') or '')[:300]}"
    updated = number(status, "updatedReplicas")
    old = number(status, "replicas") - updated
    counted = _Counted(number(spec, "replicas", 1), updated, number(status, "availableReplicas"), old)
    return counted, failed, str(mapping(metadata.get("annotations")).get(REVISION) or "")


def _stateful_set(metadata: Any, spec: Any, status: Any) -> tuple[_Counted, str, str]:
    ready = number(status, "readyReplicas")
    ready = min(ready, number(status, "availableReplicas", ready))
    counted = _Counted(number(spec, "replicas", 1), number(status, "updatedReplicas"), ready)
    # A template that comes back has the name that it had: the generation tells the two times apart.
    return counted, "", f"{status.get('updateRevision') or ''}/{number(metadata, 'generation')}"


def _daemon_set(metadata: Any, spec: Any, status: Any) -> tuple[_Counted, str, str]:
    fields = ("desiredNumberScheduled", "updatedNumberScheduled", "numberAvailable")
    return _Counted(*(number(status, each) for each in fields)), "", str(metadata.get("generation") or "")


def _waiting(count: _Counted) -> str:
    """What it still waits for; empty for nothing."""
    if count.updated < count.wanted:
        return f"{count.updated} of {count_text(count.wanted, 'pod')} updated"
    if count.old > 0:
        return f"{count_text(count.old, 'old pod')} still there"
    return f"{count.ready} of {count_text(count.wanted, 'pod')} ready" if count.ready < count.wanted else ""


def setter_of(document: Mapping[str, Any], listed: str, container: str) -> str:
    """The field manager that wrote the container's image last; empty where none is told."""
    found = ""
    newest = ""
    for each in mappings(mapping(document.get("metadata")).get("managedFields")):
        fields: Any = each.get("fieldsV1")
        for part in ("f:spec", "f:template", "f:spec", f"f:{listed}", f'k:{{"name":"{container}"}}'):
            fields = fields.get(part) if isinstance(fields, dict) else None
        moment = str(each.get("time") or "")
        if isinstance(fields, dict) and "f:image" in fields and moment >= newest:
            found, newest = str(each.get("manager") or "")[:100], moment
    return found


def number(of: Any, name: str, otherwise: int = 0) -> int:
    """A number of an answer; what is none counts as 0."""
    value = of.get(name, otherwise)
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


def mapping(value: Any) -> Mapping[str, Any]:
    """A mapping of an answer; what is none counts as an empty one."""
    return value if isinstance(value, dict) else {}


def mappings(value: Any) -> list[dict[str, Any]]:
    """The mappings of a list of an answer."""
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


__all__ = ["Progress", "mapping", "mappings", "number", "progress_of", "setter_of"]
