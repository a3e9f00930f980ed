"""Recordings: which pages of which files of an image a start read, in the order in which it needed them.

A recording names files by path and content, never by where they lie, so that it holds for every image that has the same
files: one with other layers, a converted one, the next release (:func:`inherit`). It holds lists alone, never bytes.
The pages of a start are the same each time and on each machine; one machine with a GPU and one without read different
ones, and both count (:func:`merge_recordings`).
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import msgspec
import zstandard

from registry_pipelines.errors import InputError, RecordingInvalid
from registry_pipelines.oci.decoding import ready
from registry_pipelines.oci.digest import Digest
from registry_pipelines.progress import count_text
from registry_pipelines.stream.hot.touches import Pages, Touch, Woven

PAGE_BYTES = 4096
"""Of a page of the kernel's cache, which is what a start reads at least."""

MEDIA_TYPE = "application/vnd.registry-pipelines.recording.v1+msgpack+zstd"
"""Of an encoded recording, as a blob."""

MAX_FILES = 1_000_000
"""Of one recording; the largest start that was seen read 5,588."""
MAX_PAGES = 1 << 20
"""Of one recording, 4 GiB; ``torch.compile`` reads 671 MB."""
MAX_BYTES = 256 << 20
"""Of an encoded recording, decompressed."""
MAX_ENCODED_BYTES = 32 << 20
"""Of an encoded recording; 34,000 touches have 200 KB."""
SCRIPT_BYTES = 1 << 20
"""A file that was read from its beginning to its end, and is not larger, is taken to be read whole in its next
version, too."""

_MAX_PATH_BYTES = 4096
_MAX_SIZE = 1 << 62
_MAX_SECONDS = 10**9
_HEX = re.compile(r"[0-9a-f]{64}\Z")
_LEVEL = 9


class RecordedFile(NamedTuple):
    """A file of an image."""

    path: str
    """From the top, without a slash in front; bytes that are no UTF-8 as surrogates (``surrogateescape``)."""
    size: int
    sha256: str = ""
    """Of its content, in hex; empty where the recorder did not know it."""


class Recording(msgspec.Struct, frozen=True, kw_only=True):
    """See the module. Of a stranger's only what :func:`decode` gave is to be used: it is held against the rules."""

    image: Digest
    """The manifest of one platform that it was made on."""
    files: tuple[RecordedFile, ...]
    """Those that were read; no two have the same path."""
    touches: tuple[Touch, ...]
    """In the order of need. Each page once, none behind its file's end."""
    command: tuple[str, ...] = ()
    """What was started."""
    until: str = ""
    """What ended it: ``exit``, ``port 8080``, ``line ready``, ``quiet``; others' words elsewhere."""
    gpu: bool = False
    """Whether the program could use a GPU."""
    seconds: float = 0.0
    """From the program's start to its last new page."""
    tool: str = ""
    """Who recorded: name and version."""

    @property
    def pages(self) -> int:
        """How many were read."""
        return sum(count for _, _, count in self.touches)

    @property
    def page_bytes(self) -> int:
        """Bytes of files in these pages: a file's last page counts as far as the file goes."""
        total = 0
        for number, first, count in self.touches:
            start = first * PAGE_BYTES
            total += min(self.files[number].size - start, count * PAGE_BYTES)
        return total


class _Encoded(msgspec.Struct, frozen=True, kw_only=True):
    """A recording as it is stored: columns, which compress well, and bytes where names may be no text."""

    image: str
    paths: tuple[bytes, ...]
    sizes: tuple[int, ...]
    sha256: tuple[bytes, ...]
    numbers: tuple[int, ...]
    firsts: tuple[int, ...]
    counts: tuple[int, ...]
    command: tuple[bytes, ...] = ()
    until: str = ""
    gpu: bool = False
    seconds: float = 0.0
    tool: str = ""


def encode(recording: Recording) -> bytes:
    """A recording as bytes, the same ones for the same recording. Raises RecordingInvalid: it breaks a rule."""
    _check(recording)
    numbers, firsts, counts = zip(*recording.touches, strict=True) if recording.touches else ((), (), ())
    encoded = _Encoded(
        image=str(recording.image),
        paths=tuple(_to_bytes(file.path) for file in recording.files),
        sizes=tuple(file.size for file in recording.files),
        sha256=tuple(bytes.fromhex(file.sha256) for file in recording.files),
        numbers=numbers,
        firsts=firsts,
        counts=counts,
        command=tuple(map(_to_bytes, recording.command)),
        until=recording.until,
        gpu=recording.gpu,
        seconds=recording.seconds,
        tool=recording.tool,
    )
    raw = msgspec.msgpack.encode(encoded)
    return zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True).compress(raw)


