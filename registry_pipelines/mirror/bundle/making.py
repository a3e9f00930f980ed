"""Make a bundle that is planned: its parts, then its document; and one part of a finished bundle alone.

Every step is kept before the next: killed at any time, the same command finishes, and what stands under a part's name
is whole. The document is written last, into each folder that is at hand.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from registry_pipelines.errors import ContentError, InputError, RegistryPipelinesError
from registry_pipelines.evidence.model import Signer
from registry_pipelines.mirror.bundle.contents import Draft
from registry_pipelines.mirror.bundle.format import (
    TOOL_FOLDER,
    Bundle,
    BundleBlob,
    Part,
    ToolFile,
    document_name,
    part_name,
    seal,
)
from registry_pipelines.mirror.bundle.near import DonePart, NearState, Progressed
from registry_pipelines.mirror.bundle.parts import HALF, Media, Writing, full, half_written
from registry_pipelines.mirror.bundle.stream import Stream, stream_of
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.files import local_errors, write_file
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.progress import Progress, Silent
from registry_pipelines.registry.blobs import BlobStream
from registry_pipelines.registry.protocol import BUFFER_BYTES, Place

RESTART = "`bundle create --restart` makes a bundle of what is there now"
"""What to do about a half made bundle whose content is not there any more."""

MAX_NAMED = 5
"""Parts that one message names."""

Reopen = Callable[[str], Place]
"""Opens a place by what a draft calls it."""


class _Origins(dict[Digest, Place]):
    """Blob to its place, opened when it is first asked for."""

    def __init__(self, draft: Draft, reopen: Reopen) -> None:
        super().__init__()
        self._draft, self._reopen = draft, reopen
        self._places: dict[str, Place] = {}

    def __missing__(self, digest: Digest) -> Place:
        name = self._draft.reopen(digest)
        if name not in self._places:
            self._places[name] = self._reopen(name)
        return self._places.setdefault(name, self._places[name])


@dataclass(frozen=True)
class Made:
    """A bundle that is whole. written: files of this run."""

    bundle: Bundle
    written: tuple[Path, ...]
    bytes_written: int


@dataclass
class Making:
    """What a bundle is made with. near: holds its draft, and this process its lock. tool: file to where its content is
    now, of those that the draft names."""

    near: NearState
    folders: Sequence[Path]
    reopen: Reopen
    signer: Signer
    tool: Mapping[str, Path] = field(default_factory=dict)
    progress: Progress | None = None

    def finish(self, draft: Draft) -> Made:
        """Write what is missing of a draft. Raises DiskFull when the last folder is full, and what reading the source
        raises; then the finished parts stay, and the same call goes on with the rest."""
        bundle, before = draft.bundle, self.near.progressed()
        where = document_name(bundle.mirror, bundle.number)
        writing = self._writing(draft, stream_of(bundle, where=where), before)
        writing.write(len(before.done) + 1)
        progressed = self.near.progressed()
        whole = msgspec.structs.replace(bundle, parts=tuple(each.part for each in progressed.done))
        written = [Path(each.folder) / each.part.name for each in progressed.done[len(before.done) :]]
        document = seal(whole, self.signer)
        written += self._documents(whole, document, [Path(each.folder) for each in progressed.done])
        self.near.finish(draft, document)
        moved = sum(each.part.size for each in progressed.done[len(before.done) :])
        return Made(whole, tuple(written), moved)

    def _writing(self, draft: Draft, stream: Stream, before: Progressed) -> Writing:
        own = {(Path(each.folder), each.part.name) for each in before.done}
        if before.under_way is not None:
            name, folder = before.under_way
            own.add((Path(folder), name))
            with suppress(OSError):  # of a process that was killed
                (Path(folder) / f"{name}{HALF}").unlink()
        origins = _Origins(draft, self.reopen)
        done = list(before.done)

        def begin(number: int, folder: Path) -> None:
            self.near.keep(
                Progressed(tuple(done), (part_name(draft.bundle.mirror, draft.bundle.number, number), str(folder)))
            )

        def finished(_number: int, part: Part, folder: Path) -> None:
            done.append(DonePart(part, str(folder)))
            self.near.keep(Progressed(tuple(done)))

        def undo(number: int) -> None:
            for each in done[number - 1 :]:
                with suppress(OSError):  # a medium that is away keeps a part that nobody will take for whole
                    (Path(each.folder) / each.part.name).unlink()
            del done[number - 1 :]
            self.near.keep(Progressed(tuple(done)))

        return Writing(
            mirror=draft.bundle.mirror,
            number=draft.bundle.number,
            stream=stream,
            part_size=draft.bundle.part_size,
            origins=origins,
            media=Media([folder.absolute() for folder in self.folders], frozenset(own)),
            begin=begin,
            done=finished,
            undo=undo,
            progress=self.progress or Silent(),
            heads=lambda blob, size: _head(blob, size, draft.bundle, done, origins),
        )

    def _documents(self, bundle: Bundle, document: bytes, used: Sequence[Path]) -> list[Path]:
        """The document, in each folder with parts that is at hand, and in one of this run; the tool's files where there
        is room first."""
        name = document_name(bundle.mirror, bundle.number)
        folders = [folder for folder in dict.fromkeys(used) if folder.is_dir()]
        folders += [folder.absolute() for folder in self.folders if not folders]
        written = list(self._tool_files(bundle.tool, folders[-1])) if bundle.tool else []
        failed: list[RegistryPipelinesError] = []
        for folder in folders:
            try:
                with local_errors(folder):
                    folder.mkdir(parents=True, exist_ok=True)
                    write_file(folder / name, document)
            except RegistryPipelinesError as error:
                failed.append(error)
            else:
                written.append(folder / name)
        if failed and len(failed) == len(folders):
            raise full(folders, len(document)) from failed[0]
        return written

    def _tool_files(self, files: Sequence[ToolFile], folder: Path) -> Iterator[Path]:
        if (folder / TOOL_FOLDER).is_symlink():
            raise InputError(
                f"the folder {TOOL_FOLDER} is a link, and leads away from the medium",
                where=str(folder),
                do="Remove it, and run the same command again",
            )
        for file in files:
            if file.name not in self.tool:
                raise InputError(f"{file.name} of the tool is not at hand", do="Run the same command, with --with-tool")
            _copy(self.tool[file.name], folder / TOOL_FOLDER, file)
            yield folder / TOOL_FOLDER / file.name


def make_again(
    draft: Draft,
    bundle: Bundle,
    numbers: Sequence[int],
    folder: Path,
    *,
    document: bytes,
    reopen: Reopen,
    progress: Progress | None = None,
) -> list[Path]:
    """Make some parts of a finished bundle once more, byte for byte, with its document beside them.

    Raises InputError for a part that it does not have, ContentError when the source gives other bytes now,
    ClosureIncomplete when it does not have them any more, DiskFull.
    """
    if wrong := [number for number in numbers if not 1 <= number <= len(bundle.parts)]:
        raise InputError(
            f"the bundle has the parts 1 to {len(bundle.parts)}, and no part {', '.join(map(str, wrong[:MAX_NAMED]))}"
            f"{' and others' if len(wrong) > MAX_NAMED else ''}",
            where=bundle.name,
        )
    where = document_name(bundle.mirror, bundle.number)
    writing = Writing(
        mirror=bundle.mirror,
        number=bundle.number,
        stream=stream_of(bundle, where=where),
        part_size=bundle.part_size,
        origins=_Origins(draft, reopen),
        media=Media([folder], frozenset((folder, part.name) for part in bundle.parts)),
        begin=lambda number, folder: None,
        done=lambda number, part, folder: None,
        undo=lambda number: None,
        progress=progress or Silent(),
    )
    written = [writing.one_again(bundle.parts[number - 1], number, folder) for number in dict.fromkeys(numbers)]
    with local_errors(folder):
        write_file(folder / where, document)
    return [*written, folder / where]


def _head(blob: BundleBlob, size: int, bundle: Bundle, done: Sequence[DonePart], origins: _Origins) -> Iterator[bytes]:
    """The first bytes of a blob: as they were written, where those parts are at hand, else from the source."""
    at, stop = blob.offset, blob.offset + size
    while at < stop:
        number, within = divmod(at, bundle.part_size)
        wanted = min(stop - at, bundle.part_size - within, BUFFER_BYTES)
        piece = _written(done[number], within, wanted) if number < len(done) else b""
        if len(piece) < wanted:
            yield from _read(origins[blob.digest], blob, at - blob.offset, stop - blob.offset)
            return
        yield piece
        at += wanted


def _written(done: DonePart, start: int, size: int) -> bytes:
    """Bytes of a finished part; fewer where its medium is not at hand any more."""
    try:
        with (Path(done.folder) / done.part.name).open("rb") as file:
            file.seek(start)
            return file.read(size)
    except OSError:
        return b""


def _read(place: Place, blob: BundleBlob, start: int, stop: int) -> Iterator[bytes]:
    descriptor = Descriptor(media_type="", digest=blob.digest, size=blob.size)
    buffer, at = bytearray(BUFFER_BYTES), 0
    with BlobStream(place, descriptor) as stream:
        while at < stop and (count := stream.readinto(memoryview(buffer)[: stop - at])):
            if at + count > start:
                yield bytes(buffer[max(start - at, 0) : count])
            at += count


def _copy(source: Path, folder: Path, file: ToolFile) -> None:
    """A file of the tool, which must still be what the document says of it."""
    hasher, buffer = hashlib.sha256(), memoryview(bytearray(BUFFER_BYTES))
    with local_errors(source):
        content = source.open("rb", buffering=0)
    with content, half_written(folder, file.name) as target:
        while count := content.readinto(buffer):
            hasher.update(buffer[:count])
            view = buffer[:count]
            while view:
                view = view[os.write(target, view) :]
        if hasher.hexdigest() != file.sha256:
            raise ContentError("the file changed while the bundle was made", where=str(source), do=RESTART)
