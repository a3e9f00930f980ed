"""The state folder: what may be wrong with it, and what must not stay in it."""

from __future__ import annotations

import contextlib
import fcntl
import gc
import os
import struct
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from registry_pipelines.errors import LocalError
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.registry.protocol import UploadSession
from registry_pipelines.transfer.blob.courier import COURIERS
from registry_pipelines.transfer.blob.fanout import move_blob
from registry_pipelines.transfer.blob.journal import Journal
from registry_pipelines.transfer.blob.memory import PART_BYTES
from registry_pipelines.transfer.blob.sinks import UPLOAD_LIFE_S
from registry_pipelines.transfer.blob.tools import BlobTools
from registry_pipelines.transfer.copying import copy_closure
from registry_pipelines.transfer.engine import Engine
from registry_pipelines.transfer.limits.buckets import Bucket
from registry_pipelines.transfer.limits.rules import RegistryRule
from registry_pipelines.transfer.state import SPOOL, State
from tests.doubles.workers import shared_journal, worker

if TYPE_CHECKING:
    from tests.transfer.conftest import Counted, Graphs

LAYER = Descriptor(media_type="application/octet-stream", digest=Digest.of(b"layer"), size=5)


@pytest.mark.parametrize("name", ["", "receipts"])
def test_a_file_in_the_way_is_a_local_error(
    name: str, source: Counted, target: Counted, graphs: Graphs, tmp_path: Path
) -> None:
    graphs.image(source.place("app"), b"layer", tag="v1")
    state = tmp_path / "state"
    if name:
        state.mkdir()
    (state / name).write_bytes(b"")
    with pytest.raises(LocalError, match="cannot be kept"):
        copy_closure(source.place("app"), "v1", [target.place("app")], engine=Engine(state=state))


def test_a_file_in_the_way_of_the_spool_fails_that_target_only(
    source: Counted, target: Counted, graphs: Graphs, tmp_path: Path
) -> None:
    content = graphs.noise(2 * PART_BYTES)
    graphs.image(source.place("app"), content, tag="v1")
    (tmp_path / "spool").write_bytes(b"")
    tools = BlobTools(spool=tmp_path / "spool", rules=(RegistryRule(".*", chunks=False),))
    layer = Descriptor(media_type="application/octet-stream", digest=Digest.of(content), size=len(content))
    (outcome,) = move_blob(source.place("app"), layer, [target.place("app")], tools, lambda _at, _count: None)
    assert isinstance(outcome, LocalError)


def test_what_dead_runs_left_in_the_state_folder_is_removed(target: Counted, tmp_path: Path) -> None:
    place, before = target.place("app"), Journal.at(tmp_path)
    before.record(place, LAYER, UploadSession("app", f"http://{target.address}/v2/app/blobs/uploads/gone", 1))
    note = before.note(place, LAYER.digest)
    assert note is not None
    before.close()
    spooled, held, fresh = (tmp_path / SPOOL / "place" / name for name in ("left", "held", "fresh"))
    lock = tmp_path / COURIERS / "courier-1-dead.lock"
    long_ago = time.time() - UPLOAD_LIFE_S - 60
    for path in (note, spooled, held, fresh, lock):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"{}")
        if path not in (fresh, note):
            os.utime(path, (long_ago, long_ago))
    with held.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with State(tmp_path) as state:
            state.cancel_abandoned([target.registry])
            assert [path.exists() for path in (note, fresh, spooled)] == [True, True, False]
            state.cancel_abandoned([target.registry], older_than_s=0)
    assert held.exists()
    assert not [path for path in (note, spooled, lock) if path.exists()]


@pytest.mark.parametrize("written", [struct.pack("<d", 4e9), struct.pack("<d", float("nan")), b"\xff" * 8, b"short"])
def test_a_line_from_a_clock_that_ran_ahead_holds_nobody(written: bytes, tmp_path: Path) -> None:
    (tmp_path / "rate").write_bytes(written)
    assert Bucket(tmp_path / "rate").wait_s() < 1


def part_files() -> int:
    """Memory files of parts that this process has open."""
    count = 0
    for path in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # the listing itself
            count += "registry-pipelines-parts" in str(path.readlink())
    return count


def test_the_memory_of_a_copy_ends_with_it(source: Counted, target: Counted, graphs: Graphs, tmp_path: Path) -> None:
    """Not some time later, when Python looks for circles: a long-lived process makes many copies."""
    graphs.image(source.place("app"), graphs.noise(2 * PART_BYTES), tag="v1")
    gc.collect()
    gc.disable()
    try:
        before = part_files()
        copy_closure(source.place("app"), "v1", [target.place("app")], engine=Engine(state=tmp_path))
        assert part_files() == before
    finally:
        gc.enable()


def test_what_workers_share_needs_no_folder(
    source: Counted, target: Counted, graphs: Graphs, postgres_url: str
) -> None:
    graphs.image(source.place("app"), b"layer", tag="v1")
    copy_closure(source.place("app"), "v1", [target.place("app")], engine=Engine(shared=worker(postgres_url)))
    journal = shared_journal(postgres_url)
    assert journal.holders(target.address, [Digest.of(b"layer")]) == {Digest.of(b"layer"): "app"}
    journal.close()


def test_a_copy_of_small_blobs_starts_no_courier(
    source: Counted, target: Counted, graphs: Graphs, tmp_path: Path
) -> None:
    for tag, size, started in (("small", PART_BYTES, False), ("large", PART_BYTES + 1, True)):
        graphs.image(source.place("app"), graphs.noise(size), tag=tag)
        copy_closure(source.place("app"), tag, [target.place("app")], engine=Engine(state=tmp_path))
        assert (tmp_path / COURIERS).exists() == started
