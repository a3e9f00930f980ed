"""Terraform's JSON syntax: resources, data sources, references, and text that is no template.

Source: Terraform's documentation, "JSON Configuration Syntax" and "Strings and Templates".
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from registry_pipelines.infra.settings import Plain

_PLAIN_PLACE = re.compile(r"[a-z][a-z0-9_-]*\Z")
_PLAIN_LABEL = re.compile(r"(?![0-9a-f]{6}\Z)[a-z][a-z0-9-]*\Z")
_TEMPLATE = re.compile(r"([$%])(?=\{)")


class Reference(str):
    """Text that Terraform is to work out, as ``${aws_ecr_repository.app.name}``. All other text is literal."""

    __slots__ = ()


class Block(msgspec.Struct, frozen=True, kw_only=True):
    """A resource, or with ``data`` a data source. about: the setting it is for, for people. import_id: by which
    Terraform finds one that exists; empty where it cannot."""

    type: str
    label: str
    body: dict[str, Any]
    about: str = ""
    data: bool = False
    import_id: str = ""

    @property
    def address(self) -> str:
        """As it stands in references."""
        return f"{'data.' if self.data else ''}{self.type}.{self.label}"

    def reference(self, attribute: str) -> Reference:
        """An attribute of it, for another block."""
        return Reference(f"${{{self.address}.{attribute}}}")


class LeftOut(msgspec.Struct, frozen=True, kw_only=True):
    """Something declared that the files do not say. about: the setting; why: what to do instead."""

    about: str
    why: str

    def __str__(self) -> str:
        return f"{self.about}: {self.why}"


def label(place: str, name: str) -> str:
    """A label for a thing of a registry: by both names alone, and another for every pair of them. What has other
    characters than ``a-z``, digits and ``-`` ends in the beginning of its hash."""
    if _PLAIN_PLACE.match(place) and _PLAIN_LABEL.match(name):
        return f"{place}_{name}"
    cleaned = re.sub(r"[^a-z0-9]+", "_", f"{place}_{name}".lower()).strip("_")[:60]
    digest = hashlib.sha256(f"{place}\0{name}".encode()).hexdigest()[:6]
    return f"{cleaned if cleaned[:1].isalpha() else f'x_{cleaned}'}_{digest}"


def literal(value: Plain) -> Plain:
    """A value with ``${`` and ``%{`` as text, which Terraform would take for templates; references stay as they are."""
    if isinstance(value, Reference):
        return str(value)
    if isinstance(value, str):
        return _TEMPLATE.sub(r"\1\1", value)
    if isinstance(value, Mapping):
        return {key: literal(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [literal(each) for each in value]
    return value


def policy_text(document: Plain) -> str:
    """A document as JSON text with its keys sorted, so that the same one is the same text."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def without_empty(body: Mapping[str, Any]) -> dict[str, Any]:
    """A body without what is None."""
    return {name: value for name, value in body.items() if value is not None}


def document(blocks: Iterable[Block], *, provider: str, comment: Sequence[str] = ()) -> dict[str, Any]:
    """A file. provider: which one makes its blocks, as ``aws.ecr-eu``. comment: lines that people read in it."""
    found: dict[str, Any] = {"//": list(comment)} if comment else {}
    for each in sorted(blocks, key=lambda one: (not one.data, one.type, one.label)):
        kind = found.setdefault("data" if each.data else "resource", {})
        kind.setdefault(each.type, {})[each.label] = {"provider": provider, **literal(each.body)}
    return found


def imports(blocks: Iterable[Block]) -> dict[str, Any]:
    """A file by which Terraform takes over what exists. Source: Terraform's documentation, "Import block" (1.5)."""
    named = [{"to": each.address, "id": literal(each.import_id)} for each in blocks if each.import_id]
    return {"import": sorted(named, key=lambda one: one["to"])}
