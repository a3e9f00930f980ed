"""Registries of the clouds: Amazon ECR and Google Artifact Registry, each with how its API is asked."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec

from registry_pipelines.config.events import PubSubEvents, SqsEvents
from registry_pipelines.config.redirects import Redirects
from registry_pipelines.registry.ecr.hosts import PUBLIC_HOST, PUBLIC_REGION, EcrHost
from registry_pipelines.settings import (
    AWS_ACCOUNT,
    AWS_REGION,
    AWS_ROLE,
    FILE,
    GOOGLE_HOST,
    GOOGLE_LOCATION,
    GOOGLE_PROJECT,
    HOST,
    SERVICE_ACCOUNT,
    WEBHOOK,
    EntryName,
    Instead,
)

if TYPE_CHECKING:  # a configuration is read before it is known whether a cloud is asked
    from registry_pipelines.registry.ecr.access import AwsAccess
    from registry_pipelines.registry.gar.access import GoogleAccess

ECR_INSTEAD = Instead(("aws", "aws-ecr"), "write `kind: ecr` with `account` and `region`")
GAR_INSTEAD = Instead(("gcr", "gcp", "google", "artifact-registry"), "write `kind: gar` with `project` and `location`")


class CloudRegistry(msgspec.Struct, frozen=True, kw_only=True):
    """What registries of all clouds have in common: how the registry itself is reached, beside its cloud's API."""

    reachable_as: Annotated[str, HOST] | None = None
    """`host:port` that the registry itself is reached by, as through a private link; its own name unless told."""
    plain_http: bool | None = None
    """Speak plain HTTP to `reachable_as`; by default on loopback hosts only."""
    ca_file: Annotated[Path, FILE] | None = None
    """PEM certificates to trust, beside the system's."""
    redirects: Redirects = Redirects()
    """Where the registry may send us."""
    bandwidth: tuple[str, ...] = ()
    """Most bytes a second from and to it, for all processes together, at some hours: `20MB/s mon-fri 08:00-18:00`."""


class EcrRegistry(CloudRegistry, frozen=True, kw_only=True):
    """A private registry of Amazon ECR: one account in one region. AWS credentials log in, found as the aws command
    finds them."""

    name: EntryName
    kind: Annotated[Literal["ecr"], ECR_INSTEAD]
    """The registry is Amazon ECR. Extra `aws`."""
    account: Annotated[str, AWS_ACCOUNT]
    """AWS account, 12 digits in quotes."""
    region: Annotated[str, AWS_REGION]
    """AWS region, of any partition."""
    fips: bool = False
    """Use the FIPS endpoints."""
    dualstack: bool = False
    """Use the endpoints that speak IPv6, too."""
    profile: str = ""
    """Profile of AWS's configuration; the default chain of boto3 unless told."""
    role: Annotated[str, AWS_ROLE] = ""
    """Role that is assumed for this registry."""
    external_id: str = ""
    """External id that the role's trust policy asks for."""
    endpoint: Annotated[str, WEBHOOK] | None = None
    """Address of AWS's APIs where it is not the usual one."""
    events: SqsEvents | None = None
    """Queue in which the registry tells of pushes, scans and replications; without it, it is listed."""

    @property
    def host(self) -> str:
        """The registry's name in references; the domain follows from the region's partition."""
        return EcrHost(self.account, self.region, fips=self.fips, dualstack=self.dualstack).name

    def access(self) -> AwsAccess:
        """How AWS's APIs are asked for this registry."""
        from registry_pipelines.registry.ecr.access import AwsAccess

        return AwsAccess(
            region=self.region,
            profile=self.profile,
            role=self.role,
            external_id=self.external_id,
            endpoint=self.endpoint or "",
            fips=self.fips,
            dualstack=self.dualstack,
        )


class EcrPublicRegistry(CloudRegistry, frozen=True, kw_only=True):
    """Amazon ECR Public with a log-in, `public.ecr.aws`: to publish images there, or to read more than an address gets
    without (500 GB a month). A repository in a reference is `ALIAS/REPOSITORY`, and is made before the first push."""

    name: EntryName
    kind: Literal["ecr-public"]
    """The registry is Amazon ECR Public. Extra `aws`."""
    profile: str = ""
    """Profile of AWS's configuration; the default chain of boto3 unless told."""
    role: Annotated[str, AWS_ROLE] = ""
    """Role that is assumed for this registry."""
    external_id: str = ""
    """External id that the role's trust policy asks for."""
    endpoint: Annotated[str, WEBHOOK] | None = None
    """Address of AWS's APIs where it is not the usual one, which is in us-east-1."""

    @property
    def host(self) -> str:
        """The one registry that there is."""
        return PUBLIC_HOST

    def access(self) -> AwsAccess:
        """How AWS's APIs are asked for this registry."""
        from registry_pipelines.registry.ecr.access import AwsAccess

        return AwsAccess(
            region=PUBLIC_REGION,
            profile=self.profile,
            role=self.role,
            external_id=self.external_id,
            endpoint=self.endpoint or "",
        )


class GarRegistry(CloudRegistry, frozen=True, kw_only=True):
    """Google Artifact Registry: the repositories of one project in one location. A repository in a reference is
    `PROJECT/REPOSITORY/IMAGE`, as Google writes it. Google's application default credentials log in unless told."""

    name: EntryName
    kind: Annotated[Literal["gar"], GAR_INSTEAD]
    """The registry is Google Artifact Registry. Extra `google`."""
    project: Annotated[str, GOOGLE_PROJECT]
    """Google Cloud project."""
    location: Annotated[str, GOOGLE_LOCATION]
    """Region, or `us`, `europe`, `asia`."""
    gcr_host: Annotated[str, GOOGLE_HOST] | None = None
    """Name of the old Container Registry that leads here: `gcr.io`, `us.gcr.io`, `eu.gcr.io`, `asia.gcr.io`."""
    credentials: Annotated[Path, FILE] | None = None
    """JSON file of a service account, of workload identity federation, or of gcloud."""
    impersonate: Annotated[str, SERVICE_ACCOUNT] = ""
    """Service account that is impersonated for this registry."""
    endpoint: Annotated[str, WEBHOOK] | None = None
    """Address of Google's APIs where it is not the usual one."""
    events: PubSubEvents | None = None
    """Subscription in which the registry tells of pushes; without it, it is listed."""

    @property
    def host(self) -> str:
        """The registry's name in references."""
        return self.gcr_host or f"{self.location}-docker.pkg.dev"

    def access(self) -> GoogleAccess:
        """How Google's APIs are asked for this registry."""
        from registry_pipelines.registry.gar.access import GoogleAccess

        return GoogleAccess(
            project=self.project,
            location=self.location,
            credentials_file=self.credentials,
            impersonate=self.impersonate,
            endpoint=self.endpoint or "",
        )


__all__ = ["EcrPublicRegistry", "EcrRegistry", "GarRegistry"]
