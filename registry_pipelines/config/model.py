"""What a configuration holds: frozen values. The decoder, the JSON schema and docs/configuration.md are made from these
classes, so a field is described once: its type says what may be written, ``setting`` says what it means. Registries and
what moves between them are in ``places``."""

# ruff: noqa: RUF009 - `setting` is dataclasses.field with a sentence
from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from msgspec import Meta

from registry_pipelines.config.fields import entry_name, setting, unwritten
from registry_pipelines.config.places import EmbeddedRegistry, Mirror, RegistryPlace, Sync, Target
from registry_pipelines.config.times import Cron, TimeZone
from registry_pipelines.evidence.predicates import ROLES, Role
from registry_pipelines.oci.platforms import Platform
from registry_pipelines.promote.interface import Policy
from registry_pipelines.settings import GLOB, JOURNAL, LIBC, NAME, REPOSITORY, TAG, Duration, Names, Secret


@dataclass(frozen=True, kw_only=True)
class Build:
    """How an image is made from Python wheels and an application folder, without a container daemon."""

    base: str = setting(
        "`python`: a Linux root with the running interpreter; or an image reference (a configured registry's name may "
        "stand in front).",
        default="python",
    )
    version: Annotated[str, TAG] = setting("The release's version tag; it never moves.")
    python: str = setting(
        "Python of the base, like `3.12`, or `3.13t` when it is free-threaded; what the base says unless told.",
        default="",
    )
    libc: Annotated[str, LIBC] = setting(
        "C library of the base, which wheels are chosen for: `glibc-2.31`, `musl-1.2`, or `none` (pure Python wheels "
        "only); read from the base's layers unless told.",
        default="",
    )
    requirements: tuple[str, ...] = setting("Python requirements, as in a requirements file.", default=())
    requirements_file: Path | None = setting("A requirements file, beside or instead of `requirements`.", default=None)
    wheels: Path | None = setting(
        "Folder with wheels; when given, no package index is asked, and pip's own settings do not count.", default=None
    )
    find_links: tuple[str, ...] = setting(
        "Folders, pages or addresses with more wheels, beside the index or beside `wheels`: pip's `--find-links`.",
        default=(),
    )
    application: Path | None = setting("Folder whose files become the application layer.", default=None)
    workdir: str = setting("Where the application stands in the image; its working directory.", default="/app")
    entrypoint: tuple[str, ...] = setting("What a container starts.", default=())
    command: tuple[str, ...] = setting("Arguments of the entrypoint, unless others are given.", default=())
    environment: dict[str, str] = setting("Environment variables of the container.", factory=dict)
    labels: dict[str, str] = setting("Labels of the image.", factory=dict)
    user: str = setting(
        "`uid[:gid]` or name the container runs as; the base's unless told (65532 on the interpreter base).", default=""
    )
    site_packages: str = setting(
        "Where wheels go in the base; `/usr/local/lib/python<version>/site-packages` unless told.", default=""
    )
    interpreter: str = setting("Python program of the base; `/usr/local/bin/python3` unless told.", default="")
    platforms: tuple[Platform, ...] = setting(
        "Platforms, each as os/architecture; this machine's unless told.", default=()
    )
    conflicts: dict[str, str] = setting(
        "Whose file stands where several wheels bring one path with different content: path below site-packages (or "
        "from `/` on) or pattern, to a project, or to `application`.",
        factory=dict,
    )


@dataclass(frozen=True, kw_only=True)
class Image:
    """An image of ours: where its releases appear, what policy they obey, where they must be."""

    name: str = entry_name()
    registry: Annotated[str, Names("registries")] = setting("Source registry: releases are built or pushed there.")
    repository: Annotated[str, REPOSITORY] = setting("Repository in the source registry.")
    policy: Annotated[str, Names("policies")] = setting("Policy its releases must satisfy.", default="default")
    channel: Annotated[str, TAG] = setting("Channel tag that promotion moves.", default="prod")
    targets: tuple[Annotated[str, Names("targets")], ...] = setting(
        "Targets every promoted release must reach.", default=()
    )
    build: Build | None = setting("How it is built; leave out when a team's CI pushes it.", default=None)


