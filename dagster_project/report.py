"""How a stage's result is shown in Dagster: metadata, tables, data versions and refusals."""

import re
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import dagster as dg
from dagster._core.errors import DagsterUserCodeProcessError
from dagster_shared.error import SerializableErrorInfo

from registry_pipelines.chain import Chain, StageResult
from registry_pipelines.chain.result import cell_text
from registry_pipelines.errors import EvidenceError, PromotionDenied, RegistryPipelinesError
from registry_pipelines.progress import size_text
from registry_pipelines.report.html.plots import Plot, draw
from registry_pipelines.tally import bulletins

MAX_TABLE_ROWS = 50
"""Rows of one metadata table. 1,000 rows of 5 columns make an event of 155 KB, kept for ever; the whole report is an
artifact in the registry, found by its digest."""
MAX_RETRIES = 2
RETRY_AFTER_S = 10
"""Seconds before a step whose registry could not be reached tries again, when the registry did not say. The client has
tried several times before that."""
LONGEST_WAIT_S = 600
"""A step does not wait longer for its registry: a run that sleeps for a quota's six hours looks as if it hung."""

BAR_CHARACTERS = 32
"""Of a bar in a chart of text; with its label and sum it fits the column of an asset's page."""

NO_BREAK = "\N{NO-BREAK SPACE}"
"""Between a number and its unit; the UI's columns are narrow."""

OUTCOME_TAG = "registry-pipelines/outcome"
"""Run tag: how a release's run ended. ``held``: it is allowed, and waits for a person; ``held: recording``: for what
its policy wants before. A run that failed without the tag was stopped, or a mistake in the code ended it."""
Outcome = Literal[
    "promoted",
    "denied",
    "held",
    "held: recording",
    "held: measurement",
    "held: approval",
    "held: deployment",
    "held: time",
    "failed",
]
HELD: Mapping[str, Outcome] = {
    "recording": "held: recording",
    "measurement": "held: measurement",
    "approval": "held: approval",
    "deployment": "held: deployment",
    "time": "held: time",
}
"""By what a release is held for, as PromotionHeld says."""

Step = dg.AssetExecutionContext | dg.OpExecutionContext
"""The context of a step: an asset's, or that of an op which only reports assets."""

_BYTES = re.compile(r"_bytes$|^bytes_(?!per_)")

Metadata = dict[str, Any]
"""Metadata by name, as Dagster takes it."""
if TYPE_CHECKING:
    Materialized = dg.MaterializeResult[Any]
else:  # Dagster knows the bare class only: with a parameter it asks for a tuple as soon as there is a check
    Materialized = dg.MaterializeResult


def facts(result: StageResult) -> Metadata:
    """Metadata of a result under stable names, so that Dagster charts the numbers over time.

    ``alerts`` (first), ``reasons`` (a Markdown list: it is what people look for), ``next_steps`` (what leads to a pass,
    in order), ``notes`` (what was left out), further tables by their names, the stage's own facts, action, digest,
    changed, bytes_moved (bytes), seconds, ``sizes`` (the large numbers of bytes in words: a chart wants a number, a
    person does not), ``rows`` (the first 50, as a table), and the number of rows of each table.
    """
    shown: Metadata = {"alerts": bullets(result.alerts)} if result.alerts else {}
    shown |= {"reasons": bullets(result.reasons)} if result.reasons else {}
    shown |= {"next_steps": numbered(result.next_steps)} if result.next_steps else {}
    shown |= {"notes": bullets(result.notes)} if result.notes else {}
    shown |= {name: table(rows) for name, rows in result.tables.items() if rows}
    shown |= {name: value for name, value in result.facts.items() if name != "reasons"}
    shown |= {
        "action": result.action,
        **({"digest": result.digest} if result.digest else {}),
        "changed": result.changed,
        "bytes_moved": result.bytes_moved,
        "seconds": round(result.seconds, 3),
    }
    if sizes := _sizes(shown):
        shown["sizes"] = sizes
    if result.rows:
        shown |= {"rows": table(result.rows), "row_count": len(result.rows)}
    return shown | {f"{name}_rows": len(rows) for name, rows in result.tables.items()}


