"""Both clocks of a command, seen from outside; bytes over time; figures of many nodes; pictures."""

from __future__ import annotations

import importlib.util
import math
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from registry_pipelines.pictures import Line, bars, time_line
from registry_pipelines.stream.bench.clocks import Clocks, Failed, time_command
from registry_pipelines.stream.bench.curve import MOST_POINTS, Curve
from registry_pipelines.stream.bench.report import crowd_table, crowd_values, row_values, table
from registry_pipelines.stream.bench.rounds import Crowd, Measured, Row, no_room
from registry_pipelines.stream.bench.ways import DOCKER, LOADED, LOCAL, Node, Sample, warm_up

SVG = "{http://www.w3.org/2000/svg}"


def sh(script: str, **rest: str) -> Clocks:
    return time_command(["sh", "-c", script], **rest)  # type: ignore[arg-type]


def test_the_first_output_and_the_end() -> None:
    clocks = sh("echo up; read word </dev/null; echo noise >&2; echo 42")
    assert 0 < clocks.started_s <= clocks.result_s and clocks.said == "42"


def test_the_answer_is_a_line_and_what_goes_on_is_ended() -> None:
    """The program would not end by itself."""
    assert sh("echo up; echo ready on 8080; exec sleep infinity", until="ready").said == "ready on 8080"


@pytest.mark.parametrize(
    ("script", "until", "what"),
    [
        ("echo up; echo broken >&2; exit 3", "", "code 3: broken"),
        ("true", "", "printed nothing"),
        ("echo up", "down", "never printed 'down': up"),
    ],
)
def test_no_answer_is_told(script: str, until: str, what: str) -> None:
    with pytest.raises(Failed, match=what):
        sh(script, until=until)


def test_what_takes_too_long_is_ended() -> None:
    with pytest.raises(Failed, match="no answer in time"):  # a busy machine may not even have started it
        time_command(["sh", "-c", "echo up; exec sleep infinity"], timeout_s=0.2)


def test_a_curve_begins_when_it_is_told_to() -> None:
    counts = iter(range(1000, 10**6, 500))
    with Curve(lambda: next(counts)) as curve:
        curve.start()
    assert curve.points[-1][1] >= 500 and len(curve.points) <= MOST_POINTS
    with Curve(None) as nothing:
        nothing.start()
    assert nothing.points == ()


def test_what_is_brought_into_memory_is_there() -> None:
    assert all(importlib.util.find_spec(f"registry_pipelines.{name}") for name in LOADED)


def sample(started: float, result: float, wire: int = 0) -> Sample:
    return Sample(Clocks(started, result, ""), wire, 10, 3, 0, ((result, wire),))


def test_rows_are_medians_beside_what_they_are_compared_with() -> None:
    lazy = Row("pack-fuse", "lazy", [sample(0.5, 2.0, 7_000_000), sample(0.1, 9.0), sample(0.7, 1.0)])
    rows = [Row(DOCKER, "Docker", [sample(60, 62)]), lazy, Row(LOCAL, "local", [sample(0.1, 1.6)])]
    failed = Row("spans-fanotify", "held", why="the kernel | has it not")
    measured = Measured([*rows, failed], 3, [100.0])
    values = row_values(lazy, measured)
    assert values["result_s"] == 2.0 and values["started_s"] == 0.5 and values["result_of_local"] == 1.25
    assert values["docker_times_result"] == 31.0 and values["docker_times_started"] == 120.0
    assert values["docker_baseline_times_result"] is None
    text = table({"rows": [row_values(row, measured) for row in measured.rows]})
    assert "| lazy | 0.50 | **2.00** | 1.25 | 120x | 31x | 0.0 | 3 |" in text
    assert "not measured: the kernel / has it not" in text and "unoptimised" not in text
    assert len({line.count("|") for line in text.splitlines()}) == 1


def test_a_replay_tells_of_its_stalls() -> None:
    said = '{"seconds": 4.5, "touches": 9, "stalls": 1200, "stalled_s": 0.75, "slow_s": 0.1}'
    replayed = Row("pack-fuse", "lazy", [Sample(Clocks(0.1, 5.0, said), 0, 10, 3, 0)])
    measured = Measured([replayed, Row("pull", "whole", why="no")], 1)
    text = table({"rows": [row_values(row, measured) for row in measured.rows]})
    assert "| first to last page s | stalls | stalled s |" in text and "| 4.50 | 1,200 | 0.75 |" in text
    assert len({line.count("|") for line in text.splitlines()}) == 1


def test_nodes_that_would_fill_the_disk_are_not_begun() -> None:
    assert no_room(16, 6 << 30, free=100 << 30) == ""
    assert no_room(16, 7 << 30, free=100 << 30).startswith("16 nodes with the whole image would fill 1")


def test_percentiles_are_of_nodes_that_were() -> None:
    crowd = Crowd("pack-fuse", "lazy", [sample(each / 10, float(each)) for each in range(1, 101)], bytes=5, refused=2)
    values = crowd_values(crowd)
    assert (values["result_p50_s"], values["result_p99_s"], values["refused"]) == (50.0, 99.0, 2)
    assert math.isnan(Crowd("a", "a", []).percentile(0.5, lambda each: each.bytes))
    text = crowd_table({"nodes": [values, crowd_values(Crowd("b", "B", [], why="no root"))]})
    assert "| lazy | 100 | 5.00 | 9.90 | 50.00 | 99.00 | 0.0 | 0 | 2 |" in text and "not measured: no root" in text


def test_pictures_are_drawn_to_scale() -> None:
    line = ElementTree.fromstring(
        time_line([Line("A & B", [(1.0, 0), (5.0, 100)], 1.0, 10.0), Line("C", [(5.0, 50)], 2.0, 5.0)])
    )
    squares = [float(each.attrib["x"]) + 4 for each in line.iter(f"{SVG}rect")]
    assert squares == [580.0, 300.0], "the longest ends at the right, half of it in the middle"
    first, second = (each.attrib["points"].split() for each in line.iter(f"{SVG}polygon"))
    heights = [
        float(each[0].partition(",")[2]) - min(float(at.partition(",")[2]) for at in each) for each in (first, second)
    ]
    assert heights[0] == 2 * heights[1]
    widths = [
        float(each.attrib["width"])
        for each in ElementTree.fromstring(bars({"T": {"a": 5, "b": 50}}, most=None)).iter(f"{SVG}rect")
    ]
    assert widths == [30, 300], "nothing is cut"


def test_a_node_has_our_program_compiled_as_pip_leaves_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    monkeypatch.setenv("PYTHONPYCACHEPREFIX", str(tmp_path / "compiled"))
    warm_up(Node(tmp_path / "node", None))
    compiled = {path.name.partition(".")[0] for path in (tmp_path / "compiled").rglob("*.pyc")}
    assert {name.rpartition(".")[2] for name in LOADED} <= compiled
    assert {"checks", "document", "backing", "fanotify", "gpu", "using", "tables"} <= compiled, (
        "each way's, and settings'"
    )
