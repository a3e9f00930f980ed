"""Cloud Monitoring, which answers by REST: descriptors and series, alert policies and channels.

Checked by its discovery document (``described``); what that does not say is from Google's pages: 200 series a call, one
point each, ends from 25 hours ago to five minutes ahead and later than the last one, and names that are unique to no
policy and no channel.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from tests.doubles.google.world import Refusal, World

Json = dict[str, Any]
PAGE = 2
"""Of every list, whatever is asked for, so that pages are followed."""
_KEY = re.compile(r"[a-z][a-z0-9_]{0,99}")
_FIELDS = {
    "alertPolicies": {
        "conditions", "combiner", "notificationChannels", "documentation", "enabled", "severity", "userLabels",
        "displayName",
    },
    "notificationChannels": {"type", "labels", "enabled", "displayName", "description", "userLabels"},
}  # fmt: skip


@dataclass
class Monitoring:
    """series: of ours, by metric and labels, with each point. own: series that Google writes by itself."""

    descriptors: dict[str, Json] = field(default_factory=dict)
    series: dict[tuple[str, tuple[tuple[str, str], ...]], list[tuple[datetime, float]]] = field(default_factory=dict)
    own: list[Json] = field(default_factory=list)
    kept: dict[str, dict[str, Json]] = field(default_factory=lambda: {"alertPolicies": {}, "notificationChannels": {}})
    calls: list[int] = field(default_factory=list)


def _describe(world: World, name: str, body: Json, query: Json) -> Json:
    if not body.get("type", "").startswith("custom.googleapis.com/") or not body.get("metricKind"):
        raise Refusal("INVALID_ARGUMENT", "type: user-defined metrics begin with custom.googleapis.com/")
    if strange := [each for each in body.get("labels", ()) if not _KEY.fullmatch(each["key"])]:
        raise Refusal("INVALID_ARGUMENT", f"labels: {strange}")
    state = world.state(Monitoring)
    state.descriptors[body["type"]] = body
    return {**body, "name": f"{name}/metricDescriptors/{body['type']}"}


def _write(world: World, name: str, body: Json, query: Json) -> Json:
    state, now = world.state(Monitoring), world.now()
    listed = body.get("timeSeries", ())
    state.calls.append(len(listed))
    if not 1 <= len(listed) <= 200:
        raise Refusal("INVALID_ARGUMENT", f"timeSeries: {len(listed)} objects, 1 to 200 are taken")
    taken = {}
    for each in listed:
        metric, described = each["metric"], state.descriptors.get(each["metric"]["type"])
        if described is None or set(metric.get("labels", {})) != {one["key"] for one in described.get("labels", ())}:
            raise Refusal("INVALID_ARGUMENT", f"{metric} is not as it is described")
        if each["resource"] != {"type": "global", "labels": {"project_id": name.removeprefix("projects/")}}:
            raise Refusal("INVALID_ARGUMENT", f"resource: {each['resource']}")
        [point] = each["points"]
        end = datetime.fromisoformat(point["interval"]["endTime"])
        if not now - timedelta(hours=25) <= end <= now + timedelta(minutes=5):
            raise Refusal("INVALID_ARGUMENT", f"endTime: {end} is not within the last 25 hours")
        key = (metric["type"], tuple(sorted(metric.get("labels", {}).items())))
        if key in taken or (key in state.series and state.series[key][-1][0] >= end):
            raise Refusal("INVALID_ARGUMENT", f"{key}: points must be written in order")
        taken[key] = (end, point["value"]["doubleValue"])
    for key, value in taken.items():
        state.series.setdefault(key, []).append(value)
    return {}


def _read(world: World, name: str, body: Json, query: Json) -> Json:
    wanted = dict(re.findall(r'([\w.]+) ?= ?"([^"]*)"', query.get("filter", "")))
    if "metric.type" not in wanted or not query.get("interval.startTime") or not query.get("interval.endTime"):
        raise Refusal("INVALID_ARGUMENT", "filter and interval are required")
    found = [
        each
        for each in world.state(Monitoring).own
        if each["metric"]["type"] == wanted["metric.type"]
        and each["resource"]["labels"]["location"] == wanted.get("resource.labels.location")
    ]
    return _page("timeSeries", found, query)


def _page(what: str, found: list[Json], query: Json) -> Json:
    at = int(query.get("pageToken") or 0)
    more = {"nextPageToken": str(at + PAGE)} if at + PAGE < len(found) else {}
    return {what: found[at : at + PAGE], **more}


def _checked(world: World, what: str, body: Json) -> Json:
    kept = world.state(Monitoring).kept
    if not body.get("displayName"):
        raise Refusal("INVALID_ARGUMENT", "displayName: must not be empty")
    if what == "notificationChannels" and not body.get("type"):
        raise Refusal("INVALID_ARGUMENT", "type: is required")
    if what == "alertPolicies":
        if not body.get("conditions") or body.get("combiner") not in ("AND", "OR"):
            raise Refusal("INVALID_ARGUMENT", "conditions and combiner are required")
        for each in body["conditions"]:
            threshold = each.get("conditionThreshold", {})
            if not {"metric.type", "resource.type"} <= set(re.findall(r"(\w+\.type)=", threshold.get("filter", ""))):
                raise Refusal("INVALID_ARGUMENT", "filter: must specify metric.type and resource.type")
        if strange := set(body.get("notificationChannels", ())) - set(kept["notificationChannels"]):
            raise Refusal("INVALID_ARGUMENT", f"notificationChannels: {strange}")
    return body


def _create(what: str) -> Callable[[World, str, Json, Json], Json]:
    def create(world: World, name: str, body: Json, query: Json) -> Json:
        kept = world.state(Monitoring).kept[what]
        made = {**_checked(world, what, body), "name": f"{name}/{what}/{1000 + len(kept)}"}
        kept[made["name"]] = made
        return made

    return create


def _list(what: str) -> Callable[[World, str, Json, Json], Json]:
    return lambda world, name, body, query: _page(what, list(world.state(Monitoring).kept[what].values()), query)


def _patch(what: str) -> Callable[[World, str, Json, Json], Json]:
    def patch(world: World, name: str, body: Json, query: Json) -> Json:
        kept = world.state(Monitoring).kept[what]
        fields = query.get("updateMask", "").split(",")
        if name not in kept or not set(fields) <= _FIELDS[what]:
            raise Refusal("INVALID_ARGUMENT" if name in kept else "NOT_FOUND", f"{name}: {fields}")
        changed = {key: value for key, value in kept[name].items() if key not in fields}
        kept[name] = _checked(world, what, {**changed, **{key: body[key] for key in fields if key in body}})
        return kept[name]

    return patch


def _delete(what: str) -> Callable[[World, str, Json, Json], Json]:
    def delete(world: World, name: str, body: Json, query: Json) -> Json:
        state = world.state(Monitoring)
        if name not in state.kept[what]:
            raise Refusal("NOT_FOUND", f"{name} is not there")
        if any(name in each.get("notificationChannels", ()) for each in state.kept["alertPolicies"].values()):
            raise Refusal("FAILED_PRECONDITION", f"{name} is in use by an alert policy")
        del state.kept[what][name]
        return {}

    return delete


HANDLERS: dict[str, Callable[[World, str, Json, Json], Json]] = {
    "monitoring.projects.metricDescriptors.create": _describe,
    "monitoring.projects.timeSeries.create": _write,
    "monitoring.projects.timeSeries.list": _read,
}
PERMISSIONS = {name: name.replace("projects.", "") for name in HANDLERS}
for _what in _FIELDS:
    for _verb, _maker in (("create", _create), ("list", _list), ("patch", _patch), ("delete", _delete)):
        HANDLERS[f"monitoring.projects.{_what}.{_verb}"] = _maker(_what)
        PERMISSIONS[f"monitoring.projects.{_what}.{_verb}"] = (
            f"monitoring.{_what}.{'update' if _verb == 'patch' else _verb}"
        )

__all__ = ["HANDLERS", "PERMISSIONS", "Monitoring"]
