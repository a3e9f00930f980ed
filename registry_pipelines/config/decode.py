"""From YAML nodes to the classes of ``model``, by their type hints; every problem is noted and reading goes on.

The classes are msgspec's; ``msgspec.convert`` does not decode them. It stops at the first problem (of 19 in one file of
``tests/config``), calls the entry it is in ``[...]`` and knows no lines, and a walk that finds those again is this one.
That takes half of the 40 ms in which a file of 200 images is read (205 before the types were kept and libyaml read it).
"""

from __future__ import annotations

import types
from collections.abc import Iterable
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import msgspec
import yaml

from registry_pipelines.config.document import Reader, Scalar, line_of
from registry_pipelines.config.fields import Setting, fields_of, is_object
from registry_pipelines.config.times import Cron, TimeZone
from registry_pipelines.errors import PlatformInvalid
from registry_pipelines.oci.platforms import Platform
from registry_pipelines.progress import count_text
from registry_pipelines.settings import Duration, Existing, Instead, Names, Pattern, Secret, Short, Size, unknown

INVALID: Any = object()
"""Stands for a value with a problem; what holds it is invalid too."""

RENAMED = {"journal": "is `shared: {database: ...}` now: more than the journal is shared there (docs/many-machines.md)"}
"""Fields that earlier builds read, by path, with what to write."""

_KINDS = {"ScalarNode": "a single value", "SequenceNode": "a list", "MappingNode": "a mapping"}
_TAGS = {"str": "text", "int": "a number", "float": "a number", "bool": "true or false", "null": "empty"}
_SCALAR_NAMES = {
    Path: "a path",
    int: "a whole number",
    bool: "true or false",
    date: "a date like 2027-01-31",
    Duration: "a duration like 7d",
    Size: "a size like 4MiB",
    Cron: "a cron expression like 0 2 * * *",
    TimeZone: "a time zone like Europe/Berlin",
    Platform: "a platform like linux/amd64",
}


