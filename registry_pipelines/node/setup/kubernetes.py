"""A DaemonSet (apps/v1) that runs the agent, and the RuntimeClass (node.k8s.io/v1) by which pods ask for it.

The agent's configuration and the public keys that it believes go into a ConfigMap: accounts do not, they are a Secret
that somebody else makes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from registry_pipelines.errors import InputError
from registry_pipelines.node.setup.model import ENDED_S, HEAD, NAME, STATE, Setup, Written, carried
from registry_pipelines.oci.references import Reference
from registry_pipelines.stream.lazy.outliving import CGROUPS
from registry_pipelines.yaml_text import to_yaml

LOGIN_FOLDER = "/etc/registry-pipelines/docker"
CONFIG_FOLDER = "/etc/registry-pipelines/config"
HOST_CGROUPS = "/sys/fs/cgroup"
MAX_CONFIG_BYTES = 1_000_000
"""Of a ConfigMap (Kubernetes: 1 MiB), with room for its own fields."""


def kubernetes(setup: Setup) -> Written:
    """All objects. Raises ReferenceInvalid, LocalError, InputError for what no ConfigMap may have."""
    Reference.parse(setup.image)
    config = _config_map(setup)
    runtime = {
        "apiVersion": "node.k8s.io/v1",
        "kind": "RuntimeClass",
        "metadata": {"name": NAME},
        "handler": NAME,
    }
    files = {
        "daemonset.yaml": to_yaml(_daemon_set(setup), comment=HEAD),
        "runtimeclass.yaml": to_yaml(runtime, comment=HEAD),
        **({"configmap.yaml": to_yaml(config, comment=HEAD)} if config else {}),
    }
    notes = [
        "each node needs what `node setup containerd` writes, and containerd restarted; then `kubectl apply -f` all "
        "of these",
        f"a pod asks for it by `runtimeClassName: {NAME}` and, so that its images are pulled for it, by the "
        f"annotation io.containerd.cri.runtime-handler: {NAME}",
        f"accounts of registries: a secret {NAME}-node in kube-system of type kubernetes.io/dockerconfigjson",
        "a new version starts on a node when its pod is deleted: containers wait for it with what is not read yet, and "
        "after a minute get errors until it is there",
    ]
    return Written(files, notes)


def _config_map(setup: Setup) -> dict[str, Any] | None:
    """The configuration and the keys as files of one folder; None without either."""
    texts = carried(setup)
    if sum(map(len, texts.values())) > MAX_CONFIG_BYTES:
        raise InputError("a ConfigMap holds 1 MiB at most", where=", ".join(texts))
    if not texts:
        return None
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": f"{NAME}-node", "namespace": "kube-system"},
        "data": texts,
    }


def _daemon_set(setup: Setup) -> dict[str, Any]:
    labels = {"app.kubernetes.io/name": f"{NAME}-node"}
    folders = _outermost([setup.socket.parent, setup.root, setup.state or STATE / NAME])
    # What it mounts is for the host; the same paths there, since containerd mounts what it is told.
    mounted: list[dict[str, Any]] = [
        {"name": f"host-{number}", "mountPath": str(path), "mountPropagation": "Bidirectional"}
        for number, path in enumerate(folders)
    ]
    volumes: list[dict[str, Any]] = [
        {"name": f"host-{number}", "hostPath": {"path": str(path), "type": "DirectoryOrCreate"}}
        for number, path in enumerate(folders)
    ]
    login = {"key": ".dockerconfigjson", "path": "config.json"}
    volumes.append({"name": "login", "secret": {"secretName": f"{NAME}-node", "optional": True, "items": [login]}})
    volumes.append({"name": "cgroups", "hostPath": {"path": HOST_CGROUPS, "type": "Directory"}})
    own = [
        {"name": "cgroups", "mountPath": HOST_CGROUPS},
        {"name": "login", "mountPath": LOGIN_FOLDER, "readOnly": True},
    ]
    for number, path in enumerate(setup.hosts):
        volumes.append({"name": f"hosts-{number}", "hostPath": {"path": str(path), "type": "DirectoryOrCreate"}})
        own.append({"name": f"hosts-{number}", "mountPath": str(path), "readOnly": True})
    if setup.config or setup.keys:
        volumes.append({"name": "config", "configMap": {"name": f"{NAME}-node"}})
        own.append({"name": "config", "mountPath": CONFIG_FOLDER, "readOnly": True})
    container = {
        "name": "agent",
        "image": setup.image,
        "args": setup.with_files_in(CONFIG_FOLDER),
        "env": [
            {"name": "XDG_STATE_HOME", "value": str(STATE)},
            {"name": "DOCKER_CONFIG", "value": LOGIN_FOLDER},
            {"name": CGROUPS, "value": HOST_CGROUPS},
        ],
        "securityContext": {"privileged": True, "runAsUser": 0, "runAsGroup": 0},
        "volumeMounts": [*mounted, *own],
    }
    pod = {
        "hostNetwork": True,
        # What keeps mounts outlives the pod, and a gate asks the host's containerd by the root of its first process.
        "hostPID": True,
        "automountServiceAccountToken": False,
        "priorityClassName": "system-node-critical",
        "terminationGracePeriodSeconds": ENDED_S,
        "nodeSelector": {"kubernetes.io/os": "linux"},
        "tolerations": [{"operator": "Exists"}],
        "containers": [container],
        "volumes": volumes,
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": f"{NAME}-node", "namespace": "kube-system", "labels": labels},
        "spec": {
            "selector": {"matchLabels": labels},
            "updateStrategy": {"type": "OnDelete"},
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    }


def _outermost(folders: Sequence[Path]) -> list[Path]:
    """Without those that lie in another."""
    every = sorted(set(folders))
    return [each for each in every if not any(each != other and each.is_relative_to(other) for other in every)]
