"""What commands print: tables for people, JSON for programs."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from registry_pipelines.cli.envelope import print_json
from registry_pipelines.progress import condensed, size_text

if TYPE_CHECKING:  # rich is loaded by what draws: a tenth of the start of a command that prints JSON
    from rich.console import Console
    from rich.table import Table

    from registry_pipelines.chain.result import StageResult
    from registry_pipelines.transfer.closure.closure import Omission

PIPE_COLUMNS = 160
"""Width of tables when the output is no terminal: fixed, so that logs and tests look the same everywhere."""


_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def print_results(results: Iterable[StageResult]) -> None:
    """Results of stages as the answer to ``--json``."""
    print_json({"results": [result.plain() for result in results]})


def console() -> Console:
    """The console of stdout."""
    from registry_pipelines.cli.terminal import HarmlessConsole

    out = HarmlessConsole(highlight=False, soft_wrap=False, emoji=False)  # `mirror:m:` is a stage, and no emoji
    return out if out.is_terminal else HarmlessConsole(highlight=False, width=PIPE_COLUMNS, emoji=False)


def harmless(text: str) -> str:
    """Text without what a terminal obeys: control characters but for tabs and line ends, and turned directions."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)


def bare_digest(digest: str) -> str:
    """``0123456789ab``, for columns that hold nothing else."""
    return digest.partition(":")[2][:12]


def _table(title: str) -> Table:
    """Titles hold names: they are no markup, and ``mirror:m:`` is no emoji."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    return Table(title=Text(title, style="table.title") if title else None, title_justify="left", box=box.SIMPLE_HEAD)


def stage_table(title: str, *first: str) -> Table:
    """An empty table of stages. On a narrow terminal only words wrap, never a digest or a number."""
    table = _table(title)
    for name in first:
        table.add_column(name, overflow="fold")
    table.add_column("what was done", overflow="fold")
    table.add_column("digest", no_wrap=True)
    table.add_column("bytes", justify="right", no_wrap=True)
    table.add_column("seconds", justify="right", no_wrap=True)
    table.add_column("outcome", overflow="fold")
    return table


def results_table(results: Iterable[StageResult], *, title: str = "") -> Table:
    """Stage, subject, what was done, digest, bytes, seconds, verdict."""
    from rich.markup import escape

    table = stage_table(title, "stage", "subject")
    for result in results:
        table.add_row(
            escape(result.stage),
            escape(_subject_text(result.subject)),
            escape(result.action),
            bare_digest(result.digest),
            size_text(result.bytes_moved),
            f"{result.seconds:.1f}",
            "[green]ok[/]" if result.ok else f"[red]{result.outcome}[/]",
        )
    return table


def print_lines(sentences: Iterable[str]) -> None:
    """Reasons and notes below a table, those that are alike as one."""
    out = console()
    for line in condensed(sentences):
        one_line = line.replace("\n", " ")  # names may have line ends, and would make sentences of their own
        out.print(f"- {one_line}", markup=False, soft_wrap=True)


def print_alerts(alerts: Iterable[str]) -> None:
    """What results are not worth reading without, each once, before anything else of them."""
    for alert in dict.fromkeys(alerts):
        console().print(alert.replace("\n", " "), markup=False, soft_wrap=True, style="yellow")


def print_below(heading: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """A table below a line that is not broken: it holds a whole digest, or is long."""
    out = console()
    out.print(heading, markup=False, soft_wrap=True)
    out.print(rows_table(rows))


def rows_table(
    rows: Sequence[Mapping[str, Any]], *, title: str = "", limit: int = 50, width: int | None = None
) -> Table:
    """A table of plain rows; at most ``limit`` of them, and then how many more there are. width: characters in a line;
    columns that do not fit are left out, the last ones first."""
    from rich.markup import escape

    table = _table(title)
    columns = list(dict.fromkeys(name for row in rows for name in row))
    if width is not None:
        columns = _fitting(rows[:limit], columns, width)
    for name in columns:
        numbers = all(isinstance(row.get(name, 0), int | float) for row in rows)
        digests = any(row.get(name) for row in rows[:limit]) and all(
            _is_digest(row.get(name, "")) for row in rows[:limit]
        )
        whole = digests or (numbers and width is not None)
        table.add_column(_heading(name), overflow="fold", no_wrap=whole, justify="right" if numbers else "left")
    for row in rows[:limit]:
        table.add_row(*(escape(_cell(name, row.get(name, ""))) for name in columns))
    left_out = [_heading(name) for name in dict.fromkeys(name for row in rows for name in row) if name not in columns]
    below = [f"and {len(rows) - limit} more"] if len(rows) > limit else []
    below += [f"no room for {', '.join(left_out)}"] if left_out else []
    if below:
        table.caption = "; ".join(below)
    return table


SENTENCES = ("why", "do", "example")
"""Columns of findings that hold sentences, which no narrow column shows."""


def print_findings(title: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """All rows as a table; on a terminal that is too narrow for it as paragraphs: the short columns in one line, and a
    line for each sentence."""
    from textwrap import fill

    out = console()
    if out.width >= MIN_FINDINGS_COLUMNS:
        out.print(rows_table(rows, title=title, limit=len(rows)))
        return
    out.print(title, markup=False, style="bold")
    for row in rows:
        short = [
            _cell(name, value) if name in ("what", "how bad") else f"{_heading(name)} {_cell(name, value)}"
            for name, value in row.items()
            if name not in SENTENCES and value not in ("", None)
        ]
        lines = [f"- {', '.join(short)}", *(f"  {name}: {row[name]}" for name in SENTENCES if row.get(name))]
        for line in lines:
            # Paths stay whole, for who copies them.
            told = fill(line, out.width, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False)
            out.print(told, markup=False, soft_wrap=True)


def _cell(name: str, value: Any) -> str:
    from registry_pipelines.chain.result import cell_text  # who draws no table loads no results of stages

    return cell_text(name, value)


def _heading(name: str) -> str:
    """A column's name as words. Cells have their unit: ``size_bytes`` is ``size``."""
    return name.removesuffix("_bytes").replace("_", " ")


