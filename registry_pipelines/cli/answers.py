"""What each command answers with ``--json``, as types that JSON schemas are made from; see ``envelope``.

A field that is added here is no breaking change, one that goes or changes its meaning is.
"""

from __future__ import annotations

from typing import Any, NotRequired, TypedDict

import msgspec

from registry_pipelines.anatomy.baked.finding import Baked
from registry_pipelines.anatomy.lint.lint import Lint
from registry_pipelines.anatomy.report import Anatomy
from registry_pipelines.build.links.report import LinkReport
from registry_pipelines.chain.result import StageResult
from registry_pipelines.cli.demo_bases import DemoBases
from registry_pipelines.report.custody import Custody
from registry_pipelines.runs.model import Run

Row = dict[str, str | int | float | bool | None]
"""A row of a table."""


class Failure(TypedDict, total=False):
    """What ended a command, as the message on stderr."""

    error: str
    """The class of the error (docs/exit-codes.md)."""
    what: str
    where: str
    do: str
    notes: list[str]
    problems: list[str]
    reasons: list[str]
    next_steps: list[str]


class MountedWeights(TypedDict):
    """Kubernetes objects that bring weights to a program, in the order in which they are applied."""

    objects: list[dict[str, Any]]
    notes: list[str]
    file: str
    """Where they were written; empty: nowhere."""


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


class Results(TypedDict):
    """What stages did, one result for each thing that was done."""

    results: list[StageResult]


class Served(TypedDict):
    """Registries that are listening now; printed while the command goes on."""

    registries: list[Row]


class Listening(TypedDict):
    """A webhook for clusters, or a node's socket, is listening now; printed while the command goes on."""

    url: str


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


class WrittenFiles(TypedDict):
    """Files that were written."""

    files: list[str]


class ProbedPart(TypedDict):
    """A part of the kernel, and what came of trying it. without: what follows where it does not work."""

    name: str
    works: bool
    tried: str
    came: str
    without: str


class Probed(TypedDict):
    """What images can be mounted by on this machine. carriers: those that work, the one that `auto` takes first."""

    kernel: str
    file_system: str
    carriers: list[str]
    parts: list[ProbedPart]


class WrittenSettings(TypedDict):
    """Files that were written for other programs, and what is to be done with them, a sentence each."""

    files: list[str]
    notes: list[str]


class NodeDiskRow(TypedDict):
    """A disk of a node's container runtime: sizes in bytes, the volume in GiB, thresholds in percent of it."""

    way: str
    images: int
    largest: int
    writable: int
    volume_gib: int
    gc_low_percent: int
    gc_high_percent: int
    evicted_percent: int
    fits: bool


class NodeSizes(TypedDict):
    """What a node's images take, an image with its layers each, and the disk for them: in the way that was asked for,
    and in the others. unread: images that are in none of it, with why."""

    platform: str
    images: list[Row]
    disk: NodeDiskRow
    others: list[NodeDiskRow]
    unread: list[Row]


class CheckedObjects(TypedDict):
    """Objects that were checked, and a row for each reason against one."""

    checked: int
    refused: list[Row]


class Demonstration(TypedDict):
    """What the demonstration did, and what the registries hold afterwards. cost: of ``report cost``; null without the
    extra ``inventory``."""

    seconds: float
    events: list[dict[str, Any]]
    outcomes: list[dict[str, Any]]
    problems: list[str]
    cost: StageResult | None


class DemonstrationBases(TypedDict):
    """``demo --bases``: where the base images are now, a registry each; empty: no sync of an embedded registry takes
    them."""

    seconds: float
    bases: list[DemoBases]


class Checked(TypedDict):
    """A configuration without problems. Counts are those of its sections; reached: each registry, with ``--online``."""

    file: str
    state: str
    notes: list[str]
    registries: int
    images: int
    targets: int
    policies: int
    mirrors: int
    syncs: int
    retention: int
    reached: list[Row]


class Page(TypedDict):
    """A page in Markdown."""

    markdown: str


class Started(TypedDict):
    """A configuration that was written, and what to do next."""

    file: str
    key: str
    key_made: bool
    next: list[str]


class LoggedIn(TypedDict):
    """A log-in that was kept. tried: whether the registry asked for it. helper: the program that keeps it."""

    registry: str
    username: str
    tried: bool
    file: str
    helper: str
    notes: list[str]


class LoggedOut(TypedDict):
    """A log-in that was forgotten."""

    registry: str
    changed: bool
    file: str
    helper: str
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


class Script(TypedDict):
    """A script for a shell."""

    shell: str
    script: str


class KeyPair(TypedDict):
    """Files of a key pair that was made."""

    private: str
    public: str
    key_id: str


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


class Written(TypedDict):
    """A document that was written into a file."""

    file: str
    bytes: int
    format: str


class Verified(TypedDict):
    """Signatures and attestations that are believed. remarks: what a Notation policy only logs, and what it does not
    believe."""

    digest: str
    verified: list[Row]
    remarks: list[str]


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


