"""One thing of a cloud that can be set: what is wanted of it, and what was found. Plain data, the same for all clouds.

A cloud's half of this room writes both sides in one form (lists sorted where order means nothing, JSON read, absent
values as the cloud's own default), so that two values that mean the same are equal.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

Plain = Any
"""What JSON holds: None, bool, int, str, list, dict."""

Fields = Mapping[str, Plain]
"""Values by field. What may be declared in part is a field for each part: ``tags.team``, ``statement.Readers``."""


class Key(NamedTuple):
    """What a setting is about. kind: of the cloud's half (``ecr:repository``). place: the registry's name in the
    configuration. name: the thing's own, within the kind; empty where a registry has one alone."""

    kind: str
    place: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name}".rstrip()


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """A thing that is declared, or there, or both.

    wanted: the declared fields; None for a thing that nobody declared. Other fields of it may be what they are.
    found: all fields that were read; None where there is no such thing. fixed: fields that the cloud never changes once
    the thing is made. absent: declared as one that must not be there. unread: why what is there is not known; it is
    then neither compared nor changed, and the plan says so. source: where it is declared, for people. must_exist: it is
    compared, and never made here. unseen: wanted fields that a cloud takes and never tells (a password's version): they
    are named and not compared.
    """

    kind: str
    place: str
    name: str
    wanted: dict[str, Plain] | None = None
    found: dict[str, Plain] | None = None
    fixed: tuple[str, ...] = ()
    absent: bool = False
    unread: str = ""
    source: str = ""
    must_exist: bool = False
    unseen: tuple[str, ...] = ()

    @property
    def key(self) -> Key:
        """What it is about."""
        return Key(self.kind, self.place, self.name)

    @property
    def declared(self) -> bool:
        """Whether the configuration says anything about it."""
        return self.wanted is not None or self.absent


def with_found(setting: Setting, found: Fields | None, *, unread: str = "") -> Setting:
    """The same setting with what was read of it."""
    return msgspec.structs.replace(setting, found=None if found is None else dict(found), unread=unread)
