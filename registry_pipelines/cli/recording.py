"""``stream record``: which pages of an image its start reads."""

from __future__ import annotations

import os
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from registry_pipelines.cli.context import BELIEVED_KEYS, Options, common
from registry_pipelines.cli.envelope import print_json
from registry_pipelines.cli.names import IMAGES
from registry_pipelines.cli.output import console, harmless, print_below
from registry_pipelines.cli.references import is_release, named
from registry_pipelines.errors import InputError
from registry_pipelines.progress import count_text, size_text

if TYPE_CHECKING:
    from registry_pipelines.chain.places import Located
    from registry_pipelines.evidence.model import Signer, Verifier
    from registry_pipelines.stream.hot.recorder import Recorded
    from registry_pipelines.stream.hot.recording import Recording
    from registry_pipelines.stream.hot.recordings import PublishedRecording
    from registry_pipelines.stream.lazy.image import NodeImage
    from registry_pipelines.stream.lazy.opened import OpenImage
    from registry_pipelines.stream.lazy.running import Started
    from registry_pipelines.stream.model import Record

TARGET = (
    "TARGET is a release of the configuration or any image reference. What is recorded is a list of files and pages, "
    "never a byte of them. `stream.record` of the configuration says the same as the options, which come first."
)
SHOWN = 10
"""Packages in the table."""

_STDERR = 2


@click.command("record", epilog=TARGET, short_help="Record which pages of an image its start reads.")
@click.argument("target", shell_complete=IMAGES)
@click.argument("command", nargs=-1, metavar="[-- CMD [ARGUMENT]...]")
@click.option(
    "--until", metavar="END", help="exit, 'port N', 'line TEXT', or quiet: 30 s without a new page (default)."
)
@click.option("--timeout", metavar="TIME", help="How long it may take; 10m unless told.")
@click.option("--memory", metavar="SIZE", help="Most memory of all that is run; 8GiB unless told.")
@click.option("--processes", type=int, metavar="N", help="Most processes and threads; 4096 unless told.")
@click.option("--entrypoint", metavar="PROGRAM", help="In place of the image's; its command then counts no more.")
@click.option("--gpu", "gpus", is_flag=True, help="Let it see this machine's GPUs, and the driver's files.")
@click.option(
    "--merge",
    "files",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    multiple=True,
    metavar="FILE",
    help="Add what another run of --to recorded, as on a machine with a GPU; may be repeated.",
)
@click.option("--no-run", is_flag=True, help="Run nothing: only what --merge names.")
@click.option(
    "--to",
    "goal",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write it there; attach nothing.",
)
@click.option(
    "--signing-key",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Private key of the indexer; the configuration's unless told.",
)
@BELIEVED_KEYS
@common
def record(
    options: Options,
    target: str,
    command: tuple[str, ...],
    until: str | None,
    timeout: str | None,
    memory: str | None,
    processes: int | None,
    entrypoint: str | None,
    gpus: bool,
    files: tuple[Path, ...],
    no_run: bool,
    goal: Path | None,
    signing_key: Path | None,
    keys: tuple[Path, ...],
) -> None:
    """Run an image until it has started, and record which pages of its files it reads, for a hot pack.

    A release of the configuration is run when its verdict is allow, and its pack is cut and attached, too. Without an
    option nothing is run where that can be had without: the pack is there, or the release before read the same files.

    It is attached to the image with what was attached before, signed by the indexer; --to writes a file in its place,
    on a machine that has no key. The image runs in a sandbox: no network but itself, none of this machine's files and
    variables, limits of time, memory and processes. A program that fails is no start, and nothing is recorded. Needs
    root, or a kernel that gives users namespaces of their own.
    """
    given = {"until": until, "timeout": timeout, "memory": memory, "processes": processes, "command": command or None}
    wanted = _wanted(options, target, {name: value for name, value in given.items() if value is not None})
    by_hand = goal or files or no_run or entrypoint or gpus or signing_key or keys
    if not by_hand and is_release(options.config_if_any(), target):
        _record_release(options, target, wanted, anew=any(value is not None for value in given.values()))
        return
    if goal and signing_key:
        raise InputError("--to writes a file, which nobody signs, and attaches nothing", do="Leave out one of the two")
    if goal and not goal.absolute().parent.is_dir():
        raise InputError("there is no such folder", where=str(goal.parent), do="Make it, or name another --to")
    signer = None if goal else _signer(options, signing_key)
    if no_run and not files:
        raise InputError("with --no-run there is nothing to record", do="Name recordings with --merge")
    others = [read_recording(each) for each in files]
    from registry_pipelines.stream.lazy.running import Started

    started = None if no_run else Started()  # before anything starts a thread
    try:
        with named(options, [target]) as locate:
            located = locate(target)
            verifier = _verifier(options, keys, signer)
            job = _Job(options, target, located, verifier)
            recorded = job.record(started, wanted, entrypoint, gpus=gpus) if started else None
            recording = job.merged([*([recorded.recording] if recorded else []), *others])
            published = None
            if goal:
                _write(goal, recording)
            elif signer:
                published = _publish(located, job.image, recording, signer)
            job.tell(recorded, published.recording if published else recording, published, goal)
    finally:
        if started:
            started.end(0)


