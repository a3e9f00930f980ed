"""What commands answer about releases, and about what they run on: clusters, Dagster, registries' settings."""

from __future__ import annotations

from typing import Any, TypedDict

from registry_pipelines.cli.answers.common import Row
from registry_pipelines.runs.model import Run


class Shipped(TypedDict):
    """One release through its stages: each a StageResult with its ``status``."""

    release: str
    image: str
    denied_at: str
    held: str
    stages: list[dict[str, Any]]


class Images(TypedDict):
    """Where images stand."""

    images: list[dict[str, Any]]


class Releases(TypedDict):
    """Releases; those that were looked at have the fields of ``status``, too."""

    releases: list[dict[str, Any]]


class Runs(TypedDict):
    """Runs of Dagster, the newest first."""

    runs: list[Run]


class OneRun(TypedDict):
    """A run of Dagster as it stands now."""

    run: Run


class CheckedObjects(TypedDict):
    """Objects that were checked, and a row for each reason against one."""

    checked: int
    refused: list[Row]


class PracticeOf(TypedDict):
    """How good the practice is of an image or a registry: the tier that is reached, and each criterion with what it was
    read from."""

    kind: str
    name: str
    release: str
    tier: int
    criteria: list[Row]


class Practice(TypedDict):
    """All of them."""

    made_at: str
    subjects: list[PracticeOf]
    notes: list[str]


class PlanDifferences(TypedDict):
    """What two plans of one registry's settings have otherwise: lines with ``-`` (the saved one) and ``+``."""

    registry: str
    lines: list[str]


class ImportedSettings(TypedDict):
    """Files that hold a registry's settings as they would be declared. notes: what is left out."""

    files: list[str]
    notes: list[str]


class TerraformFiles(TypedDict):
    """Files of Terraform. left_out: what is declared and not in them, one sentence each."""

    files: list[str]
    left_out: list[str]


class HardenFindings(TypedDict):
    """How a deployment keeps the rules of docs/hardening.md. verdict: of all, ``kept``, ``broken`` or ``unknown``; each
    finding has rule, verdict, where, what and do."""

    verdict: str
    findings: list[dict[str, str]]
