"""What the configuration says of pipelines in a CI system."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from registry_pipelines.settings import AWS_REGION, AWS_ROLE, GLOB, NAME, SERVICE_ACCOUNT, Duration, Names, Pattern

WORKLOAD_PROVIDER = Pattern(
    r"^projects/[0-9]+/locations/global/workloadIdentityPools/[a-z0-9-]+/providers/[a-z0-9-]+$",
    "a workload identity provider",
    "write projects/NUMBER/locations/global/workloadIdentityPools/POOL/providers/PROVIDER",
)
PINNED_IMAGE = Pattern(
    r"^[A-Za-z0-9][A-Za-z0-9._:/-]*@sha256:[0-9a-f]{64}$", "an image by digest", "write REPOSITORY@sha256:..."
)
COMMIT = Pattern(r"^[0-9a-f]{40}$", "a commit", "write its 40 hex digits: a tag can be moved")
VARIABLE = Pattern(r"^[A-Z_][A-Z0-9_]{0,63}$", "a variable", "use capital letters, digits and _")
BRANCH = Pattern(r"^[A-Za-z0-9][A-Za-z0-9._/-]{0,99}$", "a branch", "use letters, digits, . _ - and /")
GIT_TAGS = Pattern(r"^[A-Za-z0-9*][A-Za-z0-9._*-]{0,99}$", "a pattern of git tags", "write it like v*")
PACKAGE = Pattern(
    r"^[A-Za-z0-9][A-Za-z0-9._-]*(\[[A-Za-z0-9,_-]+\])?==[A-Za-z0-9.+!]+$",
    "a pinned package",
    "write NAME[EXTRAS]==VERSION",
)
PYTHON = Pattern(r"^3\.[0-9]{1,2}$", "a version of Python", "write it like 3.12, in quotes")
RUNNER = Pattern(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$", "a runner", "write it like ubuntu-24.04")

System = Literal["github", "gitlab", "cloud-build", "codebuild"]
LastStage = Literal["build", "provenance", "index", "sbom", "scan", "sign"]


class AwsAccess(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The role that a pipeline takes by the identity which its CI system vouches for."""

    role: Annotated[str, AWS_ROLE]
    """The role, whose trust policy names the repository and the branch."""
    region: Annotated[str, AWS_REGION]
    """The region of its session."""


class GoogleAccess(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The service account that a pipeline takes in the same way."""

    service_account: Annotated[str, SERVICE_ACCOUNT]
    """The account."""
    provider: Annotated[str, WORKLOAD_PROVIDER] | None = None
    """Workload identity federation that exchanges the CI system's identity; Cloud Build needs none."""


class Pipelines(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Pipelines of one CI system, a file for each image (docs/pipelines.md)."""

    kind: System
    """The system."""
    images: tuple[Annotated[str, Names("images")], ...] = ()
    """Images they make; all that are built here unless told."""
    branch: Annotated[str, BRANCH] = "main"
    """A push to it makes a release of each image whose files it touches."""
    git_tags: Annotated[str, GIT_TAGS] | None = None
    """Pattern of git tags, as `v*`: each makes a release of that version. None unless told."""
    version: Annotated[str, VARIABLE] = "VERSION"
    """Environment variable that the images' `version` reads, as `version: ${VERSION:-dev}`."""
    until: LastStage = "sign"
    """Last stage that runs there. The push sensor finds the version tag and does the rest."""
    paths: dict[Annotated[str, Names("images")], tuple[Annotated[str, GLOB], ...]] = {}
    """More paths of an image, from the repository's root, besides those that its section names."""
    aws: AwsAccess | None = None
    """Who the pipeline is at AWS."""
    google: GoogleAccess | None = None
    """Who it is at Google."""
    secrets: tuple[Annotated[str, VARIABLE], ...] = ()
    """Variables that the configuration reads and the CI system keeps as secrets of the same names. Keys of clouds are
    refused: a pipeline takes a role."""
    variables: dict[Annotated[str, VARIABLE], str] = {}
    """Variables that it reads and that are no secrets."""
    package: Annotated[str, PACKAGE] | None = None
    """What is installed with pip, as `registry-pipelines[aws,scan]==1.2.0`; this version unless told."""
    container: Annotated[str, PINNED_IMAGE] | None = None
    """Image with this program, in place of `package`; needed by GitLab and Cloud Build, whose steps run in images."""
    runner: Annotated[str, RUNNER] | None = None
    """GitHub's runner, `ubuntu-24.04` unless told; the tag of GitLab's, any unless told."""
    environment: Annotated[str, NAME] = "images"
    """GitHub's environment: it holds the secrets, and clouds trust it by name (`repo:OWNER/NAME:environment:images`);
    which branches and tags may use it is set there."""
    python: Annotated[str, PYTHON] = "3.12"
    """Python for `package`."""
    time_limit: Duration = Duration(hours=2)
    """How long a pipeline may take."""
    actions: dict[str, Annotated[str, COMMIT]] = {}
    """Commits of GitHub's actions in place of the ones known here, as `actions/checkout: <40 hex digits>`."""


def name_problem(name: str) -> str:
    """Why a variable must be no secret of a CI system; empty for any other."""
    if name in LONG_LIVED:
        return f"`{name}` is a key that lives until somebody takes it away; give the pipeline a role (`aws`, `google`)"
    return ""


LONG_LIVED = frozenset(
    {
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "GOOGLE_APPLICATION_CREDENTIALS",
        "GOOGLE_CREDENTIALS",
        "GCP_SA_KEY",
        "AZURE_CLIENT_SECRET",
        "AZURE_STORAGE_ACCOUNT_KEY",
    }
)

__all__ = ["LONG_LIVED", "AwsAccess", "GoogleAccess", "LastStage", "Pipelines", "System", "name_problem"]
