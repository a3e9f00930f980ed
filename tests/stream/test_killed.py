"""kill -9 while a release is indexed or converted: nothing is named that is not whole, and the next run goes on."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from registry_pipelines.evidence.keys import load_signer
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.registry.client import DistributionRegistry
from registry_pipelines.registry.protocol import Place
from registry_pipelines.stream.signed_index import find_index
from registry_pipelines.transfer.verify import examine
from tests.doubles.fault_registry import FaultRegistry
from tests.doubles.faults import HoldAnswer
from tests.evidence.parts import Counted, Key
from tests.patience import patient
from tests.stream.releases import ESTARGZ, INDEXED, SOCI, Streamer, hows, layer, push

STREAMS = {"index": INDEXED, "soci-v2": SOCI, "estargz": ESTARGZ}
LIMIT_S = patient(60)
BLOB, MANIFEST = r".*/blobs/uploads/.*", r".*/manifests/.*"


def work(address: str, state: str, key: str, name: str) -> None:
    """What the killed process does."""
    place = Place(DistributionRegistry(address), "team/app")
    streamer = Streamer(place, Path(state), load_signer(Path(key)))
    run(streamer, name, place.registry.resolve(place.repository, "v1"))


def run(streamer: Streamer, name: str, release: Descriptor) -> list[str]:
    """Index or convert; how each layer came there."""
    if name == "index":
        return hows(streamer.index(release, STREAMS[name]).rows)
    return hows(streamer.convert(release, STREAMS[name]).rows)


@pytest.fixture
def faults(counted: Counted) -> Iterator[FaultRegistry]:
    with FaultRegistry(counted.server.address) as proxy:
        yield proxy


def kill_at(faults: FaultRegistry, target: str, number: int, command: list[str]) -> None:
    """Kill the process while it waits for the answer to its request of this number."""
    release = threading.Event()
    faults.play("PUT", target, HoldAnswer(release), skip=number - 1)
    process = subprocess.Popen(command, cwd=Path(__file__).parent.parent.parent)
    try:
        until = time.monotonic() + LIMIT_S
        while not any(each.held for each in faults.seen):
            assert process.poll() is None and time.monotonic() < until
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        assert process.wait(LIMIT_S) == -signal.SIGKILL
    finally:
        process.kill()
        release.set()
        faults.clear()


@pytest.mark.parametrize(
    ("name", "target", "number"),
    [
        ("estargz", BLOB, 3),  # two are made at once, so one of them was finished
        ("estargz", MANIFEST, 1),
        ("soci-v2", MANIFEST, 3),
        ("index", MANIFEST, 1),
    ],
)
def test_what_was_killed_is_finished_and_nothing_is_sent_twice(
    counted: Counted, faults: FaultRegistry, key: Key, tmp_path: Path, name: str, target: str, number: int
) -> None:
    image = push(counted.place, layer("a"), layer("b"), layer("c"), tag="v1")
    through = Place(DistributionRegistry(faults.address), "team/app")
    streamer = Streamer(through, tmp_path / "state", key.signer)
    code = "import sys; from tests.stream.test_killed import work; work(*sys.argv[1:])"
    state = str(tmp_path / "state")
    kill_at(faults, target, number, [sys.executable, "-c", code, faults.address, state, str(key.path), name])
    assert list(counted.place.registry.tags("team/app")) == ["v1"]
    assert not find_index(counted.place, image.digest, key.verifier).signed
    faults.reset_counts()
    how = run(streamer, name, image)
    sent = len(faults.requests("PUT", BLOB))
    if target == MANIFEST:
        assert how == ["present"] * 3
    assert how.count("present") >= 1
    if name == "index":
        assert len(find_index(counted.place, image.digest, key.verifier).signed) == 1
    else:
        assert set(counted.place.registry.tags("team/app")) == {"v1", f"v1-{name}"}
        assert examine(counted.place, counted.place, f"v1-{name}", content=True).differences == ()
    assert run(streamer, name, image) == ["present"] * 3 and len(faults.requests("PUT", BLOB)) == sent
    through.registry.close()  # type: ignore[attr-defined]
