"""A stored inventory with its parts, read one repository at a time, as a survey and as columns of blobs.

A million images are 1.5 GB as Python values; here they are never together. No pandas is loaded.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from registry_pipelines.errors import InputError, StateTooNew
from registry_pipelines.inventory import parts as second
from registry_pipelines.inventory import schema as first
from registry_pipelines.inventory.survey import UNREAD_INDEX, Node, Survey
from registry_pipelines.inventory.value import Source, read_metadata
from registry_pipelines.oci import media_types
from registry_pipelines.oci.decoding import ready
from registry_pipelines.oci.digest import Digest

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DIGESTS = r"\A(sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})\z"


@dataclass(frozen=True)
class Stored:
    """One repository. survey: without blobs in its nodes. blob: one number for each need of a manifest: the first 32
    bytes of the blob's digest, folded to eight (two blobs that agree in these would count as one: of ten million it
    happens in one of 400,000 inventories). size: its bytes. row: which manifest, in the order of ``survey.nodes``."""

    survey: Survey
    blob: second.Ints
    size: second.Ints
    row: second.Ints

    def having(self, blobs: Collection[Digest]) -> Survey:
        """The survey, in which manifests that need one of some blobs say so: few, which somebody asks for."""
        wanted = {second.number(one): one for one in blobs}
        at = np.flatnonzero(np.isin(self.blob, list(wanted))) if wanted else ()
        if not len(at):
            return self.survey
        digests, nodes = list(self.survey.nodes), dict(self.survey.nodes)
        for need in at:
            digest = digests[self.row[need]]
            found = {**nodes[digest].blobs, wanted[int(self.blob[need])]: int(self.size[need])}
            nodes[digest] = replace(nodes[digest], blobs=found)
        return replace(self.survey, nodes=nodes)


class StoredInventory:
    """An inventory's file and that beside it. Raises InputError (no such files, or not of one another), StateTooNew."""

    def __init__(self, path: Path) -> None:
        self._path, beside = path, second.beside(path)
        self._images = _open(path)
        self.sources: tuple[Source, ...] = read_metadata(self._images.schema_arrow, path)
        if not beside.exists():
            raise InputError(
                "the inventory does not say what manifests need",
                where=str(beside),
                do="Take it with `inventory REGISTRY --manifests all --output FILE.parquet`; Artifact Registry's lists "
                "do not tell blobs",
            )
        self._parts = _open(beside)
        self._facts = _facts(self._parts.schema_arrow, beside)
        if _groups(self._images) != _groups(self._parts):
            raise self._apart()

    def source(self, registry: str) -> Source:
        """What is said of one registry. Raises InputError."""
        found = [each for each in self.sources if each.registry == registry]
        if not found:
            names = ", ".join(each.registry for each in self.sources)
            raise InputError(f"the inventory is of {names or 'nothing'}, not of {registry}", where=str(self._path))
        return found[0]

    def repositories(self, registry: str) -> Iterator[Stored]:
        """Each repository of a registry, in the order of the file. Raises InputError (a damaged file)."""
        seen: set[str] = set()
        waiting: list[tuple[pa.Table, pa.Table]] = []
        last = ""
        for images, parts in self._row_groups():
            for name, start, count in _runs(images, registry):
                if name != last and waiting:
                    yield self._stored(last, waiting)
                    waiting = []
                if name != last:
                    if name in seen:
                        raise InputError(f"{name} stands twice in the inventory", where=str(self._path))
                    seen.add(name)
                    last = name
                waiting.append((images.slice(start, count), parts.slice(start, count)))
        if waiting:
            yield self._stored(last, waiting)

    def _row_groups(self) -> Iterator[tuple[pa.Table, pa.Table]]:
        for group in range(self._images.num_row_groups):
            try:
                images = self._images.read_row_group(group, columns=_COLUMNS)
                parts = self._parts.read_row_group(group)
            except (pa.ArrowException, OSError) as error:
                raise InputError(f"the inventory is damaged: {error}", where=str(self._path)) from error
            if images["digest"].combine_chunks() != parts["digest"].combine_chunks():
                raise self._apart()
            yield images, parts

    def _stored(self, name: str, pieces: Sequence[tuple[pa.Table, pa.Table]]) -> Stored:
        images = pa.concat_tables([each for each, _ in pieces]).combine_chunks()
        parts = pa.concat_tables([each for _, each in pieces]).combine_chunks()
        if not pc.all(pc.match_substring_regex(images["digest"], _DIGESTS)).as_py():
            raise InputError(f"{name}: what should be a digest is none", where=str(self._path))
        survey = _survey(name, images, parts, self._facts.get(name, second.RepositoryFacts()))
        if len(survey.nodes) != images.num_rows:
            raise InputError(f"{name}: a manifest stands twice in the inventory", where=str(self._path))
        return Stored(survey, *second.needs(parts))

    def _apart(self) -> InputError:
        return InputError(
            "the inventory and the file beside it are not of one another",
            where=str(second.beside(self._path)),
            do="Take the inventory again",
        )


_COLUMNS = [
    "registry", "repository", "digest", "tags", "media_type", "artifact_type", "subject", "children", "created",
    "pushed", "status",
]  # fmt: skip


