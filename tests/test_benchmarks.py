"""How benchmarks measure: what the machine gives stands beside the tables, and two builds are compared fairly."""

from __future__ import annotations

import gzip
import io
import math
import re
import resource
import sys
import tarfile
import xml.etree.ElementTree as ElementTree
from dataclasses import astuple
from pathlib import Path

import pytest

from benchmarks import stream_ours
from benchmarks.builds import HERE, Build, Figures, alternate
from benchmarks.measure import Sample, bars, comparison, machine, write_page
from registry_pipelines.oci.digest import Digest

MACHINE = r"sha256 [\d,]+ MB/s, `gzip -dc` [\d,]+ MB/s, loopback [\d,]+ MB/s and \d+ us a round trip"


def test_the_machines_own_figures_are_sane() -> None:
    figures = machine()
    assert all(math.isfinite(figure) and figure > 0 for figure in astuple(figures))
    # No machine hashes or unpacks a terabyte a second, and no round trip takes less than a system call.
    assert max(figures.sha256_mb_per_s, figures.gunzip_mb_per_s, figures.loopback_mb_per_s) < 1e6
    assert figures.round_trip_us > 0.1


def test_they_do_not_raise_the_peak_of_what_is_run_later() -> None:
    """A child's peak begins with that of the process that started it."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    machine()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 16 * 1024


def test_they_stand_below_every_comparison(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # What is told of theirs may be what this process has itself.
    table = comparison({"ours": [Sample(2, 1, 1e6)], "theirs": [Sample(3, 4, 1)]}, ours="ours")
    assert "| 1.00 | 1000000 |" in table and "| theirs | 3.00 | 1.50 | 4.00 | 4.00 | <= 1 |" in table
    assert re.search(rf"\n\nThis machine at that moment: {MACHINE}\.$", table)
    monkeypatch.setattr("benchmarks.measure.DOCS", tmp_path)
    assert table in write_page("page", "A page", "a command", table).read_text()


@pytest.fixture
def other(tmp_path: Path) -> Build:
    """A build that lies elsewhere."""
    package = tmp_path / "registry_pipelines"
    package.mkdir()
    (package / "__init__.py").write_text("")
    return Build(sys.executable, str(tmp_path))


def test_builds_take_turns_and_what_is_slower_is_marked(other: Build) -> None:
    order: list[bool] = []

    def work(build: Build) -> Figures:
        order.append(build is HERE)
        mine = build is HERE
        first = len(order) <= 2  # the round that is not counted
        return {"s": 1000.0 if first else 2.0 if mine else 1.0, "requests": 104 if mine else 100}

    table = alternate({"work": work}, other, rounds=3)
    assert order == [False, True, True, False, False, True, True, False]
    assert "| work | s | 1.00 | 2.00 | **2.000: slower** |" in table
    assert "| work | requests | 100.00 | 104.00 | 1.040 |" in table


def test_each_build_runs_its_own_code(other: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The current folder, where this build lies, does not come first."""
    monkeypatch.chdir(Path(__file__).parents[1])
    assert other.compile() == tmp_path / "registry_pipelines"
    assert HERE.compile() == Path(__file__).parents[1] / "registry_pipelines"
    check = "import sys, registry_pipelines as p; assert p.__file__.startswith(sys.argv[1]), p.__file__"
    assert other.run(check, [str(tmp_path)], {}).wall_s > 0


def test_a_build_is_not_compared_with_itself() -> None:
    with pytest.raises(SystemExit, match="runs this build too"):
        alternate({}, Build(sys.executable, HERE.path), rounds=1)


def test_the_ways_to_a_ztoc_that_are_measured_come_to_the_same(tmp_path: Path) -> None:
    """Also the one that is in the benchmark only, and hashes nothing that a ztoc has not."""
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for number, size in enumerate((0, 700, 3 << 20, 9 << 20)):
            info = tarfile.TarInfo(f"{number}/{'long' * 40}")
            info.size = size
            tar.addfile(info, io.BytesIO(b"0123456789abcde\n" * (size // 16) + b"." * (size % 16)))
    plain, layer = target.getvalue(), tmp_path / "layer"
    layer.write_bytes(gzip.compress(plain, 6))
    found = set()
    for name, way in (("own", stream_ours.own), ("record", stream_ours.record), ("all", stream_ours.every)):
        (tmp_path / name).mkdir()
        way(str(layer), Digest.of(layer.read_bytes()), Digest.of(plain), str(tmp_path / name))
        found.add((tmp_path / name / "ztoc").read_bytes())
    assert len(found) == 1
    assert len(found.pop()) > 2 * 32768, "two spans, each with its window"


def test_a_picture_has_a_bar_for_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.measure.DOCS", tmp_path)
    line = bars("page", {"A & B": {"ours": 1.0, "theirs": 40.0}, "C": {"alone": 0.5}})
    assert line.endswith("(page.svg)")
    picture = ElementTree.parse(tmp_path / "page.svg").getroot()
    widths = [float(bar.attrib["width"]) for bar in picture.iter("{http://www.w3.org/2000/svg}rect")]
    assert widths == [100, 300, 50], "one that is far longer is cut"
