"""Which client speaks to a host: ECR's own where the name is ECR's, Artifact Registry's where it is Google's, the
distribution client for all others."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.client.distribution import HttpRegistry
from registry_pipelines.registry.ecr.hosts import PUBLIC_HOST, read_host

if TYPE_CHECKING:  # most who start ask no cloud
    from registry_pipelines.registry.ecr.access import AwsAccess
    from registry_pipelines.registry.gar.access import GoogleAccess


def remote_registry(
    host: str,
    *,
    username: str = "",
    password: str = "",
    plain_http: bool | None = None,
    ca_file: Path | None = None,
    docker_config: Path | None = None,
    aws_profile: str = "",
    redirects: Sequence[str] = (),
) -> HttpRegistry:
    """A client for ``host[:port]``; no network yet. See DistributionRegistry and EcrRegistry for the options.

    Whoever gives a user name or a docker_config has a log-in already, so ECR then is any distribution registry; that
    needs neither boto3 nor AWS credentials. Without one Google's hosts are asked with application default credentials
    where there are any, else as any other host: with Docker's log-in, or with none, for much there is public.
    """
    if read_host(host) and not username and docker_config is None:
        from registry_pipelines.registry.ecr.registry import EcrRegistry  # most who start have no ECR

        return EcrRegistry(host, profile=aws_profile, plain_http=plain_http, ca_file=ca_file, redirects=redirects)
    if host.endswith(("gcr.io", "-docker.pkg.dev")) and not username and docker_config is None:
        from registry_pipelines.registry.gar.access import GoogleAccess
        from registry_pipelines.registry.gar.defaults import has_defaults
        from registry_pipelines.registry.gar.hosts import read_host as read_google_host
        from registry_pipelines.registry.gar.registry import GarRegistry

        if read_google_host(host):
            access = GoogleAccess() if has_defaults() else None
            return GarRegistry(host, access=access, plain_http=plain_http, ca_file=ca_file, redirects=redirects)
    return DistributionRegistry(
        host,
        username=username,
        password=password,
        plain_http=plain_http,
        ca_file=ca_file,
        docker_config=docker_config,
        redirects=redirects,
    )


def cloud_registry(
    host: str,
    access: AwsAccess | GoogleAccess,
    *,
    dial: str = "",
    plain_http: bool | None = None,
    ca_file: Path | None = None,
    redirects: Sequence[str] = (),
) -> HttpRegistry:
    """A client for a registry of a cloud whose API is asked as ``access`` says; no network yet. dial: ``host[:port]``
    it is reached by, where that is not its name."""
    if read_host(host):
        from registry_pipelines.registry.ecr.registry import EcrRegistry

        aws = cast("AwsAccess", access)
        return EcrRegistry(host, access=aws, dial=dial, plain_http=plain_http, ca_file=ca_file, redirects=redirects)
    if host == PUBLIC_HOST:
        from registry_pipelines.registry.ecr.public import PublicLogin

        login = PublicLogin(cast("AwsAccess", access))
        return DistributionRegistry(
            host, finder=login, dial=dial, plain_http=plain_http, ca_file=ca_file, redirects=redirects
        )
    from registry_pipelines.registry.gar.registry import GarRegistry

    google = cast("GoogleAccess", access)
    return GarRegistry(host, access=google, dial=dial, plain_http=plain_http, ca_file=ca_file, redirects=redirects)