def decode(raw: bytes, *, where: str = "") -> Recording:
    """Read what :func:`encode` made, from whoever sent it; no more memory than ``MAX_BYTES`` allows is taken for it.
    Raises RecordingInvalid."""
    try:
        if len(raw) > MAX_ENCODED_BYTES:
            raise ValueError(f"it has {len(raw)} bytes")
        with zstandard.ZstdDecompressor().stream_reader(raw) as reader:
            content = reader.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise ValueError("it is larger than any recording")
        found = msgspec.msgpack.decode(content, type=ready(_Encoded))
        files = zip(found.paths, found.sizes, found.sha256, strict=True)
        recording = Recording(
            image=Digest.parse(found.image),
            files=tuple(RecordedFile(_to_text(path), size, sha256.hex()) for path, size, sha256 in files),
            touches=tuple(zip(found.numbers, found.firsts, found.counts, strict=True)),
            command=tuple(map(_to_text, found.command)),
            until=found.until,
            gpu=found.gpu,
            seconds=found.seconds,
            tool=found.tool,
        )
        _check(recording)
    except (ValueError, InputError, zstandard.ZstdError, msgspec.MsgspecError) as error:
        raise RecordingInvalid(f"the recording cannot be read: {error}", where=where) from error
    except RecordingInvalid as error:
        raise RecordingInvalid(error.what, where=where) from error
    return recording


def merge_recordings(recordings: Sequence[Recording]) -> Recording:
    """All pages of recordings of one image. The order is the first's; what only others have comes behind what they read
    before it. A content that one of them knows is known.

    Raises InputError: of different images (:func:`inherit` them first), or none; RecordingInvalid: they tell of
    different files.
    """
    if not recordings:
        raise InputError("there is no recording to merge")
    first = recordings[0]
    if other := next((each for each in recordings if each.image != first.image), None):
        raise InputError(f"the recordings are of different images: {first.image} and {other.image}")
    files = _Files()
    merged = Woven()
    for recording in recordings:
        merged.weave(
            (files.number(recording.files[number]), start, count) for number, start, count in recording.touches
        )
    return msgspec.structs.replace(
        first,
        files=files.all(),
        touches=merged.touches(),
        gpu=any(each.gpu for each in recordings),
        seconds=max(each.seconds for each in recordings),
    )


@dataclass(frozen=True)
class Inherited:
    """A recording for another image, and what became of its files."""

    recording: Recording
    same: int
    """Files whose content is in the new image, wherever."""
    alike: int
    """Files of the same path and size whose content is another or not known, and small ones that are read whole."""
    dropped: tuple[RecordedFile, ...]
    """Files that the new image does not have."""
    dropped_pages: int


def inherit(recording: Recording, image: Digest, files: Iterable[RecordedFile]) -> Inherited:
    """What a recording says of another image.

    image: the other's manifest. files: all that it has, or at least what has content. A file is found by its content,
    at its own path or the one most like it; else by path and size; a small one that was read whole by its path alone.
    """
    found = _Finder(files)
    taken, woven = _Files(), Woven()
    whole = _read_whole(recording)
    same = alike = dropped_pages = 0
    numbers: list[int | None] = []
    dropped = []
    for number, file in enumerate(recording.files):
        new, is_same = found.find(file, whole=number in whole)
        numbers.append(None if new is None else taken.number(new))
        if new is None:
            dropped.append(file)
        else:
            same, alike = same + is_same, alike + (not is_same)
    sizes = [file.size for file in taken.all()]
    placed: list[Touch] = []
    for old, start, count in recording.touches:
        new_number = numbers[old]
        if new_number is None:
            dropped_pages += count
        elif old in whole and sizes[new_number] != recording.files[old].size:
            placed.append((new_number, 0, _page_count(sizes[new_number])))
        else:
            placed.append((new_number, start, count))
    woven.weave(each for each in placed if each[2])
    changed = msgspec.structs.replace(recording, image=image, files=taken.all(), touches=woven.touches())
    return Inherited(without_unread(changed), same, alike, tuple(dropped), dropped_pages)


def with_contents(recording: Recording, files: Iterable[RecordedFile]) -> Recording:
    """The same, with the contents of its files where they were not known. files: of the same image; of a file of
    another size nothing is taken."""
    known = {(file.path, file.size): file.sha256 for file in files if file.sha256}
    filled = tuple(
        file if file.sha256 else file._replace(sha256=known.get((file.path, file.size), "")) for file in recording.files
    )
    return msgspec.structs.replace(recording, files=filled)


