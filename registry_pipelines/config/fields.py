"""The fields of a class that the configuration holds: names, types, defaults, and what they mean."""

from __future__ import annotations

import ast
import functools
import inspect
import itertools
from typing import Annotated, Any, get_args, get_origin

import msgspec

from registry_pipelines.oci.platforms import Platform
from registry_pipelines.settings import Unwritten

REQUIRED: Any = msgspec.NODEFAULT


class Setting(msgspec.Struct, frozen=True):
    """A field. hint: its type with its marks. default: ``REQUIRED`` when it must be written."""

    name: str
    hint: Any
    default: Any
    unwritten: Unwritten | None = None

    @property
    def required(self) -> bool:
        """Whether it must be written."""
        return self.default is REQUIRED


def is_object(kind: Any) -> bool:
    """Whether a type is written as a mapping with known fields; a platform is written as text."""
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct) and kind is not Platform


@functools.cache
def fields_of(kind: Any) -> tuple[Setting, ...]:
    """Every field of a class: its own, then those of what it is made from."""
    own = kind.__annotations__
    fields = sorted(msgspec.structs.fields(kind), key=lambda each: each.name not in own)
    return tuple(Setting(each.name, each.type, _default(each), _unwritten(each.type)) for each in fields)


def _default(each: msgspec.structs.FieldInfo) -> Any:
    return each.default if each.default_factory is msgspec.NODEFAULT else each.default_factory()


def _unwritten(hint: Any) -> Unwritten | None:
    marks = get_args(hint)[1:] if get_origin(hint) is Annotated else ()
    return next((mark for mark in marks if isinstance(mark, Unwritten)), None)


def written(kind: Any) -> tuple[Setting, ...]:
    """The fields of a class that are written in the file."""
    return tuple(each for each in fields_of(kind) if each.unwritten is None)


def meanings(kind: Any) -> dict[str, str]:
    """What each field means: the docstring below it in the source, on one line. For documents; loading asks nothing."""
    texts: dict[str, str] = {}
    for part in kind.__mro__:
        if part.__module__.startswith("registry_pipelines"):
            texts |= {name: text for name, text in _docstrings(part) if name not in texts}
    return texts


def _docstrings(kind: type) -> list[tuple[str, str]]:
    [definition] = ast.parse(inspect.getsource(kind)).body
    body = getattr(definition, "body", [])
    return [
        (ast.unparse(field.target), " ".join(str(text.value.value).split()))
        for field, text in itertools.pairwise(body)
        if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant)
    ]