class Mounted(TypedDict):
    """An image that is mounted, as the fields of ``stream.lazy.notes.MountNote``."""

    mount: dict[str, Any]


class Ran(TypedDict):
    """A program of an image that ended. Seconds since the command was started: to the program's first output, None
    where it had the terminal, and to its end. mount: as ``stream mount`` has it."""

    mount: dict[str, Any]
    started_s: float | None
    result_s: float
    program_exit_code: int


class RecordedStart(TypedDict):
    """Which pages of an image its start reads. Seconds since the program was started: to its first output, and until it
    had started; None where nothing was run, or printed. limits: whether the kernel held those of memory and processes
    for all processes together. recording: digest of the manifest that was attached; file: where it was written in its
    place. packages: files, pages and bytes by package and layer, the largest first."""

    image: str
    digest: str
    files: int
    pages: int
    bytes: int
    gpu: bool
    first_output_s: float | None
    seconds: float | None
    limits: str
    recording: str
    changed: bool
    new_pages: int
    file: str
    packages: list[Row]


class Mounts(TypedDict):
    """What is mounted: fields as ``stream mount`` has them, and whether its process is alive."""

    mounts: list[dict[str, Any]]
    layers_disk_bytes: int
    files_disk_bytes: int


class NodeStatus(TypedDict):
    """What an agent of this machine says of itself (``node.status.NodeStatus``), whether it runs, and what its disk has
    of layers that are read by pieces. images: of each its layers, containers and mounts, as ``stream status`` has
    them. counters: since it started, by name and labels, as Prometheus gets them."""

    alive: bool
    process: int
    started: str
    updated: str
    ended: str
    version: str
    socket: str
    root: str
    lazy_state: str
    drain: dict[str, Any] | None
    snapshots: int
    containers: int
    images: list[dict[str, Any]]
    counters: list[dict[str, Any]]
    fallbacks: list[dict[str, Any]]
    layers_disk_bytes: int
    files_disk_bytes: int


class NodeDrain(TypedDict):
    """How far a drain is, and who uses what is still served. drain: None once it was taken back."""

    reached: bool
    drain: dict[str, Any] | None
    images: list[dict[str, Any]]


class NodeFindings(TypedDict):
    """What was looked at on a node, each with about, state (ok, note, failed), what, where, do and exit_code."""

    findings: list[dict[str, Any]]


class HardenFindings(TypedDict):
    """How a deployment keeps the rules of docs/hardening.md. verdict: of all, ``kept``, ``broken`` or ``unknown``; each
    finding has rule, verdict, where, what and do."""

    verdict: str
    findings: list[dict[str, str]]


class PullTimes(TypedDict):
    """How long two images take to be pulled, as ``stream.bench.pulls.document`` has it."""

    pulls: dict[str, Any]


class PulledWhole(TypedDict):
    """An image that was fetched whole, as the fields of ``stream.pull.pulling.Pulled``."""

    pull: dict[str, Any]


class StartTimes(TypedDict):
    """How long an image takes to start, in each way, as ``stream.bench.report.document`` has it."""

    start: dict[str, Any]


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


class Diagnosed(TypedDict):
    """Why images do not come. Each has subject, answers (cause, what, evidence, do, command, sure, note), asked."""

    diagnoses: list[dict[str, Any]]


class Schemas(TypedDict):
    """Commands that have a schema."""

    commands: list[str]


class Runs(TypedDict):
    """Runs of Dagster, the newest first."""

    runs: list[Run]


class OneRun(TypedDict):
    """A run of Dagster as it stands now."""

    run: Run


