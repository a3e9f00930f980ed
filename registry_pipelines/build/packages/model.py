"""What a configuration says of indexes of Python packages, and of packages that are published there."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import msgspec

from registry_pipelines.settings import (
    ARTIFACT,
    AWS_ACCOUNT,
    AWS_REGION,
    AWS_ROLE,
    FILE,
    FOLDER,
    GOOGLE_LOCATION,
    GOOGLE_PROJECT,
    SERVICE_ACCOUNT,
    WEBHOOK,
    Duration,
    EntryName,
    Instead,
    Names,
    Pattern,
    Secret,
)

PROJECT = Pattern(
    r"^[A-Za-z0-9*?]([A-Za-z0-9._*?-]{0,212}[A-Za-z0-9*?])?$",
    "the name of a Python project, or a pattern",
    "use letters, digits, . _ - and the wildcards * and ?",
)
INDEX_URL = Pattern(
    r"^(https://[^\s/@?#]+|http://(localhost|127\.[0-9.]+|\[::1\])(:[0-9]{1,5})?)(/[^\s?#@]*)?$",
    "the address of a package index",
    "write https://host/path/simple/, without user and password; plain http is for this machine alone",
)
PUBLISHER = Pattern(
    r"^(github:[A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+\.ya?ml)?|gitlab:[A-Za-z0-9_./-]+|google:[^\s@]+@[^\s@]+)$",
    "a publisher",
    "write github:OWNER/REPOSITORY[/WORKFLOW.yml], gitlab:GROUP/PROJECT or google:ACCOUNT",
)
CODEARTIFACT_NAME = Pattern(
    r"^[A-Za-z0-9][A-Za-z0-9._-]{1,99}$", "a name of CodeArtifact", "use 2 to 100 letters, digits, . _ -"
)
GAR_REPOSITORY = Pattern(
    r"^[a-z][a-z0-9-]{0,62}$", "a repository of Artifact Registry", "use lower-case letters, digits and -"
)
PACKAGE_VERSION = Pattern(
    r"^([0-9][A-Za-z0-9.!+_-]{0,99})?$", "a version of a Python package", "write it as `version` of its source does"
)

PUBLIC_STALE = Duration(days=7)
"""For how long the last answers of a public index stand in for it, unless told."""

Refused = Literal["archived", "deprecated", "yanked", "unhashed"]


class IndexRules(msgspec.Struct, frozen=True, kw_only=True):
    """What holds for an index of any kind (docs/packages.md)."""

    public: bool = False
    """Anybody may publish there. A private index is always asked first; what it has is taken from no public one."""
    names: tuple[Annotated[str, PROJECT], ...] = ()
    """Projects, or patterns, that come from this index and from no other, whether it has them or not."""
    only: tuple[Annotated[str, PROJECT], ...] = ()
    """Projects, or patterns, that may come from this index; all unless told. It is not asked for others."""
    refuse: tuple[Refused, ...] = ()
    """What is not taken: projects that the index calls `archived` or `deprecated` (PEP 792), files that were `yanked`,
    files that it gives no sha256 of (`unhashed`). What is in quarantine is never taken."""
    attestations: Literal["note", "require"] = "note"
    """Of who published a file (PEP 740). `note`: verified where the index has one, and written into the provenance; a
    wrong one is an error. `require`: a file without one is an error, too. By `signing.trust_root`, offline."""
    publishers: dict[Annotated[str, PROJECT], Annotated[str, PUBLISHER]] = {}
    """Who must have published a project, or those of a pattern: `github:OWNER/REPOSITORY/WORKFLOW.yml`."""
    stale: Duration | None = None
    """For how long its last answers stand in when it cannot be reached; a week of a public index unless told, and never
    of a private one."""

    @property
    def stale_s(self) -> float:
        """Seconds of :attr:`stale`."""
        told = self.stale if self.stale is not None else PUBLIC_STALE if self.public else None
        return told.total_seconds() if told is not None else 0.0


class Reached(IndexRules, frozen=True, kw_only=True):
    """An index that is asked over a network with a user name and a password of its own."""

    username: str = ""
    """User name; without it the machine's netrc is read, as pip does."""
    password: Secret = Secret("")
    """Password or token of `username`, as `${VARIABLE}`."""
    keyring: bool = False
    """Ask the keyring of this machine (package `keyring`, extra `packages`) for both, before netrc."""
    netrc: Annotated[Path, FILE] | None = None
    """netrc file; `NETRC`, else `~/.netrc`, unless told."""
    ca_file: Annotated[Path, FILE] | None = None
    """PEM certificates to trust, beside the system's."""


class SimpleIndex(Reached, frozen=True, kw_only=True):
    """Any index of the simple repository API (PEP 503, PEP 691): devpi, Nexus, Artifactory, GitLab, pypiserver."""

    name: EntryName
    kind: Annotated[Literal["simple"], Instead(("devpi", "nexus", "artifactory", "pypiserver"), "write `kind: simple`")]
    """The index is named by its address."""
    url: Annotated[str, INDEX_URL]
    """Address that projects stand below, often ending in `/simple/`."""
    upload: Annotated[str, INDEX_URL] | None = None
    """Address that twine would upload to; nothing is published there without it."""


