"""What is declared of an ECR registry as settings, and everything that is wrong with it, before anything is asked."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from registry_pipelines.errors import LifecycleInvalid
from registry_pipelines.infra.ecr import alarms, forms, kinds
from registry_pipelines.infra.ecr.model import (
    EcrInfra,
    EcrPullThrough,
    EcrReplication,
    EcrRepositories,
    EcrTemplate,
    RepositorySettings,
    VpcEndpoints,
)
from registry_pipelines.infra.ecr.problems import Problem, problems
from registry_pipelines.infra.settings import Plain, Setting
from registry_pipelines.lifecycle.ecr_policy import read_ecr_policy
from registry_pipelines.measures import MEASURES

MAX_POLICY_CHARACTERS = 10_240
MAX_LIFECYCLE_CHARACTERS = 30_720
"""Source: botocore's model of ECR (RepositoryPolicyText, LifecyclePolicyText)."""
MIN_LIFECYCLE_CHARACTERS = 100


class Wanted:
    """The settings that one registry is to have. account, region: the registry's own."""

    def __init__(self, infra: EcrInfra, *, account: str, region: str) -> None:
        self.problems: list[Problem] = []
        self.settings: list[Setting] = []
        self._place, self._account, self._region = infra.name, account, region
        self._policies: dict[Path, dict[str, Plain]] = {}
        self._lifecycles: dict[Path, Plain] = {}
        self.problems += problems(infra, account=account, region=region)
        for position, group in enumerate(infra.repositories):
            self._repositories(group, f"repositories[{position}]")
        for position, template in enumerate(infra.templates):
            self._template(template, f"templates[{position}]")
        self._registry(infra)
        self._others(infra)

    def _add(self, kind: str, name: str, wanted: dict[str, Plain] | None, source: str, **more: Any) -> None:
        fixed = kinds.FIXED.get(kind, ())
        values = {"kind": kind, "place": self._place, "name": name, "source": source, "fixed": fixed, **more}
        self.settings.append(Setting(wanted=wanted, **values))

    def _repositories(self, group: EcrRepositories, path: str) -> None:
        common = _common(group)
        if group.scan_on_push is not None:
            common["scan_on_push"] = group.scan_on_push
        policy = self._policy(group, path)
        lifecycle = self._lifecycle(group.lifecycle, path)
        for name in group.names:
            if group.absent:
                self._add(kinds.REPOSITORY, name, {"force": group.force}, path, absent=True)
                continue
            self._add(kinds.REPOSITORY, name, dict(common), path)
            if lifecycle is not None:
                self._add(kinds.LIFECYCLE, name, {"policy": lifecycle}, f"{path}.lifecycle")
            if policy:
                self._add(kinds.POLICY, name, dict(policy), f"{path}.policy")

    def _template(self, template: EcrTemplate, path: str) -> None:
        name = template.prefix or kinds.ROOT
        if template.absent:
            self._add(kinds.TEMPLATE, name, None, path, absent=True)
            return
        fields = _common(template)
        fields |= {"applied_for": sorted(template.applied_for), "description": template.description}
        fields |= {"role": template.role} if template.role is not None else {}
        lifecycle = self._lifecycle(template.lifecycle, path)
        fields |= {"lifecycle": lifecycle} if lifecycle is not None else {}
        self._add(kinds.TEMPLATE, name, fields | self._policy(template, path), path)

    def _policy(self, settings: RepositorySettings, path: str) -> dict[str, Plain]:
        fields = self._statements(settings.policy, f"{path}.policy") if settings.policy else {}
        written = forms.readers_statements(settings.readers) if settings.readers is not None else {}
        for name in fields.keys() & written.keys():
            sid = name.removeprefix(forms.STATEMENT)
            self.problems.append((f"{path}.policy", f"has the statement {sid}, which is written for `readers`"))
        return {**fields, **written}

    def _statements(self, file: Path, path: str) -> dict[str, Plain]:
        if file not in self._policies:
            text = self._read(file, path, MAX_POLICY_CHARACTERS)
            try:
                self._policies[file] = forms.statements(text) if text else {}
            except (ValueError, RecursionError) as error:
                self._policies[file] = {}
                self.problems.append((path, f"{file} is no policy: {error}"))
        return self._policies[file]

    def _lifecycle(self, file: Path | None, path: str) -> Plain:
        if file is None:
            return None
        if file not in self._lifecycles:
            text = self._read(file, f"{path}.lifecycle", MAX_LIFECYCLE_CHARACTERS)
            self._lifecycles[file] = None
            try:
                if text:
                    read_ecr_policy(text)
                    self._lifecycles[file] = forms.lifecycle(text)
            except LifecycleInvalid as error:
                self.problems += [(f"{path}.lifecycle", f"{file}: {problem}") for problem in error.problems]
        return self._lifecycles[file]

    def _read(self, file: Path, path: str, most: int) -> str:
        try:
            with file.open("rb") as opened:
                text = opened.read(4 * most + 1).decode()
        except (OSError, UnicodeDecodeError) as error:
            said = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            self.problems.append((path, f"{file} cannot be read: {said}"))
            return ""
        if len(text) > most:
            self.problems.append((path, f"{file} has more than {most} characters, the most that ECR takes"))
            return ""
        if not text.strip():
            self.problems.append((path, f"{file} is empty"))
            return ""
        return text

    def _registry(self, infra: EcrInfra) -> None:
        fields = self._statements(infra.registry_policy, "registry_policy") if infra.registry_policy else {}
        if infra.replicated_from:
            partition = kinds.partition(self._region)
            resource = f"arn:{partition}:ecr:{self._region}:{self._account}:repository/*"
            fields = {**fields, **forms.replication_statement(infra.replicated_from, resource)}
        if fields:
            self._add(kinds.REGISTRY_POLICY, "", fields, "registry_policy")
        if infra.scanning is not None:
            told: dict[str, Plain] = {"type": infra.scanning.type}
            told |= {name: _sorted(getattr(infra.scanning, name)) for name in ("on_push", "continuous")}
            self._add(
                kinds.SCANNING, "", {name: value for name, value in told.items() if value is not None}, "scanning"
            )
        for each in infra.signing:
            signed = None if each.absent else {"repositories": sorted(each.repositories)}
            self._add(kinds.SIGNING, self._profile(each.profile), signed, "signing", absent=each.absent)
        for name, value in _account_settings(infra):
            self._add(kinds.ACCOUNT, name, {"value": value}, "account")
        self._replication(infra.replication)

    def _profile(self, name: str) -> str:
        if name.startswith("arn:"):
            return name
        partition = kinds.partition(self._region)
        return f"arn:{partition}:signer:{self._region}:{self._account}:/signing-profiles/{name}"

    def _replication(self, rules: Sequence[EcrReplication]) -> None:
        there = [rule for rule in rules if not rule.absent]
        named = [([self._destination(to) for to in rule.to], rule.prefixes, rule.deletes) for rule in there]
        for name, edge in forms.edges(named).items():
            self._add(kinds.REPLICATION, name, edge, "replication")
        for name in sorted({self._destination(to) for rule in rules if rule.absent for to in rule.to}):
            self._add(kinds.REPLICATION, name, None, "replication", absent=True)
        filled = {self._destination(to) for rule in rules if rule.backfill for to in rule.to}
        for name in sorted(filled):
            self._add(kinds.BACKFILL, name, {"status": kinds.BACKFILLED, "failed": 0}, "replication")

    def _destination(self, text: str) -> str:
        return text if "/" in text else f"{self._account}/{text}"

    def _others(self, infra: EcrInfra) -> None:
        for rule in infra.pull_through:
            name = rule.prefix or kinds.ROOT
            wanted = None if rule.absent else _pull_through(rule)
            self._add(kinds.PULL_THROUGH, name, wanted, "pull_through", absent=rule.absent)
        for principal in infra.pull_time_exclusions:
            self._add(kinds.EXCLUSION, principal, {}, "pull_time_exclusions")
        for name, profile in infra.signer_profiles.items():
            wanted = {"platform": profile.platform, "validity": profile.validity}
            self._add(kinds.PROFILE, name, wanted, "signer_profiles")
        for key in infra.kms_keys:
            told = {"enabled": key.enabled, "spec": key.spec, "usage": key.usage, "rotation": key.rotation}
            fields = {name: value for name, value in told.items() if value is not None}
            self._add(kinds.KEY, key.key, fields, "kms_keys", must_exist=True)
        for endpoints in infra.vpc_endpoints:
            for name, fields in _endpoints(endpoints):
                self._add(kinds.ENDPOINT, name, fields, "vpc_endpoints")
        for topic in infra.topics:
            told_by = None if topic.absent else alarms.topic_fields(topic)
            self._add(kinds.TOPIC, topic.name, told_by, "topics", absent=topic.absent)
        known = [each for each in infra.alarms if each.metric in MEASURES]  # of another the problem is told already
        for alarm in known:
            watched = alarms.alarm_fields(alarm, place=infra.name, account=self._account, region=self._region)
            self._add(kinds.ALARM, alarm.name, None if alarm.absent else watched, "alarms", absent=alarm.absent)


