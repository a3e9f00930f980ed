"""What broken downloads and clones leave is not sent, and not signed."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.anatomy.baked_images import MIB, gguf, safetensors
from tests.weights.conftest import call, done, shard

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize 9876543210\n"
SECOND = "model-00002-of-00003.safetensors"


def lfs(folder: Path) -> None:
    (folder / SECOND).write_text(POINTER.format("a" * 64))


def cut_in_a_tensor(folder: Path) -> None:
    os.truncate(folder / SECOND, (folder / SECOND).stat().st_size - 1)


def cut_in_the_header(folder: Path) -> None:
    os.truncate(folder / SECOND, 60)


def one_shard_less(folder: Path) -> None:
    (folder / SECOND).unlink()


@pytest.fixture(autouse=True)
def _state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lfs, "a pointer of Git LFS, and not the file it stands for. Fetch the files: git lfs pull"),
        (cut_in_a_tensor, "it ends before its tensors do"),
        (cut_in_the_header, "it ends before its tensors do"),
        (one_shard_less, f"of 3 shards that it names 1 is not here: {SECOND}"),
    ],
)
def test_what_a_broken_download_left_is_named_and_goes_nowhere(
    address: str, model: Callable[..., Path], tmp_path: Path, harm: Callable[[Path], None], said: str
) -> None:
    folder = model("m")
    harm(folder)
    for goal in (f"{address}/m:1", str(tmp_path / "store")):
        refused = call("push", folder, goal)
        assert refused.exit_code == 8 and said in refused.stderr, refused.output
        assert call("ls", goal).exit_code == 4
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("left", [0, 3, 20, 100, -1])
@pytest.mark.parametrize("name", ["m.gguf", "m.safetensors"])
def test_no_byte_of_a_single_file_may_be_missing(address: str, tmp_path: Path, name: str, left: int) -> None:
    """GGUF: tensors of two types; what its package writes ends where this says (gguf 0.19, 12 files by hand)."""
    file = tmp_path / "m" / name
    file.parent.mkdir()
    whole = 4096 // 256 * 144 + 4096 // 256 * 210  # two tensors of 64 x 64, the second behind the first
    content = gguf(whole, types=(12, 14), placed=True) if name == "m.gguf" else safetensors(MIB)
    file.write_bytes(content[: left if left >= 0 else len(content) - 1])
    refused = call("push", file.parent, f"{address}/m:1")
    assert refused.exit_code == 8 and "it ends before its tensors do" in refused.stderr, refused.output
    file.write_bytes(content)
    assert done("push", file.parent, f"{address}/m:1")["ok"]


def test_an_index_of_another_format_is_no_half_set(address: str, model: Callable[..., Path]) -> None:
    """Who fetches one format alone has the other's index, too."""
    folder = model("m")
    names = {f"layer.{number}": f"pytorch_model-0000{number}-of-00002.bin" for number in (1, 2)}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": names}))
    (folder / "odd.safetensors.index.json").write_text("no JSON")
    assert done("push", folder, f"{address}/m:1")["notes"] == []


def test_parts_without_an_index_are_told(address: str, tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    for number in (1, 3):
        (tmp_path / f"m/q4-0000{number}-of-00003.gguf").write_bytes(b"GGUF" + bytes(60))
    assert done("push", tmp_path / "m", f"{address}/m:1")["notes"] == ["q4-*-of-00003.gguf: 2 of 3 parts are here"]


def test_a_whole_cache_entry_is_no_model(address: str, tmp_path: Path) -> None:
    entry = tmp_path / "models--org--name"
    for name in ("blobs", "refs", "snapshots/abc"):
        (entry / name).mkdir(parents=True)
    shard(entry / "blobs/abcdef", 1)
    (entry / "snapshots/abc/model.safetensors").symlink_to("../../blobs/abcdef")
    refused = call("push", entry, f"{address}/m:1", "--follow-links")
    assert refused.exit_code == 8 and "Name one version, and say --follow-links: snapshots/abc" in refused.stderr
    assert done("push", entry / "snapshots/abc", f"{address}/m:1", "--follow-links")["facts"]["files"] == 1


def test_where_it_goes_is_looked_at_before_a_large_model_is_read(address: str, tmp_path: Path) -> None:
    """The folder is not even there, and the tag is what is said."""
    refused = call("push", tmp_path / "nothing", f"{address}/m")
    assert refused.exit_code == 8 and "weights are pushed under a tag" in refused.stderr
