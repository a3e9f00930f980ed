"""``demo``: the whole chain on embedded registries, run by Dagster in a child process."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from msgspec import to_builtins
from rich.console import Console
from rich.markup import escape

from registry_pipelines.chain import Chain, StageResult
from registry_pipelines.chain.outcome import Outcome, outcomes
from registry_pipelines.chain.result import READING
from registry_pipelines.chain.serving import ensure_registries
from registry_pipelines.cli.context import Options, common
from registry_pipelines.cli.costing import show_cost
from registry_pipelines.cli.demo_bases import DemoBases, push_demo_bases
from registry_pipelines.cli.envelope import print_json
from registry_pipelines.cli.output import (
    bare_digest,
    console,
    stage_table,
)
from registry_pipelines.cli.serving import prepare_dagster_home
from registry_pipelines.config import ENVIRONMENT_VARIABLE, FILE_NAME, Config, load
from registry_pipelines.errors import EvidenceError, LocalError, ToolMissing
from registry_pipelines.interrupts import CHILDREN
from registry_pipelines.progress import condensed, size_text
from registry_pipelines.release import Release

CHECKOUT_FOLDER = Path("deploy") / "demo"
"""Of the demonstration in a checkout; there it runs in place."""
OWN_FOLDER = Path("registry-pipelines-demo")
"""Where it is written to elsewhere."""
SHIPPED = Path(__file__).parents[1] / "data" / "demo"
"""The demonstration as it is installed."""
EXPECTED = {"forecaster": True, "recommender": False}
"""The demonstration's images, and whether each ships. Images of other names may do either."""

STDERR = 2
"""Our own stdout is for the answer alone, so what the child prints goes where messages go."""

PROBLEMS_SHOWN = 5

POLL_S = 0.1
"""How often the events file is looked at; a person sees a stage at once."""

Event = dict[str, Any]
_STYLES = {"ok": "green", "denied": "yellow", "held": "yellow", "failed": "red", "skipped": "dim"}


@click.command("demo")
@click.option("--bases", is_flag=True, help="Push the base images that the sync takes, and nothing else.")
@common
def demo(options: Options, bases: bool) -> None:
    """Build two images and take them through the whole chain with Dagster, on five registries served from here.

    The first ships to two replicas and across the air gap; the second has a critical vulnerability and is denied. A
    repository of base images is brought to both replicas, too. Ends with 0 when the registries, read again, show
    exactly that. A second run changes nothing. Last it says what the registries would cost, by prices that are made up.
    With --bases the rest is left to whoever launches it, as on many machines.
    """
    config = load(find_demo_config(options))
    prepare_dagster_home(config)
    started = time.monotonic()
    with ensure_registries(config) as served:
        for each in served:
            click.echo(f"{each.name}: {each.url}", err=True)
        there = push_demo_bases(config, Chain(config))
        if bases:
            _show_bases(options, there, time.monotonic() - started)
            return
        events, code = _run_dagster(config, quiet=options.quiet)
        releases = list(dict.fromkeys(event["release"] for event in events if event["release"]))
        release_outcomes = [outcomes(Chain(config), Release.parse(key)) for key in releases]
        cost = _cost(config)
    seconds = time.monotonic() - started
    problems = find_problems(events, release_outcomes, code)
    if options.as_json:
        print_json(
            {
                "seconds": round(seconds, 1),
                "events": events,
                "outcomes": [each.plain() for each in release_outcomes],
                "problems": problems,
                "cost": cost.plain() if cost else None,
            }
        )
    else:
        _show(config, events, release_outcomes, seconds, cost)
    if code:
        raise LocalError(f"the Dagster job ended with code {code}: {few_problems(problems)}")
    if problems:
        raise EvidenceError(f"the outcome is not the expected one: {few_problems(problems)}")


def _show_bases(options: Options, there: list[DemoBases], seconds: float) -> None:
    if options.as_json:
        print_json({"seconds": round(seconds, 1), "bases": to_builtins(there)})
        return
    for each in there:
        click.echo(each.sentence())
    if not there:
        click.echo("no sync of an embedded registry takes them")


def _cost(config: Config) -> StageResult | None:
    """What the registries would cost by the demonstration's made-up prices; None without the libraries of tables."""
    try:
        return Chain(config).cost()
    except ToolMissing as error:
        click.echo(f"no cost table: {error}", err=True)
        return None


def find_demo_config(options: Options) -> Path:
    """``--config``, the environment variable, or the demonstration's own file: the one of the checkout we are in, else
    one in a folder of its own here, written when it is not there yet. Raises LocalError."""
    if options.config_file or os.environ.get(ENVIRONMENT_VARIABLE):
        path = options.find_config()
        assert path is not None  # noqa: S101 - one of both is set
        return path
    if (CHECKOUT_FOLDER / FILE_NAME).exists():
        return CHECKOUT_FOLDER / FILE_NAME
    return write_demo(OWN_FOLDER)


