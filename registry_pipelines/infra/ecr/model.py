"""What can be declared of an ECR registry. Fields that are not written are not managed: they may be what they are."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from registry_pipelines.infra.ecr.alarms import EcrAlarm, EcrTopic
from registry_pipelines.settings import AWS_ACCOUNT, FILE, REPOSITORY, EntryName, Pattern

READER = Pattern(
    r"^([0-9]{12}|o-[a-z0-9]{10,32}|arn:aws[a-z-]*:(iam|sts)::[0-9]{12}:[A-Za-z0-9+=,.@_/-]+)$",
    "a reader",
    "write an account (12 digits), an organization (o-...), or the ARN of a role or user",
)
DESTINATION = Pattern(
    r"^([0-9]{12}/)?[a-z]{2}(-[a-z]+)+-[0-9]+$",
    "a place to replicate to",
    "write a region, or account/region as 222233334444/eu-west-1",
)
PREFIX = Pattern(
    r"^([a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*/?)?$",
    "the beginning of repositories' names",
    "write `ml` or `ml/app`, as ECR tells it; empty for all",
)
REPLICATED = Pattern(
    r"^(?:[a-z0-9]+(?:[._-][a-z0-9]*)*/)*[a-z0-9]*(?:[._-][a-z0-9]*)*$",
    "the beginning of a repository's name",
    "write `ml/` or `ml/app`; wildcards do not count here",
)
TAG_EXCEPTION = Pattern(
    r"^[0-9a-zA-Z._*-]{1,128}$", "a pattern of tags", "use letters, digits, . _ - and * (at most two)"
)
WILDCARD = Pattern(
    r"^[a-z0-9*._/-]{1,255}$", "a pattern of repositories", "use lower-case letters, digits, . _ - / and *"
)
ROLE = Pattern(r"^arn:aws[a-z-]*:iam::[0-9]{12}:role/\S+$", "the ARN of a role", "write arn:aws:iam::ACCOUNT:role/NAME")
PRINCIPAL = Pattern(r"^arn:aws[a-z-]*:iam::[0-9]{12}:(role|user)/\S+$", "the ARN of a role or user", "write it whole")
SECRET = Pattern(
    r"^arn:aws[a-z-]*:secretsmanager:[a-zA-Z0-9-:]+:secret:ecr-pullthroughcache/[a-zA-Z0-9/_+=.@-]+$",
    "the ARN of a secret that ECR may read",
    "its name begins with ecr-pullthroughcache/, and it is in the registry's account and region",
)
KEY = Pattern(
    r"^(alias/[A-Za-z0-9/_-]+|[0-9a-f-]{36}|mrk-[0-9a-f]{32}|arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:(key|alias)/\S+)$",
    "a key of KMS",
    "write alias/NAME, its id, or its ARN",
)
PROFILE = Pattern(
    r"^(arn:aws[a-z-]*:signer:[a-z0-9-]+:[0-9]{12}:/signing-profiles/)?[a-zA-Z0-9_]{2,64}$",
    "a profile of AWS Signer",
    "write its name, or its ARN without a version",
)
VALIDITY = Pattern(r"^[1-9][0-9]{0,4} (days|months|years)$", "how long signatures are valid", "write `135 months`")

Encryption = Literal["AES256", "KMS", "KMS_DSSE"]
Maker = Literal["PULL_THROUGH_CACHE", "REPLICATION", "CREATE_ON_PUSH"]


def _named(kind: str, what: str) -> Pattern:
    """The id of a thing of EC2."""
    return Pattern(rf"^{kind}-[0-9a-f]{{8,17}}$", what, f"write {kind}-...")


PROFILE_NAME = Pattern(r"^[a-zA-Z0-9_]{2,64}$", "a profile's name", "use letters, digits and _")


class RepositorySettings(msgspec.Struct, frozen=True, kw_only=True):
    """What repositories and the templates they are made from have in common."""

    immutable: bool | None = None
    """Tags never move, but for those of `movable`. Where `movable` is written and this is `false`, the reverse."""
    movable: tuple[Annotated[str, TAG_EXCEPTION], ...] | None = None
    """Patterns of tags that are excepted from `immutable`, at most 5: `[latest, prod]`."""
    encryption: Encryption | None = None
    """Fixed when a repository is made; AES256 for those that say nothing."""
    kms_key: Annotated[str, KEY] | None = None
    """Key of `encryption: KMS`; AWS's own unless told. Fixed as well; ECR tells it as an ARN."""
    labels: dict[str, str] = {}
    """Resource tags. Others that a repository has stay."""
    lifecycle: Annotated[Path, FILE] | None = None
    """File with the lifecycle policy, as AWS reads it."""
    policy: Annotated[Path, FILE] | None = None
    """File with the repository policy. Its statements are managed by their `Sid`; others that are there stay."""
    readers: tuple[Annotated[str, READER], ...] | None = None
    """Who may pull: accounts, organizations, roles. Written as one statement of the repository policy."""


