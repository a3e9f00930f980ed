"""Amazon Inspector: which clusters of ECS and EKS have an image running, as it sees them.

Sources: botocore's model of Inspector (ListCoverage with ``ecrImageInUseCount``, GetClustersForImage). It tells of
images that it scans, and is late by as much as its scans are; other sources stand beside it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from registry_pipelines.inventory.usage.model import Use
from registry_pipelines.registry.ecr.calls import AwsCalls
from registry_pipelines.registry.ecr.hosts import EcrHost

_ARN = re.compile(r"arn:aws[a-z-]*:ecr:([a-z0-9-]+):(\d{12}):repository/(.+)/(sha256:[0-9a-f]{64})\Z")
IN_USE = {
    "resourceType": [{"comparison": "EQUALS", "value": "AWS_ECR_CONTAINER_IMAGE"}],
    "ecrImageInUseCount": [{"lowerInclusive": 1}],
}


class InspectorSource:
    """See UsageSource."""

    notes: Sequence[str] = ("Inspector tells of images that it scans alone",)

    def __init__(self, name: str, calls: AwsCalls) -> None:
        self.name, self._calls = name, calls

    def uses(self) -> Iterator[Use]:
        """See UsageSource."""
        for covered in self._pages("list_coverage", "coveredResources", filterCriteria=IN_USE):
            found = _ARN.match(covered.get("resourceId", ""))
            image = (covered.get("resourceMetadata") or {}).get("ecrImage") or {}
            if found is None or not image.get("inUseCount"):
                continue
            region, account, repository, digest = found.groups()
            clusters = list(self._clusters(covered["resourceId"]))
            yield Use(
                source=self.name,
                image=f"{EcrHost(account, region).name}/{repository}@{digest}",
                digest=digest,
                where=", ".join(clusters) or f"{image['inUseCount']} containers",
                since=image.get("lastInUseAt"),
            )

    def _clusters(self, arn: str) -> Iterator[str]:
        for cluster in self._pages("get_clusters_for_image", "cluster", filter={"resourceId": arn}):
            running = sum(int(one.get("runningUnitCount") or 0) for one in cluster.get("clusterDetails", ()))
            name = cluster["clusterArn"].rpartition("/")[2]
            service = cluster["clusterArn"].split(":")[2]
            yield f"{service} cluster {name} ({running} running)"

    def _pages(self, operation: str, listed: str, **values: Any) -> Iterator[Any]:
        return self._calls.pages(operation, listed, where=f"{self.name} (Inspector)", service="inspector2", **values)
