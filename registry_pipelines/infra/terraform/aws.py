"""ECR's settings as resources of Terraform's provider aws, of version 5 or 6.

Source: schemas of the provider (5.99.1, 6.25.0; run and seen with 5.100.0 and 6.69.1), its own checks of values, and
its issues 45233 (signing), 45701 (CREATE_ON_PUSH), 46082 (BLOB_MOUNTING).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from registry_pipelines.infra.ecr import alarms, forms, kinds
from registry_pipelines.infra.ecr.network import service_name
from registry_pipelines.infra.settings import Plain, Setting
from registry_pipelines.infra.terraform.blocks import Block, LeftOut, label, policy_text, without_empty

AwsVersion = Literal[5, 6]
CONSTRAINT: dict[AwsVersion, str] = {5: ">= 5.81, < 6", 6: ">= 6.50, < 7"}
"""Versions that know what is written. 5.81 has templates and account settings; 6.50 creation on push, blob mounting."""

Made = Iterator[Block | LeftOut]

_KEY_ID = re.compile(r"[0-9a-f-]{36}|mrk-[0-9a-f]{32}")
_VALIDITY = {"days": "DAYS", "months": "MONTHS", "years": "YEARS"}


class AwsWriter:
    """Blocks for one registry. place: its name in the configuration; account, region: its own. version: of the
    provider."""

    def __init__(self, place: str, account: str, region: str, version: AwsVersion) -> None:
        self._place, self._account, self._region, self._version = place, account, region, version
        self._repositories: dict[str, Block] = {}
        self._keys: dict[str, Block] = {}
        self._topics: dict[str, Block] = {}

    def write(self, settings: Sequence[Setting]) -> list[Block | LeftOut]:
        """What Terraform is told, and what it cannot be told. settings: the declared ones of one registry."""
        made: list[Block | LeftOut] = []
        by_kind: dict[str, list[Setting]] = {}
        for each in settings:
            if each.absent:
                made.append(
                    LeftOut(about=str(each.key), why="declared absent: Terraform deletes only what it made itself")
                )
            elif each.wanted is not None:
                by_kind.setdefault(each.kind, []).append(each)
        for kind in sorted(by_kind, key=kinds.ORDER.index):
            if kind == kinds.REPLICATION:
                made += self._replication(by_kind[kind])
            else:
                made += (one for each in by_kind[kind] for one in self._one(each, each.wanted or {}))
        return [*made, *self._keys.values()]

    def _one(self, setting: Setting, wanted: Mapping[str, Plain]) -> Made:
        makers = {
            kinds.PROFILE: self._profile,
            kinds.ACCOUNT: self._account_setting,
            kinds.TEMPLATE: self._template,
            kinds.REPOSITORY: self._repository,
            kinds.LIFECYCLE: self._lifecycle,
            kinds.POLICY: self._policy,
            kinds.REGISTRY_POLICY: self._registry_policy,
            kinds.SCANNING: self._scanning,
            kinds.PULL_THROUGH: self._pull_through,
            kinds.EXCLUSION: self._exclusion,
            kinds.ENDPOINT: self._endpoint,
            kinds.TOPIC: self._topic,
            kinds.ALARM: self._alarm,
        }
        if maker := makers.get(setting.kind):
            yield from maker(setting, wanted)
        else:
            yield LeftOut(about=str(setting.key), why=_WHY_NOT[setting.kind])

    def _block(self, kind: str, setting: Setting, body: Mapping[str, Any], import_id: str, name: str = "") -> Block:
        return Block(
            type=kind,
            label=label(self._place, name or setting.name or "registry"),
            body=without_empty(body),
            about=str(setting.key),
            import_id=import_id,
        )

    def _repository(self, setting: Setting, wanted: Mapping[str, Plain]) -> Made:
        body = {"name": setting.name, **self._common(wanted), "tags": _labels(wanted)}
        if "scan_on_push" in wanted:
            body["image_scanning_configuration"] = {"scan_on_push": wanted["scan_on_push"]}
        block = self._block("aws_ecr_repository", setting, body, setting.name)
        self._repositories[setting.name] = block
        yield block
        yield from self._no_exceptions(setting, wanted)

    def _common(self, wanted: Mapping[str, Plain]) -> dict[str, Any]:
        body: dict[str, Any] = {}
        if "mutability" in wanted:
            excluded = wanted["excluded_tags"]
            whole = excluded and self._version == 5
            body["image_tag_mutability"] = "MUTABLE" if whole else wanted["mutability"]
            if excluded and not whole:
                body["image_tag_mutability_exclusion_filter"] = [
                    {"filter": each, "filter_type": "WILDCARD"} for each in excluded
                ]
        if "encryption" in wanted or "kms_key" in wanted:
            body["encryption_configuration"] = [
                without_empty(
                    {"encryption_type": wanted.get("encryption"), "kms_key": self._key(wanted.get("kms_key"))}
                )
            ]
        return body

    def _no_exceptions(self, setting: Setting, wanted: Mapping[str, Plain]) -> Made:
        """Version 5 has no exceptions. Tags stay movable: immutable ones would break the tags that are excepted."""
        if self._version == 5 and wanted.get("excluded_tags"):
            why = (
                f"{wanted['mutability']} with {', '.join(wanted['excluded_tags'])} needs version 6: MUTABLE is written"
            )
            yield LeftOut(about=f"{setting.key} mutability", why=why)

    def _key(self, key: str | None) -> str | None:
        """A key as the provider takes it: by ARN. An alias is looked up, since ECR answers with the key's own ARN."""
        if key is None or ":key/" in key:
            return key
        if _KEY_ID.fullmatch(key):
            return f"arn:{kinds.partition(self._region)}:kms:{self._region}:{self._account}:key/{key}"
        alias = key.rpartition(":")[2]
        if alias not in self._keys:
            name = label(self._place, alias.removeprefix("alias/"))
            body = {"name": alias}
            self._keys[alias] = Block(type="aws_kms_alias", label=name, body=body, data=True, about=f"kms:key {key}")
        return self._keys[alias].reference("target_key_arn")

    def _name(self, repository: str) -> str:
        """A repository's name; as a reference where it is written here, so that it is made first."""
        block = self._repositories.get(repository)
        return block.reference("name") if block else repository

    def _lifecycle(self, setting: Setting, wanted: Mapping[str, Plain]) -> Made:
        body = {"repository": self._name(setting.name), "policy": policy_text(wanted["policy"])}
        yield self._block("aws_ecr_lifecycle_policy", setting, body, setting.name)

    def _policy(self, setting: Setting, wanted: Mapping[str, Plain]) -> Made:
        body = {"repository": self._name(setting.name), "policy": forms.policy_text(wanted)}
        yield self._block("aws_ecr_repository_policy", setting, body, setting.name)
        yield _whole_policy(setting)

    def _registry_policy(self, setting: Setting, wanted: Mapping[str, Plain]) -> Made:
        body = {"policy": forms.policy_text(wanted)}
        yield self._block("aws_ecr_registry_policy", setting, body, self._account)
        yield _whole_policy(setting)

    def _template(self, setting: Setting, wanted: Mapping[str, Plain]) -> Made:
        applied = list(wanted["applied_for"])
        if self._version == 5 and "CREATE_ON_PUSH" in applied:
            applied.remove("CREATE_ON_PUSH")
            yield LeftOut(about=f"{setting.key} applied_for", why="CREATE_ON_PUSH needs version 6")
            if not applied:
                return
        statements = {name: each for name, each in wanted.items() if name.startswith(forms.STATEMENT)}
        body = {
            "prefix": setting.name,
            "applied_for": applied,
            "description": wanted.get("description") or None,
            **self._common(wanted),
            "custom_role_arn": wanted.get("role"),
            "lifecycle_policy": policy_text(wanted["lifecycle"]) if "lifecycle" in wanted else None,
            "repository_policy": forms.policy_text(statements) if statements else None,
            "resource_tags": _labels(wanted),
        }
        yield self._block("aws_ecr_repository_creation_template", setting, body, setting.name)
        yield from self._no_exceptions(setting, wanted)

    def _scanning(self, setting: Setting, wanted: Mapping[str, Plain]) -> Made:
        frequencies = (("SCAN_ON_PUSH", wanted.get("on_push")), ("CONTINUOUS_SCAN", wanted.get("continuous")))
        rules = [
            {
                "scan_frequency": frequency,
                "repository_filter": [{"filter": each, "filter_type": "WILDCARD"} for each in patterns],
            }
            for frequency, patterns in frequencies
            if patterns
        ]
        body = {"scan_type": wanted.get("type", "BASIC"), "rule": rules or None}
        yield self._block("aws_ecr_registry_scanning_configuration", setting, body, self._account)

    def _pull_through(self, setting: Setting, wanted: Mapping[str, Plain]) -> Made:
        body = {
            "ecr_repository_prefix": setting.name,
            "upstream_registry_url": wanted["upstream"],
            "credential_arn": wanted.get("secret"),
            "custom_role_arn": wanted.get("role"),
            "upstream_repository_prefix": wanted.get("upstream_prefix"),
        }
        yield self._block("aws_ecr_pull_through_cache_rule", setting, body, setting.name)

    def _account_setting(self, setting: Setting, wanted: Mapping[str, Plain]) -> Made:
        if self._version == 5 and setting.name == "BLOB_MOUNTING":
            yield LeftOut(about=str(setting.key), why="needs version 6.50 or newer")
            return
        body = {"name": setting.name, "value": wanted["value"]}
        yield self._block("aws_ecr_account_setting", setting, body, setting.name)

    def _exclusion(self, setting: Setting, wanted: Mapping[str, Plain]) -> Made:
        if self._version == 5:
            yield LeftOut(about=str(setting.key), why="needs version 6")
            return
        body = {"principal_arn": setting.name}
        yield self._block("aws_ecr_pull_time_update_exclusion", setting, body, setting.name)

    def _profile(self, setting: Setting, wanted: Mapping[str, Plain]) -> Made:
        number, unit = wanted["validity"].split(" ")
        validity = {"type": _VALIDITY[unit], "value": int(number)}
        body = {"name": setting.name, "platform_id": wanted["platform"], "signature_validity_period": validity}
        yield self._block("aws_signer_signing_profile", setting, body, setting.name)

    def _endpoint(self, setting: Setting, wanted: Mapping[str, Plain]) -> Made:
        network, _, service = setting.name.partition("/")
        body = {
            "vpc_id": network,
            "service_name": service_name(self._region, service),
            "vpc_endpoint_type": wanted["type"],
            "private_dns_enabled": wanted.get("private_dns"),
            "subnet_ids": wanted.get("subnets"),
            "security_group_ids": wanted.get("security_groups"),
            "route_table_ids": wanted.get("route_tables"),
        }
        yield self._block("aws_vpc_endpoint", setting, body, "")

    def _topic(self, setting: Setting, wanted: Mapping[str, Plain]) -> Made:
        arn = alarms.topic_arn(self._account, self._region, setting.name)
        self._topics[arn] = block = self._block("aws_sns_topic", setting, {"name": setting.name}, arn)
        yield block
        for field in sorted(wanted):
            address = field.removeprefix(alarms.EMAIL)
            body = {"topic_arn": block.reference("arn"), "protocol": "email", "endpoint": address}
            name = f"{setting.name} {address}"
            yield self._block("aws_sns_topic_subscription", setting, body, "", name=name)

    def _alarm(self, setting: Setting, wanted: Mapping[str, Plain]) -> Made:
        """Topics that are written here are references, so that they are made first."""

        def told(field: str) -> list[str] | None:
            if field not in wanted:
                return None
            return [self._topics[arn].reference("arn") if arn in self._topics else arn for arn in wanted[field]]

        body = {
            "alarm_name": setting.name,
            "alarm_description": wanted.get("description") or None,
            "namespace": wanted.get("namespace"),
            "metric_name": wanted.get("metric"),
            "dimensions": wanted.get("dimensions"),
            "threshold": wanted.get("above"),
            "comparison_operator": wanted["comparison"],
            "evaluation_periods": wanted["hours"],
            "period": wanted.get("period_s"),
            "statistic": wanted.get("statistic"),
            "treat_missing_data": wanted.get("missing"),
            "actions_enabled": wanted.get("enabled"),
            "alarm_actions": told("topics"),
            "ok_actions": told("over_topics"),
        }
        yield self._block("aws_cloudwatch_metric_alarm", setting, body, setting.name)

    def _replication(self, settings: Sequence[Setting]) -> Made:
        """One resource for all destinations of a registry, as ECR has one configuration."""
        rules = []
        for rule in forms.rules({each.name: _without_deletes(each.wanted or {}) for each in settings}):
            destinations = [{"region": to["region"], "registry_id": to["registryId"]} for to in rule["destinations"]]
            written: dict[str, Any] = {"destination": destinations}
            if filters := rule.get("repositoryFilters"):
                written["repository_filter"] = [
                    {"filter": each["filter"], "filter_type": each["filterType"]} for each in filters
                ]
            rules.append(written)
        body = {"replication_configuration": {"rule": rules}}
        yield self._block("aws_ecr_replication_configuration", settings[0], body, self._account, name="registry")
        for each in settings:
            if (each.wanted or {}).get("deletes"):
                why = "no resource says that deletions go along (deleteReplication): Terraform switches it off"
                yield LeftOut(about=f"{each.key} deletes", why=why)


def _without_deletes(edge: Mapping[str, Plain]) -> dict[str, Plain]:
    """What Terraform can say of a destination. All repositories are all, whatever prefixes stand beside."""
    prefixes = edge.get("prefixes", [])
    return {"prefixes": [kinds.ALL] if kinds.ALL in prefixes else prefixes, "deletes": []}


def _labels(wanted: Mapping[str, Plain]) -> dict[str, str] | None:
    found = {name.removeprefix(forms.LABEL): each for name, each in wanted.items() if name.startswith(forms.LABEL)}
    return dict(sorted(found.items())) or None


def _whole_policy(setting: Setting) -> LeftOut:
    why = "Terraform owns the whole policy: statements that are there and not declared go when it is applied"
    return LeftOut(about=str(setting.key), why=why)


_WHY_NOT = {
    kinds.KEY: "keys are looked at and compared, never made: make them with aws_kms_key where that is wanted",
    kinds.SIGNING: "the provider has no resource for it: `infra apply` sets it, or awscc_ecr_signing_configuration",
    kinds.BACKFILL: "copying what is there already is an action, which `infra apply` starts",
}
"""Kinds that no resource is for."""

__all__ = ["CONSTRAINT", "AwsVersion", "AwsWriter"]
