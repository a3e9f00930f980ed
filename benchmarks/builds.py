"""This build against another of ours, in turns on the same work. Run by ``transfer.py --against PYTHON``.

PYTHON is the interpreter of the other checkout's virtual environment:

    git worktree add --detach ../base COMMIT && make -C ../base setup
    python benchmarks/transfer.py --against ../base/.venv/bin/python --rounds 9
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import measure

LIMIT = 1.05
"""More than this times the other build's figure is slower."""

WHERE = "import compileall, pathlib, registry_pipelines as p; here = pathlib.Path(p.__file__).parent; print(here)"

BOTH = """
try:
    from registry_pipelines.registry.protocol import Place
    from registry_pipelines.transfer.copying import copy_closure
    from registry_pipelines.transfer.engine import Engine
    keeping = lambda folder: {'engine': Engine(state=folder)}
except ImportError:  # a build of before December 2026
    from registry_pipelines.registry.interface import Place
    from registry_pipelines.transfer.copy import copy_closure
    keeping = lambda folder: {'state': folder}
"""
"""Python text for programs that both builds run: what was called otherwise, and ``**keeping(folder)``, the arguments of
a copy that keeps its state there."""


@dataclass(frozen=True)
class Build:
    """One build: the interpreter that runs it, and a folder that goes before what is installed there."""

    python: str
    path: str = ""

    def run(self, program: str, arguments: Sequence[str], env: Mapping[str, str]) -> measure.Sample:
        """Run Python text to its end. ``-P``: the current folder may hold another build."""
        command = [self.python, "-P", "-c", program, *arguments]
        return measure.run(command, env={**env, "PYTHONPATH": self.path})

    def compile(self) -> Path:
        """Compile it, as an installed package is, and tell where it lies."""
        command = [self.python, "-P", "-c", f"{WHERE}; compileall.compile_dir(here, quiet=1)"]
        done = subprocess.run(
            command, env={**os.environ, "PYTHONPATH": self.path}, check=True, capture_output=True, text=True
        )
        return Path(done.stdout.splitlines()[0])


HERE = Build(sys.executable, str(Path(__file__).parents[1]))

Figures = dict[str, float]
"""What one run cost, by name: seconds, CPU seconds, requests."""


def alternate(works: Mapping[str, Callable[[Build], Figures]], other: Build, rounds: int) -> str:
    """Do each work with both builds, in turns and in turned order, after a round that is not counted.

    Returns a table of medians with the ratio this/other; slower than ``LIMIT`` is marked.
    """
    if HERE.compile() == other.compile():
        raise SystemExit(f"{other.python} runs this build too")
    taken: dict[tuple[str, str, bool], list[float]] = {}
    for turn in range(rounds + 1):
        for name, work in works.items():
            for build in (HERE, other) if turn % 2 else (other, HERE):
                figures = work(build)
                told = ", ".join(f"{figure} {value:,.2f}" for figure, value in figures.items())
                print(f"  {turn}/{rounds} {name}: {'this' if build is HERE else 'other'}: {told}", flush=True)
                if turn:
                    for figure, value in figures.items():
                        taken.setdefault((name, figure, build is HERE), []).append(value)
    rows = ["| work | figure | other | this | this/other |", "|---|---|---|---|---|"]
    for (name, figure, ours), values in taken.items():
        if ours:
            this, that = statistics.median(values), statistics.median(taken[name, figure, False])
            ratio = f"{this / that:.3f}" if this <= that * LIMIT else f"**{this / that:.3f}: slower**"
            rows.append(f"| {name} | {figure} | {that:,.2f} | {this:,.2f} | {ratio} |")
    return measure.beside("\n".join(rows))
