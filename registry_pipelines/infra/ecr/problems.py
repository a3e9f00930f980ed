"""What is wrong with a declaration by itself: quotas, things that stand there twice, fields that do not go together."""

from __future__ import annotations

from collections.abc import Iterator

from registry_pipelines.infra.ecr import forms, kinds
from registry_pipelines.infra.ecr.alarms import alarm_problems
from registry_pipelines.infra.ecr.model import EcrInfra, EcrRepositories, RepositorySettings
from registry_pipelines.progress import count_text

MAX_EXCEPTIONS, MAX_PULL_THROUGH, MAX_RULES, MAX_DESTINATIONS, MAX_FILTERS, MAX_SIGNING = 5, 50, 25, 25, 100, 10
"""Source: the same model, and the quotas of the ECR user guide."""

Problem = tuple[str, str]
"""Where in the registry's section, and what is wrong there."""


def problems(infra: EcrInfra, *, account: str, region: str) -> Iterator[Problem]:
    """What is wrong with a declaration by itself; its files are not read here."""
    yield from _repository_problems(infra)
    yield from _registry_problems(infra, f"{account}/{region}", account)
    yield from alarm_problems(infra.alarms, infra.topics)
    prefixes = [each.prefix for each in infra.pull_through if not each.absent]
    for prefix in sorted({each for each in prefixes if prefixes.count(each) > 1}):
        yield "pull_through", f"the prefix {prefix or kinds.ROOT} stands there twice"
    if len(infra.pull_through) > MAX_PULL_THROUGH:
        yield "pull_through", f"has {len(infra.pull_through)} rules; ECR takes {MAX_PULL_THROUGH}"
    for position, rule in enumerate(infra.pull_through):
        if not rule.absent and not rule.secret and needs_secret(rule.upstream):
            yield f"pull_through[{position}].secret", f"is missing: {rule.upstream} lets nobody in without a log-in"
        if rule.prefix and not 2 <= len(rule.prefix) <= 30:
            yield f"pull_through[{position}].prefix", "has 2 to 30 characters"
    for position, each in enumerate(infra.vpc_endpoints):
        if not each.subnets or not each.route_tables:
            yield f"vpc_endpoints[{position}]", "needs `subnets` and `route_tables`, at least one each"


def needs_secret(upstream: str) -> bool:
    """Whether ECR caches a registry with a log-in alone; source: the ECR user guide, "Pull through cache"."""
    hosts = ("registry-1.docker.io", "ghcr.io", "registry.gitlab.com", "cgr.dev")
    return upstream in hosts or upstream.endswith(".azurecr.io")


def _repository_problems(infra: EcrInfra) -> Iterator[Problem]:
    seen: dict[str, str] = {}
    for position, group in enumerate(infra.repositories):
        path = f"repositories[{position}]"
        for place, name in enumerate(group.names):
            if not 2 <= len(name) <= 256:
                yield f"{path}.names[{place}]", "has 2 to 256 characters in ECR"
            if (first := seen.setdefault(name, path)) != path or group.names.index(name) != place:
                yield f"{path}.names[{place}]", f"{name} stands in {first} already"
        if group.force and not group.absent:
            yield f"{path}.force", "is for `absent` alone"
        if group.absent and _written(group):
            yield f"{path}.absent", "is written beside settings of what is not to be there"
        yield from _common_problems(group, path)
    for position, template in enumerate(infra.templates):
        path = f"templates[{position}]"
        yield from _common_problems(template, path)
        if template.kms_key and ":key/" not in template.kms_key:
            yield f"{path}.kms_key", "is the key's ARN in a template (arn:aws:kms:REGION:ACCOUNT:key/ID)"
        if (template.kms_key or template.labels) and not template.role and not template.absent:
            yield f"{path}.role", "is missing: ECR takes a role for `kms_key` and `labels`"
    names = [each.prefix for each in infra.templates]
    for name in sorted({each for each in names if names.count(each) > 1}):
        yield "templates", f"the prefix {name or kinds.ROOT} stands there twice"


