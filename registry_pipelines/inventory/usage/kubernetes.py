"""Kubernetes: what containers of pods run, by digest, and what every kind of workload would start.

Pods tell what runs (``imageID``), all others hold templates of pods, from which the next pod is made: old ReplicaSets
and ControllerRevisions are what a roll-back starts, a suspended CronJob is what it starts next month. Sources: core/v1,
apps/v1 and batch/v1 of Kubernetes (PodStatus, ContainerStatus, ImageVolumeSource, ControllerRevision).
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from registry_pipelines.errors import ContentError, ManifestInvalid, NotFound
from registry_pipelines.inventory.usage.kube_api import KubeApi
from registry_pipelines.inventory.usage.model import Use, split_image_id
from registry_pipelines.inventory.usage.workloads import CONTAINERS, POD_SPECS, images_of
from registry_pipelines.oci.times import read_time

SHOWN = 5
"""Namespaces that an error names."""
STATUSES = {
    "containerStatuses": "containers",
    "initContainerStatuses": "initContainers",
    "ephemeralContainerStatuses": "ephemeralContainers",
}
"""Lists of a pod's status, and the lists of its spec that they are about."""
OVER = frozenset({"Succeeded", "Failed"})
"""Phases of pods whose containers have ended."""
MAX_CONTAINERS = 2048
"""Of one pod; as many as ``workloads`` reads."""


class Resource(NamedTuple):
    """A kind whose objects hold pods, and where they are listed."""

    group: str
    version: str
    plural: str
    kind: str

    @property
    def root(self) -> str:
        """``/apis/apps/v1``; the core's is ``/api/v1``."""
        return f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"


PODS = Resource("", "v1", "pods", "Pod")
TEMPLATES = (
    Resource("", "v1", "replicationcontrollers", "ReplicationController"),
    Resource("", "v1", "podtemplates", "PodTemplate"),
    Resource("apps", "v1", "deployments", "Deployment"),
    Resource("apps", "v1", "replicasets", "ReplicaSet"),
    Resource("apps", "v1", "statefulsets", "StatefulSet"),
    Resource("apps", "v1", "daemonsets", "DaemonSet"),
    Resource("apps", "v1", "controllerrevisions", "ControllerRevision"),
    Resource("batch", "v1", "jobs", "Job"),
    Resource("batch", "v1", "cronjobs", "CronJob"),
)


def resource_of(text: str) -> Resource:
    """A further kind, as ``argoproj.io/v1alpha1/rollouts``. Its objects are searched whole for lists of containers."""
    group, version, plural = text.split("/")
    return Resource(group, version, plural, plural)


