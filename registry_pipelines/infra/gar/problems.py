"""What is wrong with a declaration by itself: things that stand there twice, fields that do not go together."""

from __future__ import annotations

from collections.abc import Iterator

from registry_pipelines.infra.gar import forms
from registry_pipelines.infra.gar.alarms import alert_problems
from registry_pipelines.infra.gar.model import GarInfra, GarRepositories, GarSource
from registry_pipelines.progress import count_text

MAX_LABELS = 64
"""Source: Google's page "Labels overview"."""
MAX_SOURCES = 30
"""Of a virtual repository; source: Artifact Registry's quotas."""

Problem = tuple[str, str]
"""Where in the registry's section, and what is wrong there."""


def source_id(source: GarSource) -> str:
    """The id of an upstream policy: the repository's own."""
    return source.repository.rpartition("/")[2]


def problems(infra: GarInfra) -> Iterator[Problem]:
    """What is wrong with a declaration by itself; its files are not read here."""
    seen: dict[str, str] = {}
    for position, group in enumerate(infra.repositories):
        path = f"repositories[{position}]"
        for place, name in enumerate(group.names):
            if (first := seen.setdefault(name, path)) != path or group.names.index(name) != place:
                yield f"{path}.names[{place}]", f"{name} stands in {first} already"
        yield from _group_problems(group, path)
    yield from _binauthz_problems(infra)
    yield from alert_problems(infra.alarms, infra.channels)


def _group_problems(group: GarRepositories, path: str) -> Iterator[Problem]:
    if group.force and not group.absent:
        yield f"{path}.force", "is for `absent` alone"
    if group.remote is not None and group.virtual is not None:
        yield path, "has `remote` and `virtual`; a repository is one of them"
    if group.immutable is not None and (group.format != "DOCKER" or group.virtual is not None):
        yield f"{path}.immutable", "is for repositories of images that are not virtual"
    if group.immutable and group.remote is not None:
        yield f"{path}.immutable", "is not for `remote`: its tags follow the upstream's"
    if (group.maven_versions or group.maven_overwrites is not None) and group.format != "MAVEN":
        yield path, "`maven_versions` and `maven_overwrites` are for `format: MAVEN`"
    if group.virtual is not None and (group.cleanup or group.cleanup_dry_run is not None or group.scanning):
        yield path, "`cleanup`, `cleanup_dry_run` and `scanning` are not for `virtual`: it stores nothing"
    if len(group.labels) > MAX_LABELS:
        yield f"{path}.labels", f"has {count_text(len(group.labels), 'entry', 'entries')}; Google takes {MAX_LABELS}"
    if group.remote is not None:
        remote, own = group.remote, forms.upstream_format(group.remote.upstream)
        if own and own != group.format:
            yield (
                f"{path}.remote.upstream",
                f"{remote.upstream} has the format {own}, these repositories {group.format}",
            )
        if (remote.username is None) != (remote.password_secret is None):
            yield f"{path}.remote", "`username` and `password_secret` go together"
    if group.virtual is not None:
        if len(group.virtual) > MAX_SOURCES:
            yield (
                f"{path}.virtual",
                f"has {count_text(len(group.virtual), 'entry', 'entries')}; Google takes {MAX_SOURCES}",
            )
        ids = [source_id(each) for each in group.virtual]
        for name in sorted({each for each in ids if ids.count(each) > 1}):
            yield f"{path}.virtual", f"two sources have the id {name}"
        if set(ids) & set(group.names):
            yield f"{path}.virtual", "names itself"


def _binauthz_problems(infra: GarInfra) -> Iterator[Problem]:
    policy = infra.binary_authorization
    if policy is None:
        return
    rules = {"default": policy.default, **{f"clusters.{name}": rule for name, rule in policy.clusters.items()}}
    for name, rule in rules.items():
        path = f"binary_authorization.{name}"
        if (rule.evaluation == "REQUIRE_ATTESTATION") != bool(rule.attestors):
            yield path, "`attestors` and `evaluation: REQUIRE_ATTESTATION` go together"
        for each in rule.attestors:
            if "/" not in each and each not in infra.attestors:
                yield (
                    f"{path}.attestors",
                    f"{each} is not among `attestors`; write projects/P/attestors/A for another's",
                )
