"""Amazon Inspector: how it watches images."""

from __future__ import annotations

from tests.doubles.aws.front import Area, AwsDouble, Call
from tests.doubles.aws.model import Values


class InspectorCoverage(Area):
    """reasons: of images by their ARN (``.../repository/NAME/sha256:...``), as ScanStatusReason has them."""

    service = "inspector2"

    def __init__(self, world: AwsDouble) -> None:
        super().__init__(world)
        self.reasons: dict[str, str] = {}

    def do_ListCoverage(self, call: Call) -> Values:
        wanted = [each["value"] for each in call.values.get("filterCriteria", {}).get("resourceId", ())]
        fine = ("SUCCESSFUL", "SCAN_FREQUENCY_SCAN_ON_PUSH", "PENDING_INITIAL_SCAN", "SCAN_IN_PROGRESS")
        return {
            "coveredResources": [
                {
                    "resourceId": arn,
                    "resourceType": "AWS_ECR_CONTAINER_IMAGE",
                    "accountId": call.account,
                    "scanType": "PACKAGE",
                    "scanStatus": {"statusCode": "ACTIVE" if reason in fine else "INACTIVE", "reason": reason},
                }
                for arn, reason in self.reasons.items()
                if not wanted or arn in wanted
            ]
        }


__all__ = ["InspectorCoverage"]
