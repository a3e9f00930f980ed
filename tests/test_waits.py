"""Lasting waits are told of: once for each host and reason, and not at all when they are short."""

from __future__ import annotations

from registry_pipelines.progress import Silent
from registry_pipelines.tally import Bulletins
from registry_pipelines.waits import QUIET_S, TELL_AFTER_S, Board, Teller, Wait


class Heard(Silent):
    def __init__(self) -> None:
        self.lines: list[tuple[str, str, float | None]] = []

    def waiting(self, host: str, *, reason: str, left_s: float | None) -> None:
        self.lines.append((host, reason, left_s))


class Scene:
    """A board whose time the test gives."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.board, self.heard = Board(), Heard()
        self.teller = Teller(self.heard, board=self.board, clock=lambda: self.now)

    def begin(self, host: str, reason: str, left_s: float | None = None) -> Wait:
        wait = Wait(host, reason, self.now, left_s)
        self.board.open[id(wait)] = wait
        return wait

    def end(self, wait: Wait) -> None:
        del self.board.open[id(wait)]

    def pass_time(self, seconds: float) -> None:
        for _ in range(int(seconds)):
            self.now += 1
            self.teller.tick()


def test_one_line_for_each_host_however_many_wait_and_how_long() -> None:
    scene = Scene()
    for _ in range(20):
        scene.begin("eu.example", "the rest of its answer")
    scene.begin("us.example", "nothing listens there", 120.0)
    scene.pass_time(60)
    assert sorted(scene.heard.lines) == [
        ("eu.example", "the rest of its answer", None),
        ("us.example", "nothing listens there", 119.0),
    ]


def test_a_change_of_the_reason_is_told_but_not_of_its_numbers() -> None:
    scene = Scene()
    wait = scene.begin("eu.example", "storing a manifest")
    scene.pass_time(TELL_AFTER_S)
    for left in (812, 415, 3):
        wait.reason = f"the connection broke, {left} bytes before its end of 0123456789abcdef"
        scene.pass_time(3)
    assert [reason for _, reason, _ in scene.heard.lines] == [
        "storing a manifest",
        "the connection broke, 812 bytes before its end of 0123456789abcdef",
    ]


def test_short_waits_are_no_lines_and_a_known_long_pause_is_told_at_once() -> None:
    scene = Scene()
    for _ in range(30):
        short = scene.begin("eu.example", "reading a manifest")
        scene.pass_time(TELL_AFTER_S - 1)
        scene.end(short)
    assert scene.heard.lines == []
    scene.begin("eu.example", "its limit of requests", 30.0)
    scene.pass_time(1)
    assert scene.heard.lines == [("eu.example", "its limit of requests", 29.0)]


def test_pauses_of_one_trouble_are_one_line_and_new_trouble_is_another() -> None:
    scene = Scene()
    for _ in range(2):
        for _ in range(6):
            pause = scene.begin("eu.example", "nothing listens there", 60.0)
            scene.pass_time(7)
            scene.end(pause)
            scene.pass_time(2)
        assert len(scene.heard.lines) == 1
        scene.heard.lines.clear()
        scene.pass_time(QUIET_S + 1)


def test_the_line_of_a_log() -> None:
    said: list[str] = []
    log = Bulletins(said.append)
    log.waiting("eu.example", reason="nothing listens there", left_s=112.3)
    log.waiting("eu.example", reason="the rest of its answer", left_s=None)
    assert said == [
        "waiting for eu.example: nothing listens there, 1 min 52 s left",
        "waiting for eu.example: the rest of its answer",
    ]
