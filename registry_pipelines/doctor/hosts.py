"""What the name of a registry tells: whose it is, where it is, and what its layers come from."""

from __future__ import annotations

import re

import msgspec

from registry_pipelines.errors import RegistryPipelinesError
from registry_pipelines.oci.references import Reference
from registry_pipelines.registry.client.words import family_of
from registry_pipelines.registry.ecr.hosts import read_host

_GAR = re.compile(r"([a-z0-9-]+)-docker\.pkg\.dev")
_GCR = re.compile(r"(?:(us|eu|asia)\.)?gcr\.io")
_GCR_LOCATIONS = {"": "us", "us": "us", "eu": "europe", "asia": "asia"}
"""cloud.google.com/artifact-registry/docs/transition, "gcr.io domain support": the location of each host."""

STARPORT = re.compile(r"prod-([a-z0-9-]+)-starport-layer-bucket")
"""S3 bucket of ECR's layers in a region (ECR user guide, "Create the Amazon S3 gateway endpoint")."""


class Host(msgspec.Struct, frozen=True, kw_only=True):
    """A registry by its host name. kind: ``ecr``, ``ecr-public``, ``gar``, ``gcr``, ``docker-hub``, or another."""

    name: str
    kind: str
    account: str = ""
    """Of AWS, 12 digits."""
    region: str = ""
    """Region of AWS, location of Artifact Registry."""

    @property
    def domain(self) -> str:
        """``amazonaws.com`` or ``amazonaws.com.cn``."""
        return "amazonaws.com.cn" if self.name.endswith(".cn") else "amazonaws.com"


def read_place(host: str) -> Host:
    """What is known of ``host[:port]``."""
    name = host.lower()
    if found := read_host(name):
        return Host(name=name, kind="ecr", account=found.account, region=found.region)
    if match := _GAR.fullmatch(name):
        return Host(name=name, kind="gar", region=match[1])
    if match := _GCR.fullmatch(name):
        return Host(name=name, kind="gcr", region=_GCR_LOCATIONS[match[1] or ""])
    if name == "public.ecr.aws":
        return Host(name=name, kind="ecr-public")
    if name in ("docker.io", "index.docker.io", "registry-1.docker.io"):
        return Host(name="docker.io", kind="docker-hub")
    return Host(name=name, kind=family_of(name) or "registry")


def read_image(text: str) -> tuple[Host, Reference] | None:
    """Host and reference of an image as runtimes read it; None for what is none."""
    try:
        reference = Reference.parse(text)
    except RegistryPipelinesError:
        return None
    return read_place(reference.registry), reference


def gar_repository(reference: Reference, host: Host) -> tuple[str, str]:
    """(project, repository) of an image of Artifact Registry: the first two parts of its path; of gcr.io's hosts the
    project, and the host as repository. Projects of the old domain form have a colon, and then one part more."""
    parts = reference.repository.split("/")
    if host.kind == "gcr":
        return parts[0], host.name
    return parts[0], parts[1] if len(parts) > 1 else ""
