"""What is held, from inventories: which image needs which blob, where that is stored once, and whose it is.

An *image* is what nothing else in its repository holds: an index with the images below it, an image, an artifact alone.
Whatever refers to an image (signatures, SBOMs, indexes for streaming) is part of it. What stands in several indexes is
part of each of them, and its bytes are split like those of any shared layer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from registry_pipelines.inventory import parts as second
from registry_pipelines.inventory.schema import ARCHIVED
from registry_pipelines.inventory.value import Inventory
from registry_pipelines.oci import media_types
from registry_pipelines.oci.digest import Digest
from registry_pipelines.report.allocation import NO_TEAM, Bools, Holding, Ints
from registry_pipelines.report.teams import teams_of

MAX_LISTS = 16
"""Indexes or subjects that one manifest is counted in; more are left out, the first ones stay."""
MAX_DEPTH = 6
"""From a manifest up to its image: a signature of an SBOM of an image of an index is three."""
MONTH = timedelta(days=30)
"""What was pushed within this time was scanned for the first time "this month"."""

_DIGEST_TAG = r"\Asha256-[0-9a-f]{64}(\.\w+)?\z"
"""See ``transfer.closure.digest_tags``; those of SHA-512 are of nobody."""

Once = Literal["repository", "project", "registry"]
"""Where a blob is stored once: in each repository; in the first two parts of its name (a repository of Artifact
Registry, ``PROJECT/REPOSITORY``); in the registry."""


@dataclass(frozen=True)
class Billing:
    """How one registry is billed. once: where a blob is stored once. stored, archived: numbers of the tariffs of what
    is stored, and of what ECR archived. scans_lists: an index is one scan (Artifact Analysis), not its images."""

    once: Once
    stored: int
    archived: int
    scans_lists: bool = False


@dataclass(frozen=True)
class Scans:
    """Of each image: scans of what was pushed in the last month, all that a scan is of, and those of these whose push
    is not known."""

    pushed: Ints
    all: Ints
    undated: Ints


@dataclass(frozen=True)
class Held:
    """What is held. A holder's number is its place in the list of its level; ``image_repository``,
    ``repository_registry`` and ``repository_team`` say whose it is. images: first tag (empty for none) and digest.
    at_most: manifests whose blobs are not known, so that nothing of them is shared. no_size: those without a size."""

    holding: Holding
    registries: list[str]
    teams: list[str]
    repositories: list[tuple[str, str]]
    images: list[tuple[str, str]]
    repository_registry: Ints
    repository_team: Ints
    image_repository: Ints
    scans: Scans
    at_most: int
    no_size: int

    def image_name(self, image: int) -> str:
        """``registry/repository:tag``, else with the digest's beginning."""
        tag, digest = self.images[image]
        algorithm, _, rest = digest.partition(":")
        where = "/".join(self.repositories[self.image_repository[image]])
        return f"{where}:{tag}" if tag else f"{where}@{algorithm}:{rest[:12]}"


def hold(inventories: Sequence[Inventory], billings: Mapping[str, Billing], teams: Mapping[str, Sequence[str]]) -> Held:
    """What inventories hold. billings: of every registry in them. teams: patterns of repositories by name. Raises
    InputError (a damaged second file)."""
    pieces = [_Piece(each, billings) for each in inventories if len(each.frame)]
    names = [NO_TEAM, *teams]
    numbers = {name: at for at, name in enumerate(names)}
    repositories = [each for piece in pieces for each in piece.repositories]
    registries = list(dict.fromkeys(registry for registry, _ in repositories))
    registry_of = np.array([registries.index(registry) for registry, _ in repositories], dtype=np.int64)
    team_of = np.array([numbers[(teams_of(name, teams) or [NO_TEAM])[0]] for _, name in repositories], dtype=np.int64)
    image_repository = _joined([piece.image_repository for piece in pieces], [len(p.repositories) for p in pieces])
    image = _joined([piece.image for piece in pieces], [len(piece.images) for piece in pieces])
    repository = image_repository[image] if len(image) else image
    held = Holding(
        place=_joined([piece.place for piece in pieces], [len(piece.repositories) for piece in pieces]),
        blob=_joined([piece.blob for piece in pieces]),
        size=_joined([piece.size for piece in pieces]),
        registry=registry_of[repository],
        team=team_of[repository],
        repository=repository,
        image=image,
        tariff=_joined([piece.tariff for piece in pieces]),
    )
    return Held(
        holding=held,
        registries=registries,
        teams=names,
        repositories=repositories,
        images=[each for piece in pieces for each in piece.images],
        repository_registry=registry_of,
        repository_team=team_of,
        image_repository=image_repository,
        scans=Scans(
            *(_joined([getattr(piece.scans, each) for piece in pieces]) for each in ("pushed", "all", "undated"))
        ),
        at_most=sum(piece.at_most for piece in pieces),
        no_size=sum(piece.no_size for piece in pieces),
    )


