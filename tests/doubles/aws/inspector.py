"""Amazon Inspector: how it watches images."""

from __future__ import annotations

from tests.doubles.aws.ecr_registry import moment
from tests.doubles.aws.front import Area, AwsDouble, Call
from tests.doubles.aws.model import Values


class InspectorCoverage(Area):
    """reasons: of images by their ARN (``.../repository/NAME/sha256:...``), as ScanStatusReason has them. in_use: of
    those that run how often, and when last (seconds since 1970)."""

    service = "inspector2"

    def __init__(self, world: AwsDouble) -> None:
        super().__init__(world)
        self.reasons: dict[str, str] = {}
        self.in_use: dict[str, tuple[int, float]] = {}

    def do_ListCoverage(self, call: Call) -> Values:
        least = call.values.get("filterCriteria", {}).get("ecrImageInUseCount", [{}])[0].get("lowerInclusive", 0)
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
                    **self._metadata(arn),
                }
                for arn, reason in self.reasons.items()
                if (not wanted or arn in wanted) and self.in_use.get(arn, (0, 0))[0] >= least
            ]
        }

    def _metadata(self, arn: str) -> Values:
        count, last = self.in_use.get(arn, (0, 0.0))
        used = {"inUseCount": count, "lastInUseAt": moment(last)} if count else {}
        return {"resourceMetadata": {"ecrImage": used}} if used else {}


__all__ = ["InspectorCoverage"]
