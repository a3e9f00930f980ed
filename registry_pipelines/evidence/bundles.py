"""Sigstore bundles (github.com/sigstore/protobuf-specs, sigstore_bundle.proto): what is signed, and by whom.

Written is v0.3 with a key hint, or with a chain as signatures of models have it: no transparency log. Read are v0.1 to
v0.3 with a key hint or with certificates, log entries and timestamps; nothing is believed here. Who signed one with
certificates say ``keyless`` and ``authorities``.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, TypeVar

import msgspec

from registry_pipelines.errors import SignatureInvalid
from registry_pipelines.evidence.dsse import (
    Envelope,
    EnvelopeJson,
    decode_base64,
    decode_unverified,
    envelope_from_json,
    envelope_json,
)
from registry_pipelines.oci.media_types import SIGSTORE_BUNDLE
from registry_pipelines.progress import count_text

VERSIONS = {
    SIGSTORE_BUNDLE: (0, 3),
    "application/vnd.dev.sigstore.bundle+json;version=0.3": (0, 3),
    "application/vnd.dev.sigstore.bundle+json;version=0.2": (0, 2),
    "application/vnd.dev.sigstore.bundle+json;version=0.1": (0, 1),
}
MAX_LOG_ENTRIES = 16
"""Log entries of one bundle; one is usual."""
MAX_TIMESTAMPS = 16
"""Timestamps of one bundle; one is usual."""
MAX_PROOF_HASHES = 64
"""Hashes on the way from an entry to the root of its log: one for each doubling of its size."""
MAX_CHECKPOINT_CHARACTERS = 64 * 1024
"""A checkpoint with the signatures of a dozen witnesses has 2 KiB."""

_T = TypeVar("_T")
_Number = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)] | Annotated[str, msgspec.Meta(pattern="^[0-9]{1,18}$")]


class _Raw(msgspec.Struct, rename="camel"):
    raw_bytes: str


class _Chain(msgspec.Struct):
    certificates: list[_Raw]


class _Key(msgspec.Struct):
    hint: str = ""


class _Promise(msgspec.Struct, rename="camel"):
    signed_entry_timestamp: str


class _Checkpoint(msgspec.Struct):
    envelope: str


class _Proof(msgspec.Struct, rename="camel"):
    root_hash: str
    tree_size: _Number
    log_index: _Number = 0
    hashes: list[str] = []
    checkpoint: _Checkpoint | None = None


class _LogId(msgspec.Struct, rename="camel"):
    key_id: str


class _Kind(msgspec.Struct):
    kind: str
    version: str


class _Entry(msgspec.Struct, rename="camel"):
    log_id: _LogId
    kind_version: _Kind
    canonicalized_body: str
    log_index: _Number = 0
    integrated_time: _Number = 0
    inclusion_promise: _Promise | None = None
    inclusion_proof: _Proof | None = None


class _Timestamp(msgspec.Struct, rename="camel"):
    signed_timestamp: str


class _Timestamps(msgspec.Struct):
    tokens: list[_Timestamp] = msgspec.field(name="rfc3161Timestamps", default_factory=list)


class _Material(msgspec.Struct, rename="camel"):
    public_key: _Key | None = None
    certificate: _Raw | None = None
    x509_certificate_chain: _Chain | None = None
    tlog_entries: list[_Entry] | None = None
    timestamp_verification_data: _Timestamps | None = None


class _Digest(msgspec.Struct):
    algorithm: str
    digest: str


class _Message(msgspec.Struct, rename="camel"):
    signature: str
    message_digest: _Digest | None = None


class _Bundle(msgspec.Struct, rename="camel"):
    media_type: str
    verification_material: _Material
    dsse_envelope: EnvelopeJson | None = None
    message_signature: _Message | None = None


@dataclass(frozen=True)
class MessageSignature:
    """A signature over a file that is not in the bundle. digest: what the bundle says of it; nobody signed that."""

    signature: bytes
    algorithm: str
    digest: bytes


@dataclass(frozen=True)
class InclusionProof:
    """The way from an entry to the root of its log (RFC 9162, section 2.1.3), and the log's signed word for it."""

    index: int
    size: int
    root: bytes
    hashes: tuple[bytes, ...]
    checkpoint: str


@dataclass(frozen=True)
class LogEntry:
    """What a transparency log is said to hold about the signature."""

    log_id: bytes
    kind: str
    version: str
    body: bytes
    """The entry itself, canonical JSON, as it is in the log."""
    index: int
    integrated_at: int
    """Unix seconds; 0 for none. Only :attr:`promise` signs it."""
    promise: bytes
    """The log's signature over body, index and time; empty for none."""
    proof: InclusionProof | None


@dataclass(frozen=True)
class Bundle:
    """A bundle as it was read; nothing is verified."""

    version: tuple[int, int]
    content: Envelope | MessageSignature
    certificates: tuple[bytes, ...] = ()
    """DER, the signer's first; empty where the bundle names a key by a hint."""
    entries: tuple[LogEntry, ...] = ()
    timestamps: tuple[bytes, ...] = ()
    """RFC 3161 responses (not tokens alone) over the signature, DER."""

    @property
    def envelope(self) -> Envelope:
        """The envelope. Raises SignatureInvalid where a file was signed and no envelope."""
        if isinstance(self.content, Envelope):
            return self.content
        raise SignatureInvalid("the bundle has no `dsseEnvelope`")


