"""Tells the shared database what the courier of a killed worker still sent, so that a worker elsewhere goes on there.

The courier starts it when its own parent is gone and requests are under way: it has no database driver itself, and
waits for nothing. On stdin come two lines of JSON: ``{database, member, owner, beat_s}``, and, once the requests ended,
a list of ``{upload, location, offset}``. Between the two it gives the signs of life of the dead member, so that nobody
sends into these uploads; after the second they are anybody's, and so are the turns of their blobs.
"""

from __future__ import annotations

import json
import queue
import sys
import threading

from registry_pipelines.shared.database import Database, Transaction, open_server

_BEAT = "UPDATE members SET seen = clock() WHERE name = :member"
_MOVE = """UPDATE uploads SET location = :location, offset_bytes = :offset, updated_at = clock(), owner = ''
    WHERE id = :upload AND owner IN (:owner, '') AND offset_bytes <= :offset"""
_FREE_TURN = """DELETE FROM leases WHERE member = :member
    AND name IN (SELECT 'blob/' || registry || '/' || digest FROM uploads WHERE owner IN (:owner, ''))"""
_FREE = "UPDATE uploads SET owner = '' WHERE owner = :owner"


def main() -> None:
    """See the module."""
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()
    order = json.loads(sys.stdin.readline())
    threading.Thread(target=lambda: lines.put(sys.stdin.readline()), daemon=True).start()
    database = open_server(order["database"])
    whose = {"member": order["member"], "owner": order["owner"]}
    while (line := _next(lines, order["beat_s"])) is None:
        database.run(lambda each: each.change(_BEAT, {"member": order["member"]}))
    _tell(database, whose, json.loads(line or "[]"))
    database.close()


def _next(lines: queue.SimpleQueue[str], timeout_s: float) -> str | None:
    try:
        return lines.get(timeout=timeout_s)
    except queue.Empty:
        return None


def _tell(database: Database, whose: dict[str, object], notes: list[dict[str, object]]) -> None:
    owner = {"owner": whose["owner"]}

    def tell(each: Transaction) -> None:
        each.change(_FREE_TURN, whose)
        for note in notes:
            each.change(_MOVE, {**note, **owner})
        each.change(_FREE, owner)

    database.run(tell)


if __name__ == "__main__":
    main()
