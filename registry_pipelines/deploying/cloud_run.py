"""A service of Cloud Run: each image is a new revision, and traffic is moved to it.

Source: Cloud Run Admin API v2 (run.googleapis.com: projects.locations.services, revisions). A service is patched with
its ``etag``, so that nothing is written over what somebody else just wrote; what it says besides stays as it was read.
A revision keeps the image as it was written: by digest that is what runs, by tag nobody says what does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from registry_pipelines.deploying.kube_status import mapping, mappings, number
from registry_pipelines.deploying.platform import RELEASE, Instance, Look
from registry_pipelines.errors import ContentError, Forbidden, InputError, NotFound
from registry_pipelines.inventory.usage.google_rest import GoogleRest
from registry_pipelines.settings import unknown

LATEST = "TRAFFIC_TARGET_ALLOCATION_TYPE_LATEST"
REVISION = "TRAFFIC_TARGET_ALLOCATION_TYPE_REVISION"
SUCCEEDED, FAILED = "CONDITION_SUCCEEDED", "CONDITION_FAILED"
SERVED = "registry-pipelines/revision"
"""Annotation: the revision that had most of the traffic before the last roll-out of ours."""
WRITTEN = "template,traffic,annotations"
"""What a patch of ours may change."""


class Service:
    """See Platform. container: empty for the only one, or the one that takes requests. first: percent of the traffic
    that a new revision gets until :meth:`widen`."""

    def __init__(
        self, rest: GoogleRest, *, project: str, location: str, service: str, container: str = "", first: int = 100
    ) -> None:
        self._rest, self._project, self._name = rest, project, service
        self._container, self._first = container, first
        self._location = location
        self._path = f"/v2/projects/{project}/locations/{location}/services/{service}"

    @property
    def where(self) -> str:
        """See Platform."""
        inside = f", container {self._container}" if self._container else ""
        return f"Cloud Run {self._project}/{self._location}, service {self._name}{inside}"

    def close(self) -> None:
        """See Platform: nothing is kept open."""

    def look(self) -> Look:
        """See Platform. Raises ContentError for an answer that is no service."""
        service = self._get(self._path, "run.services.get")
        containers = self._containers(service)
        at = self._position(containers)
        annotations = {str(key): str(value) for key, value in mapping(service.get("annotations")).items()}
        written = str(containers[at]["image"])
        terminal = mapping(service.get("terminalCondition"))
        seen = service.get("observedGeneration") == service.get("generation") and not service.get("reconciling")
        parted = annotations.get(RELEASE) == written and _latest_percent(service) < 100
        told = _told(terminal)
        return Look(
            written=written,
            instances=tuple(self._instances(service, parted=parted, container=str(containers[at].get("name") or ""))),
            settled=bool(seen and terminal.get("state") == SUCCEEDED),
            progress=told if seen else f"it is reconciled{f' ({told})' if told else ''}",
            failed=f"the revision did not come up: {told}" if seen and terminal.get("state") == FAILED else "",
            # Traffic that somebody moved away and back is another state, too.
            revision=f"{_last(service.get('latestReadyRevision'))}/{service.get('generation') or ''}",
            setter=str(service.get("lastModifier") or ""),
            version=str(service.get("etag") or ""),
            annotations=annotations,
            parted=parted,
            raw={"service": service, "at": at},
        )

    def change(self, seen: Look, image: str, annotations: Mapping[str, str], *, back: bool = False) -> None:
        """See Platform. Back: the revision that served before gets all of the traffic in the same write, and does not
        wait for one to be made."""
        service = seen.raw["service"]
        template = {key: value for key, value in service["template"].items() if key != "revision"}
        containers = [dict(each) for each in template["containers"]]
        containers[seen.raw["at"]]["image"] = image
        served = seen.annotations.get(SERVED, "") if back else _served(service)
        first = 0 if back and served else self._first if served else 100
        self._patch(
            seen,
            template={**template, "containers": containers},
            traffic=_traffic(service, first, served if back else ""),
            annotations={**seen.annotations, **annotations, **({SERVED: served} if served else {})},
        )

    def unblock(self, seen: Look, given_up: str) -> list[str]:
        """See Platform: a revision waits for no other."""
        return []

    def widen(self, seen: Look) -> bool:
        """See Platform."""
        service = seen.raw["service"]
        if _latest_percent(service) == 100:
            return False
        self._patch(
            seen, template=service["template"], traffic=_traffic(service, 100, ""), annotations=dict(seen.annotations)
        )
        return True

    def _patch(self, seen: Look, **changed: Any) -> None:
        body = {"name": self._path.removeprefix("/v2/"), "etag": seen.version, **changed}
        try:
            self._rest.patch(self._path, body, updateMask=WRITTEN)
        except Forbidden as error:
            raise self._denied(error, "run.services.update, and iam.serviceaccounts.actAs for its account") from error

    def _get(self, path: str, permission: str) -> dict[str, Any]:
        try:
            return self._rest.get(path)
        except Forbidden as error:
            raise self._denied(error, permission) from error
        except NotFound as error:
            raise NotFound(
                f"there is no {path.rpartition('/')[0].rpartition('/')[2][:-1]} {path.rpartition('/')[2]}",
                where=f"Cloud Run {self._project}/{self._location}",
                do="Make it first (this changes the image of what is there), or correct `service` and `location`",
            ) from error

    def _denied(self, error: Forbidden, permission: str) -> Forbidden:
        return Forbidden(
            f"{error.what}; it needs {permission}",
            where=self.where,
            do="Give the account the role of docs/deployment.md",
            status=error.status,
        )

    def _containers(self, service: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Raises ContentError."""
        containers = mappings(mapping(service.get("template")).get("containers"))
        if not containers or not all(isinstance(each.get("image"), str) for each in containers):
            raise ContentError("a container of the service has no image", where=self.where)
        return containers

    def _position(self, containers: list[dict[str, Any]]) -> int:
        """Which container is changed. Raises InputError."""
        if self._container:
            names = [str(each.get("name") or "") for each in containers]
            if self._container not in names:
                raise InputError(unknown(self._container, names, f"container of {self._name}"), where=self.where)
            return names.index(self._container)
        taking = [at for at, each in enumerate(containers) if len(containers) == 1 or each.get("ports")]
        if len(taking) != 1:
            names = [str(each.get("name") or "") for each in containers]
            raise InputError(
                f"{self._name} has several containers: {', '.join(names)}", where=self.where, do="Say `container`"
            )
        return taking[0]

    def _instances(self, service: Mapping[str, Any], *, parted: bool, container: str) -> Iterator[Instance]:
        """Revisions that get traffic; while a new one has its first part, that one alone."""
        latest = _last(service.get("latestReadyRevision"))
        parts = _parts(service)
        for name in [latest] if parted and latest else parts:
            revision = self._get(f"{self._path}/revisions/{name}", "run.revisions.get")
            images = {str(each.get("name") or ""): each.get("image") for each in mappings(revision.get("containers"))}
            image = str(images.get(container) or (next(iter(images.values()), "") if len(images) == 1 else ""))
            conditions = {str(each.get("type")): each for each in mappings(revision.get("conditions"))}
            ready = conditions.get("Ready", {})
            up = ready.get("state") == SUCCEEDED
            yield Instance(name, image, up, trouble="" if up else _told(ready))


