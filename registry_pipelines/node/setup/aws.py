"""Nodes of AWS: EKS (Amazon Linux 2023), Karpenter, Bottlerocket, ECS on EC2, Fargate.

Rules: nodeadm's NodeConfig (node.eks.aws/v1alpha1, amazon-eks-ami); Karpenter's EC2NodeClass (karpenter.k8s.aws/v1);
Bottlerocket's settings (1.53); the ECS agent's configuration and "Automatic task and image cleanup"; ECS'
RegisterTaskDefinition and the task metadata endpoint 4.
"""

from __future__ import annotations

import base64
import json
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

from registry_pipelines.errors import InputError
from registry_pipelines.node.setup.containerd import plugin_2
from registry_pipelines.node.setup.kubelet import image_settings, sized
from registry_pipelines.node.setup.model import HEAD, NAME, Setup, Written, carried
from registry_pipelines.node.setup.systemd import systemd
from registry_pipelines.node.sizing import NodeDisk
from registry_pipelines.yaml_text import to_yaml

ROOT_GIB = 20
"""For what is no image on Amazon Linux: system, logs, what pods write on nodefs."""
DEVICE = "/dev/xvdb"
"""The disk of images: Bottlerocket's own name for it, and free on Amazon Linux."""
FARGATE_GIB = (21, 200)
"""Ephemeral storage that a task may ask for."""
PROGRAM = Path("/opt/registry-pipelines/bin/registry-pipelines")
FOLDER = "/etc/registry-pipelines"
"""Where a node that sets itself up has the agent, and what it reads."""
MAX_USER_DATA = 16_384
"""Bytes (EC2, RunInstances)."""
_BOUNDARY = "==registry-pipelines=="
_INSTALL = """\
#!/bin/bash
# {head}
# Before nodeadm starts containerd and kubelet.
set -euo pipefail

# A disk of its own for images: containerd's and the agent's folder.
if [ -b {device} ]; then
  blkid {device} >/dev/null || mkfs.xfs -q {device}
  mkdir -p /var/lib/images
  echo "UUID=$(blkid -s UUID -o value {device}) /var/lib/images auto defaults 0 2" >>/etc/fstab
  mount /var/lib/images
  for folder in /var/lib/containerd {state}; do
    mkdir -p "$folder" "/var/lib/images$folder"
    # Also what the machine's image has there: the pause image, which no registry has under its name.
    cp -a "$folder/." "/var/lib/images$folder/"
    echo "/var/lib/images$folder $folder none bind,x-systemd.requires-mounts-for=/var/lib/images 0 0" >>/etc/fstab
    mount "$folder"
  done
fi

dnf install -y -q python3.11
python3.11 -m venv {venv}
{venv}/bin/pip install --quiet 'registry-pipelines[aws,node]'
mkdir -p {folder}
{files}
systemctl daemon-reload
systemctl enable --now {name}-node
"""


def _install(setup: Setup) -> str:
    """A script of cloud-init. Files in base64: nothing in one can end the script's text."""
    files = {f"{FOLDER}/{name}": text for name, text in carried(setup).items()}
    here = replace(setup, program=PROGRAM, config=None, keys=())
    (unit,) = systemd(here, arguments=setup.with_files_in(FOLDER)).files.values()
    files[f"/etc/systemd/system/{NAME}-node.service"] = unit.decode()
    return _INSTALL.format(
        head=HEAD,
        device=DEVICE,
        state=shlex.quote(str(setup.root.parent)),
        venv=PROGRAM.parent.parent,
        name=NAME,
        folder=FOLDER,
        files="\n".join(_file(path, text) for path, text in files.items()),
    )


def _file(path: str, text: str) -> str:
    content = base64.encodebytes(text.encode()).decode().rstrip()
    return f"base64 -d >{shlex.quote(path)} <<'END'\n{content}\nEND"


def _multipart(*parts: tuple[str, str]) -> str:
    """User data of several kinds (cloud-init, "MIME multi-part archive"). parts: type and text."""
    text = f'MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary="{_BOUNDARY}"\n\n'
    for kind, content in parts:
        text += f"--{_BOUNDARY}\nContent-Type: {kind}\n\n{content.rstrip()}\n\n"
    return text + f"--{_BOUNDARY}--\n"


