"""Making and loading a bundle takes no more memory for a large layer than for a small one."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import bundle


@pytest.mark.long
def test_memory_is_flat_in_the_size_of_layers(tmp_path: Path) -> None:
    peaks: dict[str, list[float]] = {}
    for megabytes in (100, 1000):
        root = tmp_path / str(megabytes)
        root.mkdir()
        bench = bundle.Bench(root)
        bundle.fill(bench.dmz, megabytes, megabytes)
        peaks.setdefault("create", []).append(bench.making()["bundle create, folder"]().peak_mb)
        bench.one_bundle()
        peaks.setdefault("load", []).append(bench.loading()["bundle load"]().peak_mb)
    for what, (small, large) in peaks.items():
        assert large < small + 50, f"{what}: {small:.0f} MB for 100 MB, {large:.0f} MB for 1000 MB"
