"""Alarms of CloudWatch on our own numbers, and the topics of SNS that they tell.

ECR has no number of bytes: ``report metrics`` publishes ours, and these alarms watch it. Source: botocore's models of
CloudWatch (PutMetricAlarm, DescribeAlarms) and SNS.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec

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
from registry_pipelines.infra.ecr import kinds
from registry_pipelines.measures import MEASURES, NAMESPACE, camel
from registry_pipelines.settings import Pattern

if TYPE_CHECKING:  # the configuration has these classes, and asks nobody
    from registry_pipelines.infra.ecr.asking import Asking
    from registry_pipelines.infra.plan import Change
    from registry_pipelines.infra.settings import Fields, Plain, Setting

PERIOD_S = 3600
"""Of a point: numbers come every half an hour, and with points of an hour CloudWatch looks back over a week."""
MOST_ACTIONS = 5
"""Of an alarm, by its model."""
EMAIL = "email."
"""Begins the field of an address that a topic tells."""
TOPIC = Pattern(
    r"^([A-Za-z0-9_-]{1,256}|arn:aws[a-z-]*:sns:[a-z0-9-]+:[0-9]{12}:[A-Za-z0-9_-]{1,256})$",
    "a topic of SNS",
    "write its name or its ARN",
)
ADDRESS = Pattern(r"^[^\s@]{1,64}@[^\s@]{1,190}$", "an e-mail address", "write name@example.com")
SPACE = Pattern(r"^[A-Za-z0-9_./#-]{1,255}$", "a namespace of CloudWatch", "use letters, digits and _ . / # -")

Missing = Literal["missing", "ignore", "breaching", "notBreaching"]


class EcrTopic(msgspec.Struct, frozen=True, kw_only=True):
    """A topic of SNS in the registry's account and region."""

    name: Annotated[str, ALARM_NAME]
    """Its name."""
    emails: tuple[Annotated[str, ADDRESS], ...] = ()
    """Who is told by e-mail; each must say yes to a mail that AWS sends. Other subscriptions stay."""
    absent: bool = False
    """It must not be there."""


class EcrAlarm(Alarm, frozen=True, kw_only=True):
    """Somebody is told while a number of ours is above a bound."""

    topics: tuple[Annotated[str, TOPIC], ...] = ()
    """Topics of SNS that are told, by name or ARN."""
    when_over: bool = False
    """They are told, too, when it is below again."""
    missing: Missing = "missing"
    """What hours without the number count as."""
    namespace: Annotated[str, SPACE] = NAMESPACE
    """Where the number is published (`report.metrics.cloudwatch.namespace`)."""


def alarm_problems(alarms: Sequence[EcrAlarm], topics: Sequence[EcrTopic]) -> Iterator[Problem]:
    """What is wrong with a declaration by itself."""
    yield from problems(alarms)
    yield from twice([each.name for each in topics], "topics")
    gone = {each.name for each in topics if each.absent}
    for position, alarm in enumerate(alarms):
        if len(alarm.topics) > MOST_ACTIONS:
            yield f"alarms[{position}].topics", f"has {len(alarm.topics)}; CloudWatch takes {MOST_ACTIONS}"
        for each in alarm.topics:
            if each in gone and not alarm.absent:
                yield f"alarms[{position}].topics", f"{each} is declared absent"


def topic_arn(account: str, region: str, name: str) -> str:
    """The ARN of a topic by its name."""
    return name if name.startswith("arn:") else f"arn:{kinds.partition(region)}:sns:{region}:{account}:{name}"


def topic_fields(topic: EcrTopic) -> dict[str, Plain]:
    """What is wanted of a topic."""
    return {f"{EMAIL}{each}": True for each in topic.emails}


def alarm_fields(alarm: EcrAlarm, *, place: str, account: str, region: str) -> dict[str, Plain]:
    """What is wanted of an alarm. place: the registry's name in the configuration."""
    told = sorted({topic_arn(account, region, each) for each in alarm.topics})
    return {
        "namespace": alarm.namespace,
        "metric": camel(alarm.metric),
        "dimensions": {camel(name): value for name, value in labels_of(alarm, place).items()},
        "above": bound(alarm.above or "0"),
        "hours": alarm.hours,
        "period_s": PERIOD_S,
        "statistic": "Maximum",
        "comparison": "GreaterThanThreshold",
        "topics": told,
        "over_topics": told if alarm.when_over else [],
        "missing": alarm.missing,
        "enabled": True,
        **({"description": alarm.description} if alarm.description else {}),
    }


def found_topics(asking: Asking, own: Sequence[Setting], *, everything: bool) -> dict[str, dict[str, Plain]]:
    """The topics of the account in the region that are declared, or for an import those that alarms of ours tell, with
    their subscriptions."""
    named = {each.name for each in own}
    if everything:
        watching = found_alarms(asking, ()).values()
        named |= {arn.rpartition(":")[2] for each in watching for arn in (*each["topics"], *each["over_topics"])}
    found: dict[str, dict[str, Plain]] = {}
    for each in asking.pages("list_topics", "Topics", service="sns"):
        arn = str(each["TopicArn"])
        name = arn.rpartition(":")[2]
        if name in named:
            listed = asking.pages("list_subscriptions_by_topic", "Subscriptions", service="sns", TopicArn=arn)
            found[name] = {f"{EMAIL}{one['Endpoint']}": True for one in listed if one.get("Protocol") == "email"}
    return found