class PipIndex(Reached, frozen=True, kw_only=True):
    """What pip of this machine is configured with (`index-url`): the public index, unless a company set another."""

    name: EntryName
    kind: Annotated[Literal["pip"], Instead(("pypi", "public"), "write `kind: pip`, which is pip's own index")]
    """The index is pip's own. Of its settings nothing but `index-url` counts."""
    public: bool = True
    """Anybody may publish there."""


class GarIndex(IndexRules, frozen=True, kw_only=True):
    """A Python repository of Artifact Registry: standard, remote or virtual. Google's application default credentials
    log in unless told. A remote one of a public index is `public: true`."""

    name: EntryName
    kind: Annotated[Literal["gar"], Instead(("google", "artifact-registry"), "write `kind: gar`")]
    """The index is Google Artifact Registry. Extra `google`."""
    project: Annotated[str, GOOGLE_PROJECT]
    """Google Cloud project."""
    location: Annotated[str, GOOGLE_LOCATION]
    """Region, or `us`, `europe`, `asia`."""
    repository: Annotated[str, GAR_REPOSITORY]
    """Repository of the format Python."""
    credentials: Annotated[Path, FILE] | None = None
    """JSON file of a service account, of workload identity federation, or of gcloud."""
    impersonate: Annotated[str, SERVICE_ACCOUNT] = ""
    """Service account that is impersonated."""
    endpoint: Annotated[str, INDEX_URL] | None = None
    """Address of the repositories where it is not the usual one, as through a private link."""

    @property
    def base(self) -> str:
        """Where its repository is, without a slash at the end: uploads go there, projects are below ``/simple/``."""
        host = self.endpoint or f"https://{self.location}-python.pkg.dev"
        return f"{host.rstrip('/')}/{self.project}/{self.repository}"


class CodeArtifactIndex(IndexRules, frozen=True, kw_only=True):
    """A repository of AWS CodeArtifact. AWS credentials log in, found as the aws command finds them. One with a
    connection to a public index is `public: true`, unless origin controls of its packages close that."""

    name: EntryName
    kind: Annotated[Literal["codeartifact"], Instead(("aws",), "write `kind: codeartifact`")]
    """The index is AWS CodeArtifact. Extra `aws`."""
    domain: Annotated[str, CODEARTIFACT_NAME]
    """Domain of the repository."""
    owner: Annotated[str, AWS_ACCOUNT]
    """AWS account of the domain, 12 digits in quotes."""
    region: Annotated[str, AWS_REGION]
    """AWS region."""
    repository: Annotated[str, CODEARTIFACT_NAME]
    """Repository in the domain."""
    profile: str = ""
    """Profile of AWS's configuration; the default chain of boto3 unless told."""
    role: Annotated[str, AWS_ROLE] = ""
    """Role that is assumed."""
    external_id: str = ""
    """External id that the role's trust policy asks for."""
    endpoint: Annotated[str, WEBHOOK] | None = None
    """Address of AWS's APIs where it is not the usual one."""


class FolderIndex(IndexRules, frozen=True, kw_only=True):
    """A folder of wheels, also on a disk that crosses an air gap."""

    name: EntryName
    kind: Literal["folder"]
    """The index is a folder."""
    folder: Path
    """The folder; publishing makes it when missing."""


class ArtifactIndex(IndexRules, frozen=True, kw_only=True):
    """Wheels that crossed an air gap as an artifact of a registry, as `wheels push` wrote it. A key that is believed
    for what goes into images must vouch for it."""

    name: EntryName
    kind: Literal["wheels"]
    """The index is an artifact of a registry; nothing is published there."""
    artifact: Annotated[str, ARTIFACT]
    """The artifact: `private/in/wheels/forecaster:latest`."""


PackageIndex = SimpleIndex | PipIndex | GarIndex | CodeArtifactIndex | FolderIndex | ArtifactIndex
"""Where Python packages come from."""


class PythonPackage(msgspec.Struct, frozen=True, kw_only=True):
    """A Python package of ours: a source folder that becomes a wheel, and the index that it is published to."""

    name: EntryName
    source: Annotated[Path, FOLDER]
    """Folder with its `pyproject.toml`."""
    to: Annotated[str, Names("packages")]
    """Index that its wheel is published to."""
    version: Annotated[str, PACKAGE_VERSION] = ""
    """Version that the wheel must have; what its source says unless told."""
    built_with: tuple[Annotated[str, Names("packages")], ...] = ()
    """Indexes that its build backend comes from; the environment's own packages build it unless told."""


__all__ = [
    "ArtifactIndex",
    "CodeArtifactIndex",
    "FolderIndex",
    "GarIndex",
    "IndexRules",
    "PackageIndex",
    "PipIndex",
    "PythonPackage",
    "Reached",
    "SimpleIndex",
]
