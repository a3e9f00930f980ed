"""The kinds of settings of Google, in the order in which they are changed, and what must be there before what."""

from __future__ import annotations

KEY = "gcp-kms:key"
REPOSITORY = "gar:repository"
VIRTUAL = "gar:virtual-repository"
READERS = "gar:readers"
PROJECT_READERS = "gcp:project-readers"
NOTE = "binauthz:note"
ATTESTOR = "binauthz:attestor"
POLICY = "binauthz:policy"
PERIMETER = "vpcsc:perimeter"
CHANNEL = "monitoring:channel"
ALERT = "monitoring:alert-policy"

ORDER = (KEY, REPOSITORY, VIRTUAL, READERS, PROJECT_READERS, NOTE, ATTESTOR, POLICY, PERIMETER, CHANNEL, ALERT)
NEEDS = {READERS: REPOSITORY, ATTESTOR: NOTE}

READER = "roles/artifactregistry.reader"
"""The role that is managed: it reads, and no more."""

PULLING = (
    READER,
    "roles/artifactregistry.writer",
    "roles/artifactregistry.repoAdmin",
    "roles/artifactregistry.createOnPushWriter",
    "roles/artifactregistry.createOnPushRepoAdmin",
    "roles/artifactregistry.admin",
    "roles/viewer",
    "roles/editor",
    "roles/owner",
)
"""Predefined roles that have ``artifactregistry.repositories.downloadArtifacts``, of those that people give; source:
Google's page "Artifact Registry roles and permissions"."""

FIXED = {
    REPOSITORY: (
        "format",
        "mode",
        "kms_key",
        "maven.version_policy",
        "maven.snapshot_overwrites",
        "remote.upstream",
    ),
    VIRTUAL: ("format", "mode", "kms_key"),
    KEY: ("purpose", "algorithm", "protection", "enabled"),
    ATTESTOR: ("note",),
    NOTE: ("kind",),
}
"""Fields that nothing here changes: Google does not, or it is not ours to."""

ATTESTOR_KEY = "key."
"""Begins the field of an attestor's key, which its id follows."""
MEMBER = "member."
"""Begins the field of one who may read a project's repositories."""
LABEL = "labels."
"""Begins the field of a label."""
CLUSTER = "cluster."
"""Begins the field of a cluster's rule."""
SERVICE, PROJECT = "service.", "project."
"""Begin the fields of a perimeter's services and projects."""
