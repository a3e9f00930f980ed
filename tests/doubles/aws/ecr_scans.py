"""Scans of ECR: basic ones that are started, and what Inspector finds; states and results as a test sets them.

Rules: a basic scan is started once in 24 hours (user guide, "Image scanning"; LimitExceededException); where the
registry scans with Inspector nobody starts one (ValidationException); an index is no image to scan; findings come in
pages.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tests.doubles.aws.ecr_places import Image
from tests.doubles.aws.ecr_registry import EcrRegistries, moment
from tests.doubles.aws.front import Area, AwsDouble, Call
from tests.doubles.aws.model import ApiError, Values

PAGE = 100
DAY_S = 24 * 3600.0


@dataclass
class Scan:
    """What ECR has of one image. states: what each question is answered with, the last one for ever."""

    states: list[str] = field(default_factory=lambda: ["COMPLETE"])
    description: str = ""
    findings: list[Values] = field(default_factory=list)
    enhanced: list[Values] | None = None
    started_at: float = 0.0
    completed_at: float = 0.0
    source_at: float = 0.0


class EcrScans(Area):
    """scans: by repository and digest. next: what a scan that is started will be. enhanced: Inspector scans here."""

    service = "ecr"

    def __init__(self, world: AwsDouble) -> None:
        super().__init__(world)
        self.scans: dict[tuple[str, str], Scan] = {}
        self.next = Scan()
        self.enhanced = False
        self._pages: dict[str, int] = {}

    def _image(self, call: Call) -> tuple[str, Image]:
        repository = self.world.area(EcrRegistries).repository(call)
        digest = call.values["imageId"].get("imageDigest") or repository.tags.get(
            call.values["imageId"]["imageTag"], ""
        )
        if digest not in repository.images:
            raise ApiError("ImageNotFoundException", f"The image with imageId {digest} does not exist")
        return repository.name, repository.images[digest]

    def do_StartImageScan(self, call: Call) -> Values:
        name, image = self._image(call)
        if self.enhanced:
            raise ApiError("ValidationException", "This feature is disabled: enhanced scanning is on")
        if image.archived:
            raise ApiError("ImageArchivedException", "The image is archived")
        if image.is_index:
            raise ApiError("UnsupportedImageTypeException", "An image index is not scanned")
        now, before = self.world.clock(), self.scans.get((name, image.digest))
        if before is not None and before.started_at and now - before.started_at < DAY_S:
            raise ApiError("LimitExceededException", "The scan quota per image has been exceeded. Wait and try again.")
        made = Scan(**{**vars(self.next), "states": list(self.next.states), "started_at": now})
        made.completed_at = made.completed_at or now
        self.scans[name, image.digest] = made
        status = {"status": "IN_PROGRESS"}
        return {**_about(call, name, image), "imageScanStatus": status}

    def do_DescribeImageScanFindings(self, call: Call) -> Values:
        name, image = self._image(call)
        scan = self.scans.get((name, image.digest))
        if scan is None:
            raise ApiError("ScanNotFoundException", f"Image scan does not exist for the image {image.digest}")
        start = 0
        if token := call.values.get("nextToken"):
            if token not in self._pages:
                raise ApiError("InvalidParameterException", "nextToken")
            start = self._pages.pop(token)
        status = scan.states[0]
        if not start and len(scan.states) > 1:
            scan.states.pop(0)
        reply: Values = {**_about(call, name, image), "imageScanStatus": {"status": status}}
        if scan.description:
            reply["imageScanStatus"]["description"] = scan.description
        if status not in ("COMPLETE", "ACTIVE"):
            return reply
        size = min(call.values.get("maxResults", PAGE), PAGE)
        listed = scan.findings if scan.enhanced is None else scan.enhanced
        told: dict[str, Any] = {"imageScanCompletedAt": moment(scan.completed_at or self.world.clock())}
        if scan.source_at:
            told["vulnerabilitySourceUpdatedAt"] = moment(scan.source_at)
        told["findings" if scan.enhanced is None else "enhancedFindings"] = listed[start : start + size]
        reply["imageScanFindings"] = told
        if start + size < len(listed):
            reply["nextToken"] = f"page-{len(self._pages)}-{start + size}"
            self._pages[reply["nextToken"]] = start + size
        return reply


def _about(call: Call, name: str, image: Image) -> Values:
    return {
        "registryId": call.values.get("registryId", call.account),
        "repositoryName": name,
        "imageId": {"imageDigest": image.digest},
    }


def basic_finding(name: str, package: str, version: str, *, severity: str = "HIGH", fixed: str = "") -> Values:
    """A finding of a basic scan."""
    attributes = [
        {"key": "package_name", "value": package},
        {"key": "package_version", "value": version},
        {"key": "CVSS3_SCORE", "value": "7.5"},
        *([{"key": "fixed_in_versions", "value": fixed}] if fixed else []),
    ]
    return {"name": name, "description": "it leaks", "severity": severity, "attributes": attributes}


def enhanced_finding(name: str, package: str, version: str, *, manager: str = "PYTHONPKG", **more: Any) -> Values:
    """A finding of Inspector."""
    told = {"name": package, "version": version, "packageManager": manager, "filePath": "usr/x", "fixedInVersion": "9"}
    return {
        "findingArn": "arn:aws:inspector2:eu-west-1:111122223333:finding/1",
        "type": "PACKAGE_VULNERABILITY",
        "severity": "CRITICAL",
        "status": "ACTIVE",
        "score": 9.8,
        "description": "it leaks",
        "packageVulnerabilityDetails": {
            "vulnerabilityId": name,
            "relatedVulnerabilities": ["GHSA-aaaa-bbbb-cccc"],
            "cvss": [{"baseScore": 9.8, "scoringVector": "CVSS:3.1/x", "source": "NVD", "version": "3.1"}],
            "vulnerablePackages": [told],
        },
        **more,
    }


__all__ = ["EcrScans", "Scan", "basic_finding", "enhanced_finding"]
