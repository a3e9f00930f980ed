"""Objects of a cluster, as short as API servers take them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

SCHEMA = json.loads((Path(__file__).parents[2] / "data" / "kubernetes-admissionregistration.json").read_text())

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


def review(content: dict[str, Any], old: dict[str, Any] | None = None) -> dict[str, Any]:
    """An AdmissionReview of an object that is made, or changed."""
    kind = content["kind"]
    api = content.get("apiVersion") or APIS.get(kind, "apps/v1")
    group = api.rpartition("/")[0]
    operation = "CREATE" if old is None else "UPDATE"
    about = {"group": group, "version": "v1", "kind": kind}
    return {"request": {"kind": about, "operation": operation, "object": content, "oldObject": old}}


def check_object(content: dict[str, Any]) -> None:
    """By Kubernetes' own schema of what asks a webhook and of policies, which knows no other field."""
    kind = SCHEMA["kinds"][content["kind"]]
    Draft202012Validator({"$ref": f"#/$defs/{kind}", "$defs": SCHEMA["$defs"]}).validate(content)
