"""All forms, by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from registry_pipelines.errors import InputError
from registry_pipelines.node.setup.aws import bottlerocket, ecs, eks, fargate, karpenter
from registry_pipelines.node.setup.containerd import containerd
from registry_pipelines.node.setup.docker import docker
from registry_pipelines.node.setup.gke import gke
from registry_pipelines.node.setup.kubelet import kubelet
from registry_pipelines.node.setup.kubernetes import kubernetes
from registry_pipelines.node.setup.model import Setup, Written
from registry_pipelines.node.setup.snapshotters import soci, stargz
from registry_pipelines.node.setup.systemd import systemd

Form = Literal[
    "containerd",
    "docker",
    "systemd",
    "kubernetes",
    "kubelet",
    "soci",
    "stargz",
    "eks",
    "karpenter",
    "bottlerocket",
    "ecs",
    "fargate",
    "gke",
]
FORMS: dict[Form, str] = {
    "containerd": "the snapshotter, for containerd 1.6 to 2.x",
    "docker": "the same, and Docker's daemon.json",
    "systemd": "a unit that runs `node serve` on the host",
    "kubernetes": "a DaemonSet that runs it (--image), and the RuntimeClass for pods; nodes need `containerd`, too",
    "kubelet": "when kubelet clears images, how many it pulls at once, accounts of ECR and Artifact Registry",
    "soci": "the SOCI snapshotter instead, for indexes that `stream` made",
    "stargz": "the stargz snapshotter instead, for images that `stream convert` made eStargz",
    "eks": "user data of nodes of EKS (Amazon Linux 2023) with the agent",
    "karpenter": "the same as an EC2NodeClass",
    "bottlerocket": "settings of Bottlerocket, which takes no agent",
    "ecs": "user data of ECS' instances, where nothing is lazy",
    "fargate": "a task definition, and how one sees that SOCI was used",
    "gke": "a node pool with image streaming, and how one sees that it fell back",
}
_FORMS: dict[Form, Callable[[Setup], Written]] = {
    "containerd": containerd,
    "docker": docker,
    "systemd": systemd,
    "kubernetes": kubernetes,
    "kubelet": kubelet,
    "soci": soci,
    "stargz": stargz,
    "eks": eks,
    "karpenter": karpenter,
    "bottlerocket": bottlerocket,
    "ecs": ecs,
    "fargate": fargate,
    "gke": gke,
}
CARRIES: tuple[Form, ...] = ("kubernetes", "eks", "karpenter")
"""Those that bring the agent's configuration and keys to other machines."""
WITH_AGENT: tuple[Form, ...] = ("systemd", *CARRIES)
"""Those that start it, with its configuration and keys."""
SIZED: tuple[Form, ...] = ("kubelet", "eks", "karpenter", "bottlerocket", "ecs", "fargate", "gke")
"""Those with sizes and thresholds."""


def write(form: Form, setup: Setup) -> Written:
    """The files of a form. Raises InputError, LocalError, ReferenceInvalid."""
    files = [*([setup.config] if setup.config else []), *setup.keys]
    for path in (setup.program, setup.socket, setup.root, *setup.hosts, *files):
        if not path.is_absolute() or any(ord(each) < ord(" ") for each in str(path)):
            raise InputError("other programs take absolute paths in one line alone", where=repr(str(path)))
    if bool(setup.image) != (form == "kubernetes"):
        raise InputError(
            "the image of the agent is for `kubernetes`, and needed there",
            where=f"node setup {form}",
            do="Give --image REF, the product's own image, with `kubernetes` and with nothing else",
        )
    if files and form not in WITH_AGENT:
        raise InputError(
            "nothing of this form starts the agent, which reads a configuration and keys",
            where=f"node setup {form}",
            do=f"Leave --config and --key out, or take one of {', '.join(WITH_AGENT)}",
        )
    if setup.disk is not None and form not in SIZED:
        raise InputError(
            "this form has no size and no threshold",
            where=f"node setup {form}",
            do=f"Leave --size out, or take one of {', '.join(SIZED)}",
        )
    written = _FORMS[form](setup)
    if form in WITH_AGENT and not files:
        written.notes.append(
            "no key is named, so the agent believes no indexer and all images are pulled as usual: give --key FILE, "
            "the public key of whoever runs `stream index`, or --config"
        )
    return written
