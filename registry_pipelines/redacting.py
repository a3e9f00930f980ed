"""Text and addresses without what looks like a secret: for logs, errors and metadata."""

from __future__ import annotations

import re
from urllib.parse import urlsplit, urlunsplit

_SAFE_QUERY_KEYS = frozenset({"n", "last", "mount", "from", "digest", "artifactType", "scope", "service", "ns"})
_SECRET_HEADER = re.compile(r"(?i)\b(bearer|basic)\s+(?!REDACTED)[^\s,;\"']+")
_SECRET_FIELD = re.compile(
    r"(?i)\b((?:[a-z_-]*(?:password|passwd|secret|token|signature)|authorization|credential|auth|sig)[\"']?\s*[:=]\s*)"
    r"(\"(?:[^\"\\]|\\.)*\"?|'[^']*'?|[^\s&,;\"']+)"
)
_PORT = re.compile(r":\d*$|\]$")
_URL = re.compile(r"(?i)\b[a-z][a-z0-9+.-]*://[^\s<>\"']+")
_JSON_WEB_TOKEN = re.compile(r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]*)?")


def redact_url(url: str) -> str:
    """A URL fit for logs and errors: no user name, no password, only query keys known to be harmless."""
    try:
        parts = urlsplit(_without_loose_password(url))
    except ValueError:
        return "(an address that is not a URL)"
    host = parts.netloc.rpartition("@")[2]
    query = "&".join(
        item if item.partition("=")[0] in _SAFE_QUERY_KEYS else f"{item.partition('=')[0]}=REDACTED"
        for item in parts.query.split("&")
        if item
    )
    return urlunsplit((parts.scheme, host, parts.path, query, ""))


def _without_loose_password(url: str) -> str:
    """Without a password that nobody escaped: with a ``/``, ``?`` or ``#`` in it, as random ones in base64 have, the
    host of a URL would end in its middle. A reference with a digest (``host:5000/name@sha256:...``) has none."""
    scheme, between, rest = url.partition("://")
    first = re.split(r"[/?#]", rest, maxsplit=1)[0]
    loose = "@" not in first and ":" in first and not _PORT.search(first)
    return f"{scheme}{between}{rest.rpartition('@')[2]}" if loose and "@" in rest else url


def redact_text(text: str) -> str:
    """Free text without what looks like a secret: bearer tokens and basic credentials, JSON web tokens, passwords and
    signatures in URLs, values of fields named like a secret."""
    text = _URL.sub(lambda match: redact_url(match[0]), text)
    text = _SECRET_HEADER.sub(lambda match: f"{match[1]} REDACTED", text)
    text = _JSON_WEB_TOKEN.sub("REDACTED", text)
    return _SECRET_FIELD.sub(lambda match: f"{match[1]}{_veil(match[2])}", text)


def _veil(value: str) -> str:
    """``Bearer REDACTED`` keeps its first word, and an unquoted scheme name is no secret."""
    return value if value.lower() in ("bearer", "basic", "redacted") else "REDACTED"


__all__ = ["redact_text", "redact_url"]
