"""What a file of a model is, by its first bytes; its name counts only where content has no mark of its own.

Nothing is loaded: a pickle runs what it holds when it is opened, so such files are named and never read as what they
are. Sources of the marks: safetensors' format description (8 bytes of length, then JSON); GGUF's specification
(``GGUF``); HDF5's format specification (signature); TensorFlow Lite's schema (file identifier ``TFL3``); numpy's
``lib/format`` (``\\x93NUMPY``); Python's ``pickletools`` (PROTO); PyTorch's serialization notes (a zip with
``data.pkl``); ONNX's ``onnx.proto`` (``ir_version`` is field 1).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Literal

Kind = Literal["weights", "config", "doc", "code"]
"""What a file is for, in the words of ModelPack's media types."""

HEAD_BYTES = 4096
"""So much of a file :func:`kind_of` wants to see; less, where the file is shorter."""

MAX_HEADER_BYTES = 100_000_000
"""The longest safetensors header that its own readers take."""


@dataclass(frozen=True)
class Format:
    """What a file is.

    name: ``safetensors``, ``gguf``, ``pickle``, ``zip`` ..., ``unknown`` where content and name say nothing. pickle:
    whoever loads it may run what it holds. Also True of every zip, tar and compressed file, in which a pickle may lie
    anywhere, and of files with a name that loaders unpickle, whatever they begin with: a pickle may begin as another
    format does, and what is not known is no pass.
    """

    name: str
    kind: Kind
    pickle: bool = False


def kind_of(name: str, head: bytes, size: int) -> Format:
    """What a file is. name: its path or name; head: its first HEAD_BYTES; size: bytes of all of it. Raises nothing."""
    path = PurePosixPath(name.lower())
    unpickled = any(suffix in _UNPICKLED for suffix in _last_suffixes(path))
    for is_it, found in _MARKS:
        if is_it(head, size):
            return replace(found, pickle=True) if unpickled else found
    if unpickled:
        return Format("pickle", "weights", pickle=True)
    if path.suffix == ".onnx" and head[:1] == b"\x08":
        return _ONNX
    if (kind := _named(path)) is not None and _is_text(head, size):
        return Format(_TEXT_NAMES.get(path.suffix, "text"), kind)
    if path.suffix in _CODE or head.startswith(b"#!"):  # whoever runs it does not ask whether it is text
        return Format("unknown", "code")
    if path.name in _TOKENIZERS:
        return Format("tokenizer", "config")
    if path.suffix in _PICTURES:
        return Format("document", "doc")
    return Format("unknown", "weights")


def _last_suffixes(path: PurePosixPath) -> list[str]:
    """The ending, and the one before where the last says how it is compressed: loaders look through that."""
    return path.suffixes[-2:] if path.suffix in _COMPRESSED else path.suffixes[-1:]


def _is_safetensors(head: bytes, size: int) -> bool:
    length = int.from_bytes(head[:8], "little")
    return 2 <= length <= min(MAX_HEADER_BYTES, size - 8) and head[8:9] == b"{"


def _is_pickle(head: bytes, size: int) -> bool:
    """Protocols 2 to 5 begin with PROTO, and the next byte is an opcode. Loaders take the numbers 0 and 1, too."""
    return size > 3 and head[:1] == b"\x80" and head[1:2] in b"\x00\x01\x02\x03\x04\x05" and head[2:3] in _OPCODES


def _is_objects(head: bytes, _size: int) -> bool:
    """An array of numpy whose header names another type than numbers, dates and strings do, or does not say so in its
    first bytes: it is a literal of Python, which may write ``O`` in many ways."""
    if not head.startswith(b"\x93NUMPY"):
        return False
    start = 10 if head[6:7] == b"\x01" else 12
    length = int.from_bytes(head[8:start], "little")
    return start + length > len(head) or _PLAIN_ARRAY.fullmatch(head[start : start + length]) is None


def _is_tar(head: bytes, _size: int) -> bool:
    return head[257:262] == b"ustar"


def _is_onnx(head: bytes, _size: int) -> bool:
    """``ir_version``, then ``producer_name``, which all exporters write."""
    length = head[3] if len(head) > 3 else 0
    producer = head[4 : 4 + length]
    return head[:1] == b"\x08" and head[1:2] < b"\x20" and head[2:3] == b"\x12" and length > 0 and producer.isascii()


def _begins(*marks: bytes) -> Callable[[bytes, int], bool]:
    return lambda head, _size: head.startswith(marks)


_OPCODES = b"\x95}])c(X\x8a\x8bq\x94KNUGJMTBCIFLSVPh\x8c\x8d\x8e\x8f\x88\x89\x96\x80\x82\x83\x84."
"""Opcodes that a pickle's content may begin with: FRAME, containers, globals, numbers, strings, PROTO again."""

