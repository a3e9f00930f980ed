"""The plan: what differs between what is declared and what is there, field by field. Nothing changes here.

A plan is a plain value: printed, stored as JSON, compared with another, approved by its digest, and then applied as it
stands (``apply``). What nobody declared is named as unmanaged, and never changed or deleted.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Literal

import msgspec
from msgspec.structs import replace

from registry_pipelines.errors import InputError
from registry_pipelines.infra.cloud import Found, SettingsCloud
from registry_pipelines.infra.settings import Key, Plain, Setting
from registry_pipelines.oci.decoding import ready
from registry_pipelines.oci.digest import Digest
from registry_pipelines.progress import count_text

PLAN_SCHEMA = 2
"""Of the JSON form; another number is refused."""

MAX_PLAN_BYTES = 256 * 1024 * 1024
"""A plan for 100,000 repositories with their policies has about 120 MB."""

MAX_VALUE_CHARACTERS = 100
"""Of a value in a table or a line; the JSON has all of it."""

Action = Literal["create", "update", "delete", "adopt", "refuse"]
ACTIONS: tuple[Action, ...] = ("refuse", "delete", "update", "create", "adopt")
"""What a plan does with a thing, the most urgent to read first. ``adopt``: it is there as it is declared, and no call
is made. ``refuse``: it is not touched, and the plan says why."""


class Difference(msgspec.Struct, frozen=True):
    """A field that changes. found: None also where there is no such value."""

    field: str
    found: Plain
    wanted: Plain

    def __str__(self) -> str:
        return f"{self.field}: {value_text(self.found)} -> {value_text(self.wanted)}"

    def drift(self) -> str:
        """The same of something that changed: an arrow would be read as what somebody did."""
        return f"{self.field} is {value_text(self.found)}, declared {value_text(self.wanted)}"


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """What becomes of one declared thing.

    differences: fields that change; all declared ones where it is made. wanted, found: what the plan was made from, so
    that it can be checked against what is there when it is applied. undeclared: fields it has that nobody declared,
    which stay as they are. why: of a refusal.
    """

    action: Action
    kind: str
    place: str
    name: str
    differences: tuple[Difference, ...] = ()
    wanted: dict[str, Plain] | None = None
    found: dict[str, Plain] | None = None
    undeclared: tuple[str, ...] = ()
    unseen: tuple[str, ...] = ()
    why: str = ""

    @property
    def key(self) -> Key:
        """What it is about."""
        return Key(self.kind, self.place, self.name)

    def changed(self, field: str) -> bool:
        """Whether a field is among those that change."""
        return any(each.field == field for each in self.differences)


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What a registry's settings need to be as declared. place: its name in the configuration. where: what that is;
    another configuration may have another registry of the name. made_at: RFC 3339. unmanaged: things that nobody
    declared, as ``kind name``. notes: what was not compared, and why."""

    place: str
    where: str
    made_at: str
    changes: tuple[Change, ...]
    unmanaged: tuple[Key, ...] = ()
    notes: tuple[str, ...] = ()
    readers: tuple[dict[str, str], ...] = ()

    @property
    def actions(self) -> Iterator[Change]:
        """What applying it changes."""
        return (each for each in self.changes if each.action not in ("adopt", "refuse"))

    @property
    def refused(self) -> Iterator[Change]:
        """What it cannot do."""
        return (each for each in self.changes if each.action == "refuse")

    @property
    def settled(self) -> bool:
        """Whether all that is declared is there, as declared, and was compared."""
        return all(each.action == "adopt" for each in self.changes)

    @property
    def digest(self) -> Digest:
        """Of what it does, whenever it was made: what an approval names."""
        return Digest.of(msgspec.json.encode([self.place, self.where, self.changes], order="deterministic"))

    def summary(self) -> str:
        """``2 to create, 1 to update, 997 as declared, 3 unmanaged``."""
        words: dict[Action, str] = {
            "refuse": "refused",
            "delete": "to delete",
            "update": "to update",
            "create": "to create",
        }
        counts = {action: sum(each.action == action for each in self.changes) for action in ACTIONS}
        parts = [f"{counts[action]} {word}" for action, word in words.items() if counts[action]]
        return ", ".join([*parts, f"{counts['adopt']} as declared", f"{len(self.unmanaged)} unmanaged"])

    def rows(self) -> list[dict[str, str | int | float | bool]]:
        """A table: what is refused and what changes, a row for each field, then what is unmanaged."""
        rows: list[dict[str, str | int | float | bool]] = []
        for each in sorted(self.changes, key=lambda one: ACTIONS.index(one.action)):
            if each.action == "adopt":
                continue
            for difference in each.differences or (Difference("", None, None),):
                rows.append(
                    {
                        "action": each.action,
                        "kind": each.kind,
                        "name": each.name,
                        "field": difference.field,
                        "found": value_text(difference.found) if difference.field else "",
                        "wanted": value_text(difference.wanted) if difference.field else "",
                        "why": each.why,
                    }
                )
        blank = {"field": "", "found": "", "wanted": "", "why": "not declared, left as it is"}
        rows += [{"action": "unmanaged", "kind": key.kind, "name": key.name, **blank} for key in self.unmanaged]
        return rows

    def lines(self) -> list[str]:
        """The plan as sorted text, a line for each field: two plans are compared by their lines."""
        lines = [
            f"{each.action} {each.key} {difference}".rstrip()
            for each in self.changes
            if each.action != "adopt"
            for difference in (each.differences or ("",))
        ]
        lines += [f"adopt {each.key}" for each in self.changes if each.action == "adopt"]
        return sorted([*lines, *(f"unmanaged {key}" for key in self.unmanaged)])

    def to_json(self) -> str:
        """The plan as JSON; :meth:`from_json` reads it."""
        return msgspec.json.encode({"schema": PLAN_SCHEMA, "plan": self}, order="deterministic").decode()

    @classmethod
    def from_json(cls, text: str) -> Plan:
        """Read a stored plan. Raises InputError."""
        if len(text) > MAX_PLAN_BYTES:
            raise InputError(f"the plan is larger than {MAX_PLAN_BYTES} bytes")
        try:
            stored = msgspec.json.decode(text, type=ready(_Stored))
            if stored.schema != PLAN_SCHEMA:
                raise InputError(f"the plan has schema {stored.schema}", do="Make a new plan with this version")
            plan = msgspec.convert(stored.plan, ready(Plan))
        except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
            raise InputError(f"this is not a plan of settings ({error})"[:300], do="Make a new one") from error
        if any(each.place != plan.place for each in plan.changes):
            raise InputError("the plan is about several registries", do="Make a new one")
        return plan


