"""A secret as programs write it: what is looked for in everything that leaves.

A token is seldom written as it is. ``docker login`` and ``npm`` write base64 of ``user:token``, ``git`` and ``pip`` an
address with ``%40`` for ``@``, engines a config in JSON, where Go writes ``&`` as ``\\u0026``.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from urllib.parse import quote

SHORTEST_LINE = 6
"""Shorter lines of a secret with several are no secret, and would blot out words of every log; shorter values are
looked for as they are alone."""

_PUBLIC_LINE = re.compile(
    r"-{4,5} ?(BEGIN|END) [A-Z0-9 ]+ ?-{4,5}"  # around any key; libraries of cryptography have them as texts
    r"|\[[^\]]*\]|[#;][^0-9]*|[\W_]*"  # sections of pip.conf, .pypirc; comments; braces
    r"|machine \S+|(login|account|user(name)?)\s*[=:\s]\s*\S+"  # netrc, .pypirc
    r'|"(type|universe_domain|\w+_ur[il])"\s*:\s*"[^"]*",?'  # a service account's key
    r"|[\w:@./-]+\s*[=:]\s*(true|false|yes|no|on|off|null|none|[0-9]{1,5}|https?://[^\s@?0-9]+)",
    re.IGNORECASE,
)
"""Lines of usual files of secrets that are the same in everybody's, and stand in images for other reasons."""


def secret_forms(value: str) -> Iterator[str]:
    """A value, its lines that are somebody's own, and the whole in other forms; some may come twice. value: bytes that
    are no text stand as surrogates (``surrogateescape``)."""
    text = value.strip()
    yield text
    raw = text.encode(errors="surrogateescape")
    is_text = "\0" not in text and raw.decode(errors="replace") == text
    if is_text and len(lines := text.splitlines()) > 1:
        for line in map(str.strip, lines):
            if len(line) >= SHORTEST_LINE and not _PUBLIC_LINE.fullmatch(line):
                yield line
    if len(raw) < SHORTEST_LINE:
        return
    yield quote(raw, safe="")
    if is_text:
        plain = json.dumps(text, ensure_ascii=False)[1:-1]
        yield from (json.dumps(text)[1:-1], plain, plain.translate(_GO))
    yield from _in_base64(raw)


_GO = {ord(letter): f"\\u{ord(letter):04x}" for letter in "<>&"}


def _in_base64(raw: bytes) -> Iterator[str]:
    """The letters of base64 that the bytes alone decide, wherever in a text of three they begin."""
    for before in range(3):
        letters = base64.b64encode(bytes(before) + raw).decode().rstrip("=")
        whole = letters[-(-8 * before // 6) : 8 * (before + len(raw)) // 6]
        if len(whole) >= SHORTEST_LINE + 2:
            yield whole
