"""Objects of a cluster, as short as API servers take them."""

from __future__ import annotations

from typing import Any

IMAGES = ("containers", "initContainers", "ephemeralContainers")
TEMPLATES = ("Deployment", "ReplicaSet", "StatefulSet", "DaemonSet", "Job", "ReplicationController")
KINDS = ("Pod", *TEMPLATES, "CronJob", "PodTemplate")
APIS = {"Pod": "v1", "ReplicationController": "v1", "PodTemplate": "v1", "Job": "batch/v1", "CronJob": "batch/v1"}


def pod_spec(*images: str, where: str = "containers") -> dict[str, Any]:
    """A pod with these images in one of its lists; what runs beside them needs none."""
    return {where: [{"name": f"c{number}", "image": image} for number, image in enumerate(images)]}


def workload(kind: str, spec: dict[str, Any]) -> dict[str, Any]:
    """An object of a kind with this pod in it."""
    made: dict[str, Any] = {"apiVersion": APIS.get(kind, "apps/v1"), "kind": kind, "metadata": {"name": "it"}}
    template = {"metadata": {"labels": {"app": "it"}}, "spec": spec}
    if kind == "Pod":
        return {**made, "spec": spec}
    if kind == "PodTemplate":
        return {**made, "template": template}
    if kind == "CronJob":
        return {**made, "spec": {"schedule": "0 1 * * *", "jobTemplate": {"spec": {"template": template}}}}
    return {**made, "spec": {"template": template}}


def pod(*images: str, where: str = "containers") -> dict[str, Any]:
    return workload("Pod", pod_spec(*images, where=where))


def volume(reference: str) -> dict[str, Any]:
    """A pod that mounts an image as a volume."""
    return workload("Pod", {"volumes": [{"name": "models", "image": {"reference": reference}}]})