class _Stored(msgspec.Struct):
    schema: int
    plan: dict[str, Plain]


def difference_of(older: Plan, newer: Plan) -> list[str]:
    """What is in one plan and not in the other, as lines with ``-`` and ``+``."""
    before, after = set(older.lines()), set(newer.lines())
    lines = [*(("- ", line) for line in before - after), *(("+ ", line) for line in after - before)]
    return [sign + line for sign, line in sorted(lines, key=lambda pair: (pair[1], pair[0]))]


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one change. state: ``done``; ``already`` where it had been made since the plan; ``refused`` where
    it was not tried; ``failed``. why: of the last two. steps: calls that were made for it, with what they changed."""

    key: Key
    action: Action
    state: Literal["done", "already", "refused", "failed"]
    why: str = ""
    facts: dict[str, str | int | float | bool] = {}

    @property
    def ok(self) -> bool:
        """Whether the thing is as declared now."""
        return self.state in ("done", "already")


def done(change: Change, **facts: str | int | float | bool) -> Outcome:
    """It was made."""
    return Outcome(key=change.key, action=change.action, state="done", facts=facts)


def failed(change: Change, error: object) -> Outcome:
    """It was tried, and what came back. error: its text is told; never one with a secret."""
    return Outcome(key=change.key, action=change.action, state="failed", why=str(error))


def make_plan(cloud: SettingsCloud, found: Found, *, now: datetime | None = None) -> Plan:
    """Compare all that was found in a cloud with what is declared, in the order in which it will be changed."""
    rank = {kind: position for position, kind in enumerate(cloud.order)}
    settings = sorted(found.settings, key=lambda each: (rank[each.kind], each.name))
    unseen = [f"{each.key}: {', '.join(each.unseen)} cannot be read back" for each in settings if each.unseen]
    return Plan(
        place=cloud.place,
        where=cloud.where,
        made_at=(now or datetime.now(UTC)).isoformat(timespec="seconds"),
        changes=tuple(change_of(each) for each in settings if each.declared),
        unmanaged=tuple(each.key for each in settings if not each.declared and each.found is not None),
        notes=(*found.notes, *unseen),
        readers=found.readers,
    )


def change_of(setting: Setting) -> Change:
    """What one declared thing needs."""
    wanted, found = setting.wanted or {}, setting.found
    about = Change(
        action="adopt", kind=setting.kind, place=setting.place, name=setting.name, wanted=setting.wanted, found=found
    )
    if setting.unread:
        why = f"what is there cannot be read, so nothing is compared: {setting.unread}"
        return replace(about, action="refuse", why=why)
    if setting.absent:
        return about if found is None else replace(about, action="delete")
    about = replace(about, unseen=setting.unseen)
    if found is None and setting.must_exist:
        return replace(about, action="refuse", why="is not there, and is not made here")
    if found is None:
        made = tuple(Difference(name, None, wanted[name]) for name in sorted(wanted))
        return replace(about, action="create", differences=made)
    undeclared = tuple(sorted(name for name in found.keys() - wanted.keys() if found[name] not in (None, "", [], {})))
    differing = tuple(
        Difference(name, found.get(name), wanted[name])
        for name in sorted(wanted)
        if name not in setting.unseen and found.get(name) != wanted[name]
    )
    about = replace(about, undeclared=undeclared, differences=differing)
    stuck = [each.field for each in differing if each.field in setting.fixed]
    if stuck:
        why = f"{', '.join(stuck)} {'is' if len(stuck) == 1 else 'are'} fixed when it is made"
        return replace(about, action="refuse", why=f"{why}: declare what is there, or delete it and make it anew")
    return replace(about, action="update") if differing else about


def keys_text(keys: Iterable[Key]) -> str:
    """``3 of ecr:repository, 1 of ecr:template``."""
    kinds: dict[str, int] = {}
    for key in keys:
        kinds[key.kind] = kinds.get(key.kind, 0) + 1
    return ", ".join(f"{number} of {kind}" for kind, number in kinds.items())


def value_text(value: Plain) -> str:
    """A value in one line: text as it is, everything else as JSON; long ones shortened."""
    if value is None:
        return "none"
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True, separators=(",", ":"))
    left = len(text) - MAX_VALUE_CHARACTERS
    return text if left <= 0 else f"{text[:MAX_VALUE_CHARACTERS]}... ({count_text(left, 'character')} more)"
