"""Checks between parts of a configuration: names that must exist, places that must differ."""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import yaml

from registry_pipelines.config.document import Problems, child, line_at, line_of
from registry_pipelines.config.image_checks import image_problems
from registry_pipelines.config.model import VERSION, Config
from registry_pipelines.config.overlaps import filled, overlaps
from registry_pipelines.config.registries import EcrRegistry, GarRegistry, Upstream
from registry_pipelines.config.registry_checks import registry_problems
from registry_pipelines.errors import InputError, ReferenceInvalid
from registry_pipelines.evidence.predicates import ROLES, roles_for
from registry_pipelines.mirror.model import MIN_PART_BYTES, Bundles
from registry_pipelines.node.model import LEAST_AGAIN_S, record_problems
from registry_pipelines.oci.references import Reference
from registry_pipelines.promote.admission.model import MAX_TIMEOUT_S, MIN_TIMEOUT_S
from registry_pipelines.report.edges import problems as edge_problems
from registry_pipelines.settings import unknown
from registry_pipelines.transfer.closure.choice import Choice

MAX_NAMED = 5
"""Images that one note names."""

_SINGULAR = {
    "registries": "registry",
    "images": "image",
    "targets": "target",
    "policies": "policy",
    "bases": "base",
    "packages": "package index",
    "mirrors": "mirror",
    "deploy": "deployment",
}


def check(
    root: yaml.Node, config: Config | None, names: Iterable[tuple[str, str, int, str]], problems: Problems
) -> None:
    """Note what does not fit together. config: None when single values are wrong already; names are checked all the
    same, against what the file declares."""
    declared = {section: _declared(root, section) for section in _SINGULAR}
    declared["policies"].add("default")
    for section, name, line, path in names:
        if name not in declared[section]:
            problems.add(line, path, unknown(name, declared[section], _SINGULAR[section]))
    if config is not None and not problems.noted:
        for path, message in (
            *registry_problems(config),
            *image_problems(root, config),
            *_mirrors(config),
            *_syncs(config),
            *_backups(config),
            *_report(config),
            *(_failover(config) if config.failover else ()),
            *(_deploy(config) if config.deploy else ()),
            *(_weights(config) if config.weights else ()),
            *overlaps(config),
            *_policies(config),
            *_signing(config),
            *_attestor(config),
            *_trust(config),
            *_notify(config),
            *_admission(config),
            *_node(config),
            *(_infra(config) if config.infra else ()),
            *_metrics(config),
            *_dagster(config),
            *_packages(config),
        ):
            problems.add(line_at(root, path), path, message)


def _dagster(config: Config) -> Iterable[tuple[str, str]]:
    from registry_pipelines.config.location import problems

    return problems(config.dagster, config.report.teams, config.registries, ("start", "rescan", "sweep"))


def _infra(config: Config) -> Iterable[tuple[str, str]]:
    from registry_pipelines.config.declared import problems  # most configurations declare no settings of clouds

    return problems(config)


def _failover(config: Config) -> Iterable[tuple[str, str]]:
    from registry_pipelines.config.failover import failover_problems  # most configurations have one registry

    return failover_problems(config)


def _weights(config: Config) -> Iterable[tuple[str, str]]:
    from registry_pipelines.config.weights import weights_problems

    return weights_problems(config)


def _metrics(config: Config) -> Iterable[tuple[str, str]]:
    from registry_pipelines.report.metrics.settings import MetricsSettings, problems

    settings = config.report.metrics
    if settings == MetricsSettings():
        return ()
    return problems(settings, {name: each.kind for name, each in config.registries.items()})


def _deploy(config: Config) -> Iterable[tuple[str, str]]:
    from registry_pipelines.config.deployments import deploy_problems  # most configurations deploy nothing

    return deploy_problems(config)


def _packages(config: Config) -> Iterable[tuple[str, str]]:
    if not config.packages:
        return ()
    from registry_pipelines.config.packages import package_problems  # most configurations name no index

    return package_problems(config)


def _trust(config: Config) -> Iterable[tuple[str, str]]:
    if not config.trust.attestors and not any(policy.attestors for policy in config.policies.values()):
        return ()
    from registry_pipelines.config.trust import trust_problems  # most configurations name no attestors

    return trust_problems(config)


