"""docs/registries.md: the families' tables, the matrix, limits, and the prose of ``registries.md.in`` around them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from registry_pipelines.registry.client.words import MEANINGS, SAYINGS, Saying
from registry_pipelines.transfer.limits.rules import KNOWN, RegistryRule
from tests.doubles.families import FAMILIES, Family
from tests.doubles.families.table import PEERS, SOURCE_STAGES, TARGET_STAGES, Cell, Stage

TEMPLATE = Path(__file__).with_name("registries.md.in")


def document() -> str:
    """The whole page."""
    parts = {
        "source": _matrix(SOURCE_STAGES, {family.name: family.source for family in FAMILIES}),
        "target": _matrix(TARGET_STAGES, {family.name: family.target for family in FAMILIES}),
        "peers": _peers(),
        "families": "\n\n".join(_family(family) for family in FAMILIES),
        "limits": _limits(KNOWN),
        "words": _words(SAYINGS),
    }
    text = TEMPLATE.read_text(encoding="utf-8")
    for name, part in parts.items():
        mark = f"<!-- {name} -->"
        assert text.count(mark) == 1, mark
        text = text.replace(mark, part)
    return text


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _matrix(stages: Sequence[Stage], tables: Mapping[str, Mapping[Stage, Cell]]) -> str:
    titles = {family.name: family.title for family in FAMILIES}
    reasons: list[str] = []
    rows = []
    for name, cells in tables.items():
        row = [titles[name]]
        for stage in stages:
            cell = cells.get(stage)
            if cell is None:
                row.append("yes")
                continue
            if cell.why not in reasons:
                reasons.append(cell.why)
            word = "partly" if cell.lost else "no" if cell.error else "-"
            row.append(f"{word} ({reasons.index(cell.why) + 1})")
        rows.append(row)
    notes = "\n".join(f"{number}. {reason}" for number, reason in enumerate(reasons, 1))
    return _table(["", *stages], rows) + "\n\n" + notes


def _peers() -> str:
    rows = []
    for family in FAMILIES:
        row = [family.title]
        for role in ("source", "target"):
            for program in PEERS:
                cell = family.peers.get(f"{role} {program}")
                row.append(f"{'no' if cell.error else 'yes'}: {cell.why}" if cell else "yes")
        rows.append(row)
    return _table(["", *(f"{program} {way}" for way in ("from", "to") for program in PEERS)], rows)


def _family(family: Family) -> str:
    rows = [(row.situation, row.handling, row.source, row.date) for row in family.rows]
    told = [f"### {family.title}", _table(["What it does", "What our client does", "Source", "Seen"], rows)]
    found = [f"{name} {'yes' if value else 'no'}" for name, value in _found(family)]
    if found:
        told.append(f"Found by trying: {', '.join(found)}.")
    return "\n\n".join([*told, family.remark] if family.remark else told)


def _found(family: Family) -> Iterable[tuple[str, bool]]:
    names = {"referrers_api": "referrers API", "chunked_upload": "uploads in chunks", "range_reads": "reads of ranges"}
    return [(names[name], value) for name, value in family.finds.items() if value is not None]


def _limits(rules: Sequence[RegistryRule]) -> str:
    rows = []
    for rule in rules:
        rates = ", ".join(f"{action} {rate:g}" for action, rate in rule.per_second.items())
        rows.append(
            (
                f"`{rule.host}`",
                f"{rule.max_layer_bytes:,} bytes" if rule.max_layer_bytes else "none known",
                rates or "none known",
                "in chunks" if rule.chunks else "in one piece",
                "may lack platforms" if rule.sparse_indexes else "must be complete",
            )
        )
    return _table(["Host", "Largest layer", "Requests a second", "Blobs", "An index"], rows)


def _words(sayings: Sequence[Saying]) -> str:
    rows = []
    for each in sayings:
        said = " ".join(part for part in (each.code, f"`{each.text}`" if each.text else "") if part)
        error, _ = MEANINGS[each.meaning]
        rows.append(
            (
                each.family,
                ", ".join(map(str, each.statuses)),
                said or "anything",
                f"{each.meaning}: `{error.__name__}`",
                each.source,
                each.date,
            )
        )
    return _table(["Family", "Status", "Code and words", "What it means", "Source", "Seen"], rows)


__all__ = ["document"]
