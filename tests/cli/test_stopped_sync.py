"""A sync of the command line that is stopped by a signal in the middle of a large layer: the next run does the rest."""

from __future__ import annotations

import os
import signal
from contextlib import ExitStack
from pathlib import Path

import pytest

from registry_pipelines.registry.protocol import Place
from registry_pipelines.transfer.blob.memory import PART_BYTES
from tests.chain.fleet import start
from tests.chain.killing import address, configure, push_large, stop_and_run_again
from tests.cli.test_bad_input import PROGRAM
from tests.doubles.fault_registry import FaultRegistry

CODES = {signal.SIGKILL: -signal.SIGKILL, signal.SIGTERM: 143, signal.SIGINT: 130}


@pytest.mark.parametrize("how", CODES)
def test_the_next_run_sends_at_most_one_part_again(how: signal.Signals, tmp_path: Path) -> None:
    with ExitStack() as stack:
        fleet = start(tmp_path, stack)
        proxies = [stack.enter_context(FaultRegistry(address(fleet, name))) for name in ("us", "eu")]
        configure(fleet, proxies[0], proxies[1])
        push_large(Place(fleet.chain.registry("us"), "big/app"))
        command = [*PROGRAM, "sync", "big", "--config", str(fleet.path)]
        code, again = stop_and_run_again(fleet, (proxies[0], proxies[1]), command, how, os.environ)
    assert code == CODES[how], (tmp_path / "stopped.log").read_text()
    assert again <= PART_BYTES + 100_000
