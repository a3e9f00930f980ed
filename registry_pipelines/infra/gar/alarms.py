"""Alert policies of Cloud Monitoring on our own numbers, and the channels that they tell.

Both are known by their display names here; Google's own names are given when they are made. Messages are the JSON of
the API v3. Source: its discovery document (AlertPolicy, MetricThreshold, NotificationChannel).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal
from urllib.parse import urlencode

import msgspec

from registry_pipelines.errors import Refused
from registry_pipelines.infra.alarms import (
    ALARM_NAME,
    Alarm,
    Problem,
    bound,
    bound_text,
    labels_of,
    measure_of,
    problems,
    twice,
)
from registry_pipelines.measures import CUSTOM, MEASURES
from registry_pipelines.settings import Pattern

if TYPE_CHECKING:  # the configuration has these classes, and asks nobody
    from registry_pipelines.infra.gar.asking import Asking, Json
    from registry_pipelines.infra.plan import Change
    from registry_pipelines.infra.settings import Fields, Plain, Setting

HOST = "monitoring"
PAGE = 1000
PERIOD = "3600s"
"""Over which the greatest number is taken: numbers come every half an hour."""
OWN_BYTES = "artifactregistry.googleapis.com/repository/size"
OWN_RESOURCE = "artifactregistry.googleapis.com/Repository"
"""What Artifact Registry itself tells of a repository's bytes. Source: Google's list of metrics."""
CHANNEL = Pattern(
    r"^([A-Za-z0-9][A-Za-z0-9_.-]{0,127}|projects/[^/]+/notificationChannels/[0-9]+)$",
    "a channel",
    "write the name of one of `channels`, or projects/P/notificationChannels/N",
)
ADDRESS = Pattern(r"^[^\s@]{1,64}@[^\s@]{1,190}$", "an e-mail address", "write name@example.com")
TOPIC = Pattern(r"^projects/[^/]+/topics/[^/]+$", "a topic of Pub/Sub", "write projects/P/topics/T")
_LABEL = re.compile(r'(metric|resource)\.labels\.(\w+)="((?:[^"\\]|\\.)*)"')
_TYPE = re.compile(r'metric\.type="([^"]+)"')

_DOING = {"POST": "making", "PATCH": "changing", "DELETE": "deleting"}

Severity = Literal["CRITICAL", "ERROR", "WARNING"]


class GarChannel(msgspec.Struct, frozen=True, kw_only=True):
    """A notification channel. Those with secrets (Slack, PagerDuty) are made by hand, and named by their whole name."""

    name: Annotated[str, ALARM_NAME]
    """Its display name; no other channel of the project may have it."""
    email: Annotated[str, ADDRESS] | None = None
    """Who is told by e-mail, or"""
    topic: Annotated[str, TOPIC] | None = None
    """the topic of Pub/Sub that is told."""
    absent: bool = False
    """It must not be there."""


class GarAlert(Alarm, frozen=True, kw_only=True):
    """Somebody is told while a number is above a bound."""

    channels: tuple[Annotated[str, CHANNEL], ...] = ()
    """Channels that are told."""
    severity: Severity | None = None
    """How bad it is."""
    own: bool = False
    """For `repository_bytes`: Google's own number of bytes in place of ours."""


def alert_problems(alerts: Sequence[GarAlert], channels: Sequence[GarChannel]) -> Iterator[Problem]:
    """What is wrong with a declaration by itself."""
    yield from problems(alerts)
    yield from twice([each.name for each in channels], "channels")
    for position, channel in enumerate(channels):
        if (channel.email is None) == (channel.topic is None) and not channel.absent:
            yield f"channels[{position}]", "is told by `email` or by `topic`"
    known = {each.name for each in channels if not each.absent}
    for position, alert in enumerate(alerts):
        path = f"alarms[{position}]"
        for each in alert.channels:
            if "/" not in each and each not in known:
                yield f"{path}.channels", f"{each} is not among `channels`"
        if alert.own and alert.metric != "repository_bytes":
            yield f"{path}.own", "is for `metric: repository_bytes`"


def channel_fields(channel: GarChannel) -> dict[str, Plain]:
    """What is wanted of a channel."""
    if channel.email is not None:
        return {"type": "email", "to": channel.email, "enabled": True}
    return {"type": "pubsub", "to": channel.topic, "enabled": True}


def alert_fields(alert: GarAlert, *, place: str, location: str) -> dict[str, Plain]:
    """What is wanted of a policy. place: the registry's name in the configuration."""
    labels = labels_of(alert, place)
    fields: dict[str, Plain] = {
        "filter": own_filter(labels["repository"], location) if alert.own else our_filter(alert.metric, labels),
        "above": bound(alert.above or "0"),
        "duration_s": (alert.hours - 1) * 3600,
        "period": PERIOD,
        "aligner": "ALIGN_MAX",
        "comparison": "COMPARISON_GT",
        "channels": sorted(set(alert.channels)),
        "enabled": True,
        "conditions": 1,
    }
    fields |= {"documentation": alert.description} if alert.description else {}
    return fields | ({"severity": alert.severity} if alert.severity else {})