class KubernetesSource:
    """See UsageSource. namespaces: patterns. resources: further kinds."""

    notes: Sequence[str] = ()

    def __init__(
        self, name: str, api: KubeApi, namespaces: Sequence[str] = ("*",), resources: Sequence[Resource] = ()
    ) -> None:
        self.name, self._api, self._patterns = name, api, namespaces
        self._resources = (*TEMPLATES, *resources)

    def uses(self) -> Iterator[Use]:
        """See UsageSource. A pattern that names no namespace is an error: one that is misspelt would look as if nothing
        ran there."""
        try:
            inside = self._namespaces()
            yield from self._once(PODS, inside, self._of_pod)
            for resource in self._resources:
                yield from self._once(resource, inside, self._of_template)
        finally:
            self._api.close()

    def _namespaces(self) -> list[str]:
        """The parts of paths that lists are below; one empty part for all of the cluster."""
        if "*" in self._patterns:
            return [""]
        if not any(set("*?[") & set(pattern) for pattern in self._patterns):
            # No list of namespaces is asked for: an account of one team may not have it.
            for name in self._patterns:
                self._api.get(f"/api/v1/namespaces/{name}")
            return [f"/namespaces/{name}" for name in self._patterns]
        there = sorted(str(each["metadata"]["name"]) for each in self._api.items("/api/v1/namespaces"))
        for pattern in self._patterns:
            if not fnmatch.filter(there, pattern):
                listed = ", ".join(there[:SHOWN])
                raise NotFound(
                    f"no namespace is called {pattern}: {listed}", where=self._api.host, do="Correct `namespaces`"
                )
        return [
            f"/namespaces/{name}" for name in there if any(fnmatch.fnmatchcase(name, one) for one in self._patterns)
        ]

    def _once(self, resource: Resource, inside: Iterable[str], read: Any) -> Iterator[Use]:
        """All uses of a kind, each once: many pods of one Deployment say the same, and a list that was begun again
        repeats itself."""
        told: set[Use] = set()
        for part in inside:
            for item in self._api.items(f"{resource.root}{part}/{resource.plural}"):
                for use in read(resource, item):
                    if use not in told:
                        told.add(use)
                        yield use

    def _of_template(self, resource: Resource, item: dict[str, Any]) -> Iterator[Use]:
        where = _where(resource, item)
        try:
            images = images_of(resource, item)
        except ContentError as error:
            # Of kinds that are not Kubernetes' own, and revisions of something else, some have no pod.
            if isinstance(error, ManifestInvalid) or (resource.group, resource.kind) in POD_SPECS:
                raise
            return
        for each in images:
            if each.image:
                yield Use(source=self.name, image=each.image, where=f"{where}, {each.what}", running=False)

    def _of_pod(self, resource: Resource, item: dict[str, Any]) -> Iterator[Use]:
        where, status = _where(resource, item), item.get("status") or {}
        running = status.get("phase") not in OVER
        since = read_time(str(status.get("startTime") or (item.get("metadata") or {}).get("creationTimestamp") or ""))
        for each in images_of(resource, item):
            if each.image:
                yield Use(
                    source=self.name,
                    image=each.image,
                    where=f"{where}, {each.what}",
                    since=since,
                    running=running,
                )
        for name, image, image_id in _statuses(status):
            yield from uses_of_container(
                image, image_id, source=self.name, where=f"{where}, {name}", since=since, running=running
            )


def uses_of_container(image: str, image_id: str, **more: Any) -> Iterator[Use]:
    """What a container's status says runs: by the name that it was asked for, and by the one that it was found under.
    more: of :class:`Use`. The name alone is left to who reads the container's spec."""
    reference, digest, config = split_image_id(image_id)
    named = image if not image.startswith("sha256:") else ""
    if digest or config:
        yield Use(image=named or reference, digest=digest, config=config, **more)
    if reference and named and reference != named and _name_of(reference) != _name_of(named):
        yield Use(image=reference, digest=digest, config=config, **more)


def _name_of(reference: str) -> str:
    """Without digest and tag."""
    before = reference.partition("@")[0]
    last = before.rpartition("/")[2]
    return before.removesuffix(f":{last.partition(':')[2]}") if ":" in last else before


def _statuses(status: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Of each container (what, for people; image; imageID), and of images that are mounted as volumes."""
    for field, list_name in STATUSES.items():
        for each in _mappings(status.get(field)):
            what = f"{CONTAINERS[list_name]} {str(each.get('name') or '')[:63]!r}"
            yield what, str(each.get("image") or ""), str(each.get("imageID") or "")
            for mounted in _mappings(each.get("volumeMounts")):
                told = ((mounted.get("volumeStatus") or {}).get("image") or {}).get("imageRef")
                if told:
                    yield f"volume {str(mounted.get('name') or '')[:63]!r} of {what}", "", str(told)


def _mappings(value: Any) -> list[dict[str, Any]]:
    listed = value if isinstance(value, list) else []
    return [each for each in listed[:MAX_CONTAINERS] if isinstance(each, dict)]


def _where(resource: Resource, item: dict[str, Any]) -> str:
    """The workload, without the part of its pods' names that a controller makes up: its pods say the same."""
    metadata = item.get("metadata") or {}
    owner = next((each for each in _mappings(metadata.get("ownerReferences")) if each.get("controller")), None)
    kind, name = resource.kind, str(metadata.get("name") or "")
    if owner is not None and resource is PODS:
        kind, name = f"pods of {owner.get('kind')}", str(owner.get("name") or "")
    return f"namespace {metadata.get('namespace', '')}, {kind} {name}"


__all__ = ["KubernetesSource", "Resource", "resource_of", "uses_of_container"]
