"""What an inventory says in numbers: bytes, images, images without a tag, images pulled within a day.

Bytes of a repository count each blob once, as clouds bill them, where the inventory has the parts of its manifests;
an image whose parts are not known counts with the size that its registry says, and that is noted.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import msgspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from registry_pipelines.errors import InputError
from registry_pipelines.inventory.parts import beside
from registry_pipelines.inventory.value import Inventory
from registry_pipelines.measures import OTHERS
from registry_pipelines.progress import count_text
from registry_pipelines.report.metrics.model import SKEW, Sample, largest, sample

DAY = timedelta(days=1)


class Counted(msgspec.Struct, frozen=True, kw_only=True):
    """Of one repository."""

    bytes: int = 0
    images: int = 0
    untagged: int = 0
    pulled: int | None = None
    """None where the registry keeps no times of pulls."""


class Numbers(msgspec.Struct, frozen=True):
    """samples; notes: what they do not say; failed: what could not be read, by registry."""

    samples: tuple[Sample, ...]
    notes: tuple[str, ...]
    failed: dict[str, str]


def numbers(inventory: Inventory, parts: pa.Table | None, *, now: datetime, most_repositories: int) -> Numbers:
    """Samples of every registry of an inventory. parts: row for row with it (``inventory.parts``), where they are
    known. most_repositories: of each registry, the largest are told by name and the rest as one."""
    samples: list[Sample] = []
    notes: list[str] = []
    failed: dict[str, str] = {}
    for source in inventory.sources:
        counted, unsure = _counted(inventory.frame, parts, source.registry, now)
        if unsure:
            notes.append(f"{source.registry}: {count_text(unsure, 'image')} count with the size that the registry says")
        if not source.complete:
            missing = [each.what for each in source.unread]
            failed[source.registry] = f"{count_text(len(missing), 'part')} could not be read: {', '.join(missing[:3])}"
        if source.complete or counted:
            samples += _samples(source.registry, counted, now, most_repositories)
        if len(counted) > most_repositories:
            notes.append(
                f"{source.registry}: {count_text(len(counted) - most_repositories, 'repository', 'repositories')} "
                f"are told together as {OTHERS}"
            )
        age = now - source.answered
        if age < -SKEW:
            failed[source.registry] = f"its inventory is of {source.answered:%Y-%m-%dT%H:%M:%SZ}, which is to come"
        else:
            age_s = max(0.0, age.total_seconds())
            samples.append(sample("inventory_age_seconds", age_s, now, registry=source.registry))
    return Numbers(tuple(samples), tuple(notes), failed)


def read_parts(path: Path, rows: int) -> pa.Table | None:
    """The parts beside an inventory's file; None without any. Raises InputError for parts of another inventory."""
    second = beside(path)
    if not second.exists():
        return None
    try:
        table = pq.read_table(second, columns=["known", "blobs", "sizes"])
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"this cannot be read: {error}", where=str(second), do="Take the inventory again") from error
    if table.num_rows != rows:
        raise InputError("this is of another inventory", where=str(second), do="Take the inventory again")
    return table


def _samples(registry: str, counted: dict[str, Counted], now: datetime, most: int) -> Iterator[Sample]:
    yield sample("registry_bytes", sum(each.bytes for each in counted.values()), now, registry=registry)
    yield sample("registry_images", sum(each.images for each in counted.values()), now, registry=registry)
    yield sample("registry_untagged_images", sum(each.untagged for each in counted.values()), now, registry=registry)
    yield sample("registry_repositories", len(counted), now, registry=registry)
    named = largest({name: each.bytes for name, each in counted.items()}, most)
    told = {name: each for name, each in counted.items() if name in named}
    if rest := [each for name, each in counted.items() if name not in named]:
        told[OTHERS] = _sum(rest)
    for name, each in told.items():
        where = {"registry": registry, "repository": name}
        yield sample("repository_bytes", each.bytes, now, **where)
        yield sample("repository_images", each.images, now, **where)
        yield sample("repository_untagged_images", each.untagged, now, **where)
        if each.pulled is not None:
            yield sample("repository_pulled_images", each.pulled, now, **where)


def _sum(several: list[Counted]) -> Counted:
    pulled = [each.pulled for each in several if each.pulled is not None]
    return Counted(
        bytes=sum(each.bytes for each in several),
        images=sum(each.images for each in several),
        untagged=sum(each.untagged for each in several),
        pulled=sum(pulled) if pulled else None,
    )


def _counted(
    frame: pd.DataFrame, parts: pa.Table | None, registry: str, now: datetime
) -> tuple[dict[str, Counted], int]:
    """Numbers by repository, and how many images count with a size that is only said."""
    rows = np.flatnonzero((frame["registry"] == registry).to_numpy())
    if not len(rows):
        return {}, 0
    mine = frame.iloc[rows]
    codes, names = pd.factorize(mine["repository"].astype(str))
    untagged = (mine["tags"].list.len() == 0).to_numpy(dtype=bool)
    known = np.zeros(len(rows), dtype=bool)
    sizes = np.zeros(len(names), dtype=np.int64)
    if parts is not None:
        own = parts.take(pa.array(rows))
        known = own["known"].to_numpy(zero_copy_only=False)
        sizes += _distinct(own, codes, len(names))
    said = mine["size_bytes"].fillna(0).to_numpy(dtype=np.int64)
    np.add.at(sizes, codes[~known], said[~known])
    pulled = _pulled(mine["pulled"], codes, len(names), now)
    images = np.bincount(codes, minlength=len(names))
    bare = np.bincount(codes[untagged], minlength=len(names))
    found = {
        str(name): Counted(
            bytes=int(sizes[at]),
            images=int(images[at]),
            untagged=int(bare[at]),
            pulled=None if pulled is None else int(pulled[at]),
        )
        for at, name in enumerate(names)
    }
    return found, int((~known & (said > 0)).sum())


def _distinct(parts: pa.Table, codes: np.ndarray, repositories: int) -> np.ndarray:
    """Bytes by repository, each blob once. A blob of which manifests claim different sizes counts with the greatest."""
    blobs = parts["blobs"].combine_chunks()
    parents = pc.list_parent_indices(blobs).to_numpy()
    numbers = pc.list_flatten(blobs).dictionary_encode().indices.to_numpy(zero_copy_only=False)
    sizes = pc.list_flatten(parts["sizes"].combine_chunks()).to_numpy(zero_copy_only=False)
    pairs = pd.DataFrame({"repository": codes[parents], "blob": numbers, "size": np.maximum(sizes, 0)})
    each = pairs.groupby(["repository", "blob"], sort=False)["size"].max()
    found = np.zeros(repositories, dtype=np.int64)
    np.add.at(found, each.index.get_level_values(0).to_numpy(), each.to_numpy(dtype=np.int64))
    return found


def _pulled(times: pd.Series, codes: np.ndarray, repositories: int, now: datetime) -> np.ndarray | None:
    """Images pulled within a day, by repository; None where no image of the registry has a time."""
    if times.isna().all():
        return None
    lately = ((times >= pd.Timestamp(now - DAY)) & (times <= pd.Timestamp(now + SKEW))).to_numpy(
        dtype=bool, na_value=False
    )
    return np.bincount(codes[lately], minlength=repositories)


__all__ = ["Numbers", "numbers", "read_parts"]
