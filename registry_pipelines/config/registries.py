"""Where images live and where they go: registries, targets, mirrors and syncs. The rest is in ``model``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta
from msgspec.structs import replace

from registry_pipelines.config.clouds import EcrPublicRegistry, EcrRegistry, GarRegistry
from registry_pipelines.config.redirects import Redirects
from registry_pipelines.mirror.model import Bundles, Upstream
from registry_pipelines.settings import ARTIFACT, FILE, GLOB, HOST, PREFIX, Duration, EntryName, Instead, Names, Secret
from registry_pipelines.transfer.closure.choice import Choice

AZURE_INSTEAD = Instead(("acr", "azure"), "Azure's registry is `kind: distribution` with its host, <name>.azurecr.io")
OTHERS_INSTEAD = Instead(
    ("docker", "dockerhub", "docker-hub", "ghcr", "github", "gitlab", "harbor", "quay", "nexus", "artifactory", "oci"),
    "a registry elsewhere is `kind: distribution` with its host, as docker.io, ghcr.io or harbor.example.com",
)


class EmbeddedRegistry(msgspec.Struct, frozen=True, kw_only=True):
    """A registry that this project serves itself, from OCI layout folders."""

    name: EntryName
    kind: Literal["embedded"]
    """The registry is served by `registry-pipelines`."""
    port: Annotated[int, Meta(ge=1, le=65535)]
    """TCP port it listens on."""
    host: Annotated[str, HOST] = "127.0.0.1"
    """Address it listens on; loopback unless told."""
    root: Path | None = None
    """Folder of its content; `<state>/registries/<name>` unless told."""
    tls_cert: Annotated[Path, FILE] | None = None
    """PEM certificate chain; with `tls_key` it serves HTTPS."""
    tls_key: Annotated[Path, FILE] | None = None
    """PEM private key of `tls_cert`."""
    users: dict[str, Secret] = {}
    """Accounts, each name with its password as `${VARIABLE}`; without any, everybody may read and write. Our own
    clients log in as the first."""
    htpasswd: Annotated[Path, FILE] | None = None
    """htpasswd file (bcrypt lines) with further accounts."""
    anonymous_pull: bool = False
    """Reading needs no account."""
    tokens: bool = False
    """Bearer tokens from an own endpoint, instead of basic passwords."""
    reachable_as: Annotated[str, HOST] | None = None
    """`host:port` that clients use; `host` and `port` unless told."""
    ca_file: Annotated[Path, FILE] | None = None
    """PEM certificates our own clients trust, beside the system's."""
    access_log: Path | None = None
    """File that it writes who pushed, pulled and deleted what into, a JSON object a line (docs/audit.md)."""

    @property
    def address(self) -> str:
        """``host:port`` it listens on."""
        return f"{self.host}:{self.port}"

    @property
    def client_address(self) -> str:
        """``host:port`` that clients use."""
        return self.reachable_as or self.address


class DistributionRegistry(msgspec.Struct, frozen=True, kw_only=True):
    """Any registry that speaks the OCI distribution protocol: Harbor, docker-registry, and those of the clouds by their
    hosts, too."""

    name: EntryName
    kind: Annotated[Literal["distribution"], AZURE_INSTEAD, OTHERS_INSTEAD]
    """The registry is somewhere else."""
    host: Annotated[str, HOST]
    """`host` or `host:port`, without scheme."""
    username: str = ""
    """User name; without it docker's own configuration is asked, for hosts of ECR the AWS credentials."""
    password: Secret = Secret("")
    """Password or token of `username`, as `${VARIABLE}`."""
    plain_http: bool | None = None
    """Speak plain HTTP; by default on loopback hosts only."""
    ca_file: Annotated[Path, FILE] | None = None
    """PEM certificates to trust, beside the system's."""
    docker_config: Annotated[Path, FILE] | None = None
    """Docker's `config.json` or the container tools' `auth.json`; the usual places unless told."""
    aws_profile: str = ""
    """Profile of AWS's configuration, for hosts of ECR without `username` and `docker_config`; the default chain of
    boto3 unless told."""
    redirects: Redirects = Redirects()
    """Where the registry may send us."""
    bandwidth: tuple[str, ...] = ()
    """Most bytes a second from and to it, for all processes together, at some hours: `20MB/s mon-fri 08:00-18:00`."""


class LayoutRegistry(msgspec.Struct, frozen=True, kw_only=True):
    """A folder with an OCI layout per repository, for example on a disk that crosses an air gap."""

    name: EntryName
    kind: Literal["layout"]
    """The registry is a folder."""
    root: Path
    """The folder; it is made when missing."""


class StoreRegistry(msgspec.Struct, frozen=True, kw_only=True):
    """Images in an object store: for copies that outlive a registry (docs/object-stores.md). Nothing pulls from it but
    this program."""

    name: EntryName
    kind: Literal["store"]
    """The registry is an object store."""
    address: str
    """`s3://BUCKET/PREFIX`, `gs://BUCKET/PREFIX`, `az://CONTAINER/PREFIX`, or a folder."""
    region: str = ""
    """Of S3; what AWS's configuration says unless told."""
    endpoint: str = ""
    """Address of a store that speaks S3 and is not AWS, as `https://minio.example.com`; of Google or Azure another way
    in than the usual one."""
    aws_profile: str = ""
    """Profile of AWS's configuration; the default chain of boto3 unless told."""

    def within(self, folder: Path) -> StoreRegistry:
        """The same, where a store that is a folder is relative to another one."""
        return self if "://" in self.address else replace(self, address=str(folder / Path(self.address).expanduser()))


