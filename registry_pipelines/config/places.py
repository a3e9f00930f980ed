"""Where images live and where they go: registries, targets, mirrors and syncs. The rest is in ``model``."""

# ruff: noqa: RUF009 - `setting` is dataclasses.field with a sentence
from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta

from registry_pipelines.config.fields import entry_name, setting
from registry_pipelines.oci.platforms import Platform
from registry_pipelines.settings import GLOB, HOST, PREFIX, REPOSITORY, Names, Secret
from registry_pipelines.transfer.closure.platforms import Selection

_SELECTION = (
    "What `platforms` do to an index. `sparse`: it keeps its digest and its signatures and lacks the other platforms, "
    "which docker-registry and ECR refuse. `rewritten`: a new one with these only; signatures of the old stay behind."
)

_FOREIGN_LAYERS = (
    "Take layers that their publisher keeps elsewhere (Windows bases until 2023), too, where the source holds them; "
    "their licence may forbid to pass them on. What is left out is told."
)


@dataclass(frozen=True, kw_only=True)
class EmbeddedRegistry:
    """A registry that this project serves itself, from OCI layout folders."""

    name: str = entry_name()
    kind: Literal["embedded"] = setting("The registry is served by `registry-pipelines`.")
    port: Annotated[int, Meta(ge=1, le=65535)] = setting("TCP port it listens on.")
    host: Annotated[str, HOST] = setting("Address it listens on; loopback unless told.", default="127.0.0.1")
    root: Path | None = setting("Folder of its content; `<state>/registries/<name>` unless told.", default=None)
    tls_cert: Path | None = setting("PEM certificate chain; with `tls_key` it serves HTTPS.", default=None)
    tls_key: Path | None = setting("PEM private key of `tls_cert`.", default=None)
    users: dict[str, Secret] = setting(
        "Accounts, each name with its password as `${VARIABLE}`; without any, everybody may read and write. Our own "
        "clients log in as the first.",
        factory=dict,
    )
    htpasswd: Path | None = setting("htpasswd file (bcrypt lines) with further accounts.", default=None)
    anonymous_pull: bool = setting("Reading needs no account.", default=False)
    tokens: bool = setting("Bearer tokens from an own endpoint, instead of basic passwords.", default=False)
    reachable_as: Annotated[str, HOST] | None = setting(
        "`host:port` that clients use; `host` and `port` unless told.", default=None
    )
    ca_file: Path | None = setting("PEM certificates our own clients trust, beside the system's.", default=None)

    @property
    def address(self) -> str:
        """``host:port`` it listens on."""
        return f"{self.host}:{self.port}"

    @property
    def client_address(self) -> str:
        """``host:port`` that clients use."""
        return self.reachable_as or self.address


@dataclass(frozen=True, kw_only=True)
class Redirects:
    """Where a registry may send us, by redirects and by every other address of another host that it names (an upload,
    the next page, its token service). A registry with a public address may send us to public addresses; one in an inner
    network also to inner ones; none to link-local addresses and the clouds' metadata services. Behind a proxy that is
    the proxy's business."""

    allow: tuple[str, ...] = setting(
        "Places that are permitted all the same, as the object store behind a private link: `host`, `host:port`, "
        "`*.domain`, an address, or a network like `10.1.0.0/16`.",
        default=(),
    )


@dataclass(frozen=True, kw_only=True)
class DistributionRegistry:
    """Any registry that speaks the OCI distribution protocol: ECR, Artifact Registry, Harbor, docker-registry."""

    name: str = entry_name()
    kind: Literal["distribution"] = setting("The registry is somewhere else.")
    host: Annotated[str, HOST] = setting("`host` or `host:port`, without scheme.")
    username: str = setting(
        "User name; without it docker's own configuration is asked, for hosts of ECR the AWS credentials.", default=""
    )
    password: Secret = setting("Password or token of `username`, as `${VARIABLE}`.", default=Secret(""))
    plain_http: bool | None = setting("Speak plain HTTP; by default on loopback hosts only.", default=None)
    ca_file: Path | None = setting("PEM certificates to trust, beside the system's.", default=None)
    docker_config: Path | None = setting(
        "Docker's `config.json` or the container tools' `auth.json`; the usual places unless told.", default=None
    )
    aws_profile: str = setting(
        "Profile of AWS's configuration, for hosts of ECR without `username` and `docker_config`; the default chain of "
        "boto3 unless told.",
        default="",
    )
    redirects: Redirects = setting("Where the registry may send us.", factory=Redirects)
    bandwidth: tuple[str, ...] = setting(
        "Most bytes a second from and to it, for all processes together, at some hours: `20MB/s mon-fri 08:00-18:00`.",
        default=(),
    )