def _record_release(options: Options, target: str, wanted: Record, *, anew: bool) -> None:
    """As the chain does it: only of an allowed release, and with its pack. anew: an option says how."""
    from registry_pipelines.cli.releases import answer_all
    from registry_pipelines.errors import LocalError

    with options.chain() as chain:
        release = chain.find_release(target)
        stream = chain.config.images[release.image].stream
        configured = stream is not None and stream.record is not None
        result = chain.record(release, None if configured and not anew else wanted)
    answer_all(options, [result])
    if not result.facts["platforms_covered"]:
        sys.exit(LocalError.exit_code)


def _wanted(options: Options, target: str, given: Mapping[str, Any]) -> Record:
    """What the configuration and the options say. Raises InputError."""
    import msgspec

    from registry_pipelines.settings import Duration, Size
    from registry_pipelines.stream.model import UNTIL, Record, record_problems

    said = dict(given)
    try:
        for name, kind in (("timeout", Duration), ("memory", Size)):
            if name in said:
                said[name] = kind.parse(said[name])
        if "until" in said:
            UNTIL.check(said["until"])
    except ValueError as error:
        raise InputError(f"an option cannot be used: {error}") from error
    if said.get("processes", 1) < 1:
        raise InputError("--processes is less than one")
    found = Record()
    config = options.config_if_any()
    if config is not None and is_release(config, target):
        stream = config.images[target.partition("@")[0].partition(":")[0]].stream
        found = (stream and stream.record) or found
    found = msgspec.structs.replace(found, **said)
    for field, problem in record_problems(found):
        raise InputError(f"--{field} {problem}")
    return found


def _signer(options: Options, key: Path | None) -> Signer:
    """Raises as ``Options.signer``."""
    unsigned = "no key of the indexer is named, and nobody believes a recording that is not signed"
    do = "write the recording to a file with --to"
    return options.signer(key, "indexer", unsigned=unsigned, option="--signing-key", do=do)


def _verifier(options: Options, keys: Sequence[Path], signer: Signer | None) -> Verifier | None:
    """Whose indexes are believed while the image is read."""
    believed = options.believed(keys)
    if believed is None and signer is not None:
        from registry_pipelines.evidence.keys import verifier_of

        return verifier_of(signer)
    return believed


def read_recording(path: Path) -> Recording:
    """A recording in a file. Raises RecordingInvalid, LocalError."""
    from registry_pipelines.oci.files import local_errors
    from registry_pipelines.stream.hot.recording import decode

    with local_errors(path):
        return decode(path.read_bytes(), where=str(path))


def _write(path: Path, recording: Recording) -> None:
    from registry_pipelines.oci.files import local_errors, write_file
    from registry_pipelines.stream.hot.recording import encode

    with local_errors(path):
        write_file(path, encode(recording))


def _publish(located: Located, image: NodeImage, recording: Recording, signer: Signer) -> PublishedRecording:
    from registry_pipelines.stream.hot.recordings import publish_recording

    return publish_recording(located.place, image.descriptor, recording, signer)


