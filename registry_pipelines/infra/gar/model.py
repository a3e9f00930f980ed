"""What can be declared of an Artifact Registry. What is not written is not managed: it may be what it is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from registry_pipelines.infra.gar.alarms import GarAlert, GarChannel
from registry_pipelines.settings import FILE, EntryName, Pattern

REPOSITORY_ID = Pattern(
    r"^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$|^([a-z]+\.)?gcr\.io$",
    "the id of a repository",
    "use 1 to 63 lower-case letters, digits and -, beginning with a letter; or gcr.io, eu.gcr.io, ...",
)
MEMBER = Pattern(
    r"^(allUsers|allAuthenticatedUsers|(user|serviceAccount|group):[^@\s]+@[^@\s]+|domain:[a-z0-9.-]+|(principal|principalSet)://\S+)$",
    "somebody in IAM",
    "write serviceAccount:NAME@PROJECT.iam.gserviceaccount.com, group:..., user:..., domain:... or principalSet://...",
)
LABEL = Pattern(r"^[a-z0-9_-]{0,63}$", "the value of a label", "use at most 63 lower-case letters, digits, - and _")
LABEL_NAME = Pattern(r"^[a-z][a-z0-9_-]{0,62}$", "a label", "begin with a lower-case letter")
KEY = Pattern(
    r"^projects/[^/]+/locations/[^/]+/keyRings/[^/]+/cryptoKeys/[^/]+$",
    "a key of Cloud KMS",
    "write projects/P/locations/L/keyRings/R/cryptoKeys/K",
)
KEY_VERSION = Pattern(
    r"^projects/[^/]+/locations/[^/]+/keyRings/[^/]+/cryptoKeys/[^/]+/cryptoKeyVersions/[0-9]+$",
    "a version of a key of Cloud KMS",
    "write projects/P/locations/L/keyRings/R/cryptoKeys/K/cryptoKeyVersions/1",
)
SECRET = Pattern(
    r"^projects/[^/]+/secrets/[^/]+/versions/([0-9]+|latest)$",
    "a version of a secret",
    "write projects/P/secrets/S/versions/1",
)
UPSTREAM = Pattern(
    r"^(docker-hub|maven-central|npmjs|pypi|(apt|yum):[A-Z_]+/\S+|https://\S+|projects/[^/]+/locations/[^/]+/repositories/[^/]+)$",
    "an upstream",
    "write docker-hub, maven-central, npmjs, pypi, apt:DEBIAN/debian/dists/bookworm, yum:EPEL/pub/epel, https://HOST, "
    "or another repository of Artifact Registry as projects/P/locations/L/repositories/R",
)
SOURCE = Pattern(
    r"^([a-z]([a-z0-9-]{0,61}[a-z0-9])?|projects/[^/]+/locations/[^/]+/repositories/[^/]+)$",
    "a repository behind a virtual one",
    "write its id, or projects/P/locations/L/repositories/R",
)
NOTE_ID = Pattern(r"^[A-Za-z0-9_-]{1,100}$", "the name of a note", "use letters, digits, - and _")
ATTESTOR_ID = Pattern(r"^[a-z0-9_-]{1,100}$", "the name of an attestor", "use lower-case letters, digits, - and _")
CLUSTER = Pattern(r"^[a-z0-9-]+\.[a-z0-9-]+$", "a cluster", "write LOCATION.NAME, as europe-west1.prod")
PERIMETER = Pattern(
    r"^accessPolicies/[0-9]+/servicePerimeters/[A-Za-z][A-Za-z0-9_]{0,49}$",
    "a perimeter",
    "write accessPolicies/NUMBER/servicePerimeters/NAME",
)
PROJECT_NUMBER = Pattern(
    r"^[0-9]+$", "a project's number", "perimeters know projects by number: `gcloud projects describe`"
)
SERVICE = Pattern(r"^[a-z0-9-]+\.googleapis\.com$", "a service", "write artifactregistry.googleapis.com")

Format = Literal["DOCKER", "PYTHON", "MAVEN", "NPM", "APT", "YUM", "GO", "GENERIC", "KFP"]
Evaluation = Literal["ALWAYS_ALLOW", "ALWAYS_DENY", "REQUIRE_ATTESTATION"]
Enforcement = Literal["ENFORCED_BLOCK_AND_AUDIT_LOG", "DRYRUN_AUDIT_LOG_ONLY"]


class GarRemote(msgspec.Struct, frozen=True, kw_only=True):
    """What a remote repository stands for. It keeps what was fetched once."""

    upstream: Annotated[str, UPSTREAM]
    """`docker-hub`, `maven-central`, `npmjs`, `pypi`, `apt:BASE/PATH`, `yum:BASE/PATH`, `https://HOST` or another
    repository. Fixed when it is made."""
    username: str | None = None
    """User name there."""
    password_secret: Annotated[str, SECRET] | None = None
    """Version of a secret with the password; Artifact Registry's service agent must be able to read it."""
    validate: bool | None = None
    """Google asks the upstream when it is made, whether the log-in is right. It is never told afterwards."""


