"""Objects of a cluster, as files have them and as its API knows them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from tests.doubles.kube_models import written_again
from tests.weights.test_mounting import unknown

ROOT = Path(__file__).parents[2]
KUBERNETES = ROOT / "deploy" / "kubernetes"
NOT_OBJECTS = ("kustomization.yaml", "dagster.yaml", "workspace.yaml", "run_launcher.yaml", "registry-pipelines.yaml")
Object = dict[str, Any]


def written() -> list[Object]:
    """Every object that is written in deploy/kubernetes."""
    folders = ("base", "example", "embedded-registries", "identity-gke", "identity-eks")
    files = [
        path for folder in folders for path in (KUBERNETES / folder).glob("*.yaml") if path.name not in NOT_OBJECTS
    ]
    return [each for path in sorted(files) for each in yaml.safe_load_all(path.read_text())]


def not_in_the_api(each: Object) -> list[str]:
    """Fields that Kubernetes' own client does not know, or reads as something else. Quantities, dates and names of
    ports are texts to it; what it wants and does not find it raises."""
    return list(unknown(each, written_again(each, f"V1{each['kind']}")))


def pods(objects: list[Object]) -> Iterator[tuple[str, Object]]:
    """The pods that objects make, by the name of the object."""
    for each in objects:
        if "template" in each.get("spec", {}):
            yield each["metadata"]["name"], each["spec"]["template"]


def too_much(pod: Object) -> list[str]:
    """What Kubernetes' own profile `restricted` refuses of a pod, and beyond that: a root file system that is written,
    a container without limits, a secret that is written out."""
    spec = pod["spec"]
    said = [f"{name} of the node" for name in ("hostNetwork", "hostPID", "hostIPC") if spec.get(name)]
    own = spec.get("securityContext", {})
    if not own.get("runAsNonRoot") or own.get("runAsUser", 0) == 0:
        said.append("may be root")
    if own.get("seccompProfile", {}).get("type") != "RuntimeDefault":
        said.append("no seccomp")
    kinds = {"configMap", "secret", "emptyDir", "projected", "downwardAPI", "csi", "persistentVolumeClaim", "ephemeral"}
    said += [f"volume {each['name']}" for each in spec.get("volumes", ()) if not kinds & set(each)]
    for container in [*spec.get("initContainers", ()), *spec["containers"]]:
        context = container.get("securityContext", {})
        wanted = {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        said += [f"{container['name']}: {name}" for name, value in wanted.items() if context.get(name) != value]
        said += [f"{container['name']}: {name}" for name in ("privileged", "runAsUser") if context.get(name)]
        resources = container.get("resources", {})
        if not {"cpu", "memory"} <= set(resources.get("requests", {})) or "memory" not in resources.get("limits", {}):
            said.append(f"{container['name']}: no resources")
        said += [
            f"{container['name']}: {each['name']} is written out"
            for each in container.get("env", ())
            if "value" in each and re.search(r"PASSWORD|SECRET|TOKEN|DATABASE|BROKER|_URL", each["name"])
        ]
    return said