class Decoder:
    """Decodes one file. folder: what relative paths start at."""

    def __init__(self, reader: Reader, folder: Path) -> None:
        self._reader = reader
        self._folder = folder
        self.names: list[tuple[str, str, int, str]] = []
        """Every use of a name: section, name, line, path; checked when the whole file is read."""
        self.files: list[tuple[Existing, Path, int, str]] = []
        """Every file and folder that must be there: what, where, line, path; nothing here looks."""

    def value(self, kind: Any, node: yaml.Node, path: str, *, key: str = "") -> Any:
        """Decode a node as ``kind``; INVALID after a problem. key: the entry's own name in its section."""
        self._reader.count(node)
        marks: tuple[Any, ...] = ()
        if get_origin(kind) is Annotated:
            kind, *rest = get_args(kind)
            marks = tuple(rest)
        origin = get_origin(kind)
        if origin in (Union, types.UnionType):
            return self._union(kind, marks, node, path, key)
        if origin is tuple:
            return self._list(get_args(kind)[0], marks, node, path)
        if origin is dict:
            key_kind, value_kind = get_args(kind)
            return self._mapping(key_kind, value_kind, node, path)
        if is_object(kind):
            short = next((mark.field for mark in marks if isinstance(mark, Short)), "")
            if short and isinstance(node, yaml.ScalarNode):
                [hint] = [each.hint for each in fields_of(kind) if each.name == short]
                value = self.value(hint, node, path)
                return INVALID if value is INVALID else kind(**{short: value})
            return self._object(kind, node, path, key)
        return self._scalar(kind, marks, node, path)

    def _problem(self, node: yaml.Node, path: str, message: str) -> Any:
        self._reader.problems.add(line_of(node), path, message)
        return INVALID

    def _expected(self, what: str, node: yaml.Node, path: str) -> Any:
        kind = _KINDS.get(type(node).__name__, "something else")
        if isinstance(node, yaml.ScalarNode):
            kind = _TAGS.get(node.tag.rpartition(":")[2], "a single value")
        return self._problem(node, path, f"expected {what}, found {kind}")

    def _union(self, kind: Any, marks: tuple[Any, ...], node: yaml.Node, path: str, key: str) -> Any:
        options = [option for option in get_args(kind) if option is not type(None)]
        if len(options) < len(get_args(kind)) and isinstance(node, yaml.ScalarNode) and node.tag.endswith(":null"):
            return None
        if len(options) == 1:
            return self.value(Annotated[options[0], *marks] if marks else options[0], node, path, key=key)
        return self._tagged(options, node, path, key)

    def _tagged(self, options: list[Any], node: yaml.Node, path: str, key: str) -> Any:
        if not isinstance(node, yaml.MappingNode):
            return self._expected("a mapping", node, path)
        by_kind = {kind_name(option): option for option in options}
        instead = {word: mark.do for option in options for mark in _kind_marks(option) for word in mark.words}
        for name, _, value in self._reader.entries(node, path):
            if name == "kind" and isinstance(value, yaml.ScalarNode):
                if value.value in by_kind:
                    return self._object(by_kind[value.value], node, path, key)
                if value.value == "":
                    return self._expected(f"one of {', '.join(by_kind)}", value, f"{path}.kind")
                said = instead.get(value.value.lower()) or unknown(value.value, by_kind, "kind")
                return self._problem(value, f"{path}.kind", said)
        return self._problem(node, path, f"`kind` is missing; write one of {', '.join(by_kind)}")

    def _list(self, kind: Any, marks: tuple[Any, ...], node: yaml.Node, path: str) -> Any:
        if not isinstance(node, yaml.SequenceNode):
            return self._expected("a list", node, path)
        values = [self.value(kind, child, f"{path}[{position}]") for position, child in enumerate(node.value)]
        for mark in marks:
            if isinstance(mark, msgspec.Meta) and len(values) < (mark.min_length or 0):
                return self._problem(
                    node, path, f"needs at least {count_text(mark.min_length or 0, 'entry', 'entries')}"
                )
        return INVALID if any(each is INVALID for each in values) else tuple(values)

    def _mapping(self, key_kind: Any, value_kind: Any, node: yaml.Node, path: str) -> Any:
        if not isinstance(node, yaml.MappingNode):
            return self._expected("a mapping", node, path)
        values = {}
        for name, key_node, value in self._reader.entries(node, path):
            inner = f"{path}.{name}" if path else name
            if get_origin(key_kind) is Annotated and isinstance(key_node, yaml.ScalarNode):
                for mark in get_args(key_kind)[1:]:
                    self._check_key(mark, name, key_node, inner)
            values[name] = self.value(value_kind, value, inner, key=name)
        return INVALID if any(each is INVALID for each in values.values()) else values

    def _check_key(self, mark: Any, name: str, node: yaml.Node, path: str) -> None:
        try:
            self._check(mark, name, node, path)
        except ValueError as error:
            self._problem(node, path, str(error))

    def _object(self, kind: Any, node: yaml.Node, path: str, key: str) -> Any:
        if not isinstance(node, yaml.MappingNode):
            return self._expected("a mapping", node, path)
        known = {each.name: each for each in fields_of(kind) if each.unwritten is None}
        given: dict[str, Any] = {
            each.name: key for each in fields_of(kind) if each.unwritten is not None and each.unwritten.from_key
        }
        for name, key_node, value in self._reader.entries(node, path):
            inner = f"{path}.{name}" if path else name
            if name in known:
                given[name] = self.value(known[name].hint, value, inner)
            else:
                given["?"] = self._problem(key_node, inner, RENAMED.get(inner) or unknown(name, known, "field"))
        for name in _missing(known.values(), given):
            given["?"] = self._problem(node, path, f"`{name}` is missing")
        return INVALID if any(each is INVALID for each in given.values()) else kind(**given)

    def _scalar(self, kind: Any, marks: tuple[Any, ...], node: yaml.Node, path: str) -> Any:
        if not isinstance(node, yaml.ScalarNode):
            return self._expected(_scalar_name(kind), node, path)
        scalar = self._reader.scalar(node, path)
        if kind is Secret and not _is_reference(node.value):
            return self._problem(node, path, "a secret is not written in the file; write ${VARIABLE} and set VARIABLE")
        try:
            value = _convert(kind, scalar, marks)
            if value is INVALID and scalar.has_variable:
                raise ValueError(_scalar_name(kind))
            if isinstance(value, Path):
                value = self._folder / value.expanduser()
            for mark in marks:
                self._check(mark, value, node, path)
        except ValueError as error:
            # What a variable holds may be a secret that stands in the wrong place: it is not repeated.
            hidden = f"what {node.value} holds is not permitted here; expected {_expectation(kind, marks)}"
            return self._problem(node, path, hidden if scalar.has_variable else str(error))
        return self._expected(_scalar_name(kind), node, path) if value is INVALID else value

    def _check(self, mark: Any, value: Any, node: yaml.Node, path: str) -> None:
        if value is INVALID:
            return
        if isinstance(mark, Names):
            self.names.append((mark.section, value, line_of(node), path))
        elif isinstance(mark, Existing):
            if "://" not in str(value):
                self.files.append((mark, self._folder / value, line_of(node), path))
        elif isinstance(mark, msgspec.Meta) and not mark.ge <= value <= mark.le:
            raise ValueError(f"{value} is not between {mark.ge} and {mark.le}")
        elif isinstance(mark, Pattern):
            mark.check(value)


