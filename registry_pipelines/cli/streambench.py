"""``stream bench``: how long an image takes to start, in each way that a node has."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from registry_pipelines.cli.context import Options, SizeType, common
from registry_pipelines.cli.envelope import print_json
from registry_pipelines.cli.names import IMAGES
from registry_pipelines.cli.output import console, harmless
from registry_pipelines.cli.pullbench import pull
from registry_pipelines.cli.references import named
from registry_pipelines.errors import InputError

if TYPE_CHECKING:
    from registry_pipelines.progress import Progress
    from registry_pipelines.settings import Size
    from registry_pipelines.stream.bench.preparing import Prepared
    from registry_pipelines.stream.bench.ways import Setting, Way

DEFAULT_LINK = 1.0
"""Gbit/s."""
DEFAULT_ROUNDS = 3
CACHED = 0.8
"""What a node of ``docker-cached`` has already of the bytes, at most."""

TARGET = (
    "TARGET is a release of the configuration or any image reference. It is copied into a registry of the benchmark's "
    "own, below --work, and its other forms are made there; nothing is written where it came from. A node is a network "
    "namespace behind a link; a way that this machine cannot go is a row that says why."
)


@click.group("bench")
def bench_group() -> None:
    """Measure how long images take to start, or to be pulled."""


@bench_group.command("start", epilog=TARGET, short_help="Time the start of an image in each way that a node has.")
@click.argument("target", shell_complete=IMAGES)
@click.argument("command", nargs=-1, metavar="[-- CMD [ARGUMENT]...]")
@click.option("--rounds", type=click.IntRange(1, 99), default=DEFAULT_ROUNDS, show_default=True, help="Of all ways.")
@click.option("--way", "ways", multiple=True, metavar="WAY", help="Only this one; may be repeated. All unless told.")
@click.option(
    "--link", type=click.FloatRange(0), default=DEFAULT_LINK, show_default=True, help="Gbit/s; 0: no link of its own."
)
@click.option("--nodes", type=click.IntRange(1, 250), default=1, show_default=True, help="That start at once.")
@click.option("--until", default="", metavar="TEXT", help="RESULT is the line with this text; unless told the end.")
@click.option("--timeout", type=click.IntRange(1), default=900, show_default=True, help="Seconds, of one start.")
@click.option("--baseline", default="", metavar="TARGET", help="The unoptimised image, which Docker pulls, too.")
@click.option(
    "--replay",
    "trace",
    default="",
    metavar="FILE[:NAME]",
    help="In place of CMD touch the pages of a start that was recorded elsewhere, in its order and with its pauses; "
    "of an archive NAME.json.",
)
@click.option("--warm", type=click.FloatRange(0, min_open=True), help="Seconds that a --replay takes from memory.")
@click.option(
    "--window",
    type=SizeType(),
    metavar="SIZE",
    help="Of the hot pack: what the kernel reads beyond what is asked for; what `stream pack` takes unless told.",
)
@click.option("--fill/--no-fill", default=False, show_default=True, help="Lazy ways fetch the rest meanwhile, too.")
@click.option("--work", type=click.Path(path_type=Path), metavar="DIR", help="Keeps what is prepared for the next run.")
@click.option("--out", type=click.Path(path_type=Path), metavar="DIR", help="For a page, pictures and JSON.")
@common
def start(
    options: Options,
    target: str,
    command: tuple[str, ...],
    rounds: int,
    ways: tuple[str, ...],
    link: float,
    nodes: int,
    until: str,
    timeout: int,
    baseline: str,
    trace: str,
    warm: float | None,
    window: Size | None,
    fill: bool,
    work: Path | None,
    out: Path | None,
) -> None:
    """Time the start of an image in each way that a node has: Docker, a whole pull, lazily, local files.

    Two clocks: STARTED, until the first output, and RESULT, until the answer; the second is what a start costs. Each
    begins when the command is given, on a node that has nothing, with all files forgotten. Ways take turns; figures are
    medians. Needs root for the link, for Docker and for cold caches; what is missing is said in its row.

    With --nodes so many cold nodes start at once over one link, each way for itself: p50, p99, refused requests.
    """
    from registry_pipelines.stream.bench.report import document, write
    from registry_pipelines.stream.bench.rounds import start_crowd, take_turns

    chosen = _chosen(ways, crowd=nodes > 1, baseline=bool(baseline))
    with _prepared(options, target, command, chosen, until, baseline, trace, warm, window, work) as (
        image,
        unoptimised,
        workload,
    ):
        with _setting(image, workload, link, nodes, timeout, fill, unoptimised) as (setting, notes):
            say = _say(options)
            for note in notes:
                say(note)
            measured = take_turns(chosen, setting, rounds, say) if nodes == 1 else None
            crowds = [start_crowd(way, setting, nodes) for way in chosen] if nodes > 1 else []
            said = document(setting, measured, crowds, {"notes": notes, "workload": workload.told})
        paths = write(out, said, measured) if out else []
    if options.as_json:
        print_json({"start": said})
        return
    _show(said, paths)


def _chosen(names: Sequence[str], *, crowd: bool, baseline: bool) -> list[Way]:
    """Raises InputError."""
    from registry_pipelines.settings import unknown
    from registry_pipelines.stream.bench.ways import BASELINE, LOCAL, WAYS, Docker

    for name in names:
        if name not in WAYS:
            raise InputError(unknown(name, WAYS, "way"), do=f"One of {', '.join(WAYS)}")
    if names:
        return [WAYS[name] for name in dict.fromkeys(names)]
    ways = [way for way in WAYS.values() if baseline or way.key != BASELINE]
    # Of many nodes at once each Docker would unpack the image for itself; what is local needs no link.
    return [way for way in ways if way.key != LOCAL and not isinstance(way, Docker)] if crowd else ways


@contextmanager
def _prepared(
    options: Options,
    target: str,
    command: Sequence[str],
    ways: Sequence[Way],
    until: str,
    baseline: str,
    trace: str,
    warm: float | None,
    window: Size | None,
    work: Path | None,
) -> Iterator[tuple[Prepared, Prepared | None, Any]]:
    """The image in its forms, the unoptimised one, and what is started."""
    import tempfile

    from registry_pipelines.stream.bench.preparing import BASELINE_PLACE, prepare
    from registry_pipelines.stream.bench.traces import read_trace
    from registry_pipelines.stream.bench.ways import CACHED as CACHED_WAY
    from registry_pipelines.stream.bench.ways import LOCAL

    if trace and command:
        raise InputError("--replay takes the place of a command", do="Leave one of both out")
    with ExitStack() as stack:
        folder = work or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="stream-bench-", dir="/var/tmp")))
        locate = stack.enter_context(named(options, [target, *([baseline] if baseline else [])]))
        progress: Progress = stack.enter_context(options.progress())
        keys = {way.key for way in ways}
        told = read_trace(trace) if trace else None
        found = locate(target)
        image = prepare(
            found.place,
            found.selector,
            target,
            folder.absolute(),
            forms=[way.form for way in ways],
            command=command,
            until=until,
            trace=told,
            window=_window(window),
            cached=CACHED if CACHED_WAY in keys else 0.0,
            unpack=LOCAL in keys,
            progress=progress,
        )
        unoptimised = None
        if baseline:
            found = locate(baseline)
            unoptimised = prepare(
                found.place,
                found.selector,
                baseline,
                folder.absolute(),
                forms=(),
                plain=BASELINE_PLACE,
                progress=progress,
            )
        yield image, unoptimised, _workload(image, command, until, trace, warm)


def _window(size: Size | None) -> int:
    """Raises InputError: whole pages are read."""
    from registry_pipelines.stream.hot.pack import MAX_FRAME_BYTES
    from registry_pipelines.stream.hot.touched import WINDOW_BYTES
    from registry_pipelines.stream.lazy.pages_ahead import PAGE_BYTES

    if size is None:
        return WINDOW_BYTES
    if size % PAGE_BYTES or not PAGE_BYTES <= size <= MAX_FRAME_BYTES:
        raise InputError(f"--window {size} is no multiple of 4KiB from 4KiB to 2MiB")
    return size


def _workload(image: Prepared, command: Sequence[str], until: str, trace: str, warm: float | None) -> Any:
    """Raises InputError: a trace of which nothing is in the image."""
    from registry_pipelines.stream.bench.preparing import SPANS, UNPACKED
    from registry_pipelines.stream.bench.replay import prepare_replay
    from registry_pipelines.stream.bench.ways import Program

    if not trace:
        return Program(image, tuple(command), until)
    if image.placed is None or not image.placed.recording.touches:
        why = image.why_not.get(SPANS, "it has none of its files")
        raise InputError(f"that start cannot be replayed on this image: {why}", where=trace)
    folder = image.unpacked if image.unpacked.is_dir() and UNPACKED not in image.why_not else None
    return prepare_replay(image.placed, image.work / "plan.json", folder, warm)


@contextmanager
def _setting(
    image: Prepared,
    workload: Any,
    gigabits: float,
    nodes: int,
    timeout: int,
    fill: bool,
    baseline: Prepared | None,
) -> Iterator[tuple[Setting, list[str]]]:
    """The registry, behind a link where there can be one, and what a reader must know."""
    from registry_pipelines.stream.bench.link import ADDRESS, Link, missing_for_link
    from registry_pipelines.stream.bench.machine import drop_caches
    from registry_pipelines.stream.bench.serving import CountingRegistry
    from registry_pipelines.stream.bench.ways import Setting

    notes = []
    problem = missing_for_link() if gigabits else ""
    if problem:
        notes.append(f"measured over loopback, not over a link: {problem}")
    if not drop_caches():
        notes.append("files may be in memory already: dropping them needs root")
    with ExitStack() as stack:
        if gigabits and not problem:
            link = stack.enter_context(Link(gigabits * 1e9, nodes=nodes))
            server = CountingRegistry(image.root, ADDRESS, link.registry.enter)
        else:
            link, server = None, CountingRegistry(image.root)
        registry = stack.enter_context(server)
        yield Setting(image, workload, registry, link, timeout, fill, baseline), notes


def _say(options: Options) -> Any:
    def say(line: str) -> None:
        if not options.quiet:
            click.echo(harmless(line), err=True)

    return say


def _show(said: dict[str, Any], paths: Sequence[Path]) -> None:
    from registry_pipelines.stream.bench.report import crowd_table, heading, table

    out = console()
    texts = [heading(said), *([table(said)] if said["rows"] else []), *([crowd_table(said)] if said["nodes"] else [])]
    for text in (*texts, *said["notes"], *(str(path) for path in paths)):
        out.print(harmless(text), markup=False, soft_wrap=True)


bench_group.add_command(pull)
COMMANDS = [bench_group]
