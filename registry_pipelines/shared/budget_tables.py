"""What the budgets of all workers are in Postgres, and what one question of a worker changes there.

All times are the database's clock: workers' clocks differ. Lines and their users are unlogged: a server that crashed
forgets them, which costs half a second of credit, and no commit waits for its disk.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from registry_pipelines.shared.database import Tables, Transaction
from registry_pipelines.shared.membership import ALIVE

CREDIT_S = 0.5
"""Idle time of a line that may be made up for. Small, because links are shared: over 60 s it is below one per cent."""
LONGEST_LINE_S = 24 * 3600.0
"""A line that is free later than this was written before the database's clock was set back; it is free now."""
USER_SEEN_S = 10.0
"""Who said nothing of a line for so long uses it no more: its share goes to the others."""
PULLS_KEPT_S = 60.0
"""Pulls that a worker took and did not use come back after this: it was killed."""
SAME_TIME_S = 0.1
"""Two answers of a registry within this may have overtaken each other; the smaller one counts."""
FORGOTTEN_S = 3600.0

TABLES = Tables(
    "budget",
    (
        """CREATE UNLOGGED TABLE IF NOT EXISTS budget_lines (
            key TEXT PRIMARY KEY, free_at FLOAT NOT NULL, taken_s FLOAT NOT NULL, stopped_until FLOAT NOT NULL)""",
        """CREATE UNLOGGED TABLE IF NOT EXISTS budget_users (
            key TEXT NOT NULL, worker TEXT NOT NULL, seen FLOAT NOT NULL, PRIMARY KEY (key, worker))""",
        "CREATE TABLE IF NOT EXISTS budget_counts (key TEXT PRIMARY KEY, amount BIGINT NOT NULL)",
        """CREATE TABLE IF NOT EXISTS budget_quotas (
            registry TEXT NOT NULL, source TEXT NOT NULL, most BIGINT NOT NULL, remaining BIGINT NOT NULL,
            window_s FLOAT NOT NULL, until FLOAT NOT NULL, told_at FLOAT NOT NULL, PRIMARY KEY (registry, source))""",
        """CREATE UNLOGGED TABLE IF NOT EXISTS budget_pulls (
            registry TEXT NOT NULL, source TEXT NOT NULL, worker TEXT NOT NULL, pulls BIGINT NOT NULL,
            seen FLOAT NOT NULL, PRIMARY KEY (registry, source, worker))""",
    ),
)
"""A line is a rate that is kept: when it is free again, what was taken of it last, until when nobody may go on."""


class LineAsk(NamedTuple):
    """take_s: so many seconds of the line. stop_s: nobody may go on before so many have passed. With neither: only
    look."""

    key: str
    take_s: float = 0.0
    stop_s: float = 0.0


class LineAnswer(NamedTuple):
    """begin_s: in so many seconds what was taken begins; negative within the credit. stopped_s: nobody may go on for
    so long."""

    begin_s: float
    stopped_s: float


class Told(NamedTuple):
    """What a registry announced. age_s: how long ago. resets_s: in how many seconds all of it is there again, None
    where it does not say."""

    most: int
    remaining: int
    window_s: float
    age_s: float
    resets_s: float | None = None


class StockAsk(NamedTuple):
    """want: so many pulls more. held: those that this worker has, unused or under way. told: the registry's last
    answer to it."""

    registry: str
    source: str
    want: int = 0
    held: int = 0
    told: Told | None = None


class StockAnswer(NamedTuple):
    """granted: pulls that are this worker's now. remaining: what the registry said last, of ``most``. until_s: in so
    many seconds all of it is there again, told_s: so long ago it was said."""

    granted: int
    most: int
    remaining: int
    window_s: float
    until_s: float
    told_s: float
    source: str = ""


