"""What an OMS signature says: the files of a model and their digests, as an in-toto statement.

Source: OpenSSF Model Signing specification 1.0, sections 5 and 6. Written is the default form: whole files, sha256, no
links. Read are ranges of files (``shards``) and BLAKE2b, too, and what model-signing 1.1.1 writes otherwise than the
specification: names in the order of their parts, ``shard_size`` as ``2.0``, the algorithm as ``sha256-sharded-2``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

import msgspec

from registry_pipelines.errors import InputError, SignatureInvalid
from registry_pipelines.evidence.dsse import decode_unverified
from registry_pipelines.evidence.predicates import OMS_TYPE
from registry_pipelines.evidence.statements import STATEMENT_V1
from registry_pipelines.progress import count_text
from registry_pipelines.weights.hashing import LEFT_OUT
from registry_pipelines.weights.paths import fault_of, fault_of_all

HashType = Literal["sha256", "blake2b"]
HEX_DIGITS: Mapping[str, int] = {"sha256": 64, "blake2b": 128}

NEVER_SIGNED = (".git", ".gitattributes", ".github", ".gitignore")
"""What the specification leaves out of every model, at the top of its folder (section 6.2)."""

MAX_RESOURCES = 100_000
"""Files, or ranges of files; so many rows have 20 MB."""


class _Subject(msgspec.Struct):
    name: str
    digest: dict[str, str]


class _Row(msgspec.Struct):
    name: str
    digest: str
    algorithm: str


class _Serialization(msgspec.Struct):
    method: str
    hash_type: str
    allow_symlinks: bool
    shard_size: Annotated[float, msgspec.Meta(ge=1, le=2**53)] | None = None
    ignore_paths: list[str] = []


class _Predicate(msgspec.Struct):
    resources: list[_Row]
    serialization: _Serialization


class _Statement(msgspec.Struct, rename="camel"):
    type: str = msgspec.field(name="_type")
    subject: list[_Subject]
    predicate_type: str
    predicate: _Predicate


@dataclass(frozen=True)
class Range:
    """Bytes of a file, and their digest in hexadecimal. stop: the first byte that is not among them; None: the whole
    file."""

    digest: str
    start: int = 0
    stop: int | None = None


@dataclass(frozen=True)
class SignedModel:
    """What was signed."""

    name: str
    """Of the model, for people."""
    root: str
    """SHA-256 over the digests of all rows, hexadecimal."""
    files: Mapping[str, tuple[Range, ...]]
    """Path to the ranges that make up the file, in order; one, without an end, where files are signed whole."""
    hash_type: HashType
    sharded: bool
    """Files are signed by ranges; such a signature says nothing of empty files."""
    links: bool
    """Symbolic links to files counted as the files."""
    ignored: tuple[str, ...]
    """Paths that were left out, with all below them; beside :data:`NEVER_SIGNED`."""

    def leaves_out(self, path: str) -> bool:
        """Whether a file that is not listed may be there."""
        return any(path == each or path.startswith(f"{each}/") for each in (*NEVER_SIGNED, *self.ignored))


def write_oms(digests: Mapping[str, str], *, name: str, links: bool = False) -> bytes:
    """The statement about files. digests: path to sha256, hexadecimal. name: of the model. links: some were links.

    What lies beside a model in folders (its list, this signature, what git keeps) is said to be left out, so that other
    programs pass such folders. Raises InputError for no files, and for those that the specification leaves out.
    """
    rows = sorted((path, digest) for path, digest in digests.items() if path.split("/")[0] not in NEVER_SIGNED)
    if not rows:
        raise InputError("there is no file that a signature of a model would name", where=name)
    predicate = {
        "resources": [{"name": path, "digest": digest, "algorithm": "sha256"} for path, digest in rows],
        "serialization": {
            "method": "files",
            "hash_type": "sha256",
            "allow_symlinks": links,
            "ignore_paths": sorted(LEFT_OUT - {path.split("/")[0] for path, _ in rows}),
        },
    }
    subject = {"name": name, "digest": {"sha256": _root(digest for _, digest in rows)}}
    return msgspec.json.encode(
        {"_type": STATEMENT_V1, "subject": [subject], "predicateType": OMS_TYPE, "predicate": predicate}
    )


def read_oms(payload: bytes, *, where: str = "") -> SignedModel:
    """Read a statement; who signed it is asked elsewhere. Raises SignatureInvalid, which names what is wrong."""
    said = decode_unverified(payload, _Statement, where=where, what="signature of a model")
    how = said.predicate.serialization
    try:
        hash_type = _checked(said)
        files = _ranged(said.predicate.resources, int(how.shard_size or 0))
    except ValueError as error:
        raise SignatureInvalid(f"this is no signature of a model that can be used: {error}", where=where) from error
    return SignedModel(
        name=said.subject[0].name,
        root=said.subject[0].digest["sha256"],
        files=files,
        hash_type=hash_type,
        sharded=how.method == "shards",
        links=how.allow_symlinks,
        ignored=tuple(how.ignore_paths),
    )


def _checked(said: _Statement) -> HashType:
    """The hash of the rows. Raises ValueError for what the specification forbids, and for what is not read."""
    how, rows = said.predicate.serialization, said.predicate.resources
    if said.type != STATEMENT_V1 or said.predicate_type != OMS_TYPE:
        raise ValueError(f"its type is {said.predicate_type[:100]!r} in {said.type[:100]!r}, expected {OMS_TYPE}")
    if len(said.subject) != 1 or "sha256" not in said.subject[0].digest:
        raise ValueError("it has not exactly one subject with a sha256")
    if not 1 <= len(rows) <= MAX_RESOURCES:
        raise ValueError(f"it has {count_text(len(rows), 'row')}, 1 to {MAX_RESOURCES} are read")
    if how.method not in ("files", "shards") or (how.method == "shards") != (how.shard_size is not None):
        raise ValueError(f"its method is {how.method[:50]!r} with a shard size of {how.shard_size}")
    if how.shard_size is not None and how.shard_size != int(how.shard_size):
        raise ValueError(f"its shard size is {how.shard_size}")
    for path in how.ignore_paths:
        if fault := fault_of(path):
            raise ValueError(f"the path {path[:200]!r} that it leaves out {fault}")
    if how.hash_type not in HEX_DIGITS:
        raise ValueError(f"its hash is {how.hash_type[:50]!r}; {' and '.join(HEX_DIGITS)} are read")
    hash_type: HashType = "sha256" if how.hash_type == "sha256" else "blake2b"
    names = {hash_type} if how.shard_size is None else {hash_type, f"{hash_type}-sharded-{int(how.shard_size)}"}
    for row in rows:
        if row.algorithm not in names:
            raise ValueError(f"{row.name[:200]!r} is by {row.algorithm[:50]!r}, the rest by {hash_type}")
        if len(row.digest) != HEX_DIGITS[hash_type] or set(row.digest) - set("0123456789abcdef"):
            raise ValueError(f"{row.name[:200]!r} has no {hash_type} in lower hexadecimal")
    if _root(row.digest for row in rows) != said.subject[0].digest["sha256"]:
        raise ValueError("its rows have another root digest than its subject")
    return hash_type


def _ranged(rows: Iterable[_Row], size: int) -> dict[str, tuple[Range, ...]]:
    """Path to ranges. size: bytes of a range; 0: files are signed whole. Raises ValueError."""
    found: dict[str, list[Range]] = {}
    for row in rows:
        path, start, stop = _span(row.name) if size else (row.name, 0, None)
        found.setdefault(path, []).append(Range(row.digest, start, stop))
    if fault := fault_of_all(found):
        raise ValueError(fault)
    for path, ranges in found.items():
        ranges.sort(key=lambda each: each.start)
        if not size and len(ranges) > 1:
            raise ValueError(f"{path!r} is there twice")
        for number, each in enumerate(ranges if size else ()):
            full = (number * size, (number + 1) * size)
            last = number == len(ranges) - 1
            if each.start != full[0] or not (each.stop == full[1] or (last and full[0] < (each.stop or 0) < full[1])):
                raise ValueError(f"the ranges of {path!r} do not follow each other")
    return {path: tuple(ranges) for path, ranges in found.items()}


def _span(name: str) -> tuple[str, int, int]:
    """``path:start:stop``; the path may have colons. Raises ValueError."""
    path, _, rest = name.rpartition(":")
    path, _, first = path.rpartition(":")
    if not path or not all(each.isascii() and each.isdigit() and len(each) < 17 for each in (first, rest)):
        raise ValueError(f"{name[:200]!r} names no range of a file")
    return path, int(first), int(rest)


def _root(digests: Iterable[str]) -> str:
    return hashlib.sha256(b"".join(bytes.fromhex(each) for each in digests)).hexdigest()


__all__ = ["NEVER_SIGNED", "Range", "SignedModel", "read_oms", "write_oms"]
