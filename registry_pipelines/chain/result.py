"""What every stage answers with: plain values for tables, JSON and Dagster metadata."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from registry_pipelines.errors import EvidenceError
from registry_pipelines.progress import size_text

Scalar = str | int | float | bool

Outcome = Literal["ok", "denied", "failed"]

QUESTIONS = frozenset({"vulnerabilities", "verify", "judge"})
"""Stages whose "no" is an answer: the release is denied. Any other stage that is not ok has failed."""

READING = frozenset({"approvals", "events", "check", "provenance", "verify", "page"})
"""Stages that look and write nothing, so that nothing is "unchanged" after them."""

WAITS = "allowed, waits for a person"
"""How a release stands that may go and that nobody has let go."""


def held_text(state: str) -> str:
    """How a release stands whose verdict is allow, and of which something is still to be made: ``held: recording``."""
    return f"held: {state}"


@dataclass(frozen=True, kw_only=True)
class StageResult:
    """What one stage did to one subject."""

    stage: str
    """``build``, ``convert``, ``provenance``, ``index``, ``pack``, ``check``, ``sbom``, ``advice``,
    ``vulnerabilities``, ``sign``, ``verify``, ``judge``, ``record``, ``measure``, ``approve``, ``approvals``,
    ``promote``, ``replicate:<target>``, ``mirror:<mirror>``, ``sync:<sync>``, ``deploy``, ``collect``, ``events``,
    ``weights``."""
    subject: str
    """A release key, an image, a repository or a registry."""
    action: str
    """What was done, in a few words; ``unchanged`` when nothing was."""
    digest: str = ""
    """Digest of what the stage made or looked at."""
    changed: bool = False
    """Whether anything was written anywhere."""
    bytes_moved: int = 0
    """Bytes of blobs and manifests sent over the network."""
    seconds: float = 0.0
    facts: Mapping[str, Scalar] = field(default_factory=dict)
    """Numbers and words under stable names."""
    rows: Sequence[Mapping[str, Scalar]] = ()
    """A table; the same columns in every row."""
    tables: Mapping[str, Sequence[Mapping[str, Scalar]]] = field(default_factory=dict)
    """Further tables by name, where one is not enough: a sync's ``targets``, ``images`` and ``plan``; what copies left
    out as ``left_out``."""
    alerts: Sequence[str] = ()
    """What the rest is not worth reading without: advisories that are old or missing. Shown first."""
    reasons: Sequence[str] = ()
    """Why it is not ``ok``, or what was accepted; one sentence each."""
    next_steps: Sequence[str] = ()
    """What leads to ``ok``, in the order in which to do it: commands as they are typed, and what to change."""
    notes: Sequence[str] = ()
    """What was left out or not looked at, and why; one sentence each. It is nothing that is wrong."""
    ok: bool = True
    exit_code: int = 0
    """What a command ends with that did this; 0 also where it is not ``ok`` and the command has a code for that."""

    @property
    def outcome(self) -> Outcome:
        """How it ended, in the word that is used everywhere (docs/words.md)."""
        if self.ok:
            return "ok"
        return "denied" if self.stage in QUESTIONS or self.exit_code == EvidenceError.exit_code else "failed"

    def plain(self) -> dict[str, Any]:
        """The same as plain JSON values."""
        fields = asdict(self)
        return {
            **fields,
            "facts": dict(self.facts),
            "rows": [dict(row) for row in self.rows],
            "tables": {name: [dict(row) for row in rows] for name, rows in self.tables.items()},
            "alerts": list(self.alerts),
            "reasons": list(self.reasons),
            "next_steps": list(self.next_steps),
            "notes": list(self.notes),
        }


def request_facts(requests: Mapping[str, int]) -> dict[str, Scalar]:
    """Requests by registry as facts of a result: their sum, and a number for each registry, so that each has its own
    chart in Dagster."""
    return {"requests": sum(requests.values()), **{f"requests at {name}": count for name, count in requests.items()}}


def cell_text(name: str, value: Any) -> str:
    """A table's cell for people. name: of its column; with ``bytes`` in it a size, or a rate, with ``usd`` money.
    Digests are cut."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int) and ("bytes" in name or name == "size"):
        return size_text(value) + ("/s" if name.endswith("per_second") else "")
    if isinstance(value, float):
        return f"{value:.2f}" if "usd" in name else f"{value:.1f}"
    return short_digest(value) if isinstance(value, str) and value.startswith(("sha256:", "sha512:")) else str(value)


def short_digest(digest: str) -> str:
    """``sha256:0123456789ab``."""
    algorithm, colon, hexadecimal = digest.partition(":")
    return f"{algorithm}:{hexadecimal[:12]}" if colon else digest
