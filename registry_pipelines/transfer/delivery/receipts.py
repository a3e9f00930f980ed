"""The receipt of a copy: what was found at the target when it was read back. Local evidence, never part of a closure.

A receipt is a DSSE envelope (secure-systems-lab/dsse, protocol.md) around a plain JSON document; without a signer it
has no signatures, and says so by that.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import msgspec

from registry_pipelines.errors import ClosureIncomplete, ManifestInvalid, NotFound, RegistryPipelinesError
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.files import local_errors, write_file
from registry_pipelines.oci.manifests import Descriptor
from registry_pipelines.oci.times import read_time
from registry_pipelines.registry.protocol import BlobSizes, ManifestBatches, Place
from registry_pipelines.transfer.closure import omissions
from registry_pipelines.transfer.closure.closure import Closure
from registry_pipelines.transfer.closure.lists import Keeper, keeper_at, named_at, referrers_by_subject
from registry_pipelines.transfer.delivery.answers import Answers
from registry_pipelines.transfer.delivery.plan import BlobKey, key_of

PAYLOAD_TYPE = "application/vnd.registry-pipelines.receipt.v1+json"
MAX_RECEIPT_BYTES = 64 * 1024 * 1024
"""A receipt names each digest once; 10,000 manifests with 100 blobs each would stay below this."""


SMALL_RECEIPT_BYTES = 16 * 1024
"""A receipt up to this, which is one of forty blobs, is kept for the run: it is read to plan, and again to report."""
MAX_RECENT = 2000

BELIEVED_S = 7 * 24 * 3600
"""Seconds for which a receipt is believed, and up to as many more by its root's digest: registries lose blobs (a
collector gone wrong, a disk), and not all targets of a fleet are to be asked in one night."""

SKEW_S = 300.0
"""Seconds by which clocks of machines that share a state folder differ."""

MAX_NAME_CHARACTERS = 200
"""Of a target's folder; file systems take 255, which a repository alone may have. Longer ones end with a digest."""


class ReceiptSigner(Protocol):
    """What a receipt needs of a key; the signing room's ``Signer`` serves."""

    key_id: str

    def sign(self, payload: bytes, /) -> bytes:
        """A signature over the bytes."""
        ...


class Receipt(msgspec.Struct, frozen=True):
    """A read-back target. document: plain values. envelope: the DSSE envelope as JSON bytes."""

    document: Mapping[str, Any]
    envelope: bytes

    @property
    def signed(self) -> bool:
        """Whether it carries a signature."""
        return bool(json.loads(self.envelope)["signatures"])

    @classmethod
    def read(cls, envelope: bytes) -> Receipt:
        """Parse an envelope; signatures are not checked here. Raises ManifestInvalid."""
        try:
            content = json.loads(envelope)
            if content["payloadType"] != PAYLOAD_TYPE or not isinstance(content["signatures"], list):
                raise ManifestInvalid("this is not a receipt of a copy")
            document = json.loads(base64.b64decode(content["payload"], validate=True))
        except (ValueError, KeyError, TypeError) as error:
            raise ManifestInvalid(f"this receipt cannot be read: {error}") from error
        return cls(document, envelope)


class SizesRead:
    """The sizes of blobs that were read back in one run, so that images which share layers in a repository ask once.
    Only sizes that were there are kept. Safe for many threads."""

    def __init__(self) -> None:
        self._sizes: Answers[BlobKey, int] = Answers()
        self._vouched: set[BlobKey] = set()

    def ask(self, target: Place, digest: Digest) -> int | None:
        """Bytes of a blob at a target, None when it is not there."""
        key = key_of(target, digest)
        return self._sizes.get(key, lambda: target.registry.blob_size(target.repository, digest))

    def knows(self, blob: Descriptor, target: Place) -> bool:
        """Whether it is known already that the whole blob is there."""
        return self._sizes.known(key_of(target, blob.digest)) == blob.size

    def vouch(self, target: Place, blob: Descriptor) -> None:
        """The target looked for it itself; see ``vouching``."""
        key = key_of(target, blob.digest)
        self._vouched.add(key)
        self._sizes.tell(key, blob.size)

    def vouched(self, target: Place, blobs: Iterable[Digest]) -> list[Digest]:
        """Those that the target looked for itself."""
        return [digest for digest in blobs if key_of(target, digest) in self._vouched]


