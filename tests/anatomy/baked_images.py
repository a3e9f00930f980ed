"""Files of models, made by hand, as their formats say."""

from __future__ import annotations

import io
import json
import pickle
import random
import struct
import zipfile

MIB = 1 << 20


def safetensors(size: int, *, seed: int = 0, dtype: str = "BF16", tensors: int = 2) -> bytes:
    """A file with so many bytes of tensors."""
    each = size // tensors
    header = {
        f"layer.{number}": {
            "dtype": dtype,
            "shape": [each // 2],
            "data_offsets": [number * each, (number + 1) * each],
        }
        for number in range(tensors)
    }
    raw = json.dumps({"__metadata__": {"format": "pt"}, **header}).encode()
    noise, left, pieces = random.Random(seed), each * tensors, []
    while left:  # at once Python makes less than 256 MiB
        pieces.append(noise.randbytes(min(left, 64 * MIB)))
        left -= len(pieces[-1])
    return b"".join([struct.pack("<Q", len(raw)), raw, *pieces])


def gguf(size: int, *, words: int = 1000, types: tuple[int, ...] = (12, 12, 14, 0), placed: bool = False) -> bytes:
    """GGUF 3 with a vocabulary, and tensors of such types of ggml. placed: of Q4_K, one behind the other."""

    def text(value: str) -> bytes:
        return struct.pack("<Q", len(value)) + value.encode()

    head = b"GGUF" + struct.pack("<IQQ", 3, len(types), 3)
    head += text("general.architecture") + struct.pack("<I", 8) + text("llama")
    head += text("general.alignment") + struct.pack("<II", 4, 32)
    head += text("tokenizer.ggml.tokens") + struct.pack("<IIQ", 9, 8, words)
    head += b"".join(text(f"word{number}") for number in range(words))
    for number, kind in enumerate(types):
        head += text(f"blk.{number}.weight") + struct.pack("<IQQIQ", 2, 64, 64, kind, number * 2304 if placed else 0)
    if placed:
        head += bytes(-len(head) % 32)
    return head + random.Random(1).randbytes(size)


def pytorch(size: int) -> bytes:
    """A zip as ``torch.save`` writes it."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({"a": 1}, 2))
        archive.writestr("archive/data/0", random.Random(2).randbytes(size))
    return made.getvalue()


def pickled(size: int) -> bytes:
    """A pickle alone."""
    return pickle.dumps(random.Random(3).randbytes(size), 4)
