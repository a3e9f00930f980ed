"""Byte code that is the same every time: hash-based ``.pyc`` that the interpreter never checks against the source.

Without it every cold start compiles (``import torch`` reads about 2,000 modules). PEP 552: flags 0b01 (hash-based,
unchecked), then the source's SipHash. How ``marshal`` writes an object depends on how often it
is referred to in the process, so every batch is compiled by a fresh, isolated interpreter in a fixed order: equal
batches give equal bytes.
"""

from __future__ import annotations

import concurrent.futures
import importlib.util
import os
import struct
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from registry_pipelines.errors import LocalError

MAX_SOURCE_BYTES = 4 * 1024**2
"""A larger source is left to the interpreter; the largest in wheels (generated tables) stay below 2 MiB."""

BATCH_FILES = 200
BATCH_BYTES = 8 * 1024**2
"""Sources given to one interpreter: bounds memory, and the interpreter's own start (15 ms) does not count."""

BATCH_TIMEOUT_S = 300
"""Compiling 8 MiB of source takes about 10 s."""

TAG = sys.implementation.cache_tag or ""
MAGIC = importlib.util.MAGIC_NUMBER.hex()
IDENTITY = f"{TAG} {sys.version.split()[0]} {MAGIC}"
"""What compiled bytes depend on beside the source and its path; part of a layer's key."""

_WORKER = r"""
import importlib.util, marshal, struct, sys, warnings
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
    """A module's source and where it stands in the image, with leading slash."""

    path: str
    content: bytes


def compiled_path(path: str) -> str:
    """``a/b.py`` to ``a/__pycache__/b.<tag>.pyc`` (PEP 3147)."""
    folder, _, name = path.rpartition("/")
    return f"{folder}/__pycache__/{name.removesuffix('.py')}.{TAG}.pyc".lstrip("/")


def compile_all(sources: Iterator[Source], *, workers: int = 0) -> Iterator[tuple[str, bytes]]:
    """Byte code of every source that compiles, as (path of the source, pyc bytes), in the order given; sources that do
    not compile are left out, as pip does. At most ``workers`` batches run and wait at a time; 0: one per core."""
    limit = workers or os.cpu_count() or 1
    with concurrent.futures.ThreadPoolExecutor(limit) as pool:
        waiting: list[concurrent.futures.Future[list[tuple[str, bytes]]]] = []
        for batch in _batches(sources):
            waiting.append(pool.submit(_compile_batch, batch))
            if len(waiting) > limit:
                yield from waiting.pop(0).result()
        for future in waiting:
            yield from future.result()


def _batches(sources: Iterator[Source]) -> Iterator[list[Source]]:
    batch: list[Source] = []
    size = 0
    for source in sources:
        if batch and (len(batch) >= BATCH_FILES or size + len(source.content) > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(source)
        size += len(source.content)
    if batch:
        yield batch


def _compile_batch(batch: Sequence[Source]) -> list[tuple[str, bytes]]:
    request = b"".join(
        struct.pack("<LL", len(path), len(source.content)) + path + source.content
        for source in batch
        for path in [source.path.encode()]
    )
    command = [sys.executable, "-P", "-s", "-S", "-B", "-X", "utf8", "-c", _WORKER]
    try:
        done = subprocess.run(command, input=request, capture_output=True, timeout=BATCH_TIMEOUT_S, env=_environment())
    except (OSError, subprocess.TimeoutExpired) as error:
        raise LocalError(f"the compiling interpreter failed: {error}", where=sys.executable) from error
    if done.returncode:
        detail = done.stderr[-300:].decode(errors="replace")
        raise LocalError(f"the compiling interpreter ended with {done.returncode}: {detail}", where=sys.executable)
    return _read_answer(batch, done.stdout)


def _read_answer(batch: Sequence[Source], answer: bytes) -> list[tuple[str, bytes]]:
    compiled = []
    position = 0
    for source in batch:
        size = int.from_bytes(answer[position : position + 4], "little")
        position += 4
        if size:
            compiled.append((source.path, answer[position : position + size]))
        position += size
    if position != len(answer):
        raise LocalError("the compiling interpreter gave an incomplete answer", where=sys.executable)
    return compiled


def _environment() -> dict[str, str]:
    """Nothing of the caller's but what a dynamically linked interpreter needs; -I would ignore the hash seed."""
    kept = {name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ}
    return {**kept, "PYTHONHASHSEED": "0", "LC_ALL": "C.UTF-8"}
