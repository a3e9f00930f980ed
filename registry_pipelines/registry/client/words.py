"""What registries mean by their refusals: one table. The specification has few error codes, so an immutable tag, a
spent quota or a missing repository come under 400, 401, 403, 404, 405, 409, 412 or 429, in each vendor's own words.

Each row has been seen, in the server's source or in a user's report; it holds for answers of that kind only, so that an
ordinary 400 stays one. The words are those of the error's ``message`` and ``detail``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

import msgspec

from registry_pipelines.errors import (
    Forbidden,
    NotFound,
    OverQuota,
    RateLimited,
    Refused,
    RegistryError,
    TagImmutable,
    Unauthorized,
    Unsupported,
)

Act = Literal["read", "write", "tag", "delete"]
"""What was asked: ``tag`` is a manifest stored under a tag, ``write`` any other upload."""

Meaning = Literal[
    "immutable tag", "over quota", "too large", "kind refused", "no repository", "read-only", "blocked", "rate limit",
    "no permission"
]  # fmt: skip

Family = Literal[
    "any", "acr", "artifact-registry", "artifactory", "digitalocean", "docker-hub", "dtr", "ecr", "ghcr", "gitlab",
    "harbor", "nexus", "quay", "zot"
]  # fmt: skip

HOSTS: Mapping[Family, str] = {
    "acr": r".+\.azurecr\.(io|cn|us)",
    "artifact-registry": r".+-docker\.pkg\.dev|(.+\.)?gcr\.io",
    "artifactory": r".+\.jfrog\.io",
    "digitalocean": r"registry\.digitalocean\.com",
    "docker-hub": r"docker\.io",
    "ecr": r"public\.ecr\.aws|\d+\.dkr[.-]ecr.+",
    "ghcr": r"ghcr\.io",
    "gitlab": r"registry\.gitlab\.com",
    "quay": r"quay\.io",
}
"""Hosts that are one family's for sure. At any other host all families' words count: most can be installed anywhere."""


class Saying(msgspec.Struct, frozen=True):
    """One way to refuse. acts: what was asked. code: the error's; text: a regular expression, looked for in its words;
    both empty for any. source: where it was seen; date: of the source's version or of the report."""

    family: Family
    statuses: tuple[int, ...]
    acts: tuple[Act, ...]
    meaning: Meaning
    code: str
    text: str
    source: str
    date: str
    do: str = ""
    """What to do, where it is not the meaning's own."""
    raw: str = ""
    """Looked for in the whole body, where the words do not tell."""


_TAGGING: tuple[Act, ...] = ("tag",)
_PUTTING: tuple[Act, ...] = ("tag", "write")
_CHANGING: tuple[Act, ...] = ("tag", "write", "delete")
_ANY: tuple[Act, ...] = ("read", "tag", "write", "delete")

