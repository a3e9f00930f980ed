"""Amazon ECS: what its tasks run, by the digest that was pulled, and what its services would start.

Sources: botocore's model of ECS (Container.imageDigest, Service.taskDefinition, Deployment.taskDefinition).
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator, Sequence
from typing import Any

from registry_pipelines.errors import NotFound, RegistryError
from registry_pipelines.inventory.usage.model import Use
from registry_pipelines.registry.ecr.calls import AwsCalls

TASKS_AT_ONCE = 100
SERVICES_AT_ONCE = 10
"""Most that DescribeTasks and DescribeServices take."""
SHOWN = 5
"""Clusters that an error names."""


class EcsSource:
    """Running tasks (with those that start or stop) and services of clusters. See UsageSource."""

    notes: Sequence[str] = ()

    def __init__(self, name: str, calls: AwsCalls, clusters: Sequence[str] = ("*",)) -> None:
        self.name, self._calls, self._patterns = name, calls, clusters
        self._definitions: dict[str, Any] = {}

    def uses(self) -> Iterator[Use]:
        """See UsageSource. A pattern that names no cluster is an error: one that is misspelt, or asked in another
        region or account, would look as if nothing ran there. ``*`` may find none."""
        arns = list(self._pages("list_clusters", "clusterArns"))
        names = [arn.rpartition("/")[2] for arn in arns]
        for pattern in self._patterns:
            if pattern != "*" and not fnmatch.filter(names, pattern):
                listed = ", ".join(sorted(names)[:SHOWN]) or "there are none"
                raise NotFound(
                    f"no cluster is called {pattern}: {listed}", where=f"{self.name} (ECS)", do="Correct `clusters`"
                )
        for arn, cluster in zip(arns, names, strict=True):
            if any(fnmatch.fnmatchcase(cluster, one) for one in self._patterns):
                yield from self._tasks(arn, cluster)
                yield from self._services(arn, cluster)

    def _tasks(self, arn: str, cluster: str) -> Iterator[Use]:
        arns = list(self._pages("list_tasks", "taskArns", cluster=arn))
        for start in range(0, len(arns), TASKS_AT_ONCE):
            answer = self._call("describe_tasks", cluster=arn, tasks=arns[start : start + TASKS_AT_ONCE])
            self._check(answer, cluster)
            for task in answer.get("tasks", ()):
                for container in task.get("containers", ()):
                    if container.get("image"):
                        group = task.get("group", "")
                        yield Use(
                            source=self.name,
                            image=container["image"],
                            digest=container.get("imageDigest") or "",
                            where=f"cluster {cluster}, {group or 'task'}, container {container.get('name', '')}",
                            since=task.get("startedAt") or task.get("createdAt"),
                        )

    def _services(self, arn: str, cluster: str) -> Iterator[Use]:
        arns = list(self._pages("list_services", "serviceArns", cluster=arn))
        for start in range(0, len(arns), SERVICES_AT_ONCE):
            answer = self._call("describe_services", cluster=arn, services=arns[start : start + SERVICES_AT_ONCE])
            self._check(answer, cluster)
            for service in answer.get("services", ()):
                named = [service, *service.get("deployments", ())]
                for definition in dict.fromkeys(one["taskDefinition"] for one in named if one.get("taskDefinition")):
                    yield from self._defined(definition, f"cluster {cluster}, service {service['serviceName']}")

    def _defined(self, arn: str, where: str) -> Iterator[Use]:
        if arn not in self._definitions:
            answer = self._call("describe_task_definition", taskDefinition=arn)
            self._definitions[arn] = answer["taskDefinition"]
        for container in self._definitions[arn].get("containerDefinitions", ()):
            if container.get("image"):
                definition = arn.rpartition("/")[2]
                yield Use(
                    source=self.name,
                    image=container["image"],
                    where=f"{where} would start task definition {definition}",
                    running=False,
                )

    def _check(self, answer: Any, cluster: str) -> None:
        """A task that ended since it was listed is MISSING; anything else hides something."""
        for failure in answer.get("failures", ()):
            if failure.get("reason") != "MISSING":
                raise RegistryError(
                    f"ECS does not tell of {failure.get('arn')}: {failure.get('reason')}", where=cluster
                )

    def _call(self, operation: str, **values: Any) -> Any:
        return self._calls.call(operation, where=f"{self.name} (ECS)", service="ecs", **values)

    def _pages(self, operation: str, listed: str, **values: Any) -> Iterator[Any]:
        return self._calls.pages(operation, listed, where=f"{self.name} (ECS)", service="ecs", **values)