def _node_config(setup: Setup, *, with_kubelet: bool) -> str:
    content: dict[str, Any] = {
        "apiVersion": "node.eks.aws/v1alpha1",
        "kind": "NodeConfig",
        "spec": {
            "containerd": {"config": plugin_2(setup)},
            **({"kubelet": {"config": image_settings(setup.disk)}} if with_kubelet else {}),
        },
    }
    return "---\n" + to_yaml(content).decode()


def _user_data(setup: Setup, *, with_kubelet: bool) -> str:
    text = _multipart(
        ("application/node.eks.aws", _node_config(setup, with_kubelet=with_kubelet)),
        ('text/x-shellscript; charset="us-ascii"', _install(setup)),
    )
    if len(text.encode()) > MAX_USER_DATA:
        raise InputError(
            f"EC2 takes {MAX_USER_DATA} bytes of user data, and this has {len(text.encode())}",
            where="--config and --key",
            do="Name the keys alone, or build an image of the machine that has the files",
        )
    return text


_LINUX_NOTES = [
    "nodes install the agent by pip, and it is on no public index yet: have its wheel on an index of yours, and name "
    "that before the line with `pip install` (`export PIP_INDEX_URL=...`)",
    "kernels: 6.18 with Kubernetes 1.36 and newer, 6.12 with 1.33 to 1.35, 6.1 before; which carrier an agent takes "
    "it probes",
    "no feature gate FastImagePull beside it: that is SOCI's parallel pull for all pods, slower than a plain pull "
    "below 600 MiB/s of disk, and ignored on small instances",
    f"pods ask for it by `runtimeClassName: {NAME}`: `node setup kubernetes` has the RuntimeClass",
]


def eks(setup: Setup) -> Written:
    """User data of a launch template for nodes of EKS on Amazon Linux 2023. Raises InputError."""
    notes = [
        "launch-template-data.json: `aws ec2 create-launch-template`; user-data.txt is in it, for you to read. EKS "
        "adds the cluster's own part for managed node groups, for others add spec.cluster (name, apiServerEndpoint, "
        "certificateAuthority, cidr)",
        f"images lie on {DEVICE}, a volume of its own, where a size is given; else on the root volume, "
        f"which has {ROOT_GIB} GiB",
        "the role of the node needs ecr:BatchGetImage, ecr:GetDownloadUrlForLayer, ecr:GetAuthorizationToken: the "
        "agent pulls by it",
        *_LINUX_NOTES,
        sized(setup.disk),
    ]
    text = _user_data(setup, with_kubelet=True).encode()
    return Written({"user-data.txt": text, **_template(_volumes("/dev/xvda", ROOT_GIB, setup.disk), text)}, notes)


def _template(volumes: list[dict[str, Any]], user_data: bytes = b"") -> dict[str, bytes]:
    """For ``aws ec2 create-launch-template --launch-template-data`` (EC2, RequestLaunchTemplateData)."""
    more = {"UserData": base64.b64encode(user_data).decode()} if user_data else {}
    content = {"BlockDeviceMappings": volumes, **more}
    return {"launch-template-data.json": json.dumps(content, indent=2).encode() + b"\n"}


def _volumes(root: str, root_gib: int, disk: NodeDisk | None) -> list[dict[str, Any]]:
    """As EC2 writes them, as Karpenter does in its own letters."""
    found = [(root, root_gib), *([(DEVICE, disk.volume_gib)] if disk else [])]
    return [
        {
            "DeviceName": device,
            "Ebs": {"VolumeType": "gp3", "VolumeSize": gib, "Encrypted": True, "DeleteOnTermination": True},
        }
        for device, gib in found
    ]