class EcrRepositories(RepositorySettings, frozen=True, kw_only=True):
    """Repositories with the same settings."""

    names: Annotated[tuple[Annotated[str, REPOSITORY], ...], Meta(min_length=1)]
    """Their names; each stands in one entry alone."""
    scan_on_push: bool | None = None
    """Scan what is pushed. Rules of `scanning` win where they cover the repository."""
    absent: bool = False
    """They must not be there; one that holds images is refused, unless `force`."""
    force: bool = False
    """For `absent`: delete the images, too."""


class EcrTemplate(RepositorySettings, frozen=True, kw_only=True):
    """What repositories get that ECR makes by itself."""

    prefix: Annotated[str, PREFIX]
    """Beginning of their names; empty for all that no other template covers (ROOT)."""
    applied_for: Annotated[tuple[Maker, ...], Meta(min_length=1)]
    """What makes them. A push makes a missing repository only under a template with `CREATE_ON_PUSH`."""
    description: str = ""
    """For people."""
    role: Annotated[str, ROLE] | None = None
    """Role that ECR takes for `kms_key` and `labels`."""
    absent: bool = False
    """It must not be there."""


class EcrPullThrough(msgspec.Struct, frozen=True, kw_only=True):
    """A cache of another registry. What it has cached is repositories, and stays when the rule goes."""

    prefix: Annotated[str, PREFIX]
    """Beginning of the cached repositories' names; empty for all (ROOT)."""
    upstream: str
    """Host of the registry: registry-1.docker.io, quay.io, ghcr.io, public.ecr.aws, registry.k8s.io, ..."""
    upstream_prefix: Annotated[str, PREFIX] | None = None
    """Beginning of the names there; all unless told."""
    secret: Annotated[str, SECRET] | None = None
    """Secret with the log-in; Docker Hub, GitHub, GitLab, Azure and Chainguard need one."""
    role: Annotated[str, ROLE] | None = None
    """Role for another account's ECR."""
    absent: bool = False
    """It must not be there."""


class EcrReplication(msgspec.Struct, frozen=True, kw_only=True):
    """What ECR itself copies to other regions and accounts, after it is pushed here; tags, signatures and all."""

    to: Annotated[tuple[Annotated[str, DESTINATION], ...], Meta(min_length=1)]
    """Regions of this account, or `account/region`."""
    prefixes: tuple[Annotated[str, REPLICATED], ...] = ()
    """Beginnings of repositories' names; all repositories unless told."""
    deletes: bool = False
    """Deletions of images and tags go there, too."""
    backfill: bool = False
    """Copy once what was pushed before the rule was there."""
    absent: bool = False
    """Nothing is to be replicated there; what arrived stays."""


class EcrScanning(msgspec.Struct, frozen=True, kw_only=True):
    """Scanning of the whole registry."""

    type: Literal["BASIC", "ENHANCED"] | None = None
    """`ENHANCED` is Amazon Inspector, which costs by image."""
    on_push: tuple[Annotated[str, WILDCARD], ...] | None = None
    """Patterns of repositories that are scanned when something is pushed; `['*']` for all."""
    continuous: tuple[Annotated[str, WILDCARD], ...] | None = None
    """Patterns of those that are scanned again and again; `ENHANCED` only."""


class EcrSigning(msgspec.Struct, frozen=True, kw_only=True):
    """A profile that ECR signs with what is pushed (managed signing), as the one who pushes."""

    profile: Annotated[str, PROFILE]
    """Its name (of `signer_profiles`, or one that exists), or its ARN."""
    repositories: tuple[Annotated[str, WILDCARD], ...] = ()
    """Patterns of repositories; all unless told."""
    absent: bool = False
    """ECR is not to sign with it."""


