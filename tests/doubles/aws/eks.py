"""EKS: clusters, and where their API servers are."""

from __future__ import annotations

from tests.doubles.aws.front import Area, AwsDouble, Call
from tests.doubles.aws.model import ApiError, Values


class Eks(Area):
    """clusters: by name what DescribeCluster tells."""

    service = "eks"

    def __init__(self, world: AwsDouble) -> None:
        super().__init__(world)
        self.clusters: dict[str, Values] = {}

    def do_DescribeCluster(self, call: Call) -> Values:
        name = call.values["name"]
        if name not in self.clusters:
            raise ApiError("ResourceNotFoundException", f"No cluster found for name: {name}.", status=404)
        return {"cluster": {"name": name, **self.clusters[name]}}