def _open(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise InputError(f"this is not a Parquet file: {error}", where=str(path)) from error


def _facts(schema: pa.Schema, path: Path) -> Mapping[str, second.RepositoryFacts]:
    raw = (schema.metadata or {}).get(second.METADATA_KEY)
    if raw is None or any(name not in schema.names for name in second.SCHEMA.names):
        raise InputError("this is not the second file of an inventory", where=str(path))
    try:
        metadata = msgspec.json.decode(raw, type=ready(second.PartsMetadata))
    except msgspec.MsgspecError as error:
        raise InputError(f"its metadata cannot be read: {error}", where=str(path)) from error
    if metadata.version > second.VERSION:
        raise StateTooNew(f"the file has version {metadata.version}, known is {second.VERSION}", where=str(path))
    return metadata.repositories


def _groups(file: pq.ParquetFile) -> list[int]:
    return [file.metadata.row_group(at).num_rows for at in range(file.num_row_groups)]


def _runs(images: pa.Table, registry: str) -> Iterator[tuple[str, int, int]]:
    """Repository, first row and number of rows, of one registry."""
    registries, repositories = images["registry"].combine_chunks(), images["repository"].combine_chunks()
    owner = registries.indices.to_numpy()
    code = repositories.indices.to_numpy()
    if not len(code):
        return
    starts = np.flatnonzero(np.r_[True, (owner[1:] != owner[:-1]) | (code[1:] != code[:-1])])
    ends = np.append(starts[1:], len(code))
    for start, end in zip(starts, ends, strict=True):
        if registries.dictionary[int(owner[start])].as_py() == registry:
            yield repositories.dictionary[int(code[start])].as_py(), int(start), int(end - start)


def _survey(name: str, images: pa.Table, parts: pa.Table, facts: second.RepositoryFacts) -> Survey:
    digests = [Digest(text) for text in images["digest"].to_pylist()]
    here: dict[str, Digest] = dict(zip(digests, digests, strict=True))
    tags = {tag: digest for digest, names in zip(digests, images["tags"].to_pylist(), strict=True) for tag in names}
    children, missing, unread = _children(images, here)
    subjects = [None if one is None else here.get(one) or Digest(one) for one in images["subject"].to_pylist()]
    referrers = _referrers(digests, subjects, parts, here)
    created, pushed = _times(images["created"]), _times(images["pushed"])
    media, artifact = _words(images["media_type"]), _words(images["artifact_type"])
    lists = parts["is_list"].to_pylist()
    nodes = {
        digest: Node(
            digest,
            0,
            children=children.get(at, ()),
            subject=subjects[at],
            referrers=referrers.get(digest, ()),
            created=created[at],
            is_list=lists[at],
            media_type=media[at],
            artifact_type=artifact[at],
            missing=missing.get(at, ()),
            pushed=pushed[at],
        )
        for at, digest in enumerate(digests)
    }
    held = _archived(digests, images["status"])
    unlisted = UNREAD_INDEX if unread else ""
    return Survey(name, tags, nodes, facts.keeps_tagged, frozenset(facts.unreadable), held, unlisted)


def _children(
    images: pa.Table, here: Mapping[str, Digest]
) -> tuple[dict[int, tuple[Digest, ...]], dict[int, tuple[Digest, ...]], bool]:
    """By row the children that are there and those that are not; whether those of an index are not known."""
    column = images["children"].combine_chunks()
    some = np.flatnonzero(pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False))
    there, missing = {}, {}
    for at in some.tolist():
        found = [Digest(one) for one in column[at].as_py()]
        there[at] = tuple(here[one] for one in found if one in here)
        if lost := tuple(one for one in found if one not in here):
            missing[at] = lost
    is_index = pc.is_in(images["media_type"].cast(pa.string()), value_set=pa.array(sorted(media_types.INDEXES)))
    unread = pc.any(pc.and_(is_index, pc.is_null(column)), min_count=0).as_py()
    return there, missing, bool(unread)


def _referrers(
    digests: Sequence[Digest], subjects: Sequence[Digest | None], parts: pa.Table, here: Mapping[str, Digest]
) -> dict[Digest, tuple[Digest, ...]]:
    """What says of itself that it refers to a manifest, then what a list claims besides."""
    found: dict[Digest, list[Digest]] = {}
    for digest, subject in zip(digests, subjects, strict=True):
        if subject is not None:
            found.setdefault(subject, []).append(digest)
    claims = parts["claims"].combine_chunks()
    for at in np.flatnonzero(pc.list_value_length(claims).to_numpy(zero_copy_only=False)).tolist():
        found.setdefault(digests[at], []).extend(here[one] for one in claims[at].as_py() if one in here)
    return {digest: tuple(one) for digest, one in found.items()}


def _times(column: pa.ChunkedArray) -> list[datetime | None]:
    """Datetimes; Arrow makes them ten times slower, with a zone of their own each."""
    return [
        None if one is None else _EPOCH + timedelta(microseconds=one) for one in column.cast(pa.int64()).to_pylist()
    ]


def _words(column: pa.ChunkedArray) -> list[str]:
    array = column.combine_chunks()
    words = [*array.dictionary.to_pylist(), ""]
    return [words[at] for at in pc.fill_null(array.indices, len(words) - 1).to_pylist()]


def _archived(digests: Sequence[Digest], column: pa.ChunkedArray) -> dict[Digest, str]:
    return {
        digest: f"the registry says it is {word.lower()}; only what is active goes"
        for digest, word in zip(digests, _words(column), strict=True)
        if word not in ("", first.ACTIVE)
    }
