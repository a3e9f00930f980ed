"""The receipt of a load: what the far side's registry holds now of all that bundles of a mirror ever brought.

A file that goes back to the near side, which leaves out of its next bundle what a receipt confirms. It tells what was
read back when it was made, never what was written, so that a disk that was lost, or content that was let go meanwhile,
is sent again. A DSSE envelope (secure-systems-lab/dsse, protocol.md) signed by the far side's ``promoter``; the
document in it is this project's own.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from registry_pipelines.errors import (
    DigestInvalid,
    InputError,
    ManifestInvalid,
    ReferenceInvalid,
    SignatureInvalid,
)
from registry_pipelines.evidence.dsse import Envelope, read_envelope, sign_envelope, verify_envelope, write_envelope
from registry_pipelines.evidence.model import Signer, Verifier
from registry_pipelines.evidence.predicates import BUNDLE_RECEIPT_TYPE
from registry_pipelines.oci.decoding import ready
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.manifests import encode_json
from registry_pipelines.oci.references import check_repository, check_tag

SCHEMA = 1

MAX_RECEIPT_BYTES = 128 * 1024 * 1024
"""A digest takes about 100 bytes in base64: a million blobs."""

_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}\Z")


class LoadedBundle(msgspec.Struct, frozen=True, order=True):
    """A bundle that was loaded."""

    line: str
    """Random id of the near state that made it."""
    number: int
    """Of the bundle in its line, from 1."""


class HeldRepository(msgspec.Struct, frozen=True):
    """What a repository of the far side's registry was found to hold. All in ASCII order."""

    tags: dict[str, str] = {}
    """Tag to the digest it names."""
    manifests: tuple[str, ...] = ()
    """Digests."""
    blobs: tuple[str, ...] = ()
    """Digests of configs and layers."""


class BundleReceipt(msgspec.Struct, frozen=True, kw_only=True):
    """What the far side says it has. ``repositories`` are named as in its registry, with the mirror's prefix."""

    schema: int = SCHEMA
    mirror: str
    """Name of the mirror, the same on both sides."""
    far: str
    """Random id of the far side's state: sequences of two states do not compare."""
    sequence: int
    """Of the receipt, from 1; a later one replaces every earlier one of the same state."""
    made_at: str
    """RFC 3339, UTC, by the far side's clock."""
    registry: str
    """The far side's registry, for people."""
    loaded: tuple[LoadedBundle, ...] = ()
    """Bundles that were loaded whole, sorted."""
    repositories: dict[str, HeldRepository] = {}

    def holders(self) -> Mapping[str, str]:
        """Each digest that the far side has, blob or manifest, with a repository in which it is."""
        found: dict[str, str] = {}
        for repository, held in self.repositories.items():
            for digest in (*held.blobs, *held.manifests):
                found.setdefault(digest, repository)
        return found


class SignedReceipt(msgspec.Struct, frozen=True):
    """A receipt as it travels."""

    receipt: BundleReceipt
    raw: bytes
    """The envelope as JSON: what a file of it holds."""
    sha256: str
    """Digest of the document that was signed, by which a bundle names the receipt it builds on: not of the envelope,
    which differs with each signature."""
    key_id: str = ""
    """Whose signature was believed; empty when nobody was asked."""


def sign_receipt(receipt: BundleReceipt, signer: Signer) -> SignedReceipt:
    """Sign a receipt, as the far side does."""
    payload = encode_json(receipt)
    envelope = sign_envelope(payload, signer, payload_type=BUNDLE_RECEIPT_TYPE)
    return SignedReceipt(receipt, write_envelope(envelope), Digest.of(payload), signer.key_id)


def read_receipt(raw: bytes, *, verifier: Verifier, mirror: str = "", where: str = "") -> SignedReceipt:
    """Read a receipt that is believed. verifier: the keys of ``mirrors.NAME.bundle.receipts``. mirror: whose it must
    be, any unless told. Raises SignatureInvalid when none of them signed it as promoter, ManifestInvalid for a document
    that is none, InputError for another mirror's."""
    envelope = read_envelope(raw, where=where, max_bytes=MAX_RECEIPT_BYTES)
    key_ids = verify_envelope(envelope, verifier, where=where, payload_type=BUNDLE_RECEIPT_TYPE)
    receipt = _document(envelope, where)
    if mirror and receipt.mirror != mirror:
        raise InputError(
            f"this is a receipt of the mirror {receipt.mirror}, not of {mirror}", where=where, do="Take that mirror's"
        )
    key_id = verifier.vouching(key_ids, BUNDLE_RECEIPT_TYPE)
    return SignedReceipt(receipt, raw, Digest.of(envelope.payload), key_id)


def peek_receipt(raw: bytes, *, where: str = "") -> SignedReceipt:
    """Read a receipt without asking who signed it, to show it. Raises SignatureInvalid, ManifestInvalid."""
    envelope = read_envelope(raw, where=where, max_bytes=MAX_RECEIPT_BYTES)
    if envelope.payload_type != BUNDLE_RECEIPT_TYPE:
        raise SignatureInvalid("this is not the receipt of a bundle", where=where)
    return SignedReceipt(_document(envelope, where), raw, Digest.of(envelope.payload))


def read_receipt_file(path: Path, *, verifier: Verifier, mirror: str = "") -> SignedReceipt:
    """The same of a file. Raises InputError where it cannot be read."""
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            raw = file.read(MAX_RECEIPT_BYTES + 1) if size <= MAX_RECEIPT_BYTES else b""
    except OSError as error:
        raise InputError(f"the receipt cannot be read: {error.strerror}", where=str(path)) from error
    if not raw:
        raise InputError("the receipt is empty, or too large to be one", where=str(path), do="Copy it again")
    return read_receipt(raw, verifier=verifier, mirror=mirror, where=str(path))


def _document(envelope: Envelope, where: str) -> BundleReceipt:
    try:
        receipt = msgspec.json.decode(envelope.payload, type=ready(BundleReceipt))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ManifestInvalid(f"this receipt is not valid: {error}", where=where) from error
    if receipt.schema != SCHEMA:
        raise ManifestInvalid(
            f"the receipt has the form {receipt.schema}, and this build reads {SCHEMA}",
            where=where,
            do="Use the same build of registry-pipelines on both sides",
        )
    if problem := next(_problems(receipt), None):
        raise ManifestInvalid(f"this receipt is not valid: {problem}", where=where, do="Have the far side make another")
    return receipt


def _problems(receipt: BundleReceipt) -> Iterator[str]:
    if not _NAME.match(receipt.mirror) or not _NAME.match(receipt.far):
        yield "its mirror or the id of the far side is no name"
    if receipt.sequence < 1 or any(each.number < 1 for each in receipt.loaded):
        yield "numbers begin with 1"
    try:
        for name, held in receipt.repositories.items():
            check_repository(name)
            for tag in held.tags:
                check_tag(tag)
            for digest in (*held.tags.values(), *held.manifests, *held.blobs):
                Digest.parse(digest)
    except (ReferenceInvalid, DigestInvalid) as error:
        yield error.what
