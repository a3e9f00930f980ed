"""Amazon SageMaker: what endpoints run, by digest; what models would run; training and processing under way.

Source: botocore's model of SageMaker (DeployedImage, ContainerDefinition, AlgorithmSpecification).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from registry_pipelines.inventory.usage.model import Use
from registry_pipelines.registry.ecr.calls import AwsCalls


class SageMakerSource:
    """See UsageSource."""

    notes: Sequence[str] = ()

    def __init__(self, name: str, calls: AwsCalls) -> None:
        self.name, self._calls = name, calls

    def uses(self) -> Iterator[Use]:
        """See UsageSource."""
        for endpoint in self._pages("list_endpoints", "Endpoints"):
            yield from self._endpoint(self._call("describe_endpoint", EndpointName=endpoint["EndpointName"]))
        for model in self._pages("list_models", "Models"):
            yield from self._model(self._call("describe_model", ModelName=model["ModelName"]))
        for job in self._pages("list_training_jobs", "TrainingJobSummaries", StatusEquals="InProgress"):
            told = self._call("describe_training_job", TrainingJobName=job["TrainingJobName"])
            image = told.get("AlgorithmSpecification", {}).get("TrainingImage")
            yield from self._one(image, f"training job {job['TrainingJobName']}", told.get("TrainingStartTime"))

    def _endpoint(self, told: Any) -> Iterator[Use]:
        for variant in (*told.get("ProductionVariants", ()), *told.get("ShadowProductionVariants", ())):
            for image in variant.get("DeployedImages", ()):
                yield Use(
                    source=self.name,
                    image=image.get("SpecifiedImage") or image["ResolvedImage"],
                    digest=str(image.get("ResolvedImage", "")).partition("@")[2],
                    where=f"endpoint {told['EndpointName']}, variant {variant.get('VariantName', '')}",
                    since=image.get("ResolutionTime") or told.get("CreationTime"),
                )

    def _model(self, told: Any) -> Iterator[Use]:
        for container in (told.get("PrimaryContainer") or {}, *told.get("Containers", ())):
            yield from self._one(container.get("Image"), f"model {told['ModelName']}", None, running=False)

    def _one(self, image: str | None, where: str, since: Any, *, running: bool = True) -> Iterator[Use]:
        if image:
            yield Use(source=self.name, image=image, where=where, since=since, running=running)

    def _call(self, operation: str, **values: Any) -> Any:
        return self._calls.call(operation, where=f"{self.name} (SageMaker)", service="sagemaker", **values)

    def _pages(self, operation: str, listed: str, **values: Any) -> Iterator[Any]:
        return self._calls.pages(operation, listed, where=f"{self.name} (SageMaker)", service="sagemaker", **values)
