"""Lists of very many paths in little memory (``facts.Names``): written while a layer passes, read folder by folder."""

from __future__ import annotations

from collections.abc import Iterable

from registry_pipelines.scan.facts import Names

MAX_NAMES_BYTES = 24 * 1024 * 1024
"""Of one list: a million files with short names. What is beyond is counted only."""
_FOLDER_BYTES = 160
"""What a folder costs beside its names."""


class NamesWriter:
    """Collects base names by folder."""

    def __init__(self) -> None:
        self._folders: dict[str, bytearray] = {}
        self._left = MAX_NAMES_BYTES

    def add(self, path: str, *more: str) -> bool:
        """One path, with what stands behind its base name. False: there is no room, and it was not taken."""
        folder, _, base = path.rpartition("/")
        text = "/".join((base, *more, "")).encode()
        known = self._folders.get(folder)
        cost = len(text) if known is not None else len(text) + len(folder) + _FOLDER_BYTES
        if cost > self._left:
            return False
        self._left -= cost
        if known is None:
            self._folders[folder] = bytearray(text)
        else:
            known += text
        return True

    def names(self) -> Names:
        """All that was added; what was added is forgotten here."""
        names = {}
        while self._folders:
            folder, text = self._folders.popitem()
            names[folder] = text[:-1].decode()
        return dict(sorted(names.items()))


def names_of(paths: Iterable[str]) -> Names:
    """The paths that fit; without the empty one."""
    writer = NamesWriter()
    for path in paths:
        if path:
            writer.add(path)
    return writer.names()


def sizes(text: str) -> dict[str, int]:
    """Base names and sizes of one folder of ``LayerContent.files``; the last of equal names counts."""
    parts = text.split("/")
    return dict(zip(parts[::2], map(int, parts[1::2]), strict=True))


def with_sizes(files: dict[str, int]) -> str:
    """The other way."""
    return "/".join(f"{name}/{size}" for name, size in files.items())