def _native(config: Config) -> Iterable[tuple[str, str]]:
    from registry_pipelines.config.declared import notes

    return notes(config)


def check_version(root: yaml.Node, problems: Problems) -> None:
    """Raise ConfigInvalid for a file of another version: what else would be said about it might be wrong."""
    node = child(root, "version")
    if isinstance(node, yaml.ScalarNode) and node.tag.endswith(":int") and node.value != str(VERSION):
        problems.add(
            line_of(node),
            "version",
            f"the file is of version {node.value[:20]}, and this build reads version {VERSION}; run the Registry "
            f"Pipelines it was written for, or write it in the form of version {VERSION} (docs/configuration.md)",
        )
        problems.raise_if_any()


def notes(root: yaml.Node, config: Config) -> Iterable[str]:
    """What a good file says otherwise than it reads, each as ``file:line: path: message``."""
    schedules = config.schedules
    for name, value in (
        ("mirror", schedules.mirror),
        ("retention", schedules.retention),
        ("collect", schedules.collect),
        ("purge", schedules.purge),
        ("infra", schedules.infra),
        ("replication_lag", schedules.replication_lag),
        ("start_time", schedules.start_time),
        ("time_zone", schedules.time_zone),
    ):
        path = f"schedules.{name}"
        yield from (f"{config.path}:{line_at(root, path)}: {path}: {note}" for note in value.notes())
    for name, image in config.images.items():
        recorded = image.stream is not None and image.stream.record is not None
        recorded = recorded or config.node.record is not None
        if not recorded and "hot-pack" in config.policies[image.policy].required:
            path = f"images.{name}.policy"
            note = "it requires `hot-pack`, and without `stream.record` each release is held until somebody records it"
            yield f"{config.path}:{line_at(root, path)}: {path}: {note}"
    said = [*_over(config), *(_native(config) if config.infra else ())]
    yield from (f"{config.path}:{line_at(root, path)}: {path}: {note}" for path, note in said)
    images = child(root, "images")
    silent = [name for name in config.images if _entry(_entry(images, name), "promote") is None]
    if silent:
        named = ", ".join(silent[:MAX_NAMED]) + (f" and {len(silent) - MAX_NAMED} more" if silent[MAX_NAMED:] else "")
        note = f"without `promote` a person lets each release go ({named}); write `promote: auto` for what goes alone"
        yield f"{config.path}:{line_at(root, 'images')}: images: {note}"


def _over(config: Config) -> Iterable[tuple[str, str]]:
    """Exceptions and acceptances whose last day is over: the file reads as if they counted."""
    today = datetime.now(UTC).date()
    for name, policy in config.policies.items():
        for place, excused in enumerate(policy.exceptions):
            if excused.expires < today:
                told = f"the exception {excused.advisory} ended on {excused.expires}, and counts no more; take it out"
                yield f"policies.{name}.exceptions[{place}]", told
        for place, accepted in enumerate(policy.accept_unknowns):
            if accepted.expires and accepted.expires < today:
                told = f"{accepted.kind}:{accepted.subject} was accepted until {accepted.expires}, and is no more"
                yield f"policies.{name}.accept_unknowns[{place}]", told


def _declared(root: yaml.Node, section: str) -> set[str]:
    node = child(root, section)
    if not isinstance(node, yaml.MappingNode):
        return set()
    names = {key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)}
    for key, value in node.value:
        if _merges(key) and isinstance(value, yaml.MappingNode):
            names |= {inner.value for inner, _ in value.value if isinstance(inner, yaml.ScalarNode)}
    return names


def _entry(node: yaml.Node | None, name: str) -> yaml.Node | None:
    """Like :func:`child`, also of what a mapping merges (``<<``)."""
    own = child(node, name)
    if own is not None or not isinstance(node, yaml.MappingNode):
        return own
    for key, value in node.value:
        for merged in (value.value if isinstance(value, yaml.SequenceNode) else [value]) if _merges(key) else ():
            if (found := _entry(merged, name)) is not None:
                return found
    return None


