"""Names of files in a set: such as lie below the folder they are written to, on any machine; and of where sets are."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

MAX_NAME_BYTES = 255
"""Of a part between slashes; more no file system takes."""
MAX_PATH_BYTES = 1024
LIST_FILE = "weights.json"
"""Our list of a folder's files, which lies beside them; see ``listed``."""
SIGNATURE_FILE = "model.sig"
"""An OMS signature of a folder, which lies beside the files."""
STAGING_FOLDER = ".registry-pipelines"
"""Where a pull keeps what has not fully come."""
_KEPT = frozenset({LIST_FILE, SIGNATURE_FILE, STAGING_FOLDER, ".git"})
"""Directly below the folder: a set that brings these would say by itself that it is whole or signed, lose files with
what a pull keeps meanwhile, or have git run something."""


_TURNING = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Unicode's embeddings, overrides and isolates (UAX #9): `a<U+202E>gpj.exe` is shown as `aexe.jpg`."""


def fault_of(path: str) -> str:
    """Why a path cannot be a file of a set; empty where it can. It is relative, its parts are names (not empty, ``.``
    or ``..``), it has no backslash and no control character, and XML, in which stores list, can hold it."""
    try:
        raw = path.encode()
    except UnicodeEncodeError:
        return "is not UTF-8"
    parts = path.split("/")
    if not path or path.startswith("/") or any(part in ("", ".", "..") for part in parts):
        return "does not lie below the folder"
    if "\\" in path or any(ord(letter) < 32 or 127 <= ord(letter) < 160 for letter in path):
        return "has a backslash or a control character"
    if not _TURNING.isdisjoint(path):
        return "has a character that turns the letters behind it around, so that it reads as another name"
    if "\ufffe" in path or "\uffff" in path:
        return "has U+FFFE or U+FFFF, which no list of a store can hold"
    if len(raw) > MAX_PATH_BYTES or any(len(part.encode()) > MAX_NAME_BYTES for part in parts):
        return "is too long"
    return ""


def fault_of_all(paths: Iterable[str]) -> str:
    """The first thing that is wrong with the paths of a set, with its path; empty where nothing is. Each is there once,
    and none is the folder of another."""
    seen: set[str] = set()
    for path in paths:
        if fault := fault_of(path):
            return f"{path[:200]!r} {fault}"
        if path in seen:
            return f"{path!r} is there twice"
        seen.add(path)
    for path in seen:
        parts = path.split("/")
        for count in range(1, len(parts)):
            if (above := "/".join(parts[:count])) in seen:
                return f"{above!r} is a file, and the folder of {path!r}"
    return ""


def fault_of_set(paths: Iterable[str]) -> str:
    """As :func:`fault_of_all`, and of what is written into folders: nothing takes the place of our own files or of
    git's, and no two are one file where a file system tells no capitals and no forms of accents apart."""
    seen: dict[str, str] = {}
    for path in (paths := tuple(paths)):
        plain = unicodedata.normalize("NFC", path).casefold()
        if plain.split("/")[0] in _KEPT:
            return f"{path[:200]!r} is kept for what lies beside the files"
        if plain in seen and seen[plain] != path:
            return f"{seen[plain]!r} and {path!r} are one file where capitals or accents are not told apart"
        seen[plain] = path
    return fault_of_all(paths)


def is_store(text: str) -> bool:
    """Whether a person means an object store (``s3://...``) or a folder that is one, and no registry."""
    return "://" in text or text.startswith(("/", "./", "../", "~"))


__all__ = ["fault_of", "fault_of_all", "fault_of_set", "is_store"]
