"""What commands answer that begin: a configuration, log-ins, keys, the demonstration, pages for people."""

from __future__ import annotations

from typing import Any, TypedDict

from registry_pipelines.chain.result import StageResult
from registry_pipelines.cli.answers.common import Row


class Started(TypedDict):
    """A configuration that was written, and what to do next."""

    file: str
    key: str
    key_made: bool
    next: list[str]


class Demonstration(TypedDict):
    """What the demonstration did, and what the registries hold afterwards. cost: of ``report cost``; null without the
    extra ``inventory``."""

    seconds: float
    events: list[dict[str, Any]]
    outcomes: list[dict[str, Any]]
    problems: list[str]
    cost: StageResult | None


class DemonstrationBase(TypedDict):
    """A registry with the base images that a sync takes from it. address: of their repository. changed: they were
    pushed now."""

    sync: str
    registry: str
    address: str
    versions: list[str]
    changed: bool


class DemonstrationBases(TypedDict):
    """``demo --bases``: where the base images are now, a registry each; empty: no sync of an embedded registry takes
    them."""

    seconds: float
    bases: list[DemonstrationBase]


class Checked(TypedDict):
    """A configuration without problems. Counts are those of its sections; reached: each registry, with ``--online``."""

    file: str
    state: str
    notes: list[str]
    registries: int
    images: int
    targets: int
    policies: int
    mirrors: int
    syncs: int
    retention: int
    reached: list[Row]


class Page(TypedDict):
    """A page in Markdown."""

    markdown: str


class LoggedIn(TypedDict):
    """A log-in that was kept. tried: whether the registry asked for it. helper: the program that keeps it."""

    registry: str
    username: str
    tried: bool
    file: str
    helper: str
    notes: list[str]


class LoggedOut(TypedDict):
    """A log-in that was forgotten."""

    registry: str
    changed: bool
    file: str
    helper: str
    notes: list[str]


class Script(TypedDict):
    """A script for a shell."""

    shell: str
    script: str


class KeyPair(TypedDict):
    """Files of a key pair that was made."""

    private: str
    public: str
    key_id: str


class Schemas(TypedDict):
    """Commands that have a schema."""

    commands: list[str]
