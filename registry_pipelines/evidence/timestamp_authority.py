"""Ask a timestamp authority over HTTP (RFC 3161 section 3.4): what a signature needs to outlive its certificate."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from registry_pipelines.errors import Forbidden, Unavailable
from registry_pipelines.evidence.keys import read_key_file
from registry_pipelines.evidence.timestamps import MAX_TOKEN_BYTES, read_response, verify_token, write_request
from registry_pipelines.evidence.x509 import Certificate, read_certificates

if TYPE_CHECKING:
    from urllib.request import OpenerDirector

TIMEOUT_S = 30.0
"""Of one answer; public authorities take less than a second."""


class TimestampAuthority:
    """An authority that is asked for tokens, and trusted by its root. Safe for many threads.

    Plain HTTP is usual and enough: a token is signed, and holds a hash alone.
    """

    def __init__(self, url: str, anchors: Sequence[Certificate]) -> None:
        """url: where requests are sent. anchors: certificates that its chain must end in, so that no token is written
        into a signature that its readers refuse."""
        self._url, self._anchors = url, tuple(anchors)

    def __call__(self, content: bytes) -> bytes:
        """A token over ``content``, verified. Raises Unavailable, Forbidden, SignatureInvalid."""
        request, where = write_request(content), f"timestamp authority {urlsplit(self._url).hostname}"
        token = read_response(self._post(request.raw, where), content, nonce=request.nonce, where=where)
        verify_token(token, content, anchors=self._anchors, where=where)
        return token

    def _post(self, raw: bytes, where: str) -> bytes:
        from http.client import HTTPException  # nobody else needs it
        from urllib.error import HTTPError
        from urllib.request import Request

        headers = {"Content-Type": "application/timestamp-query", "User-Agent": "registry-pipelines"}
        try:
            with _opener().open(Request(self._url, raw, headers, method="POST"), timeout=TIMEOUT_S) as answer:
                return bytes(answer.read(MAX_TOKEN_BYTES + 1))
        except HTTPError as error:
            with error:
                kind = Unavailable if error.code >= 500 or error.code == 429 else Forbidden
                raise kind(f"it answered {error.code}", where=where, do="Check its address") from error
        except (OSError, HTTPException, ValueError) as error:
            reason = getattr(error, "reason", None)  # urllib wraps it; other texts may repeat the address
            cause = reason if isinstance(reason, OSError) else error
            why = cause.strerror if isinstance(cause, OSError) and cause.strerror else type(cause).__name__
            raise Unavailable(f"it cannot be reached: {why}", where=where, do="Check its address") from error


def load_timestamp_authority(url: str, roots: Path) -> TimestampAuthority:
    """roots: a file of the certificates that are trusted. Raises InputError."""
    return TimestampAuthority(url, read_certificates(read_key_file(roots), where=str(roots)))


def _opener() -> OpenerDirector:
    """One that follows no redirect: what is asked is for this address alone."""
    from urllib.request import HTTPRedirectHandler, build_opener

    class NoRedirect(HTTPRedirectHandler):
        def redirect_request(self, *_: object) -> None:
            return None

    return build_opener(NoRedirect)
