"""Weights of models among the files of a layer, told by their first bytes while it streams; names are a hint alone.

What no other file looks like (safetensors, GGUF, a zip of PyTorch, TensorFlow Lite, ONNX) counts whatever its name is.
Pickles, HDF5, numpy's files, zips and what has no mark hold much else, and count only by a name that models have. Of
safetensors and GGUF the header says how many tensors of which type there are; nothing is loaded. Sources: safetensors'
format description, GGUF's specification, and the types of ggml.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field

import msgspec

from registry_pipelines.errors import ManifestInvalid
from registry_pipelines.oci.layer.walk import Entry
from registry_pipelines.oci.manifests import decode_json
from registry_pipelines.scan.facts import FoundWeights
from registry_pipelines.weights.formats import HEAD_BYTES, Format, kind_of
from registry_pipelines.weights.gguf import read_gguf

MIN_WEIGHTS_BYTES = 1 << 20
"""Smaller files with such content are fixtures of tests, and tokenizers."""
MAX_HEADER_BYTES = 8 << 20
"""Of one file; a shard of a large model has some 100 KB, a GGUF with its vocabulary 6 MB. Of longer ones the tensors
are not counted."""
MAX_LAYER_BYTES = 64 << 20
"""Of all headers of one layer."""
MAX_FOUND = 20_000
"""Of one layer; a manifest of weights takes 10,000 files."""
MAX_TYPES = 50
"""Of one file; there are some forty in all."""

_NAMES = re.compile(
    r"(?:\.(?:safetensors|gguf|ggml|ckpt|pth|pt|onnx|tflite|h5|keras|msgpack|nemo|engine)"
    r"|(?:^|/)(?:pytorch_model|model|diffusion_pytorch_model|adapter_model)[^/]*\.bin"
    r"|(?:^|/)(?:saved_model\.pb|variables\.data-[0-9-of]+))\Z"
)
_HUB = re.compile(r"(?:^|/)huggingface/hub/models--[^/]+/(?:blobs|snapshots)/")
_PICKLED = re.compile(r"\.(?:pkl|pickle|joblib|dill|cloudpickle|bin)\Z")
_PACKAGES = re.compile(r"(?:^|/)(?:site-packages|dist-packages|node_modules)/")
_SURE = frozenset({"safetensors", "gguf", "pytorch", "tflite", "onnx"})
_OTHER_KINDS = frozenset({"config", "doc", "code"})
_PRODUCER = re.compile(rb"\x08[\x01-\x1f]\x12.[A-Za-z0-9 ._+/-]{3,}", re.DOTALL)


def is_named_weights(path: str) -> bool:
    """Whether models have files with such a path; it is without a leading slash."""
    return _NAMES.search(path) is not None or _HUB.search(path) is not None


@dataclass
class WeightsFinder:
    """What was found in one layer, and how many bytes of headers may still be read."""

    found: list[FoundWeights] = field(default_factory=list)
    more: int = 0
    """Found, but too many to be listed."""
    left_bytes: int = MAX_LAYER_BYTES

    def look(self, entry: Entry, name: str, head: bytes) -> bool:
        """Whether a file is weights, and then it is noted. head: its first HEAD_BYTES, which were taken; more is taken
        of its header. Raises LayerInvalid: the tar ends."""
        position = entry.position - len(head)
        told = self._told(entry, name, head)
        if told is None:
            return False
        what, tensors = told
        if len(self.found) >= MAX_FOUND:
            self.more += 1
            return True
        self.found.append(
            FoundWeights(
                path=name,
                format=what.name,
                size=entry.size,
                position=position,
                pickle=what.pickle,
                by_name=what.name not in _SURE,
                tensors=sum(tensors.values()),
                dtypes=dict(tensors.most_common(MAX_TYPES)),
            )
        )
        return True

    def _told(self, entry: Entry, name: str, head: bytes) -> tuple[Format, Counter[str]] | None:
        what, nothing = kind_of("", head, entry.size), Counter[str]()
        if what.name == "safetensors":
            length = int.from_bytes(head[:8], "little")
            header = self._header(entry, head, 8 + length)
            tensors = read_safetensors(header[8:]) if len(header) == 8 + length else nothing
            return (what, tensors) if tensors is not None else _by_name(name, head, entry.size)
        if what.name == "gguf":
            return what, read_gguf(self._header(entry, head, entry.size)).types
        if what.name in _SURE and (what.name != "onnx" or _PRODUCER.match(head)):
            return what, nothing
        return _by_name(name, head, entry.size)

    def _header(self, entry: Entry, head: bytes, wanted: int) -> bytes:
        """The first ``wanted`` bytes of a file; as many as may be read where those are fewer."""
        if wanted <= len(head):
            return head[:wanted]
        allowed = min(wanted, MAX_HEADER_BYTES, len(head) + self.left_bytes)
        if wanted > allowed and head[:4] != b"GGUF":
            return head
        more = entry.head(allowed - len(head))
        self.left_bytes -= len(more)
        return head + more


def _by_name(name: str, head: bytes, size: int) -> tuple[Format, Counter[str]] | None:
    what = kind_of(name, head, size)
    # A download cache names files by their hash: a tokenizer there is text.
    if what.kind in _OTHER_KINDS or kind_of("any.json", head, size).kind == "config":
        return None
    pickled = what.name == "pickle" and _PICKLED.search(name) and kind_of("", head, size).pickle
    if is_named_weights(name) or (pickled and not _PACKAGES.search(name)):
        return what, Counter()
    return None


class _Tensor(msgspec.Struct, frozen=True):
    dtype: str = ""


def read_safetensors(header: bytes) -> Counter[str] | None:
    """How many tensors of which type a header (the JSON alone) names; None: it is none."""
    try:
        named = decode_json(header, dict[str, _Tensor])
    except ManifestInvalid:
        return None
    return Counter(_plain(each.dtype) for name, each in named.items() if name != "__metadata__")


def _plain(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_]{1,20}", name) else "?"


__all__ = ["HEAD_BYTES", "MIN_WEIGHTS_BYTES", "WeightsFinder", "is_named_weights", "read_safetensors"]