def write_demo(folder: Path) -> Path:
    """Write the demonstration's configuration and applications where they are not yet; what is there stays, so that a
    person may change it and run it again. Returns the configuration's path. Raises LocalError."""
    path = folder / FILE_NAME
    if not path.exists():
        try:
            shutil.copytree(SHIPPED, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__", ".*"))
        except OSError as error:
            raise LocalError(
                f"the demonstration cannot be written: {error}",
                where=str(folder.absolute()),
                do="Run it in a folder that you may write to",
            ) from error
    return path


def _run_dagster(config: Config, *, quiet: bool) -> tuple[list[Event], int]:
    """Run the job in a child, tell each finished stage on stderr; the events and the child's exit code."""
    events: list[Event] = []
    with tempfile.TemporaryDirectory(prefix="registry-pipelines-") as folder:
        path = Path(folder) / "events.jsonl"
        path.touch()
        command = [sys.executable, "-m", "dagster_project.demo", "--config", str(config.path), "--events", str(path)]
        environment = {**os.environ, ENVIRONMENT_VARIABLE: str(config.path)}
        with subprocess.Popen(command, env=environment, stdout=STDERR) as process, _ticker(quiet) as tick:
            CHILDREN.add(process)
            try:
                for event in _follow(path, process, tick):
                    events.append(event)
                    if not quiet:
                        click.echo(_line(event), err=True)
            except BaseException:
                process.terminate()  # it ends its own children, and is waited for; see interrupts
                raise
            finally:
                CHILDREN.discard(process)
        return events, process.returncode


@contextmanager
def _ticker(quiet: bool) -> Iterator[Callable[[], None]]:
    """On a terminal a line that shows that work goes on, and for how long; elsewhere nothing."""
    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        yield lambda: None
        return
    started = time.monotonic()
    with console.status("") as status:
        yield lambda: status.update(f"{time.monotonic() - started:.0f} s")


def _follow(path: Path, process: subprocess.Popen[bytes], tick: Callable[[], None]) -> Iterator[Event]:
    with path.open(encoding="utf-8") as file:
        rest = ""
        while True:
            ended = process.poll() is not None
            rest += file.read()
            *lines, rest = rest.split("\n")
            for line in lines:
                yield json.loads(line)
            if ended:
                return
            tick()
            time.sleep(POLL_S)


def _name(event: Event) -> str:
    return str(event["release"]).partition("@")[0] or str(event["subject"])


def _is_unchanged(event: Event) -> bool:
    return not event["changed"] and event["status"] in ("ok", "denied") and event["stage"] not in READING


def _line(event: Event) -> str:
    same = _is_unchanged(event) and "unchanged" not in event["action"]
    facts = [
        event["action"],
        "unchanged" if same else "",
        size_text(event["bytes_moved"]) if event["bytes_moved"] else "",
        f"{event['seconds']:.1f} s",
    ]
    text = f"{event['status']:<8}{_name(event):<24}{event['stage']:<22}{', '.join(filter(None, facts))}"
    reasons = event["reasons"] if event["status"] in ("denied", "failed") else []
    return "\n".join([text, *(f"{'':<8}- {reason}" for reason in reasons)])


def few_problems(problems: list[str]) -> str:
    """The first of them in one sentence: a release that is nowhere has a hundred things that are missing."""
    left = len(problems) - PROBLEMS_SHOWN
    return "; ".join(problems[:PROBLEMS_SHOWN]) + (f"; and {left} more, which `--json` lists" if left > 0 else "")


def find_problems(events: list[Event], release_outcomes: list[Outcome], code: int) -> list[str]:
    """Everything in which a run is not as expected: failed stages, registries that contradict the verdict, an image of
    the demonstration that ships or is denied against expectation, nothing shipped. code: the child's exit code."""
    problems = [f"{_name(each)} {each['stage']}: {each['action']}" for each in events if each["status"] == "failed"]
    for outcome in release_outcomes:
        problems += outcome.problems
        expected = EXPECTED.get(outcome.release.image)
        if expected is not None and outcome.ships != expected:
            problems.append(f"{outcome.release.image} {'was denied' if expected else 'ships'}")
    if not any(outcome.ships or outcome.waits for outcome in release_outcomes):
        problems.append("no release ships")
    return problems or ([f"exit code {code}"] if code else [])


def _show(
    config: Config, events: list[Event], release_outcomes: list[Outcome], seconds: float, cost: StageResult | None
) -> None:
    out = console()
    table = stage_table("", "release", "stage")
    for event in events:
        style = _STYLES.get(event["status"], "bold")
        table.add_row(
            escape(_name(event)),
            escape(event["stage"]),
            escape(event["action"]),
            bare_digest(event["digest"]),
            size_text(event["bytes_moved"]),
            f"{event['seconds']:.1f}",
            f"[{style}]{event['status']}[/]" + (", unchanged" if _is_unchanged(event) else ""),
        )
    out.print(table)
    for outcome in release_outcomes:
        out.print(outcome.sentence(), markup=False)
        for reason in condensed(outcome.reasons):
            out.print(f"  - {reason}", markup=False)
    moved = f"{size_text(sum(event['bytes_moved'] for event in events))} moved"
    if not any(event["changed"] or event["status"] == "failed" for event in events):
        moved = "unchanged: everything was there already, looked at"
    out.print(f"{moved} in {seconds:.1f} s. State: {config.state}", markup=False)
    command = shlex.join([sys.argv[0], "dev", "--config", os.path.relpath(config.path)])
    out.print(f"Open the Dagster UI on this state: {command}, then http://127.0.0.1:3000", markup=False, soft_wrap=True)
    if cost is not None:
        out.print()
        show_cost(cost)


COMMANDS = [demo]