def _merges(key: yaml.Node) -> bool:
    return bool(key.tag.endswith(":merge"))


def _mirrors(config: Config) -> Iterable[tuple[str, str]]:
    for name, mirror in config.mirrors.items():
        if mirror.via == mirror.to:
            yield f"mirrors.{name}.via", "is the registry it leads to; leave it out for a direct copy"
        if not (mirror.upstreams or mirror.images or mirror.artifacts or mirror.across == "bundle"):
            yield f"mirrors.{name}", "mirrors nothing; name `upstreams`, `images` or `artifacts`"
        if mirror.across == "network" and mirror.bundle != Bundles():
            yield f"mirrors.{name}.bundle", "is for `across: bundle`, which is not written"
        if mirror.bundle.part_size < MIN_PART_BYTES:
            yield f"mirrors.{name}.bundle.part_size", f"is less than {MIN_PART_BYTES}"
        judged = mirror.policy or any(each.policy for each in mirror.upstreams)
        if judged and mirror.across == "bundle" and not mirror.via:
            yield f"mirrors.{name}.policy", "needs `via`: what a bundle takes is judged there, and its evidence kept"
        for place, upstream in enumerate(mirror.upstreams):
            yield from _upstream(config, f"mirrors.{name}.upstreams[{place}]", upstream)


def _upstream(config: Config, path: str, upstream: Upstream) -> Iterable[tuple[str, str]]:
    first, _, rest = upstream.image.partition("/")
    try:
        named = f"configured.invalid/{rest}" if first in config.registries else upstream.image
        reference = Reference.parse(named, default_tag="")
        if reference.tag and not reference.digest:
            bare = upstream.image.removesuffix(f":{reference.tag}")
            yield f"{path}.image", f'names a tag; write it in `tags`: {{image: {bare}, tags: ["{reference.tag}"]}}'
        elif reference.digest:
            yield f"{path}.image", "names a digest; name its tag in `tags`, which `registry-pipelines mirror lock` pins"
    except ReferenceInvalid as error:
        yield f"{path}.image", f"{error.what}; {error.do}"
    yield from _choice(path, upstream)


def _choice(path: str, choice: Choice) -> Iterable[tuple[str, str]]:
    if choice.selection != "sparse" and not choice.platforms:
        yield f"{path}.selection", "is about `platforms`, and there are none: an index is copied whole"
    yield from _selector(f"{path}.semver", semver=choice.semver or "")


def _selector(path: str, **chosen: Any) -> Iterable[tuple[str, str]]:
    from registry_pipelines.transfer.closure.selector import Selector  # for those who choose tags

    try:
        Selector(**chosen)
    except InputError as error:
        yield path, f"{error.what}; {error.do}" if error.do else error.what


def _syncs(config: Config) -> Iterable[tuple[str, str]]:
    for name, sync in config.syncs.items():
        if name in config.registries:
            yield f"syncs.{name}", "a registry has this name; on the command line both would mean the same"
        yield from _choice(f"syncs.{name}", sync)
        yield from _selector(f"syncs.{name}.repositories_regex", regex=sync.repositories_regex)
        for position, target in enumerate(sync.targets):
            destination = config.targets[target]
            if destination.registry == sync.source and not destination.prefix:
                yield f"syncs.{name}.targets[{position}]", f"target `{target}` is the place it takes from"


def _backups(config: Config) -> Iterable[tuple[str, str]]:
    """Two backups at one place would write each other's repositories."""
    seen: dict[tuple[str, str], str] = {}
    for name, each in config.backups.items():
        if each.keep is not None and each.keep.says_nothing:
            yield f"backups.{name}.keep", "say which moments stay: last, within, daily, weekly, monthly or yearly"
        other = seen.setdefault((each.to, each.prefix), name)
        if other != name:
            yield f"backups.{name}.prefix", f"backup `{other}` is kept at the same place; give each a prefix of its own"
        if each.to in each.registries and not each.prefix:
            yield (
                f"backups.{name}.to",
                "a registry cannot keep its own backup without a `prefix`; better another account",
            )


