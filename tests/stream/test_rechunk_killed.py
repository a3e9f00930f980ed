"""kill -9 while a release is rechunked: no tag names what is not whole and signed, and the next run goes on."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest

from registry_pipelines.anatomy.rechunk.model import RechunkOptions
from registry_pipelines.anatomy.rechunk.release import RechunkResult, rechunk_release
from registry_pipelines.evidence.keys import load_signer
from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.protocol import Place
from registry_pipelines.registry.tags import digest_at
from registry_pipelines.transfer.verify import examine
from tests.doubles.fault_registry import FaultRegistry
from tests.evidence.parts import Counted, Key
from tests.scan.images import push_image
from tests.stream.test_killed import BLOB, MANIFEST, faults, kill_at

__all__ = ["faults"]


def work(address: str, state: str, key: str) -> RechunkResult:
    """What the killed process does."""
    place = Place(DistributionRegistry(address), "team/app")
    release = place.registry.resolve("team/app", "v1")
    return rechunk_release(
        place, release, "v1-rechunked", RechunkOptions(), state=Path(state), signer=load_signer(Path(key))
    )


LONG = pytest.mark.long


@pytest.mark.parametrize(
    ("target", "number"),
    [
        pytest.param(BLOB, 1, id="first layer", marks=LONG),
        pytest.param(BLOB, 2, id="second blob"),
        pytest.param(MANIFEST, 1, id="manifest", marks=LONG),
        pytest.param(MANIFEST, 2, id="record of both roots"),
        pytest.param(MANIFEST, 3, id="derivation record", marks=LONG),
        pytest.param(MANIFEST, 4, id="tag", marks=LONG),
    ],
)
def test_what_was_killed_goes_on(
    counted: Counted, faults: FaultRegistry, key: Key, tmp_path: Path, target: str, number: int
) -> None:
    place = Place(DistributionRegistry(counted.server.address), "team/app")
    big = {"usr/lib/big": random.Random(3).randbytes(300_000), "app/main.py": "print(1)\n"}
    push_image(place, [big, {"etc/os-release": "ID=debian\n"}], tag="v1")
    state = tmp_path / "state"
    code = "import sys; from tests.stream.test_rechunk_killed import work; work(*sys.argv[1:])"
    command = [sys.executable, "-c", code, faults.address, str(state), str(key.path)]
    kill_at(faults, target, number, command)
    tagged = digest_at(place, "v1-rechunked") is not None
    assert tagged is ((target, number) == (MANIFEST, 4))  # the answer was lost, the tag was not
    done = work(counted.server.address, str(state), str(key.path))
    assert digest_at(place, "v1-rechunked") == done.rechunked.digest and done.carrier is not None
    assert examine(place, place, "v1-rechunked", content=True).differences == ()
    again = work(counted.server.address, str(state), str(key.path))
    assert (again.changed, again.bytes_sent, again.rechunked) == (False, 0, done.rechunked)
