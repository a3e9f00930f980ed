"""Ask ECR for the findings about an image: start its basic scan where there is none, wait, and fetch every page."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from registry_pipelines.errors import RegistryError
from registry_pipelines.oci.digest import Digest
from registry_pipelines.registry.ecr.calls import AwsCalls
from registry_pipelines.scan.clouds.ecr import EcrAnswer
from registry_pipelines.scan.clouds.states import (
    ENDED,
    NO_IMAGE,
    NOT_SCANNED,
    ONCE_A_DAY,
    WAITING,
    End,
    ecr_end,
    inspector_end,
)
from registry_pipelines.scan.clouds.waiting import Waiting

SCAN_AGAIN = timedelta(hours=24)
"""ECR scans an image once in 24 hours; a basic result is of that day, and is not brought up to date."""
MAX_FINDINGS = 100_000
"""A distribution image with kernel headers has some 3,000."""

_STARTED: dict[str, str] = {
    "UnsupportedImageTypeException": "UNSUPPORTED_IMAGE",
    "ImageArchivedException": "IMAGE_ARCHIVED",
    "LimitExceededException": "LIMIT_EXCEEDED",
}


class EcrScan:
    """The scans of one registry. account: its 12 digits."""

    def __init__(self, calls: AwsCalls, account: str, region: str) -> None:
        self._calls, self._account, self._region = calls, account, region

    def ask(
        self,
        repository: str,
        manifest: Digest,
        waiting: Waiting,
        *,
        start: bool = True,
        now: datetime | None = None,
    ) -> EcrAnswer:
        """What ECR found, by whichever scan it has for the repository; see :class:`EcrAnswer`. A basic result of more
        than a day is made anew. start: whether a basic scan may be started. Raises the RegistryError family for what is
        no end of a scan."""
        now, started = now or datetime.now(UTC), not start
        while True:
            answer = self._described(repository, manifest)
            if answer.end is NOT_SCANNED and not started:
                started, ended = True, self._start(repository, manifest)
                if ended is not None:
                    return EcrAnswer(end=ended)
                continue
            if answer.end is NOT_SCANNED and not start:
                return answer
            if answer.end is NOT_SCANNED or answer.status in WAITING:
                if waiting.again():
                    continue
                return answer if answer.status else EcrAnswer(end=ecr_end("PENDING"))
            if not started and _is_old(answer, now):
                started = True
                if self._start(repository, manifest) is None and waiting.again():
                    continue
            return answer

    def coverage(self, repository: str, manifest: Digest) -> End | None:
        """What Inspector says of how it watches an image; None where it does. Raises as :meth:`ask`."""
        arn = f"arn:{self._partition}:ecr:{self._region}:{self._account}:repository/{repository}/{manifest}"
        criteria = {"resourceId": [{"comparison": "EQUALS", "value": arn}]}
        where = self._where(repository)
        listed = self._calls.pages(
            "list_coverage", "coveredResources", where=where, service="inspector2", filterCriteria=criteria
        )
        found = [each for each in listed if str(each.get("resourceId")) == arn]
        if not found:
            return End(
                "uncovered", "Inspector does not know the image: it is off here, or it watches other repositories"
            )
        status = found[0].get("scanStatus") or {}
        return inspector_end(str(status.get("reason") or ""))

    @property
    def _partition(self) -> str:
        if self._region.startswith("cn-"):
            return "aws-cn"
        return "aws-us-gov" if self._region.startswith("us-gov-") else "aws"

    def _where(self, repository: str) -> str:
        return f"{self._account} in {self._region}/{repository}"

    def _about(self, repository: str, manifest: Digest) -> dict[str, Any]:
        return {
            "registryId": self._account,
            "repositoryName": repository,
            "imageId": {"imageDigest": str(manifest)},
            "where": self._where(repository),
        }

    def _start(self, repository: str, manifest: Digest) -> End | None:
        """None: a scan was started. Otherwise why not, as a state."""
        try:
            self._calls.call("start_image_scan", doing="starting a scan", **self._about(repository, manifest))
        except RegistryError as error:
            if error.code == "ValidationException":  # enhanced scanning is on: what is to be scanned is set there
                return NOT_SCANNED
            if error.code == "LimitExceededException":
                return ONCE_A_DAY
            if error.code == "ImageNotFoundException":
                return NO_IMAGE
            if error.code in _STARTED:
                return ecr_end(_STARTED[error.code])
            raise
        return None

    def _described(self, repository: str, manifest: Digest) -> EcrAnswer:
        found: list[Any] = []
        enhanced: list[Any] | None = None
        following: dict[str, Any] = {}
        while True:
            try:
                answer = self._calls.call(
                    "describe_image_scan_findings",
                    doing="reading scan findings",
                    maxResults=1000,
                    **self._about(repository, manifest),
                    **following,
                )
            except RegistryError as error:
                if error.code == "ScanNotFoundException":
                    return EcrAnswer(end=NOT_SCANNED)
                if error.code == "ImageNotFoundException":
                    return EcrAnswer(end=NO_IMAGE)
                raise
            told = answer.get("imageScanFindings") or {}
            found += told.get("findings") or ()
            if "enhancedFindings" in told:
                enhanced = [*(enhanced or ()), *told["enhancedFindings"]]
            token = answer.get("nextToken")
            status = answer.get("imageScanStatus") or {}
            if not token or token == following.get("nextToken") or len(found) + len(enhanced or ()) > MAX_FINDINGS:
                break
            following = {"nextToken": token}
        name = str(status.get("status") or "")
        if enhanced is None and name == "ACTIVE":
            enhanced = []
        return EcrAnswer(
            status=name,
            description=str(status.get("description") or "") if name not in ENDED else "",
            completed=told.get("imageScanCompletedAt"),
            source_updated=told.get("vulnerabilitySourceUpdatedAt"),
            findings=found,
            enhanced=enhanced,
        )


def _is_old(answer: EcrAnswer, now: datetime) -> bool:
    """Whether a basic scan ended more than a day ago."""
    if answer.enhanced is not None or answer.status != "COMPLETE" or answer.completed is None:
        return False
    return now - answer.completed > SCAN_AGAIN
