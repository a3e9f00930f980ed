"""Records a start: the program of an image is run, and each page that it reads of the image is written down.

The image is mounted for this run alone, so nothing is in the page cache before, and with a read-ahead of one page, so
that the kernel asks for what the program needs and for nothing beside it: the pages are the same ones each time. What
the program writes, and reads elsewhere (/proc, /dev, what it wrote itself), the mount never sees.
"""

from __future__ import annotations

import os
import select
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from registry_pipelines import __version__
from registry_pipelines.arrivals import is_ready
from registry_pipelines.errors import InputError, LocalError, StartFailed
from registry_pipelines.stream.hot.limits import Limits
from registry_pipelines.stream.hot.recording import PAGE_BYTES, RecordedFile, Recording
from registry_pipelines.stream.hot.touches import Touches
from registry_pipelines.stream.lazy.fuse import FuseServer
from registry_pipelines.stream.lazy.fuse_tree import Served
from registry_pipelines.stream.lazy.gpu import DEVICES, driver_files
from registry_pipelines.stream.lazy.mounting import end_mount, mount_fuse
from registry_pipelines.stream.lazy.opened import OpenImage
from registry_pipelines.stream.lazy.program_root import gpu_devices, writable_root
from registry_pipelines.stream.lazy.running import Program, Started
from registry_pipelines.stream.lazy.sandbox import Sandbox
from registry_pipelines.stream.lazy.tree import ROOT
from registry_pipelines.stream.model import QUIET_S, Record

TOOL = f"registry-pipelines {__version__}"

LOOK_EVERY_S = 0.1
"""At ports, quiet and limits."""
KEPT_BYTES = 1500
"""Of what a program printed last, for who wants to know why it failed."""

_READ_BYTES = 1 << 16
_MOST_LINE_BYTES = 1 << 20
_LISTENS = "0A"
_UNMOUNT_S = 5.0


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """A start that was recorded."""

    recording: Recording
    begun: float
    """When the program was started, in monotonic seconds."""
    first_output_s: float | None
    """From the program's start until it printed something; None: it did not."""
    seconds: float
    """Until the start was over, without the quiet at its end."""
    limited: bool
    """Whether the kernel held the limits of memory and processes for all processes together; else they were looked
    after."""


def record_start(
    image: OpenImage,
    program: Program,
    record: Record,
    started: Started,
    *,
    folder: Path,
    gpus: bool = False,
    read_ahead_bytes: int = PAGE_BYTES,
    output: Callable[[bytes], object] = lambda piece: None,
    say: Callable[[str], object] = lambda line: None,
) -> Recorded:
    """Run a program of an image in a sandbox until its start is over, and end it.

    started: what waits to become the program. folder: an empty one, for this run alone. gpus: it sees the machine's
    GPUs, and of an NVIDIA driver the files. read_ahead_bytes: another one than a page is for who measures a start, and
    not for what is recorded. output: is given what it prints. say: is told in one line what a person must know.

    Contents of files are not known here (``recording.with_contents``). Raises StartFailed: the program failed, or was
    not there in time, or went beyond a limit; InputError, LocalError: it cannot be started, or there is no GPU.
    """
    if gpus and not gpu_devices():
        raise InputError("this machine has no GPU that a program could see", do="Leave out --gpu, or record elsewhere")
    tree = RecordedTree(image)
    lower = folder / "image"
    lower.mkdir()
    # Who records with a GPU wants the driver, whatever the image's variables say.
    driver = driver_files({**program.environment, DEVICES: "all"}, image.kinds, say) if gpus else {}
    with (
        _mounted(tree, lower, str(image.image.descriptor.digest), read_ahead_bytes) as server,
        writable_root(lower, folder, image.kinds, say, files=driver, memory_bytes=int(record.memory)) as root,
        Limits(record.memory, record.processes) as limits,
    ):
        try:
            limits.hold(started.process)
        except OSError as error:
            raise LocalError(f"the program cannot be put into its control group: {error.strerror}") from error
        tree.begin()
        watch = _Watch(started, record, tree, limits, output)
        sandbox = Sandbox(
            memory_bytes=int(record.memory), processes=record.processes, gpus=gpus, grouped=limits.together
        )
        try:
            started.start(program, root, piped=True, sandbox=sandbox)
            seconds = watch.wait()
        finally:
            started.end(0)
            tree.end()
        if server.failed_reads:
            raise StartFailed("reads of the image failed, so the program may have taken another way", do="Record again")
        limited = limits.together
    files, touches = tree.found()
    recording = Recording(
        image=image.image.descriptor.digest,
        files=files,
        touches=touches,
        command=program.arguments,
        until=record.until,
        gpu=gpus,
        seconds=round(seconds, 3),
        tool=TOOL,
    )
    return Recorded(
        recording=recording, begun=watch.begun, first_output_s=watch.first_output_s, seconds=seconds, limited=limited
    )


