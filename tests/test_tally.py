"""Progress adds up, and is told as lines that neither go backwards nor flood a log."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from registry_pipelines.tally import Bulletins, Tally, bulletins

MIB = 1024**2


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_slow_transfer_is_told_every_ten_seconds_with_rate_and_time_left() -> None:
    clock, said = Clock(), list[str]()
    told = Bulletins(said.append, clock=clock)
    told.begin("app -> eu", total_bytes=600 * MIB, group="eu")
    told.begin("app -> gcp", total_bytes=600 * MIB, group="gcp")
    for _ in range(25):
        clock.now += 1
        told.advance("app -> eu", 2 * MIB)
        told.tick()
    assert said == [
        "1 %: 20.0 MiB of 1.2 GiB, 2.0 MiB/s, 9 min 50 s left; 0 of 2 copies done; eu 3 %, gcp 0 %",
        "3 %: 40.0 MiB of 1.2 GiB, 2.0 MiB/s, 9 min 40 s left; 0 of 2 copies done; eu 6 %, gcp 0 %",
    ]
    clock.now += 30
    told.tick()
    assert said[2] == "4 %: 50.0 MiB of 1.2 GiB, 0 B/s; 0 of 2 copies done; eu 8 %, gcp 0 %"


def test_a_fast_transfer_is_told_at_steps_of_ten_per_cent_and_at_its_end() -> None:
    clock, said = Clock(), list[str]()
    told = Bulletins(said.append, clock=clock)
    told.begin("a", total_bytes=100 * MIB, group="eu")
    for _ in range(200):
        clock.now += 0.02  # 25 MiB a second
        told.advance("a", MIB // 2)
        told.tick()
    assert [line.partition(" %")[0] for line in said] == ["25", "51", "76"]
    told.end("a", note="copied")
    assert said[3:] == ["1 of 1 copy done; 100.0 MiB sent in 4.0 s (25.0 MiB/s)"]
    told.tick()
    told.begin("b", total_bytes=0, group="eu")
    told.begin("c", total_bytes=MIB, group="eu")
    told.end("b", note="unchanged")
    told.end("c", note="failed")
    assert said[4:] == ["1 of 2 copies done, 1 failed; no blob had to be sent"]


def test_what_was_not_needed_leaves_the_total_and_what_came_on_top_joins_it() -> None:
    tally = Tally(Clock())
    tally.begin("mounted", total_bytes=10, group="eu")
    tally.begin("refused", total_bytes=10, group="eu")
    tally.advance("refused", 30)
    tally.end("mounted", note="copied")
    assert (tally.standing().done_bytes, tally.standing().total_bytes, tally.standing().percent) == (30, 30, 99)
    assert tally.end("refused", note="copied") and tally.standing().percent == 100


@given(
    st.lists(
        st.tuples(st.sampled_from(["begin", "advance", "end"]), st.integers(0, 4), st.integers(0, 50), st.floats(0, 9)),
        max_size=60,
    )
)
def test_within_a_round_bytes_and_per_cent_never_fall(steps: list[tuple[str, int, int, float]]) -> None:
    clock, last = Clock(), (0, 0)
    tally = Tally(clock)
    for act, task, count, seconds in steps:
        clock.now += seconds
        if tally.idle:
            last = (0, 0)
        if act == "begin":
            tally.begin(str(task), total_bytes=count, group=str(task % 2))
        elif act == "advance":
            tally.advance(str(task), count)
        else:
            tally.end(str(task))
        found = tally.standing()
        assert (found.done_bytes, found.percent) >= last and found.percent >= last[1] and found.percent <= 100
        assert found.done_bytes <= found.total_bytes and found.bytes_per_s >= 0 and (found.eta_s or 0) >= 0
        assert found.done_bytes == sum(each.done_bytes for each in tally.groups().values())
        last = (found.done_bytes, found.percent)


def test_lines_end_with_the_sums() -> None:
    said: list[str] = []

    def say(line: str) -> None:
        said.append(line)

    with bulletins(say) as told:
        told.begin("a", total_bytes=MIB, group="eu")
        told.advance("a", MIB)
        told.end("a")
    assert len(said) == 1 and re.match(r"1 of 1 copy done; 1.0 MiB sent in [\d.]+ s", said[0])
