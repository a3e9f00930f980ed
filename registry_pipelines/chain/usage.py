"""Who runs what, over the configuration: every source asked, shown, and kept in a file."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from registry_pipelines.chain.result import Scalar, StageResult
from registry_pipelines.chain.session import Session
from registry_pipelines.errors import InputError, RegistryPipelinesError, Unavailable
from registry_pipelines.progress import age_text, count_text
from registry_pipelines.settings import unknown
from registry_pipelines.threads import Pool

if TYPE_CHECKING:  # sources are loaded where one is configured
    from registry_pipelines.inventory.usage.model import Answer, UsageSource, Use

SOURCES_AT_ONCE = 4
"""One that does not answer costs a minute or two."""


def asked(session: Session, names: Iterable[str] = ()) -> list[Answer]:
    """What the sources say (all of the configuration unless named), in their order. Raises InputError for an unknown
    name."""
    wanted = list(dict.fromkeys(names)) or list(session.config.usage)
    for name in wanted:
        if name not in session.config.usage:
            raise InputError(unknown(name, session.config.usage, "source of usage"), do="Name one of `usage`")
    with Pool(SOURCES_AT_ONCE, "usage") as pool:
        return list(pool.map(lambda name: _ask(session, name), wanted))


def _ask(session: Session, name: str) -> Answer:
    from registry_pipelines.chain.usage_sources import open_source
    from registry_pipelines.inventory.usage.model import Answer, Dated

    began, problem = session.now(), ""
    uses: list[Use] = []
    source: UsageSource | None = None
    try:
        source = open_source(session, name)
        for use in source.uses():
            uses.append(use)  # what came before it failed counts
    except RegistryPipelinesError as error:
        problem = str(error)
    at = source.answered if isinstance(source, Dated) else began
    return Answer(source=name, at=at, uses=tuple(uses), notes=tuple(source.notes) if source else (), problem=problem)


def told(session: Session, names: Sequence[str] = (), *, save: Path | None = None) -> StageResult:
    """What every source says, as a result; not ``ok`` when one did not answer. save: a file to keep it in, for a source
    of kind ``file``; what did not answer stands in it. Raises InputError: without any, too; LocalError."""
    started = time.monotonic()
    if not names and not session.config.usage:
        raise InputError(
            "no source of `usage` is configured: who runs what is not known", do="Name one: docs/inventory.md"
        )
    answers = asked(session, names)
    if save is not None:
        from registry_pipelines.inventory.usage.files import write_saved

        write_saved(save, answers, session.now())
    failed = {each.source: each.problem for each in answers if each.problem}
    rows = [_row(session, each, use) for each in answers for use in each.uses]
    missing = f"; {count_text(len(failed), 'source')} did not answer" if failed else ""
    return StageResult(
        stage="usage",
        subject=", ".join(each.source for each in answers),
        action=f"{count_text(len(rows), 'use')} of {count_text(len({row['image'] for row in rows}), 'image')}{missing}",
        seconds=time.monotonic() - started,
        facts={"sources": len(answers), "uses": len(rows), "unanswered": len(failed)},
        rows=rows,
        tables={"sources": [_source_row(session, each) for each in answers]},
        reasons=[f"{name}: {why}" for name, why in failed.items()],
        notes=list(dict.fromkeys(note for each in answers for note in each.notes)),
        ok=not failed,
        exit_code=Unavailable.exit_code if failed else 0,
    )


def _row(session: Session, answer: Answer, use: Use) -> dict[str, Scalar]:
    return {
        "source": use.source,
        "image": use.image,
        "digest": str(named.digest or "") if (named := use.reference()) else "",
        "config": use.config,
        "where": use.where,
        "since": _ago(session, use.since) if use.since else "",
        "how": "pulled" if use.weak else "runs" if use.running else "may start",
        "answered": _ago(session, answer.at),
    }


def _source_row(session: Session, answer: Answer) -> dict[str, Scalar]:
    """What a source could veto, and how old what it says is."""
    settings = session.config.usage[answer.source]
    return {
        "source": answer.source,
        "kind": settings.kind,
        "uses": len(answer.uses),
        "answered": "" if answer.problem else _ago(session, answer.at),
        "registries": ", ".join(settings.registries) or "all",
        "repositories": ", ".join(settings.repositories),
        "problem": answer.problem,
    }


def _ago(session: Session, moment: datetime) -> str:
    return f"{age_text((session.now() - moment).total_seconds())} ago"