def _report(config: Config) -> Iterable[tuple[str, str]]:
    """A budget of a team that is none would never be held against anything, and an edge has a way that there is."""
    for name, edge in config.report.edges.items():
        for field, problem in edge_problems(edge):
            yield f"report.edges.{name}.{field}", problem
    for name in config.report.budget.teams:
        if name not in config.report.teams:
            yield f"report.budget.teams.{name}", unknown(name, config.report.teams, "team")
    for name in config.report.scans:
        if config.registries[name].kind not in ("ecr", "gar"):
            yield f"report.scans.{name}", "no cloud bills scans of it; only registries of kind `ecr` and `gar`"


def _policies(config: Config) -> Iterable[tuple[str, str]]:
    for name, policy in config.policies.items():
        if "approved-base" in policy.required and not config.bases:
            yield f"policies.{name}.required", "`approved-base` asks for one of `bases`, and there is none"
        elif policy.bases and "approved-base" not in policy.required:
            yield f"policies.{name}.bases", "is for `required: [..., approved-base]`, which is not written"
        if policy.max_advisory_age.total_seconds() % 86_400:
            yield f"policies.{name}.max_advisory_age", "is not a whole number of days"
        for consumer in policy.consumers:
            if consumer not in (known := {**config.targets, **config.mirrors}):
                yield f"policies.{name}.consumers", unknown(consumer, known, "target or mirror")
        for place, excused in enumerate(policy.exceptions):
            for field in ("owner", "reason"):
                if not getattr(excused, field).strip():
                    yield f"policies.{name}.exceptions[{place}].{field}", "is empty: the verdict says it to its readers"
        for accepted in policy.accept_unknowns:
            path = f"policies.{name}.accept_unknowns"
            if accepted.kind == "advisories-age" and accepted.until_age is None:
                yield path, "`advisories-age` needs `until_age`, the age up to which they pass, as in `until_age: 90d`"
            elif accepted.kind != "advisories-age" and accepted.until_age is not None:
                yield path, f"`until_age` is for `advisories-age` alone, and this is `{accepted.kind}`"
            elif accepted.until_age is not None and accepted.until_age.total_seconds() % 86_400:
                yield path, "`until_age` is not a whole number of days"


def _signing(config: Config) -> Iterable[tuple[str, str]]:
    if not (config.trusted_keys or config.signing.keyless):
        for name, policy in config.policies.items():
            for kind in policy.attestations:
                if not roles_for(kind):
                    yield (
                        f"policies.{name}.attestations",
                        f"nobody is believed for {kind}, which is no role's: every key of `signing` is for a role. "
                        "Name who signs it in `signing.trusted`",
                    )
    for role in ROLES:
        own = config.signing.of(role)
        if own and not (own.key or own.kms or own.trusted or own.retired or own.keyless):
            yield f"signing.{role}", "names neither `key` nor `trusted`, so nothing would be believed in this role"
    for where, told in config.signing.told():
        if told.kms and told.key:
            yield f"{where}.kms", "is written beside `key`; one of them signs"
        if told.kms and not told.public:
            yield f"{where}.kms", "needs `public`: the file of its public half, which each signature is held against"
        if told.public and not told.kms:
            yield f"{where}.public", "is the public half of `kms`, and there is none; that of `key` lies beside it"
        if told.password and told.kms and not told.kms.startswith("hsm:"):
            yield f"{where}.password", "is the PIN of a hardware token; key services have credentials of their own"
    identities = {where: told.keyless for where, told in config.signing.told()}
    identities |= {f"trust.attestors.{name}": each.keyless for name, each in config.trust.attestors.items()}
    for where, rules in identities.items():
        if rules and not config.signing.trust_root:
            yield f"{where}.keyless", "needs `signing.trust_root`: the file that says whose certificates are believed"
    if config.signing.trust_root and not any(identities.values()):
        yield "signing.trust_root", "says whose certificates are believed, and no `keyless` names an identity"
    if config.signing.generate and config.signing.kms:
        yield "signing.generate", "makes a key file, and the key is in a key service"
    yield from _notation(config)


def _attestor(config: Config) -> Iterable[tuple[str, str]]:
    own = config.signing.binary_authorization
    if own is not None and not isinstance(config.registries[own.registry], GarRegistry):
        yield (
            "signing.binary_authorization.registry",
            "name a registry of the kind `gar`, with whose access Google is asked",
        )