def move_lines(database: Transaction, asks: Sequence[LineAsk]) -> dict[str, LineAnswer]:
    """Do what is asked of each line, in one statement for all; one ask of a key at most."""
    answers = {}
    moved = [ask for ask in asks if ask.take_s or ask.stop_s]
    looks = [ask.key for ask in asks if not (ask.take_s or ask.stop_s)]
    if looks:
        answers.update(dict.fromkeys(looks, LineAnswer(0.0, 0.0)))
        rows = database.rows(_LOOK, {"keys": looks, "longest": LONGEST_LINE_S})
        answers.update({row["key"]: LineAnswer(0.0, row["stopped_s"]) for row in rows})
    if moved:
        values = {
            "keys": [ask.key for ask in moved],
            "takes": [ask.take_s for ask in moved],
            "stops": [ask.stop_s for ask in moved],
            "credit": CREDIT_S,
            "longest": LONGEST_LINE_S,
        }
        for row in database.rows(_MOVE, values):
            answers[row["key"]] = LineAnswer(row["begin_s"], max(0.0, row["stopped_s"]))
    return answers


_LOOK = (
    "SELECT key, stopped_until - clock() AS stopped_s FROM budget_lines WHERE key = ANY(:keys) "
    "AND stopped_until > clock() AND stopped_until <= clock() + :longest"
)

# Sorted by key, so that two workers never wait for each other. The clock is read when the row is locked: a worker that
# waited for another one gets what is left after it.
_MOVE = """
INSERT INTO budget_lines AS line (key, free_at, taken_s, stopped_until)
SELECT key, clock() - :credit + take_s, take_s, CASE WHEN stop_s > 0 THEN clock() + stop_s ELSE 0 END
FROM unnest(CAST(:keys AS text[]), CAST(:takes AS double precision[]), CAST(:stops AS double precision[]))
    AS asked (key, take_s, stop_s) ORDER BY key
ON CONFLICT (key) DO UPDATE SET
    taken_s = EXCLUDED.taken_s,
    stopped_until = GREATEST(EXCLUDED.stopped_until,
        CASE WHEN line.stopped_until > clock() + :longest THEN 0 ELSE line.stopped_until END),
    free_at = CASE WHEN EXCLUDED.taken_s = 0 THEN line.free_at ELSE EXCLUDED.taken_s + GREATEST(clock() - :credit,
        CASE WHEN line.free_at > clock() + :longest THEN 0 ELSE line.free_at END) END
RETURNING key, free_at - taken_s - clock() AS begin_s, stopped_until - clock() AS stopped_s
"""


def workers(database: Transaction) -> int:
    """How many are on this state."""
    [counted] = database.rows(f"SELECT COUNT(*) AS alive FROM members WHERE {ALIVE}", {})  # noqa: S608 - ours
    return int(counted["alive"])


def note_users(database: Transaction, worker: str, keys: Sequence[str]) -> dict[str, int]:
    """This worker uses these lines; how many do, with it."""
    database.change(
        "INSERT INTO budget_users (key, worker, seen) SELECT key, :worker, clock() "
        "FROM unnest(CAST(:keys AS text[])) AS used (key) ORDER BY key "
        "ON CONFLICT (key, worker) DO UPDATE SET seen = EXCLUDED.seen",
        {"worker": worker, "keys": list(keys)},
    )
    rows = database.rows(
        "SELECT key, COUNT(*) AS users FROM budget_users "
        "WHERE key = ANY(:keys) AND seen > clock() - :seen GROUP BY key",
        {"keys": list(keys), "seen": USER_SEEN_S},
    )
    return {row["key"]: row["users"] for row in rows}


def forget(database: Transaction) -> None:
    """Take out who said nothing for long, and quotas whose window is over."""
    database.change("DELETE FROM budget_users WHERE seen < clock() - :old", {"old": FORGOTTEN_S})
    database.change("DELETE FROM budget_pulls WHERE seen < clock() - :old", {"old": FORGOTTEN_S})
    database.change("DELETE FROM budget_quotas WHERE until < clock()", {})


def leave(database: Transaction, worker: str) -> None:
    """This worker uses nothing any more."""
    database.change("DELETE FROM budget_users WHERE worker = :worker", {"worker": worker})
    database.change("DELETE FROM budget_pulls WHERE worker = :worker", {"worker": worker})


def add_counts(database: Transaction, amounts: Mapping[str, int]) -> dict[str, int]:
    """Add to counts; what each is then."""
    statement = (
        "INSERT INTO budget_counts AS counted (key, amount) VALUES (:key, :amount) "
        "ON CONFLICT (key) DO UPDATE SET amount = counted.amount + EXCLUDED.amount RETURNING amount"
    )
    return {key: database.rows(statement, {"key": key, "amount": amounts[key]})[0]["amount"] for key in sorted(amounts)}