@dataclass(frozen=True, kw_only=True)
class RoleKey:
    """A key of one role alone. The keys of `signing` itself are not believed for it."""

    key: Path | None = setting(
        "PEM private key (P-256); leave it out where nothing is signed in this role.", default=None
    )
    password: Secret = setting("Password of the key, as `${VARIABLE}`; empty for none.", default=Secret(""))
    trusted: tuple[Path, ...] = setting(
        "PEM public keys that are believed in this role; the key's own (`<key>.pub`) unless told.", default=()
    )


@dataclass(frozen=True, kw_only=True)
class Signing:
    """The key that signs, and the keys that are believed; in every role that has none of its own."""

    key: Path | None = setting("PEM private key (P-256); `<state>/keys/signing.key` unless told.", default=None)
    password: Secret = setting("Password of the key, as `${VARIABLE}`; empty for none.", default=Secret(""))
    generate: bool = setting("Make the key at first use when there is none; for demonstrations.", default=False)
    trusted: tuple[Path, ...] = setting(
        "PEM public keys that are believed; the signing key's own (`<key>.pub`) unless told.", default=()
    )
    builder: RoleKey | None = setting("Provenance.", default=None)
    scanner: RoleKey | None = setting("SBOMs and vulnerability reports.", default=None)
    person: RoleKey | None = setting("Image signatures, and promotions by hand.", default=None)
    promoter: RoleKey | None = setting("Verdicts, promotions, receipts of copies.", default=None)

    def of(self, role: Role) -> RoleKey | None:
        """What is told for one role alone."""
        found: RoleKey | None = getattr(self, role)
        return found


@dataclass(frozen=True, kw_only=True)
class Advisories:
    """OSV advisories that reports are made from."""

    source: Path | None = setting(
        "Folder, tar or zip of OSV records; the set that comes with the package unless told.", default=None
    )


@dataclass(frozen=True, kw_only=True)
class RetentionRule:
    """What a registry keeps; whatever no rule keeps or protects is in the plan. Repositories no rule names are kept."""

    registry: Annotated[str, Names("registries")] = setting("Registry it is for.")
    repositories: tuple[Annotated[str, GLOB], ...] = setting("Patterns of repositories.", default=("*",))
    keep_newest: Annotated[int, Meta(ge=0, le=1_000_000)] = setting("Keep so many of the newest images.", default=10)
    keep_days: Annotated[int, Meta(ge=0, le=36_500)] = setting("Keep what is younger than so many days.", default=30)
    protect: tuple[Annotated[str, GLOB], ...] = setting("Patterns of tags that are never removed.", default=())


@dataclass(frozen=True, kw_only=True)
class Schedules:
    """When the nightly work runs (cron expressions)."""

    mirror: Cron = setting("Mirrors and syncs.", default=Cron("0 2 * * *"))
    retention: Cron = setting("The retention plan.", default=Cron("30 3 * * *"))
    time_zone: TimeZone = setting("IANA time zone of both.", default=TimeZone("UTC"))


@dataclass(frozen=True, kw_only=True)
class Sensors:
    """How pushes are noticed."""

    interval: Duration = setting("How often source registries are asked.", default=Duration(seconds=30))
    max_requests: Annotated[int, Meta(ge=1, le=1000)] = setting("Most runs that one look asks for.", default=20)


