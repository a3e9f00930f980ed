"""Questions that come together are asked together, each once, and each is answered or told why not."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from registry_pipelines.errors import LocalError
from registry_pipelines.oci.digest import Digest
from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.protocol import Place
from registry_pipelines.shared.database import Transaction
from registry_pipelines.shared.gathered import Gathered
from registry_pipelines.transfer.delivery.receipts import SMALL_RECEIPT_BYTES, make_receipt
from registry_pipelines.transfer.delivery.shared import SharedReceipts
from tests.doubles.workers import worker
from tests.patience import patient


def test_who_waits_is_asked_for_with_all_others() -> None:
    asked: list[list[int]] = []
    first, others = threading.Event(), threading.Event()

    def ask_all(keys: Sequence[int]) -> dict[int, int]:
        asked.append(sorted(keys))
        first.set()
        assert others.wait(patient(10))
        return {key: key * key for key in keys if key % 3}

    gathered = Gathered(ask_all)
    with ThreadPoolExecutor(31) as pool:
        one = pool.submit(gathered.ask, 100)
        assert first.wait(patient(10))
        rest = [pool.submit(gathered.ask, key) for key in range(30)]
        while len(gathered._waiting) < 30:
            time.sleep(0.001)
        others.set()
        assert one.result() == 10_000
        assert [each.result() for each in rest] == [key * key if key % 3 else None for key in range(30)]
    assert asked == [[100], list(range(30))]


def test_what_fails_is_told_to_each_and_nobody_waits_for_ever() -> None:
    def ask_all(keys: Sequence[int]) -> dict[int, int]:
        raise LocalError("away")

    gathered: Gathered[int, int] = Gathered(ask_all)
    with ThreadPoolExecutor(8) as pool:
        for each in [pool.submit(gathered.ask, key) for key in range(8)]:
            with pytest.raises(LocalError, match="away"):
                each.result(patient(10))


def test_receipts_of_many_targets_are_few_questions(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One for all that are asked for while another is under way; who looks into one that is there asks no more."""
    registry = DistributionRegistry("registry.example.com")
    places = [Place(registry, f"team/app{number}") for number in range(40)]
    root, large = Digest.of(b"root"), Digest.of(b"large")
    theirs, database = SharedReceipts(worker(postgres_url).database), worker(postgres_url).database
    for place in places[::2]:
        theirs.save(place, root, make_receipt({"target": str(place)}, None))
    theirs.save(places[0], large, make_receipt({"why": "x" * SMALL_RECEIPT_BYTES}, None))
    mine, questions, waits, run = SharedReceipts(database), list[int](), [True], database.run

    def counted(act: Callable[[Transaction], Any], **how: bool) -> Any:
        questions.append(1)
        while waits and len(mine._small._waiting) < 39:
            time.sleep(0.001)
        waits.clear()
        return run(act, **how)

    monkeypatch.setattr(database, "run", counted)
    with ThreadPoolExecutor(40) as pool:
        assert list(pool.map(lambda place: mine.has(place, root), places)) == [True, False] * 20
    assert len(questions) == 2, "the first one's, and all others'"
    questions.clear()
    assert mine.has(places[0], root) and not questions
    for place in places[::2]:
        found = mine.load(place, root)
        assert found and found.document == {"target": str(place)}
    assert not questions
    assert mine.has(places[0], large) and (long := mine.load(places[0], large)) and len(long.envelope) > 20_000
    mine.drop(places[0], root)
    assert not mine.has(places[0], root) and not theirs._read(places[0], root)
