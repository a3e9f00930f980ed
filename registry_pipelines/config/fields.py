"""The fields of a class that the configuration holds: names, types, defaults, and what they mean."""

from __future__ import annotations

import ast
import functools
import inspect
import textwrap
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import msgspec

from registry_pipelines.settings import Unwritten


@dataclass(frozen=True)
class Setting:
    """A field. default: MISSING when it must be written; a function's result where the class has a function."""

    name: str
    hint: Any
    """With its marks."""
    default: Any = MISSING
    unwritten: Unwritten | None = None

    @property
    def required(self) -> bool:
        """Whether it must be written."""
        return self.default is MISSING


def is_object(kind: Any) -> bool:
    """Whether a type is written as a mapping with known fields."""
    return isinstance(kind, type) and (is_dataclass(kind) or issubclass(kind, msgspec.Struct))


@functools.cache
def fields_of(kind: Any) -> tuple[Setting, ...]:
    """Every field of a class, in its order."""
    if is_dataclass(kind):
        hints = get_type_hints(kind, include_extras=True)
        return tuple(
            Setting(
                each.name,
                hints[each.name],
                each.default if each.default_factory is MISSING else each.default_factory(),
                each.metadata.get("unwritten"),
            )
            for each in fields(kind)
        )
    return tuple(_of_struct(each) for each in msgspec.structs.fields(kind))


def _of_struct(each: msgspec.structs.FieldInfo) -> Setting:
    marks = get_args(each.type)[1:] if get_origin(each.type) is Annotated else ()
    unwritten = next((mark for mark in marks if isinstance(mark, Unwritten)), None)
    default = MISSING if each.required else each.default
    if default is msgspec.NODEFAULT:
        default = each.default_factory()
    return Setting(each.name, each.type, default, unwritten)


def written(kind: Any) -> tuple[Setting, ...]:
    """The fields of a class that are written in the file."""
    return tuple(each for each in fields_of(kind) if each.unwritten is None)


@functools.cache
def meanings(kind: Any) -> dict[str, str]:
    """What each field means: the docstring below it in the source, on one line."""
    if is_dataclass(kind):
        return {each.name: each.metadata.get("doc", "") for each in fields(kind)}
    [body] = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    found = {}
    for before, after in zip(body.body, body.body[1:], strict=False):  # type: ignore[attr-defined]
        if isinstance(before, ast.AnnAssign) and isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
            found[ast.unparse(before.target)] = " ".join(str(after.value.value).split())
    return found


def setting(doc: str, *, default: Any = MISSING, factory: Any = MISSING) -> Any:
    """A field with its description; required when it has neither default nor factory."""
    return field(default=default, default_factory=factory, metadata={"doc": doc})


def unwritten(doc: str, *, default: Any = MISSING, from_key: bool = False) -> Any:
    """A field that is not written in the file."""
    return field(default=default, metadata={"doc": doc, "unwritten": Unwritten(from_key)})


def entry_name() -> Any:
    """A field that takes the entry's own name in its section; it is not written in the file."""
    return unwritten("the entry's name", from_key=True)