def read_back(
    closure: Closure, target: Place, tags: Mapping[str, Digest], pool: Executor, sizes_read: SizesRead
) -> dict[str, Any]:
    """Look at everything of the closure at the target, through the pool; returns the receipt's document.

    Manifests are asked for by digest, blobs by digest and size, tags by what they name, and each manifest with
    referrers for the list of them, which must name all. sizes_read: what this run has read back already, or the target
    looked for itself. Raises ClosureIncomplete, which names the first piece that is missing or different.
    """
    registry, repository = target.registry, target.repository

    def manifest(digest: Digest) -> None:
        try:
            descriptor = registry.resolve(repository, digest)
        except NotFound as error:
            raise _missing(target, f"manifest {digest}") from error
        if descriptor.digest != digest:
            raise _missing(target, f"manifest {digest} (there is {descriptor.digest})")

    def all_manifests(registry: ManifestBatches) -> None:
        there = registry.manifests_there(repository, untagged)
        for digest in untagged:
            if digest not in there:
                raise _missing(target, f"manifest {digest}")

    def blob(digest: Digest) -> None:
        check_size(digest, sizes_read.ask(target, digest))

    def all_blobs(registry: BlobSizes) -> None:
        sizes = registry.blob_sizes(repository, list(closure.blobs))
        for digest in closure.blobs:
            check_size(digest, sizes.get(digest))

    def check_size(digest: Digest, size: int | None) -> None:
        if size != closure.blobs[digest].size:
            raise _missing(target, f"blob {digest} (of {closure.blobs[digest].size} bytes, there are {size or 0})")

    def tag(name: str) -> None:
        try:
            digest = registry.resolve(repository, name).digest
        except NotFound as error:
            raise _missing(target, f"tag {name}") from error
        if digest != tags[name]:
            raise _missing(target, f"tag {name} (it names {digest}, not {tags[name]})")

    def lists(subject: Digest, referrers: set[Digest]) -> None:
        if lost := referrers - named_at(target, subject, keeper_at(target)):
            raise _missing(target, f"{min(lost)} on the list of what refers to {subject}")

    tagged = set(tags.values())
    untagged = [item.digest for item in closure.manifests if item.digest not in tagged]
    if len(untagged) > 1 and isinstance(registry, ManifestBatches):
        checks: list[Callable[[], None]] = [partial(all_manifests, registry)]
    else:
        checks = [partial(manifest, digest) for digest in untagged]
    if isinstance(registry, BlobSizes):
        checks.append(partial(all_blobs, registry))
    else:
        checks += [
            partial(blob, digest) for digest in closure.blobs if not sizes_read.knows(closure.blobs[digest], target)
        ]
    checks += [partial(tag, name) for name in tags]
    wanted = referrers_by_subject(closure, closure.subjects)
    checks += [partial(lists, *each) for each in wanted.items()]
    _do_all(checks, pool)
    keeper = keeper_at(target) if wanted else None
    return receipt_document(closure, target, tags, keeper, vouched=sizes_read.vouched(target, closure.blobs))


def _do_all(checks: Sequence[Callable[[], None]], pool: Executor) -> None:
    """At once, the last one here: most images of a fleet need one alone, which another thread need not be woken for."""
    others = [pool.submit(check) for check in checks[:-1]]
    for check in checks[-1:]:
        check()
    for other in others:
        other.result()


