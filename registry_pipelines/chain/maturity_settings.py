"""What registries are set to, as far as maturity asks: read from the cloud, or from the configuration of our own."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any

from registry_pipelines.chain.session import Session
from registry_pipelines.collect.rules import matches
from registry_pipelines.config.registries import EmbeddedRegistry
from registry_pipelines.errors import RegistryPipelinesError
from registry_pipelines.infra.cloud import Found
from registry_pipelines.infra.settings import Setting
from registry_pipelines.report.maturity import Answer, Criterion

EVERYBODY = frozenset({"*", "allUsers", "allAuthenticatedUsers"})
"""Readers that are nobody in particular: AWS's and Google's words."""


@dataclass(frozen=True)
class Told:
    """What settings answer about one repository. value: None is not known."""

    value: bool | None
    why: str
    read_from: str

    def criterion(self, name: str, do: str) -> Criterion:
        """As a criterion, with what leads to yes."""
        answer: Answer = "unknown" if self.value is None else "yes" if self.value else "no"
        shown = "" if answer == "yes" else do
        return Criterion(name=name, answer=answer, why=self.why, read_from=self.read_from, do=shown)


@dataclass(frozen=True)
class Settings:
    """What one registry is set to. The questions take a repository."""

    registry: str
    private: Callable[[str], Told]
    lifecycle: Callable[[str], Told]
    immutable: Callable[[str], Told]
    caches: tuple[str, ...] = ()
    """Upstreams that it keeps copies of, by its own settings."""
    declarable: bool = False
    """Whether `infra` can set it."""
    notes: tuple[str, ...] = field(default=())

    def all(self, ask: Callable[[str], Told], repositories: Sequence[str]) -> Told:
        """The same question of several repositories: the first answer that is not yes."""
        answers = [ask(each) for each in dict.fromkeys(repositories)] or [ask("")]
        for value in (False, None):
            for each in answers:
                if each.value is value:
                    return each
        return answers[0]


def read_settings(session: Session, name: str, repositories: Collection[str]) -> Settings:
    """The settings of a registry of the configuration, as far as they are of some repositories: of others ECR would be
    asked three times each. Nothing is changed; what cannot be read is unknown, with why."""
    registry = session.config.registries[name]
    if isinstance(registry, EmbeddedRegistry):
        return _embedded(registry)
    if registry.kind in ("ecr", "gar"):
        from registry_pipelines.chain.infra_clouds import cloud_of

        try:
            cloud = cloud_of(session, name)
            found = cloud.read(_asked(name, repositories)) if registry.kind == "ecr" else cloud.everything()
        except RegistryPipelinesError as error:
            return _unknown(name, f"its settings could not be read: {error.what}", "the cloud's settings", cloud=True)
        return _of_ecr(name, found) if registry.kind == "ecr" else _of_gar(name, found)
    if registry.kind == "ecr-public":
        public = Told(False, "everybody may read it: it is a public registry", f"registries.{name}.kind")
        return Settings(name, lambda _: public, *_not_told(name, registry.kind))
    return _unknown(name, "no setting of such a registry is read", f"registries.{name}.kind: {registry.kind}")


def _asked(registry: str, repositories: Collection[str]) -> list[Setting]:
    """What is asked of ECR: as if it were declared, and not said how."""
    from registry_pipelines.infra.ecr import kinds

    of_each = (kinds.REPOSITORY, kinds.LIFECYCLE, kinds.POLICY)
    return [Setting(kind=kind, place=registry, name=each, wanted={}) for kind in of_each for each in repositories]


def _not_told(name: str, kind: str) -> tuple[Callable[[str], Told], Callable[[str], Told]]:
    told = Told(None, "no setting of such a registry is read", f"registries.{name}.kind: {kind}")
    return lambda _: told, lambda _: told


def _unknown(name: str, why: str, read_from: str, *, cloud: bool = False) -> Settings:
    told = Told(None, why, read_from)
    return Settings(name, lambda _: told, lambda _: told, lambda _: told, declarable=cloud)


def _embedded(registry: EmbeddedRegistry) -> Settings:
    where = f"registries.{registry.name}"
    accounts = bool(registry.users or registry.htpasswd)
    if accounts:
        private = Told(not registry.anonymous_pull, "accounts are asked for", where)
        if registry.anonymous_pull:
            private = Told(False, "reading needs no account (`anonymous_pull`)", where)
    elif _is_loopback(registry.host):
        private = Told(True, f"it listens on {registry.host} alone: nobody else reaches it", f"{where}.host")
    else:
        private = Told(False, f"whoever reaches {registry.address} reads and writes: no account is asked for", where)
    none = Told(False, "it has no rule of its own", "an embedded registry has none")
    movable = Told(False, "it lets every tag be moved by who may push", "an embedded registry has no such setting")
    return Settings(registry.name, lambda _: private, lambda _: none, lambda _: movable)


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _public(found: Found, repository: str) -> Mapping[str, str] | None:
    for row in found.readers:
        allowed = row["effect"] != "Deny" and not row["condition"]
        if row["repository"] in (repository, "*") and allowed and row["principal"] in EVERYBODY:
            return row
    return None


def _private(found: Found, cloud: str) -> Callable[[str], Told]:
    unread = [note for note in found.notes if "policy" in note or "reader" in note.lower()]

    def asked(repository: str) -> Told:
        if row := _public(found, repository):
            return Told(False, f"everybody may pull, by the {row['from']}", f"{cloud}: policies")
        not_read = any(each.unread and each.name == repository and "policy" in each.kind for each in found.settings)
        if not_read or any("was not read" in note or "could not be read" in note for note in unread):
            return Told(None, "not all policies could be read", f"{cloud}: policies")
        return Told(True, "no policy lets everybody pull", f"{cloud}: policies of the repository and the registry")

    return asked


def _by_name(found: Found, kind: str) -> dict[str, Mapping[str, Any]]:
    return {each.name: each.found for each in found.settings if each.kind == kind and each.found is not None}


def _of_ecr(name: str, found: Found) -> Settings:
    from registry_pipelines.infra.ecr import kinds

    repositories, lifecycles = _by_name(found, kinds.REPOSITORY), _by_name(found, kinds.LIFECYCLE)
    caches = [str(each.get("upstream")) for each in _by_name(found, kinds.PULL_THROUGH).values()]

    unread = {(each.kind, each.name): each.unread for each in found.settings if each.unread}

    def lifecycle(repository: str) -> Told:
        if why := unread.get((kinds.LIFECYCLE, repository)):
            return Told(None, f"the lifecycle policy of {repository} could not be read: {why}", "ecr:lifecycle")
        there = repository in lifecycles
        return Told(there, "a lifecycle policy" if there else f"{repository} has no lifecycle policy", "ecr:lifecycle")

    def immutable(repository: str) -> Told:
        fields = repositories.get(repository)
        if fields is None:
            return Told(None, f"there is no repository {repository}", "ecr:repository")
        word, excepted = str(fields.get("mutability")), fields.get("excluded_tags") or []
        told = f"{word}{f' but for {excepted}' if excepted else ''}"
        return Told(word.startswith("IMMUTABLE"), told, "ecr:repository imageTagMutability")

    return Settings(
        name, _private(found, "ecr"), lifecycle, immutable, caches=tuple(caches), declarable=True, notes=found.notes
    )


def _of_gar(name: str, found: Found) -> Settings:
    from registry_pipelines.infra.gar import kinds

    repositories = _by_name(found, kinds.REPOSITORY)
    caches = [str(each["remote.upstream"]) for each in repositories.values() if each.get("remote.upstream")]

    def fields_of(repository: str) -> Mapping[str, Any] | None:
        """``PROJECT/REPOSITORY/IMAGE``: the settings are those of the second part."""
        parts = repository.split("/")
        return repositories.get(parts[1] if len(parts) > 1 else repository)

    def asked(field_: str, yes: str, no: str) -> Callable[[str], Told]:
        def ask(repository: str) -> Told:
            fields = fields_of(repository)
            if fields is None:
                return Told(None, f"there is no repository for {repository}", "gar:repository")
            there = bool(fields.get(field_)) and not (field_ == "cleanup" and fields.get("cleanup_dry_run"))
            return Told(there, yes if there else no, f"gar:repository {field_}")

        return ask

    def private(repository: str) -> Told:
        parts = repository.split("/")
        return _private(found, "gar")(parts[1] if len(parts) > 1 else repository)

    return Settings(
        name,
        private,
        asked("cleanup", "cleanup policies", "no cleanup policy that deletes, or a dry run"),
        asked("immutable_tags", "tags cannot move", "tags can be moved"),
        caches=tuple(caches),
        declarable=True,
        notes=found.notes,
    )


def retention_rule(session: Session, registry: str, repository: str) -> str:
    """The name of a retention rule that covers a repository; empty for none."""
    for rule in session.config.rules:
        if rule.registry == registry and matches(repository, rule.repositories):
            return rule.name or "rule"
    return ""