def count_of(database: Transaction, key: str) -> int:
    """What a count is. It is only read: a row that is locked here and others after it would be out of order."""
    rows = database.rows("SELECT amount FROM budget_counts WHERE key = :key", {"key": key})
    return int(rows[0]["amount"]) if rows else 0


def move_stock(database: Transaction, worker: str, ask: StockAsk) -> StockAnswer | None:
    """Take pulls of what a registry announced, and note what it says now. None where nothing is announced: then
    nothing is counted either."""
    named = {"registry": ask.registry, "source": ask.source}
    # Whoever holds this row is alone with the quota, also where it is not announced yet.
    database.rows("SELECT pg_advisory_xact_lock(hashtext(:registry), hashtext(:source)) AS held", named)
    rows = database.rows(
        "SELECT *, clock() AS now FROM budget_quotas WHERE registry = :registry AND source = :source "
        "AND until > clock() AND until <= clock() + 2 * window_s",
        named,
    )
    quota = StockAnswer(0, *_read(rows[0])) if rows else None
    if ask.told is not None:
        quota = _learn(quota, ask.told)
        _write(database, named, quota)
    if quota is None:
        return None
    others = database.rows(
        "SELECT COALESCE(SUM(pulls), 0) AS pulls FROM budget_pulls WHERE registry = :registry AND source = :source "
        "AND worker <> :worker AND seen > clock() - :kept",
        {**named, "worker": worker, "kept": PULLS_KEPT_S},
    )
    left = max(0, quota.remaining - int(others[0]["pulls"]) - ask.held)
    granted = min(ask.want, left, max(1, left // 4))  # the last ones are for all, not for who asks first
    database.change(
        "INSERT INTO budget_pulls (registry, source, worker, pulls, seen) "
        "VALUES (:registry, :source, :worker, :pulls, clock()) "
        "ON CONFLICT (registry, source, worker) DO UPDATE SET pulls = EXCLUDED.pulls, seen = EXCLUDED.seen",
        {**named, "worker": worker, "pulls": ask.held + granted},
    )
    return quota._replace(granted=granted, source=ask.source)


def quotas_of(database: Transaction, registry: str) -> list[StockAnswer]:
    """All that is known of a registry, of each who is counted, the newest first."""
    rows = database.rows(
        "SELECT *, clock() AS now FROM budget_quotas WHERE registry = :registry "
        "AND until > clock() AND until <= clock() + 2 * window_s ORDER BY told_at DESC",
        {"registry": registry},
    )
    return [StockAnswer(0, *_read(row), source=row["source"]) for row in rows]


def _read(row: Mapping[str, float]) -> tuple[int, int, float, float, float]:
    now = row["now"]
    return int(row["most"]), int(row["remaining"]), row["window_s"], row["until"] - now, now - row["told_at"]


def _learn(known: StockAnswer | None, told: Told) -> StockAnswer:
    """What holds after an answer. One that is older than what is known counts where it is smaller: it may have been
    overtaken on its way, and less is never wrong for long."""
    remaining, told_s = told.remaining, max(0.0, told.age_s)
    if known is not None and told_s > known.told_s - SAME_TIME_S:
        remaining, told_s = min(remaining, known.remaining), min(told_s, known.told_s)
    if told.resets_s is not None:
        until_s = told.resets_s - told.age_s
    elif known is None or remaining > known.remaining:
        until_s = told.window_s - told.age_s
    else:
        until_s = known.until_s
    return StockAnswer(0, told.most, remaining, told.window_s, until_s, told_s)


def _write(database: Transaction, named: Mapping[str, str], quota: StockAnswer) -> None:
    values = {
        **named,
        "most": quota.most,
        "remaining": quota.remaining,
        "window": quota.window_s,
        "until": quota.until_s,
        "told": quota.told_s,
    }
    database.change(
        "INSERT INTO budget_quotas (registry, source, most, remaining, window_s, until, told_at) "
        "VALUES (:registry, :source, :most, :remaining, :window, clock() + :until, clock() - :told) "
        "ON CONFLICT (registry, source) DO UPDATE SET most = EXCLUDED.most, remaining = EXCLUDED.remaining, "
        "window_s = EXCLUDED.window_s, until = EXCLUDED.until, told_at = EXCLUDED.told_at",
        values,
    )
