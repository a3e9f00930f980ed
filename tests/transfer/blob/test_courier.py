"""The courier is a process of its own: it may die, it may not start, and it must not outlive its transfer."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from registry_pipelines.errors import LocalError
from registry_pipelines.progress import Silent
from registry_pipelines.transfer.blob.courier import COURIERS, Courier, Shipment
from registry_pipelines.transfer.blob.memory import PART_BYTES, PartMemory
from registry_pipelines.transfer.copying import copy_closure
from registry_pipelines.transfer.engine import Engine
from registry_pipelines.transfer.verify import compare

if TYPE_CHECKING:
    from tests.transfer.conftest import Counted, Graphs

LARGE = 6 * PART_BYTES + 99


def couriers() -> list[int]:
    """The courier processes that this process has."""
    children: list[int] = []
    for task in Path("/proc/self/task").iterdir():
        try:
            children += map(int, (task / "children").read_text().split())
        except OSError:  # a thread that has ended
            continue
    return [pid for pid in children if b"courier_process" in Path(f"/proc/{pid}/cmdline").read_bytes()]


class Kills(Silent):
    """Kills the courier after some of the bytes."""

    def __init__(self, *after: int) -> None:
        self._after, self._done = sorted(after), 0
        self.kills = 0

    def advance(self, task: str, byte_count: int) -> None:
        self._done += byte_count
        if self._after and self._done >= self._after[0]:
            for pid in couriers():
                os.kill(pid, signal.SIGKILL)
                self._after.pop(0)
                self.kills += 1


def test_a_courier_that_dies_is_replaced(source: Counted, target: Counted, graphs: Graphs, tmp_path: Path) -> None:
    graphs.image(source.place("app"), graphs.noise(LARGE), tag="v1")
    kills = Kills(1)
    copy_closure(source.place("app"), "v1", [target.place("app")], engine=Engine(state=tmp_path, progress=kills))
    assert kills.kills == 1
    assert compare(source.place("app"), target.place("app"), "v1", content=True) == []
    assert couriers() == []
    assert list((tmp_path / COURIERS).iterdir()) == []


@pytest.mark.parametrize("shell", ["", "#!/bin/sh\nexit 3\n"], ids=["folder", "program"])
def test_without_a_courier_parts_are_sent_from_here(
    shell: str, source: Counted, target: Counted, graphs: Graphs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graphs.image(source.place("app"), graphs.noise(LARGE), tag="v1")
    if shell:
        program = tmp_path / "python"
        program.write_text(shell)
        program.chmod(0o755)
        monkeypatch.setattr("sys.executable", str(program))
    else:
        (tmp_path / COURIERS).write_bytes(b"")
    copy_closure(source.place("app"), "v1", [target.place("app")], engine=Engine(state=tmp_path))
    assert compare(source.place("app"), target.place("app"), "v1", content=True) == []
    assert target.count("PATCH") == LARGE // PART_BYTES + 1


def test_nothing_starts_a_courier_again_after_its_end(tmp_path: Path) -> None:
    courier = Courier(tmp_path, PartMemory(), "name")
    shipment = Shipment(courier, lambda: None, lambda *_: None, offset=0, note=tmp_path / "note")
    courier.close()
    with pytest.raises(LocalError, match="stopped"):
        courier.open({}, shipment)
    assert couriers() == []