class RecordedTree:
    """A tree that is served to the kernel; writes down what is read of it between :meth:`begin` and :meth:`end`."""

    def __init__(self, served: Served) -> None:
        self._served = served
        self.nodes, self.any_xattrs, self.content_bytes = served.nodes, served.any_xattrs, served.content_bytes
        self.node, self.lookup, self.children, self.parent = (
            *(served.node, served.lookup, served.children, served.parent),
        )
        self.read, self.soon = served.read, served.soon
        self._lock = threading.Lock()
        self._touches = Touches()
        self._on = False
        self.newest_s = 0.0
        """When the last new page was read, in monotonic seconds."""

    def begin(self) -> None:
        """From now on."""
        self.newest_s = time.monotonic()
        self._on = True

    def end(self) -> None:
        """No more."""
        with self._lock:
            self._on = False

    def view(self, number: int, offset: int, size: int) -> memoryview | None:
        """Content that is here. The kernel's every read begins with this."""
        first, end = offset // PAGE_BYTES, -(-(offset + size) // PAGE_BYTES)
        with self._lock:
            if self._on and self._touches.add(number, first, end - first):
                self.newest_s = time.monotonic()
        return self._served.view(number, offset, size)

    def found(self) -> tuple[tuple[RecordedFile, ...], tuple[tuple[int, int, int], ...]]:
        """The files that were read, by their first names, and their pages."""
        numbers: dict[int, int] = {}
        touches = tuple((numbers.setdefault(node, len(numbers)), *rest) for node, *rest in self._touches.list)
        names: dict[int, dict[int, bytes]] = {}
        files = tuple(RecordedFile(os.fsdecode(self._path(node, names)), self.node(node).size) for node in numbers)
        return files, tuple((number, first, count) for number, first, count in touches)

    def _path(self, number: int, names: dict[int, dict[int, bytes]]) -> bytes:
        parts: list[bytes] = []
        while number != ROOT:
            above = self.parent(number)
            if above not in names:
                names[above] = {child: name for name, child in reversed(self.children(above))}
            parts.append(names[above][number])
            number = above
        return b"/".join(reversed(parts))


@contextmanager
def _mounted(tree: RecordedTree, folder: Path, name: str, read_ahead_bytes: int) -> Iterator[FuseServer]:
    device = mount_fuse(folder, name)
    server = FuseServer(device, tree, read_ahead_bytes=read_ahead_bytes)
    thread = threading.Thread(target=server.run, name="recorded", daemon=True)
    thread.start()
    try:
        yield server
    finally:
        end_mount(folder)
        thread.join(_UNMOUNT_S)
        if not thread.is_alive():
            os.close(device)


