"""What a dynamic loader would find in one layer: its ELF files, links, settings, and the wheels that own libraries.

Collected while the layer is made or read, kept in the state folder by what the layer's bytes are, and small: names and
versions, no content.
"""

from __future__ import annotations

import posixpath
import re
from contextlib import AbstractContextManager
from pathlib import Path

import msgspec

from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.elf import MAGIC, ElfFacts, ElfStream
from registry_pipelines.oci.kept_json import read_kept, write_kept
from registry_pipelines.oci.layer.store import layer_turn, record_key
from registry_pipelines.oci.layer.walk import OPAQUE_WHITEOUT, WHITEOUT_PREFIX, LayerWalk
from registry_pipelines.oci.manifests import encode_json

FORMAT = 1
"""Part of the paths; raised when reading a layer gives something else than before."""
_KIND = f"links/v{FORMAT}"

MAX_ITEMS = 400_000
"""Files, links and whiteouts that are kept of a layer; CUDA and PyTorch together have 15,000."""

MAX_KEPT_BYTES = 64 * 1024 * 1024
"""Of all names of a layer; those of CUDA and PyTorch have 2 MB."""

MAX_TEXT_BYTES = 32 * 1024 * 1024
"""Of one file that is read whole: torch's RECORD has 2 MB, a loader's cache 100 kB."""

CACHE = "etc/ld.so.cache"
_SETTINGS = re.compile(r"etc/ld\.so\.conf\Z|etc/ld\.so\.conf\.d/[^/]+\.conf\Z|etc/ld-musl-[A-Za-z0-9_]+\.path\Z")
_RECORD = re.compile(r"(?:^|/)([^/]+)\.dist-info/RECORD\Z")
_LIBRARY = re.compile(r"\.so(?:\.[0-9][^/]*)?\Z")
_MAY_HIDE = re.compile(r"\.so(?:\.[0-9][^/]*)?\Z|(?:^|/)s?bin/[^/]+\Z")
"""Where a file that is no ELF file may stand in the place of one."""