def _is_digest(value: Any) -> bool:
    """Or nothing; a cell shows the beginning of a digest, and half of that is no use."""
    return isinstance(value, str) and (not value or value.startswith(("sha256:", "sha512:")))


def print_omissions(left: Sequence[Omission], *, title: str) -> None:
    """What one image leaves out, below a line that sums it up; nothing where there is none."""
    if left:
        from registry_pipelines.transfer.closure import omissions

        rows = [{name: row[name] for name in row if row[name] or name != "size_bytes"} for row in omissions.rows(left)]
        print_below(f"{title}: {omissions.note(left)}", rows)


MIN_FINDINGS_COLUMNS = 140
"""Below it sentences would stand in columns of a word."""
FEWEST_COLUMNS = 3
"""What a row is about and how it stands, however narrow the terminal is."""
BETWEEN_COLUMNS = 3


def _fitting(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], width: int) -> list[str]:
    fitting: list[str] = []
    used = 1
    for name in columns:
        used += BETWEEN_COLUMNS + max([len(_heading(name)), *(len(_cell(name, row.get(name, ""))) for row in rows)])
        if used > width and len(fitting) >= FEWEST_COLUMNS:
            break
        fitting.append(name)
    return fitting


def worth_showing(rows: Sequence[Mapping[str, Any]], optional: Collection[str]) -> list[dict[str, Any]]:
    """The rows without those of the ``optional`` columns that say nothing in any of them."""
    left_out = {name for name in optional if not any(row.get(name) for row in rows)}
    return [{name: value for name, value in row.items() if name not in left_out} for row in rows]


_ABOUT_ALL = ("platform", "image")
"""Columns of packages that most often say the same in every row."""


def _told_once(rows: Sequence[Mapping[str, Any]]) -> tuple[str, list[dict[str, Any]]]:
    """What all rows say alike, and the rows without it, and without columns that say nothing in any: what is left has
    room for names that are long."""
    same = [name for name in _ABOUT_ALL if len(rows) > 1 and len({row.get(name, "") for row in rows}) == 1]
    of_all = ", ".join(_cell(name, rows[0][name]) for name in same if rows[0].get(name))
    left = {name for row in rows for name in row if not any(row.get(name) not in ("", None) for row in rows)}
    return of_all, [{name: value for name, value in row.items() if name not in left.union(same)} for row in rows]


def show_result(result: StageResult, *, as_json: bool) -> None:
    """Print one result: JSON, or a table with its rows and reasons below."""
    if as_json:
        print_results([result])
        return
    out = console()
    print_alerts(result.alerts)
    out.print(results_table([result]))
    if result.rows and all("text" in row for row in result.rows):
        print_verdict(result.rows)
        there = {row["text"] for row in result.rows}
        print_lines(note for note in result.notes if note not in there)
    else:
        if result.rows:
            of_all, rows = _told_once(result.rows)
            if of_all:
                out.print(of_all, markup=False, soft_wrap=True)
            out.print(rows_table(rows))
        print_lines([*result.reasons, *result.notes])
    print_next_steps(result.next_steps)


def print_stage_lines(results: Iterable[StageResult]) -> None:
    """Reasons and notes of several stages with the stage in front. What an earlier one said of the same subject is not
    said again: a verdict repeats the scan."""
    said: set[tuple[str, str]] = set()
    for result in results:
        told = [*result.reasons, *result.notes]
        for line in condensed(each for each in told if (result.subject, each) not in said):
            console().print(f"- {result.stage}: {line}", markup=False, soft_wrap=True)
        said.update((result.subject, each) for each in told)


_VERDICT_HEADINGS = {"reason": "Why it may not ship:", "accepted": "Accepted by the policy:", "note": "Noted:"}


def print_verdict(rows: Sequence[Mapping[str, Any]]) -> None:
    """A verdict's rows as lines below what they are about."""
    for kind, heading in _VERDICT_HEADINGS.items():
        texts = [row["text"] for row in rows if row["about"] == kind]
        if texts:
            console().print(heading)
            print_lines(texts)


def print_next_steps(steps: Sequence[str]) -> None:
    """What to do, numbered; nothing where there is nothing to do. Commands stand in one line, to be copied."""
    out = console()
    if steps:
        out.print("Do this, in this order:")
    for number, step in enumerate(steps, 1):
        out.print(f"  {number}. {step}", markup=False, soft_wrap=True)


def _subject_text(subject: str) -> str:
    return subject.partition("@")[0]  # the digest has a column of its own
