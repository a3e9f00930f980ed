"""What a configuration holds: frozen values. The decoder, the JSON schema and docs/configuration.md are made from these
classes, so a field is described once: its type says what may be written, the docstring below it what it means. What a
stage works with is the stage's own class; registries and what moves between them are in ``registries``, keys in
``signing``, advisories and scanners in ``scanning``, schedules and sensors in ``automation``.
"""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from registry_pipelines.anatomy.rechunk.section import Rechunk
from registry_pipelines.build.builder import Build
from registry_pipelines.build.dockerfile.model import DockerfileBuild
from registry_pipelines.build.packages.model import PackageIndex, PythonPackage
from registry_pipelines.collect.rules import Collect, RetentionRule
from registry_pipelines.config.automation import Schedules, Sensors
from registry_pipelines.config.location import DagsterSettings
from registry_pipelines.config.notify import Notify
from registry_pipelines.config.registries import (
    Cache,
    EmbeddedRegistry,
    Mirror,
    RegistryPlace,
    RemoteRegistry,
    Sync,
    Target,
)
from registry_pipelines.config.scanning import Advisories, Scanner
from registry_pipelines.config.signing import KeyAtHand, ServiceKey, Signing, TrustPolicy
from registry_pipelines.config.usage import UsageSettings
from registry_pipelines.config.weights import KeptWeights
from registry_pipelines.deploying.model import DeploySettings
from registry_pipelines.evidence.attestors import AttestorFiles
from registry_pipelines.evidence.identity_rules import IdentityRule
from registry_pipelines.evidence.predicates import ROLES, Role
from registry_pipelines.infra.model import Infra
from registry_pipelines.mirror.model import Upstream, host_path
from registry_pipelines.node.model import Node
from registry_pipelines.oci.references import Reference
from registry_pipelines.promote.admission.model import Admission
from registry_pipelines.promote.bases import Base
from registry_pipelines.promote.documents import Policy
from registry_pipelines.promote.order import Channel
from registry_pipelines.recover.failover.model import Failover
from registry_pipelines.recover.model import Backup
from registry_pipelines.report.pipelines.settings import Pipelines
from registry_pipelines.report.settings import ReportSettings
from registry_pipelines.settings import (
    GLOB,
    HOST,
    NAME,
    OWNER,
    REPORTS,
    REPOSITORY,
    SCANNER,
    TAG,
    EntryName,
    Names,
    Short,
    Unwritten,
)
from registry_pipelines.shared.settings import Shared
from registry_pipelines.stream.model import RECHUNKED, Stream

VERSION: Literal[1] = 1
"""Of the file's form; another is refused before anything else is read."""