def _common(settings: RepositorySettings) -> dict[str, Plain]:
    fields: dict[str, Plain] = {f"{forms.LABEL}{name}": value for name, value in settings.labels.items()}
    if settings.immutable is not None or settings.movable is not None:
        immutable = settings.immutable is not False
        fields["mutability"], fields["excluded_tags"] = forms.mutability(immutable, settings.movable or ())
    if settings.encryption is not None:
        fields["encryption"] = settings.encryption
    if settings.kms_key is not None:
        fields["kms_key"] = settings.kms_key
    return fields


def _pull_through(rule: EcrPullThrough) -> dict[str, Plain]:
    told = {"upstream": rule.upstream, "secret": rule.secret, "role": rule.role}
    told["upstream_prefix"] = kinds.ROOT if rule.upstream_prefix == "" else rule.upstream_prefix
    return {name: value for name, value in told.items() if value is not None}


def _endpoints(endpoints: VpcEndpoints) -> Iterator[tuple[str, dict[str, Plain]]]:
    for service in ("ecr.api", "ecr.dkr"):
        fields: dict[str, Plain] = {"type": "Interface", "private_dns": endpoints.private_dns}
        fields["subnets"] = sorted(endpoints.subnets)
        if endpoints.security_groups:
            fields["security_groups"] = sorted(endpoints.security_groups)
        yield f"{endpoints.vpc}/{service}", fields
    yield f"{endpoints.vpc}/s3", {"type": "Gateway", "route_tables": sorted(endpoints.route_tables)}


def _account_settings(infra: EcrInfra) -> Iterator[tuple[str, str]]:
    account = infra.account
    if account.blob_mounting is not None:
        yield "BLOB_MOUNTING", "ENABLED" if account.blob_mounting else "DISABLED"
    if account.basic_scan is not None:
        yield "BASIC_SCAN_TYPE_VERSION", account.basic_scan
    if account.registry_policy is not None:
        yield "REGISTRY_POLICY_SCOPE", account.registry_policy


def _sorted(values: Sequence[str] | None) -> list[str] | None:
    return None if values is None else sorted(values)


def lifecycle_text(policy: Plain) -> str:
    """A lifecycle policy as AWS is given it: 100 characters at least, by its model."""
    return json.dumps(policy, separators=(",", ":")).ljust(MIN_LIFECYCLE_CHARACTERS)
