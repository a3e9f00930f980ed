"""Filters as containerd sends them with a list: ``kind==committed,labels."a.b"==c``, one of many must fit.

Source: the grammar in containerd's ``pkg/filters/parser.go``; the fields of a snapshot in
``core/metadata/adaptors.go``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from registry_pipelines.node.store import Info, Refused

MAX_LENGTH = 4096
"""Of one filter; containerd's own have some 300 characters. An expression's time grows with what it is held against,
which is as short."""
_FIELD = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_OPERATOR = re.compile(r"\s*(==|!=|~=)\s*")
_VALUE = re.compile(r"[^\s,]+")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')
_RAW = re.compile(r"([/|])((?:(?!\1).)*)\1")
"""Around an expression, which has backslashes of its own."""
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "f": "\f", "v": "\v", '"': '"', "\\": "\\"}
_ESCAPED = re.compile(r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|(.))", re.DOTALL)


class _Selector(NamedTuple):
    """path: of the field. operator: empty asks whether it is there."""

    path: tuple[str, ...]
    operator: str = ""
    value: str = ""
    expression: re.Pattern[str] | None = None

    def fits(self, info: Info) -> bool:
        found = _value(info, self.path)
        match self.operator:
            case "":
                return found is not None
            case "==":
                return found == self.value
            case "!=":
                return found != self.value
            case _:
                return self.expression is not None and self.expression.search(found or "") is not None


class Filters(NamedTuple):
    """All filters of one list."""

    every: tuple[tuple[_Selector, ...], ...]

    def __call__(self, info: Info) -> bool:
        """Whether any of them fits a snapshot; without one, and for an empty one, all do."""
        return not self.every or any(all(one.fits(info) for one in selectors) for selectors in self.every)

    @property
    def parent(self) -> str | None:
        """What every snapshot that fits stands on, empty for nothing; None where that differs. containerd looks so
        for a layer that is there already, once for each layer of a pull, and a node may have thousands."""
        found = {one.value for selectors in self.every for one in selectors if one[:2] == (("parent",), "==")}
        named = all(any(one[:2] == (("parent",), "==") for one in selectors) for selectors in self.every)
        return found.pop() if named and len(found) == 1 else None


def parse_filters(texts: Sequence[str]) -> Filters:
    """Raises Refused."""
    return Filters(tuple(tuple(_parse(text)) for text in texts))


def _value(info: Info, path: Sequence[str]) -> str | None:
    """None where the field is not there."""
    match path[0]:
        case "name":
            return info.name
        case "parent":
            return info.parent
        case "kind":
            return info.kind
        case "labels":
            return info.labels.get(".".join(path[1:]))
    return None


def _parse(text: str) -> list[_Selector]:
    if len(text) > MAX_LENGTH:
        raise Refused("INVALID_ARGUMENT", f"a filter is longer than {MAX_LENGTH} characters")
    selectors: list[_Selector] = []
    at = _spaces(text, 0)
    while at < len(text) or selectors:
        selector, at = _selector(text, at)
        selectors.append(selector)
        if at == len(text):
            break
        if text[at] != ",":
            raise _wrong(text, at)
        at = _spaces(text, at + 1)
    return selectors


def _selector(text: str, at: int) -> tuple[_Selector, int]:
    path: list[str] = []
    while True:
        field, at = _field(text, at)
        path.append(field)
        if not text.startswith(".", at):
            break
        at += 1
    operator = _OPERATOR.match(text, at)
    if operator is None:
        return _Selector(tuple(path)), _spaces(text, at)
    value, at = _operand(text, operator.end(), raw=operator[1] == "~=")
    return _Selector(tuple(path), operator[1], value, _expression(text, at, operator[1], value)), _spaces(text, at)


def _field(text: str, at: int) -> tuple[str, int]:
    if quoted := _QUOTED.match(text, at):
        return _unquoted(text, at, quoted[1]), quoted.end()
    if plain := _FIELD.match(text, at):
        return plain[0], plain.end()
    raise _wrong(text, at)


def _operand(text: str, at: int, *, raw: bool) -> tuple[str, int]:
    if raw and (between := _RAW.match(text, at)):
        return between[2], between.end()
    if quoted := _QUOTED.match(text, at):
        return _unquoted(text, at, quoted[1]), quoted.end()
    if not text.startswith('"', at) and (plain := _VALUE.match(text, at)):
        return plain[0], plain.end()
    raise _wrong(text, at)


def _expression(text: str, at: int, operator: str, value: str) -> re.Pattern[str] | None:
    if operator != "~=":
        return None
    try:
        return re.compile(value)
    except (re.error, OverflowError, RecursionError) as error:
        raise _wrong(text, at) from error


def _unquoted(text: str, at: int, inner: str) -> str:
    """As Go reads a string."""

    def plain(found: re.Match[str]) -> str:
        code = found[1] or found[2] or found[3]
        if code is None and found[4] in _ESCAPES:
            return _ESCAPES[found[4]]
        if code is None or int(code, 16) > 0x10FFFF:
            raise _wrong(text, at)
        return chr(int(code, 16))

    return _ESCAPED.sub(plain, inner)


def _spaces(text: str, at: int) -> int:
    while at < len(text) and text[at].isspace():
        at += 1
    return at


def _wrong(text: str, at: int) -> Refused:
    return Refused("INVALID_ARGUMENT", f"a filter cannot be read at its character {at + 1}: {text[:200]!r}")


__all__ = ["Filters", "parse_filters"]