SAYINGS: tuple[Saying, ...] = (
    # Tags that may not move
    Saying("ecr", (400,), _TAGGING, "immutable tag", "TAG_INVALID", r"cannot be overwritten because|tag is immutable",
           "moby/buildkit#3776, aws/containers-roadmap#862", "2023-04-04"),
    Saying("harbor", (412,), ("tag", "delete"), "immutable tag", "", r"configured as immutable",
           "goharbor/harbor c50c7dd src/server/middleware/immutable/error.go, src/controller/tag/controller.go",
           "2026-08-21"),
    Saying("quay", (409,), ("tag", "delete"), "immutable tag", "TAG_IMMUTABLE", "",
           "quay/quay ffba0c7 endpoints/v2/errors.py", "2026-08-21"),
    Saying("quay", (409,), _TAGGING, "immutable tag", "TAG_ALREADY_EXISTS", "",
           "quay/quay ffba0c7 endpoints/v2/errors.py", "2026-08-21"),
    Saying("nexus", (400,), _TAGGING, "immutable tag", "BLOB_UPLOAD_INVALID", r"does not allow updating assets",
           "GoogleContainerTools/jib#3057, #2395 (deployment policy `Disable redeploy`)", "2021-02-15"),
    Saying("nexus", (400, 409), _TAGGING, "immutable tag", "", r"redeploy is not allowed",
           "Nexus 3.96.1, as a test of a public tool quotes it", "2026-09-01"),
    Saying("artifactory", (400, 403), _TAGGING, "immutable tag", "MANIFEST_INVALID", r"HTTP 403 Forbidden",
           "GoogleContainerTools/kaniko#1095 (an account that may deploy, and may not overwrite)", "2020-03-02",
           "Use a new tag, or give the account the permission to overwrite and delete"),
    Saying("acr", (405,), _TAGGING, "immutable tag", "REGISTRY_DISALLOWED_OPERATION", "",
           "Azure/acr-cli#70 (`writeEnabled` false; the same words for a locked repository)", "2020-06-22",
           "Use a new tag, or unlock it: `az acr repository update --write-enabled true`"),
    Saying("dtr", (400, 403), _TAGGING, "immutable tag", "", r"cannot be overwritten because .*immutable repository",
           "docs.docker.com/ee/dtr/user/manage-images/prevent-tags-from-being-overwritten", "2020-01-01"),
    Saying("any", (400, 403, 409, 412), _TAGGING, "immutable tag", "",
           r"(?i)\btags?\b.*\bimmutab|\bimmutab\w+ tags?\b|\bimmutable\b.*\bcannot be (?:overwritten|updated|moved)",
           "docker/hub-feedback#2466 (Docker Hub says 403); replicatedhq/kots#5940 names five families", "2026-06-15"),
    # Quotas of space or number
    Saying("harbor", (400, 403, 412), _PUTTING, "over quota", "", r"will exceed the configured upper limit",
           "goharbor/harbor c50c7dd src/pkg/quota/errors.go; harbor#17390, #8802", "2026-08-21",
           "Ask for a larger project quota, or delete images of the project and run Harbor's garbage collection"),
    Saying("quay", (403,), _PUTTING, "over quota", "DENIED", r"Quota has been exceed",
           "quay/quay ffba0c7 endpoints/v2/errors.py; without the last two letters at 0619510", "2026-08-21"),
    Saying("ecr", (403,), _PUTTING, "over quota", "DENIED", r"already has the maximum allowed number of images",
           "vllm-project/vllm#48065; aws/containers-roadmap#2159", "2026-07-09",
           "Delete images (a lifecycle policy), or raise the quota `Images per repository` in Service Quotas"),
    Saying("digitalocean", (403,), _ANY, "over quota", "", r"registry contains \d+ repositories, limit is \d+",
           "docker/build-push-action#586", "2022-04-04"),
    Saying("zot", (429,), _PUTTING, "over quota", "TOOMANYREQUESTS", "",
           "project-zot/zot 6d19b44 pkg/api/quota.go (maxRepos; waiting does not help)", "2026-08-21",
           "Raise `maxRepos` of this zot, or copy into a repository that is there", r'"detail":\s*\{\s*"limit"'),
    # Sizes
    Saying("quay", (400, 403, 413), _PUTTING, "too large", "", r"larger than .*allowed by this registry",
           "quay/quay ffba0c7 endpoints/v2/errors.py, LayerTooLarge", "2026-08-21"),
    Saying("ghcr", (416,), _PUTTING, "too large", "", r"exceeds the maximum permissible limit",
           "oras-project/rust-oci-client#35 (one chunk of more than 4 MiB)", "2022-05-23",
           "Send the blob in one piece"),
    Saying("any", (413,), _PUTTING, "too large", "", "",
           "replicatedhq/ttl.sh#104, goharbor/harbor#22353 (a proxy's limit of the body)", "2025-09-15",
           "Raise the limit of the proxy before the registry (nginx: client_max_body_size 0), or split the layer"),
    # Kinds of content
    Saying("ecr", (400, 405), _PUTTING, "kind refused", "UNSUPPORTED", r"(?i)Invalid parameter at 'ImageManifest",
           "falcosecurity/falcoctl#302, oras-project/oras-go#344", "2023-06-06"),
    Saying("quay", (415,), _PUTTING, "kind refused", "MANIFEST_INVALID", r"manifest schema version not supported",
           "quay/quay ffba0c7 endpoints/v2/manifest.py", "2026-08-21",
           "Let Quay take it: FEATURE_GENERAL_OCI_SUPPORT and ALLOWED_OCI_ARTIFACT_TYPES, or choose another target"),
    Saying("any", (415,), _PUTTING, "kind refused", "", "",
           "RFC 9110 section 15.5.16; dotnet/sdk-container-builds#621", "2025-02-27"),
    # Repositories that a push does not make
    Saying("ecr", (400, 404), _PUTTING, "no repository", "NAME_UNKNOWN", r"does not exist in the registry",
           "aws-actions/amazon-ecr-login#166, plexsystems/sinker#55", "2022-01-13",
           "Create the repository (`aws ecr create-repository`), or a creation template for pushes"),
    Saying("artifact-registry", (404,), _PUTTING, "no repository", "NAME_UNKNOWN", r"Repository .* not found",
           "GoogleCloudPlatform/cloud-builders-community#588", "2022-09-07",
           "Create the repository: `gcloud artifacts repositories create --repository-format=docker`"),
    Saying("artifact-registry", (400,), _ANY, "no repository", "NAME_INVALID", r"Missing image name",
           "docker/build-push-action#171", "2020-10-22", "Write PROJECT/REPOSITORY/IMAGE after the host"),
    Saying("harbor", (404,), _PUTTING, "no repository", "NOT_FOUND", r"project .*not found",
           "goharbor/harbor c50c7dd src/server/middleware/repoproxy/proxy.go", "2026-08-21",
           "Create the project at Harbor: the first part of the repository's name"),
    Saying("any", (404,), _PUTTING, "no repository", "NAME_UNKNOWN", "",
           "distribution-spec 1.1, Error Codes, NAME_UNKNOWN", "2024-02-15"),
    # Places that take pulls only
    Saying("harbor", (403,), _PUTTING, "read-only", "DENIED", r"can not push artifact to a proxy project",
           "goharbor/harbor c50c7dd src/server/middleware/repoproxy/proxy.go", "2026-08-21",
           "Push into another project: a proxy cache takes pulls only"),
    Saying("harbor", (403,), _CHANGING, "read-only", "DENIED", r"system is in read only mode",
           "goharbor/harbor c50c7dd src/server/middleware/readonly/readonly.go", "2026-08-21",
           "Wait until the operator ends the read-only mode (garbage collection, or a full plan)"),
    Saying("quay", (405,), _CHANGING, "read-only", "", r"currently read-only|Pushes .* are currently disabled",
           "quay/quay ffba0c7 endpoints/v2/errors.py", "2026-08-21",
           "Wait until the operator permits pushes again"),
    Saying("acr", (405,), ("write", "delete"), "read-only", "REGISTRY_DISALLOWED_OPERATION", "",
           "Azure/acr-cli#70", "2020-06-22",
           "Unlock the image or repository: `az acr repository update --write-enabled true --delete-enabled true`"),
    # Policies
    Saying("harbor", (412,), ("read",), "blocked", "PROJECTPOLICYVIOLATION", "",
           "goharbor/harbor c50c7dd src/server/middleware/vulnerable, contenttrust", "2026-08-21",
           "Ask the project's administrator: allow the vulnerabilities, or have the image scanned and signed"),
    Saying("harbor", (412,), ("read",), "blocked", "", r"cannot be pulled due to configured policy|not signed by",
           "goharbor/harbor c50c7dd src/server/middleware/vulnerable/vulnerable.go", "2026-08-21",
           "Ask the project's administrator: allow the vulnerabilities, or have the image scanned and signed"),
    Saying("any", (412,), ("read",), "blocked", "", "",
           "goharbor/harbor#18792 (HEAD, so without words)", "2023-06-06",
           "Look at the project's policies: Harbor answers so for vulnerabilities and missing signatures"),
    # Permissions that are said in a way that misleads
    Saying("harbor", (401, 403), _CHANGING, "no permission", "",
           r"unauthorized to access repository: .* action: (?:push|delete)",
           "goharbor/harbor c50c7dd src/server/middleware/v2auth/auth.go; harbor#966, #21373", "2026-08-21",
           "Check that the project is there (Harbor makes none on push), and that the account may push to it"),
    Saying("ghcr", (403,), _CHANGING, "no permission", "DENIED",
           r"installation not allowed to|permission_denied: (?:write|delete)_package",
           "actions/runner#1039, caipe-io/ai-platform-engineering#1541", "2026-05-24",
           "Give the token `packages: write` and the package's settings this repository; an app's token cannot write "
           "an organization's packages"),
    # Rates. Docker Hub has two: one that it explains, of pulls in some hours, and one against abuse, which is terse.
    Saying("docker-hub", (429,), _ANY, "rate limit", "", r"(?i)pull rate limit|increase-rate-limit",
           "docs.docker.com/docker-hub/usage/pulls; kata-containers/kata-containers#10109", "2026-01-01",
           "That is the limit of pulls: wait for its window, log in, or pull through a cache (`caches`)"),
    Saying("any", (429,), _ANY, "rate limit", "", "", "RFC 6585 section 4", "2012-04-01"),
    Saying("any", (400, 403, 420, 500, 502, 503), _ANY, "rate limit", "TOOMANYREQUESTS", "",
           "distribution-spec 1.1, Error Codes, TOOMANYREQUESTS", "2024-02-15"),
    Saying("any", (420,), _ANY, "rate limit", "", "",
           "no number of HTTP; gateways took it over from Twitter's API of 2012 (`Enhance Your Calm`)", "2012-01-01"),
    Saying("ghcr", (403,), _ANY, "rate limit", "", r"(?i)secondary rate limit|API rate limit exceeded",
           "docs.github.com/rest/using-the-rest-api/rate-limits-for-the-rest-api", "2026-01-01"),
    Saying("any", (503,), _ANY, "rate limit", "", "",
           "docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html (registries send readers to such stores)",
           "2026-01-01", "", r"<Code>SlowDown</Code>"),
)  # fmt: skip
"""The first row that fits decides, so the exact ones of a family stand before the broad ones."""

