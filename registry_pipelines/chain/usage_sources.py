"""Opens the sources of ``usage``: each with the client of its cloud, cluster or host. Nothing is asked here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry_pipelines.chain.session import Session
from registry_pipelines.errors import InputError
from registry_pipelines.settings import unknown

if TYPE_CHECKING:  # clouds are loaded where they are asked
    from registry_pipelines.config.usage import AwsUsage, ContainerdUsage, GoogleUsage, KubernetesUsage
    from registry_pipelines.inventory.usage.model import UsageSource
    from registry_pipelines.registry.ecr.calls import AwsCalls
    from registry_pipelines.registry.gar.access import GoogleAccess


def open_source(session: Session, name: str) -> UsageSource:
    """A source of the configuration; no cluster and no cloud is asked yet. Raises InputError,
    LocalError."""
    settings = session.config.usage.get(name)
    if settings is None:
        raise InputError(unknown(name, session.config.usage, "source of usage"), do="Name one of `usage`")
    match settings.kind:
        case "ecs":
            from registry_pipelines.inventory.usage.ecs import EcsSource

            return EcsSource(name, _aws(settings), settings.clusters)
        case "lambda":
            from registry_pipelines.inventory.usage.functions import LambdaSource

            return LambdaSource(name, _aws(settings))
        case "sagemaker":
            from registry_pipelines.inventory.usage.sagemaker import SageMakerSource

            return SageMakerSource(name, _aws(settings))
        case "inspector":
            from registry_pipelines.inventory.usage.inspector import InspectorSource

            return InspectorSource(name, _aws(settings))
        case "pulls":
            return _pulls(session, name)
        case "cloud-run":
            from registry_pipelines.inventory.usage import cloud_run
            from registry_pipelines.inventory.usage.google_rest import GoogleRest

            rest = GoogleRest(_google(settings), cloud_run.SERVICE)
            return cloud_run.CloudRunSource(name, rest, settings.project, settings.locations)
        case "vertex":
            from registry_pipelines.inventory.usage import vertex
            from registry_pipelines.inventory.usage.google_rest import GoogleRest

            rests = {each: GoogleRest(_google(settings), vertex.service(each)) for each in settings.locations}
            return vertex.VertexSource(name, rests, settings.project)
        case "kubernetes":
            return _kubernetes(name, settings)
        case "containerd":
            return _containerd(name, settings)
        case "docker":
            from registry_pipelines.inventory.usage.docker_hosts import DockerHost, DockerSource

            engines = [DockerHost(host, each.address, each.tls) for host, each in settings.hosts.items()]
            return DockerSource(name, engines, images=settings.images)
        case "file":
            from registry_pipelines.inventory.usage.files import FileSource

            return FileSource(name, settings.path, max_age=settings.max_age, now=session.now())


def _kubernetes(name: str, settings: KubernetesUsage) -> UsageSource:
    from registry_pipelines.inventory.usage.kube_access import by_kubeconfig, in_cluster
    from registry_pipelines.inventory.usage.kube_api import KubeApi
    from registry_pipelines.inventory.usage.kubernetes import KubernetesSource, resource_of

    path = settings.kubeconfig
    access = by_kubeconfig(path, settings.context) if path else in_cluster(settings.service_account)
    resources = [resource_of(each) for each in settings.resources]
    return KubernetesSource(name, KubeApi(access), settings.namespaces, resources)


def _containerd(name: str, settings: ContainerdUsage) -> UsageSource:
    from registry_pipelines.inventory.usage.containerd import ContainerdSource, CriHost, CtrHost, Host, SocketHost

    hosts: list[Host] = []
    for host, each in settings.hosts.items():
        if not each.command:
            hosts.append(SocketHost(host, each.socket))
        else:
            hosts.append((CtrHost if each.program == "ctr" else CriHost)(host, each.command))
    return ContainerdSource(name, hosts, namespaces=settings.namespaces, images=settings.images)


def _pulls(session: Session, name: str) -> UsageSource:
    from registry_pipelines.config.clouds import EcrRegistry
    from registry_pipelines.config.usage import PullUsage
    from registry_pipelines.inventory.usage.pulls import PullSource
    from registry_pipelines.registry.ecr.images import EcrImages

    settings = session.config.usage[name]
    registry = session.config.registries[settings.registry] if isinstance(settings, PullUsage) else None
    if not isinstance(settings, PullUsage) or not isinstance(registry, EcrRegistry):
        raise InputError(f"usage.{name}: {getattr(settings, 'registry', name)} is no registry of kind ecr")
    calls = _aws(settings)
    return PullSource(
        name,
        EcrImages(registry.account, calls.access, calls=calls),
        registry.host,
        within=settings.within,
        scanners=settings.scanners,
        now=session.now(),
    )


def _aws(settings: AwsUsage) -> AwsCalls:
    from registry_pipelines.registry.ecr.access import AwsAccess
    from registry_pipelines.registry.ecr.calls import AwsCalls

    return AwsCalls(
        AwsAccess(
            region=settings.region,
            profile=settings.profile,
            role=settings.role,
            external_id=settings.external_id,
            endpoint=settings.endpoint or "",
        )
    )


def _google(settings: GoogleUsage) -> GoogleAccess:
    from registry_pipelines.registry.gar.access import GoogleAccess

    return GoogleAccess(
        project=settings.project,
        credentials_file=settings.credentials,
        impersonate=settings.impersonate,
        endpoint=settings.endpoint or "",
    )
