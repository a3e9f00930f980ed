"""Which entry of an index which client starts for one platform: a table of rules, and the choice they make."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import msgspec

from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import Descriptor, Index
from registry_pipelines.oci.platforms import Platform
from registry_pipelines.registry.platforms import Entry

RUN = "run 2026-11-28 with linux/amd64"


class Client(msgspec.Struct, frozen=True):
    """How one client reads an index. Of equal entries each takes the first."""

    name: str
    takes: Literal["plain", "first", "best"]
    """Of a platform's variants: only the one without (``v1`` is none, unless ``exact``), whichever stands first, or the
    highest."""
    unnamed: Literal["never", "last", "matching", "in-place", "first"]
    """An entry without a platform: never, when no other fits, likewise if its config is for the platform, as
    linux/amd64 where it stands, or before all others if its config is for the platform."""
    nested: bool
    """Whether an index below the index is opened."""
    exact: bool
    """Whether names are compared letter by letter; else ``x86_64`` is amd64."""
    source: str


CLIENTS = (
    Client("Docker 20.10", "plain", "never", nested=False, exact=False, source=f"{RUN}: 20.10.24"),
    Client(
        "Docker 28, classic store", "best", "last", nested=True, exact=False, source=f"{RUN}: 28.5.2, not unnamed alone"
    ),
    Client("Docker 28, containerd store", "plain", "first", nested=True, exact=False, source=f"{RUN}: 28.5.2"),
    Client("containerd", "plain", "matching", nested=True, exact=False, source=f"{RUN}: 1.6.20, 2.1.9"),
    Client("skopeo, Podman, CRI-O", "plain", "last", nested=False, exact=True, source=f"{RUN}: skopeo 1.9.3, 1.22.0"),
    Client("crane", "first", "in-place", nested=True, exact=True, source=f"{RUN}: 0.20.7"),
    Client("oras", "first", "never", nested=False, exact=True, source=f"{RUN}: 1.3.3"),
)
"""Docker 28's two stores are two products here. Podman and CRI-O choose by skopeo's library, containers/image."""

DEFAULT = Platform(os="linux", architecture="amd64")


class Choice(msgspec.Struct, frozen=True):
    """What one client does with an index."""

    client: Client
    platform: Platform
    entry: Entry | None
    """None: nothing is started, for the reason in ``why``."""
    why: str = ""


def choices(entries: Sequence[Entry], platform: Platform) -> tuple[Choice, ...]:
    """What each client starts for a platform (without variant). entries: all below an index, the index first."""
    by_digest = {entry.digest: entry for entry in entries}
    return tuple(_choice(client, platform, entries[0], by_digest) for client in CLIENTS)


def differing(entries: Sequence[Entry]) -> list[tuple[Choice, ...]]:
    """The choices for every platform for which clients differ, or one finds nothing to start; [] for a plain manifest.

    Not judged: 32-bit Arm, whose machines are told apart by their variant; that is what its entries are for.
    """
    if not entries or entries[0].kind != "index":
        return []
    images = (entry.platform.normal for entry in entries if entry.kind == "image" and not entry.platform.unknown)
    wanted = {Platform(os=each.os, architecture=each.architecture): None for each in images}
    asked = [choices(entries, each) for each in wanted if each.os and each.architecture != "arm"]
    return [row for row in asked if len({choice.entry.digest if choice.entry else "" for choice in row}) > 1]


def _choice(client: Client, wanted: Platform, index: Entry, by_digest: Mapping[Digest, Entry]) -> Choice:
    lines = index.content.manifests if isinstance(index.content, Index) else ()
    line = _line(client, wanted, lines, by_digest)
    if line is None:
        return Choice(client, wanted, None, f"no entry for {wanted}")
    entry = by_digest[line.digest]
    if entry.kind == "index":
        if not client.nested:
            return Choice(client, wanted, None, "an index below the index is not opened")
        return _choice(client, wanted, entry, by_digest)
    if entry.kind != "image":
        return Choice(client, wanted, None, f"the entry is no image but {entry.kind}")
    return Choice(client, wanted, entry)


def _line(
    client: Client, wanted: Platform, lines: Sequence[Descriptor], by_digest: Mapping[Digest, Entry]
) -> Descriptor | None:
    unnamed = [line for line in lines if line.platform is None]
    configured = [line for line in unnamed if _is_for(wanted, by_digest[line.digest])]
    if client.unnamed == "first" and configured:
        return configured[0]
    in_place = client.unnamed == "in-place" and wanted == DEFAULT
    named = [
        line
        for line in lines
        if (line.platform and _fits(client, wanted, line.platform)) or (in_place and line.platform is None)
    ]
    if named:
        return named[0] if client.takes != "best" else max(named, key=_variant)
    if client.unnamed == "last" and unnamed:
        return unnamed[0]
    return configured[0] if client.unnamed == "matching" and configured else None


def _fits(client: Client, wanted: Platform, offered: Platform) -> bool:
    read: Callable[[Platform], Platform] = (lambda each: each) if client.exact else (lambda each: each.normal)
    mine, theirs = read(wanted), read(offered)
    if (mine.os, mine.architecture) != (theirs.os, theirs.architecture):
        return False
    return client.takes != "plain" or theirs.variant in ("", "v8" if theirs.architecture == "arm64" else "")


def _is_for(wanted: Platform, entry: Entry) -> bool:
    mine = entry.configured.normal
    return entry.kind == "image" and (mine.os, mine.architecture) == (wanted.os, wanted.architecture)


def _variant(line: Descriptor) -> str:
    return line.platform.normal.variant if line.platform else ""
