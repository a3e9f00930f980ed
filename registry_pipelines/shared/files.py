"""A connection to a SQLite file in the words of :mod:`~registry_pipelines.shared.database`, for rooms that open their
own file for each call and so take the same statements to a file and to the database that workers share.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence

from registry_pipelines.shared.database import Row


class Connected:
    """See Transaction; whose, begins and ends it. connection: with rows of ``sqlite3.Row``."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def rows(self, statement: str, values: Mapping[str, object]) -> Sequence[Row]:
        """See Transaction."""
        return self._connection.execute(statement, values).fetchall()

    def change(self, statement: str, *values: Mapping[str, object]) -> int:
        """See Transaction."""
        return self._connection.executemany(statement, values).rowcount


__all__ = ["Connected"]