MEANINGS: Mapping[Meaning, tuple[type[RegistryError], str]] = {
    "immutable tag": (TagImmutable, "Use a new tag; version tags never move"),
    "over quota": (OverQuota, "Delete images there, or ask for a larger quota"),
    "too large": (Refused, "Split the layer, or choose another target"),
    "kind refused": (Refused, "Choose a target that takes this kind of artifact"),
    "no repository": (NotFound, "Create the repository there first: this registry makes none on push"),
    "read-only": (Unsupported, "Choose another target: this one takes pulls only"),
    "blocked": (Refused, "Ask the registry's operator which policy blocks it"),
    "rate limit": (RateLimited, "Ask less often, or with credentials"),
    "no permission": (Forbidden, "Ask for the permission, or use other credentials"),
}
"""The error for each meaning and what to do. A 401 stays one: credentials of another account may help."""


def family_of(host: str) -> Family | None:
    """The family of a host (``host[:port]``) that is one for sure; None for all others."""
    name = host.partition(":")[0].lower()
    return next((family for family, pattern in HOSTS.items() if re.fullmatch(pattern, name)), None)


def meant(status: int, code: str, words: str, body: bytes, *, act: Act, host: str = "") -> Saying | None:
    """The row that an answer fits; None when it says no more than its status and code. words: the error's message and
    detail. body: of at most 64 KiB."""
    family = family_of(host)
    for row in SAYINGS:
        if status in row.statuses and act in row.acts and _may_say(row, family) and _fits(row, code, words, body):
            return row
    return None


TERSE_AT_DOCKER_HUB = (
    "That is Docker Hub's limit against abuse (requests a minute from one address), not the limit of pulls: find what "
    "asks so often from behind this address; a log-in does not lift it"
)
"""What a 429 of Docker Hub means that does not explain itself (docker/hub-feedback#2040, answered by Docker)."""


def error_for(row: Saying, status: int, host: str = "") -> tuple[type[RegistryError], str]:
    """The error class of a row, and what to do."""
    kind, do = MEANINGS[row.meaning]
    if row.family == "any" and row.meaning == "rate limit" and status == 429 and family_of(host) == "docker-hub":
        return kind, TERSE_AT_DOCKER_HUB
    return (Unauthorized if kind is Forbidden and status == 401 else kind), row.do or do


def _may_say(row: Saying, family: Family | None) -> bool:
    return family is None or row.family in ("any", family)


def _fits(row: Saying, code: str, words: str, body: bytes) -> bool:
    if row.code and row.code != code:
        return False
    if row.raw and not re.search(row.raw.encode(), body):
        return False
    return not row.text or bool(re.search(row.text, words))
