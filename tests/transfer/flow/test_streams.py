"""As many large blobs at once as the largest leaves time for, and none is held back for ever."""

from __future__ import annotations

import threading

from hypothesis import given
from hypothesis import strategies as st

from registry_pipelines.transfer.flow.schedule import Schedule
from registry_pipelines.transfer.flow.streams import Load, Streams
from tests.patience import patient

LONG_S = patient(20)


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(1, 50)), min_size=1, max_size=30), st.randoms())
def test_each_is_admitted_once_and_no_more_than_fit_beside_the_largest(
    made: list[tuple[str, int]], random: object
) -> None:
    loads = [Load(way, size) for way, size in made]
    streams, running, seen = Streams(loads), set[int](), set[int]()

    def admit(entries: list[tuple[tuple[int, int], int]]) -> None:
        for _, at in entries:
            assert at not in seen
            seen.add(at)
            running.add(at)
        for way in "ab":
            left = [load.size for at, load in enumerate(loads) if load.way == way and at not in ended]
            if left and entries:
                assert sum(loads[at].way == way for at in running) <= -(-sum(left) // max(left))

    ended: set[int] = set()
    for at, load in enumerate(loads):
        admit(streams.ready(load, ((0, -load.size), at)))
    while running:
        at = random.choice(sorted(running))  # type: ignore[attr-defined]
        running.remove(at)
        ended.add(at)
        admit(streams.left(loads[at]))
    assert ended == set(range(len(loads)))


def test_a_small_layer_waits_while_the_largest_and_another_are_on_their_way() -> None:
    """Twelve of fifteen in one: there is time for two streams."""
    schedule, order, both = Schedule(), list[str](), threading.Barrier(2)

    def task(name: str) -> None:
        both.wait(LONG_S)
        order.append(name)

    schedule.add(lambda: task("large"), rank=(0, -12), load=Load("here", 12))
    schedule.add(lambda: task("small"), rank=(0, -2), load=Load("here", 2))
    schedule.add(lambda: order.append("last"), rank=(0, -1), load=Load("here", 1))
    schedule.run(8)

    assert order[0] != "last"
    assert sorted(order) == ["large", "last", "small"]


def test_one_that_only_waits_holds_nobody_back() -> None:
    schedule, last = Schedule(), threading.Event()

    def aside_until_the_last() -> None:
        with schedule.aside():
            assert last.wait(LONG_S)

    schedule.add(aside_until_the_last, rank=(0, -10), load=Load("here", 10))
    schedule.add(lambda: last.wait(LONG_S), rank=(0, -2), load=Load("here", 1))
    schedule.add(last.set, rank=(0, -1), load=Load("here", 1))
    schedule.run(2)
    assert last.is_set()
