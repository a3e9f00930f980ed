"""How a field of the configuration is described: once, by its type, its marks and a sentence."""

from __future__ import annotations

from dataclasses import MISSING, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Names:
    """Marks a string that names an entry of a top-level section."""

    section: str


@dataclass(frozen=True)
class Between:
    """Marks a number with both its bounds."""

    low: int
    high: int


@dataclass(frozen=True)
class Several:
    """Marks a list that must have at least so many entries."""

    least: int = 1


@dataclass(frozen=True)
class Former:
    """Marks a choice of which a word of earlier versions is gone; ``now`` says what to write instead."""

    word: str
    now: str


def setting(doc: str, *, default: Any = MISSING, factory: Any = MISSING) -> Any:
    """A field with its description; required when it has neither default nor factory."""
    return field(default=default, default_factory=factory, metadata={"doc": doc})


def entry_name() -> Any:
    """A field that takes the entry's own name in its section; it is not written in the file."""
    return field(metadata={"doc": "the entry's name", "key": True})


__all__ = ["Between", "Former", "Names", "Several", "entry_name", "setting"]