def our_filter(metric: str, labels: Mapping[str, str]) -> str:
    """The series of one of our numbers."""
    chosen = [f"metric.labels.{name}={json.dumps(value)}" for name, value in labels.items()]
    return " AND ".join([f'metric.type="{CUSTOM}{metric}"', 'resource.type="global"', *chosen])


def own_filter(repository: str, location: str) -> str:
    """The series of what Artifact Registry tells of a repository by itself."""
    chosen = [f'resource.labels.location="{location}"', f"resource.labels.repository_id={json.dumps(repository)}"]
    return " AND ".join([f'metric.type="{OWN_BYTES}"', f'resource.type="{OWN_RESOURCE}"', *chosen])


class Alarms:
    """Channels and policies of a project, for one look or one change: what a look listed is not listed again in it."""

    def __init__(self, asking: Asking) -> None:
        self._asking, self._once = asking, asking.once()
        self._project = f"projects/{asking.project}"
        self._looked: list[Json] | None = None

    def _listed(self, what: str, field: str, permission: str) -> Iterator[Json]:
        query: dict[str, Any] = {"pageSize": PAGE}
        while True:
            path = f"/v3/{self._project}/{what}?{urlencode(query)}"
            doing = f"listing {what}"
            answer = self._asking.rest("GET", HOST, path, doing=doing, where=self._project, permission=permission)
            yield from answer.get(field, ())
            if not answer.get("nextPageToken"):
                return
            query["pageToken"] = answer["nextPageToken"]

    def _channels(self) -> list[Json]:
        right = "monitoring.notificationChannels.list"
        return list(self._listed("notificationChannels", "notificationChannels", right))

    def _policies(self) -> list[Json]:
        return list(self._listed("alertPolicies", "alertPolicies", "monitoring.alertPolicies.list"))

    def found_channels(self) -> dict[str, dict[str, Plain]]:
        """Channels by display name. Of two with one name nobody knows which is meant, so neither can be read."""
        self._looked = self._channels()
        return _by_name(self._looked, _channel)

    def found_policies(self, own: Sequence[Setting]) -> dict[str, dict[str, Plain]]:
        """Policies that are declared, or watch our numbers or Artifact Registry's, by display name."""
        policies = self._policies()
        named = {each.name for each in own}
        channels = self._channels() if self._looked is None else self._looked
        display = {each["name"]: each.get("displayName", "") for each in channels}
        watching = [each for each in policies if each.get("displayName") in named or _watches(each)]
        return _by_name(watching, lambda each: _policy(each, display))

    def change_channel(self, change: Change) -> None:
        """Make a channel, change or delete it. Raises the RegistryError family."""
        fields = {**(change.found or {}), **(change.wanted or {})}
        label = "email_address" if fields.get("type") == "email" else "topic"
        body = {
            "type": fields.get("type"),
            "displayName": change.name,
            "labels": {label: fields.get("to")},
            "enabled": fields.get("enabled"),
        }
        self._change("notificationChannels", change, body, self._channels, "type,labels,enabled")

    def change_policy(self, change: Change) -> None:
        """Make a policy, change or delete it. Raises the RegistryError family; Refused for a missing channel."""
        fields = {**(change.found or {}), **(change.wanted or {})}
        body = {} if change.action == "delete" else self._body(change.name, fields)
        mask = "conditions,combiner,notificationChannels,documentation,enabled,severity"
        self._change("alertPolicies", change, body, self._policies, mask)

    def _body(self, name: str, fields: Fields) -> Json:
        by_name = {each.get("displayName", ""): each["name"] for each in self._channels()}
        told = [each if "/" in each else by_name.get(each, "") for each in fields["channels"]]
        if "" in told:
            missing = ", ".join(each for each, found in zip(fields["channels"], told, strict=True) if not found)
            raise Refused(f"there is no channel {missing}", where=self._project, do="Declare it in `channels`")
        threshold = {
            "filter": fields["filter"],
            "comparison": fields["comparison"],
            "thresholdValue": fields["above"],
            "duration": f"{fields['duration_s']}s",
            "aggregations": [{"alignmentPeriod": fields["period"], "perSeriesAligner": fields["aligner"]}],
            "trigger": {"count": 1},
        }
        body: Json = {
            "displayName": name,
            "combiner": "OR",
            "enabled": fields["enabled"],
            "conditions": [{"displayName": name, "conditionThreshold": threshold}],
            "notificationChannels": told,
        }
        if fields.get("documentation"):
            body["documentation"] = {"content": fields["documentation"], "mimeType": "text/markdown"}
        return body | ({"severity": fields["severity"]} if fields.get("severity") else {})

    def _change(self, what: str, change: Change, body: Json, listed: Any, mask: str) -> None:
        verb = {"create": "POST", "delete": "DELETE"}.get(change.action, "PATCH")
        right = f"monitoring.{what}.{'update' if verb == 'PATCH' else change.action}"
        path = f"/v3/{self._project}/{what}"
        if verb != "POST":
            name = next((str(each["name"]) for each in listed() if each.get("displayName") == change.name), "")
            if not name:
                raise Refused("it is not there any more", where=f"{self._project}/{what}/{change.name}")
            path = f"/v3/{name}?{urlencode({'updateMask': mask})}" if verb == "PATCH" else f"/v3/{name}"
        asking = self._once if verb == "POST" else self._asking  # made twice there would be two of one name
        sent = None if verb == "DELETE" else body
        doing = f"{_DOING[verb]} {change.name}"
        asking.rest(verb, HOST, path, body=sent, doing=doing, where=self._project, permission=right)