class GarSource(msgspec.Struct, frozen=True, kw_only=True):
    """A repository behind a virtual one."""

    repository: Annotated[str, SOURCE]
    """Id of one in the same place, or its whole name."""
    priority: Annotated[int, Meta(ge=1, le=30)]
    """Whose version is taken where several have it: the greatest number's."""


class GarRepositories(msgspec.Struct, frozen=True, kw_only=True):
    """Repositories with the same settings."""

    names: Annotated[tuple[Annotated[str, REPOSITORY_ID], ...], Meta(min_length=1)]
    """Their ids; each stands in one entry alone."""
    format: Format = "DOCKER"
    """What they hold. Fixed when one is made."""
    description: str | None = None
    """For people."""
    labels: dict[Annotated[str, LABEL_NAME], Annotated[str, LABEL]] = {}
    """Labels. Others that a repository has stay."""
    immutable: bool | None = None
    """Tags never move and are never deleted; Docker only. There are no exceptions: a channel needs a repository of its
    own."""
    kms_key: Annotated[str, KEY] | None = None
    """Key of what is stored; Google's own unless told. Fixed when one is made."""
    cleanup: Annotated[Path, FILE] | None = None
    """File with the cleanup policies, as `gcloud artifacts repositories set-cleanup-policies` reads it. They are all
    that there are."""
    cleanup_dry_run: bool | None = None
    """Cleanup is only written to the audit log."""
    scanning: Literal["INHERITED", "DISABLED"] | None = None
    """Scanning of what is pushed: as the project has it, or never."""
    maven_versions: Literal["NONE", "RELEASE", "SNAPSHOT"] | None = None
    """Maven: which versions they take. Fixed."""
    maven_overwrites: bool | None = None
    """Maven: a snapshot's file may be overwritten. Fixed."""
    remote: GarRemote | None = None
    """They stand for another registry."""
    virtual: tuple[GarSource, ...] | None = None
    """They are a name for several others."""
    readers: tuple[Annotated[str, MEMBER], ...] | None = None
    """Who has `roles/artifactregistry.reader` on each of them, without a condition: these and nobody else."""
    absent: bool = False
    """They must not be there; one that holds anything is refused, unless `force`."""
    force: bool = False
    """For `absent`: delete what they hold, too."""


class BinauthzKey(msgspec.Struct, frozen=True, kw_only=True):
    """A key by which an attestor believes."""

    kms: Annotated[str, KEY_VERSION]
    """Version of a key of Cloud KMS; its public half is asked for there."""


