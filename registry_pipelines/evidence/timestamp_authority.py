"""Ask a timestamp authority over HTTP (RFC 3161 section 3.4): what a signature needs to outlive its certificate."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from registry_pipelines.evidence.keys import read_key_file
from registry_pipelines.evidence.timestamps import MAX_TOKEN_BYTES, read_response, verify_token, write_request
from registry_pipelines.evidence.web import ask
from registry_pipelines.evidence.x509 import Certificate, read_certificates

TIMEOUT_S = 30.0
"""Of one answer; public authorities take less than a second."""


class TimestampAuthority:
    """An authority that is asked for tokens, and trusted by its root. Safe for many threads."""

    def __init__(self, url: str, anchors: Sequence[Certificate]) -> None:
        """url: where requests are sent. anchors: certificates that its chain must end in, so that no token is written
        into a signature that its readers refuse."""
        self._url, self._anchors = url, tuple(anchors)

    def __call__(self, content: bytes) -> bytes:
        """A token over ``content``, verified. Raises Unavailable, Forbidden, SignatureInvalid."""
        request, where = write_request(content), f"timestamp authority {urlsplit(self._url).hostname}"
        kind = "application/timestamp-query"
        answer = ask(
            self._url, where=where, limit=MAX_TOKEN_BYTES, timeout_s=TIMEOUT_S, body=request.raw, content_type=kind
        )
        token = read_response(answer, content, nonce=request.nonce, where=where)
        verify_token(token, content, anchors=self._anchors, where=where)
        return token


def load_timestamp_authority(url: str, roots: Path) -> TimestampAuthority:
    """roots: a file of the certificates that are trusted. Raises InputError."""
    return TimestampAuthority(url, read_certificates(read_key_file(roots), where=str(roots)))
