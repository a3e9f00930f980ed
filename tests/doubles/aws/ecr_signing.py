"""ECR's managed signing as seen from one image: the status by profile, as a test sets it."""

from __future__ import annotations

from tests.doubles.aws.ecr_registry import EcrRegistries
from tests.doubles.aws.front import Area, AwsDouble, Call
from tests.doubles.aws.model import ApiError, Values


class EcrSigning(Area):
    """statuses: by digest, what each question is answered with, the last one for ever; none: no rule is about it."""

    service = "ecr"

    def __init__(self, world: AwsDouble) -> None:
        super().__init__(world)
        self.statuses: dict[str, list[list[Values]]] = {}

    def do_DescribeImageSigningStatus(self, call: Call) -> Values:
        repository = self.world.area(EcrRegistries).repository(call)
        asked = call.values["imageId"]
        digest = asked.get("imageDigest") or repository.tags.get(asked.get("imageTag", ""), "")
        if digest not in repository.images:
            raise ApiError("ImageNotFoundException", f"The image with imageId {digest} does not exist")
        told = self.statuses.get(digest, [[]])
        found = told.pop(0) if len(told) > 1 else told[0]
        return {
            "repositoryName": repository.name,
            "imageId": {"imageDigest": digest},
            "registryId": call.values.get("registryId", call.account),
            "signingStatuses": found,
        }


__all__ = ["EcrSigning"]
