"""Making and loading a bundle takes no more memory for a large layer than for a small one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import bundle


@pytest.mark.long
def test_memory_is_flat_in_the_size_of_layers(tmp_path: Path) -> None:
    peaks: dict[str, list[float]] = {}
    for megabytes in (50, 400):
        root = tmp_path / str(megabytes)
        root.mkdir()
        bench = bundle.Bench(root)
        # In a process of its own: what the kernel calls a process's peak begins with that of the one it came from.
        sizes = ["--megabytes", str(megabytes), "--layer-megabytes", str(megabytes)]
        subprocess.run([sys.executable, bundle.__file__, "--fill", str(bench.dmz), *sizes], check=True)
        peaks.setdefault("create", []).append(bench.making()["bundle create, folder"]().peak_mb)
        bench.one_bundle()
        peaks.setdefault("load", []).append(bench.loading()["bundle load"]().peak_mb)
    for what, (small, large) in peaks.items():
        assert large < small + 50, f"{what}: {small:.0f} MB for 50 MB, {large:.0f} MB for 400 MB"