def found_alarms(asking: Asking, own: Sequence[Setting]) -> dict[str, dict[str, Plain]]:
    """The alarms of the account in the region that are declared, or watch our numbers."""
    named = {each.name for each in own}
    spaces = {NAMESPACE, *(str(each.wanted["namespace"]) for each in own if each.wanted)}
    listed = asking.pages("describe_alarms", "MetricAlarms", service="cloudwatch", AlarmTypes=["MetricAlarm"])
    return {
        str(each["AlarmName"]): found_alarm(each)
        for each in listed
        if each["AlarmName"] in named or each.get("Namespace") in spaces
    }


def found_alarm(each: Mapping[str, Any]) -> dict[str, Plain]:
    """The fields of an alarm as CloudWatch tells it. One over an expression has neither metric nor period. What is
    never declared and changes when one speaks stands where it does: a unit, and fewer hours than are looked at."""
    hours, points, unit = each.get("EvaluationPeriods", 1), each.get("DatapointsToAlarm"), each.get("Unit")
    return {
        "namespace": each.get("Namespace", ""),
        "metric": each.get("MetricName", ""),
        "dimensions": {one["Name"]: one["Value"] for one in each.get("Dimensions", ())},
        "above": float(each.get("Threshold", 0.0)),
        "hours": hours if points in (None, 0, hours) else f"{points} of {hours}",
        "period_s": each.get("Period", 0),
        "statistic": each.get("Statistic", "") + (f" in {unit}" if unit else ""),
        "comparison": each.get("ComparisonOperator", ""),
        "topics": sorted(each.get("AlarmActions", ())),
        "over_topics": sorted(each.get("OKActions", ())),
        "unknown_topics": sorted(each.get("InsufficientDataActions", ())),
        "missing": each.get("TreatMissingData") or "missing",
        "description": each.get("AlarmDescription", ""),
        "enabled": bool(each.get("ActionsEnabled", True)),
    }


def change_topic(asking: Asking, change: Change) -> None:
    """Make a topic, tell more addresses, or delete it. Raises the RegistryError family."""
    arn = topic_arn(asking.account, asking.region, change.name)
    if change.action == "delete":
        asking.ask("delete_topic", service="sns", TopicArn=arn)
        return
    if change.action == "create":
        arn = asking.ask("create_topic", service="sns", Name=change.name)["TopicArn"]
    for each in change.differences:
        address = each.field.removeprefix(EMAIL)
        asking.ask("subscribe", service="sns", TopicArn=arn, Protocol="email", Endpoint=address)


def change_alarm(asking: Asking, change: Change) -> None:
    """Set an alarm, which CloudWatch takes as a whole, or delete it. Raises the RegistryError family."""
    if change.action == "delete":
        asking.ask("delete_alarms", service="cloudwatch", AlarmNames=[change.name])
        return
    fields = {**(change.found or {}), **(change.wanted or {})}
    asking.ask("put_metric_alarm", service="cloudwatch", **_values(change.name, fields))


def _values(name: str, fields: Fields) -> dict[str, Any]:
    values = {
        "AlarmName": name,
        "Namespace": fields["namespace"],
        "MetricName": fields["metric"],
        "Dimensions": [{"Name": each, "Value": value} for each, value in sorted(fields["dimensions"].items())],
        "Threshold": fields["above"],
        "EvaluationPeriods": fields["hours"],
        "Period": fields["period_s"],
        "Statistic": fields["statistic"],
        "ComparisonOperator": fields["comparison"],
        "AlarmActions": fields["topics"],
        "OKActions": fields["over_topics"],
        "InsufficientDataActions": fields.get("unknown_topics", []),
        "TreatMissingData": fields["missing"],
        "ActionsEnabled": fields["enabled"],
    }
    return values | ({"AlarmDescription": fields["description"]} if fields.get("description") else {})


def declared_alarm(name: str, fields: Fields, *, place: str) -> dict[str, Any] | None:
    """An alarm that is there, as it would be declared; None for one that cannot be: of other numbers, or otherwise
    compared."""
    metric = measure_of(fields["metric"], ((each, camel(each)) for each in MEASURES))
    usual = ("Maximum", "GreaterThanThreshold", PERIOD_S, True)
    there = (fields["statistic"], fields["comparison"], fields["period_s"], fields["enabled"])
    own = {camel(label): label for label in MEASURES[metric].labels} if metric else {}
    if not metric or there != usual or set(fields["dimensions"]) != set(own) or fields["above"] != int(fields["above"]):
        return None
    if not isinstance(fields["hours"], int):
        return None
    if fields["over_topics"] not in ([], fields["topics"]):
        return None
    labels = {own[each]: value for each, value in fields["dimensions"].items()}
    labels = {each: value for each, value in labels.items() if (each, value) != ("registry", place)}
    entry: dict[str, Any] = {
        "name": name,
        "metric": metric,
        "above": bound_text(fields["above"], metric),
        "hours": fields["hours"],
    }
    entry |= {"labels": labels} if labels else {}
    entry |= {"topics": fields["topics"]} if fields["topics"] else {}
    entry |= {"when_over": True} if fields["over_topics"] else {}
    entry |= {"missing": fields["missing"]} if fields["missing"] != "missing" else {}
    entry |= {"description": fields["description"]} if fields["description"] else {}
    return entry | ({"namespace": fields["namespace"]} if fields["namespace"] != NAMESPACE else {})


__all__ = [
    "EMAIL",
    "EcrAlarm",
    "EcrTopic",
    "alarm_fields",
    "alarm_problems",
    "change_alarm",
    "change_topic",
    "declared_alarm",
    "found_alarm",
    "found_alarms",
    "found_topics",
    "topic_arn",
    "topic_fields",
]