@dataclass(frozen=True, kw_only=True)
class LayoutRegistry:
    """A folder with an OCI layout per repository, for example on a disk that crosses an air gap."""

    name: str = entry_name()
    kind: Literal["layout"] = setting("The registry is a folder.")
    root: Path = setting("The folder; it is made when missing.")


RegistryPlace = EmbeddedRegistry | DistributionRegistry | LayoutRegistry


@dataclass(frozen=True, kw_only=True)
class Target:
    """A place that promoted releases must reach."""

    name: str = entry_name()
    registry: Annotated[str, Names("registries")] = setting("Registry to copy to.")
    prefix: Annotated[str, PREFIX] = setting("Put in front of the image's repository.", default="")
    foreign_layers: bool = setting(f"For releases. {_FOREIGN_LAYERS}", default=False)


@dataclass(frozen=True, kw_only=True)
class Upstream:
    """A foreign image that is mirrored. `tags`, `newest` and `semver` narrow each other."""

    image: str = setting("Image without tag, for example docker.io/library/python, or <registry>/<repository>.")
    repository: Annotated[str, REPOSITORY] | None = setting(
        "Repository it gets; the upstream's own path unless told.", default=None
    )
    tags: tuple[Annotated[str, GLOB], ...] = setting("Patterns of tags to take; all unless told.", default=("*",))
    newest: Annotated[int, Meta(ge=1, le=10_000)] | None = setting(
        "Only so many of them, the highest versions first.", default=None
    )
    semver: str | None = setting("Only versions in this range, for example `>=1.25,<2`.", default=None)
    platforms: tuple[Platform, ...] = setting("Only these platforms; all unless told.", default=())
    selection: Selection = setting(_SELECTION, default="sparse")
    foreign_layers: bool = setting(_FOREIGN_LAYERS, default=False)


@dataclass(frozen=True, kw_only=True)
class Mirror:
    """A way images cross into a private registry: upstream, DMZ, private."""

    name: str = entry_name()
    via: Annotated[str, Names("registries")] | None = setting(
        "Registry in the DMZ that is filled first; copied directly unless told.", default=None
    )
    to: Annotated[str, Names("registries")] = setting("The private registry.")
    prefix: Annotated[str, PREFIX] = setting("Put in front of every repository in both.", default="")
    upstreams: tuple[Upstream, ...] = setting("Foreign images.", default=())
    images: tuple[Annotated[str, Names("images")], ...] = setting(
        "Own images whose promoted releases go the same way.", default=()
    )
    foreign_layers: bool = setting(f"For `images`. {_FOREIGN_LAYERS}", default=False)


@dataclass(frozen=True, kw_only=True)
class Sync:
    """Many repositories of one registry, brought to targets in one plan. Repositories of `images` are never among them:
    releases travel when they are promoted. `tags`, `newest` and `semver` narrow each other."""

    name: str = entry_name()
    source: Annotated[str, Names("registries")] = setting("Registry to take from.")
    targets: Annotated[tuple[Annotated[str, Names("targets")], ...], Meta(min_length=1)] = setting(
        "Targets, at least one."
    )
    repositories: tuple[Annotated[str, GLOB], ...] = setting(
        "Names or patterns of repositories; names alone ask no catalogue, which clouds do not have. With neither these "
        "nor `repositories_regex`, all that the registry lists.",
        default=(),
    )
    repositories_regex: tuple[str, ...] = setting(
        "Regular expressions that the whole name of a repository must match; beside `repositories`.", default=()
    )
    exclude_repositories: tuple[Annotated[str, GLOB], ...] = setting("Patterns of repositories to leave.", default=())
    tags: tuple[Annotated[str, GLOB], ...] = setting("Patterns of tags to take; all unless told.", default=("*",))
    exclude_tags: tuple[Annotated[str, GLOB], ...] = setting("Patterns of tags to leave.", default=())
    newest: Annotated[int, Meta(ge=1, le=10_000)] | None = setting(
        "Only so many tags of each repository, the highest versions first.", default=None
    )
    semver: str | None = setting("Only versions in this range, for example `>=1.25,<2`.", default=None)
    platforms: tuple[Platform, ...] = setting("Only these platforms; all unless told.", default=())
    selection: Selection = setting(_SELECTION, default="sparse")
    foreign_layers: bool = setting(_FOREIGN_LAYERS, default=False)
    move_tags: bool = setting(
        "A tag that names another digest at a target moves; when not it is reported and left.", default=True
    )


__all__ = [
    "DistributionRegistry",
    "EmbeddedRegistry",
    "LayoutRegistry",
    "Mirror",
    "RegistryPlace",
    "Sync",
    "Target",
    "Upstream",
]
