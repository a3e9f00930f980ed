"""What a configuration says about clusters: which images may start there, and how the webhook answers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from registry_pipelines.settings import FILE, HOST, TAG, Duration, Names, Pattern

APPROVED = Pattern(
    r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:[0-9]{1,5})?(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*$",
    "a registry, or the beginning of its repositories",
    "write registry.example.com, or registry.example.com/team; for Docker Hub docker.io, for its own images "
    "docker.io/library",
)
NAMESPACE = Pattern(r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$", "a namespace", "use lower-case letters, digits and -")
SERVICE = Pattern(
    r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?/[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$",
    "a service of a cluster",
    "write namespace/name",
)

Mutation = Literal["digest", "replica"]
MUTATIONS: tuple[Mutation, ...] = ("digest", "replica")

VALIDATE, MUTATE = "/validate", "/mutate"
"""Where the webhook is asked whether something may be made, and what is changed in it before."""

Form = Literal["webhook", "containers", "notation", "rego", "validating-policy", "kyverno"]
FORMS: dict[Form, str] = {
    "webhook": "objects by which an API server asks serve-admission",
    "containers": "policy.json and registries.d of skopeo, podman and CRI-O",
    "notation": "trust policy and trust store of notation",
    "rego": "Rego and its data, for OPA and `admission check`; the digests of this moment",
    "validating-policy": "ValidatingAdmissionPolicy, for API servers alone; the digests of this moment",
    "kyverno": "ClusterPolicy; an example, not run here",
}
"""What the rules can be written as, and what each is for."""

MIN_TIMEOUT_S, MAX_TIMEOUT_S = 2, 30
"""Seconds that an API server may be told to wait for a webhook: it permits 1 to 30 (admissionregistration/v1,
``timeoutSeconds``), and we answer a second earlier."""


class Approved(msgspec.Struct, frozen=True, kw_only=True):
    """Images of others that may start without a verdict of ours."""

    images: Annotated[str, APPROVED]
    """Registry, or registry and the beginning of a repository: `registry.k8s.io`, `quay.io/prometheus`. It counts up to
    a slash: `quay.io/prom` permits nothing of `quay.io/prometheus`."""
    reason: str
    """Why; it stands in what is generated."""


class Admission(msgspec.Struct, frozen=True, kw_only=True):
    """What may start in clusters: images of this configuration with an allowing verdict and a promotion, as they stand
    in their source registry, and what is approved by name. `serve-admission` answers an API server by it, `admission`
    writes the same for others."""

    host: Annotated[str, HOST] = "0.0.0.0"  # noqa: S104 - an API server asks from another machine
    """Address the webhook listens on."""
    port: Annotated[int, Meta(ge=1, le=65535)] = 8443
    """TCP port it listens on."""
    tls_cert: Annotated[Path, FILE] | None = None
    """PEM certificate chain of the webhook; API servers speak TLS only. Read again when it was replaced."""
    tls_key: Annotated[Path, FILE] | None = None
    """PEM private key of `tls_cert`."""
    ca_file: Annotated[Path, FILE] | None = None
    """PEM certificates by which API servers trust the webhook; they go into its configurations as `caBundle`."""
    service: Annotated[str, SERVICE] = "registry-pipelines/admission"
    """Namespace and name of the cluster's service in front of it; the namespace is exempt."""
    url: str = ""
    """Address of a webhook outside of the cluster, in place of `service`: `https://host:port`."""
    channel: Annotated[str, TAG] | None = None
    """Channel that a release must have been promoted to, of images that have it; the last one of its image unless
    told. `staging` for a cluster that runs what is on its way."""
    approved: tuple[Approved, ...] = ()
    """Images of others. What is neither here nor an image of this configuration is refused."""
    require_digests: bool = False
    """Refuse images by tag. Without it a tag is judged by what it names when it is asked about, with a warning: a node
    pulls it later. `mutate: [digest]` makes digests of tags before."""
    mutate: tuple[Mutation, ...] = ()
    """What the webhook changes in pods. `digest`: a tag becomes the digest that it names. `replica`: the registry
    becomes the first of `nearest` that has the image."""
    nearest: tuple[Annotated[str, Names("targets")], ...] = ()
    """Targets in the order in which a cluster's nodes pull from them, for `mutate: [replica]`."""
    exempt_namespaces: tuple[Annotated[str, NAMESPACE], ...] = ("kube-system",)
    """Namespaces that API servers never ask about."""
    failure_policy: Literal["Fail", "Ignore"] = "Fail"
    """What an API server does when the webhook does not answer. `Ignore` starts everything then."""
    timeout: Duration = Duration(seconds=10)
    """How long an API server waits; 2 to 30 seconds."""
    keep: Duration = Duration(seconds=30)
    """How long an allowing answer about a digest is kept: so long a revoked release may still start."""