class SignerProfile(msgspec.Struct, frozen=True, kw_only=True):
    """A profile of AWS Signer. What it is made with is fixed."""

    name: EntryName
    platform: str = "Notation-OCI-SHA384-ECDSA"
    """The one for images unless told."""
    validity: Annotated[str, VALIDITY] = "135 months"
    """How long signatures are valid."""


class EcrAccount(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of the account in this region."""

    blob_mounting: bool | None = None
    """Layers are mounted between repositories instead of sent again (BLOB_MOUNTING)."""
    basic_scan: Literal["AWS_NATIVE", "CLAIR"] | None = None
    """BASIC_SCAN_TYPE_VERSION."""
    registry_policy: Literal["V1", "V2"] | None = None
    """REGISTRY_POLICY_SCOPE: `V2` lets the registry policy speak of every action."""


class KmsKey(msgspec.Struct, frozen=True, kw_only=True):
    """A key that must be there. Keys are described and compared, never made: only `rotation` is changed."""

    key: Annotated[str, KEY]
    """Its alias, id or ARN."""
    enabled: bool = True
    """It can be used."""
    spec: str | None = None
    """Its kind: SYMMETRIC_DEFAULT, ECC_NIST_P256, RSA_3072, ..."""
    usage: Literal["ENCRYPT_DECRYPT", "SIGN_VERIFY"] | None = None
    """What it is for."""
    rotation: bool | None = None
    """AWS makes a new version of it every year; symmetric keys only."""


class VpcEndpoints(msgspec.Struct, frozen=True, kw_only=True):
    """Ways from a network to ECR without the internet: ecr.api, ecr.dkr, and the S3 gateway, for layers."""

    vpc: Annotated[str, _named("vpc", "a VPC")]
    """The network."""
    subnets: tuple[Annotated[str, _named("subnet", "a subnet")], ...]
    """Subnets of the two interface endpoints, one in each zone."""
    security_groups: tuple[Annotated[str, _named("sg", "a security group")], ...] = ()
    """Groups that let 443 in from the nodes; the network's default one unless told."""
    route_tables: tuple[Annotated[str, _named("rtb", "a route table")], ...]
    """Route tables of the nodes' subnets, for the S3 gateway."""
    private_dns: bool = True
    """ECR's usual names lead to the endpoints."""


class EcrInfra(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of an ECR registry. What is not declared is named by `infra plan`, and never changed or deleted."""

    name: EntryName
    kind: Literal["ecr"]
    """As the registry's own."""
    repositories: tuple[EcrRepositories, ...] = ()
    """Repositories, by groups that are set alike."""
    templates: tuple[EcrTemplate, ...] = ()
    """Templates of repositories that ECR makes."""
    pull_through: tuple[EcrPullThrough, ...] = ()
    """Caches of other registries."""
    replication: tuple[EcrReplication, ...] = ()
    """What ECR copies elsewhere."""
    replicated_from: tuple[Annotated[str, AWS_ACCOUNT], ...] | None = None
    """Accounts that replicate to this registry: a statement of the registry policy."""
    registry_policy: Annotated[Path, FILE] | None = None
    """File with the registry policy; managed by `Sid`, as that of a repository."""
    scanning: EcrScanning | None = None
    """Scanning of the whole registry."""
    signing: tuple[EcrSigning, ...] = ()
    """Managed signing."""
    signer_profiles: dict[Annotated[str, PROFILE_NAME], SignerProfile] = {}
    """Profiles of AWS Signer, by name."""
    account: EcrAccount = EcrAccount()
    """Settings of the account."""
    pull_time_exclusions: tuple[Annotated[str, PRINCIPAL], ...] = ()
    """Roles and users whose pulls do not count as use: scanners, this project's own."""
    kms_keys: tuple[KmsKey, ...] = ()
    """Keys that must be there."""
    vpc_endpoints: tuple[VpcEndpoints, ...] = ()
    """Private ways to ECR."""
    topics: tuple[EcrTopic, ...] = ()
    """Topics of SNS that alarms tell."""
    alarms: tuple[EcrAlarm, ...] = ()
    """Alarms of CloudWatch on the numbers that `report metrics` publishes (docs/metrics.md)."""
