"""Byte code that is the same every time: hash-based ``.pyc`` that the interpreter never checks against the source.

Without it every cold start compiles (``import torch`` reads about 2,000 modules). PEP 552: flags 0b01 (hash-based,
unchecked), then the source's SipHash. How ``marshal`` writes an object depends on how often it
is referred to in the process, so every batch is compiled by a fresh, isolated interpreter in a fixed order: equal
batches give equal bytes.

Compiling is half of the work of most wheels that are not libraries of CUDA. It is begun before a layer's files are
written and goes on beside them; what is done early waits in temporary files, so memory stays flat.
"""

from __future__ import annotations

import importlib.util
import os
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import IO

from registry_pipelines.errors import DiskFull, LocalError
from registry_pipelines.interrupts import is_interrupt
from registry_pipelines.oci.files import local_errors
from registry_pipelines.threads import Pool, run_child

MAX_SOURCE_BYTES = 4 * 1024**2
"""A larger source is left to the interpreter; the largest in wheels (generated tables) stay below 2 MiB."""

BATCH_FILES = 200
BATCH_BYTES = 8 * 1024**2
"""Sources given to one interpreter: the interpreter's own start (15 ms) does not count. What is in a batch
decides about bytes: other limits are another FORMAT of layers."""

BATCH_TIMEOUT_S = 300
"""Compiling 8 MiB of source takes about 10 s."""

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
"""That this process may use."""

TAG = sys.implementation.cache_tag or ""
MAGIC = importlib.util.MAGIC_NUMBER.hex()
IDENTITY = f"{TAG} {sys.version.split()[0]} {MAGIC}"
"""What compiled bytes depend on beside the source and its path; part of a layer's key."""

_WORKER = r"""
import gc, importlib.util, marshal, struct, sys, warnings
gc.disable()  # compiling leaves next to no cycles
warnings.simplefilter("ignore")
data, out = sys.stdin.buffer, sys.stdout.buffer
size = struct.Struct("<LL")
unchecked_hash = importlib.util.MAGIC_NUMBER + (1).to_bytes(4, "little")
while head := data.read(8):
    path_size, source_size = size.unpack(head)
    path, source = data.read(path_size).decode(), data.read(source_size)
    try:
        code = compile(source, path, "exec", dont_inherit=True, optimize=0)
        pyc = unchecked_hash + importlib.util.source_hash(source) + marshal.dumps(code)
    except Exception:
        pyc = b""
    code = None
    out.write(len(pyc).to_bytes(4, "little"))
    out.write(pyc)
"""


@dataclass(frozen=True)
class Source:
    """A module's source and where it stands in the image, with leading slash.

    read: gives the source, ``size`` bytes; called once, in another thread. Its errors are of RegistryPipelinesError."""

    path: str
    size: int
    read: Callable[[], bytes]


def compiled_path(path: str) -> str:
    """``a/b.py`` to ``a/__pycache__/b.<tag>.pyc`` (PEP 3147)."""
    folder, _, name = path.rpartition("/")
    return f"{folder}/__pycache__/{name.removesuffix('.py')}.{TAG}.pyc".lstrip("/")


class Compilation:
    """Byte code of sources; interpreters of its own make it from now on, one per core for all compilations together.

    A context manager: leaving it stops what has not begun. Iterate once: (path of the source, pyc bytes) in the order
    given; sources that do not compile are left out, as pip does. Raises LocalError, DiskFull for temporary files, and
    what ``Source.read`` raises.
    """

    def __init__(self, sources: Iterable[Source]) -> None:
        self._pool = Pool(CORES, "compile")
        self._answers = [(batch, self._pool.submit(_compile, batch)) for batch in _batches(sources)]

    def __enter__(self) -> Compilation:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if is_interrupt(kind):
            self._pool.stop()
            return
        self._pool.shutdown(cancel_futures=True)
        for _, answer in self._answers:
            if not answer.cancelled() and not answer.exception():
                answer.result().close()

    def __iter__(self) -> Iterator[tuple[str, bytes]]:
        for batch, answer in self._answers:
            with answer.result() as file:
                yield from _read_answer(batch, file)


_RUNNING = threading.BoundedSemaphore(CORES)
"""Layers are made in several threads, and builds may be too; more interpreters than cores would only take memory."""


def _batches(sources: Iterable[Source]) -> Iterator[list[Source]]:
    batch: list[Source] = []
    size = 0
    for source in sources:
        if batch and (len(batch) >= BATCH_FILES or size + source.size > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(source)
        size += source.size
    if batch:
        yield batch


def _compile(batch: list[Source]) -> IO[bytes]:
    """The interpreter's whole answer as a file that is gone when it is closed, also after a kill."""
    with _RUNNING, local_errors(tempfile.gettempdir()):
        with ExitStack() as stack, tempfile.TemporaryFile() as request:
            answer = stack.enter_context(tempfile.TemporaryFile())
            for source in batch:
                path, content = source.path.encode(), source.read()
                request.write(struct.pack("<LL", len(path), len(content)) + path)
                request.write(content)
            request.seek(0)
            _run(request, answer)
            answer.seek(0)
            stack.pop_all()
        return answer


def _run(request: IO[bytes], answer: IO[bytes]) -> None:
    command = [sys.executable, "-P", "-s", "-S", "-B", "-X", "utf8", "-c", _WORKER]
    try:
        done = run_child(command, stdin=request, stdout=answer, timeout_s=BATCH_TIMEOUT_S, env=_environment())
    except (OSError, subprocess.TimeoutExpired) as error:
        raise LocalError(f"the compiling interpreter failed: {error}", where=sys.executable) from error
    if done.returncode:
        detail = done.stderr[-300:].decode(errors="replace")
        if "No space left on device" in detail:
            raise DiskFull("no space is left for byte code", where=tempfile.gettempdir(), do="Free space or set TMPDIR")
        raise LocalError(f"the compiling interpreter ended with {done.returncode}: {detail}", where=sys.executable)


def _read_answer(batch: list[Source], file: IO[bytes]) -> Iterator[tuple[str, bytes]]:
    for source in batch:
        head = file.read(4)
        size = int.from_bytes(head, "little")
        pyc = file.read(size)
        if len(head) < 4 or len(pyc) < size:
            raise LocalError("the compiling interpreter gave an incomplete answer", where=sys.executable)
        if pyc:
            yield source.path, pyc


def _environment() -> dict[str, str]:
    """Nothing of the caller's but what a dynamically linked interpreter needs; -I would ignore the hash seed."""
    inherited = {name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ}
    return {**inherited, "PYTHONHASHSEED": "0", "LC_ALL": "C.UTF-8"}
