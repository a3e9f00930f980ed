"""How an eStargz layer ends (stargz-snapshotter, docs/estargz.md; formats as of 0.18.2)."""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

FOOTER_BYTES = 51
"""Of the longest form, eStargz's own."""
_LEGACY_FOOTER_BYTES = 47
_EXTERNAL_FOOTER_BYTES = 46
_END_OF_FOOTER = bytes.fromhex("010000ffff") + bytes(8)
"""An empty stored block, checksum and length."""

FooterForm = Literal["estargz", "stargz", "estargz without its table"]
"""``stargz`` is eStargz's forerunner, without digests. A table may be in another image."""


def footer(toc_offset: int) -> bytes:
    """The last 51 bytes of a blob: an empty gzip member whose extra field says where the table's member begins."""
    extra = b"SG" + (22).to_bytes(2, "little") + b"%016xSTARGZ" % toc_offset
    head = bytes.fromhex("1f8b08040000000000ff") + len(extra).to_bytes(2, "little")
    return head + extra + bytes.fromhex("010000ffff") + bytes(8)


class Footer(NamedTuple):
    """What the end of a blob says."""

    toc_offset: int
    """Where the gzip member of the table begins."""
    size: int
    """Bytes of the footer itself."""
    form: FooterForm


def read_footer(tail: bytes) -> Footer | None:
    """The footer at the end of ``tail``, the last 51 bytes of a blob or more of them; None when there is none."""
    for size, begin, form in _FOOTERS:
        raw = tail[-size:]
        found = begin.fullmatch(raw) if len(raw) == size else None
        if found:
            return Footer(int(found["offset"], 16) if "offset" in begin.groupindex else 0, size, form)
    return None


_GZIP_WITH_EXTRA = rb"(?s)\x1f\x8b\x08\x04.{6}"
_FOOTER_FORMS: tuple[tuple[int, bytes, FooterForm], ...] = (
    (FOOTER_BYTES, rb"\x1a\x00SG\x16\x00(?P<offset>[0-9a-fA-F]{16})STARGZ", "estargz"),
    (_LEGACY_FOOTER_BYTES, rb"\x16\x00(?P<offset>[0-9a-fA-F]{16})STARGZ", "stargz"),
    (_EXTERNAL_FOOTER_BYTES, rb"\x15\x00SG\x11\x00STARGZEXTERNALTOC", "estargz without its table"),
)
_FOOTERS = tuple(
    (size, re.compile(_GZIP_WITH_EXTRA + extra + re.escape(_END_OF_FOOTER)), form)
    for size, extra, form in _FOOTER_FORMS
)
