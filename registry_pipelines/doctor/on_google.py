"""The answers for Artifact Registry and the hosts of gcr.io: which role on which repository, and private access.

Sources: cloud.google.com/artifact-registry/docs/access-control, .../docs/integrate-gke, and VPC Service Controls' "Set
up Artifact Registry for GKE private clusters", autumn 2026.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from registry_pipelines.doctor.hosts import Host, gar_repository, read_image
from registry_pipelines.doctor.model import Cause, Patient
from registry_pipelines.registry.permissions import names, needed, operations

_RESOURCE = re.compile(r"projects/([^/]+)/locations/([^/]+)/repositories/([^/\s\"']+)")


def role_with(permission: str) -> str:
    """The smallest predefined role that has a permission; the reader's where none of our operations uses it."""
    grants = [grant for each in operations() for grant in each.google if permission in grant.permissions]
    return grants[0].role if grants else names(needed("google", "pull"))[0]


def permission(patient: Patient, host: Host) -> tuple[str, str, str]:
    """Missing role, or missing repository: one answer for both."""
    action = patient.action or "artifactregistry.repositories.downloadArtifacts"
    role = role_with(action)
    project, location, repository = _place(patient, host)
    anonymous = "nauthenticated request" in patient.message
    who = "nobody was logged in: the pull" if anonymous else "who pulled"
    return (
        f"{who} lacks {action} on {repository} in {location} of project {project}, or it is not there: Artifact "
        f"Registry says "
        "the same of both",
        f"Check the name, then give {role} on this repository to the account of the nodes: on GKE the node pool's "
        f"service "
        "account, the Compute Engine default unless told; a cluster of another project needs it here"
        f"{_not_the_pods(patient)}",
        f"gcloud artifacts repositories add-iam-policy-binding {repository} --project={project} --location={location} "
        f"--member=serviceAccount:NODES@PROJECT.iam.gserviceaccount.com --role={role}",
    )


def no_credentials(patient: Patient, host: Host) -> tuple[str, str, str]:
    """Nobody logged in."""
    return (
        f"no log-in was sent to {host.name}: the node has no service account, or lacks the scope "
        "devstorage.read_only or cloud-platform; outside of Google nothing logs in by itself",
        "On GKE create the node pool with a service account and the scope; elsewhere use gcloud's credential helper, "
        "or "
        f"oauth2accesstoken with a token that lasts an hour{_not_the_pods(patient)}",
        "gcloud container node-pools describe POOL --cluster=CLUSTER --location=LOCATION "
        "--format='value(config.serviceAccount,config.oauthScopes)'"
        if patient.kubelet
        else f"gcloud auth configure-docker {host.name}",
    )


def token_expired(patient: Patient, host: Host) -> tuple[str, str, str]:
    """An hour."""
    return (
        "the access token has run out: they last an hour, and somebody stored one",
        "On GKE remove the pull secret; elsewhere use a credential helper (gcloud auth configure-docker), or workload "
        "identity "
        "federation",
        f"gcloud auth print-access-token | docker login -u oauth2accesstoken --password-stdin https://{host.name}",
    )


def service_controls(patient: Patient, host: Host) -> tuple[str, str, str]:
    """The perimeter refused."""
    match = re.search(r"vpcServiceControlsUniqueIdentifier: ?([\w-]+)", patient.message)
    unique = match[1] if match else "ID"
    return (
        "VPC Service Controls refused: the registry's project and who pulls are not in one perimeter, or the way does "
        "not lead "
        "through restricted.googleapis.com",
        "Put both projects into the perimeter or add an ingress rule for artifactregistry.googleapis.com; let pkg.dev "
        "and gcr.io "
        "resolve to restricted.googleapis.com (199.36.153.4/30) in the VPC's private zone",
        f"gcloud logging read 'protoPayload.metadata.vpcServiceControlsUniqueId=\"{unique}\"' "
        f"--project={_place(patient, host)[0]}",
    )


def timeout(patient: Patient, host: Host) -> tuple[str, str, str]:
    """Private nodes."""
    return (
        f"no connection to {patient.lookup or host.name} came about: private nodes reach Google's registries only "
        f"with Private "
        "Google Access on their subnet, others only by NAT",
        "Switch Private Google Access on, and let pkg.dev and gcr.io resolve to private.googleapis.com or "
        "restricted.googleapis.com with a route to it; registries of others still need Cloud NAT",
        "gcloud compute networks subnets update SUBNET --region=REGION --enable-private-ip-google-access",
    )


def no_repository(patient: Patient, host: Host) -> tuple[str, str, str]:
    """Not in this location."""
    project, location, repository = _place(patient, host)
    return (
        f"project {project} has no repository {repository} in {location}: repositories are per location",
        "Look at all locations; Artifact Registry makes none on push",
        f"gcloud artifacts repositories list --project={project} --location=all --filter=name~{repository}",
    )


def no_tag(patient: Patient, host: Host) -> tuple[str, str, str]:
    """Cleaned up, or never pushed."""
    found = read_image(patient.image)
    name = f"{found[1].registry}/{found[1].repository}" if found else "IMAGE"
    return (
        "Artifact Registry has no such tag or digest",
        "Check the tag; a cleanup policy may have deleted it",
        f"gcloud artifacts docker images list {name} --include-tags",
    )


def _place(patient: Patient, host: Host) -> tuple[str, str, str]:
    """(project, location, repository)."""
    if match := _RESOURCE.search(patient.resource):
        return match[1], match[2], match[3]
    found = read_image(patient.image)
    if not found:
        return "PROJECT", host.region or "LOCATION", "REPOSITORY"
    project, repository = gar_repository(found[1], found[0])
    return project, host.region, repository or "REPOSITORY"


def _not_the_pods(patient: Patient) -> str:
    if not (patient.kubelet or patient.pod_role):
        return ""
    return ". The kubelet pulls with the node's service account, not with the pod's (workload identity)"


TOLD: dict[Cause, Callable[[Patient, Host], tuple[str, str, str]]] = {
    "permission": permission,
    "denied-or-missing": permission,
    "no-credentials": no_credentials,
    "token-expired": token_expired,
    "vpc-service-controls": service_controls,
    "timeout": timeout,
    "no-repository": no_repository,
    "no-tag": no_tag,
}