def _mappings(volumes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    def own(name: str) -> str:
        return name[0].lower() + name[1:]

    def line(volume: dict[str, Any]) -> dict[str, Any]:
        ebs = {own(name): value for name, value in volume["Ebs"].items()}
        return {"deviceName": volume["DeviceName"], "ebs": {**ebs, "volumeSize": f"{ebs['volumeSize']}Gi"}}

    return [line(each) for each in volumes]


def karpenter(setup: Setup) -> Written:
    """An EC2NodeClass. ``${CLUSTER_NAME}`` and ``${NODE_ROLE}`` stay for ``envsubst``. Raises InputError."""
    found = [{"tags": {"karpenter.sh/discovery": "${CLUSTER_NAME}"}}]
    content = {
        "apiVersion": "karpenter.k8s.aws/v1",
        "kind": "EC2NodeClass",
        "metadata": {"name": NAME},
        "spec": {
            "amiFamily": "AL2023",
            "amiSelectorTerms": [{"alias": "al2023@latest"}],
            "role": "${NODE_ROLE}",
            "subnetSelectorTerms": found,
            "securityGroupSelectorTerms": found,
            "blockDeviceMappings": _mappings(_volumes("/dev/xvda", ROOT_GIB, setup.disk)),
            "kubelet": image_settings(setup.disk),
            "userData": _user_data(setup, with_kubelet=False),
        },
    }
    notes = [
        "export CLUSTER_NAME and NODE_ROLE, then `envsubst '$CLUSTER_NAME $NODE_ROLE' <ec2nodeclass.yaml | kubectl "
        "apply -f -`; a NodePool names it in spec.template.spec.nodeClassRef",
        "pin the alias: with `latest` Karpenter replaces nodes on each release of the image",
        "spec.kubelet takes all fields of kubelet's in the CRD of August 2026; an older Karpenter refuses "
        "imageMaximumGCAge, serializeImagePulls and maxParallelImagePulls: leave them out there",
        "of instances with disks of their own, instanceStorePolicy: RAID0 puts containerd's folder on them and not the "
        "agent's: write with --root /mnt/k8s-disks/0/registry-pipelines/node, and leave the second volume out",
        *_LINUX_NOTES,
        sized(setup.disk),
    ]
    return Written({"ec2nodeclass.yaml": to_yaml(content, comment=HEAD)}, notes)


_BOTTLEROCKET = """\
# {head}
[settings.container-runtime]
snapshotter = "soci"

[settings.container-runtime-plugins.soci-snapshotter]
pull-mode = "parallel-pull-unpack"

[settings.container-runtime-plugins.soci-snapshotter.parallel-pull-unpack]
max-concurrent-downloads-per-image = 10
concurrent-download-chunk-size = "16mb"
max-concurrent-unpacks-per-image = 10
discard-unpacked-layers = true
"""


def bottlerocket(setup: Setup) -> Written:
    """Settings of Bottlerocket's Kubernetes variants. A number of them is a string, as its own examples have it."""
    text = _BOTTLEROCKET.format(head=HEAD)
    if setup.disk is not None:
        text += f"""
[settings.kubernetes]
image-gc-high-threshold-percent = "{setup.disk.gc_high_percent}"
image-gc-low-threshold-percent = "{setup.disk.gc_low_percent}"

[settings.kubernetes.eviction-hard]
"memory.available" = "100Mi"
"nodefs.available" = "10%"
"nodefs.inodesFree" = "5%"
"imagefs.available" = "{setup.disk.evicted_percent}%"
"""
    size = f"{setup.disk.volume_gib} GiB" if setup.disk else "the size that `node size --way whole` says"
    notes = [
        "settings.toml is the instance's user data, beside settings.kubernetes of the cluster; `apiclient apply` "
        "takes it too",
        "Bottlerocket takes no snapshotter but its own two, so nothing is served lazily there: this is SOCI's "
        "parallel pull, which takes images as they are and reads no index",
        f"images lie on its second volume, {DEVICE}: gp3 of {size} with throughput 1000 and iops 4000. Below 600 "
        "MiB/s a plain pull is faster: leave the first three sections out then",
        "a change of the snapshotter takes effect on boot, and clears all images",
        sized(setup.disk),
    ]
    return Written({"settings.toml": text.encode()}, notes)


def ecs(setup: Setup) -> Written:
    """User data of ECS' container instances: Amazon Linux 2023 with Docker."""
    lines = {
        "ECS_CLUSTER": "${CLUSTER_NAME}",
        "ECS_IMAGE_PULL_BEHAVIOR": "prefer-cached",
        "ECS_IMAGE_CLEANUP_INTERVAL": "30m",
        "ECS_IMAGE_MINIMUM_CLEANUP_AGE": "24h",
        "ECS_NUM_IMAGES_DELETE_PER_CYCLE": "5",
    }
    script = f"#!/bin/bash\n# {HEAD}\nset -euo pipefail\ncat >>/etc/ecs/ecs.config <<'END'\n"
    script += "".join(f"{key}={value}\n" for key, value in lines.items()) + "END\n"
    size = f"{ROOT_GIB + setup.disk.volume_gib} GiB" if setup.disk else f"{ROOT_GIB} GiB and what `node size` says"
    notes = [
        "user-data.sh: `envsubst '$CLUSTER_NAME' <user-data.sh`, the user data of the instances",
        f"the root volume holds the images: {size}; ECS clears by age and number alone, not by how full the disk is",
        "prefer-cached: an image that is there is not pulled again, also not for a tag that moved: name images by "
        "digest",
        "nothing is served lazily: ECS runs Docker there with its own store. Fargate serves SOCI indexes (`node "
        "setup fargate`); instances that ECS manages itself run Bottlerocket, where nobody sets a snapshotter",
    ]
    files = {"user-data.sh": script.encode()}
    if setup.disk is not None:
        notes.append(
            "launch-template-data.json: the root volume, for `aws ec2 create-launch-template`; add the user data to it"
        )
        files |= _template(_volumes("/dev/xvda", ROOT_GIB + setup.disk.volume_gib, None))
    return Written(files, notes)


_LAZY = """\
#!/bin/sh
# {head}
# In a container of the task: which snapshotter it has. "soci": served lazily. "overlayfs": the whole image was pulled
# first.
set -eu
python3 -c 'import json, os, urllib.request as r
print(json.load(r.urlopen(os.environ["ECS_CONTAINER_METADATA_URI_V4"]))["Snapshotter"])' 2>/dev/null ||
  wget -qO- "$ECS_CONTAINER_METADATA_URI_V4" | sed -n 's/.*"Snapshotter" *: *"\\([^"]*\\)".*/\\1/p'
"""


def fargate(setup: Setup) -> Written:
    """A task definition for an image with a SOCI index, and how one sees that it was served lazily."""
    content: dict[str, Any] = {
        "family": NAME,
        "requiresCompatibilities": ["FARGATE"],
        "networkMode": "awsvpc",
        "cpu": "4096",
        "memory": "16384",
        "runtimePlatform": {"operatingSystemFamily": "LINUX", "cpuArchitecture": "X86_64"},
        "executionRoleArn": "EXECUTION_ROLE_ARN",
        "containerDefinitions": [{"name": "main", "image": "IMAGE", "essential": True}],
    }
    if setup.disk is not None:
        size = min(max(setup.disk.volume_gib, FARGATE_GIB[0]), FARGATE_GIB[1])
        content["ephemeralStorage"] = {"sizeInGiB": size}
    notes = [
        "task.json: set EXECUTION_ROLE_ARN and IMAGE (by digest, in ECR of the task's region), then `aws ecs "
        "register-task-definition --cli-input-json file://task.json`; the service runs platform version 1.4.0",
        "SOCI is automatic for each image of a task that has an index v2: `stream convert --format soci-v2`. Others "
        "are pulled whole before anything starts, sidecars too; indexes v1 count no more since February 2026, and "
        "nothing says so",
        "it pays above some 250 MB compressed; layers of zstd have no index. The tag that is deployed must be the "
        "index that `convert` pushed, whole: a copy of one platform (`docker pull` and `push`, `skopeo copy` without "
        "--all) loses it",
        "was-it-lazy.sh, run in the task (`aws ecs execute-command`), says `soci` or `overlayfs`: a fall back raises "
        "no error; `describe-tasks` has pullStartedAt and pullStoppedAt",
        f"ephemeral storage is {FARGATE_GIB[0]} to {FARGATE_GIB[1]} GiB (20 without the field), images among it",
        *([sized(setup.disk)] if setup.disk is None else []),
        *_too_large(setup.disk),
    ]
    return Written(
        {
            "task.json": json.dumps(content, indent=2).encode() + b"\n",
            "was-it-lazy.sh": _LAZY.format(head=HEAD).encode(),
        },
        notes,
    )


def _too_large(disk: NodeDisk | None) -> list[str]:
    if disk is None or disk.volume_gib <= FARGATE_GIB[1]:
        return []
    return [
        f"these images need {disk.volume_gib} GiB together, more than a task gets: size each task for its own image"
    ]
