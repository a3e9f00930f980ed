"""What a fail-over's images were when its first registry last answered: without it, one that is down takes the list of
what must be elsewhere along, and nothing would seem to be missing."""

from __future__ import annotations

from datetime import datetime

import msgspec

from registry_pipelines.chain.session import Session
from registry_pipelines.errors import LocalError
from registry_pipelines.oci.decoding import ready
from registry_pipelines.oci.digest import Digest
from registry_pipelines.recover.failover.model import Failover

MAX_BYTES = 64 * 1024 * 1024
"""Of the file; an image takes 300."""


class KeptImage(msgspec.Struct, frozen=True, kw_only=True):
    """An image that was wanted. name: of the configuration; empty for a foreign one. repository: at the first
    registry."""

    said: str
    name: str
    repository: str
    digest: str
    why: str
    tag: str = ""


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """All of them, and when that was."""

    at: datetime
    images: tuple[KeptImage, ...]


FOLDER = "recover"
"""In the state."""


def name_of(settings: Failover) -> str:
    """The document in it."""
    return f"{settings.name}-failover.json"


def keep(session: Session, settings: Failover, images: list[KeptImage]) -> None:
    """Keep the list. Raises LocalError."""
    content = msgspec.json.encode(Kept(at=session.now(), images=tuple(images)))
    session.documents.under(FOLDER).write(name_of(settings), content)


def kept(session: Session, settings: Failover) -> Kept | None:
    """The list; None where there never was one. Raises LocalError for one that cannot be read: it is not taken for
    none."""
    documents = session.documents.under(FOLDER)
    there = documents.read(name_of(settings), most=MAX_BYTES)
    if there is None:
        return None
    try:
        found = msgspec.json.decode(there.content, type=ready(Kept))
        for each in found.images:
            Digest.parse(each.digest)
    except (ValueError, msgspec.MsgspecError) as error:
        raise LocalError(
            f"what it should hold cannot be read: {error}",
            where=f"{documents.where}/{name_of(settings)}",
            do="Delete it, and look while all is well",
        ) from error
    return found
