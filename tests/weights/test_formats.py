"""What files are, by content: made by the programs whose formats they are where those are here, else as specified."""

import gzip
import io
import json
import pickle
import struct
import zipfile
from typing import Any

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry_pipelines.weights.formats import HEAD_BYTES, Format, kind_of


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
    "safetensors": ("misnamed", _safetensors(TENSOR) + bytes(4), "safetensors", "weights", False),
    "gguf": ("model", b"GGUF\x03\x00\x00\x00" + bytes(16), "gguf", "weights", False),
    "hdf5": ("w.h5", b"\x89HDF\r\n\x1a\n" + bytes(8), "hdf5", "weights", False),
    "tflite": ("m.tflite", b"\x1c\x00\x00\x00TFL3" + bytes(8), "tflite", "weights", False),
    "onnx": ("m.data", b"\x08\x0a\x12\x07pytorch\x3a\x10" + bytes(16), "onnx", "weights", False),
    "torch": ("model.safetensors", _zip("archive/data.pkl"), "pytorch", "weights", True),
    "npz": ("a.npz", _zip("a.npy"), "zip", "weights", True),
    "pickle 2": ("readme.md", pickle.dumps({"a": 1}, 2), "pickle", "weights", True),
    "pickle 5": ("config.json", pickle.dumps([1, 2], 5), "pickle", "weights", True),
    "pickle 0 by its name": ("w.pkl", pickle.dumps({"a": 1}, 0), "pickle", "weights", True),
    "safetensors by a loader of pickles": ("w.bin", _safetensors(TENSOR), "safetensors", "weights", True),
    "a pickle that begins as safetensors": (
        "w.pt",
        b"G" + bytes(7) + b"{0cos\nx\n." + bytes(99),
        "safetensors",
        "weights",
        True,
    ),
    "a pickle that begins as gguf": ("w.PKL", b"GGUF\3\0\0\0\0" + b"0cos\nsystem\n.", "gguf", "weights", True),
    "a pickle of protocol 1 that says so": ("notes.txt", b"\x80\1I1\n.", "pickle", "weights", True),
    "gzip": ("w.data", gzip.compress(pickle.dumps(1)), "archive", "weights", True),
    "pickle 0 with gzip's name": ("w.pkl.gz", b"I1\n.", "pickle", "weights", True),
    "tar": ("m.nemo", bytes(257) + b"ustar\x0000" + bytes(300), "archive", "weights", True),
    "code that is no text": ("run.py", b"#\x01\nimport os\n", "unknown", "code", False),
    "a script": ("run", b"#!/bin/sh\n", "unknown", "code", False),
    "compiled": ("ext", b"\x7fELF" + bytes(60), "program", "code", False),
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


def _npy(array: numpy.ndarray[Any, Any]) -> bytes:
    made = io.BytesIO()
    numpy.save(made, array)
    return made.getvalue()


@pytest.mark.parametrize("dtype", ["<f4", "?", "<U3", "<M8[ns]", [("a", "<i4"), ("b", "<f8", (2, 2))]])
def test_arrays_of_numbers_are_no_pickles(dtype: Any) -> None:
    content = _npy(numpy.zeros((2, 3), dtype))
    assert kind_of("a.npy", content[:HEAD_BYTES], len(content)) == Format("numpy", "weights")


@pytest.mark.parametrize("descr", ["'|O'", "'O'", "'object'", "'\\x4f'", "'|' 'O'", "'i4,O'", "[('a', '|O')]"])
def test_arrays_of_objects_are_pickles_however_it_is_written(descr: str) -> None:
    """Numpy reads the header as a literal of Python, and takes all of these."""
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': (1,), }}\n".encode()
    content = b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header + pickle.dumps([1])
    with pytest.raises(ValueError, match="Object arrays cannot be loaded"):
        numpy.load(io.BytesIO(content), allow_pickle=False)
    assert kind_of("a.npy", content[:HEAD_BYTES], len(content)).pickle
    far = b"\x93NUMPY\2\0" + struct.pack("<I", 9000) + b" " * 9000 + header
    assert kind_of("a.npy", far[:HEAD_BYTES], len(far)).pickle


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
