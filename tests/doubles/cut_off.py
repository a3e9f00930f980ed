"""A network of its own with nothing in it but loopback: what a machine behind an air gap can reach."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.needs import missing
from tests.patience import patient


class CutOff:
    """Starts programs in the network. folder: short, for wrappers and sockets."""

    def __init__(self, pid: int, folder: Path) -> None:
        self._enter = ["nsenter", "--target", str(pid), "--net", "--"]
        self.folder = folder

    def command(self, *words: str) -> list[str]:
        """The words that run a program there."""
        return [*self._enter, *words]

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run to its end, whatever that is."""
        return subprocess.run(self.command(*words), capture_output=True, text=True, timeout=patient(120))

    def wrapped(self, program: str) -> str:
        """A program of the same name that runs there, for who starts programs by a path."""
        path = self.folder / "bin" / Path(program).name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f'#!/bin/sh\nexec {" ".join(self._enter)} {program} "$@"\n')
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return str(path)

    @contextmanager
    def registry(self, root: Path, *options: str) -> Iterator[str]:
        """Serve a folder there; ``host:port``."""
        program = "from registry_pipelines.cli import main; main()"
        words = [sys.executable, "-c", program, "serve", "--root", str(root), "--port", "0", *options]
        with subprocess.Popen(self.command(*words), stdout=subprocess.PIPE, text=True) as process:
            try:
                assert process.stdout is not None
                yield process.stdout.readline().partition(" ")[0].partition("://")[2]
            finally:
                process.terminate()


@contextmanager
def cut_off() -> Iterator[CutOff]:
    """Make the network; it goes with its last program. Where we are not root: skipped, in CI a failure."""
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        missing("a network of its own needs root and unshare")
    hold = "ip link set lo up && echo up && exec sleep infinity"
    with (
        tempfile.TemporaryDirectory(prefix="cut-") as folder,
        subprocess.Popen(["unshare", "--net", "sh", "-c", hold], stdout=subprocess.PIPE, text=True) as process,
    ):
        try:
            assert process.stdout is not None and process.stdout.readline() == "up\n"
            yield CutOff(process.pid, Path(folder))
        finally:
            process.terminate()
