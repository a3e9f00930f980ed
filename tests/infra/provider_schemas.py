"""Schemas of Terraform's providers as data, and a checker of what is written for them.

``terraform_data/provider_schemas.json`` says where they come from. What they do not know is no resource, no field, no
value; so a written file that passes here passes ``terraform validate`` with the providers themselves, as far as schemas
go (``test_terraform_long`` has Terraform itself read them).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

DATA = Path(__file__).parent / "terraform_data"
_REFERENCE = re.compile(r"\$\{(data\.)?(\w+)\.([\w-]+)\.([\w.\[\]]+)\}")
_TYPES: dict[str, type | tuple[type, ...]] = {
    "string": str,
    "bool": bool,
    "number": (int, float),
    "list": list,
    "map": dict,
}


@cache
def schemas() -> dict[str, Any]:
    """The data."""
    found: dict[str, Any] = json.loads((DATA / "provider_schemas.json").read_text())
    return found


def resources(provider: str) -> dict[str, Any]:
    """Fields by resource, of ``aws5``, ``aws6`` or ``google``."""
    found: dict[str, Any] = schemas()["resources"][provider]
    return found


def allowed(provider: str, kind: str, name: str) -> list[str] | None:
    """The values that a field takes; None where the provider does not check it."""
    values = schemas()["values"]
    found: list[str] | None = values.get(f"{provider}:{kind}.{name}", values.get(f"{kind}.{name}"))
    return found


def problems(document: Mapping[str, Any], provider: str) -> Iterator[str]:
    """What a provider would refuse in a file: unknown resources, fields and values, missing ones, wrong types,
    references to what is not there, and templates that nobody meant."""
    known = {"resource": resources(provider), "data": schemas()["data"][provider.rstrip("56")]}
    computed = schemas()["computed"]
    attributes = {
        kind: {*fields, *computed["*"], *computed.get(kind, {})}
        for part in known.values()
        for kind, fields in part.items()
    }
    there = {
        f"{'data.' if part == 'data' else ''}{kind}.{label}"
        for part in known
        for kind, blocks in document.get(part, {}).items()
        for label in blocks
    }
    for part, schema in known.items():
        for kind, blocks in document.get(part, {}).items():
            if kind not in schema:
                yield f"{kind}: {provider} has no such {part}"
                continue
            for label, body in blocks.items():
                if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_-]*", label):
                    yield f"{kind}.{label}: no name that Terraform takes"
                fields = {name: value for name, value in body.items() if name != "provider"}
                yield from _block(fields, schema[kind], f"{kind}.{label}", (provider, kind))
                yield from _references(fields, there, attributes, f"{kind}.{label}")


def _block(body: Any, schema: Mapping[str, Any], where: str, about: tuple[str, str]) -> Iterator[str]:
    if not isinstance(body, dict):
        yield f"{where}: is no block"
        return
    for name in body.keys() - schema.keys():
        yield f"{where}: unknown {name}"
    for name, field in schema.items():
        value = body.get(name)
        if isinstance(field, str):
            yield from _attribute(value, field, f"{where}.{name}")
            values = allowed(*about, name) if where.count(".") == 1 else None
            for each in value if isinstance(value, list) else [value]:
                if values is not None and each is not None and each not in values:
                    yield f"{where}.{name}: {each} is none of {', '.join(values)}"
            continue
        blocks = value if isinstance(value, list) else [] if value is None else [value]
        if len(blocks) < field["min"] or (field["max"] and len(blocks) > field["max"]):
            yield f"{where}.{name}: {len(blocks)} blocks"
        for each in blocks:
            yield from _block(each, field["fields"], f"{where}.{name}", about)


def _attribute(value: Any, kind: str, where: str) -> Iterator[str]:
    if value is None:
        if kind.endswith("!"):
            yield f"{where}: is required"
        return
    name = kind.rstrip("!")
    fits = isinstance(value, _TYPES[name]) and (name == "bool" or not isinstance(value, bool))
    if not fits and not (isinstance(value, str) and _REFERENCE.fullmatch(value)):
        yield f"{where}: {value!r} is no {name}"


def _references(value: Any, there: set[str], attributes: Mapping[str, set[str]], where: str) -> Iterator[str]:
    if isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _references(each, there, attributes, where)
    elif isinstance(value, str) and re.search(r"(?<![$])\$\{|(?<![%])%\{", value):
        match = _REFERENCE.fullmatch(value)
        if match is None:
            yield f"{where}: {value!r} is a template that nobody meant"
        elif f"{match[1] or ''}{match[2]}.{match[3]}" not in there:
            yield f"{where}: {value} leads nowhere"
        elif re.split(r"[.\[]", match[4])[0] not in attributes[match[2]]:
            yield f"{where}: {value}: there is no such attribute"