def _joined(columns: Sequence[Ints], counts: Sequence[int] | None = None) -> Ints:
    """One column; numbers of a piece go on after those of the pieces before it. counts: numbers of each piece."""
    if not columns:
        return np.zeros(0, dtype=np.int64)
    if counts is None:
        return np.concatenate(columns)
    offsets = np.cumsum([0, *counts[:-1]])
    return np.concatenate([column + offset for column, offset in zip(columns, offsets, strict=True)])


class _Piece:
    """One inventory. Columns of needs: place (number of the first repository that shares it), blob, size, tariff,
    image."""

    def __init__(self, inventory: Inventory, billings: Mapping[str, Billing]) -> None:
        table = inventory.table()
        self.repositories, row_repository = _repositories(table)
        own = [billings[registry] for registry, _ in self.repositories]
        holder, root = _images(table, row_repository)
        tops = np.unique(root)
        number = np.full(table.num_rows, -1, dtype=np.int64)
        number[tops] = np.arange(len(tops))
        self.image_repository = row_repository[tops]
        self.images = _names(table, tops)
        blob, size, need_row, self.at_most, self.no_size = _needs(inventory, table)
        need, pair = _matched(need_row, holder, table.num_rows)
        row = need_row[need]
        self.blob, self.size, self.image = blob[need], size[need], number[root[pair]]
        self.place = _places(self.repositories, own)[row_repository[row]]
        archived = _is(table["status"], [ARCHIVED])[row]
        stored = np.array([each.stored for each in own], dtype=np.int64)[row_repository[row]]
        aside = np.array([each.archived for each in own], dtype=np.int64)[row_repository[row]]
        self.tariff = np.where(archived, aside, stored)
        first_root = number[root[np.unique(holder, return_index=True)[1]]]
        lists = np.array([each.scans_lists for each in own], dtype=np.bool_)[row_repository]
        self.scans = _scans(table, first_root, number >= 0, lists, len(tops))


