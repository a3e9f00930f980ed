"""What runs images in AWS: ECS, Lambda, SageMaker, Inspector's clusters. Tests say what is there; answers are checked
against botocore's models, pages are small."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tests.doubles.aws.front import ACCOUNT, Area, AwsDouble, Call
from tests.doubles.aws.model import ApiError, Values

REGION = "eu-west-1"


def _page(call: Call, name: str, found: Sequence[Any], *, size: int = 2, token: str = "nextToken") -> Values:
    """Two entries at once: whoever reads one page alone is found out."""
    start = int(call.values.get(token, "0"))
    left = {token: str(start + size)} if start + size < len(found) else {}
    return {name: list(found[start : start + size]), **left}


class Ecs(Area):
    """tasks, services: by cluster. definitions: by ARN the images. failures: of DescribeTasks."""

    service = "ecs"

    def __init__(self, world: AwsDouble) -> None:
        super().__init__(world)
        self.tasks: dict[str, list[Values]] = {}
        self.services: dict[str, list[Values]] = {}
        self.definitions: dict[str, list[str]] = {}
        self.failures: list[Values] = []

    def arn(self, cluster: str) -> str:
        return f"arn:aws:ecs:{REGION}:{ACCOUNT}:cluster/{cluster}"

    def do_ListClusters(self, call: Call) -> Values:
        names = sorted({*self.tasks, *self.services})
        return _page(call, "clusterArns", [self.arn(name) for name in names])

    def _cluster(self, call: Call) -> str:
        name = str(call.values["cluster"]).rpartition("/")[2]
        if name not in self.tasks and name not in self.services:
            raise ApiError("ClusterNotFoundException", "Cluster not found.")
        return name

    def do_ListTasks(self, call: Call) -> Values:
        return _page(call, "taskArns", [task["taskArn"] for task in self.tasks.get(self._cluster(call), ())])

    def do_DescribeTasks(self, call: Call) -> Values:
        there = self.tasks.get(self._cluster(call), ())
        wanted = call.values["tasks"]
        return {"tasks": [task for task in there if task["taskArn"] in wanted], "failures": self.failures}

    def do_ListServices(self, call: Call) -> Values:
        found = self.services.get(self._cluster(call), ())
        return _page(call, "serviceArns", [service["serviceArn"] for service in found])

    def do_DescribeServices(self, call: Call) -> Values:
        there = self.services.get(self._cluster(call), ())
        wanted = call.values["services"]
        return {"services": [one for one in there if one["serviceArn"] in wanted], "failures": []}

    def do_DescribeTaskDefinition(self, call: Call) -> Values:
        arn = call.values["taskDefinition"]
        containers = [{"name": f"c{at}", "image": image} for at, image in enumerate(self.definitions[arn])]
        return {"taskDefinition": {"taskDefinitionArn": arn, "containerDefinitions": containers}}


class Lambda(Area):
    """functions: (configuration, code) pairs."""

    service = "lambda"

    def __init__(self, world: AwsDouble) -> None:
        super().__init__(world)
        self.functions: list[tuple[Values, Values]] = []

    def do_ListFunctions(self, call: Call) -> Values:
        assert call.values.get("FunctionVersion") == "ALL", "versions hold images, too"
        start = int(call.values.get("Marker", "0"))
        left = {"NextMarker": str(start + 1)} if start + 1 < len(self.functions) else {}
        return {"Functions": [one for one, _ in self.functions[start : start + 1]], **left}

    def do_GetFunction(self, call: Call) -> Values:
        for configuration, code in self.functions:
            if configuration["FunctionArn"] == call.values["FunctionName"]:
                return {"Configuration": configuration, "Code": code}
        raise ApiError("ResourceNotFoundException", "Function not found")


class SageMaker(Area):
    """endpoints: by name the images (specified, resolved). models, training: by name the image."""

    service = "sagemaker"

    def __init__(self, world: AwsDouble) -> None:
        super().__init__(world)
        self.endpoints: dict[str, list[tuple[str, str]]] = {}
        self.models: dict[str, str] = {}
        self.training: dict[str, str] = {}

    def _arn(self, kind: str, name: str) -> str:
        return f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:{kind}/{name}"

    def _about(self, kind: str, name: str) -> Values:
        from tests.doubles.aws.ecr_registry import moment

        when, title = moment(self.world.clock()), {"endpoint": "Endpoint", "model": "Model"}.get(kind, "TrainingJob")
        return {f"{title}Name": name, f"{title}Arn": self._arn(kind, name), "CreationTime": when}

    def _changed(self, kind: str, name: str) -> Values:
        about = self._about(kind, name)
        status = {"EndpointStatus": "InService"} if kind == "endpoint" else {"TrainingJobStatus": "InProgress"}
        return {**about, "LastModifiedTime": about["CreationTime"], **status}

    def do_ListEndpoints(self, call: Call) -> Values:
        found = [self._changed("endpoint", name) for name in self.endpoints]
        return _page(call, "Endpoints", found, size=1, token="NextToken")

    def do_DescribeEndpoint(self, call: Call) -> Values:
        name = call.values["EndpointName"]
        images = [{"SpecifiedImage": one, "ResolvedImage": other} for one, other in self.endpoints[name]]
        variants = [{"VariantName": "all", "DeployedImages": images}]
        return {**self._changed("endpoint", name), "EndpointConfigName": "c", "ProductionVariants": variants}

    def do_ListModels(self, call: Call) -> Values:
        return _page(call, "Models", [self._about("model", name) for name in self.models], size=1, token="NextToken")

    def do_DescribeModel(self, call: Call) -> Values:
        name = call.values["ModelName"]
        return {**self._about("model", name), "PrimaryContainer": {"Image": self.models[name]}}

    def do_ListTrainingJobs(self, call: Call) -> Values:
        assert call.values["StatusEquals"] == "InProgress"
        return {"TrainingJobSummaries": [self._changed("training-job", name) for name in self.training]}

    def do_DescribeTrainingJob(self, call: Call) -> Values:
        name = call.values["TrainingJobName"]
        return {
            **self._changed("training-job", name),
            "ModelArtifacts": {"S3ModelArtifacts": "s3://b/k"},
            "SecondaryStatus": "Training",
            "AlgorithmSpecification": {"TrainingImage": self.training[name], "TrainingInputMode": "File"},
            "StoppingCondition": {},
            "ResourceConfig": {"VolumeSizeInGB": 1},
        }


class InspectorClusters(Area):
    """clusters: by image ARN, (cluster ARN, running)."""

    service = "inspector2"

    def __init__(self, world: AwsDouble) -> None:
        super().__init__(world)
        self.clusters: dict[str, list[tuple[str, int]]] = {}

    def do_GetClustersForImage(self, call: Call) -> Values:
        from tests.doubles.aws.ecr_registry import moment

        found = self.clusters.get(call.values["filter"]["resourceId"], [])
        when = moment(self.world.clock())
        clusters = [
            {
                "clusterArn": arn,
                "clusterDetails": [
                    {
                        "lastInUse": when,
                        "runningUnitCount": running,
                        "clusterMetadata": {
                            "awsEcsMetadataDetails": {"detailsGroup": "service:web", "taskDefinitionArn": "td"}
                        },
                    }
                ],
            }
            for arn, running in found
        ]
        return _page(call, "cluster", clusters)
