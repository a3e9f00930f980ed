"""Sweeps of a fleet beside ``rescan``: whether targets hold what their sources do (``drift``), how far they are behind
(``lag``), what registries hold and cost (``cost``).

A bucket is looked at as a whole: its rows are one Parquet file with a signed statement (``report.sweeps``). A sweep
that was stopped goes on with the buckets that are left; ``shown`` puts together what all of them found.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from registry_pipelines.chain.buckets import BUCKETS, Bucket, by_bucket, held, kept
from registry_pipelines.chain.result import Scalar, StageResult
from registry_pipelines.chain.session import Session
from registry_pipelines.errors import InputError, RegistryPipelinesError, SignatureInvalid, StateLocked, Unavailable
from registry_pipelines.inventory.needed import need_tables
from registry_pipelines.oci.files import local_errors, write_file
from registry_pipelines.oci.times import read_time
from registry_pipelines.progress import count_text

if TYPE_CHECKING:
    from registry_pipelines.report.sweeps import Kind, Statement

MOST = 2000
"""Releases at targets that one sweep of a bucket compares: each costs some thirty small requests. What waited for
longest comes first; of the rest the rows of the sweep before stay, with their time."""
READ_AT_ONCE = 32
"""Buckets of which is read together what was found in them: an inventory of one has some MB."""
MAX_ROWS = 200
"""Of a table for people; files have all."""

STATES = {"drift": ("differs", "missing", "unknown"), "lag": ("behind", "unknown"), "cost": ()}
"""What is wrong, the worst first."""


@dataclass
class Part:
    """What a look at one bucket found. files: by name (``report.sweeps.Statement``). counts: rows by state. wrong: rows
    for people. unread: what could not be read, in sentences. left: what waits for the next sweep."""

    files: dict[str, bytes]
    rows: int = 0
    counts: Mapping[str, int] = field(default_factory=dict)
    wrong: Sequence[dict[str, Scalar]] = ()
    unread: Sequence[str] = ()
    left: int = 0


Look = Callable[[str, Bucket, datetime], Part]
"""Looks at a bucket by its name; what was kept of it; now."""


def look_of(session: Session, kind: Kind, most: int = MOST) -> Look:
    """How one kind looks at a bucket; what all its buckets share is asked once. Raises InputError, ToolMissing."""
    need_tables()
    if kind == "cost":
        from registry_pipelines.chain.sweep_cost import CostLook

        return CostLook(session)
    if kind == "lag":
        from registry_pipelines.chain.sweep_lag import lag_of

        return lambda name, bucket, now: lag_of(session, _images(session, name), now)
    from registry_pipelines.chain.sweep_drift import drift_of

    return lambda name, bucket, now: drift_of(session, _images(session, name), bucket.read("parquet"), now, most)


def _images(session: Session, name: str) -> list[str]:
    return [image.name for images in by_bucket(session.config.images.values(), name).values() for image in images]


def buckets_of(session: Session, kind: Kind) -> list[str]:
    """The buckets in which there may be anything. What registries hold is known when they are asked: all of them."""
    return list(BUCKETS if kind == "cost" else by_bucket(session.config.images.values()))


def sweep(
    session: Session, kind: Kind, *, bucket: str = "", since: datetime | None = None, most: int = MOST
) -> StageResult:
    """Sweep a fleet, or one bucket of it. since: buckets that were wholly swept from then on are passed over. ``ok``:
    nothing is wrong and everything could be read. Raises InputError, ToolMissing, LocalError; StateLocked where
    another process has the one bucket that is named."""
    started = time.monotonic()
    parts: list[StageResult] = []
    busy = 0
    for name, found in swept(session, kind, [bucket] if bucket else buckets_of(session, kind), since=since, most=most):
        if found is not None:
            parts.append(found)
        elif bucket:
            raise StateLocked(f"another process sweeps bucket {name} ({kind})", do="Wait for it; once is enough")
        else:
            busy += 1
    return _together(kind, bucket, parts, busy, time.monotonic() - started)


def swept(
    session: Session, kind: Kind, buckets: Sequence[str], *, since: datetime | None = None, most: int = MOST
) -> Iterator[tuple[str, StageResult | None]]:
    """Each bucket with what became of it, as it is done; None for one that another process has."""
    look = look_of(session, kind, most)
    for name in buckets:
        try:
            with held(session, kind, name) as place:
                done = since and _done_since(place, since)
                yield name, _passed(kind, name) if done else _looked(session, kind, look, place)
        except StateLocked:
            yield name, None


def _done_since(place: Bucket, since: datetime) -> bool:
    from registry_pipelines.report.sweeps import read_statement

    try:
        statement = read_statement(place.read("json"), where=place.name)
    except RegistryPipelinesError:
        return False
    ended = read_time(statement.ended)
    return statement.whole and ended is not None and ended >= since.replace(microsecond=0)


def _passed(kind: Kind, name: str) -> StageResult:
    facts: dict[str, Scalar] = {"buckets": 0, "passed": 1, "rows": 0, "left": 0, "unread": 0}
    return StageResult(stage=kind, subject=f"bucket {name}", action="swept before", facts=facts)


def _looked(session: Session, kind: Kind, look: Look, place: Bucket) -> StageResult:
    from registry_pipelines.report import sweeps as files

    started, began = time.monotonic(), session.now()
    part = look(place.name, place, began)
    missing = [*part.unread, *([f"{part.left} left for the next sweep"] if part.left else [])]
    statement = files.state(
        kind,
        place.name,
        part.files,
        rows=part.rows,
        began=began,
        ended=session.now(),
        unread=missing,
        counts=part.counts,
    )
    signer = session.keys.at_hand("promoter", make=False) or session.keys.at_hand("scanner", make=False)
    place.write("json", b"")  # who reads between these lines finds no statement, not one about another file
    for ending, content in part.files.items():
        place.write(ending, content)
    place.write("sig", files.sign(statement, signer) if signer else b"")
    place.write("json", files.encoded(statement))
    wrong = sum(part.counts.get(name, 0) for name in STATES[kind])
    facts: dict[str, Scalar] = {
        "buckets": 1,
        "passed": 0,
        "rows": part.rows,
        **dict(part.counts),
        "left": part.left,
        "unread": len(part.unread),
        "signed": signer is not None,
    }
    return StageResult(
        stage=kind,
        subject=f"bucket {place.name}",
        action=_sentence(kind, part.rows, part.counts, 0),
        digest=files.digest_of(files.encoded(statement)),
        changed=True,
        seconds=time.monotonic() - started,
        facts=facts,
        rows=list(part.wrong)[:MAX_ROWS],
        reasons=list(part.unread),
        notes=[f"{count_text(part.left, 'comparison')} left for the next sweep"] if part.left else [],
        ok=not wrong and not part.unread,
        exit_code=Unavailable.exit_code if part.unread else 0,
    )


def _sentence(kind: Kind, rows: int, counts: Mapping[str, Any], busy: int) -> str:
    said = [f"{number} {name}" for name in STATES[kind] if (number := int(counts.get(name, 0)))]
    said = [f"{', '.join(said)} of {count_text(rows, 'row')}" if said else count_text(rows, "row")]
    return "; ".join([*said, *([f"{count_text(busy, 'bucket')} with other processes"] if busy else [])])


def _together(kind: Kind, bucket: str, parts: Sequence[StageResult], busy: int, seconds: float) -> StageResult:
    totals: Counter[str] = Counter()
    for each in parts:
        totals.update({name: int(value) for name, value in each.facts.items() if name != "signed"})
    rows = [row for each in parts for row in each.rows]
    unsigned = sum(each.facts.get("signed") is False for each in parts)
    told = "no key of the promoter or the scanner is here: what was found is not signed"
    left = f"{count_text(totals['left'], 'comparison')} left for the next sweep"
    return StageResult(
        stage=kind,
        subject=f"bucket {bucket}" if bucket else "all buckets",
        action=_sentence(kind, totals["rows"], totals, busy),
        changed=any(each.changed for each in parts),
        seconds=seconds,
        facts={**totals, "busy": busy, "unsigned": unsigned},
        rows=rows[:MAX_ROWS],
        reasons=[reason for each in parts for reason in each.reasons],
        notes=[*([told] if unsigned else []), *([left] if totals["left"] else [])],
        ok=all(each.ok for each in parts),
        exit_code=Unavailable.exit_code if totals["unread"] else 0,
    )


@dataclass(frozen=True)
class Found:
    """What is kept of one bucket. files: by name. signed: by a trusted key."""

    statement: Statement
    files: Mapping[str, bytes]
    signed: bool


def found_in(session: Session, kind: Kind, name: str) -> Found | None:
    """What the last sweep of a bucket found; None where there was none, or it was stopped while it wrote. Raises
    SignatureInvalid: it is signed, and not by a trusted key, or the file is another."""
    return _believed(session, kind, name, kept(session, kind, name).read)


def _believed(session: Session, kind: Kind, name: str, read: Callable[[str], bytes]) -> Found | None:
    """read: what is kept of the bucket, by its ending."""
    from registry_pipelines.report import sweeps as files

    raw, signature = read("json"), read("sig")
    if not raw:
        return None
    where = f"sweep {kind}, bucket {name}"
    verifier = session.keys.trusted_if_any()
    signed = bool(signature) and verifier is not None
    statement = (
        files.read_signed(signature, verifier, where=where)
        if signed and verifier
        else files.read_statement(raw, where=where)
    )
    if (statement.kind, statement.bucket) != (kind, name):
        raise InputError("the statement is of another bucket", where=where, do="Sweep the bucket again")
    contents = {ending: read(ending) for ending in statement.files}
    if any(files.digest_of(content) != statement.files[ending] for ending, content in contents.items()):
        raise SignatureInvalid("the statement is another file's", where=where, do="Sweep the bucket again")
    return Found(statement, contents, signed)


def every_found(session: Session, kind: Kind) -> Iterator[tuple[str, Found | RegistryPipelinesError | None]]:
    """Each bucket with what :func:`found_in` says of it, or why it cannot be believed. What is kept is read for many
    buckets together: one after the other they took 1,500 questions to a database that workers share."""
    names = buckets_of(session, kind)
    for start in range(0, len(names), READ_AT_ONCE):
        places = [kept(session, kind, name) for name in names[start : start + READ_AT_ONCE]]
        fetched = _fetched(places, {place.name: ("json", "sig") for place in places})
        fetched |= _fetched(places, {place.name: _files_named(fetched.get(f"{place.name}.json")) for place in places})
        for place in places:
            try:
                yield place.name, _believed(session, kind, place.name, partial(_one_of, fetched, place))
            except RegistryPipelinesError as error:
                yield place.name, error


def _fetched(places: Sequence[Bucket], endings: Mapping[str, Sequence[str]]) -> dict[str, bytes]:
    """Documents of several buckets by name; b"" for what is not there. endings: by bucket."""
    names = [f"{name}.{ending}" for name, some in endings.items() for ending in some]
    try:
        found = places[0].documents.read_all(names)
    except RegistryPipelinesError:
        return {}  # each is read by itself then, and says what is wrong with it
    return {name: found[name].content if name in found else b"" for name in names}


def _one_of(fetched: Mapping[str, bytes], place: Bucket, ending: str) -> bytes:
    content = fetched.get(f"{place.name}.{ending}")
    return place.read(ending) if content is None else content


def _files_named(raw: bytes | None) -> Sequence[str]:
    """The files that an unverified statement names: read beforehand, believed later."""
    from registry_pipelines.report.sweeps import read_statement

    try:
        return list(read_statement(raw, where="").files) if raw else []
    except RegistryPipelinesError:
        return []


def kind_of(text: str) -> Kind:
    """Raises InputError."""
    kinds: tuple[Kind, ...] = ("drift", "lag", "cost")
    for kind in kinds:
        if kind == text:
            return kind
    raise InputError(f"{text!r} is no sweep", do="Name drift, lag or cost")


def shown(session: Session, kind: Kind, *, parquet: Path | None = None) -> StageResult:
    """What all buckets found, together. parquet: a file for all rows. Raises InputError, ToolMissing, LocalError."""
    if kind == "cost":
        from registry_pipelines.chain.sweep_cost import folded_cost

        need_tables()
        return folded_cost(session, parquet=parquet)
    result, table = _folded(session, kind)
    if parquet is not None:
        from registry_pipelines.report.sweeps import write_table

        with local_errors(parquet):
            write_file(parquet, write_table(table))
    return result


def _folded(session: Session, kind: Kind) -> tuple[StageResult, Any]:
    """Counts of all buckets, the worst rows, how old they are, what is missing or not signed; and the rows of all that
    can be believed, as one Arrow table. Raises ToolMissing."""
    need_tables()
    import pyarrow as pa

    from registry_pipelines.report.sweeps import SCHEMAS, read_rows

    counts: Counter[str] = Counter()
    rows, unsigned, oldest = 0, 0, ""
    missing: list[str] = []
    broken: list[str] = []
    unread: list[str] = []
    tables = [SCHEMAS[kind].empty_table()]
    for name, found in every_found(session, kind):
        if isinstance(found, RegistryPipelinesError):
            broken.append(f"bucket {name}: {found}")
            continue
        if found is None:
            missing.append(name)
            continue
        try:
            tables.append(read_rows(kind, found.files["parquet"], where=f"bucket {name}"))
        except RegistryPipelinesError as error:
            broken.append(f"bucket {name}: {error}")
            continue
        counts.update(found.statement.counts)
        rows += found.statement.rows
        unsigned += not found.signed
        oldest = min(oldest or found.statement.ended, found.statement.ended)
        unread += [f"bucket {name}: {each}" for each in found.statement.unread]
    table = pa.concat_tables(tables)
    told = [f"{count_text(len(missing), 'bucket')} never swept: {', '.join(missing[:8])}"] if missing else []
    told += [f"{count_text(unsigned, 'bucket')} not signed by a trusted key"] if unsigned else []
    wrong = sum(counts[name] for name in STATES[kind])
    facts: dict[str, Scalar] = {
        "buckets": len(tables) - 1,
        "missing": len(missing),
        "broken": len(broken),
        "unsigned": unsigned,
        "unread": len(unread),
        "rows": rows,
        **counts,
        **({"oldest": oldest} if oldest else {}),
    }
    result = StageResult(
        stage=kind,
        subject="all buckets",
        action=_sentence(kind, rows, counts, 0) + (f", the oldest of {oldest}" if oldest else ""),
        facts=facts,
        rows=_worst(table, kind),
        reasons=[*broken, *unread],
        notes=told,
        ok=not (wrong or broken or missing or unread),
        exit_code=Unavailable.exit_code if broken or missing or unread else 0,
    )
    return result, table


def _worst(table: Any, kind: Kind) -> list[dict[str, Scalar]]:
    import pyarrow.compute as compute

    shown: list[dict[str, Scalar]] = []
    for state in STATES[kind]:
        for row in table.filter(compute.equal(table["state"], state)).to_pylist():
            if len(shown) == MAX_ROWS:
                return shown
            shown.append({name: _plain(value) for name, value in row.items()})
    return shown


def _plain(value: Any) -> Scalar:
    if isinstance(value, list):
        return "; ".join(map(str, value[:3]))
    return "" if value is None else value if isinstance(value, str | int | float | bool) else str(value)


__all__ = ["MOST", "Found", "Part", "buckets_of", "every_found", "found_in", "kind_of", "shown", "sweep", "swept"]
