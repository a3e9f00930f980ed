"""What steps print, kept in files without a process for it.

Dagster's own manager starts four processes a run: ``tail`` for each of the two streams, so that what is kept in a file
is printed, too, and one that ends ``tail`` when the run is killed.
"""

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from select import POLLIN, poll
from threading import Thread
from typing import Any, TextIO

from dagster._core.storage.compute_log_manager import CapturedLogContext, ComputeIOType
from dagster._core.storage.local_compute_log_manager import IO_TYPE_EXTENSION, LocalComputeLogManager
from dagster._serdes import ConfigurableClassData

CHUNK = 1 << 16


class PrintedFiles(LocalComputeLogManager):
    """Dagster's files, written by a thread for each stream. Has all settings of Dagster's own."""

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]
    ) -> "PrintedFiles":
        """Made by Dagster from ``dagster.yaml``."""
        return cls(inst_data=inst_data, **config_value)

    @contextmanager
    def capture_logs(self, log_key: Sequence[str]) -> Iterator[CapturedLogContext]:
        """Keep what this process and its children print, and print it, until the context ends."""
        with ExitStack() as stack:
            for stream, kind in ((sys.stdout, ComputeIOType.STDOUT), (sys.stderr, ComputeIOType.STDERR)):
                path = Path(self.get_captured_local_path(log_key, IO_TYPE_EXTENSION[kind]))
                path.parent.mkdir(parents=True, exist_ok=True)
                stack.enter_context(copied(stream, path))
            yield CapturedLogContext(log_key)
        Path(self.get_captured_local_path(log_key, "complete")).touch()


@contextmanager
def copied(stream: TextIO, path: Path) -> Iterator[None]:
    """Have what goes to a stream's descriptor in a file, too. A stream without one (a test's) gives an empty file."""
    with path.open("ab", buffering=0) as file:
        try:
            number = stream.fileno()
        except (OSError, ValueError, AttributeError):
            yield
            return
        stream.flush()
        printed, (reading, writing), (told, telling) = os.dup(number), os.pipe(), os.pipe()
        os.dup2(writing, number)
        os.close(writing)
        copying = Thread(target=_copy, args=(reading, told, (printed, file.fileno())), name=f"printed to {path.name}")
        copying.start()
        try:
            yield
        finally:
            stream.flush()
            os.dup2(printed, number)
            # A child that goes on holds the other end of the pipe, so its end is not what is waited for.
            os.close(telling)
            copying.join()
            for each in (printed, reading, told):
                os.close(each)


def _copy(source: int, told: int, to: Sequence[int]) -> None:
    """Until it is told to end and there is nothing more."""
    waiting = poll()
    for each in (source, told):
        waiting.register(each, POLLIN)
    while source in dict(waiting.poll()):
        if not (chunk := os.read(source, CHUNK)):
            return
        for each in to:
            _write_all(each, chunk)


def _write_all(to: int, chunk: bytes) -> None:
    """A full disk or a reader that is gone costs what is printed, and not the run."""
    try:
        while chunk:
            chunk = chunk[os.write(to, chunk) :]
    except OSError:
        return
