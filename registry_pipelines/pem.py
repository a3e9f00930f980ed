"""PEM files as programs and people leave them: every block with its line, and never one less than there are.

Source: RFC 7468 (label, base64, five dashes), RFC 1421 (headers of old encrypted keys). Text between blocks is a
comment: ``openssl ... -text`` and ``openssl pkcs12`` write some. A file may begin with a byte order mark, be UTF-16
(what a redirection in Windows PowerShell writes), have any line ends and indents, and no line between two blocks.

Standard library only, as ``dialing``.
"""

from __future__ import annotations

import base64
import binascii
import codecs
import re
from typing import NamedTuple

_MARK = re.compile(r"-----(BEGIN|END) ([A-Z0-9 ]+)-----")
_ALMOST = re.compile(r"^\s*(?:-+ ?(?:BEGIN|END) |(?:BEGIN|END) [A-Z0-9 ]+-+\s*$)", re.MULTILINE)
_HEADER = re.compile(r"[A-Za-z0-9-]+:")


class Block(NamedTuple):
    """One block. line: where it begins, from 1. headers: its own (``Proc-Type: 4,ENCRYPTED``), line by line."""

    label: str
    content: bytes
    line: int
    headers: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.label} in line {self.line}"


def read_blocks(raw: bytes) -> list[Block]:
    """Every block of a file, in its order; none for a file without any.

    Raises ValueError with a sentence for what looks like a block and is none: one without an end, with another end,
    without base64 in it, with too few dashes. It names the line and holds nothing of the content. What PGP writes is
    not base64 alone; such blocks come without content.
    """
    text = _text(raw)
    blocks: list[Block] = []
    rest, opened = 0, None
    for mark in _MARK.finditer(text):
        line = text.count("\n", 0, mark.start()) + 1
        if opened is None:
            _comment(text, rest, mark.start())
        if mark[1] == "BEGIN":
            if opened is not None:
                break
            opened, rest = (mark[2], line), mark.end()
        elif opened is None or opened[0] != mark[2]:
            raise ValueError(f"END {mark[2]} in line {line} ends no block")
        else:
            blocks.append(_block(*opened, text[rest : mark.start()]))
            opened, rest = None, mark.end()
    if opened is not None:
        raise ValueError(f"the block {opened[0]} in line {opened[1]} has no end")
    _comment(text, rest, len(text))
    return blocks


def _text(raw: bytes) -> str:
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return raw.decode("utf-16", "replace").replace("\r\n", "\n").replace("\r", "\n")
    return raw.removeprefix(codecs.BOM_UTF8).decode("latin-1").replace("\r\n", "\n").replace("\r", "\n")


def _comment(text: str, start: int, end: int) -> None:
    """Raise ValueError when text outside of blocks hides one that is not spelled right."""
    if almost := _ALMOST.search(text[start:end]):
        line = text.count("\n", 0, start + almost.end()) + 1
        raise ValueError(f"line {line} looks like the mark of a block and is none: it needs five dashes at each side")


def _block(label: str, line: int, body: str) -> Block:
    lines = [each.strip() for each in body.split("\n")]
    head = 0
    if any(_HEADER.match(each) for each in lines[:3]):
        head = next((place for place, each in enumerate(lines) if place and not each and lines[place - 1]), 0)
    headers = tuple(each for each in lines[:head] if each)
    if label.startswith("PGP"):
        return Block(label, b"", line, headers)
    try:
        content = base64.b64decode("".join("".join(lines[head:]).split()), validate=True)
    except binascii.Error:
        raise ValueError(f"the block {label} in line {line} is damaged: not base64") from None
    return Block(label, content, line, headers)


__all__ = ["Block", "read_blocks"]