def _by_name(listed: Iterable[Json], fields: Any) -> dict[str, dict[str, Plain]]:
    found: dict[str, dict[str, Plain]] = {}
    for each in listed:
        name = str(each.get("displayName", ""))
        there = {"?": f"two have the name {name}"} if name in found else fields(each)
        found[name] = there
    return found


def _channel(each: Json) -> dict[str, Plain]:
    labels = each.get("labels", {})
    to = labels.get("email_address") or labels.get("topic") or ""
    return {"type": each.get("type", ""), "to": to, "enabled": bool(each.get("enabled", True))}


def _threshold(each: Json) -> Json:
    conditions = each.get("conditions") or [{}]
    found: Json = conditions[0].get("conditionThreshold") or {}
    return found


def _watches(each: Json) -> bool:
    watched = str(_threshold(each).get("filter", ""))
    return CUSTOM in watched or OWN_BYTES in watched


def _policy(each: Json, display: Mapping[str, str]) -> dict[str, Plain]:
    return policy_fields(each, [display.get(name) or name for name in each.get("notificationChannels", ())])


def policy_fields(each: Json, channels: Iterable[str]) -> dict[str, Plain]:
    """The fields of a policy. channels: whom it tells, by display name where that is known."""
    threshold = _threshold(each)
    aggregation = (threshold.get("aggregations") or [{}])[0]
    return {
        "filter": threshold.get("filter", ""),
        "above": float(threshold.get("thresholdValue", 0.0)),
        "duration_s": int(float(str(threshold.get("duration", "0s")).removesuffix("s") or 0)),
        "period": aggregation.get("alignmentPeriod", ""),
        "aligner": aggregation.get("perSeriesAligner", ""),
        "comparison": threshold.get("comparison", ""),
        "channels": sorted(channels),
        "documentation": (each.get("documentation") or {}).get("content", ""),
        "enabled": bool(each.get("enabled", True)),
        "conditions": len(each.get("conditions", ())),
        "severity": each.get("severity", ""),
    }


def declared_alert(name: str, fields: Fields, *, place: str) -> dict[str, Any] | None:
    """A policy that is there, as it would be declared; None for one that cannot be."""
    usual = (PERIOD, "ALIGN_MAX", "COMPARISON_GT", True, 1)
    there = tuple(fields[each] for each in ("period", "aligner", "comparison", "enabled", "conditions"))
    kind = _TYPE.search(fields["filter"])
    own = kind is not None and kind[1] == OWN_BYTES
    spelled = ((each, f"{CUSTOM}{each}") for each in MEASURES)
    metric = "repository_bytes" if own else measure_of(kind[1] if kind else "", spelled)
    if not metric or there != usual or fields["duration_s"] % 3600 or fields["above"] != int(fields["above"]):
        return None
    labels = {found[2]: json.loads(f'"{found[3]}"') for found in _LABEL.finditer(fields["filter"])}
    if own:
        labels = {"repository": labels.get("repository_id", "")}
    labels = {each: value for each, value in labels.items() if (each, value) != ("registry", place)}
    entry: dict[str, Any] = {
        "name": name,
        "metric": metric,
        "above": bound_text(fields["above"], metric),
        "hours": fields["duration_s"] // 3600 + 1,
    }
    optional = {"labels": labels, "own": own, "channels": fields["channels"], "severity": fields["severity"]}
    optional["description"] = fields["documentation"]
    return entry | {each: value for each, value in optional.items() if value}


def declared_channel(name: str, fields: Fields) -> dict[str, Any] | None:
    """A channel that is there, as it would be declared; None for one that cannot be."""
    kinds = {"email": "email", "pubsub": "topic"}
    if fields["type"] not in kinds or not fields["to"] or not fields["enabled"]:
        return None
    return {"name": name, kinds[fields["type"]]: fields["to"]}


__all__ = [
    "Alarms",
    "GarAlert",
    "GarChannel",
    "alert_fields",
    "alert_problems",
    "channel_fields",
    "declared_alert",
    "declared_channel",
    "policy_fields",
]
