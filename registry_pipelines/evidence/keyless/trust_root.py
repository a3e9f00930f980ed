"""A trust root: the authorities and logs that are believed, and when (protobuf-specs, sigstore_trustroot.proto).

``cosign trusted-root create`` writes one, ``gh attestation trusted-root`` and Sigstore's own repository hand one out.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization

from registry_pipelines.errors import InputError
from registry_pipelines.evidence.keyless.signatures import usable
from registry_pipelines.evidence.x509 import Certificate, load_certificates
from registry_pipelines.oci.decoding import ready

MAX_TRUST_ROOT_BYTES = 4 * 1024 * 1024
"""Sigstore's public one has 10 KiB."""

MAX_TRUST_ROOTS = 8
"""Trust roots in one file."""

MEDIA_TYPES = (
    "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
    "application/vnd.dev.sigstore.trustedroot.v0.1+json",
    "application/vnd.dev.sigstore.trustedroot.v0.2+json",
)


class _Raw(msgspec.Struct, rename="camel"):
    raw_bytes: str


class _Window(msgspec.Struct):
    start: str
    end: str | None = None


class _Key(msgspec.Struct, rename="camel"):
    raw_bytes: str
    valid_for: _Window


class _LogId(msgspec.Struct, rename="camel"):
    key_id: str


class _Log(msgspec.Struct, rename="camel"):
    public_key: _Key
    log_id: _LogId
    base_url: str = ""


class _Chain(msgspec.Struct):
    certificates: list[_Raw]


class _Authority(msgspec.Struct, rename="camel"):
    cert_chain: _Chain
    valid_for: _Window
    uri: str = ""


class _Root(msgspec.Struct, rename="camel"):
    media_type: str
    tlogs: list[_Log] = []
    certificate_authorities: list[_Authority] = []
    ctlogs: list[_Log] = []
    timestamp_authorities: list[_Authority] = []


@dataclass(frozen=True)
class Window:
    """When something is believed; both ends belong to it."""

    start: datetime
    end: datetime | None

    def holds(self, at: datetime) -> bool:
        """Whether a moment lies in it."""
        return self.start <= at and (self.end is None or at <= self.end)


@dataclass(frozen=True)
class Log:
    """A log's key. name: its address."""

    name: str
    log_id: bytes
    key: Any
    window: Window


@dataclass(frozen=True)
class Authority:
    """Certificates from an authority's own (or its signer's) to the root, which is the last."""

    name: str
    chain: tuple[Certificate, ...]
    window: Window


@dataclass(frozen=True)
class TrustRoot:
    """All that is believed. A bundle must have what the root has somebody for: log entry, timestamp, SCT."""

    authorities: tuple[Authority, ...]
    logs: tuple[Log, ...]
    certificate_logs: tuple[Log, ...]
    timestamp_authorities: tuple[Authority, ...]


def load_trust_roots(path: Path) -> list[TrustRoot]:
    """Read a trust root, or one in each line (``gh attestation trusted-root`` writes two: Sigstore's and its own).
    A bundle is held against each by itself. Raises InputError: a part that cannot be read makes the whole file none.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_TRUST_ROOT_BYTES + 1)
    except OSError as error:
        raise InputError(f"the trust root cannot be read: {error.strerror}", where=str(path)) from error
    lines = [line for line in raw.splitlines() if line.strip()]
    if 1 < len(lines) <= MAX_TRUST_ROOTS and all(line.startswith(b"{") and line.endswith(b"}") for line in lines):
        return [read_trust_root(line, where=f"{path}, line {number}") for number, line in enumerate(lines, 1)]
    return [read_trust_root(raw, where=str(path))]


def read_trust_root(raw: bytes, *, where: str) -> TrustRoot:
    """Parse a trust root. Raises InputError."""
    if len(raw) > MAX_TRUST_ROOT_BYTES:
        raise InputError(f"a trust root has at most {MAX_TRUST_ROOT_BYTES} bytes", where=where)
    try:
        document = msgspec.json.decode(raw, type=ready(_Root))
        if document.media_type not in MEDIA_TYPES:
            raise ValueError(f"`mediaType` is {document.media_type[:100]!r}")
        root = TrustRoot(
            tuple(map(_authority, document.certificate_authorities)),
            tuple(_logs(document.tlogs)),
            tuple(_logs(document.ctlogs)),
            tuple(map(_authority, document.timestamp_authorities)),
        )
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"the trust root cannot be read: {error}", where=where, do="Give a trusted_root.json as Sigstore writes it"
        ) from error
    if not root.authorities or not (root.logs or root.timestamp_authorities):
        raise InputError(
            "the trust root names no certificate authority, or nobody who says when something was signed",
            where=where,
            do="Add `certificateAuthorities`, and `tlogs` or `timestampAuthorities`",
        )
    return root


def _logs(logs: Iterable[_Log]) -> Iterable[Log]:
    """Logs whose kind of key is known; Sigstore's public root has others' keys before it has their readers."""
    for log in logs:
        key = _key(_base64(log.public_key.raw_bytes))
        if key is not None:
            window = _window(log.public_key.valid_for)
            yield Log(log.base_url, _base64(log.log_id.key_id), key, window)


def _key(der: bytes) -> Any | None:
    try:
        key = serialization.load_der_public_key(der)
    except UnsupportedAlgorithm:
        return None
    return key if usable(key) else None


def _authority(authority: _Authority) -> Authority:
    ders = [_base64(each.raw_bytes) for each in authority.cert_chain.certificates]
    if not ders:
        raise ValueError(f"the authority {authority.uri[:100]!r} has no certificate")
    try:
        chain = tuple(load_certificates(ders))
    except Exception as error:
        raise ValueError(f"a certificate of {authority.uri[:100]!r}: {error}") from error
    return Authority(authority.uri, chain, _window(authority.valid_for))


def _window(window: _Window) -> Window:
    return Window(_moment(window.start), _moment(window.end) if window.end else None)


def _moment(text: str) -> datetime:
    at = datetime.fromisoformat(text)
    if at.tzinfo is None:
        raise ValueError(f"{text[:40]!r} has no time zone")
    return at.astimezone(UTC)


def _base64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError(f"a field is not base64: {error}") from error