class _Files:
    """Files of a recording that is being made, by path."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._files: list[RecordedFile] = []

    def number(self, file: RecordedFile) -> int:
        """A file's number. Raises RecordingInvalid: its path is another file's."""
        number = self._numbers.setdefault(file.path, len(self._files))
        if number == len(self._files):
            self._files.append(file)
            return number
        there = self._files[number]
        if there.size != file.size or (there.sha256 and file.sha256 and there.sha256 != file.sha256):
            raise RecordingInvalid(f"the recordings of one image have two different files {file.path!r}")
        if not there.sha256:
            self._files[number] = file
        return number

    def all(self) -> tuple[RecordedFile, ...]:
        """By number."""
        return tuple(self._files)


class _Finder:
    """Finds files of an image for those of a recording."""

    def __init__(self, files: Iterable[RecordedFile]) -> None:
        self._by_path: dict[str, RecordedFile] = {}
        self._by_content: defaultdict[str, list[RecordedFile]] = defaultdict(list)
        for file in files:
            self._by_path[file.path] = file
            if file.sha256:
                self._by_content[file.sha256].append(file)

    def find(self, file: RecordedFile, *, whole: bool) -> tuple[RecordedFile | None, bool]:
        """The file in its place, and whether its content is the same. None: there is none."""
        there = self._by_path.get(file.path)
        if file.sha256:
            if there is not None and there.sha256 == file.sha256:
                return there, True
            if moved := self._by_content.get(file.sha256):
                return max(moved, key=lambda each: (_common_end(each.path, file.path), each.path)), True
        if there is not None and (there.size == file.size or (whole and there.size <= SCRIPT_BYTES)):
            return there, False
        return None, False


def _common_end(one: str, other: str) -> int:
    """How many characters two paths end with in common."""
    count = 0
    for mine, theirs in zip(reversed(one), reversed(other), strict=False):
        if mine != theirs:
            break
        count += 1
    return count


def _read_whole(recording: Recording) -> set[int]:
    """Small files of which each page was read."""
    pages = [0] * len(recording.files)
    for number, _, count in recording.touches:
        pages[number] += count
    return {
        number
        for number, file in enumerate(recording.files)
        if 0 < file.size <= SCRIPT_BYTES and pages[number] == _page_count(file.size)
    }


def without_unread(recording: Recording) -> Recording:
    """Without files of which no page is left."""
    left = sorted({number for number, _, _ in recording.touches})
    new = {old: number for number, old in enumerate(left)}
    return msgspec.structs.replace(
        recording,
        files=tuple(recording.files[old] for old in left),
        touches=tuple((new[number], first, count) for number, first, count in recording.touches),
    )


def _page_count(size: int) -> int:
    return -(-size // PAGE_BYTES)


def _check(recording: Recording) -> None:
    """Raises RecordingInvalid."""
    for problem in _problems(recording):
        raise RecordingInvalid(f"the recording cannot be used: {problem}")


def _problems(recording: Recording) -> Iterator[str]:
    if len(recording.files) > MAX_FILES:
        yield f"it has {count_text(len(recording.files), 'file')}, and {MAX_FILES} is the limit"
    if not 0 <= recording.seconds < _MAX_SECONDS:
        yield f"it took {recording.seconds} seconds"
    paths = set()
    for file in recording.files:
        parts = file.path.split("/")
        if not {"", ".", ".."}.isdisjoint(parts) or "\0" in file.path or len(file.path) > _MAX_PATH_BYTES:
            yield f"{file.path[:200]!r} is no path of a file in an image"
        if not 0 <= file.size <= _MAX_SIZE:
            yield f"{file.path!r} has {file.size} bytes"
        if file.sha256 and not _HEX.match(file.sha256):
            yield f"{file.path!r} has a content that is no sha256"
        paths.add(file.path)
    if len(paths) < len(recording.files):
        yield "it has two files with one path"
    seen: defaultdict[int, Pages] = defaultdict(Pages)
    total = 0
    for number, first, count in recording.touches:
        if not 0 <= number < len(recording.files):
            yield f"it has no file {number}"
            return
        if first < 0 or count <= 0 or first + count > _page_count(recording.files[number].size):
            yield f"{recording.files[number].path!r} has no pages {first} to {first + count - 1}"
            return
        if seen[number].overlaps(first, first + count):
            yield f"it has a page of {recording.files[number].path!r} twice"
            return
        seen[number].add(first, first + count)
        total += count
    if total > MAX_PAGES:
        yield f"it has {count_text(total, 'page')}, and {MAX_PAGES} is the limit"


def _to_bytes(text: str) -> bytes:
    """Raises RecordingInvalid: it has surrogates that stand for no byte."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        raise RecordingInvalid(f"{text[:200]!r} is no name") from error


def _to_text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


__all__ = [
    "PAGE_BYTES",
    "Inherited",
    "RecordedFile",
    "Recording",
    "decode",
    "encode",
    "inherit",
    "merge_recordings",
    "with_contents",
    "without_unread",
]
