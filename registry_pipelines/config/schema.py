"""The JSON schema (draft 2020-12) and the reference page, made from the classes of ``model``."""

from __future__ import annotations

import inspect
import types
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import msgspec

from registry_pipelines.config.fields import Setting, is_object, meanings, written
from registry_pipelines.config.model import Config
from registry_pipelines.config.times import CRON_PATTERN, TIME_ZONE_PATTERN, Cron, TimeZone
from registry_pipelines.oci.platforms import Platform
from registry_pipelines.settings import (
    DURATION_PATTERN,
    PLATFORM_PATTERN,
    SIZE_PATTERN,
    Duration,
    Names,
    Pattern,
    Secret,
    Short,
    Size,
)

VARIABLE = r"\$\{[A-Za-z_][A-Za-z0-9_]*(:-[^}]*)?\}"
_WITH_VARIABLE = {"type": "string", "pattern": VARIABLE}
_SCALARS: dict[Any, dict[str, Any]] = {
    str: {"type": "string"},
    Path: {"type": "string", "minLength": 1},
    int: {"type": "integer"},
    bool: {"type": "boolean"},
    date: {"type": "string", "pattern": r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$"},
    Duration: {"type": "string", "pattern": DURATION_PATTERN},
    Size: {"type": "string", "pattern": SIZE_PATTERN},
    Cron: {"type": "string", "pattern": CRON_PATTERN},
    TimeZone: {"type": "string", "pattern": TIME_ZONE_PATTERN},
    Platform: {"type": "string", "pattern": PLATFORM_PATTERN},
    Secret: {"type": "string", "pattern": r"^(\$\{[A-Za-z_][A-Za-z0-9_]*\})?$"},
}
_SPELLED = {
    str: "text",
    Path: "path",
    int: "number",
    bool: "true or false",
    date: "date",
    Duration: "duration",
    Size: "size",
    Cron: "cron expression",
    TimeZone: "time zone",
    Platform: "platform",
    Secret: "`${VARIABLE}`",
}


def schema() -> dict[str, Any]:
    """A JSON schema of the configuration file, as a plain mapping.

    It knows shapes and spellings; names that must exist elsewhere in the file are checked by ``load`` alone.
    """
    definitions: dict[str, Any] = {}
    root = _object(Config, definitions)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Registry Pipelines configuration",
        **root,
        "$defs": dict(sorted(definitions.items())),
    }


