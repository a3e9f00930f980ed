"""The API server of a cluster of GKE, and the token that Google's credentials give for it.

Source: Kubernetes Engine API v1 (container.googleapis.com: projects.locations.clusters.get; Cluster.endpoint,
masterAuth.clusterCaCertificate); its API servers take OAuth access tokens, which ``gke-gcloud-auth-plugin`` gives.
"""

from __future__ import annotations

from registry_pipelines.deploying.eks import trusting
from registry_pipelines.errors import InputError
from registry_pipelines.inventory.usage.google_rest import GoogleRest
from registry_pipelines.inventory.usage.kube_access import KubeAccess

SERVICE = "container.googleapis.com"


def gke_access(rest: GoogleRest, *, project: str, location: str, cluster: str) -> KubeAccess:
    """How to reach a cluster now; asked again for a new token. rest: of ``SERVICE``. Raises NotFound, Forbidden,
    Unauthorized, RegistryError."""
    where = f"GKE {project}/{location}"
    described = rest.get(f"/v1/projects/{project}/locations/{location}/clusters/{cluster}")
    server, auth = described.get("endpoint"), described.get("masterAuth") or {}
    if not server or not auth.get("clusterCaCertificate"):
        status = described.get("status")
        raise InputError(
            f"cluster {cluster} has no API server that answers by address ({status})",
            where=where,
            do="Say `kubeconfig`, which may have its name",
        )
    tls = trusting(str(auth["clusterCaCertificate"]), where)
    return KubeAccess(f"https://{server}", tls, authorization=f"Bearer {rest.token()}")


__all__ = ["SERVICE", "gke_access"]
