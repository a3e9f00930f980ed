"""One tensor by two ranges, read by the safetensors package; headers that lie."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path

import numpy
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file, save_file

from registry_pipelines.errors import RegistryPipelinesError
from registry_pipelines.oci.manifests import Manifest
from registry_pipelines.registry.embedded import EmbeddedServer
from registry_pipelines.weights.hashing import read_folder
from registry_pipelines.weights.model import to_manifest
from registry_pipelines.weights.opening import OpenedWeights
from registry_pipelines.weights.source import folder_place
from registry_pipelines.weights.tensors import find_tensor, read_header, write_tensor
from tests.doubles.fault_registry import FaultRegistry
from tests.weights.conftest import call, done, shard


@pytest.fixture(autouse=True)
def _state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)


def test_a_tensor_takes_two_ranges(faults: FaultRegistry, tmp_path: Path) -> None:
    """And far fewer bytes than its file has."""
    (tmp_path / "m").mkdir()
    shard(tmp_path / "m" / "model.safetensors", 1, 1 << 20)
    done("push", tmp_path / "m", f"{faults.address}/m:1")
    faults.reset_counts()
    made = done("read", f"{faults.address}/m:1", "layer.1.bias", "--to", tmp_path / "bias.safetensors")
    asked = [seen.range for seen in faults.requests("GET", r".*/blobs/.*") if seen.range]
    assert len(asked) == 2
    assert faults.bytes_down < 300_000
    assert made["facts"]["dtype"] == "F16" and made["bytes_moved"] == 32
    [(name, read)] = load_file(str(tmp_path / "bias.safetensors")).items()
    with safe_open(str(tmp_path / "m" / "model.safetensors"), framework="numpy") as whole:
        assert name == "layer.1.bias" and numpy.array_equal(read, whole.get_tensor(name))


def test_the_index_says_which_shard_has_it(faults: FaultRegistry, model: Callable[..., Path], tmp_path: Path) -> None:
    folder = model("m", 5)
    done("push", folder, f"{faults.address}/m:1")
    faults.reset_counts()
    done("read", f"{faults.address}/m:1", "layer.10004.weight", "--to", tmp_path / "t")
    assert len([seen for seen in faults.requests("GET", r".*/blobs/.*") if seen.range]) == 2
    whole = load_file(str(folder / "model-00004-of-00005.safetensors"))
    assert numpy.array_equal(load_file(str(tmp_path / "t"))["layer.10004.weight"], whole["layer.10004.weight"])
    refused = call("read", f"{faults.address}/m:1", "layer.10004.weigth", "--to", tmp_path / "n")
    assert refused.exit_code == 8 and "near: layer.10004.weight" in refused.output and not (tmp_path / "n").exists()
    rows = done("ls", f"{faults.address}/m:1", "--tensors")["rows"]
    assert [row["shape"] for row in rows if row["tensor"] == "layer.10005.weight"] == ["128x64"]


def test_without_an_index_all_headers_are_looked_through(
    address: str, model: Callable[..., Path], tmp_path: Path
) -> None:
    folder = model("m", 3)
    (folder / "model.safetensors.index.json").unlink()
    done("push", folder, f"{address}/m:1")
    assert done("read", f"{address}/m:1", "layer.10003.bias", "--to", tmp_path / "t")["facts"]["file"].count("00003-of")


def test_a_header_longer_than_the_first_range(address: str, tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    tensors = {f"a.very.long.name.of.a.tensor.{number:06}": numpy.array([number]) for number in range(5000)}
    save_file(tensors, str(tmp_path / "m" / "a.safetensors"))
    done("push", tmp_path / "m", f"{address}/m:1")
    name = "a.very.long.name.of.a.tensor.004321"
    done("read", f"{address}/m:1", name, "--to", tmp_path / "t")
    assert load_file(str(tmp_path / "t"))[name].tolist() == [4321]


def test_an_index_that_lies_is_named(address: str, model: Callable[..., Path], tmp_path: Path) -> None:
    folder = model("m", 2)
    index = folder / "model.safetensors.index.json"
    for file, said in (("model-00001-of-00002.safetensors", "lacks it"), ("../../etc/passwd", "not there")):
        index.write_text(json.dumps({"weight_map": {"layer.10002.bias": file}}))
        done("push", folder, f"{address}/m:1")
        refused = call("read", f"{address}/m:1", "layer.10002.bias", "--to", tmp_path / "t")
        assert refused.exit_code == 6 and said in refused.output


def _lying(entry: object) -> bytes:
    header = json.dumps({"t": entry}).encode()
    return struct.pack("<Q", len(header)) + header + bytes(8)


LIES = {
    "behind the end": _lying({"dtype": "F32", "shape": [3], "data_offsets": [0, 12]}),
    "backwards": _lying({"dtype": "F32", "shape": [0], "data_offsets": [4, 0]}),
    "another shape": _lying({"dtype": "F32", "shape": [1], "data_offsets": [0, 8]}),
    "a huge shape": _lying({"dtype": "U8", "shape": [2**40, 2**40], "data_offsets": [0, 8]}),
    "below zero": _lying({"dtype": "U8", "shape": [-2, -4], "data_offsets": [0, 8]}),
    "no offsets": _lying({"dtype": "F32", "shape": [1]}),
    "a header longer than the file": struct.pack("<Q", 2**40) + b"{}" + bytes(8),
    "too short": b"\x02",
    "no JSON": struct.pack("<Q", 4) + b"{no}" + bytes(8),
    "notes that are no text": struct.pack("<Q", 19) + b'{"__metadata__": 5}',
}


def _two(first: tuple[int, int], second: tuple[int, int]) -> bytes:
    spans = {
        name: {"dtype": "U8", "shape": [b - a], "data_offsets": [a, b]}
        for name, (a, b) in zip("tu", (first, second), strict=True)
    }
    header = json.dumps(spans).encode()
    return struct.pack("<Q", len(header)) + header + bytes(8)


LIES |= {
    "bytes of two tensors": _two((0, 5), (4, 8)),
    "the same bytes twice": _two((0, 8), (0, 8)),
    "bytes of none between": _two((0, 3), (4, 8)),
    "bytes of none at the end": _two((0, 3), (3, 7)),
}


def opened_of(folder: Path, content: bytes) -> OpenedWeights:
    """Weights whose one file has this content, read from where a push reads them."""
    folder.mkdir(exist_ok=True)
    (folder / "t.safetensors").write_bytes(content)
    read = read_folder(folder)
    made = to_manifest(read.weights)
    manifest = made.content()
    assert isinstance(manifest, Manifest)
    return OpenedWeights(folder_place(folder, read), made.descriptor, manifest, read.weights)


@pytest.mark.parametrize("lie", LIES)
def test_a_header_that_lies_is_refused(tmp_path: Path, lie: str) -> None:
    """Here as by the safetensors package."""
    opened = opened_of(tmp_path / "x", LIES[lie])
    with pytest.raises(SafetensorError), safe_open(str(tmp_path / "x" / "t.safetensors"), framework="numpy"):
        raise AssertionError("its own package reads it")
    with pytest.raises(RegistryPipelinesError, match=r"t\.safetensors"):
        find_tensor(opened, "t")


def test_a_shape_of_very_many_numbers_is_refused(tmp_path: Path) -> None:
    """Their product has millions of digits."""
    opened = opened_of(tmp_path / "x", _lying({"dtype": "U8", "shape": [2**60] * 300_000, "data_offsets": [0, 8]}))
    with pytest.raises(RegistryPipelinesError, match="300000 dimensions"):
        find_tensor(opened, "t")


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.dictionaries(st.text(max_size=4), st.recursive(st.integers() | st.text(), st.lists, max_leaves=5)))
def test_any_header_is_read_or_refused(tmp_path: Path, header: dict[str, object]) -> None:
    raw = json.dumps(header).encode()
    opened = opened_of(tmp_path / "x", struct.pack("<Q", len(raw)) + raw + bytes(16))
    [file] = opened.weights.files
    try:
        tensors = read_header(opened, file)
    except RegistryPipelinesError:
        return
    assert tensors == {} and set(header) <= {"__metadata__"}


def test_a_tensor_of_nothing(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    save_file({"none": numpy.zeros((0, 4), "float32")}, str(tmp_path / "m" / "a.safetensors"))
    with EmbeddedServer(tmp_path / "registry") as server:
        done("push", tmp_path / "m", f"{server.address}/m:1")
        done("read", f"{server.address}/m:1", "none", "--to", tmp_path / "t")
    assert load_file(str(tmp_path / "t"))["none"].shape == (0, 4)


def test_what_is_no_safetensors_has_no_tensors(address: str, tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "a.gguf").write_bytes(b"GGUF" + bytes(20))
    done("push", tmp_path / "m", f"{address}/m:1")
    refused = call("read", f"{address}/m:1", "x", "--to", tmp_path / "t")
    assert refused.exit_code == 8 and "safetensors" in refused.output


def test_a_place_where_nothing_can_be_written(tmp_path: Path) -> None:
    opened = opened_of(tmp_path / "x", _lying({"dtype": "U8", "shape": [8], "data_offsets": [0, 8]}))
    with pytest.raises(RegistryPipelinesError):
        write_tensor(opened, find_tensor(opened, "t"), Path("/proc/t"))