_PLAIN_ARRAY = re.compile(
    rb"\{'descr': (?:'[<>|=]?[?biufcmMSUV][0-9]*(?:\[[0-9]*[A-Za-z]+\])?'"
    rb"|\[(?:\('[^'\\]*', '[<>|=]?[?biufcmMSUV][0-9]*(?:\[[0-9]*[A-Za-z]+\])?'(?:, \([0-9, ]*\))?\),? ?)+\]), "
    rb"'fortran_order': (?:True|False), 'shape': \([0-9, ]*\),? ?\} *\n?"
)
"""As numpy writes the header: a type, or a list of fields."""

_ONNX = Format("onnx", "weights")
_ARCHIVE = Format("archive", "weights", pickle=True)

_MARKS: tuple[tuple[Callable[[bytes, int], bool], Format], ...] = (
    (_is_pickle, Format("pickle", "weights", pickle=True)),
    (_begins(b"GGUF"), Format("gguf", "weights")),
    (_is_safetensors, Format("safetensors", "weights")),
    (_begins(b"\x89HDF\r\n\x1a\n"), Format("hdf5", "weights")),
    (lambda head, _size: head[4:8] == b"TFL3", Format("tflite", "weights")),
    (_is_objects, Format("numpy", "weights", pickle=True)),
    (_begins(b"\x93NUMPY"), Format("numpy", "weights")),
    (
        lambda head, _size: head.startswith(b"PK\x03\x04") and b"data.pkl" in head[:512],
        Format("pytorch", "weights", pickle=True),
    ),
    (_begins(b"PK\x03\x04", b"PK\x05\x06"), Format("zip", "weights", pickle=True)),
    (_begins(b"\x1f\x8b", b"BZh", b"\xfd7zXZ\x00", b"\x28\xb5\x2f\xfd", b"\x04\x22\x4d\x18", b"7z\xbc\xaf"), _ARCHIVE),
    (_is_tar, _ARCHIVE),
    (_begins(b"\x7fELF", b"MZ", b"\xfe\xed\xfa", b"\xcf\xfa\xed\xfe", b"\xca\xfe\xba\xbe"), Format("program", "code")),
    (_is_onnx, _ONNX),
)
"""The first that fits. Pickles come first: the length of a safetensors header can look like the beginning of one, and
what may be both is called what is dangerous."""

_UNPICKLED = frozenset(
    {".pt", ".pth", ".ckpt", ".bin", ".pkl", ".pickle", ".joblib", ".dill", ".cloudpickle", ".pt2", ".pyth"}
    | {".p", ".pck", ".ptl", ".sav", ".th", ".tar"}
)
"""Endings of files that loaders unpickle."""

_COMPRESSED = frozenset({".gz", ".bz2", ".xz", ".lzma", ".zst", ".lz4", ".z", ".zip"})

_TEXT_NAMES = {".json": "json", ".yaml": "yaml", ".yml": "yaml", ".md": "markdown", ".py": "python"}
_CONFIGS = frozenset({".json", ".yaml", ".yml", ".toml", ".ini", ".cfg", ".jinja", ".txt", ".jsonl", ".model", ".conf"})
_DOCS = frozenset({".md", ".rst", ".html", ".tex", ".bib", ".svg"})
_CODE = frozenset(
    {
        ".py",
        ".pyc",
        ".pyo",
        ".pyd",
        ".so",
        ".dll",
        ".dylib",
        ".pyx",
        ".lua",
        ".pl",
        ".rb",
        ".ts",
        ".bat",
        ".ps1",
        ".sh",
        ".ipynb",
        ".c",
        ".cc",
        ".cpp",
        ".cu",
        ".h",
        ".hpp",
        ".js",
        ".go",
        ".rs",
        ".proto",
    }
)
_DOC_NAMES = ("readme", "license", "licence", "notice", "copying", "changelog", "use_policy", "model_card")
_TOKENIZERS = frozenset({"tokenizer.model", "spiece.model", "sentencepiece.bpe.model", "spm.model"})
_PICTURES = frozenset({".png", ".jpg", ".jpeg", ".gif", ".webp", ".pdf"})


def _named(path: PurePosixPath) -> Kind | None:
    if path.name.startswith(_DOC_NAMES) or path.suffix in _DOCS:
        return "doc"
    if path.suffix in _CODE:
        return "code"
    return "config" if path.suffix in _CONFIGS else None


def _is_text(head: bytes, size: int) -> bool:
    """UTF-8 without control characters; the head may end in the middle of one that takes several bytes."""
    try:
        text = head.decode()
    except UnicodeDecodeError as error:
        if size <= len(head) or error.start < len(head) - 3:
            return False
        text = head[: error.start].decode()
    return all(letter >= " " or letter in "\t\n\r\f" for letter in text)


__all__ = ["HEAD_BYTES", "Format", "Kind", "kind_of"]