def _sizes(shown: Metadata) -> str:
    """``image 72.0 MiB, moved 75.2 MiB``: of the numbers under names with ``bytes``, those that are hard to read."""
    found = {name: value for name, value in shown.items() if isinstance(value, int) and _BYTES.search(name)}
    large = {_BYTES.sub("", name).replace("_", " "): value for name, value in found.items() if value >= 1 << 20}
    return ", ".join(f"{name} {size_text(value)}" for name, value in large.items())


def stacked(
    rows: Sequence[Mapping[str, Any]],
    label: str,
    parts: Mapping[str, tuple[str, str]],
    *,
    unit: Callable[[int], str] = size_text,
) -> Any:
    """A bar for each row that adds some of its counts up, drawn in text, with a legend below. label: the column that
    names a row. parts: column to its letter in the bar and its word in the legend. unit: writes a sum; bytes unless
    told."""
    width = max((len(str(row[label])) for row in rows), default=0)
    longest = max((sum(row[part] for part in parts) for row in rows), default=0)
    lines = []
    for row in rows:
        ends, bar = 0, ""
        for part, (letter, _) in parts.items():
            ends += row[part]
            bar += letter * ((round(BAR_CHARACTERS * ends / longest) if longest else 0) - len(bar))
        lines.append(f"{row[label]!s:{width}}  {bar:{BAR_CHARACTERS}}  {unit(ends)}")
    legend = "   ".join(f"{letter} {word}" for letter, word in parts.values())
    return dg.MetadataValue.md("```text\n" + "\n".join([*lines, "", legend]) + "\n```")


def table(rows: Sequence[Mapping[str, Any]]) -> dg.TableMetadataValue:
    """At most 50 rows as a metadata table. Dagster wants the same fields in every row: an absent one becomes empty."""
    fields = list(dict.fromkeys(name for row in rows for name in row))
    records = [
        dg.TableRecord({name: _cell(name, row.get(name, "")) for name in fields}) for row in rows[:MAX_TABLE_ROWS]
    ]
    return dg.MetadataValue.table(records=records)


def _cell(name: str, value: Any) -> Any:
    """Sizes and digests as people read them, in one line; other values as they are."""
    if "bytes" not in name and name != "digest":
        return value
    return cell_text(name, value).replace(" ", NO_BREAK)


def image(png: bytes, words: str) -> dg.MarkdownMetadataValue:
    """A picture, in the event itself: pages of the UI load nothing from elsewhere. words: for who does not see it."""
    return dg.MetadataValue.md(f"![{words}](data:image/png;base64,{b64encode(png).decode()})")


def bullets(lines: Sequence[str]) -> dg.MarkdownMetadataValue:
    """Sentences as a Markdown list."""
    return dg.MetadataValue.md("\n".join(f"- {line}" for line in lines))


def numbered(lines: Sequence[str]) -> dg.MarkdownMetadataValue:
    """What to do, in order, as a Markdown list."""
    return dg.MetadataValue.md("\n".join(f"{number}. {line}" for number, line in enumerate(lines, 1)))


def observed(asset: str, key: str, outcome: Outcome, shown: Metadata, what: str = "") -> dg.AssetObservation:
    """What became of a partition that is not materialized, for its events. what: the same in a sentence."""
    return dg.AssetObservation(asset, partition=key, metadata={"outcome": outcome} | shown, description=what or None)


def denial(error: EvidenceError) -> Metadata:
    """Why a gate said no, and what to do next."""
    if not isinstance(error, PromotionDenied):
        return {"reasons": bullets([error.what])}
    steps = {"next_steps": numbered(error.next_steps)} if error.next_steps else {}
    return {"reasons": bullets(error.reasons), **steps}


class Answered(DagsterUserCodeProcessError, dg.Failure):
    """The library said what is wrong, where, and what to do: the step and its run end as failed, so that the partition
    is red, and are not tried again; but it is an answer and no crash. Dagster shows a stack trace of every exception
    but this kind's, which brings the text to show with it (``serializable_error_info_from_exc_info``)."""

    outcome = ""

    def __init__(self, description: str, metadata: Metadata) -> None:
        shown = f"{self.outcome}: {description}" if self.outcome else description
        told = SerializableErrorInfo(shown, stack=[], cls_name=None)
        DagsterUserCodeProcessError.__init__(self, description, user_code_process_error_infos=[told])  # type: ignore[no-untyped-call]
        dg.Failure.__init__(self, description, metadata, allow_retries=False)