class _Watch:
    """Waits until a start is over."""

    def __init__(
        self, started: Started, record: Record, tree: RecordedTree, limits: Limits, output: Callable[[bytes], object]
    ) -> None:
        self._started, self._record, self._tree, self._limits, self._output = started, record, tree, limits, output
        self._kind, _, self._wanted = record.until.partition(" ")
        self.begun = time.monotonic()
        self._last, self._line = bytearray(), bytearray()
        self._line_seen = False
        self.first_output_s: float | None = None

    def wait(self) -> float:
        """Seconds until it was over. Raises StartFailed."""
        self.begun = time.monotonic()
        deadline = self.begun + self._record.timeout.total_seconds()
        process = os.pidfd_open(self._started.process)
        waiting = select.poll()
        waiting.register(process, select.POLLIN)
        waiting.register(self._started.output, select.POLLIN)
        try:
            while True:
                ready = {number for number, _ in waiting.poll(LOOK_EVERY_S * 1000)}
                if self._started.output in ready and not self._printed():
                    waiting.unregister(self._started.output)
                if process in ready:
                    self._print_rest()
                # Also where the kernel ended one process alone, or started one less, and the program goes on.
                if beyond := self._limits.exceeded():
                    raise self._failed(beyond)
                if self._is_over():
                    return self._so_far()
                if process in ready:
                    return self._ended()
                if time.monotonic() >= deadline:
                    raise self._failed(f"after {self._record.timeout} {self._missing()}")
        finally:
            os.close(process)

    def _so_far(self) -> float:
        now = self._tree.newest_s if self._kind == "quiet" else time.monotonic()
        return now - self.begun

    def _is_over(self) -> bool:
        """Whether what it waits for is there."""
        if self._kind == "quiet":
            return time.monotonic() - max(self._tree.newest_s, self.begun) >= QUIET_S
        if self._kind == "port":
            return int(self._wanted) in listening(self._started.process)
        return self._kind == "line" and self._line_seen

    def _printed(self) -> bool:
        """Take what it printed; whether there may be more."""
        piece = os.read(self._started.output, _READ_BYTES)
        if not piece:
            return False
        if self.first_output_s is None:
            self.first_output_s = time.monotonic() - self.begun
        self._output(piece)
        self._last = (self._last + piece)[-KEPT_BYTES:]
        if self._kind == "line":
            wanted = self._wanted.encode()
            *whole, rest = (bytes(self._line) + piece).split(b"\n")
            self._line_seen = self._line_seen or any(wanted in line for line in whole)
            self._line = bytearray(rest[-_MOST_LINE_BYTES:])
        return True

    def _print_rest(self) -> None:
        while is_ready(self._started.output) and self._printed():
            pass

    def _ended(self) -> float:
        """The program is gone."""
        code = self._started.wait()
        if code:
            raise self._failed(_how_it_ended(code))
        if self._kind == "port" or (self._kind == "line" and not self._line_seen):
            raise self._failed(f"it ended with 0, and {self._missing()}")
        return time.monotonic() - self.begun if self._kind == "exit" else self._so_far()

    def _missing(self) -> str:
        return {
            "exit": "it has not ended",
            "port": f"nothing listens on port {self._wanted}",
            "line": f"it has printed no line with {self._wanted!r}",
            "quiet": "it still reads what it did not read before",
        }[self._kind]

    def _failed(self, why: str) -> StartFailed:
        said = bytes(self._last).decode(errors="replace").strip()
        tail = f"; it printed last:\n{said}" if said else "; it printed nothing"
        return StartFailed(
            f"the start failed: {why}{tail}",
            do="It runs without network and credentials: give it a command that needs neither (CMD after --, "
            "`stream.record.command`), or another end or limit (--until, --timeout, --memory, --processes)",
        )


def _how_it_ended(code: int) -> str:
    return f"the program was killed by signal {code - 128}" if code > 128 else f"the program ended with {code}"


def listening(process: int) -> set[int]:
    """Ports of TCP at which something listens in a process's network."""
    found: set[int] = set()
    for name in ("tcp", "tcp6"):
        try:
            rows = Path(f"/proc/{process}/net/{name}").read_text().splitlines()[1:]
        except OSError:  # it has ended, or there is no such protocol
            continue
        for row in rows:
            columns = row.split()
            if columns[3] == _LISTENS:
                found.add(int(columns[1].rpartition(":")[2], 16))
    return found


__all__ = ["Recorded", "RecordedTree", "record_start"]
