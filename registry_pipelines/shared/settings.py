"""The section ``shared`` of a configuration, and what the environment says where it is silent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import msgspec
from msgspec.structs import replace

from registry_pipelines.settings import NAME, Duration, Pattern, Secret, Size

DATABASE_VARIABLE = "REGISTRY_PIPELINES_DATABASE"
"""The database, where the configuration names none: one file serves one machine and many."""
STORE_VARIABLE = "REGISTRY_PIPELINES_STORE"
"""The object store, likewise."""
HOST = r"(\[[0-9A-Fa-f:.]+\](:\d+)?|[^\[\]@\s/:,?#]+(:\d+)?|:\d+)"
"""Of an address: a name or an IP address, with a port or without; a port alone is this machine's."""
DATABASE = Pattern(
    rf"^postgres(ql)?(\+psycopg)?://(?=\S)([^@\s]+@)?({HOST}(,{HOST})*)?([/?][^@\s]*)?$",
    "the address of a Postgres database",
    "write postgresql://user:password@host/database; in a password @ is %40, : is %3A, / is %2F and % is %25",
)
STORE = Pattern(
    r"^((s3|gs|az)://[a-z0-9][a-z0-9._-]{1,220}[a-z0-9](/[^?#\s]*)?|file:///[^?#\s]*)$",
    "the address of an object store",
    "write s3://BUCKET/PREFIX, gs://BUCKET/PREFIX, az://CONTAINER/PREFIX or file:///FOLDER",
)

SILENCE = Duration(seconds=60)
LEAST_SILENCE_S = 2.0
"""A sign of life six times in it must be possible on a machine that is busy."""
MOST_SILENCE_S = 3600.0


class CacheSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What workers keep for each other to save time; docs/many-machines.md."""

    max_size: Size = Size(50 << 30)
    """Of all of it, packed; the entries that nobody used for longest go first."""
    max_age: Duration = Duration(days=60)
    """How long an entry is kept that nobody used."""


class Shared(msgspec.Struct, frozen=True, kw_only=True):
    """What several workers have together (docs/many-machines.md). A field that is not written is taken from the
    environment, so that the same file serves one machine and many."""

    database: Annotated[Secret, DATABASE] = Secret("")
    """Postgres for what workers must agree on, as `${VARIABLE}` with `postgresql://user:password@host/database`
    (extra `postgres`); `REGISTRY_PIPELINES_DATABASE` of the environment unless told, and without either everything is
    in the folder `state`, for one machine."""
    store: Annotated[str, STORE] = ""
    """Object store for what is costly to find again: `s3://BUCKET/PREFIX`, `gs://`, `az://` or `file:///FOLDER`;
    `REGISTRY_PIPELINES_STORE` of the environment unless told."""
    project: Annotated[str, NAME] | None = None
    """Whose state it is. Another project's worker is refused: two code locations have a database each."""
    silence: Duration = SILENCE
    """How long a worker may say nothing until others take over what it did; 2s to 1h."""
    caches: CacheSettings = CacheSettings()
    """What was found of layers, images and wheels: in `store`, small pieces in `database`."""
    clock_difference: Duration = Duration(seconds=30)
    """How far a worker's clock may be from the database's: what is signed bears its time."""


def from_environment(shared: Shared, environment: Mapping[str, str]) -> tuple[Shared, list[tuple[str, str]]]:
    """The section with what the environment says where it is silent; and what is wrong with it: path and message,
    without a value, which may be a secret."""
    problems: list[tuple[str, str]] = []
    database, store = environment.get(DATABASE_VARIABLE, ""), environment.get(STORE_VARIABLE, "")
    for field, variable, value, pattern in (
        ("database", DATABASE_VARIABLE, database, DATABASE),
        ("store", STORE_VARIABLE, store, STORE),
    ):
        try:
            if value and not getattr(shared, field):
                pattern.check(value)
        except ValueError:
            problems.append((f"shared.{field}", f"{variable} is not {pattern.what}; {pattern.do}"))
    if problems:
        return shared, problems
    shared = replace(shared, database=shared.database or Secret(database), store=shared.store or store)
    return shared, _problems(shared)


def _problems(shared: Shared) -> list[tuple[str, str]]:
    """What does not fit together."""
    found = []
    if not LEAST_SILENCE_S <= shared.silence.total_seconds() <= MOST_SILENCE_S:
        found.append(("shared.silence", "a worker that says nothing is waited for 2s to 1h"))
    if shared.clock_difference.total_seconds() < 1:
        found.append(("shared.clock_difference", "clocks differ by some milliseconds; write 1s or more"))
    if shared.store and not shared.database:
        found.append(
            ("shared.store", f"a store alone is not enough: name `shared.database`, too, or set {DATABASE_VARIABLE}")
        )
    return found


__all__ = ["DATABASE_VARIABLE", "STORE_VARIABLE", "CacheSettings", "Shared", "from_environment"]
