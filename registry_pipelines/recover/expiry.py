"""What `recover expire` is about to delete: signed before it does, so that an audit knows these deletions for planned.

A DSSE envelope (github.com/secure-systems-lab/dsse) a run, in files of a folder. The moments themselves say what they
need, but they are gone afterwards.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from time import time

import msgspec

from registry_pipelines.errors import InputError, RegistryPipelinesError, SignatureInvalid
from registry_pipelines.evidence.dsse import read_envelope, sign_envelope, verify_envelope, write_envelope
from registry_pipelines.evidence.model import Signer, Verifier
from registry_pipelines.evidence.predicates import EXPIRY_TYPE
from registry_pipelines.oci.decoding import ready
from registry_pipelines.oci.digest import Digest
from registry_pipelines.oci.files import local_errors, write_file

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


def keep_expiry(folder: Path, expiry: Expiry, signer: Signer) -> None:
    """Sign and keep one, and drop those that are too old for anybody. Raises LocalError, DiskFull."""
    raw = msgspec.json.encode(expiry)
    name = f"{_NOT_A_NAME.sub('', expiry.made_at)}-{Digest.of(raw).hex[:12]}.json"
    with local_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        write_file(folder / name, write_envelope(sign_envelope(raw, signer, payload_type=EXPIRY_TYPE)))
        for old in folder.glob("*.json"):
            if old.stat().st_mtime < time() - KEPT_S:
                old.unlink(missing_ok=True)


def kept_expiries(folder: Path, verifier: Verifier, problems: list[str]) -> Iterator[Expiry]:
    """Those that a believed promoter's key signed, one in memory at once. problems: gets a sentence for each other."""
    for path in sorted(folder.glob("*.json")):
        try:
            yield _read(path, verifier)
        except (RegistryPipelinesError, OSError) as error:
            problems.append(f"the record {path.name} of what a backup let go explains nothing: {_why(error)}")


def _why(error: Exception) -> str:
    return str(getattr(error, "what", "") or getattr(error, "strerror", "") or error)


def _read(path: Path, verifier: Verifier) -> Expiry:
    with path.open("rb") as file:
        raw = file.read(MOST_BYTES + 1)
    envelope = read_envelope(raw, where=str(path), max_bytes=MOST_BYTES)
    signers = verify_envelope(envelope, verifier, where=str(path), payload_type=EXPIRY_TYPE)
    verifier.vouching(signers, EXPIRY_TYPE)
    try:
        expiry: Expiry = msgspec.json.decode(envelope.payload, type=ready(Expiry))
    except msgspec.MsgspecError as error:
        raise SignatureInvalid(f"what is signed is no such record: {error}", where=str(path)) from error
    if expiry.schema != SCHEMA:
        raise InputError(f"it has schema {expiry.schema}", where=str(path))
    return expiry


__all__ = ["Expiry", "keep_expiry", "kept_expiries"]