def write_bundle(envelope: Envelope, *, key_id: str = "", hint: str = "", certificates: Sequence[bytes] = ()) -> bytes:
    """Serialise. key_id: ``sha256:<hex>`` of the SPKI; the bundle carries it in base64, as cosign 3 does. hint: what it
    carries instead, for readers who want something else. certificates: DER, the signer's first; it carries them in
    place of both."""
    hint = hint or base64.b64encode(bytes.fromhex(key_id.partition(":")[2])).decode()
    chain = {"certificates": [{"rawBytes": base64.b64encode(each).decode()} for each in certificates]}
    return msgspec.json.encode(
        {
            "mediaType": SIGSTORE_BUNDLE,
            "verificationMaterial": {"x509CertificateChain": chain} if certificates else {"publicKey": {"hint": hint}},
            "dsseEnvelope": envelope_json(envelope),
        }
    )


def read_bundle(raw: bytes, *, where: str = "", chains: bool = False) -> Bundle:
    """Parse a bundle; nothing is verified, and a key hint is not read. chains: one of version 0.3 may have a chain of
    certificates, as signatures of models have. Raises SignatureInvalid."""
    bundle = decode_unverified(raw, _Bundle, where=where, what="Sigstore bundle")
    version = VERSIONS.get(bundle.media_type)
    if version is None:
        raise SignatureInvalid(f"`mediaType` of the bundle is {bundle.media_type[:100]!r}", where=where)
    material = bundle.verification_material
    return Bundle(
        version,
        _content(bundle, where),
        _certificates(material, (0, 2) if chains else version, where),
        tuple(
            _entry(each, where)
            for each in _bounded(material.tlog_entries or [], MAX_LOG_ENTRIES, "log entry", "log entries", where)
        ),
        tuple(
            decode_base64(each.signed_timestamp, where=where, what="timestamp")
            for each in _bounded(_tokens(material), MAX_TIMESTAMPS, "timestamp", "timestamps", where)
        ),
    )


def _content(bundle: _Bundle, where: str) -> Envelope | MessageSignature:
    if (bundle.dsse_envelope is None) == (bundle.message_signature is None):
        what = "no" if bundle.dsse_envelope is None else "both a `messageSignature` and a"
        raise SignatureInvalid(f"the bundle has {what} `dsseEnvelope`", where=where)
    if bundle.dsse_envelope is not None:
        return envelope_from_json(bundle.dsse_envelope, where=where)
    message = bundle.message_signature
    assert message is not None  # noqa: S101  one of them is there
    digest = message.message_digest or _Digest("", "")
    return MessageSignature(
        decode_base64(message.signature, where=where, what="signature"),
        digest.algorithm,
        decode_base64(digest.digest, where=where, what="digest"),
    )


def _certificates(material: _Material, version: tuple[int, int], where: str) -> tuple[bytes, ...]:
    said = [material.public_key, material.certificate, material.x509_certificate_chain]
    if sum(each is not None for each in said) != 1:
        raise SignatureInvalid("the bundle names its signer by none of key and certificate, or by both", where=where)
    if material.public_key is not None:
        return ()
    if material.x509_certificate_chain is not None and version >= (0, 3):
        raise SignatureInvalid("a bundle of version 0.3 has one `certificate` and no chain", where=where)
    listed = [material.certificate] if material.certificate else []
    listed += material.x509_certificate_chain.certificates if material.x509_certificate_chain else []
    if not listed:
        raise SignatureInvalid("the bundle's chain of certificates is empty", where=where)
    return tuple(decode_base64(each.raw_bytes, where=where, what="certificate") for each in listed)


def _tokens(material: _Material) -> list[_Timestamp]:
    return material.timestamp_verification_data.tokens if material.timestamp_verification_data else []


def _entry(entry: _Entry, where: str) -> LogEntry:
    promise = entry.inclusion_promise
    return LogEntry(
        decode_base64(entry.log_id.key_id, where=where, what="log id"),
        entry.kind_version.kind,
        entry.kind_version.version,
        decode_base64(entry.canonicalized_body, where=where, what="log entry"),
        int(entry.log_index),
        int(entry.integrated_time),
        decode_base64(promise.signed_entry_timestamp, where=where, what="inclusion promise") if promise else b"",
        _proof(entry.inclusion_proof, where) if entry.inclusion_proof else None,
    )


def _proof(proof: _Proof, where: str) -> InclusionProof:
    hashes = _bounded(
        proof.hashes, MAX_PROOF_HASHES, "hash of an inclusion proof", "hashes of an inclusion proof", where
    )
    checkpoint = proof.checkpoint.envelope if proof.checkpoint else ""
    if len(checkpoint) > MAX_CHECKPOINT_CHARACTERS:
        raise SignatureInvalid(
            f"a checkpoint has {len(checkpoint)} characters, at most {MAX_CHECKPOINT_CHARACTERS} are read", where=where
        )
    return InclusionProof(
        int(proof.log_index),
        int(proof.tree_size),
        decode_base64(proof.root_hash, where=where, what="root hash"),
        tuple(decode_base64(each, where=where, what="hash of an inclusion proof") for each in hashes),
        checkpoint,
    )


def _bounded(values: list[_T], most: int, one: str, many: str, where: str) -> list[_T]:
    if len(values) > most:
        raise SignatureInvalid(
            f"the bundle has {count_text(len(values), one, many)}, at most {most} are read", where=where
        )
    return values
