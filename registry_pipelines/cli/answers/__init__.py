"""What each command answers with ``--json``, as types that JSON schemas are made from; see ``envelope``.

The types are in modules by what commands are about; here is who answers with which.

A field that is added here is no breaking change, one that goes or changes its meaning is.
"""

from __future__ import annotations

from typing import Any

import msgspec

from registry_pipelines.anatomy.baked.finding import Baked
from registry_pipelines.anatomy.lint.lint import Lint
from registry_pipelines.cli.answers.beginning import (
    Checked,
    Demonstration,
    DemonstrationBases,
    KeyPair,
    LoggedIn,
    LoggedOut,
    Page,
    Schemas,
    Script,
    Started,
)
from registry_pipelines.cli.answers.common import (
    Failure,
    Listening,
    Results,
    Served,
    Written,
    WrittenFiles,
    WrittenSettings,
)
from registry_pipelines.cli.answers.images import (
    Advised,
    Compared,
    Copied,
    Diagnosed,
    Different,
    Inspected,
    MountedWeights,
    Pinned,
    Plans,
    ProposedIgnore,
    RechunkedImages,
    Repositories,
    Synced,
    Tags,
    Verified,
)
from registry_pipelines.cli.answers.nodes import (
    Mounted,
    Mounts,
    NodeDrain,
    NodeFindings,
    NodeSizes,
    NodeStatus,
    Probed,
    PulledWhole,
    PullTimes,
    Ran,
    RecordedStart,
    StartTimes,
)
from registry_pipelines.cli.answers.releases import (
    CheckedObjects,
    HardenFindings,
    Images,
    ImportedSettings,
    OneRun,
    PlanDifferences,
    Practice,
    Releases,
    Runs,
    Shipped,
    TerraformFiles,
)
from registry_pipelines.report.custody import Custody

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
