"""The near side of a gap: a registry, what it remembers, and bundles of it as the product makes them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from registry_pipelines.evidence.model import Signer
from registry_pipelines.mirror.bundle.contents import Draft, Numbered, Wanted, compose, gather
from registry_pipelines.mirror.bundle.format import Bundle
from registry_pipelines.mirror.bundle.making import Made, Making, make_again
from registry_pipelines.mirror.bundle.near import NearState, brought
from registry_pipelines.mirror.bundle.receipt import SignedReceipt
from registry_pipelines.registry.protocol import Place, Registry
from registry_pipelines.shared.documents import FolderDocuments

MIRROR = "upstreams"
PART = 20_000


@dataclass
class Near:
    """folder: of its state. images: places and tags, as ``gap.publish`` gives them."""

    registry: Registry
    folder: Path
    signer: Signer
    images: Sequence[tuple[Place, str]] = ()
    part_size: int = PART
    opened: list[str] = field(default_factory=list)

    @property
    def state(self) -> NearState:
        return NearState(FolderDocuments(self.folder), MIRROR)

    def reopen(self, name: str) -> Place:
        self.opened.append(name)
        return Place(self.registry, name)

    def draft(self, receipt: SignedReceipt | None = None) -> Draft:
        """A new bundle, begun."""
        line = self.state.line()
        gathered = gather(
            [
                Wanted(
                    place=place,
                    reopen=place.repository,
                    digest=place.registry.resolve(place.repository, tag).digest,
                    repository=place.repository,
                    tags=(tag,),
                )
                for place, tag in self.images
            ]
        )
        assert not gathered.problems
        known = list(receipt.receipt.holders()) if receipt else []
        named = Numbered(
            mirror=MIRROR,
            line=line.line,
            number=line.last + 1,
            made_at="2026-11-29T10:00:00+00:00",
            part_size=self.part_size,
            receipt=receipt,
            brought=brought(self.state, line.line, known),
        )
        draft = compose(gathered, named)
        self.state.begin(draft)
        return draft

    def making(self, *folders: Path, registry: Registry | None = None) -> Making:
        opened = registry or self.registry
        return Making(self.state, folders, lambda name: Place(opened, name), self.signer)

    def make(self, *folders: Path, receipt: SignedReceipt | None = None) -> Made:
        """Go on with the half made bundle, or make the next."""
        return self.making(*folders).finish(self.state.draft() or self.draft(receipt))

    def again(self, number: int, parts: Sequence[int], folder: Path) -> list[Path]:
        state = self.state
        return make_again(
            state.made_from(number),
            state.bundle(number),
            parts,
            folder,
            document=state.document(number),
            reopen=self.reopen,
        )


def stream_of_parts(bundle: Bundle, *folders: Path) -> bytes:
    """The parts one after another, wherever each is, as the document names them."""
    content = b""
    for part in bundle.parts:
        [path] = [folder / part.name for folder in folders if (folder / part.name).exists()]
        raw = path.read_bytes()
        assert len(raw) == part.size and hashlib.sha256(raw).hexdigest() == part.sha256
        content += raw
    return content