def receipt_document(
    closure: Closure,
    target: Place,
    tags: Mapping[str, Digest],
    keeper: Keeper | None = None,
    *,
    vouched: Sequence[Digest] = (),
) -> dict[str, Any]:
    """The document for a target that was found complete. keeper: who keeps its lists of referrers, where the closure
    has any. vouched: blobs that the target looked for itself, when it took their manifests."""
    return {
        "source": str(closure.source),
        "target": str(target),
        "root": str(closure.root.digest),
        "reference": closure.reference,
        "tags": {name: str(digest) for name, digest in sorted(tags.items())},
        "manifests": [{"digest": str(item.digest), "size_bytes": len(item.raw)} for item in closure.manifests],
        "blobs": [{"digest": str(item.digest), "size_bytes": item.size} for item in closure.blobs.values()],
        "blobs_checked_by_registry": [str(digest) for digest in vouched],
        "left_out": omissions.rows(closure.omissions),
        **({"referrers_listed_by": keeper} if keeper else {}),
        "size_bytes": closure.size_bytes,
        "read_back_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def make_receipt(document: Mapping[str, Any], signer: ReceiptSigner | None) -> Receipt:
    """Wrap a document, signed where there is a signer."""
    payload = json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
    signatures = []
    if signer is not None:
        signature = signer.sign(pre_authentication_encoding(PAYLOAD_TYPE, payload))
        signatures.append({"keyid": signer.key_id, "sig": base64.b64encode(signature).decode()})
    envelope = {
        "payloadType": PAYLOAD_TYPE,
        "payload": base64.b64encode(payload).decode(),
        "signatures": signatures,
    }
    return Receipt(dict(document), json.dumps(envelope).encode())


def pre_authentication_encoding(payload_type: str, payload: bytes) -> bytes:
    """The bytes that DSSE signs (protocol.md, "PAE")."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


class ReceiptStore(ABC):
    """Receipts by target and root digest; where they are is said below it (``ReceiptFolder``, ``SharedReceipts``). Safe
    for many threads."""

    def __init__(self) -> None:
        self._recent: dict[tuple[str, str, Digest], Receipt] = {}

    @abstractmethod
    def _write(self, target: Place, root: Digest, envelope: bytes) -> None:
        """Keep an envelope. Raises LocalError."""

    @abstractmethod
    def _read(self, target: Place, root: Digest) -> bytes | None:
        """The envelope; None where there is none."""

    @abstractmethod
    def _remove(self, target: Place, root: Digest) -> None:
        """Forget it."""

    @abstractmethod
    def has(self, target: Place, root: Digest) -> bool:
        """Whether there is a receipt, readable or not: so a copy once came to its end."""

    @abstractmethod
    def written_since(self, since: float, most: int) -> Iterator[tuple[str, bytes]]:
        """Envelopes that were stored since then (seconds since 1970), at most so many, each with its name for
        people."""

    def sweep(self) -> None:  # noqa: B027  a folder has nothing to do
        """Forget what nobody believes any more."""

    def save(self, target: Place, root: Digest, receipt: Receipt) -> None:
        """Store a receipt; durable when this returns. Raises DiskFull, LocalError."""
        self._recent.pop(recent_key(target, root), None)
        self._write(target, root, receipt.envelope)

    def find(self, closure: Closure, target: Place) -> Receipt | None:
        """The stored receipt if it is about all of this closure at this target; one that cannot be read is none."""
        try:
            known = self.load(target, closure.root.digest)
        except ManifestInvalid:
            return None
        wanted = receipt_document(closure, target, {})
        if (
            known is None
            or not _is_fresh(known)
            or any(known.document.get(name) != wanted[name] for name in ("target", "manifests", "blobs"))
        ):
            return None
        # One of before this was told says nothing of what was left out, and nothing wrong.
        return known if known.document.get("left_out", wanted["left_out"]) == wanted["left_out"] else None

    def blobs(self, target: Place, root: Digest) -> frozenset[str]:
        """Digests of the blobs that the stored receipt found at the target; empty without a readable one of late."""
        try:
            known = self.load(target, root)
            if known is None or not _is_fresh(known) or known.document["target"] != str(target):
                return frozenset()
            return frozenset(item["digest"] for item in known.document["blobs"])
        except (ManifestInvalid, KeyError, TypeError):
            return frozenset()

    def list_keeper(self, target: Place, root: Digest) -> Keeper | None:
        """Who keeps the target's lists of referrers by the stored receipt; None where it does not say."""
        try:
            known = self.load(target, root)
        except ManifestInvalid:
            return None
        said = known.document.get("referrers_listed_by") if known else None
        return said if said in ("registry", "tag") else None

    def drop(self, target: Place, root: Digest) -> None:
        """What it says is no longer so."""
        self._recent.pop(recent_key(target, root), None)
        self._remove(target, root)

    def load(self, target: Place, root: Digest) -> Receipt | None:
        """The stored receipt. Raises ManifestInvalid when it cannot be read."""
        if known := self._recent.get(recent_key(target, root)):
            return known
        envelope = self._read(target, root)
        return None if envelope is None else self._opened(target, root, envelope)

    def _opened(self, target: Place, root: Digest, envelope: bytes) -> Receipt:
        """Of what was read just now. Raises ManifestInvalid."""
        receipt = Receipt.read(envelope)
        if len(envelope) <= SMALL_RECEIPT_BYTES and len(self._recent) < MAX_RECENT:
            self._recent[recent_key(target, root)] = receipt
        return receipt


class ReceiptFolder(ReceiptStore):
    """Receipts as files below a folder: ``<target>/<root digest>.json``, replaced atomically."""

    def __init__(self, root: Path) -> None:
        super().__init__()
        self.root = root

    def path(self, target: Place, root: Digest) -> Path:
        """Where the receipt of a root at a target is."""
        name = re.sub(r"[^A-Za-z0-9._-]+", "_", str(target)).strip("_.")
        if len(name) > MAX_NAME_CHARACTERS:
            name = f"{name[: MAX_NAME_CHARACTERS - 65]}-{Digest.of(str(target).encode()).hex}"
        return self.root / name / f"{root.algorithm}-{root.hex}.json"

    def _write(self, target: Place, root: Digest, envelope: bytes) -> None:
        path = self.path(target, root)
        with local_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_file(path, envelope)

    def _read(self, target: Place, root: Digest) -> bytes | None:
        path = self.path(target, root)
        if not _is_file(path):
            return None
        with local_errors(path), path.open("rb") as file:
            return file.read(MAX_RECEIPT_BYTES)

    def _remove(self, target: Place, root: Digest) -> None:
        with local_errors(self.root):
            self.path(target, root).unlink(missing_ok=True)

    def has(self, target: Place, root: Digest) -> bool:
        """See ReceiptStore."""
        return _is_file(self.path(target, root))

    def written_since(self, since: float, most: int) -> Iterator[tuple[str, bytes]]:
        """See ReceiptStore."""
        count = 0
        with local_errors(self.root):
            for path in self.root.glob("*/*.json") if self.root.is_dir() else ():
                if path.stat().st_mtime < since:
                    continue
                count += 1
                if count > most:
                    return
                with path.open("rb") as file:
                    yield path.name, file.read(MAX_RECEIPT_BYTES)


def _is_fresh(receipt: Receipt) -> bool:
    """Whether it is still believed; never one of the future, or without a time."""
    at = read_time(str(receipt.document.get("read_back_at") or ""))
    root = str(receipt.document.get("root") or "")
    if at is None:
        return False
    more = int.from_bytes(hashlib.sha256(root.encode()).digest()[:4]) % BELIEVED_S
    return -SKEW_S <= (datetime.now(UTC) - at).total_seconds() <= BELIEVED_S + more


def recent_key(target: Place, root: Digest) -> tuple[str, str, Digest]:
    """What names a receipt in a run."""
    return (target.registry.name, target.repository, root)


def _is_file(path: Path) -> bool:
    """False also where nobody may look."""
    return os.path.isfile(path)  # noqa: PTH113 - Path.is_file raises then


def _missing(target: Place, what: str) -> RegistryPipelinesError:
    return ClosureIncomplete(
        f"{what} is not at the target after the copy", where=str(target), do="Copy again; then look at its registry"
    )