def _written(group: EcrRepositories) -> bool:
    told = (group.lifecycle, group.policy, group.readers, group.scan_on_push, group.immutable, group.encryption)
    return bool(group.labels) or any(each is not None for each in told)


def _common_problems(settings: RepositorySettings, path: str) -> Iterator[Problem]:
    if settings.kms_key and settings.encryption not in ("KMS", "KMS_DSSE"):
        yield f"{path}.kms_key", "is for `encryption: KMS` or KMS_DSSE"
    if settings.movable is not None and settings.immutable is None:
        yield f"{path}.movable", "needs `immutable`: excepted from what?"
    if settings.movable and len(settings.movable) > MAX_EXCEPTIONS:
        yield f"{path}.movable", f"has {len(settings.movable)} patterns; ECR takes {MAX_EXCEPTIONS}"
    for name, value in settings.labels.items():
        if name.lower().startswith("aws:") or not 1 <= len(name) <= 128 or len(value) > 256:
            yield f"{path}.labels.{name[:40]}", "AWS takes keys of 1 to 128 characters, not aws:..., and values of 256"


def _registry_problems(infra: EcrInfra, own: str, account: str) -> Iterator[Problem]:
    yield from _replication_problems(infra, own, account)
    scanning = infra.scanning
    if scanning is not None and scanning.continuous and scanning.type != "ENHANCED":
        yield "scanning.continuous", "needs `type: ENHANCED`"
    if len(infra.signing) > MAX_SIGNING:
        yield "signing", f"has {len(infra.signing)} profiles; ECR takes {MAX_SIGNING}"
    profiles = [each.profile for each in infra.signing]
    for name in sorted({each for each in profiles if profiles.count(each) > 1}):
        yield "signing", f"{name} stands there twice; name all its repositories in one entry"


def _replication_problems(infra: EcrInfra, own: str, account: str) -> Iterator[Problem]:
    there = [rule for rule in infra.replication if not rule.absent]
    named = {to if "/" in to else f"{account}/{to}" for rule in there for to in rule.to}
    gone = {to if "/" in to else f"{account}/{to}" for rule in infra.replication if rule.absent for to in rule.to}
    edges = forms.edges(
        ([to if "/" in to else f"{account}/{to}" for to in rule.to], rule.prefixes, rule.deletes) for rule in there
    )
    if len(forms.rules(edges)) > MAX_RULES:
        yield "replication", f"comes to {len(forms.rules(edges))} rules; ECR takes {MAX_RULES}"
    if len(named) > MAX_DESTINATIONS:
        yield "replication", f"has {len(named)} destinations; ECR takes {MAX_DESTINATIONS}"
    for name in sorted(named & gone):
        yield "replication", f"{name} stands there with `absent` and without"
    for position, rule in enumerate(infra.replication):
        path = f"replication[{position}]"
        if rule.absent and (rule.prefixes or rule.deletes or rule.backfill):
            yield f"{path}.absent", "is written beside settings of what is not to be there"
        for place, to in enumerate(rule.to):
            region = to.rpartition("/")[2]
            if (to if "/" in to else f"{account}/{to}") == own:
                yield f"{path}.to[{place}]", "is the registry itself"
            elif kinds.partition(region) != kinds.partition(own.rpartition("/")[2]):
                do = "bring releases there by a target"
                yield f"{path}.to[{place}]", f"{region} is in another partition, where ECR does not replicate; {do}"
        if len(rule.prefixes) > MAX_FILTERS:
            yield (
                f"{path}.prefixes",
                f"has {count_text(len(rule.prefixes), 'entry', 'entries')}; ECR takes {MAX_FILTERS}",
            )
        for place, prefix in enumerate(rule.prefixes):
            if not 2 <= len(prefix) <= 256:
                yield f"{path}.prefixes[{place}]", "has 2 to 256 characters"