def _repositories(table: pa.Table) -> tuple[list[tuple[str, str]], Ints]:
    """Registry and repository by number, and the number of each row."""
    registry = table["registry"].combine_chunks().dictionary_encode()
    repository = table["repository"].combine_chunks().dictionary_encode()
    both = _plain(registry.indices) * len(repository.dictionary) + _plain(repository.indices)
    found, rows = np.unique(both, return_inverse=True)
    registries, repositories = registry.dictionary.to_pylist(), repository.dictionary.to_pylist()
    names = [(registries[each // len(repositories)], repositories[each % len(repositories)]) for each in found.tolist()]
    return names, rows.astype(np.int64)


def _plain(indices: pa.Array) -> Ints:
    found: Ints = indices.to_numpy(zero_copy_only=False).astype(np.int64)
    return found


def _is(column: pa.ChunkedArray, words: Sequence[str]) -> Bools:
    found: Bools = pc.is_in(column.cast(pa.string()), value_set=pa.array(words)).to_numpy()
    return found


def _images(table: pa.Table, repository: Ints) -> tuple[Ints, Ints]:
    """Pairs of rows: a manifest, and an image that it is part of; ordered by the manifest."""
    child, parent = _edges(table, repository)
    order = np.argsort(child, kind="stable")
    child, parent = child[order], parent[order]
    counts = np.minimum(np.bincount(child, minlength=table.num_rows), MAX_LISTS)
    starts = np.searchsorted(child, np.arange(table.num_rows))
    row = top = np.arange(table.num_rows, dtype=np.int64)
    for _ in range(MAX_DEPTH):
        more = counts[top] > 0
        if not more.any():
            break
        times = np.where(more, counts[top], 1)
        step = np.arange(times.sum()) - np.repeat(np.cumsum(times) - times, times)
        held = np.repeat(more, times)
        top = np.repeat(top, times)
        row = np.repeat(row, times)
        top = np.where(
            held, parent[np.minimum(starts[top] + step, max(len(parent) - 1, 0))] if len(parent) else top, top
        )
        pairs = np.unique(row * table.num_rows + top)
        row, top = pairs // table.num_rows, pairs % table.num_rows
    return row, top


def _edges(table: pa.Table, repository: Ints) -> tuple[Ints, Ints]:
    """Rows of manifests and of what holds them: an index its children, a subject what refers to it by itself or by the
    name of its tag."""
    children = table["children"].combine_chunks()
    counts = pc.fill_null(pc.list_value_length(children), 0).to_numpy(zero_copy_only=False).astype(np.int64)
    kid_holder = np.repeat(np.arange(table.num_rows), counts)
    subject = table["subject"].combine_chunks().cast(pa.string())
    referring = np.flatnonzero(pc.is_valid(subject).to_numpy(zero_copy_only=False))
    told_row, told = _named_after(table["tags"].combine_chunks())
    words = [
        table["digest"].combine_chunks().cast(pa.string()),
        children.flatten().cast(pa.string()),
        subject.take(pa.array(referring)),
        told,
    ]
    codes = _plain(pa.concat_arrays(words).dictionary_encode().indices.fill_null(-1))
    rows, kids, subjects = np.split(codes, [table.num_rows, table.num_rows + len(kid_holder)])
    most = int(codes.max(initial=0)) + 1
    below = np.concatenate([referring, told_row])
    wanted = np.concatenate([repository[kid_holder] * most + kids, repository[below] * most + subjects])
    found = _row_of(repository * most + rows, wanted)
    child = np.concatenate([found[: len(kid_holder)], below])
    parent = np.concatenate([kid_holder, found[len(kid_holder) :]])
    there = (child >= 0) & (parent >= 0) & (child != parent)
    return child[there], parent[there]


def _named_after(tags: pa.Array) -> tuple[Ints, pa.Array]:
    """Rows whose tags are all named after a digest (lists of referrers, cosign's signatures), with that digest."""
    counts = pc.list_value_length(tags).to_numpy(zero_copy_only=False).astype(np.int64)
    flat = tags.flatten().cast(pa.string())
    fits = pc.match_substring_regex(flat, _DIGEST_TAG).to_numpy(zero_copy_only=False)
    row = np.repeat(np.arange(len(tags)), counts)
    all_fit = np.bincount(row[fits], minlength=len(tags))[row] == counts[row]
    chosen = np.flatnonzero(fits & all_fit)
    digests = pc.binary_join_element_wise(
        pa.scalar("sha256"), pc.utf8_slice_codeunits(flat.take(pa.array(chosen)), 7, 71), ":"
    )
    return row[chosen], digests


def _row_of(keys: Ints, wanted: Ints) -> Ints:
    """Where a key stands; -1 for one that does not."""
    order = np.argsort(keys, kind="stable")
    at = np.minimum(np.searchsorted(keys[order], wanted), len(keys) - 1)
    return np.where(keys[order[at]] == wanted, order[at], -1)


def _names(table: pa.Table, rows: Ints) -> list[tuple[str, str]]:
    chosen = table.select(["tags", "digest"]).take(pa.array(rows))
    digests = chosen["digest"].to_pylist()
    return [(tags[0] if tags else "", digest) for tags, digest in zip(chosen["tags"].to_pylist(), digests, strict=True)]


def _needs(inventory: Inventory, table: pa.Table) -> tuple[Ints, Ints, Ints, int, int]:
    """Blob, size and row of each need; how many manifests' blobs are not known (each is one blob then, of the size that
    the registry tells; of an index nothing, for its images are counted), and of how many no size is."""
    count = table.num_rows
    if inventory.parts is None:
        blob, size, row = np.zeros((3, 0), dtype=np.int64)
        unknown = np.ones(count, dtype=np.bool_)
    else:
        blob, size, row = second.needs(inventory.parts)
        unknown = ~inventory.parts["known"].to_numpy()
    rows = np.flatnonzero(unknown & ~_is(table["media_type"], media_types.INDEXES))
    told = table["size_bytes"].take(pa.array(rows))
    sizes = pc.fill_null(told, 0).to_numpy()
    digests = table["digest"].take(pa.array(rows)).to_pylist()
    numbers = np.array([second.number(Digest.parse(each)) for each in digests], dtype=np.int64)
    return (
        np.concatenate([blob, numbers]),
        np.maximum(np.concatenate([size, sizes]), 0),
        np.concatenate([row, rows]),
        len(rows),
        int(told.null_count),
    )


def _matched(row: Ints, holder: Ints, count: int) -> tuple[Ints, Ints]:
    """Needs with the pairs of their manifest: each need once for every image that the manifest is part of."""
    starts = np.searchsorted(holder, np.arange(count + 1))
    times = (starts[1:] - starts[:-1])[row]
    need = np.repeat(np.arange(len(row)), times)
    step = np.arange(len(need)) - np.repeat(np.cumsum(times) - times, times)
    return need, np.repeat(starts[row], times) + step


def _places(repositories: Sequence[tuple[str, str]], billings: Sequence[Billing]) -> Ints:
    """Of each repository the number of the first one that its blobs are stored with."""
    first: dict[tuple[str, str], int] = {}
    found = []
    for at, ((registry, name), billing) in enumerate(zip(repositories, billings, strict=True)):
        within = {"repository": name, "project": "/".join(name.split("/")[:2]), "registry": ""}[billing.once]
        found.append(first.setdefault((registry, within), at))
    return np.array(found, dtype=np.int64)


def _scans(table: pa.Table, image: Ints, top: Bools, lists: Bools, images: int) -> Scans:
    """image: of each row, the first that it is part of. top: rows that are images. lists: rows where an index counts as
    one."""
    plain = pc.is_null(table["subject"]).to_numpy() & _is_image(table)
    index = _is(table["media_type"], media_types.INDEXES)
    counted = np.where(lists, top & (plain | index), plain & ~index)
    age = pc.subtract(table["answered"], table["pushed"]).cast(pa.int64())
    undated = counted & pc.is_null(age).to_numpy()
    recent = counted & (pc.fill_null(age, 1 << 62).to_numpy() <= MONTH / timedelta(microseconds=1))
    return Scans(*(np.bincount(image[each], minlength=images) for each in (recent, counted, undated)))


def _is_image(table: pa.Table) -> Bools:
    """By the type of its config, where the registry tells one; what has none is taken for an image."""
    told: Bools = pc.is_null(table["artifact_type"]).to_numpy() | _is(table["artifact_type"], media_types.IMAGE_CONFIGS)
    return told
