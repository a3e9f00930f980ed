"""``stream mount``, ``run`` and ``status``: images that are there before they are fetched."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from registry_pipelines import interrupts
from registry_pipelines.cli.context import BELIEVED_KEYS, Options, common
from registry_pipelines.cli.envelope import print_json, print_json_now
from registry_pipelines.cli.names import IMAGES
from registry_pipelines.cli.output import console, harmless, print_below
from registry_pipelines.cli.references import named
from registry_pipelines.errors import LocalError
from registry_pipelines.progress import count_text, size_text

if TYPE_CHECKING:
    from registry_pipelines.stream.lazy.carriers import Kind
    from registry_pipelines.stream.lazy.notes import MountNote
    from registry_pipelines.stream.lazy.opened import OpenImage
    from registry_pipelines.stream.lazy.running import Started

TARGET = (
    "TARGET is a release of the configuration or any image reference. What is read comes by the pieces that an index "
    "names (`stream index`, `stream convert`), each verified before anything sees it, into a store that all images of "
    "this machine share. Layers without an index that is believed are fetched whole first."
)
END_S = 1.0
"""How long a program gets to end after TERM, when the command is ended."""

_COPY_BYTES = 1 << 16
_STDERR = 2

_CARRIER = click.option(
    "--carrier",
    type=click.Choice(["fuse", "fanotify", "auto"]),
    default="fuse",
    show_default=True,
    help="What brings files to programs: FUSE; the kernel itself, which asks before it reads (root, Linux 6.14); or "
    "that where it can be had, else FUSE, else all is fetched first.",
)
_FILL = click.option(
    "--fill/--no-fill", default=True, show_default=True, help="Fetch the rest, too, when nobody waits for anything."
)


_PACK = click.option(
    "--pack/--no-pack",
    default=True,
    show_default=True,
    help="Start from the image's hot pack, where it has one that a trusted indexer signed.",
)


@click.command("mount", epilog=TARGET, short_help="Mount an image before it is fetched; read-only.")
@click.argument("target", shell_complete=IMAGES)
@click.argument("folder", type=click.Path(path_type=Path), metavar="DIR")
@BELIEVED_KEYS
@_CARRIER
@_FILL
@_PACK
@click.option("--detach", is_flag=True, help="Come back when it is mounted, and serve in the background.")
@common
def mount(
    options: Options,
    target: str,
    folder: Path,
    keys: tuple[Path, ...],
    carrier: Kind,
    fill: bool,
    pack: bool,
    detach: bool,
) -> None:
    """Mount an image read-only, before it is fetched, until Ctrl-C, TERM or `umount DIR`.

    Root needs nothing; another user needs fusermount3, and is then the only one who sees the files. When the registry
    does not answer for a minute, reads end with EIO; they may be tried again. When this process is killed, reads end
    with an error (FUSE), or wait a minute for another `stream mount` of the image on DIR to go on (fanotify).
    """
    from registry_pipelines.stream.lazy.carriers import free_folder

    lazy = _notes(options).parent
    if detach:
        free_folder(folder, lazy, take=False)
        _detached(options, target, folder, keys, carrier, fill, pack)
        return
    from registry_pipelines.stream.lazy.serving import Mounted

    with contextlib.ExitStack() as undo:
        taken = free_folder(folder, lazy)
        if taken is not None:
            undo.callback(taken.close)
        image = undo.enter_context(_opened(options, target, keys, pack, carrier))
        note = image.note(target, folder)
        with Mounted(
            image, folder, _notes(options), note, image.count, carrier=carrier, log=_say, taken=taken
        ) as mounted:
            if fill:
                mounted.fill_rest()
            interrupts.mark_wanted()
            _announce(options, mounted.note)
            mounted.wait()


@contextlib.contextmanager
def _opened(options: Options, target: str, keys: Sequence[Path], pack: bool, carrier: Kind) -> Iterator[OpenImage]:
    from registry_pipelines.stream.lazy.opened import open_image

    verifier = options.believed(keys)
    with named(options, [target]) as locate, options.progress() as progress:
        located = locate(target)
        state = options.state.parent
        with open_image(
            located.place,
            located.selector,
            state=state,
            verifier=verifier,
            use_pack=pack,
            log=_say,
            progress=progress,
            as_erofs=carrier != "fuse",
        ) as image:
            yield image


def _say(line: str) -> None:
    click.echo(harmless(line), err=True)


def _notes(options: Options) -> Path:
    return options.state.parent / "lazy" / "mounts"


def _announce(options: Options, note: MountNote) -> None:
    """Say on stdout that it is mounted; a program waits for this line."""
    if options.as_json:
        print_json_now({"mount": _plain(note)})
        return
    click.echo(harmless(f"{note.image} {note.digest} is mounted on {note.folder}; {_lazy_text(note)}"))
    _tell_reasons(note)


def _tell_reasons(note: MountNote) -> None:
    for reason in (*note.reasons, *([note.carrier_why] if note.carrier_why else ())):
        _say(reason)


def _lazy_text(note: MountNote) -> str:
    layers = note.layers_lazy + note.layers_whole
    if not note.lazy:
        return f"lazy: no, {count_text(layers, 'layer')} fetched whole"
    if note.pack:
        whole = f", {count_text(note.layers_whole, 'layer')} fetched whole" if note.layers_whole else ""
        return f"lazy: yes, from the hot pack{whole}"
    return f"lazy: yes, {note.layers_lazy} of {count_text(layers, 'layer')} by pieces"


def _detached(
    options: Options, target: str, folder: Path, keys: Sequence[Path], carrier: Kind, fill: bool, pack: bool
) -> None:
    """Start another process that serves, and wait until it says that it does. Raises what ended it."""
    from registry_pipelines.oci.files import local_errors

    command = [sys.executable, "-c", "from registry_pipelines.cli import main; main()", "stream", "mount"]
    command += [target, str(folder.absolute()), "--json", "--quiet", "--fill" if fill else "--no-fill"]
    command += ["--pack" if pack else "--no-pack", "--carrier", carrier]
    command += [text for key in keys for text in ("--key", str(key))]
    if options.config_file is not None:
        command += ["--config", str(options.config_file)]
    log = _notes(options).parent / "mount.log"
    with local_errors(log):
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as errors:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, start_new_session=True
            )
    interrupts.CHILDREN.add(process)
    told = _first_document(process)
    interrupts.CHILDREN.discard(process)
    if told is None:
        raise LocalError("the process that should serve the mount ended", where=str(log), do="Read its last lines")
    if told["error"]:
        error = told["error"]
        failed = LocalError(error["what"], where=error.get("where", ""), do=error.get("do", ""))
        failed.exit_code = told["exit_code"]
        raise failed
    from registry_pipelines.oci.manifests import decode_json, encode_json
    from registry_pipelines.stream.lazy.notes import MountNote

    _announce(options, decode_json(encode_json(told["result"]["mount"]), MountNote, what="note of a mount"))


def _first_document(process: subprocess.Popen[bytes]) -> dict[str, Any] | None:
    """What a process with ``--json`` says first; None when it ends without."""
    said = b""
    while process.stdout is not None and (piece := os.read(process.stdout.fileno(), _COPY_BYTES)):
        said += piece
        with contextlib.suppress(ValueError):
            found: dict[str, Any] = json.loads(said)
            return found
    return None


@click.command("run", epilog=TARGET, short_help="Start a program of an image before the image is fetched.")
@click.argument("target", shell_complete=IMAGES)
@click.argument("command", nargs=-1, metavar="[-- CMD [ARGUMENT]...]")
@BELIEVED_KEYS
@_CARRIER
@_FILL
@_PACK
@click.option("--entrypoint", metavar="PROGRAM", help="In place of the image's; its command then counts no more.")
@common
def run(
    options: Options,
    target: str,
    command: tuple[str, ...],
    keys: tuple[Path, ...],
    carrier: Kind,
    fill: bool,
    pack: bool,
    entrypoint: str | None,
) -> None:
    """Start a program of an image before the image is fetched. Ends with the program's exit code.

    It starts as the image's config says (entrypoint, environment, folder, user; CMD in place of its command, as in
    `docker run`), with the image as its root and what it writes kept until it ends. It has this machine's network and
    the devices of its GPUs, of its files only the NVIDIA driver's libraries (where the image's NVIDIA_VISIBLE_DEVICES
    asks for them, as for NVIDIA's container toolkit), and is no sandbox: start what you would start with Docker.
    Without root it runs in a user namespace, where it can do no more than you: with newuidmap and a range for you in
    /etc/subuid and /etc/subgid the image's users are different ones, else all files are of the one it runs as.

    On stderr: STARTED, seconds until the first output, RESULT, seconds until the end, and what was fetched. A program
    that has the terminal is not timed to its first output. With --json its output goes to stderr.
    """
    from registry_pipelines.stream.lazy.serving import Clock

    clock = Clock()
    from registry_pipelines.stream.lazy.running import Started

    started = Started()  # before anything starts a thread
    if started.single_user:
        _say("without newuidmap and a range in /etc/subuid and /etc/subgid all files are of the one it runs as")
    try:
        with _opened(options, target, keys, pack, carrier) as image:
            code = _run(options, target, image, started, command, entrypoint, clock, carrier=carrier, fill=fill)
    finally:
        started.end(END_S)
    if code:
        sys.exit(code)


def _run(
    options: Options,
    target: str,
    image: OpenImage,
    started: Started,
    command: Sequence[str],
    entrypoint: str | None,
    clock: Any,
    *,
    carrier: Kind,
    fill: bool,
) -> int:
    from registry_pipelines.stream.lazy.gpu import driver_files
    from registry_pipelines.stream.lazy.program_root import run_folder, writable_root
    from registry_pipelines.stream.lazy.running import program_of
    from registry_pipelines.stream.lazy.serving import Mounted

    program = program_of(image.config, command, entrypoint)
    driver = driver_files(program.environment, image.kinds, _say)
    with run_folder(_notes(options).with_name("runs")) as folder:
        lower = folder / "image"
        lower.mkdir()
        note = image.note(target, folder / "root")
        with (
            Mounted(
                image, lower, _notes(options), note, image.count, carrier=carrier, log=_say, below=folder
            ) as mounted,
            writable_root(lower, folder, image.kinds, _say, files=driver) as root,
        ):
            _tell_reasons(mounted.note)
            piped = options.as_json or not sys.stdin.isatty()
            started.start(program, root, piped=piped)
            if fill:
                mounted.fill_rest()
            first = _Forward(started.output, _STDERR if options.as_json else 1, clock) if piped else None
            try:
                code = started.wait()
            finally:
                started.end(END_S)  # before its files go
            if first is not None:
                first.end()
            ended = clock.now()
            _tell_run(options, mounted.note, first.first_s if first else None, ended, code)
    return code


class _Forward:
    """Gives on what a program prints, and knows when it printed first."""

    def __init__(self, source: int, target: int, clock: Any) -> None:
        self.first_s: float | None = None
        self._source, self._target, self._clock = source, target, clock
        self._thread = threading.Thread(target=self._copy, name="output", daemon=True)
        self._thread.start()

    def _copy(self) -> None:
        while piece := os.read(self._source, _COPY_BYTES):
            if self.first_s is None:
                self.first_s = self._clock.now()
            view = memoryview(piece)
            with contextlib.suppress(BrokenPipeError):
                while view:
                    view = view[os.write(self._target, view) :]

    def end(self) -> None:
        """Wait for the last of it."""
        self._thread.join()


def _tell_run(options: Options, note: MountNote, started_s: float | None, result_s: float, code: int) -> None:
    if options.as_json:
        clocks = {"started_s": started_s, "result_s": result_s, "program_exit_code": code}
        print_json({"mount": _plain(note), **clocks})
        return
    first = f"STARTED {started_s:.2f} s  " if started_s is not None else ""
    waited = f"{count_text(note.stalls, 'stall')} ({note.stalled_s:.1f} s)"
    ways = {"by pack": note.pack_bytes, "by pieces": note.demand_bytes, "background": note.background_bytes}
    by = ", ".join(f"{size_text(count)} {way}" for way, count in ways.items() if count)
    fetched = f"{size_text(note.fetched_bytes)} in {count_text(note.requests, 'request')}"
    fetched += f" ({by}), {waited}" if by else f", {waited}"
    _say(f"{first}RESULT {result_s:.2f} s  fetched {fetched}; {_lazy_text(note)}")


@click.command("status", short_help="Say what is mounted, and what was fetched for it.")
@common
def status(options: Options) -> None:
    """Say what is mounted on this machine with this state folder, whether it is lazy, and what was fetched for it.

    What the disk has is told, too: what was not used for longest goes when it is too much, never what is mounted.

    A mount whose process was killed is listed as dead: its readers get an error (FUSE), or wait for a minute
    (fanotify), and `stream mount` of the same folder takes it away, or goes on with it. Counters are at most a second
    old.
    """
    from registry_pipelines.stream.lazy.blocks import disk_bytes
    from registry_pipelines.stream.lazy.notes import read_notes

    found = list(read_notes(_notes(options)))
    rows = [{"alive": each.alive, **_plain(each.note)} for each in found]
    lazy = _notes(options).parent
    layers, files = (disk_bytes(lazy / name) for name in ("blocks", "backing"))
    if options.as_json:
        print_json({"mounts": rows, "layers_disk_bytes": layers, "files_disk_bytes": files})
        return
    if not rows:
        console().print("nothing is mounted", markup=False)
    else:
        for row in rows:
            print_below(f"{row['image']} on {row['folder']}", [{name: row[name] for name in _COLUMNS}])
            for reason in (*row["reasons"], *([row["carrier_why"]] if row["carrier_why"] else ())):
                console().print(f"  {harmless(reason)}", markup=False, soft_wrap=True)
    if layers or files:
        twice = f", and {size_text(files)} once more for the kernel to mount" if files else ""
        console().print(f"layers on the disk: {size_text(layers)}{twice}", markup=False, soft_wrap=True)


_COLUMNS = (
    *("alive", "lazy", "carrier", "process", "size_bytes", "filled_bytes", "fetched_bytes"),
    *("pack_bytes", "demand_bytes", "background_bytes"),
    *("requests", "stalls", "stalled_s", "failed_reads", "copied_bytes"),
)


def _plain(note: MountNote) -> dict[str, Any]:
    import msgspec

    return msgspec.structs.asdict(note)


COMMANDS = [mount, run, status]
