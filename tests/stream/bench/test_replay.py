"""Starts that were recorded elsewhere: their pages found in an image, and touched in order with their pauses."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from registry_pipelines.errors import InputError
from registry_pipelines.oci.digest import Digest
from registry_pipelines.stream.bench.replay import PLACE, Replay, prepare_replay, write_plan
from registry_pipelines.stream.bench.traces import PlacedTrace, Trace, find_site, place_trace, read_trace
from registry_pipelines.stream.hot.recording import decode, encode
from tests.patience import patient

ARCHIVE = Path(__file__).parents[3] / "benchmarks" / "data" / "cuda-starts.tar.xz"
IMAGE = Digest.of(b"image")
SITE = "usr/local/lib/python3.12/site-packages"
REPLAY = [sys.executable, "-m", "registry_pipelines.stream.bench.replay"]


@pytest.fixture(scope="module")
def torch() -> Trace:
    return read_trace(f"{ARCHIVE}:torch-gpu-4")


def sizes_of(trace: Trace) -> dict[str, int]:
    return {path.replace("site-packages", SITE, 1).lstrip("/"): size for path, size in trace.files}


def test_a_start_of_an_h100_and_its_two_kinds_of_time(torch: Trace) -> None:
    assert (torch.workload, len(torch.order)) == ("torch-gpu", 34222)
    assert round(torch.disk_s, 2) == 2.55 and round(torch.work_s, 2) == 5.04 and torch.warm_s == 4.2
    llama = read_trace(f"{ARCHIVE}:llama-4")
    assert round(llama.disk_s, 1) == 5.2 and 0.8 < llama.warm_s / llama.work_s < 0.85, "estimated as torch's"


def test_an_image_of_the_same_packages_has_its_pages(torch: Trace) -> None:
    sizes = sizes_of(torch)
    assert find_site(sizes) == SITE
    placed = place_trace(torch, IMAGE, sizes.get, SITE)
    # Every page, but those of the machine's driver.
    assert placed.recording.pages == placed.pages and placed.driver_pages > 4000 and not placed.resized
    assert sum(placed.gaps) <= torch.work_s and sum(placed.gaps) > 0.99 * torch.work_s
    assert decode(encode(placed.recording)) == placed.recording, "a pack can be cut from it"


def test_what_the_image_has_not_or_shorter_is_left_out_and_its_time_stays() -> None:
    trace = Trace(
        "some",
        (("/usr/lib/a.so", 20000), ("site-packages/b.py", 5000), ("/usr/local/nvidia/c", 9000), ("/usr/bin/d", 100)),
        (
            (0.0, 0, 0, 5),
            (0.5, 1, 0, 1),
            (0.5002, 1, 1, 1),
            (0.6, 2, 0, 3),
            (0.9, 0, 1, 1),
            (1.0, 3, 0, 1),
            (1.4, 1, 0, 2),
        ),
    )
    sizes = {"lib/a.so": 8192, "x/site-packages/b.py": 5000}
    placed = place_trace(trace, IMAGE, sizes.get, "x/site-packages")
    assert placed.recording.touches == ((0, 0, 1), (0, 1, 1), (1, 0, 1), (1, 1, 1))
    assert [file.path for file in placed.recording.files] == ["lib/a.so", "x/site-packages/b.py"]
    assert placed.gaps == (0.0, 0.0, 0.5, 0.0) and placed.missing == ("/usr/bin/d",) and placed.resized == 1
    assert (placed.pages, placed.driver_pages) == (11, 3)


@pytest.mark.parametrize(
    "content",
    [
        "[]",
        "{",
        '{"workload": "a", "files": [], "order": []}',
        '{"workload": "a", "files": [["a", 1]], "order": [[0, 7, 0, 1]]}',
    ],
)
def test_what_is_no_trace_is_told(tmp_path: Path, content: str) -> None:
    (tmp_path / "trace.json").write_text(content)
    with pytest.raises(InputError, match="trace"):
        read_trace(str(tmp_path / "trace.json"))
    with pytest.raises(InputError, match=r"has no nothing\.json"):
        read_trace(f"{ARCHIVE}:nothing")


@pytest.fixture(scope="module")
def synthetic(torch: Trace, tmp_path_factory: pytest.TempPathFactory) -> tuple[PlacedTrace, Path]:
    """Files of the same names and sizes that hold nothing: what is replayed on them says nothing about speed."""
    folder = tmp_path_factory.mktemp("synthetic")
    for path, size in sizes_of(torch).items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        with (folder / path).open("wb") as file:
            file.truncate(size)
    return place_trace(torch, IMAGE, sizes_of(torch).get, SITE), folder


def test_every_page_is_touched(synthetic: tuple[PlacedTrace, Path], tmp_path: Path) -> None:
    placed, folder = synthetic
    write_plan(tmp_path / "plan", placed, 0.0)
    done = subprocess.run([*REPLAY, str(tmp_path / "plan"), str(folder)], capture_output=True, text=True, check=True)
    first, told = done.stdout.splitlines()
    assert first == "started" and json.loads(told)["touches"] == len(placed.recording.touches)


def test_both_factors_are_told(synthetic: tuple[PlacedTrace, Path], tmp_path: Path) -> None:
    placed, folder = synthetic
    told = prepare_replay(placed, tmp_path / "plan", folder, 1.0).told
    assert told["disk_s"] == 2.55 and told["work_s"] == 5.041 and told["warm_s"] == 1.0
    assert 0 <= told["scale"] <= 1.0 / 5.0 and told["from_memory_s"] > 0
    assert prepare_replay(placed, tmp_path / "plan", None).told["scale"] == pytest.approx(4.2 / 5.04, abs=0.01)


MOUNT = """import os, signal, sys
open(sys.argv[1], "w").write(str(os.getpid()))
open(sys.argv[2] + "/f", "wb").write(bytes(9000))
print("there", flush=True)
signal.pause()
"""


def test_a_mount_is_made_for_it_and_goes_also_when_it_is_ended(tmp_path: Path) -> None:
    """By a program that makes a file where it is told to mount."""
    plan = tmp_path / "plan"
    plan.write_text(json.dumps({"files": ["f"], "touches": [[0, 0, 1, 0], [0, 1, 2, 0]]}))
    told = tmp_path / "told"
    mount = [sys.executable, "-c", MOUNT, str(told), PLACE]
    done = subprocess.run([*REPLAY, str(plan), PLACE, *mount], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.splitlines()[1])["touches"] == 2
    assert not Path("/proc", told.read_text()).exists()
    plan.write_text(json.dumps({"files": ["f"], "touches": [[0, 0, 1, 3600]]}))
    with subprocess.Popen([*REPLAY, str(plan), PLACE, *mount], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout and process.stdout.readline() == "started\n"
        process.terminate()
        assert process.wait(patient(30)) == 128 + signal.SIGTERM
    assert not Path("/proc", told.read_text()).exists()


def test_docker_cannot_replay() -> None:
    assert Replay(Path("plan")).in_docker("image") is None
