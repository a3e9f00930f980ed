"""What is there of a platform's hot pack, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from registry_pipelines.errors import ContentError, NotFound
from registry_pipelines.evidence.model import Verifier
from registry_pipelines.registry.platforms import Entry
from registry_pipelines.registry.protocol import Place
from registry_pipelines.stream.check_kinds import CheckRow, check_row
from registry_pipelines.stream.hot.pack import PACK_TYPE
from registry_pipelines.stream.hot.packs import FoundPack, find_packs
from registry_pipelines.stream.hot.using import read_pack


class PackFacts(msgspec.Struct, frozen=True, kw_only=True):
    """The pack that nodes use of one platform."""

    platform: str
    state: str
    """``none``, ``fresh`` (cut from a recording of this very image), ``inherited`` (from one of another image),
    ``not believed``, ``damaged``, ``unverified`` (there is one, and no key was given)."""
    pack: str = ""
    """Digest of its manifest."""
    stored_bytes: int = 0
    content_bytes: int = 0
    """Unpacked."""
    pages_found: float = 0.0
    """Share of the recording's pages that the image has."""
    recorded: str = ""
    """Digest of the image whose start was recorded."""
    gpu: bool = False
    """Whether that start used a GPU."""
    made: str = ""
    """RFC 3339, UTC."""


def check_pack(place: Place, entry: Entry, verifier: Verifier | None) -> tuple[PackFacts, tuple[CheckRow, ...]]:
    """What is told of one platform's pack, and rows for what is wrong. Raises RegistryError."""
    platform = str(entry.platform)

    def facts(state: str) -> PackFacts:
        return PackFacts(platform=platform, state=state)

    if verifier is None:
        listed = place.registry.referrers(place.repository, entry.digest)
        there = any(each.artifact_type == PACK_TYPE for each in listed)
        return facts("unverified" if there else "none"), ()
    found = find_packs(place, entry.digest, verifier)
    rows = tuple(
        check_row(
            "pack-damaged" if each.damaged else "pack-unsigned",
            platform=platform,
            manifest=entry.digest,
            detail=f"{each.where}: {each.reason}",
        )
        for each in found.not_used
    )
    if not found.believed:
        damaged = any(each.damaged for each in found.not_used)
        return facts("damaged" if damaged else "not believed" if rows else "none"), rows
    pack = found.believed[0]
    troubles = tuple(
        check_row("pack-damaged", platform=platform, manifest=entry.digest, detail=each)
        for each in _troubles(place, entry, pack)
    )
    note = pack.note
    return PackFacts(
        platform=platform,
        state="damaged" if troubles else "fresh" if note.recorded == entry.digest else "inherited",
        pack=pack.descriptor.digest,
        stored_bytes=note.stored_bytes,
        content_bytes=note.content_bytes,
        pages_found=round(note.pages_found / note.pages, 4) if note.pages else 0.0,
        recorded=note.recorded,
        gpu=note.gpu,
        made=note.made,
    ), (*rows, *troubles)


def _troubles(place: Place, entry: Entry, found: FoundPack) -> Iterator[str]:
    """What keeps nodes from using a believed pack. Frames are not read: each is held against its digest when it is
    used."""
    where = str(found.descriptor.digest)
    try:
        pack = read_pack(place, found)
        pack.check_fits(entry.manifest)
    except (ContentError, NotFound) as error:
        yield f"{where}: {error.what}"
        return
    for part in pack.head.parts:
        try:
            size = place.registry.blob_size(place.repository, part.digest)
        except NotFound:
            size = None
        if size != part.size:
            yield f"{where}: the frames {part.digest} are not here, or not whole"


__all__ = ["PackFacts", "check_pack"]