@dataclass(frozen=True, kw_only=True)
class Config:
    """A whole configuration; every path is absolute, every name it uses exists."""

    path: Path = unwritten("The file itself.", default=Path())
    notes: tuple[str, ...] = unwritten("What it says otherwise than it reads.", default=())
    spared: tuple[str, ...] = unwritten("Problems of the section left out.", default=())
    state: Path = setting(
        "Folder for keys, embedded registries, journals and Dagster's home.", default=Path(".registry-pipelines")
    )
    journal: Annotated[Secret, JOURNAL] = setting(
        "Postgres for the copy journal of several workers, as `${VARIABLE}` with `postgresql://user:password@host/database`"
        " (extra `postgres`); SQLite below `state` unless told.",
        default=Secret(""),
    )
    registries: dict[Annotated[str, NAME], RegistryPlace] = setting("Places where images live, by name.")
    images: dict[Annotated[str, NAME], Image] = setting("Our own images, by name.", factory=dict)
    targets: dict[Annotated[str, NAME], Target] = setting("Places releases must reach, by name.", factory=dict)
    policies: dict[Annotated[str, NAME], Policy] = setting(
        "Policies by name; `default` exists with its default values unless it is written.", factory=dict
    )
    signing: Signing = setting("Keys.", factory=Signing)
    advisories: Advisories = setting("Advisory data.", factory=Advisories)
    mirrors: dict[Annotated[str, NAME], Mirror] = setting("Mirrors by name.", factory=dict)
    syncs: dict[Annotated[str, NAME], Sync] = setting("Syncs of whole repositories, by name.", factory=dict)
    retention: tuple[RetentionRule, ...] = setting("Retention rules.", default=())
    schedules: Schedules = setting("When nightly work runs.", factory=Schedules)
    sensors: Sensors = setting("How pushes are noticed.", factory=Sensors)

    def root(self, registry: EmbeddedRegistry) -> Path:
        """The content folder of an embedded registry."""
        return registry.root or self.state / "registries" / registry.name

    @property
    def signing_key(self) -> Path:
        """The private key's file, of every role that has none of its own."""
        return self.signing.key or self.state / "keys" / "signing.key"

    @property
    def trusted_keys(self) -> tuple[Path, ...]:
        """Files of the public keys that are believed in every role that has none of its own; none when all have, and no
        other is written."""
        if all(map(self.signing.of, ROLES)) and not (self.signing.key or self.signing.trusted):
            return ()
        return self.signing.trusted or _public_half(self.signing_key)

    def signing_key_of(self, role: Role) -> Path | None:
        """The private key's file of a role; None where its key is elsewhere."""
        own = self.signing.of(role)
        return own.key if own else self.signing_key

    def password_of(self, role: Role) -> str:
        """The password of :meth:`signing_key_of`; empty for none."""
        return (self.signing.of(role) or self.signing).password.reveal()

    @property
    def trusted_by_role(self) -> dict[Role, tuple[Path, ...]]:
        """Files of the public keys of the roles that have their own."""
        found = {role: own for role in ROLES if (own := self.signing.of(role))}
        return {role: own.trusted or _public_half(own.key) for role, own in found.items()}

    def repository_at(self, image: Image, target: Target) -> str:
        """The repository an image has at a target."""
        return f"{target.prefix}/{image.repository}" if target.prefix else image.repository

    def never_synced(self, sync: Sync) -> dict[str, str]:
        """Patterns of repositories that a sync never takes, with the reason: those of our own images, because nothing
        of them leaves its registry unpromoted; and what a sync within one registry has made itself, or each run would
        copy the copies."""
        own = [image for image in self.images.values() if image.registry == sync.source]
        targets = [self.targets[name] for name in sync.targets]
        prefixes = [target.prefix for target in targets if target.registry == sync.source]
        return {
            **{image.repository: f"releases of {image.name} travel when they are promoted" for image in own},
            **{f"{prefix}/*": "this sync writes there itself" for prefix in prefixes},
        }


def _public_half(key: Path | None) -> tuple[Path, ...]:
    """The public half that lies beside a private key."""
    return (key.with_suffix(".pub"),) if key else ()
