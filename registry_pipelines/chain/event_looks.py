"""What a person sees of registries' events: whether their queues answer, what waits there, what was told last."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence

from registry_pipelines.chain.events import folder_of, settings_of, source_of, told_registries
from registry_pipelines.chain.result import Scalar, StageResult
from registry_pipelines.chain.session import Session
from registry_pipelines.errors import InputError, RegistryPipelinesError
from registry_pipelines.events.aside import Unreadable, read_aside
from registry_pipelines.events.model import OF_IMAGES, kind_of
from registry_pipelines.events.source import Received
from registry_pipelines.events.told import Fact, read_told
from registry_pipelines.progress import count_text

HELD_S = 5
"""For so long what is shown is held back from the sensor."""
MAX_SHOWN = 50
"""Facts and unreadable messages that one table names; the newest."""


def check_events(session: Session, names: Collection[str] = ()) -> StageResult:
    """Ask the queues of some registries, or of all that have one, and read what they told; no message is touched. Not
    ``ok`` where a queue does not answer. Raises InputError where no registry has events."""
    started = time.monotonic()
    registries = list(names) or told_registries(session.config)
    if not registries:
        raise InputError("no registry has `events`", do="Name its queue: registries.NAME.events (docs/events.md)")
    rows: list[dict[str, Scalar]] = []
    reasons: list[str] = []
    notes: list[str] = []
    told: list[Fact] = []
    aside: list[tuple[str, str, Unreadable]] = []
    for name in registries:
        settings_of(session, name)
        folder = folder_of(session, name)
        facts, unreadable = read_told(folder), read_aside(folder.under("aside"))
        told += facts
        aside += [(name, file, each) for file, each in unreadable.items()]
        row, said, problem = _asked(session, name)
        rows.append({**row, "unreadable": len(unreadable), "failed": sum(not fact.ok for fact in facts)})
        notes += [f"{name}: {each}" for each in said]
        reasons += [problem] if problem else []
    failed = [fact for fact in told if not fact.ok]
    return StageResult(
        stage="events",
        subject=", ".join(registries),
        action=f"{count_text(len(registries), 'queue')} asked",
        seconds=time.monotonic() - started,
        facts={"unreadable": len(aside), "failed": len(failed), "told": len(told)},
        rows=rows,
        tables={
            "told": [_fact(fact) for fact in sorted(told, key=lambda fact: fact.ok)[:MAX_SHOWN]],
            "unreadable": [
                {"registry": name, "file": file, "at": each.at, "problem": each.problem, "begins": each.body[:80]}
                for name, file, each in aside[:MAX_SHOWN]
            ],
        },
        reasons=reasons,
        notes=notes,
        ok=not reasons,
        exit_code=7 if reasons else 0,
    )


def _asked(session: Session, name: str) -> tuple[dict[str, Scalar], Sequence[str], str]:
    source = source_of(session, name)
    row: dict[str, Scalar] = {"registry": name, "queue": source.where}
    try:
        state = source.state()
    except RegistryPipelinesError as error:
        return {**row, "answers": False, "waiting": "", "held": ""}, (), f"{name}: {error}"
    numbers: dict[str, Scalar] = {
        field: "not told" if count < 0 else count for field, count in (("waiting", state.waiting), ("held", state.held))
    }
    return {**row, "answers": True, **numbers}, state.notes, ""


def _fact(fact: Fact) -> dict[str, Scalar]:
    return {
        "at": fact.at,
        "about": fact.topic,
        "repository": fact.repository,
        "digest": fact.digest,
        "from": fact.source,
        "ok": fact.ok,
        "said": fact.said,
    }


def show_events(session: Session, registry: str, *, most: int) -> StageResult:
    """What waits in a queue now, up to so many messages. They stay there, held back from the sensor for some seconds;
    the queue counts that they were received. Raises as EventSource."""
    started = time.monotonic()
    found = source_of(session, registry).receive(most, hold_s=HELD_S)
    return StageResult(
        stage="events",
        subject=registry,
        action=count_text(len(found), "message"),
        seconds=time.monotonic() - started,
        facts={"messages": len(found), "unreadable": sum(each.event is None for each in found)},
        rows=[_row(each) for each in found],
    )


def _row(received: Received) -> dict[str, Scalar]:
    event = received.event
    if event is None:
        return {"at": "", "what": "unreadable", "registry": "", "repository": "", "tag": "", "said": received.problem}
    about = event if isinstance(event, OF_IMAGES) else None
    return {
        "at": event.at,
        "what": kind_of(event),
        "registry": event.registry,
        "repository": about.repository if about else "",
        "tag": (about.tag or about.digest) if about else "",
        "said": str(getattr(event, "status", "")),
    }
