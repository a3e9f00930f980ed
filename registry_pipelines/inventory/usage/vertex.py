"""Vertex AI: containers of models that endpoints have deployed, and of custom jobs that run or wait.

Source: Vertex AI API v1 (aiplatform.googleapis.com: endpoints, models, customJobs).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from registry_pipelines.inventory.usage.google_rest import GoogleRest
from registry_pipelines.inventory.usage.model import Use
from registry_pipelines.oci.times import read_time

UNDER_WAY = 'state="JOB_STATE_RUNNING" OR state="JOB_STATE_PENDING" OR state="JOB_STATE_QUEUED"'


def service(location: str) -> str:
    """The host of a location's API."""
    return f"{location}-aiplatform.googleapis.com"


class VertexSource:
    """See UsageSource. rests: by location."""

    notes: Sequence[str] = ()

    def __init__(self, name: str, rests: dict[str, GoogleRest], project: str) -> None:
        self.name, self._rests, self._project = name, rests, project

    def uses(self) -> Iterator[Use]:
        """See UsageSource."""
        for location, rest in self._rests.items():
            parent = f"/v1/projects/{self._project}/locations/{location}"
            for endpoint in rest.pages(f"{parent}/endpoints", "endpoints"):
                name = endpoint.get("displayName") or endpoint["name"].rpartition("/")[2]
                for deployed in endpoint.get("deployedModels", ()):
                    yield from self._model(rest, deployed, f"endpoint {name}")
            for job in rest.pages(f"{parent}/customJobs", "customJobs", filter=UNDER_WAY):
                for pool in (job.get("jobSpec") or {}).get("workerPoolSpecs", ()):
                    image = (pool.get("containerSpec") or {}).get("imageUri") or _executor(pool)
                    yield from self._one(image, f"custom job {job.get('displayName', '')}", job.get("startTime"))

    def _model(self, rest: GoogleRest, deployed: dict[str, Any], where: str) -> Iterator[Use]:
        version = deployed.get("modelVersionId")
        name = deployed["model"] if "@" in deployed["model"] or not version else f"{deployed['model']}@{version}"
        image = (rest.get(f"/v1/{name}").get("containerSpec") or {}).get("imageUri")
        yield from self._one(image, where, deployed.get("createTime"))

    def _one(self, image: str | None, where: str, since: str | None) -> Iterator[Use]:
        if image:
            yield Use(source=self.name, image=image, where=where, since=read_time(since or ""))


def _executor(pool: dict[str, Any]) -> str:
    return str((pool.get("pythonPackageSpec") or {}).get("executorImageUri") or "")
