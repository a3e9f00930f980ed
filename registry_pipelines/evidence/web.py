"""One question to a server of the public key infrastructure: a timestamp, a list of what was taken back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from registry_pipelines.errors import Forbidden, Unavailable

if TYPE_CHECKING:
    from urllib.request import OpenerDirector

SCHEMES = ("http", "https")


def ask(
    url: str,
    *,
    where: str,
    limit: int,
    timeout_s: float,
    body: bytes | None = None,
    content_type: str = "",
    headers: Mapping[str, str] | None = None,
) -> bytes:
    """The answer to a GET, or to a POST of ``body``; no redirect is followed. Plain HTTP is usual: answers are signed.

    headers: sent along, as a token. where: who is asked, for errors. limit: bytes that are read at most; more is an
    error. Raises Unavailable (temporary: no connection, 429, 5xx, too long), Forbidden (another refusal).
    """
    from http.client import HTTPException  # nobody else needs it
    from urllib.error import HTTPError
    from urllib.request import Request

    do = "Check its address"
    if urlsplit(url).scheme not in SCHEMES:
        raise Forbidden("its address is neither http nor https", where=where, do=do)
    told = {"User-Agent": "registry-pipelines", **({"Content-Type": content_type} if content_type else {})}
    try:
        with _opener().open(Request(url, body, {**told, **(headers or {})}), timeout=timeout_s) as answer:
            content = bytes(answer.read(limit + 1))
    except HTTPError as error:
        with error:
            kind = Unavailable if error.code >= 500 or error.code == 429 else Forbidden
            raise kind(f"it answered {error.code}", where=where, do=do) from error
    except (OSError, HTTPException, ValueError) as error:
        reason = getattr(error, "reason", None)  # urllib wraps it; other texts may repeat the address
        cause = reason if isinstance(reason, OSError) else error
        why = cause.strerror if isinstance(cause, OSError) and cause.strerror else type(cause).__name__
        raise Unavailable(f"it cannot be reached: {why}", where=where, do=do) from error
    if len(content) > limit:
        raise Unavailable(f"it answered with more than {limit} bytes", where=where, do=do)
    return content


def _opener() -> OpenerDirector:
    """One that follows no redirect: what is asked is for this address alone."""
    from urllib.request import HTTPRedirectHandler, build_opener

    class NoRedirect(HTTPRedirectHandler):
        def redirect_request(self, *_: object) -> None:
            return None

    return build_opener(NoRedirect)
