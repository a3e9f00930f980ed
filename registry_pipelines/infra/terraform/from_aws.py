"""Resources of Terraform's provider aws as the settings of one ECR registry that they are: the way back of ``aws``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from registry_pipelines.infra.ecr import alarms, forms, kinds
from registry_pipelines.infra.ecr.network import SERVICES, service_name
from registry_pipelines.infra.settings import Plain, Setting
from registry_pipelines.infra.terraform.reading import Resource, blocks

Fields = dict[str, Plain]


class FromAws:
    """Settings of the registry of an account in a region. notes: what is left out, and why."""

    def __init__(self, place: str, *, account: str, region: str) -> None:
        self.notes: list[str] = []
        self._place, self._account, self._region = place, account, region
        self._emails: dict[str, Fields] = {}

    def settings(self, resources: list[Resource]) -> list[Setting]:
        """The settings that resources are, as though they had been read from the cloud."""
        makers: dict[str, Callable[[Resource], Iterator[tuple[str, str, Fields]]]] = {
            "aws_ecr_repository": self._repository,
            "aws_ecr_lifecycle_policy": self._lifecycle,
            "aws_ecr_repository_policy": self._policy,
            "aws_ecr_registry_policy": self._registry_policy,
            "aws_ecr_repository_creation_template": self._template,
            "aws_ecr_registry_scanning_configuration": self._scanning,
            "aws_ecr_pull_through_cache_rule": self._pull_through,
            "aws_ecr_account_setting": self._account_setting,
            "aws_ecr_pull_time_update_exclusion": self._exclusion,
            "aws_ecr_replication_configuration": self._replication,
            "aws_signer_signing_profile": self._profile,
            "aws_vpc_endpoint": self._endpoint,
            "aws_sns_topic": self._topic,
            "aws_cloudwatch_metric_alarm": self._alarm,
        }
        found: list[Setting] = []
        for each in resources:
            if each.type == "aws_sns_topic_subscription":
                self._subscribed(each)
                continue
            maker = makers.get(each.type)
            if maker is None:
                if each.type.startswith(("aws_ecr_", "aws_ecrpublic_")):
                    self.notes.append(f"{each.address}: {each.type} is not declared by `infra`; left out")
                continue
            if elsewhere := self._elsewhere(each):
                self.notes.append(f"{each.address} is in {elsewhere}, and not of this registry; left out")
                continue
            if each.unknown:
                names = ", ".join(each.unknown)
                self.notes.append(f"{each.address}: Terraform works out {names}; read the state, or declare it by hand")
            try:
                made = [*maker(each)]
            except (ValueError, TypeError, LookupError, AttributeError) as error:
                self.notes.append(f"{each.address} cannot be read ({str(error)[:200]}); left out")
                continue
            found += [Setting(kind=kind, place=self._place, name=name, found=fields) for kind, name, fields in made]
        return found

    def _elsewhere(self, each: Resource) -> str:
        """The account or region of a resource that is another registry's; empty where it says none, or ours."""
        arn = each.text("arn").split(":")
        region = each.text("region") or (arn[3] if len(arn) > 5 else "")
        account = each.text("registry_id") or (arn[4] if len(arn) > 5 else "")
        if region and region != self._region:
            return region
        return f"account {account}" if account and account != self._account else ""

    def _common(self, each: Resource) -> Fields:
        encryption = next(iter(each.blocks("encryption_configuration")), {})
        excluded = [one["filter"] for one in each.blocks("image_tag_mutability_exclusion_filter")]
        return {
            "mutability": each.text("image_tag_mutability") or "MUTABLE",
            "excluded_tags": sorted(excluded),
            "encryption": encryption.get("encryption_type") or "AES256",
            "kms_key": encryption.get("kms_key") or "",
        }

    def _repository(self, each: Resource) -> Iterator[tuple[str, str, Fields]]:
        scanning = next(iter(each.blocks("image_scanning_configuration")), {})
        fields = {**self._common(each), "scan_on_push": bool(scanning.get("scan_on_push")), **_labels(each, "tags")}
        yield kinds.REPOSITORY, each.body["name"], fields

    def _lifecycle(self, each: Resource) -> Iterator[tuple[str, str, Fields]]:
        yield kinds.LIFECYCLE, each.body["repository"], {"policy": forms.lifecycle(each.body["policy"])}

    def _policy(self, each: Resource) -> Iterator[tuple[str, str, Fields]]:
        yield kinds.POLICY, each.body["repository"], forms.statements(each.body["policy"])

    def _registry_policy(self, each: Resource) -> Iterator[tuple[str, str, Fields]]:
        yield kinds.REGISTRY_POLICY, "", forms.statements(each.body["policy"])

    def _template(self, each: Resource) -> Iterator[tuple[str, str, Fields]]:
        fields = {**self._common(each), **_labels(each, "resource_tags"), "applied_for": each.texts("applied_for")}
        fields |= {"description": each.text("description"), "role": each.text("custom_role_arn")}
        if text := each.text("lifecycle_policy"):
            fields["lifecycle"] = forms.lifecycle(text)
        if text := each.text("repository_policy"):
            fields |= forms.statements(text)
        yield kinds.TEMPLATE, each.body["prefix"], fields

    def _scanning(self, each: Resource) -> Iterator[tuple[str, str, Fields]]:
        fields: Fields = {"type": each.text("scan_type") or "BASIC", "on_push": [], "continuous": []}
        names = {"SCAN_ON_PUSH": "on_push", "CONTINUOUS_SCAN": "continuous"}
        for rule in each.blocks("rule"):
            if name := names.get(rule["scan_frequency"]):
                patterns = [one["filter"] for one in blocks(rule, "repository_filter")]
                fields[name] = sorted({*fields[name], *patterns})
        yield kinds.SCANNING, "", fields

    def _pull_through(self, each: Resource) -> Iterator[tuple[str, str, Fields]]:
        fields: Fields = {
            "upstream": each.body["upstream_registry_url"],
            "upstream_prefix": each.text("upstream_repository_prefix") or kinds.ROOT,
            "secret": each.text("credential_arn"),
            "role": each.text("custom_role_arn"),
        }
        yield kinds.PULL_THROUGH, each.body["ecr_repository_prefix"], fields

    def _account_setting(self, each: Resource) -> Iterator[tuple[str, str, Fields]]:
        yield kinds.ACCOUNT, each.body["name"], {"value": each.body["value"]}

    def _exclusion(self, each: Resource) -> Iterator[tuple[str, str, Fields]]:
        yield kinds.EXCLUSION, each.body["principal_arn"], {}

    def _replication(self, each: Resource) -> Iterator[tuple[str, str, Fields]]:
        rules = []
        for configuration in each.blocks("replication_configuration"):
            for rule in blocks(configuration, "rule"):
                to = [f"{one['registry_id']}/{one['region']}" for one in blocks(rule, "destination")]
                rules.append((to, [one["filter"] for one in blocks(rule, "repository_filter")], False))
        for name, edge in forms.edges(rules).items():
            yield kinds.REPLICATION, name, edge

    def _profile(self, each: Resource) -> Iterator[tuple[str, str, Fields]]:
        [period] = each.blocks("signature_validity_period") or [{"type": "MONTHS", "value": 135}]
        validity = f"{int(period['value'])} {str(period['type']).lower()}"
        yield kinds.PROFILE, each.body["name"], {"platform": each.body["platform_id"], "validity": validity}

    def _endpoint(self, each: Resource) -> Iterator[tuple[str, str, Fields]]:
        """Endpoints of other services are none of ours."""
        names = {service_name(self._region, service): service for service in SERVICES}
        service = names.get(each.text("service_name"))
        if service is None:
            return
        fields: Fields = {"type": each.text("vpc_endpoint_type") or "Gateway"}
        if fields["type"] == "Gateway":
            fields["route_tables"] = each.texts("route_table_ids")
        else:
            fields |= {"private_dns": bool(each.body.get("private_dns_enabled")), "subnets": each.texts("subnet_ids")}
            fields["security_groups"] = each.texts("security_group_ids")
        yield kinds.ENDPOINT, f"{each.body['vpc_id']}/{service}", fields

    def _subscribed(self, each: Resource) -> None:
        """The topic that a subscription is of may come later, or stand in another file."""
        name = each.text("topic_arn").rpartition(":")[2]
        if not name or each.text("protocol") != "email":
            why = f"is told by {each.text('protocol') or '?'}" if name else "is of a topic that Terraform works out"
            self.notes.append(f"{each.address} {why}; left out")
        else:
            self._emails.setdefault(name, {})[f"{alarms.EMAIL}{each.text('endpoint')}"] = True

    def _topic(self, each: Resource) -> Iterator[tuple[str, str, Fields]]:
        yield kinds.TOPIC, each.body["name"], self._emails.setdefault(each.body["name"], {})

    def _told(self, each: Resource, name: str) -> list[str]:
        return [alarms.topic_arn(self._account, self._region, one) for one in each.texts(name)]

    def _alarm(self, each: Resource) -> Iterator[tuple[str, str, Fields]]:
        told = {
            "Namespace": each.text("namespace"),
            "MetricName": each.text("metric_name"),
            "Dimensions": [
                {"Name": name, "Value": value} for name, value in (each.body.get("dimensions") or {}).items()
            ],
            "Threshold": each.body.get("threshold") or 0,
            "EvaluationPeriods": int(each.body["evaluation_periods"]),
            "DatapointsToAlarm": int(each.body.get("datapoints_to_alarm") or 0),
            "Unit": each.text("unit"),
            "Period": int(each.body.get("period") or 0),
            "Statistic": each.text("statistic"),
            "ComparisonOperator": each.body["comparison_operator"],
            "AlarmActions": self._told(each, "alarm_actions"),
            "OKActions": self._told(each, "ok_actions"),
            "InsufficientDataActions": each.texts("insufficient_data_actions"),
            "TreatMissingData": each.text("treat_missing_data"),
            "AlarmDescription": each.text("alarm_description"),
            "ActionsEnabled": each.body.get("actions_enabled", True) is not False,
        }
        yield kinds.ALARM, each.body["alarm_name"], alarms.found_alarm(told)


def _labels(each: Resource, name: str) -> Fields:
    tags: Mapping[str, Any] = each.body.get(name) or {}
    return {f"{forms.LABEL}{key}": value for key, value in tags.items() if isinstance(value, str)}


__all__ = ["FromAws"]