def _parts(service: Mapping[str, Any]) -> dict[str, int]:
    """Percent of the traffic by revision, as it is; without those that get none."""
    found: dict[str, int] = {}
    for each in mappings(service.get("trafficStatuses")):
        # Of the latest revision the name is not said here.
        name = _last(each.get("revision")) or _last(service.get("latestReadyRevision"))
        if name and number(each, "percent"):
            found[name] = found.get(name, 0) + number(each, "percent")
    return found


def _served(service: Mapping[str, Any]) -> str:
    parts = _parts(service)
    return max(parts, key=lambda name: parts[name], default="")


def _latest_percent(service: Mapping[str, Any]) -> int:
    """What the latest revision is to get, by what is written; all where nothing is."""
    traffic = mappings(service.get("traffic"))
    if not traffic:
        return 100
    return sum(number(each, "percent") for each in traffic if each.get("type") == LATEST)


def _traffic(service: Mapping[str, Any], percent: int, pinned: str) -> list[dict[str, Any]]:
    """Targets: the latest revision gets ``percent``, the rest stays with those that have the traffic now, or goes to
    ``pinned``. Tags, which give revisions an address of their own, stay."""
    tags = [{**each, "percent": 0} for each in mappings(service.get("traffic")) if each.get("tag")]
    rest = {pinned: 100} if pinned else _parts(service)
    left, whole = 100 - percent, sum(rest.values()) or 1
    others: list[dict[str, Any]] = [
        {"type": REVISION, "revision": name, "percent": share * left // whole} for name, share in rest.items() if left
    ]
    if others:
        others[0]["percent"] += left - sum(each["percent"] for each in others)
    own = [{"type": LATEST, "percent": percent}] if percent else []
    return [*own, *(each for each in others if each["percent"]), *tags]


def _told(condition: Mapping[str, Any]) -> str:
    """``HealthCheckContainerError: The user-provided container failed to start``."""
    reason = next((str(condition[key]) for key in ("reason", "revisionReason") if condition.get(key)), "")
    message = str(condition.get("message") or "")[:300]
    return ": ".join(each for each in (reason, message) if each) or str(condition.get("state") or "")


def _last(name: object) -> str:
    return str(name or "").rpartition("/")[2]


__all__ = ["Service"]
