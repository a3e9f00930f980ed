"""What ``kubectl get node -o json`` tells of a node: platform, runtime, disk, region, instance."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from registry_pipelines.doctor.model import Answer
from registry_pipelines.progress import size_text

_AWS = re.compile(r"aws:///([a-z]{2}(?:-[a-z]+)+-\d)[a-z0-9-]*/(i-[0-9a-f]+|fargate-\S+)")
_GCE = re.compile(r"gce://([^/]+)/([a-z]+-[a-z]+\d+)-[a-z]/(\S+)")
_QUANTITY = re.compile(r"(\d+)(Ki|Mi|Gi|Ti|k|M|G|T)?\Z")
_UNITS = {
    "": 1,
    "Ki": 1024,
    "Mi": 1024**2,
    "Gi": 1024**3,
    "Ti": 1024**4,
    "k": 10**3,
    "M": 10**6,
    "G": 10**9,
    "T": 10**12,
}

OLDEST_CONTAINERD_ZSTD = (1, 5)
"""containerd 1.5 was the first to read zstd layers (its release notes); Docker 23 for the classic store."""


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """A node. Sizes in bytes, 0 where it is not told."""

    name: str = ""
    platform: str = ""
    """``linux/amd64``."""
    runtime: str = ""
    """``containerd://2.1.9``."""
    kubelet: str = ""
    cloud: str = ""
    region: str = ""
    instance: str = ""
    disk_bytes: int = 0
    """What pods and images may use of its disk (allocatable ephemeral storage)."""
    troubles: tuple[str, ...] = ()
    """Conditions that are not as they should be, each with its message."""

    @property
    def runtime_version(self) -> tuple[str, tuple[int, int]]:
        """(``containerd``, (2, 1)); ("", (0, 0)) where it is not told."""
        match = re.match(r"([a-z-]+)://v?(\d+)\.(\d+)", self.runtime)
        return (match[1], (int(match[2]), int(match[3]))) if match else ("", (0, 0))


def read_node(document: dict[str, Any]) -> Node:
    """A Node object of Kubernetes. Whatever is missing or odd stays empty; raises nothing."""
    metadata, spec, status = (_mapping(document.get(key)) for key in ("metadata", "spec", "status"))
    info, labels = _mapping(status.get("nodeInfo")), _mapping(metadata.get("labels"))
    provider = str(spec.get("providerID", ""))
    cloud, region, instance = "", str(labels.get("topology.kubernetes.io/region", "")), ""
    if match := _AWS.match(provider):
        cloud, region, instance = "aws", region or match[1], match[2]
    elif match := _GCE.match(provider):
        cloud, region, instance = "gcp", region or match[2], match[3]
    system, architecture = str(info.get("operatingSystem", "")), str(info.get("architecture", ""))
    return Node(
        name=str(metadata.get("name", "")),
        platform=f"{system}/{architecture}" if system and architecture else "",
        runtime=str(info.get("containerRuntimeVersion", "")),
        kubelet=str(info.get("kubeletVersion", "")),
        cloud=cloud,
        region=region,
        instance=instance,
        disk_bytes=_bytes(_mapping(status.get("allocatable")).get("ephemeral-storage")),
        troubles=tuple(_troubles(status.get("conditions"))),
    )


def node_answers(node: Node) -> list[Answer]:
    """What is wrong with a node that keeps images from coming."""
    answers = []
    for trouble in node.troubles:
        name = trouble.partition(":")[0]
        if name == "DiskPressure":
            what, do = (
                "the node is short of disk: it evicts pods and takes no new images",
                (
                    "Enlarge its disk, or free it (crictl rmi --prune); images need their size packed and unpacked "
                    "together"
                ),
            )
            answers.append(Answer(cause="disk-full", what=what, evidence=(trouble,), do=do, command=_describe(node)))
        else:
            answers.append(
                Answer(
                    cause="timeout" if name == "NetworkUnavailable" else "slow",
                    what=f"the node is not well ({name}): no pull there can be judged before that is mended",
                    evidence=(trouble,),
                    do="Look at the kubelet and the runtime of the node",
                    command=_describe(node),
                    sure=False,
                )
            )
    return answers


def room_answer(node: Node, image_bytes: int) -> Answer | None:
    """Whether an image of this compressed size fits on the node's disk; layers grow two- to threefold unpacked, and
    containerd keeps them packed, too."""
    if not node.disk_bytes or 3 * image_bytes <= node.disk_bytes:
        return None
    sure = image_bytes > node.disk_bytes
    return Answer(
        cause="disk-full",
        what=f"the image has {size_text(image_bytes)} packed, and all images and pods of the node share "
        f"{size_text(node.disk_bytes)}",
        evidence=(f"allocatable ephemeral-storage of {node.name}",),
        do="Give the node a larger disk, or make the image smaller or lazy (`stream`)",
        command=_describe(node),
        sure=sure,
        note=not sure,
    )


def _describe(node: Node) -> str:
    return f"kubectl describe node {node.name or 'NODE'}"


def _troubles(conditions: Any) -> list[str]:
    found = []
    for each in conditions if isinstance(conditions, list) else ():
        condition = _mapping(each)
        name, status = str(condition.get("type", "")), str(condition.get("status", ""))
        bad = status != "True" if name == "Ready" else status == "True"
        if name and bad and name in ("Ready", "DiskPressure", "PIDPressure", "MemoryPressure", "NetworkUnavailable"):
            found.append(f"{name}: {condition.get('message') or condition.get('reason') or status}")
    return found


def _bytes(value: Any) -> int:
    match = _QUANTITY.match(str(value or ""))
    return int(match[1]) * _UNITS[match[2] or ""] if match else 0


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
