"""How many connections one blob gets, on a clock of our own."""

import pytest

from registry_pipelines.transfer.blob.growth import FIRST_REST_S, TRIAL_S, Growth


class Link:
    """A receiver that always waits for its source, which gives ``rate(connections)`` bytes a second."""

    def __init__(self, rate, *, wait_share=1.0, room=True):
        self.now, self.rate, self.wait_share, self.room = 100.0, rate, wait_share, room
        self.growth = Growth(6, clock=lambda: self.now)

    def run(self, seconds, step=0.05):
        for _ in range(round(seconds / step)):
            self.now += step
            self.growth.received(int(self.rate(self.growth.wanted) * step))
            self.growth.waited(step * self.wait_share, room=self.room)
        return self.growth.wanted


def test_limit_per_connection_gets_all_connections_within_two_seconds_and_keeps_them():
    link = Link(lambda connections: 20e6 * connections)
    assert link.run(2) == 6
    assert link.run(60) == 6


@pytest.mark.parametrize("link", [Link(lambda _: 20e6, wait_share=0.3), Link(lambda _: 20e6, room=False)])
def test_one_connection_while_the_receiver_is_the_slow_one_or_memory_is_short(link):
    assert link.run(30) == 1


def test_connections_that_bring_nothing_go_again_and_are_tried_ever_less_often():
    link = Link(lambda _: 300e6)
    tried, before = 0, 1
    for _ in range(round(120 / 0.05)):
        wanted = link.run(0.05)
        tried += wanted > before
        before = wanted
    assert 3 <= tried <= 6
    assert link.run(TRIAL_S) in (1, 3)


def test_a_source_that_becomes_slow_per_connection_is_noticed_after_a_rest():
    link = Link(lambda _: 300e6)
    link.run(3)
    link.rate = lambda connections: 30e6 * connections
    assert link.run(FIRST_REST_S + 3) == 6


def test_the_time_to_the_first_byte_is_no_hunger():
    link = Link(lambda _: 0)
    assert link.run(5) == 1


def test_told_to_stay_alone_it_stays_alone_also_in_the_middle_of_a_trial():
    link = Link(lambda connections: 20e6 * connections)
    while link.growth.wanted == 1:
        link.run(0.05)
    link.growth.stay_alone()
    assert link.run(60) == 1
