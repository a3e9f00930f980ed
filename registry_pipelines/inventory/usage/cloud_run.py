"""Cloud Run: images of the revisions that get traffic or are the latest, and of jobs.

Source: Cloud Run Admin API v2 (run.googleapis.com: projects.locations.services, revisions, jobs). A revision keeps the
image as it was written; where that is a tag, Cloud Run itself keeps the digest that it was deployed with and does not
tell it here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from registry_pipelines.inventory.usage.google_rest import GoogleRest
from registry_pipelines.inventory.usage.model import Use
from registry_pipelines.oci.times import read_time

SERVICE = "run.googleapis.com"


class CloudRunSource:
    """See UsageSource. rest: of ``SERVICE``."""

    notes: Sequence[str] = (
        "Cloud Run tells tags as they were written: what they named at deployment may be another image",
    )

    def __init__(self, name: str, rest: GoogleRest, project: str, locations: Sequence[str]) -> None:
        self.name, self._rest, self._project, self._locations = name, rest, project, locations

    def uses(self) -> Iterator[Use]:
        """See UsageSource."""
        for location in self._locations:
            parent = f"/v2/projects/{self._project}/locations/{location}"
            for service in self._rest.pages(f"{parent}/services", "services"):
                yield from self._service(service)
            for job in self._rest.pages(f"{parent}/jobs", "jobs"):
                template = (job.get("template") or {}).get("template") or {}
                yield from self._containers(template, f"job {_last(job)}", job.get("updateTime"), running=False)

    def _service(self, service: dict[str, Any]) -> Iterator[Use]:
        wanted = {_last({"name": service.get(key, "")}) for key in ("latestReadyRevision", "latestCreatedRevision")}
        wanted |= {one.get("revision", "").rpartition("/")[2] for one in service.get("trafficStatuses", ())}
        yield from self._containers(
            service.get("template") or {}, f"service {_last(service)}", service.get("updateTime")
        )
        for revision in self._rest.pages(f"/v2/{service['name']}/revisions", "revisions"):
            if _last(revision) in wanted:
                where = f"service {_last(service)}, revision {_last(revision)}"
                yield from self._containers(revision, where, revision.get("createTime"))

    def _containers(
        self, template: dict[str, Any], where: str, since: str | None, *, running: bool = True
    ) -> Iterator[Use]:
        for container in template.get("containers", ()):
            if container.get("image"):
                moment = read_time(since or "")
                yield Use(source=self.name, image=container["image"], where=where, since=moment, running=running)


def _last(resource: dict[str, Any]) -> str:
    return str(resource.get("name", "")).rpartition("/")[2]
