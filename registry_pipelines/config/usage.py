"""What the configuration says of a source of usage."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from registry_pipelines.settings import (
    AWS_REGION,
    AWS_ROLE,
    DOCKER_HOST,
    FILE,
    FOLDER,
    GLOB,
    GOOGLE_LOCATION,
    GOOGLE_PROJECT,
    KUBE_RESOURCE,
    NAME,
    SERVICE_ACCOUNT,
    WEBHOOK,
    Duration,
    EntryName,
    Names,
)


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """A source of usage, and what it could speak of: that alone stays while it does not answer."""

    name: EntryName
    registries: tuple[Annotated[str, Names("registries")], ...] = ()
    """Registries that what it tells of is pulled from, by whatever name a cluster has for them; all of them, by their
    own names, unless told."""
    repositories: tuple[Annotated[str, GLOB], ...] = ("*",)
    """Patterns of repositories that what it tells of is pulled from."""


class AwsUsage(Usage, frozen=True, kw_only=True):
    """How AWS is asked who runs what."""

    region: Annotated[str, AWS_REGION]
    """AWS region that is asked."""
    profile: str = ""
    """Profile of AWS's configuration; the default chain of boto3 unless told."""
    role: Annotated[str, AWS_ROLE] = ""
    """Role that is assumed; it may be one of another account."""
    external_id: str = ""
    """External id that the role's trust policy asks for."""
    endpoint: Annotated[str, WEBHOOK] | None = None
    """Address of AWS's APIs where it is not the usual one."""


class EcsUsage(AwsUsage, frozen=True, kw_only=True):
    """Amazon ECS: containers of running tasks, and what services would start."""

    kind: Literal["ecs"]
    """Running tasks and services of Amazon ECS."""
    clusters: tuple[Annotated[str, GLOB], ...] = ("*",)
    """Patterns of clusters."""


class LambdaUsage(AwsUsage, frozen=True, kw_only=True):
    """AWS Lambda: functions that are images, in all published versions."""

    kind: Literal["lambda"]
    """Functions of AWS Lambda that are images."""


class SageMakerUsage(AwsUsage, frozen=True, kw_only=True):
    """Amazon SageMaker: endpoints, models, and training that is under way."""

    kind: Literal["sagemaker"]
    """Endpoints, models and training jobs of Amazon SageMaker."""


class InspectorUsage(AwsUsage, frozen=True, kw_only=True):
    """Amazon Inspector: which clusters of ECS and EKS have an image, as its agents see it."""

    kind: Literal["inspector"]
    """What Amazon Inspector sees in clusters of ECS and EKS."""


class PullUsage(AwsUsage, frozen=True, kw_only=True):
    """Pull times of an ECR registry: a hint, for scanners pull, too."""

    kind: Literal["pulls"]
    """What was pulled from a registry of kind `ecr` lately."""
    registry: Annotated[str, Names("registries")]
    """Registry of kind `ecr` whose pulls count."""
    within: Duration = Duration(days=30)
    """What was pulled within this time counts as used."""
    scanners: tuple[str, ...] = ()
    """ARNs of the roles that scan. Those whose pulls ECR records all the same (they are not registered by
    `RegisterPullTimeUpdateExclusion`) are named."""


class GoogleUsage(Usage, frozen=True, kw_only=True):
    """How Google is asked who runs what."""

    project: Annotated[str, GOOGLE_PROJECT]
    """Google Cloud project."""
    locations: Annotated[tuple[Annotated[str, GOOGLE_LOCATION], ...], Meta(min_length=1)]
    """Regions that are asked."""
    credentials: Annotated[Path, FILE] | None = None
    """JSON file of a service account, of workload identity federation, or of gcloud."""
    impersonate: Annotated[str, SERVICE_ACCOUNT] = ""
    """Service account that is impersonated."""
    endpoint: Annotated[str, WEBHOOK] | None = None
    """Address of Google's APIs where it is not the usual one."""


class CloudRunUsage(GoogleUsage, frozen=True, kw_only=True):
    """Cloud Run: revisions of services that get traffic or are the latest, and jobs."""

    kind: Literal["cloud-run"]
    """Services and jobs of Cloud Run."""


