"""Bytes that a registry holds, each blob once where it is billed once, by an inventory with what manifests need."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import numpy as np

from registry_pipelines.chain import inventory as inventories
from registry_pipelines.chain.session import Session
from registry_pipelines.errors import InputError
from registry_pipelines.inventory.needed import need_tables
from registry_pipelines.inventory.parts import Ints, needs
from registry_pipelines.inventory.schema import ACTIVE, ARCHIVED
from registry_pipelines.inventory.value import Inventory, read_whole
from registry_pipelines.progress import count_text
from registry_pipelines.report.whatif.archive import Archivable


def taken(session: Session, registry: str, file: Path | None = None) -> Inventory:
    """The inventory of a registry, with what its manifests need where that is known: a stored one, else one that is
    taken now. Then no manifest of ECR is read: ECR takes that for a pull, and what asks whether an image is used would
    find it used. Raises InputError (not of this registry), RegistryError, ToolMissing."""
    need_tables()
    if file is None:
        return inventories.read(session, [registry], manifests="none")
    found = read_whole(file)
    if registry not in {source.registry for source in found.sources}:
        names = ", ".join(source.registry for source in found.sources) or "nothing"
        raise InputError(f"the inventory is of {names}, not of {registry}", where=str(file))
    keep = (found.frame["registry"] == registry).to_numpy(dtype=bool)
    parts = found.parts.filter(keep) if found.parts is not None else None
    less = found.only(keep)
    return Inventory(less.frame, tuple(each for each in found.sources if each.registry == registry), parts)


def distinct_bytes(found: Inventory, *, by_repository: bool) -> int:
    """Bytes of all blobs. by_repository: each once in a repository, as ECR bills them; else once in all. Raises
    InputError where not all of it is known."""
    problem = _lacking(found)
    if problem:
        raise InputError(problem, do=_DO)
    keys, sizes, _ = _blobs(found, by_repository=by_repository)
    _, first = np.unique(keys, return_index=True, axis=0)
    return int(sizes[first].sum())


def archivable(found: Inventory, since: datetime) -> tuple[Archivable, tuple[str, ...], list[str]]:
    """What of an inventory of ECR nobody pulled since a time, or pushed; what is missing of its sizes; and notes. What
    refers to an image, and images of an index, go by their own times: one that stays keeps its blobs."""
    frame = found.frame
    status = frame["status"].fillna(ACTIVE).astype(str).to_numpy()
    last = frame["pulled"].fillna(frame["pushed"])
    old = ((last < since) & last.notna()).to_numpy(dtype=bool)
    active, archived = status == ACTIVE, status == ARCHIVED
    going = active & old
    undated = int((active & last.isna().to_numpy(dtype=bool)).sum())
    notes = [f"{count_text(undated, 'image')} without a time of a pull or a push stay"] if undated else []
    problem = _lacking(found)
    if problem:
        sizes = frame["size_bytes"].fillna(0).to_numpy(dtype=np.int64)
        whole = Archivable(
            images=int(going.sum()), size=float(sizes[going].sum()), archived=float(sizes[archived].sum())
        )
        return whole, (f"which layers images share: {problem}",), [*notes, f"bytes are at most these. {_DO}"]
    keys, sizes, rows = _blobs(found, by_repository=True)
    _, first, of_need = np.unique(keys, return_index=True, return_inverse=True, axis=0)
    of_need = of_need.reshape(-1)
    stays = np.zeros(len(first), dtype=bool)
    stays[of_need[(active & ~going)[rows]]] = True
    moves, there = np.zeros(len(first), dtype=bool), np.zeros(len(first), dtype=bool)
    moves[of_need[going[rows]]] = True
    there[of_need[archived[rows]]] = True
    each = sizes[first]
    return (
        Archivable(
            images=int(going.sum()),
            size=float(each[moves & ~stays & ~there].sum()),
            archived=float(each[there & ~stays].sum()),
        ),
        (),
        notes,
    )


_DO = (
    "Take it with `inventory REGISTRY --manifests all --output FILE.parquet` (ECR takes that for pulls), and give it "
    "by --from"
)


def _lacking(found: Inventory) -> str:
    """Why not all blobs are known; empty where they are."""
    unread = [f"{each.what}: {each.problem}" for source in found.sources for each in source.unread]
    if unread:
        return f"{unread[0]}, which could not be read"
    if not len(found.frame):
        return ""
    if found.parts is None:
        return "the inventory does not say what manifests need"
    count = int((~found.parts["known"].to_numpy()).sum())
    return f"of {count_text(count, 'manifest')} it is not known what they need" if count else ""


def _blobs(found: Inventory, *, by_repository: bool) -> tuple[Ints, Ints, Ints]:
    """For each need of a manifest: the blob (with its repository, where that counts), its bytes, and the manifest."""
    if found.parts is None:  # nothing is in it
        none = np.zeros(0, dtype=np.int64)
        return np.zeros((0, 2), dtype=np.int64), none, none
    blob, size, row = needs(found.parts)
    place = found.frame["repository"].cat.codes.to_numpy(dtype=np.int64)[row] if by_repository else np.zeros_like(row)
    return np.stack([place, blob], axis=1), size, row


__all__ = ["archivable", "distinct_bytes", "taken"]
