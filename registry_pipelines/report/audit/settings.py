"""What the configuration says below ``report: audit:``: which logs are read, and who may push what."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import msgspec

from registry_pipelines.settings import (
    AWS_REGION,
    GLOB,
    HOST,
    NAME,
    WEBHOOK,
    Duration,
    EntryName,
    Names,
    Secret,
)

_REGISTRY = Names("registries")


class CloudTrailSource(msgspec.Struct, frozen=True, kw_only=True):
    """The event history of an AWS account in a region: 90 days, at most 100 events a second."""

    name: EntryName
    kind: Literal["cloudtrail"]
    """CloudTrail's event history (LookupEvents)."""
    registry: Annotated[str, _REGISTRY]
    """Registry of kind `ecr` whose account and region are asked, with its credentials."""


class CloudTrailFilesSource(msgspec.Struct, frozen=True, kw_only=True):
    """Log files that a trail of CloudTrail writes: for more events than the history gives out (extra `stores`)."""

    name: EntryName
    kind: Literal["cloudtrail-files"]
    """Log files of a trail of CloudTrail."""
    store: str
    """Where they are, up to and with the folder CloudTrail: `s3://BUCKET/AWSLogs/ACCOUNT/CloudTrail`, or a folder."""
    regions: tuple[Annotated[str, AWS_REGION], ...] = ()
    """Regions that are read; all that have files unless told."""
    bucket_region: str = ""
    """Region of the bucket, where credentials do not say it."""
    endpoint: Annotated[str, WEBHOOK] | None = None
    """Address of a store that speaks S3 and is not AWS."""
    profile: str = ""
    """Profile of AWS's configuration; the default chain of boto3 unless told."""


class CloudTrailLakeSource(msgspec.Struct, frozen=True, kw_only=True):
    """An event data store of CloudTrail Lake, which takes no new customers since May 2026."""

    name: EntryName
    kind: Literal["cloudtrail-lake"]
    """An event data store of CloudTrail Lake."""
    registry: Annotated[str, _REGISTRY]
    """Registry of kind `ecr` whose region has the store, and whose credentials ask it."""
    store: str
    """ARN or id of the event data store."""


class GoogleLogsSource(msgspec.Struct, frozen=True, kw_only=True):
    """Google Cloud's audit logs and Artifact Registry's platform logs, by Cloud Logging (extra `google`)."""

    name: EntryName
    kind: Literal["google-logs"]
    """Cloud Logging of a Google Cloud project."""
    registry: Annotated[str, _REGISTRY]
    """Registry of kind `gar` whose project is asked, with its credentials."""


class EventsSource(msgspec.Struct, frozen=True, kw_only=True):
    """What the queue of a registry's `events` told the sensor that reads it. It does not say who did it."""

    name: EntryName
    kind: Literal["events"]
    """What a registry's `events` told."""
    registry: Annotated[str, _REGISTRY]
    """Registry with `events`."""


class NotificationsSource(msgspec.Struct, frozen=True, kw_only=True):
    """Notifications of docker-registry, Harbor and others that are built on CNCF Distribution."""

    name: EntryName
    kind: Literal["notifications"]
    """Notifications of a registry that is built on CNCF Distribution."""
    registry: Annotated[str, _REGISTRY]
    """Registry that sends them."""
    files: Path | None = None
    """Files with envelopes or events, one a line, as another program keeps them; `*` is a wildcard. Without it they are
    received by `report receive`."""
    listen: Annotated[str, HOST] = "127.0.0.1:5080"
    """Address that `report receive` listens on."""
    token: Secret = Secret("")
    """Token that the registry sends as `Authorization: Bearer`, as `${VARIABLE}`."""


class AccessLogSource(msgspec.Struct, frozen=True, kw_only=True):
    """The access log of a registry that this project serves."""

    name: EntryName
    kind: Literal["access-log"]
    """The access log of an embedded registry."""
    registry: Annotated[str, _REGISTRY]
    """Registry of kind `embedded` with `access_log`."""


SourceSettings = (
    CloudTrailSource
    | CloudTrailFilesSource
    | CloudTrailLakeSource
    | GoogleLogsSource
    | EventsSource
    | NotificationsSource
    | AccessLogSource
)


class AuditSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who did what to registries (docs/audit.md)."""

    sources: dict[Annotated[str, NAME], SourceSettings] = {}
    """Logs that are read, by name."""
    pushers: dict[Annotated[str, GLOB], tuple[str, ...]] = {}
    """Who may push, by patterns of repositories: ARNs, e-mail addresses and user names as the log has them, `*` is a
    wildcard. A push by anybody else is an alert, and so is one to a repository that no pattern matches; pushes are not
    judged while there is no pattern at all."""
    keep: Duration = Duration(days=400)
    """How long events are kept."""
    window: Duration = Duration(days=7)
    """How far back a report goes, and alerts are looked for, unless told."""


__all__ = ["AuditSettings", "SourceSettings"]