class VertexUsage(GoogleUsage, frozen=True, kw_only=True):
    """Vertex AI: models that are deployed to endpoints, and custom jobs that run."""

    kind: Literal["vertex"]
    """Endpoints and custom jobs of Vertex AI."""


class KubernetesUsage(Usage, frozen=True, kw_only=True):
    """A cluster of Kubernetes: pods by the digests that run, and what all workloads would start."""

    kind: Literal["kubernetes"]
    """Pods and workloads of a cluster."""
    kubeconfig: Annotated[Path, FILE] | None = None
    """File of `kubectl`. Without it this is a pod of the cluster, and asks as its service account."""
    context: str = ""
    """Context of the file; its current one unless told."""
    namespaces: tuple[Annotated[str, GLOB], ...] = ("*",)
    """Patterns of namespaces. Names without a wildcard need no right to list namespaces."""
    resources: tuple[Annotated[str, KUBE_RESOURCE], ...] = ()
    """Further kinds whose objects hold pods, as `argoproj.io/v1alpha1/rollouts`."""
    service_account: Path = Path("/var/run/secrets/kubernetes.io/serviceaccount")
    """Folder of a pod's `token` and `ca.crt`, where there is no `kubeconfig`."""


class ContainerdHost(msgspec.Struct, frozen=True, kw_only=True):
    """How containerd of one host is asked; over `socket` unless there is a `command`."""

    socket: Path = Path("/run/containerd/containerd.sock")
    """Socket of this machine (extra `containerd`)."""
    command: tuple[str, ...] = ()
    """Program with its arguments, to which those of `ctr` or `crictl` are added: `[ssh, node7, sudo, ctr]`."""
    program: Literal["ctr", "crictl"] = "ctr"
    """What the command ends in. `crictl` is answered by CRI-O, too."""


class ContainerdUsage(Usage, frozen=True, kw_only=True):
    """Hosts with containerd or CRI-O: their containers, and images that are there."""

    kind: Literal["containerd"]
    """Containers and images of hosts with containerd, or with CRI-O by `crictl`."""
    hosts: Annotated[dict[Annotated[str, NAME], ContainerdHost], Meta(min_length=1)]
    """Hosts by name."""
    namespaces: tuple[Annotated[str, GLOB], ...] = ("*",)
    """Patterns of containerd's namespaces; Kubernetes' is `k8s.io`, Docker's `moby`."""
    images: bool = True
    """Images count that no container uses, too; as a hint."""


class DockerEngine(msgspec.Struct, frozen=True, kw_only=True):
    """How Docker of one host is asked."""

    address: Annotated[str, DOCKER_HOST] = ""
    """`unix:///var/run/docker.sock`, `tcp://host:2376` or `ssh://user@host`; what DOCKER_HOST says unless told."""
    tls: Annotated[Path, FOLDER] | None = None
    """Folder with `ca.pem`, `cert.pem` and `key.pem`, for `tcp`."""


class DockerUsage(Usage, frozen=True, kw_only=True):
    """Hosts with Docker (extra `docker`): containers, running or stopped, and images that are there."""

    kind: Literal["docker"]
    """Containers and images of hosts with Docker, or Podman's service."""
    hosts: Annotated[dict[Annotated[str, NAME], DockerEngine], Meta(min_length=1)]
    """Hosts by name."""
    images: bool = True
    """Images count that no container uses, too; as a hint."""


class FileUsage(Usage, frozen=True, kw_only=True):
    """A file that says who runs what: kept by `usage --save` where a cluster is behind a gap, or another program's."""

    kind: Literal["file"]
    """A kept answer."""
    path: Path
    """JSON of `usage --save`, or lines (docs/inventory.md)."""
    max_age: Duration = Duration(days=1)
    """How old it may be; older, it is as if it did not answer."""


UsageSettings = (
    EcsUsage
    | LambdaUsage
    | SageMakerUsage
    | InspectorUsage
    | PullUsage
    | CloudRunUsage
    | VertexUsage
    | KubernetesUsage
    | ContainerdUsage
    | DockerUsage
    | FileUsage
)

__all__ = ["AwsUsage", "GoogleUsage", "PullUsage", "Usage", "UsageSettings"]
