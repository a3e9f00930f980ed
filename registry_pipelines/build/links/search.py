"""Where a library is found, as the dynamic loaders of glibc and musl look for it (ld.so(8); musl, ``dynlink.c``)."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Iterator
from functools import cached_property

from registry_pipelines.build.links.root import Root
from registry_pipelines.oci.elf import ElfFacts

_TOKEN = re.compile(r"\$(?:ORIGIN\b|LIB\b|PLATFORM\b|\{(?:ORIGIN|LIB|PLATFORM)\})")
_MUSL_LOADER = re.compile(r"(?:usr/)?lib/ld-musl-[A-Za-z0-9_]+\.so\.1\Z")
_MULTIARCH = {62: "x86_64-linux-gnu", 183: "aarch64-linux-gnu", 21: "powerpc64le-linux-gnu", 22: "s390x-linux-gnu"}
"""``e_machine`` to Debian's folder, where its loader looks without being told."""
_MUSL_NAMES = re.compile(r"lib(?:c|m|dl|pthread|rt|util|crypt|resolv)\.(?:so|musl-[A-Za-z0-9_]+\.so\.1)\Z")
"""musl's loader is all of these."""


class Search:
    """Asks a root. library_path: ``LD_LIBRARY_PATH`` of the image."""

    def __init__(self, root: Root, library_path: str = "") -> None:
        self._root = root
        self._told = [part.lstrip("/") for part in library_path.split(":") if part.startswith("/")]
        self.musl = next((path for path in root.files if _MUSL_LOADER.match(path)), "")
        self._parents: dict[str, list[str]] = {}

    def find(self, name: str, path: str) -> str:
        """The real path of the library that is loaded for a file; empty: none."""
        needing = self._root.files[path]
        if "/" in name:
            return self._fitting(name.lstrip("/"), needing)
        if self.musl and _MUSL_NAMES.match(name):
            return self.musl
        for folder in self._folders(path, needing):
            if found := self._fitting(f"{folder}/{name}", needing):
                return found
        for candidate in (self._root.cache or {}).get(name, ()):
            if found := self._fitting(candidate, needing):
                return found
        return ""

    def inherited(self, name: str, path: str, needed_by: dict[str, set[str]]) -> str:
        """The same by the RPATH of whoever needs the file, which glibc asks too where the file has no RUNPATH."""
        needing = self._root.files[path]
        if needing.runpath:
            return ""
        seen, todo = {path}, [*needed_by.get(path, ())]
        while todo:
            parent = todo.pop()
            if parent in seen:
                continue
            seen.add(parent)
            todo += needed_by.get(parent, ())
            above = self._root.files[parent]
            for folder in () if above.runpath else self._expanded(above.rpath, parent, above):
                if found := self._fitting(f"{folder}/{name}", needing):
                    return found
        return ""

    def after_ldconfig(self, name: str, path: str) -> str:
        """In a folder that ``ld.so.conf`` names, and not in the loader's cache."""
        needing = self._root.files[path]
        found = (self._fitting(f"{folder}/{name}", needing) for folder in self._configured)
        return next(filter(None, found), "")

    def _folders(self, path: str, needing: ElfFacts) -> Iterator[str]:
        if not needing.runpath:
            yield from self._expanded(needing.rpath, path, needing)
        yield from self._told
        yield from self._expanded(needing.runpath, path, needing)
        yield from self._standard(needing)

    def _standard(self, needing: ElfFacts) -> Iterator[str]:
        if self.musl:
            yield from self._musl_folders
        multiarch = _MULTIARCH.get(needing.machine[2])
        if multiarch:
            yield from (f"lib/{multiarch}", f"usr/lib/{multiarch}")
        yield from ("lib64", "usr/lib64", "lib", "usr/lib")

    @cached_property
    def _musl_folders(self) -> list[str]:
        texts = [text for path, text in self._root.settings.items() if path.startswith("etc/ld-musl-")]
        told = [part.strip().lstrip("/") for text in texts for part in re.split(r"[:\n]", text) if part.strip()]
        return told or ["lib", "usr/local/lib", "usr/lib"]

    @cached_property
    def _configured(self) -> list[str]:
        """Folders of ``ld.so.conf``; which of its files includes which is not asked."""
        lines = [
            line.partition("#")[0].strip()
            for path, text in self._root.settings.items()
            if path.startswith("etc/ld.so.conf")
            for line in text.splitlines()
        ]
        return [line.lstrip("/") for line in lines if line.startswith("/")]

    def _expanded(self, paths: Iterable[str], path: str, facts: ElfFacts) -> Iterator[str]:
        origin = f"/{posixpath.dirname(path)}"
        libraries = ("lib64", f"lib/{_MULTIARCH.get(facts.machine[2], '')}".rstrip("/"), "lib")
        for text in paths:
            for library in libraries if "LIB" in text else libraries[:1]:
                expanded = _TOKEN.sub(lambda token: origin if "ORIGIN" in token[0] else library, text)  # noqa: B023
                if expanded.startswith("/"):
                    yield expanded.lstrip("/")

    def _fitting(self, path: str, needing: ElfFacts) -> str:
        found = self._root.resolve(path)
        return found if found and self._root.files[found].machine == needing.machine else ""