class Image(msgspec.Struct, frozen=True, kw_only=True):
    """An image of ours: where its releases appear, what policy they obey, where they must be."""

    name: EntryName
    registry: Annotated[str, Names("registries")]
    """Source registry: releases are built or pushed there."""
    repository: Annotated[str, REPOSITORY]
    """Repository in the source registry."""
    moving: Annotated[str, REPOSITORY] | None = None
    """Another repository of the same registry, for what must move where the tags of `repository` are immutable: channel
    tags, with the image they name, and cosign's signatures (docs/ecr.md). Its own tags are mutable."""
    policy: Annotated[str, Names("policies")] = "default"
    """Policy its releases must satisfy."""
    tags: tuple[Annotated[str, GLOB], ...] = ()
    """Patterns of the tags that are releases, for example `v*`; unless told, those that read as a version
    (docs/tags.md). The version of `build` always is one."""
    channel: Annotated[str, TAG] = "prod"
    """Channel tag that promotion moves, of an image that has one."""
    channels: tuple[Annotated[Channel, Short("name")], ...] = ()
    """Channel tags in order, for example `[staging, prod]`, in place of `channel`: a release is promoted to the first,
    and from each to the next (docs/promotion.md)."""
    promote: Literal["manual", "auto"] = "manual"
    """Who lets an allowed release go. `manual`: a person, in the UI or by `promote`. `auto`: the run that judged it."""
    owners: tuple[Annotated[str, OWNER], ...] = ()
    """Who owns its releases, as e-mail addresses and `team:NAME`; the team of its repository (`report.teams`) unless
    told. In Dagster its deployments are theirs, and alerts about its releases name them."""
    targets: tuple[Annotated[str, Names("targets")], ...] = ()
    """Targets every promoted release must reach."""
    build: Build | None = None
    """How it is built from Python wheels and a folder; leave out when a team's CI pushes it."""
    dockerfile: DockerfileBuild | None = None
    """How it is built from a Dockerfile, in place of `build` (docs/dockerfiles.md)."""
    rechunk: Rechunk | None = None
    """How its files are put into layers of a package each (docs/rechunk.md); leave out for an image whose
    layers stay."""
    stream: Stream | None = None
    """How it starts before it is fetched whole (docs/streaming.md); leave out for an image that nothing is done to."""

    @property
    def made_here(self) -> Build | DockerfileBuild | None:
        """How it is built here, in either way; None when somebody else pushes it."""
        return self.build or self.dockerfile

    @property
    def section(self) -> str:
        """The name of the section that says how it is built here."""
        return "dockerfile" if self.dockerfile else "build"

    @property
    def forms(self) -> tuple[str, ...]:
        """What is made of a pushed or built image until it is a release, in order; empty where it is one itself."""
        regrouped = (RECHUNKED,) if self.rechunk is not None else ()
        return (*regrouped, *((self.stream.format,) if self.stream is not None and self.stream.derives else ()))

    def released_tag(self, tag: str) -> str:
        """The tag of the release that is made of the image with this tag; the same where nothing is made of it."""
        return "-".join((tag, *self.forms))

    def origin_of(self, tag: str) -> str:
        """The tag of the image that a release with this tag is made of; empty for any other tag, and where nothing is
        made of images."""
        suffix = self.released_tag("")
        return tag.removesuffix(suffix) if suffix and tag.endswith(suffix) else ""

    @property
    def order(self) -> tuple[Channel, ...]:
        """Its channels in order, at least one, each with everything that it has of the image. The last one is
        `channel`: what production runs."""
        told = self.channels or (Channel(name=self.channel),)
        return tuple(
            msgspec.structs.replace(
                each,
                policy=each.policy or self.policy,
                targets=self.targets if each.targets is None else each.targets,
                promote=each.promote or self.promote,
            )
            for each in told
        )

    def with_order(self) -> Image:
        """The same with `channels` as :attr:`order` has them: `channel` and `policy` are those of the last, `targets`
        those of all."""
        order = self.order
        targets = dict.fromkeys(target for each in order for target in each.targets or ())
        last = order[-1]
        return msgspec.structs.replace(
            self, channels=order, channel=last.name, policy=last.policy or self.policy, targets=tuple(targets)
        )


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """A whole configuration; every path is absolute, every name it uses exists."""

    path: Annotated[Path, Unwritten()] = Path()
    """The file itself."""
    notes: Annotated[tuple[str, ...], Unwritten()] = ()
    """What it says otherwise than it reads."""
    spared: Annotated[tuple[str, ...], Unwritten()] = ()
    """Problems of the section left out."""
    served_by: Annotated[str, Unwritten()] = ""
    """The machine that serves the embedded registries, where `REGISTRY_PIPELINES_SERVED_BY` names one; empty for this
    one."""
    lines: Annotated[dict[str, int], Unwritten()] = {}
    """Line of each entry of a section, as `mirrors.base`."""
    lined: Annotated[dict[str, tuple[Path, int]], Unwritten()] = {}
    """Images that have a file of their own, with its line."""
    version: Literal[1] = VERSION
    """Version of this file's form. A file without it is read as version 1."""
    state: Path = Path(".registry-pipelines")
    """Folder for keys, embedded registries, journals and Dagster's home."""
    shared: Shared = Shared()
    """What several workers have together (docs/many-machines.md)."""
    registries: dict[Annotated[str, NAME], RegistryPlace]
    """Places where images live, by name."""
    images: dict[Annotated[str, NAME], Image] = {}
    """Our own images, by name."""
    image_lines: Path | None = None
    """Folder in which each `defs.yaml` adds an image (docs/dagster.md); read as if it stood below `images`."""
    targets: dict[Annotated[str, NAME], Target] = {}
    """Places releases must reach, by name."""
    policies: dict[Annotated[str, NAME], Policy] = {}
    """Policies by name; `default` exists with its default values unless it is written."""
    signing: Signing = Signing()
    """Keys."""
    trust: TrustPolicy = TrustPolicy()
    """Who vouches for images beside the roles of `signing` (docs/signing.md)."""
    advisories: Advisories = Advisories()
    """Advisory data."""
    bases: dict[Annotated[str, NAME], Base] = {}
    """Approved bases by name (docs/promotion.md)."""
    packages: dict[Annotated[str, NAME], PackageIndex] = {}
    """Indexes of Python packages, by name (docs/packages.md). Builds name those that they take wheels from."""
    python_packages: dict[Annotated[str, NAME], PythonPackage] = {}
    """Python packages of ours, by name: wheels that are made here and published to an index."""
    scanners: dict[Annotated[str, SCANNER], Scanner] = {}
    """Other scanners, by what they are."""
    caches: dict[Annotated[str, HOST], Cache] = {}
    """Caches by the host of their upstream, as `docker.io`: bases, upstreams of mirrors and every reference to that
    host are read through them (docs/mirroring.md)."""
    mirrors: dict[Annotated[str, NAME], Mirror] = {}
    """Mirrors by name."""
    syncs: dict[Annotated[str, NAME], Sync] = {}
    """Syncs of whole repositories, by name."""
    backups: dict[Annotated[str, NAME], Backup] = {}
    """Backups of registries, by name (docs/recovery.md)."""
    weights: dict[Annotated[str, NAME], KeptWeights] = {}
    """Weights of models that are kept in several places, by name (docs/weights.md)."""
    failover: dict[Annotated[str, NAME], Failover] = {}
    """Registries that stand in for each other, by name (docs/failover.md)."""
    deploy: dict[Annotated[str, NAME], DeploySettings] = {}
    """Where promoted releases are to run, by name (docs/deployment.md)."""
    pipelines: dict[Annotated[str, NAME], Pipelines] = {}
    """Pipelines of CI systems that `report pipelines` writes, by name (docs/pipelines.md)."""
    retention: tuple[RetentionRule, ...] = ()
    """Retention rules."""
    collect: Collect = Collect()
    """What happens to what they let go."""
    usage: dict[Annotated[str, NAME], UsageSettings] = {}
    """Who says what runs, by name (docs/inventory.md). `collect` keeps what runs, and nothing goes that one of them
    could speak of which does not answer."""
    infra: dict[Annotated[str, Names("registries")], Infra] = {}
    """Settings of registries in clouds, each below its registry's name (docs/infra.md)."""
    schedules: Schedules = Schedules()
    """When nightly work runs."""
    sensors: Sensors = Sensors()
    """How pushes are noticed."""
    notify: Notify = Notify()
    """Who is told of a release that does not ship."""
    dagster: DagsterSettings = DagsterSettings()
    """What people find in Dagster beside the work itself: owners, links to code, pools."""
    admission: Admission = Admission()
    """What may start in clusters."""
    node: Node = Node()
    """What `node serve` does on a machine that runs containers."""
    report: ReportSettings = ReportSettings()
    """What reports about money and use need to know (docs/cost.md)."""
    reports: Annotated[str, REPORTS] | None = None
    """Where Dagster also keeps each release's page, as JSON: `s3://BUCKET/PREFIX`, `gs://BUCKET/PREFIX` (extra
    `dagster-clouds`), or `file:///FOLDER`; in its own database alone unless told (docs/dagster.md)."""

    def root(self, registry: EmbeddedRegistry) -> Path:
        """The content folder of an embedded registry."""
        return registry.root or self.state / "registries" / registry.name

    @property
    def signing_key(self) -> Path:
        """The private key's file, of every role that has none of its own, unless that key is in a key service."""
        return self.signing.key or self.state / "keys" / "signing.key"

    @property
    def trusted_keys(self) -> tuple[Path, ...]:
        """Files of the public keys that are believed in every role that has none of its own; none when all have, and no
        other is written."""
        if self._only_own_keys:
            return ()
        if self.signing.keyless and not self._signs_itself:
            return _believed(self.signing, self.signing.trusted, None)
        return _believed(self.signing, self.signing.trusted, self.signing_key)

    def signing_key_of(self, role: Role) -> Path | None:
        """The private key's file of a role; None where its key is elsewhere."""
        own = self.signing.of(role)
        if own is None and self._only_own_keys:
            return None
        if self.kms_of(role):
            return None
        return own.key if own else self.signing_key

    def kms_of(self, role: Role) -> ServiceKey | None:
        """A role's key in a key service; None where it has none there."""
        told = self.signing.of(role) or self.signing
        return ServiceKey(told.kms, told.public, told.password) if told.kms and told.public else None

    @property
    def _only_own_keys(self) -> bool:
        """Whether each role has its own key and no other is written. The indexer may have none then: what was written
        before there was one makes no key of it, and believes nobody as that."""
        one = self.signing
        told = self._signs_itself or one.trusted or one.retired or one.keyless
        return not told and all(self.signing.of(role) for role in ROLES if role != "indexer")

    @property
    def _signs_itself(self) -> bool:
        """Whether a key of all roles is written."""
        return bool(self.signing.key or self.signing.kms or self.signing.generate)

    @property
    def identities_by_role(self) -> dict[Role, tuple[IdentityRule, ...]]:
        """Identities that are believed in the roles that have their own keys or identities."""
        return {role: own.keyless for role in ROLES if (own := self.signing.of(role))}

    def password_of(self, role: Role) -> str:
        """The password of :meth:`signing_key_of`; empty for none."""
        return (self.signing.of(role) or self.signing).password.reveal()

    @property
    def trusted_by_role(self) -> dict[Role, tuple[Path, ...]]:
        """Files of the public keys of the roles that have their own."""
        keys = {role: own for role in ROLES if (own := self.signing.of(role))}
        return {role: _believed(own, own.trusted, own.key) for role, own in keys.items()}

    @property
    def retired_keys(self) -> dict[Path, date]:
        """Files of public keys that are believed until a day; the earliest where one has several."""
        days: dict[Path, date] = {}
        for each in (each for _, told in self.signing.told() for each in told.retired):
            days[each.key] = min(each.until, days.get(each.key, each.until))
        return days

    @property
    def attestors(self) -> dict[str, AttestorFiles]:
        """Who vouches for images, by name."""
        return {
            name: AttestorFiles(own.attests, own.keys, own.keyless, own.certificates)
            for name, own in self.trust.attestors.items()
        }

    @property
    def caches_of_builds(self) -> dict[tuple[str, str], str]:
        """By registry and repository of a build cache, whose it is: a repository that nothing but builds use."""
        return {
            (image.registry, image.dockerfile.cache.repository): name
            for name, image in self.images.items()
            if image.dockerfile and image.dockerfile.cache
        }

    @property
    def rules(self) -> tuple[RetentionRule, ...]:
        """What registries keep: `retention`, and what build caches say of themselves."""
        caches = [
            RetentionRule(
                registry=image.registry,
                name=f"buildcache-{name}"[:63],
                repositories=(image.dockerfile.cache.repository,),
                keep_newest=0,
                keep_days=image.dockerfile.cache.keep.days,
                untagged_days=image.dockerfile.cache.keep.days,
            )
            for name, image in self.images.items()
            if image.dockerfile and image.dockerfile.cache
        ]
        return (*self.retention, *caches)

    def repository_at(self, image: Image, target: Target) -> str:
        """The repository an image has at a target."""
        return f"{target.prefix}/{image.repository}" if target.prefix else image.repository

    def upstream_at(self, upstream: Upstream) -> tuple[str, str]:
        """Where a foreign image is: registry by its name in the configuration or host, and repository. Raises
        ReferenceInvalid."""
        first, _, rest = upstream.image.partition("/")
        if first in self.registries:
            return first, Reference.parse(f"configured.invalid/{rest}", default_tag="").repository
        reference = Reference.parse(upstream.image, default_tag="")
        return reference.registry, reference.repository

    def mirrored_repository(self, mirror: Mirror, upstream: Upstream) -> str:
        """The repository that a foreign image gets in the DMZ and the private registry. Raises ReferenceInvalid."""
        registry, repository = self.upstream_at(upstream)
        if upstream.repository:
            repository = upstream.repository
        elif mirror.keep_host:
            repository = f"{host_path(self._host_of(registry))}/{repository}"
        return f"{mirror.prefix}/{repository}" if mirror.prefix else repository

    def _host_of(self, registry: str) -> str:
        """What clients call a registry: a folder or a store has its name alone."""
        settings = self.registries.get(registry)
        if isinstance(settings, EmbeddedRegistry):
            return settings.client_address
        return settings.host if isinstance(settings, RemoteRegistry) else registry

    def never_synced(self, sync: Sync) -> dict[str, str]:
        """Patterns of repositories that a sync never takes, with the reason: those of our own images, because nothing
        of them leaves its registry unpromoted; and what a sync within one registry has made itself, or each run would
        copy the copies."""
        own = [image for image in self.images.values() if image.registry == sync.source]
        targets = [self.targets[name] for name in sync.targets]
        prefixes = [target.prefix for target in targets if target.registry == sync.source]
        inbox = self.inbox_at
        return {
            **{image.repository: f"releases of {image.name} travel when they are promoted" for image in own},
            **{f"{prefix}/*": "this sync writes there itself" for prefix in prefixes},
            **{
                cache: f"it is the build cache of {name}"
                for (registry, cache), name in self.caches_of_builds.items()
                if registry == sync.source
            },
            **({inbox[1]: "recordings of nodes are never copied"} if inbox and inbox[0] == sync.source else {}),
        }

    @property
    def inbox_at(self) -> tuple[str, str] | None:
        """Registry and repository of `node.record.inbox`: the name of a registry of this file where it is one of them,
        else its host. None where nothing is recorded."""
        if self.node.record is None:
            return None
        first, _, repository = self.node.record.inbox.partition("/")
        return self._registry_named(first), repository

    def is_at(self, one: tuple[str, str], other: tuple[str, str]) -> bool:
        """Whether two places, each a registry's name or host with a repository, are one."""
        return (self._registry_named(one[0]), one[1]) == (self._registry_named(other[0]), other[1])

    def _registry_named(self, first: str) -> str:
        """The name of a registry of this file by its name or host; another host as it is."""
        for name, registry in self.registries.items():
            host = getattr(registry, "client_address", None) or getattr(registry, "host", None)
            if first in (name, host):
                return name
        return first


def _believed(told: KeyAtHand, trusted: tuple[Path, ...], key: Path | None) -> tuple[Path, ...]:
    """Files of public keys: what is trusted, else the public half of the key that signs; then what is retired."""
    half = told.public if told.kms else key and key.with_suffix(".pub")
    return (*(trusted or ((half,) if half else ())), *(each.key for each in told.retired))