def kind_name(option: Any) -> str:
    """What ``kind`` says for a class of a tagged union."""
    named = _kind_hint(option)
    return str(get_args(get_args(named)[0] if get_origin(named) is Annotated else named)[0])


def _kind_hint(option: Any) -> Any:
    [named] = [each.hint for each in fields_of(option) if each.name == "kind"]
    return named


def _kind_marks(option: Any) -> list[Instead]:
    named = _kind_hint(option)
    marks = get_args(named)[1:] if get_origin(named) is Annotated else ()
    return [mark for mark in marks if isinstance(mark, Instead)]


def _missing(known: Iterable[Setting], given: dict[str, Any]) -> list[str]:
    return [each.name for each in known if each.name not in given and each.required]


def _is_reference(text: str) -> bool:
    return text == "" or (text.startswith("${") and text.endswith("}") and text.count("${") == 1 and ":-" not in text)


def _scalar_name(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return "one of " + ", ".join(map(str, get_args(kind)))
    return _SCALAR_NAMES.get(kind, "text")


def _expectation(kind: Any, marks: tuple[Any, ...]) -> str:
    for mark in marks:
        if isinstance(mark, Pattern):
            return f"{mark.what}; {mark.do}"
        if isinstance(mark, msgspec.Meta):
            return f"a number from {mark.ge} to {mark.le}"
    return _scalar_name(kind)


def _convert(kind: Any, scalar: Scalar, marks: tuple[Any, ...]) -> Any:
    for mark in marks:
        if isinstance(mark, Instead) and scalar.text in mark.words:
            raise ValueError(mark.do)
    if get_origin(kind) is Literal:
        known = {str(each): each for each in get_args(kind)}
        if scalar.text in known:
            return known[scalar.text]
        if scalar.text == "":
            return INVALID
        raise ValueError(unknown(scalar.text, known, "value"))
    if kind is bool:
        return scalar.text.lower() in ("true", "yes", "on") if scalar.tag == "bool" else INVALID
    if kind is int:
        return _integer(scalar)
    if kind is Secret:
        return Secret(scalar.text)
    if kind is date:
        return _date(scalar)
    if scalar.tag not in ("str", "timestamp") and not scalar.has_variable:
        return INVALID
    if kind in (Duration, Size, Cron, TimeZone, Platform):
        return _parsed(kind, scalar.text)
    if kind is Path:
        return _path(scalar.text)
    return scalar.text


def _parsed(kind: Any, text: str) -> Any:
    try:
        return kind.parse(text)
    except PlatformInvalid as error:
        raise ValueError(f"{error.what}; {error.do}") from error


def _integer(scalar: Scalar) -> Any:
    digits = scalar.text.removeprefix("-")
    if scalar.tag != "int" or not (digits.isascii() and digits.isdecimal()) or len(digits) > 18:
        return INVALID
    return int(scalar.text)


def _date(scalar: Scalar) -> Any:
    try:
        return date.fromisoformat(scalar.text) if len(scalar.text) == 10 else INVALID
    except ValueError:
        return INVALID


def _path(text: str) -> Path:
    if not text.strip() or "\0" in text:
        raise ValueError("a path is empty or holds a zero byte")
    return Path(text)
