"""Events of Amazon ECR and Amazon Inspector, as EventBridge puts them into a queue.

Sources: the ECR user guide, "Amazon ECR events and EventBridge"; the Inspector user guide, "Amazon EventBridge event
schema"; the EventBridge user guide, "Event structure". A rule may go through SNS, whose envelope is then around it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import msgspec

from registry_pipelines.errors import ManifestInvalid
from registry_pipelines.events.model import (
    Archived,
    Deleted,
    Event,
    PullThroughFailed,
    Pushed,
    ReferrerChanged,
    Replicated,
    Restored,
    Scanned,
    ScanSettingsChanged,
    ScanState,
    Unconcerned,
)
from registry_pipelines.oci.manifests import decode_sloppy
from registry_pipelines.oci.times import read_time
from registry_pipelines.registry.ecr.hosts import EcrHost

MAX_MESSAGE_BYTES = 1024 * 1024
"""SQS's own limit of a message is 1 MiB since 2025."""

_ARN = re.compile(r"arn:aws[a-z-]*:ecr:([a-z0-9-]+):([0-9]{12}):repository/(.+)")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_REPOSITORY = re.compile(r"[a-z0-9]+(?:[._/-]+[a-z0-9]+)*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_SEVERITY = re.compile(r"[A-Z_]{1,20}")
MAX_SEVERITIES = 10
"""ECR and Inspector know seven."""
_SCANS: dict[str, ScanState] = {
    "COMPLETE": "complete",
    "ACTIVE": "complete",
    "INITIAL_SCAN_COMPLETE": "complete",
    "FAILED": "failed",
}


class _Bridge(msgspec.Struct, rename="kebab"):
    """What every event of EventBridge has."""

    detail_type: str
    source: str
    account: str
    region: str
    detail: msgspec.Raw
    id: str = ""
    time: str = ""
    resources: list[str] = []


class _Notification(msgspec.Struct, rename="pascal"):
    """SNS's envelope ("Amazon SNS message and JSON formats")."""

    type: str = ""
    message: str = ""


class _Image(msgspec.Struct, rename="kebab"):
    result: str = "SUCCESS"
    repository_name: str = ""
    image_digest: str = ""
    image_tag: str = ""
    action_type: str = ""
    target_storage_class: str = ""
    artifact_media_type: str = ""
    manifest_media_type: str = ""
    last_activated_at: str = ""


class _PullThrough(msgspec.Struct, rename="kebab"):
    sync_status: str
    repository_name: str
    upstream_registry_url: str = ""
    image_tag: str = ""
    image_digest: str = ""
    failure_code: str = ""
    failure_reason: str = ""


class _Replication(msgspec.Struct, rename="kebab"):
    result: str
    repository_name: str
    image_digest: str
    source_region: str = ""
    source_account: str = ""
    image_tag: str = ""
    action_type: str = "REPLICATE"


class _Scan(msgspec.Struct, rename="kebab"):
    scan_status: str
    repository_name: str
    image_digest: str
    finding_severity_counts: dict[str, int] = {}
    image_tags: list[str] = []


class _ScannedRepository(msgspec.Struct, rename="kebab"):
    repository_name: str
    scan_frequency: str = ""


class _ScanSettings(msgspec.Struct, rename="kebab"):
    repositories: list[_ScannedRepository]
    scan_type: str = ""


def read_eventbridge(raw: bytes, *, where: str = "") -> Event:
    """One message. Kinds that are not known here are :class:`Unconcerned`, so that new ones do no harm; raises
    ManifestInvalid for what is no event of EventBridge, and for one of a known kind without what it must have."""
    if len(raw) > MAX_MESSAGE_BYTES:
        raise ManifestInvalid(f"the message has more than {MAX_MESSAGE_BYTES} bytes", where=where)
    bridge = decode_sloppy(_unwrapped(raw, where), _Bridge, where=where, what="event of EventBridge")
    if not re.fullmatch(r"[0-9]{12}", bridge.account) or not re.fullmatch(r"[a-z0-9-]{1,41}", bridge.region):
        raise ManifestInvalid("the event names no account and region", where=where)
    reader = _READERS.get((bridge.source, bridge.detail_type))
    if reader is None:
        return Unconcerned(**_common(bridge), kind=f"{bridge.detail_type[:60]} of {bridge.source[:40]}")
    return reader(bridge, where)


def _unwrapped(raw: bytes, where: str) -> bytes:
    """What SNS brought, where it did."""
    if b'"Message"' not in raw:
        return raw
    told = decode_sloppy(raw, _Notification, where=where, what="message")
    return told.message.encode() if told.type == "Notification" else raw


def _common(bridge: _Bridge) -> dict[str, Any]:
    return {"at": _utc(bridge.time), "registry": _host(bridge.account, bridge.region), "id": bridge.id[:100]}


def _utc(text: str) -> str:
    moment = read_time(text)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ") if moment else ""


def _host(account: str, region: str) -> str:
    return EcrHost(account, region).name


def _detail(bridge: _Bridge, kind: Any, where: str) -> Any:
    return decode_sloppy(bytes(bridge.detail), kind, where=where, what=f"detail of {bridge.detail_type!r}")


def _about(bridge: _Bridge, where: str, name: str, digest: str, tag: str = "") -> dict[str, Any]:
    """The image that an event is about. A repository may be written as its ARN, which then says account and region."""
    common = _common(bridge)
    if match := _ARN.fullmatch(name):
        common["registry"], name = _host(match[2], match[1]), match[3]
    if not _REPOSITORY.fullmatch(name) or len(name) > 256:
        raise ManifestInvalid(f"the event names no repository, but {name[:100]!r}", where=where)
    if digest and not _DIGEST.fullmatch(digest):
        raise ManifestInvalid(f"the event names no digest, but {digest[:100]!r}", where=where)
    if tag and not _TAG.fullmatch(tag):
        raise ManifestInvalid(f"the event names no tag, but {tag[:100]!r}", where=where)
    return {**common, "repository": name, "digest": digest, "tag": tag}


def _image_action(bridge: _Bridge, where: str) -> Event:
    told: _Image = _detail(bridge, _Image, where)
    about = _about(bridge, where, told.repository_name, told.image_digest, told.image_tag)
    if not (told.image_digest or told.image_tag):
        raise ManifestInvalid("the event names neither a digest nor a tag", where=where)
    action = told.action_type.upper()
    if told.result.upper() != "SUCCESS":
        return Unconcerned(**_common(bridge), kind=f"{action[:40]} that failed")
    if action == "UPDATE_STORAGE_CLASS":
        return (Archived if told.target_storage_class.upper() == "ARCHIVE" else Restored)(**about)
    if action in ("PUSH", "DELETE"):
        return Pushed(**about) if action == "PUSH" else Deleted(**about)
    return Unconcerned(**_common(bridge), kind=f"image action {action[:40]}")


def _referrer_action(bridge: _Bridge, where: str) -> Event:
    told: _Image = _detail(bridge, _Image, where)
    action = told.action_type.upper()
    if action == "UPDATE_STORAGE_CLASS":
        action = f"{action} {told.target_storage_class.upper()}".strip()
    about = _about(bridge, where, told.repository_name, told.image_digest, told.image_tag)
    return ReferrerChanged(**about, action=action[:80], artifact_type=told.artifact_media_type[:200])


def _pull_through(bridge: _Bridge, where: str) -> Event:
    told: _PullThrough = _detail(bridge, _PullThrough, where)
    about = _about(bridge, where, told.repository_name, told.image_digest, told.image_tag)
    upstream = told.upstream_registry_url[:253]
    if told.sync_status.upper() == "SUCCESS":
        return Pushed(**about, upstream=upstream)
    return PullThroughFailed(
        **about, upstream=upstream, code=told.failure_code[:100], reason=" ".join(told.failure_reason.split())[:300]
    )


def _replication(bridge: _Bridge, where: str) -> Event:
    told: _Replication = _detail(bridge, _Replication, where)
    if told.action_type.upper() != "REPLICATE":
        return Unconcerned(**_common(bridge), kind=f"replication action {told.action_type[:40]}")
    return Replicated(
        **_about(bridge, where, told.repository_name, told.image_digest, told.image_tag),
        ok=told.result.upper() == "SUCCESS",
        source=told.source_region[:41],
        source_account=told.source_account[:12],
    )


def _scan(bridge: _Bridge, where: str) -> Event:
    told: _Scan = _detail(bridge, _Scan, where)
    status = told.scan_status.upper()[:60]
    return Scanned(
        **_about(bridge, where, told.repository_name, told.image_digest),
        scanner="inspector" if bridge.source == "aws.inspector2" else "ecr",
        state=_SCANS.get(status, "other"),
        status=status,
        counts=_counts(told.finding_severity_counts),
        tags=tuple(tag for tag in told.image_tags if _TAG.fullmatch(tag))[:1000],
    )


def _counts(told: dict[str, int]) -> dict[str, int]:
    """Findings by severity. What is no severity is left out: this is kept and shown, and anybody may write it."""
    named = {name: count for name, count in told.items() if name != "TOTAL" and _SEVERITY.fullmatch(name)}
    return dict(list(named.items())[:MAX_SEVERITIES])


def _scan_settings(bridge: _Bridge, where: str) -> Event:
    told: _ScanSettings = _detail(bridge, _ScanSettings, where)
    frequencies = {each.repository_name[:256]: each.scan_frequency[:40] for each in told.repositories}
    return ScanSettingsChanged(**_common(bridge), scan_type=told.scan_type[:40], repositories=frequencies)


_READERS: dict[tuple[str, str], Callable[[_Bridge, str], Event]] = {
    ("aws.ecr", "ECR Image Action"): _image_action,
    ("aws.ecr", "ECR Referrer Action"): _referrer_action,
    ("aws.ecr", "ECR Pull Through Cache Action"): _pull_through,
    ("aws.ecr", "ECR Replication Action"): _replication,
    ("aws.ecr", "ECR Image Scan"): _scan,
    ("aws.ecr", "ECR Scan Resource Change"): _scan_settings,
    ("aws.inspector2", "Inspector2 Scan"): _scan,
}
"""``ECR Artifact Action`` is documented without an example: it is :class:`Unconcerned`."""
