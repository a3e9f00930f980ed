"""A workload of a cluster of Kubernetes: a Deployment, StatefulSet or DaemonSet whose image is changed by digest.

Written with a strategic merge patch, in which a container is found by its name and everything else stays, with
``resourceVersion`` so that nothing is written over what somebody else just wrote, and as field manager ``MANAGER``. An
apply (server side) would make the object where it is gone. Sources: apps/v1 and core/v1 of Kubernetes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlencode

from registry_pipelines.deploying.kube_pods import belongs, instance_of, stuck_in
from registry_pipelines.deploying.kube_status import mapping, mappings, progress_of, setter_of
from registry_pipelines.deploying.platform import CONFLICT, Look
from registry_pipelines.errors import ContentError, Forbidden, InputError, NotFound, RegistryError
from registry_pipelines.inventory.usage.kube_api import KubeApi
from registry_pipelines.inventory.usage.kubernetes import OVER
from registry_pipelines.settings import unknown

MANAGER = "registry-pipelines"
"""Field manager of what is written: ``kubectl get --show-managed-fields`` shows it."""
PLURALS = {"deployment": "deployments", "statefulset": "statefulsets", "daemonset": "daemonsets"}
LISTS = ("containers", "initContainers")
"""Lists of a pod template in which a container may be named, and those of a pod's status beside them."""
CAUSE = "kubernetes.io/change-cause"
"""What ``kubectl rollout history`` shows."""


