"""Opens what a deployment needs: the platform, and the place that it pulls from. Nothing is changed here."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from registry_pipelines.chain.places import address
from registry_pipelines.chain.session import Session
from registry_pipelines.deploying.model import CloudRunDeploy, DeploySettings, KubernetesDeploy
from registry_pipelines.deploying.rollout import Wanted
from registry_pipelines.errors import InputError, NotFound
from registry_pipelines.registry.platforms import read_entries
from registry_pipelines.registry.protocol import Place
from registry_pipelines.registry.tags import digest_at
from registry_pipelines.release import Release

if TYPE_CHECKING:  # clouds and clusters are loaded where they are asked
    from registry_pipelines.deploying.platform import Platform
    from registry_pipelines.inventory.usage.google_rest import GoogleRest
    from registry_pipelines.inventory.usage.kube_access import KubeAccess


def open_platform(settings: DeploySettings) -> Platform:
    """The platform of a deployment; Cloud Run is not asked yet, the way to a cluster is found. Raises InputError,
    ToolMissing, LocalError, RegistryError."""
    if isinstance(settings, CloudRunDeploy):
        from registry_pipelines.deploying.cloud_run import Service
        from registry_pipelines.inventory.usage.cloud_run import SERVICE

        return Service(
            _google(settings, SERVICE),
            project=settings.project,
            location=settings.location,
            service=settings.service,
            container=settings.container,
            first=settings.traffic,
        )
    from registry_pipelines.deploying.kubernetes import Workload
    from registry_pipelines.inventory.usage.kube_api import KubeApi

    way = _way(settings)
    return Workload(
        KubeApi(way(), renew=way),
        namespace=settings.namespace,
        kind=settings.workload,
        name=settings.object,
        container=settings.container,
    )


def _way(settings: KubernetesDeploy) -> Callable[[], KubeAccess]:
    """How the cluster is reached, asked again when a token has ended: a roll-out may last longer than one."""
    from registry_pipelines.inventory.usage.kube_access import by_kubeconfig, in_cluster

    if eks := settings.eks:
        from registry_pipelines.deploying.eks import eks_access
        from registry_pipelines.registry.ecr.access import AwsAccess
        from registry_pipelines.registry.ecr.calls import AwsCalls

        calls = AwsCalls(AwsAccess(eks.region, eks.profile, eks.role, endpoint=eks.endpoint or ""))
        return lambda: eks_access(calls, eks.cluster)
    if gke := settings.gke:
        from registry_pipelines.deploying import gke as clusters

        rest = _google(gke, clusters.SERVICE)
        return lambda: clusters.gke_access(rest, project=gke.project, location=gke.location, cluster=gke.cluster)
    path = settings.kubeconfig
    if path is None:
        return lambda: in_cluster(settings.service_account)
    return lambda: by_kubeconfig(path, settings.context)


def _google(settings: object, service: str) -> GoogleRest:
    from registry_pipelines.inventory.usage.google_rest import GoogleRest
    from registry_pipelines.registry.gar.access import GoogleAccess

    told = {name: getattr(settings, name) for name in ("project", "impersonate")}
    access = GoogleAccess(
        **told,
        credentials_file=getattr(settings, "credentials", None),
        endpoint=getattr(settings, "endpoint", None) or "",
    )
    return GoogleRest(access, service)


def wanted_at(session: Session, settings: DeploySettings, release: Release) -> Wanted:
    """What a deployment is to run: the release as it pulls it, and every digest that a runtime may call it by. Raises
    NotFound (it is not at the registry that is pulled from), InputError, RegistryError."""
    place, name = _pulled_from(session, settings)
    if digest_at(place, release.digest) is None:
        raise NotFound(
            f"{release.image}:{release.tag} is not at {name}, from which {settings.name} pulls",
            where=f"{place}@{release.digest}",
            do=f"Bring it there (`registry-pipelines replicate {release.image}:{release.tag}`, or the mirror), "
            "then deploy it",
        )
    host = settings.pulled_as or address(session.config.registries[name])
    if not host:
        raise InputError(
            f"deploy.{settings.name}: {name} is a folder or a store, from which nothing is pulled",
            do="Say `registry`: one that has an address; or `pulled_as`",
        )
    source = session.source(release)
    top = source.registry.get_manifest(source.repository, release.digest)
    digests = {str(release.digest)}
    for entry in read_entries(source, top):
        digests.add(str(entry.digest))
        if entry.kind == "image":
            digests.add(str(entry.manifest.config.digest))
    return Wanted(f"{host}/{place.repository}@{release.digest}", frozenset(digests))


def _pulled_from(session: Session, settings: DeploySettings) -> tuple[Place, str]:
    """Where it pulls from, and the name of that registry. Raises InputError: the image does not come there."""
    image = session.image(settings.image)
    wanted = settings.registry or image.registry
    for place, name in zip(session.places_of(image), _names_of(session, settings), strict=True):
        if name == wanted:
            return place, name
    raise InputError(f"{image.name} does not come to {wanted}", do=f"Correct `deploy.{settings.name}.registry`")


def _names_of(session: Session, settings: DeploySettings) -> list[str]:
    """The registries of :meth:`Session.places_of`, in its order."""
    config, image = session.config, session.image(settings.image)
    mirrors = [mirror for mirror in config.mirrors.values() if image.name in mirror.images]
    targets = [config.targets[target].registry for target in image.targets]
    return [image.registry, *targets, *(stop for mirror in mirrors for stop in mirror.stops)]
