"""What the configuration says of deployments."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from registry_pipelines.settings import (
    AWS_REGION,
    AWS_ROLE,
    FILE,
    GOOGLE_LOCATION,
    GOOGLE_PROJECT,
    HOST_AND_PREFIX,
    KUBE_NAME,
    SERVICE_ACCOUNT,
    TAG,
    WEBHOOK,
    Duration,
    EntryName,
    Names,
)


class Deploy(msgspec.Struct, frozen=True, kw_only=True):
    """A place where the release that a channel names is to run, by digest (docs/deployment.md)."""

    name: EntryName
    image: Annotated[str, Names("images")]
    """Image that runs there."""
    channel: Annotated[str, TAG] = ""
    """Channel of the image whose release runs there; its last one unless told."""
    registry: Annotated[str, Names("registries")] | None = None
    """Registry that it pulls from: that of the image, of one of its targets, or of a mirror that has the image. The
    image's own unless told. The digest must be there before anything changes."""
    pulled_as: Annotated[str, HOST_AND_PREFIX] | None = None
    """Host by which it knows that registry, where that is not the registry's own; with what stands in front of its
    repositories there, for a cache that it is pulled through: `europe-docker.pkg.dev/acme/cache`."""
    container: str = ""
    """Container whose image is changed; needed where there are several."""
    wait: Duration = Duration(minutes=10)
    """How long a roll-out may take; longer, it has failed."""
    health: Duration = Duration(seconds=30)
    """How long it must stay ready afterwards."""
    rollback: bool = True
    """Whether a roll-out that failed is taken back, to the digest that ran before."""
    auto: bool = False
    """Whether Dagster's sensor `deployment` rolls out what the channel comes to name; a person does unless told."""


class CloudRunDeploy(Deploy, frozen=True, kw_only=True):
    """A service of Cloud Run."""

    kind: Literal["cloud-run"]
    """A service of Cloud Run: each release is a new revision."""
    project: Annotated[str, GOOGLE_PROJECT]
    """Google Cloud project."""
    location: Annotated[str, GOOGLE_LOCATION]
    """Region of the service, as `europe-west1`."""
    service: Annotated[str, KUBE_NAME]
    """Name of the service."""
    traffic: Annotated[int, Meta(ge=1, le=100)] = 100
    """Percent of the traffic that the new revision gets first, for the time of `health`; then it gets all."""
    credentials: Annotated[Path, FILE] | None = None
    """JSON file of a service account, of workload identity federation, or of gcloud."""
    impersonate: Annotated[str, SERVICE_ACCOUNT] = ""
    """Service account that is impersonated."""
    endpoint: Annotated[str, WEBHOOK] | None = None
    """Address of Cloud Run's API where it is not the usual one."""


class EksCluster(msgspec.Struct, frozen=True, kw_only=True):
    """A cluster of Amazon EKS, asked by AWS's credentials (extra `aws`)."""

    cluster: str
    """Name of the cluster."""
    region: Annotated[str, AWS_REGION]
    """AWS region of the cluster."""
    profile: str = ""
    """Profile of AWS's configuration; the default chain of boto3 unless told."""
    role: Annotated[str, AWS_ROLE] = ""
    """Role that is assumed; the cluster must let it in (an access entry)."""
    endpoint: Annotated[str, WEBHOOK] | None = None
    """Address of AWS's APIs where it is not the usual one."""


class GkeCluster(msgspec.Struct, frozen=True, kw_only=True):
    """A cluster of GKE, asked by Google's credentials (extra `google`)."""

    project: Annotated[str, GOOGLE_PROJECT]
    """Google Cloud project."""
    location: str
    """Region or zone of the cluster."""
    cluster: str
    """Name of the cluster."""
    credentials: Annotated[Path, FILE] | None = None
    """JSON file of a service account, of workload identity federation, or of gcloud."""
    impersonate: Annotated[str, SERVICE_ACCOUNT] = ""
    """Service account that is impersonated."""
    endpoint: Annotated[str, WEBHOOK] | None = None
    """Address of the API of GKE where it is not the usual one."""


class KubernetesDeploy(Deploy, frozen=True, kw_only=True):
    """A workload of a cluster of Kubernetes."""

    kind: Literal["kubernetes"]
    """A Deployment, StatefulSet or DaemonSet."""
    namespace: Annotated[str, KUBE_NAME]
    """Namespace of the workload."""
    workload: Literal["deployment", "statefulset", "daemonset"] = "deployment"
    """What kind of workload it is."""
    object: Annotated[str, KUBE_NAME]
    """Name of the workload."""
    eks: EksCluster | None = None
    """The cluster is one of Amazon EKS, in place of `kubeconfig`."""
    gke: GkeCluster | None = None
    """The cluster is one of GKE, in place of `kubeconfig`."""
    kubeconfig: Annotated[Path, FILE] | None = None
    """File of `kubectl`. Without it, and without `eks` and `gke`, this is a pod of the cluster, and asks as its service
    account."""
    context: str = ""
    """Context of the file; its current one unless told."""
    service_account: Path = Path("/var/run/secrets/kubernetes.io/serviceaccount")
    """Folder of a pod's `token` and `ca.crt`, where there is no `kubeconfig`."""


DeploySettings = CloudRunDeploy | KubernetesDeploy

__all__ = ["CloudRunDeploy", "Deploy", "DeploySettings", "EksCluster", "GkeCluster", "KubernetesDeploy"]