class LayerLinks(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One layer. Paths are those of the layer, without a leading slash."""

    files: dict[str, ElfFacts] = {}
    same: dict[str, str] = {}
    """Hard links to the path that has the content, in this layer or below."""
    links: dict[str, str] = {}
    """Symbolic links and their targets as written."""
    others: tuple[str, ...] = ()
    """Files that are no ELF files where a library or a program may have been."""
    removed: tuple[str, ...] = ()
    """Paths that whiteouts remove from lower layers."""
    opaque: tuple[str, ...] = ()
    """Folders whose lower content is hidden."""
    settings: dict[str, str] = {}
    """``ld.so.conf`` and its like, as they stand there."""
    cache: bytes | None = None
    """``/etc/ld.so.cache`` as it stands there."""
    owners: dict[str, dict[str, str]] = {}
    """By installed wheel (``torch 2.11.0``), the libraries of its RECORD and the hash that stands there."""
    problem: str = ""
    """Why the rest was not looked at; empty: all of it was."""


class LinkCollector:
    """Told of a layer's entries and their content as they pass; :meth:`finish` gives what was found."""

    def __init__(self) -> None:
        self._files: dict[str, ElfFacts] = {}
        self._same: dict[str, str] = {}
        self._links: dict[str, str] = {}
        self._others: list[str] = []
        self._removed: list[str] = []
        self._opaque: list[str] = []
        self._settings: dict[str, str] = {}
        self._cache: bytes | None = None
        self._owners: dict[str, dict[str, str]] = {}
        self._items = self._bytes = 0
        self._problem = ""
        self._name = ""
        self._size = 0
        self._head = b""
        self._text: bytearray | None = None
        self._elf: ElfStream | None = None
        self.wants = False
        """Whether the content of the entry that began last is of interest, as far as its bytes have told."""

    def entry(self, name: str, kind: str, size: int, link: str = "") -> None:
        """An entry begins. name, kind, link: as ``walk.Entry`` has them; size: bytes of content that will pass."""
        self._end()
        name = _printable(name)
        if self._problem or not self._room(name, link if kind in ("symlink", "hardlink") else ""):
            return
        folder, _, base = name.rpartition("/")
        if base == OPAQUE_WHITEOUT:
            self._keep(self._opaque, folder)
        elif base.startswith(WHITEOUT_PREFIX):
            self._keep(self._removed, f"{folder}/{base[len(WHITEOUT_PREFIX) :]}".lstrip("/"))
        elif kind == "symlink":
            self._forget(name)
            self._links[name] = _printable(link)
            self._items += 1
        elif kind == "hardlink":
            if _MAY_HIDE.search(name) or _printable(link) in self._files:
                self._forget(name)
                self._same[name] = _printable(link)
                self._items += 1
        elif kind == "file":
            self._begin(name, size)

    def _begin(self, name: str, size: int) -> None:
        self._forget(name)
        self._name, self._size, self._head = name, size, b""
        whole = name == CACHE or _SETTINGS.search(name) or _RECORD.search(name)
        self._text = bytearray() if whole and size <= MAX_TEXT_BYTES else None
        self.wants = size >= len(MAGIC) or self._text is not None
        if not self.wants and _MAY_HIDE.search(name):
            self._keep(self._others, name)

    def feed(self, piece: bytes | memoryview) -> None:
        """The next bytes of its content; may be left out while ``wants`` is false."""
        if not self.wants:
            return
        if self._text is not None:
            self._text += piece
        elif self._elf is not None:
            self._elf.feed(piece)
        else:
            head = self._head + bytes(piece[: len(MAGIC)]) if self._head else piece
            if len(head) < len(MAGIC):
                self._head = bytes(head)
                return
            self.wants = head[: len(MAGIC)] == MAGIC
            if self.wants:
                self._elf = ElfStream(self._size)
                self._elf.feed(self._head)
                self._elf.feed(piece)
            elif _MAY_HIDE.search(self._name):
                self._keep(self._others, self._name)

    def _end(self) -> None:
        name, elf, text = self._name, self._elf, self._text
        self._name, self._elf, self._text, self.wants = "", None, None, False
        if elf is not None:
            facts = elf.finish()
            if facts.dynamic or facts.problem:
                self._files[name] = facts
                self._items += 1
                self._bytes += len(encode_json(facts))
            elif _MAY_HIDE.search(name):
                self._keep(self._others, name)
        elif text is not None:
            self._read(name, bytes(text))

    def _read(self, name: str, raw: bytes) -> None:
        if name == CACHE:
            self._cache = raw
        elif record := _RECORD.search(name):
            libraries = _libraries(raw, posixpath.dirname(posixpath.dirname(name)))
            if libraries:
                self._owners[record[1].replace("-", " ", 1)] = libraries
                self._items += len(libraries)
                self._bytes += sum(len(path) + 44 for path in libraries)
        else:
            self._settings[name] = raw.decode("utf-8", "backslashreplace")
            self._bytes += len(raw)

    def _forget(self, name: str) -> None:
        """What the same layer had at this path before; the later entry counts."""
        for known in (self._files, self._same, self._links):
            known.pop(name, None)

    def _keep(self, names: list[str], name: str) -> None:
        names.append(name)
        self._items += 1

    def _room(self, *texts: str) -> bool:
        if self._items > MAX_ITEMS or self._bytes > MAX_KEPT_BYTES:
            self._problem = f"there are too many files and links; the rest, behind {texts[0][:200]}, was not looked at"
        self._bytes += len(texts[-1])
        return not self._problem

    def finish(self) -> LayerLinks:
        """All entries were told, and all of their content."""
        self._end()
        return LayerLinks(
            files=self._files,
            same=self._same,
            links=self._links,
            others=tuple(self._others),
            removed=tuple(self._removed),
            opaque=tuple(self._opaque),
            settings=self._settings,
            cache=self._cache,
            owners=self._owners,
            problem=self._problem,
        )


def read_links(walk: LayerWalk) -> LayerLinks:
    """Walk a layer to its end and verify what the walk was told to. Raises LayerInvalid, DigestMismatch."""
    collector = LinkCollector()
    for entry in walk:
        collector.entry(entry.name, "other" if entry.sparse else entry.kind, entry.size, entry.link)
        if collector.wants:
            collector.feed(entry.head(len(MAGIC)))
        if collector.wants:
            for piece in entry.pieces():
                collector.feed(piece)
    walk.finish()
    return collector.finish()


class LinkStore:
    """Files below ``links/`` of the state folder, which may be deleted at any time."""

    def __init__(self, state: Path) -> None:
        self._folder = state / "links" / f"v{FORMAT}"

    def get(self, diff_id: Digest, digest: Digest) -> LayerLinks | None:
        """What is in a layer; None when nobody looked, or what is kept is damaged."""
        return read_kept(self._path(diff_id, digest), LayerLinks, kind=_KIND, name=str(record_key(diff_id, digest)))

    def keep(self, diff_id: Digest, digest: Digest, links: LayerLinks) -> None:
        """diff_id, digest: of the bytes that were read, not what a manifest says. Raises DiskFull, LocalError."""
        write_kept(self._path(diff_id, digest), links, kind=_KIND, name=str(record_key(diff_id, digest)))

    def turn(self, diff_id: Digest, digest: Digest) -> AbstractContextManager[object]:
        """See :func:`~registry_pipelines.oci.layer.store.layer_turn`."""
        return layer_turn(self._folder, diff_id, digest)

    def _path(self, diff_id: Digest, digest: Digest) -> Path:
        name = record_key(diff_id, digest).hex
        return self._folder / name[:2] / f"{name}.json"


def _libraries(raw: bytes, folder: str) -> dict[str, str]:
    """Paths in the image and hashes of a RECORD's libraries; names with commas are quoted, and none has them."""
    found = {}
    for line in raw.decode("utf-8", "backslashreplace").splitlines():
        path, _, rest = line.partition(",")
        if _LIBRARY.search(path) and not path.startswith("/"):
            found[posixpath.normpath(posixpath.join(folder, path))] = rest.partition(",")[0][:100]
    return found


def _printable(name: str) -> str:
    """Names that are not UTF-8 hold surrogates, which JSON cannot."""
    return name if name.isascii() else name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