class Workload:
    """See Platform. container: empty for the only one."""

    def __init__(self, api: KubeApi, *, namespace: str, kind: str, name: str, container: str = "") -> None:
        self._api, self._namespace, self._kind, self._name, self._container = api, namespace, kind, name, container
        self._path = f"/apis/apps/v1/namespaces/{namespace}/{PLURALS[kind]}/{name}"

    @property
    def where(self) -> str:
        """See Platform."""
        inside = f", container {self._container}" if self._container else ""
        return f"cluster {self._api.host}, {self._kind} {self._namespace}/{self._name}{inside}"

    def close(self) -> None:
        """See Platform."""
        self._api.close()

    def look(self) -> Look:
        """See Platform. Raises ContentError for an answer that is no workload."""
        document = self._read()
        listed, container = self._find(document)
        done = progress_of(self._kind, document)
        metadata, status = mapping(document.get("metadata")), "containerStatuses"
        if listed == "initContainers":
            status = "initContainerStatuses"
        pods = list(self._own(document))
        stuck = stuck_in(pods, document, listed, container["name"]) if self._kind == "statefulset" else []
        return Look(
            written=container["image"],
            instances=tuple(instance_of(pod, container["name"], status) for pod in pods),
            settled=done.settled,
            progress=done.text,
            failed=done.failed,
            blocked=done.blocked,
            revision=done.revision,
            setter=setter_of(document, listed, container["name"]),
            version=str(metadata.get("resourceVersion") or ""),
            annotations={str(key): str(value) for key, value in mapping(metadata.get("annotations")).items()},
            raw={"list": listed, "name": container["name"], "stuck": stuck},
        )

    def change(self, seen: Look, image: str, annotations: Mapping[str, str], *, back: bool = False) -> None:
        """See Platform."""
        template = {"spec": {seen.raw["list"]: [{"name": seen.raw["name"], "image": image}]}}
        cause = f"registry-pipelines: {'back to ' if back else ''}{image}"
        patch = {
            "metadata": {"resourceVersion": seen.version, "annotations": {**annotations, CAUSE: cause}},
            "spec": {"template": template},
        }
        query = urlencode({"fieldManager": MANAGER})
        try:
            self._api.patch(f"{self._path}?{query}", patch)
        except Forbidden as error:
            raise self._denied(error, "patch", PLURALS[self._kind]) from error

    def widen(self, seen: Look) -> bool:
        """See Platform: a Service gives all ready pods their part."""
        return False

    def unblock(self, seen: Look, given_up: str) -> list[str]:
        """See Platform. A pod that only starts may come up by itself, unless its image was given up."""
        deleted: list[str] = []
        for pod in seen.raw["stuck"]:
            if not pod.trouble and pod.image != given_up:
                continue
            try:
                self._api.delete(f"/api/v1/namespaces/{self._namespace}/pods/{pod.name}", pod.uid)
                deleted.append(pod.name)
            except Forbidden as error:
                raise self._denied(error, "delete", "pods") from error
            except RegistryError as error:
                if not isinstance(error, NotFound) and error.status != CONFLICT:  # gone; another has its name by now
                    raise
        return deleted

    def _read(self) -> dict[str, Any]:
        try:
            return self._api.get(self._path)
        except Forbidden as error:
            raise self._denied(error, "get", PLURALS[self._kind]) from error
        except NotFound as error:
            raise NotFound(
                f"there is no {self._kind} {self._name} in namespace {self._namespace}",
                where=self._api.host,
                do="Make it first (this changes the image of what is there), or correct `object` and `namespace`",
            ) from error

    def _denied(self, error: Forbidden, verb: str, resource: str) -> Forbidden:
        group = "" if resource == "pods" else "apps"
        return Forbidden(
            f"{error.what}; it needs the verb {verb} for {resource}{f'.{group}' if group else ''}",
            where=f"{self._api.host}, namespace {self._namespace}",
            do="Bind the Role of docs/deployment.md to this account",
            status=error.status,
        )

    def _find(self, document: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        """The container that is changed, and the list it is in. Raises InputError, ContentError."""
        spec = _inside(document, "spec", "template", "spec")
        found: dict[str, tuple[str, dict[str, Any]]] = {}
        for listed in LISTS:
            for each in mappings(spec.get(listed)):
                if not isinstance(each.get("image"), str):
                    raise ContentError(f"a container of {self._name} has no image", where=self.where)
                found[str(each.get("name"))] = (listed, each)
        mains = [name for name, (listed, _) in found.items() if listed == "containers"]
        name = self._container or (mains[0] if len(mains) == 1 else "")
        if not name:
            raise InputError(
                f"{self._name} has several containers: {', '.join(mains)}", where=self.where, do="Say `container`"
            )
        if name not in found:
            # A merge patch would add one of that name.
            raise InputError(unknown(name, found, f"container of {self._name}"), where=self.where)
        return found[name]

    def _own(self, document: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """Its pods, but those that are going or have ended."""
        for pod in self._pods(_inside(document, "spec", "selector")):
            state = mapping(pod.get("status"))
            over = mapping(pod.get("metadata")).get("deletionTimestamp") or state.get("phase") in OVER
            if not over and belongs(pod, document, self._kind):
                yield pod

    def _pods(self, selector: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        path = f"/api/v1/namespaces/{self._namespace}/pods"
        try:
            yield from self._api.items(path, labelSelector=_selector(selector))
        except Forbidden as error:
            raise self._denied(error, "list", "pods") from error


def _inside(document: Mapping[str, Any], *path: str) -> dict[str, Any]:
    found: Any = document
    for part in path:
        found = found.get(part) if isinstance(found, dict) else None
    if not isinstance(found, dict):
        raise ContentError(f"the workload has no {'.'.join(path)}")
    return found


def _selector(selector: Mapping[str, Any]) -> str:
    """As a list takes it. Operators: In, NotIn, Exists, DoesNotExist."""
    parts = [f"{key}={value}" for key, value in mapping(selector.get("matchLabels")).items()]
    for each in mappings(selector.get("matchExpressions")):
        key, operator, listed = str(each.get("key")), str(each.get("operator")), each.get("values")
        values = ",".join(map(str, listed if isinstance(listed, list) else ()))
        forms = {"In": f"{key} in ({values})", "NotIn": f"{key} notin ({values})", "Exists": key}
        parts.append(forms.get(operator, f"!{key}"))
    if not parts:
        raise ContentError("the workload selects no pods by label")
    return ",".join(parts)


__all__ = ["MANAGER", "Workload"]
