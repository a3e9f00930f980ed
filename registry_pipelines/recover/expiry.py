"""What `recover expire` is about to delete: signed before it does, so that an audit knows these deletions for planned.

A DSSE envelope (github.com/secure-systems-lab/dsse) a run, in documents of the state. The moments themselves say what
they need, but they are gone afterwards.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from time import time

import msgspec

from registry_pipelines.errors import InputError, RegistryPipelinesError, SignatureInvalid
from registry_pipelines.evidence.dsse import read_envelope, sign_envelope, verify_envelope, write_envelope
from registry_pipelines.evidence.model import Signer, Verifier
from registry_pipelines.evidence.predicates import EXPIRY_TYPE
from registry_pipelines.oci.decoding import ready
from registry_pipelines.oci.digest import Digest
from registry_pipelines.shared.documents import Documents

SCHEMA = 1
MOST_BYTES = 256 * 1024 * 1024
"""A digest has some hundred bytes there: two million of them."""
KEPT_S = 30 * 24 * 3600
"""As long as retention plans; the audit keeps by itself what it found explained."""
_NOT_A_NAME = re.compile("[^0-9A-Za-z]")


class Expiry(msgspec.Struct, frozen=True, kw_only=True):
    """What one run lets go. backup: its name. registry: the place of the backup, by its name in the configuration.
    made_at: RFC 3339, UTC. manifests: repository to digests there, moments and their signatures among them."""

    schema: int = SCHEMA
    backup: str
    registry: str
    made_at: str
    manifests: Mapping[str, tuple[str, ...]]


def keep_expiry(folder: Documents, expiry: Expiry, signer: Signer) -> None:
    """Sign and keep one, and drop those that are too old for anybody. Raises LocalError, DiskFull."""
    raw = msgspec.json.encode(expiry)
    name = f"{_NOT_A_NAME.sub('', expiry.made_at)}-{Digest.of(raw).hex[:12]}.json"
    folder.write(name, write_envelope(sign_envelope(raw, signer, payload_type=EXPIRY_TYPE)))
    for old in folder.entries():
        if old.name.endswith(".json") and old.at < time() - KEPT_S:
            folder.delete(old.name)


def kept_expiries(folder: Documents, verifier: Verifier, problems: list[str]) -> Iterator[Expiry]:
    """Those that a believed promoter's key signed, one in memory at once. problems: gets a sentence for each other."""
    for each in folder.entries():
        try:
            if each.name.endswith(".json") and (found := folder.read(each.name, most=MOST_BYTES)):
                yield _read(found.content, f"{folder.where}/{each.name}", verifier)
        except RegistryPipelinesError as error:
            problems.append(f"the record {each.name} of what a backup let go explains nothing: {error.what}")


def _read(raw: bytes, where: str, verifier: Verifier) -> Expiry:
    envelope = read_envelope(raw, where=where, max_bytes=MOST_BYTES)
    signers = verify_envelope(envelope, verifier, where=where, payload_type=EXPIRY_TYPE)
    verifier.vouching(signers, EXPIRY_TYPE)
    try:
        expiry: Expiry = msgspec.json.decode(envelope.payload, type=ready(Expiry))
    except msgspec.MsgspecError as error:
        raise SignatureInvalid(f"what is signed is no such record: {error}", where=where) from error
    if expiry.schema != SCHEMA:
        raise InputError(f"it has schema {expiry.schema}", where=where)
    return expiry


__all__ = ["Expiry", "keep_expiry", "kept_expiries"]