RemoteRegistry = DistributionRegistry | EcrRegistry | EcrPublicRegistry | GarRegistry
"""A registry somewhere else, with ``host``, ``bandwidth`` and ``redirects``."""
RegistryPlace = EmbeddedRegistry | RemoteRegistry | LayoutRegistry | StoreRegistry


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """A place that promoted releases must reach."""

    name: EntryName
    registry: Annotated[str, Names("registries")]
    """Registry to copy to."""
    prefix: Annotated[str, PREFIX] = ""
    """Put in front of the image's repository."""
    moving_prefix: Annotated[str, PREFIX] = ""
    """Put in front of the image's repository for what must move where the tags there are immutable, as `moving` of an
    image; nothing is kept apart unless told."""
    arrival: Duration = Duration(minutes=30)
    """How long a release is waited for that ECR brings here by itself (docs/infra.md); then it is copied."""
    max_lag: Duration = Duration(hours=1)
    """How long after its promotion a release may be missing here, before Dagster's check `in_time` fails."""
    foreign_layers: bool = False
    """For releases. Take layers that their publisher keeps elsewhere (Windows bases until 2023), too, where the source
    holds them; their licence may forbid to pass them on. What is left out is told."""


class Cache(msgspec.Struct, frozen=True, kw_only=True):
    """A cache that an upstream is read through: ECR's pull-through, a remote repository of Artifact Registry, or any
    proxy. Tags are resolved by the upstream where it can be reached, content comes from the cache by digest."""

    registry: Annotated[str, Names("registries")]
    """Registry that the cache is in."""
    prefix: Annotated[str, PREFIX] = ""
    """Put in front of the upstream's repositories there: the rule's prefix at ECR, `PROJECT/REPOSITORY` at Artifact
    Registry."""


class Mirror(msgspec.Struct, frozen=True, kw_only=True):
    """A way images cross into a private registry: upstream, DMZ, private."""

    name: EntryName
    via: Annotated[str, Names("registries")] | None = None
    """Registry in the DMZ that is filled first; copied directly unless told."""
    to: Annotated[str, Names("registries")]
    """The private registry."""
    prefix: Annotated[str, PREFIX] = ""
    """Put in front of every repository in both."""
    keep_host: bool = False
    """Upstreams keep their host in front of their repository, as `docker.io/library/python`: clusters then find an
    image under the name that their manifests say (docs/mirroring.md). A port is written with `-`."""
    upstreams: tuple[Upstream, ...] = ()
    """Foreign images."""
    lock: Path | None = None
    """File with every upstream's tags by digest, written by `mirror lock` and reviewed: exactly what stands there is
    taken. Without it the tags are resolved when they are mirrored."""
    policy: Annotated[str, Names("policies")] | None = None
    """Policy that upstreams must satisfy before they come to the private registry; one that does not is held in front
    of it. Nothing is asked unless told here or at the upstream (docs/mirroring.md)."""
    max_age: Duration = Duration(hours=50)
    """How long ago each upstream may have been brought whole, before `mirror check` and Dagster's check `age` fail; two
    nights unless told."""
    images: tuple[Annotated[str, Names("images")], ...] = ()
    """Own images whose promoted releases go the same way."""
    artifacts: tuple[Annotated[str, ARTIFACT], ...] = ()
    """Other artifacts that are taken, each with its tag: `dmz/advisories:latest`, as `advisories push` or `wheels push`
    wrote it. They keep their repository and tag, below `prefix`."""
    across: Literal["network", "bundle"] = "network"
    """How what is in `via` comes to `to`. With `bundle` there is no wire: `via` alone is filled here, and `bundle
    create` writes files, which a configuration on the other side loads into its `to`."""
    bundle: Bundles = Bundles()
    """How bundles are made, and who is believed."""
    foreign_layers: bool = False
    """For `images`. Take layers that their publisher keeps elsewhere (Windows bases until 2023), too, where the source
    holds them; their licence may forbid to pass them on. What is left out is told."""

    @property
    def stops(self) -> tuple[str, ...]:
        """The registries that are filled through the network from this side, in order: without a wire to it `to` is not
        among them, unless there is nothing before it, as on the far side."""
        if self.across == "bundle" and self.via:
            return (self.via,)
        return (self.via, self.to) if self.via else (self.to,)


class Sync(Choice, frozen=True, kw_only=True):
    """Many repositories of one registry, brought to targets in one plan. Repositories of `images` are never among them:
    releases travel when they are promoted. `tags`, `newest` and `semver` narrow each other."""

    name: EntryName
    source: Annotated[str, Names("registries")]
    """Registry to take from."""
    targets: Annotated[tuple[Annotated[str, Names("targets")], ...], Meta(min_length=1)]
    """Targets, at least one."""
    repositories: tuple[Annotated[str, GLOB], ...] = ()
    """Names or patterns of repositories; names alone ask no catalogue, which clouds do not have. With neither these nor
    `repositories_regex`, all that the registry lists."""
    repositories_regex: tuple[str, ...] = ()
    """Regular expressions that the whole name of a repository must match; beside `repositories`."""
    exclude_repositories: tuple[Annotated[str, GLOB], ...] = ()
    """Patterns of repositories to leave."""
    strip: Annotated[str, PREFIX] = ""
    """Beginning of the repositories' names that is left away at the targets, before their prefix is put in front:
    `ml-prod` makes `gcr.io/ml-prod/app` be `app` there. Names that do not begin so stay whole."""
    move_tags: bool = True
    """A tag that names another digest at a target moves; when not it is reported and left."""


__all__ = [
    "Cache",
    "DistributionRegistry",
    "EcrPublicRegistry",
    "EcrRegistry",
    "EmbeddedRegistry",
    "GarRegistry",
    "LayoutRegistry",
    "Mirror",
    "Redirects",
    "RegistryPlace",
    "RemoteRegistry",
    "StoreRegistry",
    "Sync",
    "Target",
    "Upstream",
]