class Denied(Answered):
    """A gate said no."""

    outcome = "denied"


def materialized(
    result: StageResult, *checks: dg.AssetCheckResult, more: Mapping[str, Any] | None = None
) -> Materialized:
    """The materialization of a result; its digest is the data version. Made only after the act has succeeded: what is
    yielded before an exception stays recorded. more: further metadata."""
    version = dg.DataVersion(result.digest) if result.digest else None
    return Materialized(metadata={**(more or {}), **facts(result)}, data_version=version, check_results=list(checks))


def succeeded(context: Step, result: StageResult, **more: Any) -> Materialized:
    """Like :func:`materialized`, for stages that have no check: raises :class:`Answered` when the result is not ok, and
    tags the run. more: further metadata."""
    shown = more | facts(result)
    if not result.ok:
        tag_outcome(context, "failed")
        reasons = "; ".join(result.reasons[:MAX_TABLE_ROWS])
        raise Answered(f"{result.action}: {reasons}", shown)
    version = dg.DataVersion(result.digest) if result.digest else None
    return Materialized(metadata=shown, data_version=version)


@contextmanager
def progress_in_log(context: dg.AssetExecutionContext, chain: Chain) -> Iterator[Chain]:
    """The chain with its copies' progress in the run's log: a line each ten seconds and each ten per cent, with bytes,
    rate and the time that is left; one with the sums at the end."""
    with bulletins(context.log.info) as progress:
        yield chain.with_progress(progress)


@contextmanager
def refusals(context: Step) -> Iterator[None]:
    """Turn the library's errors into what Dagster does about them, and tag the run with its outcome.

    A denial (a gate's no): :class:`Denied`, the outcome ``denied``. Temporary errors (a registry is down or slow): the
    step is tried again, unless the registry wants to be left alone for longer than ten minutes. Lasting ones:
    :class:`Answered`. Both have the outcome ``failed`` in the end, and metadata that say what, where,
    and what to do. Other exceptions are mistakes in the code and pass as they are.
    """
    try:
        yield
    except EvidenceError as error:
        tag_outcome(context, "denied")
        raise Denied(str(error), {"outcome": "denied", **denial(error), **error.diagnostics()}) from error
    except RegistryPipelinesError as error:
        wait_s = getattr(error, "retry_after_s", None) or RETRY_AFTER_S
        again = error.temporary and wait_s <= LONGEST_WAIT_S
        if not again or context.retry_number >= MAX_RETRIES:
            tag_outcome(context, "failed")
        if again:
            raise dg.RetryRequested(max_retries=MAX_RETRIES, seconds_to_wait=wait_s) from error
        raise Answered(str(error), dict(error.diagnostics())) from error


def tag_outcome(context: Step, outcome: Outcome) -> None:
    """Say on the run how its release ended, for lists of runs, filters and alerts."""
    context.instance.add_run_tags(context.run.run_id, {OUTCOME_TAG: outcome})


MOST_POINTS = 300
"""Of a line in a picture of an event: events are kept for ever, and one of 7 lines stays below 60 KB."""


def plot(found: Plot) -> dg.MarkdownMetadataValue:
    """Numbers over time as a picture in the event itself, on white; what was not measured says so."""
    if not found.measured:
        return dg.MetadataValue.md(f"Not measured: {found.why}")
    drawn = b64encode(draw(found, alone=True, most=MOST_POINTS).encode()).decode()
    words = found.told().replace("[", "(").replace("]", ")")
    return dg.MetadataValue.md(f"![{words}](data:image/svg+xml;base64,{drawn})")


def plotted(plots: Sequence[Plot]) -> Metadata:
    """Plots as metadata, each under its name."""
    return {f"plot_{each.name.replace('-', '_')}": plot(each) for each in plots}
