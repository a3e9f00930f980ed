"""A receipt says what was found at the target, and nothing that nobody looked at."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from registry_pipelines.errors import ClosureIncomplete
from registry_pipelines.oci.manifests import Manifest
from registry_pipelines.transfer.copying import copy_closure
from registry_pipelines.transfer.delivery.receipts import ReceiptFolder, make_receipt
from registry_pipelines.transfer.engine import Engine
from registry_pipelines.transfer.verify import compare

if TYPE_CHECKING:
    from tests.transfer.conftest import Counted, Graphs


def lose(place: Counted, digest: str) -> None:
    """The registry's store loses a blob, as a garbage collection gone wrong does."""
    for path in place.server.root.rglob(digest.rpartition(":")[2]):
        path.unlink()


def test_no_receipt_for_blobs_that_nobody_looked_at(
    source: Counted, target: Counted, graphs: Graphs, tmp_path: Path
) -> None:
    """The manifest is there, so nothing is to be sent; but nobody has seen the target complete since."""
    content = graphs.image(source.place("app"), graphs.noise(5000), tag="v1").content()
    assert isinstance(content, Manifest)
    copy_closure(source.place("app"), "v1", [target.place("app")], engine=Engine(state=tmp_path))
    lose(target, content.layers[0].digest)
    with pytest.raises(ClosureIncomplete, match=content.layers[0].digest):
        copy_closure(source.place("app"), "v1", [target.place("app")])


def test_a_blob_that_the_target_lost_is_sent_again(
    source: Counted, target: Counted, graphs: Graphs, tmp_path: Path
) -> None:
    """A receipt is believed until something is found that contradicts it; without one everything is looked at."""
    here, there = source.place("app"), target.place("app")
    top = graphs.image(here, graphs.noise(5000), tag="v1")
    content = top.content()
    assert isinstance(content, Manifest)
    copy_closure(here, "v1", [there], engine=Engine(state=tmp_path))
    lose(target, content.layers[0].digest)
    graphs.artifact(here, b"late", subject=top.descriptor)
    with pytest.raises(ClosureIncomplete, match=content.layers[0].digest):
        copy_closure(here, "v1", [there], engine=Engine(state=tmp_path))
    (result,) = copy_closure(here, "v1", [there], engine=Engine(state=tmp_path)).per_target
    assert result.blobs_moved == 1
    assert compare(here, there, "v1", content=True) == []
    lose(target, content.layers[0].digest)
    (result,) = copy_closure(here, "v1", [there], engine=Engine(state=tmp_path / "new")).per_target
    assert result.blobs_moved == 1
    assert compare(here, there, "v1", content=True) == []


@pytest.mark.parametrize(
    ("age", "sent"), [(timedelta(days=6), 0), (timedelta(days=15), 1), (timedelta(days=-1), 1), (None, 1)]
)
def test_a_receipt_is_believed_for_a_while(
    age: timedelta | None, sent: int, source: Counted, target: Counted, graphs: Graphs, tmp_path: Path
) -> None:
    """An image that nothing changed at, whose layer the registry lost, is found; and its new receipt is of now."""
    here, there, store = source.place("app"), target.place("app"), ReceiptFolder(tmp_path / "receipts")
    top = graphs.image(here, graphs.noise(5000), tag="v1")
    content = top.content()
    assert isinstance(content, Manifest)
    copy_closure(here, "v1", [there], engine=Engine(state=tmp_path))
    written = store.load(there, top.digest)
    assert written is not None
    at = (datetime.now(UTC) - age).isoformat(timespec="seconds") if age is not None else ""
    store.save(there, top.digest, make_receipt({**written.document, "read_back_at": at}, None))
    lose(target, content.layers[0].digest)
    (result,) = copy_closure(here, "v1", [there], engine=Engine(state=tmp_path)).per_target
    assert result.blobs_moved == sent
    if sent:
        assert compare(here, there, "v1", content=True) == []
        again = ReceiptFolder(tmp_path / "receipts").load(there, top.digest)
        assert again is not None and again.document["read_back_at"] not in (at, "")


@pytest.mark.parametrize("damage", [b"", b"{}", b'{"payloadType": "x"}'])
def test_damaged_receipt_is_written_anew(
    damage: bytes, source: Counted, target: Counted, graphs: Graphs, tmp_path: Path
) -> None:
    top = graphs.image(source.place("app"), graphs.noise(5000), tag="v1")
    there, store = target.place("app"), ReceiptFolder(tmp_path / "receipts")
    copy_closure(source.place("app"), "v1", [there], engine=Engine(state=tmp_path))
    store.path(there, top.digest).write_bytes(damage)
    copy_closure(source.place("app"), "v1", [there], engine=Engine(state=tmp_path))
    receipt = store.load(there, top.digest)
    assert receipt is not None
    assert receipt.document["target"] == str(there)


def test_a_name_longer_than_files_may_have(source: Counted, target: Counted, graphs: Graphs, tmp_path: Path) -> None:
    graphs.image(source.place("app"), b"layer", tag="v1")
    first, second = ("/".join(["x" * 100, "y" * 100, end * 45]) for end in "az")
    for _ in range(2):
        for repository in (first, second):
            copy_closure(source.place("app"), "v1", [target.place(repository)], engine=Engine(state=tmp_path))
    assert len(list((tmp_path / "receipts").rglob("*.json"))) == 2


def test_targets_whose_names_look_alike_as_files_keep_their_own_receipts(
    source: Counted, target: Counted, graphs: Graphs, tmp_path: Path
) -> None:
    graphs.image(source.place("app"), graphs.noise(5000), tag="v1")
    places = [target.place("team/app"), target.place("team_app")]
    for _ in range(2):
        for there in places:
            (result,) = copy_closure(source.place("app"), "v1", [there], engine=Engine(state=tmp_path)).per_target
            assert result.receipt is not None
            assert result.receipt.document["target"] == str(there)