ANSWERS: dict[str, Any] = {
    "init": Started,
    "demo": Demonstration | DemonstrationBases,
    "dev": Served,
    "serve": Served,
    "login": LoggedIn,
    "logout": LoggedOut,
    "completion": Script,
    "config check": Checked,
    "config schema": dict[str, Any],
    "config reference": Page,
    "config help": Page,
    "schema": Schemas | dict[str, Any],
    "ship": Shipped,
    "status": Images,
    "releases": Releases,
    "state show": Results,
    "state move": Results,
    "bases": Results,
    "build": Results | ProposedIgnore,
    "provenance": Results,
    "stream index": Results,
    "stream convert": Results,
    "stream check": Results,
    "stream pack": Results,
    "stream measure": Results,
    "stream mount": Mounted,
    "stream run": Ran,
    "stream status": Mounts,
    "stream pull": PulledWhole,
    "stream bench start": StartTimes,
    "stream bench pull": PullTimes,
    "stream record": Results | RecordedStart,
    "stream recordings collect": Results,
    "sbom": Results,
    "scan": Results,
    "findings": Written | Results,
    "sign": Results | KeyPair,
    "verify": Results | Verified,
    "judge": Results,
    "approve": Results,
    "break-glass open": Results,
    "break-glass close": Results,
    "break-glass list": Results,
    "revoke": Results,
    "promote": Results,
    "replicate": Results,
    "deploy": Results,
    "mirror run": Results,
    "mirror clusters": Results,
    "bundle create": Results,
    "bundle show": Results,
    "bundle list": Results,
    "bundle verify": Results,
    "bundle load": Results,
    "bundle receipt": Results,
    "mirror lock": Results,
    "mirror check": Results,
    "ls": Tags | Repositories,
    "inspect": Inspected,
    "doctor": Diagnosed,
    "harden-check": HardenFindings,
    "pin": Pinned,
    "advise": Advised,
    "tag": Results,
    "diff": Different,
    "lint": Lint | Results,
    "weights push": Results,
    "weights pull": Results,
    "weights ls": Results,
    "weights verify": Results,
    "weights read": Results,
    "weights attach": Results,
    "weights find": Baked,
    "weights out": Results,
    "weights mount": MountedWeights,
    "weights sign": Results,
    "weights sync": Results,
    "copy": Copied | Plans,
    "rechunk": RechunkedImages | Results,
    "sync": Results | Synced | Plans,
    "verify-copy": Compared,
    "events check": Results,
    "events show": Results,
    "advisories update": Results,
    "advisories status": Results,
    "advisories export": Results,
    "advisories import": Results,
    "advisories push": Results,
    "advisories pull": Results,
    "packages list": Results,
    "packages check": Results,
    "packages publish": Results,
    "wheels push": Results,
    "wheels pull": Results,
    "rescan": Results,
    "sweep run": Results,
    "sweep show": Results,
    "delete": Results,
    "infra plan": Results | PlanDifferences,
    "infra apply": Results,
    "infra drift": Results,
    "infra import": ImportedSettings,
    "infra edges": Results,
    "lifecycle check": Results,
    "lifecycle explain": Results,
    "lifecycle preview": Results,
    "lifecycle convert": Results,
    "infra terraform": TerraformFiles,
    "runs list": Runs,
    "runs show": OneRun,
    "runs launch": OneRun,
    "report pipelines": Results,
    "report transfer": Results,
    "report what-if retention": Results,
    "report what-if replica": Results,
    "report what-if archive": Results,
    "report what-if base": Results,
    "report what-if rechunk": Results,
    "report what-if streaming": Results,
    "inventory": Results,
    "usage": Results,
    "collect plan": Results,
    "collect apply": Results,
    "collect garbage": Results,
    "collect quarantined": Results,
    "collect undo": Results,
    "collect purge": Results,
    "recover backup": Results,
    "recover list": Results,
    "recover show": Results,
    "recover expire": Results,
    "recover restore": Results,
    "recover drill": Results,
    "report cost": Results,
    "report prices": Results,
    "report custody": Custody,
    "report metrics": Results | WrittenFiles | Listening,
    "report html": WrittenSettings,
    "report maturity": Practice,
    "recover failover": Results,
    "report audit": Results,
    "report receive": Listening,
    "recover failover-drill": Results,
    "serve-admission": Listening,
    "node serve": Listening,
    "node setup": WrittenSettings,
    "node size": NodeSizes,
    "node probe": Probed,
    "node status": NodeStatus,
    "node drain": NodeDrain,
    "node doctor": NodeFindings,
    "admission write": WrittenFiles,
    "admission check": CheckedObjects,
}
"""By command; several types: the options decide."""


def schema_of(command: str) -> dict[str, Any]:
    """The JSON schema (draft 2020-12) of everything that a command may print with ``--json``. Raises KeyError."""
    kinds = _alternatives(ANSWERS[command])
    found, definitions = msgspec.json.schema_components([*kinds, Failure], ref_template="#/$defs/{name}")
    definitions = {name: _closed(each) for name, each in definitions.items()}
    *answers, failure = found
    null = {"type": "null"}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"registry-pipelines {command} --json",
        "type": "object",
        "properties": {
            "command": {"const": command},
            "ok": {"type": "boolean", "description": "Whether the exit code is 0."},
            "exit_code": {"type": "integer", "description": "Of the process (docs/exit-codes.md)."},
            "error": {"anyOf": [null, failure], "description": "What ended it; null where an answer was found."},
            "result": {"anyOf": [null, *answers], "description": "The answer; null where there is none."},
        },
        "required": ["command", "ok", "exit_code", "error", "result"],
        "additionalProperties": False,
        "$defs": definitions,
    }


def _alternatives(kind: Any) -> list[Any]:
    """The types of a union; msgspec takes one type of objects in each."""
    parts = getattr(kind, "__args__", ())
    return list(parts) if parts and getattr(kind, "__origin__", None) is None else [kind]


def _closed(definition: dict[str, Any]) -> dict[str, Any]:
    """An object has the fields that are told, and no others."""
    return {**definition, "additionalProperties": False} if "properties" in definition else definition


__all__ = ["ANSWERS", "schema_of"]
