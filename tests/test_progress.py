"""Byte counts of many threads, and the words for sizes and times."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from registry_pipelines.progress import Counter, age_text, duration_text


def test_counter_adds_bytes_of_all_tasks_from_all_threads() -> None:
    counter = Counter()
    with ThreadPoolExecutor(8) as pool:
        for number in range(1000):
            pool.submit(counter.advance, f"blob {number % 7}", 3)
    assert counter.bytes_moved == 3000


def test_ages_have_one_unit() -> None:
    day = 86_400
    assert [age_text(each) for each in (-5, 59, 60, 3_599, 3_600, day - 1, day, 729 * day, 730 * day)] == [
        "0 s", "59 s", "1 min", "59 min", "1 h", "23 h", "1 d", "729 d", "2 y",
    ]  # fmt: skip


def test_durations() -> None:
    assert [duration_text(each) for each in (-1, 0.4, 59, 61, 3600, 12_345)] == [
        "0 s", "0 s", "59 s", "1 min 1 s", "1 h 0 min", "3 h 25 min",
    ]  # fmt: skip
