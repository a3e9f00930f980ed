"""Weights in Azure's object store, by Azurite: there, back, between stores, and after a kill."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from registry_pipelines.errors import NotFound
from registry_pipelines.stores.blocks import BlockUploads
from registry_pipelines.stores.store import ObjectStore, open_store
from registry_pipelines.transfer.blob.memory import PART_BYTES
from tests.doubles.blob_stores import azure_server
from tests.patience import patient
from tests.weights.conftest import call, done, files_of, noise, shard
from tests.weights.test_killed import COMMAND

pytestmark = pytest.mark.long


@pytest.fixture
def azure(peer: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    with azure_server(peer, tmp_path / "azurite") as address:
        yield f"{address}/models"


def blocks_of(address: str) -> tuple[ObjectStore, BlockUploads]:
    store = open_store(address, lasting_uploads=True)
    assert isinstance(store.parts, BlockUploads)
    return store, store.parts


def test_there_and_back_and_only_what_changed_moves(
    azure: str, model: Callable[..., Path], address: str, tmp_path: Path
) -> None:
    folder = model("m", values=3_000_000)  # 12 MB: two parts
    (folder / "sub dir").mkdir()
    (folder / "sub dir" / "größe #1 100%.txt").write_text("x")
    (folder / "empty.txt").touch()
    pushed = done("push", folder, f"{azure}/llama")
    assert done("push", folder, f"{azure}/llama")["action"] == "unchanged"
    assert done("push", folder, f"{address}/llama:1")["digest"] == pushed["digest"]
    assert done("pull", f"{azure}/llama", "--to", "back")["digest"] == pushed["digest"]
    assert files_of(tmp_path / "back") == files_of(folder)
    assert done("verify", f"{azure}/llama")["facts"]["whole"] == len(files_of(folder))
    done("read", f"{azure}/llama", "layer.10002.bias", "--to", "t")
    assert done("sync", f"{address}/llama:1", f"{azure}/again")["digest"] == pushed["digest"]
    assert done("sync", f"{azure}/llama", f"{address}/back:1")["digest"] == pushed["digest"]

    shard(folder / "model-00002-of-00003.safetensors", 99, 3_000_000)
    (folder / "copy.safetensors").write_bytes((folder / "model-00001-of-00003.safetensors").read_bytes())
    changed = done("push", folder, f"{azure}/llama")
    assert (changed["facts"]["copied"], changed["facts"]["mounted"]) == (1, 1)
    store, _ = blocks_of(f"{azure}/llama")
    store.delete("config.json")
    assert call("verify", f"{azure}/llama").exit_code == 6
    assert done("push", folder, f"{azure}/llama")["facts"]["copied"] == 1


def test_a_push_that_was_killed_goes_on_within_a_file(azure: str, tmp_path: Path) -> None:
    folder = tmp_path / "m"
    folder.mkdir()
    (folder / "a.gguf").write_bytes(b"GGUF" + noise(1000))
    (folder / "large.gguf").write_bytes(b"GGUF" + noise(1_000_000) * 400)
    process = subprocess.Popen([*COMMAND, "push", str(folder), azure, "--quiet"], cwd=tmp_path)
    _, blocks = blocks_of(azure)
    until, seen = time.monotonic() + patient(60), 0
    while seen < 5 and time.monotonic() < until:
        time.sleep(0.05)
        raw = b""
        try:
            raw = blocks._ask("GET", "large.gguf", "comp=blocklist&blocklisttype=uncommitted")
        except NotFound:
            continue
        seen = raw.count(b"<Block>")
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert process.returncode == -signal.SIGKILL and seen >= 5
    assert call("ls", azure).exit_code == 4
    found = done("push", folder, azure)
    assert found["bytes_moved"] <= 400_000_004 - (seen - 1) * PART_BYTES + 1004
    done("pull", azure, "--to", "back")
    assert files_of(tmp_path / "back") == files_of(folder)


def test_blocks_of_another_upload_are_none_of_ours(azure: str) -> None:
    """Two at once: who ends first has the object, the other is told that its blocks are gone."""
    store, blocks = blocks_of(azure)
    one, two = blocks.begin("k"), blocks.begin("k")
    with pytest.raises(NotFound):
        blocks.sent("k", one)
    for upload, content in ((one, b"one"), (two, b"two")):
        blocks.send("k", upload, 2, memoryview(content + b"2"))
        blocks.send("k", upload, 1, memoryview(content))
    assert [(each.number, each.size) for each in blocks.sent("k", one)] == [(1, 3), (2, 4)]
    theirs = blocks.sent("k", two)
    blocks.complete("k", one, blocks.sent("k", one))
    assert store.read("k", limit=100) == b"oneone2"
    with pytest.raises(NotFound):
        blocks.sent("k", two)
    with pytest.raises(NotFound):
        blocks.complete("k", two, theirs)
