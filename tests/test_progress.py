"""Byte counts add up from many threads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from registry_pipelines.progress import Counter


def test_counter_adds_bytes_of_all_tasks_from_all_threads() -> None:
    counter = Counter()
    with ThreadPoolExecutor(8) as pool:
        for number in range(1000):
            pool.submit(counter.advance, f"blob {number % 7}", 3)
    assert counter.bytes_moved == 3000
