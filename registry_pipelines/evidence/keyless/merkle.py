"""That a log holds an entry: the way to its root (RFC 9162, section 2.1.3.2), and the log's signature under the root
(C2SP signed notes and checkpoints: note.md, tlog-checkpoint.md)."""

from __future__ import annotations

import base64
import binascii
import hashlib

from registry_pipelines.errors import SignatureInvalid
from registry_pipelines.evidence.bundles import InclusionProof
from registry_pipelines.evidence.keyless.signatures import is_signed
from registry_pipelines.evidence.keyless.trust_root import Log

MAX_NOTE_SIGNATURES = 64
"""Signatures below a checkpoint: the log's own and its witnesses'."""
_HINT_BYTES = 4


def check_inclusion(body: bytes, proof: InclusionProof, log: Log) -> None:
    """Raise SignatureInvalid unless a log signed a root below which ``body`` is an entry."""
    if not 0 <= proof.index < proof.size:
        raise SignatureInvalid(f"the inclusion proof is of entry {proof.index} in a log of {proof.size}")
    if _root(hashlib.sha256(b"\0" + body).digest(), proof) != proof.root:
        raise SignatureInvalid("the inclusion proof does not lead from the log entry to its root")
    size, root = _check_note(proof.checkpoint, log)
    if (size, root) != (proof.size, proof.root):
        raise SignatureInvalid("the log's checkpoint is of another root than the inclusion proof")


def _root(leaf: bytes, proof: InclusionProof) -> bytes:
    number, last = proof.index, proof.size - 1
    found = leaf
    for each in proof.hashes:
        if len(each) != hashlib.sha256().digest_size or last == 0:
            raise SignatureInvalid("the inclusion proof has a hash too many, or one that is none")
        if number & 1 or number == last:
            found = hashlib.sha256(b"\1" + each + found).digest()
            while not number & 1 and number:
                number, last = number >> 1, last >> 1
        else:
            found = hashlib.sha256(b"\1" + found + each).digest()
        number, last = number >> 1, last >> 1
    if last:
        raise SignatureInvalid("the inclusion proof ends before the root")
    return found


def _check_note(note: str, log: Log) -> tuple[int, bytes]:
    """The size and root that a checkpoint names and the log signed; further signatures are witnesses'."""
    text, separator, signatures = note.rpartition("\n\n")
    lines = text.split("\n")
    if not separator or len(lines) < 3 or not lines[0]:
        raise SignatureInvalid("the inclusion proof has no checkpoint of a log")
    signed = f"{text}\n".encode()
    for line in signatures.splitlines()[:MAX_NOTE_SIGNATURES]:
        mark, _, rest = line.partition(" ")
        name, _, encoded = rest.partition(" ")
        raw = _decoded(encoded)
        ours = mark == "\u2014" and raw[:_HINT_BYTES] == log.log_id[:_HINT_BYTES] and _names(lines[0], name)
        if ours and is_signed(log.key, raw[_HINT_BYTES:], signed):
            return _size(lines[1]), _decoded(lines[2])
    raise SignatureInvalid("the log did not sign the checkpoint of the inclusion proof")


def _names(origin: str, name: str) -> bool:
    """Whether a signature's name is the log's: its origin, or what stands before the number of a tree (Rekor 1)."""
    return bool(name) and (origin == name or origin.startswith(f"{name} - "))


def _size(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise SignatureInvalid("the log's checkpoint has no size")
    return int(text)


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""