def _object(kind: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    texts = meanings(kind)
    properties = {
        each.name: {**_value(each.hint, definitions), "description": texts[each.name]} for each in written(kind)
    }
    required = [each.name for each in written(kind) if each.required]
    fragment = {
        "type": "object",
        "description": inspect.cleandoc(kind.__doc__),
        "properties": properties,
        "additionalProperties": False,
    }
    return {**fragment, "required": required} if required else fragment


def _value(kind: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    marks: tuple[Any, ...] = ()
    if get_origin(kind) is Annotated:
        kind, *rest = get_args(kind)
        marks = tuple(rest)
    origin = get_origin(kind)
    if origin in (Union, types.UnionType):
        return _union(kind, marks, definitions)
    if origin is tuple:
        return {"type": "array", "items": _value(get_args(kind)[0], definitions)}
    if origin is dict:
        return _mapping(kind, definitions)
    if origin is Literal:
        return {"enum": list(get_args(kind))}
    if is_object(kind):
        name = kind.__name__
        if name not in definitions:
            definitions[name] = {}
            definitions[name] = _object(kind, definitions)
        whole = {"$ref": f"#/$defs/{name}"}
        short = [_value(_short(kind, mark), definitions) for mark in marks if isinstance(mark, Short)]
        return {"anyOf": [*short, whole]} if short else whole
    return _scalar(kind, marks)


def _short(kind: Any, mark: Short) -> Any:
    """The type of the field that an object may be written as."""
    return next(each.hint for each in written(kind) if each.name == mark.field)


def _union(kind: Any, marks: tuple[Any, ...], definitions: dict[str, Any]) -> dict[str, Any]:
    parts = [
        {"type": "null"}
        if option is type(None)
        else _value(Annotated[option, *marks] if marks else option, definitions)
        for option in get_args(kind)
    ]
    return {"anyOf": parts} if {"type": "null"} in parts else {"oneOf": parts}


def _mapping(kind: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    key_kind, value_kind = get_args(kind)
    fragment: dict[str, Any] = {"type": "object", "additionalProperties": _value(value_kind, definitions)}
    for mark in get_args(key_kind)[1:] if get_origin(key_kind) is Annotated else ():
        if isinstance(mark, Pattern):
            fragment["propertyNames"] = {"pattern": mark.expression}
    return fragment


def _scalar(kind: Any, marks: tuple[Any, ...]) -> dict[str, Any]:
    fragment = dict(_SCALARS[kind])
    for mark in marks:
        if isinstance(mark, Pattern) and kind is not Secret:  # it is about what the variable holds
            fragment["pattern"] = mark.expression
        if isinstance(mark, msgspec.Meta):
            fragment |= {"minimum": mark.ge, "maximum": mark.le}
    open_text = kind in (str, Path) and "pattern" not in fragment
    return fragment if kind is Secret or open_text else {"anyOf": [fragment, _WITH_VARIABLE]}


def reference_page() -> str:
    """docs/configuration.md from its first table on: every class, every field."""
    return "\n".join(line for kind in _classes() for line in _section(kind))


def _classes() -> list[Any]:
    kinds: list[Any] = [Config]
    for kind in kinds:
        for field in written(kind):
            kinds.extend(each for each in _inner(field.hint) if each not in kinds)
    return kinds


def _inner(kind: Any) -> Iterator[Any]:
    if is_object(kind):
        yield kind
    for part in get_args(kind)[:1] if get_origin(kind) is Annotated else get_args(kind):
        yield from _inner(part)


def _section(kind: Any) -> Iterator[str]:
    texts = meanings(kind)
    yield f"## {kind.__name__}"
    yield ""
    yield inspect.cleandoc(kind.__doc__).replace("\n", " ")
    yield ""
    yield "| field | value | default | meaning |"
    yield "|---|---|---|---|"
    for each in written(kind):
        text = texts[each.name].replace("|", "\\|")
        yield f"| `{each.name}` | {_spelled(each.hint)} | {_default(each)} | {text} |"
    yield ""


def _default(each: Setting) -> str:
    if each.required:
        return "required"
    if isinstance(each.default, bool):
        return f"`{str(each.default).lower()}`"
    if isinstance(each.default, tuple):
        return ", ".join(f"`{item}`" for item in each.default)
    empty = each.default in (None, "", {}) or is_object(type(each.default))
    return "" if empty else f"`{each.default}`"


def _spelled(kind: Any) -> str:
    origin = get_origin(kind)
    if origin is Annotated:
        inner, *marks = get_args(kind)
        if inner is Secret:
            return _spelled(inner)
        if short := [mark for mark in marks if isinstance(mark, Short)]:
            return f"{_spelled(_short(inner, short[0]))} or {_spelled(inner)}"
        return next((_mark(mark) for mark in marks if _mark(mark)), _spelled(inner))
    if origin in (Union, types.UnionType):
        return " or ".join(_spelled(option) for option in get_args(kind) if option is not type(None))
    if origin is tuple:
        return f"list of {_spelled(get_args(kind)[0])}"
    if origin is dict:
        return f"mapping to {_spelled(get_args(kind)[1])}"
    if origin is Literal:
        return ", ".join(f"`{option}`" for option in get_args(kind))
    return _SPELLED.get(kind) or f"[{kind.__name__}](#{kind.__name__.lower()})"


def _mark(mark: Any) -> str:
    if isinstance(mark, Names):
        return f"name from `{mark.section}`"
    if isinstance(mark, msgspec.Meta) and mark.ge is not None:
        return f"number, {mark.ge} to {mark.le}"
    return mark.what.removeprefix("a ") if isinstance(mark, Pattern) else ""


__all__ = ["VARIABLE", "reference_page", "schema"]
