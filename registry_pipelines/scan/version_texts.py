"""Versions of well-known libraries, read from the text that their makers put into the binary.

Only texts that name product and version together, and only in files that are called like the product: a version found
anywhere else may be of something that the library merely talks to. Patches that a distribution added do not show.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from registry_pipelines.oci.layer.walk import Entry

MAX_BINARY_BYTES = 128 * 1024 * 1024
"""Larger files are not searched; a static ffmpeg has 80 MB."""
_READ_BYTES = 1024 * 1024
_OVERLAP = 128
"""Longer than any of the texts."""


@dataclass(frozen=True)
class _Text:
    product: str
    marker: bytes
    """A fixed part of the text: looking for it is ten times faster than the pattern."""
    pattern: re.Pattern[bytes]


_OPENSSL = _Text(
    "openssl",
    b"OpenSSL ",
    re.compile(rb"OpenSSL (\d+\.\d+\.\d+[a-z]{0,2}(?:-[a-z]+\d*)?) {1,2}(?:FIPS )?\d{1,2} [A-Z][a-z]{2} \d{4}\0"),
)
_ZLIB = _Text("zlib", b" deflate ", re.compile(rb" deflate (\d+\.\d+(?:\.\d+){0,2}) Copyright "))
_LIBPNG = _Text("libpng", b"libpng version ", re.compile(rb"libpng version (\d+\.\d+\.\d+)[ \n\0]"))
_CURL = _Text("curl", b"libcurl/", re.compile(rb"libcurl/(\d+\.\d+\.\d+)[ \0]"))
_FFMPEG = _Text("ffmpeg", b"FFmpeg version ", re.compile(rb"FFmpeg version n?(\d+\.\d+(?:\.\d+)?)(?:-[^\0]{0,40})?\0"))

_BY_STEM = {
    "libcrypto": _OPENSSL,
    "libssl": _OPENSSL,
    "_rust": _OPENSSL,
    "_openssl": _OPENSSL,
    "libz": _ZLIB,
    "libpng": _LIBPNG,
    "libpng16": _LIBPNG,
    "libcurl": _CURL,
    "libcurl-gnutls": _CURL,
    "libavcodec": _FFMPEG,
    "libavdevice": _FFMPEG,
    "libavfilter": _FFMPEG,
    "libavformat": _FFMPEG,
    "libavutil": _FFMPEG,
    "libswresample": _FFMPEG,
    "libswscale": _FFMPEG,
}
"""By the file name up to the first dot, without auditwheel's mark. ``_rust`` and ``_openssl`` are the modules of the
cryptography wheel, which holds OpenSSL itself."""

_GRAFTED = re.compile(r"-[0-9a-f]{8}(?=\.)")


def plain_name(base: str) -> str:
    """A library's file name without what auditwheel puts into it to keep copies apart: ``libssl-81259c47.so.1.1.1k`` is
    ``libssl.so.1.1.1k``. Copies of copies have two marks."""
    shortened = _GRAFTED.sub("", base)
    return base if shortened == base else plain_name(shortened)


def version_text(entry: Entry, base: str, start: bytes) -> tuple[str, str]:
    """Product and version that the binary names; empty when it names none, or more than one. start: what was read."""
    text = _BY_STEM.get(plain_name(base).partition(".")[0])
    if text is None or entry.size > MAX_BINARY_BYTES:
        return "", ""
    versions: set[str] = set()
    window, chunk = b"", start
    while chunk:
        window = window[-_OVERLAP:] + chunk
        if text.marker in window:
            versions.update(match[1].decode() for match in text.pattern.finditer(window))
        chunk = entry.head(_READ_BYTES)
    return (text.product, versions.pop()) if len(versions) == 1 else ("", "")