def _notation(config: Config) -> Iterable[tuple[str, str]]:
    own = config.signing.notation
    if own is None or own.trust is None:
        for name, policy in config.policies.items():
            if "notation" in policy.required:
                yield f"policies.{name}.required", "wants `notation`, and there is no `signing.notation.trust` to ask"
    if own is not None and own.aws is not None:
        if not isinstance(config.registries[own.aws.registry], EcrRegistry):
            yield "signing.notation.aws.registry", "name a registry of the kind `ecr`, with whose access AWS is asked"
        if own.aws.owner and not own.aws.profile:
            yield "signing.notation.aws.owner", "is whose `profile` it is, and none is named"
    if own is None or own.certificates:
        return
    if not own.trust and not (own.aws and (own.aws.profile or own.aws.managed)):
        yield "signing.notation", "names neither `certificates` to sign with nor `trust` to verify with"
    for name in ("key", "lasts", "timestamps"):
        if getattr(own, name):
            yield f"signing.notation.{name}", "is for signing, and there are no `certificates`"


def _notify(config: Config) -> Iterable[tuple[str, str]]:
    from registry_pipelines.config.notify import problems

    return problems(config.notify)


def _admission(config: Config) -> Iterable[tuple[str, str]]:
    admission = config.admission
    if (admission.tls_cert is None) != (admission.tls_key is None):
        yield "admission", "`tls_cert` and `tls_key` are written together or not at all"
    if not MIN_TIMEOUT_S <= admission.timeout.total_seconds() <= MAX_TIMEOUT_S or admission.timeout.microseconds:
        yield "admission.timeout", f"API servers wait {MIN_TIMEOUT_S} to {MAX_TIMEOUT_S} whole seconds for a webhook"
    if admission.url and not re.match(r"https://[^\s/@?#]+(/[^\s?#]*)?\Z", admission.url):
        yield "admission.url", "is no address that API servers ask; write https://host:port, without a user"
    if "replica" in admission.mutate and not admission.nearest:
        yield "admission.mutate", "`replica` takes the first of `nearest` that has the image, and there are none"
    if admission.nearest and "replica" not in admission.mutate:
        yield "admission.nearest", "is for `mutate: [replica]` alone"
    channels = {each.name for image in config.images.values() for each in image.order}
    gate = config.node.gate
    for path, told in (("admission.channel", admission.channel), ("node.gate.channel", gate.channel if gate else None)):
        if told is not None and told not in channels:
            yield path, unknown(told, channels, "channel")


def _node(config: Config) -> Iterable[tuple[str, str]]:
    announce = config.node.announce
    if announce.again.total_seconds() < LEAST_AGAIN_S:
        yield "node.announce.again", f"registries are asked every {LEAST_AGAIN_S} seconds at most"
    if announce.target and not announce.channels:
        yield "node.announce.target", "is for `channels: true` alone"
    for name, image in config.images.items() if announce.channels else ():
        if announce.target and announce.target not in image.targets:
            yield "node.announce.target", f"the image {name} is not copied there"
    if config.node.record is not None:
        yield from ((f"node.record.{field}", problem) for field, problem in record_problems(config.node.record))
        yield from (("node.record.inbox", problem) for problem in _inbox(config))


def _inbox(config: Config) -> Iterable[str]:
    """What is in there nobody believes, so nothing else is, and nobody takes it elsewhere."""
    inbox = config.inbox_at
    for name, image in config.images.items():
        if inbox in ((image.registry, image.repository), (image.registry, image.moving)):
            yield f"is the repository of the image {name}; recordings need one of their own"
    for name, mirror in config.mirrors.items():
        for upstream in mirror.upstreams:
            with suppress(ReferenceInvalid):  # another check's to tell of
                if inbox is not None and config.is_at(config.upstream_at(upstream), inbox):
                    yield f"the mirror {name} copies it, and recordings of nodes are never copied"
    if inbox is not None:
        for path in filled(config, *inbox):
            yield f"`{path}` brings images there; recordings need a repository of their own"