class _Job:
    """What is recorded of one image."""

    def __init__(self, options: Options, target: str, located: Located, verifier: Verifier | None) -> None:
        from registry_pipelines.stream.lazy.image import image_for

        self._options, self._target, self._located, self._verifier = options, target, located, verifier
        self._state = options.state.parent
        self.image = image_for(located.place, located.selector)
        self._layer_of: dict[str, str] = {}

    def record(self, started: Started, wanted: Record, entrypoint: str | None, *, gpus: bool) -> Recorded:
        """Run it."""
        from registry_pipelines.stream.hot.recorder import record_start
        from registry_pipelines.stream.lazy.opened import open_image
        from registry_pipelines.stream.lazy.program_root import run_folder
        from registry_pipelines.stream.lazy.running import program_of

        program = program_of(self.image.config.config, wanted.command, entrypoint)
        place, digest = self._located.place, self.image.descriptor.digest
        with (
            self._options.progress() as progress,
            open_image(
                *(place, digest),
                state=self._state,
                verifier=self._verifier,
                use_pack=False,
                log=_say,
                progress=progress,
            ) as opened,
            run_folder(self._state / "lazy" / "runs") as folder,
        ):
            recorded = record_start(
                opened, program, wanted, started, folder=folder, gpus=gpus, output=_forward, say=_say
            )
            self._note_layers(opened, recorded.recording)
        return recorded

    def merged(self, recordings: Sequence[Recording]) -> Recording:
        """All of them as one of this image, with the contents that this machine knows."""
        from registry_pipelines.oci.layer.store import LayerStore
        from registry_pipelines.stream.hot.contents import image_files
        from registry_pipelines.stream.hot.recording import inherit, merge_recordings, with_contents
        from registry_pipelines.stream.lazy.blocks import BlockStore
        from registry_pipelines.stream.lazy.tables import image_tables

        place, digest = self._located.place, self.image.descriptor.digest
        records = LayerStore(self._state / "layers")
        folder = self._state / "lazy"
        blocks = BlockStore(folder / "blocks")
        tables = image_tables(
            *(place, digest, self.image.layers),
            verifier=self._verifier,
            records=records,
            blocks=blocks,
            folder=folder,
        )
        there = list(image_files(place, tables, self.image.layers, records=records, folder=folder))
        found = []
        for each in recordings:
            if each.image == digest:
                found.append(with_contents(each, there))
                continue
            inherited = inherit(each, digest, there)
            if inherited.dropped:
                _say(
                    f"of a recording of {each.image} {count_text(len(inherited.dropped), 'file')} with "
                    f"{count_text(inherited.dropped_pages, 'page')} are not in this image"
                )
            found.append(inherited.recording)
        return merge_recordings(found)

    def _note_layers(self, opened: OpenImage, recording: Recording) -> None:
        layers = self.image.manifest.layers
        for file in recording.files:
            number = opened.find(file.path)
            if number is not None:
                self._layer_of[file.path] = layers[opened.node(number).layer].digest.short

    def tell(
        self, recorded: Recorded | None, recording: Recording, published: PublishedRecording | None, goal: Path | None
    ) -> None:
        """Print the answer."""
        packages = _packages(recording, self._layer_of)
        answer: dict[str, Any] = {
            "image": self._target,
            "digest": self.image.descriptor.digest,
            "files": len(recording.files),
            "pages": recording.pages,
            "bytes": recording.page_bytes,
            "gpu": recording.gpu,
            "first_output_s": round(recorded.first_output_s, 3)
            if recorded and recorded.first_output_s is not None
            else None,
            "seconds": round(recorded.seconds, 3) if recorded else None,
            "limits": ("by the kernel" if recorded.limited else "looked after") if recorded else "",
            "recording": published.descriptor.digest if published else "",
            "changed": published.changed if published else bool(goal),
            "new_pages": published.new_pages if published else recording.pages,
            "file": str(goal or ""),
            "packages": packages,
        }
        if self._options.as_json:
            print_json(answer)
            return
        shown = [{**row, "bytes": size_text(row["bytes"])} for row in packages[:SHOWN]]
        print_below(
            f"{self._target} {self.image.descriptor.digest}: a start reads {size_text(recording.page_bytes)} "
            f"({count_text(recording.pages, 'page')}) of {count_text(len(recording.files), 'file')}",
            shown,
        )
        if recorded:
            first = (
                f"first output after {recorded.first_output_s:.1f} s, " if recorded.first_output_s is not None else ""
            )
            console().print(f"{first}the start was over after {recorded.seconds:.1f} s", markup=False)
        console().print(harmless(_what_became(published, goal)), markup=False, soft_wrap=True)


def _what_became(published: PublishedRecording | None, goal: Path | None) -> str:
    if published is None:
        return f"written to {goal}"
    if not published.changed:
        return "nothing new: what is attached has all of it"
    return f"attached as {published.descriptor.digest}, {count_text(published.new_pages, 'new page')}"


def _packages(recording: Recording, layers: Mapping[str, str]) -> list[dict[str, Any]]:
    """Pages by Python package, other files by folder; the largest first. layers: of files, where that is known."""
    from registry_pipelines.stream.hot.recording import PAGE_BYTES

    pages: defaultdict[tuple[str, str], int] = defaultdict(int)
    sizes: defaultdict[tuple[str, str], int] = defaultdict(int)
    files: defaultdict[tuple[str, str], set[int]] = defaultdict(set)
    for number, first, count in recording.touches:
        file = recording.files[number]
        key = _package(file.path), layers.get(file.path, "")
        pages[key] += count
        sizes[key] += min(file.size - first * PAGE_BYTES, count * PAGE_BYTES)
        files[key].add(number)
    rows = [
        {"package": key[0], "layer": key[1], "files": len(files[key]), "pages": pages[key], "bytes": sizes[key]}
        for key in pages
    ]
    return sorted(rows, key=lambda row: (-int(row["bytes"]), row["package"]))


def _package(path: str) -> str:
    folders = path.split("/")
    for place, name in enumerate(folders[:-1]):
        if name in ("site-packages", "dist-packages"):
            return folders[place + 1]
    return "/".join(folders[: min(3, len(folders) - 1)]) or "/"


def _forward(piece: bytes) -> None:
    os.write(_STDERR, piece)


def _say(line: str) -> None:
    click.echo(harmless(line), err=True)


COMMANDS = [record]
