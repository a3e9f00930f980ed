"""What an end state of a cloud's scan means for a verdict: nothing (the findings are all there is), or an unknown.

Sources: ``ScanStatus`` of ECR and ``ScanStatusReason`` of Inspector in botocore's models, with the ECR user guide,
"Image scanning" and "Troubleshooting image scanning"; grafeas, ``DiscoveryOccurrence``; Artifact Analysis, "Automatic
scanning". A state that is not known here is an unknown, too: new ones must not read as "no finding".
"""

from __future__ import annotations

from typing import NamedTuple

from registry_pipelines.scan.report import UnknownKind


class End(NamedTuple):
    """Why the findings are not all there is."""

    kind: UnknownKind
    reason: str


ENDED = frozenset({"COMPLETE", "ACTIVE"})
WAITING = frozenset({"IN_PROGRESS", "PENDING"})

_ECR: dict[str, End] = {
    "IN_PROGRESS": End("pending", "the scan is under way"),
    "PENDING": End("pending", "the scan has not begun"),
    "FAILED": End("incomplete", "the scan failed"),
    "UNSUPPORTED_IMAGE": End("uncovered", "it does not scan such an image (its system or its media type)"),
    "SCAN_ELIGIBILITY_EXPIRED": End(
        "incomplete", "the image is scanned no more: it was pushed or pulled too long ago for continuous scanning"
    ),
    "FINDINGS_UNAVAILABLE": End("unreadable", "the findings cannot be had now"),
    "LIMIT_EXCEEDED": End("pending", "the account's scans of a day are used up"),
    "IMAGE_ARCHIVED": End("incomplete", "the image is archived, and is not scanned there"),
    "IMAGE_SIZE_EXCEEDED": End("uncovered", "the image is larger than it scans"),
}

NOT_SCANNED = End("uncovered", "the repository is not scanned (registry scanning configuration)")
ONCE_A_DAY = End("pending", "an image is scanned once in 24 hours, and there is no result of the last time")
NO_IMAGE = End("incomplete", "the registry's API has no such image")

_INSPECTOR: dict[str, End] = {
    "PENDING_INITIAL_SCAN": End("pending", "Inspector has not scanned it yet"),
    "PENDING_REVIVAL_SCAN": End("pending", "Inspector scans it again after a pause"),
    "SCAN_IN_PROGRESS": End("pending", "Inspector scans it now"),
    "SCAN_ELIGIBILITY_EXPIRED": _ECR["SCAN_ELIGIBILITY_EXPIRED"],
    "IMAGE_SIZE_EXCEEDED": _ECR["IMAGE_SIZE_EXCEEDED"],
    "IMAGE_ARCHIVED": _ECR["IMAGE_ARCHIVED"],
    "UNSUPPORTED_OS": End("uncovered", "Inspector does not know its system"),
    "UNSUPPORTED_MEDIA_TYPE": End("uncovered", "Inspector does not scan its media type"),
    "SCAN_FREQUENCY_MANUAL": NOT_SCANNED,
    "NO_SCAN_CONFIGURATION_ASSOCIATED": NOT_SCANNED,
    "ACCESS_DENIED": End("incomplete", "Inspector may not read the image"),
    "ACCESS_DENIED_TO_ENCRYPTION_KEY": End("incomplete", "Inspector may not use the repository's key"),
    "INTERNAL_ERROR": End("incomplete", "Inspector failed"),
    "STALE_INVENTORY": End("incomplete", "what Inspector knows of the image is stale"),
    "NO_INVENTORY": End("incomplete", "Inspector found no packages in it"),
    "EXCLUDED_BY_TAG": End("uncovered", "it is excluded from Inspector by a tag"),
    "PENDING_DISABLE": End("incomplete", "Inspector is being switched off"),
}
_FINE = frozenset({"SUCCESSFUL", "SCAN_FREQUENCY_SCAN_ON_PUSH"})

_GOOGLE: dict[str, End] = {
    "PENDING": End("pending", "the scan has not begun"),
    "SCANNING": End("pending", "the scan is under way"),
    "FINISHED_FAILED": End("incomplete", "the scan failed"),
    "FINISHED_UNSUPPORTED": End("uncovered", "it does not scan such an image (its system or its media type)"),
    "ANALYSIS_STATUS_UNSPECIFIED": End("incomplete", "nobody says how the scan ended"),
}
GOOGLE_ENDED = frozenset({"FINISHED_SUCCESS", "COMPLETE"})
GOOGLE_WAITING = frozenset({"PENDING", "SCANNING"})
NO_DISCOVERY = End("pending", "no scan of it is known: it has just been pushed, or scanning is off for the repository")
STALE = End(
    "incomplete", "its findings are stale: they are kept fresh only for images that were pulled in the last 30 days"
)
ARCHIVED = End("incomplete", "its findings are archived: nobody pulled it for 90 days")
OTHER_PLATFORM = End("uncovered", "of an image of several platforms it scans the first linux/amd64 alone")


def ecr_end(status: str, description: str = "") -> End | None:
    """What a scan status of ECR says; None for one that ended with all findings."""
    if status in ENDED:
        return None
    return _said(_ECR.get(status) or End("incomplete", f"the scan is {status[:60] or 'in no state'}"), description)


def inspector_end(reason: str) -> End | None:
    """What Inspector's coverage says of an image; None where it is watched."""
    if reason in _FINE:
        return None
    return _INSPECTOR.get(reason) or End("incomplete", f"Inspector does not watch it: {reason[:60] or 'no reason'}")


def google_end(status: str, description: str = "") -> End | None:
    """What a discovery occurrence says; None for one that ended with all findings."""
    if status in GOOGLE_ENDED:
        return None
    return _said(_GOOGLE.get(status) or End("incomplete", f"the scan is {status[:60]}"), description)


def _said(end: End, description: str) -> End:
    text = " ".join(description.split())[:200]
    return End(end.kind, f"{end.reason} ({text})") if text else end
