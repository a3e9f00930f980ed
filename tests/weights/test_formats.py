"""What files are, by content: made by the programs whose formats they are where those are here, else as specified."""

import io
import json
import pickle
import struct
import zipfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry_pipelines.weights.formats import HEAD_BYTES, kind_of


def _safetensors(header: dict[str, object]) -> bytes:
    raw = json.dumps(header).encode()
    return struct.pack("<Q", len(raw)) + raw


def _zip(name: str) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr(name, b"x")
    return made.getvalue()


TENSOR = {"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}

FILES = {
    "safetensors": ("misnamed.bin", _safetensors(TENSOR) + bytes(4), "safetensors", "weights", False),
    "gguf": ("model", b"GGUF\x03\x00\x00\x00" + bytes(16), "gguf", "weights", False),
    "hdf5": ("w.h5", b"\x89HDF\r\n\x1a\n" + bytes(8), "hdf5", "weights", False),
    "tflite": ("m.tflite", b"\x1c\x00\x00\x00TFL3" + bytes(8), "tflite", "weights", False),
    "onnx": ("m.data", b"\x08\x0a\x12\x07pytorch\x3a\x10" + bytes(16), "onnx", "weights", False),
    "torch": ("model.safetensors", _zip("archive/data.pkl"), "pytorch", "weights", True),
    "npz": ("a.npz", _zip("a.npy"), "zip", "weights", True),
    "pickle 2": ("readme.md", pickle.dumps({"a": 1}, 2), "pickle", "weights", True),
    "pickle 5": ("config.json", pickle.dumps([1, 2], 5), "pickle", "weights", True),
    "pickle 0 by its name": ("w.pkl", pickle.dumps({"a": 1}, 0), "pickle", "weights", True),
    "json": ("config.json", b'{"a": 1}', "json", "config", False),
    "cut in a letter": ("vocab.txt", b"x" * (HEAD_BYTES - 1) + "é".encode() * 40, "text", "config", False),
    "licence": ("LICENSE", b"Apache", "text", "doc", False),
    "code": ("modeling.py", b"import torch\n", "python", "code", False),
    "json by its name alone": ("config.json", b"\x00\x01\x02\x03", "unknown", "weights", False),
    "empty": ("nothing", b"", "unknown", "weights", False),
}


@pytest.mark.parametrize("case", FILES)
def test_a_file_is_what_its_content_says(case: str) -> None:
    name, content, format_name, kind, is_pickle = FILES[case]
    found = kind_of(name, content[:HEAD_BYTES], len(content))
    assert (found.name, found.kind, found.pickle) == (format_name, kind, is_pickle)


def test_a_length_that_looks_like_a_pickle_is_called_one() -> None:
    """0x470280 bytes of header: PROTO 2 and BINFLOAT for who unpickles it."""
    head = struct.pack("<Q", 0x470280) + b'{"' + b" " * 100
    assert kind_of("model.safetensors", head, 0x470280 + 8).pickle


@given(st.text(max_size=40), st.binary(max_size=HEAD_BYTES), st.integers(0, 2**64))
def test_anything_is_taken(name: str, head: bytes, size: int) -> None:
    assert kind_of(name, head, max(size, len(head))).name


@settings(max_examples=30)
@given(
    st.recursive(
        st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8
    )
)
def test_pickles_of_every_binary_protocol_are_found(value: object) -> None:
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        content = pickle.dumps(value, protocol)
        assert kind_of("notes.txt", content[:HEAD_BYTES], len(content)).pickle
