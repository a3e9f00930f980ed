"""Alarms on our own numbers, declared: CloudWatch's with topics of SNS, Cloud Monitoring's with channels."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from registry_pipelines.chain import Chain
from registry_pipelines.config import load
from registry_pipelines.errors import ConfigInvalid
from tests.doubles.aws.front import ACCOUNT
from tests.doubles.google import GoogleCloud
from tests.doubles.google.monitoring import Monitoring
from tests.infra.cloud import REGION, Cloud
from tests.needs import needed_module

ALARMS: dict[str, Any] = {
    "topics": [{"name": "registry-alarms", "emails": ["ops@example.com"]}],
    "alarms": [
        {"name": "stored-100", "above": "100GB", "topics": ["registry-alarms"], "when_over": True},
        {"name": "stored-500", "above": "500GB", "hours": 3, "topics": ["registry-alarms"], "description": "Call us"},
        {
            "name": "forecaster",
            "metric": "repository_bytes",
            "labels": {"repository": "ml/forecaster"},
            "above": "50GB",
            "missing": "breaching",
            "namespace": "Ours",
        },
        {"name": "backup", "metric": "backup_age_seconds", "labels": {"backup": "offsite"}, "above": "26h"},
    ],
}


def client(ecr: Cloud, service: str) -> Any:
    import boto3

    return boto3.client(service, region_name=REGION, endpoint_url=ecr.aws.url)


def test_alarms_and_topics_are_set_once_and_then_as_declared(ecr: Cloud) -> None:
    chain = ecr.chain(ALARMS)
    applied = chain.apply_infra("eu")
    assert applied.ok and applied.changed, applied.reasons
    arn = f"arn:aws:sns:{REGION}:{ACCOUNT}:registry-alarms"
    there = {each["AlarmName"]: each for each in client(ecr, "cloudwatch").describe_alarms()["MetricAlarms"]}
    assert set(there) == {"stored-100", "stored-500", "forecaster", "backup"}
    stored = there["stored-100"]
    assert (stored["Namespace"], stored["MetricName"], stored["Threshold"]) == (
        "RegistryPipelines",
        "RegistryBytes",
        1e11,
    )
    assert stored["Dimensions"] == [{"Name": "Registry", "Value": "eu"}]
    assert stored["AlarmActions"] == stored["OKActions"] == [arn]
    assert (there["stored-500"]["Threshold"], there["stored-500"]["EvaluationPeriods"]) == (5e11, 3)
    assert (there["forecaster"]["Namespace"], there["forecaster"]["TreatMissingData"]) == ("Ours", "breaching")
    assert there["backup"]["Threshold"] == 26 * 3600
    [told] = client(ecr, "sns").list_subscriptions_by_topic(TopicArn=arn)["Subscriptions"]
    assert told["Endpoint"] == "ops@example.com"
    plan = chain.plan_infra("eu")
    assert plan.settled, plan.lines()
    again = chain.apply_infra("eu")
    assert again.ok and not again.changed


def test_what_somebody_changed_is_drift_and_is_healed(ecr: Cloud) -> None:
    chain = ecr.chain(ALARMS)
    assert chain.apply_infra("eu").ok
    cloudwatch, sns = client(ecr, "cloudwatch"), client(ecr, "sns")
    [there] = cloudwatch.describe_alarms(AlarmNames=["stored-500"])["MetricAlarms"]
    kept = ("AlarmName", "Namespace", "MetricName", "Dimensions", "Period", "Statistic", "ComparisonOperator")
    own = f"arn:aws:sns:{REGION}:{ACCOUNT}:others"
    changed = {name: there[name] for name in kept} | {"Threshold": 9e11, "EvaluationPeriods": 3}
    cloudwatch.put_metric_alarm(**changed, InsufficientDataActions=[own])
    cloudwatch.delete_alarms(AlarmNames=["backup"])
    cloudwatch.put_metric_alarm(**{**changed, "AlarmName": "by-hand"})
    sns.delete_topic(TopicArn=f"arn:aws:sns:{REGION}:{ACCOUNT}:registry-alarms")
    drifted = chain.drift("eu")
    assert not drifted.ok
    lines = chain.plan_infra("eu").lines()
    assert any(line.startswith("update cloudwatch:alarm stored-500 above") for line in lines), lines
    assert any(line.startswith("create cloudwatch:alarm backup") for line in lines)
    assert any(line.startswith("create sns:topic registry-alarms") for line in lines)
    assert "unmanaged cloudwatch:alarm by-hand" in lines
    assert chain.apply_infra("eu").ok and chain.drift("eu").ok
    [healed] = cloudwatch.describe_alarms(AlarmNames=["stored-500"])["MetricAlarms"]
    assert healed["Threshold"] == 5e11 and healed["InsufficientDataActions"] == [own], "what nobody declared stays"
    gone = {
        "topics": [{"name": "registry-alarms", "absent": True}],
        "alarms": [{"name": each["name"], "absent": True} for each in ALARMS["alarms"]],
    }
    assert ecr.chain(gone).apply_infra("eu").ok
    assert [each["AlarmName"] for each in cloudwatch.describe_alarms()["MetricAlarms"]] == ["by-hand"]
    assert sns.list_topics()["Topics"] == []


@pytest.mark.parametrize("silenced", [{"Unit": "Megabytes"}, {"DatapointsToAlarm": 1}])
def test_an_alarm_that_speaks_at_another_time_or_never_is_drift(ecr: Cloud, silenced: dict[str, Any]) -> None:
    hours = [{**each, "hours": 3} for each in ALARMS["alarms"]]
    chain = ecr.chain({**ALARMS, "alarms": hours})
    assert chain.apply_infra("eu").ok and chain.drift("eu").ok
    cloudwatch = client(ecr, "cloudwatch")
    [there] = cloudwatch.describe_alarms(AlarmNames=["stored-500"])["MetricAlarms"]
    cloudwatch.put_metric_alarm(**{each: there[each] for each in PUT if each in there} | silenced)
    assert not chain.drift("eu").ok
    assert chain.apply_infra("eu").ok and chain.drift("eu").ok
    [healed] = cloudwatch.describe_alarms(AlarmNames=["stored-500"])["MetricAlarms"]
    assert {each: healed.get(each) for each in PUT} == {each: there.get(each) for each in PUT}


PUT = (
    "AlarmName", "AlarmDescription", "Namespace", "MetricName", "Dimensions", "Period", "Statistic", "Threshold",
    "ComparisonOperator", "EvaluationPeriods", "DatapointsToAlarm", "Unit", "AlarmActions", "OKActions",
    "TreatMissingData", "ActionsEnabled",
)  # fmt: skip


def test_an_import_of_alarms_is_as_declared(ecr: Cloud, tmp_path: Path) -> None:
    chain = ecr.chain(ALARMS)
    assert chain.apply_infra("eu").ok
    client(ecr, "sns").create_topic(Name="of-others")
    client(ecr, "cloudwatch").put_metric_alarm(
        AlarmName="low", Namespace="RegistryPipelines", MetricName="RegistryBytes", Threshold=1, EvaluationPeriods=1,
        Period=60, Statistic="Minimum", ComparisonOperator="LessThanThreshold",
    )  # fmt: skip
    text, _, notes = chain.import_infra("eu")
    found = yaml.safe_load(text)["infra"]["eu"]
    assert [each["name"] for each in found["topics"]] == ["registry-alarms"]
    assert {each["name"] for each in found["alarms"]} == {"stored-100", "stored-500", "backup"}, "Ours is not watched"
    assert any("alarm low" in note for note in notes)
    again = Chain(load(ecr.write({key: found[key] for key in ("topics", "alarms")})))
    assert again.plan_infra("eu").settled


@pytest.mark.parametrize(
    ("alarm", "told"),
    [
        ({"metric": "repository_byte"}, "no number that is followed"),
        ({"metric": "repository_bytes"}, "needs repository"),
        ({"labels": {"team": "ml"}}, "has no label team"),
        ({"above": None}, "above what"),
        ({"above": "26h"}, "no number of bytes"),
        ({"metric": "backup_age_seconds", "labels": {"backup": "b"}, "above": "5GB"}, "no number of seconds"),
        ({"topics": [f"t{number}" for number in range(6)]}, "CloudWatch takes 5"),
        ({"topics": ["gone"]}, "gone is declared absent"),
    ],
)
def test_what_is_wrong_with_an_alarm_is_said_before_anything_is_asked(
    ecr: Cloud, alarm: dict[str, Any], told: str
) -> None:
    entry = {name: value for name, value in {"name": "a", "above": "1GB", **alarm}.items() if value is not None}
    with pytest.raises(ConfigInvalid, match=told):
        ecr.chain({"alarms": [entry], "topics": [{"name": "gone", "absent": True}]}).check_infra()
    assert not ecr.asked()


def test_who_may_not_look_at_alarms_still_sees_the_rest(ecr: Cloud) -> None:
    ecr.aws.default.denied.add("cloudwatch:DescribeAlarms")
    chain = ecr.chain({**ALARMS, "repositories": [{"names": ["app"]}]})
    plan = chain.plan_infra("eu")
    assert {each.action for each in plan.changes if each.kind == "cloudwatch:alarm"} == {"refuse"}
    assert any(each.action == "create" and each.name == "app" for each in plan.changes)
    assert "DescribeAlarms" in json.dumps([each.why for each in plan.changes])


GOOGLE: dict[str, Any] = {
    "channels": [
        {"name": "registry-ops", "email": "ops@example.com"},
        {"name": "queue", "topic": "projects/ml-prod/topics/alarms"},
    ],
    "alarms": [
        {"name": "stored-100", "above": "100GB", "channels": ["registry-ops"]},
        {
            "name": "stored-500",
            "above": "500GB",
            "hours": 3,
            "channels": ["registry-ops", "queue"],
            "severity": "CRITICAL",
            "description": "Call us",
        },
        {
            "name": "models",
            "metric": "repository_bytes",
            "labels": {"repository": "models"},
            "own": True,
            "above": "50GB",
        },
    ],
}


@pytest.fixture
def google(tmp_path: Path) -> Iterator[GoogleCloud]:
    needed_module("google.cloud.artifactregistry_v1", "google")
    with GoogleCloud(tmp_path / "google") as cloud:
        yield cloud


def gar(google: GoogleCloud, folder: Path, infra: dict[str, Any]) -> Chain:
    path = folder / "registry-pipelines.yaml"
    about = f"kind: gar, project: ml-prod, location: europe-west1, endpoint: '{google.endpoint}'"
    section = json.dumps({"gar": {"kind": "gar", **infra}})
    path.write_text(f"registries:\n  gar: {{{about}}}\ninfra: {section}\n")
    return Chain(load(path))


def test_policies_and_channels_of_google_are_set_drift_and_are_healed(google: GoogleCloud, tmp_path: Path) -> None:
    chain = gar(google, tmp_path, GOOGLE)
    applied = chain.apply_infra("gar")
    assert applied.ok and applied.changed, applied.reasons
    kept = google.world.state(Monitoring).kept
    policies = {each["displayName"]: each for each in kept["alertPolicies"].values()}
    threshold = policies["stored-500"]["conditions"][0]["conditionThreshold"]
    assert (threshold["thresholdValue"], threshold["duration"]) == (5e11, "7200s")
    assert 'metric.labels.registry="gar"' in threshold["filter"]
    assert len(policies["stored-500"]["notificationChannels"]) == 2
    own = policies["models"]["conditions"][0]["conditionThreshold"]["filter"]
    assert 'metric.type="artifactregistry.googleapis.com/repository/size"' in own
    plan = chain.plan_infra("gar")
    assert plan.settled, plan.lines()
    policies["stored-100"]["notificationChannels"] = []
    policies["stored-500"]["severity"] = "WARNING"
    del kept["alertPolicies"][policies["models"]["name"]]
    by_hand = {**policies["stored-100"], "name": "projects/ml-prod/alertPolicies/7", "displayName": "by-hand"}
    kept["alertPolicies"][by_hand["name"]] = by_hand
    lines = chain.plan_infra("gar").lines()
    assert 'update monitoring:alert-policy stored-100 channels: [] -> ["registry-ops"]' in lines
    assert "update monitoring:alert-policy stored-500 severity: WARNING -> CRITICAL" in lines
    assert any(line.startswith("create monitoring:alert-policy models") for line in lines)
    assert "unmanaged monitoring:alert-policy by-hand" in lines
    assert not chain.drift("gar").ok and chain.apply_infra("gar").ok and chain.drift("gar").ok
    gone = {key: [{"name": each["name"], "absent": True} for each in value] for key, value in GOOGLE.items()}
    done = gar(google, tmp_path, gone).apply_infra("gar")
    assert done.ok and not kept["notificationChannels"], done.reasons
    assert [each["displayName"] for each in kept["alertPolicies"].values()] == ["by-hand"]


def test_an_import_from_google_is_as_declared(google: GoogleCloud, tmp_path: Path) -> None:
    chain = gar(google, tmp_path, GOOGLE)
    assert chain.apply_infra("gar").ok
    kept = google.world.state(Monitoring).kept
    name = "projects/ml-prod/notificationChannels/99"
    kept["notificationChannels"][name] = {"name": name, "displayName": "of-others", "type": "slack"}
    text, _, _ = chain.import_infra("gar")
    found = yaml.safe_load(text)["infra"]["gar"]
    assert {each["name"] for each in found["channels"]} == {"registry-ops", "queue"}
    again = gar(google, tmp_path, {key: found[key] for key in ("channels", "alarms")})
    plan = again.plan_infra("gar")
    assert plan.settled and len(list(plan.changes)) == 5, plan.lines()


def test_a_name_that_two_channels_have_is_no_channel(google: GoogleCloud, tmp_path: Path) -> None:
    chain = gar(google, tmp_path, GOOGLE)
    assert chain.apply_infra("gar").ok
    kept = google.world.state(Monitoring).kept["notificationChannels"]
    twin = {**next(iter(kept.values())), "name": "projects/ml-prod/notificationChannels/99"}
    kept[twin["name"]] = twin
    [refused] = [each for each in chain.plan_infra("gar").changes if each.action == "refuse"]
    assert refused.kind == "monitoring:channel" and "two have the name" in refused.why


@pytest.mark.parametrize(
    ("section", "told"),
    [
        ({"channels": [{"name": "a"}]}, "by `email` or by `topic`"),
        ({"alarms": [{"name": "a", "above": "1GB", "channels": ["nobody"]}]}, "nobody is not among"),
        ({"alarms": [{"name": "a", "above": "1GB", "own": True}]}, "is for `metric: repository_bytes`"),
        ({"alarms": [{"name": "a", "metric": "x", "above": "1GB"}]}, "no number that is followed"),
    ],
)
def test_what_is_wrong_with_a_policy_is_said_first(
    google: GoogleCloud, tmp_path: Path, section: dict[str, Any], told: str
) -> None:
    with pytest.raises(ConfigInvalid, match=told):
        gar(google, tmp_path, section).check_infra()
