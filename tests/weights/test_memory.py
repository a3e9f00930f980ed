"""Memory of the real command line while a set of 2 GB goes to a registry and back."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.weights.conftest import noise

COMMAND = [sys.executable, "-c", "from registry_pipelines.cli import main; main()", "weights"]
MOST_BYTES = 150 * 1024 * 1024


def memory_of(process: int) -> int:
    """Bytes of a process and its children that no file backs: anonymous, and shared with its courier (once)."""
    children = Path(f"/proc/{process}/task").glob("*/children")
    pids = [process, *(int(pid) for path in children for pid in path.read_text().split())]
    total, wanted = 0, ("RssAnon", "RssShmem")
    for pid in pids:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith(wanted[: 2 if pid == process else 1]):
                total += int(line.split()[1]) * 1024
    return total


def most_of(*words: object) -> int:
    """The most memory that a command takes, looked at fifty times a second."""
    most, process = 0, subprocess.Popen([*COMMAND, *map(str, words), "--quiet"], stdout=subprocess.DEVNULL)
    while process.poll() is None:
        try:
            most = max(most, memory_of(process.pid))
        except (OSError, ValueError):  # it is just ending
            continue
        time.sleep(0.02)
    assert process.returncode == 0
    return most


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.peer("docker-registry")
@pytest.mark.parametrize(("files", "mebibytes"), [(40, 50), (1, 2000)])
def test_two_gigabytes_take_less_than_150_mib(
    docker_address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: int, mebibytes: int
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    (tmp_path / "m").mkdir()
    block = noise(1024 * 1024)
    for number in range(files):
        with (tmp_path / "m" / f"{number:03}.gguf").open("wb") as file:
            file.write(number.to_bytes(8, "big"))
            for _ in range(mebibytes):
                file.write(block)
    reference = f"{docker_address}/m:1"
    found = {
        name: most_of(name, *words)
        for name, words in {
            "push": (tmp_path / "m", reference),
            "pull": (reference, "--to", tmp_path / "back"),
            "verify": (reference,),
        }.items()
    }
    assert {name: most for name, most in found.items() if most > MOST_BYTES} == {}
