"""What commands answer about images in registries: what is in them, copies, weights, advice."""

from __future__ import annotations

from typing import Any, NotRequired, TypedDict

from registry_pipelines.anatomy.report import Anatomy
from registry_pipelines.build.links.report import LinkReport
from registry_pipelines.cli.answers.common import Row


class Tags(TypedDict):
    """Tags of a repository."""

    repository: str
    tags: list[dict[str, Any]]
    notes: list[str]


class Repositories(TypedDict):
    """Repositories of a registry. complete: whether the registry listed them itself."""

    registry: str
    complete: bool
    repositories: list[str]
    note: str


class Inspected(TypedDict):
    """What belongs to an image."""

    reference: str
    digest: str
    media_type: str
    size_bytes: int
    blobs: int
    manifests: int
    entries: list[Row]
    starts: list[Row]
    warnings: list[dict[str, Any]]
    layers: list[Row]
    evidence: list[Row]
    rechunked: list[Row]
    """Of what it was made by `rechunk`, and who signed that; empty for others."""
    digest_tags: list[Row]
    left_out: list[Row]
    anatomy: NotRequired[Anatomy]
    """Of one platform's image; where it was asked for."""
    libraries: NotRequired[LinkReport]
    """Of the same image; where it was asked for."""


class Different(TypedDict):
    """What changed from one image to another."""

    alerts: list[str]
    before: dict[str, Any]
    after: dict[str, Any]
    packages: list[Row]
    layers: list[Row]
    findings: list[Row] | None
    findings_in_both: int | None
    advisories_newest: str
    notes: list[str]


class Verified(TypedDict):
    """Signatures and attestations that are believed. remarks: what a Notation policy only logs, and what it does not
    believe."""

    digest: str
    verified: list[Row]
    remarks: list[str]


class Copied(TypedDict):
    """An image that was copied, and what became of each target."""

    digest: str
    changed: bool
    targets: list[Row]
    left_out: list[Row]
    receipts: int
    receipts_signed: int
    requests: dict[str, int]
    notes: list[str]
    """What was taken of quotas of pulls, and what is left."""


class Plans(TypedDict, total=False):
    """What would be done, one plan for each group of targets or each sync. notes: of quotas of pulls."""

    plans: list[dict[str, Any]]
    notes: list[str]


class RechunkedImages(TypedDict):
    """What an image was made into, under which tag. changed: whether anything was written. images: for each platform
    both manifests and trees, the layers with their packages, and what is not as it was (``RechunkedImage``)."""

    tag: str
    changed: bool
    origin: str
    derived: str
    bytes_sent: int
    seconds: float
    images: list[dict[str, Any]]
    notes: list[str]


class Synced(TypedDict, total=False):
    """What a sync of two places did, or would do."""

    dry_run: bool
    changed: bool
    bytes_moved: int
    requests: dict[str, int]
    targets: list[Row]
    totals: dict[str, int]
    rows: list[Row]
    left_out: list[Row]
    failures: list[Row]
    plan: dict[str, Any]


class Compared(TypedDict):
    """Differences between an image and its copy."""

    differences: list[Row]
    same_files: list[str]
    not_compared: list[Row]


class Advised(TypedDict):
    """Where nodes should pull from. ways: the advised one first."""

    ways: list[Row]
    nodes: dict[str, Any]
    origin: dict[str, Any]
    image_bytes: int
    releases_per_month: float
    prices_of: str
    currency: str


class Pinned(TypedDict):
    """A Dockerfile with its images by digest."""

    text: str
    images: list[Row]
    written: bool


class ProposedIgnore(TypedDict):
    """``build --propose-ignore``: a context, and a ``.dockerignore`` that leaves bytes out of it.

    largest: where most bytes are. lines: what is proposed, with what each saves. kept: what an instruction names, so
    that no line is proposed. text: the whole file."""

    files: int
    bytes: int
    largest: list[Row]
    lines: list[Row]
    kept: list[str]
    text: str


class Diagnosed(TypedDict):
    """Why images do not come. Each has subject, answers (cause, what, evidence, do, command, sure, note), asked."""

    diagnoses: list[dict[str, Any]]


class MountedWeights(TypedDict):
    """Kubernetes objects that bring weights to a program, in the order in which they are applied."""

    objects: list[dict[str, Any]]
    notes: list[str]
    file: str
    """Where they were written; empty: nowhere."""