class BinauthzAttestor(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody whose word Binary Authorization takes, with the note that attestations are attached to."""

    name: EntryName
    note: Annotated[str, NOTE_ID] | None = None
    """Note in the same project; the attestor's own name unless told. It is made where it is missing."""
    hint: str | None = None
    """What the note says for people (`human_readable_name`); the attestor's name unless told."""
    description: str | None = None
    """For people."""
    keys: Annotated[tuple[BinauthzKey, ...], Meta(min_length=1)]
    """Keys; any one is enough. Others that the attestor has are a difference, and are removed."""


class BinauthzRule(msgspec.Struct, frozen=True, kw_only=True):
    """What may start."""

    evaluation: Evaluation
    """Everything, nothing, or what every one of `attestors` vouches for."""
    enforcement: Enforcement = "ENFORCED_BLOCK_AND_AUDIT_LOG"
    """Block, or only write it to the audit log."""
    attestors: tuple[str, ...] = ()
    """Names of `attestors`, or projects/P/attestors/A."""


class BinauthzPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """The project's policy."""

    default: BinauthzRule
    """For every cluster that has no rule of its own."""
    clusters: dict[Annotated[str, CLUSTER], BinauthzRule] = {}
    """Rules of clusters, by `LOCATION.NAME`. Those of others that are there stay."""
    always_allowed: tuple[str, ...] | None = None
    """Patterns of images that start without a question."""
    system_images: bool | None = None
    """Google's own images for its clusters start without a question (`globalPolicyEvaluationMode`)."""
    description: str | None = None
    """For people."""


class GcpKey(msgspec.Struct, frozen=True, kw_only=True):
    """A key of Cloud KMS that must be there. Keys are looked at and compared, never made."""

    key: Annotated[str, KEY]
    """Its whole name."""
    enabled: bool = True
    """Its first version, or the primary one, can be used."""
    purpose: Literal["ENCRYPT_DECRYPT", "ASYMMETRIC_SIGN", "ASYMMETRIC_DECRYPT", "MAC"] | None = None
    """What it is for."""
    algorithm: str | None = None
    """As EC_SIGN_P256_SHA256 or GOOGLE_SYMMETRIC_ENCRYPTION."""
    protection: Literal["SOFTWARE", "HSM", "EXTERNAL", "EXTERNAL_VPC"] | None = None
    """Where it is kept."""


class Perimeter(msgspec.Struct, frozen=True, kw_only=True):
    """A perimeter of VPC Service Controls: what is inside reaches the services, what is outside does not."""

    name: Annotated[str, PERIMETER]
    """The perimeter, which must be there: an organization's, made by its administrators."""
    projects: tuple[Annotated[str, PROJECT_NUMBER], ...] = ()
    """Numbers of projects that must be inside. Others stay."""
    services: tuple[Annotated[str, SERVICE], ...] = (
        "artifactregistry.googleapis.com",
        "containeranalysis.googleapis.com",
    )
    """Services that must be restricted. Others stay."""


class GarInfra(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of an Artifact Registry. What is not declared is named by `infra plan`, and never changed or deleted."""

    name: EntryName
    kind: Literal["gar"]
    """As the registry's own."""
    repositories: tuple[GarRepositories, ...] = ()
    """Repositories, by groups that are set alike."""
    readers: tuple[Annotated[str, MEMBER], ...] = ()
    """Who has `roles/artifactregistry.reader` on the whole project. Others that have it stay."""
    attestors: dict[Annotated[str, ATTESTOR_ID], BinauthzAttestor] = {}
    """Attestors of Binary Authorization, by name."""
    binary_authorization: BinauthzPolicy | None = None
    """The project's policy of Binary Authorization."""
    kms_keys: tuple[GcpKey, ...] = ()
    """Keys that must be there."""
    perimeters: tuple[Perimeter, ...] = ()
    """Perimeters of VPC Service Controls."""
    channels: tuple[GarChannel, ...] = ()
    """Notification channels that alarms tell."""
    alarms: tuple[GarAlert, ...] = ()
    """Alert policies of Cloud Monitoring on the numbers that `report metrics` publishes (docs/metrics.md)."""
